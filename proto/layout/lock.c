/* SPDX-License-Identifier: MIT */
/*
 * The slower steps of the lock, see lock.h. Pure: knows no futex, no clock, no thread. All seq_cst.
 * Numbers in brackets are the steps of tests/model/lock.pml.
 */

#include "layout/lock.h"

/* More than that is not competition but sabotage. */
enum { TRIES = 1000 };

void layout_lock_publish_slot(const struct layout_locker *locker)
{
	_Atomic uint32_t *published = &locker->lock->published; /* [0] */
	uint32_t seen = atomic_load(published);

	for (int i = 0; i < TRIES && seen < locker->slot; i++)
		if (atomic_compare_exchange_weak(published, &seen, locker->slot))
			break;
	STEP();
}

enum layout_lock_result layout_lock_look(const struct layout_lock *lock)
{
	uint32_t word = atomic_load(&lock->word); /* [7] */

	if (word & LAYOUT_LOCK_SLOT)
		return LAYOUT_LOCK_BUSY;
	if (word & LAYOUT_LOCK_LOST)
		return LAYOUT_LOCK_UNUSABLE;
	return word & LAYOUT_LOCK_DIED ? LAYOUT_LOCK_OWNER_DIED : LAYOUT_LOCK_GOT;
}

enum layout_lock_result layout_lock_claim(const struct layout_locker *locker)
{
	_Atomic uint32_t *word = &locker->lock->word;
	uint32_t seen = atomic_load(word);

	for (int i = 0; i < TRIES; i++) {
		if (seen & LAYOUT_LOCK_SLOT)
			return LAYOUT_LOCK_BUSY;
		if (seen & LAYOUT_LOCK_LOST)
			return LAYOUT_LOCK_UNUSABLE;
		/* [10] */
		if (atomic_compare_exchange_weak(word, &seen, seen | locker->slot)) {
			STEP();
			return seen & LAYOUT_LOCK_DIED ? LAYOUT_LOCK_GOT_DIED : LAYOUT_LOCK_GOT;
		}
	}
	return LAYOUT_LOCK_BUSY;
}

/* Change a claim of this slot. Return: the word before, or 0: the claim is another's. */
static uint32_t change_claim(const struct layout_locker *locker, uint32_t clear, uint32_t set)
{
	_Atomic uint32_t *word = &locker->lock->word;
	uint32_t seen = atomic_load(word);

	for (int i = 0; i < TRIES; i++) {
		if ((seen & LAYOUT_LOCK_SLOT) != locker->slot)
			return 0;
		if (atomic_compare_exchange_weak(word, &seen, (seen & ~clear) | set)) {
			STEP();
			return seen;
		}
	}
	return 0;
}

bool layout_lock_announce_drain(const struct layout_locker *locker)
{
	return change_claim(locker, 0, LAYOUT_LOCK_DRAINING) != 0; /* [13] */
}

bool layout_lock_unclaim(const struct layout_locker *locker)
{
	/* [15] Everything but what the word has to say of the past. */
	uint32_t all = LAYOUT_LOCK_SLOT | LAYOUT_LOCK_DRAINING | LAYOUT_LOCK_SLEEPERS;

	return change_claim(locker, all, 0) & LAYOUT_LOCK_SLEEPERS;
}

bool layout_lock_downgrade(const struct layout_locker *locker)
{
	/* [21] Claimants that come after the release find us among the readers. */
	atomic_fetch_add(&locker->own->readers, 1);
	STEP();
	return layout_lock_release(locker, 0);
}

void layout_lock_forgive(const struct layout_locker *locker)
{
	change_claim(locker, LAYOUT_LOCK_DIED, 0); /* [17] */
}

bool layout_lock_reset(struct layout_lock *lock)
{
	uint32_t expected = LAYOUT_LOCK_LOST; /* [22] */
	bool reset = atomic_compare_exchange_strong(&lock->word, &expected, LAYOUT_LOCK_DIED);

	STEP();
	return reset;
}

