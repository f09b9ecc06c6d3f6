/* SPDX-License-Identifier: MIT */
/*
 * How a region is mapped: for writing alone, privately, at an address, executable, protected,
 * staying. What cannot be is refused, and leaves nothing behind.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "smaps.h"

enum { PAGE = 4096, PAGES = 8, SIZE = PAGES * PAGE };

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

static struct shmb_region *open_with(struct shmb_client *client, const char *name, unsigned access,
				     unsigned flags)
{
	struct shmb_region_options options = with_flags(flags);
	struct shmb_region *region = NULL;

	CHECK_OK(shmb_region_open(client, name, access, &options, &region));
	return region;
}

static uint8_t byte_at(struct shmb_region *region, uint64_t offset)
{
	uint8_t value;

	CHECK_OK(shmb_region_read_u8(region, offset, &value));
	return value;
}

/* ---- F05 ---- */

CASE(F05_a_handle_for_writing_alone_does_not_read, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	struct shmb_region *writer = open_region(client, "r", SHMB_WRITE);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_view view;
	char buffer[8];
	uint32_t value;

	CHECK_INT(shmb_region_access(writer), SHMB_WRITE | SHMB_LOCK);
	CHECK_OK(shmb_region_write_u32(writer, 8, 77));
	CHECK_OK(shmb_region_write(writer, SIZE - 4, "abc", 4, SHMB_LOCKED));
	CHECK_CODE(shmb_region_read(writer, 0, buffer, 8, 0), SHMB_EMODE);
	CHECK_STRING(last(writer).what, "read");
	CHECK_CODE(shmb_region_read(writer, 0, buffer, 8, SHMB_LOCKED), SHMB_EMODE);
	CHECK_CODE(shmb_region_read_u32(writer, 8, &value), SHMB_EMODE);
	CHECK_INT(shmb_region_read_string(writer, 8, buffer, 8), SHMB_EMODE);
	CHECK_CODE(shmb_region_snapshot(writer, 0, buffer, 8), SHMB_EMODE);
	CHECK_CODE(shmb_region_view(writer, 0, 8, 0, SHMB_READ, &view), SHMB_EMODE);
	CHECK_CODE(shmb_region_protect(writer, 0, 0, SHMB_PROTECT_READ), SHMB_EMODE);
	CHECK_OK(shmb_region_publish(writer, 0, 4));
	CHECK_OK(shmb_region_read_u32(region, 8, &value));
	CHECK_INT(value, 77);
	shmb_region_free(writer);

	options.access = SHMB_WRITE;
	writer = create(client, "w", SIZE, &options);
	CHECK_OK(shmb_region_write_u8(writer, 0, 1));
	CHECK_CODE(shmb_region_read(writer, 0, buffer, 1, 0), SHMB_EMODE);
	shmb_region_free(writer);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void write_without_reading(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;

	CHECK_CODE(shmb_region_open(client, "w/readable", SHMB_WRITE, NULL, &region), 0);
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	shmb_region_free(region);
	/* Who may write may read: there is no memory for writing alone. */
	CHECK_CODE(shmb_region_open(client, "w/not", SHMB_WRITE, NULL, &region), SHMB_EACCES);
	CHECK_CODE(shmb_region_open(client, "r/only", SHMB_WRITE, NULL, &region), SHMB_EACCES);
	shmb_client_free(client);
}

CASE(F05_writing_alone_takes_the_right_to_read, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *regions[3];
	unsigned i;

	options.mode = 0706;
	regions[0] = create(client, "w/readable", SIZE, &options);
	options.mode = 0702;
	regions[1] = create(client, "w/not", SIZE, &options);
	options.mode = 0704;
	regions[2] = create(client, "r/only", SIZE, &options);
	actor_run(broker, &CAROL, write_without_reading, NULL);
	for (i = 0; i < 3; i++)
		shmb_region_free(regions[i]);
	shmb_client_free(client);
}

/* ---- F06: private, copy on write ---- */

static void write_privately(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *ours = open_with(client, "r", SHMB_READ | SHMB_WRITE, SHMB_PRIVATE);
	struct shmb_region *again = open_with(client, "r", SHMB_READ | SHMB_WRITE, SHMB_PRIVATE);
	struct shmb_region *shared = open_region(client, "r", SHMB_READ);

	CHECK_INT(shmb_region_access(ours), SHMB_READ | SHMB_WRITE);
	CHECK_STRING(smaps_protection(shmb_region_data(ours)), "rw-p");
	CHECK_INT(byte_at(ours, 5), 1);
	CHECK_OK(shmb_region_write_u8(ours, 5, 2));
	((unsigned char *)shmb_region_data(ours))[PAGE] = 3;
	CHECK_OK(shmb_region_flush(ours, 0, 0, 0));
	CHECK_OK(shmb_region_last_flush(ours));
	CHECK_INT(byte_at(ours, 5), 2);
	CHECK_INT(byte_at(ours, PAGE), 3);
	CHECK_INT(byte_at(again, 5), 1);
	CHECK_INT(byte_at(shared, 5), 1);
	CHECK_INT(byte_at(shared, PAGE), 1);
	say(1);
	CHECK_INT(hear(), 2);
	/* What others have written meanwhile: where there is a copy it does not show. */
	CHECK_INT(byte_at(shared, 6), 9);
	CHECK_INT(byte_at(ours, 6), 1);
	CHECK_INT(byte_at(again, 6), 9);
	CHECK_INT(byte_at(ours, 5), 2);
	/* Whoever gives up the copy is back with the others. */
	CHECK_OK(shmb_region_advise(ours, 0, PAGE, SHMB_ADVICE_DONTNEED));
	CHECK_INT(byte_at(ours, 5), 1);
	CHECK_INT(byte_at(ours, 6), 9);
	CHECK_INT(byte_at(ours, PAGE), 3);
	/* Whole pages within the range alone: these are none. */
	CHECK_OK(shmb_region_advise(ours, PAGE + 1, PAGE, SHMB_ADVICE_DONTNEED));
	CHECK_INT(byte_at(ours, PAGE), 3);
	shmb_region_free(shared);
	shmb_region_free(again);
	shmb_region_free(ours);
	shmb_client_free(client);
}

CASE(F06_private_writes_are_seen_by_nobody_else, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	struct actor actor;
	size_t i;

	memset(shmb_region_data(region), 1, SIZE);
	actor = actor_start(broker, &SELF, write_privately, NULL);
	CHECK_INT(actor_hear(&actor), 1);
	for (i = 0; i < SIZE; i++)
		CHECK_INT(((unsigned char *)shmb_region_data(region))[i], 1);
	CHECK_OK(shmb_region_write_u8(region, 6, 9));
	actor_say(&actor, 2);
	actor_end(&actor);
	CHECK_INT(byte_at(region, 5), 1);
	CHECK_INT(byte_at(region, PAGE), 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F06_a_private_handle_changes_nothing_that_others_see, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	struct shmb_region *ours = open_with(client, "r", SHMB_READ | SHMB_WRITE, SHMB_PRIVATE);
	uint64_t sequence = shmb_region_sequence(region);
	char byte = 1;

	CHECK_CODE(shmb_region_publish(ours, 0, 1), SHMB_EMODE);
	CHECK_CODE(shmb_region_lock(ours, SHMB_EXCLUSIVE, 0), SHMB_EMODE);
	CHECK_CODE(shmb_region_lock(ours, SHMB_SHARED, 0), SHMB_EMODE);
	CHECK_CODE(shmb_region_write(ours, 0, &byte, 1, SHMB_LOCKED), SHMB_EMODE);
	CHECK_CODE(shmb_region_resize(ours, PAGE), SHMB_EMODE);
	CHECK_CODE(shmb_region_resize(ours, 2 * SIZE), SHMB_EMODE);
	CHECK_CODE(shmb_region_mark_consistent(ours), SHMB_EMODE);
	CHECK_CODE(shmb_region_reset_lock(ours), SHMB_EMODE);
	CHECK_CODE(shmb_region_advise(ours, 0, 0, SHMB_ADVICE_REMOVE), SHMB_EINVAL);
	CHECK_CODE(shmb_region_flush(ours, 0, SIZE + 1, 0), SHMB_EBOUNDS);
	CHECK_INT(shmb_region_sequence(region), sequence);
	CHECK_INT(shmb_region_size(region), SIZE);

	/* It waits and follows as any other. */
	CHECK_CODE(shmb_region_wait(ours, sequence, 0, NULL), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_publish(region, 0, 1));
	CHECK_OK(shmb_region_wait(ours, sequence, 1000, NULL));
	CHECK_OK(shmb_region_resize(region, PAGE));
	CHECK_INT(shmb_region_size(ours), PAGE);
	CHECK_CODE(shmb_region_write(ours, PAGE, &byte, 1, 0), SHMB_EBOUNDS);
	shmb_region_free(ours);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* With the right to read alone, and no descriptor that could be written. */
static void write_what_is_readable(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *none = NULL;

	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ | SHMB_WRITE, NULL, &none), SHMB_EACCES);
	region = open_with(client, "r", SHMB_READ | SHMB_WRITE, SHMB_PRIVATE | SHMB_KEEP_FD);
	CHECK_OK(shmb_region_write_u8(region, 0, 7));
	CHECK_INT(byte_at(region, 0), 7);
	CHECK_INT(fcntl(shmb_region_fd(region), F_GETFL) & O_ACCMODE, O_RDONLY);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F06_private_takes_read_access_alone, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	options.mode = 0704;
	region = create(client, "r", SIZE, &options);
	actor_run(broker, &CAROL, write_what_is_readable, NULL);
	CHECK_INT(byte_at(region, 0), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F06_a_region_can_be_made_privately, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = with_flags(SHMB_PRIVATE | SHMB_POPULATE);
	struct shmb_region *ours = create(client, "r", SIZE, &options);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);

	CHECK_OK(shmb_region_write_u8(ours, 0, 7));
	CHECK_INT(byte_at(region, 0), 0);
	CHECK_OK(shmb_region_write_u8(region, 0, 8));
	CHECK_INT(byte_at(ours, 0), 7);
	/* All pages were made present for writing, so all are copies. */
	CHECK_OK(shmb_region_write_u8(region, 2 * PAGE, 9));
	CHECK_INT(byte_at(ours, 2 * PAGE), 0);
	shmb_region_free(region);
	shmb_region_free(ours);
	shmb_client_free(client);
}

/* ---- F10: flags ---- */

struct misfit {
	unsigned access, flags;
	const char *what;
};

CASE(F10_what_does_not_fit_is_refused_without_asking, PRIVATE)
{
	static const struct misfit misfits[] = {
		{ SHMB_READ, 1U << 13, "flags" },
		{ SHMB_READ, 1U << 31, "flags" },
		{ SHMB_READ | SHMB_LOCK, SHMB_PRIVATE, "SHMB_PRIVATE with SHMB_LOCK" },
		{ SHMB_READ, SHMB_PRIVATE | SHMB_RESERVE, "SHMB_PRIVATE with SHMB_RESERVE" },
		{ SHMB_READ, SHMB_PRIVATE | SHMB_SYNC, "SHMB_PRIVATE with SHMB_SYNC" },
		{ SHMB_READ, SHMB_NO_ACCESS | SHMB_PIN, "SHMB_NO_ACCESS with SHMB_PIN" },
		{ SHMB_READ, SHMB_NO_ACCESS | SHMB_EXEC, "SHMB_NO_ACCESS with SHMB_EXEC" },
		{ SHMB_READ, SHMB_NO_ACCESS | SHMB_POPULATE, "SHMB_NO_ACCESS with SHMB_POPULATE" },
		{ SHMB_READ, SHMB_FIXED, "address" },
		{ SHMB_LOCK, 0, "access" },
		{ 0, 0, "access" },
	};
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL), *none = NULL;
	struct shmb_region_options options;
	size_t i;

	for (i = 0; i < sizeof(misfits) / sizeof(misfits[0]); i++) {
		options = with_flags(misfits[i].flags);
		CHECK_CODE(shmb_region_open(client, "r", misfits[i].access, &options, &none),
			   SHMB_EINVAL);
		CHECK_STRING(last_of_client(client).what, misfits[i].what);
		options.access = misfits[i].access;
		CHECK_CODE(shmb_region_create(client, "new", SIZE, &options, &none), SHMB_EINVAL);
	}
	options = with_flags(SHMB_FIXED);
	options.address = (void *)(uintptr_t)(PAGE + 1);
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, &options, &none), SHMB_EINVAL);
	options = with_flags(0);
	options.address = (void *)(uintptr_t)(PAGE);
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, &options, &none), SHMB_EINVAL);
	options = with_flags(0);
	options.huge = (enum shmb_huge)3;
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, &options, &none), SHMB_EINVAL);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Asked for, cannot be had, and nothing is left of the region. */
static void check_unsupported(struct broker *broker, unsigned flag, enum shmb_feature feature)
{
	struct shmb_region_options options = with_flags(flag);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *none = NULL;

	CHECK_CODE(shmb_region_create(client, "r", SIZE, &options, &none), SHMB_ENOTSUP);
	CHECK(!none);
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, NULL, &none), SHMB_ENOENT);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	if (feature == SHMB_FEATURE_NO_CACHE)
		CHECK_INT(shmb_supports(feature), 0);
	shmb_client_free(client);
}

