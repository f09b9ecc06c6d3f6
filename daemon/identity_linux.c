/* SPDX-License-Identifier: MIT */
/*
 * SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD. Nothing here is told by the client itself.
 */
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; the same on every architecture that uses asm-generic */
#endif

/* Of something that others may give back: nothing has been learnt. */
static bool is_want(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

static int read_groups(int socket, struct identity *identity)
{
	socklen_t size = 0;

	/* With no room the kernel says how much it needs; groups are fixed at connect, so this does
	 * not race. */
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || size == 0)
		return 0;
	if (errno != ERANGE)
		return errno == ENOPROTOOPT || errno == ENODATA ? 0 : -errno;
	identity->groups = malloc(size);
	if (!identity->groups)
		return -ENOMEM;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, identity->groups, &size) < 0)
		return -errno;
	identity->n_groups = size / sizeof(gid_t);
	return 0;
}

/*
 * SO_PEERPIDFD names the very process that connected. The fallback goes by number, which could in
 * theory have been given to another process since; the connection would then have hung up, or be
 * held by a child alone.
 */
static int read_pidfd(int socket, struct identity *identity)
{
	socklen_t size = sizeof(identity->pidfd);

	if (identity->pid == 0)
		return 0;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &identity->pidfd, &size) == 0)
		return 0;
	identity->pidfd = -1;
	if (errno == ENOPROTOOPT) {
		identity->pidfd = pidfd_open(identity->pid, 0);
		if (identity->pidfd >= 0)
			return 0;
	}
	if (is_want(errno))
		return -errno;
	return 0; /* it has died already, or there are no pidfds: the hang-up will tell */
}

/* Field 22 of /proc/PID/stat; the name before may have spaces and parentheses in it. */
static int read_start(struct identity *identity)
{
	char path[32], text[1024];
	const char *at;
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)identity->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return is_want(errno) ? -errno : 0;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return 0;
	text[length] = '\0';
	at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	identity->start = at ? strtoull(at, NULL, 10) : 0;
	return 0;
}

#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446 /* Linux 6.9: each process has an inode of its own */
#endif

static uint64_t read_process(int pidfd)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(pidfd, &fs) < 0 || fs.f_type != PID_FS_MAGIC || fstat(pidfd, &st) < 0)
		return 0;
	return st.st_ino;
}

static bool is_alive(int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	int n;

	do /* Even without waiting: for a signal that comes just then. */
		n = poll(&poll_fd, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 0;
}

/* What tells it from a later process of the same number. If it lives when its number has been
 * looked up, the number was its own all the while. */
static int read_process_marks(struct identity *identity)
{
	int result = 0;

	identity->start = identity->process = 0;
	if (identity->pidfd < 0)
		return 0;
	identity->process = read_process(identity->pidfd);
	if (identity->pid > 0)
		result = read_start(identity);
	if (!is_alive(identity->pidfd))
		identity->start = 0;
	return result;
}

bool identity_is_same(const struct identity *a, const struct identity *b)
{
	if (a->uid != b->uid || a->pid != b->pid)
		return false;
	if (a->process && b->process)
		return a->process == b->process;
	return a->start == b->start;
}

int identity_find(struct identity *identity)
{
	struct identity now = *identity;
	int result;

	identity->pidfd = -1;
	if (identity->pid == 0)
		return 1;
	now.pidfd = pidfd_open(identity->pid, 0);
	if (now.pidfd < 0 && is_want(errno))
		return -errno;
	if (now.pidfd < 0 && errno != ESRCH) /* no pidfds here: some process of that number lives */
		return kill(identity->pid, 0) == 0 || errno == EPERM;
	if (now.pidfd < 0)
		return 0;
	result = read_process_marks(&now);
	if (result < 0 || !identity_is_same(&now, identity) || !is_alive(now.pidfd)) {
		close(now.pidfd);
		return result;
	}
	identity->pidfd = now.pidfd;
	return 1;
}

int identity_read(int socket, struct identity *ret_identity)
{
	struct identity identity = { .pidfd = -1 };
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	int result;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return -errno;
	identity.uid = credentials.uid;
	identity.gid = credentials.gid;
	identity.pid = credentials.pid;
	result = read_groups(socket, &identity);
	if (result == 0)
		result = read_pidfd(socket, &identity);
	if (result == 0)
		result = read_process_marks(&identity);
	if (result < 0) {
		identity_deinit(&identity);
		return result;
	}
	*ret_identity = identity;
	return 0;
}

void identity_deinit(struct identity *identity)
{
	free(identity->groups);
	identity->groups = NULL;
	identity->n_groups = 0;
	if (identity->pidfd >= 0)
		close(identity->pidfd);
	identity->pidfd = -1;
}

bool identity_in_group(const struct identity *identity, gid_t gid)
{
	if (identity->gid == gid)
		return true;
	for (size_t i = 0; i < identity->n_groups; i++)
		if (identity->groups[i] == gid)
			return true;
	return false;
}
