/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_FORK_H
#define CLIENT_FORK_H

/*
 * Telling a forked child from its parent for the price of a load: a word that the kernel zeroes in
 * the child. Each handle keeps the generation in which it was made.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

extern _Atomic uint32_t *fork_word;

/*
 * fork_generation() - this process's generation, to be kept by a new handle
 *
 * Return: 0 or SHMB_ENOMEM.
 */
int fork_generation(uint32_t *ret_generation);

/* fork_crossed() - is this another process than the one in which @generation was current? */
static inline bool fork_crossed(uint32_t generation)
{
	return atomic_load_explicit(fork_word, memory_order_relaxed) != generation;
}

/* fork_force_fallback() - for tests: do as where the kernel refuses MADV_WIPEONFORK. Call it first.
 */
void fork_force_fallback(void);

#endif
