/* SPDX-License-Identifier: MIT */
/*
 * What waiting costs, and what not waiting does not cost: no system call where nobody is in the
 * way, no processor time while asleep, no early end because of a signal.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum { WRITER = SHMB_READ | SHMB_WRITE };

struct things {
	struct shmb_client *client;
	struct shmb_region *region;
	struct shmb_lock *lock;
	struct shmb_semaphore *counting, *owned;
};

static struct things make(struct broker *broker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct things things = { .client = connect_to(broker) };

	options.mode = 0777;
	things.region = create(things.client, "r", 4096, &options);
	things.lock = create_lock(things.client, "l", 0777, SHMB_ATTACHED);
	things.counting = create_semaphore(things.client, "c", SHMB_COUNTING, 0, 0, 0777);
	things.owned = create_semaphore(things.client, "o", SHMB_OWNED, 0, 2, 0777);
	return things;
}

static struct things open_all(struct broker *broker)
{
	struct things things = { .client = connect_to(broker) };

	things.region = open_region(things.client, "r", WRITER);
	things.lock = open_lock(things.client, "l");
	things.counting = open_semaphore(things.client, "c");
	things.owned = open_semaphore(things.client, "o");
	return things;
}

static void let_go(struct things *things)
{
	shmb_semaphore_free(things->owned);
	shmb_semaphore_free(things->counting);
	shmb_lock_free(things->lock);
	shmb_region_free(things->region);
	shmb_client_free(things->client);
}

/* ---- System calls ---- */

/* Every call must succeed; CHECK itself is harmless as long as it holds. */
static void use_everything(struct things *things)
{
	struct shmb_permit permit;
	char bytes[64] = "";
	int i;

	for (i = 0; i < 100; i++) {
		CHECK_OK(shmb_region_lock(things->region, SHMB_EXCLUSIVE, -1));
		CHECK_OK(shmb_region_downgrade(things->region));
		CHECK_OK(shmb_region_lock(things->region, SHMB_SHARED, -1));
		CHECK_OK(shmb_region_unlock(things->region));
		CHECK_OK(shmb_region_unlock(things->region));
		CHECK_OK(shmb_region_write(things->region, 0, bytes, 64, SHMB_LOCKED));
		CHECK_OK(shmb_region_read(things->region, 0, bytes, 64, SHMB_LOCKED));
		CHECK_OK(shmb_region_snapshot(things->region, 0, bytes, 64));
		CHECK_OK(shmb_lock_acquire(things->lock, SHMB_SHARED, 1000));
		CHECK_OK(shmb_lock_release(things->lock));
		CHECK_OK(shmb_lock_acquire(things->lock, SHMB_EXCLUSIVE, 0));
		CHECK_CODE(shmb_lock_acquire(things->lock, SHMB_EXCLUSIVE, 0), SHMB_EDEADLK);
		CHECK_OK(shmb_lock_release(things->lock));
		CHECK_OK(shmb_semaphore_post(things->counting, 3));
		CHECK_OK(shmb_semaphore_wait(things->counting, -1));
		CHECK_OK(shmb_semaphore_wait(things->counting, 1000));
		CHECK_OK(shmb_semaphore_wait(things->counting, 0));
		CHECK_CODE(shmb_semaphore_wait(things->counting, 0), SHMB_ETIMEDOUT);
		CHECK_OK(shmb_semaphore_take(things->owned, -1, &permit));
		CHECK_OK(shmb_semaphore_adopt(things->owned, &permit));
		CHECK_OK(shmb_semaphore_wait(things->owned, -1));
		CHECK_CODE(shmb_semaphore_take(things->owned, 0, &permit), SHMB_ETIMEDOUT);
		CHECK_OK(shmb_semaphore_post(things->owned, 2));
		CHECK_INT(shmb_semaphore_value(things->owned), 2);
	}
}

/* From here on the kernel kills whoever makes any call but read, write and exit. */
static void use_everything_without_the_kernel(struct broker *broker, void *argument)
{
	struct things things = open_all(broker);

	/* The first lock asks the broker, the first post finds out that nobody sleeps any more. */
	use_everything(&things);
	SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	use_everything(&things);
	syscall(SYS_exit, 0);
}

CASE(uncontended_operations_make_no_system_call, SYSTEM)
{
	struct things things;

#ifdef SHMB_TEST_SANITIZED
	SKIP("sanitizers make system calls of their own");
#endif
	things = make(broker);
	actor_run(broker, &ALICE, use_everything_without_the_kernel, NULL);
	let_go(&things);
}

static void sleep_once_on_each(struct broker *broker, void *argument)
{
	struct things things = open_all(broker);

	CHECK_OK(shmb_region_lock(things.region, SHMB_EXCLUSIVE, -1));
	CHECK_OK(shmb_region_unlock(things.region));
	CHECK_OK(shmb_semaphore_wait(things.counting, -1));
	CHECK_OK(shmb_semaphore_wait(things.owned, -1));
	CHECK_OK(shmb_semaphore_post(things.owned, 1));
	let_go(&things);
}

