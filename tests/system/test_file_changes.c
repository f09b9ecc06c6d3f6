/* SPDX-License-Identifier: MIT */
/*
 * Regions of files that cannot be what is asked of them: a change of size happens or does not, for
 * everybody and for the next daemon, and what the next daemon would not get back is not taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "layout/publish.h"

enum { BYTES = 3 * 4096, BOTH = SHMB_READ | SHMB_WRITE };

static int open_again(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return SYS(open(path, flags | O_CLOEXEC));
}

/* A memfd that can be sealed, and a descriptor of it for readers. */
static void make_pair(int ret_fds[2], unsigned flags, off_t length)
{
	ret_fds[0] = SYS(memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
	SYS(ftruncate(ret_fds[0], length));
	ret_fds[1] = open_again(ret_fds[0], O_RDONLY);
}

static void close_pair(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

static off_t length_of(int fd)
{
	struct stat status;

	SYS(fstat(fd, &status));
	return status.st_size;
}

static struct raw *begun(struct broker *broker)
{
	struct raw *raw = raw_greet(broker);

	CHECK_OK(raw_begin_adopt(raw));
	return raw;
}

static int resize(struct raw *raw, uint64_t handle, uint64_t size)
{
	const struct wire_region_resize_params params = { .handle = handle, .size = size };

	return raw_call(raw, WIRE_REGION_RESIZE, &params, NULL);
}

/* What the daemon says, to those who have it and to those who come, and what the page says. */
static void check_size(struct raw *raw, uint64_t handle, int page, uint64_t size)
{
	const struct wire_region_handle params = { .handle = handle };
	const struct wire_region_ref ref = { .has = WIRE_HAS(region_ref, handle),
					     .handle = handle };
	struct wire_region_data_result data;
	struct wire_region_info info;
	uint64_t shown = 0;

	CHECK_OK(raw_call(raw, WIRE_REGION_STAT, &ref, &info));
	CHECK_INT(info.size, size);
	CHECK_INT(info.capacity, size);
	CHECK_OK(raw_call(raw, WIRE_REGION_DATA, &params, &data));
	CHECK_INT(data.size, size);
	CHECK_INT(data.capacity, size);
	CHECK_INT(pread(page, &shown, 8, offsetof(struct layout_publish, size)), 8);
	CHECK_INT(shown, size);
}

static uint32_t generation_of(int page)
{
	uint32_t generation = 0;

	CHECK_INT(pread(page, &generation, 4, offsetof(struct layout_publish, generation)), 4);
	return generation;
}

/* ---- Sizes ---- */

CASE(F33_a_sealed_file_keeps_its_size, PRIVATE, .fd_store = 16)
{
	struct wire_region_attached attached;
	struct raw *raw = begun(broker);
	int fds[2], given[2];

	make_pair(fds, 0, BYTES);
	CHECK_OK(raw_adopt(raw, "sealed", BYTES, BOTH, fds, 2, 2, &attached, given));
	SYS(fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK));
	CHECK_CODE(resize(raw, attached.handle, 4096), SHMB_EACCES);
	check_size(raw, attached.handle, given[1], BYTES);
	CHECK_INT(generation_of(given[1]), 0); /* nobody had to ask */
	CHECK_OK(resize(raw, attached.handle, 2 * BYTES));
	SYS(fcntl(fds[0], F_ADD_SEALS, F_SEAL_GROW));
	CHECK_CODE(resize(raw, attached.handle, 3 * BYTES), SHMB_EACCES);
	check_size(raw, attached.handle, given[1], 2 * BYTES);
	CHECK_OK(resize(raw, attached.handle, 2 * BYTES));
	raw = raw_survive(broker, raw, 0);
	check_size(raw, attached.handle, given[1], 2 * BYTES);
	CHECK_CODE(resize(raw, attached.handle, 4096), SHMB_EACCES);
	check_size(raw, attached.handle, given[1], 2 * BYTES);
	CHECK_INT(length_of(fds[0]), 2 * BYTES);
	CHECK_INT(broker_log_count(broker, "file"),
		  0); /* who does it again and again fills no log */
	raw_free(raw);
	close_pair(given);
	close_pair(fds);
}

/* A region may be shorter than its file, which then need not change. */
CASE(F33_a_sealed_file_that_is_long_enough, PRIVATE)
{
	struct wire_region_attached attached;
	struct raw *raw = begun(broker);
	int fds[2], given[2];

	make_pair(fds, 0, BYTES);
	SYS(fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	CHECK_OK(raw_adopt(raw, "sealed", 4096, BOTH, fds, 2, 2, &attached, given));
	CHECK_OK(resize(raw, attached.handle, BYTES));
	check_size(raw, attached.handle, given[1], BYTES);
	CHECK_CODE(resize(raw, attached.handle, BYTES + 1), SHMB_EACCES);
	check_size(raw, attached.handle, given[1], BYTES);
	raw_free(raw);
	close_pair(given);
	close_pair(fds);
}

CASE(F33_the_library_says_that_a_file_is_sealed, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region, *other;
	uint8_t byte = 0;
	int fds[2];

	make_pair(fds, 0, BYTES);
	options.backing = SHMB_BACKING_FILE;
	options.fd = fds[0];
	region = create(client, "sealed", 0, &options);
	other = open_region(client, "sealed", BOTH);
	SYS(fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK));
	CHECK_OK(shmb_region_write_u8(region, BYTES - 1, 7));
	CHECK_CODE(shmb_region_resize(region, 1), SHMB_EACCES);
	CHECK_INT(shmb_region_size(other), BYTES);
	CHECK_OK(shmb_region_read_u8(other, BYTES - 1, &byte));
	CHECK_INT(byte, 7);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
	close_pair(fds);
}

/* The disk fails: what has been seen is so. A file that is longer than its region is nothing new.
 */
CASE(F33_a_file_that_cannot_be_cut_off, PRIVATE, .faults = true, .fd_store = 16)
{
	struct wire_region_attached attached;
	struct raw *raw = begun(broker);
	int fds[2], given[2];

	make_pair(fds, 0, BYTES);
	CHECK_OK(raw_adopt(raw, "long", BYTES, BOTH, fds, 2, 2, &attached, given));
	broker_fault(broker, FAULT_FTRUNCATE, EIO, 0, FAULT_FOREVER);
	CHECK_CODE(resize(raw, attached.handle, 2 * BYTES), SHMB_EIO);
	check_size(raw, attached.handle, given[1], BYTES);
	CHECK_INT(generation_of(given[1]), 0);
	CHECK_OK(resize(raw, attached.handle, 4096));
	CHECK_OK(resize(raw, attached.handle, 4095));
	check_size(raw, attached.handle, given[1], 4095);
	CHECK_INT(length_of(fds[0]), BYTES);
	CHECK_INT(broker_log_count(broker, "cannot give memory back"), 1);
	broker_fault(broker, FAULT_FTRUNCATE, 0, 0, 0);
	raw = raw_survive(broker, raw, 0);
	check_size(raw, attached.handle, given[1], 4095);
	CHECK_OK(resize(raw, attached.handle, 4094));
	CHECK_INT(length_of(fds[0]), 4094);
	raw_free(raw);
	close_pair(given);
	close_pair(fds);
}

CASE(F33_a_file_of_huge_pages_has_whole_ones, PRIVATE)
{
	const uint64_t huge = 2 << 20;
	struct wire_region_attached attached;
	struct raw *raw = begun(broker);
	struct stat status;
	int fds[2], given[2];

	fds[0] = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	if (fds[0] < 0)
		SKIP("no huge pages here");
	SYS(fstat(fds[0], &status));
	if ((uint64_t)status.st_blksize != huge)
		SKIP("huge pages are of another size here");
	close(fds[0]);
	make_pair(fds, MFD_HUGETLB, 2 * (off_t)huge);
	CHECK_OK(raw_adopt(raw, "huge", 2 * huge, BOTH, fds, 2, 2, &attached, given));
	CHECK_CODE(resize(raw, attached.handle, 4096), SHMB_EINVAL);
	check_size(raw, attached.handle, given[1], 2 * huge);
	CHECK_CODE(resize(raw, attached.handle, 2 * huge + 1), SHMB_EINVAL);
	check_size(raw, attached.handle, given[1], 2 * huge);
	CHECK_OK(resize(raw, attached.handle, huge));
	check_size(raw, attached.handle, given[1], huge);
	CHECK_INT(length_of(fds[0]), huge);
	raw_free(raw);
	close_pair(given);
	close_pair(fds);
}

/* ---- What the next daemon gets back ---- */

static void adopt_well(struct raw *raw, const char *name, const int fds[2])
{
	struct wire_region_attached attached;
	int given[2];

	CHECK_OK(raw_adopt(raw, name, BYTES, BOTH, fds, 2, 2, &attached, given));
	close_pair(given);
}

static int adopt(struct raw *raw, int writable, int readable)
{
	const int fds[2] = { writable, readable };
	struct wire_region_attached attached;
	int given[2];

	return raw_adopt(raw, "other", BYTES, BOTH, fds, 2, 2, &attached, given);
}

/* systemd(1) keeps no descriptor twice, and drops the second one in silence. */
CASE(F03_no_descriptor_is_two_regions_where_they_are_stored, PRIVATE, .fd_store = 16)
{
	struct raw *raw = begun(broker);
	int fds[2], again[2];

	make_pair(fds, 0, BYTES);
	again[0] = open_again(fds[0], O_RDWR);
	again[1] = open_again(fds[0], O_RDONLY);
	adopt_well(raw, "first", fds);
	CHECK_CODE(adopt(raw, fds[0], fds[1]), SHMB_EBUSY);
	CHECK_CODE(adopt(raw, fds[0], again[1]), SHMB_EBUSY);
	CHECK_CODE(adopt(raw, again[0], fds[1]), SHMB_EBUSY);
	adopt_well(raw, "second", again);
	CHECK_INT(store_count(broker->store), broker_stat(broker, "stored_fds"));
	raw = raw_survive(broker, raw, 0);
	CHECK_INT(broker_stat(broker, "regions"), 2);
	CHECK_INT(store_count(broker->store), broker_stat(broker, "stored_fds"));
	CHECK_OK(raw_begin_adopt(raw));
	CHECK_CODE(adopt(raw, fds[0], fds[1]), SHMB_EBUSY);
	CHECK_OK(raw_remove(raw, "first", RAW_REGION));
	CHECK_OK(raw_remove(raw, "second", RAW_REGION));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	raw = begun(broker); /* now it can */
	adopt_well(raw, "third", fds);
	CHECK_INT(store_count(broker->store), broker_stat(broker, "stored_fds"));
	raw_free(raw);
	close_pair(fds);
	close_pair(again);
}

/* What a client was given of a memfd region is the broker's own description. */
CASE(F03_nor_is_memory_of_the_brokers_own, SYSTEM, .fd_store = 16)
{
	struct wire_region_attached attached, reader;
	struct raw *raw = begun(broker);
	int fds[2], readable[2];

	CHECK_OK(raw_create(raw, "own", BYTES, 0700, SHMB_PERSISTENT, &attached, fds));
	CHECK_OK(raw_open(raw, "own", SHMB_READ, &reader, readable));
	CHECK_CODE(adopt(raw, fds[0], readable[0]), SHMB_EBUSY);
	CHECK_INT(store_count(broker->store), broker_stat(broker, "stored_fds"));
	raw_free(raw);
	close_pair(fds);
	close_pair(readable);
}

/* Without a store there is nothing to be lost. */
CASE(F03_without_a_store_it_may_be, PRIVATE)
{
	struct raw *raw = begun(broker);
	int fds[2];

	make_pair(fds, 0, BYTES);
	adopt_well(raw, "first", fds);
	adopt_well(raw, "second", fds);
	raw_free(raw);
	close_pair(fds);
}
