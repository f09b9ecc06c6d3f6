/* SPDX-License-Identifier: MIT */
/*
 * The semaphores' steps: an operation in a child is killed at each of its steps in turn, in each
 * state that a semaphore can be in, and what it had is returned as the broker does; that, too, is
 * killed at each of its steps and done again. Then every permit of the dead is free and no other,
 * a count has changed by all or nothing, and whoever may be asleep would be woken.
 */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "layout/semaphore.h"
#include "steps.h"

enum {
	DEAD = 1,
	OTHER = 2,
	PERMITS = 3,
	MAXIMUM = 4,
	COUNTING_UNIT = LAYOUT_ARENA_FIRST,
	OWNED_UNIT = LAYOUT_ARENA_FIRST + 1,
};

static struct layout_arena *arena;
static struct layout_counting *counting;
static struct layout_owned *owned;

/* What the child says of itself, behind everything else. */
static struct told {
	volatile uint32_t delta; /* how the count has changed, plus 100; of what was completed */
	volatile uint32_t next;  /* how it will have changed if the step it is at was done */
	volatile uint32_t keeps; /* permits that others got from it */
} * told;

/* ---- Operations, as the client puts them together ---- */

static void wake(uint32_t unit, _Atomic uint32_t *futex)
{
	uint32_t place = layout_sleepers_clear(arena, DEAD, unit, futex);

	if (place < LAYOUT_ARENA_WAITS)
		layout_arena_wait_end(arena, DEAD, place);
}

static void op_post(void)
{
	bool sleepers = false;

	told->next = 102;
	if (layout_counting_post(counting, 2, MAXIMUM, &sleepers))
		told->delta = 102;
	if (sleepers)
		wake(COUNTING_UNIT, &counting->value);
}

static void op_wait(void)
{
	uint32_t expected, place;

	told->next = 99;
	if (layout_counting_take(counting)) {
		told->delta = 99;
		return;
	}
	place = layout_arena_wait_begin(arena, DEAD, COUNTING_UNIT);
	if (!layout_counting_announce(counting, &expected) || layout_counting_take(counting))
		abort(); /* nobody else posts */
	layout_arena_wait_end(arena, DEAD, place);
}

static void op_take(void)
{
	struct layout_permit permit;
	uint32_t expected, place;

	if (layout_owned_take(owned, PERMITS, DEAD, &permit))
		return;
	place = layout_arena_wait_begin(arena, DEAD, OWNED_UNIT);
	layout_owned_announce(owned, &expected);
	if (layout_owned_take(owned, PERMITS, DEAD, &permit))
		abort();
	layout_arena_wait_end(arena, DEAD, place);
}

static void op_give(void)
{
	struct layout_permit permit;
	bool sleepers = false;

	if (!layout_owned_take(owned, PERMITS, DEAD, &permit) &&
	    !layout_owned_find(owned, PERMITS, DEAD, 0, &permit))
		return;
	if (!layout_owned_give(owned, PERMITS, DEAD, permit, &sleepers))
		abort();
	if (sleepers)
		wake(OWNED_UNIT, &owned->gate);
}

static void op_adopt(void)
{
	struct layout_permit permit;

	if (layout_owned_find(owned, PERMITS, OTHER, 0, &permit) &&
	    !layout_owned_adopt(owned, PERMITS, DEAD, permit))
		abort();
}

static const struct operation {
	const char *name;
	void (*run)(void);
} operations[] = {
	{ "post", op_post }, { "wait", op_wait },   { "take", op_take },
	{ "give", op_give }, { "adopt", op_adopt },
};

/* ---- States ---- */

static void hold(uint32_t slot, uint32_t n)
{
	struct layout_permit permit;

	for (uint32_t i = 0; i < n; i++)
		assert_true(layout_owned_take(owned, PERMITS, slot, &permit));
}

static void sleepers(void)
{
	uint32_t expected;

	atomic_fetch_or(&counting->value, LAYOUT_SLEEPERS);
	layout_owned_announce(owned, &expected);
}

static void state_empty(void)
{
}

static void state_some(void)
{
	atomic_store(&counting->value, 2 * 2);
	hold(OTHER, 1);
}

static void state_full(void)
{
	atomic_store(&counting->value, 2 * MAXIMUM);
	hold(OTHER, PERMITS);
}

static void state_dead_has_one(void)
{
	hold(DEAD, 1);
	hold(OTHER, 1);
}

static void state_dead_has_all_and_others_sleep(void)
{
	hold(DEAD, PERMITS);
	sleepers();
}

static void state_others_sleep(void)
{
	hold(OTHER, PERMITS);
	sleepers();
}

static void state_others_slept(void)
{
	atomic_store(&counting->value, 2 * 1);
	sleepers();
}

static const struct state {
	const char *name;
	void (*prepare)(void);
} states[] = {
	{ "nothing in it", state_empty },
	{ "some", state_some },
	{ "all taken, or the maximum", state_full },
	{ "the dead has one", state_dead_has_one },
	{ "the dead has all, others sleep", state_dead_has_all_and_others_sleep },
	{ "others have all and sleep", state_others_sleep },
	{ "others slept", state_others_slept },
};

/* ---- Dying ---- */

static bool dies_at(unsigned n, void (*run)(void), unsigned *ret_steps)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		steps_arm(n);
		run();
		_exit((int)steps_disarm());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGKILL);
		return true;
	}
	assert_true((unsigned)WEXITSTATUS(status) < n);
	*ret_steps = (unsigned)WEXITSTATUS(status);
	return false;
}

/* As the broker does, less the waking. */
static void repair(void)
{
	layout_owned_return(owned, PERMITS, DEAD);
	layout_arena_repair_slot(arena, DEAD);
}

