/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LOCK_H
#define CLIENT_LOCK_H

/*
 * A handle's part in a lock: that of a region, or a named one. The steps over the words are in
 * proto/layout/lock.h; here they are put together, with spinning, sleeping and waking.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <shmbroker/shmbroker.h>

#include "layout/lock.h"
#include "layout/publish.h"
#include "layout/snapshot.h"
#include "guard.h"
#include "map.h"
#include "predict.h"

struct error_slot;
struct shmb_client;

/* Bits of locker.state; 0: it has no slot yet. */
enum locker_state {
	LOCKER_READY = 1,  /* `words` is valid */
	LOCKER_CLOSED = 2, /* in the place of READY */
	LOCKER_LOST = 4,   /* the segment has vanished, see guard.h: what it says is nothing */
};

struct locker {
	/* What locking touches: one cache line. */
	struct layout_locker words;
	struct layout_publish *page; /* of a region that the handle may write; else NULL */
	_Atomic uintptr_t owner;     /* the thread that holds it exclusively; 0: none */
	_Atomic uintptr_t solo;      /* the thread that has a count of its own; 0: none yet */
	_Atomic uint32_t solo_count; /* that, touched by that thread alone */
	_Atomic uint32_t state;      /* enum locker_state; changed under the client's mutex, but
					for LOST */
	bool may_mark; /* a holder may say that the data are right again, or leave them lost */
	bool died;     /* the holder before died, and ours has not said that the data are right */
	_Atomic uint32_t n_sleeping; /* threads of this process */
	_Atomic int64_t spin_ns;     /* what waiting has learnt */

	int64_t spin_most;
	_Atomic(const _Atomic uint32_t *)
		drained; /* the readers that a claimant of ours sleeps on */
	struct mapping mapping;
	struct guarded guarded;
	bool unguarded;            /* the handle's wish */
	pthread_mutex_t attaching; /* held by the thread that asks the broker */
};

/*
 * locker_init() - of a zeroed struct
 *
 * Return: 0 or SHMB_ENOMEM.
 */
int locker_init(struct locker *locker, const struct shmb_client *client);
void locker_deinit(struct locker *locker, bool forked);

/*
 * locker_map() - the broker has given a slot: map the segment, publish the slot
 * @fd: borrowed
 *
 * Return: 0, SHMB_ENOMEM, SHMB_EPROTO, SHMB_EBUS, or SHMB_ECLOSED (meanwhile).
 */
int locker_map(struct locker *locker, struct shmb_client *client, int fd, uint64_t slot,
	       uint64_t slots);

/*
 * locker_attach() - ask the broker for a slot, unless there is one
 *
 * Of several threads one asks. What failed may be tried again.
 */
int locker_attach(struct locker *locker, struct shmb_client *client, uint32_t handle,
		  struct error_slot *error);

/* locker_abandon() - the handle is being freed: let go of what it still has of the lock. The last
 * call on it but locker_close() and locker_deinit(). */
void locker_abandon(struct locker *locker);

/* locker_close() - nobody gets it any more, whoever waits wakes; the client's mutex is held */
void locker_close(struct locker *locker);

/* locker_detach() - after that: no store of this process reaches the slot any more. Return: false:
 * out of memory, it still may. */
bool locker_detach(struct locker *locker);

static inline bool locker_ready(const struct locker *locker)
{
	/* acquire: with locker_map(), which stores what it has set up before. */
	return atomic_load_explicit(&locker->state, memory_order_acquire) == LOCKER_READY;
}

/*
 * locker_still_ready() - after a fast way: what was done was done to the lock
 *
 * Where its memory has vanished the words are private zeros, and say yes to everything.
 */
static inline bool locker_still_ready(const struct locker *locker)
{
	/* The handler runs in this thread, if it is this thread that touched it. */
	atomic_signal_fence(memory_order_seq_cst);
	return atomic_load_explicit(&locker->state, memory_order_relaxed) == LOCKER_READY;
}

/* locker_lost() - has it vanished? */
static inline bool locker_lost(const struct locker *locker)
{
	return atomic_load(&locker->state) & LOCKER_LOST;
}

/* locker_is_mine() - does this thread hold it exclusively? */
bool locker_is_mine(const struct locker *locker);

/* ---- The slow ways; see the fast ones below ---- */

/* How the slow way begins. */
enum locker_flags {
	LOCKER_WAKE = 1,      /* a shared attempt was undone, and a claimant is to be woken */
	LOCKER_CLAIMED = 2,   /* it is claimed, and there are readers */
	LOCKER_SOUND = 4,     /* not after a dead owner: SHMB_EOWNERDEAD, and it is not held */
	LOCKER_WAKE_SOLO = 8, /* as LOCKER_WAKE, of an attempt with a count of its own */
	LOCKER_GOT = 16,      /* it was got, of a lock that is not ready (any more) */
};

/* locker_lock_slowly() - Return: as shmb_region_lock() */
int locker_lock_slowly(struct locker *locker, enum shmb_lock_kind kind, int timeout_ms,
		       unsigned flags);

/* What the fast way of unlocking leaves to the slow one; 0: nothing. */
enum locker_rest {
	LOCKER_REST_NOT_HELD = 1,
	LOCKER_REST_DIED, /* it is still held: the holder before died */
	LOCKER_REST_WAKE_ALL,
	LOCKER_REST_WAKE_CLAIMANT,
	LOCKER_REST_WAKE_SOLO,
};

/* locker_unlock_slowly() - Return: 0, SHMB_EINVAL: it is not held, or SHMB_EBUS */
int locker_unlock_slowly(struct locker *locker, enum locker_rest rest);

