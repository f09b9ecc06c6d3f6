/* SPDX-License-Identifier: MIT */
/*
 * Mapping segments, and what Unix systems have in common for their pages. May use system calls
 * only; knows neither client nor region.
 */

#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "map_system.h"
#include "sanitize.h"

size_t map_page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- Mapping ---- */

/* The broker says how much to map; touching more than there is would be a SIGBUS. */
static bool segment_holds(int fd, uint64_t bytes, bool may_be_short, struct stat *ret_status)
{
	return fstat(fd, ret_status) == 0 && S_ISREG(ret_status->st_mode) &&
	       ret_status->st_size >= 0 && (may_be_short || (uint64_t)ret_status->st_size >= bytes);
}

static int map_error(int number, const struct map_how *how)
{
	switch (number) {
	case ENOMEM:
	case EAGAIN:
	case EOVERFLOW:
	case ENFILE:
		return SHMB_ENOMEM;
	case EEXIST:
		return how->address ? SHMB_EEXIST : SHMB_EPROTO;
	case EACCES:
	case EPERM:
		return how->executable ? SHMB_EACCES : SHMB_EPROTO;
	case EINVAL: /* a kernel that knows no MAP_SHARED_VALIDATE */
	case EOPNOTSUPP:
		return how->sync ? SHMB_ENOTSUP : SHMB_EPROTO;
	default:
		return SHMB_EPROTO;
	}
}

static int protection_of(const struct map_how *how)
{
	if (how->no_access)
		return PROT_NONE;
	return PROT_READ | (how->writable ? PROT_WRITE : 0) | (how->executable ? PROT_EXEC : 0);
}

/* Where the system cannot refuse a taken address, it takes it for a wish, and what it chose tells.
 */
static void *map_at(size_t length, int protection, int flags, int fd, void *address)
{
	void *data = mmap(address, length, protection, flags | system_fixed_flag(), fd, 0);

	if (data == MAP_FAILED || data == address)
		return data;
	munmap(data, length);
	errno = EEXIST;
	return MAP_FAILED;
}

/* Huge pages need addresses that are multiples of their size: more is asked for and cut. */
static void *map_aligned(size_t length, int protection, int flags, int fd, size_t alignment)
{
	size_t room = length + alignment, before, behind;
	char *start, *data;

	if (room < length) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	start = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return MAP_FAILED;
	before = (size_t)(-(uintptr_t)start & (alignment - 1));
	behind = alignment - before;
	data = mmap(start + before, length, protection, flags | MAP_FIXED, fd, 0);
	if (data == MAP_FAILED) {
		int number = errno;

		munmap(start, room);
		errno = number;
		return MAP_FAILED;
	}
	if (before > 0)
		munmap(start, before);
	if (behind > 0)
		munmap(data + length, behind);
	return data;
}

static void *map_somewhere(size_t length, int fd, const struct map_how *how)
{
	int flags = how->private ? MAP_PRIVATE : MAP_SHARED, protection = protection_of(how);
	size_t huge = how->huge ? system_huge_unit() : 0;

	if (how->sync)
		flags = system_sync_flags();
	if (how->address)
		return map_at(length, protection, flags, fd, how->address);
	if (huge > 0 && length >= huge)
		return map_aligned(length, protection, flags, fd, huge);
	return mmap(NULL, length, protection, flags, fd, 0);
}

/* What is only told of a mapping that is there. That there are no huge pages for it is no error. */
static int tell_more(void *data, size_t length, const struct map_how *how)
{
	int number = how->huge ? system_advice(SHMB_ADVICE_HUGEPAGE) : -1;

	if (number >= 0)
		(void)madvise(data, length, number);
	return how->dump ? 0 : system_no_dump(data, length);
}

