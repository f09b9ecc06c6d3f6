/* SPDX-License-Identifier: MIT */
/*
 * The library's calls against a real daemon: a client process is killed at each step of a call in
 * turn, alone or with others waiting, and then the others go on soon and with the right answer.
 * Soon is told from the second after which every sleeper looks by itself.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "steps.h"

enum { SIZE = 4096, LONG_MS = 20000, SHORT_MS = 20 };

static int64_t soon_ms(void)
{
	return 900 * harness_slow();
}

/* Of the victim's making, in the region: not 0 between the end of locking and the beginning of
 * unlocking. */
static atomic_uint *inside_of(struct shmb_region *region)
{
	return shmb_region_data(region);
}

/* ---- What the victim does ---- */

struct part {
	struct shmb_region *region;
	struct shmb_semaphore *counting, *owned;
	struct shmb_permit permit;
};

struct scenario {
	const char *name;
	void (*prepare)(struct part *part); /* before it may die */
	void (*run)(struct part *part);
	enum { NOBODY, SHARED, EXCLUSIVE, COUNTING, OWNED } waiter; /* in the test, meanwhile */
	bool busy; /* the test holds the lock, or the only permit, meanwhile */
	unsigned least;
};

static void lock_it(struct part *part, enum shmb_lock_kind kind)
{
	CHECK_OK(shmb_region_lock(part->region, kind, LONG_MS));
	if (kind == SHMB_EXCLUSIVE)
		atomic_store(inside_of(part->region), 1);
}

static void unlock_it(struct part *part)
{
	atomic_store(inside_of(part->region), 0);
	CHECK_OK(shmb_region_unlock(part->region));
}

static void prepare_shared(struct part *part)
{
	lock_it(part, SHMB_SHARED);
}

static void prepare_exclusive(struct part *part)
{
	lock_it(part, SHMB_EXCLUSIVE);
}

static void prepare_permit(struct part *part)
{
	CHECK_OK(shmb_semaphore_take(part->owned, 0, &part->permit));
}

static void run_shared(struct part *part)
{
	CHECK_OK(shmb_region_lock(part->region, SHMB_SHARED, LONG_MS));
	CHECK_OK(shmb_region_unlock(part->region));
}

static void run_exclusive(struct part *part)
{
	lock_it(part, SHMB_EXCLUSIVE);
	unlock_it(part);
}

static void run_unlock_shared(struct part *part)
{
	CHECK_OK(shmb_region_unlock(part->region));
}

static void run_downgrade(struct part *part)
{
	atomic_store(inside_of(part->region), 0);
	CHECK_OK(shmb_region_downgrade(part->region));
	CHECK_OK(shmb_region_unlock(part->region));
}

static void run_shared_in_vain(struct part *part)
{
	CHECK_CODE(shmb_region_lock(part->region, SHMB_SHARED, SHORT_MS), SHMB_ETIMEDOUT);
}

static void run_exclusive_in_vain(struct part *part)
{
	CHECK_CODE(shmb_region_lock(part->region, SHMB_EXCLUSIVE, SHORT_MS), SHMB_ETIMEDOUT);
}

static void run_post(struct part *part)
{
	CHECK_OK(shmb_semaphore_post(part->counting, 1));
}

static void run_wait_in_vain(struct part *part)
{
	CHECK_CODE(shmb_semaphore_wait(part->counting, SHORT_MS), SHMB_ETIMEDOUT);
}

static void run_take_and_give(struct part *part)
{
	struct shmb_permit permit;

	CHECK_OK(shmb_semaphore_take(part->owned, 0, &permit));
	CHECK_OK(shmb_semaphore_give(part->owned, &permit));
}

static void run_give(struct part *part)
{
	CHECK_OK(shmb_semaphore_give(part->owned, &part->permit));
}

static void run_free(struct part *part)
{
	part->owned = shmb_semaphore_free(part->owned);
	shmb_region_free(part->region);
}

enum { SIGN_AT = 1000, SIGN = 0x5a };

static void run_grow(struct part *part)
{
	CHECK_OK(shmb_region_write_u8(part->region, SIGN_AT, SIGN));
	CHECK_OK(shmb_region_resize(part->region, shmb_region_capacity(part->region) + SIZE));
	CHECK_OK(shmb_region_write_u8(part->region, shmb_region_size(part->region) - 1, SIGN));
	unlock_it(part);
}

