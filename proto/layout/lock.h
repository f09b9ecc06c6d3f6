/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_LOCK_H
#define LAYOUT_LOCK_H

/*
 * The shared and exclusive lock in shared memory: of a region, or a named lock of its own.
 *
 * A lock segment holds one. It is given only to those with the lock right, and each attachment that
 * locks has a *slot* in it, whose number the broker hands out. All that an attachment has of the
 * lock is in its slot or names its slot, so that the broker can undo it exactly, whatever
 * instruction its process died at. Threads of one process that use one attachment share the slot.
 *
 * Numbers in brackets are the steps of tests/model/lock.pml.
 *
 * Everything here is pure: steps over the words, each of them bounded. Spinning, sleeping and
 * waking are the caller's, and it is told when to. doc/coordination.md argues the algorithm,
 * tests/model/lock.pml checks it. All words are in the machine's byte order, and whoever has the
 * lock right can write anything into them.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout/step.h"

enum {
	LAYOUT_LOCK_MAGIC = 0x6c6d6873, /* "shml" */
	LAYOUT_LOCK_VERSION = 1,
	LAYOUT_LOCK_SLOTS_MAX = 1024,
	LAYOUT_LOCK_SLOTS_DEFAULT = 62, /* with the header, one page of 4 KiB */
	LAYOUT_LOCK_DRAIN_NS = 1000000, /* see layout_lock_leave_solo() */
};

/* The lock's word. 0: free, and nothing to tell. */
enum {
	LAYOUT_LOCK_SLOT = 0x7ff,       /* the slot that has claimed it; 0: free */
	LAYOUT_LOCK_LOST = 1 << 26,     /* not recoverable */
	LAYOUT_LOCK_DIED = 1 << 27,     /* a holder died: the data may be half-written */
	LAYOUT_LOCK_DRAINING = 1 << 28, /* the claimant sleeps on the readers of a slot */
	LAYOUT_LOCK_SLEEPERS = 1 << 29, /* somebody sleeps on this word */
};

/* One cache line for each attachment, written by its process, and by the broker when that is gone.
 */
struct layout_lock_slot {
	_Atomic uint32_t readers; /* shared locks held, and attempts at one; a draining claimant
				     sleeps on it */
	_Atomic uint32_t held; /* not 0: the claim of this slot is complete, all readers are out */
	_Atomic uint32_t waiting_shared; /* threads that wait; for people */
	_Atomic uint32_t waiting_exclusive;
	_Atomic uint32_t ticket; /* 0, or when it asked for its turn, see layout_lock_ask() */
	_Atomic uint32_t solo;   /* as readers, of one thread alone; see layout_lock_enter_solo() */
	uint32_t reserved[10];
};

struct layout_lock {
	/* 0: written by the broker when it makes the segment */
	uint32_t magic;
	uint32_t version;
	uint32_t n_slots; /* for people: each client has it from the broker */
	uint32_t reserved0[13];

	/* 64: one cache line */
	_Atomic uint32_t word;
	_Atomic uint32_t next;      /* the slot whose turn it is; 0: nobody has waited long */
	_Atomic uint32_t published; /* slots that may be in use: 1 to this */
	_Atomic uint32_t tickets;   /* given out so far */
	uint32_t reserved1[12];

	/* 128: slot number 1 is the first */
	struct layout_lock_slot slots[];
};

_Static_assert(sizeof(struct layout_lock_slot) == 64, "a slot is one cache line");
_Static_assert(offsetof(struct layout_lock, slots) == 128, "two cache lines of header");

/* layout_lock_bytes() - of a segment with @n_slots; not rounded to pages */
static inline size_t layout_lock_bytes(uint32_t n_slots)
{
	return sizeof(struct layout_lock) + n_slots * sizeof(struct layout_lock_slot);
}

/* One attachment's view of a lock: everything the steps need, nothing of it in shared memory. */
struct layout_locker {
	struct layout_lock *lock;
	struct layout_lock_slot *own;
	uint32_t slot;    /* 1 to n_slots */
	uint32_t n_slots; /* as the broker said; the segment is as large */
};

