/* SPDX-License-Identifier: MIT */
/*
 * The manifest as a file that is torn, garbled, full, or cannot be written: the daemon says what is
 * lost, answers who asked for what it cannot remember, and goes on.
 *
 * Knows of the format where its records begin and end, and nothing of what is in them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

/* ---- The file ---- */

enum {
	FILE_MAX = 1 << 20,
	AT_VERSION = 8,
	AT_FIRST = 12,
	AT_BOOT = 24,
	AT_COMMITTED = 40,
	HEADER = 72,
	RECORD_HEADER = 16,
	AT_RECORD_FIXED = 10,
};

struct image {
	unsigned char bytes[FILE_MAX];
	size_t length;    /* of the file */
	size_t committed; /* of it in use */
	size_t ends[256]; /* of the records */
	unsigned n;
};

static uint64_t number_at(const unsigned char *bytes, size_t at, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, bytes + at, size);
	return value;
}

static void find_records(struct image *image)
{
	size_t at = number_at(image->bytes, AT_FIRST, 4), bytes;

	CHECK_INT(at, HEADER);
	image->committed = number_at(image->bytes, AT_COMMITTED, 8);
	CHECK(image->committed <= image->length);
	for (image->n = 0; at < image->committed; image->ends[image->n++] = at) {
		CHECK(image->n < 256);
		bytes = number_at(image->bytes, at + AT_RECORD_FIXED, 2) +
			number_at(image->bytes, at + AT_RECORD_FIXED + 2, 2);
		at += (RECORD_HEADER + bytes + 7) / 8 * 8;
	}
	CHECK_INT(at, image->committed);
}

static struct image *read_image(const struct broker *broker)
{
	struct image *image = calloc(1, sizeof(*image));
	FILE *file = fopen(runtime_path(broker, "manifest"), "re");

	CHECK(image && file);
	image->length = fread(image->bytes, 1, FILE_MAX, file);
	CHECK_OK(fclose(file));
	find_records(image);
	return image;
}

static void write_image(const struct broker *broker, const struct image *image, size_t length)
{
	FILE *file = fopen(runtime_path(broker, "manifest"), "we");

	CHECK(file);
	CHECK_INT(fwrite(image->bytes, 1, length, file), length);
	CHECK_OK(fclose(file));
}

/* ---- The memory: a second name keeps what a daemon removes ---- */

static void link_all(const char *from_prefix, const char *to_prefix)
{
	size_t length = strlen(from_prefix);
	char from[300], to[300];
	struct dirent *entry;
	DIR *directory = opendir("/dev/shm");

	CHECK(directory);
	while ((entry = readdir(directory))) {
		if (strncmp(entry->d_name, from_prefix, length) != 0)
			continue;
		snprintf(from, sizeof(from), "/dev/shm/%s", entry->d_name);
		snprintf(to, sizeof(to), "/dev/shm/%s%s", to_prefix, entry->d_name + length);
		if (link(from, to) < 0 && errno != EEXIST)
			FAIL("%s: %s", to, strerror(errno));
	}
	closedir(directory);
}

static void unlink_all(const char *prefix)
{
	struct dirent *entry;
	char path[300];
	DIR *directory = opendir("/dev/shm");

	CHECK(directory);
	while ((entry = readdir(directory))) {
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
			unlink(path);
	}
	closedir(directory);
}

static unsigned count_links(const char *prefix)
{
	struct dirent *entry;
	unsigned n = 0;
	DIR *directory = opendir("/dev/shm");

	CHECK(directory);
	while ((entry = readdir(directory)))
		n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	closedir(directory);
	return n;
}

struct kept {
	char ours[64], daemons[96];
};

static struct kept keep_memory(const struct broker *broker)
{
	struct kept kept;

	snprintf(kept.ours, sizeof(kept.ours), "shmb-test-kept.%d.", (int)getpid());
	snprintf(kept.daemons, sizeof(kept.daemons), "shmb.%s.", broker->instance);
	link_all(kept.daemons, kept.ours);
	return kept;
}

