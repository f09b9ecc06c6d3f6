/* SPDX-License-Identifier: MIT */
/*
 * Owners and waiters of a lock that die, in each state that they can be in: what the others see,
 * and that they see it soon. Promptness is told from the second after which every sleeper looks by
 * itself.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

enum { SIZE = 8192, WRITER = SHMB_READ | SHMB_WRITE, LOCKER = SHMB_READ | SHMB_LOCK };

/* Well within the second, even on a busy machine. */
enum { SOON_MS = 500 };

static const struct told as_writer = { .name = "r", .access = WRITER };
static const struct told as_locker = { .name = "r", .access = LOCKER };
static const struct told as_named = { .name = "l", .lock = true };

struct scene {
	struct shmb_client *client;
	struct shmb_region *region; /* or: */
	struct shmb_lock *lock;
};

static struct scene region_scene(struct broker *broker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct scene scene = { .client = connect_to(broker) };

	options.mode = 0777;
	scene.region = create(scene.client, "r", SIZE, &options);
	return scene;
}

static struct scene lock_scene(struct broker *broker)
{
	struct scene scene = { .client = connect_to(broker) };

	scene.lock = create_lock(scene.client, "l", 0777, SHMB_ATTACHED);
	return scene;
}

static void end_scene(struct scene *scene)
{
	shmb_lock_free(scene->lock);
	shmb_region_free(scene->region);
	shmb_client_free(scene->client);
}

static struct actor start(struct broker *broker, const struct identity *identity,
			  const struct told *told)
{
	return actor_start(broker, identity, lock_as_told, (void *)(uintptr_t)told);
}

/* The repair has happened: nothing else shows from outside that the lock is free again. */
static void wait_for_repair(struct broker *broker, uint64_t repairs)
{
	UNTIL(broker, broker_stat(broker, "repairs_total") >= repairs);
}

/* ---- The owner ---- */

static void owner_dies(struct broker *broker, struct scene *scene, const struct told *told)
{
	struct actor owner = start(broker, &ALICE, told), writer = start(broker, &BOB, told);
	struct actor readers[2] = { start(broker, &BOB, told), start(broker, &CAROL, told) };
	struct shmb_lock_info info;
	int64_t start_ms;

	CHECK_OK(tell(&owner, ORDER_EXCLUSIVE));
	actor_say(&writer, ORDER_EXCLUSIVE | ORDER_WAITING);
	actor_say(&readers[0], ORDER_SHARED | ORDER_WAITING);
	actor_say(&readers[1], ORDER_SHARED | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene->client, told->name).waiting_exclusive == 1 &&
			      look_at_lock(scene->client, told->name).waiting_shared == 2);
	start_ms = harness_now_ms();
	actor_kill(&owner);
	CHECK_CODE(answer(&writer), SHMB_EOWNERDEAD);
	CHECK(harness_now_ms() - start_ms < SOON_MS * harness_slow());
	info = look_at_lock(scene->client, told->name);
	CHECK(info.held);
	CHECK(info.owner_died);
	CHECK_INT(info.holder.pid, writer.pid);

	/* The readers are told as soon as the lock is free, or wait for the one who puts it right.
	 */
	CHECK_OK(tell(&writer, ORDER_MARK));
	CHECK_OK(tell(&writer, ORDER_MARK));
	CHECK_OK(tell(&writer, ORDER_DOWNGRADE));
	for (int i = 0; i < 2; i++) {
		int r = answer(&readers[i]);

		if (r == SHMB_EOWNERDEAD) /* it looked between death and the writer's claim */
			r = tell(&readers[i], ORDER_SHARED);
		CHECK_OK(r);
		CHECK_OK(tell(&readers[i], ORDER_UNLOCK));
	}
	CHECK_OK(tell(&writer, ORDER_UNLOCK));
	CHECK_OK(tell(&readers[0], ORDER_EXCLUSIVE)); /* as if nothing had been */
	CHECK_OK(tell(&readers[0], ORDER_UNLOCK));
	info = look_at_lock(scene->client, told->name);
	CHECK(!info.owner_died && !info.held && !info.not_recoverable);
	dismiss(&writer);
	dismiss(&readers[0]);
	dismiss(&readers[1]);
}

