/* SPDX-License-Identifier: MIT */
/* The lock of a region and named locks: what each call answers, and what it leaves in the words. */

#include "fake_broker.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "layout/relax.h"
#include "region.h"

enum { TIMEOUT_MS = 200 };

struct state {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *one, *two; /* both may write */
	struct shmb_region *reader;    /* may only read */
	struct shmb_region *locker;    /* may read and lock */
	struct fake_region *truth;
};

static struct shmb_client *connect_spinning(struct fake *fake, int spin_us)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client;

	options.spin_us = spin_us;
	options.timeout_ms = TIMEOUT_MS;
	assert_code(shmb_client_connect(fake->path, &options, &client), 0);
	return client;
}

static int setup_spinning(void **state, int spin_us)
{
	struct state *all = calloc(1, sizeof(*all));
	unsigned both = SHMB_READ | SHMB_WRITE;

	assert_non_null(all);
	all->fake = fake_start();
	all->truth = fake_make(all->fake, "a", 4096, 4096);
	all->client = connect_spinning(all->fake, spin_us);
	assert_code(shmb_region_open(all->client, "a", both, NULL, &all->one), 0);
	assert_code(shmb_region_open(all->client, "a", both, NULL, &all->two), 0);
	assert_code(shmb_region_open(all->client, "a", SHMB_READ, NULL, &all->reader), 0);
	assert_code(shmb_region_open(all->client, "a", SHMB_READ | SHMB_LOCK, NULL, &all->locker),
		    0);
	*state = all;
	return 0;
}

static int setup(void **state)
{
	return setup_spinning(state, -1);
}

static int setup_sleeping(void **state)
{
	return setup_spinning(state, 0);
}

static int teardown(void **state)
{
	struct state *all = *state;

	shmb_region_free(all->one);
	shmb_region_free(all->two);
	shmb_region_free(all->reader);
	shmb_region_free(all->locker);
	shmb_client_free(all->client);
	fake_stop(all->fake);
	free(all);
	return 0;
}

static struct layout_lock *words_of(struct state *all)
{
	return fake_lock_of(all->fake, all->truth)->words;
}

static int lock(struct shmb_region *region, enum shmb_lock_kind kind)
{
	return shmb_region_lock(region, kind, 0);
}

/* What the broker does when the process of a handle is gone. */
static void die(struct state *all, const struct shmb_region *region)
{
	struct fake_lock *held = fake_lock_of(all->fake, all->truth);
	struct layout_locker dead = fake_locker(held, region->locker.words.slot);

	if (layout_lock_died_holding(&dead))
		all->truth->words->consistency = LAYOUT_OWNER_DIED;
	layout_lock_repair(&dead);
}

/* ---- Getting a slot ---- */

static void the_first_call_asks_and_only_that(void **state)
{
	struct state *all = *state;

	/* The one that was opened with the right asked at once. */
	assert_int_equal(fake_count(all->fake, WIRE_REGION_LOCK), 1);
	fake_wait(all->fake, WIRE_REGION_LOCK, 1);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_LOCK).params.handle.handle,
			 all->locker->handle);
	for (int i = 0; i < 3; i++) {
		assert_code(lock(all->one, SHMB_SHARED), 0);
		assert_code(shmb_region_unlock(all->one), 0);
	}
	assert_int_equal(fake_count(all->fake, WIRE_REGION_LOCK), 2);
	assert_int_equal(words_of(all)->published, 2);
}

static void nobody_else_gets_a_slot(void **state)
{
	struct state *all = *state;

	assert_code(lock(all->reader, SHMB_SHARED), SHMB_EMODE);
	assert_code(lock(all->one, (enum shmb_lock_kind)3), SHMB_EINVAL);
	assert_code(lock(all->one, (enum shmb_lock_kind)0), SHMB_EINVAL);
	fake_lock_of(all->fake, all->truth)->n_given = FAKE_SLOTS;
	assert_code(lock(all->two, SHMB_SHARED), SHMB_ESLOTS);
	fake_lock_of(all->fake, all->truth)->n_given = FAKE_SLOTS - 1;
	assert_code(lock(all->two, SHMB_SHARED), 0);
}

/* Answers region.lock with what the test has put into fake->context. */
struct lie {
	uint64_t slot, slots;
	int fd;
};

static bool tell_a_lie(struct fake *fake, const struct fake_seen *seen)
{
	const struct lie *lie = fake->context;
	struct wire_region_lock_result result = { .slot = lie->slot, .slots = lie->slots };

	fake_result(fake, seen, &result, &lie->fd, 1);
	return true;
}

static void a_segment_is_looked_at_before_it_is_used(void **state)
{
	struct state *all = *state;
	struct fake_lock *held = fake_lock_of(all->fake, all->truth);
	struct lie lies[] = {
		{ 2, FAKE_SLOTS, all->truth->page }, /* not a lock */
		{ FAKE_SLOTS + 1, FAKE_SLOTS, held->fd },
		{ 1, LAYOUT_LOCK_SLOTS_MAX, held->fd }, /* not that long */
	};

	fake_handle(all->fake, WIRE_REGION_LOCK, tell_a_lie);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		all->fake->context = &lies[i];
		assert_code(lock(all->one, SHMB_SHARED), SHMB_EPROTO);
	}
	held->words->version++;
	all->fake->context = &(struct lie){ 2, FAKE_SLOTS, held->fd };
	assert_code(lock(all->one, SHMB_SHARED), SHMB_EPROTO);
	held->words->version--;
	/* Failing once is not for ever. */
	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_int_equal(all->one->locker.words.slot, 2);
}

