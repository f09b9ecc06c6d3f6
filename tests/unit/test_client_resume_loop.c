/* SPDX-License-Identifier: MIT */
/* Going on over another connection, for programs with an event loop: callbacks and watches. */

#include "fake_broker.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>

enum { LONG_MS = 10000, SHORT_MS = 60 };

struct all {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *region;
	unsigned n_told, types; /* told so far, and in the last event */
	uint64_t sequence, size;
	unsigned n_called;
	int status;
	struct shmb_region *made;
};

static void connect_for(struct all *all, int timeout_ms, int away_ms)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;

	options.timeout_ms = LONG_MS; /* also on a busy machine */
	options.away_ms = away_ms;
	assert_code(shmb_client_connect(all->fake->path, &options, &all->client), 0);
	assert_true(shmb_region_open_or_create(all->client, "a", 100, NULL, &all->region) >= 0);
	assert_code(shmb_client_set_timeout(all->client, timeout_ms), 0);
}

static int setup(void **state)
{
	static struct all all;

	all = (struct all){ .fake = fake_start() };
	all.fake->features |= WIRE_FEATURE_RESUME;
	*state = &all;
	return 0;
}

static int teardown(void **state)
{
	struct all *all = *state;

	shmb_region_free(all->made);
	shmb_region_free(all->region);
	shmb_client_free(all->client);
	fake_stop(all->fake);
	return 0;
}

static void end(struct all *all, enum fake_ending ending)
{
	unsigned n = all->fake->n_endings;

	fake_end(all->fake, ending);
	fake_wait_endings(all->fake, n + 1);
}

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct all *all = userdata;

	all->n_told++;
	all->types = event->types;
	all->sequence = event->sequence;
	all->size = event->size;
}

static void on_region(int status, struct shmb_region *region, void *userdata)
{
	struct all *all = userdata;

	all->n_called++;
	all->status = status;
	all->made = region;
}

static void watch(struct all *all)
{
	assert_code(
		shmb_region_watch(all->region,
				  SHMB_EVENT_PUBLISHED | SHMB_EVENT_RESIZED | SHMB_EVENT_REMOVED,
				  shmb_region_sequence(all->region), on_event, all),
		0);
}

/* Return: what shmb_client_process() does; fails if there is nothing to process for long. */
static int process_when_ready(struct all *all)
{
	struct pollfd ready = { .fd = shmb_client_get_fd(all->client), .events = POLLIN };

	assert_int_equal(poll(&ready, 1, LONG_MS), 1);
	return shmb_client_process(all->client);
}

/* A message may be answered before it is in the log. */
static struct fake_seen last(struct all *all, enum wire_method_id method)
{
	fake_wait(all->fake, method, fake_count(all->fake, method));
	return fake_last(all->fake, method);
}

/* What was sent may be on its way, so there need not be anything to process. */
static void process_until(struct all *all, enum wire_method_id method, unsigned n)
{
	struct pollfd ready = { .fd = shmb_client_get_fd(all->client), .events = POLLIN };
	int64_t until = now_ms() + LONG_MS;

	while (fake_count(all->fake, method) < n && now_ms() < until) {
		poll(&ready, 1, 1);
		assert_true(shmb_client_process(all->client) >= 0);
	}
	fake_wait(all->fake, method, n);
}

/* ---- The loop ---- */

static void an_idle_loop_comes_back_by_itself(void **state)
{
	struct all *all = *state;

	connect_for(all, LONG_MS, -1);
	assert_true(shmb_client_get_fd(all->client) >= 0);
	for (unsigned i = 0; i < 3; i++) {
		end(all, FAKE_CRASH);
		process_until(all, WIRE_HELLO, 2 + i);
		assert_true(last(all, WIRE_HELLO).resumes);
		assert_int_equal(last(all, WIRE_HELLO).params.hello.again, 0);
	}
	end(all, FAKE_DIE);
	assert_code(process_when_ready(all), 0);
	fake_live(all->fake);
	process_until(all, WIRE_HELLO, 5);
	end(all, FAKE_SLEEP);
	assert_code(process_when_ready(all), 0);
	fake_live(all->fake);
	process_until(all, WIRE_HELLO, 6);
}

/* How often its descriptor gets ready within some time. */
static unsigned count_turns(struct all *all, int for_ms)
{
	struct pollfd ready = { .fd = shmb_client_get_fd(all->client), .events = POLLIN };
	int64_t until = now_ms() + for_ms;
	unsigned n = 0;

	for (int left = for_ms; left > 0; left = (int)(until - now_ms())) {
		if (poll(&ready, 1, left) == 0)
			continue;
		assert_code(shmb_client_process(all->client), 0);
		n++;
	}
	return n;
}

