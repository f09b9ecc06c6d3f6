/* SPDX-License-Identifier: MIT */
/* Event loops: the one descriptor, watches, asynchronous create and open. */

#include "fake_broker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct state {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *region; /* handle 1 */
	struct fake_region *truth;

	/* What the callbacks saw. */
	unsigned n_events;
	struct shmb_event event;
	unsigned n_attached;
	int status;
	struct shmb_region *attached;
	void (*then)(struct state *all); /* run by the callback */
	int result;
};

static int setup(void **state)
{
	struct state *all = calloc(1, sizeof(*all));

	assert_non_null(all);
	all->fake = fake_start();
	all->truth = fake_make(all->fake, "a", 1000, 4096);
	all->client = fake_connect(all->fake, 5000);
	assert_code(shmb_region_open(all->client, "a", SHMB_READ | SHMB_WRITE, NULL, &all->region),
		    0);
	*state = all;
	return 0;
}

static int teardown(void **state)
{
	struct state *all = *state;

	shmb_region_free(all->region);
	shmb_client_free(all->client);
	fake_stop(all->fake);
	free(all);
	return 0;
}

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct state *all = userdata;

	all->n_events++;
	all->event = *event;
	if (all->then)
		all->then(all);
}

static void on_attached(int status, struct shmb_region *region, void *userdata)
{
	struct state *all = userdata;

	all->n_attached++;
	all->status = status;
	all->attached = region;
	if (all->then)
		all->then(all);
}

/* Is the descriptor ready, within @timeout_ms? */
static bool is_ready(struct state *all, int timeout_ms)
{
	struct pollfd pollfd = {
		.fd = shmb_client_get_fd(all->client),
		.events = (short)shmb_client_get_events(all->client),
	};

	assert_true(pollfd.fd >= 0);
	assert_int_equal(pollfd.events, POLLIN);
	return poll(&pollfd, 1, timeout_ms) == 1;
}

static int process_when_ready(struct state *all)
{
	assert_true(is_ready(all, 10000));
	return shmb_client_process(all->client);
}

static void watch(struct state *all, unsigned types, uint64_t seen)
{
	assert_code(shmb_region_watch(all->region, types, seen, on_event, all), 0);
}

static void send_event(struct state *all, unsigned types)
{
	fake_event(fake_peer(all->fake), 1, types, all->truth->words->sequence,
		   all->truth->words->size);
}

static struct wire_region_watch_params last_watch(struct state *all, unsigned n)
{
	fake_wait(all->fake, WIRE_REGION_WATCH, n);
	return fake_last(all->fake, WIRE_REGION_WATCH).params.watch;
}

/* ---- Watches ---- */

static void an_event_is_told_and_the_watch_armed_again(void **state)
{
	struct state *all = *state;
	struct wire_region_watch_params sent;

	watch(all, SHMB_EVENT_PUBLISHED | SHMB_EVENT_RESIZED, 0);
	sent = last_watch(all, 1);
	assert_int_equal(sent.handle, 1);
	assert_int_equal(sent.types, 3);
	assert_int_equal(sent.sequence, 0);
	assert_int_equal(sent.size, 1000);
	assert_false(is_ready(all, 0));
	assert_code(shmb_client_process(all->client), 0);

	assert_code(shmb_region_publish(all->region, 10, 20), 0);
	assert_code(shmb_region_publish(all->region, 50, 10), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(process_when_ready(all), 1);
	assert_int_equal(all->event.struct_size, sizeof(all->event));
	assert_int_equal(all->event.types, SHMB_EVENT_PUBLISHED);
	assert_int_equal(all->event.sequence, 2);
	assert_int_equal(all->event.size, 1000);
	assert_int_equal(all->event.offset, 10);
	assert_int_equal(all->event.length, 50);
	sent = last_watch(all, 2);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_WATCH).kind, WIRE_NOTIFICATION);
	assert_int_equal(sent.types, 3);
	assert_int_equal(sent.sequence, 2);
	assert_false(is_ready(all, 0)); /* quiet again */

	all->truth->words->size = 2000;
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_RESIZED);
	assert_code(process_when_ready(all), 1);
	assert_int_equal(all->event.types, SHMB_EVENT_RESIZED | SHMB_EVENT_PUBLISHED);
	assert_int_equal(all->event.size, 2000);
	assert_int_equal(all->event.length, 2000);
	assert_int_equal(last_watch(all, 3).size, 2000);
}