static bool say_nothing(struct fake *fake, const struct fake_seen *seen)
{
	return true;
}

static void a_broker_that_does_not_answer_costs_the_timeout(void **state)
{
	struct state *all = *state;

	fake_handle(all->fake, WIRE_REGION_LOCK, say_nothing);
	assert_code(lock(all->one, SHMB_SHARED), SHMB_ETIMEDOUT);
	fake_handle(all->fake, WIRE_REGION_LOCK, NULL);
	assert_code(lock(all->one, SHMB_SHARED), 0);
}

static void what_was_made_for_a_slot_that_is_not_there_goes_again(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct lie lie = { 1, FAKE_SLOTS, all->truth->page };
	struct shmb_region *region = NULL;
	unsigned closed = fake_count(all->fake, WIRE_REGION_CLOSE);

	all->fake->context = &lie;
	fake_handle(all->fake, WIRE_REGION_LOCK, tell_a_lie);
	options.access |= SHMB_LOCK;
	assert_code(shmb_region_create(all->client, "b", 10, &options, &region), SHMB_EPROTO);
	assert_null(region);
	fake_wait(all->fake, WIRE_REGION_CLOSE, closed + 1);
	assert_string_equal(fake_last(all->fake, WIRE_REGION_REMOVE).text, "b");
	assert_code(shmb_region_open(all->client, "a", SHMB_READ | SHMB_LOCK, NULL, &region),
		    SHMB_EPROTO);
	assert_null(region);
	fake_wait(all->fake, WIRE_REGION_CLOSE, closed + 2);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_REMOVE), 1);
}

static void the_size_of_the_table_travels(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	struct fake_seen seen;

	options.slots = LAYOUT_LOCK_SLOTS_MAX + 1;
	assert_code(shmb_region_create(all->client, "b", 10, &options, &region), SHMB_EINVAL);
	options.slots = 3;
	assert_code(shmb_region_create(all->client, "b", 10, &options, &region), 0);
	fake_wait(all->fake, WIRE_REGION_CREATE, 1);
	seen = fake_last(all->fake, WIRE_REGION_CREATE);
	assert_true(seen.params.create.has & WIRE_HAS(region_create_params, slots));
	assert_int_equal(seen.params.create.slots, 3);
	shmb_region_free(region);
	assert_code(shmb_region_create(all->client, "c", 10, NULL, &region), 0);
	fake_wait(all->fake, WIRE_REGION_CREATE, 2);
	seen = fake_last(all->fake, WIRE_REGION_CREATE);
	assert_false(seen.params.create.has & WIRE_HAS(region_create_params, slots));
	shmb_region_free(region);
}

/* ---- Locking ---- */

static void many_share_and_one_excludes(void **state)
{
	struct state *all = *state;

	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_code(lock(all->one, SHMB_SHARED), 0); /* counted */
	assert_code(lock(all->two, SHMB_SHARED), 0);
	assert_code(lock(all->locker, SHMB_EXCLUSIVE), SHMB_ETIMEDOUT);
	assert_int_equal(words_of(all)->word, 0); /* the claim was given up */
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(shmb_region_unlock(all->two), 0);
	assert_code(lock(all->locker, SHMB_EXCLUSIVE), SHMB_ETIMEDOUT);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(lock(all->locker, SHMB_EXCLUSIVE), 0);
	assert_code(lock(all->one, SHMB_SHARED), SHMB_ETIMEDOUT);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), SHMB_ETIMEDOUT);
	assert_code(shmb_region_unlock(all->locker), 0);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_code(shmb_region_unlock(all->one), 0);
}

static void what_is_not_held_cannot_be_given_back(void **state)
{
	struct state *all = *state;

	assert_code(shmb_region_unlock(all->one), SHMB_EINVAL); /* never locked */
	assert_code(shmb_region_downgrade(all->one), SHMB_EINVAL);
	assert_code(shmb_region_mark_consistent(all->one), SHMB_EINVAL);
	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_code(shmb_region_downgrade(all->one), SHMB_EINVAL);
	assert_code(shmb_region_mark_consistent(all->one), SHMB_EINVAL);
	assert_code(shmb_region_mark_consistent(all->locker), SHMB_EMODE);
	assert_code(shmb_region_unlock(all->two), SHMB_EINVAL);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(shmb_region_unlock(all->one), SHMB_EINVAL);
	assert_code(shmb_region_reset_lock(all->one), SHMB_EINVAL);
	assert_code(shmb_region_reset_lock(all->locker), SHMB_EMODE);
	assert_code(shmb_region_reset_lock(all->reader), SHMB_EMODE);
	assert_int_equal(layout_lock_shared(all->one->locker.words.own), 0);
}