bool layout_lock_announce(struct layout_lock *lock, uint32_t *ret_expected)
{
	uint32_t seen = atomic_load(&lock->word);

	for (int i = 0; i < TRIES; i++) {
		if (!(seen & LAYOUT_LOCK_SLOT))
			return false;
		*ret_expected = seen | LAYOUT_LOCK_SLEEPERS;
		if (seen & LAYOUT_LOCK_SLEEPERS)
			return true;
		/* [8] */
		if (atomic_compare_exchange_weak(&lock->word, &seen, *ret_expected)) {
			STEP();
			return true;
		}
	}
	return false;
}

/* ---- Whose turn it is ---- */

/* The slot with the oldest ticket; 0: nobody waits for its turn. Tickets wrap: differences count.
 */
static uint32_t oldest(const struct layout_locker *locker)
{
	struct layout_lock *lock = locker->lock;
	uint32_t n = atomic_load(&lock->published), slot = 0, best = 0;

	n = n < locker->n_slots ? n : locker->n_slots;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t ticket = atomic_load(&lock->slots[i].ticket);

		if (ticket != 0 && (slot == 0 || (int32_t)(ticket - best) < 0)) {
			slot = i + 1;
			best = ticket;
		}
	}
	return slot;
}

void layout_lock_ask(const struct layout_locker *locker)
{
	struct layout_lock *lock = locker->lock;
	uint32_t nobody = 0;

	if (atomic_load(&locker->own->ticket) == 0) {
		/* Odd, and so never 0. Of two threads that share the slot one draws in vain. */
		uint32_t ticket = atomic_fetch_add(&lock->tickets, 2) | 1;
		atomic_compare_exchange_strong(&locker->own->ticket, &nobody, ticket);
		STEP();
	}
	nobody = 0;
	if (atomic_load(&lock->next) == 0)
		atomic_compare_exchange_strong(&lock->next, &nobody, oldest(locker));
	STEP();
}

void layout_lock_pass_over(const struct layout_locker *locker, uint32_t slot)
{
	struct layout_lock *lock = locker->lock;

	if (slot >= 1 && slot <= locker->n_slots)
		atomic_store(&lock->slots[slot - 1].ticket, 0);
	STEP();
	atomic_compare_exchange_strong(&lock->next, &slot, oldest(locker));
	STEP();
}

bool layout_lock_served(const struct layout_locker *locker)
{
	uint32_t slot = locker->slot;

	atomic_store(&locker->own->ticket, 0);
	STEP();
	if (atomic_load(&locker->lock->next) != slot)
		return false;
	atomic_compare_exchange_strong(&locker->lock->next, &slot, oldest(locker));
	STEP();
	return true;
}

/* ---- Repair ---- */

bool layout_lock_died_holding(const struct layout_locker *dead)
{
	return (atomic_load(&dead->lock->word) & LAYOUT_LOCK_SLOT) == dead->slot &&
	       atomic_load(&dead->own->held) != 0;
}

/* A claim that was not complete leaves what the word said before it. */
static void repair_word(const struct layout_locker *dead)
{
	_Atomic uint32_t *word = &dead->lock->word;
	uint32_t fate = atomic_load(&dead->own->held) ? LAYOUT_LOCK_DIED : 0;
	uint32_t seen = atomic_load(word);

	for (int i = 0; i < TRIES; i++) {
		if ((seen & LAYOUT_LOCK_SLOT) != dead->slot)
			return;
		if (atomic_compare_exchange_weak(
			    word, &seen, fate | (seen & (LAYOUT_LOCK_DIED | LAYOUT_LOCK_LOST))))
			return;
	}
	atomic_store(word, LAYOUT_LOCK_DIED); /* sabotage: it has no claim on anything better */
}

void layout_lock_repair(const struct layout_locker *dead)
{
	uint32_t slot = dead->slot;

	atomic_store(&dead->own->readers, 0); /* [30] */
	STEP();
	atomic_store(&dead->own->solo, 0);
	STEP();
	repair_word(dead); /* [31], [32] */
	STEP();
	/* [33] After the word, which until then needs it to tell a claim from a lock. */
	atomic_store(&dead->own->held, 0);
	STEP();
	atomic_store(&dead->own->waiting_shared, 0);
	atomic_store(&dead->own->waiting_exclusive, 0);
	atomic_store(&dead->own->ticket, 0);
	STEP();
	/* To nobody: who waits for its turn asks again, at the latest when its courtesy ends. */
	atomic_compare_exchange_strong(&dead->lock->next, &slot, 0);
	STEP();
}
