/* SPDX-License-Identifier: MIT */
/*
 * Memory that vanishes under a mapping: files and objects that are cut off, a full tmpfs, a bad
 * page. What the library says then, and when it comes back. Signals that are not ours are in
 * test_sigbus.c.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "smaps.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
/* Its exchanges hold a lock of its own while they touch the word: the handler cannot run there. */
#ifdef __SANITIZE_THREAD__
#define CAN_FAULT_IN_EXCHANGES false
#else
#define CAN_FAULT_IN_EXCHANGES true
#endif

enum { PAGE = 4096, PAGES = 16, MIB = 1 << 20 };

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

/* A file of PAGES, each of its bytes the number of its page plus one. */
static struct shmb_region *make_file(struct broker *broker, struct shmb_client *client, int *ret_fd)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	unsigned char bytes[PAGE];

	options.backing = SHMB_BACKING_FILE;
	options.path = broker_path(broker, "file");
	options.file_flags = SHMB_FILE_CREATE;
	region = create(client, "f", PAGES * PAGE, &options);
	for (unsigned i = 0; i < PAGES; i++) {
		memset(bytes, (int)i + 1, PAGE);
		CHECK_OK(shmb_region_write(region, i * PAGE, bytes, PAGE, 0));
	}
	*ret_fd = SYS(open(broker_path(broker, "file"), O_RDWR | O_CLOEXEC));
	SYS(unlink(broker_path(broker, "file")));
	return region;
}

static void free_file(struct shmb_region *region, int fd)
{
	shmb_region_free(region);
	close(fd);
}

static struct shmb_region *make_shm(struct shmb_client *client, uint64_t size, unsigned flags)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = SHMB_BACKING_SHM;
	options.flags = flags;
	return create(client, "r", size, &options);
}

/* One of the daemon's objects in /dev/shm: @what is how its name ends. */
static int open_object(const struct broker *broker, struct shmb_client *client, const char *region,
		       const char *what)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	char instance[64], path[128];
	long pid;

	CHECK_OK(shmb_region_stat(client, region, &info));
	CHECK(broker_lock_read(broker, &pid, instance));
	snprintf(path, sizeof(path), "/dev/shm/shmb.%s.%llx.%s", instance,
		 (unsigned long long)info.id, what);
	return SYS(open(path, O_RDWR | O_CLOEXEC));
}

static void cut_object(const struct broker *broker, struct shmb_client *client, const char *region,
		       const char *what)
{
	int fd = open_object(broker, client, region, what);

	SYS(ftruncate(fd, 0));
	close(fd);
}

/* ---- Data ---- */

CASE(F34_what_is_cut_off_is_an_error_of_every_function, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd);
	unsigned char bytes[PAGES * PAGE], byte = 0x55;
	struct shmb_error error;
	struct shmb_view view, rest;
	char string[8], sentence[256];
	uint64_t u64 = 0;

	CHECK_OK(shmb_region_check(region, 0, 0));
	CHECK_OK(shmb_region_view(region, 5 * PAGE, PAGE, 0, SHMB_READ, &view));
	CHECK_OK(shmb_region_view(region, 0, PAGE, 0, SHMB_READ, &rest));
	SYS(ftruncate(fd, 4 * PAGE));

	CHECK_CODE(shmb_region_read(region, 6 * PAGE + 8, bytes, 100, 0), SHMB_EBUS);
	error = last(region);
	CHECK_CODE(error.code, SHMB_EBUS);
	CHECK_INT(error.offset, 6 * PAGE);
	CHECK_INT(error.length, PAGE);
	CHECK(shmb_error_format(&error, sentence, sizeof(sentence)) > 0);
	CHECK(strstr(sentence, "vanished") && strstr(sentence, "24576"));
	CHECK_CODE(shmb_region_read_u8(region, 7 * PAGE, &byte), SHMB_EBUS);
	CHECK_INT(byte, 0x55);
	CHECK_CODE(shmb_region_read_u64(region, 8 * PAGE - 4, &u64), SHMB_EBUS);
	CHECK_CODE(shmb_region_write_u8(region, 9 * PAGE, 1), SHMB_EBUS);
	CHECK_INT(shmb_region_last_write(region), 0);
	CHECK_CODE(shmb_region_write(region, 3 * PAGE, bytes, 2 * PAGE, 0), SHMB_EBUS);
	CHECK_CODE(shmb_region_read(region, 0, bytes, PAGES * PAGE, 0), SHMB_EBUS);
	CHECK_CODE(shmb_region_read(region, 10 * PAGE, bytes, 8, SHMB_LOCKED), SHMB_EBUS);
	CHECK_CODE(shmb_region_write(region, 10 * PAGE, bytes, 8, SHMB_LOCKED), SHMB_EBUS);
	CHECK_CODE(shmb_region_snapshot(region, 11 * PAGE, bytes, 8), SHMB_EBUS);
	CHECK_CODE((int)shmb_region_read_string(region, 12 * PAGE, string, sizeof(string)),
		   SHMB_EBUS);
	CHECK_CODE(shmb_region_write_string(region, 13 * PAGE, "x"), SHMB_EBUS);

	/* What is there is there, and what nobody has touched has not been noticed. */
	CHECK_OK(shmb_region_read_u8(region, 3 * PAGE, &byte));
	CHECK_OK(shmb_region_write_u8(region, 3 * PAGE, 4));
	CHECK_INT(shmb_region_last_write(region), 1);
	CHECK_OK(shmb_region_check(region, 0, 4 * PAGE));
	CHECK_CODE(shmb_region_check(region, 0, 0), SHMB_EBUS);
	CHECK_INT(last(region).offset, 4 * PAGE);

	CHECK_INT(*(volatile unsigned char *)view.data, 0);
	CHECK_CODE(shmb_view_release(&view), SHMB_EBUS);
	CHECK_INT(*(volatile unsigned char *)rest.data, 1);
	CHECK_OK(shmb_view_release(&rest));
	free_file(region, fd);
	shmb_client_free(client);
}

