/* SPDX-License-Identifier: MIT */
/* Connecting: to nothing, to somebody else, to a broker that refuses, hangs, lies or leaves. */

#include "fake_broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int connect_within(struct fake *fake, int timeout_ms)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = (void *)fake;
	int result;

	options.timeout_ms = timeout_ms;
	result = shmb_client_connect(fake->path, &options, &client);
	if (result == 0)
		shmb_client_free(client);
	else
		assert_ptr_equal(client, fake); /* outputs are written on success only */
	return result;
}

static void a_client_says_who_it_is(void **state)
{
	struct fake *fake = *state;
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client;
	char name[100];

	assert_code(shmb_client_connect(fake->path, NULL, &client), 0);
	fake_wait(fake, WIRE_HELLO, 1);
	assert_string_equal(fake_last(fake, WIRE_HELLO).text, program_invocation_short_name);
	assert_code(shmb_client_ping(client), 0);
	assert_null(shmb_client_free(client));

	options.name = "camera";
	assert_code(shmb_client_connect(fake->path, &options, &client), 0);
	fake_wait(fake, WIRE_HELLO, 2);
	assert_string_equal(fake_last(fake, WIRE_HELLO).text, "camera");
	shmb_client_free(client);

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	options.name = name; /* longer than the wire allows: cut */
	assert_code(shmb_client_connect(fake->path, &options, &client), 0);
	fake_wait(fake, WIRE_HELLO, 3);
	assert_int_equal(strlen(fake_last(fake, WIRE_HELLO).text), 64);
	shmb_client_free(client);
	assert_null(shmb_client_free(NULL));
}

static void options_are_checked(void **state)
{
	struct fake *fake = *state;
	struct {
		struct shmb_client_options options;
		uint64_t later;
	} newer = { .options = SHMB_CLIENT_OPTIONS_INIT, .later = 1 };
	struct shmb_client_options *options = &newer.options;
	struct shmb_client *client;

	assert_code(connect_within(fake, 0), SHMB_EINVAL);
	assert_code(connect_within(fake, -1), SHMB_EINVAL);
	options->struct_size = sizeof(newer);
	assert_code(shmb_client_connect(fake->path, options, &client), SHMB_EINVAL);
	newer.later = 0;
	assert_code(shmb_client_connect(fake->path, options, &client), 0);
	shmb_client_free(client);
	options->struct_size = 0;
	assert_code(shmb_client_connect(fake->path, options, &client), SHMB_EINVAL);
	options->struct_size = offsetof(struct shmb_client_options, spin_us);
	options->spin_us = -2; /* not part of so short a struct */
	assert_code(shmb_client_connect(fake->path, options, &client), 0);
	assert_code(shmb_client_set_timeout(client, 0), SHMB_EINVAL);
	assert_code(shmb_client_set_timeout(client, 1), 0);
	shmb_client_free(client);
	options->struct_size = sizeof(*options);
	assert_code(shmb_client_connect(fake->path, options, &client), SHMB_EINVAL);
	assert_code(shmb_client_connect("nobody", NULL, &client), SHMB_EINVAL);
}

static int connect_to(const char *path)
{
	struct shmb_client *client;
	int result = shmb_client_connect(path, NULL, &client);

	if (result == 0)
		shmb_client_free(client);
	return result;
}

static void who_is_not_there_refuses(void **state)
{
	struct fake *fake = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[108], long_path[200];
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(path, sizeof(path), "%s/other", fake->directory);
	assert_code(connect_to(path), SHMB_ECONNREFUSED); /* not even a socket */
	memcpy(address.sun_path, path, strlen(path));
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_code(connect_to(path), SHMB_ECONNREFUSED); /* nobody listens */
	assert_int_equal(listen(listener, 1), 0);
	assert_code(connect_to(path), SHMB_ECONNREFUSED); /* not with packets */
	close(listener);
	unlink(path);
	memset(long_path, '/', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_code(connect_to(long_path), SHMB_EINVAL);
}

static int connect_as_nobody(void *argument)
{
	return setuid(65534) == 0 && connect_to(argument) == SHMB_EACCES ? 0 : 1;
}

static void the_mode_of_the_socket_is_told(void **state)
{
	struct fake *fake = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(fake->directory, 0755), 0);
	assert_int_equal(chmod(fake->path, 0600), 0);
	assert_int_equal(fake_in_child(connect_as_nobody, fake->path), 0);
}

/* ---- Brokers that refuse ---- */

static bool say_goodbye(struct fake *fake, const struct fake_seen *seen)
{
	fake_goodbye(seen->peer, fake->context, "connections-per-user", 3);
	fake_hang_up(fake, seen->peer);
	return true;
}

static void why_a_broker_refuses_is_told(void **state)
{
	struct fake *fake = *state;

	fake_handle(fake, WIRE_HELLO, say_goodbye);
	fake->context = "quota-exceeded";
	assert_code(connect_within(fake, 5000), SHMB_EDQUOT);
	fake->context = "denied";
	assert_code(connect_within(fake, 5000), SHMB_EACCES);
	fake->context = "too-many-files";
	assert_code(connect_within(fake, 5000), SHMB_EMFILE);
	fake->context = "some-later-error";
	assert_code(connect_within(fake, 5000), SHMB_EUNKNOWN);
}

