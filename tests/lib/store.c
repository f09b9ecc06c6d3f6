/* SPDX-License-Identifier: MIT */
/*
 * A service manager's half of the notification protocol: it takes what the daemon says on
 * NOTIFY_SOCKET, keeps the descriptors that it is given, and hands them to the next daemon, all as
 * systemd does, its silence about what is too much included.
 *
 * A thread drains the socket, because few datagrams fit into one. It fails no test by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

enum { NAME_MAX_STORED = 16, MESSAGE_FDS_MAX = 253, MESSAGE_BYTES_MAX = 4096 };

struct stored {
	int fd;
	char name[NAME_MAX_STORED];
};

struct fd_store {
	pthread_t thread;
	pthread_mutex_t mutex;
	int socket;
	int stop[2]; /* closing the second end ends the thread */
	int said;    /* file of all that was said */
	unsigned max, n;
	struct stored *stored; /* in the order of their coming */
};

static void forget_name(struct fd_store *store, const char *name)
{
	unsigned i, kept = 0;

	for (i = 0; i < store->n; i++) {
		if (strcmp(store->stored[i].name, name) == 0)
			close(store->stored[i].fd);
		else
			store->stored[kept++] = store->stored[i];
	}
	store->n = kept;
}

/* Does it hold that very descriptor, by whatever name? systemd(1) asks the kernel, too. */
static bool has(const struct fd_store *store, int fd)
{
	unsigned i;

	for (i = 0; i < store->n; i++)
		if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, store->stored[i].fd, fd) == 0)
			return true;
	return false;
}

/* Consumes the descriptor: what there is no room for, or is there already, is dropped in silence.
 */
static void keep(struct fd_store *store, const char *name, int fd)
{
	struct stored *stored;

	if (store->n == store->max || has(store, fd)) {
		close(fd);
		return;
	}
	stored = &store->stored[store->n++];
	stored->fd = fd;
	snprintf(stored->name, sizeof(stored->name), "%.*s", NAME_MAX_STORED - 1, name);
}