static void put_memory_back(const struct kept *kept)
{
	link_all(kept->ours, kept->daemons);
}

/* Persistent things alone, so that what is there is a matter of the manifest; in this order. */
enum { THINGS = 12 };

static void make_things(struct broker *broker)
{
	struct raw *raw = raw_greet(broker);
	struct wire_semaphore_attached semaphore;
	struct wire_lock_attached lock;
	struct layout_locker locker;
	char name[16];
	unsigned i;

	for (i = 0; i < THINGS / 3; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		raw_make(raw, name, SHMB_PERSISTENT);
		snprintf(name, sizeof(name), "l%u", i);
		CHECK_OK(raw_lock_create(raw, name, 0700, SHMB_PERSISTENT, 4, &lock, &locker));
		raw_locker_unmap(&locker);
		snprintf(name, sizeof(name), "s%u", i);
		CHECK_OK(raw_semaphore_create(raw, name, SHMB_OWNED, 2, SHMB_PERSISTENT,
					      &semaphore));
	}
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
}

static uint64_t count_things(struct broker *broker)
{
	return broker_stat(broker, "regions") + broker_stat(broker, "locks") +
	       broker_stat(broker, "semaphores");
}

/* The daemon's successor, with another manifest, and all memory there. Return: things found. */
static uint64_t start_with(struct broker *broker, const struct kept *kept,
			   const struct image *image, size_t length)
{
	struct shmb_client *client;
	uint64_t n;

	put_memory_back(kept);
	write_image(broker, image, length);
	broker_restart(broker);
	n = count_things(broker);
	/* It is as good as any. */
	client = connect_to(broker);
	shmb_region_free(create(client, "new", 4096, NULL));
	shmb_client_free(client);
	broker_crash(broker);
	return n;
}

/* Nobody may have got a descriptor of what is behind the cut: what is before it is all there is. */
CASE(a_torn_manifest_is_read_as_far_as_it_goes, PRIVATE, .keeps_fds = true, .timeout_s = 120)
{
	struct image *image;
	struct kept kept;
	uint64_t n, before = 0;
	unsigned i, said;

	make_things(broker);
	broker_crash(broker);
	kept = keep_memory(broker);
	image = read_image(broker);
	CHECK(image->n >= THINGS);
	for (i = 0; i < image->n; i++) {
		/* Within the record, and behind it. */
		said = broker_log_count(broker, "are lost");
		CHECK_INT(start_with(broker, &kept, image, image->ends[i] - 8), before);
		CHECK_INT(broker_log_count(broker, "are lost"), said + 1);
		n = start_with(broker, &kept, image, image->ends[i]);
		CHECK(n == before || n == before + 1);
		before = n;
	}
	CHECK_INT(before, THINGS);
	write_image(broker, image, image->length);
	put_memory_back(&kept);
	broker_restart(broker);
	CHECK_INT(count_things(broker), THINGS);
	unlink_all(kept.ours);
	free(image);
}

CASE(a_garbled_record_ends_what_can_be_read, PRIVATE, .keeps_fds = true, .timeout_s = 120)
{
	struct image *image;
	struct kept kept;
	uint64_t n, before = 0;
	unsigned i, said;
	size_t at;

	make_things(broker);
	broker_crash(broker);
	kept = keep_memory(broker);
	image = read_image(broker);
	for (i = 1; i < image->n; i++) {
		said = broker_log_count(broker, "are lost");
		/* A different byte of each: sum, type, lengths, what is in it. */
		at = image->ends[i - 1] + i * 7 % (image->ends[i] - image->ends[i - 1]);
		image->bytes[at] ^= (unsigned char)(1 << i % 8);
		n = start_with(broker, &kept, image, image->length);
		CHECK(n == before || n == before + 1);
		before = n;
		CHECK_INT(broker_log_count(broker, "are lost"), said + 1);
		image->bytes[at] ^= (unsigned char)(1 << i % 8);
	}
	CHECK_INT(start_with(broker, &kept, image, image->length), THINGS);
	unlink_all(kept.ours);
	free(image);
	broker_restart(broker);
}

