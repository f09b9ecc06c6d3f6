/* SPDX-License-Identifier: MIT */
/*
 * Growing and following with a broker that is slow, forgets, refuses, or says what cannot be.
 */

#include "fake_broker.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "region.h"

enum { PAGE = 4096, SHORT_MS = 60 };

struct state {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *region;
	/* What the broker has: */
	int data;          /* the region's segment, once it has moved; -1: not yet */
	int begun;         /* the one that was asked for; -1: none */
	uint64_t capacity; /* of that */
	unsigned forget;   /* times that it loses it before it is told */
	bool silent;       /* does what it is told, and does not say so */
	bool late;         /* does nothing, and says nothing */
	bool lie;          /* what it says of the segment makes no sense */
	uint32_t generation;
};

static int new_segment(uint64_t bytes)
{
	int fd = memfd_create("segment", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void forget(struct state *all)
{
	if (all->begun >= 0)
		close(all->begun);
	all->begun = -1;
}

static bool begin(struct fake *fake, const struct fake_seen *seen)
{
	struct state *all = fake->context;
	struct wire_region_grow_result result = { .capacity = 3 * PAGE };

	forget(all);
	all->begun = new_segment(3 * PAGE);
	fake_result(fake, seen, &result, &all->begun, 1);
	if (all->forget > 0) {
		all->forget--;
		forget(all);
	}
	return true;
}

static void take_over(struct fake *fake, struct state *all)
{
	struct fake_region *region = fake_region(fake, "a");

	if (all->data >= 0)
		close(all->data);
	all->data = all->begun;
	all->begun = -1;
	atomic_store(&region->words->size, 3 * PAGE);
	atomic_store(&region->words->generation, ++all->generation);
}

static bool end(struct fake *fake, const struct fake_seen *seen)
{
	struct state *all = fake->context;
	struct wire_error error = { .code = wire_string("not-found") };
	struct wire_empty result = { 0 };

	if (all->late)
		return true;
	if (all->begun < 0) {
		fake_error(seen, &error);
		return true;
	}
	take_over(fake, all);
	if (!all->silent)
		fake_result(fake, seen, &result, NULL, 0);
	return true;
}

static bool give(struct fake *fake, const struct fake_seen *seen)
{
	struct state *all = fake->context;
	struct fake_region *region = fake_region(fake, "a");
	bool moved = all->data >= 0;
	struct wire_region_data_result result = {
		.generation = all->generation,
		.size = moved ? 3 * PAGE : PAGE,
		.capacity = all->lie ? 9 * PAGE
			    : moved  ? 3 * PAGE
				     : PAGE,
	};

	fake_result(fake, seen, &result, moved ? &all->data : &region->data, 1);
	return true;
}

static int setup(void **state)
{
	struct state *all = calloc(1, sizeof(*all));
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	assert_non_null(all);
	all->data = all->begun = -1;
	all->fake = fake_start();
	all->fake->context = all;
	fake_handle(all->fake, WIRE_REGION_GROW, begin);
	fake_handle(all->fake, WIRE_REGION_GROWN, end);
	fake_handle(all->fake, WIRE_REGION_DATA, give);
	all->client = fake_connect(all->fake, 5000);
	options.flags = SHMB_KEEP_FD;
	assert_code(shmb_region_create(all->client, "a", PAGE, &options, &all->region), 0);
	assert_code(shmb_region_write_u32(all->region, 100, 1), 0);
	assert_code(shmb_region_lock(all->region, SHMB_EXCLUSIVE, 0), 0);
	*state = all;
	return 0;
}

static int teardown(void **state)
{
	struct state *all = *state;

	shmb_region_free(all->region);
	shmb_client_free(all->client);
	forget(all);
	if (all->data >= 0)
		close(all->data);
	fake_stop(all->fake);
	free(all);
	return 0;
}

static void check_grown(struct state *all)
{
	uint32_t value = 0;

	assert_int_equal(shmb_region_size(all->region), 3 * PAGE);
	assert_code(shmb_region_read_u32(all->region, 100, &value), 0);
	assert_int_equal(value, 1);
	assert_code(shmb_region_write_u32(all->region, 3 * PAGE - 4, 5), 0);
	assert_int_equal(pread(all->data, &value, 4, 3 * PAGE - 4), 4);
	assert_int_equal(value, 5);
	assert_code(shmb_region_unlock(all->region), 0);
}

static void it_asks_copies_and_tells(void **state)
{
	struct state *all = *state;

	assert_code(shmb_region_resize(all->region, 3 * PAGE), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_GROW), 1);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_GROWN), 1);
	check_grown(all);
	/* It knows by itself where the region is. */
	assert_int_equal(fake_count(all->fake, WIRE_REGION_DATA), 0);
}