static const struct scenario scenarios[] = {
	{ "shared", NULL, run_shared, NOBODY, false, 2 },
	{ "exclusive", NULL, run_exclusive, NOBODY, false, 4 },
	{ "unlock shared, a writer drains", prepare_shared, run_unlock_shared, EXCLUSIVE, false,
	  2 },
	{ "unlock, a writer waits", prepare_exclusive, unlock_it, EXCLUSIVE, false, 2 },
	{ "unlock, a reader waits", prepare_exclusive, unlock_it, SHARED, false, 2 },
	{ "downgrade, a reader waits", prepare_exclusive, run_downgrade, SHARED, false, 4 },
	{ "downgrade, a writer waits", prepare_exclusive, run_downgrade, EXCLUSIVE, false, 4 },
	{ "shared, timed out", NULL, run_shared_in_vain, NOBODY, true, 3 },
	{ "exclusive, timed out", NULL, run_exclusive_in_vain, NOBODY, true, 3 },
	{ "post, nobody waits", NULL, run_post, NOBODY, false, 1 },
	{ "post, one waits", NULL, run_post, COUNTING, false, 2 },
	{ "wait, timed out", NULL, run_wait_in_vain, NOBODY, false, 3 },
	{ "take and give", NULL, run_take_and_give, NOBODY, false, 2 },
	{ "give, one waits", prepare_permit, run_give, OWNED, false, 3 },
	{ "grow", prepare_exclusive, run_grow, NOBODY, false, 5 },
	{ "grow, a reader waits", prepare_exclusive, run_grow, SHARED, false, 5 },
	{ "free, one waits for the permit", prepare_permit, run_free, OWNED, false, 0 },
};

struct orders {
	const struct scenario *scenario;
	unsigned step;
};

static void be_the_victim(struct broker *broker, void *argument)
{
	const struct orders *orders = argument;
	struct shmb_client *client = connect_to(broker);
	struct part part = { .region = open_region(client, "r", SHMB_READ | SHMB_WRITE),
			     .counting = open_semaphore(client, "counting"),
			     .owned = open_semaphore(client, "owned") };

	/* It asks for its slot now, and not among the steps. */
	if (shmb_region_lock(part.region, SHMB_EXCLUSIVE, 0) == 0)
		shmb_region_unlock(part.region);
	if (orders->scenario->prepare)
		orders->scenario->prepare(&part);
	say(1);
	hear();
	steps_arm(orders->step);
	orders->scenario->run(&part);
	say(100 + steps_disarm());
	_exit(0);
}

/* ---- The others ---- */

struct others {
	struct shmb_client *client;
	struct shmb_region *region;
	struct shmb_semaphore *counting, *owned;
	const struct scenario *scenario;
	int result;
	_Atomic int64_t done_ms;
};

static void *wait_for_it(void *argument)
{
	struct others *others = argument;

	switch (others->scenario->waiter) {
	case SHARED:
		others->result = shmb_region_lock(others->region, SHMB_SHARED, LONG_MS);
		break;
	case EXCLUSIVE:
		others->result = shmb_region_lock(others->region, SHMB_EXCLUSIVE, LONG_MS);
		break;
	case COUNTING:
		others->result = shmb_semaphore_wait(others->counting, LONG_MS);
		break;
	default:
		others->result = shmb_semaphore_wait(others->owned, LONG_MS);
		break;
	}
	atomic_store(&others->done_ms, harness_now_ms());
	/* A lock belongs to the thread that took it. */
	if (others->scenario->waiter == SHARED || others->scenario->waiter == EXCLUSIVE) {
		if (others->result == SHMB_EOWNERDEAD && others->scenario->waiter == EXCLUSIVE)
			shmb_region_mark_consistent(others->region);
		if (others->result == 0 || others->scenario->waiter == EXCLUSIVE)
			shmb_region_unlock(others->region);
	}
	return NULL;
}

static bool somebody_waits(struct others *others)
{
	struct shmb_lock_info info = look_at_lock(others->client, "r");

	if (others->scenario->waiter == COUNTING)
		return look_at_semaphore(others->client, "counting").waiting > 0;
	if (others->scenario->waiter == OWNED)
		return look_at_semaphore(others->client, "owned").waiting > 0;
	return info.waiting_shared + info.waiting_exclusive > 0;
}

