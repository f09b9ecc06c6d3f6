/* SPDX-License-Identifier: MIT */
/*
 * Huge pages: of the pool, transparent, or neither; and whether the library's answer is the
 * kernel's. What the machine does not have is skipped; the pool is used as it is found, and nobody
 * changes its size here.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"
#include "smaps.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

enum { PAGE = 4096 };

static const char *const huge_fields[] = { "ShmemPmdMapped", "Shared_Hugetlb", "Private_Hugetlb" };

/* What is of huge pages, as the kernel writes it. */
static uint64_t huge_bytes(struct shmb_region *region)
{
	void *data = shmb_region_data(region);
	uint64_t bytes = 0;

	for (unsigned i = 0; i < 3; i++)
		bytes += smaps_bytes(data, shmb_region_size(region), huge_fields[i]);
	return bytes;
}

static struct shmb_region_options with_huge(enum shmb_huge huge, enum shmb_backing backing)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.huge = huge;
	options.backing = backing;
	return options;
}

static uint64_t huge_page(void)
{
	uint64_t bytes;

	(void)pool_free(&bytes);
	return bytes;
}

/* All that the pool has, until it is given back: then there is none. */
struct hog {
	void *data;
	size_t length;
};

static void hog_pool(struct hog *hog)
{
	uint64_t unit, pages;

	*hog = (struct hog){ 0 };
	while ((pages = pool_free(&unit)) > 0 && !hog->data) {
		hog->length = (size_t)(pages * unit);
		hog->data = mmap(NULL, hog->length, PROT_READ,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (hog->data == MAP_FAILED)
			hog->data = NULL; /* somebody else took some meanwhile */
	}
}

static void release_pool(const struct hog *hog)
{
	if (hog->data)
		CHECK_OK(munmap(hog->data, hog->length));
}

static void need_pool(uint64_t pages)
{
	uint64_t unit;

	if (!shmb_supports(SHMB_FEATURE_HUGETLB) || pool_free(&unit) < pages)
		SKIP("the pool of huge pages is empty");
}

/* One page more than it has. */
static uint64_t too_much_for_the_pool(void)
{
	uint64_t unit, pages = pool_free(&unit);

	return (pages + 1) * unit;
}

/* By hand, so that a library which cannot make them does not just skip what shows it. */
static bool can_collapse(void)
{
	size_t huge = huge_page();
	int fd = SYS(memfd_create("test", MFD_CLOEXEC));
	char *room = mmap(NULL, 2 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *data;
	bool can;

	CHECK(room != MAP_FAILED);
	CHECK_OK(ftruncate(fd, (off_t)huge));
	data = room + (-(uintptr_t)room & (huge - 1));
	CHECK(mmap(data, huge, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == data);
	data[0] = 1;
	can = madvise(data, huge, MADV_COLLAPSE) == 0;
	CHECK_OK(munmap(room, 2 * huge));
	close(fd);
	return can;
}

static void need_transparent(void)
{
	bool can = huge_page() > 0 && can_collapse();

#ifdef SHMB_TEST_GENERIC
	can = false;
#endif
	if (!can)
		SKIP("no transparent huge pages in shared memory");
	CHECK_INT(shmb_supports(SHMB_FEATURE_TRANSPARENT_HUGE), 1);
}

CASE(F09_the_answer_is_the_kernels, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 64 * PAGE, NULL);
	int told = shmb_supports(SHMB_FEATURE_HUGE_ANSWER);

	CHECK_INT(shmb_region_huge(region), SHMB_UNKNOWN); /* nothing is present */
	CHECK_OK(shmb_region_touch(region, 0, PAGE));
	CHECK_INT(huge_bytes(region), 0);
	CHECK_INT(shmb_region_huge(region), told ? SHMB_NO : SHMB_UNKNOWN);
	CHECK_OK(shmb_region_close(region));
	CHECK_CODE(shmb_region_huge(region), SHMB_ECLOSED);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void check_pool_region(struct shmb_region *region, uint64_t size)
{
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_HUGETLB);
	CHECK_INT(shmb_region_size(region), size);
	CHECK_OK(shmb_region_touch(region, 0, 0));
	CHECK_INT(huge_bytes(region), shmb_align_up(size, huge_page()));
	CHECK_INT(shmb_region_huge(region),
		  shmb_supports(SHMB_FEATURE_HUGE_ANSWER) ? SHMB_YES : SHMB_UNKNOWN);
}

CASE(F09_of_the_pool_where_it_has_some, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_TRY, SHMB_BACKING_DEFAULT);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *reader;
	unsigned char byte;

	need_pool(2);
	region = create(client, "r", huge_page() + 5000, &options); /* two pages */
	check_pool_region(region, huge_page() + 5000);
	reader = open_region(client, "r", SHMB_READ);
	CHECK_OK(shmb_region_write(region, huge_page() + 4999, "x", 1, 0));
	CHECK_OK(shmb_region_read_u8(reader, huge_page() + 4999, &byte));
	CHECK_INT(byte, 'x');
	CHECK_CODE(shmb_region_read(reader, huge_page() + 5000, &byte, 1, 0), SHMB_EBOUNDS);
	shmb_region_free(reader);
	shmb_region_free(region);

	options.huge = SHMB_HUGE_REQUIRE;
	region = create(client, "r", PAGE, &options);
	check_pool_region(region, PAGE);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Parts of it are whole huge pages, whatever one asks for. */
CASE(F09_pages_of_the_pool_can_be_told_what_others_can, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_DEFAULT, SHMB_BACKING_HUGETLB);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *ours;
	uint64_t huge = huge_page();
	unsigned char *data, byte;

	need_pool(3);
	region = create(client, "r", 2 * huge, &options);
	data = shmb_region_data(region);
	memset(data, 7, 2 * huge);
	CHECK_OK(shmb_region_protect(region, PAGE, PAGE, SHMB_PROTECT_READ));
	CHECK_STRING(smaps_protection(data), "r--s");
	CHECK_STRING(smaps_protection(data + huge), "rw-s");
	CHECK_OK(shmb_region_protect(region, 0, 0, SHMB_PROTECT_READ | SHMB_PROTECT_WRITE));
	CHECK_OK(shmb_region_pin(region, PAGE, PAGE));
	CHECK_OK(shmb_region_unpin(region, PAGE, PAGE));
	CHECK_OK(shmb_region_flush(region, PAGE, PAGE, 0));
	if (shmb_supports_advice(SHMB_ADVICE_REMOVE)) {
		CHECK_OK(shmb_region_advise(region, huge - 1, huge + 1, SHMB_ADVICE_REMOVE));
		CHECK_INT(data[huge - 2], 7);
		CHECK_INT(data[huge - 1], 0);
		CHECK_INT(data[2 * huge - 1], 0);
	}
	options = with_huge(SHMB_HUGE_DEFAULT, SHMB_BACKING_DEFAULT);
	options.flags = SHMB_PRIVATE;
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ, &options, &ours));
	CHECK_OK(shmb_region_read_u8(ours, 1, &byte));
	CHECK_INT(byte, 7);
	shmb_region_free(ours);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Never fails for the want of them, and leaves nothing of the attempt. */
