/* SPDX-License-Identifier: MIT */
/* The steps of semaphores, one by one, at the edges of counts, serials and tables. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layout/semaphore.h"

static const uint32_t SERIAL_LAST = UINT32_MAX >> LAYOUT_HOLDER_BITS;
static struct layout_arena *arena;
static struct layout_counting *counting;
static struct layout_owned *owned;

static int make(void **state)
{
	arena = aligned_alloc(4096, LAYOUT_ARENA_BYTES);
	assert_non_null(arena);
	memset(arena, 0, LAYOUT_ARENA_BYTES);
	counting = (void *)((char *)arena + LAYOUT_ARENA_FIRST * LAYOUT_ARENA_UNIT);
	owned = (void *)((char *)arena + (LAYOUT_ARENA_FIRST + 1) * LAYOUT_ARENA_UNIT);
	return 0;
}

static int end(void **state)
{
	free(arena);
	return 0;
}

static void sizes_are_as_documented(void **state)
{
	assert_int_equal(sizeof(struct layout_counting) <= LAYOUT_ARENA_UNIT, 1);
	assert_int_equal(layout_owned_units(1), 1);
	assert_int_equal(layout_owned_units(12), 1);
	assert_int_equal(layout_owned_units(13), 2);
	assert_int_equal(layout_owned_units(LAYOUT_PERMITS_MAX), 65);
	assert_int_equal(LAYOUT_ARENA_UNITS - LAYOUT_ARENA_FIRST, 3072);
	assert_true((int)LAYOUT_ARENA_SLOTS <= (int)LAYOUT_HOLDER);
}

/* ---- Counting ---- */

static void a_count_keeps_its_bounds(void **state)
{
	bool wake = true;

	assert_false(layout_counting_take(counting));
	assert_true(layout_counting_post(counting, 3, 3, &wake));
	assert_false(wake);
	assert_false(layout_counting_post(counting, 1, 3, &wake));
	assert_int_equal(layout_counting_value(counting), 3);
	assert_true(layout_counting_take(counting));
	assert_false(layout_counting_post(counting, 2, 3, &wake));
	assert_false(layout_counting_post(counting, UINT32_MAX, 3, &wake));
	assert_true(layout_counting_post(counting, 1, 3, &wake));
	/* A count beyond the maximum, which somebody has written. */
	atomic_store(&counting->value, 2 * 9);
	assert_false(layout_counting_post(counting, 1, 3, &wake));
	assert_int_equal(layout_counting_value(counting), 9);
}

static void the_largest_count_does_not_overflow(void **state)
{
	bool wake;

	assert_true(
		layout_counting_post(counting, LAYOUT_SEMAPHORE_MAX, LAYOUT_SEMAPHORE_MAX, &wake));
	assert_false(layout_counting_post(counting, 1, LAYOUT_SEMAPHORE_MAX, &wake));
	assert_int_equal(layout_counting_value(counting), LAYOUT_SEMAPHORE_MAX);
	assert_true(layout_counting_take(counting));
	assert_false(layout_counting_post(counting, 2, LAYOUT_SEMAPHORE_MAX, &wake));
	assert_true(layout_counting_post(counting, 1, LAYOUT_SEMAPHORE_MAX, &wake));
	assert_int_equal(atomic_load(&counting->value), 2 * (uint32_t)LAYOUT_SEMAPHORE_MAX);
}

static void sleepers_stay_announced(void **state)
{
	uint32_t expected = 0;
	bool wake = false;

	assert_true(layout_counting_announce(counting, &expected));
	assert_int_equal(expected, LAYOUT_SLEEPERS);
	assert_true(layout_counting_announce(counting, &expected));
	assert_true(layout_counting_post(counting, 1, 5, &wake));
	assert_true(wake);
	assert_false(layout_counting_announce(counting, &expected));
	assert_int_equal(layout_counting_value(counting), 1);
	assert_true(layout_counting_take(counting));
	assert_int_equal(atomic_load(&counting->value), LAYOUT_SLEEPERS);
	assert_false(layout_counting_take(counting));
	atomic_store(&counting->value, 2);
	assert_false(layout_counting_announce(counting, &expected));
	assert_int_equal(atomic_load(&counting->value), 2);
}

/* ---- Owned ---- */

