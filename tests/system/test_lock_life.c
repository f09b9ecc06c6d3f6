/* SPDX-License-Identifier: MIT */
/*
 * Locks and semaphores through the life of their objects: names that go, modes and owners that
 * change, what is charged to whom, those that outlive everybody, and the end of the broker.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"

enum { WRITER = SHMB_READ | SHMB_WRITE, LOCKER = SHMB_READ | SHMB_LOCK };

static struct shmb_region *create_with(struct shmb_client *client, const char *name, uint32_t mode,
				       enum shmb_lifetime lifetime)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.mode = mode;
	options.lifetime = lifetime;
	return create(client, name, 4096, &options);
}

/* ---- Names that go ---- */

static void lock_after_removal(struct broker *broker, enum shmb_backing backing)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *old[2], *young;

	options.backing = backing;
	old[0] = create(client, "r", 4096, &options);
	old[1] = open_region(other, "r", WRITER);
	CHECK_OK(shmb_region_remove(client, "r"));
	young = create(client, "r", 4096, &options);
	CHECK_OK(shmb_region_lock(old[0], SHMB_EXCLUSIVE, 0)); /* made only now */
	CHECK_OK(shmb_region_lock(young, SHMB_EXCLUSIVE, 0));  /* another lock */
	CHECK_CODE(shmb_region_lock(old[1], SHMB_SHARED, 0), SHMB_ETIMEDOUT);
	CHECK_INT(broker_stat(broker, "slots"), 3);
	shmb_region_free(old[0]); /* the owner's death, of an object without a name */
	CHECK_CODE(shmb_region_lock(old[1], SHMB_EXCLUSIVE, 10000), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_region_mark_consistent(old[1]));
	CHECK_OK(shmb_region_unlock(old[1]));
	CHECK(!look_at_lock(client, "r").owner_died);
	CHECK_OK(shmb_region_unlock(young));
	shmb_region_free(old[1]);
	shmb_region_free(young);
	shmb_client_free(other);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "bytes") == 0);
	CHECK_INT(broker_stat(broker, "slots"), 0);
	CHECK_INT(broker_shm_count(broker), 0);
}

CASE(a_region_without_a_name_can_still_be_locked_in_shm, PRIVATE)
{
	lock_after_removal(broker, SHMB_BACKING_SHM);
}

CASE(a_region_without_a_name_can_still_be_locked_in_a_memfd, PRIVATE)
{
	lock_after_removal(broker, SHMB_BACKING_MEMFD);
}

/* ---- Modes and owners that change ---- */