/* Whom the broker would wake. */
static bool would_wake(_Atomic uint32_t *futex, uint32_t unit)
{
	return (atomic_load(futex) & LAYOUT_SLEEPERS) || layout_arena_waits(arena, DEAD, unit);
}

struct picture {
	uint32_t value, permits[PERMITS], sleepers;
	struct layout_arena_slot slot;
};

/* All that counts but the gate's number, which may only grow. */
static struct picture look(void)
{
	struct picture picture;

	memset(&picture, 0, sizeof(picture));
	picture.value = atomic_load(&counting->value);
	for (uint32_t i = 0; i < PERMITS; i++)
		picture.permits[i] = atomic_load(&owned->permits[i]);
	picture.sleepers = atomic_load(&owned->gate) & LAYOUT_SLEEPERS;
	memcpy(&picture.slot, &arena->slots[DEAD - 1], sizeof(picture.slot));
	return picture;
}

static void repair_everywhere(void)
{
	static unsigned char before[LAYOUT_ARENA_BYTES];
	struct picture after;
	unsigned steps = 0;
	uint32_t gate;

	memcpy(before, arena, sizeof(before));
	repair();
	after = look();
	gate = atomic_load(&owned->gate);
	for (unsigned n = 1;; n++) {
		struct picture again;

		memcpy(arena, before, sizeof(before));
		if (!dies_at(n, repair, &steps))
			break;
		repair();
		again = look();
		assert_memory_equal(&again, &after, sizeof(after));
		/* It has moved on if anybody sleeps, so that who is about to does not fall asleep.
		 */
		assert_true(atomic_load(&owned->gate) >= gate);
	}
}

static void expect_exact(const struct picture *start, bool killed)
{
	uint32_t count = layout_counting_value(counting) + 100 - (start->value >> 1);

	assert_true(count == told->delta || (killed && count == told->next));
	assert_true(layout_counting_value(counting) <= MAXIMUM);
	for (uint32_t i = 0; i < PERMITS; i++) {
		uint32_t was = start->permits[i] & LAYOUT_HOLDER;
		uint32_t is = layout_owned_holder(owned, i);

		/* Adopting takes it from the other, once and for all. */
		assert_true(is == 0 || (is == OTHER && was == OTHER));
		if (was == OTHER && !told->keeps)
			assert_int_equal(is, OTHER);
	}
	for (int i = 0; i < LAYOUT_ARENA_WAITS; i++)
		assert_int_equal(atomic_load(&arena->slots[DEAD - 1].waits[i]), 0);
}

static unsigned walk(const struct operation *operation, const struct state *state)
{
	unsigned steps = 0;

	for (unsigned n = 1;; n++) {
		struct picture start;
		uint32_t gate;
		bool killed, slept_counting, slept_owned;

		memset(arena, 0, LAYOUT_ARENA_BYTES);
		state->prepare();
		*told = (struct told){ .delta = 100, .next = 100 };
		told->keeps = operation->run == op_adopt;
		start = look();
		gate = atomic_load(&owned->gate);
		slept_counting = start.value & LAYOUT_SLEEPERS;
		slept_owned = start.sleepers;
		killed = dies_at(n, operation->run, &steps);
		/* Who slept before is woken by the broker, if the dead did not come to it. */
		if (killed && slept_counting)
			assert_true(would_wake(&counting->value, COUNTING_UNIT) ||
				    told->delta != 100);
		if (killed && slept_owned)
			assert_true(would_wake(&owned->gate, OWNED_UNIT) ||
				    atomic_load(&owned->gate) != gate);
		repair_everywhere();
		expect_exact(&start, killed);
		/* Idempotent. */
		start = look();
		repair();
		assert_memory_equal(&(struct picture[]){ look() }[0], &start, sizeof(start));
		if (!killed)
			return steps;
	}
}

static void every_operation_at_every_step(void **unused)
{
	unsigned visited = 0;

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		unsigned most = 0;

		for (size_t j = 0; j < sizeof(states) / sizeof(states[0]); j++) {
			unsigned steps = walk(&operations[i], &states[j]);

			print_message("%-6s %-32s %u steps\n", operations[i].name, states[j].name,
				      steps);
			most = steps > most ? steps : most;
			visited += steps;
		}
		assert_true(most >= 1);
	}
	assert_true(visited >= 60);
}

/* Killed between clearing SLEEPERS and waking: only the noted unit tells of it. */
static void a_cleared_bit_is_noted(void **unused)
{
	unsigned steps = 0, noted = 0;

	for (unsigned n = 1;; n++) {
		bool killed;

		memset(arena, 0, LAYOUT_ARENA_BYTES);
		atomic_store(&counting->value, LAYOUT_SLEEPERS);
		killed = dies_at(n, op_post, &steps);
		if (!killed)
			break;
		if (!(atomic_load(&counting->value) & LAYOUT_SLEEPERS) &&
		    layout_arena_waits(arena, DEAD, COUNTING_UNIT)) {
			noted++;
			assert_true(would_wake(&counting->value, COUNTING_UNIT));
		}
	}
	assert_true(noted >= 1);
	assert_true(steps >= 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation_at_every_step),
		cmocka_unit_test(a_cleared_bit_is_noted),
	};

	arena = mmap(NULL, LAYOUT_ARENA_BYTES + sizeof(*told), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		return 1;
	counting = (void *)((char *)arena + COUNTING_UNIT * LAYOUT_ARENA_UNIT);
	owned = (void *)((char *)arena + OWNED_UNIT * LAYOUT_ARENA_UNIT);
	told = (void *)((char *)arena + LAYOUT_ARENA_BYTES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