int map_data(int fd, uint64_t bytes, const struct map_how *how, struct mapping *ret_mapping)
{
	struct stat status;
	uint64_t unit;
	size_t length;
	void *data;
	int result;

	if (bytes == 0 || !segment_holds(fd, bytes, how->short_file, &status))
		return SHMB_EPROTO;
	if (how->sync && system_sync_flags() == 0)
		return SHMB_ENOTSUP;
	unit = system_unit(fd, &status);
	if (bytes > SIZE_MAX - unit)
		return SHMB_ENOMEM;
	if (((uintptr_t)how->address & (unit - 1)) != 0)
		return SHMB_EINVAL;
	length = (size_t)((bytes + unit - 1) & ~(unit - 1));
	data = map_somewhere(length, fd, how);
	if (data == MAP_FAILED)
		return map_error(errno, how);
	result = tell_more(data, length, how);
	if (result < 0) {
		munmap(data, length);
		return result;
	}
	*ret_mapping = (struct mapping){
		.data = data,
		.length = length,
		.unit = (size_t)unit,
		.protection = protection_of(how),
		.writable = how->writable,
		.private = how->private,
		.dump = how->dump,
		.sync = how->sync,
	};
	return 0;
}

int map_segment(int fd, uint64_t bytes, bool writable, bool dump, struct mapping *ret_mapping)
{
	const struct map_how how = { .writable = writable, .dump = dump };

	return map_data(fd, bytes, &how, ret_mapping);
}

/* ThreadSanitizer takes the C function for a write to the whole range. That threads may be using it
 * is the point. */
#ifdef CLIENT_TSAN
#include <sys/syscall.h>
#define replace_mapping(...) syscall(SYS_mmap, __VA_ARGS__)
#else
#define replace_mapping(...) mmap(__VA_ARGS__)
#endif

static bool map_nothing(void *data, size_t length, int protection)
{
	return (void *)replace_mapping(data, length, protection,
				       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				       0) != MAP_FAILED;
}

/* What may be done there, whatever it was mapped as: it may be more by now. */
static int protection_now(const struct mapping *mapping)
{
	return mapping->protection | PROT_READ | (mapping->writable ? PROT_WRITE : 0);
}

bool map_detach(struct mapping *mapping)
{
	return map_nothing(mapping->data, mapping->length, protection_now(mapping));
}

bool map_zeros(const struct mapping *mapping, uint64_t offset, uint64_t length)
{
	return map_nothing((char *)mapping->data + offset, (size_t)length, protection_now(mapping));
}

int map_again(const struct mapping *mapping, int fd, uint64_t offset, uint64_t length)
{
	char *start = (char *)mapping->data + offset;
	int flags = mapping->private ? MAP_PRIVATE
		    : mapping->sync  ? system_sync_flags()
				     : MAP_SHARED;
	int result;

	if ((void *)replace_mapping(start, (size_t)length, protection_now(mapping),
				    MAP_FIXED | flags, fd, (off_t)offset) == MAP_FAILED)
		return SHMB_ENOMEM;
	/* As all of it was told when it was mapped. */
	result = mapping->dump ? 0 : system_no_dump(start, (size_t)length);
	if (result == 0)
		result = system_populate(start, (size_t)length, false);
	if (result == 0 || result == SHMB_ENOTSUP) /* then who touches it will see */
		return 0;
	map_zeros(mapping, offset, length);
	return result;
}

void map_release(struct mapping *mapping)
{
	if (mapping->data)
		munmap(mapping->data, mapping->length);
	*mapping = (struct mapping){ 0 };
}

int map_reserve(int fd, uint64_t bytes)
{
	/* tmpfs undoes an interrupted call as a whole: pieces keep what has been done, and smaller
	 * ones get through between two ticks of somebody's interval timer. */
	const uint64_t smallest = UINT64_C(1) << 20;
	uint64_t piece = UINT64_C(64) << 20, done = 0;

	while (done < bytes) {
		uint64_t length = bytes - done < piece ? bytes - done : piece;
		int number = system_allocate(fd, done, length);

		if (number == 0)
			done += length;
		else if (number != EINTR)
			return number == EOPNOTSUPP ? SHMB_ENOTSUP : error_from_errno(number);
		else if (piece > smallest)
			piece /= 2;
	}
	return 0;
}