static void who_holds_it_exclusively_cannot_wait_for_itself(void **state)
{
	struct state *all = *state;

	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_code(shmb_region_lock(all->one, SHMB_EXCLUSIVE, -1), SHMB_EDEADLK);
	assert_code(shmb_region_lock(all->one, SHMB_SHARED, -1), SHMB_EDEADLK);
	assert_code(lock(all->one, SHMB_SHARED), SHMB_EDEADLK);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(shmb_region_lock(all->one, SHMB_SHARED, -1), 0);
	assert_code(shmb_region_unlock(all->one), 0);
}

static void *try_in_thread(void *argument)
{
	return (void *)(intptr_t)shmb_region_lock(argument, SHMB_SHARED, 10);
}

static void another_thread_waits_for_it(void **state)
{
	struct state *all = *state;
	pthread_t thread;
	void *result;

	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_int_equal(pthread_create(&thread, NULL, try_in_thread, all->one), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_code((intptr_t)result, SHMB_ETIMEDOUT);
	assert_code(shmb_region_unlock(all->one), 0);
}

static void waiting_ends_at_the_timeout(void **state)
{
	struct state *all = *state;
	int64_t start = now_ms();

	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_code(shmb_region_lock(all->two, SHMB_EXCLUSIVE, 30), SHMB_ETIMEDOUT);
	assert_code(shmb_region_lock(all->two, SHMB_SHARED, 30), SHMB_ETIMEDOUT);
	assert_true(now_ms() - start >= 60);
	assert_code(shmb_region_downgrade(all->one), 0);
	start = now_ms();
	assert_code(shmb_region_lock(all->two, SHMB_EXCLUSIVE, 30), SHMB_ETIMEDOUT); /* drains */
	assert_true(now_ms() - start >= 30);
	/* Nothing is left of those who waited. */
	assert_int_equal(words_of(all)->word & LAYOUT_LOCK_SLOT, 0);
	assert_int_equal(words_of(all)->next, 0);
	assert_int_equal(all->two->locker.words.own->waiting_shared, 0);
	assert_int_equal(all->two->locker.words.own->waiting_exclusive, 0);
	assert_int_equal(all->two->locker.words.own->ticket, 0);
	assert_int_equal(layout_lock_shared(all->two->locker.words.own), 0);
	assert_code(shmb_region_unlock(all->one), 0);
}

static void downgrading_lets_readers_in_and_nobody_else(void **state)
{
	struct state *all = *state;

	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_int_equal(all->truth->words->writing & 1, 1);
	assert_code(shmb_region_downgrade(all->one), 0);
	assert_int_equal(all->truth->words->writing & 1, 0);
	assert_code(lock(all->two, SHMB_SHARED), 0);
	assert_code(lock(all->locker, SHMB_EXCLUSIVE), SHMB_ETIMEDOUT);
	assert_code(shmb_region_unlock(all->two), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(shmb_region_unlock(all->one), SHMB_EINVAL);
}

/* ---- Turns ---- */

static void a_turn_that_nobody_takes_is_passed_over(void **state)
{
	struct state *all = *state;
	struct layout_lock *words = words_of(all);
	int64_t start;

	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	words->slots[4].ticket = 1;
	words->next = 5;
	start = now_ms();
	assert_code(shmb_region_lock(all->one, SHMB_EXCLUSIVE, 10000), 0);
	assert_true(now_ms() - start < 5000);
	assert_int_equal(words->next, 0);
	assert_int_equal(words->slots[4].ticket, 0);
	assert_code(shmb_region_unlock(all->one), 0);
}

static void a_try_takes_what_is_free(void **state)
{
	struct state *all = *state;
	struct layout_lock *words = words_of(all);

	words->next = 5;
	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_int_equal(words->next, 5);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	words->next = 0;
}

struct greedy {
	struct shmb_region *region;
	_Atomic bool stop;
	_Atomic uint64_t rounds;
	int failures;
};

static void *take_again_and_again(void *argument)
{
	struct greedy *greedy = argument;

	while (!greedy->stop) {
		greedy->failures += shmb_region_lock(greedy->region, SHMB_EXCLUSIVE, -1) < 0;
		greedy->rounds++;
		greedy->failures += shmb_region_unlock(greedy->region) < 0;
	}
	return NULL;
}

/* With one that never lets go for longer than an instant the other would wait for luck. */
static void who_waits_gets_its_turn(void **state)
{
	struct state *all = *state;
	struct greedy greedy = { .region = all->one };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, take_again_and_again, &greedy), 0);
	while (greedy.rounds == 0)
		sched_yield();
	for (int i = 0; i < 100; i++) {
		assert_code(shmb_region_lock(all->two, i % 2 ? SHMB_SHARED : SHMB_EXCLUSIVE, 10000),
			    0);
		assert_code(shmb_region_unlock(all->two), 0);
	}
	greedy.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(greedy.failures, 0);
	assert_int_equal(words_of(all)->next, 0);
}

/* ---- Many threads ---- */

enum { THREADS = 4, ROUNDS = 3000 };

struct counting {
	struct shmb_region *region;
	bool reads;
	int failures;
};

static void *count(void *argument)
{
	struct counting *counting = argument;
	uint64_t *words = shmb_region_data(counting->region);

	for (int i = 0; i < ROUNDS; i++) {
		enum shmb_lock_kind kind = counting->reads ? SHMB_SHARED : SHMB_EXCLUSIVE;

		counting->failures += shmb_region_lock(counting->region, kind, -1) < 0;
		counting->failures += words[0] != words[100];
		if (!counting->reads) {
			words[0]++;
			words[100]++;
		}
		counting->failures += shmb_region_unlock(counting->region) < 0;
	}
	return NULL;
}

