/* SPDX-License-Identifier: MIT */
/*
 * Growing beyond the capacity: who follows and when, what is kept, and who is refused. With
 * readers, writers and holders of views at work, and whoever grows killed in the middle.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"
#include "layout/snapshot.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static struct shmb_region *make(struct shmb_client *client, uint64_t size,
				enum shmb_backing backing, unsigned flags)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = backing;
	options.flags = flags;
	return create(client, "r", size, &options);
}

static void grow(struct shmb_region *region, uint64_t size)
{
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
	CHECK_OK(shmb_region_resize(region, size));
	CHECK_OK(shmb_region_unlock(region));
}

static void fill(struct shmb_region *region, uint64_t from, uint64_t to, uint8_t seed)
{
	for (uint64_t i = from; i < to; i += 64)
		CHECK_OK(shmb_region_write_u8(region, i, (uint8_t)(seed + i / 64)));
}

static void check(struct shmb_region *region, uint64_t from, uint64_t to, uint8_t seed)
{
	uint8_t byte = 0;

	for (uint64_t i = from; i < to; i += 64) {
		CHECK_OK(shmb_region_read_u8(region, i, &byte));
		if (byte != (uint8_t)(seed + i / 64))
			FAIL("byte %llu is %u", (unsigned long long)i, byte);
	}
}

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

/* Bytes of memory behind a descriptor. */
static uint64_t memory_of(int fd)
{
	struct stat status;

	SYS(fstat(fd, &status));
	return (uint64_t)status.st_blocks * 512;
}

/* ---- One after the other ---- */

static void grow_and_look(struct broker *broker, enum shmb_backing backing)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	uint64_t bytes = broker_stat(broker, "bytes");
	struct shmb_region *region = make(client, 3 * PAGE, backing, SHMB_KEEP_FD);
	struct shmb_region *reader = open_region(other, "r", SHMB_READ);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	int fd = shmb_region_fd(region);
	char *before = shmb_region_data(region), byte;

	fill(region, 0, 3 * PAGE, 1);
	grow(region, 5 * MIB);
	CHECK_INT(shmb_region_size(region), 5 * MIB);
	CHECK_INT(shmb_region_capacity(region), 5 * MIB);
	CHECK((char *)shmb_region_data(region) != before);
	check(region, 0, 3 * PAGE, 1);
	CHECK_OK(shmb_region_write_u32(region, 5 * MIB - 4, 77));
	CHECK_CODE(shmb_region_write_u32(region, 5 * MIB - 3, 77), SHMB_EBOUNDS);

	/* The other follows at its next call, whichever that is. */
	CHECK_INT(shmb_region_size(reader), 5 * MIB);
	CHECK_INT(shmb_region_capacity(reader), 5 * MIB);
	check(reader, 0, 3 * PAGE, 1);
	CHECK_OK(shmb_region_read(reader, 3 * PAGE, &byte, 1, 0));
	CHECK_INT(byte, 0);
	CHECK(memcmp(shmb_region_data(reader), shmb_region_data(region), 5 * MIB) == 0);

	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.size, 5 * MIB);
	CHECK_INT(info.capacity, 5 * MIB);
	/* The descriptor's number stays, and is of the new segment. What was zeros takes none of
	 * its memory. */
	CHECK_INT(shmb_region_fd(region), fd);
	CHECK_INT(lseek(fd, 0, SEEK_END), 5 * MIB);
	CHECK(pread(fd, &byte, 1, 64) == 1 && byte == 2);

	/* Within the capacity nothing moves, and no lock is needed. */
	before = shmb_region_data(region);
	CHECK_OK(shmb_region_resize(region, PAGE));
	CHECK_OK(shmb_region_resize(region, 2 * MIB));
	CHECK(shmb_region_data(region) == before);
	check(reader, 0, PAGE, 1);
	shmb_region_free(reader);
	shmb_region_free(region);
	UNTIL(broker, broker_stat(broker, "bytes") == bytes); /* of both segments */
	shmb_client_free(other);
	shmb_client_free(client);
}

CASE(F33_growing_beyond_the_capacity_of_shm, PRIVATE)
{
	grow_and_look(broker, SHMB_BACKING_SHM);
}

CASE(F33_growing_beyond_the_capacity_of_a_memfd, PRIVATE)
{
	grow_and_look(broker, SHMB_BACKING_MEMFD);
}

