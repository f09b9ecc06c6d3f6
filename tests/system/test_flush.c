/* SPDX-License-Identifier: MIT */
/*
 * Flushing: that the bytes are on the disk when it returns, when policies do it and what they
 * count, and what becomes of errors.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <shmbroker/io.h>

#include "slow_disk.h"

enum { SIZE = 65536, PAGE = 4096, LONG_MS = 3600000 };

/* What fsync() was last called for, and what it is to say. */
static struct {
	struct stat file;
	unsigned calls;
	int error;
} synced;

BEFORE_LIBC int fsync(int fd)
{
	synced.calls++;
	SYS(fstat(fd, &synced.file));
	if (synced.error == 0)
		return (int)syscall(SYS_fsync, fd);
	errno = synced.error;
	return -1;
}

static void begin(void)
{
	disk_go_on();
	disk_fail(0, 0);
	synced.calls = 0;
	synced.error = 0;
}

/* ---- What the kernel still has to write: cachestat(2), Linux 6.5 ---- */

struct cache_range {
	uint64_t offset, length;
};

struct cache_state {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

enum { CACHESTAT = 451 };

/* Pages of a file that are not on the disk. Return: -1: this system does not tell. */
static int64_t unwritten(struct broker *broker, const char *name, uint64_t offset, uint64_t length)
{
	int fd = SYS(open(broker_path(broker, name), O_RDONLY | O_CLOEXEC));
	const struct cache_range range = { offset, length };
	struct cache_state state = { 0 };
	int64_t result = -1;

	if (syscall(CACHESTAT, fd, &range, &state, 0) == 0)
		result = (int64_t)(state.dirty + state.writeback);
	close(fd);
	return result;
}

/* ---- Writing that is only begun ---- */

static struct begun {
	unsigned calls, flags; /* of the last one */
	int error;             /* errno of the next one */
} begun;

BEFORE_LIBC int sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
	int error = begun.error;

	begun.calls++;
	begun.flags = flags;
	begun.error = 0;
	if (error == 0)
		return (int)syscall(SYS_sync_file_range, fd, offset, length, flags);
	errno = error;
	return -1;
}

/* The file is new, and written to a page at @offset and one at the end. */
static struct shmb_region *create_dirty(struct broker *broker, struct shmb_client *client)
{
	struct shmb_region *region = create_file(broker, client, "f", SIZE);

	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	CHECK_OK(shmb_region_write(region, 100, "first", 6, 0));
	CHECK_OK(shmb_region_write(region, SIZE - PAGE, "last", 5, 0));
	if (unwritten(broker, "f", 0, SIZE) != 2) {
		shmb_region_free(region);
		shmb_client_free(client);
		SKIP("the kernel does not tell what it has not written, or the file is on no disk");
	}
	return region;
}