static void lock_with_the_old_right(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", WRITER), *none = NULL;

	say(1);
	hear();
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, NULL, &none), SHMB_ENOENT);
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0)); /* its first */
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(those_attached_keep_the_right_to_lock, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", 0706, SHMB_ATTACHED);
	struct actor carol = actor_start(broker, &CAROL, lock_with_the_old_right, NULL);

	actor_hear(&carol);
	CHECK_OK(shmb_region_chmod(client, "r", 0700));
	actor_say(&carol, 1);
	actor_end(&carol);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(kinds_without_a_mode_to_change_keep_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = create_lock(client, "l", 0700, SHMB_ATTACHED);
	struct shmb_semaphore *semaphore = create_semaphore(client, "s", SHMB_COUNTING, 0, 0, 0700);

	CHECK_CODE(shmb_region_chmod(client, "l", 0777), SHMB_EKIND);
	CHECK_CODE(shmb_region_chmod(client, "s", 0777), SHMB_EKIND);
	CHECK_CODE(shmb_region_chown(client, "s", (uint32_t)-1, getgid()), SHMB_EKIND);
	CHECK_INT(look_at_lock(client, "l").mode, 0700);
	CHECK_INT(look_at_semaphore(client, "s").mode, 0700);
	shmb_semaphore_free(semaphore);
	shmb_lock_free(lock);
	shmb_client_free(client);
}

/* ---- What is charged ---- */

enum { PAGE = 4096, LIMIT = 64 * PAGE };

/* Everything that the limit allows, so nothing of what was there before is charged any more. */
static void use_all_bytes(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *none = NULL;

	region = create(client, "all", LIMIT - 2 * PAGE, NULL); /* publish page, lock segment */
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_CODE(shmb_region_create(client, "more", 1, NULL, &none), SHMB_EDQUOT);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void make_locked_and_wait(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", 0700, SHMB_ATTACHED);

	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	say(1);
	hear();
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(a_lock_s_memory_is_charged_to_the_owner_who_may_change, SYSTEM,
     .arguments = { "--bytes-per-user=256K" })
{
	struct shmb_client *client = connect_to(broker);
	struct actor alice = actor_start(broker, &ALICE, make_locked_and_wait, NULL);

	actor_hear(&alice);
	CHECK_INT(broker_stat(broker, "bytes"), 3 * PAGE);
	CHECK_OK(shmb_region_chown(client, "r", BOB.uid, (uint32_t)-1));
	CHECK_INT(broker_stat(broker, "bytes"), 3 * PAGE);
	actor_run(broker, &ALICE, use_all_bytes, NULL); /* nothing of it is hers now */
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "bytes") == 0);
	actor_run(broker, &BOB, use_all_bytes, NULL);
	shmb_client_free(client);
}

CASE(a_lock_that_cannot_be_paid_for_is_refused_and_the_region_stays, SYSTEM,
     .arguments = { "--bytes-per-user=256K" })
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region *region = create(client, "r", LIMIT - PAGE, NULL);
	struct shmb_lock *lock = NULL;
	struct shmb_semaphore *semaphore = NULL;

	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, -1), SHMB_EDQUOT);
	CHECK_OK(shmb_region_last_error(region, &error));
	CHECK_STRING(error.what, "bytes-per-user");
	CHECK_CODE(shmb_lock_create(client, "l", NULL, &lock), SHMB_EDQUOT);
	CHECK_CODE(shmb_semaphore_create(client, "s", NULL, &semaphore), SHMB_EDQUOT);
	CHECK_OK(shmb_region_write_u32(region, 0, 7));
	CHECK_INT(broker_stat(broker, "slots"), 0);
	CHECK_INT(broker_stat(broker, "bytes"), LIMIT);
	shmb_region_free(region);
	CHECK_OK(shmb_lock_create(client, "l", NULL, &lock));
	shmb_lock_free(lock);
	shmb_client_free(client);
}

/* ---- Outliving everybody ---- */

static void die_with_the_lock(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = NULL;
	struct shmb_lock_options options = SHMB_LOCK_OPTIONS_INIT;

	options.lifetime = SHMB_PERSISTENT;
	CHECK_INT(shmb_lock_open_or_create(client, "l", &options, &lock), 1);
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0));
	_exit(0);
}

CASE(F37_a_persistent_lock_remembers_its_dead_owner_when_nobody_is_left, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock;

	actor_run(broker, &SELF, die_with_the_lock, NULL);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	CHECK(look_at_lock(client, "l").owner_died);
	lock = open_lock(client, "l");
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_SHARED, 0), SHMB_EOWNERDEAD);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_lock_mark_consistent(lock));
	CHECK_OK(shmb_lock_release(lock));
	CHECK_OK(shmb_lock_remove(client, "l"));
	shmb_lock_free(lock);
	shmb_client_free(client);
}

/* ---- Many ---- */

static int count_holder(const struct shmb_holder *holder, void *userdata)
{
	CHECK_INT(holder->shared, 1);
	CHECK_INT(holder->process.pid, getpid());
	return ++*(int *)userdata == 120 ? 7 : 0;
}

CASE(F37_holders_come_page_by_page, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *regions[150];
	int i, n = 0;

	options.slots = 200;
	regions[0] = create(client, "r", 4096, &options);
	for (i = 1; i < 150; i++)
		regions[i] = open_region(client, "r", LOCKER);
	for (i = 0; i < 150; i++)
		CHECK_OK(shmb_region_lock(regions[i], SHMB_SHARED, 0));
	CHECK_INT(look_at_holders(client, "r").n, 150);
	CHECK_INT(shmb_client_holders(client, "r", count_holder, &n), 7);
	CHECK_INT(n, 120);
	CHECK_CODE(shmb_client_holders(client, "none", count_holder, &n), SHMB_ENOENT);
	CHECK_CODE(shmb_client_holders(client, "a//b", count_holder, &n), SHMB_EINVAL);
	for (i = 0; i < 150; i++)
		CHECK_OK(shmb_region_unlock(regions[i]));
	CHECK_INT(look_at_holders(client, "r").n, 0);
	for (i = 0; i < 150; i++)
		shmb_region_free(regions[i]);
	shmb_client_free(client);
}