static void threads_exclude_each_other(void **state)
{
	struct state *all = *state;
	pthread_t threads[THREADS];
	struct counting counting[THREADS] = {
		{ .region = all->one },
		{ .region = all->one, .reads = true },
		{ .region = all->two },
		{ .region = all->locker, .reads = true },
	};
	uint64_t words[101];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, &counting[i]), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(counting[i].failures, 0);
	}
	memcpy(words, all->truth->bytes, sizeof(words));
	assert_int_equal(words[0], 2 * ROUNDS);
	assert_int_equal(words[100], 2 * ROUNDS);
	assert_int_equal(words_of(all)->word, 0);
}

static void *attach_and_lock(void *argument)
{
	struct shmb_region *region = argument;
	int result = shmb_region_lock(region, SHMB_SHARED, -1);

	return (void *)(intptr_t)(result < 0 ? result : shmb_region_unlock(region));
}

static void of_threads_that_race_one_asks(void **state)
{
	struct state *all = *state;
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, attach_and_lock, all->one), 0);
	for (int i = 0; i < THREADS; i++) {
		void *result;

		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_code((intptr_t)result, 0);
	}
	assert_int_equal(fake_count(all->fake, WIRE_REGION_LOCK), 2);
}

/* ---- Owners that die ---- */

static void the_next_one_hears_of_a_death(void **state)
{
	struct state *all = *state;
	char byte = 1;

	assert_code(lock(all->two, SHMB_EXCLUSIVE), 0);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), SHMB_EBUSY);
	die(all, all->two);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), SHMB_EOWNERDEAD);
	assert_code(lock(all->one, SHMB_SHARED), SHMB_EOWNERDEAD);
	assert_code(shmb_region_unlock(all->one), SHMB_EINVAL);
	/* Copies do not get a lock that they could not put right. */
	assert_code(shmb_region_write(all->one, 0, &byte, 1, SHMB_LOCKED), SHMB_EOWNERDEAD);
	assert_code(shmb_region_read(all->one, 0, &byte, 1, SHMB_LOCKED), SHMB_EOWNERDEAD);
	assert_int_equal(all->truth->bytes[0], 0);
	assert_int_equal(words_of(all)->word, LAYOUT_LOCK_DIED);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), SHMB_EOWNERDEAD); /* and held */
	assert_code(lock(all->locker, SHMB_EXCLUSIVE), SHMB_ETIMEDOUT);
	assert_code(shmb_region_downgrade(all->one), SHMB_EOWNERDEAD);
	assert_code(shmb_region_mark_consistent(all->one), 0);
	assert_code(shmb_region_mark_consistent(all->one), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(lock(all->locker, SHMB_SHARED), 0);
	assert_code(shmb_region_unlock(all->locker), 0);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), 0);
}

static void who_does_not_put_it_right_leaves_it_lost(void **state)
{
	struct state *all = *state;
	char byte;

	assert_code(lock(all->two, SHMB_EXCLUSIVE), 0);
	die(all, all->two);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), SHMB_EOWNERDEAD);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_int_equal(words_of(all)->word, LAYOUT_LOCK_LOST);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), SHMB_ENOTRECOVERABLE);
	assert_code(lock(all->locker, SHMB_SHARED), SHMB_ENOTRECOVERABLE);
	assert_code(shmb_region_write(all->one, 0, "x", 1, SHMB_LOCKED), SHMB_ENOTRECOVERABLE);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), SHMB_ENOTRECOVERABLE);
	assert_code(shmb_region_reset_lock(all->one), 0);
	assert_code(shmb_region_reset_lock(all->one), SHMB_EINVAL);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), SHMB_EOWNERDEAD);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), SHMB_EOWNERDEAD);
	assert_code(shmb_region_mark_consistent(all->one), 0);
	assert_code(shmb_region_downgrade(all->one), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), 0);
}

static void who_may_not_write_leaves_it_to_others(void **state)
{
	struct state *all = *state;
	uint64_t writing;

	assert_code(lock(all->two, SHMB_EXCLUSIVE), 0);
	writing = all->truth->words->writing;
	die(all, all->two);
	assert_code(lock(all->locker, SHMB_EXCLUSIVE), SHMB_EOWNERDEAD);
	assert_code(shmb_region_mark_consistent(all->locker), SHMB_EMODE);
	assert_code(shmb_region_unlock(all->locker), 0);
	assert_int_equal(words_of(all)->word, LAYOUT_LOCK_DIED);
	assert_int_equal(all->truth->words->writing, writing);
	assert_int_equal(all->truth->words->consistency, LAYOUT_OWNER_DIED);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), SHMB_EOWNERDEAD);
}

/* Between what it said in the page and what it was to say in the word. */
static void who_dies_losing_it_is_put_right_by_the_next(void **state)
{
	struct state *all = *state;
	char byte;

	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	words_of(all)->word = LAYOUT_LOCK_DIED;
	all->truth->words->consistency = LAYOUT_NOT_RECOVERABLE;
	assert_code(lock(all->one, SHMB_EXCLUSIVE), SHMB_EOWNERDEAD);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), SHMB_EOWNERDEAD);
	assert_code(shmb_region_mark_consistent(all->one), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(shmb_region_snapshot(all->reader, 0, &byte, 1), 0);
}