/* Whatever is wrong with the header, the daemon serves, or says why not and touches nothing. */
CASE(a_garbled_header_is_no_crash, PRIVATE, .keeps_fds = true, .timeout_s = 120)
{
	struct image *image, *after;
	unsigned i, served = 0, refused = 0;
	struct kept kept;
	int status;

	make_things(broker);
	broker_crash(broker);
	kept = keep_memory(broker);
	image = read_image(broker);
	for (i = 0; i < HEADER; i++) {
		image->bytes[i] ^= 0x40;
		put_memory_back(&kept);
		write_image(broker, image, image->length);
		if (i >= AT_VERSION && i < AT_VERSION + 4) { /* a version to come */
			broker_launch(broker);
			status = broker_await(broker);
			CHECK_INT(status, 5);
			CHECK_INT(count_links(kept.daemons), count_links(kept.ours));
			refused++;
		} else {
			broker_restart(broker);
			CHECK(count_things(broker) <= THINGS);
			if (i >= AT_BOOT && i < AT_BOOT + 16) /* of another boot */
				CHECK_INT(count_things(broker), 0);
			broker_crash(broker);
			served++;
		}
		image->bytes[i] ^= 0x40;
	}
	CHECK_INT(refused, 4);
	CHECK_INT(served, HEADER - 4);
	CHECK(broker_log_count(broker, "makes no sense") > 0);
	/* A file of another kind, none, and an empty one. */
	for (i = 0; i < 3; i++) {
		write_image(broker, image, i == 0 ? HEADER - 1 : 0);
		if (i == 2) {
			SYS(unlink(runtime_path(broker, "manifest")));
			SYS(mkfifo(runtime_path(broker, "manifest"), 0600));
		}
		broker_restart(broker);
		CHECK_INT(count_things(broker), 0);
		broker_crash(broker);
	}
	after = read_image(broker);
	free(after);
	unlink_all(kept.ours);
	free(image);
	broker_restart(broker);
}

/* A new one that was not finished is of no interest. */
CASE(an_unfinished_rewrite_is_passed_over, PRIVATE)
{
	FILE *file;

	make_things(broker);
	broker_crash(broker);
	file = fopen(runtime_path(broker, "manifest.new"), "we");
	CHECK(file && fputs("half of it", file) >= 0);
	CHECK_OK(fclose(file));
	broker_restart(broker);
	CHECK_INT(count_things(broker), THINGS);
	CHECK(access(runtime_path(broker, "manifest.new"), F_OK) < 0);
}

CASE(it_is_written_anew_before_it_grows_too_much, PRIVATE, .timeout_s = 60)
{
	struct raw *raw = raw_greet(broker);
	uint64_t most = 0, now;
	unsigned i;

	make_things(broker);
	for (i = 0; i < 10000; i++) {
		CHECK_OK(raw_close(raw, raw_make(raw, "r", SHMB_ATTACHED)));
		if (i % 100)
			continue;
		now = broker_stat(broker, "manifest_bytes");
		most = now > most ? now : most;
	}
	CHECK(most < 2 << 20);
	CHECK(most > 1 << 19);
	raw = raw_survive(broker, raw, 0);
	CHECK_INT(count_things(broker), THINGS);
	raw_free(raw);
}

/* ---- No room ---- */

static void long_name(unsigned i, char name[SHMB_NAME_MAX + 1])
{
	snprintf(name, SHMB_NAME_MAX + 1, "%0*u", SHMB_NAME_MAX, i);
}

static int create_long(struct raw *raw, unsigned i)
{
	char name[SHMB_NAME_MAX + 1];
	struct wire_semaphore_create_params params = { .kind = SHMB_COUNTING, .maximum = 1 };

	long_name(i, name);
	params.name = wire_string(name);
	return raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, NULL);
}

