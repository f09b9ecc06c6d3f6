/* SPDX-License-Identifier: MIT */
#ifndef BENCH_HANDOFF_H
#define BENCH_HANDOFF_H

/*
 * Ways to hand a buffer to and fro between two processes.
 *
 * One process leads: it writes the buffer and passes it on; the other follows: it checks what came,
 * writes the buffer anew, and passes it back. Each round is two hand-overs. Both run the same
 * number of rounds with the same first seed; the seed grows by one with each hand-over.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct shmb_region;

enum handoff_way { HANDOFF_OURS, HANDOFF_SPIN, HANDOFF_FUTEX, HANDOFF_SOCKET, HANDOFF_WAYS };

/* The floors' shared word, alone on its cache line. */
struct handoff_word {
	_Alignas(64) _Atomic uint32_t turn; /* hand-overs so far */
	char padding[60];
};

struct handoff {
	void *buffer; /* in shared memory, where both see it; the floors use the region's, too */
	size_t length;
	struct shmb_region *region;
	struct handoff_word *word;
	int socket;    /* stream, blocking */
	void *private; /* what the socket copies from and to */
};

/*
 * handoff_ways[] - lead or follow for @rounds rounds
 * @base: ours: the region's sequence before the first hand-over; word: its value
 *
 * Return: 0, SHMB_EIO (wrong bytes), or what failed.
 */
typedef int (*handoff_fn)(const struct handoff *handoff, uint64_t rounds, uint64_t base);

struct handoff_roles {
	handoff_fn lead, follow;
};

extern const struct handoff_roles handoff_ways[HANDOFF_WAYS];

#endif