/* layout_lock_publish_slot() - [0] once, before the first attempt: claimants look at the slot from
 * now on */
void layout_lock_publish_slot(const struct layout_locker *locker);

/* What came of an attempt. */
enum layout_lock_result {
	LAYOUT_LOCK_GOT,
	LAYOUT_LOCK_GOT_DIED,   /* exclusive: claimed, and the holder before died */
	LAYOUT_LOCK_BUSY,       /* somebody has claimed it */
	LAYOUT_LOCK_OWNER_DIED, /* shared: nobody has put it right yet */
	LAYOUT_LOCK_UNUSABLE,   /* LOST */
};

/* ---- Shared ---- */

/*
 * layout_lock_leave() - give a shared lock back, or step back from an attempt
 *
 * Return: true: wake all who sleep on locker->own->readers.
 */
static inline bool layout_lock_leave(const struct layout_locker *locker)
{
	/* [4], [5] seq_cst: the claimant says that it sleeps and then looks at us; we leave and
	 * then look whether it sleeps. */
	uint32_t before = atomic_fetch_sub(&locker->own->readers, 1);

	STEP();
	return before == 1 && (atomic_load(&locker->lock->word) & LAYOUT_LOCK_DRAINING);
}

/*
 * layout_lock_leave_held() - the same for one that may not be held
 *
 * Return: false: it is not, and nothing was done.
 */
static inline bool layout_lock_leave_held(const struct layout_locker *locker, bool *ret_wake)
{
	/* A guess: most often it is the only one of its slot, and to look first would cost as much
	 * as half the exchange. */
	uint32_t seen = 1;

	do {
		if (seen == 0)
			return false;
	} while (!atomic_compare_exchange_weak(&locker->own->readers, &seen, seen - 1));
	STEP();
	*ret_wake = seen == 1 && (atomic_load(&locker->lock->word) & LAYOUT_LOCK_DRAINING);
	return true;
}

/*
 * layout_lock_enter() - one attempt at a shared lock
 *
 * Return: true: it is held. False: nothing was done, or an attempt was made, and then *@ret_wake is
 * as layout_lock_leave() returns it; layout_lock_look() tells why.
 */
static inline bool layout_lock_enter(const struct layout_locker *locker, bool *ret_wake)
{
	*ret_wake = false;
	/* [1] relaxed: only saves the attempt where it would fail, so that those who try again and
	 * again do not keep a claimant from seeing the slot empty. */
	if (atomic_load_explicit(&locker->lock->word, memory_order_relaxed) != 0)
		return false;
	/* [2], [3] seq_cst, a full barrier: the reader shows itself and then looks for a claim; the
	 * claimant shows its claim and then looks for readers. One of the two sees the other. Both
	 * have seen what the last holder wrote: the word that we read as 0 was released by it. */
	atomic_fetch_add(&locker->own->readers, 1);
	STEP();
	if (atomic_load(&locker->lock->word) == 0)
		return true;
	*ret_wake = layout_lock_leave(locker);
	return false;
}

/* layout_lock_shared() - the shared locks of a slot, as far as its words are to be believed */
static inline uint32_t layout_lock_shared(const struct layout_lock_slot *slot)
{
	uint32_t readers = atomic_load(&slot->readers), solo = atomic_load(&slot->solo);

	return solo > UINT32_MAX - readers ? UINT32_MAX : readers + solo;
}

/*
 * ---- Shared, by one thread ----
 *
 * One thread of a process, the same all the time, may have a count of its own in the slot. As
 * nobody else writes it but the broker when the process is gone, leaving is a store and not an
 * exchange, which is half of what a pair of calls costs. @count is what it has there, kept in
 * private memory by that thread.
 */

/*
 * layout_lock_leave_solo() - as layout_lock_leave(); true: wake all who sleep on own->solo
 *
 * Our load may be done before our store is seen by others: then a claimant that announces just now
 * sees us in, and we do not see it announce. It finds us gone when it looks again, which it
 * therefore does after LAYOUT_LOCK_DRAIN_NS. Once it has announced this cannot happen any more, so
 * it sleeps for twice as long each time.
 */
