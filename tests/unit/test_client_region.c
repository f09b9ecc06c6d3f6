/* SPDX-License-Identifier: MIT */
/* Regions: what may be asked for, brokers that hand out something else, letting go, reading and
 * writing. */

#include "fake_broker.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct state {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *region; /* "main": 100 bytes that may grow to 8192 */
};

static int setup(void **state)
{
	struct state *all = calloc(1, sizeof(*all));
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	assert_non_null(all);
	all->fake = fake_start();
	all->client = fake_connect(all->fake, 5000);
	options.capacity = 8192;
	assert_code(shmb_region_create(all->client, "main", 100, &options, &all->region), 0);
	*state = all;
	return 0;
}

static int teardown(void **state)
{
	struct state *all = *state;

	shmb_region_free(all->region);
	shmb_client_free(all->client);
	fake_stop(all->fake);
	free(all);
	return 0;
}

static struct shmb_error region_error(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	assert_code(shmb_region_last_error(region, &error), 0);
	return error;
}

/* ---- What may be asked for ---- */

static int create(struct state *all, const char *name, uint64_t size,
		  const struct shmb_region_options *options)
{
	struct shmb_region *region = (void *)all;
	int result = shmb_region_create(all->client, name, size, options, &region);

	if (result < 0)
		assert_ptr_equal(region, all); /* outputs are written on success only */
	else
		shmb_region_free(region);
	return result;
}

static struct shmb_region_options defaults(void)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	return options;
}

static void what_cannot_be_is_refused_without_asking(void **state)
{
	struct state *all = *state;
	struct shmb_region_options bad[10];
	struct shmb_region_options good = SHMB_REGION_OPTIONS_INIT;
	char long_name[SHMB_NAME_MAX + 2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		bad[i] = defaults();
	bad[0].access = 0;
	bad[1].access = SHMB_LOCK;
	bad[2].access = 8 | SHMB_READ;
	bad[3].flags = 1 << 13;
	bad[4].mode = 01000;
	bad[5].backing = (enum shmb_backing)3;
	bad[6].lifetime = (enum shmb_lifetime)3;
	bad[7].capacity = 99;
	bad[8].struct_size = 3;
	bad[9].lifetime = (enum shmb_lifetime) - 1;
	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_code(create(all, "a", 100, &bad[i]), SHMB_EINVAL);
	assert_code(create(all, "a", 0, NULL), SHMB_EINVAL);
	assert_code(create(all, "", 1, NULL), SHMB_EINVAL);
	assert_code(create(all, "../a", 1, NULL), SHMB_EINVAL);
	assert_code(create(all, long_name, 1, NULL), SHMB_EINVAL);
	assert_code(create(all, "a", (uint64_t)INT64_MAX + 1, NULL), SHMB_EFBIG);
	good.flags = SHMB_RESERVE;
	good.access = SHMB_READ;
	assert_code(create(all, "a", 1, &good), SHMB_EMODE);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_CREATE), 1); /* setup's */
	long_name[SHMB_NAME_MAX] = '\0';
	assert_code(create(all, long_name, 1, NULL), 0);
}

static void an_open_uses_two_flags_only(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	options.access = 0; /* not looked at, like the rest */
	options.flags = SHMB_RESERVE | SHMB_KEEP_FD;
	options.mode = 07777;
	options.capacity = 1;
	assert_code(shmb_region_open(all->client, "main", SHMB_READ, &options, &region), 0);
	assert_int_equal(shmb_region_access(region), SHMB_READ);
	assert_true(shmb_region_fd(region) >= 0);
	shmb_region_free(region);
	assert_code(shmb_region_open(all->client, "main", SHMB_LOCK, NULL, &region), SHMB_EINVAL);
	assert_code(shmb_region_open(all->client, "main", 0, NULL, &region), SHMB_EINVAL);
	options.flags = 1 << 13;
	assert_code(shmb_region_open(all->client, "main", SHMB_READ, &options, &region),
		    SHMB_EINVAL);
	assert_code(shmb_region_open(all->client, "none", SHMB_READ, NULL, &region), SHMB_ENOENT);
}

