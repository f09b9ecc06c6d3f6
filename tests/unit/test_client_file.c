/* SPDX-License-Identifier: MIT */
/* Regions made of files, as the broker sees them asked for: what is passed, when, and again after a
 * crash; and tickets as text. */

#include "fake_broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

struct state {
	struct fake *fake;
	struct shmb_client *client;
	char path[128];
};

static int setup(void **state)
{
	struct state *all = calloc(1, sizeof(*all));

	assert_non_null(all);
	all->fake = fake_start();
	all->fake->features |= WIRE_FEATURE_RESUME;
	all->client = fake_connect(all->fake, 5000);
	snprintf(all->path, sizeof(all->path), "%s/file", all->fake->directory);
	*state = all;
	return 0;
}

static int teardown(void **state)
{
	struct state *all = *state;

	unlink(all->path);
	shmb_client_free(all->client);
	fake_stop(all->fake);
	free(all);
	return 0;
}

/* The fake notes what came after it has answered: with the next answer it has. */
static struct fake_seen last(struct state *all, enum wire_method_id method)
{
	assert_code(shmb_client_ping(all->client), 0);
	return fake_last(all->fake, method);
}

static unsigned count(struct state *all, enum wire_method_id method)
{
	assert_code(shmb_client_ping(all->client), 0);
	return fake_count(all->fake, method);
}

static struct shmb_region_options of_file(const struct state *all, unsigned file_flags)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = SHMB_BACKING_FILE;
	options.path = all->path;
	options.file_flags = file_flags;
	return options;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static off_t size_of(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 ? status.st_size : -1;
}

static int make(struct state *all, const char *name, uint64_t size,
		const struct shmb_region_options *options)
{
	struct shmb_region *region = (void *)all;
	int result = shmb_region_create(all->client, name, size, options, &region);

	if (result < 0)
		assert_ptr_equal(region, all);
	else
		shmb_region_free(region);
	return result;
}

static void assert_last(struct state *all, int code, const char *what)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	assert_code(shmb_client_last_error(all->client, &error), 0);
	assert_code(error.code, code);
	assert_string_equal(error.what, what);
}

/* ---- What may be asked for ---- */

static void F02_options_that_contradict_themselves_are_refused(void **state)
{
	struct state *all = *state;
	struct shmb_region_options bad[8];

	for (size_t i = 0; i < 8; i++)
		bad[i] = of_file(all, SHMB_FILE_CREATE);
	bad[0].backing = SHMB_BACKING_MEMFD;
	bad[1].path = NULL;
	bad[2].fd = 0;
	bad[3].file_flags = 1 << 7;
	bad[4].file_flags = SHMB_FILE_EXCLUSIVE;
	bad[5].file_mode = 010000;
	bad[6].capacity = 8192;
	bad[7].path = NULL;
	bad[7].fd = 0;
	for (size_t i = 0; i < 8; i++)
		assert_code(make(all, "a", 4096, &bad[i]), SHMB_EINVAL);
	bad[0] = of_file(all, SHMB_FILE_CREATE);
	bad[0].access = SHMB_READ;
	assert_code(make(all, "a", 4096, &bad[0]), SHMB_EMODE);
	assert_int_equal(count(all, WIRE_ADOPT_BEGIN), 0);
	assert_int_equal(size_of(all->path), -1);
}

static void F04_what_has_no_name_ends_with_its_attachments(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	options.lifetime = SHMB_PERSISTENT;
	assert_code(make(all, NULL, 4096, &options), SHMB_EINVAL);
	assert_code(shmb_region_open_or_create(all->client, NULL, 1, NULL, &region), SHMB_EINVAL);
	assert_code(shmb_region_open(all->client, NULL, SHMB_READ, NULL, &region), SHMB_EINVAL);
	assert_code(make(all, "", 4096, NULL), SHMB_EINVAL);
	assert_int_equal(count(all, WIRE_REGION_CREATE), 0);
	assert_code(shmb_region_create(all->client, NULL, 100, NULL, &region), 0);
	assert_string_equal(shmb_region_name(region), "");
	assert_string_equal(shmb_region_path(region), "");
	assert_int_equal(last(all, WIRE_REGION_CREATE).params.create.name.length, 0);
	shmb_region_free(region);
}

/* ---- What is asked ---- */

static struct {
	int writer_flags, reader_flags;
	bool same;
} passed;

