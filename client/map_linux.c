/* SPDX-License-Identifier: MIT */
/*
 * What Linux alone has for mappings and their pages. What it can do is asked of the running kernel,
 * never taken from a version.
 */

#include "map_system.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "error.h"
#include "pages_linux.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define TRANSPARENT "/sys/kernel/mm/transparent_hugepage/"

void system_raise_again(const siginfo_t *info)
{
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)syscall(SYS_gettid), info->si_signo,
		    info) != 0)
		raise(info->si_signo);
}

size_t system_unit(int fd, const struct stat *status)
{
	struct statfs fs;

	/* Of hugetlb, a block is a page; so the second call is not needed for ordinary ones. */
	if ((size_t)status->st_blksize == map_page_size())
		return map_page_size();
	if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > 0)
		return (size_t)fs.f_bsize;
	return map_page_size();
}

int system_fixed_flag(void)
{
	return MAP_FIXED_NOREPLACE;
}

int system_sync_flags(void)
{
	return MAP_SHARED_VALIDATE | MAP_SYNC;
}

int system_no_dump(void *data, size_t length)
{
	return madvise(data, length, MADV_DONTDUMP) == 0 ? 0 : SHMB_ENOMEM;
}

int system_allocate(int fd, uint64_t offset, uint64_t length)
{
	return fallocate(fd, 0, (off_t)offset, (off_t)length) == 0 ? 0 : errno;
}

/* Sanitizers make mlock(2) and munlock(2) do nothing; these calls they leave alone. */
int system_pin(void *data, size_t length)
{
	return mlock2(data, length, 0) == 0 ? 0 : errno;
}

int system_unpin(void *data, size_t length)
{
	return syscall(SYS_munlock, data, length) == 0 ? 0 : errno;
}

int system_pin_on_fault(void *data, size_t length)
{
	return mlock2(data, length, MLOCK_ONFAULT) == 0 ? 0 : errno;
}

/* Since 2.6.19 MS_ASYNC does nothing, as the kernel knows of dirty pages by itself and gets round
 * to them within half a minute. This is how to have it begin now. */
int system_flush_start(int fd, void *data, uint64_t offset, size_t length)
{
	if (fd < 0 || sync_file_range(fd, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE) == 0)
		return 0;
	return errno == EIO || errno == ENOSPC || errno == EDQUOT ? errno : 0;
}

/* MS_SYNC is fdatasync of the range: mm/msync.c calls vfs_fsync_range(file, start, end, 1), and so
 * does fdatasync. A second one would find nothing to write, and cost another flush of the disk. But
 * a mapping of a descriptor that is read-only is no shared one to mm/msync.c (do_mmap() takes
 * VM_SHARED away), which passes over it: what others wrote is flushed by the descriptor. */
int system_flush_end(int fd)
{
	int flags = fcntl(fd, F_GETFL), result;

	if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY)
		return 0;
	do
		result = fdatasync(fd);
	while (result < 0 && errno == EINTR);
	return result == 0 ? 0 : errno;
}

bool system_has_advice(int number)
{
	/* No range at all: only whether the advice is known is looked at. */
	return madvise(NULL, 0, number) == 0;
}

int system_populate(void *data, size_t length, bool write)
{
	while (madvise(data, length, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) != 0)
		switch (errno) {
		case EINTR:
		case EAGAIN:
			break;
		case EINVAL: /* the protection forbids it, or before Linux 5.14 */
			return system_has_advice(MADV_POPULATE_READ) ? SHMB_EACCES : SHMB_ENOTSUP;
		case EFAULT: /* it would have been a SIGBUS */
		case EHWPOISON:
			return SHMB_EBUS;
		default:
			return SHMB_ENOMEM;
		}
	return 0;
}

