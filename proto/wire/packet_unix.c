/* SPDX-License-Identifier: MIT */
/*
 * Packets over Unix SOCK_SEQPACKET sockets, descriptors as SCM_RIGHTS. One packet is one message,
 * so there is no framing to buffer, and its descriptors come with it. Knows nothing of what is
 * inside.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "wire/packet.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/* Room for some descriptors too many: those arrive and are closed, what is beyond sets MSG_CTRUNC.
 */
enum { FDS_ROOM = WIRE_FDS_MAX + 4 };

int packet_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* ---- Connecting ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int connect_error(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case ENAMETOOLONG:
		return SHMB_ENOENT;
	case EACCES:
	case EPERM:
	case EROFS:
		return SHMB_EACCES;
	case EPROTOTYPE: /* a socket of another type: somebody listens, but no broker */
		return SHMB_ECONNREFUSED;
	default:
		return -error;
	}
}

/*
 * While the listener's backlog is full, a blocking connect() waits for room for as long as
 * SO_SNDTIMEO says, and wakes at once when there is some; a non-blocking one would have to be
 * repeated by the clock.
 */
static int connect_until(int socket, const struct sockaddr_un *address, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - now_ms();
		if (left < 1)
			left = 1; /* one try in any case; 0 would mean for ever */
		struct timeval limit = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };

		if (setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
			return -errno;
		if (connect(socket, (const struct sockaddr *)address, sizeof(*address)) == 0)
			return 0;
		if (errno == EAGAIN || errno == EINTR) {
			if (now_ms() >= deadline)
				return SHMB_ETIMEDOUT;
			continue;
		}
		return connect_error(errno);
	}
}

static int set_address(struct sockaddr_un *address, const char *path)
{
	size_t length = strlen(path);

	if (length == 0 || length >= sizeof(address->sun_path))
		return SHMB_EINVAL;
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address->sun_path, path, length);
	return 0;
}

int packet_connect(int socket, const char *path, int timeout_ms)
{
	struct timeval unlimited = { 0 };
	struct sockaddr_un address;
	int flags, r = set_address(&address, path);

	if (r < 0)
		return r;

	/* A non-blocking socket would not wait. */
	flags = fcntl(socket, F_GETFL);
	if (flags < 0 || fcntl(socket, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return -errno;
	r = connect_until(socket, &address, now_ms() + timeout_ms);
	if (fcntl(socket, F_SETFL, flags) < 0 && r == 0)
		r = -errno;
	if (setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &unlimited, sizeof(unlimited)) < 0 &&
	    r == 0)
		r = -errno;
	return r;
}

int packet_connect_now(int socket, const char *path)
{
	struct sockaddr_un address;
	int flags, r = set_address(&address, path);

	if (r < 0)
		return r;
	flags = fcntl(socket, F_GETFL);
	if (flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	do
		r = connect(socket, (struct sockaddr *)&address, sizeof(address));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		r = connect_error(errno);
	if (fcntl(socket, F_SETFL, flags) < 0 && r == 0)
		r = -errno;
	return r;
}

/* ---- Sending ---- */

int packet_send(int socket, const void *data, size_t length, const int *fds, unsigned n_fds)
{
	/* Control messages are read through struct cmsghdr: aligned as one. */
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)] = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = length };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (length == 0 || n_fds > WIRE_FDS_MAX)
		return -EINVAL;
	if (n_fds > 0) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(rights), fds, sizeof(int) * n_fds);
	}
	do
		n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* ---- Receiving ---- */

static void close_fd(int fd)
{
	int saved = errno;
	close(fd);
	errno = saved;
}

static void take_rights(const struct cmsghdr *rights, struct packet *packet)
{
	size_t n = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
		if (packet->n_fds < WIRE_FDS_MAX) {
			packet->fds[packet->n_fds++] = fd;
		} else {
			close_fd(fd);
			packet->fds_lost = true;
		}
	}
}

static void take_control(struct msghdr *message, struct packet *packet)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part;
	     part = CMSG_NXTHDR(message, part)) {
		if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
			take_rights(part, packet);
	}
	/* Out of descriptors here, or more than there is room for. */
	if (message->msg_flags & MSG_CTRUNC)
		packet->fds_lost = true;
}

static int receive(int socket, void *buffer, size_t capacity, int flags, struct packet *ret_packet)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * FDS_ROOM)];
	struct iovec iov = { .iov_base = buffer, .iov_len = capacity };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct packet packet = { 0 };
	ssize_t n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	take_control(&message, &packet);
	if (n == 0 || (message.msg_flags & MSG_TRUNC)) {
		packet_close_fds(&packet);
		return n == 0 ? 0 : -EMSGSIZE;
	}
	packet.length = (size_t)n;
	*ret_packet = packet;
	return 1;
}

int packet_receive(int socket, void *buffer, size_t capacity, struct packet *ret_packet)
{
	int result;

	do {
		result = receive(socket, buffer, capacity, MSG_DONTWAIT, ret_packet);
	} while (result == -EINTR);
	return result;
}

int packet_limit_wait(int socket, int timeout_ms)
{
	struct timeval limit = { .tv_sec = timeout_ms / 1000,
				 .tv_usec = timeout_ms % 1000 * 1000L };

	return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ? -errno : 0;
}

int packet_receive_wait(int socket, void *buffer, size_t capacity, struct packet *ret_packet)
{
	int result = receive(socket, buffer, capacity, 0, ret_packet);

	return result == -EINTR ? -EAGAIN : result;
}

void packet_close_fds(struct packet *packet)
{
	for (unsigned i = 0; i < packet->n_fds; i++) {
		if (packet->fds[i] >= 0)
			close_fd(packet->fds[i]);
		packet->fds[i] = -1;
	}
	packet->n_fds = 0;
}

static int set_passrights(int socket, int value)
{
	if (setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &value, sizeof(value)) == 0)
		return 0;
	return errno == ENOPROTOOPT || errno == EOPNOTSUPP ? SHMB_ENOTSUP : -errno;
}

int packet_refuse_fds(int socket)
{
	return set_passrights(socket, 0);
}

int packet_accept_fds(int socket)
{
	return set_passrights(socket, 1);
}

int packet_peek_fds(int socket)
{
	/* With no room for control messages at all, the kernel says that some were cut off. */
	struct msghdr message = { 0 };
	ssize_t n;

	do
		n = recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (message.msg_flags & MSG_CTRUNC) ? 1 : 0;
}