CASE(F33_what_a_failed_growth_took_comes_back, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, 2 * PAGE, SHMB_BACKING_SHM, SHMB_KEEP_FD);
	uint64_t bytes;

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
	bytes = broker_stat(broker, "bytes");
	SYS(ftruncate(shmb_region_fd(region), 0)); /* nothing can be copied from it */
	CHECK_CODE(shmb_region_resize(region, 64 * MIB), SHMB_EBUS);
	CHECK_OK(shmb_client_ping(client));
	CHECK_INT(broker_stat(broker, "bytes"), bytes);
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* The segment has its size before anything is copied to it: no file becomes longer. */
CASE(F33_a_limit_of_file_sizes_is_no_signal, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, 8 * PAGE, 0, 0);
	struct rlimit before, limit;

	fill(region, 0, 8 * PAGE, 5);
	SYS(getrlimit(RLIMIT_FSIZE, &before));
	limit = before;
	limit.rlim_cur = 3 * PAGE + 5;
	SYS(setrlimit(RLIMIT_FSIZE, &limit));
	grow(region, 16 * PAGE);
	SYS(setrlimit(RLIMIT_FSIZE, &before));
	check(region, 0, 8 * PAGE, 5);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F33_what_is_sparse_stays_so, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, 64 * MIB, 0, SHMB_KEEP_FD);

	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_OK(shmb_region_write_u8(region, 32 * MIB, 2));
	grow(region, 65 * MIB);
	CHECK(memory_of(shmb_region_fd(region)) <= 4 * PAGE);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F33_growing_takes_the_lock_and_the_right_to_write, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, PAGE, 0, 0);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ | SHMB_LOCK);
	struct shmb_region *other = open_region(client, "r", SHMB_READ | SHMB_WRITE);

	CHECK_CODE(shmb_region_resize(region, 2 * PAGE), SHMB_EDEADLK);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_CODE(shmb_region_resize(region, 2 * PAGE), SHMB_EDEADLK);
	CHECK_CODE(last(region).code, SHMB_EDEADLK);
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_CODE(shmb_region_resize(other, 2 * PAGE), SHMB_EDEADLK);
	CHECK_CODE(shmb_region_resize(reader, 2 * PAGE), SHMB_EMODE);
	CHECK_CODE(shmb_region_resize(region, (uint64_t)1 << 62), SHMB_EFBIG);
	CHECK_INT(shmb_region_capacity(region), PAGE);
	CHECK_OK(shmb_region_write_u8(region, 0, 1)); /* as before */
	CHECK_OK(shmb_region_resize(region, 2 * PAGE));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_INT(shmb_region_size(other), 2 * PAGE);
	shmb_region_free(region);
	shmb_region_free(reader);
	shmb_region_free(other);
	shmb_client_free(client);
}

CASE(F33_views_show_the_old_segment_until_they_are_released, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, 8 * MIB, 0, SHMB_KEEP_FD);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_view view, later;
	unsigned char present = 1;
	int old = SYS(fcntl(shmb_region_fd(region), F_DUPFD_CLOEXEC, 0));
	struct stat status;
	char *data;

	fill(region, 0, 8 * MIB, 3);
	CHECK_OK(shmb_region_view(reader, 64, PAGE, 0, SHMB_READ, &view));
	data = view.data;
	grow(region, 9 * MIB);
	CHECK_OK(shmb_region_write_u8(region, 64, 99));
	CHECK_INT(shmb_region_size(reader), 9 * MIB); /* it has followed */
	CHECK_INT(*(uint8_t *)view.data, 4);
	CHECK_OK(shmb_region_view(reader, 64, PAGE, 0, SHMB_READ, &later));
	CHECK(later.data != view.data);
	CHECK_INT(*(uint8_t *)later.data, 99);
	CHECK_OK(shmb_view_release(&later));
	CHECK_INT(*(uint8_t *)view.data, 4);
	CHECK_OK(shmb_view_release(&view));
	/* Let go of: a racing thread would find zeros there, of nobody's memory. */
	CHECK_INT(*data, 0);
	CHECK(mincore((void *)((uintptr_t)data & ~(uintptr_t)(PAGE - 1)), PAGE, &present) == 0);
	SYS(fstat(old, &status));
	CHECK_INT(status.st_nlink, 0); /* nobody but us has it */
	close(old);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

static uint64_t shared_memory_in_use(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	unsigned long long kib, sum = 0;
	char line[256];

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Pss_Shmem: %llu kB", &kib) == 1)
			sum += kib * 1024;
	fclose(file);
	return sum;
}

CASE(F33_old_segments_go_when_everybody_has_followed, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, 4 * MIB, 0, 0);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	uint64_t before;

	fill(region, 0, 4 * MIB, 1);
	check(reader, 0, 4 * MIB, 1);
	before = shared_memory_in_use();
	for (uint64_t i = 1; i <= 20; i++) {
		grow(region, 4 * MIB + i * PAGE);
		check(reader, 0, 4 * MIB, 1);
	}
	check(region, 0, 4 * MIB, 1);
	CHECK(shared_memory_in_use() < before + 2 * MIB);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Closing in the middle ---- */