CASE(F09_without_a_pool_something_else_will_do, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_TRY, SHMB_BACKING_DEFAULT);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL, *again = NULL, *other = NULL, *none = NULL;
	struct hog hog;

	hog_pool(&hog);
	CHECK_OK(shmb_region_create(client, "r", 3 * PAGE, &options, &region));
	CHECK(shmb_region_backing(region) != SHMB_BACKING_HUGETLB);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_INT(error.code, 0);
	CHECK_INT(shmb_region_capacity(region), 3 * PAGE); /* too small to be worth a huge page */
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_INT(shmb_region_open_or_create(client, "r", PAGE, &options, &again), 0);
	CHECK_INT(shmb_region_size(again), 3 * PAGE);
	UNTIL(broker, broker_stat(broker, "attachments") == 2);
	CHECK_INT(shmb_region_open_or_create(client, "other", huge_page() + 1, &options, &other),
		  1);
	CHECK(shmb_region_backing(other) != SHMB_BACKING_HUGETLB);
	if (shmb_supports_advice(SHMB_ADVICE_HUGEPAGE)) /* the next best ones are asked for */
		CHECK(smaps_flag(shmb_region_data(other), huge_page() + 1, "hg"));
	CHECK_CODE(shmb_region_create(client, "r", PAGE, &options, &none), SHMB_EEXIST);
	CHECK_INT(shmb_supports(SHMB_FEATURE_HUGETLB), 0);
	options.backing = SHMB_BACKING_HUGETLB; /* these or none */
	options.huge = SHMB_HUGE_DEFAULT;
	CHECK_CODE(shmb_region_create(client, "pool", PAGE, &options, &none), SHMB_ENOMEM);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_STRING(error.what, "huge pages");
	UNTIL(broker, broker_stat(broker, "regions") == 2);
	release_pool(&hog);
	shmb_region_free(other);
	shmb_region_free(again);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* It has some, and not enough: the broker makes the region, mapping fails, and another is made. */
CASE(F09_with_too_small_a_pool_something_else_will_do, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_TRY, SHMB_BACKING_DEFAULT);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_client *client = connect_to(broker);
	uint64_t size = too_much_for_the_pool();
	struct shmb_region *region;

	need_pool(1);
	region = create(client, "r", size, &options);
	CHECK(shmb_region_backing(region) != SHMB_BACKING_HUGETLB);
	CHECK_INT(shmb_region_size(region), size);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_INT(error.code, 0); /* nothing has failed */
	CHECK_OK(shmb_region_write_u8(region, size - 1, 1));
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void take_region(int status, struct shmb_region *region, void *userdata)
{
	CHECK_INT(status, 1);
	*(struct shmb_region **)userdata = region;
}

