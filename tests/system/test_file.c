/* SPDX-License-Identifier: MIT */
/*
 * Regions made of files and of descriptors that a program has open: what becomes of the file, who
 * may write, what survives, and the file's own locks.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"

#define ALLOW_ALICE "[broker]\nallow-adopt = 1001\n"

/* ---- Files ---- */

/* A static buffer of its own for each case: broker_path() has one for all. */
static const char *file_path(const struct broker *broker)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s", broker_path(broker, "file"));
	return path;
}

static struct shmb_region_options of_file(const struct broker *broker, unsigned file_flags)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = SHMB_BACKING_FILE;
	options.path = file_path(broker);
	options.file_flags = file_flags;
	return options;
}

static struct stat file_status(const struct broker *broker)
{
	struct stat status;

	SYS(stat(file_path(broker), &status));
	return status;
}

/* A file of @size bytes, all @byte, that belongs to @owner. */
static void put_file(const struct broker *broker, const struct identity *owner, mode_t mode,
		     size_t size, char byte)
{
	int fd = SYS(open(file_path(broker), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	char *bytes = malloc(size);

	CHECK(bytes);
	memset(bytes, byte, size);
	CHECK_INT(write(fd, bytes, size), size);
	SYS(fchmod(fd, mode));
	if (owner->uid != SELF.uid)
		SYS(fchown(fd, owner->uid, owner->gid));
	free(bytes);
	close(fd);
}

static void check_file(const struct broker *broker, off_t offset, const void *expected,
		       size_t length)
{
	int fd = SYS(open(file_path(broker), O_RDONLY | O_CLOEXEC));
	char bytes[256];

	CHECK(length <= sizeof(bytes));
	CHECK_INT(pread(fd, bytes, length, offset), length);
	CHECK(memcmp(bytes, expected, length) == 0);
	close(fd);
}

static void write_by_name(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	char text[6];

	(void)argument;
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_FILE);
	CHECK_INT(shmb_region_size(region), 10000);
	CHECK_INT(shmb_region_capacity(region), 10000);
	CHECK_STRING(shmb_region_path(region), ""); /* not as this process opened it */
	CHECK_OK(shmb_region_read(region, 0, text, 6, 0));
	CHECK_STRING(text, "hello");
	CHECK_OK(shmb_region_write(region, 9994, "there", 6, 0));
	CHECK_CODE(shmb_region_write(region, 9995, "there", 6, 0), SHMB_EBOUNDS);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F02_a_file_is_made_and_shared_by_name, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region;

	options.file_mode = 0640;
	region = create(client, "f", 10000, &options);
	CHECK_INT(file_status(broker).st_size, 10000);
	CHECK_INT(file_status(broker).st_mode & 0777, 0640);
	CHECK_OK(shmb_region_write(region, 0, "hello", 6, 0));
	actor_run(broker, &SELF, write_by_name, NULL);
	check_file(broker, 0, "hello", 6);
	check_file(broker, 9994, "there", 6);
	shmb_region_free(region);
	/* The file is left alone. */
	CHECK_INT(file_status(broker).st_size, 10000);
	options = of_file(broker, 0);
	region = create(client, "f", 0, &options);
	CHECK_INT(shmb_region_size(region), 10000);
	CHECK(memcmp(shmb_region_data(region), "hello", 6) == 0);
	shmb_region_free(region);
	shmb_client_free(client);
	CHECK_OK(unlink(file_path(broker)));
}

/* Of the next calls so many are interrupted, as by a signal that comes often. */
static int interruptions;

__attribute__((visibility("default"))) int fallocate(int fd, int mode, off_t offset, off_t length)
{
	if (interruptions > 0) {
		interruptions--;
		errno = EINTR;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

CASE(F02_a_signal_while_a_file_becomes_longer_is_no_error, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct stat status;

	options.backing = SHMB_BACKING_FILE;
	options.path = file_path(broker);
	options.file_flags = SHMB_FILE_CREATE;
	interruptions = 3;
	shmb_region_free(create(client, "f", 10000, &options));
	CHECK_INT(interruptions, 0);
	SYS(stat(options.path, &status));
	CHECK_INT(status.st_size, 10000);
	shmb_client_free(client);
}

CASE(F02_a_size_below_the_files_leaves_the_rest, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region;
	unsigned char byte;

	put_file(broker, &SELF, 0600, 9000, 'x');
	region = create(client, "f", 5000, &options);
	CHECK_INT(shmb_region_size(region), 5000);
	CHECK_OK(shmb_region_read_u8(region, 4999, &byte));
	CHECK_INT(byte, 'x');
	CHECK_CODE(shmb_region_read_u8(region, 5000, &byte), SHMB_EBOUNDS);
	shmb_region_free(region);
	CHECK_INT(file_status(broker).st_size, 9000);
	region = create(client, "f", 12000, &options); /* and one above extends it */
	CHECK_INT(file_status(broker).st_size, 12000);
	CHECK_OK(shmb_region_read_u8(region, 8999, &byte));
	CHECK_INT(byte, 'x');
	CHECK_OK(shmb_region_read_u8(region, 11999, &byte));
	CHECK_INT(byte, 0);
	shmb_region_free(region);
	options.file_flags |= SHMB_FILE_TRUNCATE;
	region = create(client, "f", 4096, &options);
	CHECK_INT(file_status(broker).st_size, 4096);
	CHECK_OK(shmb_region_read_u8(region, 0, &byte));
	CHECK_INT(byte, 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F02_exclusive_takes_no_file_that_is_there, PRIVATE)
{
	struct shmb_region_options options =
		of_file(broker, SHMB_FILE_CREATE | SHMB_FILE_EXCLUSIVE);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;

	put_file(broker, &SELF, 0600, 9000, 'x');
	CHECK_CODE(shmb_region_create(client, "f", 4096, &options, &region), SHMB_EEXIST);
	CHECK(!region);
	check_file(broker, 0, "xxxx", 4);
	CHECK_INT(broker_stat(broker, "regions"), 0);
	SYS(unlink(file_path(broker)));
	region = create(client, "f", 4096, &options);
	CHECK_INT(file_status(broker).st_size, 4096);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F02_a_file_opened_for_reading_can_be_written_by_nobody, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, 0);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region *region, *other = NULL;

	put_file(broker, &SELF, 0600, 4096, 'x');
	options.access = SHMB_READ;
	options.mode = 0777;
	region = create(client, "f", 0, &options);
	CHECK_CODE(shmb_region_write(region, 0, "y", 1, 0), SHMB_EMODE);
	CHECK_CODE(shmb_region_resize(region, 1), SHMB_EMODE);
	CHECK_INT(fcntl(shmb_region_fd(region), F_GETFL) & O_ACCMODE, O_RDONLY);
	CHECK_CODE(shmb_region_open(client, "f", SHMB_READ | SHMB_WRITE, NULL, &other),
		   SHMB_EACCES);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_STRING(error.what, "file opened read-only"); /* not the mode, which allows it */
	other = open_region(client, "f", SHMB_READ);
	CHECK_INT(*(char *)shmb_region_data(other), 'x');
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void share_what_is_not_mine(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, 0);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region *region;

	(void)argument;
	CHECK_CODE(shmb_region_create(client, "f", 0, &options, &region), SHMB_EACCES);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_STRING(error.what, "file");
	options.file_flags = SHMB_FILE_CREATE | SHMB_FILE_TRUNCATE;
	CHECK_CODE(shmb_region_create(client, "f", 4096, &options, &region), SHMB_EACCES);
	shmb_client_free(client);
}

CASE(F02_what_a_program_may_not_open_it_may_not_share, SYSTEM, .config = ALLOW_ALICE)
{
	put_file(broker, &SELF, 0644, 4096, 'x');
	SYS(chmod(file_path(broker), 0600));
	actor_run(broker, &ALICE, share_what_is_not_mine, NULL);
	check_file(broker, 0, "xxxx", 4);
	CHECK_INT(broker_stat(broker, "regions"), 0);
}

/* Somebody else has cut it off: what is there can be read, and resizing puts it right. */
CASE(F34_a_file_that_was_shortened_can_be_opened, PRIVATE)
{
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "f", 3 * 65536, &options), *other;
	uint8_t byte = 0;

	CHECK_OK(shmb_region_write_u8(region, 1, 7));
	SYS(truncate(file_path(broker), 65536));
	other = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	CHECK_INT(shmb_region_size(other), 3 * 65536);
	CHECK_OK(shmb_region_read_u8(other, 1, &byte));
	CHECK_INT(byte, 7);
	CHECK_CODE(shmb_region_read_u8(other, 2 * 65536, &byte), SHMB_EBUS);
	CHECK_OK(shmb_region_resize(other, 65536));
	CHECK_CODE(shmb_region_read_u8(other, 2 * 65536, &byte), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_resize(other, 4 * 65536));
	CHECK_OK(shmb_region_read_u8(other, 2 * 65536, &byte));
	CHECK_INT(byte, 0);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
	SYS(unlink(file_path(broker)));
}

CASE(F02_after_a_flush_the_bytes_are_in_the_file, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region = create(client, "f", 3 * 4096, &options);

	CHECK_OK(shmb_region_write(region, 5000, "durable", 8, 0));
	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	check_file(broker, 5000, "durable", 8);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F02_reserving_gives_a_file_its_blocks, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region;

	options.flags = SHMB_RESERVE;
	region = create(client, "f", 1 << 20, &options);
	CHECK(file_status(broker).st_blocks * 512 >= 1 << 20);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F04_a_file_can_be_without_a_name, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE | SHMB_FILE_TRUNCATE);
	struct shmb_region *region = create(client, NULL, 4096, &options), *other;
	struct shmb_ticket ticket;

	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_FILE);
	CHECK_OK(shmb_region_ticket(region, SHMB_READ, &ticket));
	CHECK_OK(shmb_region_redeem(client, ticket.text, SHMB_READ, NULL, &other));
	CHECK_INT(fcntl(shmb_region_fd(other), F_GETFL) & O_ACCMODE, O_RDONLY);
	CHECK_OK(shmb_region_write(region, 0, "here", 5, 0));
	CHECK(memcmp(shmb_region_data(other), "here", 5) == 0);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* ---- Races ---- */

enum { RACERS = 8, ROUNDS = 20 };

static void race(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE | SHMB_FILE_TRUNCATE);
	struct shmb_region *region;
	int result;

	(void)argument;
	options.lifetime = SHMB_ATTACHED;
	for (unsigned round = 0; round < ROUNDS; round++) {
		char name[16];
		uint64_t value = 0;

		snprintf(name, sizeof(name), "f%u", round);
		hear();
		result = shmb_region_open_or_create(client, name, 4096, &options, &region);
		if (result < 0)
			FAIL("%s", shmb_error_name(result));
		/* The others add to it: nobody may empty the file meanwhile. */
		CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
		CHECK_OK(shmb_region_read_u64(region, 0, &value));
		CHECK_OK(shmb_region_write_u64(region, 0, value + 1));
		CHECK_OK(shmb_region_unlock(region));
		say((uint64_t)result);
		hear();
		CHECK_OK(shmb_region_read_u64(region, 0, &value));
		CHECK_INT(value, RACERS);
		shmb_region_free(region);
		say(0);
	}
	shmb_client_free(client);
}

