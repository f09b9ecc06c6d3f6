/* SPDX-License-Identifier: MIT */
/*
 * The lock of a region: who may use it, who gets it, and what it keeps apart, between processes of
 * several users, clients of one process, and threads of one client.
 */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum { SIZE = 8192 };

static struct shmb_region_options with_mode(uint32_t mode)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.mode = mode;
	return options;
}

/* Everybody may do everything. */
static struct shmb_region *create_open(struct shmb_client *client, const char *name, uint32_t slots)
{
	struct shmb_region_options options = with_mode(0777);

	options.slots = slots;
	return create(client, name, SIZE, &options);
}

/* ---- Who may ---- */

enum { READ_ONLY = SHMB_READ, LOCKER = SHMB_READ | SHMB_LOCK, WRITER = SHMB_READ | SHMB_WRITE };

static const struct {
	const char *name;
	uint32_t mode;                 /* the last digit is what the others get */
	int read_only, locker, writer; /* what opening so gives */
} rights[] = {
	{ "r/4", 0704, 0, SHMB_EACCES, SHMB_EACCES },
	{ "r/5", 0705, 0, 0, SHMB_EACCES },
	{ "r/6", 0706, 0, 0, 0 },
	{ "r/7", 0707, 0, 0, 0 },
	{ "r/1", 0701, SHMB_EACCES, SHMB_EACCES, SHMB_EACCES },
};
enum { RIGHTS = sizeof(rights) / sizeof(rights[0]) };

/* Opened so, may it lock? */
static void try_right(struct shmb_client *client, const char *name, unsigned access, int opens)
{
	int expected = access == READ_ONLY ? SHMB_EMODE : 0;
	int held = access == READ_ONLY ? SHMB_EINVAL : 0;
	struct shmb_region *region = NULL;

	CHECK_CODE(shmb_region_open(client, name, access, NULL, &region), opens);
	if (opens)
		return;
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 0), expected);
	CHECK_CODE(shmb_region_unlock(region), held);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), expected);
	CHECK_CODE(shmb_region_downgrade(region), held);
	CHECK_CODE(shmb_region_unlock(region), held);
	shmb_region_free(region);
}

static void try_rights(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	size_t i;

	for (i = 0; i < RIGHTS; i++) {
		try_right(client, rights[i].name, READ_ONLY, rights[i].read_only);
		try_right(client, rights[i].name, LOCKER, rights[i].locker);
		try_right(client, rights[i].name, WRITER, rights[i].writer);
	}
	shmb_client_free(client);
}

CASE(F37_the_mode_decides_who_may_lock, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[RIGHTS];
	size_t i;

	for (i = 0; i < RIGHTS; i++) {
		struct shmb_region_options options = with_mode(rights[i].mode);

		regions[i] = create(client, rights[i].name, SIZE, &options);
	}
	actor_run(broker, &CAROL, try_rights, NULL);
	for (i = 0; i < RIGHTS; i++)
		shmb_region_free(regions[i]);
	shmb_client_free(client);
}

/* Whatever a reader says to the broker, and however often, it gets no descriptor of the lock. */
static void ask_for_the_lock_without_the_right(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	struct wire_region_attached attached;
	struct wire_region_handle params;
	unsigned before;
	int fds[2], i;

	raw_hello(raw);
	CHECK_CODE(raw_open(raw, "r", LOCKER, &attached, fds), SHMB_EACCES);
	CHECK_OK(raw_open(raw, "r", READ_ONLY, &attached, fds));
	before = fd_count(getpid());
	params.handle = attached.handle;
	for (i = 0; i < 3; i++) {
		CHECK_CODE(raw_call(raw, WIRE_REGION_LOCK, &params, NULL), SHMB_EMODE);
		CHECK_INT(raw->packet.n_fds, 0);
		CHECK_INT(fd_count(getpid()), before);
	}
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}

CASE(F37_read_access_alone_gets_no_lock_segment, SYSTEM)
{
	struct shmb_region_options options = with_mode(0704);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, &options);

	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0)); /* there is one */
	actor_run(broker, &CAROL, ask_for_the_lock_without_the_right, NULL);
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Shared and exclusive ---- */

static const struct told as_writer = { .name = "r", .access = WRITER };

static struct actor start(struct broker *broker, const struct identity *identity)
{
	return actor_start(broker, identity, lock_as_told, (void *)(uintptr_t)&as_writer);
}

