/* SPDX-License-Identifier: MIT */
/*
 * A bare server: accept, epoll, one recv and one send per request, descriptors with the answer. No
 * decoding, no names, no accounts. Knows nothing of shmbroker.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <shmbroker/errors.h>

#include "bench.h"
#include "broker.h"
#include "server.h"

enum { PACKET_MAX = 4096, EVENTS_MAX = 16 };

/* What even the barest server must know of a connection. */
struct connection {
	int fd;
	struct ucred credentials;
};

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(SERVER_FDS_MAX * sizeof(int))];
};

static char packet[PACKET_MAX];

static int send_packet(int socket, size_t length, const int *fds, unsigned n_fds)
{
	struct iovec vector = { .iov_base = packet, .iov_len = length };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
	union control control;

	if (n_fds > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Return: the packet's length, or a negative error. */
static ssize_t receive_packet(int socket, unsigned n_fds, int *ret_fds)
{
	struct iovec vector = { .iov_base = packet, .iov_len = sizeof(packet) };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
	union control control;
	ssize_t length;

	if (n_fds > 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	if (length <= 0)
		return length < 0 ? -errno : SHMB_EDISCONNECTED;
	if (n_fds > 0) {
		const struct cmsghdr *header = CMSG_FIRSTHDR(&message);

		if (!header || header->cmsg_len != CMSG_LEN(n_fds * sizeof(int)))
			return SHMB_EPROTO;
		memcpy(ret_fds, CMSG_DATA(header), n_fds * sizeof(int));
	}
	return length;
}

static void serve_new(int epoll, int listener)
{
	struct connection *connection = malloc(sizeof(*connection));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
	socklen_t length = sizeof(connection->credentials);

	if (!connection)
		_exit(1);
	connection->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (connection->fd < 0 ||
	    getsockopt(connection->fd, SOL_SOCKET, SO_PEERCRED, &connection->credentials, &length) <
		    0 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
		_exit(1);
}

static void serve_request(struct connection *connection, const struct server_plan *plan)
{
	ssize_t r = receive_packet(connection->fd, 0, NULL);

	if (r > 0 && (size_t)r != plan->quiet_length)
		r = send_packet(connection->fd, plan->reply_length, plan->fds, plan->n_fds);
	if (r >= 0)
		return;
	(void)close(connection->fd);
	free(connection);
}

static void serve(int listener, const struct server_plan *plan)
{
	struct epoll_event events[EVENTS_MAX] = { { .events = EPOLLIN, .data.ptr = NULL } };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &events[0]) < 0)
		_exit(1);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS_MAX, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				serve_request(events[i].data.ptr, plan);
			else
				serve_new(epoll, listener);
		}
	}
}

pid_t server_start(const char *path, const struct server_plan *plan)
{
	int listener;
	pid_t pid;

	if (plan->reply_length > PACKET_MAX || plan->n_fds > SERVER_FDS_MAX)
		return SHMB_EINVAL;
	listener = bench_listen(path);
	if (listener < 0)
		return listener;
	pid = bench_fork();
	if (pid == 0)
		serve(listener, plan);
	(void)close(listener);
	return pid;
}

int server_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	(void)strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;

		(void)close(fd);
		return -error;
	}
	return fd;
}

int server_ask(int socket, size_t request_length, unsigned n_fds, int *ret_fds)
{
	ssize_t r = send_packet(socket, request_length, NULL, 0);

	if (r >= 0)
		r = receive_packet(socket, n_fds, ret_fds);
	return r < 0 ? (int)r : 0;
}

int server_tell(int socket, size_t length)
{
	return send_packet(socket, length, NULL, 0);
}