static void a_claimant_that_dies_leaves_nothing(void **state)
{
	struct state *all = *state;

	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_code(lock(all->two, SHMB_SHARED), 0);
	words_of(all)->word = all->two->locker.words.slot; /* claimed, not held */
	die(all, all->two);
	assert_int_equal(words_of(all)->word, 0);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_code(shmb_region_unlock(all->one), 0);
}

/* ---- Copies ---- */

static void locked_copies_wait_for_the_clients_timeout(void **state)
{
	struct state *all = *state;
	int64_t start;
	char byte = 'x';

	assert_code(shmb_region_write(all->one, 5, &byte, 1, SHMB_LOCKED), 0);
	assert_code(shmb_region_read(all->two, 5, &byte, 1, SHMB_LOCKED), 0);
	assert_int_equal(byte, 'x');
	assert_int_equal(words_of(all)->word, 0);
	assert_int_equal(all->truth->words->writing & 1, 0);
	assert_code(lock(all->two, SHMB_EXCLUSIVE), 0);
	start = now_ms();
	assert_code(shmb_region_read(all->one, 0, &byte, 1, SHMB_LOCKED), SHMB_ETIMEDOUT);
	assert_true(now_ms() - start >= TIMEOUT_MS);
	assert_code(shmb_region_write(all->two, 0, &byte, 1, SHMB_LOCKED), SHMB_EDEADLK);
	assert_code(shmb_region_write(all->two, 0, &byte, 1, 0), 0); /* holding it by hand */
	assert_code(shmb_region_unlock(all->two), 0);
}

static void locked_copies_are_checked_as_others(void **state)
{
	struct state *all = *state;
	char bytes[2] = { 0 };

	assert_code(shmb_region_read(all->one, 4095, bytes, 2, SHMB_LOCKED), SHMB_EBOUNDS);
	assert_code(shmb_region_write(all->one, 4095, bytes, 2, SHMB_LOCKED), SHMB_EBOUNDS);
	assert_code(shmb_region_read(all->one, 0, bytes, 1, 2), SHMB_EINVAL);
	assert_code(shmb_region_write(all->one, 0, bytes, 1, SHMB_LOCKED | 4), SHMB_EINVAL);
	assert_code(shmb_region_write(all->locker, 0, bytes, 1, SHMB_LOCKED), SHMB_EMODE);
	assert_code(shmb_region_read(all->reader, 0, bytes, 1, SHMB_LOCKED), SHMB_EMODE);
	assert_code(shmb_region_read(all->locker, 0, bytes, 1, SHMB_LOCKED), 0);
	assert_int_equal(words_of(all)->word, 0);
	assert_int_equal(layout_lock_shared(all->locker->locker.words.own), 0);
}

static void a_snapshot_is_of_one_moment(void **state)
{
	struct state *all = *state;
	char bytes[8] = { 0 };
	int64_t start;

	memcpy(all->truth->bytes, "abcdefgh", 8);
	assert_code(shmb_region_snapshot(all->reader, 2, bytes, 3), 0);
	assert_memory_equal(bytes, "cde", 3);
	assert_code(shmb_region_snapshot(all->reader, 4096, NULL, 0), 0);
	assert_code(shmb_region_snapshot(all->reader, 4095, bytes, 2), SHMB_EBOUNDS);
	all->truth->words->writing = 7;
	start = now_ms();
	assert_code(shmb_region_snapshot(all->reader, 0, bytes, 8), SHMB_EBUSY);
	assert_true(now_ms() - start < 2000);
	all->truth->words->writing = 8;
	assert_code(shmb_region_snapshot(all->reader, 0, bytes, 8), 0);
	assert_memory_equal(bytes, "abcdefgh", 8);
}

static void *write_torn(void *argument)
{
	struct greedy *greedy = argument;
	uint64_t *words = shmb_region_data(greedy->region);

	while (!greedy->stop) {
		greedy->failures += shmb_region_lock(greedy->region, SHMB_EXCLUSIVE, -1) < 0;
		for (int i = 0; i < 64; i++)
			words[i]++;
		greedy->failures += shmb_region_unlock(greedy->region) < 0;
		greedy->rounds++;
		for (int i = 0; i < 100; i++)
			cpu_relax();
	}
	return NULL;
}

static void a_snapshot_is_never_torn(void **state)
{
	struct state *all = *state;
	struct greedy greedy = { .region = all->one };
	pthread_t thread;
	int taken = 0;

	assert_int_equal(pthread_create(&thread, NULL, write_torn, &greedy), 0);
	while (greedy.rounds < 2000 || taken == 0) {
		uint64_t words[64];
		int result = shmb_region_snapshot(all->reader, 0, words, sizeof(words));

		if (result == SHMB_EBUSY)
			continue;
		assert_code(result, 0);
		taken++;
		for (int i = 1; i < 64; i++)
			assert_int_equal(words[i], words[0]);
	}
	greedy.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(greedy.failures, 0);
}

/* ---- Closing, forking ---- */