/* Semaphores until there is no room to remember one more. Return: how many. */
static unsigned fill(struct broker *broker, struct raw *raw)
{
	struct figures before, now;
	unsigned n = 0;
	int r;

	while ((r = create_long(raw, n)) == 0)
		CHECK(n++ < 20000);
	CHECK_CODE(r, SHMB_ENOSPC);
	before = figures_read(broker);
	CHECK_CODE(create_long(raw, n), SHMB_ENOSPC);
	now = figures_read(broker);
	figures_check(&now, &before);
	return n;
}

static void make_room(const struct broker *broker)
{
	SYS(mount(NULL, broker->runtime, NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=8m"));
}

CASE(no_room_for_the_manifest_is_an_error_of_who_creates, PRIVATE, .runtime_mount = "size=1m",
     .timeout_s = 60)
{
	struct raw *raw = raw_greet(broker), *other;
	uint64_t handle = raw_make(raw, "r", SHMB_PERSISTENT);
	uint64_t going = raw_make(raw, "going", SHMB_ATTACHED);
	unsigned n = fill(broker, raw), i;
	char name[SHMB_NAME_MAX + 1];

	/* All else goes on: looking, changing sizes, closing, removing, coming and going. */
	other = raw_connect(broker);
	raw_free(other);
	CHECK_OK(raw_stat_handle(raw, handle));
	CHECK_OK(raw_close(raw, going));
	CHECK_OK(raw_close(raw, handle));
	CHECK_OK(raw_remove(raw, "r", RAW_REGION));
	for (i = 0; i < n; i++) {
		long_name(i, name);
		CHECK_OK(raw_remove(raw, name, RAW_SEMAPHORE));
	}
	make_room(broker);
	raw = raw_survive(broker, raw, 0);
	CHECK_INT(broker_stat(broker, "semaphores"), n); /* they are open, and have no names */
	CHECK_INT(broker_stat(broker, "regions"), 0);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
}

CASE(sessions_end_without_room, PRIVATE, .runtime_mount = "size=1m", .timeout_s = 60)
{
	struct raw *raw = raw_greet(broker);

	fill(broker, raw);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	/* There is room again. */
	raw = raw_greet(broker);
	fill(broker, raw);
	raw_free(raw);
}

/* Writing it anew takes as much again; who cannot says so, and goes on with the old one. */
CASE(a_daemon_without_room_to_write_takes_over_all_the_same, PRIVATE, .runtime_mount = "size=1m",
     .timeout_s = 60)
{
	struct raw *raw = raw_greet(broker), *other;
	unsigned n = fill(broker, raw), i;
	char name[SHMB_NAME_MAX + 1];

	for (i = 0; i < 2; i++) {
		raw = raw_survive(broker, raw, 0);
		CHECK_INT(broker_log_count(broker, "No space left on device"), i + 1);
		CHECK_INT(broker_stat(broker, "semaphores"), n);
		CHECK_CODE(create_long(raw, n), SHMB_ENOSPC);
		/* Who is new can remove things. */
		other = raw_greet(broker);
		long_name(i, name);
		CHECK_OK(raw_remove(other, name, RAW_SEMAPHORE));
		raw_free(other);
		UNTIL(broker, broker_stat(broker, "connections") == 2);
	}
	make_room(broker);
	UNTIL(broker, create_long(raw, n) == 0);
	raw = raw_survive(broker, raw, 0);
	CHECK_INT(broker_stat(broker, "semaphores"), n + 1);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
}

/* ---- Calls that fail ---- */

/* The first growth of the file, when so many have been made, fails so. */
static void fail_growth(struct broker *broker, enum fault fault, int error, int expected)
{
	struct raw *raw = raw_greet(broker);
	unsigned n = 0;
	int r;

	broker_fault(broker, fault, error, 0, FAULT_FOREVER);
	while ((r = create_long(raw, n)) == 0)
		CHECK(n++ < 20000);
	CHECK_CODE(r, expected);
	CHECK(broker_fault_hits(broker, fault) > 0);
	CHECK_INT(broker_stat(broker, "semaphores"), n);
	broker_fault(broker, fault, 0, 0, 0);
	CHECK_OK(create_long(raw, n));
	raw = raw_survive(broker, raw, 0);
	CHECK_INT(broker_stat(broker, "semaphores"), n + 1);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
}

CASE(a_file_that_cannot_grow_is_told, PRIVATE, .faults = true, .timeout_s = 60)
{
	fail_growth(broker, FAULT_FALLOCATE, ENOSPC, SHMB_ENOSPC);
}

CASE(a_mapping_that_cannot_grow_is_told, PRIVATE, .faults = true, .timeout_s = 60)
{
	fail_growth(broker, FAULT_MREMAP, ENOMEM, SHMB_ENOMEM);
}

/* A daemon that cannot begin touches nothing, and the next one can. */
static void fail_to_begin(struct broker *broker, enum fault fault, int error)
{
	unsigned said = broker_log_count(broker, "cannot take over");

	broker_crash(broker);
	broker_fault(broker, fault, error, 0, FAULT_FOREVER);
	broker_launch(broker);
	CHECK_INT(broker_await(broker), 1);
	CHECK(broker_fault_hits(broker, fault) > 0);
	CHECK_INT(broker_log_count(broker, "cannot take over"), said + 1);
	broker_fault(broker, fault, 0, 0, 0);
	broker_restart(broker);
	CHECK_INT(count_things(broker), THINGS);
}

CASE(a_daemon_that_cannot_take_over_leaves_all_as_it_is, PRIVATE, .faults = true)
{
	make_things(broker);
	fail_to_begin(broker, FAULT_SHM_RENAME, EACCES);
	fail_to_begin(broker, FAULT_FALLOCATE, EIO);
	fail_to_begin(broker, FAULT_MMAP, ENOMEM);
}

/* While it serves, a rewrite that fails is tried again, and nothing is forgotten meanwhile. */
CASE(a_rewrite_that_fails_forgets_nothing, PRIVATE, .faults = true, .timeout_s = 60)
{
	struct raw *raw = raw_greet(broker);
	unsigned i;

	make_things(broker);
	broker_fault(broker, FAULT_SHM_RENAME, EACCES, 0, 3);
	for (i = 0; i < 10000; i++)
		CHECK_OK(raw_close(raw, raw_make(raw, "r", SHMB_ATTACHED)));
	UNTIL(broker, broker_fault_hits(broker, FAULT_SHM_RENAME) == 3);
	UNTIL(broker, broker_stat(broker, "manifest_bytes") < 3 << 19);
	raw = raw_survive(broker, raw, 0);
	CHECK_INT(count_things(broker), THINGS);
	raw_free(raw);
}

/* ---- The store that does not listen ---- */

CASE(memory_that_cannot_be_stored_is_not_made, SYSTEM, .faults = true, .fd_store = 256)
{
	struct shmb_client *client = connect_to(broker);
	struct figures before = figures_read(broker), now;
	struct shmb_region *region = NULL;
	struct shmb_lock *lock = NULL;
	struct shmb_semaphore *semaphore = NULL;

	broker_fault(broker, FAULT_NOTIFY, ENOBUFS, 0, FAULT_FOREVER);
	CHECK(shmb_region_create(client, "r", 4096, NULL, &region) < 0);
	CHECK(shmb_lock_create(client, "l", NULL, &lock) < 0);
	CHECK(shmb_semaphore_create(client, "s", NULL, &semaphore) < 0);
	CHECK(broker_fault_hits(broker, FAULT_NOTIFY) > 0);
	now = figures_read(broker);
	figures_check(&now, &before);
	CHECK_INT(broker_stat(broker, "stored_fds"), 0);
	broker_fault(broker, FAULT_NOTIFY, 0, 0, 0);
	region = create(client, "r", 4096, NULL);
	CHECK_INT(broker_stat(broker, "stored_fds"), 2);
	CHECK_INT(store_count(broker->store), 2);
	shmb_region_free(region);
	shmb_client_free(client);
}