static bool look_at_passed(struct fake *fake, const struct fake_seen *seen)
{
	struct stat writer, reader;

	(void)fake;
	fstat(seen->fds[0], &writer);
	fstat(seen->fds[1], &reader);
	passed.writer_flags = fcntl(seen->fds[0], F_GETFL);
	passed.reader_flags = fcntl(seen->fds[1], F_GETFL);
	passed.same = writer.st_ino == reader.st_ino && writer.st_dev == reader.st_dev;
	return false;
}

static void F02_two_descriptors_of_the_file_are_passed(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);
	struct shmb_region *region;
	struct fake_seen seen;

	fake_handle(all->fake, WIRE_REGION_ADOPT, look_at_passed);
	options.mode = 0644;
	options.slots = 5;
	assert_code(shmb_region_create(all->client, "a", 5000, &options, &region), 0);
	seen = last(all, WIRE_REGION_ADOPT);
	assert_true(passed.same);
	assert_int_equal(passed.writer_flags & (O_ACCMODE | O_NONBLOCK), O_RDWR);
	assert_int_equal(passed.reader_flags & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
	assert_int_equal(seen.params.adopt.size, 5000);
	assert_int_equal(seen.params.adopt.mode, 0644);
	assert_int_equal(seen.params.adopt.access, SHMB_READ | SHMB_WRITE);
	assert_int_equal(seen.params.adopt.slots, 5);
	assert_string_equal(seen.path, all->path);
	assert_string_equal(shmb_region_path(region), all->path);
	assert_int_equal(shmb_region_backing(region), SHMB_BACKING_FILE);
	assert_true(shmb_region_fd(region) >= 0);
	assert_int_equal(size_of(all->path), 5000);
	shmb_region_free(region);

	options = of_file(all, 0);
	options.access = SHMB_READ;
	assert_code(make(all, "b", 0, &options), 0);
	assert_int_equal(passed.writer_flags & O_ACCMODE, O_RDONLY);
	assert_int_equal(passed.reader_flags & O_ACCMODE, O_RDONLY);
	assert_int_equal(last(all, WIRE_REGION_ADOPT).params.adopt.size, 5000);
	assert_int_equal(count(all, WIRE_ADOPT_BEGIN), 1); /* once */
}

static bool deny(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_error error = { .has = WIRE_HAS(error, what),
				    .code = wire_string("denied"),
				    .what = wire_string("allow-adopt") };

	(void)fake;
	fake_error(seen, &error);
	return true;
}

static void F02_who_may_not_pass_descriptors_passes_none_and_makes_no_file(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);

	fake_handle(all->fake, WIRE_ADOPT_BEGIN, deny);
	assert_code(make(all, "a", 4096, &options), SHMB_EACCES);
	assert_last(all, SHMB_EACCES, "allow-adopt");
	assert_int_equal(size_of(all->path), -1);
	assert_int_equal(count(all, WIRE_REGION_ADOPT), 0);
	assert_code(shmb_client_ping(all->client), 0);
}

/* A new broker that no longer allows it. */
static void F02_what_the_system_refuses_to_send_fails_that_request_alone(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);
	int off = 0;

	assert_code(make(all, "a", 4096, &options), 0);
	if (setsockopt(fake_peer(all->fake), SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) < 0) {
		skip(); /* before Linux 6.16 */
		return;
	}
	assert_code(make(all, "b", 4096, &options), SHMB_EACCES);
	assert_last(all, SHMB_EACCES, "allow-adopt");
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(count(all, WIRE_REGION_ADOPT), 1);
}

/* ---- Sizes and contents ---- */

static void F02_a_file_is_emptied_only_where_that_was_asked_for(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);

	put(all->path, "some bytes");
	assert_code(make(all, "a", 4, &options), 0);
	assert_int_equal(size_of(all->path), 10);
	assert_int_equal(last(all, WIRE_REGION_ADOPT).params.adopt.size, 4);
	options.file_flags |= SHMB_FILE_TRUNCATE;
	assert_code(make(all, "a", 4, &options), SHMB_EEXIST); /* the region is still there */
	assert_int_equal(size_of(all->path), 10);
	assert_code(make(all, "b", 4, &options), 0);
	assert_int_equal(size_of(all->path), 4);
	options.file_flags |= SHMB_FILE_EXCLUSIVE;
	assert_code(make(all, "c", 4, &options), SHMB_EEXIST);
	assert_last(all, SHMB_EEXIST, "file");
	options.file_flags = SHMB_FILE_TRUNCATE;
	assert_code(make(all, "c", 0, &options), SHMB_EINVAL);
	assert_last(all, SHMB_EINVAL, "size");
}

