/* SPDX-License-Identifier: MIT */
/*
 * Pages of a mapping: presence and pinning. What is true of them is asked of the kernel, never of
 * the library.
 */
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "harness.h"
#include "smaps.h"

enum { PAGE = 4096, PAGES = 256, SIZE = PAGES * PAGE };

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

static struct shmb_error last_of_client(struct shmb_client *client)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_client_last_error(client, &error));
	return error;
}

static struct shmb_region_options with_flags(unsigned flags)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.flags = flags;
	return options;
}

static struct shmb_region *create_with(struct shmb_client *client, const char *name, unsigned flags)
{
	struct shmb_region_options options = with_flags(flags);

	return create(client, name, SIZE, &options);
}

static uint64_t mapped_bytes(struct shmb_region *region)
{
	return smaps_bytes(shmb_region_data(region), SIZE, "Rss");
}

/* ---- F13 ---- */

CASE(F13_page_size_and_align_up, PRIVATE)
{
	uint64_t page = shmb_page_size();

	CHECK_INT(page, sysconf(_SC_PAGESIZE));
	CHECK_INT(shmb_align_up(0, page), 0);
	CHECK_INT(shmb_align_up(1, page), page);
	CHECK_INT(shmb_align_up(page, page), page);
	CHECK_INT(shmb_align_up(page + 1, page), 2 * page);
	CHECK_INT(shmb_align_up(17, 1), 17);
	CHECK_INT(shmb_align_up(17, 8), 24);
	CHECK_INT(shmb_align_up(17, 0), 0);
	CHECK_INT(shmb_align_up(17, 24), 0); /* no power of two */
	CHECK(shmb_align_up(UINT64_MAX - 4095, 4096) == UINT64_MAX - 4095);
	CHECK_INT(shmb_align_up(UINT64_MAX - 4094, 4096), 0); /* there is no such number */
	CHECK_INT(shmb_align_up(1, UINT64_C(1) << 63) >> 63, 1);
}

/* ---- F07: presence ---- */

