/* SPDX-License-Identifier: MIT */
/*
 * Going on over another connection: what is repeated and in which order, what the broker may
 * refuse, who looks for it and how often. Watches and event loops are in test_client_resume_loop.c.
 */

#include "fake_broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONG_MS = 10000, SHORT_MS = 60 };

static int setup(void **state)
{
	struct fake *fake = fake_start();

	fake->features |= WIRE_FEATURE_RESUME;
	*state = fake;
	return 0;
}

/* A message may be answered before it is in the log. */
static void settle(struct fake *fake)
{
	for (unsigned i = 0; i < WIRE_METHOD_COUNT; i++)
		fake_wait(fake, (enum wire_method_id)i, fake_count(fake, (enum wire_method_id)i));
}

static struct fake_seen last(struct fake *fake, enum wire_method_id method)
{
	settle(fake);
	return fake_last(fake, method);
}

static unsigned look(struct fake *fake, unsigned first, struct fake_seen *ret_seen, unsigned most)
{
	settle(fake);
	return fake_log(fake, first, ret_seen, most);
}

static struct shmb_client *connect_for(struct fake *fake, int timeout_ms, int away_ms)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;

	options.timeout_ms = LONG_MS; /* also on a busy machine */
	options.away_ms = away_ms;
	assert_code(shmb_client_connect(fake->path, &options, &client), 0);
	assert_code(shmb_client_set_timeout(client, timeout_ms), 0);
	return client;
}

static struct shmb_region *create(struct shmb_client *client, const char *name)
{
	struct shmb_region *region = NULL;

	assert_code(shmb_region_create(client, name, 100, NULL, &region), 0);
	return region;
}

static const char *what_failed(struct shmb_client *client, struct shmb_error *error)
{
	error->struct_size = sizeof(*error);
	assert_code(shmb_client_last_error(client, error), 0);
	return error->what;
}

static void crash(struct fake *fake)
{
	unsigned n = fake->n_endings;

	fake_end(fake, FAKE_CRASH);
	fake_wait_endings(fake, n + 1);
}

static void end(struct fake *fake, enum fake_ending ending)
{
	fake_end(fake, ending);
	fake_wait_endings(fake, 1);
}

static bool keep_silent(struct fake *fake, const struct fake_seen *seen)
{
	return true;
}

/* ---- Nothing is noticed ---- */

static void calls_go_on(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);
	struct shmb_region *region = create(client, "a");
	size_t before = count_fds();

	for (unsigned i = 0; i < 20; i++) {
		crash(fake);
		assert_code(shmb_region_resize(region, 1 + i), 0);
	}
	assert_true(last(fake, WIRE_HELLO).resumes);
	assert_int_equal(fake_count(fake, WIRE_HELLO), 21);
	assert_int_equal(count_fds(), before);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void memory_does_not_notice(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, SHORT_MS, -1);
	struct shmb_region *region = create(client, "a");
	struct shmb_publication publication;

	assert_code(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), 0);
	end(fake, FAKE_DIE);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	assert_code(shmb_region_write_u32(region, 4, 7), 0);
	assert_code(shmb_region_publish(region, 4, 4), 0);
	assert_code(shmb_region_wait(region, 0, 0, &publication), 0);
	assert_int_equal(publication.sequence, 1);
	assert_code(shmb_region_unlock(region), 0);
	assert_code(shmb_region_lock(region, SHMB_SHARED, 0), 0);
	assert_code(shmb_region_unlock(region), 0);
	assert_code(shmb_region_close(region), 0);
	fake_live(fake);
	assert_code(shmb_client_set_timeout(client, LONG_MS), 0);
	assert_code(shmb_client_ping(client), 0);
	assert_int_equal(fake_count(fake, WIRE_REGION_CLOSE), 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void the_path_is_found_from_another_directory(void **state)
{
	struct fake *fake = *state;
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct shmb_client *client = NULL;

	assert_true(home >= 0);
	assert_int_equal(chdir(fake->directory), 0);
	assert_code(shmb_client_connect("./broker.sock", NULL, &client), 0);
	assert_int_equal(fchdir(home), 0);
	close(home);
	crash(fake);
	assert_code(shmb_client_ping(client), 0);
	shmb_client_free(client);
}

/* ---- Lost answers ---- */

static bool perform_and_crash(struct fake *fake, const struct fake_seen *seen)
{
	fake_perform_create(fake, seen);
	fake_handle(fake, WIRE_REGION_CREATE, NULL);
	fake_end(fake, FAKE_CRASH);
	return true;
}

static void a_create_whose_answer_was_lost_is_not_done_twice(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);
	struct fake_seen log[8];
	struct shmb_region *region;
	size_t before = count_fds();

	fake_handle(fake, WIRE_REGION_CREATE, perform_and_crash);
	region = create(client, "a");
	assert_int_equal(look(fake, 1, log, 8), 3);
	assert_int_equal(log[0].method, WIRE_REGION_CREATE);
	assert_int_equal(log[1].method, WIRE_HELLO);
	assert_int_equal(log[1].params.hello.again, 1);
	assert_int_equal(log[2].method, WIRE_REGION_CREATE);
	assert_int_equal(log[2].msgid, log[0].msgid);
	assert_true(log[2].again);
	shmb_region_free(region);
	assert_code(shmb_client_ping(client), 0);
	assert_int_equal(last(fake, WIRE_REGION_CLOSE).params.handle.handle, 1);
	/* The fake's own two, of the segments. */
	assert_int_equal(count_fds(), before + 2);
	shmb_client_free(client);
}