static void what_was_asked_for_is_what_is_sent(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = {
		.struct_size = sizeof(options),
		.access = SHMB_READ,
		.mode = 0640,
		.backing = SHMB_BACKING_SHM,
		.lifetime = SHMB_PERSISTENT,
		.capacity = 4096,
	};
	struct wire_region_create_params sent;

	assert_code(create(all, "a/b", 7, &options), 0);
	fake_wait(all->fake, WIRE_REGION_CREATE, 2);
	sent = fake_last(all->fake, WIRE_REGION_CREATE).params.create;
	assert_string_equal(fake_last(all->fake, WIRE_REGION_CREATE).text, "a/b");
	assert_int_equal(sent.size, 7);
	assert_int_equal(sent.capacity, 4096);
	assert_int_equal(sent.mode, 0640);
	assert_int_equal(sent.access, SHMB_READ);
	assert_int_equal(sent.backing, SHMB_BACKING_SHM);
	assert_int_equal(sent.lifetime, SHMB_PERSISTENT);
	assert_false(sent.open_existing);
	assert_code(create(all, "c", 7, NULL), 0);
	fake_wait(all->fake, WIRE_REGION_CREATE, 3);
	sent = fake_last(all->fake, WIRE_REGION_CREATE).params.create;
	assert_false(sent.has & WIRE_HAS(region_create_params, capacity));
	assert_int_equal(sent.mode, 0700);
	assert_int_equal(sent.access, SHMB_READ | SHMB_WRITE);
}

static void exactly_one_creates(void **state)
{
	struct state *all = *state;
	struct shmb_region *first, *second;

	assert_code(shmb_region_open_or_create(all->client, "x", 50, NULL, &first), 1);
	assert_code(shmb_region_open_or_create(all->client, "x", 9999, NULL, &second), 0);
	assert_int_equal(shmb_region_size(second), 50);
	assert_code(create(all, "x", 50, NULL), SHMB_EEXIST);
	assert_code(shmb_region_write_u8(first, 49, 7), 0);
	assert_int_equal(((unsigned char *)shmb_region_data(second))[49], 7);
	shmb_region_free(first);
	shmb_region_free(second);
}

/* ---- Brokers that hand out something else ---- */

struct lie {
	struct wire_region_attached attached;
	int fds[2];
};

static bool answer_with_lie(struct fake *fake, const struct fake_seen *seen)
{
	struct lie *lie = fake->context;

	fake_result(fake, seen, &lie->attached, lie->fds, 2);
	return true;
}

static void tell_lie(struct state *all, struct lie lie, unsigned access, int expected)
{
	struct shmb_region *region = (void *)all;
	size_t before = count_fds();
	unsigned n = fake_count(all->fake, WIRE_REGION_CLOSE);

	all->fake->context = &lie;
	fake_handle(all->fake, WIRE_REGION_OPEN, answer_with_lie);
	assert_code(shmb_region_open(all->client, "main", access, NULL, &region), expected);
	assert_ptr_equal(region, all);
	assert_int_equal(count_fds(), before);
	fake_wait(all->fake, WIRE_REGION_CLOSE, n + 1);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_CLOSE).params.handle.handle,
			 lie.attached.handle);
	assert_code(shmb_client_ping(all->client), 0);
}