int system_advice(enum shmb_advice advice)
{
	static const int numbers[] = {
		[SHMB_ADVICE_NORMAL] = MADV_NORMAL,
		[SHMB_ADVICE_RANDOM] = MADV_RANDOM,
		[SHMB_ADVICE_SEQUENTIAL] = MADV_SEQUENTIAL,
		[SHMB_ADVICE_WILLNEED] = MADV_WILLNEED,
		[SHMB_ADVICE_DONTNEED] = MADV_DONTNEED,
		[SHMB_ADVICE_PREFETCH] = MADV_WILLNEED,
		[SHMB_ADVICE_FREE] = MADV_FREE,
		[SHMB_ADVICE_REMOVE] = MADV_REMOVE,
		[SHMB_ADVICE_DONTFORK] = MADV_DONTFORK,
		[SHMB_ADVICE_DOFORK] = MADV_DOFORK,
		[SHMB_ADVICE_MERGEABLE] = MADV_MERGEABLE,
		[SHMB_ADVICE_UNMERGEABLE] = MADV_UNMERGEABLE,
		[SHMB_ADVICE_HUGEPAGE] = MADV_HUGEPAGE,
		[SHMB_ADVICE_NOHUGEPAGE] = MADV_NOHUGEPAGE,
		[SHMB_ADVICE_DONTDUMP] = MADV_DONTDUMP,
		[SHMB_ADVICE_DODUMP] = MADV_DODUMP,
		[SHMB_ADVICE_WIPEONFORK] = MADV_WIPEONFORK,
		[SHMB_ADVICE_KEEPONFORK] = MADV_KEEPONFORK,
		[SHMB_ADVICE_COLD] = MADV_COLD,
		[SHMB_ADVICE_PAGEOUT] = MADV_PAGEOUT,
		[SHMB_ADVICE_COLLAPSE] = MADV_COLLAPSE,
	};

	return (unsigned)advice < sizeof(numbers) / sizeof(numbers[0]) ? numbers[advice] : -1;
}

int system_prefetch(int fd, uint64_t offset, uint64_t length)
{
	return posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
}

int system_huge(const void *data, size_t length)
{
	int answer = pages_huge_by_scan(data, length);

	return answer >= 0 ? answer : pages_huge_by_smaps(data, length);
}

size_t system_huge_unit(void)
{
	return (size_t)pages_number(TRANSPARENT "hpage_pmd_size", NULL);
}

/* ---- What it can do ---- */

/* Is there one in the pool that nobody has claimed, or may another be made? */
static int has_pool(void)
{
	uint64_t free_pages = pages_number("/proc/meminfo", "HugePages_Free:");
	uint64_t more = pages_number("/proc/sys/vm/nr_overcommit_hugepages", NULL);

	return free_pages > pages_number("/proc/meminfo", "HugePages_Rsvd:") ||
	       more > pages_number("/proc/meminfo", "HugePages_Surp:");
}

static int segment_of(size_t bytes)
{
	int fd = memfd_create("shmb.look", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The policy for shared memory does not tell: collapsing passes it by. So one is made. */
static int has_transparent(void)
{
	const struct map_how how = { .writable = true, .huge = true };
	size_t huge = system_huge_unit();
	int fd = huge > 0 ? segment_of(huge) : -1, result = 0;
	struct mapping mapping;

	if (fd >= 0 && map_data(fd, huge, &how, &mapping) == 0) {
		result = map_make_huge(&mapping) == 0;
		map_release(&mapping);
	}
	if (fd >= 0)
		close(fd);
	return result;
}

/* A mounted file system that maps persistent memory itself. */
static int has_dax(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	char room[4096];
	struct mntent entry;
	int found = 0;

	while (mounts && !found && getmntent_r(mounts, &entry, room, sizeof(room))) {
		const char *option = hasmntopt(&entry, "dax");

		found = option && strncmp(option, "dax=never", strlen("dax=never")) != 0;
	}
	if (mounts)
		endmntent(mounts);
	return found;
}

static int has_punch(void)
{
	size_t page = map_page_size();
	int fd = segment_of(page), result;

	if (fd < 0)
		return 0;
	result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page) == 0;
	close(fd);
	return result;
}

static int has_memfd(void)
{
	int fd = segment_of(1);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int has_file_events(void)
{
	int fd = inotify_init1(IN_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno == EMFILE || errno == ENFILE;
}

int system_supports(enum shmb_feature feature)
{
	switch (feature) {
	case SHMB_FEATURE_MEMFD:
		return has_memfd();
	case SHMB_FEATURE_HUGETLB:
		return has_pool();
	case SHMB_FEATURE_TRANSPARENT_HUGE:
		return has_transparent();
	case SHMB_FEATURE_HUGE_ANSWER:
		return pages_can_tell();
	case SHMB_FEATURE_POPULATE:
		return system_has_advice(MADV_POPULATE_READ);
	case SHMB_FEATURE_SYNC:
		return has_dax();
	case SHMB_FEATURE_PUNCH:
		return has_punch();
	case SHMB_FEATURE_FILE_EVENTS:
		return has_file_events();
	default:
		return 0;
	}
}
