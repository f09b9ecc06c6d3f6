/* SPDX-License-Identifier: MIT */
/*
 * The lock's steps: an operation in a child is killed at each of its steps in turn, in each state
 * that the lock can be in, and repaired as the broker does; the repair, too, is killed at each of
 * its steps and done again. Then nothing of the dead is left, nothing of the others is touched, and
 * what the word tells of the past is exact.
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

#include "layout/lock.h"
#include "steps.h"

enum { SLOTS = 4, DEAD = 1, OTHER = 2, THIRD = 3, PAST = LAYOUT_LOCK_DIED | LAYOUT_LOCK_LOST };

enum { WORLD_BYTES = 128 + SLOTS * 64 + 64 };

/* Shared with the child: the lock, and in the last bytes what the child says of itself. */
static void *world;
static struct layout_lock *lock;
static volatile int *inside; /* between the end of locking and the beginning of unlocking */

struct copy {
	_Alignas(64) unsigned char bytes[WORLD_BYTES];
};

static struct layout_locker locker(uint32_t slot)
{
	return (struct layout_locker){ lock, &lock->slots[slot - 1], slot, SLOTS };
}

/* ---- Operations, as the client puts them together ---- */

static bool take(const struct layout_locker *self, bool *ret_died)
{
	enum layout_lock_result result = LAYOUT_LOCK_GOT;
	uint32_t readers;

	*ret_died = false;
	if (!layout_lock_claim_fast(self)) {
		result = layout_lock_claim(self);
		*ret_died = result == LAYOUT_LOCK_GOT_DIED;
	}
	if (result != LAYOUT_LOCK_GOT && result != LAYOUT_LOCK_GOT_DIED) {
		uint32_t expected;

		/* Timed out while it sleeps. */
		layout_lock_ask(self);
		if (layout_lock_elsewhere(self))
			layout_lock_pass_over(self, layout_lock_elsewhere(self));
		layout_lock_announce(self->lock, &expected);
		layout_lock_served(self);
		return false;
	}
	if (layout_lock_first_reader(self, &readers)) {
		layout_lock_announce_drain(self);
		if (layout_lock_first_reader(self, &readers)) {
			layout_lock_unclaim(self);
			return false;
		}
	}
	layout_lock_hold(self);
	*inside = 1;
	return true;
}

static void op_shared(const struct layout_locker *self)
{
	bool wake;
	uint32_t expected;

	layout_lock_publish_slot(self);
	if (layout_lock_enter(self, &wake))
		layout_lock_leave(self);
	else if (layout_lock_look(self->lock) == LAYOUT_LOCK_BUSY)
		layout_lock_announce(self->lock, &expected);
}

/* The first thread of a handle, with a count of its own. */
static void op_solo(const struct layout_locker *self)
{
	_Atomic uint32_t count = atomic_load(&self->own->solo);
	bool wake;
	uint32_t expected;

	layout_lock_publish_slot(self);
	if (layout_lock_enter_solo(self, &count, &wake))
		layout_lock_leave_solo(self, &count);
	else if (layout_lock_look(self->lock) == LAYOUT_LOCK_BUSY)
		layout_lock_announce(self->lock, &expected);
}

static void op_exclusive(const struct layout_locker *self)
{
	bool died;

	layout_lock_publish_slot(self);
	if (!take(self, &died))
		return;
	if (died)
		layout_lock_forgive(self);
	*inside = 0;
	layout_lock_release(self, 0);
}

static void op_give_up(const struct layout_locker *self)
{
	bool died;

	layout_lock_publish_slot(self);
	if (!take(self, &died))
		return;
	*inside = 0;
	layout_lock_release(self, died ? LAYOUT_LOCK_LOST : 0);
}

static void op_leave_as_it_is(const struct layout_locker *self)
{
	bool died;

	layout_lock_publish_slot(self);
	if (!take(self, &died))
		return;
	*inside = 0;
	layout_lock_release(self, died ? LAYOUT_LOCK_DIED : 0);
}

static void op_downgrade(const struct layout_locker *self)
{
	bool died;

	layout_lock_publish_slot(self);
	if (!take(self, &died))
		return;
	if (died)
		layout_lock_forgive(self);
	*inside = 0;
	layout_lock_downgrade(self);
	layout_lock_leave(self);
}

static void op_reset(const struct layout_locker *self)
{
	layout_lock_publish_slot(self);
	layout_lock_reset(self->lock);
}