static bool crash_once(struct fake *fake, const struct fake_seen *seen)
{
	fake_handle(fake, seen->method, NULL);
	fake_end(fake, FAKE_CRASH);
	return true;
}

static void other_requests_are_repeated_too(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);
	struct shmb_region *region, *second = NULL;

	region = create(client, "a");
	fake_handle(fake, WIRE_REGION_RESIZE, crash_once);
	assert_code(shmb_region_resize(region, 50), 0);
	assert_int_equal(fake_count(fake, WIRE_REGION_RESIZE), 2);
	assert_true(last(fake, WIRE_REGION_RESIZE).again);

	fake_handle(fake, WIRE_REGION_OPEN, crash_once);
	assert_code(shmb_region_open(client, "a", SHMB_READ, NULL, &second), 0);
	assert_int_equal(fake_count(fake, WIRE_REGION_OPEN), 2);

	fake_handle(fake, WIRE_REGION_LOCK, crash_once);
	assert_code(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), 0);
	assert_code(shmb_region_unlock(region), 0);
	shmb_region_free(second);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void a_close_is_repeated_until_something_later_is_answered(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);
	struct shmb_region *a = create(client, "a"), *b = create(client, "b");
	struct fake_seen log[8];

	assert_code(shmb_region_close(a), 0);
	assert_code(shmb_client_ping(client), 0); /* proves that it was read */
	crash(fake);
	fake_handle(fake, WIRE_REGION_CLOSE, crash_once);
	assert_code(shmb_region_close(b), 0);
	assert_code(shmb_client_ping(client), 0);
	/* hello, create, create, close, ping; hello, close; hello, close, ping */
	assert_int_equal(look(fake, 5, log, 8), 5);
	assert_int_equal(log[0].method, WIRE_HELLO);
	assert_int_equal(log[1].method, WIRE_REGION_CLOSE);
	assert_int_equal(log[2].method, WIRE_HELLO);
	assert_int_equal(log[3].method, WIRE_REGION_CLOSE);
	assert_int_equal(log[3].params.handle.handle, log[1].params.handle.handle);
	assert_int_equal(log[4].method, WIRE_PING);
	shmb_region_free(a);
	shmb_region_free(b);
	shmb_client_free(client);
}

/* An attachment of which nothing could be made: its region is removed again, once. */
static bool attach_without_page(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_region *region = fake_make(fake, seen->text, 100, 100);
	struct wire_region_attached attached = fake_attached(fake, region, 6, true);
	int fds[2] = { region->data, region->data };

	fake_result(fake, seen, &attached, fds, 2);
	return true;
}

