/* SPDX-License-Identifier: MIT */
/*
 * The guarded look. On SIGBUS inside it the handler puts private zeros in the place of the whole
 * mapping, and the access that failed is made again. Knows nothing of what is looked at.
 */
#include "guard.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The open looks, the inner first; read by the handler, in the same thread. */
static struct guard *volatile innermost;

static struct guard *find(uintptr_t address)
{
	struct guard *guard;

	for (guard = innermost; guard; guard = guard->outer)
		if (address - (uintptr_t)guard->data < guard->bytes)
			break;
	return guard;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
	struct guard *guard = find((uintptr_t)info->si_addr);
	int error = errno;

	if (guard && mmap(guard->data, guard->bytes, PROT_READ | PROT_WRITE,
			  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
		guard->vanished = 1;
		errno = error;
		return;
	}
	signal(number, SIG_DFL); /* not ours: die of it, where it happened */
}

void guard_init(void)
{
	struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
}

static void fill(struct guard *guard, void *data, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	guard->data = data;
	guard->bytes = (bytes + page - 1) / page * page;
	guard->vanished = 0;
	guard->outer = innermost;
}

void guard_enter(struct guard *guard, void *data, size_t bytes)
{
	fill(guard, data, bytes);
	innermost = guard;
}

bool guard_leave(struct guard *guard)
{
	innermost = guard->outer;
	return !guard->vanished;
}

int guard_open(struct guard *guard, int fd, size_t bytes)
{
	fill(guard, mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), bytes);
	if (guard->data == MAP_FAILED)
		return -errno;
	innermost = guard;
	return 0;
}

bool guard_close(struct guard *guard)
{
	bool there = guard_leave(guard);

	munmap(guard->data, guard->bytes);
	return there;
}

int guard_read(int fd, void *buffer, size_t bytes, size_t offset)
{
	size_t done = 0;
	ssize_t n;

	do {
		n = pread(fd, (char *)buffer + done, bytes - done, (off_t)(offset + done));
		if (n > 0)
			done += (size_t)n;
	} while (n > 0 && done < bytes);
	memset((char *)buffer + done, 0, bytes - done);
	return n < 0 ? -errno : 0;
}

int guard_error(int fd, size_t bytes)
{
	struct stat stat;

	return fstat(fd, &stat) == 0 && (uint64_t)stat.st_size >= bytes ? -ENOSPC : -EIO;
}

int guard_touch(int fd, size_t bytes, size_t offset)
{
	struct guard guard;
	int result = guard_open(&guard, fd, bytes);
	uint32_t nothing = 0;

	if (result < 0)
		return result;
	/* A page that is only read need not be there, and an "or" with 0 is only a read to a
	 * compiler. This writes if it is 0; if it is not, somebody has written. */
	atomic_compare_exchange_strong((_Atomic uint32_t *)(void *)((char *)guard.data + offset),
				       &nothing, 0);
	return guard_close(&guard) ? 0 : guard_error(fd, bytes);
}