CASE(F30_after_a_flush_nothing_is_left_to_be_written, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	begin();
	region = create_dirty(broker, client);
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	CHECK_INT(unwritten(broker, "f", 0, SIZE), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F30_a_range_is_flushed_and_the_rest_is_not, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	begin();
	region = create_dirty(broker, client);
	CHECK_OK(shmb_region_flush(region, SIZE - PAGE + 3, 1, 0));
	CHECK_INT(unwritten(broker, "f", SIZE - PAGE, PAGE), 0);
	CHECK_INT(unwritten(broker, "f", 0, PAGE), 1);
	CHECK_OK(shmb_region_flush(region, 200, 0, 0)); /* from there on, page by page */
	CHECK_INT(unwritten(broker, "f", 0, SIZE), 0);
	CHECK_OK(shmb_region_write(region, 3 * PAGE - 2, "over", 4, 0)); /* from page to page */
	CHECK_INT(unwritten(broker, "f", 0, SIZE), 2);
	CHECK_OK(shmb_region_flush(region, 3 * PAGE - 2, 4, 0));
	CHECK_INT(unwritten(broker, "f", 0, SIZE), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F30_starting_a_flush_does_not_wait_for_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	int64_t end;

	begin();
	region = create_dirty(broker, client);
	disk_get_stuck();
	CHECK_OK(shmb_region_flush(region, 0, 0, SHMB_FLUSH_START));
	disk_go_on();
	/* Long before the kernel would have come to it, which takes half a minute. */
	for (end = harness_now_ms() + 10000; unwritten(broker, "f", 0, SIZE) > 0;)
		CHECK(harness_now_ms() < end);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F30_what_cannot_be_begun_is_told, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);

	begin();
	begun = (struct begun){ .error = EIO };
	CHECK_CODE(shmb_region_flush(region, 0, 0, SHMB_FLUSH_START), SHMB_EIO);
	CHECK_CODE(shmb_region_last_flush(region), SHMB_EIO);
	begun.error = ESPIPE; /* a file that has no such thing: waiting will do it */
	CHECK_OK(shmb_region_flush(region, 0, 0, SHMB_FLUSH_START));
	CHECK_OK(shmb_region_flush(region, 0, 0, SHMB_FLUSH_START));
	CHECK_INT(begun.calls, 3);
	CHECK_INT(begun.flags & (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Of a mapping of a descriptor that is read-only msync(2) thinks that it has nothing to write. */
CASE(F30_who_only_reads_flushes_what_others_wrote, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *reader;

	begin();
	region = create_dirty(broker, client);
	reader = open_region(client, "f", SHMB_READ);
	CHECK_OK(shmb_region_flush(reader, 0, 0, 0));
	CHECK_INT(unwritten(broker, "f", 0, SIZE), 0);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* By another process, through a mapping that knows nothing of ours. */
static void see_it(struct broker *broker, void *argument)
{
	int fd = SYS(open(broker_path(broker, "f"), O_RDONLY | O_CLOEXEC));
	const char *data = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

	CHECK(data != MAP_FAILED);
	CHECK_STRING(data + 5000, argument);
}

CASE(F30_a_fresh_mapping_of_the_file_by_another_process_sees_what_was_flushed, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	char text[] = "flushed";

	begin();
	SYS(chmod(broker_path(broker, "f"), 0644));
	CHECK_OK(shmb_region_write_string(region, 5000, text));
	CHECK_OK(shmb_region_flush(region, 5000, sizeof(text), 0));
	actor_run(broker, &BOB, see_it, text);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- The name of a file ---- */

static bool was_synced(const char *directory)
{
	struct stat status;

	SYS(stat(directory, &status));
	return synced.calls == 1 && synced.file.st_dev == status.st_dev &&
	       synced.file.st_ino == status.st_ino;
}

static int make(struct broker *broker, struct shmb_client *client, const char *name, unsigned flags,
		struct shmb_region **ret_region)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	char path[128];

	snprintf(path, sizeof(path), "%s", broker_path(broker, name));
	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.file_flags = flags;
	synced.calls = 0;
	return shmb_region_create(client, "name", PAGE, &options, ret_region);
}

CASE(F30_the_name_of_a_file_that_is_made_is_on_the_disk_before_its_region_is_there, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region *region = NULL;
	char elsewhere[128];

	begin();
	CHECK_OK(make(broker, client, "f", SHMB_FILE_CREATE, &region));
	CHECK(was_synced(broker_path(broker, "")));
	shmb_region_free(region);
	/* Who made it may have died before it came to that. */
	CHECK_OK(make(broker, client, "f", SHMB_FILE_CREATE, &region));
	CHECK(was_synced(broker_path(broker, "")));
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	CHECK_INT(synced.calls, 1);
	shmb_region_free(region);
	CHECK_OK(make(broker, client, "f", 0, &region)); /* it had to be there */
	CHECK_INT(synced.calls, 0);
	shmb_region_free(region);

	/* The name is where the links lead. */
	snprintf(elsewhere, sizeof(elsewhere), "%s", broker_path(broker, "elsewhere"));
	SYS(mkdir(elsewhere, 0700));
	SYS(symlink("elsewhere/g", broker_path(broker, "link")));
	CHECK_OK(make(broker, client, "link", SHMB_FILE_CREATE, &region));
	CHECK(was_synced(elsewhere));
	shmb_region_free(region);
	SYS(unlink(broker_path(broker, "link")));
	SYS(unlink(broker_path(broker, "elsewhere/g")));
	SYS(rmdir(elsewhere));

	synced.error = EINVAL; /* a file system that knows of no such thing */
	CHECK_OK(make(broker, client, "h", SHMB_FILE_CREATE, &region));
	CHECK_INT(synced.calls, 1);
	shmb_region_free(region);
	synced.error = EIO;
	CHECK_CODE(make(broker, client, "h", SHMB_FILE_CREATE, &region), SHMB_EIO);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_STRING(error.what, "file");
	CHECK_CODE(shmb_region_remove(client, "name"), SHMB_ENOENT);
	begin();
	shmb_client_free(client);
}

static void make_without_reading(struct broker *broker, void *argument)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);

	options.backing = SHMB_BACKING_FILE;
	options.path = argument;
	options.file_flags = SHMB_FILE_CREATE;
	shmb_region_free(create(client, "f", PAGE, &options));
	CHECK_INT(synced.calls, 0);
	shmb_client_free(client);
}

CASE(F30_a_directory_that_may_not_be_read_is_left_to_the_system, SYSTEM,
     .config = "[broker]\nallow-adopt = 1001\n")
{
	char directory[128], path[160];

	begin();
	snprintf(directory, sizeof(directory), "%s", broker_path(broker, "box"));
	snprintf(path, sizeof(path), "%s/file", directory);
	SYS(mkdir(directory, 0700));
	SYS(chmod(directory, 0733));
	actor_run(broker, &ALICE, make_without_reading, path);
	SYS(unlink(path));
	SYS(rmdir(directory));
}

/* ---- The death of everything ---- */

/* A file system of its own, whose "disk" is a file that can be copied at any moment: what is in the
 * copy is what a machine would find after losing power then. */
struct island {
	char disk[96], copy[96], mount[96], copy_mount[96], file[112];
};

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
	char command[512] = "exec >/dev/null 2>&1; PATH=$PATH:/sbin:/usr/sbin; ";
	size_t length = strlen(command);
	va_list arguments;
	int status;

	va_start(arguments, format);
	vsnprintf(command + length, sizeof(command) - length, format, arguments);
	va_end(arguments);
	status = system(command); // NOLINT(cert-env33-c) mkfs and mount are commands
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* In a mount namespace of this process, so that nothing can be left mounted. */
static bool island_make(struct broker *broker, struct island *island)
{
	snprintf(island->disk, sizeof(island->disk), "%s", broker_path(broker, "disk"));
	snprintf(island->copy, sizeof(island->copy), "%s", broker_path(broker, "copy"));
	snprintf(island->mount, sizeof(island->mount), "%s", broker_path(broker, "mount"));
	snprintf(island->copy_mount, sizeof(island->copy_mount), "%s",
		 broker_path(broker, "copied"));
	snprintf(island->file, sizeof(island->file), "%s/file", island->mount);
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mkdir(island->mount, 0700) == 0 && mkdir(island->copy_mount, 0700) == 0 &&
	       run("truncate -s 16M '%s' && mkfs.ext2 -F '%s' && mount -o loop '%s' '%s'",
		   island->disk, island->disk, island->disk, island->mount) == 0;
}

static void island_remove(const struct island *island)
{
	umount2(island->mount, MNT_DETACH);
	rmdir(island->mount);
	rmdir(island->copy_mount);
	unlink(island->disk);
	unlink(island->copy);
}

static const char durable[] = "on the disk";
enum { DURABLE_AT = 3 * PAGE + 17 };

/* Would it be there if the power went now? */
static bool is_on_disk(const struct island *island)
{
	char path[128], seen[sizeof(durable)] = "";
	int fd;

	CHECK_OK(run("cp '%s' '%s' && mount -o loop,ro '%s' '%s'", island->disk, island->copy,
		     island->copy, island->copy_mount));
	snprintf(path, sizeof(path), "%s/file", island->copy_mount);
	fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
	CHECK_INT(SYS(pread(fd, seen, sizeof(seen), DURABLE_AT)), sizeof(seen));
	close(fd);
	CHECK_OK(run("umount '%s'", island->copy_mount));
	return memcmp(seen, durable, sizeof(durable)) == 0;
}

static void flush_and_be_killed(struct broker *broker, void *argument)
{
	const struct island *island = argument;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	options.backing = SHMB_BACKING_FILE;
	options.path = island->file;
	region = create(client, "f", 0, &options);
	CHECK_OK(shmb_region_write(region, DURABLE_AT, durable, sizeof(durable), 0));
	say(1);
	hear();
	CHECK_OK(shmb_region_flush(region, 3 * PAGE, PAGE, 0));
	kill(broker->pid, SIGKILL);
	kill(getpid(), SIGKILL);
}

CASE(F30_what_was_flushed_survives_the_death_of_everything, SYSTEM, .exit_unclean = true,
     .timeout_s = 60)
{
	struct island island;
	struct actor actor;
	struct pollfd death;
	int fd;

	if (geteuid() != 0 || !island_make(broker, &island)) {
		island_remove(&island);
		SKIP("no file system can be made and mounted here");
	}
	fd = SYS(open(island.file, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(fd, (off_t)16 * PAGE));
	SYS(fsync(fd)); /* that there is a file is not in question, its bytes are */
	close(fd);
	actor = actor_start(broker, &SELF, flush_and_be_killed, &island);
	actor_hear(&actor);
	if (is_on_disk(&island))
		print_message("the system has written it by itself: this proves little\n");
	actor_say(&actor, 1);
	death = (struct pollfd){ .fd = actor.pidfd, .events = POLLIN };
	CHECK_INT(SYS(poll(&death, 1, 20000)), 1);
	actor_kill(&actor);
	broker_kill(broker);
	CHECK(is_on_disk(&island));
	island_remove(&island);
}

/* ---- Where there is nothing to do ---- */

CASE(F30_memory_and_private_mappings_have_nothing_to_flush, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file, *private = NULL, *memory = create(client, "m", SIZE, NULL);
	char seen[8] = "";
	unsigned calls;
	int fd;

	begin();
	file = create_file(broker, client, "f", SIZE);
	options.flags = SHMB_PRIVATE;
	CHECK_OK(shmb_region_open(client, "f", SHMB_READ | SHMB_WRITE, &options, &private));
	calls = disk_calls();
	CHECK_OK(shmb_region_write(memory, 0, "memory", 7, 0));
	CHECK_OK(shmb_region_flush(memory, 0, 0, 0));
	CHECK_OK(shmb_region_flush(memory, 0, 0, SHMB_FLUSH_START));
	CHECK_OK(shmb_region_write(private, 0, "private", 8, 0));
	CHECK_OK(shmb_region_flush(private, 0, 0, 0));
	CHECK_OK(shmb_region_last_flush(private));
	CHECK_INT(disk_calls(), calls);
	fd = SYS(open(broker_path(broker, "f"), O_RDONLY | O_CLOEXEC));
	CHECK_INT(SYS(pread(fd, seen, sizeof(seen), 0)), sizeof(seen));
	CHECK_STRING(seen, "");
	close(fd);
	shmb_region_free(file);
	shmb_region_free(private);
	shmb_region_free(memory);
	shmb_client_free(client);
}

/* ---- Errors ---- */

CASE(F12_how_the_last_flush_ended, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	struct shmb_error error = { .struct_size = sizeof(error) };
	char sentence[256];

	begin();
	CHECK_OK(shmb_region_last_flush(region)); /* there was none */
	disk_fail(ENOSPC, 1);
	CHECK_CODE(shmb_region_flush(region, 0, 0, 0), SHMB_ENOSPC);
	CHECK_CODE(shmb_region_last_flush(region), SHMB_ENOSPC);
	CHECK_OK(shmb_region_last_error(region, &error));
	CHECK_CODE(error.code, SHMB_ENOSPC);
	shmb_error_format(&error, sentence, sizeof(sentence));
	CHECK(strstr(sentence, ": flush"));
	CHECK_CODE(shmb_region_flush(region, SIZE, 1, 0), SHMB_EBOUNDS); /* which was none */
	CHECK_CODE(shmb_region_last_flush(region), SHMB_ENOSPC);
	CHECK_OK(shmb_region_flush(region, 0, 1, SHMB_FLUSH_START));
	CHECK_OK(shmb_region_last_flush(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

static void expect_forked(struct shmb_region *region)
{
	struct shmb_flush_policy policy = SHMB_FLUSH_POLICY_INIT;
	int status;
	pid_t pid = SYS(fork());

	if (pid == 0)
		_exit(shmb_region_flush(region, 0, 0, 0) == SHMB_EFORKED &&
				      shmb_region_set_flush_policy(region, &policy) ==
					      SHMB_EFORKED &&
				      shmb_region_wrote(region, 0, 1) == SHMB_EFORKED &&
				      shmb_region_pending(region) == 0
			      ? 0
			      : 1);
	SYS(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
}

CASE(F30_what_the_disk_refuses_is_told_and_kept, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	struct shmb_region *reader = open_region(client, "f", SHMB_READ);
	struct shmb_error error = { .struct_size = sizeof(error) };

	begin();
	CHECK_OK(shmb_region_last_flush(region));
	disk_fail(EIO, 1);
	CHECK_CODE(shmb_region_flush(region, 0, 0, 0), SHMB_EIO);
	CHECK_CODE(shmb_region_last_flush(region), SHMB_EIO);
	CHECK_OK(shmb_region_last_error(region, &error));
	CHECK_CODE(error.code, SHMB_EIO);
	CHECK_STRING(error.what, "flush");
	CHECK_OK(shmb_region_last_flush(reader));
	disk_fail(ENOSPC, 1);
	CHECK_CODE(shmb_region_flush(region, 0, 0, 0), SHMB_ENOSPC);
	disk_fail(EINTR, 3); /* which is no error */
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	CHECK_OK(shmb_region_last_flush(region));

	CHECK_CODE(shmb_region_flush(region, 0, SIZE + 1, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_flush(region, SIZE + 1, 0, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_flush(region, 0, 0, 2), SHMB_EINVAL);
	CHECK_OK(shmb_region_last_flush(region)); /* these were none */
	expect_forked(region);
	CHECK_OK(shmb_region_close(region));
	CHECK_CODE(shmb_region_flush(region, 0, 0, 0), SHMB_ECLOSED);
	shmb_region_free(region);
	shmb_region_free(reader);
	shmb_client_free(client);
}

/* The kernel tells one of those that share the broker's descriptor, and thinks that all know. */
CASE(F30_what_one_could_not_write_others_hear_of_once, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *one = create_file(broker, client, "f", SIZE);
	struct shmb_region *two = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	struct shmb_region *reader = open_region(client, "f", SHMB_READ), *late;

	begin();
	disk_fail(EIO, 1);
	CHECK_CODE(shmb_region_flush(one, 0, PAGE, 0), SHMB_EIO);
	late = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	CHECK_CODE(shmb_region_flush(two, SIZE - PAGE, 0, 0), SHMB_EIO);
	CHECK_CODE(shmb_region_last_flush(two), SHMB_EIO);
	CHECK_CODE(shmb_region_flush(reader, 0, 0, 0), SHMB_EIO);
	CHECK_OK(shmb_region_flush(late, 0, 0, 0));
	CHECK_OK(shmb_region_flush(one, 0, 0, 0));
	CHECK_OK(shmb_region_flush(two, 0, 0, 0));
	CHECK_OK(shmb_region_flush(reader, 0, 0, 0));
	CHECK_OK(shmb_region_last_flush(reader));
	shmb_region_free(one);
	shmb_region_free(two);
	shmb_region_free(reader);
	shmb_region_free(late);
	shmb_client_free(client);
}

static void *flush_all(void *region)
{
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	return NULL;
}

/* The handle goes on in a longer mapping; what is flushed is what was written to the other one. */
CASE(F30_a_file_that_gets_longer_meanwhile_is_flushed, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *other;
	pthread_t thread;
	uint8_t byte;

	begin();
	region = create_dirty(broker, client);
	other = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	disk_get_stuck();
	CHECK_INT(pthread_create(&thread, NULL, flush_all, region), 0);
	disk_await_waiting(1);
	CHECK_OK(shmb_region_resize(other, 4 * SIZE));
	CHECK_OK(shmb_region_read_u8(region, 2 * SIZE, &byte)); /* it has followed */
	disk_go_on();
	CHECK_INT(pthread_join(thread, NULL), 0);
	CHECK_INT(unwritten(broker, "f", 0, SIZE), 0);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void *flush_until_closed(void *region)
{
	CHECK_CODE(shmb_region_flush(region, 0, 0, 0), SHMB_ECLOSED);
	return NULL;
}

/* What it would flush by then is no longer the file. */
CASE(F30_a_flush_during_which_the_handle_is_closed_says_so, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	pthread_t thread;

	begin();
	disk_get_stuck();
	CHECK_INT(pthread_create(&thread, NULL, flush_until_closed, region), 0);
	disk_await_waiting(1);
	CHECK_OK(shmb_region_close(region));
	disk_go_on();
	CHECK_INT(pthread_join(thread, NULL), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Policies: what is counted ---- */

static struct shmb_flush_policy policy_of(uint64_t bytes, uint64_t writes, uint32_t ms)
{
	struct shmb_flush_policy policy = SHMB_FLUSH_POLICY_INIT;

	policy.every_bytes = bytes;
	policy.every_writes = writes;
	policy.every_ms = ms;
	return policy;
}

static void set_policy(struct shmb_region *region, uint64_t bytes, uint64_t writes, uint32_t ms)
{
	struct shmb_flush_policy policy = policy_of(bytes, writes, ms);

	CHECK_OK(shmb_region_set_flush_policy(region, &policy));
}

CASE(F31_without_a_policy_nothing_is_flushed_or_counted, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	struct shmb_flush_policy policy = SHMB_FLUSH_POLICY_INIT;
	unsigned calls;

	begin();
	calls = disk_calls();
	CHECK_OK(shmb_region_write(region, 0, "x", 1, 0));
	CHECK_OK(shmb_region_wrote(region, 0, 100));
	CHECK_INT(shmb_region_pending(region), 0);
	set_policy(region, 1000, 0, 0);
	CHECK_OK(shmb_region_write(region, 0, "x", 1, 0));
	CHECK_INT(shmb_region_pending(region), 1);
	set_policy(region, 0, 0, 0);
	CHECK_INT(shmb_region_pending(region), 0);
	CHECK_OK(shmb_region_write(region, 0, "x", 1, 0));
	set_policy(region, 1000, 0, 0); /* and what was written in between was not counted */
	CHECK_INT(shmb_region_pending(region), 0);
	CHECK_OK(shmb_region_get_flush_policy(region, &policy));
	CHECK_INT(policy.every_bytes, 1000);
	CHECK_INT(policy.every_writes, 0);
	CHECK_INT(policy.every_ms, 0);
	CHECK_INT(policy.struct_size, sizeof(policy));
	CHECK_OK(shmb_region_write(region, 0, "x", 1, 0));
	CHECK_INT(disk_calls(), calls);
	shmb_region_free(region); /* without every_ms closing flushes nothing */
	CHECK_INT(disk_calls(), calls);
	shmb_client_free(client);
}

/* Each writing function, and how much is pending after it. */
static void write_in_every_way(struct broker *broker, struct shmb_client *client,
			       struct shmb_region *region, uint64_t *expected)
{
	const struct shmb_buffer buffers[2] = { { "abc", 3 }, { "de", 2 } };
	struct shmb_region *other = create(client, "other", SIZE, NULL);
	struct shmb_window window;
	struct shmb_cursor cursor;
	int fd;

#define CHECK_WROTE(call, bytes)                                   \
	do {                                                       \
		CHECK((call) >= 0);                                \
		*expected += (bytes);                              \
		CHECK_INT(shmb_region_pending(region), *expected); \
	} while (0)
	CHECK_WROTE(shmb_region_write(region, 10, "hello", 5, 0), 5);
	CHECK_WROTE(shmb_region_write(region, 10, "hello", 5, SHMB_LOCKED), 5);
	CHECK_WROTE(shmb_region_write_u8(region, 0, 1), 1);
	CHECK_WROTE(shmb_region_write_u16(region, 0, 1), 2);
	CHECK_WROTE(shmb_region_write_u32(region, 0, 1), 4);
	CHECK_WROTE(shmb_region_write_u64(region, 0, 1), 8);
	CHECK_WROTE(shmb_region_write_u16_le(region, 0, 1), 2);
	CHECK_WROTE(shmb_region_write_u32_le(region, 0, 1), 4);
	CHECK_WROTE(shmb_region_write_u64_le(region, 0, 1), 8);
	CHECK_WROTE(shmb_region_write_string(region, 0, "four"), 5);
	CHECK_WROTE(shmb_region_writev(region, 0, buffers, 2, 0), 5);
	CHECK_OK(shmb_window_open(region, 100, 100, &window));
	CHECK_WROTE(shmb_window_write(&window, 1, "xyz", 3, 0), 3);
	shmb_window_close(&window);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_WROTE(shmb_cursor_write(&cursor, "0123456789", 10), 10);
	shmb_cursor_close(&cursor);
	CHECK_WROTE(shmb_region_copy(other, 0, region, 0, 1000), 1000);
	fd = SYS(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	CHECK_WROTE(shmb_region_import(region, 0, 3 * PAGE, fd, NULL, NULL), 3 * PAGE);
	close(fd);
	CHECK_WROTE(shmb_region_wrote(region, 0, 77), 77);
	/* What does not write does not count. */
	CHECK_CODE(shmb_region_write(region, SIZE, "x", 1, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_wrote(region, SIZE, 1), SHMB_EBOUNDS);
	CHECK_WROTE(shmb_region_copy(region, 0, other, 0, 1000), 0);
	shmb_region_free(other);
#undef CHECK_WROTE
}

CASE(F31_every_way_of_writing_is_counted_exactly, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	uint64_t expected = 0;

	begin();
	set_policy(region, UINT64_MAX, 0, 0);
	write_in_every_way(broker, client, region, &expected);
	CHECK_OK(shmb_region_flush(region, 0, 10, 0)); /* a part is not the whole */
	CHECK_INT(shmb_region_pending(region), expected);
	CHECK_OK(shmb_region_flush(region, 0, 0, SHMB_FLUSH_START)); /* nor is it done yet */
	CHECK_INT(shmb_region_pending(region), expected);
	disk_fail(EIO, 1);
	CHECK_CODE(shmb_region_flush(region, 0, 0, 0), SHMB_EIO);
	CHECK_INT(shmb_region_pending(region), expected);
	CHECK_OK(shmb_region_flush(region, 0, SIZE, 0));
	CHECK_INT(shmb_region_pending(region), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F31_every_write_or_so_many_writes_or_bytes_flush, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	unsigned calls;

	begin();
	set_policy(region, 0, 1, 0);
	calls = disk_calls();
	for (unsigned i = 1; i <= 3; i++) {
		CHECK_OK(shmb_region_write(region, 0, "abc", 3, 0));
		CHECK_INT(disk_calls(), calls + i);
		CHECK_INT(shmb_region_pending(region), 0);
	}
	set_policy(region, 0, 3, 0);
	calls = disk_calls();
	for (unsigned i = 1; i <= 7; i++) {
		CHECK_OK(shmb_region_write_u32(region, 0, i));
		CHECK_INT(disk_calls(), calls + i / 3);
		CHECK_INT(shmb_region_pending(region), i % 3 * 4);
	}
	set_policy(region, 100, 0, 0); /* 4 are pending */
	calls = disk_calls();
	CHECK_OK(shmb_region_wrote(region, 0, 95));
	CHECK_INT(shmb_region_pending(region), 99);
	CHECK_INT(disk_calls(), calls);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_INT(shmb_region_pending(region), 0);
	CHECK_INT(disk_calls(), calls + 1);
	set_policy(region, 100, 2, 0); /* whichever comes first */
	CHECK_OK(shmb_region_wrote(region, 0, 200));
	CHECK_INT(disk_calls(), calls + 2);
	CHECK_OK(shmb_region_wrote(region, 0, 2));
	CHECK_OK(shmb_region_wrote(region, 0, 2));
	CHECK_INT(disk_calls(), calls + 3);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F31_what_writes_nothing_is_no_write, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	unsigned calls;

	begin();
	set_policy(region, 0, 1, 0);
	calls = disk_calls();
	CHECK_INT(shmb_region_import(region, 0, 0, -1, NULL, NULL), SHMB_EINVAL);
	CHECK_CODE(shmb_region_copy(region, 0, region, 1, SIZE), SHMB_EBOUNDS);
	CHECK_INT(disk_calls(), calls);
	/* Nor is what was written under another policy. */
	set_policy(region, 0, 3, 0);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	set_policy(region, 0, 0, 0);
	set_policy(region, 0, 3, 0);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_INT(disk_calls(), calls);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_INT(disk_calls(), calls + 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* It may have missed the disk. */
CASE(F31_what_is_written_during_a_flush_stays_pending, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	pthread_t thread;

	begin();
	set_policy(region, UINT64_MAX, 0, 0);
	CHECK_OK(shmb_region_write(region, 0, "before", 6, 0));
	disk_get_stuck();
	CHECK_INT(pthread_create(&thread, NULL, flush_all, region), 0);
	disk_await_waiting(1);
	CHECK_OK(shmb_region_write(region, 0, "later", 5, 0));
	CHECK_INT(shmb_region_pending(region), 11);
	disk_go_on();
	CHECK_INT(pthread_join(thread, NULL), 0);
	CHECK_INT(shmb_region_pending(region), 5);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F31_a_flush_that_fails_fails_the_write_that_caused_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	uint32_t value = 0;

	begin();
	set_policy(region, 0, 1, 0);
	disk_fail(EIO, 1);
	CHECK_CODE(shmb_region_write_u32(region, 0, 42), SHMB_EIO);
	CHECK_CODE(shmb_region_last_flush(region), SHMB_EIO);
	CHECK_OK(shmb_region_read_u32(region, 0, &value));
	CHECK_INT(value, 42);
	CHECK_INT(shmb_region_pending(region), 4);
	CHECK_OK(shmb_region_write_u32(region, 0, 43)); /* which flushes both */
	CHECK_INT(shmb_region_pending(region), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void check_policy(struct shmb_region *region, uint64_t bytes, uint64_t writes, uint32_t ms)
{
	struct shmb_flush_policy policy = policy_of(7, 7, 7);

	CHECK_OK(shmb_region_get_flush_policy(region, &policy));
	CHECK_INT(policy.every_bytes, bytes);
	CHECK_INT(policy.every_writes, writes);
	CHECK_INT(policy.every_ms, ms);
}

CASE(F11_a_handle_tells_its_flush_policy, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	struct shmb_region *other = open_region(client, "f", SHMB_READ | SHMB_WRITE);

	begin();
	check_policy(region, 0, 0, 0);
	set_policy(region, 1000, 20, LONG_MS);
	check_policy(region, 1000, 20, LONG_MS);
	check_policy(other, 0, 0, 0); /* it is the handle's */
	set_policy(region, 0, 3, 0);
	check_policy(region, 0, 3, 0);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F31_policies_are_for_handles_that_can_write, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "m", SIZE, NULL);
	struct shmb_region *reader = open_region(client, "m", SHMB_READ);
	struct shmb_flush_policy policy = policy_of(1, 0, 0);

	begin();
	CHECK_CODE(shmb_region_set_flush_policy(reader, &policy), SHMB_EMODE);
	CHECK_CODE(shmb_region_wrote(reader, 0, 1), SHMB_EMODE);
	CHECK_CODE(shmb_region_set_flush_policy(region, NULL), SHMB_EINVAL);
	policy.struct_size = 1;
	CHECK_CODE(shmb_region_set_flush_policy(region, &policy), SHMB_EINVAL);
	CHECK_CODE(shmb_region_get_flush_policy(region, &policy), SHMB_EINVAL);
	CHECK_OK(shmb_region_close(region));
	policy = policy_of(1, 0, 0);
	CHECK_CODE(shmb_region_set_flush_policy(region, &policy), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_get_flush_policy(region, &policy), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_wrote(region, 0, 1), SHMB_ECLOSED);
	CHECK_INT(shmb_region_pending(region), 0);
	shmb_region_free(region);
	shmb_region_free(reader);
	shmb_client_free(client);
}

enum { THREADS = 4, WRITES = 1000 };

struct writer {
	struct shmb_region *region;
	uint64_t offset;
};

static void *write_much(void *argument)
{
	const struct writer *writer = argument;

	for (int i = 0; i < WRITES; i++)
		CHECK_OK(shmb_region_write(writer->region, writer->offset, "abc", 3, 0));
	return NULL;
}

static void write_much_at_once(struct shmb_region *region)
{
	struct writer writers[THREADS];
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		writers[i] = (struct writer){ region, (uint64_t)PAGE * i };
		CHECK_INT(pthread_create(&threads[i], NULL, write_much, &writers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		CHECK_INT(pthread_join(threads[i], NULL), 0);
}

CASE(F31_what_several_threads_write_is_counted_exactly, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);

	begin();
	set_policy(region, 0, 0, LONG_MS);
	write_much_at_once(region);
	CHECK_INT(shmb_region_pending(region), THREADS * WRITES * 3);
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	CHECK_INT(shmb_region_pending(region), 0);
	set_policy(region, 1000, 7, 1); /* and all at once, against the timer */
	write_much_at_once(region);
	CHECK(shmb_region_pending(region) < 7 * 3);
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	CHECK_INT(shmb_region_pending(region), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Policies: by time ---- */

CASE(F31_by_time_what_was_written_is_flushed_by_itself, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	unsigned calls;

	begin();
	calls = disk_calls();
	set_policy(region, 0, 0, 20);
	for (unsigned i = 1; i <= 3; i++) {
		int64_t start = harness_now_ms();

		CHECK_OK(shmb_region_write(region, 0, "abc", 3, 0));
		disk_await_calls(calls + i);
		CHECK(harness_now_ms() - start >= 19);
		while (shmb_region_pending(region) > 0)
			;
		CHECK_INT(disk_calls(), calls + i);
	}
	/* What is long is waited for; what becomes short is not. */
	set_policy(region, 0, 0, LONG_MS);
	CHECK_OK(shmb_region_write(region, 0, "abc", 3, 0));
	CHECK_INT(shmb_region_pending(region), 3);
	set_policy(region, 0, 0, 1);
	disk_await_calls(calls + 4);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F31_one_thread_serves_all_timed_handles_and_ends_with_the_client, PRIVATE)
{
	enum { HANDLES = 50 };
	unsigned before = tasks_before().n, calls;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[HANDLES];

	begin();
	calls = disk_calls();
	for (int i = 0; i < HANDLES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		regions[i] = create_file(broker, client, name, PAGE);
		set_policy(regions[i], 0, 0, 10);
		CHECK_OK(shmb_region_write_u8(regions[i], 0, 1));
	}
	CHECK(count_threads() <= before + 2); /* and another waits while it is at work */
	disk_await_calls(calls + HANDLES);
	/* What is pending when the client is freed is flushed then. */
	set_policy(regions[0], 0, 0, LONG_MS);
	CHECK_OK(shmb_region_write_u8(regions[0], 0, 1));
	shmb_client_free(client);
	CHECK_INT(count_threads(), before);
	CHECK_INT(disk_calls(), calls + HANDLES + 1);
	CHECK_INT(shmb_region_pending(regions[0]), 0);
	/* And later what is pending when the handle is. */
	CHECK_OK(shmb_region_write_u8(regions[0], 0, 1));
	CHECK_INT(shmb_region_pending(regions[0]), 1);
	for (int i = 0; i < HANDLES; i++)
		shmb_region_free(regions[i]);
	CHECK_INT(disk_calls(), calls + HANDLES + 2);
}

CASE(F31_closing_flushes_what_waits_for_its_time, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *closed = create_file(broker, client, "f", SIZE);
	struct shmb_region *freed = create_file(broker, client, "g", SIZE);
	struct shmb_region *clean = create_file(broker, client, "h", SIZE);
	unsigned calls;

	begin();
	calls = disk_calls();
	set_policy(closed, 0, 0, LONG_MS);
	set_policy(freed, 0, 0, LONG_MS);
	set_policy(clean, 0, 0, LONG_MS);
	CHECK_OK(shmb_region_write_u8(closed, 0, 1));
	CHECK_OK(shmb_region_write_u8(freed, 0, 1));
	CHECK_OK(shmb_region_close(closed));
	CHECK_INT(disk_calls(), calls + 1);
	shmb_region_free(closed);
	CHECK_INT(disk_calls(), calls + 1);
	shmb_region_free(freed);
	CHECK_INT(disk_calls(), calls + 2);
	shmb_region_free(clean);
	CHECK_INT(disk_calls(), calls + 2);
	shmb_client_free(client);
}

CASE(F31_a_timed_flush_that_fails_shows_and_is_tried_again, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	unsigned calls;

	begin();
	calls = disk_calls();
	set_policy(region, 0, 0, 1);
	disk_fail(EIO, 2);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	disk_await_calls(calls + 1);
	while (shmb_region_last_flush(region) == 0)
		;
	CHECK_CODE(shmb_region_last_flush(region), SHMB_EIO);
	CHECK_INT(shmb_region_pending(region), 1);
	disk_await_calls(calls + 3);
	while (shmb_region_pending(region) > 0)
		;
	CHECK_OK(shmb_region_last_flush(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

static void *free_region(void *region)
{
	return shmb_region_free(region);
}

CASE(F31_closing_waits_for_the_timer_s_flush, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_file(broker, client, "f", SIZE);
	pthread_t thread;

	begin();
	set_policy(region, 0, 0, 1);
	disk_get_stuck();
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	disk_await_waiting(1);
	CHECK_OK(shmb_region_write_u8(region, 0, 1)); /* nobody waits for the disk but the timer */
	CHECK_INT(pthread_create(&thread, NULL, free_region, region), 0);
	disk_go_on();
	CHECK_INT(pthread_join(thread, NULL), 0);
	shmb_client_free(client);
}

static void ignore_end(int status, void *userdata)
{
}

/* Until all other threads of this process wait for something. */
static void await_sleep(void)
{
	struct tasks tasks = look_at_tasks();

	for (unsigned i = 0; i < tasks.n; i++) {
		pid_t task = (pid_t)strtol(tasks.ids[i], NULL, 10);

		if (task != gettid())
			await_asleep(task);
	}
}

/* One thread is at work for long: another sees to what has its time. */
CASE(F31_what_has_its_time_does_not_wait_for_operations, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *slow = create_file(broker, client, "f", SIZE);
	struct shmb_region *region = create_file(broker, client, "g", SIZE);

	begin();
	set_policy(region, 0, 0, 1);
	await_sleep();
	disk_get_stuck();
	CHECK_OK(shmb_region_flush_async(slow, 0, 0, ignore_end, NULL));
	disk_await_waiting(1);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	disk_await_waiting(2);
	disk_go_on();
	while (shmb_region_pending(region) > 0)
		;
	shmb_region_free(region);
	shmb_region_free(slow);
	shmb_client_free(client);
}

/* And the other way round: the time runs already when the only thread is given work. */
CASE(F31_what_has_its_time_is_seen_to_by_another_thread, PRIVATE)
{
	unsigned before = tasks_before().n;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *slow = create_file(broker, client, "f", SIZE);
	struct shmb_region *region = create_file(broker, client, "g", SIZE);

	begin();
	set_policy(region, 0, 0, 100);
	CHECK_INT(count_threads(), before + 1);
	await_sleep();
	disk_get_stuck();
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_OK(shmb_region_flush_async(slow, 0, 0, ignore_end, NULL));
	disk_await_waiting(2);
	disk_go_on();
	shmb_region_free(region);
	shmb_region_free(slow);
	shmb_client_free(client);
}

/* Of a disk that does not answer; what has its time on another one is late once, and not for ever.
 */
CASE(F31_what_has_its_time_does_not_wait_for_what_hangs, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *dead = create_file(broker, client, "f", SIZE);
	struct shmb_region *alive = create_file(broker, client, "g", SIZE);
	int64_t start_ms;

	begin();
	disk_die_for(dead);
	for (int i = 0; i < 5; i++) /* as many as may be under way, and some */
		CHECK_OK(shmb_region_flush_async(dead, 0, 0, ignore_end, NULL));
	disk_await_waiting(2);
	start_ms = harness_now_ms();
	set_policy(alive, 0, 0, 1);
	CHECK_OK(shmb_region_write_u8(alive, 0, 1));
	while (shmb_region_pending(alive) > 0)
		;
	CHECK(harness_now_ms() - start_ms < 1000 * harness_slow()); /* not late at all */

	/* And a flush by time that hangs. */
	set_policy(dead, 0, 0, 1);
	CHECK_OK(shmb_region_write_u8(dead, 0, 1));
	disk_await_waiting(3);
	for (int i = 0; i < 3; i++) {
		CHECK_OK(shmb_region_write_u8(alive, 0, 1));
		while (shmb_region_pending(alive) > 0)
			;
	}
	CHECK_INT(shmb_region_pending(dead), 1);
	shmb_region_free(alive);
	disk_go_on();
	shmb_region_free(dead);
	shmb_client_free(client);
}
