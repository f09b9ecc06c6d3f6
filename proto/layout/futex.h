/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_FUTEX_H
#define LAYOUT_FUTEX_H

/* Sleeping on a 32-bit word in memory that several processes share; works on read-only mappings. */

#include <stdint.h>

/*
 * futex_wait() - sleep while *@word is @expected
 * @timeout_ns: nanoseconds, at least 0; there is no sleep without a limit (see design: every sleep
 * re-checks)
 *
 * Return: 0 (woken, or spuriously, or the word differs: look again), -ETIMEDOUT, or another
 * negative errno (-EFAULT: the memory behind @word is gone).
 */
int futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns);

/* futex_wake() - wake at most @n who sleep on @word, in every process. Return: how many were. */
int futex_wake(const uint32_t *word, int n);

/* futex_wake_all() - wake all of them */
void futex_wake_all(const uint32_t *word);

#endif