/* Refuses before it has read anything: the client's hello finds a closed socket. */
static void a_refusal_is_read_though_sending_fails(void **state)
{
	struct fake *fake = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[108];
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(path, sizeof(path), "%s/refuses", fake->directory);
	memcpy(address.sun_path, path, strlen(path));
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	for (int i = 0; i < 20; i++) {
		int status, pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			_exit(connect_to(path) == SHMB_EDQUOT ? 0 : 1);
		int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		fake_goodbye(peer, "quota-exceeded", NULL, 0);
		close(peer); /* with or without the hello unread: then the client sees a reset */
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	close(listener);
	unlink(path);
}

static bool answer_version_2(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_hello_result result = {
		.version = 2,
		.broker = wire_string("later"),
		.session = { "0123456789abcdef", 16 },
		.page_size = 4096,
		.max_region = 1,
		.max_requests = 1,
	};

	fake_result(fake, seen, &result, NULL, 0);
	return true;
}

static bool answer_no_version(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_error error = { .code = wire_string("version") };

	fake_error(seen, &error);
	return true;
}

static void versions_must_meet(void **state)
{
	struct fake *fake = *state;

	fake_handle(fake, WIRE_HELLO, answer_version_2);
	assert_code(connect_within(fake, 5000), SHMB_EVERSION);
	fake_handle(fake, WIRE_HELLO, answer_no_version);
	assert_code(connect_within(fake, 5000), SHMB_EVERSION);
}

static bool keep_silent(struct fake *fake, const struct fake_seen *seen)
{
	return true;
}

static void a_broker_that_hangs_costs_the_timeout(void **state)
{
	struct fake *fake = *state;
	int64_t start = now_ms();

	fake_handle(fake, WIRE_HELLO, keep_silent);
	assert_code(connect_within(fake, 50), SHMB_ETIMEDOUT);
	assert_true(now_ms() - start >= 50);
	fake_handle(fake, WIRE_HELLO, NULL);
	assert_code(connect_within(fake, 5000), 0);
}

static bool leave(struct fake *fake, const struct fake_seen *seen)
{
	fake_hang_up(fake, seen->peer);
	return true;
}

static bool say_garbage(struct fake *fake, const struct fake_seen *seen)
{
	fake_bytes(seen->peer, "\xc1 nonsense", 9, NULL, 0);
	return true;
}

static bool say_too_much(struct fake *fake, const struct fake_seen *seen)
{
	static const char zeros[WIRE_PACKET_MAX + 1];

	fake_bytes(seen->peer, zeros, sizeof(zeros), NULL, 0);
	return true;
}

static bool answer_with_too_little(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_seen ping = *seen;
	struct wire_empty empty = { 0 };

	ping.method = WIRE_PING; /* an empty map is no answer to a hello */
	fake_result(fake, &ping, &empty, NULL, 0);
	return true;
}

static void whoever_is_no_broker_is_found_out(void **state)
{
	struct fake *fake = *state;

	fake_handle(fake, WIRE_HELLO, leave);
	assert_code(connect_within(fake, 200), SHMB_EDISCONNECTED);
	/* As one that is killed just then is followed by another; after 1, 2, 4 ... 64 ms. */
	assert_in_range(fake_accepted(fake), 1, 9);
	fake_handle(fake, WIRE_HELLO, say_garbage);
	assert_code(connect_within(fake, 5000), SHMB_EPROTO);
	fake_handle(fake, WIRE_HELLO, say_too_much);
	assert_code(connect_within(fake, 5000), SHMB_EPROTO);
	fake_handle(fake, WIRE_HELLO, answer_with_too_little);
	assert_code(connect_within(fake, 5000), SHMB_EPROTO);
}

static void the_connection_ends_with_the_last_handle(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region *region;

	assert_code(shmb_region_create(client, "a", 100, NULL, &region), 0);
	shmb_client_free(client);
	assert_code(shmb_region_write_u8(region, 5, 5), 0); /* it keeps the connection */
	assert_code(shmb_region_resize(region, 100), 0);
	assert_int_equal(fake_ended(fake), 0);
	assert_null(shmb_region_free(region));
	fake_wait_ended(fake, 1);
	assert_int_equal(fake_count(fake, WIRE_REGION_CLOSE), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_client_says_who_it_is),
		TEST(options_are_checked),
		TEST(who_is_not_there_refuses),
		TEST(the_mode_of_the_socket_is_told),
		TEST(why_a_broker_refuses_is_told),
		TEST(a_refusal_is_read_though_sending_fails),
		TEST(versions_must_meet),
		TEST(a_broker_that_hangs_costs_the_timeout),
		TEST(whoever_is_no_broker_is_found_out),
		TEST(the_connection_ends_with_the_last_handle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
