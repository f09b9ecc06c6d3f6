/* SPDX-License-Identifier: MIT */
/*
 * Memory that vanishes under windows, cursors, walks, atomics and copies: the file behind a region
 * is made shorter from outside. What is there goes on, what is not is a bus error, and the process
 * lives.
 */
#include <fcntl.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "harness.h"

enum { PAGE = 4096, PAGES = 16, SIZE = PAGES * PAGE, LARGE = 2 << 20 };

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

/* A region of a file whose bytes say where they are, and the file. */
static struct shmb_region *create_of_file(struct broker *broker, struct shmb_client *client,
					  uint64_t size, int *ret_fd)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	const char *path = broker_path(broker, "file");
	struct shmb_region *region;
	unsigned char *data;
	uint64_t i;

	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.file_flags = SHMB_FILE_CREATE;
	region = create(client, "r", size, &options);
	data = shmb_region_data(region);
	for (i = 0; i < size; i++)
		data[i] = (unsigned char)(i % 251);
	*ret_fd = SYS(open(path, O_RDWR | O_CLOEXEC));
	return region;
}

static void check_pattern(const unsigned char *bytes, size_t length, uint64_t offset)
{
	size_t i;

	for (i = 0; i < length; i++)
		CHECK_INT(bytes[i], (offset + i) % 251);
}

CASE(F34_a_cursor_comes_to_where_the_file_ends, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	unsigned char bytes[PAGE];
	struct shmb_region *region;
	struct shmb_cursor cursor;
	uint64_t done;
	int fd;

	region = create_of_file(broker, client, SIZE, &fd);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_read(&cursor, bytes, PAGE), PAGE);
	SYS(ftruncate(fd, 3 * PAGE));
	for (done = PAGE; done < 3 * PAGE; done += PAGE) {
		CHECK_INT(shmb_cursor_read(&cursor, bytes, PAGE), PAGE);
		check_pattern(bytes, PAGE, done);
	}
	CHECK_INT(shmb_cursor_read(&cursor, bytes, PAGE), SHMB_EBUS);
	CHECK_INT(cursor.position, 3 * PAGE);
	CHECK_INT(shmb_cursor_read(&cursor, bytes, PAGE), SHMB_EBUS);
	CHECK_INT(shmb_cursor_write(&cursor, bytes, PAGE), SHMB_EBUS);
	CHECK_INT(cursor.position, 3 * PAGE);
	CHECK_INT(shmb_cursor_seek(&cursor, PAGE, SHMB_SEEK_SET), PAGE); /* the rest goes on */
	CHECK_INT(shmb_cursor_read(&cursor, bytes, PAGE), PAGE);
	check_pattern(bytes, PAGE, PAGE);
	CHECK_INT(shmb_cursor_seek(&cursor, 3 * PAGE, SHMB_SEEK_SET), 3 * PAGE);
	CHECK_INT(shmb_cursor_read(&cursor, bytes, PAGE), SHMB_EBUS);
	SYS(ftruncate(fd, SIZE)); /* there is memory again: zeros */
	CHECK_INT(shmb_cursor_seek(&cursor, 3 * PAGE, SHMB_SEEK_SET), 3 * PAGE);
	CHECK_INT(shmb_cursor_read(&cursor, bytes, PAGE), PAGE);
	CHECK(bytes[0] == 0 && memcmp(bytes, bytes + 1, PAGE - 1) == 0);
	close(fd);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F34_windows_say_where_within_them, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	unsigned char bytes[2 * PAGE];
	struct shmb_region *region;
	struct shmb_window window;
	struct shmb_view view;
	int fd;

	region = create_of_file(broker, client, SIZE, &fd);
	CHECK_OK(shmb_window_open(region, 2 * PAGE, 4 * PAGE, &window));
	SYS(ftruncate(fd, 4 * PAGE));
	CHECK_OK(shmb_window_read(&window, 0, bytes, 2 * PAGE, 0));
	check_pattern(bytes, 2 * PAGE, 2 * PAGE);
	CHECK_CODE(shmb_window_read(&window, PAGE, bytes, 2 * PAGE, 0), SHMB_EBUS);
	CHECK_CODE(last(region).code, SHMB_EBUS);
	CHECK_INT(last(region).offset, 2 * PAGE); /* of the window: its third page */
	CHECK_INT(last(region).size, 4 * PAGE);
	CHECK_CODE(shmb_window_write(&window, 3 * PAGE, bytes, 5, 0), SHMB_EBUS);
	CHECK_INT(last(region).offset, 3 * PAGE);
	CHECK_OK(shmb_window_view(&window, 0, PAGE, 0, SHMB_READ, &view));
	CHECK_OK(shmb_view_release(&view));
	close(fd);
	shmb_window_close(&window);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F34_walks_and_atomics_tell_at_the_end, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_atomics64 atomics;
	struct shmb_region *region;
	struct shmb_walk walk;
	unsigned n = 0;
	int fd;

	region = create_of_file(broker, client, SIZE, &fd);
	CHECK_OK(shmb_walk_open(region, 0, 0, PAGE, SHMB_READ, &walk));
	SYS(ftruncate(fd, 5 * PAGE));
	while (shmb_walk_next(&walk)) {
		if (n < 5)
			check_pattern(walk.data, walk.length, walk.offset);
		else
			CHECK_INT(walk.data[7], 0);
		n++;
	}
	CHECK_INT(n, PAGES);
	CHECK_CODE(shmb_walk_close(&walk), SHMB_EBUS);
	CHECK_OK(shmb_walk_open(region, 0, 5 * PAGE, PAGE, SHMB_READ, &walk));
	while (shmb_walk_next(&walk))
		check_pattern(walk.data, walk.length, walk.offset);
	CHECK_OK(shmb_walk_close(&walk));

	CHECK_OK(shmb_region_atomics64(region, 8, 1, &atomics));
	CHECK_OK(shmb_atomics64_release(&atomics));
	SYS(ftruncate(fd, SIZE));
	CHECK_OK(shmb_region_atomics64(region, 9 * PAGE, 1, &atomics));
	SYS(ftruncate(fd, 5 * PAGE));
	/* Not an atomic access: ThreadSanitizer makes them within a lock of its own. */
	*(volatile uint64_t *)(void *)atomics.words = 1;
	CHECK_CODE(shmb_atomics64_release(&atomics), SHMB_EBUS);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* All but four pages are gone, and nothing has noticed yet. */