CASE(F37_a_killed_owner_s_region_lock_goes_to_the_next_who_is_told, SYSTEM)
{
	struct scene scene = region_scene(broker);

	owner_dies(broker, &scene, &as_writer);
	end_scene(&scene);
}

CASE(F37_a_killed_owner_s_named_lock_goes_to_the_next_who_is_told, SYSTEM)
{
	struct scene scene = lock_scene(broker);

	owner_dies(broker, &scene, &as_named);
	end_scene(&scene);
}

CASE(F37_shared_lockers_wait_no_longer_for_a_dead_owner_but_get_no_lock, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor owner = start(broker, &ALICE, &as_writer);
	struct actor reader = start(broker, &BOB, &as_locker);
	char byte = 1;

	CHECK_OK(tell(&owner, ORDER_EXCLUSIVE));
	actor_say(&reader, ORDER_SHARED | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene.client, "r").waiting_shared == 1);
	actor_kill(&owner);
	CHECK_CODE(answer(&reader), SHMB_EOWNERDEAD);
	CHECK_CODE(tell(&reader, ORDER_UNLOCK), SHMB_EINVAL); /* it has none */
	CHECK_CODE(tell(&reader, ORDER_SHARED), SHMB_EOWNERDEAD);
	CHECK_CODE(tell(&reader, ORDER_SHARED | ORDER_WAITING), SHMB_EOWNERDEAD);
	CHECK_CODE(shmb_region_lock(scene.region, SHMB_SHARED, -1), SHMB_EOWNERDEAD);
	CHECK_INT(look_at_lock(scene.client, "r").readers, 0);
	CHECK(look_at_lock(scene.client, "r").owner_died);

	/* Copies under the lock move nothing and leave it as it is. */
	CHECK_CODE(shmb_region_read(scene.region, 0, &byte, 1, SHMB_LOCKED), SHMB_EOWNERDEAD);
	CHECK_INT(byte, 1);
	CHECK_CODE(shmb_region_write(scene.region, 0, &byte, 1, SHMB_LOCKED), SHMB_EOWNERDEAD);
	CHECK_CODE(shmb_region_unlock(scene.region), SHMB_EINVAL);
	CHECK_OK(shmb_region_read(scene.region, 0, &byte, 1, 0));
	CHECK_INT(byte, 0);
	CHECK(look_at_lock(scene.client, "r").owner_died);
	CHECK(!look_at_lock(scene.client, "r").not_recoverable);

	CHECK_CODE(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	CHECK_CODE(shmb_region_downgrade(scene.region), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_region_mark_consistent(scene.region));
	CHECK_OK(shmb_region_unlock(scene.region));
	CHECK_OK(tell(&reader, ORDER_SHARED));
	CHECK_OK(tell(&reader, ORDER_UNLOCK));
	dismiss(&reader);
	end_scene(&scene);
}

static void become_unrecoverable(struct broker *broker, struct scene *scene,
				 const struct told *told)
{
	struct actor owner = start(broker, &ALICE, told), heir = start(broker, &BOB, told);
	struct actor writer = start(broker, &BOB, told), reader = start(broker, &CAROL, told);

	CHECK_CODE(tell(&heir, ORDER_RESET), SHMB_EINVAL);
	CHECK_OK(tell(&owner, ORDER_EXCLUSIVE));
	actor_kill(&owner);
	wait_for_repair(broker, 1);
	CHECK_CODE(tell(&heir, ORDER_EXCLUSIVE), SHMB_EOWNERDEAD);
	CHECK_CODE(tell(&heir, ORDER_RESET), SHMB_EINVAL);
	actor_say(&writer, ORDER_EXCLUSIVE | ORDER_WAITING);
	actor_say(&reader, ORDER_SHARED | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene->client, told->name).waiting_exclusive == 1 &&
			      look_at_lock(scene->client, told->name).waiting_shared == 1);
	CHECK_OK(tell(&heir, ORDER_UNLOCK)); /* without putting it right */
	CHECK_CODE(answer(&writer), SHMB_ENOTRECOVERABLE);
	CHECK_CODE(answer(&reader), SHMB_ENOTRECOVERABLE);
	CHECK_CODE(tell(&heir, ORDER_EXCLUSIVE | ORDER_WAITING), SHMB_ENOTRECOVERABLE);
	CHECK_CODE(tell(&heir, ORDER_SHARED), SHMB_ENOTRECOVERABLE);
	CHECK(look_at_lock(scene->client, told->name).not_recoverable);

	CHECK_OK(tell(&writer, ORDER_RESET));
	CHECK_CODE(tell(&writer, ORDER_RESET), SHMB_EINVAL);
	CHECK_CODE(tell(&reader, ORDER_SHARED), SHMB_EOWNERDEAD);
	CHECK_CODE(tell(&heir, ORDER_EXCLUSIVE), SHMB_EOWNERDEAD);
	CHECK_OK(tell(&heir, ORDER_MARK));
	CHECK_OK(tell(&heir, ORDER_UNLOCK));
	CHECK_OK(tell(&reader, ORDER_SHARED));
	CHECK_OK(tell(&reader, ORDER_UNLOCK));
	dismiss(&heir);
	dismiss(&writer);
	dismiss(&reader);
}

