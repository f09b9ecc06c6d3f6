/* SPDX-License-Identifier: MIT */
/* Requests and their answers: late, wrong, out of order, for many threads, over a full socket. */

#include "fake_broker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static bool keep_silent(struct fake *fake, const struct fake_seen *seen)
{
	return true;
}

static struct shmb_error last_error(struct shmb_client *client)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	assert_code(shmb_client_last_error(client, &error), 0);
	return error;
}

/* ---- Errors of the broker ---- */

static bool refuse_with_particulars(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_error error = {
		.has = WIRE_HAS(error, what) | WIRE_HAS(error, limit) | WIRE_HAS(error, size) |
		       WIRE_HAS(error, offset) | WIRE_HAS(error, length),
		.code = wire_string("quota-exceeded"),
		.what = wire_string("regions-per-user"),
		.limit = 12,
		.size = 13,
		.offset = 14,
		.length = 15,
	};

	fake_error(seen, &error);
	return true;
}

static bool refuse_with_later_code(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_error error = { .code = wire_string("moon-phase") };

	fake_error(seen, &error);
	return true;
}

static void the_particulars_of_a_refusal_are_kept(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_error error = last_error(client);

	assert_int_equal(error.code, 0); /* nothing has failed yet */
	fake_handle(fake, WIRE_REGION_REMOVE, refuse_with_particulars);
	assert_code(shmb_region_remove(client, "a"), SHMB_EDQUOT);
	error = last_error(client);
	assert_int_equal(error.code, SHMB_EDQUOT);
	assert_string_equal(error.what, "regions-per-user");
	assert_int_equal(error.limit, 12);
	assert_int_equal(error.size, 13);
	assert_int_equal(error.offset, 14);
	assert_int_equal(error.length, 15);

	fake_handle(fake, WIRE_REGION_REMOVE, refuse_with_later_code);
	assert_code(shmb_region_remove(client, "a"), SHMB_EUNKNOWN);
	assert_string_equal(last_error(client).what, "moon-phase");

	assert_code(shmb_region_remove(client, "a//b"), SHMB_EINVAL);
	assert_string_equal(last_error(client).what, "name");
	error.struct_size = 4;
	assert_code(shmb_client_last_error(client, &error), SHMB_EINVAL);
	shmb_client_free(client);
}

/* ---- Late answers ---- */

static void a_late_answer_is_discarded(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 30);
	struct wire_empty empty = { 0 };
	struct fake_seen late;

	fake_handle(fake, WIRE_PING, keep_silent);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	fake_wait(fake, WIRE_PING, 1);
	late = fake_last(fake, WIRE_PING);
	fake_handle(fake, WIRE_PING, NULL);
	assert_code(shmb_client_set_timeout(client, 5000), 0);
	assert_code(shmb_client_ping(client), 0);
	fake_result(fake, &late, &empty, NULL, 0);
	assert_code(shmb_client_ping(client), 0);
	assert_code(shmb_client_ping(client), 0);
	fake_result(fake, &late, &empty, NULL, 0); /* once was late, twice is a lie */
	assert_code(shmb_client_ping(client), SHMB_EPROTO);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	shmb_client_free(client);
}

static void a_late_attachment_is_given_back(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 30);
	struct fake_region *region = fake_make(fake, "a", 100, 100);
	struct shmb_region *untouched = (void *)fake;
	struct wire_region_attached attached;
	int fds[2] = { region->data, region->page };
	struct fake_seen late;
	size_t before;

	fake_handle(fake, WIRE_REGION_OPEN, keep_silent);
	assert_code(shmb_region_open(client, "a", SHMB_READ, NULL, &untouched), SHMB_ETIMEDOUT);
	assert_ptr_equal(untouched, fake);
	assert_string_equal(last_error(client).what, "region.open");
	fake_wait(fake, WIRE_REGION_OPEN, 1);
	late = fake_last(fake, WIRE_REGION_OPEN);
	attached = fake_attached(fake, region, SHMB_READ, false);
	before = count_fds();
	fake_result(fake, &late, &attached, fds, 2);
	assert_code(shmb_client_set_timeout(client, 5000), 0);
	assert_code(shmb_client_ping(client), 0);
	fake_wait(fake, WIRE_REGION_CLOSE, 1);
	assert_int_equal(fake_last(fake, WIRE_REGION_CLOSE).params.handle.handle, attached.handle);
	assert_int_equal(fake_last(fake, WIRE_REGION_CLOSE).kind, WIRE_NOTIFICATION);
	assert_int_equal(fake_count(fake, WIRE_REGION_REMOVE), 0);
	assert_int_equal(count_fds(), before);
	shmb_client_free(client);
}