static void shorten_again(struct shmb_region *region, int fd)
{
	unsigned char bytes[SIZE];

	SYS(ftruncate(fd, SIZE));
	CHECK_OK(shmb_region_read(region, 0, bytes, SIZE, 0));
	CHECK_OK(shmb_region_check(region, 0, SIZE));
	SYS(ftruncate(fd, 4 * PAGE));
}

CASE(F34_copies_of_what_is_gone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *other = create(client, "other", SIZE, NULL);
	unsigned char bytes[2][PAGE];
	struct shmb_buffer buffers[] = { { bytes[0], PAGE }, { bytes[1], PAGE } };
	int fd, out;

	region = create_of_file(broker, client, SIZE, &fd);
	out = SYS(open(broker_path(broker, "out"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(fd, 4 * PAGE));
	CHECK_OK(shmb_region_readv(region, 2 * PAGE, buffers, 2, 0));
	check_pattern(bytes[1], PAGE, 3 * PAGE);
	CHECK_CODE(shmb_region_readv(region, 3 * PAGE, buffers, 2, 0), SHMB_EBUS);
	shorten_again(region, fd);
	CHECK_CODE(shmb_region_writev(region, 3 * PAGE, buffers, 2, 0), SHMB_EBUS);
	CHECK_INT(shmb_region_last_write(region), 0);
	CHECK_OK(shmb_region_copy(region, 0, other, 0, 4 * PAGE));
	shorten_again(region, fd);
	CHECK_CODE(shmb_region_copy(region, PAGE, other, 0, 4 * PAGE), SHMB_EBUS);
	CHECK_CODE(last(region).code, SHMB_EBUS);
	CHECK_CODE(last(other).code, 0);
	shorten_again(region, fd);
	CHECK_CODE(shmb_region_copy(other, 0, region, PAGE, 4 * PAGE), SHMB_EBUS);
	shorten_again(region, fd);
	CHECK_CODE(shmb_region_copy(region, 0, region, PAGE, 4 * PAGE), SHMB_EBUS);
	CHECK_INT(shmb_region_export(region, 0, 4 * PAGE, out, NULL, NULL), 4 * PAGE);
	CHECK_INT(shmb_region_export(region, 2 * PAGE, 0, out, NULL, NULL), SHMB_EBUS);
	CHECK_INT(lseek(out, 0, SEEK_SET), 0);
	CHECK_INT(shmb_region_import(region, 3 * PAGE, 2 * PAGE, out, NULL, NULL), SHMB_EBUS);
	close(out);
	close(fd);
	shmb_region_free(region);
	shmb_region_free(other);
	shmb_client_free(client);
}

/* The system meets the missing pages first, and no signal is sent. */
CASE(F34_files_are_written_from_what_is_gone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	int fd, out;

	region = create_of_file(broker, client, SIZE, &fd);
	out = SYS(open(broker_path(broker, "out"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	SYS(ftruncate(fd, 4 * PAGE));
	CHECK_INT(shmb_region_export(region, PAGE, 0, out, NULL, NULL), SHMB_EBUS);
	CHECK_INT(last(region).offset, 4 * PAGE);
	CHECK_INT(lseek(out, 0, SEEK_CUR), 3 * PAGE); /* what was there has been copied */
	CHECK_INT(lseek(out, 0, SEEK_SET), 0);
	CHECK_INT(shmb_region_import(region, 2 * PAGE, 3 * PAGE, out, NULL, NULL), SHMB_EBUS);
	CHECK_INT(last(region).offset, 4 * PAGE);
	CHECK_INT(shmb_region_last_write(region), 2 * PAGE);
	CHECK_INT(shmb_region_export(region, 0, 4 * PAGE, out, NULL, NULL), 4 * PAGE);
	close(out);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

struct gone {
	volatile unsigned char *data;
	int fd;
	unsigned calls;
};

/* The last page goes, and is zeros for whoever looks. */
static int take_the_last_page(uint64_t done, uint64_t total, void *userdata)
{
	struct gone *gone = userdata;

	if (gone->calls++ == 0) {
		SYS(ftruncate(gone->fd, LARGE - PAGE));
		CHECK_INT(gone->data[LARGE - 2], 0);
	}
	return 0;
}

CASE(F34_zeros_in_the_place_of_what_is_gone_are_no_copy, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct gone gone;
	int fd, out;

	region = create_of_file(broker, client, LARGE, &fd);
	gone = (struct gone){ .data = shmb_region_data(region), .fd = fd };
	out = SYS(open("/dev/zero", O_RDWR | O_CLOEXEC));
	CHECK_INT(shmb_region_export(region, 0, 0, out, take_the_last_page, &gone), SHMB_EBUS);
	CHECK(gone.calls >= 2); /* not at once: it was on the way */
	close(out);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}