CASE(F02_of_many_that_race_one_makes_and_empties_the_file, PRIVATE)
{
	struct actor racers[RACERS];

	put_file(broker, &SELF, 0600, 4096, 'x');
	for (size_t i = 0; i < RACERS; i++)
		racers[i] = actor_start(broker, &SELF, race, NULL);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned created = 0;

		for (size_t i = 0; i < RACERS; i++)
			actor_say(&racers[i], 1);
		for (size_t i = 0; i < RACERS; i++)
			created += (unsigned)actor_hear(&racers[i]);
		CHECK_INT(created, 1);
		for (size_t i = 0; i < RACERS; i++)
			actor_say(&racers[i], 1);
		for (size_t i = 0; i < RACERS; i++)
			actor_hear(&racers[i]);
	}
	for (size_t i = 0; i < RACERS; i++)
		actor_end(&racers[i]);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* ---- Adopting and lending ---- */

CASE(F03_a_memfd_is_adopted_and_lent, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region, *other;
	int fd = SYS(memfd_create("mine", MFD_CLOEXEC));
	struct stat status;
	char text[6];

	SYS(ftruncate(fd, 8192));
	CHECK_INT(pwrite(fd, "hello", 6, 4096), 6);
	options.backing = SHMB_BACKING_FILE;
	options.fd = fd;
	region = create(client, "m", 0, &options);
	CHECK_INT(shmb_region_size(region), 8192);
	SYS(fstat(fd, &status)); /* nobody else opens it through /proc */
	CHECK_INT(status.st_mode & 0077, 0);
	other = open_region(client, "m", SHMB_READ | SHMB_WRITE);
	CHECK_OK(shmb_region_read(other, 4096, text, 6, 0));
	CHECK_STRING(text, "hello");
	CHECK_OK(shmb_region_write(other, 0, "back", 5, 0));
	CHECK_INT(pread(fd, text, 5, 0), 5);
	CHECK_STRING(text, "back");
	close(fd); /* borrowed */
	CHECK_INT(pread(shmb_region_fd(region), text, 5, 0), 5);
	CHECK_STRING(text, "back");
	CHECK(fcntl(shmb_region_fd(region), F_GETFD) & FD_CLOEXEC);
	fd = shmb_region_fd(other);
	shmb_region_free(other);
	CHECK_INT(fcntl(fd, F_GETFD), -1); /* closed with its handle */
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(F03_a_file_that_is_open_is_adopted, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *region;

	put_file(broker, &SELF, 0600, 5000, 'x');
	options.backing = SHMB_BACKING_FILE;
	options.fd = SYS(open(file_path(broker), O_RDWR | O_CLOEXEC));
	region = create(client, "f", 0, &options);
	CHECK_INT(shmb_region_size(region), 5000);
	CHECK_OK(shmb_region_write(region, 0, "y", 1, 0));
	check_file(broker, 0, "y", 1);
	CHECK_STRING(shmb_region_path(region), "");
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_STRING(info.path, "");
	shmb_region_free(region);
	close(options.fd);
	shmb_client_free(client);
}

CASE(F03_a_descriptor_is_open_for_what_is_asked_or_refused, PRIVATE)
{
	static const int modes[] = { O_WRONLY, O_PATH, O_RDONLY };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region = NULL;

	put_file(broker, &SELF, 0600, 5000, 'x');
	options.backing = SHMB_BACKING_FILE;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		options.fd = SYS(open(file_path(broker), modes[i] | O_CLOEXEC));
		CHECK_CODE(shmb_region_create(client, "f", 0, &options, &region), SHMB_EMODE);
		close(options.fd);
	}
	options.fd = SYS(open(file_path(broker), O_RDONLY | O_CLOEXEC));
	options.access = SHMB_READ;
	region = create(client, "f", 0, &options);
	CHECK_CODE(shmb_region_write(region, 0, "y", 1, 0), SHMB_EMODE);
	close(options.fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F03_unmapped_it_is_gone_and_the_descriptor_kept, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "plain", 4096, NULL);
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_view view;
	char text[6] = "", *data;
	int fd = -1;

	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_EINVAL); /* none is kept */
	CHECK_OK(shmb_region_last_error(region, &error));
	CHECK_STRING(error.what, "SHMB_KEEP_FD");
	CHECK_INT(shmb_region_is_valid(region), 1);
	shmb_region_free(region);

	options.flags = SHMB_KEEP_FD;
	region = create(client, "kept", 4096, &options);
	CHECK_OK(shmb_region_write(region, 100, "bytes", 6, 0));
	data = shmb_region_data(region);
	CHECK_OK(shmb_region_view(region, 0, 1, 0, SHMB_READ, &view));
	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_EBUSY);
	CHECK_INT(fd, -1);
	CHECK_INT(shmb_region_read_string(region, 100, text, 6), 5);
	CHECK_OK(shmb_view_release(&view));
	CHECK_OK(shmb_region_unmap(region, &fd));
	CHECK_INT(data[100], 0); /* nothing of it is mapped there */
	CHECK_CODE(shmb_region_read(region, 100, text, 1, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_ECLOSED);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
	shmb_region_free(region); /* the descriptor is ours */
	shmb_client_free(client);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	memset(text, 0, sizeof(text));
	CHECK_INT(pread(fd, text, 6, 100), 6);
	CHECK_STRING(text, "bytes");
	close(fd);
}