static inline bool layout_lock_leave_solo(const struct layout_locker *locker,
					  _Atomic uint32_t *count)
{
	/* relaxed: nobody else looks at it. */
	uint32_t left = atomic_load_explicit(count, memory_order_relaxed) - 1;

	atomic_store_explicit(count, left, memory_order_relaxed);
	/* release: what we read comes before what the claimant, who acquires it, will write. */
	atomic_store_explicit(&locker->own->solo, left, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
	STEP();
	/* relaxed: see above. */
	return left == 0 && (atomic_load_explicit(&locker->lock->word, memory_order_relaxed) &
			     LAYOUT_LOCK_DRAINING);
}

/* layout_lock_enter_solo() - as layout_lock_enter() */
static inline bool layout_lock_enter_solo(const struct layout_locker *locker,
					  _Atomic uint32_t *count, bool *ret_wake)
{
	/* relaxed: as above. */
	uint32_t entered = atomic_load_explicit(count, memory_order_relaxed) + 1;

	*ret_wake = false;
	/* relaxed: see layout_lock_enter(). */
	if (atomic_load_explicit(&locker->lock->word, memory_order_relaxed) != 0)
		return false;
	atomic_store_explicit(count, entered, memory_order_relaxed);
	/* An exchange for the sake of its full barrier, see layout_lock_enter(): what was there is
	 * known. */
	(void)atomic_exchange(&locker->own->solo, entered);
	STEP();
	if (atomic_load(&locker->lock->word) == 0)
		return true;
	*ret_wake = layout_lock_leave_solo(locker, count);
	return false;
}

/* layout_lock_look() - would a shared attempt fail, and why: BUSY, OWNER_DIED, UNUSABLE, or GOT
 * (try) */
enum layout_lock_result layout_lock_look(const struct layout_lock *lock);

/* ---- Exclusive: claim, drain, hold, release ---- */

/*
 * layout_lock_claim() - the first step: bar everybody else
 *
 * Return: GOT or GOT_DIED (claimed: drain, then hold, or give it back with layout_lock_unclaim()),
 * BUSY, UNUSABLE.
 */
enum layout_lock_result layout_lock_claim(const struct layout_locker *locker);

/* layout_lock_claim_fast() - the same where nothing is in the way and nobody's turn is due */
static inline bool layout_lock_claim_fast(const struct layout_locker *locker)
{
	struct layout_lock *lock = locker->lock;
	uint32_t expected = 0;
	bool claimed;

	/* relaxed: a courtesy, see layout_lock_ask(). Then [10]. */
	if (atomic_load_explicit(&lock->next, memory_order_relaxed) != 0)
		return false;
	claimed = atomic_compare_exchange_strong(&lock->word, &expected, locker->slot);
	STEP();
	return claimed;
}

/*
 * layout_lock_first_reader() - after a claim: a slot's count of readers that is not 0
 * @ret_value: what it was
 *
 * Return: the count, to sleep on, or NULL: all are out.
 */
static inline _Atomic uint32_t *layout_lock_first_reader(const struct layout_locker *locker,
							 uint32_t *ret_value)
{
	struct layout_lock *lock = locker->lock;
	/* [11] seq_cst: a newcomer publishes its slot, then enters, then looks at the word; we have
	 * claimed and look at published now. */
	uint32_t n = atomic_load(&lock->published);

	n = n < locker->n_slots ? n : locker->n_slots;
	for (struct layout_lock_slot *slot = lock->slots; slot < lock->slots + n; slot++) {
		/* [12] seq_cst: behind the claim, see layout_lock_enter(); and what readers read
		 * comes before what we will write, as leaving releases and this acquires. */
		uint32_t readers = atomic_load(&slot->readers), solo = atomic_load(&slot->solo);

		if ((readers | solo) == 0)
			continue;
		*ret_value = readers != 0 ? readers : solo;
		return readers != 0 ? &slot->readers : &slot->solo;
	}
	return NULL;
}

/*
 * layout_lock_announce_drain() - the claimant is about to sleep on readers; look at them again
 * after
 *
 * Return: false: the claim is not ours any more (a hostile client, or a broker that took us for
 * dead).
 */
bool layout_lock_announce_drain(const struct layout_locker *locker);

/* layout_lock_hold() - all readers are out: from now on our death leaves "owner died" */
static inline void layout_lock_hold(const struct layout_locker *locker)
{
	/* [16] relaxed: read by the broker alone, and only when this process is dead: it has then
	 * executed some prefix of its program, the compiler keeping this store ahead of the
	 * caller's writes. */
	atomic_store_explicit(&locker->own->held, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	STEP();
}

/*
 * layout_lock_release() - end a claim, complete or not
 * @left: what the word is to be: 0, LAYOUT_LOCK_DIED or LAYOUT_LOCK_LOST
 *
 * Return: true: wake all who sleep on the word.
 */
static inline bool layout_lock_release(const struct layout_locker *locker, uint32_t left)
{
	/* [18] release: kept behind the caller's writes, so that "held" covers them all. Dying
	 * between this and the exchange loses nothing: a claim that is not held is just released.
	 */
	atomic_store_explicit(&locker->own->held, 0, memory_order_release);
	STEP();
	/* [19] seq_cst: sleepers set their bit in this very word, so none is overlooked. */
	return atomic_exchange(&locker->lock->word, left) & LAYOUT_LOCK_SLEEPERS;
}

/* layout_lock_unclaim() - give up a claim that was not held. Return: as layout_lock_release(). */
bool layout_lock_unclaim(const struct layout_locker *locker);

/* layout_lock_downgrade() - from exclusive to shared, nobody in between. Return: as _release(). */
bool layout_lock_downgrade(const struct layout_locker *locker);

/* layout_lock_forgive() - the holder has put right what its predecessor left: clear DIED */
void layout_lock_forgive(const struct layout_locker *locker);

/* layout_lock_reset() - LOST becomes DIED. Return: false if it was not lost. */
bool layout_lock_reset(struct layout_lock *lock);

/* ---- Waiting for the word ---- */

/*
 * layout_lock_announce() - say that somebody will sleep on the word
 *
 * Return: true: sleep on it while it is *@ret_expected; false: it is free, try again.
 */
bool layout_lock_announce(struct layout_lock *lock, uint32_t *ret_expected);

/*
 * ---- Whose turn it is ----
 *
 * A claim goes to whoever comes first, which is fast and unfair. Who has waited for longer than it
 * cares to spin asks for its turn: it draws a ticket, and the slot with the oldest ticket is named
 * in `next`. A claimant that finds another slot named holds back for as long as the lock is free,
 * but not for more than the courtesy time, so that one who is stopped, or dead, costs others that
 * much and no more. Nothing but fairness depends on these words.
 */

/* layout_lock_ask() - ask for the turn of this slot, if it has not; repeat it while waiting */
void layout_lock_ask(const struct layout_locker *locker);

/* layout_lock_elsewhere() - the slot, not ours, whose turn it is; 0: ours or nobody's */
static inline uint32_t layout_lock_elsewhere(const struct layout_locker *locker)
{
	uint32_t next = atomic_load(&locker->lock->next);

	return next == locker->slot ? 0 : next;
}

/* layout_lock_pass_over() - @slot had its turn and did not come: back to the end of the queue */
void layout_lock_pass_over(const struct layout_locker *locker, uint32_t slot);

/*
 * layout_lock_served() - one that had asked has the lock, or no longer wants it
 *
 * Return: true: wake all who sleep on lock->next.
 */
bool layout_lock_served(const struct layout_locker *locker);

/* ---- Repair, by the broker, when the process of a slot is gone ---- */

/* layout_lock_died_holding() - did it hold the lock exclusively? To be asked before the repair. */
bool layout_lock_died_holding(const struct layout_locker *dead);

/*
 * layout_lock_repair() - undo whatever the slot has of the lock
 *
 * Idempotent, whoever dies during it: run it again. Bounded, whatever the words say and however
 * they change meanwhile. Afterwards wake all on lock->word, lock->next, dead->own->readers and
 * dead->own->solo.
 */
void layout_lock_repair(const struct layout_locker *dead);

#endif
