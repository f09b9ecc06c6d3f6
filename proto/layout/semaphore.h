/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_SEMAPHORE_H
#define LAYOUT_SEMAPHORE_H

/*
 * Semaphores in shared memory, and the arena: one segment that holds many of them.
 *
 * Semaphores of the same owner, group and mode share arenas, because whoever may use one of them
 * could be given all: nobody gets more than its rights by it. Each session that uses an arena has a
 * *slot* in it, whose number the broker hands out. A permit of an owned semaphore is a word that
 * names the slot of its holder, so that the broker can give back exactly what a dead process held.
 *
 * As in lock.h, everything is pure and bounded, and sleeping and waking are the caller's.
 * doc/coordination.md argues the algorithms, tests/model/semaphore.pml checks them; numbers in
 * brackets are its steps.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout/step.h"

enum {
	LAYOUT_ARENA_MAGIC = 0x616d6873, /* "shma" */
	LAYOUT_ARENA_VERSION = 1,
	LAYOUT_ARENA_UNIT = 64,          /* bytes: what a semaphore's place is measured in */
	LAYOUT_ARENA_SLOTS = 1023,       /* numbered from 1 */
	LAYOUT_ARENA_BYTES = 256 * 1024, /* sparse: pages are taken when first touched */
	LAYOUT_ARENA_UNITS = LAYOUT_ARENA_BYTES / LAYOUT_ARENA_UNIT,
	LAYOUT_ARENA_FIRST = LAYOUT_ARENA_SLOTS + 1, /* unit at which semaphores begin */
	LAYOUT_ARENA_WAITS = 16,
	LAYOUT_SEMAPHORE_MAX = 0x7fffffff, /* largest value of a counting one */
	LAYOUT_PERMITS_MAX = 1024,
};

/* Unit number s of an arena belongs to slot s: on which semaphores its threads sleep, or
 * clear SLEEPERS. */
struct layout_arena_slot {
	_Atomic uint32_t waits[LAYOUT_ARENA_WAITS]; /* the semaphore's unit; 0: none */
};

/* Unit 0. */
struct layout_arena {
	uint32_t magic;
	uint32_t version;
	uint32_t reserved[14];
	struct layout_arena_slot slots[LAYOUT_ARENA_SLOTS]; /* slot number 1 is the first */
};

/* A counting semaphore: one unit. */
struct layout_counting {
	_Atomic uint32_t value;  /* twice the count, plus LAYOUT_SLEEPERS; the futex */
	_Atomic uint32_t asleep; /* threads that sleep, or are about to, or died so */
};

/* An owned semaphore: as many units as it takes. */
struct layout_owned {
	_Atomic uint32_t gate;   /* counts returns in steps of 2, plus LAYOUT_SLEEPERS; the futex */
	_Atomic uint32_t hint;   /* where the last permit came back */
	_Atomic uint32_t asleep; /* threads that sleep, or are about to, or died so */
	uint32_t reserved;
	_Atomic uint32_t
		permits[]; /* LAYOUT_HOLDER bits: the slot, 0: free; above: a serial number */
};

/* In `value` and `gate`: somebody sleeps, or did. */
enum { LAYOUT_SLEEPERS = 1 };

/* In a permit's word. The serial counts the takings, so that a permit can be told from a later one.
 */
enum { LAYOUT_HOLDER_BITS = 11, LAYOUT_HOLDER = (1 << LAYOUT_HOLDER_BITS) - 1 };

_Static_assert(sizeof(struct layout_arena_slot) == LAYOUT_ARENA_UNIT, "a slot is one unit");
_Static_assert(sizeof(struct layout_arena) == (size_t)LAYOUT_ARENA_FIRST * LAYOUT_ARENA_UNIT,
	       "slot numbers are unit numbers");

/* layout_owned_units() - what a semaphore of @n permits takes */
static inline uint32_t layout_owned_units(uint32_t n)
{
	size_t bytes = sizeof(struct layout_owned) + n * sizeof(uint32_t);

	return (uint32_t)((bytes + LAYOUT_ARENA_UNIT - 1) / LAYOUT_ARENA_UNIT);
}

/* ---- Counting ---- */

