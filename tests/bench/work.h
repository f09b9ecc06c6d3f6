/* SPDX-License-Identifier: MIT */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

/* What both sides of every hand-over do to the buffer, the same code for ours and for each floor.
 */

#include <stddef.h>
#include <stdint.h>

/* work_fill() - write @length bytes (a multiple of 8), different for each @seed */
void work_fill(void *buffer, size_t length, uint64_t seed);

/* work_check() - checksum the bytes. Return: 0, or SHMB_EIO if they are not those of @seed. */
int work_check(const void *buffer, size_t length, uint64_t seed);

#endif