CASE(F37_a_region_lock_given_back_unrepaired_is_lost_until_it_is_reset, SYSTEM)
{
	struct scene scene = region_scene(broker);

	become_unrecoverable(broker, &scene, &as_writer);
	end_scene(&scene);
}

CASE(F37_a_named_lock_given_back_unrepaired_is_lost_until_it_is_reset, SYSTEM)
{
	struct scene scene = lock_scene(broker);

	become_unrecoverable(broker, &scene, &as_named);
	end_scene(&scene);
}

/* Who may lock but not write can neither put the data right nor spoil what is to be told. */
CASE(F37_a_locker_that_cannot_write_leaves_owner_died_as_it_is, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor owner = start(broker, &ALICE, &as_writer);
	struct actor locker = start(broker, &BOB, &as_locker);

	CHECK_OK(tell(&owner, ORDER_EXCLUSIVE));
	actor_kill(&owner);
	wait_for_repair(broker, 1);
	CHECK_CODE(tell(&locker, ORDER_EXCLUSIVE), SHMB_EOWNERDEAD);
	CHECK_CODE(tell(&locker, ORDER_MARK), SHMB_EMODE);
	CHECK_CODE(tell(&locker, ORDER_RESET), SHMB_EMODE);
	CHECK_OK(tell(&locker, ORDER_UNLOCK));
	CHECK(look_at_lock(scene.client, "r").owner_died);
	CHECK(!look_at_lock(scene.client, "r").not_recoverable);
	CHECK_CODE(tell(&locker, ORDER_EXCLUSIVE), SHMB_EOWNERDEAD);
	actor_kill(&locker); /* nor by dying */
	wait_for_repair(broker, 2);
	CHECK_CODE(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_region_mark_consistent(scene.region));
	CHECK_OK(shmb_region_unlock(scene.region));
	end_scene(&scene);
}

CASE(an_heir_that_dies_leaves_it_to_the_next, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor owner;
	uint64_t n;

	for (n = 1; n <= 5; n++) {
		owner = start(broker, &ALICE, &as_writer);
		CHECK_CODE(tell(&owner, ORDER_EXCLUSIVE), n == 1 ? 0 : SHMB_EOWNERDEAD);
		actor_kill(&owner);
		wait_for_repair(broker, n);
	}
	CHECK_CODE(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_region_mark_consistent(scene.region));
	CHECK_OK(shmb_region_unlock(scene.region));
	CHECK_OK(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(scene.region));
	end_scene(&scene);
}

/* ---- Other states to die in ---- */