/*
 * layout_counting_take_seen() - take one, beginning from what the value was seen to be
 * @seen: may be out of date: the exchange decides; then what it is, as far as we know
 *
 * Return: true: the count was not 0 and is one less.
 */
static inline bool layout_counting_take_seen(struct layout_counting *semaphore, uint32_t *seen)
{
	while (*seen >> 1 != 0) {
		/* seq_cst where it succeeds, acquires what was written before the post that it
		 * takes; relaxed on failure, when nothing is taken over. */
		if (atomic_compare_exchange_weak_explicit(&semaphore->value, seen, *seen - 2,
							  memory_order_seq_cst,
							  memory_order_relaxed)) {
			STEP();
			*seen -= 2;
			return true;
		}
	}
	return false;
}

/* layout_counting_take() - Return: true: the count was not 0 and is one less */
static inline bool layout_counting_take(struct layout_counting *semaphore)
{
	/* relaxed: the exchange decides. */
	uint32_t seen = atomic_load_explicit(&semaphore->value, memory_order_relaxed);

	return layout_counting_take_seen(semaphore, &seen);
}

/* layout_counting_post_seen() - layout_counting_post(), beginning as layout_counting_take_seen() */
static inline bool layout_counting_post_seen(struct layout_counting *semaphore, uint32_t n,
					     uint32_t maximum, uint32_t *seen, bool *ret_wake)
{
	do {
		uint32_t count = *seen >> 1;

		if (count > maximum || n > maximum - count)
			return false;
		/* [1] As above; releases what the caller wrote. */
	} while (!atomic_compare_exchange_weak_explicit(&semaphore->value, seen, *seen + 2 * n,
							memory_order_seq_cst,
							memory_order_relaxed));
	STEP();
	*ret_wake = *seen & LAYOUT_SLEEPERS;
	*seen += 2 * n;
	return true;
}

/*
 * layout_counting_post() - add @n at once, or nothing
 * @n:        1 or more
 * @maximum:  of the count, at most LAYOUT_SEMAPHORE_MAX
 * @ret_wake: set to true: layout_..._wake() protocol below
 *
 * Return: false: the count would pass the maximum.
 */
static inline bool layout_counting_post(struct layout_counting *semaphore, uint32_t n,
					uint32_t maximum, bool *ret_wake)
{
	/* relaxed: the exchange decides. */
	uint32_t seen = atomic_load_explicit(&semaphore->value, memory_order_relaxed);

	return layout_counting_post_seen(semaphore, n, maximum, &seen, ret_wake);
}

uint32_t layout_counting_value(const struct layout_counting *semaphore);

/*
 * layout_counting_announce() - the count was 0 and the caller is about to sleep
 *
 * Return: true: sleep on the value while it is *@ret_expected; false: it is not 0, try again.
 */
bool layout_counting_announce(struct layout_counting *semaphore, uint32_t *ret_expected);

/* ---- Owned ---- */

struct layout_permit {
	uint32_t index; /* 0 to n - 1 */
	uint32_t serial;
};

/*
 * layout_owned_take_seen() - take a certain permit, if it is free and as it was seen last
 * @permit: that, with the serial of its last taking; then ours
 */
static inline bool layout_owned_take_seen(struct layout_owned *semaphore, uint32_t slot,
					  struct layout_permit *permit)
{
	uint32_t seen = permit->serial << LAYOUT_HOLDER_BITS;
	/* Serial numbers wrap. */
	uint32_t taken = (seen + (1 << LAYOUT_HOLDER_BITS)) | slot;

	/* seq_cst, acquires what the last holder wrote. */
	if (!atomic_compare_exchange_strong(&semaphore->permits[permit->index], &seen, taken))
		return false;
	STEP();
	permit->serial = taken >> LAYOUT_HOLDER_BITS;
	return true;
}

/* layout_owned_take() - take any free permit for @slot. Return: false: there was none. */
bool layout_owned_take(struct layout_owned *semaphore, uint32_t n, uint32_t slot,
		       struct layout_permit *ret_permit);

/*
 * layout_owned_give() - give a permit back
 * @ret_wake: set to true: layout_..._wake() protocol below
 *
 * Return: false: @slot does not hold it, or not since that taking.
 */