static void undoing_a_create_is_done_once(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);
	struct shmb_region *region = NULL;
	struct fake_seen log[8];

	fake_handle(fake, WIRE_REGION_CREATE, attach_without_page);
	fake_handle(fake, WIRE_REGION_REMOVE, crash_once);
	assert_code(shmb_region_create(client, "a", 100, NULL, &region), SHMB_EPROTO);
	assert_code(shmb_client_ping(client), 0);
	assert_int_equal(look(fake, 2, log, 8), 5);
	assert_int_equal(log[0].method, WIRE_REGION_REMOVE);
	assert_int_equal(log[0].kind, WIRE_REQUEST);
	assert_int_equal(log[1].method, WIRE_HELLO);
	assert_int_equal(log[2].method, WIRE_REGION_REMOVE);
	assert_int_equal(log[2].msgid, log[0].msgid);
	assert_true(log[2].again);
	assert_int_equal(log[3].method, WIRE_REGION_CLOSE);
	assert_int_equal(log[4].method, WIRE_PING);
	shmb_client_free(client);
}

static void never_called(int status, struct shmb_region *region, void *userdata)
{
	fail_msg("called");
}

static void all_that_is_in_flight_is_repeated_in_order(void **state)
{
	enum { N = 64 };
	struct fake *fake = *state;
	struct fake_seen log[N + 4];
	struct shmb_client *client;
	struct shmb_region *region;
	uint32_t msgid = 0;
	unsigned n = 0;

	fake->max_requests = N;
	client = connect_for(fake, LONG_MS, -1);
	region = create(client, "a");
	fake_wait(fake, WIRE_REGION_CREATE, 1);
	fake_pause(fake, true);
	for (unsigned i = 0; i < N; i++) {
		/* Some closing in between. */
		if (i == N / 2)
			assert_code(shmb_region_close(region), 0);
		assert_code(
			shmb_region_open_async(client, "a", SHMB_READ, NULL, never_called, NULL),
			0);
	}
	assert_code(shmb_region_open_async(client, "a", SHMB_READ, NULL, never_called, NULL),
		    SHMB_EBUSY);
	crash(fake);
	fake_handle(fake, WIRE_REGION_OPEN, keep_silent);
	fake_pause(fake, false);
	while (fake_count(fake, WIRE_REGION_OPEN) < N) /* no callback runs, as none is answered */
		assert_code(shmb_client_process(client), 0);
	fake_wait(fake, WIRE_REGION_OPEN, N);
	n = look(fake, 2, log, N + 4);
	assert_int_equal(n, N + 2);
	assert_int_equal(log[0].params.hello.again, N);
	for (unsigned i = 1; i < n; i++) {
		bool close = i == 1 + N / 2;

		assert_int_equal(log[i].method, close ? WIRE_REGION_CLOSE : WIRE_REGION_OPEN);
		if (close)
			continue;
		assert_true(log[i].again);
		assert_true(log[i].msgid > msgid);
		msgid = log[i].msgid;
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static void not_more_are_repeated_than_the_broker_remembers(void **state)
{
	struct fake *fake = *state;
	struct fake_seen log[8];
	struct shmb_client *client;
	struct shmb_region *region = NULL;

	fake->max_requests = 2;
	client = connect_for(fake, SHORT_MS, -1);
	fake_handle(fake, WIRE_PING, keep_silent);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	/* Its undoing is the third that is unanswered. */
	fake_handle(fake, WIRE_REGION_CREATE, attach_without_page);
	fake_handle(fake, WIRE_REGION_REMOVE, keep_silent);
	assert_code(shmb_region_create(client, "a", 100, NULL, &region), SHMB_EPROTO);
	assert_code(shmb_region_create(client, "b", 100, NULL, &region), SHMB_ETIMEDOUT);
	crash(fake);
	fake_handle(fake, WIRE_PING, NULL);
	fake_handle(fake, WIRE_REGION_REMOVE, NULL);
	assert_code(shmb_client_set_timeout(client, LONG_MS), 0);
	assert_code(shmb_client_ping(client), 0);
	assert_int_equal(last(fake, WIRE_HELLO).params.hello.again, 2);
	/* hello, ping, create, remove, close; hello, ping, remove, close, ping */
	assert_int_equal(look(fake, 6, log, 8), 4);
	assert_int_equal(log[0].method, WIRE_PING);
	assert_int_equal(log[1].method, WIRE_REGION_REMOVE);
	assert_int_equal(log[2].method, WIRE_REGION_CLOSE);
	assert_int_equal(log[3].method, WIRE_PING);
	shmb_client_free(client);
}

/* ---- Time ---- */

static void calls_time_out_while_it_is_away(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, SHORT_MS, -1);
	struct shmb_region *region = create(client, "a");
	struct shmb_error error;
	unsigned n;

	end(fake, FAKE_DIE);
	assert_code(shmb_region_resize(region, 10), SHMB_ETIMEDOUT); /* may have been sent */
	assert_code(shmb_region_remove(client, "a"), SHMB_ETIMEDOUT);
	assert_string_equal(what_failed(client, &error), "region.remove: the broker is away");
	fake_live(fake);
	assert_code(shmb_client_set_timeout(client, LONG_MS), 0);
	n = fake_count(fake, WIRE_REGION_RESIZE);
	assert_code(shmb_client_ping(client), 0);
	/* What was only waiting to be sent is not done, what may have been is repeated. */
	assert_int_equal(fake_count(fake, WIRE_REGION_REMOVE), 0);
	assert_int_equal(fake_count(fake, WIRE_REGION_RESIZE),
			 n + last(fake, WIRE_HELLO).params.hello.again);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void a_broker_that_is_started_by_the_connection_is_waited_for(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, SHORT_MS, -1);
	struct shmb_region *region = create(client, "a");
	struct shmb_error error;

	end(fake, FAKE_SLEEP);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	assert_string_equal(what_failed(client, &error), "ping: the broker is away");
	assert_code(shmb_region_resize(region, 10), SHMB_ETIMEDOUT);
	assert_code(shmb_client_set_timeout(client, LONG_MS), 0);
	fake_live(fake);
	assert_code(shmb_client_ping(client), 0);
	/* One connection, however long it took, and one before. */
	assert_int_equal(fake_accepted(fake), 2);
	assert_int_equal(fake_count(fake, WIRE_REGION_RESIZE), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

static bool hang_up(struct fake *fake, const struct fake_seen *seen)
{
	if (!seen->resumes)
		return false;
	fake_hang_up(fake, seen->peer);
	return true;
}

static void tries_are_few(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, 400, -1);
	unsigned n;

	fake_handle(fake, WIRE_HELLO, hang_up);
	crash(fake);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	/* After 0, 1, 2, 4 ... 256 ms; a busy machine makes it fewer. */
	n = fake_accepted(fake) - 1;
	assert_in_range(n, 2, 12);
	fake_handle(fake, WIRE_HELLO, NULL);
	assert_code(shmb_client_set_timeout(client, LONG_MS), 0);
	assert_code(shmb_client_ping(client), 0);
	shmb_client_free(client);
}

static void away_ms_bounds_it(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, SHORT_MS);
	struct shmb_region *region = create(client, "a");
	struct shmb_error error;
	int64_t start;

	end(fake, FAKE_DIE);
	start = now_ms();
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_true(now_ms() - start >= SHORT_MS);
	assert_string_equal(what_failed(client, &error), "the broker did not come back");
	fake_live(fake);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_string_equal(what_failed(client, &error), "the broker did not come back");
	assert_code(shmb_region_write_u8(region, 0, 1), 0);
	assert_int_equal(fake_accepted(fake), 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void away_ms_0_gives_up_at_once(void **state)
{
	struct fake *fake = *state;
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = connect_for(fake, LONG_MS, 0);

	crash(fake);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_int_equal(fake_accepted(fake), 1);
	shmb_client_free(client);
	options.away_ms = -2;
	assert_code(shmb_client_connect(fake->path, &options, &client), SHMB_EINVAL);
}

static void without_descriptors_it_is_tried_again(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, SHORT_MS, -1);
	struct rlimit limit, none;

	end(fake, FAKE_SLEEP);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fake_live(fake);
	assert_code(shmb_client_set_timeout(client, LONG_MS), 0);
	assert_code(shmb_client_ping(client), 0);
	assert_int_equal(fake_accepted(fake), 2);
	shmb_client_free(client);
}

/* ---- What the broker may answer ---- */

static void a_session_that_was_forgotten_is_lost(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);
	struct shmb_region *region = create(client, "a");
	char sentence[256];
	struct shmb_error error;
	size_t before = count_fds();

	fake_refuse(fake, "no-session", 1);
	crash(fake);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	what_failed(client, &error);
	shmb_error_format(&error, sentence, sizeof(sentence));
	assert_string_equal(sentence, "the connection to the broker is gone: the broker has "
				      "forgotten this session");
	assert_code(shmb_client_process(client), SHMB_EDISCONNECTED);
	assert_code(shmb_region_resize(region, 10), SHMB_EDISCONNECTED);
	assert_code(shmb_region_write_u8(region, 0, 1), 0);
	assert_int_equal(fake_accepted(fake), 2);
	fake_wait_ended(fake, 1);
	assert_int_equal(count_fds(), before - 1); /* the fake's end of the first connection */
	shmb_region_free(region);
	shmb_client_free(client);
}

static void a_refusal_for_now_is_asked_again(void **state)
{
	static const char *const codes[] = { "busy", "no-memory", "quota-exceeded",
					     "too-many-files-system" };
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		fake_refuse(fake, codes[i], 3);
		crash(fake);
		assert_code(shmb_client_ping(client), 0);
	}
	assert_int_equal(fake_accepted(fake), 1 + 4 * 4);
	shmb_client_free(client);
}