/* ---- The fast ones: no call, no clock, no mutex ---- */

static inline uintptr_t locker_self(void)
{
#if __has_builtin(__builtin_thread_pointer)
	return (uintptr_t)__builtin_thread_pointer();
#else
	return (uintptr_t)pthread_self();
#endif
}

/*
 * Is this the thread that has a count of its own? The first that locks is, and stays it: most
 * handles are used by one thread.
 */
static always_inline bool locker_is_solo(struct locker *locker)
{
	/* relaxed: a thread looks for nobody but itself there. */
	uintptr_t solo = atomic_load_explicit(&locker->solo, memory_order_relaxed);

	if (likely(solo == locker_self()))
		return true;
	return solo == 0 && atomic_compare_exchange_strong(&locker->solo, &solo, locker_self());
}

/*
 * All readers are out: from claimed to held.
 *
 * The order: first `held`, so that our death leaves "owner died"; then `writing` becomes odd, so
 * that snapshots fail; then the caller writes. Dying between the first two says "owner died" of
 * data that nobody touched, which costs somebody a look at them and never hides anything.
 */
static always_inline void locker_hold(struct locker *locker, const struct layout_locker *words)
{
	/* What was claimed of a lock that has vanished is nothing: whoever still has it may be
	 * writing, so `writing` is not ours to touch. Our caller looks again, and says so. One that
	 * was closed is there, and what was claimed of it has to be released. */
	if (unlikely(!locker_still_ready(locker)) && locker_lost(locker))
		return;
	/* relaxed: a thread looks for nobody but itself there. */
	atomic_store_explicit(&locker->owner, locker_self(), memory_order_relaxed);
	layout_lock_hold(words);
	if (locker->page)
		layout_snapshot_write(locker->page);
}

/*
 * locker_lock_fast() - try where nobody is in the way
 * @locker:    ready
 * @ret_flags: set on failure: what locker_lock_slowly() has to know
 */
static always_inline bool locker_lock_fast(struct locker *locker, enum shmb_lock_kind kind,
					   unsigned *ret_flags)
{
	/* A copy, as atomic operations make the compiler load the original anew each time. */
	const struct layout_locker words = locker->words;
	uint32_t readers;
	bool wake;

	*ret_flags = 0;
	if (kind == SHMB_SHARED && likely(locker_is_solo(locker))) {
		if (likely(layout_lock_enter_solo(&words, &locker->solo_count, &wake)))
			return true;
		*ret_flags = wake ? LOCKER_WAKE_SOLO : 0;
		return false;
	}
	if (kind == SHMB_SHARED) {
		if (likely(layout_lock_enter(&words, &wake)))
			return true;
		*ret_flags = wake ? LOCKER_WAKE : 0;
		return false;
	}
	if (unlikely(kind != SHMB_EXCLUSIVE) || unlikely(!layout_lock_claim_fast(&words)))
		return false;
	if (likely(!layout_lock_first_reader(&words, &readers))) {
		locker_hold(locker, &words);
		return true;
	}
	*ret_flags = LOCKER_CLAIMED;
	return false;
}

/*
 * Does this handle hold it exclusively? `held` of our slot alone tells: it is set by the claimant
 * and cleared before the claim ends.
 */
static always_inline bool locker_holds(const struct layout_locker *words)
{
	/* relaxed: it cannot change under a thread that holds it, and who does not hold it gets an
	 * error or what it deserves. */
	return atomic_load_explicit(&words->own->held, memory_order_relaxed) != 0;
}

/*
 * locker_release() - give back an exclusive lock
 * @left: what the word is to be
 *
 * Return: true: wake all who sleep on the word.
 *
 * The order: the caller has written; then what the page says of the data (if they are lost); then
 * `writing` becomes even; then `held` is cleared; then the word is released. Dying before `held` is
 * cleared leaves "owner died", of data that may be complete: again to the safe side. Dying after it
 * leaves a claim that is merely released, of data that are complete.
 */
static always_inline bool locker_release(struct locker *locker, const struct layout_locker *words,
					 uint32_t left)
{
	/* relaxed: see locker_hold(). */
	atomic_store_explicit(&locker->owner, 0, memory_order_relaxed);
	if (locker->page)
		layout_snapshot_written(locker->page);
	return layout_lock_release(words, left);
}

/* locker_unlock_fast() - Return: what is left to do */
static always_inline enum locker_rest locker_unlock_fast(struct locker *locker)
{
	const struct layout_locker words = locker->words;
	bool wake;

	/* First, as it is private memory. While the lock is held exclusively nobody is in, this
	 * thread neither. */
	if (atomic_load_explicit(&locker->solo, memory_order_relaxed) == locker_self() &&
	    atomic_load_explicit(&locker->solo_count, memory_order_relaxed) > 0)
		return likely(!layout_lock_leave_solo(&words, &locker->solo_count))
			       ? 0
			       : LOCKER_REST_WAKE_SOLO;
	if (locker_holds(&words)) {
		if (unlikely(locker->died))
			return LOCKER_REST_DIED;
		return likely(!locker_release(locker, &words, 0)) ? 0 : LOCKER_REST_WAKE_ALL;
	}
	if (unlikely(!layout_lock_leave_held(&words, &wake)))
		return LOCKER_REST_NOT_HELD;
	return likely(!wake) ? 0 : LOCKER_REST_WAKE_CLAIMANT;
}

/* ---- What a holder may do; Return: as those for regions ---- */

int locker_downgrade(struct locker *locker);
int locker_mark_consistent(struct locker *locker);
int locker_reset(struct locker *locker);

#endif