static void pass_though_not_allowed(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region *region;

	(void)argument;
	options.backing = SHMB_BACKING_FILE;
	options.fd = SYS(memfd_create("mine", MFD_CLOEXEC));
	CHECK_CODE(shmb_region_create(client, "f", 4096, &options, &region), SHMB_EACCES);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_STRING(error.what, "allow-adopt");
	close(options.fd);
	CHECK_OK(shmb_client_ping(client));
	shmb_region_free(create(client, "plain", 4096, NULL));
	shmb_client_free(client);
}

static void pass_as_allowed(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	(void)argument;
	options.backing = SHMB_BACKING_FILE;
	options.fd = SYS(memfd_create("mine", MFD_CLOEXEC));
	shmb_region_free(create(client, "f", 4096, &options));
	close(options.fd);
	shmb_client_free(client);
}

CASE(F03_who_is_not_allowed_may_not_pass_descriptors, SYSTEM, .config = ALLOW_ALICE)
{
	actor_run(broker, &BOB, pass_though_not_allowed, NULL);
	actor_run(broker, &ALICE, pass_as_allowed, NULL);
	actor_run(broker, &SELF, pass_as_allowed, NULL); /* root always may */
}

/* ---- Rights ---- */

static void share_file(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, 0);
	struct shmb_region *region;

	(void)argument;
	options.mode = 0744;
	region = create(client, "f", 0, &options);
	say(1);
	hear();
	CHECK_INT(*(char *)shmb_region_data(region), 'x');
	CHECK_INT(shmb_region_size(region), 8192);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void share_memfd(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	char bytes[8192];

	(void)argument;
	options.backing = SHMB_BACKING_FILE;
	options.mode = 0744;
	options.fd = SYS(memfd_create("mine", MFD_CLOEXEC));
	memset(bytes, 'x', sizeof(bytes));
	CHECK_INT(write(options.fd, bytes, sizeof(bytes)), sizeof(bytes));
	region = create(client, "f", 0, &options);
	close(options.fd);
	say(1);
	hear();
	CHECK_INT(*(char *)shmb_region_data(region), 'x');
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Every descriptor of this process that is of the region's file, opened again or used as it is. */
static void try_to_write(int fd)
{
	char path[32];
	void *mapping;

	CHECK_INT(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	CHECK_INT(pwrite(fd, "y", 1, 0), -1);
	CHECK_INT(ftruncate(fd, 1), -1);
	CHECK_INT(fallocate(fd, 0, 0, 100000), -1);
	CHECK_INT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	mapping = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(mapping == MAP_FAILED);
	mapping = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(mapping != MAP_FAILED);
	CHECK_INT(mprotect(mapping, 4096, PROT_READ | PROT_WRITE), -1);
	munmap(mapping, 4096);
	CHECK_INT(fchmod(fd, 0777), -1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK_INT(open(path, O_RDWR | O_CLOEXEC), -1);
	CHECK_INT(errno, EACCES);
	CHECK_INT(open(path, O_WRONLY | O_CLOEXEC), -1);
	CHECK_INT(truncate(path, 1), -1);
}

static unsigned try_every_descriptor(int like)
{
	DIR *directory = opendir("/proc/self/fd");
	struct stat wanted, status;
	struct dirent *entry;
	unsigned n = 0;

	CHECK(directory);
	SYS(fstat(like, &wanted));
	while ((entry = readdir(directory))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fstat(fd, &status) < 0 ||
		    status.st_ino != wanted.st_ino || status.st_dev != wanted.st_dev)
			continue;
		try_to_write(fd);
		n++;
	}
	closedir(directory);
	return n;
}

static void only_read(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, 0);
	struct shmb_region *region = NULL;
	char *data;

	(void)argument;
	CHECK_CODE(shmb_region_open(client, "f", SHMB_READ | SHMB_WRITE, NULL, &region),
		   SHMB_EACCES);
	region = open_region(client, "f", SHMB_READ);
	data = shmb_region_data(region);
	CHECK_INT(data[0], 'x');
	CHECK_INT(mprotect(data, 4096, PROT_READ | PROT_WRITE), -1);
	CHECK(try_every_descriptor(shmb_region_fd(region)) >= 1);
	CHECK_CODE(shmb_region_write(region, 0, "y", 1, 0), SHMB_EMODE);
	CHECK_CODE(shmb_region_resize(region, 1), SHMB_EMODE);
	shmb_region_free(region);
	/* Not through a region of its own, either. */
	options.path = file_path(broker);
	CHECK_CODE(shmb_region_create(client, "mine", 0, &options, &region), SHMB_EACCES);
	shmb_client_free(client);
}

static void reader_cannot_write(struct broker *broker, actor_fn *share)
{
	struct actor alice;

	put_file(broker, &ALICE, 0600, 8192, 'x');
	alice = actor_start(broker, &ALICE, share, NULL);
	CHECK_INT(actor_hear(&alice), 1);
	actor_run(broker, &BOB, only_read, NULL);
	actor_say(&alice, 1);
	actor_end(&alice);
}

CASE(F05_a_reader_of_a_file_cannot_write_it, SYSTEM, .config = ALLOW_ALICE)
{
	reader_cannot_write(broker, share_file);
}

CASE(F05_a_reader_of_an_adopted_memfd_cannot_write_it, SYSTEM, .config = ALLOW_ALICE)
{
	reader_cannot_write(broker, share_memfd);
}

static void write_without_rights_to_the_file(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "f", SHMB_READ | SHMB_WRITE);

	(void)argument;
	CHECK_INT(open(file_path(broker), O_RDONLY | O_CLOEXEC), -1);
	CHECK_OK(shmb_region_write(region, 0, "z", 1, 0));
	CHECK(shmb_region_fd(region) >= 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void share_for_writing(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, 0);
	struct shmb_region *region;

	(void)argument;
	options.mode = 0766;
	region = create(client, "f", 0, &options);
	say(1);
	hear();
	CHECK_INT(*(char *)shmb_region_data(region), 'z');
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F02_others_need_no_rights_to_the_file, SYSTEM, .config = ALLOW_ALICE)
{
	struct actor alice;

	put_file(broker, &ALICE, 0600, 8192, 'x');
	alice = actor_start(broker, &ALICE, share_for_writing, NULL);
	CHECK_INT(actor_hear(&alice), 1);
	actor_run(broker, &BOB, write_without_rights_to_the_file, NULL);
	actor_say(&alice, 1);
	actor_end(&alice);
	check_file(broker, 0, "z", 1);
}

/* ---- Asking ---- */

CASE(F11_a_region_tells_its_file, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *region, *other;
	char *directory = getcwd(NULL, 0), path[sizeof(info.path)];

	CHECK(directory);
	SYS(chdir(broker->directory));
	options.path = "file";
	options.mode = 0640;
	region = create(client, "f", 5000, &options);
	snprintf(path, sizeof(path), "%s/file", broker->directory);
	CHECK_STRING(shmb_region_path(region), "file");
	CHECK_STRING(shmb_region_name(region), "f");
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_FILE);
	CHECK_INT(shmb_region_is_valid(region), 1);
	CHECK_INT(shmb_region_access(region), SHMB_READ | SHMB_WRITE | SHMB_LOCK);
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_STRING(info.path, path);
	CHECK_STRING(info.name, "f");
	CHECK_INT(info.backing, SHMB_BACKING_FILE);
	CHECK_INT(info.mode, 0640);
	CHECK_INT(info.size, 5000);
	CHECK_INT(info.capacity, 5000);
	memset(&info, 0, sizeof(info));
	info.struct_size = sizeof(info);
	CHECK_OK(shmb_region_stat(client, "f", &info));
	CHECK_STRING(info.path, path);
	other = open_region(client, "f", SHMB_READ);
	CHECK_STRING(shmb_region_path(other), "");
	CHECK_INT(shmb_region_backing(other), SHMB_BACKING_FILE);
	shmb_region_free(other);
	other = create(client, "plain", 4096, NULL);
	CHECK_STRING(shmb_region_path(other), "");
	CHECK(shmb_region_backing(other) != SHMB_BACKING_FILE);
	CHECK_OK(shmb_region_info(other, &info));
	CHECK_STRING(info.path, "");
	shmb_region_free(other);
	CHECK_OK(shmb_region_close(region));
	CHECK(!shmb_region_path(region));
	CHECK_INT(shmb_region_is_valid(region), 0);
	shmb_region_free(region);
	shmb_client_free(client);
	SYS(chdir(directory));
	free(directory);
}