static void an_event_without_news_is_not_told(void **state)
{
	struct state *all = *state;

	watch(all, SHMB_EVENT_PUBLISHED, 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(process_when_ready(all), 0);
	assert_int_equal(all->n_events, 0);
	last_watch(all, 2); /* but armed again */
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(process_when_ready(all), 1);
}

static void a_name_goes_once(void **state)
{
	struct state *all = *state;

	watch(all, SHMB_EVENT_REMOVED | SHMB_EVENT_PUBLISHED, 0);
	send_event(all, SHMB_EVENT_REMOVED);
	assert_code(process_when_ready(all), 1);
	assert_int_equal(all->event.types, SHMB_EVENT_REMOVED);
	assert_int_equal(last_watch(all, 2).types, SHMB_EVENT_PUBLISHED);
}

static void only_one_event_is_on_its_way(void **state)
{
	struct state *all = *state;

	watch(all, 7, 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	for (int i = 0; i < 100; i++) /* more than a broker should send: merged */
		send_event(all, SHMB_EVENT_PUBLISHED);
	send_event(all, SHMB_EVENT_REMOVED);
	assert_code(shmb_client_ping(all->client), 0); /* takes them off the socket, runs none */
	assert_int_equal(all->n_events, 0);
	assert_code(process_when_ready(all), 1);
	assert_int_equal(all->event.types, SHMB_EVENT_REMOVED | SHMB_EVENT_PUBLISHED);
	assert_false(is_ready(all, 0));
}

static void what_a_blocking_call_took_wakes_the_loop(void **state)
{
	struct state *all = *state;

	watch(all, SHMB_EVENT_PUBLISHED, 0);
	assert_false(is_ready(all, 0));
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(shmb_client_ping(all->client), 0);
	assert_true(is_ready(all, 0));
	assert_code(shmb_client_process(all->client), 1);
	assert_false(is_ready(all, 0));
}

static void the_loop_may_come_late(void **state)
{
	struct state *all = *state;

	watch(all, SHMB_EVENT_PUBLISHED, 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(shmb_client_ping(all->client), 0);
	assert_code(process_when_ready(all), 1); /* the descriptor is made only here */
}

static bool tell_before_answering(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_empty empty = { 0 };

	if (seen->kind == WIRE_NOTIFICATION)
		return true;
	fake_event(seen->peer, 1, SHMB_EVENT_PUBLISHED, 5, 1000);
	fake_result(fake, seen, &empty, NULL, 0);
	return true;
}

static void news_may_come_before_the_answer(void **state)
{
	struct state *all = *state;

	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_handle(all->fake, WIRE_REGION_WATCH, tell_before_answering);
	watch(all, SHMB_EVENT_PUBLISHED, 0);
	assert_code(process_when_ready(all), 1);
	assert_int_equal(all->event.sequence, 1); /* the page's, newer than what was sent */
}

static void events_of_nobody_are_passed_over(void **state)
{
	struct state *all = *state;

	send_event(all, SHMB_EVENT_PUBLISHED); /* never watched */
	fake_event(fake_peer(all->fake), 99, SHMB_EVENT_REMOVED, 0, 1);
	assert_code(shmb_client_ping(all->client), 0);
	watch(all, SHMB_EVENT_PUBLISHED, 0);
	assert_code(shmb_region_watch(all->region, 0, 0, NULL, NULL), 0);
	assert_int_equal(last_watch(all, 2).types, 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED); /* was on its way */
	assert_code(shmb_client_ping(all->client), 0);
	assert_code(shmb_client_process(all->client), 0);
	assert_int_equal(all->n_events, 0);
}

static bool refuse_watch(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_error error = {
		.has = WIRE_HAS(error, what),
		.code = wire_string("quota-exceeded"),
		.what = wire_string("watches-per-user"),
	};

	if (seen->kind == WIRE_REQUEST)
		fake_error(seen, &error);
	return true;
}

static void a_watch_may_be_refused(void **state)
{
	struct state *all = *state;
	struct shmb_error error = { .struct_size = sizeof(error) };

	assert_code(shmb_region_watch(all->region, 128, 0, on_event, all), SHMB_EINVAL);
	assert_code(shmb_region_watch(all->region, 1, 0, NULL, all), SHMB_EINVAL);
	fake_handle(all->fake, WIRE_REGION_WATCH, refuse_watch);
	assert_code(shmb_region_watch(all->region, 1, 0, on_event, all), SHMB_EDQUOT);
	assert_code(shmb_region_last_error(all->region, &error), 0);
	assert_string_equal(error.what, "watches-per-user");
	fake_hang_up(all->fake, fake_peer(all->fake));
	assert_code(process_when_ready(all), SHMB_EDISCONNECTED);
	assert_int_equal(all->n_events, 0); /* no watch, no event */
	assert_code(shmb_region_watch(all->region, 1, 0, on_event, all), SHMB_EDISCONNECTED);
}

static bool keep_silent(struct fake *fake, const struct fake_seen *seen)
{
	return true;
}

static void a_watch_that_timed_out_is_none(void **state)
{
	struct state *all = *state;
	struct wire_empty empty = { 0 };
	struct fake_seen late;

	fake_handle(all->fake, WIRE_REGION_WATCH, keep_silent);
	assert_code(shmb_client_set_timeout(all->client, 20), 0);
	assert_code(shmb_region_watch(all->region, 1, 0, on_event, all), SHMB_ETIMEDOUT);
	assert_int_equal(last_watch(all, 2).types, 0); /* whatever the broker may have armed */
	late = fake_last(all->fake, WIRE_REGION_WATCH);
	late.msgid = 3; /* hello, open, watch */
	fake_result(all->fake, &late, &empty, NULL, 0);
	assert_code(shmb_client_set_timeout(all->client, 5000), 0);
	fake_handle(all->fake, WIRE_REGION_WATCH, NULL);
	watch(all, SHMB_EVENT_PUBLISHED, 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(process_when_ready(all), 1);
}

/* ---- What callbacks may do ---- */

static void free_region(struct state *all)
{
	all->region = shmb_region_free(all->region);
}

static void free_client(struct state *all)
{
	all->client = shmb_client_free(all->client);
}

static void unwatch(struct state *all)
{
	all->result = shmb_region_watch(all->region, 0, 0, NULL, NULL);
}

static void process_again(struct state *all)
{
	all->result = shmb_client_process(all->client);
}

static void ask(struct state *all)
{
	all->result = shmb_client_ping(all->client);
}

static void watch_anew(struct state *all)
{
	all->result = shmb_region_watch(all->region, SHMB_EVENT_RESIZED, 100, on_event, all);
}

static void run_callback(struct state *all, void (*then)(struct state *all))
{
	watch(all, 7, 0);
	all->result = 1;
	all->then = then;
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(process_when_ready(all), 1);
	all->then = NULL;
}

static void a_callback_may_free_its_region(void **state)
{
	struct state *all = *state;

	run_callback(all, free_region);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 1);
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_WATCH), 1); /* not armed again */
}

static void a_callback_may_free_the_client(void **state)
{
	struct state *all = *state;

	run_callback(all, free_client);
	all->region = shmb_region_free(all->region);
	fake_wait_ended(all->fake, 1);
}

static void a_callback_may_end_or_replace_its_watch(void **state)
{
	struct state *all = *state;

	run_callback(all, unwatch);
	assert_code(all->result, 0);
	assert_int_equal(last_watch(all, 2).types, 0);
	run_callback(all, watch_anew);
	assert_code(all->result, 0);
	assert_int_equal(last_watch(all, 4).types, SHMB_EVENT_RESIZED);
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_WATCH), 4);
}