static void F02_a_file_that_may_only_be_read_is_not_extended(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, 0);

	put(all->path, "some bytes");
	options.access = SHMB_READ;
	assert_code(make(all, "a", 11, &options), SHMB_EMODE);
	assert_last(all, SHMB_EMODE, "file");
	assert_int_equal(size_of(all->path), 10);
}

static void F02_beyond_the_limit_of_file_sizes_is_an_error_and_no_signal(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);
	struct rlimit before, limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 8192;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_code(make(all, "a", 8193, &options), SHMB_EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_last(all, SHMB_EFBIG, "file");
}

static void F02_what_is_no_file_is_refused_without_waiting(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);

	assert_int_equal(mkfifo(all->path, 0600), 0);
	assert_code(make(all, "a", 4096, &options), SHMB_ENOTSUP);
	options.path = all->fake->directory;
	assert_code(make(all, "a", 4096, &options), SHMB_ENOTSUP);
	options.path = "/dev/zero";
	assert_code(make(all, "a", 4096, &options), SHMB_ENOTSUP);
	options.path = "/nowhere/at/all";
	assert_code(make(all, "a", 4096, &options), SHMB_ENOENT);
	assert_last(all, SHMB_ENOENT, "file");
	options.path = "";
	assert_code(make(all, "a", 4096, &options), SHMB_ENOENT);
	assert_int_equal(count(all, WIRE_REGION_ADOPT), 0);
}

/* ---- Adopting ---- */

static int adopt(struct state *all, const char *name, uint64_t size, int fd, unsigned access)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = SHMB_BACKING_FILE;
	options.fd = fd;
	options.access = access;
	return make(all, name, size, &options);
}

static void F03_a_memfd_that_anybody_could_open_is_shut_for_others(void **state)
{
	struct state *all = *state;
	int fd = memfd_create("mine", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat status;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(fchmod(fd, 0777), 0);
	assert_code(adopt(all, "a", 0, fd, SHMB_READ | SHMB_WRITE), 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_code(adopt(all, "b", 0, fd, SHMB_READ | SHMB_WRITE), SHMB_EMODE);
	assert_code(adopt(all, "b", 0, fd, SHMB_READ), 0);
	close(fd);
}

static void F03_a_descriptor_has_to_be_open_for_what_is_asked(void **state)
{
	struct state *all = *state;
	unsigned both = SHMB_READ | SHMB_WRITE;
	int fd, pipes[2];

	put(all->path, "some bytes");
	fd = open(all->path, O_WRONLY | O_CLOEXEC);
	assert_code(adopt(all, "a", 0, fd, both), SHMB_EMODE);
	assert_code(adopt(all, "a", 0, fd, SHMB_READ), SHMB_EMODE);
	close(fd);
	fd = open(all->path, O_RDONLY | O_CLOEXEC);
	assert_code(adopt(all, "a", 0, fd, both), SHMB_EMODE);
	assert_code(adopt(all, "a", 0, fd, SHMB_READ), 0);
	close(fd);
	fd = open(all->path, O_PATH | O_CLOEXEC);
	assert_code(adopt(all, "b", 0, fd, SHMB_READ), SHMB_EMODE);
	close(fd);
	assert_code(adopt(all, "b", 0, fd, SHMB_READ), SHMB_EINVAL);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_code(adopt(all, "b", 4096, pipes[0], SHMB_READ), SHMB_ENOTSUP);
	close(pipes[0]);
	close(pipes[1]);
}

static void F03_the_programs_own_descriptor_shares_nothing_with_the_regions(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	put(all->path, "some bytes");
	options.backing = SHMB_BACKING_FILE;
	options.fd = open(all->path, O_RDWR | O_CLOEXEC);
	assert_code(shmb_region_create(all->client, "a", 0, &options, &region), 0);
	assert_int_equal(lseek(all->fake->regions[0].data, 7, SEEK_SET), 7);
	assert_int_equal(lseek(options.fd, 0, SEEK_CUR), 0);
	assert_int_equal(lseek(shmb_region_fd(region), 0, SEEK_CUR), 0);
	assert_string_equal(shmb_region_path(region), "");
	assert_true(shmb_region_fd(region) != options.fd);
	shmb_region_free(region);
	close(options.fd);
}

/* ---- Crashes ---- */

static bool crash(struct fake *fake, const struct fake_seen *seen)
{
	if (seen->again)
		return false;
	if (fake->context)
		fake_perform_adopt(fake, seen);
	fake_end(fake, FAKE_CRASH);
	return true;
}

static void passes_again(struct state *all, bool done)
{
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);
	struct shmb_region *region;
	size_t fds = count_fds();

	all->fake->context = done ? all : NULL;
	fake_handle(all->fake, WIRE_REGION_ADOPT, crash);
	assert_code(shmb_region_create(all->client, "a", 4096, &options, &region), 0);
	assert_code(shmb_region_write(region, 0, "through", 7, 0), 0);
	assert_int_equal(all->fake->n_regions, 1);
	assert_int_equal(count(all, WIRE_REGION_ADOPT), 2);
	shmb_region_free(region);
	assert_code(shmb_client_ping(all->client), 0); /* so that the fake has let go, too */
	/* The fake's: data and page. */
	assert_int_equal(count_fds(), fds + 2);
}

static void F02_descriptors_are_passed_again_after_a_crash(void **state)
{
	passes_again(*state, false);
}

static void F02_what_was_done_before_a_crash_is_not_done_again(void **state)
{
	passes_again(*state, true);
}

/* ---- Races ---- */

static const char *rival; /* path of its file */

/* Somebody else is faster, and their region is there when ours is asked for. */
static bool lose(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_error error = { .code = wire_string("exists") };

	fake_make(fake, seen->text, 4096, 4096);
	fake_error(seen, &error);
	return true;
}

static void F02_who_loses_the_race_opens_what_the_winner_made(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region *region;

	fake_handle(all->fake, WIRE_REGION_ADOPT, lose);
	assert_code(shmb_region_open_or_create(all->client, "a", 100, &options, &region), 0);
	assert_int_equal(shmb_region_size(region), 4096);
	assert_code(shmb_client_last_error(all->client, &error), 0);
	assert_code(error.code, 0);
	shmb_region_free(region);
}

/* The winner makes its region while we are about to empty the file. */
static bool win_after_stat(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_error error = { .code = wire_string("not-found") };

	if (fake_region(fake, seen->text))
		return false;
	fake_error(seen, &error);
	put(rival, "the winner's bytes");
	fake_make(fake, seen->text, 18, 18);
	return true;
}

static void F02_a_file_whose_region_is_there_is_not_emptied(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE | SHMB_FILE_TRUNCATE);
	struct shmb_region *region;

	rival = all->path;
	fake_handle(all->fake, WIRE_REGION_STAT, win_after_stat);
	assert_code(shmb_region_open_or_create(all->client, "a", 4096, &options, &region), 0);
	assert_int_equal(size_of(all->path), 18);
	shmb_region_free(region);
}

