/* SPDX-License-Identifier: MIT */
/*
 * Files on Linux: /proc opens once more what is open, locks belong to an open file description, and
 * memory can be sealed.
 */

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int link_of(int fd, char *buffer, size_t size)
{
	return snprintf(buffer, size, "/proc/self/fd/%d", fd);
}

static bool same_file(int one, int other)
{
	struct stat a, b;

	return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static int open_checked(int fd, int flags, const char *path)
{
	int other = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (other < 0)
		return -errno;
	if (same_file(fd, other))
		return other;
	close(other);
	return -ESTALE;
}

int file_reopen(int fd, int flags, const char *path)
{
	char link[32];
	int other;

	link_of(fd, link, sizeof(link));
	other = open(link, flags | O_CLOEXEC);
	if (other >= 0)
		return other;
	/* No /proc here. */
	return errno == ENOENT && path ? open_checked(fd, flags, path) : -errno;
}

/* One byte far behind the end of any file: nobody else has a reason to lock it. */
int file_lock_claim(int fd)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)1 << (sizeof(off_t) * 8 - 2),
		.l_len = 1,
	};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int file_grow(int fd, uint64_t size)
{
	struct stat status;
	int result;

	/* Unlike ftruncate(2) this cannot cut off what somebody adds at this moment. */
	do
		result = fallocate(fd, 0, (off_t)(size - 1), 1);
	while (result < 0 && errno == EINTR);
	if (result == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	if (fstat(fd, &status) < 0)
		return -errno;
	if ((uint64_t)status.st_size >= size)
		return 0;
	return ftruncate(fd, (off_t)size) == 0 ? 0 : -errno;
}

bool file_is_memfd(int fd)
{
	static const char memfd[] = "/memfd:";
	char link[32], target[sizeof(memfd)];
	ssize_t length;

	link_of(fd, link, sizeof(link));
	length = readlink(link, target, sizeof(target));
	return length >= (ssize_t)strlen(memfd) && memcmp(target, memfd, strlen(memfd)) == 0;
}

bool file_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
}