static void a_callback_may_ask_but_not_process(void **state)
{
	struct state *all = *state;

	run_callback(all, ask);
	assert_code(all->result, 0);
	run_callback(all, process_again);
	assert_code(all->result, SHMB_EBUSY);
	assert_code(shmb_client_process(all->client), 0);
}

static void a_freed_region_is_not_told(void **state)
{
	struct state *all = *state;

	watch(all, 7, 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(shmb_client_ping(all->client), 0); /* queued */
	free_region(all);
	assert_code(shmb_client_process(all->client), 0);
	assert_int_equal(all->n_events, 0);
}

static void a_freed_client_tells_nothing_more(void **state)
{
	struct state *all = *state;

	watch(all, 7, 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	send_event(all, SHMB_EVENT_PUBLISHED);
	assert_code(shmb_region_open_async(all->client, "a", SHMB_READ, NULL, on_attached, all), 0);
	assert_code(shmb_client_ping(all->client), 0); /* both wait to be told */
	assert_code(shmb_region_open_async(all->client, "a", SHMB_READ, NULL, on_attached, all), 0);
	free_client(all);
	assert_code(shmb_region_resize(all->region, 5), 0); /* reads what is left */
	fake_wait(all->fake, WIRE_REGION_CLOSE, 2);         /* nobody's attachments */
	free_region(all);
	fake_wait_ended(all->fake, 1);
	assert_int_equal(all->n_events + all->n_attached, 0);
}

/* ---- The broker goes ---- */

static void all_callbacks_run_before_the_end_is_told(void **state)
{
	struct state *all = *state;
	struct shmb_region *second;

	assert_code(shmb_region_open(all->client, "a", SHMB_READ, NULL, &second), 0);
	watch(all, SHMB_EVENT_RESIZED, 0);
	assert_code(shmb_region_watch(second, SHMB_EVENT_DISCONNECTED, 0, on_event, all), 0);
	last_watch(all, 2);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_WATCH).kind, WIRE_NOTIFICATION);
	fake_handle(all->fake, WIRE_REGION_OPEN, keep_silent);
	assert_code(shmb_region_open_async(all->client, "b", SHMB_READ, NULL, on_attached, all), 0);
	fake_wait(all->fake, WIRE_REGION_OPEN, 3);
	fake_hang_up(all->fake, fake_peer(all->fake));
	assert_code(process_when_ready(all), SHMB_EDISCONNECTED);
	assert_int_equal(all->n_events, 2);
	assert_int_equal(all->event.types, SHMB_EVENT_DISCONNECTED);
	assert_int_equal(all->event.size, 1000);
	assert_int_equal(all->n_attached, 1);
	assert_code(all->status, SHMB_EDISCONNECTED);
	assert_null(all->attached);
	assert_false(is_ready(all, 0)); /* a loop that goes on does not spin */
	assert_code(shmb_client_process(all->client), SHMB_EDISCONNECTED);
	assert_int_equal(all->n_events, 2);
	assert_code(shmb_region_open_async(all->client, "b", SHMB_READ, NULL, on_attached, all),
		    SHMB_EDISCONNECTED);
	shmb_region_free(second);
}