static void a_refusal_for_good_is_final(void **state)
{
	static const char *const codes[] = { "version", "protocol-error", "denied",
					     "invalid-argument", "moon-phase" };
	struct fake *fake = *state;

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct shmb_client *client = connect_for(fake, LONG_MS, -1);

		fake_refuse(fake, codes[i], 1);
		crash(fake);
		assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
		shmb_client_free(client);
	}
}

/* As a broker does that knows nothing of resuming, or serves another user, or lies. */
static bool answer_new_session(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_hello_result result = {
		.version = WIRE_VERSION,
		.broker = wire_string("fake"),
		.session = { "0123456789abcdef", 16 },
		.page_size = 4096,
		.max_region = 4096,
		.max_requests = 1,
	};

	fake_result(fake, seen, &result, NULL, 0);
	return true;
}

static bool answer_another_token(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_hello_result result = {
		.version = WIRE_VERSION,
		.broker = wire_string("fake"),
		.session = { "fedcba9876543210", 16 },
		.resumed = true,
		.page_size = 4096,
		.max_region = 4096,
		.max_requests = 1,
	};

	fake_result(fake, seen, &result, NULL, 0);
	return true;
}

static bool answer_garbage(struct fake *fake, const struct fake_seen *seen)
{
	fake_bytes(seen->peer, "garbage", 7, NULL, 0);
	return true;
}