CASE(F07_nothing_is_present_before_it_is_touched, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", 0);

	CHECK_INT(resident(shmb_region_data(region), SIZE), 0);
	CHECK_INT(mapped_bytes(region), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F07_populate_makes_all_present_at_create_and_open, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = with_flags(SHMB_POPULATE);
	struct shmb_region *region = create_with(client, "r", SHMB_POPULATE), *again, *reader;

	CHECK_INT(resident(shmb_region_data(region), SIZE), PAGES);
	CHECK_INT(mapped_bytes(region), SIZE);
	again = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	CHECK_INT(mapped_bytes(again), 0); /* of this handle nothing is in the page table */
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ, &options, &reader));
	CHECK_INT(mapped_bytes(reader), SIZE);
	shmb_region_free(reader);
	shmb_region_free(again);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F07_populate_stops_at_the_size, PRIVATE)
{
	struct shmb_region_options options = with_flags(SHMB_POPULATE);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	options.capacity = SIZE;
	region = create(client, "r", 10 * PAGE + 1, &options);
	CHECK_INT(resident(shmb_region_data(region), SIZE), 11);
	shmb_region_free(region);
	options.flags = 0;
	region = create(client, "r", 10 * PAGE + 1, &options);
	CHECK_OK(shmb_region_touch(region, 5 * PAGE, 0)); /* and so does the rest */
	CHECK_INT(resident(shmb_region_data(region), SIZE), 6);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F07_touch_a_range_later, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", 0);
	unsigned char *data = shmb_region_data(region);

	CHECK_OK(shmb_region_touch(region, 3 * PAGE + 5, PAGE)); /* two pages */
	CHECK_INT(resident(data, SIZE), 2);
	CHECK_INT(resident(data + 3 * PAGE, 2 * PAGE), 2);
	CHECK_INT(mapped_bytes(region), 2 * PAGE);
	CHECK_OK(shmb_region_touch(region, 250 * PAGE, 0)); /* all behind */
	CHECK_INT(resident(data, SIZE), 2 + 6);
	CHECK_OK(shmb_region_touch(region, SIZE, 0)); /* nothing */
	CHECK_CODE(shmb_region_touch(region, SIZE - 1, 2), SHMB_EBOUNDS);
	CHECK_INT(last(region).offset, SIZE - 1);
	CHECK_INT(last(region).size, SIZE);
	CHECK_CODE(shmb_region_touch(region, SIZE + 1, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_touch(region, UINT64_MAX, 2), SHMB_EBOUNDS);
	CHECK_INT(resident(data, SIZE), 8);
	CHECK_OK(shmb_region_close(region));
	CHECK_CODE(shmb_region_touch(region, 0, 0), SHMB_ECLOSED);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* For writing, too: the next write takes no page fault. */
/* What sanitizers note of an access has pages of its own, which fault. */
#ifdef __clang__
__attribute__((no_sanitize("thread", "address")))
#endif
static void
write_without_watch(volatile unsigned char *data)
{
	for (size_t i = 0; i < SIZE; i += PAGE)
		data[i] = 1;
}

CASE(F07_touched_pages_take_no_fault, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", 0);
	volatile unsigned char *data = shmb_region_data(region);
	struct rusage before, after;

	CHECK_OK(shmb_region_touch(region, 0, 0));
	CHECK_OK(getrusage(RUSAGE_THREAD, &before));
	write_without_watch(data);
	CHECK_OK(getrusage(RUSAGE_THREAD, &after));
	CHECK(after.ru_minflt - before.ru_minflt < PAGES / 4);
	shmb_region_free(region);
	region = create_with(client, "r", SHMB_POPULATE);
	data = shmb_region_data(region);
	CHECK_OK(getrusage(RUSAGE_THREAD, &before));
	write_without_watch(data);
	CHECK_OK(getrusage(RUSAGE_THREAD, &after));
	CHECK(after.ru_minflt - before.ru_minflt < PAGES / 4);
	shmb_region_free(region);
	shmb_client_free(client);
}

struct counter {
	struct shmb_region *region;
	_Atomic bool stop;
	uint64_t counts[PAGES];
};

static void *count_in_every_page(void *argument)
{
	struct counter *counter = argument;
	unsigned char *data = shmb_region_data(counter->region);
	size_t i;

	while (!atomic_load(&counter->stop))
		for (i = 0; i < PAGES; i++) {
			__atomic_fetch_add((uint64_t *)(void *)(data + i * PAGE), 1,
					   __ATOMIC_RELAXED);
			counter->counts[i]++;
		}
	return NULL;
}

CASE(F07_touching_loses_nobodys_write, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct counter counter = { .region = create_with(client, "r", 0) };
	pthread_t thread;
	uint64_t value;
	size_t i;

	CHECK_OK(pthread_create(&thread, NULL, count_in_every_page, &counter));
	for (i = 0; i < 300; i++)
		CHECK_OK(shmb_region_touch(counter.region, 0, 0));
	atomic_store(&counter.stop, true);
	CHECK_OK(pthread_join(thread, NULL));
	for (i = 0; i < PAGES; i++) {
		CHECK_OK(shmb_region_read_u64(counter.region, i * PAGE, &value));
		CHECK_INT(value, counter.counts[i]);
	}
	shmb_region_free(counter.region);
	shmb_client_free(client);
}

CASE(F07_no_memory_is_an_error_not_a_signal, PRIVATE, .shm_mount = "size=512k")
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = with_flags(SHMB_POPULATE);
	struct shmb_region *region, *none = NULL;

	CHECK_CODE(shmb_region_create(client, "r", SIZE, &options, &none), SHMB_EBUS);
	CHECK(!none);
	CHECK_STRING(last_of_client(client).what, "SHMB_POPULATE");
	/* Nor does anything stay mapped, if it was told to. */
	options.address = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(options.address != MAP_FAILED);
	CHECK_OK(munmap(options.address, 2 * SIZE));
	options.flags |= SHMB_FIXED | SHMB_STAY_MAPPED;
	CHECK_CODE(shmb_region_create(client, "r", SIZE, &options, &none), SHMB_EBUS);
	CHECK_STRING(smaps_protection(options.address), "");
	UNTIL(broker, broker_stat(broker, "regions") == 0); /* it was given back */
	region = create_with(client, "r", 0);
	CHECK_CODE(shmb_region_touch(region, 0, 0), SHMB_EBUS);
	CHECK_STRING(last(region).what, "touch");
	CHECK_OK(shmb_region_touch(region, 0, PAGE));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F07_what_may_not_be_touched_is_an_error, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	if (shmb_supports(SHMB_FEATURE_POPULATE) != 1)
		SKIP("pages have to be touched one by one");
	options.flags = SHMB_NO_ACCESS;
	region = create(client, "r", 4 * PAGE, &options);
	CHECK_CODE(shmb_region_touch(region, 0, 0), SHMB_EACCES);
	CHECK_CODE(shmb_region_pin(region, 0, 0), SHMB_EACCES);
	CHECK_OK(shmb_region_protect(region, 0, 0, SHMB_PROTECT_READ));
	CHECK_CODE(shmb_region_touch(region, 0, 0), SHMB_EACCES); /* for writing, too */
	CHECK_OK(shmb_region_protect(region, 0, 0, SHMB_PROTECT_READ | SHMB_PROTECT_WRITE));
	CHECK_OK(shmb_region_touch(region, 0, 0));
	shmb_region_free(region);
	shmb_client_free(client);
}

static struct shmb_region *create_of_file(struct broker *broker, struct shmb_client *client,
					  unsigned flags)
{
	struct shmb_region_options options = with_flags(flags);

	options.backing = SHMB_BACKING_FILE;
	options.path = broker_path(broker, "file");
	options.file_flags = flags & SHMB_PRIVATE ? 0 : SHMB_FILE_CREATE;
	return create(client, NULL, SIZE, &options);
}

static uint64_t dirty_bytes(struct shmb_region *region)
{
	const void *data = shmb_region_data(region);

	return smaps_bytes(data, SIZE, "Private_Dirty") + smaps_bytes(data, SIZE, "Shared_Dirty");
}

/* All of them would have to be written to the disk. */
CASE(F07_a_file_does_not_become_dirty_by_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_of_file(broker, client, 0), *populated;
	struct statfs status;

	CHECK_OK(fstatfs(shmb_region_fd(region), &status));
	if (status.f_type == TMPFS_MAGIC)
		SKIP("the file is on no disk");
	CHECK_OK(shmb_region_touch(region, 0, 0));
	CHECK_INT(mapped_bytes(region), SIZE);
	CHECK_INT(dirty_bytes(region), 0);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_INT(dirty_bytes(region), PAGE);
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	populated = create_of_file(broker, client, SHMB_POPULATE);
	CHECK_INT(mapped_bytes(populated), SIZE);
	CHECK_INT(dirty_bytes(populated), 0);
	shmb_region_free(populated);
	shmb_region_free(region);
	shmb_client_free(client);
}

static uint64_t copied_bytes(struct shmb_region *region)
{
	return smaps_bytes(shmb_region_data(region), SIZE, "Anonymous");
}

/* Whose pages nobody has to write anywhere. */
CASE(F07_a_private_handle_gets_copies_of_a_file_too, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *shared = create_of_file(broker, client, 0);
	struct shmb_region *region = create_of_file(broker, client, SHMB_PRIVATE), *populated;

	CHECK_OK(shmb_region_touch(region, PAGE, 2 * PAGE));
	CHECK_INT(copied_bytes(region), 2 * PAGE);
	populated = create_of_file(broker, client, SHMB_PRIVATE | SHMB_POPULATE);
	CHECK_INT(copied_bytes(populated), SIZE);
	CHECK_OK(shmb_region_write_u8(shared, 5 * PAGE, 7)); /* which they show no more */
	CHECK_INT(*((unsigned char *)shmb_region_data(populated) + 5 * PAGE), 0);
	shmb_region_free(populated);
	shmb_region_free(region);
	shmb_region_free(shared);
	shmb_client_free(client);
}

CASE(F07_whether_it_is_supported_can_be_asked, PRIVATE)
{
	bool known = madvise(NULL, 0, MADV_POPULATE_READ) == 0;

#ifdef SHMB_TEST_GENERIC
	known = false;
#endif
	CHECK_INT(shmb_supports(SHMB_FEATURE_POPULATE), known);
	CHECK_CODE(shmb_supports((enum shmb_feature)0), SHMB_EINVAL);
	CHECK_CODE(shmb_supports((enum shmb_feature)1000), SHMB_EINVAL);
}

/* ---- F08: pinning ---- */

static uint64_t pinned_bytes(struct shmb_region *region)
{
	return smaps_bytes(shmb_region_data(region), SIZE, "Locked");
}

CASE(F08_pin_whole_and_ranges, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", 0);
	unsigned char *data = shmb_region_data(region);

	CHECK_INT(shmb_supports(SHMB_FEATURE_PIN), 1);
	CHECK_OK(shmb_region_pin(region, PAGE + 1, 2 * PAGE)); /* three pages */
	CHECK(smaps_flag(data + PAGE, 3 * PAGE, "lo"));
	CHECK(!smaps_flag(data, PAGE, "lo"));
	CHECK(!smaps_flag(data + 4 * PAGE, PAGE, "lo"));
	CHECK_INT(pinned_bytes(region), 3 * PAGE);
	CHECK_OK(shmb_region_pin(region, 0, 0));
	CHECK_INT(pinned_bytes(region), SIZE);
	CHECK_INT(resident(data, SIZE), PAGES);
	CHECK_OK(shmb_region_unpin(region, 0, PAGE));
	CHECK_INT(pinned_bytes(region), SIZE - PAGE);
	CHECK_OK(shmb_region_unpin(region, 0, 0)); /* both pins of the three */
	CHECK_INT(pinned_bytes(region), 0);
	CHECK_CODE(shmb_region_pin(region, 1, SIZE), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_unpin(region, 1, SIZE), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_pin(region, SIZE, 0));
	CHECK_INT(pinned_bytes(region), 0);
	CHECK_OK(shmb_region_close(region));
	CHECK_CODE(shmb_region_pin(region, 0, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_unpin(region, 0, 0), SHMB_ECLOSED);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F08_pin_at_create_and_open, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = with_flags(SHMB_PIN);
	struct shmb_region *region = create_with(client, "r", SHMB_PIN), *reader;

	CHECK_INT(pinned_bytes(region), SIZE);
	CHECK_OK(shmb_region_unpin(region, 0, 0));
	CHECK_INT(pinned_bytes(region), 0);
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ, &options, &reader));
	CHECK(smaps_flag(shmb_region_data(reader), SIZE, "lo"));
	CHECK_INT(mapped_bytes(reader), SIZE);
	CHECK_INT(pinned_bytes(reader), SIZE / 2); /* counted as half a page where two map it */
	CHECK_OK(shmb_region_unpin(reader, 0, 0));
	CHECK_INT(pinned_bytes(reader), 0);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void grow(struct shmb_region *region, uint64_t size)
{
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
	CHECK_OK(shmb_region_resize(region, size));
	CHECK_OK(shmb_region_unlock(region));
}

/* What was asked for with the handle holds for the memory that it goes on in, too. */
CASE(F07_populated_memory_that_grows_is_populated, PRIVATE)
{
	struct shmb_region_options options = with_flags(SHMB_POPULATE);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", SHMB_POPULATE), *reader;

	CHECK_OK(shmb_region_open(client, "r", SHMB_READ, &options, &reader));
	grow(region, 2 * SIZE);
	CHECK_INT(smaps_bytes(shmb_region_data(region), 2 * SIZE, "Rss"), 2 * SIZE);
	CHECK_INT(smaps_bytes(shmb_region_data(reader), 2 * SIZE, "Rss"), 2 * SIZE);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F08_pinned_memory_that_grows_is_pinned, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", SHMB_PIN);

	grow(region, 2 * SIZE);
	CHECK_INT(smaps_bytes(shmb_region_data(region), 2 * SIZE, "Locked"), 2 * SIZE);
	CHECK_OK(shmb_region_unpin(region, 0, 0));
	CHECK_INT(smaps_bytes(shmb_region_data(region), 2 * SIZE, "Locked"), 0);
	shmb_region_free(region);
	region = create_with(client, "r", 0);
	CHECK_OK(shmb_region_pin(region, 0, 0)); /* which is of this memory alone */
	grow(region, 2 * SIZE);
	CHECK_INT(smaps_bytes(shmb_region_data(region), 2 * SIZE, "Locked"), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void limit_pinning(rlim_t bytes)
{
	const struct rlimit limit = { bytes, bytes };

	CHECK_OK(setrlimit(RLIMIT_MEMLOCK, &limit));
}

static void check_limit(const struct shmb_error *error, uint64_t limit)
{
	char sentence[256], number[32];

	CHECK_CODE(error->code, SHMB_EDQUOT);
	CHECK_INT(error->limit, limit);
	CHECK_STRING(error->what, "RLIMIT_MEMLOCK");
	shmb_error_format(error, sentence, sizeof(sentence));
	snprintf(number, sizeof(number), "%llu", (unsigned long long)limit);
	CHECK(strstr(sentence, "RLIMIT_MEMLOCK") && strstr(sentence, number));
}

/* Who may not lock more than so much; root may. */
static void pin_too_much(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = with_flags(SHMB_PIN);
	struct shmb_region *region = create_with(client, "r", 0), *none = NULL;
	struct shmb_error error;

	limit_pinning(16 * PAGE);
	CHECK_CODE(shmb_region_pin(region, 0, 0), SHMB_EDQUOT);
	error = last(region);
	check_limit(&error, 16 * PAGE);
	CHECK_INT(error.length, SIZE);
	CHECK_INT(pinned_bytes(region), 0);
	CHECK_INT(mapped_bytes(region), 0);

	/* What is pinned already counts. */
	CHECK_OK(shmb_region_pin(region, 0, 10 * PAGE));
	CHECK_CODE(shmb_region_pin(region, 20 * PAGE, 10 * PAGE), SHMB_EDQUOT);
	error = last(region);
	check_limit(&error, 16 * PAGE);
	CHECK_INT(error.offset, 20 * PAGE);
	CHECK_INT(pinned_bytes(region), 10 * PAGE);
	CHECK_OK(shmb_region_pin(region, 20 * PAGE, 6 * PAGE));

	/* At open and create: nothing is left of it. */
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, &options, &none), SHMB_EDQUOT);
	error = last_of_client(client);
	check_limit(&error, 16 * PAGE);
	CHECK_CODE(shmb_region_create(client, "new", SIZE, &options, &none), SHMB_EDQUOT);
	CHECK(!none);
	CHECK_CODE(shmb_region_open(client, "new", SHMB_READ, NULL, &none), SHMB_ENOENT);

	CHECK_OK(shmb_region_unpin(region, 0, 0));
	limit_pinning(0);
	CHECK_CODE(shmb_region_pin(region, 0, PAGE), SHMB_EDQUOT);
	CHECK_INT(shmb_supports(SHMB_FEATURE_PIN), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F08_too_low_a_limit_is_named, SYSTEM)
{
	actor_run(broker, &ALICE, pin_too_much, NULL);
}

CASE(F08_no_memory_is_not_the_limit, PRIVATE, .shm_mount = "size=512k")
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with(client, "r", 0);
	int result = shmb_region_pin(region, 0, 0);

#ifdef SHMB_TEST_GENERIC
	CHECK_CODE(result, SHMB_ENOMEM);
#else
	CHECK_CODE(result, SHMB_EBUS);
#endif
	CHECK_STRING(last(region).what, "pin");
	CHECK_INT(pinned_bytes(region), 0);
	CHECK(!smaps_flag(shmb_region_data(region), SIZE, "lo"));
	shmb_region_free(region);
	shmb_client_free(client);
}