static const struct operation {
	const char *name;
	void (*run)(const struct layout_locker *self);
	unsigned least_steps; /* in a free lock, so that the walk is one */
} operations[] = {
	{ "shared", op_shared, 3 },
	{ "shared, solo", op_solo, 3 },
	{ "exclusive", op_exclusive, 4 },
	{ "given back as lost", op_give_up, 4 },
	{ "given back as it was", op_leave_as_it_is, 4 },
	{ "downgrade", op_downgrade, 6 },
	{ "reset", op_reset, 2 },
};

/* ---- States ---- */

static void publish(uint32_t slot)
{
	struct layout_locker other = locker(slot);

	layout_lock_publish_slot(&other);
}

static void state_free(void)
{
}

static void state_reader(void)
{
	struct layout_locker other = locker(OTHER);
	bool wake;

	assert_true(layout_lock_enter(&other, &wake));
}

/* Another thread of the dead process has it shared; it dies, too. */
static void state_own_reader(void)
{
	struct layout_locker own = locker(DEAD);
	bool wake;

	publish(DEAD);
	assert_true(layout_lock_enter(&own, &wake));
}

static void state_own_solo_reader(void)
{
	struct layout_locker own = locker(DEAD);
	_Atomic uint32_t count = 0;
	bool wake;

	publish(DEAD);
	assert_true(layout_lock_enter_solo(&own, &count, &wake));
}

static void state_claimed(void)
{
	struct layout_locker other = locker(OTHER);

	assert_int_equal(layout_lock_claim(&other), LAYOUT_LOCK_GOT);
}

static void state_held(void)
{
	struct layout_locker other = locker(OTHER);

	state_claimed();
	layout_lock_hold(&other);
}

static void state_held_with_sleepers(void)
{
	struct layout_locker third = locker(THIRD);
	uint32_t expected;

	state_held();
	layout_lock_ask(&third);
	assert_true(layout_lock_announce(lock, &expected));
}

static void state_turn_of_another(void)
{
	struct layout_locker third = locker(THIRD);

	layout_lock_ask(&third);
}

static void state_died(void)
{
	atomic_store(&lock->word, LAYOUT_LOCK_DIED);
}

static void state_died_with_claim(void)
{
	struct layout_locker other = locker(OTHER);

	state_died();
	assert_int_equal(layout_lock_claim(&other), LAYOUT_LOCK_GOT_DIED);
}

static void state_lost(void)
{
	atomic_store(&lock->word, LAYOUT_LOCK_LOST);
}

static const struct state {
	const char *name;
	void (*prepare)(void);
} states[] = {
	{ "free", state_free },
	{ "read by another", state_reader },
	{ "read by another thread of the dead", state_own_reader },
	{ "read by the dead, solo", state_own_solo_reader },
	{ "claimed by another", state_claimed },
	{ "held by another", state_held },
	{ "held by another, a third sleeps", state_held_with_sleepers },
	{ "the turn of a third", state_turn_of_another },
	{ "owner died", state_died },
	{ "owner died, claimed by another", state_died_with_claim },
	{ "lost", state_lost },
};

static uint32_t past_of(const struct copy *copy)
{
	const struct layout_lock *then = (const struct layout_lock *)(const void *)copy->bytes;

	return atomic_load(&then->word) & PAST;
}

/* ---- Dying ---- */