CASE(F09_without_waiting_it_is_the_same, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_TRY, SHMB_BACKING_DEFAULT);
	struct shmb_client *client = connect_to(broker);
	struct pollfd ready = { .fd = shmb_client_get_fd(client), .events = POLLIN };
	uint64_t size = too_much_for_the_pool();
	struct shmb_region *region = NULL;
	int n = 0;

	need_pool(1);
	CHECK_OK(shmb_region_create_async(client, "r", size, &options, take_region, &region));
	while (n == 0) {
		CHECK_INT(poll(&ready, 1, 10000), 1);
		n = shmb_client_process(client);
	}
	CHECK_INT(n, 1);
	CHECK(region);
	CHECK(shmb_region_backing(region) != SHMB_BACKING_HUGETLB);
	CHECK_INT(shmb_region_size(region), size);
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F09_required_without_a_pool_all_of_it_is_transparent, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_REQUIRE, SHMB_BACKING_DEFAULT);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;
	struct hog hog;

	need_transparent();
	hog_pool(&hog);
	CHECK_OK(shmb_region_create(client, "r", huge_page() + 1, &options, &region));
	release_pool(&hog);
	CHECK(shmb_region_backing(region) != SHMB_BACKING_HUGETLB);
	CHECK_INT(shmb_region_size(region), huge_page() + 1);
	CHECK_INT(shmb_region_capacity(region), 2 * huge_page()); /* whole pages */
	CHECK_INT(smaps_bytes(shmb_region_data(region), 2 * huge_page(), "ShmemPmdMapped"),
		  2 * huge_page());
	CHECK_INT(shmb_region_huge(region), SHMB_YES);
	/* One page of another kind, and it is not any more. */
	CHECK_OK(shmb_region_advise(region, 0, huge_page(), SHMB_ADVICE_REMOVE));
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK(huge_bytes(region) == huge_page() || huge_bytes(region) == 2 * huge_page());
	CHECK_INT(shmb_region_huge(region),
		  huge_bytes(region) == 2 * huge_page() ? SHMB_YES : SHMB_NO);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Even where the system makes none by itself. */
CASE(F09_populated_without_a_pool_it_is_transparent, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_TRY, SHMB_BACKING_MEMFD);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	need_transparent();
	options.flags = SHMB_POPULATE;
	region = create(client, "r", 2 * huge_page(), &options);
	CHECK_INT(huge_bytes(region), 2 * huge_page());
	CHECK_INT(shmb_region_huge(region), SHMB_YES);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Whether a file can be is the file system's affair: it is, or there is no region. */
CASE(F09_required_of_a_file_is_true_or_refused, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_REQUIRE, SHMB_BACKING_FILE);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;
	int result;

	options.path = broker_path(broker, "file");
	options.file_flags = SHMB_FILE_CREATE;
	result = shmb_region_create(client, "r", huge_page(), &options, &region);
	if (result != 0)
		CHECK_CODE(result, SHMB_ENOTSUP);
	else
		CHECK_INT(shmb_region_huge(region), SHMB_YES);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(F09_required_at_open_of_what_is_not_huge_yet, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_REQUIRE, SHMB_BACKING_DEFAULT);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 2 * huge_page(), NULL), *reader = NULL;
	unsigned char byte;

	need_transparent();
	memset(shmb_region_data(region), 3, 2 * huge_page());
	CHECK_INT(shmb_region_huge(region), SHMB_NO);
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ, &options, &reader));
	CHECK_INT(shmb_region_huge(reader), SHMB_YES);
	CHECK_INT(huge_bytes(reader), 2 * huge_page());
	CHECK_OK(shmb_region_read_u8(reader, 2 * huge_page() - 1, &byte));
	CHECK_INT(byte, 3);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F09_required_and_impossible_is_unsupported, PRIVATE)
{
	struct shmb_region_options options = with_huge(SHMB_HUGE_REQUIRE, SHMB_BACKING_MEMFD);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *none = NULL;

	options.capacity = 3 * PAGE; /* no whole number of huge pages */
	CHECK_CODE(shmb_region_create(client, "r", PAGE, &options, &none), SHMB_ENOTSUP);
	CHECK(!none);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_STRING(error.what, "huge");
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	options.flags = SHMB_NO_ACCESS;
	CHECK_CODE(shmb_region_create(client, "r", PAGE, &options, &none), SHMB_EINVAL);
	shmb_client_free(client);
}
