/* SPDX-License-Identifier: MIT */
/* Packets with descriptors over real sockets; every test ends with as many descriptors as it began.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/packet.h"

/* ---- Descriptors before and after ---- */

static size_t count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

struct pair {
	size_t fds_before;
	int a, b;
};

static int open_pair(void **state)
{
	static struct pair pair;
	int sockets[2];

	pair.fds_before = count_fds();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	pair.a = sockets[0];
	pair.b = sockets[1];
	*state = &pair;
	return 0;
}

static int close_pair(void **state)
{
	struct pair *pair = *state;

	close(pair->a);
	close(pair->b);
	assert_int_equal(count_fds(), pair->fds_before);
	return 0;
}

/* ---- Packets ---- */

static void a_packet_arrives_whole(void **state)
{
	struct pair *pair = *state;
	static uint8_t sent[WIRE_PACKET_MAX], got[WIRE_PACKET_MAX + 1];
	struct packet packet;

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 7);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), -EAGAIN);
	assert_int_equal(packet_send(pair->a, sent, sizeof(sent), NULL, 0), 0);
	assert_int_equal(packet_send(pair->a, sent, 1, NULL, 0), 0);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
	assert_int_equal(packet.length, sizeof(sent));
	assert_int_equal(packet.n_fds, 0);
	assert_false(packet.fds_lost);
	assert_memory_equal(sent, got, sizeof(sent));
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
	assert_int_equal(packet.length, 1);
}

static void open_nulls(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_true(fds[i] >= 0);
	}
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

static void descriptors_come_with_their_packet(void **state)
{
	struct pair *pair = *state;
	struct packet packet;
	int fds[WIRE_FDS_MAX];
	char got[8];

	open_nulls(fds, WIRE_FDS_MAX);
	for (unsigned n = 0; n <= WIRE_FDS_MAX; n++)
		assert_int_equal(packet_send(pair->a, "x", 1, fds, n), 0);
	close_all(fds, WIRE_FDS_MAX);
	for (unsigned n = 0; n <= WIRE_FDS_MAX; n++) {
		assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
		assert_int_equal(packet.n_fds, n);
		assert_false(packet.fds_lost);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(fcntl(packet.fds[i], F_GETFD), FD_CLOEXEC);
		/* A taken one is not closed. */
		if (n > 0) {
			close(packet.fds[n - 1]);
			packet.fds[n - 1] = -1;
		}
		packet_close_fds(&packet);
		assert_int_equal(packet.n_fds, 0);
	}
	assert_int_equal(packet_send(pair->a, "x", 1, fds, WIRE_FDS_MAX + 1), -EINVAL);
}

/* packet_send() would refuse. */
static void send_many(int socket, unsigned n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 64)] = { 0 };
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = CMSG_SPACE(sizeof(int) * n) };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	int fds[64];

	open_nulls(fds, n);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int) * n);
	memcpy(CMSG_DATA(rights), fds, sizeof(int) * n);
	assert_int_equal(sendmsg(socket, &message, 0), 1);
	close_all(fds, n);
}

static void surplus_descriptors_are_closed_and_told(void **state)
{
	static const unsigned counts[] = { 5, 8, 9, 10, 64 };
	struct pair *pair = *state;
	size_t before = count_fds();

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct packet packet;
		char got[8];

		send_many(pair->a, counts[i]);
		assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
		assert_int_equal(packet.n_fds, WIRE_FDS_MAX);
		assert_true(packet.fds_lost);
		assert_int_equal(count_fds(), before + WIRE_FDS_MAX);
		packet_close_fds(&packet);
		assert_int_equal(count_fds(), before);
	}
}

static void running_out_of_descriptors_is_told(void **state)
{
	struct pair *pair = *state;
	struct rlimit limit, low;
	struct packet packet;
	int fds[3], next;
	char got[8];

	open_nulls(fds, 3);
	assert_int_equal(packet_send(pair->a, "x", 1, fds, 3), 0);
	close_all(fds, 3);

	/* Room for exactly one more. */
	next = dup(pair->a);
	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)next + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

	assert_int_equal(packet.length, 1);
	assert_int_equal(packet.n_fds, 1);
	assert_true(packet.fds_lost);
	packet_close_fds(&packet);
}