CASE(F34_what_is_there_again_comes_back, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd);
	struct shmb_view before, after, other;
	unsigned char byte = 0x55;

	CHECK_OK(shmb_region_view(region, 8 * PAGE, PAGE, 0, SHMB_READ | SHMB_WRITE, &before));
	SYS(ftruncate(fd, 4 * PAGE));
	((volatile unsigned char *)before.data)[1] = 9; /* to nobody */
	CHECK_CODE(shmb_region_read_u8(region, 8 * PAGE, &byte), SHMB_EBUS);
	CHECK_CODE(shmb_region_read_u8(region, 9 * PAGE, &byte), SHMB_EBUS);
	SYS(ftruncate(fd, 9 * PAGE));
	CHECK_CODE(shmb_region_check(region, 0, 0), SHMB_EBUS); /* does not look for it */
	CHECK_OK(shmb_region_read_u8(region, 8 * PAGE + 1, &byte));
	CHECK_INT(byte, 0);
	CHECK_OK(shmb_region_check(region, 0, 9 * PAGE));
	CHECK_CODE(shmb_region_read_u8(region, 9 * PAGE, &byte), SHMB_EBUS);
	CHECK_OK(shmb_region_write_u8(region, 8 * PAGE, 77));
	CHECK_INT(pread(fd, &byte, 1, 8 * PAGE), 1);
	CHECK_INT(byte, 77);

	/* Only who had it when it was gone has seen zeros. */
	CHECK_OK(shmb_region_view(region, 8 * PAGE, PAGE, 0, SHMB_READ, &after));
	CHECK(after.data == before.data);
	CHECK_OK(shmb_region_view(region, 3 * PAGE, PAGE, 0, SHMB_READ, &other));
	SYS(ftruncate(fd, PAGE)); /* and others go and come back meanwhile */
	CHECK_CODE(shmb_region_read_u8(region, 2 * PAGE, &byte), SHMB_EBUS);
	SYS(ftruncate(fd, 9 * PAGE));
	CHECK_OK(shmb_region_read_u8(region, 2 * PAGE, &byte));
	CHECK_OK(shmb_view_release(&other));
	CHECK_OK(shmb_view_release(&after));
	CHECK_CODE(shmb_view_release(&before), SHMB_EBUS);
	SYS(ftruncate(fd, PAGES * PAGE));
	CHECK_OK(shmb_region_read_u8(region, 9 * PAGE, &byte));
	CHECK_OK(shmb_region_check(region, 0, 0));
	for (unsigned i = 0; i < 100; i++) {
		SYS(ftruncate(fd, PAGE));
		CHECK_CODE(shmb_region_write_u8(region, i % 15 * PAGE + PAGE, 1), SHMB_EBUS);
		SYS(ftruncate(fd, PAGES * PAGE));
		CHECK_OK(shmb_region_write_u8(region, i % 15 * PAGE + PAGE, 1));
	}
	free_file(region, fd);
	shmb_client_free(client);
}