CASE(F37_a_claimant_that_dies_while_it_waits_for_readers_leaves_no_trace, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor reader = start(broker, &ALICE, &as_locker);
	struct actor claimant = start(broker, &BOB, &as_writer);
	struct actor barred = start(broker, &CAROL, &as_locker);
	int64_t start_ms;

	CHECK_OK(tell(&reader, ORDER_SHARED));
	actor_say(&claimant, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene.client, "r").pending);
	CHECK_INT(look_at_lock(scene.client, "r").holder.pid, claimant.pid);
	actor_say(&barred, ORDER_SHARED | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene.client, "r").waiting_shared == 1);
	start_ms = harness_now_ms();
	actor_kill(&claimant);
	CHECK_OK(answer(&barred)); /* and not "owner died" */
	CHECK(harness_now_ms() - start_ms < SOON_MS * harness_slow());
	CHECK(!look_at_lock(scene.client, "r").pending);
	CHECK_OK(tell(&barred, ORDER_UNLOCK));
	CHECK_OK(tell(&reader, ORDER_UNLOCK));
	CHECK_OK(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(scene.region));
	dismiss(&reader);
	dismiss(&barred);
	end_scene(&scene);
}

CASE(F37_a_reader_that_dies_lets_the_claimant_go_on, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor readers[2] = { start(broker, &ALICE, &as_locker),
				    start(broker, &BOB, &as_locker) };
	struct actor claimant = start(broker, &CAROL, &as_writer);
	int64_t start_ms;

	CHECK_OK(tell(&readers[0], ORDER_SHARED));
	CHECK_OK(tell(&readers[0], ORDER_SHARED)); /* twice */
	CHECK_OK(tell(&readers[1], ORDER_SHARED));
	actor_say(&claimant, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene.client, "r").pending);
	actor_kill(&readers[1]);
	wait_for_repair(broker, 1);
	CHECK_INT(look_at_lock(scene.client, "r").readers, 2);
	CHECK(look_at_lock(scene.client, "r").pending);
	start_ms = harness_now_ms();
	actor_kill(&readers[0]);
	CHECK_OK(answer(&claimant));
	CHECK(harness_now_ms() - start_ms < SOON_MS * harness_slow());
	CHECK_OK(tell(&claimant, ORDER_UNLOCK));
	dismiss(&claimant);
	end_scene(&scene);
}

static void *lock_twice(void *region)
{
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	return NULL;
}

/* The first thread of a handle counts its locks apart from the others. */
static void share_among_threads(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", LOCKER);
	pthread_t thread;

	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_INT(pthread_create(&thread, NULL, lock_twice, region), 0);
	pthread_join(thread, NULL);
	say(1);
	hear();
	CHECK_OK(shmb_region_unlock(region)); /* its own; two are left */
	say(1);
	hear();
}

CASE(F36_locks_of_all_threads_come_back_when_their_process_dies, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor reader = actor_start(broker, &ALICE, share_among_threads, NULL);
	struct actor claimant = start(broker, &BOB, &as_writer);
	int round;

	for (round = 0; round < 2; round++) {
		actor_hear(&reader);
		CHECK_INT(look_at_lock(scene.client, "r").readers, 3);
		if (round) {
			actor_say(&reader, 1);
			actor_hear(&reader);
			CHECK_INT(look_at_lock(scene.client, "r").readers, 2);
		}
		actor_say(&claimant, ORDER_EXCLUSIVE | ORDER_WAITING);
		UNTIL(broker, look_at_lock(scene.client, "r").pending);
		actor_kill(&reader);
		CHECK_OK(answer(&claimant));
		CHECK_OK(tell(&claimant, ORDER_UNLOCK));
		if (!round)
			reader = actor_start(broker, &CAROL, share_among_threads, NULL);
	}
	dismiss(&claimant);
	end_scene(&scene);
}

CASE(waiters_that_die_are_missed_by_nobody, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor waiters[4], next;
	size_t i;

	CHECK_OK(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, 0));
	for (i = 0; i < 4; i++) {
		waiters[i] = start(broker, &ALICE, &as_writer);
		actor_say(&waiters[i],
			  (i % 2 ? ORDER_SHARED : ORDER_EXCLUSIVE) | (unsigned)ORDER_WAITING);
	}
	UNTIL(broker, look_at_lock(scene.client, "r").waiting_exclusive == 2 &&
			      look_at_lock(scene.client, "r").waiting_shared == 2);
	next = start(broker, &BOB, &as_writer);
	actor_say(&next, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene.client, "r").waiting_exclusive == 3);
	for (i = 0; i < 4; i++)
		actor_kill(&waiters[i]);
	wait_for_repair(broker, 4);
	UNTIL(broker, look_at_lock(scene.client, "r").waiting_exclusive == 1);
	CHECK_INT(look_at_lock(scene.client, "r").waiting_shared, 0);
	CHECK_OK(shmb_region_unlock(scene.region));
	CHECK_OK(answer(&next)); /* the turns of the dead did not keep it */
	CHECK_OK(tell(&next, ORDER_UNLOCK));
	dismiss(&next);
	end_scene(&scene);
}