enum { SESSIONS = 1023 };

CASE(a_thousand_and_23_clients_can_use_the_semaphores_of_one_mode, SYSTEM,
     .arguments = { "--connections-per-user=2000" }, .timeout_s = 120)
{
	static struct raw *peers[SESSIONS];
	struct wire_semaphore_attached attached;
	struct rlimit limit, more;
	struct raw *last;
	int i;

	SYS(getrlimit(RLIMIT_NOFILE, &limit));
	if (limit.rlim_max < 4096)
		SKIP("needs 4096 descriptors");
	more = (struct rlimit){ limit.rlim_max, limit.rlim_max };
	SYS(setrlimit(RLIMIT_NOFILE, &more));
	for (i = 0; i < SESSIONS; i++) {
		peers[i] = raw_connect(broker);
		raw_hello(peers[i]);
		CHECK_OK(i == 0 ? raw_semaphore_create(peers[i], "s", SHMB_OWNED, 4, SHMB_ATTACHED,
						       &attached)
				: raw_semaphore_open(peers[i], "s", &attached));
		CHECK_INT(attached.slot, i + 1);
	}
	last = raw_connect(broker);
	raw_hello(last);
	CHECK_CODE(raw_semaphore_open(last, "s", &attached), SHMB_ESLOTS);
	raw_free(peers[500]);
	UNTIL(broker, broker_stat(broker, "slots") == SESSIONS - 1);
	CHECK_OK(raw_semaphore_open(last, "s", &attached));
	CHECK_INT(attached.slot, 501);
	raw_free(last);
	for (i = 0; i < SESSIONS; i++)
		if (i != 500)
			raw_free(peers[i]);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	SYS(setrlimit(RLIMIT_NOFILE, &limit));
}

/* ---- Without the broker ---- */

CASE(F37_locks_and_semaphores_go_on_when_the_broker_is_killed, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_lock *a = create_lock(client, "l", 0700, SHMB_ATTACHED);
	struct shmb_lock *b = open_lock(other, "l");
	struct shmb_semaphore *s = create_semaphore(client, "s", SHMB_OWNED, 0, 2, 0700);
	struct shmb_semaphore *t = open_semaphore(other, "s");
	struct shmb_region *region = create_with(client, "r", 0700, SHMB_ATTACHED);
	struct shmb_region *unlocked = create_with(client, "q", 0700, SHMB_ATTACHED);
	struct shmb_permit permit;

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_acquire(a, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_semaphore_take(s, 0, &permit));
	broker_crash(broker);
	CHECK_CODE(shmb_lock_acquire(b, SHMB_SHARED, 10), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_lock_release(a));
	CHECK_OK(shmb_lock_acquire(b, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_downgrade(b));
	CHECK_OK(shmb_lock_acquire(a, SHMB_SHARED, 0));
	CHECK_OK(shmb_lock_release(a));
	CHECK_OK(shmb_lock_release(b));
	CHECK_OK(shmb_semaphore_adopt(t, &permit));
	CHECK_OK(shmb_semaphore_give(t, &permit));
	CHECK_INT(shmb_semaphore_value(s), 2);
	CHECK_OK(shmb_region_unlock(region));
	/* What has to be asked for first has its time for that. */
	CHECK_OK(shmb_client_set_timeout(client, 100));
	CHECK_CODE(shmb_region_lock(unlocked, SHMB_SHARED, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_client_set_timeout(client, 10000));
	broker_restart(broker);
	CHECK_OK(shmb_region_lock(unlocked, SHMB_SHARED, 0));
	CHECK_OK(shmb_client_ping(other));
	shmb_region_free(unlocked);
	shmb_region_free(region);
	shmb_semaphore_free(t);
	shmb_semaphore_free(s);
	shmb_lock_free(b);
	shmb_lock_free(a);
	shmb_client_free(other);
	shmb_client_free(client);
}