/* The value of a line "KEY=value" of the message, NUL-terminated in a buffer of the caller's. */
static bool find_line(const char *message, const char *key, char ret_value[64])
{
	size_t length = strlen(key);
	const char *line = message;

	while (line && *line) {
		if (strncmp(line, key, length) == 0 && line[length] == '=') {
			snprintf(ret_value, 64, "%.*s", (int)strcspn(line + length + 1, "\n"),
				 line + length + 1);
			return true;
		}
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return false;
}

static void obey(struct fd_store *store, const char *message, const int *fds, unsigned n_fds)
{
	char name[64] = "stored", value[64];
	unsigned i;

	find_line(message, "FDNAME", name);
	if (find_line(message, "FDSTOREREMOVE", value) && strcmp(value, "1") == 0)
		forget_name(store, name);
	if (find_line(message, "FDSTORE", value) && strcmp(value, "1") == 0) {
		for (i = 0; i < n_fds; i++)
			keep(store, name, fds[i]);
		return;
	}
	for (i = 0; i < n_fds; i++)
		close(fds[i]); /* those of a barrier, above all */
}

static void write_down(const struct fd_store *store, const char *message)
{
	if (dprintf(store->said, "%s\n\n", message) < 0)
		return; /* no disk left: the test that counts them will say so */
}

static void take_one(struct fd_store *store)
{
	union {
		char bytes[CMSG_SPACE(MESSAGE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	char message[MESSAGE_BYTES_MAX + 1];
	struct iovec vector = { message, MESSAGE_BYTES_MAX };
	struct msghdr head = { .msg_iov = &vector,
			       .msg_iovlen = 1,
			       .msg_control = &control,
			       .msg_controllen = sizeof(control) };
	ssize_t length = recvmsg(store->socket, &head, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *part = length >= 0 ? CMSG_FIRSTHDR(&head) : NULL;
	int fds[MESSAGE_FDS_MAX];
	unsigned n_fds = 0;

	if (length < 0)
		return;
	message[length] = '\0';
	if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
		n_fds = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(part), n_fds * sizeof(int));
	}
	pthread_mutex_lock(&store->mutex);
	write_down(store, message);
	obey(store, message, fds, n_fds);
	pthread_mutex_unlock(&store->mutex);
}

static void *drain(void *argument)
{
	struct fd_store *store = argument;
	struct pollfd ends[2] = { { .fd = store->socket, .events = POLLIN },
				  { .fd = store->stop[0] } };

	for (;;) {
		if (poll(ends, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (ends[1].revents)
			return NULL;
		if (ends[0].revents)
			take_one(store);
	}
}

struct fd_store *store_open(const char *path, const char *said_path, unsigned max)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct fd_store *store = calloc(1, sizeof(*store));

	CHECK(store);
	store->stored = calloc(max, sizeof(*store->stored));
	CHECK(store->stored);
	store->max = max;
	store->said = SYS(open(said_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
	store->socket = SYS(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	SYS(bind(store->socket, (struct sockaddr *)&address, sizeof(address)));
	SYS(pipe2(store->stop, O_CLOEXEC));
	CHECK_INT(pthread_mutex_init(&store->mutex, NULL), 0);
	CHECK_INT(pthread_create(&store->thread, NULL, drain, store), 0);
	return store;
}

struct fd_store *store_free(struct fd_store *store)
{
	if (!store)
		return NULL;
	close(store->stop[1]);
	pthread_join(store->thread, NULL);
	store_clear(store);
	close(store->stop[0]);
	close(store->socket);
	close(store->said);
	pthread_mutex_destroy(&store->mutex);
	free(store->stored);
	free(store);
	return NULL;
}

void store_clear(struct fd_store *store)
{
	pthread_mutex_lock(&store->mutex);
	while (store->n > 0)
		close(store->stored[--store->n].fd);
	pthread_mutex_unlock(&store->mutex);
}

/* A descriptor that is closed when it has been received, after all that was sent before. */
void store_settle(struct fd_store *store)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	char text[] = "BARRIER=1";
	struct iovec vector = { text, sizeof(text) - 1 };
	struct msghdr head = { .msg_iov = &vector,
			       .msg_iovlen = 1,
			       .msg_control = &control,
			       .msg_controllen = sizeof(control) };
	struct cmsghdr *part = CMSG_FIRSTHDR(&head);
	struct sockaddr_un address;
	socklen_t length = sizeof(address);
	struct pollfd end;
	int ends[2];

	SYS(pipe2(ends, O_CLOEXEC));
	SYS(getsockname(store->socket, (struct sockaddr *)&address, &length));
	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(part), &ends[1], sizeof(int));
	head.msg_name = &address;
	head.msg_namelen = length;
	SYS(sendmsg(store->socket, &head, 0));
	close(ends[1]);
	end = (struct pollfd){ .fd = ends[0] };
	while (poll(&end, 1, 10000) < 0 && errno == EINTR)
		;
	close(ends[0]);
	if (!(end.revents & POLLHUP))
		FAIL("the store of descriptors is stuck");
}

unsigned store_lock(struct fd_store *store)
{
	pthread_mutex_lock(&store->mutex);
	return store->n;
}

void store_unlock(struct fd_store *store)
{
	pthread_mutex_unlock(&store->mutex);
}

int store_get(const struct fd_store *store, unsigned i, const char **ret_name)
{
	const struct stored *stored = &store->stored[store->n - 1 - i];

	*ret_name = stored->name;
	return stored->fd;
}

unsigned store_count(struct fd_store *store)
{
	unsigned n;

	store_settle(store);
	n = store_lock(store);
	store_unlock(store);
	return n;
}

int store_take(struct fd_store *store, const char *name)
{
	unsigned n = store_lock(store), i;
	int fd = -1;

	for (i = 0; i < n && fd < 0; i++)
		if (strcmp(store->stored[i].name, name) == 0)
			fd = fcntl(store->stored[i].fd, F_DUPFD_CLOEXEC, 3);
	store_unlock(store);
	return fd;
}

void store_put(struct fd_store *store, const char *name, int fd)
{
	pthread_mutex_lock(&store->mutex);
	keep(store, name, fd);
	pthread_mutex_unlock(&store->mutex);
}

void store_remove(struct fd_store *store, const char *name)
{
	pthread_mutex_lock(&store->mutex);
	forget_name(store, name);
	pthread_mutex_unlock(&store->mutex);
}