static void it_begins_again_when_the_broker_has_forgotten(void **state)
{
	struct state *all = *state;

	all->forget = 3;
	assert_code(shmb_region_resize(all->region, 3 * PAGE), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_GROW), 4);
	check_grown(all);
}

static void it_does_not_begin_again_for_ever(void **state)
{
	struct state *all = *state;

	all->forget = 1000;
	assert_code(shmb_region_resize(all->region, 3 * PAGE), SHMB_ENOENT);
	assert_true(fake_count(all->fake, WIRE_REGION_GROW) < 100);
	assert_code(shmb_region_write_u32(all->region, 0, 1), 0);
}

/*
 * The answer does not come, but it was done: what is written now must not go to the old segment,
 * where nobody will find it.
 */
static void what_was_done_without_an_answer_is_found_out(void **state)
{
	struct state *all = *state;

	assert_code(shmb_client_set_timeout(all->client, SHORT_MS), 0);
	all->silent = true;
	assert_code(shmb_region_resize(all->region, 3 * PAGE), SHMB_ETIMEDOUT);
	assert_code(shmb_client_set_timeout(all->client, 5000), 0);
	check_grown(all);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_DATA), 1);
}

/* It was not done, and may still be: the next call asks, and then it is known. */
static void what_was_not_done_is_found_out(void **state)
{
	struct state *all = *state;
	uint32_t value;

	assert_code(shmb_client_set_timeout(all->client, SHORT_MS), 0);
	all->late = true;
	assert_code(shmb_region_resize(all->region, 3 * PAGE), SHMB_ETIMEDOUT);
	fake_pause(all->fake, true);
	assert_code(shmb_region_write_u32(all->region, 0, 7), SHMB_ETIMEDOUT);
	assert_code(shmb_region_read_u32(all->region, 0, &value), SHMB_ETIMEDOUT);
	fake_pause(all->fake, false);
	assert_code(shmb_client_set_timeout(all->client, 5000), 0);
	assert_code(shmb_region_write_u32(all->region, 0, 7), 0);
	assert_int_equal(shmb_region_size(all->region), PAGE);
	assert_code(shmb_region_read_u32(all->region, 100, &value), 0);
	assert_int_equal(value, 1);
	all->late = false;
	assert_code(shmb_region_resize(all->region, 3 * PAGE), 0);
	check_grown(all);
}

/* The broker is told under which holding of the lock the copy was made. */
static void it_tells_under_which_lock(void **state)
{
	struct state *all = *state;
	struct fake_region *region = fake_region(all->fake, "a");
	struct fake_seen seen;

	assert_code(shmb_region_unlock(all->region), 0);
	assert_code(shmb_region_lock(all->region, SHMB_EXCLUSIVE, 0), 0);
	assert_code(shmb_region_resize(all->region, 3 * PAGE), 0);
	seen = fake_last(all->fake, WIRE_REGION_GROWN);
	assert_true(seen.params.grown.has & WIRE_HAS(region_grown_params, writing));
	assert_int_equal(seen.params.grown.writing, 3);
	assert_int_equal(region->words->writing, 3);
	check_grown(all);
}

/* Whoever may write the page may have written this: one question, and all is as before. */
static void a_spoilt_generation_costs_a_question(void **state)
{
	struct state *all = *state;
	struct fake_region *region = fake_region(all->fake, "a");
	void *data = shmb_region_data(all->region);
	uint32_t value;

	atomic_store(&region->words->generation, 12345);
	for (unsigned i = 0; i < 10; i++)
		assert_code(shmb_region_read_u32(all->region, 100, &value), 0);
	assert_int_equal(value, 1);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_DATA), 1);
	assert_ptr_equal(shmb_region_data(all->region), data);
	/* And growing works all the same. */
	atomic_store(&region->words->generation, 54321);
	assert_code(shmb_region_resize(all->region, 3 * PAGE), 0);
	check_grown(all);
}