/* ---- Other ways to end ---- */

static void end_while_holding(struct broker *broker, struct scene *scene, const struct told *told,
			      uint64_t how, bool answers)
{
	struct actor owner = start(broker, &ALICE, told), heir = start(broker, &BOB, told);
	int64_t start_ms;

	CHECK_OK(tell(&owner, ORDER_EXCLUSIVE));
	actor_say(&heir, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(scene->client, told->name).waiting_exclusive == 1);
	start_ms = harness_now_ms();
	actor_say(&owner, how);
	if (answers)
		CHECK_OK(answer(&owner));
	CHECK_CODE(answer(&heir), SHMB_EOWNERDEAD);
	CHECK(harness_now_ms() - start_ms < SOON_MS * harness_slow());
	CHECK_OK(tell(&heir, ORDER_MARK));
	CHECK_OK(tell(&heir, ORDER_UNLOCK));
	dismiss(&heir);
	actor_kill(&owner);
}

CASE(closing_the_handle_is_the_owner_s_death, SYSTEM)
{
	struct scene scene = region_scene(broker);

	end_while_holding(broker, &scene, &as_writer, ORDER_CLOSE, true);
	end_scene(&scene);
}

CASE(freeing_a_named_lock_is_the_owner_s_death, SYSTEM)
{
	struct scene scene = lock_scene(broker);

	end_while_holding(broker, &scene, &as_named, ORDER_CLOSE, true);
	end_scene(&scene);
}

CASE(leaving_the_process_is_the_owner_s_death, SYSTEM)
{
	struct scene scene = region_scene(broker);

	end_while_holding(broker, &scene, &as_writer, ORDER_EXIT, false);
	end_scene(&scene);
}

CASE(another_program_in_the_same_process_is_the_owner_s_death, SYSTEM)
{
	struct scene scene = region_scene(broker);

	end_while_holding(broker, &scene, &as_writer, ORDER_EXEC, false);
	end_scene(&scene);
}

CASE(closing_a_handle_with_shared_locks_gives_them_back, SYSTEM)
{
	struct scene scene = region_scene(broker);
	struct actor reader = start(broker, &ALICE, &as_locker);

	CHECK_OK(tell(&reader, ORDER_SHARED));
	CHECK_OK(tell(&reader, ORDER_SHARED));
	CHECK_CODE(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, 0), SHMB_ETIMEDOUT);
	CHECK_OK(tell(&reader, ORDER_CLOSE));
	CHECK_OK(shmb_region_lock(scene.region, SHMB_EXCLUSIVE, -1));
	CHECK_OK(shmb_region_unlock(scene.region));
	dismiss(&reader);
	end_scene(&scene);
}

/* ---- Killed anywhere, again and again ---- */

/* Kept equal under the lock; an heir makes them equal again. */
struct pair {
	uint64_t first, second;
};

static void change_the_pair(struct shmb_region *region)
{
	struct pair *pair = shmb_region_data(region);
	int r = shmb_region_lock(region, SHMB_EXCLUSIVE, -1);

	if (r == SHMB_EOWNERDEAD) {
		pair->second = pair->first;
		CHECK_OK(shmb_region_mark_consistent(region));
	} else {
		CHECK_OK(r);
		CHECK_INT(pair->first, pair->second);
	}
	pair->first++;
	atomic_signal_fence(memory_order_seq_cst);
	pair->second++;
	CHECK_OK(shmb_region_unlock(region));
}

static void change_for_ever(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	/* With a slot from the beginning: one that dies before it has locked is repaired, too. */
	struct shmb_region *region = open_region(client, "r", WRITER | SHMB_LOCK);
	struct pair *pair = shmb_region_data(region);
	int r;

	say(1);
	for (;;) {
		change_the_pair(region);
		r = shmb_region_lock(region, SHMB_SHARED, -1);
		if (r == SHMB_EOWNERDEAD)
			continue;
		CHECK_OK(r);
		CHECK_INT(pair->first, pair->second);
		CHECK_OK(shmb_region_unlock(region));
	}
}