static bool answer_with_event(struct fake *fake, const struct fake_seen *seen)
{
	fake_event(seen->peer, 1, SHMB_EVENT_REMOVED, 1, 1);
	return true;
}

static bool answer_denied(struct fake *fake, const struct fake_seen *seen)
{
	fake_goodbye(seen->peer, "denied", NULL, 0);
	return true;
}

static void an_answer_that_is_none_is_final(void **state)
{
	static fake_handler *const handlers[] = { answer_new_session, answer_another_token,
						  answer_garbage, answer_with_event,
						  answer_denied };
	struct fake *fake = *state;

	for (unsigned i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		struct shmb_client *client = connect_for(fake, LONG_MS, -1);

		fake_handle(fake, WIRE_HELLO, handlers[i]);
		crash(fake);
		assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
		fake_handle(fake, WIRE_HELLO, NULL);
		shmb_client_free(client);
	}
}

static bool goodbye_once(struct fake *fake, const struct fake_seen *seen)
{
	if (!seen->resumes)
		return false;
	fake_goodbye(seen->peer, "quota-exceeded", "connections-per-user", 3);
	fake_hang_up(fake, seen->peer);
	fake_handle(fake, WIRE_HELLO, NULL);
	return true;
}

static void a_refused_connection_is_tried_again(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);

	fake_handle(fake, WIRE_HELLO, goodbye_once);
	crash(fake);
	assert_code(shmb_client_ping(client), 0);
	assert_int_equal(fake_accepted(fake), 3);
	shmb_client_free(client);
}