static void what_cannot_be_is_refused(void **state)
{
	struct state *all = *state;
	struct fake_region *region = fake_region(all->fake, "a");
	uint32_t value;

	all->lie = true;
	all->generation = 1;
	atomic_store(&region->words->generation, 1);
	assert_code(shmb_region_read_u32(all->region, 100, &value), SHMB_EPROTO);
	all->lie = false;
	assert_code(shmb_region_read_u32(all->region, 100, &value), 0);
	assert_int_equal(value, 1);
}

static void *read_one(void *argument)
{
	uint32_t value = 0;

	assert_code(shmb_region_read_u32(argument, 100, &value), 0);
	assert_int_equal(value, 1);
	return NULL;
}

/* Of several threads that come after one asks. */
static void one_thread_asks_for_all(void **state)
{
	struct state *all = *state;
	pthread_t threads[8];

	all->begun = new_segment(3 * PAGE);
	assert_int_equal(pwrite(all->begun, &(uint32_t){ 1 }, 4, 100), 4);
	fake_pause(all->fake, true);
	take_over(all->fake, all);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_one, all->region), 0);
	fake_pause(all->fake, false);
	for (unsigned i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_DATA), 1);
	check_grown(all);
}

static void *fail_to_read_one(void *argument)
{
	uint32_t value;

	assert_code(shmb_region_read_u32(argument, 100, &value), SHMB_ETIMEDOUT);
	return NULL;
}

/* Nor does each wait for its own answer, after all the others have waited for theirs. */
static void threads_that_are_not_answered_wait_no_longer_than_one(void **state)
{
	enum { N = 8, TIMEOUT_MS = 300 };
	struct state *all = *state;
	pthread_t threads[N];
	int64_t start = clock_now();

	all->begun = new_segment(3 * PAGE);
	assert_int_equal(pwrite(all->begun, &(uint32_t){ 1 }, 4, 100), 4);
	assert_code(shmb_client_set_timeout(all->client, TIMEOUT_MS), 0);
	fake_pause(all->fake, true);
	take_over(all->fake, all);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fail_to_read_one, all->region),
				 0);
	for (unsigned i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	assert_true(clock_now() - start < INT64_C(1000000) * TIMEOUT_MS * N / 2);
	fake_pause(all->fake, false);
	assert_code(shmb_client_set_timeout(all->client, 5000), 0);
	check_grown(all);
}

static int touch_in_child(void *argument)
{
	struct state *all = argument;
	uint32_t value;

	return shmb_region_read_u32(all->region, 0, &value) == SHMB_EFORKED &&
			       shmb_region_resize(all->region, 3 * PAGE) == SHMB_EFORKED &&
			       shmb_region_size(all->region) == 0
		       ? 0
		       : 1;
}

static void a_forked_child_does_not_follow(void **state)
{
	struct state *all = *state;

	all->begun = new_segment(3 * PAGE);
	take_over(all->fake, all);
	assert_int_equal(fake_in_child(touch_in_child, all), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_DATA), 0);
}

static void a_closed_handle_does_not_follow(void **state)
{
	struct state *all = *state;
	uint32_t value;

	assert_code(shmb_region_close(all->region), 0);
	assert_code(shmb_region_read_u32(all->region, 0, &value), SHMB_ECLOSED);
	assert_code(shmb_region_resize(all->region, 3 * PAGE), SHMB_ECLOSED);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_DATA), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_asks_copies_and_tells),
		TEST(it_begins_again_when_the_broker_has_forgotten),
		TEST(it_does_not_begin_again_for_ever),
		TEST(what_was_done_without_an_answer_is_found_out),
		TEST(what_was_not_done_is_found_out),
		TEST(it_tells_under_which_lock),
		TEST(a_spoilt_generation_costs_a_question),
		TEST(what_cannot_be_is_refused),
		TEST(one_thread_asks_for_all),
		TEST(threads_that_are_not_answered_wait_no_longer_than_one),
		TEST(a_forked_child_does_not_follow),
		TEST(a_closed_handle_does_not_follow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