/* Nor do they after somebody has slept: what says so is taken back by who finds nobody asleep. */
CASE(who_has_slept_and_gone_costs_no_system_call_for_long, SYSTEM)
{
	struct things things;
	struct actor sleeper;

#ifdef SHMB_TEST_SANITIZED
	SKIP("sanitizers make system calls of their own");
#endif
	things = make(broker);
	CHECK_OK(shmb_region_lock(things.region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_semaphore_wait(things.owned, 0));
	CHECK_OK(shmb_semaphore_wait(things.owned, 0));
	sleeper = actor_start(broker, &BOB, sleep_once_on_each, NULL);
	UNTIL(broker, look_at_lock(things.client, "r").waiting_exclusive == 1);
	CHECK_OK(shmb_region_unlock(things.region));
	UNTIL(broker, look_at_semaphore(things.client, "c").waiting == 1);
	CHECK_OK(shmb_semaphore_post(things.counting, 1));
	UNTIL(broker, look_at_semaphore(things.client, "o").waiting == 1);
	CHECK_OK(shmb_semaphore_post(things.owned, 2));
	actor_end(&sleeper);
	actor_run(broker, &ALICE, use_everything_without_the_kernel, NULL);
	let_go(&things);
}

/* ---- Processor time ---- */

enum { SECOND_MS = 1000 };

static int wait_for(struct things *things, int which)
{
	struct shmb_permit permit;

	switch (which) {
	case 0:
		return shmb_region_lock(things->region, SHMB_EXCLUSIVE, SECOND_MS);
	case 1:
		return shmb_region_lock(things->region, SHMB_SHARED, SECOND_MS);
	case 2: /* claims, and waits for the reader */
		return shmb_lock_acquire(things->lock, SHMB_EXCLUSIVE, SECOND_MS);
	case 3:
		return shmb_semaphore_wait(things->counting, SECOND_MS);
	default:
		return shmb_semaphore_take(things->owned, SECOND_MS, &permit);
	}
}

static void wait_a_second(struct broker *broker, void *argument)
{
	struct things things = open_all(broker);
	struct timespec before, after;
	int64_t start = harness_now_ms();
	int64_t used_us;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	CHECK_CODE(wait_for(&things, *(int *)argument), SHMB_ETIMEDOUT);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	used_us =
		(after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
	CHECK(harness_now_ms() - start >= SECOND_MS);
	if (used_us >= 1000 * harness_slow())
		FAIL("waiter %d used %lld us in a second", *(int *)argument, (long long)used_us);
	let_go(&things);
}

CASE(who_waits_for_a_second_uses_less_than_a_millisecond, SYSTEM)
{
	struct things things = make(broker);
	static int which[5] = { 0, 1, 2, 3, 4 };
	struct actor waiters[5];
	int i;

	CHECK_OK(shmb_region_lock(things.region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_acquire(things.lock, SHMB_SHARED, 0));
	CHECK_OK(shmb_semaphore_wait(things.owned, 0));
	CHECK_OK(shmb_semaphore_wait(things.owned, 0));
	for (i = 0; i < 5; i++)
		waiters[i] = actor_start(broker, &ALICE, wait_a_second, &which[i]);
	for (i = 0; i < 5; i++)
		actor_end(&waiters[i]);
	let_go(&things);
}

/* ---- Signals ---- */

static void on_signal(int number)
{
	(void)number;
}

static void wait_through_signals(struct broker *broker, void *argument)
{
	struct sigaction action = { .sa_handler = on_signal }; /* no SA_RESTART */
	struct things things = open_all(broker);
	int64_t start = harness_now_ms();

	SYS(sigaction(SIGUSR1, &action, NULL));
	say(1);
	CHECK_CODE(shmb_region_lock(things.region, SHMB_EXCLUSIVE, 300), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_lock(things.region, SHMB_SHARED, 300), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_semaphore_wait(things.counting, 300), SHMB_ETIMEDOUT);
	CHECK(harness_now_ms() - start >= 900);
	say(1);
	CHECK_OK(shmb_semaphore_wait(things.counting, -1));
	let_go(&things);
}

CASE(signals_end_no_waiting, SYSTEM)
{
	struct things things = make(broker);
	struct actor waiter;
	int i;

	CHECK_OK(shmb_region_lock(things.region, SHMB_EXCLUSIVE, 0));
	waiter = actor_start(broker, &ALICE, wait_through_signals, NULL);
	actor_hear(&waiter);
	for (i = 0; i < 100; i++) {
		SYS(kill(waiter.pid, SIGUSR1));
		broker_turn(broker);
	}
	actor_hear(&waiter);
	UNTIL(broker, look_at_semaphore(things.client, "c").waiting == 1);
	for (i = 0; i < 100; i++)
		SYS(kill(waiter.pid, SIGUSR1));
	CHECK_INT(look_at_semaphore(things.client, "c").waiting, 1);
	CHECK_OK(shmb_semaphore_post(things.counting, 1));
	actor_end(&waiter);
	let_go(&things);
}