static void F02_emptying_waits_for_others_who_would(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE | SHMB_FILE_TRUNCATE);
	struct flock all_of_it = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	put(all->path, "some bytes");
	fd = open(all->path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &all_of_it), 0);
	assert_code(shmb_client_set_timeout(all->client, 50), 0);
	assert_code(make(all, "a", 4096, &options), SHMB_ETIMEDOUT);
	assert_last(all, SHMB_ETIMEDOUT, "file");
	assert_int_equal(size_of(all->path), 10);
	close(fd);
	assert_code(make(all, "a", 4096, &options), 0);
	/* And gives it back. */
	fd = open(all->path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &all_of_it), 0);
	close(fd);
}

/* ---- Asynchronously ---- */

static void take_region(int status, struct shmb_region *region, void *userdata)
{
	*(int *)userdata = status;
	shmb_region_free(region);
}

static void F32_a_region_of_a_file_is_made_without_waiting(void **state)
{
	struct state *all = *state;
	struct shmb_region_options options = of_file(all, SHMB_FILE_CREATE);
	int status = -1;

	assert_code(
		shmb_region_create_async(all->client, "a", 4096, &options, take_region, &status),
		0);
	while (status == -1)
		shmb_client_process(all->client);
	assert_code(status, 1);
	assert_code(
		shmb_region_create_async(all->client, "a", 4096, &options, take_region, &status),
		SHMB_EEXIST);
}

/* ---- Tickets ---- */

static bool give_ticket(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_region_ticket_result result = {
		.ticket = { "\x00\x01\x7f\x80\xff\xfe\x10\x0a\x00\xcd\xef\x55\xaa\x02\x03\x04",
			    16 },
	};

	fake_result(fake, seen, &result, NULL, 0);
	return true;
}

static bool redeem(struct fake *fake, const struct fake_seen *seen)
{
	const struct fake_region *region = &fake->regions[0];
	struct wire_region_attached attached =
		fake_attached(fake, region, seen->params.redeem.access, false);
	int fds[2] = { region->data, region->page };

	fake_result(fake, seen, &attached, fds, 2);
	return true;
}