/* What was written there was in those pages alone. */
CASE(F34_private_copies_that_are_gone_stay_gone, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd), *ours = NULL;
	unsigned char byte = 0x55;

	options.flags = SHMB_PRIVATE;
	CHECK_OK(shmb_region_open(client, "f", SHMB_READ | SHMB_WRITE, &options, &ours));
	CHECK_OK(shmb_region_write_u8(ours, 3 * PAGE, 99));
	SYS(ftruncate(fd, PAGE));
	CHECK_CODE(shmb_region_read_u8(ours, 3 * PAGE, &byte), SHMB_EBUS);
	SYS(ftruncate(fd, PAGES * PAGE));
	CHECK_CODE(shmb_region_read_u8(ours, 3 * PAGE, &byte), SHMB_EBUS);
	CHECK_INT(byte, 0x55);
	CHECK_OK(shmb_region_read_u8(ours, 0, &byte));
	shmb_region_free(ours);
	free_file(region, fd);
	shmb_client_free(client);
}

/* Whatever it was mapped for at first. */
CASE(F34_what_was_made_accessible_is_guarded, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd), *shut = NULL;
	unsigned char byte;

	options.flags = SHMB_NO_ACCESS;
	CHECK_OK(shmb_region_open(client, "f", SHMB_READ | SHMB_WRITE, &options, &shut));
	CHECK_OK(shmb_region_protect(shut, 0, 0, SHMB_PROTECT_READ | SHMB_PROTECT_WRITE));
	SYS(ftruncate(fd, PAGE));
	CHECK_CODE(shmb_region_read_u8(shut, 3 * PAGE, &byte), SHMB_EBUS);
	CHECK_CODE(shmb_region_write_u8(shut, 4 * PAGE, 1), SHMB_EBUS);
	SYS(ftruncate(fd, PAGES * PAGE));
	CHECK_OK(shmb_region_write_u8(shut, 4 * PAGE, 1));
	shmb_region_free(shut);
	free_file(region, fd);
	shmb_client_free(client);
}

CASE(F34_zeros_are_not_made_where_nothing_is, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd);
	unsigned char byte = 1;

	SYS(ftruncate(fd, PAGE));
	CHECK_CODE(shmb_region_advise(region, 3 * PAGE + 5, 10, SHMB_ADVICE_REMOVE), SHMB_EBUS);
	CHECK_CODE(last(region).code, SHMB_EBUS);
	SYS(ftruncate(fd, PAGES * PAGE));
	CHECK_INT(SYS(pwrite(fd, &byte, 1, 3 * PAGE + 5)), 1);
	CHECK_OK(shmb_region_advise(region, 3 * PAGE + 5, 10, SHMB_ADVICE_REMOVE));
	CHECK_INT(SYS(pread(fd, &byte, 1, 3 * PAGE + 5)), 1);
	CHECK_INT(byte, 0);
	free_file(region, fd);
	shmb_client_free(client);
}

CASE(F34_what_comes_back_is_in_no_core_dump_either, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd);
	unsigned char byte;

	CHECK(smaps_flag(shmb_region_data(region), PAGES * PAGE, "dd"));
	SYS(ftruncate(fd, PAGE));
	CHECK_CODE(shmb_region_read_u8(region, 3 * PAGE, &byte), SHMB_EBUS);
	SYS(ftruncate(fd, PAGES * PAGE));
	CHECK_OK(shmb_region_read_u8(region, 3 * PAGE, &byte));
	CHECK(smaps_flag(shmb_region_data(region), PAGES * PAGE, "dd"));
	free_file(region, fd);
	shmb_client_free(client);
}

