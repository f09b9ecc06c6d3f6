/* SPDX-License-Identifier: MIT */
/*
 * The twin of map_linux.c for other Unix systems: what they lack is "unsupported here", or done
 * without where that is only slower.
 */

#include "map_system.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"

void system_raise_again(const siginfo_t *info)
{
	raise(info->si_signo);
}

size_t system_unit(int fd, const struct stat *status)
{
	return map_page_size();
}

/* The address is a wish; map_unix.c looks whether it was granted. */
int system_fixed_flag(void)
{
	return 0;
}

int system_sync_flags(void)
{
	return 0;
}

int system_no_dump(void *data, size_t length)
{
#ifdef MADV_NOCORE /* FreeBSD */
	return madvise(data, length, MADV_NOCORE) == 0 ? 0 : SHMB_ENOMEM;
#else
	return 0;
#endif
}

int system_allocate(int fd, uint64_t offset, uint64_t length)
{
#if defined(__APPLE__) || defined(__OpenBSD__)
	return EOPNOTSUPP;
#else
	return posix_fallocate(fd, (off_t)offset, (off_t)length);
#endif
}

int system_flush_start(int fd, void *data, uint64_t offset, size_t length)
{
	return msync(data, length, MS_ASYNC) == 0 ? 0 : errno;
}

/* Where F_FULLFSYNC exists (macOS), fsync(2) stops at the disk's own cache. */
int system_flush_end(int fd)
{
	if (fd < 0)
		return ENOTSUP;
#ifdef F_FULLFSYNC
	if (fcntl(fd, F_FULLFSYNC) == 0)
		return 0;
#endif
	return fsync(fd) == 0 ? 0 : errno;
}

int system_populate(void *data, size_t length, bool write)
{
	return SHMB_ENOTSUP;
}

int system_pin(void *data, size_t length)
{
	return mlock(data, length) == 0 ? 0 : errno;
}

int system_unpin(void *data, size_t length)
{
	return munlock(data, length) == 0 ? 0 : errno;
}

int system_pin_on_fault(void *data, size_t length)
{
	return ENOSYS;
}

int system_advice(enum shmb_advice advice)
{
	switch (advice) {
	case SHMB_ADVICE_NORMAL:
		return MADV_NORMAL;
	case SHMB_ADVICE_RANDOM:
		return MADV_RANDOM;
	case SHMB_ADVICE_SEQUENTIAL:
		return MADV_SEQUENTIAL;
	case SHMB_ADVICE_WILLNEED:
	case SHMB_ADVICE_PREFETCH:
		return MADV_WILLNEED;
	case SHMB_ADVICE_DONTNEED:
		return MADV_DONTNEED;
	case SHMB_ADVICE_FREE:
		return MADV_FREE;
	default:
		return -1;
	}
}

int system_prefetch(int fd, uint64_t offset, uint64_t length)
{
#ifdef POSIX_FADV_WILLNEED /* not macOS and OpenBSD */
	return posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
#else
	return 0;
#endif
}

bool system_has_advice(int number)
{
	return true;
}

int system_huge(const void *data, size_t length)
{
	return SHMB_UNKNOWN;
}

size_t system_huge_unit(void)
{
	return 0;
}

int system_supports(enum shmb_feature feature)
{
	return 0;
}
