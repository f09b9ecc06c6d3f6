/* SPDX-License-Identifier: MIT */
/*
 * Regions to files and back: regular ones, pipes, such as do not block, and those that fail.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "harness.h"

enum { MIB = 1 << 20 };

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

static unsigned char pattern(uint64_t i)
{
	return (unsigned char)(i % 251 ^ i >> 12);
}

static void fill(struct shmb_region *region)
{
	unsigned char *data = shmb_region_data(region);
	uint64_t i, size = shmb_region_size(region);

	for (i = 0; i < size; i++)
		data[i] = pattern(i);
}

/* Bytes from @offset on are those of the pattern from @first on. */
static void check_bytes(struct shmb_region *region, uint64_t offset, uint64_t length,
			uint64_t first)
{
	const unsigned char *data = shmb_region_data(region);
	uint64_t i;

	for (i = 0; i < length; i++)
		if (data[offset + i] != pattern(first + i))
			FAIL("byte %llu is %u", (unsigned long long)(offset + i), data[offset + i]);
}

static int open_file(struct broker *broker)
{
	return SYS(open(broker_path(broker, "file"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
}

static void rewind_file(int fd)
{
	CHECK_INT(lseek(fd, 0, SEEK_SET), 0);
}

/* ---- Regular files ---- */

struct heard {
	uint64_t done, total;
	unsigned calls;
	unsigned enough; /* ends the copy with its 42; 0: never */
};

static int be_told(uint64_t done, uint64_t total, void *userdata)
{
	struct heard *told = userdata;

	CHECK(done > told->done);
	CHECK(done <= total);
	told->done = done;
	told->total = total;
	told->calls++;
	return told->calls == told->enough ? 42 : 0;
}

CASE(F28_to_a_file_and_back, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 5 * MIB + 123, NULL);
	struct shmb_region *back = create(client, "back", 5 * MIB + 200, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct heard told = { 0 };
	int fd = open_file(broker);
	struct stat st;

	fill(region);
	CHECK_INT(shmb_region_export(reader, 0, 0, fd, be_told, &told), 5 * MIB + 123);
	CHECK_INT(told.done, 5 * MIB + 123);
	CHECK_INT(told.total, 5 * MIB + 123);
	CHECK(told.calls >= 5);
	CHECK_OK(fstat(fd, &st));
	CHECK_INT(st.st_size, 5 * MIB + 123);
	CHECK_INT(lseek(fd, 0, SEEK_CUR), 5 * MIB + 123);

	rewind_file(fd);
	told = (struct heard){ 0 };
	CHECK_INT(shmb_region_import(back, 50, 0, fd, be_told, &told), 5 * MIB + 123);
	CHECK_INT(told.done, 5 * MIB + 123);
	CHECK_INT(told.total, 5 * MIB + 123);
	CHECK_INT(shmb_region_last_write(back), 5 * MIB + 123);
	check_bytes(back, 50, 5 * MIB + 123, 0);
	CHECK_INT(((unsigned char *)shmb_region_data(back))[5 * MIB + 173], 0);

	/* A part, from where the file is, without being told. */
	CHECK_INT(lseek(fd, 1000, SEEK_SET), 1000);
	CHECK_INT(shmb_region_import(back, 7, 300, fd, NULL, NULL), 300);
	check_bytes(back, 7, 300, 1000);
	check_bytes(back, 307, 100, 257);
	CHECK_INT(lseek(fd, 0, SEEK_CUR), 1300);
	CHECK_INT(shmb_region_export(region, 100, 10, fd, NULL, NULL), 10);
	CHECK_INT(lseek(fd, 0, SEEK_CUR), 1310);
	close(fd);
	shmb_region_free(reader);
	shmb_region_free(back);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F28_ends_and_bounds_of_files, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 1000, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	int fd = open_file(broker);
	uint8_t byte;

	CHECK_INT(shmb_region_import(region, 0, 0, fd, NULL, NULL), 0); /* empty */
	fill(region);
	CHECK_INT(shmb_region_export(region, 0, 0, fd, NULL, NULL), 1000);
	CHECK_INT(shmb_region_import(region, 0, 0, fd, NULL, NULL), 0); /* at its end */
	rewind_file(fd);
	/* It is longer than the range, and that was meant to be enough: nothing is changed. */
	CHECK_INT(shmb_region_import(region, 1, 0, fd, NULL, NULL), SHMB_EBOUNDS);
	CHECK_INT(last(region).offset, 1);
	CHECK_INT(last(region).length, 1000);
	CHECK_INT(last(region).size, 1000);
	check_bytes(region, 0, 1000, 0);
	CHECK_INT(lseek(fd, 0, SEEK_CUR), 0);
	/* So many were asked for; there are less, or more. */
	CHECK_INT(lseek(fd, 990, SEEK_SET), 990);
	CHECK_INT(shmb_region_import(region, 0, 20, fd, NULL, NULL), 10);
	check_bytes(region, 0, 10, 990);
	check_bytes(region, 10, 20, 10);
	rewind_file(fd);
	CHECK_INT(shmb_region_import(region, 0, 20, fd, NULL, NULL), 20);
	/* What lies before its position does not count. */
	CHECK_INT(lseek(fd, 990, SEEK_SET), 990);
	CHECK_INT(shmb_region_import(region, 990, 0, fd, NULL, NULL), 10);

	CHECK_INT(shmb_region_import(region, 990, 11, fd, NULL, NULL), SHMB_EBOUNDS);
	CHECK_INT(shmb_region_import(region, 1001, 0, fd, NULL, NULL), SHMB_EBOUNDS);
	CHECK_INT(shmb_region_export(region, 990, 11, fd, NULL, NULL), SHMB_EBOUNDS);
	CHECK_INT(last(region).offset, 990);
	CHECK_INT(shmb_region_export(region, 1001, 0, fd, NULL, NULL), SHMB_EBOUNDS);
	CHECK_INT(shmb_region_export(region, UINT64_MAX, 2, fd, NULL, NULL), SHMB_EBOUNDS);
	CHECK_INT(shmb_region_export(region, 1000, 0, fd, NULL, NULL), 0);
	CHECK_INT(shmb_region_import(reader, 0, 0, fd, NULL, NULL), SHMB_EMODE);
	CHECK_OK(shmb_region_read_u8(region, 999, &byte));
	CHECK_INT(byte, pattern(999));
	CHECK_OK(shmb_region_close(reader));
	CHECK_INT(shmb_region_export(reader, 0, 0, fd, NULL, NULL), SHMB_ECLOSED);
	CHECK_INT(shmb_region_import(reader, 0, 0, fd, NULL, NULL), SHMB_ECLOSED);
	close(fd);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F28_what_is_told_ends_a_copy, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 8 * MIB, NULL);
	struct heard told = { .enough = 3 };
	int fd = open_file(broker);
	struct stat st;

	fill(region);
	CHECK_INT(shmb_region_export(region, 0, 0, fd, be_told, &told), 42);
	CHECK_INT(told.calls, 3);
	CHECK_INT(told.total, 8 * MIB);
	CHECK_OK(fstat(fd, &st));
	CHECK_INT(st.st_size, told.done);
	CHECK(st.st_size < 8 * MIB);
	SYS(ftruncate(fd, 8 * MIB));
	rewind_file(fd);
	told = (struct heard){ .enough = 1 };
	CHECK_INT(shmb_region_import(region, 0, 0, fd, be_told, &told), 42);
	CHECK_INT(told.calls, 1);
	check_bytes(region, told.done, MIB, told.done);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* A file that does not know its length before it is read. */
CASE(F28_from_a_file_that_is_made_up, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 1 * MIB, NULL);
	int fd = SYS(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
	struct heard told = { 0 };
	int64_t n;

	n = shmb_region_import(region, 0, 0, fd, be_told, &told);
	CHECK(n > 100 && n < MIB);
	CHECK_INT(told.done, n);
	CHECK_INT(told.total, MIB); /* all that it can become */
	CHECK(memchr(shmb_region_data(region), '-', 100));
	rewind_file(fd);
	CHECK_INT(shmb_region_import(region, MIB - 100, 0, fd, NULL, NULL), SHMB_EBOUNDS);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Pipes ---- */

/* Until the only other thread of this process waits in the kernel. */
static void await_other_asleep(void)
{
	DIR *directory = opendir("/proc/self/task");

	CHECK(directory);
	for (struct dirent *entry; (entry = readdir(directory));) {
		pid_t task = (pid_t)strtol(entry->d_name, NULL, 10);

		if (task > 0 && task != gettid())
			await_asleep(task);
	}
	closedir(directory);
}

struct end {
	struct shmb_region *region;
	int fd;
	int64_t result;
	bool in;
	_Atomic pid_t task; /* of the thread that copies */
};

static void *copy_at_the_other_end(void *argument)
{
	struct end *end = argument;

	atomic_store(&end->task, gettid());
	end->result = end->in ? shmb_region_import(end->region, 0, 0, end->fd, NULL, NULL)
			      : shmb_region_export(end->region, 0, 0, end->fd, NULL, NULL);
	close(end->fd);
	return NULL;
}

static void check_pipe(struct broker *broker, int flags)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *from = create(client, "from", 3 * MIB + 5, NULL);
	struct shmb_region *to = create(client, "to", 3 * MIB + 5, NULL);
	struct shmb_region *small = create(client, "small", 100, NULL);
	struct heard told = { 0 };
	struct end end;
	pthread_t thread;
	int fds[2];

	fill(from);
	SYS(pipe2(fds, O_CLOEXEC | flags));
	end = (struct end){ .region = from, .fd = fds[1] };
	CHECK_OK(pthread_create(&thread, NULL, copy_at_the_other_end, &end));
	CHECK_INT(shmb_region_import(to, 0, 0, fds[0], be_told, &told), 3 * MIB + 5);
	CHECK_OK(pthread_join(thread, NULL));
	CHECK_INT(end.result, 3 * MIB + 5);
	CHECK_INT(told.done, 3 * MIB + 5);
	check_bytes(to, 0, 3 * MIB + 5, 0);
	close(fds[0]);

	/* More comes than there is room for. */
	SYS(pipe2(fds, O_CLOEXEC | flags));
	CHECK_INT(write(fds[1], "123456", 6), 6);
	close(fds[1]);
	CHECK_INT(shmb_region_import(small, 95, 0, fds[0], NULL, NULL), SHMB_EBOUNDS);
	CHECK(memcmp((char *)shmb_region_data(small) + 95, "12345", 5) == 0);
	close(fds[0]);
	/* As much as was asked for, and no byte more is taken. */
	SYS(pipe2(fds, O_CLOEXEC | flags));
	CHECK_INT(write(fds[1], "123456", 6), 6);
	CHECK_INT(shmb_region_import(small, 0, 5, fds[0], NULL, NULL), 5);
	CHECK_INT(shmb_region_import(small, 0, 1, fds[0], NULL, NULL), 1);
	CHECK_INT(*(char *)shmb_region_data(small), '6');
	close(fds[0]);
	close(fds[1]);
	shmb_region_free(small);
	shmb_region_free(to);
	shmb_region_free(from);
	shmb_client_free(client);
}

CASE(F28_through_a_pipe, PRIVATE)
{
	check_pipe(broker, 0);
}

CASE(F28_through_a_pipe_that_does_not_block, PRIVATE)
{
	check_pipe(broker, O_NONBLOCK);
}

/* Waiting for more, it uses no processor. */
CASE(F28_a_pipe_that_does_not_block_is_waited_for, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 1000, NULL);
	struct end end = { .region = region, .in = true };
	pthread_t thread;
	int fds[2];

	SYS(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
	end.fd = fds[0];
	CHECK_OK(pthread_create(&thread, NULL, copy_at_the_other_end, &end));
	while (atomic_load(&end.task) == 0)
		CHECK_OK(shmb_client_ping(client));
	await_asleep(atomic_load(&end.task));
	CHECK_INT(write(fds[1], "bytes", 5), 5);
	close(fds[1]);
	CHECK_OK(pthread_join(thread, NULL));
	CHECK_INT(end.result, 5);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* What is left of it would be zeros. */
CASE(F36_closing_ends_a_copy_that_is_under_way, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 3 * MIB, NULL);
	struct end end = { .region = region };
	char bytes[4096];
	pthread_t thread;
	int fds[2];

	fill(region);
	SYS(pipe2(fds, O_CLOEXEC));
	end.fd = fds[1];
	CHECK_OK(pthread_create(&thread, NULL, copy_at_the_other_end, &end));
	CHECK(SYS(read(fds[0], bytes, sizeof(bytes))) > 0); /* it has begun */
	CHECK_OK(shmb_region_close(region));
	while (SYS(read(fds[0], bytes, sizeof(bytes))) > 0)
		;
	CHECK_OK(pthread_join(thread, NULL));
	CHECK_CODE((int)end.result, SHMB_ECLOSED);
	CHECK_CODE(last(region).code, SHMB_ECLOSED);
	close(fds[0]);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void ignore_signal(int number)
{
}

/* Signals while it blocks: it goes on. */
CASE(F28_interrupted, PRIVATE)
{
	struct sigaction action = { .sa_handler = ignore_signal }, before; /* no SA_RESTART */
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 1000, NULL);
	struct end end = { .region = region, .in = true };
	pthread_t thread;
	int fds[2], i;

	SYS(sigaction(SIGUSR1, &action, &before));
	SYS(pipe2(fds, O_CLOEXEC));
	end.fd = fds[0];
	CHECK_OK(pthread_create(&thread, NULL, copy_at_the_other_end, &end));
	for (i = 0; i < 100; i++) {
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		CHECK_OK(shmb_client_ping(client));
		CHECK_INT(write(fds[1], "x", 1), 1);
		CHECK_OK(shmb_client_ping(client));
	}
	close(fds[1]);
	CHECK_OK(pthread_join(thread, NULL));
	CHECK_INT(end.result, 100);
	SYS(sigaction(SIGUSR1, &before, NULL));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* What is read while memory has vanished may have gone to zeros in its place, and cannot be read
 * again: it does not matter that the memory is there by then. */
CASE(F34_an_import_during_which_memory_was_gone_says_so, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct end end = { .in = true };
	char path[128];
	pthread_t thread;
	uint8_t byte;
	int fds[2], left;

	snprintf(path, sizeof(path), "%s", broker_path(broker, "file"));
	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.file_flags = SHMB_FILE_CREATE;
	end.region = region = create(client, "f", 4096, &options);
	SYS(pipe2(fds, O_CLOEXEC));
	end.fd = fds[0];
	CHECK_OK(pthread_create(&thread, NULL, copy_at_the_other_end, &end));
	CHECK_INT(write(fds[1], "x", 1), 1);
	do /* until it has been taken: now it waits for more, or is about to */
		SYS(ioctl(fds[0], FIONREAD, &left));
	while (left > 0);
	await_other_asleep();
	SYS(truncate(path, 0));
	CHECK_CODE(shmb_region_read_u8(region, 100, &byte), SHMB_EBUS); /* of the same page */
	SYS(truncate(path, 4096));
	CHECK_OK(shmb_region_read_u8(region, 100, &byte));
	CHECK_INT(write(fds[1], "y", 1), 1);
	close(fds[1]);
	CHECK_OK(pthread_join(thread, NULL));
	CHECK_INT(end.result, SHMB_EBUS);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- What the system refuses ---- */

CASE(F28_descriptors_that_will_not, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", MIB, NULL);
	int fd, fds[2];

	CHECK_INT(shmb_region_export(region, 0, 0, -1, NULL, NULL), SHMB_EINVAL);
	CHECK_STRING(last(region).what, "write");
	CHECK_INT(shmb_region_import(region, 0, 0, -1, NULL, NULL), SHMB_EINVAL);
	CHECK_STRING(last(region).what, "read");
	fd = SYS(open("/dev/full", O_WRONLY | O_CLOEXEC));
	CHECK_INT(shmb_region_export(region, 0, 0, fd, NULL, NULL), SHMB_ENOSPC);
	CHECK_INT(shmb_region_import(region, 0, 0, fd, NULL, NULL), SHMB_EINVAL);
	close(fd);
	fd = SYS(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	CHECK_INT(shmb_region_import(region, 0, 0, fd, NULL, NULL), SHMB_EINVAL);
	close(fd);
	SYS(pipe2(fds, O_CLOEXEC));
	close(fds[0]);
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	CHECK_INT(shmb_region_export(region, 0, 0, fds[1], NULL, NULL), SHMB_EIO);
	close(fds[1]);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Beyond what 32 bits can count; hardly any of the memory is touched. */
CASE(F28_far_into_a_huge_region, PRIVATE)
{
	uint64_t far = UINT64_C(4) << 30, size = far + far / 4;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", size, NULL);
	struct heard told = { 0 };
	int fd = open_file(broker);
	char bytes[10];

	CHECK_OK(shmb_region_write(region, far - 5, "0123456789", 10, 0));
	CHECK_INT(shmb_region_export(region, far - 2 * MIB, 4 * MIB, fd, be_told, &told), 4 * MIB);
	CHECK_INT(pread(fd, bytes, 10, 2 * MIB - 5), 10);
	CHECK(memcmp(bytes, "0123456789", 10) == 0);
	rewind_file(fd);
	CHECK_INT(shmb_region_import(region, size - 4 * MIB, 0, fd, NULL, NULL), 4 * MIB);
	CHECK_OK(shmb_region_read(region, size - 2 * MIB - 5, bytes, 10, 0));
	CHECK(memcmp(bytes, "0123456789", 10) == 0);
	CHECK_OK(shmb_region_copy(region, far - 5, region, far + 100, 10));
	CHECK_OK(shmb_region_read(region, far + 100, bytes, 10, 0));
	CHECK(memcmp(bytes, "0123456789", 10) == 0);
	rewind_file(fd);
	CHECK_INT(shmb_region_import(region, size - 4 * MIB + 1, 0, fd, NULL, NULL), SHMB_EBOUNDS);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F28: and delete ---- */

CASE(F28_a_region_that_was_copied_is_deleted, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *from = create(client, "from", 1000, NULL), *none = NULL;
	struct shmb_region *to = create(client, "to", 1000, NULL);

	fill(from);
	CHECK_OK(shmb_region_copy(from, 0, to, 0, 1000));
	CHECK_OK(shmb_region_remove(client, "from"));
	CHECK_CODE(shmb_region_remove(client, "from"), SHMB_ENOENT);
	CHECK_CODE(shmb_region_open(client, "from", SHMB_READ, NULL, &none), SHMB_ENOENT);
	check_bytes(from, 0, 1000, 0); /* those attached keep it */
	shmb_region_free(from);
	check_bytes(to, 0, 1000, 0);
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	shmb_region_free(to);
	shmb_client_free(client);
}
