/* SPDX-License-Identifier: MIT */
/*
 * Semaphores, see semaphore.h. Pure: knows no futex, no clock, no thread. All seq_cst.
 *
 * No wake-up is lost because of the order on both sides. Counting: bit and count are one word, and
 * the kernel compares it before it puts a thread to sleep. Owned: who waits sets the bit in the
 * gate and then looks at the permits; who gives frees the permit and then looks at the gate, and
 * moves it on, so that a waiter between its last look and its sleep does not fall asleep.
 */

#include "layout/semaphore.h"

/* More than that is not competition but sabotage. */
enum { TRIES = 1000 };

/* ---- Counting ---- */

uint32_t layout_counting_value(const struct layout_counting *semaphore)
{
	return atomic_load(&semaphore->value) >> 1;
}

bool layout_counting_announce(struct layout_counting *semaphore, uint32_t *ret_expected)
{
	uint32_t seen = 0;

	*ret_expected = LAYOUT_SLEEPERS; /* [3] */
	if (!atomic_compare_exchange_strong(&semaphore->value, &seen, LAYOUT_SLEEPERS) &&
	    seen != LAYOUT_SLEEPERS)
		return false;
	STEP();
	return true;
}

/* ---- Owned ---- */

static uint32_t holder_of(uint32_t word)
{
	return word & LAYOUT_HOLDER;
}

static uint32_t serial_of(uint32_t word)
{
	return word >> LAYOUT_HOLDER_BITS;
}

/* Serial numbers wrap. */
static uint32_t permit_word(uint32_t serial, uint32_t slot)
{
	return serial << LAYOUT_HOLDER_BITS | slot;
}

static bool take_at(struct layout_owned *semaphore, uint32_t index, uint32_t slot,
		    struct layout_permit *ret_permit)
{
	_Atomic uint32_t *word = &semaphore->permits[index];
	/* relaxed: the exchange decides, and acquires what the last holder wrote. */
	uint32_t seen = atomic_load_explicit(word, memory_order_relaxed), taken;

	if (holder_of(seen) != 0)
		return false;
	taken = permit_word(serial_of(seen) + 1, slot);
	if (!atomic_compare_exchange_strong(word, &seen, taken)) /* [10] */
		return false;
	STEP();
	*ret_permit = (struct layout_permit){ index, serial_of(taken) };
	return true;
}

bool layout_owned_take(struct layout_owned *semaphore, uint32_t n, uint32_t slot,
		       struct layout_permit *ret_permit)
{
	/* relaxed: it only says where to begin. */
	uint32_t first = atomic_load_explicit(&semaphore->hint, memory_order_relaxed);

	first = first < n ? first : 0;
	for (uint32_t index = first; index < n; index++)
		if (take_at(semaphore, index, slot, ret_permit))
			return true;
	for (uint32_t index = 0; index < first; index++)
		if (take_at(semaphore, index, slot, ret_permit))
			return true;
	return false;
}

/* A permit is free: does anybody sleep for it? */
static bool knock(struct layout_owned *semaphore)
{
	if (!(atomic_load(&semaphore->gate) & LAYOUT_SLEEPERS)) /* [13] */
		return false;
	atomic_fetch_add(&semaphore->gate, 2); /* [14] */
	STEP();
	return true;
}

bool layout_owned_give(struct layout_owned *semaphore, uint32_t n, uint32_t slot,
		       struct layout_permit permit, bool *ret_wake)
{
	uint32_t held = permit_word(permit.serial, slot); /* [12] */

	if (permit.index >= n ||
	    !atomic_compare_exchange_strong(&semaphore->permits[permit.index], &held,
					    permit_word(permit.serial, 0)))
		return false;
	STEP();
	/* relaxed: a wrong hint costs a longer look. */
	if (n > 1)
		atomic_store_explicit(&semaphore->hint, permit.index, memory_order_relaxed);
	*ret_wake = knock(semaphore);
	return true;
}

bool layout_owned_adopt(struct layout_owned *semaphore, uint32_t n, uint32_t slot,
			struct layout_permit permit)
{
	_Atomic uint32_t *word;
	uint32_t seen, ours = permit_word(permit.serial, slot); /* [15] */