CASE(F34_without_a_descriptor_it_stays_gone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make_shm(client, 4 * PAGE, 0);
	int fd = open_object(broker, client, "r", "d");
	uint8_t byte;

	CHECK_OK(shmb_region_write_u8(region, PAGE, 1));
	SYS(ftruncate(fd, 0));
	CHECK_CODE(shmb_region_read_u8(region, PAGE, &byte), SHMB_EBUS);
	SYS(ftruncate(fd, 4 * PAGE));
	CHECK_CODE(shmb_region_read_u8(region, PAGE, &byte), SHMB_EBUS);
	CHECK_OK(shmb_region_read_u8(region, 2 * PAGE, &byte));
	shmb_region_free(region);
	/* Opened anew it is there. */
	region = make_shm(client, 4 * PAGE, SHMB_KEEP_FD);
	CHECK_OK(shmb_region_write_u8(region, PAGE, 1));
	SYS(ftruncate(shmb_region_fd(region), 0));
	CHECK_CODE(shmb_region_read_u8(region, PAGE, &byte), SHMB_EBUS);
	SYS(ftruncate(shmb_region_fd(region), 4 * PAGE));
	CHECK_OK(shmb_region_read_u8(region, PAGE, &byte));
	shmb_region_free(region);
	close(fd);
	shmb_client_free(client);
}