/* ---- Dropped by a broker that lives ---- */

/* The old connection must still be there: its end would be the session's. */
static bool look_at_the_old_connection(struct fake *fake, const struct fake_seen *seen)
{
	struct pollfd old = { .fd = *(int *)fake->context, .events = POLLRDHUP };

	if (seen->resumes && poll(&old, 1, 0) == 0)
		*(int *)fake->context = -1;
	return false;
}

static void one_who_was_dropped_comes_back_before_letting_go(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);
	struct shmb_region *region = create(client, "a");
	int peer = last(fake, WIRE_HELLO).peer;

	fake->context = &peer;
	fake_handle(fake, WIRE_HELLO, look_at_the_old_connection);
	fake_condemn(fake, peer, "timed-out");
	assert_code(shmb_region_resize(region, 10), 0);
	assert_int_equal(peer, -1);
	fake_wait_ended(fake, 1);
	assert_true(last(fake, WIRE_HELLO).resumes);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void one_who_broke_the_protocol_does_not_come_back(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);

	fake_condemn(fake, last(fake, WIRE_HELLO).peer, "protocol-error");
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_int_equal(fake_accepted(fake), 1);
	shmb_client_free(client);

	/* Nor does one who found that the broker did. */
	client = connect_for(fake, LONG_MS, -1);
	fake_handle(fake, WIRE_PING, answer_garbage);
	assert_code(shmb_client_ping(client), SHMB_EPROTO);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_int_equal(fake_accepted(fake), 2);
	shmb_client_free(client);
}

/* ---- Threads ---- */

struct party {
	pthread_t thread;
	struct shmb_client *client;
	unsigned number, n_done, failures;
};

static void *ask_again_and_again(void *argument)
{
	struct party *party = argument;
	char name[16];

	snprintf(name, sizeof(name), "r%u", party->number);
	for (unsigned i = 0; i < 100; i++) {
		struct shmb_region *region = NULL;
		int result = shmb_region_open(party->client, name, SHMB_READ, NULL, &region);

		if (result == 0)
			result = shmb_region_close(region);
		shmb_region_free(region);
		if (result == 0)
			result = shmb_client_ping(party->client);
		party->failures += result != 0;
		__atomic_fetch_add(&party->n_done, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void threads_share_a_connection_that_breaks(void **state)
{
	enum { N = FAKE_REGIONS };
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, 60000, -1);
	struct party parties[N] = { 0 };
	size_t before;
	unsigned n_done = 0;

	for (unsigned i = 0; i < N; i++) {
		char name[16];

		snprintf(name, sizeof(name), "r%u", i);
		fake_make(fake, name, 100, 100);
	}
	before = count_fds();
	for (unsigned i = 0; i < N; i++) {
		parties[i] = (struct party){ .client = client, .number = i };
		assert_int_equal(
			pthread_create(&parties[i].thread, NULL, ask_again_and_again, &parties[i]),
			0);
	}
	/* The last of them in peace, as so many pings have to come yet. */
	while (n_done < N * 100 - 40) {
		fake_wait(fake, WIRE_PING, fake_count(fake, WIRE_PING) + 20);
		crash(fake);
		n_done = 0;
		for (unsigned i = 0; i < N; i++)
			n_done += __atomic_load_n(&parties[i].n_done, __ATOMIC_RELAXED);
	}
	for (unsigned i = 0; i < N; i++) {
		pthread_join(parties[i].thread, NULL);
		assert_int_equal(parties[i].failures, 0);
	}
	assert_code(shmb_client_ping(client), 0);
	assert_int_equal(count_fds(), before);
	shmb_client_free(client);
}

/* ---- The end ---- */

static void a_client_that_is_freed_tells_a_broker_that_came_back(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);

	crash(fake); /* which nobody has noticed */
	shmb_client_free(client);
	fake_wait(fake, WIRE_HELLO, 2);
	assert_true(last(fake, WIRE_HELLO).resumes);
	fake_wait_ended(fake, 1);
	assert_int_equal(fake_accepted(fake), 2);

	/* And while it looks for it. */
	client = connect_for(fake, SHORT_MS, -1);
	fake_end(fake, FAKE_SLEEP);
	fake_wait_endings(fake, 2);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	shmb_client_free(client);
	fake_live(fake);
	fake_wait(fake, WIRE_HELLO, 4);
	fake_wait_ended(fake, 2);
	assert_int_equal(fake_accepted(fake), 4);

	client = connect_for(fake, SHORT_MS, -1);
	fake_end(fake, FAKE_DIE);
	fake_wait_endings(fake, 3);
	assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
	shmb_client_free(client);
	fake_live(fake);
}

static void a_broker_that_dies_at_the_end_is_told_again(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, LONG_MS, -1);

	fake_end_silently(fake, 2);
	shmb_client_free(client);
	fake_wait_ended(fake, 3);
	assert_int_equal(fake_accepted(fake), 3);
	assert_int_equal(fake_count(fake, WIRE_HELLO), 3);
	assert_true(last(fake, WIRE_HELLO).resumes);

	/* One that confirms it hears nothing more. */
	client = connect_for(fake, LONG_MS, -1);
	shmb_client_free(client);
	fake_wait_ended(fake, 4);
	assert_int_equal(fake_accepted(fake), 4);
}