static void a_loop_is_not_kept_busy(void **state)
{
	struct all *all = *state;

	connect_for(all, LONG_MS, -1);
	assert_true(shmb_client_get_fd(all->client) >= 0);
	end(all, FAKE_DIE);
	/* The end, and tries after 0, 1, 2, 4 ... 256 ms. */
	assert_in_range(count_turns(all, 400), 2, 14);
	fake_live(all->fake);
	process_until(all, WIRE_HELLO, 2);
	end(all, FAKE_SLEEP);
	/* The end and the connecting. */
	assert_in_range(count_turns(all, 100), 1, 4);
	/* A descriptor that is asked for only now finds the same. */
	fake_live(all->fake);
	process_until(all, WIRE_HELLO, 3);
}

static void a_descriptor_may_be_asked_for_late(void **state)
{
	struct all *all = *state;

	connect_for(all, SHORT_MS, -1);
	end(all, FAKE_DIE);
	assert_code(shmb_client_ping(all->client), SHMB_ETIMEDOUT);
	assert_true(shmb_client_get_fd(all->client) >= 0);
	fake_live(all->fake);
	process_until(all, WIRE_HELLO, 2);
	end(all, FAKE_CRASH);
	process_until(all, WIRE_HELLO, 3);
}

static void a_loop_gives_up_in_time(void **state)
{
	struct all *all = *state;
	int result;

	connect_for(all, LONG_MS, SHORT_MS);
	watch(all);
	end(all, FAKE_DIE);
	do
		result = process_when_ready(all);
	while (result >= 0);
	assert_code(result, SHMB_EDISCONNECTED);
	assert_int_equal(all->n_told, 1);
	assert_int_equal(all->types, SHMB_EVENT_DISCONNECTED);
	fake_live(all->fake);

	/* The same while a broker that was connected to does not answer. */
	shmb_region_free(all->region);
	shmb_client_free(all->client);
	connect_for(all, LONG_MS, SHORT_MS);
	assert_true(shmb_client_get_fd(all->client) >= 0);
	end(all, FAKE_SLEEP);
	do
		result = process_when_ready(all);
	while (result >= 0);
	assert_code(result, SHMB_EDISCONNECTED);
}

static bool keep_silent(struct fake *fake, const struct fake_seen *seen)
{
	return true;
}

static bool perform_and_crash(struct fake *fake, const struct fake_seen *seen)
{
	fake_perform_create(fake, seen);
	fake_handle(fake, WIRE_REGION_CREATE, NULL);
	fake_end(fake, FAKE_CRASH);
	return true;
}

static void callbacks_run_once(void **state)
{
	struct all *all = *state;

	connect_for(all, LONG_MS, -1);
	fake_handle(all->fake, WIRE_REGION_CREATE, perform_and_crash);
	assert_code(shmb_region_create_async(all->client, "b", 100, NULL, on_region, all), 0);
	while (all->n_called == 0)
		assert_true(process_when_ready(all) >= 0);
	assert_code(all->status, 1); /* created */
	assert_string_equal(shmb_region_name(all->made), "b");
	assert_int_equal(fake_count(all->fake, WIRE_REGION_CREATE), 3);
	assert_true(last(all, WIRE_REGION_CREATE).again);
	assert_code(shmb_client_ping(all->client), 0);
	assert_code(shmb_client_process(all->client), 0);
	assert_int_equal(all->n_called, 1);
}

static void callbacks_run_in_time_while_it_is_away(void **state)
{
	struct all *all = *state;
	struct shmb_error error = { .struct_size = sizeof(error) };

	connect_for(all, SHORT_MS, -1);
	assert_true(shmb_client_get_fd(all->client) >= 0);
	end(all, FAKE_DIE);
	assert_code(process_when_ready(all), 0);
	assert_code(shmb_region_create_async(all->client, "b", 100, NULL, on_region, all), 0);
	while (all->n_called == 0)
		assert_true(process_when_ready(all) >= 0);
	assert_code(all->status, SHMB_ETIMEDOUT);
	assert_code(shmb_client_last_error(all->client, &error), 0);
	assert_string_equal(error.what, "region.create: the broker is away");
	fake_live(all->fake);
	process_until(all, WIRE_HELLO, 2);
	assert_code(shmb_client_set_timeout(all->client, LONG_MS), 0);
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_CREATE), 1); /* that of the setup */
}

/* ---- Watches ---- */