CASE(F34_a_full_tmpfs_is_an_error, PRIVATE, .shm_mount = "size=1m")
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make_shm(client, 4 * MIB, SHMB_KEEP_FD);
	unsigned char *bytes = malloc(4 * MIB), byte;

	CHECK(bytes);
	memset(bytes, 0xaa, 4 * MIB);
	CHECK_CODE(shmb_region_write(region, 0, bytes, 4 * MIB, 0), SHMB_EBUS);
	CHECK(last(region).offset < MIB);
	CHECK_CODE(shmb_region_write_u8(region, 3 * MIB, 1), SHMB_EBUS);
	CHECK_CODE(shmb_region_write_u8(region, 3 * MIB, 1), SHMB_EBUS);
	CHECK_OK(shmb_region_read_u8(region, 0, &byte));
	CHECK_INT(byte, 0xaa);
	/* There is room again. */
	CHECK_OK(shmb_region_resize(region, PAGE));
	CHECK_OK(shmb_region_resize(region, 4 * MIB));
	CHECK_OK(shmb_region_write(region, 3 * MIB, bytes, MIB / 2, 0));
	CHECK_OK(shmb_region_read_u8(region, 3 * MIB, &byte));
	CHECK_INT(byte, 0xaa);
	free(bytes);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F34_a_bad_page_is_an_error, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make_shm(client, 4 * PAGE, SHMB_KEEP_FD);
	uint8_t byte = 0;

	CHECK_OK(shmb_region_write_u8(region, PAGE, 7));
	CHECK_OK(shmb_region_write_u8(region, 2 * PAGE, 8));
	if (madvise((char *)shmb_region_data(region) + PAGE, PAGE, MADV_HWPOISON) != 0) {
		shmb_region_free(region);
		shmb_client_free(client);
		SKIP("this kernel injects no bad pages");
	}
	CHECK_CODE(shmb_region_read_u8(region, PAGE, &byte), SHMB_EBUS);
	CHECK_CODE(shmb_region_read_u8(region, PAGE, &byte), SHMB_EBUS);
	CHECK_OK(shmb_region_read_u8(region, 2 * PAGE, &byte));
	CHECK_INT(byte, 8);
	/* Given up, and made anew: another page. */
	CHECK_OK(shmb_region_resize(region, PAGE));
	CHECK_OK(shmb_region_resize(region, 4 * PAGE));
	CHECK_OK(shmb_region_read_u8(region, PAGE, &byte));
	CHECK_INT(byte, 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

static bool has_huge_pages(void)
{
	FILE *file = fopen("/proc/sys/vm/nr_hugepages", "r");
	int n = 0;

	if (file && fscanf(file, "%d", &n) != 1)
		n = 0;
	if (file)
		fclose(file);
	return n > 0;
}

CASE(F34_huge_pages_vanish_whole, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;
	uint8_t byte;

	options.backing = SHMB_BACKING_HUGETLB;
	options.flags = SHMB_KEEP_FD;
	if (!has_huge_pages() || shmb_region_create(client, "h", 2 * MIB, &options, &region) != 0) {
		shmb_client_free(client);
		SKIP("there is no pool of huge pages");
	}
	CHECK_OK(shmb_region_write_u8(region, MIB, 1));
	if (fallocate(shmb_region_fd(region), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      2 * MIB) == 0)
		CHECK_OK(shmb_region_read_u8(region, MIB, &byte));
	if (madvise(shmb_region_data(region), 2 * MIB, MADV_HWPOISON) == 0) {
		CHECK_CODE(shmb_region_read_u8(region, MIB, &byte), SHMB_EBUS);
		CHECK_INT(last(region).length, 2 * MIB);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Everything else that is mapped ---- */

CASE(F34_a_publish_page_that_is_gone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make_shm(client, PAGE, 0);
	uint8_t byte;

	cut_object(broker, client, "r", "p");
	CHECK_CODE(shmb_region_read_u8(region, 0, &byte), SHMB_EBUS);
	CHECK_STRING(last(region).what, "publish page");
	CHECK_CODE(shmb_region_write_u8(region, 0, 1), SHMB_EBUS);
	CHECK_CODE(shmb_region_publish(region, 0, 0), SHMB_EBUS);
	CHECK_CODE(shmb_region_wait(region, 0, -1, NULL), SHMB_EBUS);
	CHECK_CODE(shmb_region_snapshot(region, 0, &byte, 1), SHMB_EBUS);
	CHECK_CODE(shmb_region_check(region, 0, 0), SHMB_EBUS);
	CHECK_INT(shmb_region_size(region), 0);
	CHECK_OK(shmb_region_close(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F34_a_lock_that_is_gone_is_not_pretended, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make_shm(client, PAGE, 0);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_region *holder = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	struct shmb_region *unlocked = open_region(client, "r", SHMB_READ | SHMB_LOCK);
	uint8_t byte = 0;

	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(shmb_region_lock(unlocked, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(unlocked));
	CHECK_OK(shmb_region_lock(holder, SHMB_EXCLUSIVE, 0));
	CHECK_CODE(shmb_region_snapshot(reader, 0, &byte, 1), SHMB_EBUSY);
	cut_object(broker, client, "r", "l");
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), SHMB_EBUS);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, -1), SHMB_EBUS);
	CHECK_CODE(shmb_region_lock(unlocked, SHMB_SHARED, 0), SHMB_EBUS);
	CHECK_CODE(shmb_region_lock(unlocked, SHMB_SHARED, -1), SHMB_EBUS);
	CHECK_CODE(shmb_region_write(region, 0, &byte, 1, SHMB_LOCKED), SHMB_EBUS);
	CHECK_CODE(shmb_region_read(region, 0, &byte, 1, SHMB_LOCKED), SHMB_EBUS);
	CHECK_CODE(shmb_region_unlock(region), SHMB_EBUS);
	CHECK_CODE(shmb_region_reset_lock(region), SHMB_EBUS);
	/* The data are there, and who had it has not left them locked for snapshots. */
	CHECK_OK(shmb_region_write_u8(holder, 0, 5));
	CHECK_CODE(shmb_region_unlock(holder), SHMB_EBUS);
	CHECK_OK(shmb_region_snapshot(reader, 0, &byte, 1));
	CHECK_INT(byte, 5);
	shmb_region_free(unlocked);
	shmb_region_free(holder);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void *wait_for_lock(void *argument)
{
	CHECK_CODE(shmb_region_lock(argument, SHMB_EXCLUSIVE, -1), SHMB_EBUS);
	return NULL;
}

CASE(F34_who_waits_for_a_lock_that_goes_is_told, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = make_shm(client, PAGE, 0);
	struct shmb_region *holder = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	struct shmb_lock_info info;
	pthread_t thread;

	CHECK_OK(shmb_region_lock(holder, SHMB_EXCLUSIVE, 0));
	CHECK_INT(pthread_create(&thread, NULL, wait_for_lock, region), 0);
	UNTIL(broker, (info = look_at_lock(client, "r"), info.waiting_exclusive == 1));
	cut_object(broker, client, "r", "l");
	pthread_join(thread, NULL);
	shmb_region_free(holder);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* The arena of the daemon's semaphores is its only object there, if they are all it has. */
static void cut_arena(const struct broker *broker)
{
	char command[256], instance[64];
	long pid;

	CHECK(broker_lock_read(broker, &pid, instance));
	snprintf(command, sizeof(command), "truncate -s 0 /dev/shm/shmb.%s.*", instance);
	CHECK_INT(system(command), 0);
}

CASE(F34_semaphores_and_named_locks_that_are_gone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *counting = create_semaphore(client, "c", SHMB_COUNTING, 1, 10, 0700);
	struct shmb_semaphore *owned = create_semaphore(client, "o", SHMB_OWNED, 0, 4, 0700);
	struct shmb_lock *lock = create_lock(client, "l", 0700, SHMB_ATTACHED);
	struct shmb_permit permit;

	if (!CAN_FAULT_IN_EXCHANGES) {
		shmb_lock_free(lock);
		shmb_semaphore_free(owned);
		shmb_semaphore_free(counting);
		shmb_client_free(client);
		SKIP("under ThreadSanitizer");
	}
	CHECK_OK(shmb_guard_install()); /* there is no region that would have done it */
	CHECK_OK(shmb_semaphore_take(owned, 0, &permit));
	CHECK_OK(shmb_lock_acquire(lock, SHMB_SHARED, 0));
	CHECK_OK(shmb_lock_release(lock));
	cut_arena(broker);
	CHECK_CODE(shmb_semaphore_wait(counting, 0), SHMB_EBUS);
	CHECK_CODE(shmb_semaphore_wait(counting, -1), SHMB_EBUS);
	CHECK_CODE(shmb_semaphore_post(counting, 1), SHMB_EBUS);
	CHECK_CODE(shmb_semaphore_wait(owned, -1), SHMB_EBUS);
	CHECK_CODE(shmb_semaphore_give(owned, &permit), SHMB_EBUS);
	CHECK_CODE(shmb_semaphore_take(owned, 0, &permit), SHMB_EBUS);
	CHECK_CODE((int)shmb_semaphore_value(owned), SHMB_EBUS);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_SHARED, 0), SHMB_EBUS);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, -1), SHMB_EBUS);
	CHECK_CODE(shmb_lock_release(lock), SHMB_EBUS);
	shmb_lock_free(lock);
	shmb_semaphore_free(owned);
	shmb_semaphore_free(counting);
	shmb_client_free(client);
}