/* ---- Asynchronous create and open ---- */

static void a_region_is_made_without_waiting(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	assert_code(shmb_region_create_async(all->client, "n", 10, NULL, on_attached, all), 0);
	assert_int_equal(all->n_attached, 0);
	assert_code(process_when_ready(all), 1);
	assert_code(all->status, 1);
	assert_code(shmb_region_write_u8(all->attached, 9, 9), 0);
	shmb_region_free(all->attached);

	assert_code(shmb_region_open_async(all->client, "n", SHMB_READ, NULL, on_attached, all), 0);
	assert_code(process_when_ready(all), 1);
	assert_code(all->status, 0);
	assert_int_equal(shmb_region_access(all->attached), SHMB_READ);
	shmb_region_free(all->attached);

	assert_code(shmb_region_open_async(all->client, "no", SHMB_READ, NULL, on_attached, all),
		    0);
	assert_code(process_when_ready(all), 1);
	assert_code(all->status, SHMB_ENOENT);
	assert_null(all->attached);
	assert_false(is_ready(all, 0));

	options.mode = 07000;
	assert_code(shmb_region_create_async(all->client, "n", 10, &options, on_attached, all),
		    SHMB_EINVAL);
	assert_code(shmb_region_create_async(all->client, "n", 10, NULL, NULL, all), SHMB_EINVAL);
	assert_code(shmb_region_open_async(all->client, "", SHMB_READ, NULL, on_attached, all),
		    SHMB_EINVAL);
	assert_int_equal(all->n_attached, 3);
}

static void too_many_at_once_are_refused(void **state)
{
	struct state *all = *state;
	unsigned n = 0;
	int result;

	fake_handle(all->fake, WIRE_REGION_OPEN, keep_silent);
	while ((result = shmb_region_open_async(all->client, "a", SHMB_READ, NULL, on_attached,
						all)) == 0)
		n++;
	assert_code(result, SHMB_EBUSY);
	assert_int_equal(n, all->fake->max_requests);
	assert_int_equal(all->n_attached, 0);
}