/* ---- Brokers that break the protocol ---- */

static bool answer_ping_with_fd(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_empty empty = { 0 };
	int fd = fake->listener;

	fake_result(fake, seen, &empty, &fd, 1);
	return true;
}

static bool answer_with_unstated_fd(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_empty empty = { 0 };
	struct wire_buffer buffer;
	int fd = fake->listener;

	if (wire_encode_result(&buffer, seen->msgid, seen->method, &empty, 0) == 0)
		fake_bytes(seen->peer, buffer.data, buffer.length, &fd, 1);
	return true;
}

static bool answer_with_too_many_fds(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_region *region = fake_region(fake, "a");
	struct wire_region_attached attached = fake_attached(fake, region, SHMB_READ, false);
	int fds[3] = { region->data, region->page, fake->listener };

	fake_result(fake, seen, &attached, fds, 3);
	return true;
}

static bool answer_with_too_few_fds(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_region *region = fake_region(fake, "a");
	struct wire_region_attached attached = fake_attached(fake, region, SHMB_READ, false);

	fake_result(fake, seen, &attached, &region->data, 1);
	return true;
}

static void a_wrong_number_of_descriptors_is_an_error_of_that_message(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region *region;
	size_t before;

	fake_make(fake, "a", 100, 100);
	before = count_fds();
	fake_handle(fake, WIRE_PING, answer_ping_with_fd);
	assert_code(shmb_client_ping(client), SHMB_EPROTO);
	fake_handle(fake, WIRE_PING, answer_with_unstated_fd);
	assert_code(shmb_client_ping(client), SHMB_EPROTO);
	fake_handle(fake, WIRE_REGION_OPEN, answer_with_too_many_fds);
	assert_code(shmb_region_open(client, "a", SHMB_READ, NULL, &region), SHMB_EPROTO);
	fake_handle(fake, WIRE_REGION_OPEN, answer_with_too_few_fds);
	assert_code(shmb_region_open(client, "a", SHMB_READ, NULL, &region), SHMB_EPROTO);
	fake_handle(fake, WIRE_PING, NULL);
	assert_code(shmb_client_ping(client), 0); /* the connection has not suffered */
	fake_wait(fake, WIRE_REGION_CLOSE, 2);    /* what was granted has been given back */
	assert_int_equal(count_fds(), before);
	shmb_client_free(client);
}

static void descriptors_lost_to_our_own_limit_are_told(void **state)
{
	enum { FILLER = 2 * FAKE_PEERS };
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *second;
	struct shmb_region *region;
	struct rlimit limit, tight;
	int filler[FILLER], next;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	fake_make(fake, "a", 100, 100);
	for (int i = 0; i < FILLER; i++) /* poll(2) refuses more entries than the limit */
		filler[i] = dup(0);
	next = dup(0); /* the next free number */
	close(next);
	tight = limit;
	tight.rlim_cur = (rlim_t)next + 1; /* room for one */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_code(shmb_region_open(client, "a", SHMB_READ, NULL, &region), SHMB_EMFILE);
	tight.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_code(shmb_region_open(client, "a", SHMB_READ, NULL, &region), SHMB_EMFILE);
	assert_code(shmb_client_get_fd(client), SHMB_EMFILE);
	assert_code(shmb_client_connect(fake->path, NULL, &second), SHMB_EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fake_wait(fake, WIRE_REGION_CLOSE, 2);
	options.flags = SHMB_KEEP_FD;
	assert_code(shmb_region_open(client, "a", SHMB_READ, &options, &region), 0);
	assert_int_equal(shmb_region_fd(region), next); /* nothing leaked */
	shmb_region_free(region);
	shmb_client_free(client);
	for (int i = 0; i < FILLER; i++)
		close(filler[i]);
}

static void break_protocol(struct fake *fake, const void *bytes, size_t length, int expected)
{
	struct shmb_client *client = fake_connect(fake, 5000);
	int fd = fake->listener;
	size_t before = count_fds();
	unsigned n_ended = fake_ended(fake);

	fake_bytes(fake_peer(fake), bytes, length, &fd, 1);
	assert_code(shmb_client_ping(client), expected);
	assert_code(shmb_client_ping(client), expected == 0 ? 0 : SHMB_EDISCONNECTED);
	assert_int_equal(count_fds(), before);
	/* What the client's handles hold is theirs until they are gone. */
	assert_int_equal(fake_ended(fake), n_ended);
	shmb_client_free(client);
	fake_wait_ended(fake, n_ended + 1);
}

static void a_broker_that_breaks_the_protocol_is_left(void **state)
{
	struct fake *fake = *state;
	struct wire_buffer buffer;
	struct wire_empty empty = { 0 };
	static const char unknown[] = "\x93\x02\xa5later\x80";
	static const char empty_event[] = "\x93\x02\xacregion.event\x80";
	static const char not_an_event[] = "\x93\x02\xa4ping\x80";

	break_protocol(fake, "\xc1", 1, SHMB_EPROTO);
	break_protocol(fake, "\x94\x01\x01\xc0", 4, SHMB_EPROTO); /* cut short */
	assert_int_equal(wire_encode_request(&buffer, 5, WIRE_PING, &empty, 0), 0);
	break_protocol(fake, buffer.data, buffer.length, SHMB_EPROTO); /* asks us */
	break_protocol(fake, empty_event, sizeof(empty_event) - 1, SHMB_EPROTO);
	break_protocol(fake, not_an_event, sizeof(not_an_event) - 1, SHMB_EPROTO);
	break_protocol(fake, unknown, sizeof(unknown) - 1, 0); /* of a later version */
}

static bool say_goodbye(struct fake *fake, const struct fake_seen *seen)
{
	fake_goodbye(seen->peer, "timed-out", "slow-timeout", 30);
	fake_hang_up(fake, seen->peer);
	return true;
}

static void why_a_broker_left_is_told(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);

	fake_handle(fake, WIRE_PING, say_goodbye);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_string_equal(last_error(client).what, "slow-timeout");
	assert_code(shmb_region_remove(client, "a"), SHMB_EDISCONNECTED);
	assert_string_equal(last_error(client).what, "slow-timeout");
	assert_code(shmb_client_process(client), SHMB_EDISCONNECTED);
	shmb_client_free(client);
}