/* ---- Several at once ---- */

struct crowd {
	struct shmb_region *region;
	_Atomic bool stop;
	_Atomic unsigned long good, gone;
};

/* Each byte of page i is i + 1, whenever it is there. */
static void *read_on(void *argument)
{
	struct crowd *crowd = argument;
	unsigned char bytes[PAGE];

	for (unsigned i = 0; !crowd->stop; i = (i + 1) % PAGES) {
		int result = shmb_region_read(crowd->region, i * PAGE, bytes, PAGE, 0);

		if (result == SHMB_EBUS) {
			crowd->gone++;
			continue;
		}
		CHECK_OK(result);
		if (bytes[0] != i + 1 || memcmp(bytes, bytes + 1, PAGE - 1) != 0)
			FAIL("page %u reads %u", i, bytes[0]);
		crowd->good++;
	}
	return NULL;
}

/* The same in place: who is not told that something vanished has not seen it vanish. */
static void *view_on(void *argument)
{
	struct crowd *crowd = argument;
	struct shmb_view view;

	for (unsigned i = 0; !crowd->stop; i = (i + 1) % PAGES) {
		int result = shmb_region_view(crowd->region, i * PAGE, PAGE, 0, SHMB_READ, &view);
		const volatile unsigned char *bytes = view.data;
		unsigned seen = i + 1;

		if (result == SHMB_EBUS) {
			crowd->gone++;
			continue;
		}
		CHECK_OK(result);
		for (unsigned at = 0; at < PAGE && seen == i + 1; at += 64)
			seen = bytes[at];
		result = shmb_view_release(&view);
		CHECK(result == 0 || result == SHMB_EBUS);
		if (result == 0 && seen != i + 1)
			FAIL("page %u shows %u", i, seen);
		crowd->good += result == 0;
	}
	return NULL;
}