/* Return: true: killed at step @n; false: it had fewer. */
static bool dies_at(unsigned n, void (*run)(const struct layout_locker *), uint32_t slot,
		    unsigned *ret_steps)
{
	struct layout_locker self = locker(slot);
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		steps_arm(n);
		run(&self);
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

/* The repair, killed at each of its steps, and done again, comes to the same as one that is not. */
static void repair_everywhere(void)
{
	static struct copy before, after;
	struct layout_locker dead = locker(DEAD);
	unsigned steps = 0, n = 1;

	memcpy(&before, world, sizeof(before));
	layout_lock_repair(&dead);
	memcpy(&after, world, sizeof(after));
	for (;; n++) {
		memcpy(world, &before, sizeof(before));
		if (!dies_at(n, layout_lock_repair, DEAD, &steps))
			break;
		layout_lock_repair(&dead);
		assert_memory_equal(world, &after, sizeof(after));
	}
	assert_true(steps >= 6);
	assert_memory_equal(world, &after, sizeof(after));
}

static void expect_nothing_left(uint32_t slot)
{
	const struct layout_lock_slot *own = &lock->slots[slot - 1];

	assert_int_equal(atomic_load(&own->readers), 0);
	assert_int_equal(atomic_load(&own->solo), 0);
	assert_int_equal(atomic_load(&own->held), 0);
	assert_int_equal(atomic_load(&own->waiting_shared), 0);
	assert_int_equal(atomic_load(&own->waiting_exclusive), 0);
	assert_int_equal(atomic_load(&own->ticket), 0);
	assert_int_not_equal(atomic_load(&lock->word) & LAYOUT_LOCK_SLOT, slot);
	assert_int_not_equal(atomic_load(&lock->next), slot);
}

/* What the other has is as it was, and it can give it back. */
static void others_finish(const struct copy *start)
{
	struct layout_locker other = locker(OTHER);
	const struct layout_lock *then = (const struct layout_lock *)(const void *)start->bytes;

	assert_memory_equal(&lock->slots[OTHER - 1], &then->slots[OTHER - 1],
			    sizeof(struct layout_lock_slot));
	assert_int_equal(atomic_load(&lock->word) & LAYOUT_LOCK_SLOT,
			 atomic_load(&then->word) & LAYOUT_LOCK_SLOT);
	if (atomic_load(&other.own->readers))
		layout_lock_leave(&other);
	if ((atomic_load(&other.lock->word) & LAYOUT_LOCK_SLOT) == OTHER)
		layout_lock_release(&other, atomic_load(&other.lock->word) & PAST);
}

/* A third comes, and gets at once what it should get. */
static void third_gets(uint32_t past)
{
	struct layout_locker third = locker(THIRD);
	bool wake, entered = layout_lock_enter(&third, &wake);
	enum layout_lock_result result, expected = LAYOUT_LOCK_GOT;
	uint32_t readers;

	assert_int_equal(entered, past == 0);
	if (entered)
		layout_lock_leave(&third);
	if (past & LAYOUT_LOCK_LOST)
		expected = LAYOUT_LOCK_UNUSABLE;
	else if (past & LAYOUT_LOCK_DIED)
		expected = LAYOUT_LOCK_GOT_DIED;
	result = layout_lock_claim(&third);
	assert_int_equal(result, expected);
	if (result == LAYOUT_LOCK_UNUSABLE)
		return;
	assert_null(layout_lock_first_reader(&third, &readers));
	layout_lock_hold(&third);
	layout_lock_forgive(&third);
	layout_lock_release(&third, 0);
	assert_int_equal(atomic_load(&lock->word), 0);
}

/* The past that is to be told, from what the dead had come to. */
static uint32_t past_after_death(void)
{
	uint32_t word = atomic_load(&lock->word);
	bool held = (word & LAYOUT_LOCK_SLOT) == DEAD && atomic_load(&lock->slots[0].held);

	if (*inside)
		assert_true(held);
	return held ? LAYOUT_LOCK_DIED : word & PAST;
}

static unsigned walk(const struct operation *operation, const struct state *state)
{
	unsigned steps = 0;

	for (unsigned n = 1;; n++) {
		static struct copy start;
		uint32_t past;
		bool killed;

		memset(world, 0, WORLD_BYTES);
		publish(OTHER);
		publish(THIRD);
		state->prepare();
		memcpy(&start, world, sizeof(start));
		killed = dies_at(n, operation->run, DEAD, &steps);
		past = past_after_death();
		/* Only who held it may leave a trace of its death. */
		if (killed && !*inside && !past_of(&start) && !atomic_load(&lock->slots[0].held))
			assert_int_equal(past, 0);
		repair_everywhere();
		expect_nothing_left(DEAD);
		*inside = 0;
		assert_int_equal(atomic_load(&lock->word) & PAST, past);
		others_finish(&start);
		third_gets(past);
		if (!killed)
			return steps;
	}
}

static void every_operation_at_every_step(void **unused)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		for (size_t j = 0; j < sizeof(states) / sizeof(states[0]); j++) {
			unsigned steps = walk(&operations[i], &states[j]);

			print_message("%-22s %-36s %u steps\n", operations[i].name, states[j].name,
				      steps);
			assert_true(steps >= 1);
			if (j == 0)
				assert_true(steps >= operations[i].least_steps);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation_at_every_step),
	};

	_Static_assert(sizeof(struct layout_lock) + SLOTS * sizeof(struct layout_lock_slot) <
			       WORLD_BYTES,
		       "room for the child's word");
	world = mmap(NULL, WORLD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (world == MAP_FAILED)
		return 1;
	lock = world;
	inside = (volatile int *)(void *)((char *)world + layout_lock_bytes(SLOTS));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
