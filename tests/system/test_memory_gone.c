/* SPDX-License-Identifier: MIT */
/*
 * Memory that went away while there was no daemon, or that nobody remembers: what the next one
 * makes of it. What is kept is in test_memory_kept.c.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

static void replace(struct broker *broker)
{
	broker_crash(broker);
	broker_restart(broker);
}

/* ---- Memory that is gone ---- */

/* What a session sees of a region whose memory was lost with the daemon. */
static void check_lost(struct broker *broker, struct raw *raw, uint64_t handle)
{
	const struct wire_region_ref by_name = { .has = WIRE_HAS(region_ref, name),
						 .name = wire_string("r") };
	const struct wire_region_resize_params resize = { .handle = handle, .size = 10 };
	const struct wire_region_watch_params watch = { .handle = handle, .types = 7 };
	const struct wire_region_handle lock = { .handle = handle };
	struct wire_region_info info;
	struct wire_region_event event;
	const char *field;

	CHECK_INT(broker_log_count(broker, "memory of 1 objects is gone"), 1);
	CHECK_CODE(raw_call(raw, WIRE_REGION_STAT, &by_name, &info), SHMB_ENOENT);
	CHECK_CODE(raw_open(raw, "r", SHMB_READ, NULL, NULL), SHMB_ENOENT);
	/* It depends on what is gone whether these can do anything, and does not matter. */
	raw_call(raw, WIRE_REGION_RESIZE, &resize, NULL);
	raw_call(raw, WIRE_REGION_LOCK, &lock, NULL);
	CHECK_OK(raw_stat_handle(raw, handle));
	CHECK_OK(raw_call(raw, WIRE_REGION_WATCH, &watch, NULL));
	do
		CHECK_INT(raw_receive(raw), 1);
	while (raw->message.kind != WIRE_NOTIFICATION);
	CHECK_INT(raw->message.method_id, WIRE_REGION_EVENT);
	CHECK_OK(wire_decode_body(&raw->message, &wire_message_types[WIRE_MESSAGE_region_event],
				  &event, &field));
	CHECK(event.types & 4);
	raw_make(raw, "r", SHMB_ATTACHED); /* the name is free */
	CHECK_OK(raw_close(raw, handle));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_stat(broker, "bytes") == 0);
}

static struct raw *with_a_region(struct broker *broker, uint64_t *ret_handle)
{
	struct raw *raw = raw_greet(broker);

	*ret_handle = raw_make(raw, "r", SHMB_PERSISTENT);
	return raw;
}

static void remove_segment(const struct broker *broker, char letter)
{
	struct dirent *entry;
	char path[300];
	unsigned n = 0;
	DIR *directory = opendir("/dev/shm");

	CHECK(directory);
	while ((entry = readdir(directory))) {
		if (!strstr(entry->d_name, broker->instance) ||
		    entry->d_name[strlen(entry->d_name) - 1] != letter)
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		SYS(unlink(path));
		n++;
	}
	closedir(directory);
	CHECK_INT(n, 1);
}