static void a_packet_cut_short_keeps_no_descriptor(void **state)
{
	struct pair *pair = *state;
	struct packet packet;
	char got[4];
	int fd;

	open_nulls(&fd, 1);
	assert_int_equal(packet_send(pair->a, "12345", 5, &fd, 1), 0);
	assert_int_equal(packet_send(pair->a, "next", 4, NULL, 0), 0);
	close(fd);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), -EMSGSIZE);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
	assert_memory_equal(got, "next", 4);
}

static void an_empty_packet_ends_the_connection(void **state)
{
	struct pair *pair = *state;
	struct packet packet;
	char got[4];

	assert_int_equal(packet_send(pair->a, "", 0, NULL, 0), -EINVAL);
	assert_int_equal(send(pair->a, "", 0, 0), 0);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 0);
}

static void the_other_end_is_gone(void **state)
{
	struct pair *pair = *state;
	struct packet packet;
	char got[4];

	assert_int_equal(packet_send(pair->a, "last", 4, NULL, 0), 0);
	assert_int_equal(shutdown(pair->a, SHUT_RDWR), 0);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 0);
	/* And no SIGPIPE, which would end this program. */
	assert_int_equal(packet_send(pair->b, "x", 1, NULL, 0), -EPIPE);
}

static void a_full_socket_would_block(void **state)
{
	struct pair *pair = *state;
	static char data[4096];
	int r = 0;

	for (int i = 0; r == 0 && i < 100000; i++)
		r = packet_send(pair->a, data, sizeof(data), NULL, 0);
	assert_int_equal(r, -EAGAIN);
}

/* ---- Descriptors from strangers ---- */

static void peeking_tells_and_takes_nothing(void **state)
{
	struct pair *pair = *state;
	struct packet packet;
	char got[8];
	int fd;

	assert_int_equal(packet_peek_fds(pair->b), -EAGAIN);
	assert_int_equal(packet_send(pair->a, "plain", 5, NULL, 0), 0);
	open_nulls(&fd, 1);
	assert_int_equal(packet_send(pair->a, "fd", 2, &fd, 1), 0);
	close(fd);

	size_t before = count_fds();
	assert_int_equal(packet_peek_fds(pair->b), 0);
	assert_int_equal(packet_peek_fds(pair->b), 0);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
	assert_int_equal(packet.length, 5);
	assert_int_equal(packet_peek_fds(pair->b), 1);
	assert_int_equal(packet_peek_fds(pair->b), 1);
	assert_int_equal(count_fds(), before);
	assert_int_equal(packet_receive(pair->b, got, sizeof(got), &packet), 1);
	assert_int_equal(packet.length, 2);
	assert_int_equal(packet.n_fds, 1);
	packet_close_fds(&packet);

	assert_int_equal(shutdown(pair->a, SHUT_RDWR), 0);
	assert_int_equal(packet_peek_fds(pair->b), 0);
	assert_int_equal(packet_peek_fds(-1), -EBADF);
}

/* ---- Listeners ---- */

struct listener {
	size_t fds_before;
	char directory[32];
	char path[64];
	int fd;
};

