/* SPDX-License-Identifier: MIT */
/*
 * fallocate(2) and ftruncate(2), and processes that wait for them. Must not know regions.
 */
#include "punch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK_BYTES = 32 << 10 };

#if defined(__has_feature) && !defined(__SANITIZE_THREAD__)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ /* as gcc says it */
#endif
#endif

/* As vfork(2) makes it; but ThreadSanitizer takes every clone(2) for a fork(2). */
#ifdef __SANITIZE_THREAD__
enum { APART = SIGCHLD };
#else
enum { APART = CLONE_VM | CLONE_VFORK | SIGCHLD };
#endif

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
};

static int do_it(const struct apart *apart)
{
	return apart->truncate ? change_length(apart->fd, apart->to, apart->shorter)
			       : punch(apart->fd, apart->from, apart->to);
}

/* In our memory, while the thread that has made it waits: nothing but system calls, and the result
 * is what it exits with. */
static int punch_process(void *userdata)
{
	const struct apart *apart = userdata;
	unsigned fd = (unsigned)apart->fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd > 0)
		close_range(0, fd - 1, 0);
	close_range(fd + 1, ~0U, 0);
	return -do_it(apart);
}

static int await(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

static int run_apart(const struct apart *apart)
{
	_Alignas(16) char stack[STACK_BYTES];
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all); /* our handlers are in its memory, too */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone(punch_process, stack + sizeof(stack), APART, (void *)(uintptr_t)apart);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) /* no more of them: a shrink has been shown, so it has to be done */
		return do_it(apart);
	return await(pid);
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
