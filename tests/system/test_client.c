/* SPDX-License-Identifier: MIT */
/*
 * The library as a program meets it: finding a broker, waiting for one that is slow, losing it, and
 * asking without waiting.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

static int connect_within(const char *address, int timeout_ms)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;
	int r;

	options.timeout_ms = timeout_ms;
	r = shmb_client_connect(address, &options, &client);
	CHECK((r == 0) == (client != NULL));
	shmb_client_free(client);
	return r;
}

CASE(addresses, PRIVATE)
{
	CHECK_OK(connect_within(broker->socket, 5000));
	CHECK_CODE(connect_within(broker_path(broker, "nothing"), 5000), SHMB_ECONNREFUSED);
	CHECK_CODE(connect_within(broker_path(broker, "config"), 5000), SHMB_ECONNREFUSED);
	CHECK_CODE(connect_within("no-such-word", 5000), SHMB_EINVAL);
	CHECK_CODE(connect_within("", 5000), SHMB_EINVAL);

	SYS(setenv("SHMB_ADDRESS", broker->socket, 1));
	CHECK_OK(connect_within(NULL, 5000));
	SYS(setenv("SHMB_ADDRESS", "no-such-word", 1));
	CHECK_CODE(connect_within(NULL, 5000), SHMB_EINVAL);
	/* The user's broker is meant where nothing is said; never another one. */
	SYS(unsetenv("SHMB_ADDRESS"));
	SYS(setenv("XDG_RUNTIME_DIR", broker->directory, 1));
	CHECK_CODE(connect_within(NULL, 5000), SHMB_ECONNREFUSED);
	CHECK_CODE(connect_within("user", 5000), SHMB_ECONNREFUSED);
	SYS(unsetenv("XDG_RUNTIME_DIR"));
	CHECK_CODE(connect_within("user", 5000), SHMB_ECONNREFUSED);
}

CASE(a_broker_that_is_gone_refuses, PRIVATE)
{
	CHECK_INT(broker_stop(broker), 0);
	CHECK_CODE(connect_within(broker->socket, 5000), SHMB_ECONNREFUSED);
}

CASE(a_late_answer_is_discarded_and_the_client_stays_usable, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL, *same;
	int64_t start;

	CHECK_OK(shmb_client_set_timeout(client, 100));
	SYS(kill(broker->pid, SIGSTOP));
	start = harness_now_ms();
	CHECK_CODE(shmb_client_ping(client), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_create(client, "late", 4096, NULL, &region), SHMB_ETIMEDOUT);
	CHECK(harness_now_ms() - start < 5000 * harness_slow());
	CHECK_CODE(connect_within(broker->socket, 100), SHMB_ETIMEDOUT);
	SYS(kill(broker->pid, SIGCONT));
	CHECK_OK(shmb_client_set_timeout(client, 10000));
	CHECK_OK(shmb_client_ping(client));
	/* What came too late for its caller is given back, and leaves nothing behind. */
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
	same = create(client, "late", 4096, NULL);
	shmb_region_free(same);
	shmb_client_free(client);
}

CASE(a_broker_that_comes_back_is_another_one, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *fresh;
	struct shmb_region *region = create(client, "r", 4096, NULL), *none = NULL;

	CHECK_INT(broker_stop(broker), 0);
	broker_start(broker);
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, NULL, &none), SHMB_EDISCONNECTED);
	CHECK_OK(shmb_region_write_u32(region, 0, 1));
	fresh = connect_to(broker);
	CHECK_CODE(shmb_region_open(fresh, "r", SHMB_READ, NULL, &none), SHMB_ENOENT);
	shmb_client_free(fresh);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Without waiting ---- */

struct answer {
	int calls, status;
	struct shmb_region *region;
};

static void on_region(int status, struct shmb_region *region, void *userdata)
{
	struct answer *answer = userdata;

	answer->calls++;
	answer->status = status;
	answer->region = region;
}

static void process_until(struct shmb_client *client, const struct answer *answer)
{
	int64_t end = harness_now_ms() + 10000 * harness_slow();

	while (answer->calls == 0) {
		struct pollfd poll_fd = { .fd = SYS(shmb_client_get_fd(client)),
					  .events = (short)shmb_client_get_events(client) };

		CHECK(harness_now_ms() < end);
		CHECK(poll(&poll_fd, 1, 1000) >= 0);
		CHECK(shmb_client_process(client) >= 0);
	}
	CHECK_INT(answer->calls, 1);
}

CASE(create_and_open_without_waiting, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct answer made = { 0 }, opened = { 0 }, missing = { 0 }, taken = { 0 };
	uint32_t value;

	CHECK_OK(shmb_region_create_async(client, "r", 4096, NULL, on_region, &made));
	CHECK_OK(shmb_region_open_async(client, "r", SHMB_READ, NULL, on_region, &opened));
	CHECK_OK(shmb_region_open_async(client, "none", SHMB_READ, NULL, on_region, &missing));
	CHECK_OK(shmb_region_create_async(client, "r", 4096, NULL, on_region, &taken));
	CHECK_OK(shmb_client_ping(client)); /* runs no callback */
	CHECK_INT(made.calls, 0);
	process_until(client, &made);
	process_until(client, &opened);
	process_until(client, &missing);
	process_until(client, &taken);
	CHECK(made.status >= 0);
	CHECK_OK(opened.status);
	CHECK_CODE(missing.status, SHMB_ENOENT);
	CHECK(!missing.region);
	CHECK_CODE(taken.status, SHMB_EEXIST);
	CHECK_OK(shmb_region_write_u32(made.region, 0, 42));
	CHECK_OK(shmb_region_read_u32(opened.region, 0, &value));
	CHECK_INT(value, 42);
	CHECK_CODE(shmb_region_create_async(client, "a//b", 1, NULL, on_region, &made),
		   SHMB_EINVAL);
	shmb_region_free(made.region);
	shmb_region_free(opened.region);
	shmb_client_free(client);
}

CASE(requests_that_nobody_waits_for_any_more, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct answer lost = { 0 };

	CHECK_OK(shmb_region_create_async(client, "r", 4096, NULL, on_region, &lost));
	shmb_client_free(client);
	CHECK_INT(lost.calls, 0);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(a_broker_that_ends_answers_all_that_was_asked, PRIVATE)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;
	struct answer lost = { 0 };

	options.away_ms = 0;
	CHECK_OK(shmb_client_connect(broker->socket, &options, &client));
	SYS(kill(broker->pid, SIGSTOP));
	CHECK_OK(shmb_region_open_async(client, "r", SHMB_READ, NULL, on_region, &lost));
	SYS(kill(broker->pid, SIGKILL));
	broker_wait(broker);
	while (lost.calls == 0)
		if (shmb_client_process(client) < 0)
			break;
	CHECK_INT(lost.calls, 1);
	CHECK(lost.status == SHMB_EDISCONNECTED || lost.status == SHMB_ECANCELED);
	shmb_client_free(client);
}