static int open_listener(void **state)
{
	static struct listener listener;
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	listener.fds_before = count_fds();
	strcpy(listener.directory, "/tmp/shmb-packet-XXXXXX");
	assert_non_null(mkdtemp(listener.directory));
	snprintf(listener.path, sizeof(listener.path), "%s/socket", listener.directory);
	strcpy(address.sun_path, listener.path);
	listener.fd = packet_socket();
	assert_true(listener.fd >= 0);
	assert_int_equal(fcntl(listener.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(bind(listener.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener.fd, 0), 0); /* room for one */
	*state = &listener;
	return 0;
}

static int close_listener(void **state)
{
	struct listener *listener = *state;

	close(listener->fd);
	unlink(listener->path);
	assert_int_equal(rmdir(listener->directory), 0);
	assert_int_equal(count_fds(), listener->fds_before);
	return 0;
}

static int connect_new(const char *path, int timeout_ms, int *ret_socket)
{
	int socket = packet_socket();
	int r;

	assert_true(socket >= 0);
	r = packet_connect(socket, path, timeout_ms);
	if (r < 0)
		close(socket);
	else
		*ret_socket = socket;
	return r;
}

static void connecting_reaches_the_listener(void **state)
{
	struct listener *listener = *state;
	struct packet packet;
	int client = -1, server;
	char got[8];

	assert_int_equal(connect_new(listener->path, 1000, &client), 0);
	server = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);
	assert_int_equal(packet_send(client, "hi", 2, NULL, 0), 0);
	assert_int_equal(packet_receive(server, got, sizeof(got), &packet), 1);
	/* The limit of the connect does not stay behind. */
	struct timeval limit;
	socklen_t size = sizeof(limit);
	assert_int_equal(getsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, &size), 0);
	assert_true(limit.tv_sec == 0 && limit.tv_usec == 0);
	close(client);
	close(server);
}

static void connecting_says_why_not(void **state)
{
	struct listener *listener = *state;
	char path[200], too_long[300];
	int client;

	snprintf(path, sizeof(path), "%s/nothing", listener->directory);
	assert_int_equal(connect_new(path, 100, &client), SHMB_ENOENT);
	snprintf(path, sizeof(path), "%s/x", listener->path);
	assert_int_equal(connect_new(path, 100, &client), SHMB_ENOENT);
	memset(too_long, '/', sizeof(too_long));
	too_long[sizeof(too_long) - 1] = '\0';
	assert_int_equal(connect_new(too_long, 100, &client), SHMB_EINVAL);
	too_long[sizeof(((struct sockaddr_un *)NULL)->sun_path)] = '\0';
	assert_int_equal(connect_new(too_long, 100, &client), SHMB_EINVAL);
	assert_int_equal(connect_new("", 100, &client), SHMB_EINVAL);

	close(listener->fd); /* the file stays */
	assert_int_equal(connect_new(listener->path, 100, &client), SHMB_ECONNREFUSED);
	unlink(listener->path);

	/* A listener of another kind is not ours. */
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strcpy(address.sun_path, listener->path);
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener->fd, 1), 0);
	assert_int_equal(connect_new(listener->path, 100, &client), SHMB_ECONNREFUSED);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void connecting_to_a_full_listener_times_out(void **state)
{
	struct listener *listener = *state;
	int first = -1, second = -1;
	int64_t start;

	assert_int_equal(connect_new(listener->path, 1000, &first), 0);
	start = now_ms();
	assert_int_equal(connect_new(listener->path, 60, &second), SHMB_ETIMEDOUT);
	assert_true(now_ms() - start >= 60);
	/* No time at all is one try. */
	assert_int_equal(connect_new(listener->path, 0, &second), SHMB_ETIMEDOUT);
	close(first);
}

/* Interrupts the connecting thread, then makes room. */
struct disturber {
	pthread_t target;
	pid_t target_id;
	int listener;
	int accepted[2];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted++;
}

/* Wait until the thread sleeps in a system call, as /proc tells. */
static void wait_until_asleep(pid_t thread)
{
	char path[64], status[512], state = '?';

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)thread);
	while (state != 'S') {
		FILE *file = fopen(path, "re");
		if (!file || !fgets(status, sizeof(status), file))
			abort();
		fclose(file);
		const char *behind = strrchr(status, ')');
		state = behind ? behind[2] : '?';
	}
}

static void *disturb(void *userdata)
{
	struct disturber *disturber = userdata;

	for (int i = 0; i < 5; i++) {
		wait_until_asleep(disturber->target_id);
		pthread_kill(disturber->target, SIGUSR1);
	}
	wait_until_asleep(disturber->target_id);
	for (int i = 0; i < 2; i++)
		disturber->accepted[i] = accept4(disturber->listener, NULL, NULL, SOCK_CLOEXEC);
	return NULL;
}