struct sleeper {
	struct shmb_region *region;
	enum shmb_lock_kind kind;
	int result;
	int64_t ended;
};

static void *sleep_for_it(void *argument)
{
	struct sleeper *sleeper = argument;

	sleeper->result = shmb_region_lock(sleeper->region, sleeper->kind, -1);
	sleeper->ended = now_ms();
	return NULL;
}

static void close_under(struct state *all, enum shmb_lock_kind held, enum shmb_lock_kind wanted)
{
	struct sleeper sleeper = { .region = all->two, .kind = wanted };
	pthread_t thread;
	int64_t start;

	assert_code(lock(all->one, held), 0);
	assert_int_equal(pthread_create(&thread, NULL, sleep_for_it, &sleeper), 0);
	while (all->two->locker.n_sleeping == 0)
		sched_yield();
	start = now_ms();
	assert_code(shmb_region_close(all->two), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_code(sleeper.result, SHMB_ECLOSED);
	assert_true(sleeper.ended - start < 1500); /* a slice at the latest */
	assert_code(lock(all->two, SHMB_SHARED), SHMB_ECLOSED);
	assert_code(shmb_region_unlock(all->two), SHMB_ECLOSED);
	assert_code(shmb_region_downgrade(all->two), SHMB_ECLOSED);
	assert_code(shmb_region_mark_consistent(all->two), SHMB_ECLOSED);
	assert_code(shmb_region_reset_lock(all->two), SHMB_ECLOSED);
	assert_code(shmb_region_snapshot(all->two, 0, NULL, 0), SHMB_ECLOSED);
	assert_code(shmb_region_unlock(all->one), 0);
}

static void closing_wakes_who_waits_for_the_word(void **state)
{
	close_under(*state, SHMB_EXCLUSIVE, SHMB_SHARED);
}

static void closing_wakes_who_waits_for_readers(void **state)
{
	close_under(*state, SHMB_SHARED, SHMB_EXCLUSIVE);
}

/* Another thread closes the handle when the lock has been claimed and is free of readers. */
static void a_lock_that_was_got_too_late_is_left_as_it_was(void **state)
{
	struct state *all = *state;
	struct locker *late = &all->one->locker;

	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_code(shmb_region_unlock(all->one), 0);
	assert_true(layout_lock_claim_fast(&late->words));
	late->state = LOCKER_CLOSED;
	assert_code(locker_lock_slowly(late, SHMB_EXCLUSIVE, 0, LOCKER_CLAIMED), SHMB_ECLOSED);
	assert_int_equal(words_of(all)->word, 0);
	assert_int_equal(all->truth->words->consistency, LAYOUT_CONSISTENT);
	late->state = LOCKER_READY;
	assert_code(lock(all->two, SHMB_EXCLUSIVE), 0);
}

/* With no broker to do it: the fake one only listens. */
static void a_freed_handle_lets_go_by_itself(void **state)
{
	struct state *all = *state;

	assert_code(lock(all->one, SHMB_SHARED), 0);
	assert_code(lock(all->one, SHMB_SHARED), 0);
	all->one = shmb_region_free(all->one);
	assert_code(lock(all->two, SHMB_EXCLUSIVE), 0);
	all->two = shmb_region_free(all->two);
	assert_int_equal(all->truth->words->consistency, LAYOUT_OWNER_DIED);
	assert_int_equal(words_of(all)->word, LAYOUT_LOCK_DIED);
	assert_code(lock(all->locker, SHMB_SHARED), SHMB_EOWNERDEAD);
	/* Of one that may not write it the broker tells the others. */
	assert_code(lock(all->locker, SHMB_EXCLUSIVE), SHMB_EOWNERDEAD);
	all->locker = shmb_region_free(all->locker);
	assert_int_not_equal(words_of(all)->word & LAYOUT_LOCK_SLOT, 0);
}

static void a_closed_handle_writes_into_no_slot(void **state)
{
	struct state *all = *state;
	struct layout_lock_slot *slot;

	assert_code(lock(all->one, SHMB_SHARED), 0);
	slot = &words_of(all)->slots[all->one->locker.words.slot - 1];
	assert_int_equal(layout_lock_shared(slot), 1);
	assert_code(shmb_region_close(all->one), 0);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 1);
	/* The broker's to undo; what was left of our address range is our own. */
	all->one->locker.words.own->readers = 77;
	assert_int_equal(layout_lock_shared(slot), 1);
}

static int child(void *argument)
{
	struct state *all = argument;
	struct shmb_region *region = all->one;
	char byte;
	bool right = shmb_region_lock(region, SHMB_SHARED, -1) == SHMB_EFORKED &&
		     shmb_region_unlock(region) == SHMB_EFORKED &&
		     shmb_region_downgrade(region) == SHMB_EFORKED &&
		     shmb_region_mark_consistent(region) == SHMB_EFORKED &&
		     shmb_region_reset_lock(region) == SHMB_EFORKED &&
		     shmb_region_snapshot(region, 0, &byte, 1) == SHMB_EFORKED &&
		     shmb_region_read(region, 0, &byte, 1, SHMB_LOCKED) == SHMB_EFORKED;

	shmb_region_free(region);
	return right ? 0 : 1;
}