static void every_permit_is_taken_once(void **state)
{
	uint32_t n = LAYOUT_PERMITS_MAX;
	bool seen[LAYOUT_PERMITS_MAX] = { false };
	struct layout_permit permit;
	static const uint32_t hints[] = { 0, 1, LAYOUT_PERMITS_MAX - 1, LAYOUT_PERMITS_MAX,
					  UINT32_MAX };

	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		memset(seen, 0, sizeof(seen));
		atomic_store(&owned->hint, hints[i]);
		for (uint32_t taken = 0; taken < n; taken++) {
			assert_int_equal(layout_owned_free(owned, n), n - taken);
			assert_true(layout_owned_take(owned, n, LAYOUT_ARENA_SLOTS, &permit));
			assert_true(permit.index < n && !seen[permit.index]);
			seen[permit.index] = true;
		}
		assert_false(layout_owned_take(owned, n, 1, &permit));
		assert_int_equal(layout_owned_return(owned, n, LAYOUT_ARENA_SLOTS), n);
		assert_int_equal(layout_owned_free(owned, n), n);
	}
}

static void only_this_taking_is_given(void **state)
{
	struct layout_permit first, second, wrong;
	bool wake = true;

	assert_true(layout_owned_take(owned, 1, 7, &first));
	assert_int_equal(layout_owned_holder(owned, 0), 7);
	wrong = first;
	wrong.index = 1;
	assert_false(layout_owned_give(owned, 1, 7, wrong, &wake));
	wrong.index = UINT32_MAX;
	assert_false(layout_owned_give(owned, 1, 7, wrong, &wake));
	assert_false(layout_owned_give(owned, 1, 8, first, &wake));
	assert_true(layout_owned_give(owned, 1, 7, first, &wake));
	assert_false(wake);
	assert_false(layout_owned_give(owned, 1, 7, first, &wake));
	assert_true(layout_owned_take(owned, 1, 7, &second));
	assert_int_equal(second.serial, first.serial + 1);
	assert_false(layout_owned_give(owned, 1, 7, first, &wake));
	assert_true(layout_owned_give(owned, 1, 7, second, &wake));
}

static void serials_wrap(void **state)
{
	struct layout_permit permit;
	bool wake;

	atomic_store(&owned->permits[0], SERIAL_LAST << LAYOUT_HOLDER_BITS);
	assert_true(layout_owned_take(owned, 1, LAYOUT_ARENA_SLOTS, &permit));
	assert_int_equal(permit.serial, 0);
	assert_int_equal(layout_owned_holder(owned, 0), LAYOUT_ARENA_SLOTS);
	assert_true(layout_owned_adopt(owned, 1, 1, permit));
	assert_true(layout_owned_give(owned, 1, 1, permit, &wake));
	/* The last before it wraps. */
	atomic_store(&owned->permits[0], (SERIAL_LAST - 1) << LAYOUT_HOLDER_BITS);
	assert_true(layout_owned_take(owned, 1, 5, &permit));
	assert_int_equal(permit.serial, SERIAL_LAST);
	assert_true(layout_owned_give(owned, 1, 5, permit, &wake));
}

static void adopting_moves_the_holder(void **state)
{
	struct layout_permit permit, wrong;
	bool wake;

	assert_true(layout_owned_take(owned, 1, 2, &permit));
	wrong = permit;
	wrong.serial++;
	assert_false(layout_owned_adopt(owned, 1, 3, wrong));
	wrong = permit;
	wrong.index = 1;
	assert_false(layout_owned_adopt(owned, 1, 3, wrong));
	assert_true(layout_owned_adopt(owned, 1, 3, permit));
	assert_true(layout_owned_adopt(owned, 1, 3, permit)); /* it holds it already */
	assert_int_equal(layout_owned_holder(owned, 0), 3);
	assert_false(layout_owned_give(owned, 1, 2, permit, &wake));
	assert_int_equal(layout_owned_return(owned, 1, 2), 0);
	assert_int_equal(layout_owned_return(owned, 1, 3), 1);
	assert_false(layout_owned_adopt(owned, 1, 2, permit)); /* it came back */
	assert_int_equal(layout_owned_holder(owned, 0), 0);
}

static void permits_are_found_by_holder(void **state)
{
	struct layout_permit permit;

	for (uint32_t i = 0; i < 6; i++)
		assert_true(layout_owned_take(owned, 6, 1 + i % 2, &permit));
	assert_true(layout_owned_find(owned, 6, 2, 0, &permit));
	assert_int_equal(permit.index, 1);
	assert_true(layout_owned_find(owned, 6, 2, 2, &permit));
	assert_int_equal(permit.index, 3);
	assert_false(layout_owned_find(owned, 6, 2, 6, &permit));
	assert_false(layout_owned_find(owned, 6, 3, 0, &permit));
	assert_int_equal(layout_owned_return(owned, 6, 2), 3);
	assert_int_equal(layout_owned_free(owned, 6), 3);
	assert_int_equal(layout_owned_holder(owned, 0), 1);
}

