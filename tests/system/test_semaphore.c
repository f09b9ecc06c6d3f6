/* SPDX-License-Identifier: MIT */
/*
 * What semaphores do: counting, permits that come back when their holder dies, and what many of
 * them cost.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

static struct shmb_semaphore *counting(struct shmb_client *client, const char *name,
				       uint32_t initial, uint32_t maximum)
{
	return create_semaphore(client, name, SHMB_COUNTING, initial, maximum, 0777);
}

static struct shmb_semaphore *owned(struct shmb_client *client, const char *name, uint32_t permits)
{
	return create_semaphore(client, name, SHMB_OWNED, 0, permits, 0777);
}

/* ---- Counting ---- */

CASE(F37_a_counting_semaphore_counts, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_semaphore *a = counting(client, "s", 2, 5), *b = open_semaphore(other, "s");
	struct shmb_permit permit = { 0, 0 };
	int64_t start;

	CHECK_INT(shmb_semaphore_value(b), 2);
	CHECK_OK(shmb_semaphore_wait(b, 0));
	CHECK_OK(shmb_semaphore_wait(b, -1));
	CHECK_CODE(shmb_semaphore_wait(b, 0), SHMB_ETIMEDOUT);
	start = harness_now_ms();
	CHECK_CODE(shmb_semaphore_wait(a, 50), SHMB_ETIMEDOUT);
	CHECK(harness_now_ms() - start >= 50);
	CHECK_CODE(shmb_semaphore_post(a, 0), SHMB_EINVAL);
	CHECK_OK(shmb_semaphore_post(a, 3));
	CHECK_CODE(shmb_semaphore_post(a, 3), SHMB_EOVERFLOW); /* all or nothing */
	CHECK_INT(shmb_semaphore_value(b), 3);
	CHECK_OK(shmb_semaphore_post(b, 2));
	CHECK_CODE(shmb_semaphore_post(a, 1), SHMB_EOVERFLOW);
	CHECK_CODE(shmb_semaphore_post(a, UINT32_MAX), SHMB_EOVERFLOW);
	CHECK_INT(look_at_semaphore(client, "s").value, 5);
	CHECK_INT(look_at_semaphore(client, "s").maximum, 5);
	CHECK_INT(look_at_semaphore(client, "s").kind, SHMB_COUNTING);
	CHECK_CODE(shmb_semaphore_take(a, 0, &permit), SHMB_EKIND);
	CHECK_CODE(shmb_semaphore_give(a, &permit), SHMB_EKIND);
	CHECK_CODE(shmb_semaphore_adopt(a, &permit), SHMB_EKIND);
	CHECK_INT(shmb_semaphore_value(a), 5);
	shmb_semaphore_free(b);
	CHECK_INT(shmb_semaphore_value(a), 5); /* it has no owner: nothing comes back */
	shmb_semaphore_free(a);
	shmb_client_free(other);
	shmb_client_free(client);
}