static void nothing_is_mapped_on_the_brokers_word_alone(void **state)
{
	struct state *all = *state;
	struct fake_region *main_region = fake_region(all->fake, "main");
	struct lie truth = {
		.attached = fake_attached(all->fake, main_region, SHMB_READ | SHMB_WRITE, false),
		.fds = { main_region->data, main_region->page },
	};
	struct lie lie = truth;
	char path[64];
	int pipes[2], null = open("/dev/zero", O_RDWR | O_CLOEXEC), read_only;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", main_region->data);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);

	lie.attached.size = lie.attached.capacity + 1;
	tell_lie(all, lie, SHMB_READ, SHMB_EPROTO);
	lie = truth;
	lie.attached.capacity = 8193; /* more than the segment has */
	tell_lie(all, lie, SHMB_READ, SHMB_EPROTO);
	lie.attached.capacity = INT64_MAX;
	tell_lie(all, lie, SHMB_READ, SHMB_EPROTO);
	lie = truth;
	lie.attached.access = SHMB_READ; /* less than was asked for */
	tell_lie(all, lie, SHMB_READ | SHMB_WRITE, SHMB_EPROTO);
	lie = truth;
	lie.fds[0] = pipes[0];
	tell_lie(all, lie, SHMB_READ, SHMB_EPROTO);
	lie.fds[0] = null; /* could be mapped, but is nothing shared */
	tell_lie(all, lie, SHMB_READ, SHMB_EPROTO);
	lie.fds[0] = read_only;
	tell_lie(all, lie, SHMB_READ | SHMB_WRITE, SHMB_EPROTO);
	lie = truth;
	lie.fds[1] = pipes[0];
	tell_lie(all, lie, SHMB_READ, SHMB_EPROTO);
	lie.fds[1] = lie.fds[0]; /* not a publish page */
	tell_lie(all, lie, SHMB_READ, SHMB_EPROTO);
	main_region->words->version = 2;
	tell_lie(all, truth, SHMB_READ, SHMB_EPROTO);
	main_region->words->version = LAYOUT_PUBLISH_VERSION;

	close(pipes[0]);
	close(pipes[1]);
	close(null);
	close(read_only);
}

static void a_size_that_somebody_wrote_is_clamped(void **state)
{
	struct state *all = *state;
	struct fake_region *truth = fake_region(all->fake, "main");
	unsigned char byte;

	truth->words->size = UINT64_MAX;
	assert_int_equal(shmb_region_size(all->region), 8192);
	assert_code(shmb_region_read_u8(all->region, 8191, &byte), 0);
	assert_code(shmb_region_read_u8(all->region, 8192, &byte), SHMB_EBOUNDS);
	truth->words->size = 0;
	assert_code(shmb_region_read_u8(all->region, 0, &byte), SHMB_EBOUNDS);
	assert_int_equal(shmb_region_read_string(all->region, 0, (char *)&byte, 1), SHMB_EBOUNDS);
	assert_code(shmb_region_flush(all->region, 0, 0, 0), 0);
}

/* ---- Mapping ---- */

/* Return: is the mapping at @data excluded from core dumps? */
static bool is_kept_from_dumps(const void *data)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[512];
	bool here = false, found = false;
	unsigned long start, end;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (unsigned long)data >= start && (unsigned long)data < end;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, " dd") != NULL;
	}
	fclose(file);
	return found;
}

static void regions_stay_out_of_core_dumps_unless_asked(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	assert_true(is_kept_from_dumps(shmb_region_data(all->region)));
	options.flags = SHMB_DUMP;
	assert_code(shmb_region_open(all->client, "main", SHMB_READ, &options, &region), 0);
	assert_false(is_kept_from_dumps(shmb_region_data(region)));
	shmb_region_free(region);
}

static void the_descriptor_is_closed_unless_kept(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	size_t before = count_fds();
	char byte = 'x';
	int fd;

	assert_code(shmb_region_fd(all->region), SHMB_EINVAL);
	options.flags = SHMB_KEEP_FD;
	assert_code(shmb_region_open(all->client, "main", SHMB_READ, &options, &region), 0);
	assert_int_equal(count_fds(), before + 1);
	fd = shmb_region_fd(region);
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_code(shmb_region_close(region), 0);
	assert_int_equal(count_fds(), before);
	assert_code(shmb_region_fd(region), SHMB_ECLOSED);
	shmb_region_free(region);
	assert_int_equal(count_fds(), before);
}

static void reserved_memory_is_there(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region, *second;
	struct stat status;

	options.flags = SHMB_RESERVE | SHMB_KEEP_FD;
	assert_code(shmb_region_create(all->client, "r", 1 << 20, &options, &region), 0);
	assert_int_equal(fstat(shmb_region_fd(region), &status), 0);
	assert_int_equal(status.st_blocks * 512, 1 << 20);
	assert_code(shmb_region_open_or_create(all->client, "main", 1, &options, &second), 0);
	assert_int_equal(fstat(shmb_region_fd(second), &status), 0);
	assert_int_equal(status.st_blocks, 0); /* only who creates reserves */
	shmb_region_free(region);
	shmb_region_free(second);
}

