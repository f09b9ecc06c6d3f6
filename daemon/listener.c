/* SPDX-License-Identifier: MIT */
/*
 * Listening and accepting. Must not know what a connection is for.
 */
#include "listener.h"

#include "activation.h"
#include "broker.h"
#include "log.h"
#include "peer.h"
#include "wire/packet.h"

#include <shmbroker/errors.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	ACCEPT_BUDGET = 16, /* connections before others have their turn */
	BACKLOG = 4096,
	PAUSE_MS = 100,
};

static void on_connection(uv_poll_t *watch, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
	struct broker *broker = timer->data;

	uv_poll_start(&broker->listen_watch, UV_READABLE, on_connection);
}

/* What cannot be accepted stays readable: without a pause the loop would spin. */
static void pause_accepting(struct broker *broker, int error)
{
	log_begin(LOG_ACCEPT_FAILS, strerror(error));
	uv_poll_stop(&broker->listen_watch);
	uv_timer_start(&broker->listen_pause, on_pause_over, PAUSE_MS, 0);
}

/* Without a descriptor for the connection nobody could be told so; the spare one makes room. */
static void accept_and_refuse(struct broker *broker, int error)
{
	int socket = -1;

	if (broker->spare_fd >= 0) {
		close(broker->spare_fd);
		socket = accept4(broker->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	if (socket >= 0) {
		log_begin(LOG_OUT_OF_FDS, "refusing connections");
		peer_refuse(broker, socket, -error, "the broker is out of descriptors");
	} else {
		pause_accepting(broker, error);
	}
	broker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Return: true to go on accepting. */
static bool accept_one(struct broker *broker)
{
	int socket = accept4(broker->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (socket >= 0) {
		log_end(LOG_ACCEPT_FAILS);
		peer_accept(broker, socket);
		return true;
	}
	switch (errno) {
	case EAGAIN:
		return false;
	case EINTR:
	case ECONNABORTED:
		return true;
	case EMFILE:
	case ENFILE:
		accept_and_refuse(broker, errno);
		return false;
	default:
		pause_accepting(broker, errno);
		return false;
	}
}

static void on_connection(uv_poll_t *watch, int status, int events)
{
	struct broker *broker = watch->data;

	for (int i = 0; i < ACCEPT_BUDGET; i++)
		if (!accept_one(broker))
			return;
}

static int start(struct broker *broker, int fd)
{
	int result = uv_poll_init(&broker->loop, &broker->listen_watch, fd);

	if (result < 0)
		return result;
	broker->listen_fd = fd;
	broker->listen_watch.data = broker;
	broker->listen_pause.data = broker;
	uv_timer_init(&broker->loop, &broker->listen_pause);
	if (packet_refuse_fds(fd) < 0)
		log_info("this kernel cannot refuse descriptors: each packet is looked at first");
	uv_poll_start(&broker->listen_watch, UV_READABLE, on_connection);
	return 0;
}

/* Is somebody listening there? Then its pid is that of the credentials taken at listen(). */
static int check_live(const struct sockaddr_un *address)
{
	struct ucred holder = { 0 };
	socklen_t size = sizeof(holder);
	struct stat st;
	int result = 0;
	int fd;

	/* Connecting to a file that is no socket is refused, too; that one is not ours to remove.
	 */
	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	fd = packet_socket();
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno == EAGAIN) {
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &holder, &size);
		log_error("another daemon (pid %d) listens on %s", (int)holder.pid,
			  address->sun_path);
		result = -EEXIST;
	} else if (errno == ECONNREFUSED) {
		unlink(address->sun_path);
	}
	close(fd);
	return result;
}

static int bind_path(struct broker *broker, int fd, const struct sockaddr_un *address)
{
	mode_t fallback = broker->options.scope == SCOPE_SYSTEM ? 0666 : 0600;
	mode_t mode = broker->settings.socket_mode == UINT64_MAX
			      ? fallback
			      : (mode_t)broker->settings.socket_mode;
	mode_t mask = umask(0777);
	int result = 0;

	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		result = -errno;
	umask(mask);
	if (result == 0 && (chmod(address->sun_path, mode) < 0 || listen(fd, BACKLOG) < 0)) {
		result = -errno;
		unlink(address->sun_path);
	}
	return result;
}

static int open_path(struct broker *broker, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int result;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		log_error("%s: too long for a socket", path);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	result = check_live(&address);
	if (result < 0)
		return result;
	fd = packet_socket();
	if (fd < 0)
		return fd;
	result = bind_path(broker, fd, &address);
	if (result == 0) {
		broker->socket_path = strdup(path);
		result = broker->socket_path ? start(broker, fd) : -ENOMEM;
		if (result < 0)
			unlink(path);
	}
	if (result < 0) {
		log_error("cannot listen on %s: %s", path, strerror(-result));
		close(fd);
	}
	return result;
}

int listener_open(struct broker *broker, const char *path, const struct activation *activation)
{
	if (activation->listener >= 0)
		return start(broker, activation->listener);
	if (activation->n_others == 0)
		return open_path(broker, path);
	log_error("socket activation passed no listening SEQPACKET socket");
	return -EINVAL;
}

void listener_close(struct broker *broker)
{
	if (broker->listen_fd < 0)
		return;
	uv_close((uv_handle_t *)&broker->listen_watch, NULL);
	uv_close((uv_handle_t *)&broker->listen_pause, NULL);
	if (broker->socket_path)
		unlink(broker->socket_path);
	close(broker->listen_fd);
	broker->listen_fd = -1;
}
