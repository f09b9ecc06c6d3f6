/* SPDX-License-Identifier: MIT */
/*
 * fallocate(2), and a table of descriptors of a thread's own. Must not know regions.
 */
#include "punch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <uv.h>

enum { STACK_BYTES = 256 << 10 };

int punch(int fd, uint64_t from, uint64_t to)
{
	while (to > from && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
				      (off_t)(to - from)) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static bool has_length(const struct stat *st, uint64_t size, bool shorter)
{
	return shorter ? (uint64_t)st->st_size <= size : (uint64_t)st->st_size >= size;
}

static bool is_of_huge_pages(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == HUGETLBFS_MAGIC;
}

int truncate_check(int fd, uint64_t size, bool shorter)
{
	int seals = fcntl(fd, F_GET_SEALS); /* -1: it can have none */
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (has_length(&st, size, shorter))
		return 0;
	if (seals > 0 && seals & (shorter ? F_SEAL_SHRINK : F_SEAL_GROW))
		return -EPERM;
	return size % (uint64_t)st.st_blksize != 0 && is_of_huge_pages(fd) ? -EINVAL : 0;
}

static int change_length(int fd, uint64_t size, bool shorter)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (has_length(&st, size, shorter))
		return 0;
	while (ftruncate(fd, (off_t)size) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

struct apart {
	int fd;
	bool truncate, shorter;
	uint64_t from, to;
	int result;
};

static int do_it(const struct apart *apart)
{
	return apart->truncate ? change_length(apart->fd, apart->to, apart->shorter)
			       : punch(apart->fd, apart->from, apart->to);
}

/* If the table cannot be had (before Linux 5.9), the descriptors are shared and stay as they are.
 */
static void punch_thread(void *userdata)
{
	struct apart *apart = userdata;
	unsigned fd = (unsigned)apart->fd;

	if (close_range(fd + 1, ~0U, CLOSE_RANGE_UNSHARE) == 0 && fd > 0)
		close_range(0, fd - 1, 0);
	apart->result = do_it(apart);
}

static int run_apart(struct apart *apart)
{
	const uv_thread_options_t options = { .flags = UV_THREAD_HAS_STACK_SIZE,
					      .stack_size = STACK_BYTES };
	sigset_t all, before;
	uv_thread_t thread;
	int result;

	/* A handler that ran there would find none of its descriptors. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = uv_thread_create_ex(&thread, &options, punch_thread, apart);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result < 0) /* no more threads: a shrink has been shown, so it has to be done */
		return do_it(apart);
	uv_thread_join(&thread);
	return apart->result;
}

int punch_apart(int fd, uint64_t from, uint64_t to)
{
	struct apart apart = { .fd = fd, .from = from, .to = to };

	return run_apart(&apart);
}

int truncate_apart(int fd, uint64_t size, bool shorter)
{
	struct apart apart = { .fd = fd, .truncate = true, .shorter = shorter, .to = size };

	return run_apart(&apart);
}