/* A segment on a file system of 64 KiB that says it holds a megabyte. */
static bool create_on_small_fs(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_region_attached attached = fake_attached(fake, fake->regions, 7, true);
	const char *directory = fake->context;
	char path[128];
	int fds[2];

	snprintf(path, sizeof(path), "%s/segment", directory);
	fds[0] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	fds[1] = fake->regions[0].page;
	if (fds[0] < 0 || ftruncate(fds[0], 1 << 20) < 0)
		abort();
	attached.size = attached.capacity = 1 << 20;
	fake_result(fake, seen, &attached, fds, 2);
	close(fds[0]);
	return true;
}

static int reserve_too_much(void *argument)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *region;
	char directory[] = "/tmp/shmb-small-XXXXXX";
	int failures = 0, result;

	if (!mkdtemp(directory) || mount("none", directory, "tmpfs", 0, "size=64k") < 0)
		return 77;
	fake = fake_start();
	fake_make(fake, "page", 1, 1);
	fake->context = directory;
	client = fake_connect(fake, 5000);
	fake_handle(fake, WIRE_REGION_CREATE, create_on_small_fs);
	options.flags = SHMB_RESERVE;
	options.lifetime = SHMB_PERSISTENT;
	result = shmb_region_create(client, "big", 1 << 20, &options, &region);
	failures += result != SHMB_ENOSPC;
	/* What was made is unmade: first the name, then the attachment. */
	fake_wait(fake, WIRE_REGION_CLOSE, 1);
	failures += fake_count(fake, WIRE_REGION_REMOVE) != 1;
	failures += strcmp(fake_last(fake, WIRE_REGION_REMOVE).text, "big") != 0;
	shmb_client_free(client);
	fake_stop(fake);
	umount2(directory, MNT_DETACH);
	rmdir(directory);
	return failures;
}

static int in_own_mounts(void *argument)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	return reserve_too_much(argument);
}

static void a_full_file_system_is_told_when_reserving(void **state)
{
	int result = fake_in_child(in_own_mounts, NULL);

	if (result == 77) /* not root, or in a container */
		skip();
	assert_int_equal(result, 0);
}

/* ---- Letting go ---- */

static void a_closed_handle_answers_so(void **state)
{
	struct state *all = *state;
	struct shmb_region *region = all->region;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_view view;
	uint32_t value;
	char text[4];

	assert_code(shmb_region_close(region), 0);
	assert_code(shmb_region_close(region), SHMB_ECLOSED);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 1);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_CLOSE).kind, WIRE_NOTIFICATION);
	assert_null(shmb_region_name(region));
	assert_null(shmb_region_data(region));
	assert_int_equal(shmb_region_size(region), 0);
	assert_int_equal(shmb_region_capacity(region), 0);
	assert_int_equal(shmb_region_access(region), 0);
	assert_int_equal(shmb_region_sequence(region), 0);
	assert_code(shmb_region_fd(region), SHMB_ECLOSED);
	assert_code(shmb_region_read(region, 0, &value, 4, 0), SHMB_ECLOSED);
	assert_code(shmb_region_write(region, 0, &value, 4, 0), SHMB_ECLOSED);
	assert_code(shmb_region_read_u32(region, 0, &value), SHMB_ECLOSED);
	assert_code(shmb_region_write_u32(region, 0, 5), SHMB_ECLOSED);
	assert_int_equal(shmb_region_read_string(region, 0, text, 4), SHMB_ECLOSED);
	assert_code(shmb_region_write_string(region, 0, "a"), SHMB_ECLOSED);
	assert_code(shmb_region_view(region, 0, 1, 0, SHMB_READ, &view), SHMB_ECLOSED);
	assert_code(shmb_region_flush(region, 0, 0, 0), SHMB_ECLOSED);
	assert_code(shmb_region_publish(region, 0, 0), SHMB_ECLOSED);
	assert_code(shmb_region_wait(region, 0, 0, NULL), SHMB_ECLOSED);
	assert_code(shmb_region_watch(region, 1, 0, NULL, NULL), SHMB_ECLOSED);
	assert_code(shmb_region_resize(region, 1), SHMB_ECLOSED);
	assert_code(shmb_region_info(region, &info), SHMB_ECLOSED);
	assert_int_equal(region_error(region).code, SHMB_ECLOSED); /* still tells */
}