CASE(F37_many_share_or_one_excludes, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct actor alice = start(broker, &ALICE);
	struct actor bob = start(broker, &BOB);
	struct actor carol = start(broker, &CAROL);

	CHECK_OK(tell(&alice, ORDER_SHARED));
	CHECK_OK(tell(&bob, ORDER_SHARED));
	CHECK_CODE(tell(&carol, ORDER_EXCLUSIVE), SHMB_ETIMEDOUT);
	CHECK_OK(tell(&carol, ORDER_SHARED)); /* the failed attempt left nothing */
	CHECK_INT(look_at_lock(client, "r").readers, 3);
	CHECK_OK(tell(&carol, ORDER_UNLOCK));
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	CHECK_CODE(tell(&carol, ORDER_EXCLUSIVE), SHMB_ETIMEDOUT);
	CHECK_OK(tell(&bob, ORDER_UNLOCK));
	CHECK_OK(tell(&carol, ORDER_EXCLUSIVE));
	CHECK_CODE(tell(&alice, ORDER_SHARED), SHMB_ETIMEDOUT);
	CHECK_CODE(tell(&bob, ORDER_EXCLUSIVE), SHMB_ETIMEDOUT);
	CHECK_OK(tell(&carol, ORDER_UNLOCK));
	CHECK_OK(tell(&bob, ORDER_EXCLUSIVE));
	CHECK_OK(tell(&bob, ORDER_UNLOCK));
	dismiss(&alice);
	dismiss(&bob);
	dismiss(&carol);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(who_waits_gets_the_lock_when_it_is_given_back, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct actor writer = start(broker, &ALICE);
	struct actor readers[3];
	size_t i;

	for (i = 0; i < 3; i++)
		readers[i] = start(broker, &BOB);
	CHECK_OK(tell(&writer, ORDER_EXCLUSIVE));
	for (i = 0; i < 3; i++)
		actor_say(&readers[i], ORDER_SHARED | ORDER_WAITING);
	UNTIL(broker, look_at_lock(client, "r").waiting_shared == 3);
	CHECK_OK(tell(&writer, ORDER_UNLOCK));
	for (i = 0; i < 3; i++)
		CHECK_OK(answer(&readers[i]));
	/* And the other way round: the writer is let in when the last of them has left. */
	actor_say(&writer, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(client, "r").pending);
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 0), SHMB_ETIMEDOUT); /* bars new ones */
	for (i = 0; i < 3; i++) {
		CHECK(look_at_lock(client, "r").pending);
		CHECK_OK(tell(&readers[i], ORDER_UNLOCK));
	}
	CHECK_OK(answer(&writer));
	CHECK(look_at_lock(client, "r").held);
	CHECK_OK(tell(&writer, ORDER_UNLOCK));
	for (i = 0; i < 3; i++)
		dismiss(&readers[i]);
	dismiss(&writer);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(nobody_comes_between_a_downgrade, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct actor alice = start(broker, &ALICE);
	struct actor bob = start(broker, &BOB);

	CHECK_CODE(tell(&alice, ORDER_DOWNGRADE), SHMB_EINVAL);
	CHECK_OK(tell(&alice, ORDER_EXCLUSIVE));
	actor_say(&bob, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(client, "r").waiting_exclusive == 1);
	CHECK_OK(tell(&alice, ORDER_DOWNGRADE));
	/* It may have claimed the lock meanwhile, but cannot hold it. */
	CHECK_INT(look_at_lock(client, "r").held, 0);
	CHECK_INT(look_at_lock(client, "r").readers, 1);
	CHECK_CODE(tell(&alice, ORDER_DOWNGRADE), SHMB_EINVAL);
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	CHECK_OK(answer(&bob));
	CHECK_OK(tell(&bob, ORDER_DOWNGRADE));
	CHECK_OK(tell(&alice, ORDER_SHARED));
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	CHECK_OK(tell(&bob, ORDER_UNLOCK));
	dismiss(&alice);
	dismiss(&bob);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(a_timed_wait_ends_in_time_and_leaves_nothing, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct actor alice = start(broker, &ALICE);
	struct shmb_lock_info info;
	int64_t start = harness_now_ms();

	CHECK_OK(tell(&alice, ORDER_SHARED));
	/* It claims the lock, waits for the reader, and takes the claim back. */
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 100), SHMB_ETIMEDOUT);
	CHECK(harness_now_ms() - start >= 100);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	CHECK_OK(tell(&alice, ORDER_EXCLUSIVE));
	start = harness_now_ms();
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 100), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 100), SHMB_ETIMEDOUT);
	CHECK(harness_now_ms() - start >= 200);
	CHECK(harness_now_ms() - start < 5000 * harness_slow());
	info = look_at_lock(client, "r");
	CHECK_INT(info.waiting_shared, 0);
	CHECK_INT(info.waiting_exclusive, 0);
	CHECK_INT(info.readers, 0);
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	dismiss(&alice);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(what_is_no_lock_call_is_refused, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	char byte = 0;

	CHECK_CODE(shmb_region_unlock(region), SHMB_EINVAL);
	CHECK_CODE(shmb_region_downgrade(region), SHMB_EINVAL);
	CHECK_CODE(shmb_region_mark_consistent(region), SHMB_EINVAL);
	CHECK_CODE(shmb_region_reset_lock(region), SHMB_EINVAL);
	CHECK_CODE(shmb_region_lock(region, (enum shmb_lock_kind)0, 0), SHMB_EINVAL);
	CHECK_CODE(shmb_region_lock(region, (enum shmb_lock_kind)3, 0), SHMB_EINVAL);
	CHECK_CODE(shmb_region_read(region, 0, &byte, 1, 2), SHMB_EINVAL);
	CHECK_CODE(shmb_region_write(region, 0, &byte, 1, SHMB_LOCKED | 4), SHMB_EINVAL);
	CHECK_CODE(shmb_region_read(reader, 0, &byte, 1, SHMB_LOCKED), SHMB_EMODE);
	CHECK_CODE(shmb_region_mark_consistent(reader), SHMB_EMODE);
	CHECK_CODE(shmb_region_reset_lock(reader), SHMB_EMODE);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_CODE(shmb_region_downgrade(region), SHMB_EINVAL);
	CHECK_CODE(shmb_region_mark_consistent(region), SHMB_EINVAL);
	CHECK_OK(shmb_region_unlock(region));
	CHECK_CODE(shmb_region_unlock(region), SHMB_EINVAL);
	CHECK_OK(shmb_region_close(region));
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, -1), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_unlock(region), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_snapshot(region, 0, &byte, 1), SHMB_ECLOSED);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Within a process ---- */

