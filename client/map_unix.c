/* SPDX-License-Identifier: MIT */
/*
 * Mapping segments on Linux. May use system calls only; knows neither client nor region.
 */

#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.h"
#include "sanitize.h"

size_t map_page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* The broker says how much to map; touching more than there is would be a SIGBUS. */
static bool segment_holds(int fd, uint64_t bytes)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size >= 0 &&
	       (uint64_t)status.st_size >= bytes;
}

static int map_error(int number)
{
	switch (number) {
	case ENOMEM:
	case EAGAIN:
	case EOVERFLOW:
	case ENFILE:
		return SHMB_ENOMEM;
	default:
		return SHMB_EPROTO;
	}
}

int map_segment(int fd, uint64_t bytes, bool writable, bool dump, struct mapping *ret_mapping)
{
	uint64_t page = map_page_size();
	size_t length;
	void *data;

	if (bytes == 0 || !segment_holds(fd, bytes))
		return SHMB_EPROTO;
	if (bytes > SIZE_MAX - page)
		return SHMB_ENOMEM;
	length = (size_t)((bytes + page - 1) & ~(page - 1));
	data = mmap(NULL, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return map_error(errno);
	if (!dump && madvise(data, length, MADV_DONTDUMP) != 0) {
		munmap(data, length);
		return SHMB_ENOMEM;
	}
	*ret_mapping = (struct mapping){ .data = data, .length = length, .writable = writable };
	return 0;
}

/* ThreadSanitizer takes the C function for a write to the whole range. That threads may be using it
 * is the point. */
#ifdef CLIENT_TSAN
#define replace_mapping(...) syscall(SYS_mmap, __VA_ARGS__)
#else
#define replace_mapping(...) mmap(__VA_ARGS__)
#endif

bool map_detach(struct mapping *mapping)
{
	int protection = PROT_READ | (mapping->writable ? PROT_WRITE : 0);

	return (void *)replace_mapping(mapping->data, mapping->length, protection,
				       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				       0) != MAP_FAILED;
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

		if (fallocate(fd, 0, (off_t)done, (off_t)length) == 0)
			done += length;
		else if (errno != EINTR)
			return errno == EOPNOTSUPP ? SHMB_ENOTSUP : error_from_errno(errno);
		else if (piece > smallest)
			piece /= 2;
	}
	return 0;
}

int map_flush(const struct mapping *mapping, uint64_t offset, uint64_t length)
{
	uint64_t start = offset & ~((uint64_t)map_page_size() - 1);
	char *data = mapping->data;

	if (length == 0)
		return 0;
	while (msync(data + start, (size_t)(offset + length - start), MS_SYNC) != 0)
		if (errno != EINTR)
			return SHMB_EIO;
	return 0;
}