CASE(the_largest_count_is_2147483647, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = counting(client, "s", 0x7fffffff, 0);

	CHECK_INT(shmb_semaphore_value(semaphore), 0x7fffffff);
	CHECK_CODE(shmb_semaphore_post(semaphore, 1), SHMB_EOVERFLOW);
	CHECK_OK(shmb_semaphore_wait(semaphore, 0));
	CHECK_CODE(shmb_semaphore_post(semaphore, 2), SHMB_EOVERFLOW);
	CHECK_OK(shmb_semaphore_post(semaphore, 1));
	CHECK_INT(look_at_semaphore(client, "s").value, 0x7fffffff);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

static void wait_once(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = open_semaphore(client, "s");

	CHECK_OK(shmb_semaphore_wait(semaphore, -1));
	say(1);
	hear();
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

CASE(F37_n_posted_at_once_wake_n_who_sleep, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = counting(client, "s", 0, 0);
	struct actor waiters[5];
	int64_t start;
	size_t i;

	for (i = 0; i < 5; i++)
		waiters[i] = actor_start(broker, i % 2 ? &ALICE : &BOB, wait_once, NULL);
	UNTIL(broker, look_at_semaphore(client, "s").waiting == 5);
	start = harness_now_ms();
	CHECK_OK(shmb_semaphore_post(semaphore, 5));
	for (i = 0; i < 5; i++)
		actor_hear(&waiters[i]);
	CHECK(harness_now_ms() - start < 500 * harness_slow());
	CHECK_INT(shmb_semaphore_value(semaphore), 0);
	CHECK_INT(look_at_semaphore(client, "s").waiting, 0);
	for (i = 0; i < 5; i++) {
		actor_say(&waiters[i], 1);
		actor_end(&waiters[i]);
	}
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

CASE(a_waiter_that_dies_takes_no_wake_up_with_it, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = counting(client, "s", 0, 0);
	struct actor dead, waiter;

	dead = actor_start(broker, &ALICE, wait_once, NULL);
	UNTIL(broker, look_at_semaphore(client, "s").waiting == 1);
	waiter = actor_start(broker, &BOB, wait_once, NULL);
	UNTIL(broker, look_at_semaphore(client, "s").waiting == 2);
	actor_kill(&dead);
	UNTIL(broker, look_at_semaphore(client, "s").waiting == 1);
	CHECK_OK(shmb_semaphore_post(semaphore, 1));
	actor_hear(&waiter);
	actor_say(&waiter, 1);
	actor_end(&waiter);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

enum { PASSES = 20000 };

static void produce(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *room = open_semaphore(client, "room");
	struct shmb_semaphore *items = open_semaphore(client, "items");
	int i;

	for (i = 0; i < PASSES; i++) {
		CHECK_OK(shmb_semaphore_wait(room, -1));
		CHECK_OK(shmb_semaphore_post(items, 1));
	}
	shmb_semaphore_free(room);
	shmb_semaphore_free(items);
	shmb_client_free(client);
}

static void consume(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *room = open_semaphore(client, "room");
	struct shmb_semaphore *items = open_semaphore(client, "items");
	int i;

	for (i = 0; i < PASSES; i++) {
		CHECK_OK(shmb_semaphore_wait(items, -1));
		CHECK_OK(shmb_semaphore_post(room, 1));
	}
	shmb_semaphore_free(room);
	shmb_semaphore_free(items);
	shmb_client_free(client);
}

CASE(F37_a_bounded_buffer_loses_and_doubles_nothing, SYSTEM, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *room = counting(client, "room", 3, 3);
	struct shmb_semaphore *items = counting(client, "items", 0, 3);
	struct actor actors[4];
	size_t i;

	for (i = 0; i < 4; i++)
		actors[i] = actor_start(broker, &ALICE, i % 2 ? produce : consume, NULL);
	for (i = 0; i < 4; i++)
		actor_end(&actors[i]);
	CHECK_INT(shmb_semaphore_value(room), 3);
	CHECK_INT(shmb_semaphore_value(items), 0);
	shmb_semaphore_free(room);
	shmb_semaphore_free(items);
	shmb_client_free(client);
}

/* ---- Owned ---- */

enum { PERMITS = 6 };

CASE(F37_an_owned_semaphore_knows_its_permits, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_semaphore *a = owned(client, "s", 3), *b = open_semaphore(other, "s");
	struct shmb_semaphore *again = open_semaphore(client, "s");
	struct shmb_permit p, q, r, wrong;

	CHECK_INT(shmb_semaphore_value(a), 3);
	CHECK_OK(shmb_semaphore_take(a, 0, &p));
	CHECK_OK(shmb_semaphore_take(b, 0, &q));
	CHECK_OK(shmb_semaphore_take(b, -1, &r));
	CHECK(p.index != q.index && q.index != r.index && p.index != r.index);
	CHECK(p.index < 3 && q.index < 3 && r.index < 3);
	CHECK_CODE(shmb_semaphore_take(a, 0, &wrong), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_semaphore_wait(a, 20), SHMB_ETIMEDOUT);
	CHECK_INT(shmb_semaphore_value(a), 0);
	CHECK_INT(look_at_semaphore(client, "s").value, 0);
	CHECK_INT(look_at_semaphore(client, "s").maximum, 3);

	/* Nobody gives what is not his. */
	CHECK_CODE(shmb_semaphore_give(a, &q), SHMB_EINVAL);
	CHECK_CODE(shmb_semaphore_post(a, 2), SHMB_EOVERFLOW);
	CHECK_INT(shmb_semaphore_value(a), 0);
	wrong = p;
	wrong.serial++;
	CHECK_CODE(shmb_semaphore_give(a, &wrong), SHMB_EINVAL);
	wrong.index = 3;
	CHECK_CODE(shmb_semaphore_give(a, &wrong), SHMB_EINVAL);
	wrong.index = UINT32_MAX;
	CHECK_CODE(shmb_semaphore_give(a, &wrong), SHMB_EINVAL);
	CHECK_CODE(shmb_semaphore_adopt(a, &wrong), SHMB_EINVAL);
	CHECK_OK(shmb_semaphore_give(again, &p)); /* handles of one client are one holder */
	CHECK_CODE(shmb_semaphore_give(a, &p), SHMB_EINVAL);
	CHECK_OK(shmb_semaphore_take(a, 0, &wrong));
	CHECK_INT(wrong.index, p.index);
	CHECK(wrong.serial != p.serial);
	CHECK_CODE(shmb_semaphore_give(a, &p), SHMB_EINVAL); /* another taking */
	CHECK_OK(shmb_semaphore_post(a, 1));
	CHECK_OK(shmb_semaphore_post(b, 2));
	CHECK_INT(shmb_semaphore_value(a), 3);
	shmb_semaphore_free(again);
	shmb_semaphore_free(a);
	shmb_semaphore_free(b);
	shmb_client_free(other);
	shmb_client_free(client);
}

/* Takes as many as it is told, then answers, until it is told 0. */
static void take_some(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = open_semaphore(client, "s");
	struct shmb_permit permit;
	uint64_t n, i;

	while ((n = hear())) {
		for (i = 0; i < n; i++)
			CHECK_OK(shmb_semaphore_take(semaphore, -1, &permit));
		say((uint64_t)permit.serial << 32 | permit.index);
	}
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

CASE(F37_permits_of_a_killed_client_come_back_exactly, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = owned(client, "s", PERMITS);
	struct actor alice = actor_start(broker, &ALICE, take_some, NULL);
	struct actor bob = actor_start(broker, &BOB, take_some, NULL), carol;
	struct holders holders;
	struct shmb_permit mine;
	int64_t start;

	CHECK_OK(shmb_semaphore_take(semaphore, 0, &mine));
	actor_say(&alice, 3);
	actor_hear(&alice);
	actor_say(&bob, 2);
	actor_hear(&bob);
	holders = look_at_holders(client, "s");
	CHECK_INT(holders.n, 3);
	CHECK_INT(find_holder(&holders, alice.pid)->permits, 3);
	CHECK_INT(find_holder(&holders, alice.pid)->process.uid, ALICE.uid);
	CHECK_INT(find_holder(&holders, bob.pid)->permits, 2);
	CHECK_INT(find_holder(&holders, getpid())->permits, 1);
	carol = actor_start(broker, &CAROL, take_some, NULL);
	actor_say(&carol, 1);
	UNTIL(broker, look_at_semaphore(client, "s").waiting == 1);
	CHECK_INT(shmb_semaphore_value(semaphore), 0);
	start = harness_now_ms();
	actor_kill(&alice);
	actor_hear(&carol);
	CHECK(harness_now_ms() - start < 500 * harness_slow());
	UNTIL(broker, shmb_semaphore_value(semaphore) == 2);
	actor_kill(&carol);
	UNTIL(broker, shmb_semaphore_value(semaphore) == 3);
	actor_say(&bob, 0); /* frees its last handle */
	actor_end(&bob);
	UNTIL(broker, shmb_semaphore_value(semaphore) == 5);
	CHECK_OK(shmb_semaphore_give(semaphore, &mine));
	CHECK_INT(shmb_semaphore_value(semaphore), PERMITS);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

CASE(F37_permits_come_back_with_the_last_handle_of_a_client, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_semaphore *watcher = owned(other, "s", 4);
	struct shmb_semaphore *a = open_semaphore(client, "s"), *b = open_semaphore(client, "s");
	struct shmb_permit permit;

	CHECK_OK(shmb_semaphore_take(a, 0, &permit));
	CHECK_OK(shmb_semaphore_wait(a, 0));
	shmb_semaphore_free(a);
	CHECK_OK(shmb_client_ping(client));
	CHECK_INT(shmb_semaphore_value(watcher), 2); /* they belong to the client */
	CHECK_OK(shmb_semaphore_give(b, &permit));
	CHECK_INT(shmb_semaphore_value(watcher), 3);
	shmb_semaphore_free(b);
	UNTIL(broker, shmb_semaphore_value(watcher) == 4);
	CHECK_OK(shmb_client_ping(client));
	shmb_semaphore_free(watcher);
	shmb_client_free(client);
	shmb_client_free(other);
}

CASE(F37_an_adopted_permit_has_one_holder_at_every_moment, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = owned(client, "s", 2);
	struct actor alice = actor_start(broker, &ALICE, take_some, NULL);
	struct shmb_permit permit;
	uint64_t word;

	actor_say(&alice, 1);
	word = actor_hear(&alice);
	permit = (struct shmb_permit){ (uint32_t)word, (uint32_t)(word >> 32) };
	CHECK_OK(shmb_semaphore_adopt(semaphore, &permit));
	CHECK_OK(shmb_semaphore_adopt(semaphore, &permit)); /* from itself */
	actor_kill(&alice); /* it no longer holds it: nothing comes back */
	UNTIL(broker, broker_stat(broker, "attachments") == 1);
	CHECK_INT(shmb_semaphore_value(semaphore), 1);
	CHECK_OK(shmb_semaphore_give(semaphore, &permit));
	CHECK_INT(shmb_semaphore_value(semaphore), 2);

	/* From the dead, one can adopt only what the broker has not taken back. */
	alice = actor_start(broker, &ALICE, take_some, NULL);
	actor_say(&alice, 1);
	word = actor_hear(&alice);
	permit = (struct shmb_permit){ (uint32_t)word, (uint32_t)(word >> 32) };
	actor_kill(&alice);
	UNTIL(broker, shmb_semaphore_value(semaphore) == 2);
	CHECK_CODE(shmb_semaphore_adopt(semaphore, &permit), SHMB_ENOENT);
	CHECK_CODE(shmb_semaphore_give(semaphore, &permit), SHMB_EINVAL);
	CHECK_INT(shmb_semaphore_value(semaphore), 2);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

/* Before the broker has even seen the death: the permit goes from one to the other all the same. */
CASE(F37_a_permit_can_be_adopted_from_the_dead, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = owned(client, "s", 2);
	struct actor alice = actor_start(broker, &ALICE, take_some, NULL);
	struct shmb_permit permit;
	uint64_t word;

	actor_say(&alice, 2);
	word = actor_hear(&alice);
	permit = (struct shmb_permit){ (uint32_t)word, (uint32_t)(word >> 32) };
	SYS(kill(broker->pid, SIGSTOP));
	actor_kill(&alice);
	CHECK_INT(shmb_semaphore_value(semaphore), 0);
	CHECK_CODE(shmb_semaphore_wait(semaphore, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_semaphore_adopt(semaphore, &permit));
	SYS(kill(broker->pid, SIGCONT));
	CHECK_OK(shmb_semaphore_wait(semaphore, 10000)); /* the other one came back */
	UNTIL(broker, broker_stat(broker, "repairs_total") == 1);
	CHECK_INT(shmb_semaphore_value(semaphore), 0); /* and this one did not */
	CHECK_OK(shmb_semaphore_give(semaphore, &permit));
	CHECK_OK(shmb_semaphore_post(semaphore, 1));
	CHECK_INT(shmb_semaphore_value(semaphore), 2);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

/* Frames of a region, each owned by whoever has its permit; dies in the middle of it. */
static void use_frames(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "frames", SHMB_READ | SHMB_WRITE);
	struct shmb_semaphore *semaphore = open_semaphore(client, "s");
	_Atomic uint32_t *users = shmb_region_data(region);
	struct shmb_permit permit;
	uint32_t me = (uint32_t)getpid();

	say(1);
	for (;;) {
		CHECK_OK(shmb_semaphore_take(semaphore, -1, &permit));
		CHECK(permit.index < PERMITS);
		atomic_store(&users[permit.index], me);
		for (int i = 0; i < 20; i++)
			CHECK_INT(atomic_load(&users[permit.index]), me);
		CHECK_OK(shmb_semaphore_give(semaphore, &permit));
	}
}

enum { VICTIMS = 8, KILLS = 200 };

CASE(F37_no_permit_is_lost_or_doubled_whoever_is_killed, SYSTEM, .timeout_s = 120)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = owned(client, "s", PERMITS);
	struct actor victims[VICTIMS];
	struct shmb_region *region;
	size_t i, k;

	options.mode = 0777;
	region = create(client, "frames", 4096, &options);
	for (i = 0; i < VICTIMS; i++)
		victims[i] = actor_start(broker, &ALICE, use_frames, NULL);
	for (i = 0; i < VICTIMS; i++)
		actor_hear(&victims[i]);
	for (k = 0; k < KILLS; k++) {
		i = k % VICTIMS;
		actor_kill(&victims[i]);
		victims[i] = actor_start(broker, &ALICE, use_frames, NULL);
		actor_hear(&victims[i]);
	}
	for (i = 0; i < VICTIMS; i++)
		actor_kill(&victims[i]);
	UNTIL(broker, shmb_semaphore_value(semaphore) == PERMITS);
	CHECK_INT(look_at_holders(client, "s").n, 0);
	shmb_region_free(region);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

struct taker {
	struct shmb_semaphore *semaphore;
	_Atomic uint32_t *in_use; /* by permit */
};

static void *take_and_give(void *argument)
{
	struct taker *taker = argument;
	struct shmb_permit permit;
	int i;

	for (i = 0; i < 3000; i++) {
		CHECK_OK(shmb_semaphore_take(taker->semaphore, -1, &permit));
		CHECK_INT(atomic_fetch_add(&taker->in_use[permit.index], 1), 0);
		CHECK_INT(atomic_fetch_sub(&taker->in_use[permit.index], 1), 1);
		CHECK_OK(shmb_semaphore_give(taker->semaphore, &permit));
	}
	return NULL;
}

CASE(F36_threads_of_one_client_take_different_permits, PRIVATE, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = owned(client, "s", 2);
	_Atomic uint32_t in_use[2] = { 0, 0 };
	struct taker taker = { semaphore, in_use };
	pthread_t threads[6];
	size_t i;

	for (i = 0; i < 6; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, take_and_give, &taker), 0);
	for (i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(shmb_semaphore_value(semaphore), 2);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

CASE(closing_one_semaphore_gives_back_its_permits_alone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_semaphore *a = owned(other, "a", 2), *b = owned(other, "b", 2);
	struct shmb_semaphore *mine = open_semaphore(client, "a");
	struct shmb_semaphore *kept = open_semaphore(client, "b");

	CHECK_OK(shmb_semaphore_wait(mine, 0));
	CHECK_OK(shmb_semaphore_wait(kept, 0)); /* in the same arena, with the same slot */
	shmb_semaphore_free(mine);
	UNTIL(broker, shmb_semaphore_value(a) == 2);
	CHECK_INT(shmb_semaphore_value(b), 1);
	mine = open_semaphore(client, "a");
	CHECK_INT(shmb_semaphore_value(mine), 2);
	CHECK_CODE(shmb_semaphore_post(mine, 1), SHMB_EOVERFLOW);
	CHECK_OK(shmb_semaphore_post(kept, 1));
	shmb_semaphore_free(kept);
	shmb_semaphore_free(mine);
	shmb_semaphore_free(a);
	shmb_semaphore_free(b);
	shmb_client_free(other);
	shmb_client_free(client);
}

static void *wait_for_one(void *semaphore)
{
	CHECK_OK(shmb_semaphore_wait(semaphore, -1));
	return NULL;
}

/* More threads of one client than its slot can show: all are woken, some are not counted. */
CASE(F36_more_threads_can_sleep_than_are_shown, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = counting(client, "s", 0, 0);
	pthread_t threads[24];
	size_t i;

	for (i = 0; i < 24; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, wait_for_one, semaphore), 0);
	UNTIL(broker, look_at_semaphore(client, "s").waiting == 16);
	CHECK_OK(shmb_semaphore_post(semaphore, 24));
	for (i = 0; i < 24; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(shmb_semaphore_value(semaphore), 0);
	CHECK_INT(look_at_semaphore(client, "s").waiting, 0);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

/* ---- Many ---- */

/* Mappings of shared memory: lines like "7f4e8c000000-7f4e8c040000 rw-s ...". */
static unsigned count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned n = 0;

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		n += strstr(line, " rw-s ") != NULL;
	fclose(file);
	return n;
}

enum { TEN_THOUSAND = 10000 };

static void use_ten_thousand(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	static struct shmb_semaphore *semaphores[TEN_THOUSAND];
	struct shmb_semaphore *first =
		create_semaphore(client, "n/first", SHMB_COUNTING, 0, 0, 0700);
	unsigned fds = fd_count(getpid());
	char name[32];
	int i;

	for (i = 0; i < TEN_THOUSAND; i++) {
		snprintf(name, sizeof(name), "n/%05d", i);
		semaphores[i] = create_semaphore(client, name, i % 2 ? SHMB_COUNTING : SHMB_OWNED,
						 0, 1, 0700);
	}
	CHECK_INT(fd_count(getpid()), fds);
	CHECK_INT(count_mappings(), 4); /* 3,072 in each */
	for (i = 0; i < TEN_THOUSAND; i++) {
		CHECK_OK(i % 2 ? shmb_semaphore_post(semaphores[i], 1)
			       : shmb_semaphore_wait(semaphores[i], 0));
		CHECK_INT(shmb_semaphore_value(semaphores[i]), i % 2);
	}
	say(1);
	hear();
	for (i = 0; i < TEN_THOUSAND; i++)
		shmb_semaphore_free(semaphores[i]);
	CHECK_INT(count_mappings(), 1);
	shmb_semaphore_free(first);
	shmb_client_free(client);
}

CASE(F37_ten_thousand_semaphores_cost_a_client_few_mappings_and_no_descriptors, SYSTEM,
     .timeout_s = 120)
{
	struct actor alice = actor_start(broker, &ALICE, use_ten_thousand, NULL);
	unsigned fds;

	actor_hear(&alice);
	fds = fd_count(broker->pid);
	print_message("the daemon: %d descriptors more, %llu bytes charged\n",
		      (int)(fds - broker->fds), (unsigned long long)broker_stat(broker, "bytes"));
	CHECK_INT(broker_stat(broker, "semaphores"), TEN_THOUSAND + 1);
	CHECK_INT(broker_stat(broker, "slots"), 4);
	/* The four, once more while they are in its cache, and the connection. */
	CHECK(fds - broker->fds <= 4 + 4 + 2);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
}

static void die_with_ten_thousand(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	static struct shmb_semaphore *semaphores[TEN_THOUSAND];
	char name[32];
	int i;

	for (i = 0; i < TEN_THOUSAND; i++) {
		snprintf(name, sizeof(name), "n/%05d", i);
		semaphores[i] = open_semaphore(client, name);
		CHECK_OK(shmb_semaphore_wait(semaphores[i], 0));
	}
	say(1);
	hear();
	shmb_client_free(client);
}

static int check_free(const struct shmb_semaphore_info *info, void *userdata)
{
	CHECK_INT(info->value, 1);
	++*(size_t *)userdata;
	return 0;
}

CASE(who_dies_with_ten_thousand_permits_holds_up_nobody, SYSTEM, .timeout_s = 120)
{
	struct shmb_client *client = connect_to(broker);
	static struct shmb_semaphore *semaphores[TEN_THOUSAND];
	struct actor alice;
	struct pulse pulse;
	int64_t worst_us;
	size_t seen = 0;
	char name[32];
	int i;

	for (i = 0; i < TEN_THOUSAND; i++) {
		snprintf(name, sizeof(name), "n/%05d", i);
		semaphores[i] = owned(client, name, 1);
	}
	alice = actor_start(broker, &ALICE, die_with_ten_thousand, NULL);
	actor_hear(&alice);
	pulse_begin(broker, &pulse);
	actor_kill(&alice);
	UNTIL(broker, broker_stat(broker, "attachments") == TEN_THOUSAND);
	UNTIL(broker, shmb_semaphore_value(semaphores[TEN_THOUSAND - 1]) == 1);
	UNTIL(broker, shmb_semaphore_value(semaphores[0]) == 1);
	worst_us = pulse_end(&pulse);
	print_message("%lld us of work at worst before an answer\n", (long long)worst_us);
	CHECK(worst_us < 150000 * harness_slow());
	CHECK_OK(shmb_semaphore_list(client, "n/", check_free, &seen));
	CHECK_INT(seen, TEN_THOUSAND);
	for (i = 0; i < TEN_THOUSAND; i++)
		shmb_semaphore_free(semaphores[i]);
	shmb_client_free(client);
}