static void a_late_broker_does_not_keep_the_loop(void **state)
{
	struct state *all = *state;
	struct wire_region_attached attached;
	int fds[2] = { all->truth->data, all->truth->page };
	struct fake_seen late;
	int64_t start = now_ms();

	fake_handle(all->fake, WIRE_REGION_OPEN, keep_silent);
	assert_false(is_ready(all, 0));
	assert_code(shmb_client_set_timeout(all->client, 40), 0);
	assert_code(shmb_region_open_async(all->client, "a", SHMB_READ, NULL, on_attached, all), 0);
	while (all->n_attached == 0)
		assert_true(process_when_ready(all) >= 0);
	assert_true(now_ms() - start >= 40);
	assert_code(all->status, SHMB_ETIMEDOUT);
	assert_null(all->attached);
	assert_false(is_ready(all, 0));

	late = fake_last(all->fake, WIRE_REGION_OPEN);
	attached = fake_attached(all->fake, all->truth, SHMB_READ, false);
	fake_result(all->fake, &late, &attached, fds, 2);
	assert_code(process_when_ready(all), 0);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 1);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_CLOSE).params.handle.handle,
			 attached.handle);
	assert_int_equal(all->n_attached, 1);
	assert_code(shmb_client_set_timeout(all->client, 5000), 0);
	assert_code(shmb_client_ping(all->client), 0);
}

static void output_that_waits_is_sent_by_the_loop(void **state)
{
	struct state *all = *state;
	unsigned n = 0;

	all->fake->max_requests = UINT32_MAX;
	assert_false(is_ready(all, 0));
	watch(all, SHMB_EVENT_PUBLISHED, 0);
	fake_pause(all->fake, true);
	for (; n < 2000; n++) { /* far more than the socket takes; each waits its turn */
		assert_code(
			shmb_region_watch(all->region, SHMB_EVENT_DISCONNECTED, 0, on_event, all),
			0);
		assert_code(shmb_region_watch(all->region, 0, 0, NULL, NULL), 0);
	}
	assert_false(is_ready(all, 0));
	fake_pause(all->fake, false);
	while (fake_count(all->fake, WIRE_REGION_WATCH) < 2 * n + 1)
		if (is_ready(all, 1))
			assert_code(shmb_client_process(all->client), 0);
	assert_false(is_ready(all, 0)); /* no more interest in writing */
}

/* ---- A loop in one thread, calls in another ---- */

static void *ping_often(void *argument)
{
	struct state *all = argument;
	intptr_t failures = 0;

	for (int i = 0; i < 500; i++)
		failures += shmb_client_ping(all->client) != 0;
	return (void *)failures;
}

static void loop_and_calls_share_a_client(void **state)
{
	enum { EVENTS = 200 };
	struct state *all = *state;
	pthread_t thread;
	void *failures;

	watch(all, SHMB_EVENT_PUBLISHED, 0);
	assert_int_equal(pthread_create(&thread, NULL, ping_often, all), 0);
	for (unsigned i = 0; i < EVENTS; i++) {
		assert_code(shmb_region_publish(all->region, 0, 0), 0);
		send_event(all, SHMB_EVENT_PUBLISHED);
		while (all->n_events <= i)
			assert_true(process_when_ready(all) >= 0);
		assert_int_equal(all->event.sequence, i + 1);
	}
	pthread_join(thread, &failures);
	assert_null(failures);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(an_event_is_told_and_the_watch_armed_again),
		TEST(an_event_without_news_is_not_told),
		TEST(a_name_goes_once),
		TEST(only_one_event_is_on_its_way),
		TEST(what_a_blocking_call_took_wakes_the_loop),
		TEST(the_loop_may_come_late),
		TEST(news_may_come_before_the_answer),
		TEST(events_of_nobody_are_passed_over),
		TEST(a_watch_may_be_refused),
		TEST(a_watch_that_timed_out_is_none),
		TEST(a_callback_may_free_its_region),
		TEST(a_callback_may_free_the_client),
		TEST(a_callback_may_end_or_replace_its_watch),
		TEST(a_callback_may_ask_but_not_process),
		TEST(a_freed_region_is_not_told),
		TEST(a_freed_client_tells_nothing_more),
		TEST(all_callbacks_run_before_the_end_is_told),
		TEST(a_region_is_made_without_waiting),
		TEST(too_many_at_once_are_refused),
		TEST(a_late_broker_does_not_keep_the_loop),
		TEST(output_that_waits_is_sent_by_the_loop),
		TEST(loop_and_calls_share_a_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
