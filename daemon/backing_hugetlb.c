/* SPDX-License-Identifier: MIT */
/*
 * Huge pages of the system's pool, as sealed memfds. The pool is not asked here: pages are set
 * aside when somebody maps the segment, who is told if there are not enough.
 */
#include "backing_memfd.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of the default size; 0: the system has none. */
static uint64_t huge_page_bytes(void)
{
	static uint64_t bytes;
	struct stat st;
	int fd;

	if (bytes > 0)
		return bytes;
	fd = memfd_create("shmb.huge", MFD_CLOEXEC | MFD_HUGETLB);
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0)
		bytes = (uint64_t)st.st_blksize;
	close(fd);
	return bytes;
}

uint64_t backing_page_bytes(const struct backing *backing, uint64_t page_size)
{
	uint64_t huge = backing == &backing_hugetlb ? huge_page_bytes() : 0;

	return huge > page_size ? huge : page_size;
}

static int hugetlb_backing_create(uint64_t instance, struct segments *segments, enum segment which,
				  uint64_t bytes)
{
	int fd = memfd_make("shmb.huge", MFD_HUGETLB, bytes);

	if (fd < 0) /* what a kernel without them says */
		return fd == -EINVAL || fd == -ENODEV || fd == -ENOENT ? -EOPNOTSUPP : fd;
	segments->fds[which] = fd;
	return 0;
}

const struct backing backing_hugetlb = {
	.name = "hugetlb",
	.number = SHMB_BACKING_HUGETLB,
	.held_fds = 1,
	.create = hugetlb_backing_create,
	.open = memfd_backing_open,
	.destroy = memfd_backing_destroy,
};