static void a_child_holds_nothing(void **state)
{
	struct state *all = *state;

	assert_code(lock(all->one, SHMB_EXCLUSIVE), 0);
	assert_int_equal(fake_in_child(child, all), 0);
	assert_int_equal(words_of(all)->word, all->one->locker.words.slot);
	assert_code(shmb_region_unlock(all->one), 0);
}

/* ---- Named locks ---- */

static void a_named_lock_is_made_and_opened(void **state)
{
	struct state *all = *state;
	struct shmb_lock_options options = SHMB_LOCK_OPTIONS_INIT;
	struct shmb_lock *one = NULL, *two = NULL;
	struct fake_seen seen;

	assert_code(shmb_lock_open(all->client, "l", &one), SHMB_ENOENT);
	options.mode = 0770;
	options.lifetime = SHMB_PERSISTENT;
	options.slots = 5;
	assert_code(shmb_lock_create(all->client, "l", &options, &one), 0);
	fake_wait(all->fake, WIRE_LOCK_CREATE, 1);
	seen = fake_last(all->fake, WIRE_LOCK_CREATE);
	assert_string_equal(seen.text, "l");
	assert_int_equal(seen.params.lock_create.mode, 0770);
	assert_int_equal(seen.params.lock_create.lifetime, SHMB_PERSISTENT);
	assert_int_equal(seen.params.lock_create.slots, 5);
	assert_false(seen.params.lock_create.open_existing);
	assert_code(shmb_lock_create(all->client, "l", NULL, &two), SHMB_EEXIST);
	assert_code(shmb_lock_open_or_create(all->client, "l", NULL, &two), 0);
	shmb_lock_free(two);
	assert_code(shmb_lock_open_or_create(all->client, "m", NULL, &two), 1);
	shmb_lock_free(two);
	assert_code(shmb_lock_open(all->client, "l", &two), 0);
	shmb_lock_free(two);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 3);
	assert_null(shmb_lock_free(one));
	assert_null(shmb_lock_free(NULL));
}

static void a_named_lock_is_used_as_others(void **state)
{
	struct state *all = *state;
	struct shmb_lock *one, *two;
	struct fake_lock *truth;
	struct layout_locker dead;

	assert_code(shmb_lock_create(all->client, "l", NULL, &one), 0);
	assert_code(shmb_lock_open(all->client, "l", &two), 0);
	assert_code(shmb_lock_acquire(one, (enum shmb_lock_kind)0, 0), SHMB_EINVAL);
	assert_code(shmb_lock_acquire(one, SHMB_EXCLUSIVE, 0), 0);
	assert_code(shmb_lock_acquire(one, SHMB_SHARED, -1), SHMB_EDEADLK);
	assert_code(shmb_lock_acquire(two, SHMB_SHARED, 10), SHMB_ETIMEDOUT);
	assert_code(shmb_lock_downgrade(one), 0);
	assert_code(shmb_lock_downgrade(one), SHMB_EINVAL);
	assert_code(shmb_lock_acquire(two, SHMB_SHARED, 0), 0);
	assert_code(shmb_lock_release(two), 0);
	assert_code(shmb_lock_release(two), SHMB_EINVAL);
	assert_code(shmb_lock_release(one), 0);
	assert_code(shmb_lock_reset(one), SHMB_EINVAL);
	assert_code(shmb_lock_mark_consistent(one), SHMB_EINVAL);

	truth = fake_named_lock(all->fake, "l");
	assert_code(shmb_lock_acquire(two, SHMB_EXCLUSIVE, 0), 0);
	dead = fake_locker(truth, 2);
	assert_true(layout_lock_died_holding(&dead));
	layout_lock_repair(&dead);
	assert_code(shmb_lock_acquire(one, SHMB_SHARED, 0), SHMB_EOWNERDEAD);
	assert_code(shmb_lock_acquire(one, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	assert_code(shmb_lock_release(one), 0);
	assert_code(shmb_lock_acquire(one, SHMB_SHARED, 0), SHMB_ENOTRECOVERABLE);
	assert_code(shmb_lock_reset(one), 0);
	assert_code(shmb_lock_acquire(one, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	assert_code(shmb_lock_downgrade(one), SHMB_EOWNERDEAD);
	assert_code(shmb_lock_mark_consistent(one), 0);
	assert_code(shmb_lock_release(one), 0);
	assert_code(shmb_lock_acquire(one, SHMB_SHARED, 0), 0);
	assert_code(shmb_lock_release(one), 0);
	shmb_lock_free(one);
	shmb_lock_free(two);
}

static void bad_options_are_refused(void **state)
{
	struct state *all = *state;
	struct shmb_lock_options options = SHMB_LOCK_OPTIONS_INIT;
	struct shmb_lock *made = NULL;

	options.mode = 01000;
	assert_code(shmb_lock_create(all->client, "l", &options, &made), SHMB_EINVAL);
	options = (struct shmb_lock_options)SHMB_LOCK_OPTIONS_INIT;
	options.slots = 1025;
	assert_code(shmb_lock_create(all->client, "l", &options, &made), SHMB_EINVAL);
	options = (struct shmb_lock_options)SHMB_LOCK_OPTIONS_INIT;
	options.lifetime = (enum shmb_lifetime)3;
	assert_code(shmb_lock_create(all->client, "l", &options, &made), SHMB_EINVAL);
	options = (struct shmb_lock_options)SHMB_LOCK_OPTIONS_INIT;
	options.struct_size = 1;
	assert_code(shmb_lock_create(all->client, "l", &options, &made), SHMB_EINVAL);
	assert_code(shmb_lock_create(all->client, "/l", NULL, &made), SHMB_EINVAL);
	assert_code(shmb_lock_open(all->client, NULL, &made), SHMB_EINVAL);
	assert_null(made);
	assert_int_equal(fake_count(all->fake, WIRE_LOCK_CREATE), 0);
}

static bool lie_of_a_lock(struct fake *fake, const struct fake_seen *seen)
{
	const struct lie *lie = fake->context;
	struct wire_lock_attached result = {
		.handle = 99, .id = 1, .slot = lie->slot, .slots = lie->slots, .created = true
	};

	fake_result(fake, seen, &result, &lie->fd, 1);
	return true;
}

static void what_cannot_be_used_is_given_back(void **state)
{
	struct state *all = *state;
	struct lie lie = { 1, 1, all->truth->page };
	struct shmb_lock *made = NULL;
	struct fake_seen seen;

	all->fake->context = &lie;
	fake_handle(all->fake, WIRE_LOCK_CREATE, lie_of_a_lock);
	assert_code(shmb_lock_create(all->client, "l", NULL, &made), SHMB_EPROTO);
	assert_null(made);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 1);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_CLOSE).params.handle.handle, 99);
	seen = fake_last(all->fake, WIRE_REGION_REMOVE);
	assert_string_equal(seen.text, "l");
	assert_int_equal(seen.params.remove.kind, OBJECT_LOCK);
}

static int named_child(void *argument)
{
	struct shmb_lock *held = argument;
	bool right = shmb_lock_acquire(held, SHMB_SHARED, -1) == SHMB_EFORKED &&
		     shmb_lock_release(held) == SHMB_EFORKED &&
		     shmb_lock_downgrade(held) == SHMB_EFORKED &&
		     shmb_lock_mark_consistent(held) == SHMB_EFORKED &&
		     shmb_lock_reset(held) == SHMB_EFORKED;

	shmb_lock_free(held);
	return right ? 0 : 1;
}

static void a_child_has_no_named_lock(void **state)
{
	struct state *all = *state;
	struct shmb_lock *held;

	assert_code(shmb_lock_create(all->client, "l", NULL, &held), 0);
	assert_code(shmb_lock_acquire(held, SHMB_EXCLUSIVE, 0), 0);
	assert_int_equal(fake_in_child(named_child, held), 0);
	assert_int_equal(fake_named_lock(all->fake, "l")->words->word, 1);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_CLOSE), 0);
	assert_code(shmb_lock_release(held), 0);
	shmb_lock_free(held);
}