CASE(F10_past_the_cache_is_unsupported_here, PRIVATE)
{
	check_unsupported(broker, SHMB_NO_CACHE, SHMB_FEATURE_NO_CACHE);
}

CASE(F10_sync_takes_persistent_memory, PRIVATE)
{
	check_unsupported(broker, SHMB_SYNC, SHMB_FEATURE_SYNC);
}

/* ---- F10: at an address ---- */

/* A hole of that many bytes: somebody else might map there, but nobody does here. */
static void *find_hole(size_t length)
{
	void *hole = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(hole != MAP_FAILED);
	CHECK_OK(munmap(hole, length));
	return hole;
}

CASE(F10_at_an_address_or_nowhere, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = with_flags(SHMB_FIXED);
	struct shmb_region *region, *none = NULL;
	unsigned char *taken;

	CHECK_INT(shmb_supports(SHMB_FEATURE_FIXED), 1);
	/* Below the others, where nothing comes by itself meanwhile. */
	options.address = (char *)find_hole(64 << 20);
	region = create(client, "r", SIZE, &options);
	CHECK(shmb_region_data(region) == options.address);
	CHECK_OK(shmb_region_write_u8(region, 0, 5));

	/* Never over anything: our own, */
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, &options, &none), SHMB_EEXIST);
	options.address = (char *)options.address + SIZE - PAGE; /* its last page */
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, &options, &none), SHMB_EEXIST);
	/* or the program's. */
	taken = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(taken != MAP_FAILED);
	memset(taken, 6, SIZE);
	options.address = taken;
	CHECK_CODE(shmb_region_create(client, "new", SIZE, &options, &none), SHMB_EEXIST);
	CHECK(!none);
	CHECK_INT(taken[0], 6);
	CHECK_INT(taken[SIZE - 1], 6);
	CHECK_OK(munmap(taken, SIZE));
	CHECK_INT(byte_at(region, 0), 5);
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F10: staying ---- */