static int child_of_one_who_waits(void *argument)
{
	struct shmb_client *client = argument;

	if (shmb_client_ping(client) != SHMB_EFORKED || shmb_client_process(client) != SHMB_EFORKED)
		return 1;
	shmb_client_free(client);
	return 0;
}

static void a_forked_child_leaves_it_alone(void **state)
{
	static const enum fake_ending endings[] = { FAKE_DIE, FAKE_SLEEP };
	struct fake *fake = *state;
	struct shmb_client *client = connect_for(fake, SHORT_MS, -1);

	for (unsigned i = 0; i < 2; i++) {
		fake_end(fake, endings[i]);
		fake_wait_endings(fake, i + 1);
		assert_code(shmb_client_set_timeout(client, SHORT_MS), 0);
		assert_code(shmb_client_ping(client), SHMB_ETIMEDOUT);
		assert_int_equal(fake_in_child(child_of_one_who_waits, client), 0);
		fake_live(fake);
		assert_code(shmb_client_set_timeout(client, LONG_MS), 0);
		assert_code(shmb_client_ping(client), 0);
		assert_int_equal(fake_accepted(fake), 2 + i);
	}
	shmb_client_free(client);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		TEST(calls_go_on),
		TEST(memory_does_not_notice),
		TEST(the_path_is_found_from_another_directory),
		TEST(a_create_whose_answer_was_lost_is_not_done_twice),
		TEST(other_requests_are_repeated_too),
		TEST(a_close_is_repeated_until_something_later_is_answered),
		TEST(undoing_a_create_is_done_once),
		TEST(all_that_is_in_flight_is_repeated_in_order),
		TEST(not_more_are_repeated_than_the_broker_remembers),
		TEST(calls_time_out_while_it_is_away),
		TEST(a_broker_that_is_started_by_the_connection_is_waited_for),
		TEST(tries_are_few),
		TEST(away_ms_bounds_it),
		TEST(away_ms_0_gives_up_at_once),
		TEST(without_descriptors_it_is_tried_again),
		TEST(a_session_that_was_forgotten_is_lost),
		TEST(a_refusal_for_now_is_asked_again),
		TEST(a_refusal_for_good_is_final),
		TEST(an_answer_that_is_none_is_final),
		TEST(a_refused_connection_is_tried_again),
		TEST(one_who_was_dropped_comes_back_before_letting_go),
		TEST(one_who_broke_the_protocol_does_not_come_back),
		TEST(threads_share_a_connection_that_breaks),
		TEST(a_client_that_is_freed_tells_a_broker_that_came_back),
		TEST(a_broker_that_dies_at_the_end_is_told_again),
		TEST(a_forked_child_leaves_it_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