/* ---- Resizing ---- */

CASE(F33_resizing_a_file_changes_it_and_everybody_follows, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region = create(client, "f", 5000, &options);
	struct shmb_region *reader = open_region(client, "f", SHMB_READ);
	struct shmb_view view;
	unsigned char byte;
	void *data;

	CHECK_OK(shmb_region_write_u8(region, 4999, 'x'));
	CHECK_OK(shmb_region_view(reader, 0, 5000, 1, SHMB_READ, &view));
	CHECK_OK(shmb_region_resize(region, 1 << 20)); /* no lock is needed */
	CHECK_INT(file_status(broker).st_size, 1 << 20);
	CHECK_OK(shmb_region_write_u8(region, (1 << 20) - 1, 'y'));
	CHECK_OK(shmb_region_read_u8(reader, (1 << 20) - 1, &byte));
	CHECK_INT(byte, 'y');
	CHECK_INT(shmb_region_size(reader), 1 << 20);
	CHECK_INT(shmb_region_capacity(reader), 1 << 20);
	CHECK_INT(((unsigned char *)view.data)[4999], 'x');
	data = shmb_region_data(reader);
	CHECK_OK(shmb_region_resize(region, 100));
	CHECK(shmb_region_data(reader) == data); /* no mapping gets shorter under anybody */
	CHECK_INT(file_status(broker).st_size, 100);
	CHECK_CODE(shmb_region_read_u8(reader, 100, &byte), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_write_u8(region, 100, 1), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_read_u8(reader, 99, &byte));
	CHECK_INT(((volatile unsigned char *)view.data)[4999], 0); /* no SIGBUS */
	shmb_view_release(&view);
	CHECK_OK(shmb_region_resize(region, 5000));
	CHECK_OK(shmb_region_read_u8(reader, 4999, &byte));
	CHECK_INT(byte, 0);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Ends ---- */

CASE(F28_deleting_a_region_leaves_its_file_and_the_other_way_round, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region, *other;
	unsigned char byte;

	options.lifetime = SHMB_PERSISTENT;
	region = create(client, "f", 4096, &options);
	CHECK_OK(shmb_region_remove(client, "f"));
	CHECK_CODE(shmb_region_open(client, "f", SHMB_READ, NULL, &other), SHMB_ENOENT);
	CHECK_OK(shmb_region_write_u8(region, 0, 7));
	CHECK_INT(file_status(broker).st_size, 4096);
	shmb_region_free(region);
	CHECK_INT(file_status(broker).st_size, 4096);

	region = create(client, "f", 0, &options);
	CHECK_OK(unlink(file_path(broker)));
	other = open_region(client, "f", SHMB_READ);
	CHECK_OK(shmb_region_write_u8(region, 0, 8));
	CHECK_OK(shmb_region_read_u8(other, 0, &byte));
	CHECK_INT(byte, 8);
	shmb_region_free(other);
	shmb_region_free(region);
	CHECK_INT(broker_stat(broker, "regions"), 1); /* persistent, and nobody has it */
	CHECK_OK(shmb_region_remove(client, "f"));
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	shmb_client_free(client);
}

/* ---- Restarts ---- */

static void make_late(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region;

	(void)argument;
	shmb_region_free(create(client, "first", 4096, &options));
	say(1);
	hear();
	/* Nobody answers now. */
	region = create(client, "f", 4096, &options);
	CHECK_OK(shmb_region_write(region, 0, "late", 5, 0));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F02_a_file_is_passed_to_the_next_broker, PRIVATE)
{
	struct actor actor = actor_start(broker, &SELF, make_late, NULL);

	CHECK_INT(actor_hear(&actor), 1);
	broker_crash(broker);
	actor_say(&actor, 1);
	broker_restart(broker);
	actor_end(&actor);
	check_file(broker, 0, "late", 5);
}

CASE(F02_a_file_survives_the_broker_where_descriptors_are_stored, PRIVATE, .fd_store = 64)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region = create(client, "f", 5000, &options), *other;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	char text[5];

	CHECK_OK(shmb_region_write(region, 0, "kept", 5, 0));
	broker_crash(broker);
	broker_restart(broker);
	other = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	CHECK_OK(shmb_region_read(other, 0, text, 5, 0));
	CHECK_STRING(text, "kept");
	CHECK_OK(shmb_region_stat(client, "f", &info));
	CHECK_STRING(info.path, file_path(broker));
	CHECK_INT(info.backing, SHMB_BACKING_FILE);
	shmb_region_free(other);
	other = open_region(client, "f", SHMB_READ);
	CHECK_INT(fcntl(shmb_region_fd(other), F_GETFL) & O_ACCMODE, O_RDONLY);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(store_count(broker->store), 0);
	CHECK_INT(file_status(broker).st_size, 5000);
}

