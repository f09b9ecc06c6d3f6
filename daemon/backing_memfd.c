/* SPDX-License-Identifier: MIT */
/*
 * Sealed memfds: nobody can shrink or grow one, or add a seal. Born 0600 under the broker's uid, so
 * that a client of another uid that holds a read-only descriptor cannot reopen it writable through
 * /proc.
 */
#include "backing_memfd.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

static int memfd_new(const char *name, unsigned flags)
{
	int fd;

	flags |= MFD_CLOEXEC | MFD_ALLOW_SEALING;
	fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	return fd < 0 ? -errno : fd;
}

int memfd_make(const char *name, unsigned flags, uint64_t bytes)
{
	int fd = memfd_new(name, flags);

	if (fd < 0)
		return fd;
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

static int memfd_backing_create(uint64_t instance, struct segments *segments, enum segment which,
				uint64_t bytes)
{
	static const char *const names[SEGMENT_COUNT] = { "shmb.data", "shmb.publish",
							  "shmb.lock" };
	int fd = memfd_make(names[which], 0, bytes);

	if (fd < 0)
		return fd;
	segments->fds[which] = fd;
	return 0;
}

int memfd_backing_open(uint64_t instance, const struct segments *segments, enum segment which,
		       bool writable)
{
	char path[32];
	int fd;

	if (writable) {
		fd = fcntl(segments->fds[which], F_DUPFD_CLOEXEC, 0);
	} else {
		/* A duplicate would share the open mode; only a new open gives a read-only one. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", segments->fds[which]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

void memfd_backing_destroy(uint64_t instance, struct segments *segments, enum segment which)
{
	close(segments->fds[which]);
	segments->fds[which] = -1;
}

const struct backing backing_memfd = {
	.name = "memfd",
	.number = SHMB_BACKING_MEMFD,
	.held_fds = 1,
	.create = memfd_backing_create,
	.open = memfd_backing_open,
	.destroy = memfd_backing_destroy,
};