CASE(a_region_whose_data_vanished_is_removed, PRIVATE)
{
	uint64_t handle;
	struct raw *raw = with_a_region(broker, &handle);

	broker_crash(broker);
	remove_segment(broker, 'd');
	broker_restart(broker);
	check_lost(broker, raw_return(broker, raw, 0), handle);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

CASE(a_region_whose_page_vanished_is_removed, PRIVATE)
{
	uint64_t handle;
	struct raw *raw = with_a_region(broker, &handle);

	broker_crash(broker);
	remove_segment(broker, 'p');
	broker_restart(broker);
	check_lost(broker, raw_return(broker, raw, 0), handle);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

CASE(a_region_whose_lock_vanished_is_removed, PRIVATE)
{
	struct wire_region_lock_result result;
	uint64_t handle;
	struct raw *raw = with_a_region(broker, &handle);
	int fd;

	CHECK_OK(raw_region_lock(raw, handle, &result, &fd));
	close(fd);
	broker_crash(broker);
	remove_segment(broker, 'l');
	broker_restart(broker);
	check_lost(broker, raw_return(broker, raw, 0), handle);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

CASE(memfds_without_a_store_are_gone, SYSTEM)
{
	uint64_t handle;
	struct raw *raw = with_a_region(broker, &handle);

	CHECK_INT(broker_stat(broker, "stored_fds_max"), 0);
	replace(broker);
	check_lost(broker, raw_return(broker, raw, 0), handle);
}

CASE(memfds_that_the_store_has_lost_are_gone, SYSTEM, .fd_store = 256)
{
	uint64_t handle;
	struct raw *raw = with_a_region(broker, &handle);

	broker_crash(broker);
	CHECK_INT(store_count(broker->store), 2);
	store_clear(broker->store);
	broker_restart(broker);
	check_lost(broker, raw_return(broker, raw, 0), handle);
	UNTIL(broker, store_count(broker->store) == 0);
}

/* One of the two: the other is of no use, and leaves the store. */
CASE(memfds_of_another_inode_are_refused, SYSTEM, .fd_store = 256)
{
	uint64_t handle;
	struct raw *raw = with_a_region(broker, &handle);

	broker_crash(broker);
	CHECK_INT(store_count(broker->store), 2);
	store_remove(broker->store, "1");
	CHECK_INT(store_count(broker->store), 1);
	store_put(broker->store, "1", SYS(memfd_create("foreign", MFD_CLOEXEC)));
	broker_restart(broker);
	check_lost(broker, raw_return(broker, raw, 0), handle);
	UNTIL(broker, store_count(broker->store) == 0);
}

CASE(named_locks_and_semaphores_without_memory_are_removed, SYSTEM)
{
	struct wire_semaphore_attached semaphore;
	struct wire_lock_attached lock;
	struct layout_locker locker;
	struct raw *raw = raw_greet(broker);

	CHECK_OK(raw_lock_create(raw, "l", 0700, SHMB_PERSISTENT, 4, &lock, &locker));
	CHECK_OK(raw_semaphore_create(raw, "s", SHMB_OWNED, 4, SHMB_PERSISTENT, &semaphore));
	raw = raw_survive(broker, raw, 0);
	CHECK_CODE(raw_remove(raw, "l", RAW_LOCK), SHMB_ENOENT);
	CHECK_CODE(raw_remove(raw, "s", RAW_SEMAPHORE), SHMB_ENOENT);
	CHECK_OK(raw_close(raw, lock.handle));
	CHECK_OK(raw_close(raw, semaphore.handle));
	UNTIL(broker, broker_stat(broker, "locks") + broker_stat(broker, "semaphores") == 0);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	UNTIL(broker, broker_stat(broker, "bytes") == 0);
	raw_locker_unmap(&locker);
	raw_free(raw);
}

/* The library's word for it: what is mapped stays usable. */
CASE(who_has_lost_memory_mapped_keeps_it, SYSTEM)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL), *fresh;
	uint32_t value;

	CHECK_OK(shmb_region_write_u32(region, 0, 42));
	replace(broker);
	CHECK_CODE(shmb_region_stat(client, "r", &info), SHMB_ENOENT);
	CHECK_OK(shmb_region_read_u32(region, 0, &value));
	CHECK_INT(value, 42);
	fresh = create(client, "r", 4096, NULL);
	CHECK_OK(shmb_region_read_u32(fresh, 0, &value));
	CHECK_INT(value, 0);
	shmb_region_free(fresh);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* Whoever asks for it again and again fills no log. */
CASE(what_cannot_be_for_lack_of_memory_that_was_lost_is_told_once, SYSTEM)
{
	struct raw *raw = raw_greet(broker);
	const struct wire_region_handle handle = { .handle = raw_make(raw, "r", SHMB_ATTACHED) };

	raw = raw_survive(broker, raw, 0);
	for (int i = 0; i < 20; i++)
		CHECK_CODE(raw_call(raw, WIRE_REGION_DATA, &handle, NULL), SHMB_EIO);
	CHECK_INT(broker_log_count(broker, "opening the region's memory"), 1);
	raw_free(raw);
}

/* ---- What nobody claims ---- */

static void leave_segment(const struct broker *broker, const char *instance, const char *rest)
{
	char path[200];
	int fd;

	(void)broker;
	snprintf(path, sizeof(path), "/dev/shm/shmb.%s.%s", instance, rest);
	fd = SYS(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	close(fd);
}

CASE(segments_that_nobody_remembers_are_removed, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	char foreign[64], path[200];

	raw_make(raw, "r", SHMB_ATTACHED);
	CHECK_INT(broker_shm_count(broker), 2);
	broker_crash(broker);
	leave_segment(broker, broker->instance, "77777.d");
	leave_segment(broker, broker->instance, "77777.p");
	leave_segment(broker, broker->instance, "1.l");
	leave_segment(broker, broker->instance, "no-segment");
	snprintf(foreign, sizeof(foreign), "test%011d", (int)getpid());
	leave_segment(broker, foreign, "1.d");
	broker_restart(broker);
	CHECK_INT(broker_log_count(broker, "removed 3 segments"), 1);
	CHECK_INT(broker_shm_count(broker), 3);
	snprintf(path, sizeof(path), "/dev/shm/shmb.%s.1.d", foreign);
	SYS(unlink(path));
	snprintf(path, sizeof(path), "/dev/shm/shmb.%s.no-segment", broker->instance);
	SYS(unlink(path));
	raw = raw_return(broker, raw, 0);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

CASE(stored_descriptors_that_nobody_remembers_leave_the_store, SYSTEM, .fd_store = 256)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);
	int ends[2], before;

	CHECK_INT(store_count(broker->store), 2);
	broker_crash(broker);
	SYS(pipe2(ends, O_CLOEXEC));
	store_put(broker->store, "77", SYS(memfd_create("stray", MFD_CLOEXEC)));
	store_put(broker->store, "78", ends[0]); /* nothing of ours at all */
	store_put(broker->store, "79", SYS(open("/dev/null", O_RDWR | O_CLOEXEC)));
	store_put(broker->store, "1", SYS(memfd_create("one too many", MFD_CLOEXEC)));
	store_put(broker->store, "5fff", SYS(memfd_create("the last", MFD_CLOEXEC)));
	close(ends[1]);
	broker_restart(broker);
	/* What has the name of something that is claimed cannot be told apart there. */
	before = (int)store_count(broker->store);
	CHECK(before == 2 || before == 3);
	raw = raw_return(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, store_count(broker->store) == 0);
}

CASE(descriptors_of_unknown_names_do_no_harm, SYSTEM, .fd_store = 256)
{
	static const char *const names[] = { "stored", "listener", "10000", "ABCD", "0", "-1", "" };
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);
	size_t i;

	broker_crash(broker);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		store_put(broker->store, names[i], SYS(memfd_create("stray", MFD_CLOEXEC)));
	broker_restart(broker);
	raw = raw_return(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	store_clear(broker->store);
}

CASE(without_a_manifest_all_is_removed, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);

	broker_crash(broker);
	SYS(unlink(runtime_path(broker, "manifest")));
	CHECK_INT(broker_shm_count(broker), 2);
	broker_restart(broker);
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	CHECK_INT(broker_stat(broker, "regions"), 0);
	CHECK_INT(broker_log_count(broker, "removed 2 segments"), 1);
	CHECK_OK(shmb_region_write_u32(region, 0, 1)); /* what is mapped is */
	shmb_region_free(region);
	shmb_client_free(client);
}