#define CASE(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SLEEPING(name) cmocka_unit_test_setup_teardown(name, setup_sleeping, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_first_call_asks_and_only_that),
		CASE(nobody_else_gets_a_slot),
		CASE(a_segment_is_looked_at_before_it_is_used),
		CASE(a_broker_that_does_not_answer_costs_the_timeout),
		CASE(what_was_made_for_a_slot_that_is_not_there_goes_again),
		CASE(the_size_of_the_table_travels),
		CASE(many_share_and_one_excludes),
		CASE(what_is_not_held_cannot_be_given_back),
		CASE(who_holds_it_exclusively_cannot_wait_for_itself),
		CASE(another_thread_waits_for_it),
		CASE(waiting_ends_at_the_timeout),
		SLEEPING(waiting_ends_at_the_timeout),
		CASE(downgrading_lets_readers_in_and_nobody_else),
		CASE(a_turn_that_nobody_takes_is_passed_over),
		SLEEPING(a_turn_that_nobody_takes_is_passed_over),
		CASE(a_try_takes_what_is_free),
		CASE(who_waits_gets_its_turn),
		SLEEPING(who_waits_gets_its_turn),
		CASE(threads_exclude_each_other),
		SLEEPING(threads_exclude_each_other),
		CASE(of_threads_that_race_one_asks),
		CASE(the_next_one_hears_of_a_death),
		CASE(who_does_not_put_it_right_leaves_it_lost),
		CASE(who_may_not_write_leaves_it_to_others),
		CASE(who_dies_losing_it_is_put_right_by_the_next),
		CASE(a_claimant_that_dies_leaves_nothing),
		CASE(locked_copies_wait_for_the_clients_timeout),
		CASE(locked_copies_are_checked_as_others),
		CASE(a_snapshot_is_of_one_moment),
		CASE(a_snapshot_is_never_torn),
		CASE(closing_wakes_who_waits_for_the_word),
		CASE(closing_wakes_who_waits_for_readers),
		SLEEPING(closing_wakes_who_waits_for_readers),
		CASE(a_lock_that_was_got_too_late_is_left_as_it_was),
		CASE(a_freed_handle_lets_go_by_itself),
		CASE(a_closed_handle_writes_into_no_slot),
		CASE(a_child_holds_nothing),
		CASE(a_named_lock_is_made_and_opened),
		CASE(a_named_lock_is_used_as_others),
		CASE(bad_options_are_refused),
		CASE(what_cannot_be_used_is_given_back),
		CASE(a_child_has_no_named_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
