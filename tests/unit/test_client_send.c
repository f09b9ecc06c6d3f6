/* SPDX-License-Identifier: MIT */
/*
 * A socket that takes nothing though the broker lives: the kernel is out of something for a while,
 * or will never take a packet. The broker then sees no end of the connection, and would not let the
 * session go on over another.
 */

#include "fake_broker.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LONG_MS = 10000, FOREVER = -1 };

/* What becomes of the next packets of this thread, which the fake's are not. */
static _Thread_local int error, times;

ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
	if (times == 0)
		return syscall(SYS_sendmsg, socket, message, flags);
	if (times > 0)
		times--;
	errno = error;
	return -1;
}

static int setup(void **state)
{
	struct fake *fake = fake_start();

	fake->features |= WIRE_FEATURE_RESUME;
	times = 0;
	*state = fake;
	return 0;
}

static void fail_sending(int with, int how_often)
{
	error = with;
	times = how_often;
}

static void a_kernel_that_is_out_of_memory_is_asked_again(void **state)
{
	static const int errors[] = { ENOMEM, ENOBUFS, EAGAIN };
	struct shmb_client *client = fake_connect(*state, LONG_MS);
	struct shmb_region *region = NULL;

	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fail_sending(errors[i], 3);
		assert_code(shmb_client_ping(client), 0);
		assert_int_equal(times, 0);
	}
	fail_sending(ENOBUFS, 1);
	assert_code(shmb_region_create(client, "r", 100, NULL, &region), 0);
	assert_int_equal(fake_accepted(*state), 1);
	assert_int_equal(fake_count(*state, WIRE_REGION_CREATE), 1);
	/* The end of an attachment, with nobody who waits: with the next request. */
	fail_sending(ENOMEM, 1);
	shmb_region_free(region);
	assert_code(shmb_client_ping(client), 0);
	fake_wait(*state, WIRE_REGION_CLOSE, 1);
	shmb_client_free(client);
}

static void note_status(int status, struct shmb_region *region, void *userdata)
{
	*(int *)userdata = status;
	shmb_region_free(region);
}

static void an_event_loop_asks_again(void **state)
{
	struct shmb_client *client = fake_connect(*state, LONG_MS);
	struct pollfd poll_fd = { .fd = shmb_client_get_fd(client), .events = POLLIN };
	int status = -1;

	fail_sending(ENOBUFS, 2);
	assert_code(shmb_region_create_async(client, "r", 100, NULL, note_status, &status), 0);
	while (status == -1) {
		assert_int_equal(poll(&poll_fd, 1, LONG_MS), 1);
		assert_true(shmb_client_process(client) >= 0);
	}
	assert_int_equal(status, 1);
	assert_int_equal(fake_accepted(*state), 1);
	shmb_client_free(client);
}

/* It would be tried again, and again, over the next connection, too. */
static void a_packet_that_is_never_taken_ends_the_connection(void **state)
{
	struct shmb_client *client = fake_connect(*state, LONG_MS);
	int64_t before = now_ms();

	fail_sending(EMSGSIZE, FOREVER);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_code(shmb_client_ping(client), SHMB_EDISCONNECTED);
	assert_true(now_ms() - before < LONG_MS);
	times = 0;
	assert_int_equal(fake_accepted(*state), 1);
	shmb_client_free(client);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_kernel_that_is_out_of_memory_is_asked_again),
		TEST(an_event_loop_asks_again),
		TEST(a_packet_that_is_never_taken_ends_the_connection),
	};

	return cmocka_run_group_tests_name("client_send", tests, NULL, NULL);
}
