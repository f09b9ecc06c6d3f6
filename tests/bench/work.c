/* SPDX-License-Identifier: MIT */
/* The writing and checksumming of a hand-over: as fast as memory allows, and every byte counts. */

#include <shmbroker/errors.h>

#include "work.h"

void work_fill(void *buffer, size_t length, uint64_t seed)
{
	uint64_t *words = buffer;
	size_t n = length / sizeof(*words);

	for (size_t i = 0; i < n; i++)
		words[i] = seed + i;
}

int work_check(const void *buffer, size_t length, uint64_t seed)
{
	const uint64_t *words = buffer;
	size_t n = length / sizeof(*words);
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += words[i];
	return sum == n * seed + (uint64_t)n * (n - 1) / 2 ? 0 : SHMB_EIO;
}