static void a_watch_is_armed_again_with_what_was_told(void **state)
{
	struct all *all = *state;
	struct wire_region_watch_params params;

	connect_for(all, LONG_MS, -1);
	watch(all);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_event(last(all, WIRE_HELLO).peer, 1, SHMB_EVENT_PUBLISHED, 1, 100);
	while (all->n_told == 0)
		assert_true(process_when_ready(all) >= 0);
	fake_wait(all->fake, WIRE_REGION_WATCH, 2);

	end(all, FAKE_CRASH);
	process_until(all, WIRE_REGION_WATCH, 3);
	params = last(all, WIRE_REGION_WATCH).params.watch;
	assert_int_equal(last(all, WIRE_REGION_WATCH).kind, WIRE_REQUEST);
	assert_int_equal(params.handle, 1);
	assert_int_equal(params.sequence, 1);
	assert_int_equal(params.size, 100);
	assert_int_equal(params.types, 7);

	/* What happened meanwhile is told, once, though the broker says so twice. */
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_event(last(all, WIRE_HELLO).peer, 1, SHMB_EVENT_PUBLISHED, 2, 100);
	while (all->n_told == 1)
		assert_true(process_when_ready(all) >= 0);
	assert_int_equal(all->sequence, 2);
	fake_wait(all->fake, WIRE_REGION_WATCH, 4);
	fake_event(last(all, WIRE_HELLO).peer, 1, SHMB_EVENT_PUBLISHED, 2, 100);
	process_until(all, WIRE_REGION_WATCH, 5);
	assert_int_equal(all->n_told, 2);
}

static void what_was_seen_before_the_end_is_told_after_it(void **state)
{
	struct all *all = *state;

	connect_for(all, SHORT_MS, -1);
	watch(all);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_event(last(all, WIRE_HELLO).peer, 1, SHMB_EVENT_PUBLISHED, 1, 100);
	end(all, FAKE_DIE);
	assert_code(shmb_client_ping(all->client), SHMB_ETIMEDOUT);
	assert_code(shmb_client_process(all->client), 1);
	assert_int_equal(all->sequence, 1);
	fake_live(all->fake);
	process_until(all, WIRE_REGION_WATCH, 2);
	assert_int_equal(last(all, WIRE_REGION_WATCH).params.watch.sequence, 1);
	assert_int_equal(all->n_told, 1);
}

static bool answer(struct fake *fake, const struct fake_seen *seen, const char *code)
{
	struct wire_error error = { .code = wire_string(code) };

	if (seen->kind != WIRE_REQUEST)
		return false;
	fake_handle(fake, WIRE_REGION_WATCH, NULL);
	fake_error(seen, &error);
	return true;
}

static bool answer_not_found(struct fake *fake, const struct fake_seen *seen)
{
	return answer(fake, seen, "not-found");
}

static bool answer_no_memory(struct fake *fake, const struct fake_seen *seen)
{
	return answer(fake, seen, "no-memory");
}

static void a_region_that_is_not_known_any_more_was_removed(void **state)
{
	struct all *all = *state;

	connect_for(all, LONG_MS, -1);
	watch(all);
	fake_handle(all->fake, WIRE_REGION_WATCH, answer_not_found);
	end(all, FAKE_CRASH);
	while (all->n_told == 0)
		assert_true(process_when_ready(all) >= 0);
	assert_int_equal(all->types, SHMB_EVENT_REMOVED);
	assert_code(shmb_region_write_u8(all->region, 0, 1), 0);
}

static void a_watch_that_is_refused_is_armed_later(void **state)
{
	struct all *all = *state;

	connect_for(all, LONG_MS, -1);
	watch(all);
	fake_handle(all->fake, WIRE_REGION_WATCH, answer_no_memory);
	end(all, FAKE_CRASH);
	process_until(all, WIRE_REGION_WATCH, 3);
	assert_int_equal(last(all, WIRE_REGION_WATCH).kind, WIRE_REQUEST);
	assert_int_equal(all->n_told, 0);
}

static void a_watch_that_was_being_armed_is(void **state)
{
	struct all *all = *state;

	connect_for(all, SHORT_MS, -1);
	fake_handle(all->fake, WIRE_REGION_WATCH, keep_silent);
	assert_code(shmb_region_watch(all->region, SHMB_EVENT_PUBLISHED, 0, on_event, all),
		    SHMB_ETIMEDOUT);
	fake_wait(all->fake, WIRE_REGION_WATCH, 2); /* asked for, and taken back */
	fake_handle(all->fake, WIRE_REGION_WATCH, NULL);
	end(all, FAKE_CRASH);
	assert_code(shmb_client_set_timeout(all->client, LONG_MS), 0);
	watch(all);
	/* The first is repeated, as it may have been done; it does not count any more. */
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_event(last(all, WIRE_HELLO).peer, 1, SHMB_EVENT_PUBLISHED, 1, 100);
	while (all->n_told == 0)
		assert_true(process_when_ready(all) >= 0);
	/* The new one may have been sent before anybody noticed. */
	assert_in_range(last(all, WIRE_HELLO).params.hello.again, 1, 2);
}