/* ---- Many threads ---- */

enum { THREADS = 8, ROUNDS = 200 };

struct party {
	struct fake *fake;
	struct shmb_client *client;
	int number, failures;
};

static void *ping_often(void *argument)
{
	struct party *party = argument;

	for (int i = 0; i < ROUNDS; i++)
		party->failures += shmb_client_ping(party->client) != 0;
	return NULL;
}

static void *attach_often(void *argument)
{
	struct party *party = argument;
	char name[2] = { (char)('a' + party->number % 2), '\0' };

	for (int i = 0; i < ROUNDS; i++) {
		struct shmb_region *region;
		uint32_t value = 0;

		if (shmb_region_open(party->client, name, SHMB_READ, NULL, &region) < 0) {
			party->failures++;
			continue;
		}
		party->failures += shmb_region_read_u32(region, 0, &value) != 0;
		party->failures += value != (uint32_t)(party->number % 2);
		shmb_region_free(region);
	}
	return NULL;
}

static void run_threads(struct fake *fake, struct shmb_client *client, void *(*body)(void *))
{
	struct party parties[THREADS] = { 0 };
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		parties[i] = (struct party){ .fake = fake, .client = client, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, body, &parties[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(parties[i].failures, 0);
	}
}

static void threads_share_a_client(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 10000);

	fake_make(fake, "a", 100, 100);
	fake_make(fake, "b", 100, 100)->bytes[0] = 1;
	run_threads(fake, client, ping_often);
	assert_int_equal(fake_count(fake, WIRE_PING), THREADS * ROUNDS);
	run_threads(fake, client, attach_often);
	fake_wait(fake, WIRE_REGION_CLOSE, THREADS * ROUNDS);
	shmb_client_free(client);
}

/* Keeps each until THREADS have come, then answers the last first. */
static bool answer_backwards(struct fake *fake, const struct fake_seen *seen)
{
	static struct fake_seen waiting[THREADS];
	static int n;
	struct wire_empty empty = { 0 };

	waiting[n++] = *seen;
	if (n < THREADS)
		return true;
	while (n > 0)
		fake_result(fake, &waiting[--n], &empty, NULL, 0);
	return true;
}

static void answers_may_come_in_any_order(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 10000);

	fake_handle(fake, WIRE_PING, answer_backwards);
	run_threads(fake, client, ping_often);
	shmb_client_free(client);
}

static void more_threads_than_requests_wait_for_their_turn(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client;

	fake->max_requests = 2;
	client = fake_connect(fake, 10000);
	run_threads(fake, client, ping_often);
	fake_handle(fake, WIRE_PING, keep_silent);
	assert_code(shmb_client_set_timeout(client, 20), 0);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	fake_wait(fake, WIRE_PING, THREADS * ROUNDS + 2);
	fake_handle(fake, WIRE_PING, NULL);
	/* Both places are taken by answers that may still come. */
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	assert_int_equal(fake_count(fake, WIRE_PING), THREADS * ROUNDS + 2);
	shmb_client_free(client);
}

