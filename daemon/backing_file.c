/* SPDX-License-Identifier: MIT */
/*
 * Files that a client has opened and passed: one descriptor for those who may write, one for those
 * who may only read. Nothing is made or opened here, and nothing destroyed but our descriptors.
 */
#include "backing.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int file_backing_create(uint64_t instance, struct segments *segments, enum segment which,
			       uint64_t bytes)
{
	return segments->fds[which] >= 0 ? 0 : -EBADF; /* it was put there */
}

/* Of a file that nobody may write the data descriptor is read-only, and there is no other. */
static int file_backing_open(uint64_t instance, const struct segments *segments, enum segment which,
			     bool writable)
{
	int from = segments->fds[SEGMENT_DATA];
	int fd;

	if (!writable && segments->made[SEGMENT_READER])
		from = segments->fds[SEGMENT_READER];
	fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static void file_backing_destroy(uint64_t instance, struct segments *segments, enum segment which)
{
	close(segments->fds[which]);
	segments->fds[which] = -1;
}

const struct backing backing_file = {
	.name = "file",
	.number = SHMB_BACKING_FILE,
	.held_fds = 1,
	.slow_end = true, /* the last one to let a deleted file go frees its blocks */
	.create = file_backing_create,
	.open = file_backing_open,
	.destroy = file_backing_destroy,
};
