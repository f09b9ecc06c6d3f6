/* SPDX-License-Identifier: MIT */
/*
 * Resizing under load, within the capacity and beyond it: writers and readers of several processes
 * and threads at work, views held, whoever grows killed, and the daemon, too.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

enum {
	PAGE = 4096,
	/* Two counters that are equal whenever nobody is in the lock; the second lies on a page of
	 * its own. */
	FIRST = 0,
	SECOND = PAGE + 64,
	LEAST = 2 * PAGE, /* the region never gets smaller */
	THREADS = 3,
	LONG_MS = 20000,
	FOREVER = 1000000, /* resizes of one that is killed */
};

static struct shmb_region *make(struct shmb_client *client, enum shmb_backing backing)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	options.backing = backing;
	region = create(client, "r", LEAST, &options);
	CHECK_OK(shmb_region_write_u64(region, FIRST, 1));
	CHECK_OK(shmb_region_write_u64(region, SECOND, 1));
	return region;
}

struct worker {
	struct shmb_region *region;
	_Atomic bool *stop;
	pthread_mutex_t *turn; /* a handle's lock is for one of its threads at a time */
	uint64_t n;
};

/* ---- What they do ---- */

/* One more in both, under the lock. Return: false: somebody died in there. */
static bool add_one(struct shmb_region *region)
{
	uint64_t first = 0, second = 0;
	int result = shmb_region_lock(region, SHMB_EXCLUSIVE, LONG_MS);

	if (result == SHMB_EOWNERDEAD)
		CHECK_OK(shmb_region_mark_consistent(region));
	else
		CHECK_OK(result);
	CHECK_OK(shmb_region_read_u64(region, FIRST, &first));
	CHECK_OK(shmb_region_read_u64(region, SECOND, &second));
	if (result == 0)
		CHECK_INT(first, second);
	CHECK_OK(shmb_region_write_u64(region, FIRST, first + 1));
	CHECK_OK(shmb_region_write_u64(region, SECOND, first + 1));
	CHECK_OK(shmb_region_unlock(region));
	return result == 0;
}

static void *write_on(void *argument)
{
	struct worker *worker = argument;

	while (!*worker->stop) {
		pthread_mutex_lock(worker->turn);
		add_one(worker->region);
		worker->n++;
		pthread_mutex_unlock(worker->turn);
	}
	return NULL;
}

/* Without the lock: never zero, never less than before. */
static void *read_on(void *argument)
{
	struct worker *worker = argument;
	uint64_t before = 1, now;

	for (; !*worker->stop; worker->n++) {
		now = 0;
		CHECK_OK(shmb_region_read_u64(worker->region, FIRST, &now));
		if (now < before)
			FAIL("%llu after %llu", (unsigned long long)now,
			     (unsigned long long)before);
		before = now;
	}
	return NULL;
}

/* Untorn, without the right to lock. */
static void *take_snapshots(void *argument)
{
	struct worker *worker = argument;
	unsigned char bytes[LEAST];
	uint64_t first, second;

	for (; !*worker->stop; worker->n++) {
		int result = shmb_region_snapshot(worker->region, 0, bytes, sizeof(bytes));

		if (result == SHMB_EBUSY || result == SHMB_EOWNERDEAD)
			continue;
		CHECK_OK(result);
		memcpy(&first, bytes + FIRST, sizeof(first));
		memcpy(&second, bytes + SECOND, sizeof(second));
		CHECK(first != 0);
		CHECK_INT(first, second);
	}
	return NULL;
}

/* As long as it is held it does not move or fault, and does not turn to zeros. */
static void *hold_views(void *argument)
{
	struct worker *worker = argument;
	struct shmb_view view;

	for (; !*worker->stop; worker->n++) {
		CHECK_OK(shmb_region_view(worker->region, 0, LEAST, 0, SHMB_READ, &view));
		for (int i = 0; i < 100; i++) {
			const volatile uint64_t *word = view.data;

			CHECK(word[FIRST / 8] != 0 && word[SECOND / 8] != 0);
		}
		CHECK_OK(shmb_view_release(&view));
	}
	return NULL;
}

/* What is readable is within the size of some moment, and its end reads as it was written or as
 * zero; what is beyond the capacity never is. */
static void *read_the_end(void *argument)
{
	struct worker *worker = argument;
	uint8_t byte;

	for (; !*worker->stop; worker->n++) {
		uint64_t size = shmb_region_size(worker->region);
		int result = shmb_region_read_u8(worker->region, size - 1, &byte);

		CHECK(size >= LEAST && size <= shmb_region_capacity(worker->region));
		CHECK(result == 0 || result == SHMB_EBOUNDS);
		CHECK(result != 0 || byte == 0 || byte == 0xee);
	}
	return NULL;
}