enum { VICTIMS = 4, KILLS = 200 };

CASE(F37_killed_at_any_moment_nothing_is_torn_and_nobody_is_stuck, SYSTEM, .timeout_s = 120)
{
	struct scene scene = region_scene(broker);
	struct pair *pair = shmb_region_data(scene.region);
	struct actor victims[VICTIMS];
	uint64_t before;
	size_t i, kill;

	for (i = 0; i < VICTIMS; i++) {
		victims[i] = actor_start(broker, &ALICE, change_for_ever, NULL);
		actor_hear(&victims[i]);
	}
	for (kill = 0; kill < KILLS; kill++) {
		i = kill % VICTIMS;
		before = *(volatile uint64_t *)&pair->first;
		UNTIL(broker, *(volatile uint64_t *)&pair->first > before + kill % 7);
		actor_kill(&victims[i]);
		victims[i] = actor_start(broker, &ALICE, change_for_ever, NULL);
		actor_hear(&victims[i]);
	}
	for (i = 0; i < VICTIMS; i++)
		actor_kill(&victims[i]);
	wait_for_repair(broker, VICTIMS + KILLS);
	change_the_pair(scene.region);
	CHECK_INT(look_at_lock(scene.client, "r").readers, 0);
	CHECK_INT(look_at_lock(scene.client, "r").slots_used, 1);
	CHECK_INT(look_at_lock(scene.client, "r").waiting_exclusive, 0);
	end_scene(&scene);
}

/* ---- Snapshots ---- */

enum { RECORD = 6000 };

static int look_at_the_record(struct shmb_region *region)
{
	unsigned char record[RECORD];
	int r = shmb_region_snapshot(region, 64, record, RECORD), i;

	for (i = 1; r == 0 && i < RECORD; i++)
		if (record[i] != record[0])
			FAIL("torn: byte %d is %u, the first is %u", i, record[i], record[0]);
	return r;
}

static void write_for_ever(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", WRITER);
	unsigned char record[RECORD];
	unsigned i;
	int r;

	say(1);
	for (i = 0;; i++) {
		memset(record, (int)(i & 0xff), RECORD);
		r = shmb_region_write(region, 64, record, RECORD, SHMB_LOCKED);
		if (r == SHMB_EOWNERDEAD)
			pause(); /* the other one was killed already: the storm is over */
		CHECK_OK(r);
	}
}

static void take_snapshots(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ);
	unsigned whole = 0;
	int r;

	while (whole < 2000) {
		r = look_at_the_record(region);
		whole += r == 0;
		CHECK(r == 0 || r == SHMB_EBUSY);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static struct scene readable_scene(struct broker *broker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct scene scene = { .client = connect_to(broker) };

	options.mode = 0764; /* the group writes, the others only read */
	scene.region = create(scene.client, "r", SIZE, &options);
	CHECK_OK(shmb_region_chown(scene.client, "r", (uint32_t)-1, SHARED_GROUP));
	return scene;
}

CASE(F37_a_reader_s_snapshot_is_whole_in_a_storm_of_writes, SYSTEM, .timeout_s = 60)
{
	struct scene scene = readable_scene(broker);
	struct actor writers[2] = { actor_start(broker, &ALICE, write_for_ever, NULL),
				    actor_start(broker, &BOB, write_for_ever, NULL) };
	struct actor readers[2];
	size_t i;

	for (i = 0; i < 2; i++)
		actor_hear(&writers[i]);
	for (i = 0; i < 2; i++)
		readers[i] = actor_start(broker, &CAROL, take_snapshots, NULL);
	for (i = 0; i < 2; i++)
		actor_end(&readers[i]);
	for (i = 0; i < 2; i++)
		actor_kill(&writers[i]);
	end_scene(&scene);
}

/* Longer than it takes to be interrupted, and not so often that none is ever whole. */
enum { LONG_RECORD = 512 << 10 };

static void write_now_and_then(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "long", WRITER);
	unsigned char *record = malloc(LONG_RECORD);
	uint8_t stop = 0;

	CHECK(record);
	say(1);
	for (unsigned i = 0; !stop; i++) {
		memset(record, (int)(i & 0xff), LONG_RECORD);
		CHECK_OK(shmb_region_write(region, 0, record, LONG_RECORD, SHMB_LOCKED));
		CHECK_OK(shmb_client_ping(client));
		CHECK_OK(shmb_region_read_u8(region, LONG_RECORD, &stop));
	}
	free(record);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_a_snapshot_that_is_interrupted_is_none, PRIVATE, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "long", LONG_RECORD + 1, NULL);
	struct actor writer = actor_start(broker, &SELF, write_now_and_then, NULL);
	unsigned char *record = malloc(LONG_RECORD);
	int64_t end = harness_now_ms() + 10000;
	unsigned whole = 0;

	CHECK(record);
	actor_hear(&writer);
	while (whole < 300 && harness_now_ms() < end) {
		int r = shmb_region_snapshot(region, 0, record, LONG_RECORD);

		CHECK(r == 0 || r == SHMB_EBUSY);
		whole += r == 0;
		if (r == 0 && memcmp(record, record + 1, LONG_RECORD - 1) != 0)
			FAIL("torn, after %u whole ones", whole - 1);
	}
	CHECK(whole > 0);
	CHECK_OK(shmb_region_write_u8(region, LONG_RECORD, 1));
	actor_end(&writer);
	free(record);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* One that only reads; tells what a snapshot gives whenever it is asked. */