static void pointers_into_a_closed_region_do_not_fault(void **state)
{
	struct state *all = *state;
	struct fake_region *truth = fake_region(all->fake, "main");
	volatile unsigned char *data = shmb_region_data(all->region);
	struct shmb_view view;

	data[0] = 7;
	assert_int_equal(truth->bytes[0], 7);
	assert_code(shmb_region_view(all->region, 0, 100, 0, SHMB_READ | SHMB_WRITE, &view), 0);
	assert_code(shmb_region_close(all->region), 0);
	assert_int_equal(data[0], 0);
	assert_int_equal(data[8191], 0);
	data[0] = 9; /* goes nowhere */
	((volatile unsigned char *)view.data)[5] = 5;
	assert_int_equal(truth->bytes[0], 7);
	assert_int_equal(truth->bytes[5], 0);
	shmb_view_release(&view);
	assert_null(view.data);
	shmb_view_release(&view);
	shmb_view_release(NULL);
}

static void *read_until_closed(void *argument)
{
	struct shmb_region *region = argument;
	static unsigned char buffer[100];
	int result;

	do
		result = shmb_region_read(region, 0, buffer, sizeof(buffer), 0);
	while (result == 0);
	return (void *)(intptr_t)result;
}

static void *publish_until_closed(void *argument)
{
	int result;

	do
		result = shmb_region_publish(argument, 0, 0);
	while (result == 0);
	return (void *)(intptr_t)result;
}

static void closing_under_a_running_reader_is_harmless(void **state)
{
	struct state *all = *state;

	for (int i = 0; i < 50; i++) {
		struct shmb_region *region;
		pthread_t threads[2];
		void *results[2];

		assert_code(shmb_region_open(all->client, "main", 6, NULL, &region), 0);
		assert_int_equal(pthread_create(&threads[0], NULL, read_until_closed, region), 0);
		assert_int_equal(pthread_create(&threads[1], NULL, publish_until_closed, region),
				 0);
		while (shmb_region_sequence(region) < 100)
			sched_yield();
		assert_code(shmb_region_close(region), 0);
		for (int t = 0; t < 2; t++) {
			pthread_join(threads[t], &results[t]);
			assert_int_equal((intptr_t)results[t], SHMB_ECLOSED);
		}
		shmb_region_free(region);
		fake_region(all->fake, "main")->words->sequence = 0;
	}
	assert_null(shmb_region_free(NULL));
}

/* ---- Reading and writing ---- */

static void bounds_hold_at_every_edge(void **state)
{
	static const struct {
		uint64_t offset;
		size_t length;
		bool fits;
	} rows[] = {
		{ 0, 0, true },
		{ 0, 100, true },
		{ 100, 0, true },
		{ 99, 1, true },
		{ 101, 0, false },
		{ 0, 101, false },
		{ 100, 1, false },
		{ 1, 100, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX, 0, false },
		{ 1, SIZE_MAX, false },
		{ UINT64_MAX - 3, 8, false },
		{ 50, SIZE_MAX - 40, false },
	};
	struct state *all = *state;
	unsigned char buffer[128];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int expected = rows[i].fits ? 0 : SHMB_EBOUNDS;

		memset(buffer, 'b', sizeof(buffer));
		assert_code(
			shmb_region_read(all->region, rows[i].offset, buffer, rows[i].length, 0),
			expected);
		if (!rows[i].fits) {
			struct shmb_error error = region_error(all->region);
			assert_int_equal(buffer[0], 'b'); /* moves no byte */
			assert_int_equal(error.offset, rows[i].offset);
			assert_int_equal(error.length, rows[i].length);
			assert_int_equal(error.size, 100);
		}
		assert_code(
			shmb_region_write(all->region, rows[i].offset, buffer, rows[i].length, 0),
			expected);
	}
}