/* Another process, so that it races with nobody that ThreadSanitizer knows of. */
static void write_on(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	unsigned char bytes[PAGE];
	_Atomic bool *stop = argument;

	say(1);
	for (unsigned i = 0; !*stop; i = (i + 1) % PAGES) {
		int result;

		memset(bytes, (int)i + 1, PAGE);
		result = shmb_region_write(region, i * PAGE, bytes, PAGE, 0);
		CHECK(result == 0 || result == SHMB_EBUS);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

enum { THREADS = 3 };

/* The file comes back page by page, and no page is there before its bytes are. */
static void take_away_and_bring_back(int fd, const unsigned char *bytes)
{
	SYS(ftruncate(fd, 2 * PAGE));
	for (unsigned i = 2; i < PAGES; i++)
		CHECK_INT(pwrite(fd, bytes + i * PAGE, PAGE, i * PAGE), PAGE);
}

CASE(F34_several_threads_at_once, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd);
	struct crowd crowd = { .region = region };
	_Atomic bool *stop =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned char *bytes = malloc(PAGES * PAGE);
	struct actor writer;
	pthread_t threads[THREADS];

	CHECK(bytes && (void *)stop != MAP_FAILED);
	CHECK_OK(shmb_region_read(region, 0, bytes, PAGES * PAGE, 0));
	writer = actor_start(broker, &SELF, write_on, stop);
	CHECK_INT(actor_hear(&writer), 1);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, read_on, &crowd), 0);
	for (unsigned i = 0; i < 1000 || crowd.gone == 0 || crowd.good == 0; i++)
		take_away_and_bring_back(fd, bytes);
	crowd.stop = *stop = true;
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	actor_end(&writer);
	CHECK_OK(shmb_region_read(region, 0, bytes, PAGES * PAGE, 0));
	CHECK_OK(shmb_region_check(region, 0, 0));
	munmap((void *)stop, PAGE);
	free(bytes);
	free_file(region, fd);
	shmb_client_free(client);
}

CASE(F24_views_tell_of_what_came_back_before_they_were_released, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd);
	struct crowd crowd = { .region = region };
	unsigned char *bytes = malloc(PAGES * PAGE);
	pthread_t threads[THREADS];

	CHECK(bytes);
	CHECK_OK(shmb_region_read(region, 0, bytes, PAGES * PAGE, 0));
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, i == 0 ? read_on : view_on, &crowd), 0);
	for (unsigned i = 0; i < 3000 || crowd.gone == 0 || crowd.good == 0; i++)
		take_away_and_bring_back(fd, bytes);
	crowd.stop = true;
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	free(bytes);
	free_file(region, fd);
	shmb_client_free(client);
}

/* Whoever reads what is gone for good must be told, whatever the others do. */
CASE(F34_no_thread_takes_the_zeros_for_data, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd;
	struct shmb_region *region = make_file(broker, client, &fd);
	struct crowd crowd = { .region = region };
	pthread_t threads[THREADS];

	SYS(ftruncate(fd, 8 * PAGE));
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, read_on, &crowd), 0);
	while (crowd.gone < 2000 || crowd.good < 2000)
		broker_turn(broker);
	crowd.stop = true;
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	free_file(region, fd);
	shmb_client_free(client);
}

CASE(F34_closing_while_it_vanishes, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);

	for (unsigned round = 0; round < 50; round++) {
		int fd;
		struct shmb_region *region = make_file(broker, client, &fd);
		volatile unsigned char *data = shmb_region_data(region);
		unsigned sum = 0;

		SYS(ftruncate(fd, round % 2 ? 0 : 4 * PAGE));
		if (round % 3 == 0)
			CHECK_OK(shmb_region_close(region));
		for (unsigned i = 0; i < PAGES; i++)
			sum += data[i * PAGE];
		CHECK_INT(sum, round % 2 || round % 3 == 0 ? 0 : 1 + 2 + 3 + 4);
		free_file(region, fd);
	}
	shmb_client_free(client);
}

CASE(F34_a_forked_child_has_a_guard_too, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	int fd, status;
	struct shmb_region *region = make_file(broker, client, &fd);
	volatile unsigned char *data = shmb_region_data(region);
	pid_t pid;

	SYS(ftruncate(fd, PAGE));
	pid = SYS(fork());
	if (pid == 0)
		_exit(data[0] == 1 && data[5 * PAGE] == 0 ? 0 : 1);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	CHECK_OK(shmb_region_check(region, 0, 0)); /* that was the child's */
	free_file(region, fd);
	shmb_client_free(client);
}

static void touch_unguarded(struct broker *broker, const char *path)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	uint8_t byte;

	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.flags = SHMB_UNGUARDED;
	region = create(client, "u", 0, &options);
	SYS(truncate(path, 0));
	shmb_region_read_u8(region, 0, &byte);
}

CASE(F34_who_wants_no_guard_has_none, PRIVATE)
{
	const struct rlimit none = { 0, 0 };
	char path[128];
	int fd, status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s", broker_path(broker, "file"));
	fd = SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(fd, PAGE));
	pid = SYS(fork());
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGBUS, SIG_DFL); /* a sanitizer may have one */
		touch_unguarded(broker, path);
		_exit(1);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status));
	CHECK_INT(WTERMSIG(status), SIGBUS);
	close(fd);
	SYS(unlink(path));
}