static void snapshot_as_told(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ);
	unsigned char byte;

	CHECK_CODE(shmb_region_snapshot(region, SIZE, &byte, 1), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_snapshot(region, UINT64_MAX, &byte, 1), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_snapshot(region, SIZE, &byte, 0));
	while (hear() != ORDER_END)
		say((uint64_t)-look_at_the_record(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_a_snapshot_is_busy_while_someone_writes_and_refused_when_he_died, SYSTEM)
{
	struct scene scene = readable_scene(broker);
	struct actor reader = actor_start(broker, &CAROL, snapshot_as_told, NULL);
	struct actor owner = start(broker, &ALICE, &as_writer);

	CHECK_OK(tell(&reader, 1));
	CHECK_OK(tell(&owner, ORDER_SHARED));
	CHECK_OK(tell(&reader, 1)); /* readers are in nobody's way */
	CHECK_OK(tell(&owner, ORDER_UNLOCK));
	CHECK_OK(tell(&owner, ORDER_EXCLUSIVE));
	CHECK_CODE(tell(&reader, 1), SHMB_EBUSY);
	CHECK_OK(tell(&owner, ORDER_DOWNGRADE));
	CHECK_OK(tell(&reader, 1));
	CHECK_OK(tell(&owner, ORDER_UNLOCK));
	CHECK_OK(tell(&owner, ORDER_EXCLUSIVE));
	actor_kill(&owner);
	wait_for_repair(broker, 1);
	CHECK_CODE(tell(&reader, 1), SHMB_EOWNERDEAD);

	owner = start(broker, &BOB, &as_writer);
	CHECK_CODE(tell(&owner, ORDER_EXCLUSIVE), SHMB_EOWNERDEAD);
	CHECK_CODE(tell(&reader, 1), SHMB_EOWNERDEAD);
	CHECK_OK(tell(&owner, ORDER_UNLOCK));
	CHECK_CODE(tell(&reader, 1), SHMB_ENOTRECOVERABLE);
	CHECK_OK(tell(&owner, ORDER_RESET));
	CHECK_CODE(tell(&reader, 1), SHMB_EOWNERDEAD);
	CHECK_CODE(tell(&owner, ORDER_EXCLUSIVE), SHMB_EOWNERDEAD);
	CHECK_OK(tell(&owner, ORDER_MARK));
	CHECK_CODE(tell(&reader, 1), SHMB_EBUSY); /* it still holds it */
	CHECK_OK(tell(&owner, ORDER_UNLOCK));
	CHECK_OK(tell(&reader, 1));
	dismiss(&owner);
	dismiss(&reader);
	end_scene(&scene);
}