static void connecting_waits_for_room_whatever_signals_come(void **state)
{
	struct listener *listener = *state;
	struct sigaction action = { .sa_handler = on_signal }; /* without SA_RESTART */
	struct disturber disturber = { .target = pthread_self(),
				       .target_id = gettid(),
				       .listener = listener->fd };
	int first = -1, second = -1;
	pthread_t thread;

	interrupted = 0;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(connect_new(listener->path, 1000, &first), 0);
	assert_int_equal(pthread_create(&thread, NULL, disturb, &disturber), 0);
	assert_int_equal(connect_new(listener->path, 30000, &second), 0);
	pthread_join(thread, NULL);
	assert_true(interrupted > 0);
	close(first);
	close(second);
	close_all(disturber.accepted, 2);
}

static void refused_descriptors_never_arrive(void **state)
{
	struct listener *listener = *state;
	struct packet packet;
	int client = -1, server, fd, r;
	char got[8];

	r = packet_refuse_fds(listener->fd);
	if (r == SHMB_ENOTSUP)
		skip(); /* before Linux 6.16 */
	assert_int_equal(r, 0);
	assert_int_equal(connect_new(listener->path, 1000, &client), 0);
	server = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);

	open_nulls(&fd, 1);
	assert_int_equal(packet_send(client, "fd", 2, &fd, 1), -EPERM);
	/* The other way, and without, all is as ever. */
	assert_int_equal(packet_send(client, "plain", 5, NULL, 0), 0);
	assert_int_equal(packet_receive(server, got, sizeof(got), &packet), 1);
	assert_int_equal(packet.length, 5);
	assert_int_equal(packet.n_fds, 0);
	assert_int_equal(packet_send(server, "fd", 2, &fd, 1), 0);
	assert_int_equal(packet_receive(client, got, sizeof(got), &packet), 1);
	assert_int_equal(packet.n_fds, 1);
	packet_close_fds(&packet);
	close(fd);
	close(client);
	close(server);
	assert_int_equal(packet_refuse_fds(-1), -EBADF);
}

#define WITH_PAIR(test)     cmocka_unit_test_setup_teardown(test, open_pair, close_pair)
#define WITH_LISTENER(test) cmocka_unit_test_setup_teardown(test, open_listener, close_listener)

/* The limit of a wait is kept, a packet ends it, and so does the other end. */
static void waits_are_limited(void **state)
{
	struct packet packet;
	char buffer[16];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(packet_limit_wait(pair[0], 10), 0);
	assert_int_equal(packet_receive_wait(pair[0], buffer, sizeof(buffer), &packet), -EAGAIN);
	assert_int_equal(packet_send(pair[1], "x", 1, NULL, 0), 0);
	assert_int_equal(packet_receive_wait(pair[0], buffer, sizeof(buffer), &packet), 1);
	assert_int_equal(packet.length, 1);
	close(pair[1]);
	assert_int_equal(packet_receive_wait(pair[0], buffer, sizeof(buffer), &packet), 0);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_are_limited),
		WITH_PAIR(a_packet_arrives_whole),
		WITH_PAIR(descriptors_come_with_their_packet),
		WITH_PAIR(surplus_descriptors_are_closed_and_told),
		WITH_PAIR(running_out_of_descriptors_is_told),
		WITH_PAIR(a_packet_cut_short_keeps_no_descriptor),
		WITH_PAIR(an_empty_packet_ends_the_connection),
		WITH_PAIR(the_other_end_is_gone),
		WITH_PAIR(a_full_socket_would_block),
		WITH_PAIR(peeking_tells_and_takes_nothing),
		WITH_LISTENER(connecting_reaches_the_listener),
		WITH_LISTENER(connecting_says_why_not),
		WITH_LISTENER(connecting_to_a_full_listener_times_out),
		WITH_LISTENER(connecting_waits_for_room_whatever_signals_come),
		WITH_LISTENER(refused_descriptors_never_arrive),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