/*
 * First msync(2), then fdatasync(2). The order matters: stores through a mapping are known to the
 * page tables first, and msync is what makes them the file's, on systems where fdatasync looks at
 * the file alone. Whether the second one is needed is the system's to say: POSIX promises that
 * msync writes the bytes, not what it takes to find them again (blocks, length), nor that the disk
 * has them for good.
 */
int map_flush(const struct mapping *mapping, int fd, uint64_t offset, uint64_t length, bool start)
{
	uint64_t first = offset & ~((uint64_t)map_page_size() - 1);
	char *data = (char *)mapping->data + first;
	size_t bytes = (size_t)(offset + length - first);
	int error = 0;

	if (length == 0 || mapping->private)
		return 0;
	if (start) {
		error = system_flush_start(fd, data, first, bytes);
		return error == 0 ? 0 : error_from_errno(error);
	}
	do
		error = msync(data, bytes, MS_SYNC) == 0 ? 0 : errno;
	while (error == EINTR);
	if (error == 0)
		error = system_flush_end(fd);
	return error == 0 ? 0 : error_from_errno(error);
}

/* ---- Pages of a range ---- */

struct pages {
	char *start;
	size_t length;
};

static struct pages widen(const struct mapping *mapping, uint64_t offset, uint64_t length)
{
	uint64_t unit = mapping->unit, start = offset & ~(unit - 1);
	uint64_t end = (offset + length + unit - 1) & ~(unit - 1);

	if (end > mapping->length)
		end = mapping->length;
	return (struct pages){ (char *)mapping->data + start,
			       start < end ? (size_t)(end - start) : 0 };
}

/*
 * An exchange of a byte for itself: present for writing, and nobody's write is lost. Others' pages
 * are others' business, so no sanitizer is to look.
 */
__attribute__((no_sanitize("thread"))) static void touch_page(char *page, bool write)
{
	char seen = __atomic_load_n(page, __ATOMIC_RELAXED);

	while (write && !__atomic_compare_exchange_n(page, &seen, seen, false, __ATOMIC_RELAXED,
						     __ATOMIC_RELAXED))
		;
}

int map_touch(const struct mapping *mapping, uint64_t offset, uint64_t length, bool write)
{
	struct pages pages = widen(mapping, offset, length);
	int result;

	if (pages.length == 0)
		return 0;
	result = system_populate(pages.start, pages.length, write);
	if (result != SHMB_ENOTSUP)
		return result;
	for (size_t i = 0; i < pages.length; i += mapping->unit)
		touch_page(pages.start + i, write);
	return 0;
}

static bool beyond_limit(const struct pages *pages, uint64_t *ret_limit)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return false;
	*ret_limit = limit.rlim_cur;
	/* What the process has pinned already counts, too, and the system does not tell all of it:
	 * pinning without making anything present fails for nothing else. */
	switch (system_pin_on_fault(pages->start, pages->length)) {
	case 0:
		system_unpin(pages->start, pages->length);
		return false;
	case ENOSYS: /* the likelier of the two, where there is a limit */
		return geteuid() != 0;
	default:
		return true;
	}
}

int map_pin(const struct mapping *mapping, uint64_t offset, uint64_t length, uint64_t *ret_limit)
{
	struct pages pages = widen(mapping, offset, length);
	int number, result;

	number = pages.length > 0 ? system_pin(pages.start, pages.length) : 0;
	if (number == 0)
		return 0;
	if ((number == ENOMEM || number == EPERM || number == EAGAIN) &&
	    beyond_limit(&pages, ret_limit))
		return SHMB_EDQUOT;
	/* The pages are marked, and some of them could not be had: which is it? */
	system_unpin(pages.start, pages.length);
	result = system_populate(pages.start, pages.length, false);
	return result == SHMB_EBUS || result == SHMB_EACCES ? result : error_from_errno(number);
}

int map_unpin(const struct mapping *mapping, uint64_t offset, uint64_t length)
{
	struct pages pages = widen(mapping, offset, length);

	int number = pages.length > 0 ? system_unpin(pages.start, pages.length) : 0;

	return number == 0 ? 0 : error_from_errno(number);
}