CASE(F02_without_a_store_those_attached_keep_the_file, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region = create(client, "f", 5000, &options), *other = NULL;
	int result;

	broker_crash(broker);
	broker_restart(broker);
	CHECK_OK(shmb_client_ping(client));
	CHECK_OK(shmb_region_write(region, 0, "mine", 5, 0));
	check_file(broker, 0, "mine", 5);
	result = shmb_region_open(client, "f", SHMB_READ, NULL, &other);
	CHECK(result == SHMB_ENOENT || result == 0);
	shmb_region_free(other);
	shmb_region_free(region);
	/* And it can be made again. */
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	region = create(client, "f", 0, &options);
	CHECK(memcmp(shmb_region_data(region), "mine", 5) == 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- The file's own locks ---- */

static int lock_ofd(int fd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

static void lock_by_name(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	int fd = shmb_region_fd(region);

	(void)argument;
	CHECK_INT(lock_ofd(fd, F_WRLCK), -EAGAIN); /* the test has it */
	CHECK_INT(flock(fd, LOCK_EX | LOCK_NB), 0);
	say(1);
	hear();
	CHECK_INT(lock_ofd(fd, F_WRLCK), 0);
	say(1);
	hear();
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_locks_of_the_file_exclude_handles_from_each_other, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region = create(client, "f", 4096, &options), *other;
	int fd = shmb_region_fd(region), own;
	struct actor actor;

	CHECK_INT(lock_ofd(fd, F_WRLCK), 0);
	/* Of another process, */
	actor = actor_start(broker, &SELF, lock_by_name, NULL);
	CHECK_INT(actor_hear(&actor), 1);
	CHECK_INT(flock(fd, LOCK_SH | LOCK_NB), -1);
	CHECK_INT(errno, EWOULDBLOCK);
	/* of the same, whose end does not undo it, */
	other = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	CHECK_INT(lock_ofd(shmb_region_fd(other), F_RDLCK), -EAGAIN);
	shmb_region_free(other);
	/* and those who know the file and nothing else. */
	own = SYS(open(file_path(broker), O_RDWR | O_CLOEXEC));
	CHECK_INT(lock_ofd(own, F_WRLCK), -EAGAIN);
	CHECK_INT(lock_ofd(fd, F_UNLCK), 0);
	actor_say(&actor, 1);
	CHECK_INT(actor_hear(&actor), 1);
	CHECK_INT(lock_ofd(own, F_WRLCK), -EAGAIN);
	CHECK_INT(lock_ofd(fd, F_RDLCK), -EAGAIN);
	/* A death gives it back. */
	actor_kill(&actor);
	CHECK_INT(lock_ofd(own, F_WRLCK), 0);
	CHECK_INT(lock_ofd(own, F_UNLCK), 0);
	CHECK_INT(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(own);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_locks_of_the_file_outlive_a_resize, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, SHMB_FILE_CREATE);
	struct shmb_region *region = create(client, "f", 4096, &options);
	struct shmb_region *other = open_region(client, "f", SHMB_READ | SHMB_WRITE);

	CHECK_INT(lock_ofd(shmb_region_fd(region), F_WRLCK), 0);
	CHECK_OK(shmb_region_resize(other, 1 << 20));
	CHECK_OK(shmb_region_write_u8(region, 1 << 19, 1)); /* it follows */
	CHECK_OK(shmb_region_write_u8(other, 1 << 19, 2));
	CHECK_INT(lock_ofd(shmb_region_fd(other), F_WRLCK), -EAGAIN);
	CHECK_INT(lock_ofd(shmb_region_fd(region), F_UNLCK), 0);
	CHECK_INT(lock_ofd(shmb_region_fd(other), F_WRLCK), 0);
	CHECK_INT(lock_ofd(shmb_region_fd(region), F_WRLCK), -EAGAIN);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Who may not open the file shares a description with others like it: as documented. */
static void lock_without_rights(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	struct shmb_region *second = open_region(client, "f", SHMB_READ | SHMB_WRITE);

	(void)argument;
	CHECK_INT(lock_ofd(shmb_region_fd(region), F_WRLCK), -EAGAIN); /* the owner has it */
	say(1);
	hear();
	CHECK_INT(lock_ofd(shmb_region_fd(region), F_WRLCK), 0);
	CHECK_INT(lock_ofd(shmb_region_fd(second), F_WRLCK), 0);
	say(1);
	hear();
	CHECK_INT(lock_ofd(shmb_region_fd(second), F_UNLCK), 0);
	shmb_region_free(second);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void lock_as_owner(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = of_file(broker, 0);
	struct shmb_region *region;

	(void)argument;
	options.mode = 0766;
	region = create(client, "f", 0, &options);
	CHECK_INT(lock_ofd(shmb_region_fd(region), F_WRLCK), 0);
	say(1);
	hear();
	CHECK_INT(lock_ofd(shmb_region_fd(region), F_UNLCK), 0);
	say(1);
	hear();
	CHECK_INT(lock_ofd(shmb_region_fd(region), F_WRLCK), -EAGAIN);
	say(1);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_the_owners_lock_excludes_those_without_rights_to_the_file, SYSTEM, .config = ALLOW_ALICE)
{
	struct actor alice, bob;

	put_file(broker, &ALICE, 0600, 4096, 'x');
	alice = actor_start(broker, &ALICE, lock_as_owner, NULL);
	CHECK_INT(actor_hear(&alice), 1);
	bob = actor_start(broker, &BOB, lock_without_rights, NULL);
	CHECK_INT(actor_hear(&bob), 1);
	actor_say(&alice, 1);
	CHECK_INT(actor_hear(&alice), 1);
	actor_say(&bob, 1);
	CHECK_INT(actor_hear(&bob), 1);
	actor_say(&alice, 1);
	CHECK_INT(actor_hear(&alice), 1);
	actor_say(&bob, 1);
	actor_end(&bob);
	actor_end(&alice);
}