static void many_watches_are_armed_a_few_at_a_time(void **state)
{
	enum { N = 40, AT_A_TIME = 3 };
	struct all *all = *state;
	struct shmb_region *regions[N] = { 0 };
	bool armed[N + 2] = { 0 };
	struct fake_seen log[3 * N];
	unsigned n, first;

	all->fake->max_requests = AT_A_TIME;
	connect_for(all, LONG_MS, -1);
	for (unsigned i = 0; i < N; i++) {
		assert_code(shmb_region_open(all->client, "a", SHMB_READ, NULL, &regions[i]), 0);
		assert_code(shmb_region_watch(regions[i], SHMB_EVENT_PUBLISHED, 0, on_event, all),
			    0);
	}
	fake_wait(all->fake, WIRE_REGION_WATCH, N);
	first = all->fake->n_log;
	end(all, FAKE_CRASH);
	process_until(all, WIRE_REGION_WATCH, 2 * N);
	n = fake_log(all->fake, first, log, 3 * N);
	assert_int_equal(n, N + 1);
	for (unsigned i = 1; i < n; i++) {
		assert_int_equal(log[i].method, WIRE_REGION_WATCH);
		assert_false(armed[log[i].params.watch.handle]);
		armed[log[i].params.watch.handle] = true;
	}
	for (unsigned i = 0; i < N; i++)
		shmb_region_free(regions[i]);
}

static void a_watch_that_ends_meanwhile_is_not_armed(void **state)
{
	struct all *all = *state;

	connect_for(all, SHORT_MS, -1);
	watch(all);
	end(all, FAKE_DIE);
	assert_code(shmb_client_ping(all->client), SHMB_ETIMEDOUT);
	assert_code(shmb_region_watch(all->region, 0, 0, NULL, NULL), 0);
	fake_live(all->fake);
	assert_code(shmb_client_set_timeout(all->client, LONG_MS), 0);
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_WATCH), 1);
}

/* ---- A loop, and threads that wait ---- */

static void *ask(void *argument)
{
	struct all *all = argument;

	for (unsigned i = 0; i < 200; i++)
		if (shmb_client_ping(all->client) != 0)
			return argument;
	return NULL;
}

static void a_loop_and_threads_look_for_it_together(void **state)
{
	struct all *all = *state;
	pthread_t threads[3];
	unsigned n_pings = 0, n_watches;

	connect_for(all, 60000, -1);
	watch(all);
	assert_true(shmb_client_get_fd(all->client) >= 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask, all), 0);
	while (fake_count(all->fake, WIRE_PING) < 600) {
		struct pollfd ready = { .fd = shmb_client_get_fd(all->client), .events = POLLIN };

		poll(&ready, 1, 1);
		assert_true(shmb_client_process(all->client) >= 0);
		if (fake_count(all->fake, WIRE_PING) < n_pings + 20)
			continue;
		end(all, FAKE_CRASH);
		n_pings = fake_count(all->fake, WIRE_PING);
	}
	for (unsigned i = 0; i < 3; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	n_watches = fake_count(all->fake, WIRE_REGION_WATCH);
	end(all, FAKE_CRASH);
	process_until(all, WIRE_REGION_WATCH, n_watches + 1);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_event(fake_peer(all->fake), 1, SHMB_EVENT_PUBLISHED, 1, 100);
	while (all->n_told == 0)
		assert_true(process_when_ready(all) >= 0);
	assert_int_equal(all->n_told, 1);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(an_idle_loop_comes_back_by_itself),
		TEST(a_loop_is_not_kept_busy),
		TEST(a_descriptor_may_be_asked_for_late),
		TEST(a_loop_gives_up_in_time),
		TEST(callbacks_run_once),
		TEST(callbacks_run_in_time_while_it_is_away),
		TEST(a_watch_is_armed_again_with_what_was_told),
		TEST(what_was_seen_before_the_end_is_told_after_it),
		TEST(a_region_that_is_not_known_any_more_was_removed),
		TEST(a_watch_that_is_refused_is_armed_later),
		TEST(a_watch_that_was_being_armed_is),
		TEST(many_watches_are_armed_a_few_at_a_time),
		TEST(a_watch_that_ends_meanwhile_is_not_armed),
		TEST(a_loop_and_threads_look_for_it_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