int map_advise(const struct mapping *mapping, uint64_t offset, uint64_t length,
	       enum shmb_advice advice)
{
	struct pages pages = widen(mapping, offset, length);
	int number = system_advice(advice);

	if (number < 0)
		return SHMB_ENOTSUP;
	if (pages.length == 0 || madvise(pages.start, pages.length, number) == 0)
		return 0;
	switch (errno) {
	case EINVAL:
		return system_has_advice(number) ? SHMB_EINVAL : SHMB_ENOTSUP;
	case EOPNOTSUPP:
		return SHMB_ENOTSUP;
	case EAGAIN:
		return SHMB_EBUSY;
	default:
		return error_from_errno(errno);
	}
}

int map_prefetch(int fd, uint64_t offset, uint64_t length)
{
	int number = system_prefetch(fd, offset, length);

	return number == 0 ? 0 : error_from_errno(number);
}

int map_protect(const struct mapping *mapping, uint64_t offset, uint64_t length,
		unsigned protection)
{
	struct pages pages = widen(mapping, offset, length);
	int bits = (protection & SHMB_PROTECT_READ ? PROT_READ : 0) |
		   (protection & SHMB_PROTECT_WRITE ? PROT_WRITE : 0) |
		   (protection & SHMB_PROTECT_EXEC ? PROT_EXEC : 0);

	if (pages.length == 0 || mprotect(pages.start, pages.length, bits) == 0)
		return 0;
	return error_from_errno(errno);
}

/* ---- Huge pages ---- */

int map_huge(const struct mapping *mapping, uint64_t bytes)
{
	struct pages pages = widen(mapping, 0, bytes);

	return pages.length > 0 ? system_huge(pages.start, pages.length) : SHMB_UNKNOWN;
}

size_t map_huge_unit(void)
{
	return system_huge_unit();
}

int map_make_huge(const struct mapping *mapping)
{
	bool of_the_pool = mapping->unit > map_page_size();
	size_t huge = system_huge_unit();
	int result = 0;

	if (of_the_pool) /* its pages are set aside */
		return 0;
	if (huge == 0 || mapping->length % huge != 0 || (uintptr_t)mapping->data % huge != 0)
		return SHMB_ENOTSUP;
	/* The system only collapses where something is: the rest of each huge page it fills in. */
	for (size_t i = 0; i < mapping->length && result == 0; i += huge)
		result = map_touch(mapping, i, 1, mapping->writable);
	if (result < 0)
		return result;
	result = map_advise(mapping, 0, mapping->length, SHMB_ADVICE_COLLAPSE);
	if (result == SHMB_ENOMEM)
		return result;
	return map_huge(mapping, mapping->length) == SHMB_YES ? 0 : SHMB_ENOTSUP;
}

/* ---- What the system can do ---- */

static int can_pin(void)
{
	size_t page = map_page_size();
	void *data = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int number;

	if (data == MAP_FAILED)
		return 0;
	number = system_pin(data, page);
	munmap(data, page);
	/* That what is allowed is used up does not matter. */
	return number != EPERM && number != ENOSYS;
}

int map_supports(enum shmb_feature feature)
{
	switch (feature) {
	case SHMB_FEATURE_PIN:
		return can_pin();
	case SHMB_FEATURE_FIXED:
	case SHMB_FEATURE_GUARD:
		return 1;
	case SHMB_FEATURE_NO_CACHE:
		return 0;
	case SHMB_FEATURE_MEMFD:
	case SHMB_FEATURE_HUGETLB:
	case SHMB_FEATURE_TRANSPARENT_HUGE:
	case SHMB_FEATURE_HUGE_ANSWER:
	case SHMB_FEATURE_POPULATE:
	case SHMB_FEATURE_SYNC:
	case SHMB_FEATURE_PUNCH:
	case SHMB_FEATURE_FILE_EVENTS:
		return system_supports(feature);
	}
	return SHMB_EINVAL;
}

bool map_supports_advice(enum shmb_advice advice)
{
	int number = system_advice(advice);

	return number >= 0 && system_has_advice(number);
}