/* ---- Whoever resizes ---- */

static void lock_to_grow(struct shmb_region *region)
{
	int result = shmb_region_lock(region, SHMB_EXCLUSIVE, LONG_MS);

	if (result == SHMB_EOWNERDEAD)
		CHECK_OK(shmb_region_mark_consistent(region));
	else
		CHECK_OK(result);
}

/* Down again, and up within the capacity; the bytes that come back are zeros. */
static void shrink_and_back(struct shmb_region *region, uint64_t more)
{
	uint8_t byte = 1;

	CHECK_OK(shmb_region_resize(region, LEAST));
	CHECK_CODE(shmb_region_read_u8(region, more - 1, &byte), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_resize(region, more));
	CHECK_OK(shmb_region_read_u8(region, more - 1, &byte));
	CHECK_INT(byte, 0);
	CHECK_OK(shmb_region_resize(region, more - PAGE / 2));
}

/* @alone: nobody else resizes, so it need not have the lock for what is within the capacity. */
static void resize_once(struct shmb_region *region, bool alone)
{
	uint64_t more;

	lock_to_grow(region);
	more = shmb_region_capacity(region) + PAGE;
	CHECK_OK(shmb_region_resize(region, more));
	CHECK_OK(shmb_region_write_u8(region, more - 1, 0xee));
	if (!alone)
		shrink_and_back(region, more);
	CHECK_OK(shmb_region_unlock(region));
	if (alone)
		shrink_and_back(region, more);
}

static void resize_on(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	unsigned n = *(unsigned *)argument;

	for (unsigned i = 0; i < n; i++) {
		resize_once(region, n < FOREVER);
		add_one(region);
		/* Nobody listens to one that is going to be killed. */
		if (i == 0 || (i % 20 == 0 && n < FOREVER))
			say(1);
	}
	say(2);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* However long it takes in all, it goes on. */
static void await_resizes(struct actor *grower)
{
	uint64_t said;

	do
		said = actor_hear(grower);
	while (said == 1);
	CHECK_INT(said, 2);
}

/* ---- A process full of threads ---- */

struct crowd {
	struct shmb_client *client;
	struct shmb_region *region, *reader;
	_Atomic bool stop;
	pthread_mutex_t turn;
	struct worker workers[2 * THREADS + 3];
	pthread_t threads[2 * THREADS + 3];
	unsigned n;
};

static void start(struct crowd *crowd, struct shmb_region *region, void *(*function)(void *))
{
	struct worker *worker = &crowd->workers[crowd->n];

	*worker = (struct worker){ region, &crowd->stop, &crowd->turn, 0 };
	CHECK_INT(pthread_create(&crowd->threads[crowd->n++], NULL, function, worker), 0);
}

/* Writers through one handle, readers of all kinds through another that can only read. */
static void crowd_start(struct crowd *crowd, struct broker *broker)
{
	*crowd = (struct crowd){ .client = connect_to(broker) };
	pthread_mutex_init(&crowd->turn, NULL);
	crowd->region = open_region(crowd->client, "r", SHMB_READ | SHMB_WRITE);
	crowd->reader = open_region(crowd->client, "r", SHMB_READ);
	for (int i = 0; i < THREADS; i++)
		start(crowd, crowd->region, write_on);
	for (int i = 0; i < THREADS; i++)
		start(crowd, crowd->reader, read_on);
	start(crowd, crowd->reader, take_snapshots);
	start(crowd, crowd->reader, hold_views);
	start(crowd, crowd->reader, read_the_end);
}

/* Return: how often the counters were raised. */
static uint64_t crowd_stop(struct crowd *crowd)
{
	uint64_t n = 0;

	crowd->stop = true;
	for (unsigned i = 0; i < crowd->n; i++) {
		pthread_join(crowd->threads[i], NULL);
		CHECK(crowd->workers[i].n > 0);
		n += i < THREADS ? crowd->workers[i].n : 0;
	}
	shmb_region_free(crowd->reader);
	shmb_region_free(crowd->region);
	shmb_client_free(crowd->client);
	pthread_mutex_destroy(&crowd->turn);
	return n;
}

static void be_a_crowd(struct broker *broker, void *argument)
{
	struct crowd crowd;

	(void)argument;
	crowd_start(&crowd, broker);
	say(1);
	hear();
	say(crowd_stop(&crowd));
}

static void check_counters(struct shmb_region *region, uint64_t expected)
{
	uint64_t first = 0, second = 0;

	CHECK_OK(shmb_region_read_u64(region, FIRST, &first));
	CHECK_OK(shmb_region_read_u64(region, SECOND, &second));
	CHECK_INT(first, second);
	CHECK_INT(first, expected);
}

static void resize_under_load(struct broker *broker, enum shmb_backing backing, unsigned n)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, backing);
	struct actor grower, other;
	struct crowd crowd;
	uint64_t added = 1 + n;

	other = actor_start(broker, &SELF, be_a_crowd, NULL);
	CHECK_INT(actor_hear(&other), 1);
	/* Forked before there are threads here. */
	grower = actor_start(broker, &SELF, resize_on, &n);
	crowd_start(&crowd, broker);
	await_resizes(&grower);
	actor_end(&grower);
	added += crowd_stop(&crowd);
	actor_say(&other, 1);
	added += actor_hear(&other);
	actor_end(&other);
	check_counters(region, added);
	CHECK(shmb_region_capacity(region) == LEAST + (uint64_t)n * PAGE);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Each round is four resizes. */
