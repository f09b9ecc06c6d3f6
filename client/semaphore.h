/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SEMAPHORE_H
#define CLIENT_SEMAPHORE_H

/*
 * A client's semaphores. Several handles on one semaphore are one holder to the broker, so they
 * share one object here, found by its id; semaphores of one arena share its mapping. Objects and
 * arenas live as long as there are handles; both tables are guarded by the client's mutex.
 */

#include <stdatomic.h>
#include <stdint.h>

#include "layout/semaphore.h"
#include "guard.h"
#include "map.h"

/* A segment that is mapped. */
struct arena {
	struct arena *next; /* of its bucket */
	uint64_t id;
	uint32_t slot; /* the session's, as long as it has a semaphore open there */
	unsigned refs; /* semaphores */
	struct mapping mapping;
	struct guarded guarded;
	_Atomic uint32_t lost; /* not 0: the segment has vanished, see guard.h */
	struct layout_arena *words;
};

struct semaphore {
	/* What using it touches: one cache line. */
	union {
		void *words;
		struct layout_counting *counting;
		struct layout_owned *owned;
	};
	_Atomic uint32_t *futex;  /* the word to sleep on */
	_Atomic uint32_t *asleep; /* how many do */
	/* What a thread of ours saw last: the value, or the serial of a single permit. Only a
	 * guess, for the exchange to decide: to look first costs nearly as much as exchanging. */
	_Atomic uint32_t seen;
	uint32_t kind;    /* enum shmb_semaphore_kind */
	uint32_t maximum; /* of the count, or permits */
	uint32_t slot;
	uint32_t unit;
	struct arena *arena;
	int64_t spin_most;
	_Atomic int64_t spin_ns; /* what waiting has learnt */

	uint64_t id;
	unsigned refs;          /* handles */
	struct semaphore *next; /* of its bucket */
};

struct shmb_semaphore {
	struct semaphore *shared;
	struct shmb_client *client;
	uint32_t generation;
	uint32_t handle;
	struct output *close_room;
};

/* semaphore_wake() - somebody sleeps, and there may be something to take. Return: 0. */
int semaphore_wake(struct semaphore *semaphore);

#endif