CASE(F37_clients_and_handles_of_one_process_exclude_each_other, PRIVATE)
{
	struct shmb_client *one = connect_to(broker), *two = connect_to(broker);
	struct shmb_region *a = create_open(one, "r", 0);
	struct shmb_region *b = open_region(one, "r", WRITER);
	struct shmb_region *c = open_region(two, "r", LOCKER);

	CHECK_OK(shmb_region_lock(a, SHMB_EXCLUSIVE, 0));
	CHECK_CODE(shmb_region_lock(a, SHMB_EXCLUSIVE, 0), SHMB_EDEADLK);
	CHECK_CODE(shmb_region_lock(a, SHMB_EXCLUSIVE, -1), SHMB_EDEADLK);
	CHECK_CODE(shmb_region_lock(a, SHMB_SHARED, -1), SHMB_EDEADLK);
	CHECK_CODE(shmb_region_lock(b, SHMB_EXCLUSIVE, 0), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_lock(c, SHMB_SHARED, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_downgrade(a));
	CHECK_OK(shmb_region_lock(b, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_lock(c, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_lock(c, SHMB_SHARED, 0)); /* counted */
	CHECK_INT(look_at_lock(one, "r").readers, 4);
	CHECK_OK(shmb_region_unlock(a));
	CHECK_OK(shmb_region_unlock(b));
	CHECK_OK(shmb_region_unlock(c));
	CHECK_CODE(shmb_region_lock(a, SHMB_EXCLUSIVE, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_unlock(c));
	CHECK_OK(shmb_region_lock(c, SHMB_EXCLUSIVE, 0)); /* lock right without write */
	CHECK_OK(shmb_region_unlock(c));
	shmb_region_free(a);
	shmb_region_free(b);
	shmb_region_free(c);
	shmb_client_free(one);
	shmb_client_free(two);
}

enum { THREADS = 4, ROUNDS = 2000 };

/* Two words that are equal whenever nobody writes. Plain memory: the lock alone keeps it apart. */
struct pair {
	uint64_t first, second;
};

static void *write_and_read(void *argument)
{
	struct shmb_region *region = argument;
	struct pair *pair = shmb_region_data(region);
	int i;

	for (i = 0; i < ROUNDS; i++) {
		CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
		pair->first++;
		pair->second++;
		CHECK_OK(shmb_region_unlock(region));
		CHECK_OK(shmb_region_lock(region, SHMB_SHARED, -1));
		CHECK_INT(pair->first, pair->second);
		CHECK_OK(shmb_region_unlock(region));
	}
	return NULL;
}

static void run_threads(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[2] = { open_region(client, "r", WRITER),
					   open_region(client, "r", WRITER) };
	pthread_t threads[THREADS];
	size_t i;

	for (i = 0; i < THREADS; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, write_and_read, regions[i % 2]), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	shmb_region_free(regions[0]);
	shmb_region_free(regions[1]);
	shmb_client_free(client);
}

CASE(F36_threads_of_several_processes_share_one_lock, SYSTEM, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct actor alice = actor_start(broker, &ALICE, run_threads, NULL);
	struct actor bob = actor_start(broker, &BOB, run_threads, NULL);
	struct pair *pair = shmb_region_data(region);

	actor_end(&alice);
	actor_end(&bob);
	CHECK_INT(pair->first, 2 * THREADS * ROUNDS);
	CHECK_INT(pair->second, 2 * THREADS * ROUNDS);
	CHECK_INT(look_at_lock(client, "r").readers, 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

struct thread_of_a_handle {
	struct shmb_region *region;
	_Atomic int result;
};

static void *wait_for_the_lock(void *argument)
{
	struct thread_of_a_handle *thread = argument;

	atomic_store(&thread->result, shmb_region_lock(thread->region, SHMB_EXCLUSIVE, -1));
	return NULL;
}

/* A thread that waits while another closes the handle is told, and the close does not wait. */
CASE(F36_closing_a_handle_ends_the_waiting_of_its_threads, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct thread_of_a_handle thread = { open_region(client, "r", WRITER), 1 };
	pthread_t id;

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_INT(pthread_create(&id, NULL, wait_for_the_lock, &thread), 0);
	UNTIL(broker, look_at_lock(client, "r").waiting_exclusive == 1);
	CHECK_OK(shmb_region_close(thread.region));
	pthread_join(id, NULL); /* it holds the lock all the while */
	CHECK_CODE(atomic_load(&thread.result), SHMB_ECLOSED);
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(thread.region);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Copies under the lock ---- */

enum { RECORD = 4000, RECORDS = 3000 };

static void check_record(const unsigned char *record)
{
	int i;

	for (i = 1; i < RECORD; i++)
		if (record[i] != record[0])
			FAIL("torn: byte %d is %u, the first is %u", i, record[i], record[0]);
}

static void write_records(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", WRITER);
	unsigned char record[RECORD];
	int i;

	for (i = 0; i < RECORDS; i++) {
		memset(record, i + (int)geteuid(), RECORD);
		CHECK_OK(shmb_region_write(region, 100, record, RECORD, SHMB_LOCKED));
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static void read_records(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", LOCKER);
	unsigned char record[RECORD];
	int i;

	for (i = 0; i < RECORDS; i++) {
		CHECK_OK(shmb_region_read(region, 100, record, RECORD, SHMB_LOCKED));
		check_record(record);
	}
	CHECK_CODE(shmb_region_write(region, 100, record, RECORD, SHMB_LOCKED), SHMB_EMODE);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_locked_reads_never_see_half_of_a_locked_write, SYSTEM, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r", 0);
	struct actor actors[4];
	size_t i;

	actors[0] = actor_start(broker, &ALICE, write_records, NULL);
	actors[1] = actor_start(broker, &BOB, write_records, NULL);
	actors[2] = actor_start(broker, &CAROL, read_records, NULL);
	actors[3] = actor_start(broker, &ALICE, read_records, NULL);
	for (i = 0; i < 4; i++)
		actor_end(&actors[i]);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(a_locked_copy_waits_for_as_long_as_the_client_s_timeout, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *holder = create_open(client, "r", 0);
	struct shmb_region *region = open_region(other, "r", WRITER);
	struct shmb_error error = { .struct_size = sizeof(error) };
	char before[4] = "abc", after[4] = "xyz";

	CHECK_OK(shmb_region_write(holder, 0, before, 4, 0));
	CHECK_OK(shmb_client_set_timeout(other, 50));
	CHECK_OK(shmb_region_lock(holder, SHMB_EXCLUSIVE, 0));
	CHECK_CODE(shmb_region_write(region, 0, after, 4, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_read(region, 0, after, 4, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_STRING(after, "xyz");
	CHECK_CODE(shmb_region_read(region, SIZE - 3, after, 4, SHMB_LOCKED), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_last_error(region, &error));
	CHECK_INT(error.offset, SIZE - 3);
	/* The holder's own copy under the lock would wait for itself. */
	CHECK_CODE(shmb_region_write(holder, 0, after, 4, SHMB_LOCKED), SHMB_EDEADLK);
	CHECK_OK(shmb_region_read(holder, 0, after, 4, 0));
	CHECK_STRING(after, "abc");
	CHECK_OK(shmb_region_unlock(holder));
	CHECK_OK(shmb_region_write(region, 0, "new", 4, SHMB_LOCKED));
	CHECK_OK(shmb_region_read(holder, 0, after, 4, SHMB_LOCKED));
	CHECK_STRING(after, "new");
	shmb_region_free(region);
	shmb_region_free(holder);
	shmb_client_free(other);
	shmb_client_free(client);
}

/* ---- Slots ---- */

CASE(F37_slots_run_out_and_come_back, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *first = create_open(client, "r", 2), *second, *third;
	struct actor alice = start(broker, &ALICE);
	struct shmb_region *none = NULL;

	CHECK_INT(broker_stat(broker, "slots"), 0); /* to be attached costs none */
	CHECK_OK(tell(&alice, ORDER_SHARED));
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	CHECK_INT(broker_stat(broker, "slots"), 1);
	second = open_region(client, "r", LOCKER); /* asked for at once */
	CHECK_INT(broker_stat(broker, "slots"), 2);
	CHECK_CODE(shmb_region_lock(first, SHMB_EXCLUSIVE, -1), SHMB_ESLOTS);
	CHECK_CODE(shmb_region_open(client, "r", LOCKER, NULL, &none), SHMB_ESLOTS);
	CHECK(!none);
	third = open_region(client, "r", WRITER); /* without locking it may be there */
	CHECK_INT(look_at_lock(client, "r").slots, 2);
	CHECK_INT(look_at_lock(client, "r").slots_used, 2);

	CHECK_OK(shmb_region_close(second)); /* free after a close ... */
	CHECK_OK(shmb_region_lock(first, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(first));
	CHECK_CODE(shmb_region_lock(third, SHMB_SHARED, 0), SHMB_ESLOTS);
	actor_kill(&alice); /* ... and after a death */
	UNTIL(broker, broker_stat(broker, "slots") == 1);
	CHECK_OK(shmb_region_lock(third, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(third));
	shmb_region_free(third);
	shmb_region_free(second);
	shmb_region_free(first);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	shmb_client_free(client);
}

CASE(the_largest_table_of_slots_can_be_used_up, PRIVATE, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *first = create_open(client, "r", 1024), *none = NULL;
	struct shmb_region *regions[1024];
	size_t i;

	CHECK_OK(shmb_region_lock(first, SHMB_SHARED, 0));
	for (i = 1; i < 1024; i++) {
		CHECK_OK(shmb_region_open(client, "r", LOCKER, NULL, &regions[i]));
		CHECK_OK(shmb_region_lock(regions[i], SHMB_SHARED, 0));
	}
	CHECK_CODE(shmb_region_open(client, "r", LOCKER, NULL, &none), SHMB_ESLOTS);
	CHECK_INT(look_at_lock(client, "r").readers, 1024);
	CHECK_INT(look_at_lock(client, "r").slots_used, 1024);
	for (i = 1; i < 1024; i++)
		CHECK_OK(shmb_region_unlock(regions[i]));
	CHECK_CODE(shmb_region_lock(regions[1023], SHMB_EXCLUSIVE, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_unlock(first));
	CHECK_OK(shmb_region_lock(regions[1023], SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(regions[1023]));
	for (i = 1; i < 1024; i++)
		shmb_region_free(regions[i]);
	shmb_region_free(first);
	shmb_client_free(client);
}

CASE(a_table_of_slots_has_a_size, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;

	options.slots = 1025;
	CHECK_CODE(shmb_region_create(client, "r", SIZE, &options, &region), SHMB_EINVAL);
	region = create(client, "r", SIZE, NULL);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_INT(look_at_lock(client, "r").slots, 62);
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Fairness: counted in acquisitions, not in time ---- */

/* What the lock guards: how often anybody has had it exclusively, and whether to go on. */
struct tally {
	_Atomic uint64_t acquisitions;
	_Atomic uint32_t stop;
};

/* So long that the lock is held nearly all the time, and who wants it has to sleep. */
static void work(void)
{
	volatile unsigned i;

	for (i = 0; i < 20000; i++)
		;
}

static void hammer(struct broker *broker, void *argument)
{
	enum shmb_lock_kind kind = *(enum shmb_lock_kind *)argument;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", WRITER);
	struct tally *tally = shmb_region_data(region);

	CHECK_OK(shmb_region_lock(region, kind, -1));
	CHECK_OK(shmb_region_unlock(region));
	say(1);
	while (!atomic_load(&tally->stop)) {
		CHECK_OK(shmb_region_lock(region, kind, -1));
		atomic_fetch_add(&tally->acquisitions, 1);
		work();
		CHECK_OK(shmb_region_unlock(region));
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* TURNS: one of each that asked before, and some for the scheduler. Without turns it is some 70. */
enum { WAITS = 101, HAMMERS = 3, TURNS = 4 * HAMMERS };

/*
 * How many others came first, in the middle of many waits. Who does not spin asks for its turn at
 * once. Until it has asked, and for as long as the system lets it wait for a processor, others come
 * first all the same: therefore the median, and for the worst a bound that only starvation exceeds.
 * @courtesy_ms: how long the others may go on while it holds back for those whose turn it is
 */
static void check_turns(struct broker *broker, enum shmb_lock_kind theirs, enum shmb_lock_kind ours,
			uint64_t courtesy_ms)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *owner = connect_to(broker), *client = NULL;
	struct shmb_region *region = create_open(owner, "r", 0), *own;
	struct tally *tally = shmb_region_data(region);
	struct actor actors[HAMMERS];
	uint64_t others[WAITS], before, per_ms;
	int64_t start;
	size_t i;

	options.spin_us = 0;
	CHECK_OK(shmb_client_connect(broker->socket, &options, &client));
	keep_reachable(client);
	own = open_region(client, "r", WRITER);
	CHECK_OK(shmb_region_lock(own, ours, -1));
	CHECK_OK(shmb_region_unlock(own));
	for (i = 0; i < HAMMERS; i++)
		actors[i] = actor_start(broker, &ALICE, hammer, &theirs);
	for (i = 0; i < HAMMERS; i++)
		actor_hear(&actors[i]);
	start = harness_now_ms();
	for (i = 0; i < WAITS; i++) {
		while (shmb_region_lock(own, ours, 0) == 0) /* until somebody has it */
			CHECK_OK(shmb_region_unlock(own));
		before = atomic_load(&tally->acquisitions);
		CHECK_OK(shmb_region_lock(own, ours, 20000 * (int)harness_slow()));
		others[i] = atomic_load(&tally->acquisitions) - before;
		CHECK_OK(shmb_region_unlock(own));
	}
	per_ms = atomic_load(&tally->acquisitions) / (uint64_t)(harness_now_ms() - start + 1) + 1;
	atomic_store(&tally->stop, 1);
	for (i = 0; i < HAMMERS; i++)
		actor_end(&actors[i]);
	qsort(others, WAITS, sizeof(others[0]), compare);
	print_message("others came first: median %llu, worst %llu\n",
		      (unsigned long long)others[WAITS / 2], (unsigned long long)others[WAITS - 1]);
	CHECK(others[WAITS / 2] <= TURNS + courtesy_ms * per_ms);
	CHECK(others[WAITS - 1] <= 1000000);
	shmb_region_free(own);
	shmb_region_free(region);
	shmb_client_free(client);
	shmb_client_free(owner);
}

CASE(a_writer_among_hammering_writers_gets_its_turn, SYSTEM, .timeout_s = 120)
{
	check_turns(broker, SHMB_EXCLUSIVE, SHMB_EXCLUSIVE, 0);
}

CASE(a_reader_among_hammering_writers_gets_its_turn, SYSTEM, .timeout_s = 120)
{
	check_turns(broker, SHMB_EXCLUSIVE, SHMB_SHARED, 0);
}

/* Readers come in together, in any number, while the writer lets each of them have its turn, who
 * waits for a processor. */
CASE(a_writer_among_hammering_readers_gets_its_turn, SYSTEM, .timeout_s = 120)
{
	check_turns(broker, SHMB_SHARED, SHMB_EXCLUSIVE, 4 * HAMMERS);
}