/* Who died inside must be told of; who was not yet held, or not any more, may not be. */
static void settle(struct others *others, bool inside)
{
	int64_t begin = harness_now_ms();
	int result = shmb_region_lock(others->region, SHMB_EXCLUSIVE, LONG_MS);

	CHECK(harness_now_ms() - begin < soon_ms());
	CHECK(result == 0 || result == SHMB_EOWNERDEAD);
	if (inside)
		CHECK_CODE(result, SHMB_EOWNERDEAD);
	if (result == SHMB_EOWNERDEAD)
		CHECK_OK(shmb_region_mark_consistent(others->region));
	atomic_store(inside_of(others->region), 0);
	CHECK_OK(shmb_region_unlock(others->region));
	CHECK_OK(shmb_region_lock(others->region, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(others->region));
}

/* It is the old segment or the new one, with all that was written under the lock, and can grow. */
static void expect_grown(struct others *others)
{
	uint64_t size = shmb_region_size(others->region);
	uint8_t byte = 0;

	CHECK_INT(size, shmb_region_capacity(others->region));
	CHECK_INT(size % SIZE, 0);
	CHECK_OK(shmb_region_read_u8(others->region, SIGN_AT, &byte));
	CHECK_INT(byte, SIGN);
	CHECK_OK(shmb_region_write_u8(others->region, size - 1, 0));
	CHECK_CODE(shmb_region_write_u8(others->region, size, 0), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_lock(others->region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_resize(others->region, size + SIZE));
	CHECK_OK(shmb_region_write_u8(others->region, size + SIZE - 1, 0));
	CHECK_OK(shmb_region_unlock(others->region));
}

/* Nothing of the dead is left. */
static void expect_clean(struct broker *broker, struct others *others)
{
	struct shmb_lock_info lock;
	struct shmb_semaphore_info semaphore;

	UNTIL(broker, look_at_lock(others->client, "r").slots_used == 1);
	lock = look_at_lock(others->client, "r");
	CHECK_INT(lock.held + lock.pending + lock.owner_died + lock.not_recoverable, 0);
	CHECK_INT(lock.readers, 0);
	CHECK_INT(lock.waiting_shared + lock.waiting_exclusive, 0);
	semaphore = look_at_semaphore(others->client, "owned");
	CHECK_INT(semaphore.value, 1);
	CHECK_INT(semaphore.waiting, 0);
	CHECK_INT(look_at_semaphore(others->client, "counting").waiting, 0);
}

/* The count is what was posted, all or nothing, less what was taken. */
static void drain_count(struct others *others, unsigned least, unsigned most)
{
	unsigned n = 0;

	while (shmb_semaphore_wait(others->counting, 0) == 0)
		n++;
	CHECK(n >= least && n <= most);
}

/* Return: true: killed; false: the call had fewer steps. */
static bool victim_ends(struct actor *actor, unsigned *ret_steps)
{
	siginfo_t info = { 0 };

	SYS(waitid(P_PID, (id_t)actor->pid, &info, WEXITED | WNOWAIT));
	if (info.si_code == CLD_KILLED) {
		CHECK_INT(info.si_status, SIGKILL);
		actor_kill(actor);
		return true;
	}
	*ret_steps = (unsigned)actor_hear(actor) - 100;
	actor_end(actor);
	return false;
}

static bool play(struct broker *broker, struct others *others, unsigned step, unsigned *ret_steps)
{
	const struct scenario *scenario = others->scenario;
	struct orders orders = { scenario, step };
	struct actor victim = actor_start(broker, &SELF, be_the_victim, &orders);
	bool killed, counting = scenario->waiter == COUNTING, inside;
	pthread_t waiter;
	int64_t begin;

	actor_hear(&victim);
	if (scenario->busy)
		CHECK_OK(shmb_region_lock(others->region, SHMB_EXCLUSIVE, 0));
	if (scenario->waiter != NOBODY) {
		CHECK_INT(pthread_create(&waiter, NULL, wait_for_it, others), 0);
		UNTIL(broker, somebody_waits(others));
	}
	actor_say(&victim, 1);
	killed = victim_ends(&victim, ret_steps);
	begin = harness_now_ms();
	inside = killed && atomic_load(inside_of(others->region)) != 0;
	/* It may have died before it had posted. */
	if (counting)
		CHECK_OK(shmb_semaphore_post(others->counting, 1));
	if (scenario->waiter != NOBODY) {
		CHECK_INT(pthread_join(waiter, NULL), 0);
		CHECK(atomic_load(&others->done_ms) - begin < soon_ms());
		CHECK(others->result == 0 || others->result == SHMB_EOWNERDEAD);
		if (inside)
			CHECK_CODE(others->result, SHMB_EOWNERDEAD);
		inside = inside && scenario->waiter == SHARED;
	}
	if (scenario->waiter == OWNED)
		CHECK_OK(shmb_semaphore_post(others->owned, 1));
	if (scenario->busy)
		CHECK_OK(shmb_region_unlock(others->region));
	settle(others, inside);
	if (scenario->run == run_grow)
		expect_grown(others);
	expect_clean(broker, others);
	if (scenario->run == run_post)
		drain_count(others, killed ? 0 : 1, 1);
	else
		drain_count(others, 0, 0);
	return killed;
}

CASE(every_call_at_every_step, .timeout_s = 100)
{
	struct others others = { .client = connect_to(broker) };

	others.region = create(others.client, "r", SIZE, NULL);
	CHECK_OK(shmb_region_write_u8(others.region, SIGN_AT, SIGN));
	others.counting = create_semaphore(others.client, "counting", SHMB_COUNTING, 0, 9, 0700);
	others.owned = create_semaphore(others.client, "owned", SHMB_OWNED, 0, 1, 0700);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		unsigned steps = 0, step = 1;

		others.scenario = &scenarios[i];
		while (play(broker, &others, step, &steps))
			step++;
		print_message("%-34s %u steps\n", scenarios[i].name, steps);
		CHECK(steps >= scenarios[i].least);
		/* More, if the last time somebody was about to wait who slept before. */
		CHECK(step > steps);
	}
	shmb_semaphore_free(others.owned);
	shmb_semaphore_free(others.counting);
	shmb_region_free(others.region);
	shmb_client_free(others.client);
}