CASE(F33_resizing_shm_under_load, PRIVATE, .timeout_s = 90)
{
	resize_under_load(broker, SHMB_BACKING_SHM, harness_slow() > 1 ? 60 : 300);
}

CASE(F33_resizing_memfds_under_load, PRIVATE, .timeout_s = 90)
{
	resize_under_load(broker, SHMB_BACKING_MEMFD, harness_slow() > 1 ? 60 : 300);
}

/* ---- Deaths ---- */

/*
 * Killed somewhere: at the lock, in the copy, while the daemon makes or takes over a segment. What
 * it had added in the counters it may have added once only; those of the others are all there.
 */
CASE(F33_the_grower_is_killed, PRIVATE, .timeout_s = 90)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, SHMB_BACKING_SHM);
	struct actor growers[30];
	unsigned rounds = harness_slow() > 1 ? 8 : 30, forever = FOREVER;
	struct crowd crowd;

	/* Each waits for the one before to be gone, at the lock at the latest. */
	for (unsigned i = 0; i < rounds; i++)
		growers[i] = actor_start(broker, &SELF, resize_on, &forever);
	crowd_start(&crowd, broker);
	for (unsigned i = 0; i < rounds; i++) {
		actor_hear(&growers[i]);
		for (unsigned j = 0; j < i; j++)
			broker_turn(broker);
		actor_kill(&growers[i]);
	}
	CHECK(crowd_stop(&crowd) > 0);
	lock_to_grow(region);
	CHECK_OK(shmb_region_resize(region, shmb_region_capacity(region) + PAGE));
	CHECK_OK(shmb_region_unlock(region));
	CHECK(shmb_region_capacity(region) >= LEAST + (uint64_t)rounds * PAGE);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F33_the_daemon_is_killed, PRIVATE, .timeout_s = 90)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, SHMB_BACKING_SHM);
	unsigned rounds = harness_slow() > 1 ? 4 : 15, n = rounds * 20;
	struct actor grower;
	struct crowd crowd;
	uint64_t added;

	grower = actor_start(broker, &SELF, resize_on, &n);
	crowd_start(&crowd, broker);
	CHECK_INT(actor_hear(&grower), 1);
	for (unsigned i = 0; i < rounds; i++) {
		broker_crash(broker);
		broker_restart(broker);
	}
	await_resizes(&grower);
	actor_end(&grower);
	added = 1 + n + crowd_stop(&crowd);
	check_counters(region, added);
	CHECK_INT(shmb_region_capacity(region), LEAST + (uint64_t)n * PAGE);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Threads ---- */

/* All of a process come after at once, and one of them closes the handle. */
static void *touch_on(void *argument)
{
	struct worker *worker = argument;
	uint64_t word;
	int result;

	do {
		word = 0;
		result = shmb_region_read_u64(worker->region, FIRST, &word);
		CHECK(result == 0 || result == SHMB_ECLOSED);
		CHECK(result != 0 || word == 1);
		worker->n++;
	} while (result == 0);
	return NULL;
}

CASE(F33_threads_that_follow_while_the_handle_is_closed, PRIVATE, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, SHMB_BACKING_SHM);

	for (unsigned round = 0; round < 40; round++) {
		struct shmb_region *reader = open_region(client, "r", SHMB_READ);
		struct worker workers[THREADS];
		pthread_t threads[THREADS];

		for (int i = 0; i < THREADS; i++) {
			workers[i] = (struct worker){ .region = reader };
			CHECK_INT(pthread_create(&threads[i], NULL, touch_on, &workers[i]), 0);
		}
		lock_to_grow(region);
		CHECK_OK(shmb_region_resize(region, shmb_region_capacity(region) + PAGE));
		CHECK_OK(shmb_region_unlock(region));
		CHECK_OK(shmb_region_close(reader));
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		shmb_region_free(reader);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}