CASE(F10_it_stays_mapped_if_told_to, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	struct shmb_region *stays =
		open_with(client, "r", SHMB_READ | SHMB_WRITE, SHMB_STAY_MAPPED);
	volatile unsigned char *data = shmb_region_data(stays);

	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_OK(shmb_region_close(stays));
	CHECK_INT(data[0], 1);
	shmb_region_free(stays);
	CHECK_STRING(smaps_protection((void *)(uintptr_t)data), "rw-s");
	CHECK_OK(shmb_region_write_u8(region, 0, 2));
	CHECK_INT(data[0], 2); /* the region's bytes, not a copy */
	UNTIL(broker, broker_stat(broker, "attachments") == 1);
	CHECK_OK(munmap((void *)(uintptr_t)data, SIZE));

	/* Closing without freeing, and the other way round, and without the flag. */
	stays = open_with(client, "r", SHMB_READ, SHMB_STAY_MAPPED);
	data = shmb_region_data(stays);
	shmb_region_free(stays);
	CHECK_STRING(smaps_protection((void *)(uintptr_t)data), "r--s");
	CHECK_OK(munmap((void *)(uintptr_t)data, SIZE));
	stays = open_region(client, "r", SHMB_READ);
	data = shmb_region_data(stays);
	shmb_region_free(stays);
	CHECK(strcmp(smaps_protection((void *)(uintptr_t)data), "r--s") != 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Our handler has nothing more to say of it. */
static void fault_where_it_stayed(struct broker *broker)
{
	struct shmb_region_options options = with_flags(SHMB_STAY_MAPPED);
	struct shmb_client *client = connect_to(broker);
	const char *path = broker_path(broker, "file");
	volatile unsigned char *data;
	struct shmb_region *region;

	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.file_flags = SHMB_FILE_CREATE;
	region = create(client, NULL, SIZE, &options);
	data = shmb_region_data(region);
	shmb_region_free(region);
	SYS(truncate(path, 0));
	data[0] = 1;
}

CASE(F10_what_stays_mapped_is_the_programs, PRIVATE)
{
	const struct rlimit no_core = { 0, 0 };
	pid_t pid = SYS(fork());
	int status;

	if (pid == 0) {
		(void)signal(SIGBUS, SIG_DFL);
		(void)setrlimit(RLIMIT_CORE, &no_core);
		fault_where_it_stayed(broker);
		_exit(0);
	}
	CHECK_INT(SYS(waitpid(pid, &status, 0)), pid);
	CHECK(WIFSIGNALED(status));
	CHECK_INT(WTERMSIG(status), SIGBUS);
}

/* ---- F10: protection ---- */

/* In a process of its own: the signal that an access ends it with; 0: none. */
static int touch_apart(volatile unsigned char *data, bool write)
{
	const struct rlimit no_core = { 0, 0 };
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		(void)signal(SIGSEGV, SIG_DFL);
		(void)setrlimit(RLIMIT_CORE, &no_core);
		if (write)
			*data = 1;
		_exit(*data == 255 ? 1 : 0);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

CASE(F10_protection_of_a_range, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	unsigned char *data = shmb_region_data(region);

	CHECK_OK(shmb_region_protect(region, PAGE, PAGE, SHMB_PROTECT_READ));
	CHECK_STRING(smaps_protection(data + PAGE), "r--s");
	CHECK_INT(touch_apart(data + PAGE, false), 0);
	CHECK_INT(touch_apart(data + PAGE, true), SIGSEGV);
	CHECK_INT(touch_apart(data + PAGE - 1, true), 0);
	CHECK_INT(touch_apart(data + 2 * PAGE, true), 0);
	CHECK_OK(shmb_region_protect(region, PAGE + 100, 1, SHMB_PROTECT_NONE)); /* the page */
	CHECK_INT(touch_apart(data + PAGE, false), SIGSEGV);
	CHECK_OK(shmb_region_protect(region, 0, 0, SHMB_PROTECT_READ | SHMB_PROTECT_WRITE));
	CHECK_INT(touch_apart(data + PAGE, true), 0);

	CHECK_CODE(shmb_region_protect(region, 0, 0, 8), SHMB_EINVAL);
	CHECK_CODE(shmb_region_protect(region, 1, SIZE, SHMB_PROTECT_READ), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_protect(reader, 0, 0, SHMB_PROTECT_READ | SHMB_PROTECT_WRITE),
		   SHMB_EMODE);
	CHECK_OK(shmb_region_protect(reader, 0, 0, SHMB_PROTECT_NONE));
	CHECK_OK(shmb_region_protect(reader, 0, 0, SHMB_PROTECT_READ));
	CHECK_OK(shmb_region_close(reader));
	CHECK_CODE(shmb_region_protect(reader, 0, 0, SHMB_PROTECT_READ), SHMB_ECLOSED);
	shmb_region_free(reader);
	reader = open_region(client, "r", SHMB_WRITE); /* which does not read */
	CHECK_CODE(shmb_region_protect(reader, 0, 0, SHMB_PROTECT_READ), SHMB_EMODE);
	CHECK_OK(shmb_region_protect(reader, 0, 0, SHMB_PROTECT_WRITE));
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F10_no_access_until_it_is_given, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	struct shmb_region *shut = open_with(client, "r", SHMB_READ | SHMB_WRITE, SHMB_NO_ACCESS);
	unsigned char *data = shmb_region_data(shut);

	CHECK_STRING(smaps_protection(data), "---s");
	CHECK_INT(touch_apart(data, false), SIGSEGV);
	CHECK_OK(shmb_region_protect(shut, 0, PAGE, SHMB_PROTECT_READ | SHMB_PROTECT_WRITE));
	CHECK_OK(shmb_region_write_u8(shut, 0, 3));
	CHECK_INT(byte_at(region, 0), 3);
	CHECK_INT(touch_apart(data + PAGE, false), SIGSEGV);
	/* A thread that was just copying does not crash. */
	CHECK_OK(shmb_region_close(shut));
	CHECK_INT(*(volatile unsigned char *)data, 0);
	*(volatile unsigned char *)data = 4;
	CHECK_INT(byte_at(region, 0), 3);
	shmb_region_free(shut);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F10: executing ---- */

#if defined(__x86_64__)
static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov eax, 42; ret */
#elif defined(__aarch64__)
static const unsigned char code[] = {
	0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6
}; /* mov w0, 42; ret */
#endif

static int execute(void *data)
{
	int (*function)(void);

#if !defined(__x86_64__) && !defined(__aarch64__)
	return 42;
#endif
	__builtin___clear_cache(data, (char *)data + PAGE);
	memcpy(&function, &data, sizeof(data));
	return function();
}

static void check_execute(struct broker *broker, enum shmb_backing backing)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region, *runs;

	options.backing = backing;
	region = create(client, "r", SIZE, &options);
	CHECK_OK(shmb_region_write(region, 0, code, sizeof(code), 0));
	runs = open_with(client, "r", SHMB_READ, SHMB_EXEC);
	CHECK_STRING(smaps_protection(shmb_region_data(runs)), "r-xs");
	CHECK_INT(execute(shmb_region_data(runs)), 42);
	CHECK_STRING(smaps_protection(shmb_region_data(region)), "rw-s");
	CHECK_OK(shmb_region_protect(region, 0, 0, SHMB_PROTECT_READ | SHMB_PROTECT_EXEC));
	CHECK_INT(execute(shmb_region_data(region)), 42);
	shmb_region_free(runs);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* That a memfd is not to be executed as a program does not keep anybody from mapping it so. */
CASE(F10_exec_of_a_memfd, PRIVATE)
{
	check_execute(broker, SHMB_BACKING_MEMFD);
}

CASE(F10_exec_of_an_shm_object, PRIVATE, .shm_mount = "size=1m")
{
	check_execute(broker, SHMB_BACKING_SHM);
}

CASE(F10_exec_is_refused_where_the_backing_forbids_it, PRIVATE, .shm_mount = "size=1m",
     .shm_noexec = true)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region, *none = NULL;

	options.backing = SHMB_BACKING_SHM;
	region = create(client, "r", SIZE, &options);
	CHECK_CODE(shmb_region_protect(region, 0, 0, SHMB_PROTECT_READ | SHMB_PROTECT_EXEC),
		   SHMB_EACCES);
	CHECK_STRING(last(region).what, "protect");
	options.flags = SHMB_EXEC;
	CHECK_CODE(shmb_region_open(client, "r", SHMB_READ, &options, &none), SHMB_EACCES);
	CHECK_STRING(last_of_client(client).what, "map");
	CHECK_CODE(shmb_region_create(client, "new", SIZE, &options, &none), SHMB_EACCES);
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	shmb_region_free(region);
	shmb_client_free(client);
}