static void *ping_once(void *argument)
{
	struct party *party = argument;

	party->failures = shmb_client_ping(party->client);
	return NULL;
}

static void all_who_wait_learn_that_the_broker_is_gone(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 10000);
	struct party parties[THREADS];
	pthread_t threads[THREADS];

	fake_handle(fake, WIRE_PING, keep_silent);
	for (int i = 0; i < THREADS; i++) {
		parties[i] = (struct party){ .client = client };
		assert_int_equal(pthread_create(&threads[i], NULL, ping_once, &parties[i]), 0);
	}
	fake_wait(fake, WIRE_PING, THREADS);
	fake_hang_up(fake, fake_peer(fake));
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_code(parties[i].failures, SHMB_EDISCONNECTED);
	}
	shmb_client_free(client);
}

/* One thread's deadline passes while it reads for all: another takes its place. */
static void the_readers_place_is_handed_on(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 60);
	struct wire_empty empty = { 0 };
	struct party first = { .client = client }, second = { .client = client };
	pthread_t threads[2];
	struct fake_seen seen;

	fake_handle(fake, WIRE_PING, keep_silent);
	assert_int_equal(pthread_create(&threads[0], NULL, ping_once, &first), 0);
	fake_wait(fake, WIRE_PING, 1);
	assert_code(shmb_client_set_timeout(client, 10000), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, ping_once, &second), 0);
	fake_wait(fake, WIRE_PING, 2);
	pthread_join(threads[0], NULL);
	assert_code(first.failures, SHMB_ETIMEDOUT);
	seen = fake_last(fake, WIRE_PING);
	fake_result(fake, &seen, &empty, NULL, 0);
	pthread_join(threads[1], NULL);
	assert_code(second.failures, 0);
	shmb_client_free(client);
}

/* ---- A full socket ---- */

static void closing_never_waits_and_is_never_lost(void **state)
{
	enum { REGIONS = 1500 };
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 10000);
	struct shmb_region **regions = calloc(REGIONS, sizeof(*regions));
	size_t before;

	assert_non_null(regions);
	fake_make(fake, "a", 100, 100);
	before = count_fds();
	for (int i = 0; i < REGIONS; i++)
		assert_code(shmb_region_open(client, "a", SHMB_READ, NULL, &regions[i]), 0);
	assert_int_equal(count_fds(), before); /* closed once mapped */
	fake_pause(fake, true);
	for (int i = 0; i < REGIONS; i++)
		shmb_region_free(regions[i]); /* more than the socket takes */
	fake_pause(fake, false);
	assert_code(shmb_client_ping(client), 0); /* takes its turn behind them */
	assert_int_equal(fake_count(fake, WIRE_REGION_CLOSE), REGIONS);
	shmb_client_free(client);
	free(regions);
}

static void a_request_that_was_never_sent_leaves_no_trace(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 10000);
	struct shmb_region *region;
	unsigned n = 0;

	fake_pause(fake, true);
	assert_code(shmb_client_set_timeout(client, 1), 0);
	/* Fill the places in flight, or the socket. The first may find the fake not yet asleep. */
	for (int turns = 0; n < 200 && turns < 400; turns++) {
		int result = shmb_client_ping(client);

		assert_true(result == SHMB_ETIMEDOUT || result == 0);
		n += result == SHMB_ETIMEDOUT;
	}
	assert_int_equal(n, 200);
	fake_pause(fake, false);
	assert_code(shmb_client_set_timeout(client, 10000), 0);
	assert_code(shmb_region_create(client, "x", 10, NULL, &region), 0);
	shmb_region_free(region);
	assert_code(shmb_client_ping(client), 0);
	shmb_client_free(client);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_particulars_of_a_refusal_are_kept),
		TEST(a_late_answer_is_discarded),
		TEST(a_late_attachment_is_given_back),
		TEST(a_wrong_number_of_descriptors_is_an_error_of_that_message),
		TEST(descriptors_lost_to_our_own_limit_are_told),
		TEST(a_broker_that_breaks_the_protocol_is_left),
		TEST(why_a_broker_left_is_told),
		TEST(threads_share_a_client),
		TEST(answers_may_come_in_any_order),
		TEST(more_threads_than_requests_wait_for_their_turn),
		TEST(all_who_wait_learn_that_the_broker_is_gone),
		TEST(the_readers_place_is_handed_on),
		TEST(closing_never_waits_and_is_never_lost),
		TEST(a_request_that_was_never_sent_leaves_no_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