	if (permit.index >= n)
		return false;
	word = &semaphore->permits[permit.index];
	seen = atomic_load(word);
	for (int i = 0; i < TRIES; i++) {
		if (holder_of(seen) == 0 || serial_of(seen) != serial_of(ours))
			return false;
		if (atomic_compare_exchange_weak(word, &seen, ours)) {
			STEP();
			return true;
		}
	}
	return false;
}

bool layout_owned_find(const struct layout_owned *semaphore, uint32_t n, uint32_t slot,
		       uint32_t from, struct layout_permit *ret_permit)
{
	for (uint32_t index = from; index < n; index++) {
		uint32_t word = atomic_load(&semaphore->permits[index]);

		if (holder_of(word) != slot)
			continue;
		*ret_permit = (struct layout_permit){ index, serial_of(word) };
		return true;
	}
	return false;
}

uint32_t layout_owned_free(const struct layout_owned *semaphore, uint32_t n)
{
	uint32_t free = 0;

	for (uint32_t index = 0; index < n; index++)
		free += holder_of(atomic_load(&semaphore->permits[index])) == 0;
	return free;
}

uint32_t layout_owned_holder(const struct layout_owned *semaphore, uint32_t index)
{
	return holder_of(atomic_load(&semaphore->permits[index]));
}

void layout_owned_announce(struct layout_owned *semaphore, uint32_t *ret_expected)
{
	/* [11] */
	*ret_expected = atomic_fetch_or(&semaphore->gate, LAYOUT_SLEEPERS) | LAYOUT_SLEEPERS;
	STEP();
}

uint32_t layout_owned_return(struct layout_owned *semaphore, uint32_t n, uint32_t slot)
{
	uint32_t returned = 0;

	for (uint32_t index = 0; index < n; index++) {
		_Atomic uint32_t *word = &semaphore->permits[index];
		uint32_t seen = atomic_load(word);

		/* [30], [31] Fails only if another adopts it, or somebody plays with it. */
		if (holder_of(seen) == slot &&
		    atomic_compare_exchange_strong(word, &seen, permit_word(serial_of(seen), 0))) {
			STEP();
			returned++;
		}
	}
	/* Even if none came back: who returned them may have died before it came here. */
	knock(semaphore);
	return returned;
}

/* ---- Who sleeps ---- */

uint32_t layout_arena_wait_begin(struct layout_arena *arena, uint32_t slot, uint32_t unit)
{
	struct layout_arena_slot *own = &arena->slots[slot - 1];
	uint32_t place;

	for (place = 0; place < LAYOUT_ARENA_WAITS; place++) {
		uint32_t empty = 0;

		if (atomic_compare_exchange_strong(&own->waits[place], &empty, unit))
			break;
	}
	STEP();
	return place;
}

void layout_arena_wait_end(struct layout_arena *arena, uint32_t slot, uint32_t place)
{
	if (place < LAYOUT_ARENA_WAITS)
		atomic_store(&arena->slots[slot - 1].waits[place], 0);
	STEP();
}

bool layout_arena_waits(const struct layout_arena *arena, uint32_t slot, uint32_t unit)
{
	for (uint32_t place = 0; place < LAYOUT_ARENA_WAITS; place++)
		if (atomic_load(&arena->slots[slot - 1].waits[place]) == unit)
			return true;
	return false;
}

uint32_t layout_sleepers_clear(struct layout_arena *arena, uint32_t slot, uint32_t unit,
			       _Atomic uint32_t *futex)
{
	uint32_t place = layout_arena_wait_begin(arena, slot, unit); /* [22] */

	if (place < LAYOUT_ARENA_WAITS) /* [23] */
		atomic_fetch_and(futex, ~(uint32_t)LAYOUT_SLEEPERS);
	STEP();
	return place;
}

void layout_arena_repair_slot(struct layout_arena *arena, uint32_t slot)
{
	for (uint32_t place = 0; place < LAYOUT_ARENA_WAITS; place++)
		atomic_store(&arena->slots[slot - 1].waits[place], 0);
}