static void F04_a_ticket_is_text(void **state)
{
	struct state *all = *state;
	struct shmb_region *region, *other;
	struct shmb_ticket ticket;

	fake_handle(all->fake, WIRE_REGION_TICKET, give_ticket);
	fake_handle(all->fake, WIRE_REGION_REDEEM, redeem);
	assert_code(shmb_region_create(all->client, NULL, 4096, NULL, &region), 0);
	assert_code(shmb_region_ticket(region, SHMB_READ, &ticket), 0);
	assert_string_equal(ticket.text, "00017f80fffe100a00cdef55aa020304");
	assert_code(shmb_region_redeem(all->client, ticket.text, SHMB_READ, NULL, &other), 0);
	assert_memory_equal(last(all, WIRE_REGION_REDEEM).text,
			    "\x00\x01\x7f\x80\xff\xfe\x10\x0a\x00\xcd\xef\x55\xaa\x02\x03\x04", 16);
	assert_string_equal(shmb_region_name(other), "");
	shmb_region_free(other);
	/* As somebody may have typed it. */
	assert_code(shmb_region_redeem(all->client, "00017F80FFFE100A00CDEF55AA020304", SHMB_READ,
				       NULL, &other),
		    0);
	shmb_region_free(other);
	assert_code(shmb_region_redeem(all->client, "00017f80fffe100a00cdef55aa02030", SHMB_READ,
				       NULL, &other),
		    SHMB_EINVAL);
	assert_code(shmb_region_redeem(all->client, "00017f80fffe100a00cdef55aa0203045", SHMB_READ,
				       NULL, &other),
		    SHMB_EINVAL);
	assert_code(shmb_region_redeem(all->client, "\0200017f80fffe100a00cdef55aa020304",
				       SHMB_READ, NULL, &other),
		    SHMB_EINVAL);
	assert_code(shmb_region_redeem(all->client, "00017g80fffe100a00cdef55aa020304", SHMB_READ,
				       NULL, &other),
		    SHMB_EINVAL);
	assert_code(shmb_region_redeem(all->client, "", SHMB_READ, NULL, &other), SHMB_EINVAL);
	assert_code(shmb_region_redeem(all->client, NULL, SHMB_READ, NULL, &other), SHMB_EINVAL);
	assert_code(shmb_region_ticket(region, 8, &ticket), SHMB_EINVAL);
	assert_code(shmb_region_ticket(region, 0, &ticket), SHMB_EINVAL);
	shmb_region_free(region);
	fake_make(all->fake, "b", 4096, 4096);
	assert_code(shmb_region_open(all->client, "b", SHMB_READ, NULL, &region), 0);
	assert_code(shmb_region_ticket(region, SHMB_READ | SHMB_WRITE, &ticket), SHMB_EMODE);
	assert_code(shmb_region_close(region), 0);
	assert_code(shmb_region_ticket(region, SHMB_READ, &ticket), SHMB_ECLOSED);
	shmb_region_free(region);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(F02_options_that_contradict_themselves_are_refused),
		TEST(F04_what_has_no_name_ends_with_its_attachments),
		TEST(F02_two_descriptors_of_the_file_are_passed),
		TEST(F02_who_may_not_pass_descriptors_passes_none_and_makes_no_file),
		TEST(F02_what_the_system_refuses_to_send_fails_that_request_alone),
		TEST(F02_a_file_is_emptied_only_where_that_was_asked_for),
		TEST(F02_a_file_that_may_only_be_read_is_not_extended),
		TEST(F02_beyond_the_limit_of_file_sizes_is_an_error_and_no_signal),
		TEST(F02_what_is_no_file_is_refused_without_waiting),
		TEST(F03_a_memfd_that_anybody_could_open_is_shut_for_others),
		TEST(F03_a_descriptor_has_to_be_open_for_what_is_asked),
		TEST(F03_the_programs_own_descriptor_shares_nothing_with_the_regions),
		TEST(F02_descriptors_are_passed_again_after_a_crash),
		TEST(F02_what_was_done_before_a_crash_is_not_done_again),
		TEST(F02_who_loses_the_race_opens_what_the_winner_made),
		TEST(F02_a_file_whose_region_is_there_is_not_emptied),
		TEST(F02_emptying_waits_for_others_who_would),
		TEST(F32_a_region_of_a_file_is_made_without_waiting),
		TEST(F04_a_ticket_is_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