bool layout_owned_give(struct layout_owned *semaphore, uint32_t n, uint32_t slot,
		       struct layout_permit permit, bool *ret_wake);

/*
 * layout_owned_adopt() - take a permit over from whoever holds it since that taking
 *
 * In one step: at no moment does it belong to nobody or to both. Return: false: it came back
 * meanwhile, because its holder died or gave it back.
 */
bool layout_owned_adopt(struct layout_owned *semaphore, uint32_t n, uint32_t slot,
			struct layout_permit permit);

/* layout_owned_find() - the lowest permit that @slot holds, from @from on. Return: false: none. */
bool layout_owned_find(const struct layout_owned *semaphore, uint32_t n, uint32_t slot,
		       uint32_t from, struct layout_permit *ret_permit);

/* layout_owned_free() - how many are free */
uint32_t layout_owned_free(const struct layout_owned *semaphore, uint32_t n);

/* layout_owned_holder() - the slot that holds permit @index; 0: free */
uint32_t layout_owned_holder(const struct layout_owned *semaphore, uint32_t index);

/*
 * layout_owned_announce() - none was free and the caller is about to sleep
 * @ret_expected: sleep on the gate while it has this value
 *
 * Try once more to take between this and sleeping.
 */
void layout_owned_announce(struct layout_owned *semaphore, uint32_t *ret_expected);

/*
 * layout_owned_return() - give back every permit of @slot: when a client lets go of the semaphore,
 * and when its process is gone
 *
 * Idempotent, whoever dies during it. Bounded. Return: how many came back; if any did, wake as
 * many.
 */
uint32_t layout_owned_return(struct layout_owned *semaphore, uint32_t n, uint32_t slot);

/* ---- Who sleeps ---- */

/* layout_arena_wait_begin() - a thread of @slot is about to sleep on @unit. Return: where it
 * stands, to be given to ..._end(); LAYOUT_ARENA_WAITS: nowhere, too many sleep. */
uint32_t layout_arena_wait_begin(struct layout_arena *arena, uint32_t slot, uint32_t unit);
void layout_arena_wait_end(struct layout_arena *arena, uint32_t slot, uint32_t place);

/* layout_arena_waits() - does @unit stand among the waits of @slot? */
bool layout_arena_waits(const struct layout_arena *arena, uint32_t slot, uint32_t unit);

/*
 * ---- Waking ----
 *
 * Whoever posts or gives, and is told to wake, wakes as many sleepers as there is to take. If fewer
 * than that were asleep, nobody is left whom the SLEEPERS bit could mean: it calls
 * layout_sleepers_clear() and then wakes all, in case somebody went to sleep in between, who will
 * announce itself anew. So a post that nobody waits for makes no system call, and one that somebody
 * waits for makes one.
 *
 * The bit outlives the sleepers. So whoever sleeps also counts itself in `asleep`, before it
 * announces itself and until it has taken: a poster that finds the bit set but nobody counted need
 * not wake, as whoever counts itself later finds what was posted. Nobody makes up for those who die
 * counted; they cost posters that system call.
 *
 * When a process is gone, the broker returns its permits and then wakes all who sleep on a
 * semaphore of the arena that has SLEEPERS set, or that stands among the waits of the dead slot:
 * the dead may have cleared the bit and not have come to waking.
 */

/*
 * layout_sleepers_clear() - clear SLEEPERS of the semaphore at @unit, noted among the waits of
 * @slot for as long as sleepers may be without their bit
 *
 * Return: LAYOUT_ARENA_WAITS: too much stands there, the bit stays as it is, which costs the next
 * post a system call. Else wake all, and then give this to layout_arena_wait_end().
 */
uint32_t layout_sleepers_clear(struct layout_arena *arena, uint32_t slot, uint32_t unit,
			       _Atomic uint32_t *futex);

/* ---- Repair ---- */

/* layout_arena_repair_slot() - the process of @slot is gone: it waits for nothing any more. After
 * the waking above. */
void layout_arena_repair_slot(struct layout_arena *arena, uint32_t slot);

#endif
