/* SPDX-License-Identifier: MIT */
/*
 * The instance lock: flock on a file in the runtime directory. Must not know what is kept under the
 * instance's name.
 */
#include "instance.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static void read_holder(int fd, pid_t *ret_pid, uint64_t *ret_id)
{
	char text[64];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
	int pid;

	*ret_pid = 0;
	*ret_id = 0;
	if (length <= 0)
		return;
	text[length] = '\0';
	if (sscanf(text, "%d %16" SCNx64, &pid, ret_id) == 2)
		*ret_pid = pid;
}

/* The file at the path may have been removed by a daemon that was ending, between our open and our
 * lock. */
static bool still_there(int fd, const char *path)
{
	struct stat ours, named;

	return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_dev == named.st_dev &&
	       ours.st_ino == named.st_ino;
}

static int open_locked(const char *path, pid_t *ret_holder)
{
	uint64_t id;
	int fd;

	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int error = errno;

			read_holder(fd, ret_holder, &id);
			close(fd);
			return error == EWOULDBLOCK ? -EEXIST : -error;
		}
		if (still_there(fd, path))
			return fd;
		close(fd);
	}
}

static int write_holder(int fd, uint64_t id)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "%d %016" PRIx64 "\n", (int)getpid(), id);

	/* At no time without an id in it. */
	if (pwrite(fd, text, (size_t)length, 0) != length)
		return -EIO;
	return ftruncate(fd, length) < 0 ? -errno : 0;
}

int instance_acquire(struct instance *instance, const char *directory, mode_t mode,
		     pid_t *ret_holder)
{
	pid_t previous_pid;
	int result;

	instance->lock_fd = -1;
	if (mkdir(directory, mode) < 0 && errno != EEXIST)
		return -errno;
	if (asprintf(&instance->lock_path, "%s/broker.lock", directory) < 0)
		return -ENOMEM;
	result = open_locked(instance->lock_path, ret_holder);
	if (result < 0) {
		free(instance->lock_path);
		instance->lock_path = NULL;
		return result;
	}
	instance->lock_fd = result;
	read_holder(instance->lock_fd, &previous_pid, &instance->previous);
	return 0;
}

int instance_name(struct instance *instance, uint64_t id)
{
	instance->id = id;
	while (instance->id == 0)
		if (getrandom(&instance->id, sizeof(instance->id), 0) < 0)
			return -errno;
	return write_holder(instance->lock_fd, instance->id);
}

void instance_leave(struct instance *instance)
{
	if (instance->lock_fd < 0)
		return;
	close(instance->lock_fd);
	instance->lock_fd = -1;
	free(instance->lock_path);
	instance->lock_path = NULL;
}

void instance_release(struct instance *instance)
{
	if (instance->lock_fd >= 0)
		unlink(instance->lock_path);
	instance_leave(instance);
}