/* Closed by another thread while the next descriptor takes the place of its own. */
static struct closing {
	struct shmb_region *region;
	pthread_t thread;
	_Atomic pid_t task;
	bool given_away; /* the number was free for others before that */
} closing;

static void *close_region(void *argument)
{
	atomic_store(&closing.task, gettid());
	CHECK_OK(shmb_region_close(argument));
	return NULL;
}

/* Before libc's; the rest of the program is hidden. */
__attribute__((visibility("default"))) int dup3(int from, int to, int flags)
{
	struct shmb_region *region = closing.region;
	int other;

	closing.region = NULL;
	if (region) {
		CHECK_INT(pthread_create(&closing.thread, NULL, close_region, region), 0);
		while (atomic_load(&closing.task) == 0 || shmb_region_is_valid(region))
			sched_yield();
		await_asleep(atomic_load(&closing.task)); /* until we are done here */
		other = SYS(fcntl(from, F_DUPFD_CLOEXEC, to));
		closing.given_away = other == to;
		close(other);
	}
	return (int)syscall(SYS_dup3, from, to, flags);
}

CASE(F36_closing_while_it_moves_gives_no_number_away_that_is_still_used, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, PAGE, SHMB_BACKING_MEMFD, SHMB_KEEP_FD);

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
	closing.region = region;
	CHECK_OK(shmb_region_resize(region, 2 * PAGE));
	CHECK_INT(pthread_join(closing.thread, NULL), 0);
	CHECK(!closing.given_away);
	CHECK_CODE(shmb_region_unlock(region), SHMB_ECLOSED);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Who does not follow ---- */

CASE(F33_a_fixed_handle_does_not_follow_and_a_private_one_is_its_own, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, PAGE, 0, 0), *fixed, *copy;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	uint8_t byte = 0;

	CHECK_OK(shmb_region_write_u8(region, 0, 7));
	options.address = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	SYS(munmap(options.address, PAGE));
	options.flags = SHMB_FIXED;
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ | SHMB_WRITE, &options, &fixed));
	options.address = NULL;
	options.flags = SHMB_PRIVATE;
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ | SHMB_WRITE, &options, &copy));
	CHECK_OK(shmb_region_write_u8(copy, 1, 8));
	grow(region, 2 * PAGE);
	CHECK_OK(shmb_region_write_u8(region, 0, 9));
	CHECK_CODE(shmb_region_read_u8(fixed, 0, &byte), SHMB_ENOTSUP);
	CHECK_CODE(shmb_region_write_u8(fixed, 0, 1), SHMB_ENOTSUP);
	CHECK_CODE(last(fixed).code, SHMB_ENOTSUP);
	CHECK_OK(shmb_region_lock(fixed, SHMB_EXCLUSIVE, 0));
	CHECK_CODE(shmb_region_resize(fixed, 3 * PAGE), SHMB_ENOTSUP);
	CHECK_OK(shmb_region_unlock(fixed));
	CHECK_OK(shmb_region_read_u8(copy, 1, &byte));
	CHECK_INT(byte, 8);
	CHECK_CODE(shmb_region_resize(copy, 3 * PAGE), SHMB_EMODE);
	CHECK_INT(shmb_region_size(copy), PAGE);
	shmb_region_free(fixed);
	shmb_region_free(copy);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void grown(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct shmb_event *seen = userdata;

	(void)region;
	*seen = *event;
}