static void giving_moves_the_gate_on(void **state)
{
	struct layout_permit permit;
	uint32_t expected, again;
	bool wake = false;

	assert_true(layout_owned_take(owned, 1, 1, &permit));
	layout_owned_announce(owned, &expected);
	assert_int_equal(expected, LAYOUT_SLEEPERS);
	assert_true(layout_owned_give(owned, 1, 1, permit, &wake));
	assert_true(wake);
	assert_int_not_equal(atomic_load(&owned->gate), expected);
	layout_owned_announce(owned, &again);
	assert_int_equal(again, expected + 2);
	/* Returning knocks even if nothing comes back: see layout_owned_return(). */
	assert_int_equal(layout_owned_return(owned, 1, 1), 0);
	assert_int_equal(atomic_load(&owned->gate), again + 2);
	/* It wraps, and keeps the bit. */
	atomic_store(&owned->gate, UINT32_MAX);
	layout_owned_return(owned, 1, 1);
	assert_int_equal(atomic_load(&owned->gate), LAYOUT_SLEEPERS);
}

/* ---- Waits ---- */

static void waits_have_places(void **state)
{
	static const uint32_t slots[] = { 1, LAYOUT_ARENA_SLOTS };

	for (size_t i = 0; i < 2; i++) {
		uint32_t slot = slots[i];

		for (uint32_t place = 0; place < LAYOUT_ARENA_WAITS; place++)
			assert_int_equal(layout_arena_wait_begin(arena, slot, 1024 + place), place);
		assert_int_equal(layout_arena_wait_begin(arena, slot, 4000), LAYOUT_ARENA_WAITS);
		layout_arena_wait_end(arena, slot, LAYOUT_ARENA_WAITS);
		assert_true(layout_arena_waits(arena, slot, 1024 + LAYOUT_ARENA_WAITS - 1));
		assert_false(layout_arena_waits(arena, slot, 4000));
		layout_arena_wait_end(arena, slot, 3);
		assert_false(layout_arena_waits(arena, slot, 1024 + 3));
		assert_int_equal(layout_arena_wait_begin(arena, slot, 4000), 3);
		layout_arena_repair_slot(arena, slot);
		for (uint32_t place = 0; place < LAYOUT_ARENA_WAITS; place++)
			assert_int_equal(atomic_load(&arena->slots[slot - 1].waits[place]), 0);
	}
	/* Nobody else's were touched. */
	assert_int_equal(atomic_load(&arena->slots[1].waits[0]), 0);
	assert_int_equal(atomic_load(&counting->value), 0);
}

static void clearing_is_noted(void **state)
{
	uint32_t place;

	atomic_store(&counting->value, 2 * 5 + LAYOUT_SLEEPERS);
	place = layout_sleepers_clear(arena, 4, LAYOUT_ARENA_FIRST, &counting->value);
	assert_true(place < LAYOUT_ARENA_WAITS);
	assert_true(layout_arena_waits(arena, 4, LAYOUT_ARENA_FIRST));
	assert_int_equal(atomic_load(&counting->value), 2 * 5);
	layout_arena_wait_end(arena, 4, place);
	assert_false(layout_arena_waits(arena, 4, LAYOUT_ARENA_FIRST));
	/* Without a place for the note the bit stays. */
	for (int i = 0; i < LAYOUT_ARENA_WAITS; i++)
		layout_arena_wait_begin(arena, 4, 2000);
	atomic_store(&counting->value, LAYOUT_SLEEPERS);
	assert_int_equal(layout_sleepers_clear(arena, 4, LAYOUT_ARENA_FIRST, &counting->value),
			 LAYOUT_ARENA_WAITS);
	assert_int_equal(atomic_load(&counting->value), LAYOUT_SLEEPERS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sizes_are_as_documented),
		TEST(a_count_keeps_its_bounds),
		TEST(the_largest_count_does_not_overflow),
		TEST(sleepers_stay_announced),
		TEST(every_permit_is_taken_once),
		TEST(only_this_taking_is_given),
		TEST(serials_wrap),
		TEST(adopting_moves_the_holder),
		TEST(permits_are_found_by_holder),
		TEST(giving_moves_the_gate_on),
		TEST(waits_have_places),
		TEST(clearing_is_noted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
