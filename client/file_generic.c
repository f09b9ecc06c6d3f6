/* SPDX-License-Identifier: MIT */
/*
 * Files where nothing opens once more what is open but its path, and locks of a description are
 * those of flock(2).
 */

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same_file(int one, int other)
{
	struct stat a, b;

	return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int file_reopen(int fd, int flags, const char *path)
{
	int other;

	if (!path)
		return -ENOTSUP;
	other = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (other < 0)
		return -errno;
	if (same_file(fd, other))
		return other;
	close(other);
	return -ESTALE;
}

int file_lock_claim(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

int file_grow(int fd, uint64_t size)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return -errno;
	if ((uint64_t)status.st_size >= size)
		return 0;
	return ftruncate(fd, (off_t)size) == 0 ? 0 : -errno;
}

bool file_is_memfd(int fd)
{
	(void)fd;
	return false;
}

bool file_sealed(int fd)
{
	(void)fd;
	return false;
}