CASE(F33_a_watcher_is_told_of_the_new_size, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make(client, PAGE, 0, 0);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_event event = { .types = 0 };

	CHECK_OK(shmb_region_watch(reader, SHMB_EVENT_RESIZED, 0, grown, &event));
	grow(region, 3 * PAGE);
	UNTIL(broker, shmb_client_process(client) >= 0 && event.types != 0);
	CHECK_INT(event.types, SHMB_EVENT_RESIZED);
	CHECK_INT(event.size, 3 * PAGE);
	CHECK_OK(shmb_region_publish(region, 2 * PAGE, 8));
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- By hand ---- */

/* Takes the lock as the library does. */
static void take(const struct layout_locker *locker, struct layout_publish *page)
{
	CHECK(layout_lock_claim_fast(locker));
	layout_lock_hold(locker);
	layout_snapshot_write(page);
}

static void give_back(const struct layout_locker *locker, struct layout_publish *page)
{
	layout_snapshot_written(page);
	layout_lock_release(locker, 0);
}

/* The region's lock and its publish page, mapped. */
static struct layout_publish *map_by_hand(struct raw *raw, uint64_t handle, int page_fd,
					  struct layout_locker *ret_locker)
{
	struct wire_region_lock_result slot;
	struct layout_publish *page;
	int fd;

	CHECK_OK(raw_region_lock(raw, handle, &slot, &fd));
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
	ret_locker->lock = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(page != MAP_FAILED && ret_locker->lock != MAP_FAILED);
	ret_locker->slot = (uint32_t)slot.slot;
	ret_locker->n_slots = (uint32_t)slot.slots;
	ret_locker->own = &ret_locker->lock->slots[ret_locker->slot - 1];
	layout_lock_publish_slot(ret_locker);
	close(fd);
	return page;
}

/* It asked for memory and did nothing with it; then another one grows. */
CASE(F33_what_somebody_began_and_left_is_given_back, PRIVATE)
{
	uint64_t bytes = broker_stat(broker, "bytes");
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached attached;
	struct wire_region_grow_params wanted = { .capacity = 64 * PAGE };
	struct wire_region_grow_result segment;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct layout_locker locker;
	struct layout_publish *page;
	int fds[2];

	CHECK_OK(raw_create(raw, "r", PAGE, 0700, SHMB_ATTACHED, &attached, fds));
	page = map_by_hand(raw, attached.handle, fds[1], &locker);
	wanted.handle = attached.handle;
	take(&locker, page);
	CHECK_OK(raw_call(raw, WIRE_REGION_GROW, &wanted, &segment));
	give_back(&locker, page);
	region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	grow(region, 2 * PAGE);
	munmap(page, PAGE);
	munmap(locker.lock, PAGE);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "bytes") == bytes);
}

/*
 * A request that was given up on, and comes when its sender has the lock once more: others may have
 * written in between what is not in the copy.
 */
CASE(F33_a_copy_that_is_told_of_late_is_refused, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached attached;
	struct wire_region_grow_params grow = { .capacity = 3 * PAGE };
	struct wire_region_grow_result segment;
	struct wire_region_grown_params grown = { .size = 3 * PAGE };
	struct wire_region_data_result data;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *reader;
	struct layout_locker locker;
	struct layout_publish *page;
	uint64_t bytes;
	uint8_t byte;
	void *before;
	int fds[2];

	CHECK_OK(raw_create(raw, "r", PAGE, 0700, SHMB_ATTACHED, &attached, fds));
	reader = open_region(client, "r", SHMB_READ);
	before = shmb_region_data(reader);
	page = map_by_hand(raw, attached.handle, fds[1], &locker);
	grow.handle = grown.handle = attached.handle;
	CHECK_CODE(raw_call(raw, WIRE_REGION_GROW, &grow, &segment), SHMB_EDEADLK);
	take(&locker, page);
	grow.capacity = PAGE; /* which it has */
	CHECK_CODE(raw_call(raw, WIRE_REGION_GROW, &grow, &segment), SHMB_EINVAL);
	grow.capacity = 3 * PAGE;
	CHECK_OK(raw_call(raw, WIRE_REGION_GROW, &grow, &segment));
	bytes = broker_stat(broker, "bytes");
	CHECK_OK(raw_call(raw, WIRE_REGION_GROW, &grow, &segment)); /* in place of the first */
	CHECK_INT(broker_stat(broker, "bytes"), bytes);
	grown.has = WIRE_HAS(region_grown_params, writing);
	grown.writing = page->writing;
	give_back(&locker, page);
	CHECK_CODE(raw_call(raw, WIRE_REGION_GROWN, &grown, NULL), SHMB_EDEADLK);
	take(&locker, page);
	CHECK_CODE(raw_call(raw, WIRE_REGION_GROWN, &grown, NULL), SHMB_EDEADLK);
	/* Shown before it is true; whoever asks is told that it is not. */
	CHECK_INT(page->generation, 2);
	CHECK_OK(raw_call(raw, WIRE_REGION_DATA,
			  &(struct wire_region_handle){ .handle = grown.handle }, &data));
	CHECK_INT(data.generation, 0);
	CHECK_INT(data.capacity, PAGE);
	CHECK_OK(shmb_region_read_u8(reader, 0, &byte)); /* and stays where it is */
	CHECK(shmb_region_data(reader) == before);
	shmb_region_free(reader);
	shmb_client_free(client);
	grown.writing = page->writing;
	CHECK_OK(raw_call(raw, WIRE_REGION_GROWN, &grown, NULL));
	CHECK_INT(page->generation, 2);
	CHECK_INT(page->size, 3 * PAGE);
	CHECK_CODE(raw_call(raw, WIRE_REGION_GROWN, &grown, NULL), SHMB_ENOENT);
	give_back(&locker, page);
	munmap(page, PAGE);
	munmap(locker.lock, PAGE);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}