static void writing_needs_the_access(void **state)
{
	struct state *all = *state;
	struct shmb_region *region;
	struct shmb_view view;
	uint16_t value;

	assert_code(shmb_region_open(all->client, "main", SHMB_READ | SHMB_LOCK, NULL, &region), 0);
	assert_int_equal(shmb_region_access(region), SHMB_READ | SHMB_LOCK);
	assert_code(shmb_region_read_u16(region, 0, &value), 0);
	assert_code(shmb_region_write(region, 0, "a", 1, 0), SHMB_EMODE);
	assert_code(shmb_region_write_u16_le(region, 0, 1), SHMB_EMODE);
	assert_code(shmb_region_write_string(region, 0, "a"), SHMB_EMODE);
	assert_code(shmb_region_publish(region, 0, 0), SHMB_EMODE);
	assert_code(shmb_region_resize(region, 5), SHMB_EMODE);
	assert_code(shmb_region_view(region, 0, 1, 0, SHMB_READ | SHMB_WRITE, &view), SHMB_EMODE);
	shmb_region_free(region);
}

#define CHECK_INTEGER(suffix, type, pattern)                                                     \
	do {                                                                                     \
		type value_ = 0, expected_ = (type)(pattern);                                    \
		assert_code(shmb_region_write_##suffix(all->region, 3, expected_), 0);           \
		assert_code(shmb_region_read_##suffix(all->region, 3, &value_), 0);              \
		assert_true(value_ == expected_);                                                \
		uint64_t end_ = 100 - sizeof(type);                                              \
		assert_code(shmb_region_write_##suffix(all->region, end_, expected_), 0);        \
		assert_code(shmb_region_write_##suffix(all->region, end_ + 1, 0), SHMB_EBOUNDS); \
		assert_code(shmb_region_read_##suffix(all->region, end_ + 1, &value_),           \
			    SHMB_EBOUNDS);                                                       \
		assert_true(value_ == expected_);                                                \
	} while (0)

static void integers_stand_anywhere(void **state)
{
	struct state *all = *state;
	const unsigned char *data = shmb_region_data(all->region);
	const uint64_t pattern = UINT64_C(0x8877665544332211);

	CHECK_INTEGER(u8, uint8_t, pattern);
	CHECK_INTEGER(u16, uint16_t, pattern);
	CHECK_INTEGER(u32, uint32_t, pattern);
	CHECK_INTEGER(u64, uint64_t, pattern);
	CHECK_INTEGER(u16_le, uint16_t, pattern);
	CHECK_INTEGER(u32_le, uint32_t, pattern);
	CHECK_INTEGER(u64_le, uint64_t, pattern);
	for (int i = 0; i < 8; i++)
		assert_int_equal(data[3 + i], 0x11 * (i + 1)); /* little-endian on every machine */
}

static void strings_end_where_they_say(void **state)
{
	struct state *all = *state;
	struct shmb_region *region = all->region;
	char text[16] = "untouched";

	assert_code(shmb_region_write_string(region, 10, "hello"), 0);
	assert_int_equal(shmb_region_read_string(region, 10, text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	assert_int_equal(shmb_region_read_string(region, 10, text, 6), 5);
	assert_int_equal(shmb_region_read_string(region, 10, text, 5), SHMB_EOVERFLOW);
	assert_int_equal(region_error(region).length, 6);
	assert_int_equal(region_error(region).limit, 5);
	assert_int_equal(shmb_region_read_string(region, 15, text, 1), 0);
	assert_string_equal(text, "");
	assert_int_equal(shmb_region_read_string(region, 15, NULL, 0), SHMB_EOVERFLOW);

	memset(shmb_region_data(region), 'x', 100);
	assert_int_equal(shmb_region_read_string(region, 95, text, sizeof(text)), SHMB_EBOUNDS);
	assert_int_equal(shmb_region_read_string(region, 95, text, 2), SHMB_EBOUNDS);
	assert_int_equal(shmb_region_read_string(region, 100, text, 2), SHMB_EBOUNDS);
	assert_code(shmb_region_write_string(region, 95, "12345"), SHMB_EBOUNDS);
	assert_code(shmb_region_write_string(region, 95, "1234"), 0);
	assert_int_equal(shmb_region_read_string(region, 95, text, sizeof(text)), 4);
}

static void a_very_long_string_is_not_looked_for_to_its_end(void **state)
{
	enum { SIZE = 1 << 20 };
	struct state *all = *state;
	struct shmb_region *region;
	char text[8];

	assert_code(shmb_region_create(all->client, "long", SIZE, NULL, &region), 0);
	memset(shmb_region_data(region), 'x', SIZE);
	assert_int_equal(shmb_region_read_string(region, 0, text, sizeof(text)), SHMB_EOVERFLOW);
	assert_true(region_error(region).length < SIZE); /* scanned, not found */
	assert_true(region_error(region).length >= sizeof(text));
	shmb_region_free(region);
}

static void views_are_checked_once(void **state)
{
	struct state *all = *state;
	struct shmb_region *region = all->region;
	struct shmb_view view = { .length = 77 };

	assert_code(shmb_region_view(region, 8, 16, 8, SHMB_READ, &view), 0);
	assert_ptr_equal(view.data, (char *)shmb_region_data(region) + 8);
	assert_int_equal(view.length, 16);
	assert_ptr_equal(view.region, region);
	shmb_view_release(&view);
	view.length = 77;
	assert_code(shmb_region_view(region, 12, 16, 8, SHMB_READ, &view), SHMB_EALIGN);
	assert_int_equal(region_error(region).alignment, 8);
	assert_int_equal(region_error(region).offset, 12);
	assert_code(shmb_region_view(region, 0, 101, 0, SHMB_READ, &view), SHMB_EBOUNDS);
	assert_code(shmb_region_view(region, 0, 0, 0, SHMB_READ, &view), SHMB_EINVAL);
	assert_code(shmb_region_view(region, 0, 1, 3, SHMB_READ, &view), SHMB_EINVAL);
	assert_code(shmb_region_view(region, 0, 1, 1 << 30, SHMB_READ, &view), SHMB_EINVAL);
	assert_code(shmb_region_view(region, 0, 1, 0, SHMB_WRITE, &view), SHMB_EINVAL);
	assert_code(shmb_region_view(region, 0, 1, 0, 0, &view), SHMB_EINVAL);
	assert_int_equal(view.length, 77);
	assert_code(shmb_region_view(region, 0, 1, 4096, SHMB_READ | SHMB_WRITE, &view), 0);
}

static void flush_has_bounds(void **state)
{
	struct state *all = *state;

	assert_code(shmb_region_flush(all->region, 0, 100, 0), 0);
	assert_code(shmb_region_flush(all->region, 99, 0, 0), 0);
	assert_code(shmb_region_flush(all->region, 100, 0, 0), 0);
	assert_code(shmb_region_flush(all->region, 101, 0, 0), SHMB_EBOUNDS);
	assert_code(shmb_region_flush(all->region, 1, 100, 0), SHMB_EBOUNDS);
}

static void a_handle_knows_itself(void **state)
{
	struct state *all = *state;

	assert_string_equal(shmb_region_name(all->region), "main");
	assert_int_equal(shmb_region_size(all->region), 100);
	assert_int_equal(shmb_region_capacity(all->region), 8192);
	assert_int_equal(shmb_region_access(all->region), SHMB_READ | SHMB_WRITE);
	assert_int_equal((uintptr_t)shmb_region_data(all->region) % 4096, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_file_system_is_told_when_reserving),
		TEST(what_cannot_be_is_refused_without_asking),
		TEST(an_open_uses_two_flags_only),
		TEST(what_was_asked_for_is_what_is_sent),
		TEST(exactly_one_creates),
		TEST(nothing_is_mapped_on_the_brokers_word_alone),
		TEST(a_size_that_somebody_wrote_is_clamped),
		TEST(regions_stay_out_of_core_dumps_unless_asked),
		TEST(the_descriptor_is_closed_unless_kept),
		TEST(reserved_memory_is_there),
		TEST(a_closed_handle_answers_so),
		TEST(pointers_into_a_closed_region_do_not_fault),
		TEST(closing_under_a_running_reader_is_harmless),
		TEST(bounds_hold_at_every_edge),
		TEST(writing_needs_the_access),
		TEST(integers_stand_anywhere),
		TEST(strings_end_where_they_say),
		TEST(a_very_long_string_is_not_looked_for_to_its_end),
		TEST(views_are_checked_once),
		TEST(flush_has_bounds),
		TEST(a_handle_knows_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
