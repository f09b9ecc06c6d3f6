/* SPDX-License-Identifier: MIT */
/*
 * Cursors: a region as a stream, also while another process changes its size.
 */
#include <shmbroker/io.h>

#include "harness.h"

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

/* A region of @size bytes, of which each says where it is. */
static struct shmb_region *create_pattern(struct shmb_client *client, uint64_t size,
					  uint64_t capacity)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	uint64_t i;

	options.capacity = capacity;
	region = create(client, "stream", size, &options);
	for (i = 0; i < size; i++)
		CHECK_OK(shmb_region_write_u8(region, i, (uint8_t)(i % 251)));
	return region;
}

static void check_pattern(const unsigned char *bytes, size_t length, uint64_t offset)
{
	size_t i;

	for (i = 0; i < length; i++)
		if (bytes[i] != (offset + i) % 251)
			FAIL("byte %zu of those at %llu is %u", i, (unsigned long long)offset,
			     bytes[i]);
}

CASE(F23_reads_go_on_to_a_short_one_and_then_nothing, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 1000, 0);
	unsigned char buffer[2000];
	struct shmb_cursor cursor;
	uint64_t done = 0;
	int64_t n;

	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(cursor.position, 0);
	while ((n = shmb_cursor_read(&cursor, buffer, 64)) == 64) {
		check_pattern(buffer, 64, done);
		done += 64;
		CHECK_INT(cursor.position, done);
	}
	CHECK_INT(n, 1000 % 64);
	check_pattern(buffer, (size_t)n, done);
	CHECK_INT(cursor.position, 1000);
	memset(buffer, 0xff, sizeof(buffer));
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 0);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 1), 0);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 0), 0);
	CHECK_INT(cursor.position, 1000);
	CHECK_INT(buffer[0], 0xff);

	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_SET), 0);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, sizeof(buffer)), 1000);
	check_pattern(buffer, 1000, 0);
	CHECK_INT(buffer[1000], 0xff);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_SET), 0);
	CHECK_INT(shmb_cursor_read_checked(&cursor, buffer, 999), 999);
	CHECK_INT(shmb_cursor_read_checked(&cursor, buffer, SIZE_MAX), 1);
	CHECK_INT(buffer[0], 999 % 251);
	shmb_cursor_close(&cursor);
	shmb_cursor_close(&cursor);
	shmb_cursor_close(NULL);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F23_many_bytes_at_once, PRIVATE)
{
	enum { MANY = 100000 };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, MANY, 0);
	unsigned char *buffer = malloc(MANY), byte;
	struct shmb_cursor cursor;

	CHECK(buffer);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_read_checked(&cursor, buffer, MANY - 10), MANY - 10);
	check_pattern(buffer, MANY - 10, 0);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, MANY), 10);
	check_pattern(buffer, 10, MANY - 10);
	memset(buffer, 0xff, MANY);
	CHECK_INT(shmb_cursor_seek(&cursor, 7, SHMB_SEEK_SET), 7);
	CHECK_INT(shmb_cursor_write(&cursor, buffer, MANY - 10), MANY - 10);
	CHECK_INT(cursor.position, MANY - 3);
	CHECK_OK(shmb_region_read_u8(region, MANY - 4, &byte));
	CHECK_INT(byte, 0xff);
	CHECK_OK(shmb_region_read_u8(region, MANY - 3, &byte));
	CHECK_INT(byte, (MANY - 3) % 251);
	free(buffer);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F23_writes_go_over_what_is_there_up_to_the_end, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 100, 0);
	struct shmb_region *reader = open_region(client, "stream", SHMB_READ);
	unsigned char buffer[101];
	struct shmb_cursor cursor;

	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_write(&cursor, "abcd", 4), 4);
	CHECK_INT(shmb_cursor_write(&cursor, "efgh", 4), 4);
	CHECK_INT(cursor.position, 8);
	CHECK_INT(shmb_cursor_seek(&cursor, 94, SHMB_SEEK_SET), 94);
	CHECK_INT(shmb_cursor_write(&cursor, "0123456789", 10), 6);
	CHECK_INT(cursor.position, 100);
	CHECK_INT(shmb_cursor_write(&cursor, "x", 0), 0);
	CHECK_INT(shmb_cursor_write(&cursor, "x", 1), SHMB_EBOUNDS);
	CHECK_INT(last(region).offset, 100);
	CHECK_INT(last(region).length, 1);
	CHECK_INT(last(region).size, 100);
	CHECK_INT(cursor.position, 100);
	CHECK_OK(shmb_region_read(region, 0, buffer, 100, 0));
	CHECK(memcmp(buffer, "abcdefgh", 8) == 0);
	check_pattern(buffer + 8, 86, 8);
	CHECK(memcmp(buffer + 94, "012345", 6) == 0);
	shmb_cursor_close(&cursor);

	CHECK_OK(shmb_cursor_open(reader, &cursor));
	CHECK_INT(shmb_cursor_write(&cursor, "x", 1), SHMB_EMODE);
	CHECK_INT(cursor.position, 0);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 4), 4);
	CHECK(memcmp(buffer, "abcd", 4) == 0);
	shmb_cursor_close(&cursor);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F23_seeks_from_the_beginning_here_and_the_end, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 1000, 0);
	struct shmb_cursor cursor;
	unsigned char byte;

	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_seek(&cursor, 300, SHMB_SEEK_SET), 300);
	CHECK_INT(shmb_cursor_seek(&cursor, -100, SHMB_SEEK_CURRENT), 200);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_CURRENT), 200);
	CHECK_INT(shmb_cursor_seek(&cursor, -1, SHMB_SEEK_END), 999);
	CHECK_INT(shmb_cursor_read(&cursor, &byte, 1), 1);
	CHECK_INT(byte, 999 % 251);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_END), 1000);
	CHECK_INT(shmb_cursor_seek(&cursor, 5000, SHMB_SEEK_CURRENT), 6000); /* allowed, */
	CHECK_INT(shmb_cursor_read(&cursor, &byte, 1), 0);                   /* nothing there */
	CHECK_INT(shmb_cursor_write(&cursor, &byte, 1), SHMB_EBOUNDS);
	CHECK_INT(last(region).offset, 6000);

	CHECK_INT(shmb_cursor_seek(&cursor, -1, SHMB_SEEK_SET), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, -6001, SHMB_SEEK_CURRENT), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, -1001, SHMB_SEEK_END), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, INT64_MIN, SHMB_SEEK_CURRENT), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, INT64_MAX, SHMB_SEEK_CURRENT), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, (enum shmb_whence)3), SHMB_EINVAL);
	CHECK_INT(cursor.position, 6000);
	CHECK_INT(shmb_cursor_seek(&cursor, INT64_MAX, SHMB_SEEK_SET), INT64_MAX);
	CHECK_INT(shmb_cursor_read(&cursor, &byte, 1), 0);
	CHECK_INT(shmb_cursor_seek(&cursor, 1, SHMB_SEEK_CURRENT), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, INT64_MIN, SHMB_SEEK_CURRENT), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, -INT64_MAX, SHMB_SEEK_CURRENT), 0);
	cursor.position = UINT64_MAX; /* as nobody should */
	CHECK_INT(shmb_cursor_read(&cursor, &byte, 1), 0);
	CHECK_INT(shmb_cursor_seek(&cursor, -5, SHMB_SEEK_CURRENT), SHMB_EINVAL);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_SET), 0);
	CHECK_INT(shmb_cursor_read(&cursor, &byte, 1), 1);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F23_read_at_says_how_many_bytes_there_were, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 1000, 0);
	struct shmb_cursor cursor;
	unsigned char buffer[64];
	size_t done = 77;

	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_seek(&cursor, 10, SHMB_SEEK_SET), 10);
	CHECK_OK(shmb_cursor_read_at(&cursor, 936, buffer, 64, &done));
	CHECK_INT(done, 64);
	check_pattern(buffer, 64, 936);
	memset(buffer, 0xff, sizeof(buffer));
	CHECK_CODE(shmb_cursor_read_at(&cursor, 990, buffer, 64, &done), SHMB_EBOUNDS);
	CHECK_INT(done, 10);
	check_pattern(buffer, 10, 990);
	CHECK_INT(buffer[10], 0xff);
	CHECK_INT(last(region).offset, 990);
	CHECK_INT(last(region).length, 64);
	CHECK_INT(last(region).size, 1000);
	CHECK_CODE(shmb_cursor_read_at(&cursor, 1000, buffer, 1, &done), SHMB_EBOUNDS);
	CHECK_INT(done, 0);
	CHECK_OK(shmb_cursor_read_at(&cursor, 1000, buffer, 0, &done));
	CHECK_CODE(shmb_cursor_read_at(&cursor, UINT64_MAX, buffer, 1, &done), SHMB_EBOUNDS);
	CHECK_INT(done, 0);

	CHECK_CODE(shmb_cursor_write_at(&cursor, 997, "12345", 5, &done), SHMB_EBOUNDS);
	CHECK_INT(done, 3);
	CHECK_OK(shmb_cursor_write_at(&cursor, 0, "12345", 5, &done));
	CHECK_INT(done, 5);
	CHECK_OK(shmb_region_read(region, 996, buffer, 4, 0));
	CHECK(memcmp(buffer + 1, "123", 3) == 0 && buffer[0] == 996 % 251);
	CHECK_INT(cursor.position, 10); /* none of it moved */
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- While others resize ---- */

static void resize_as_told(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "stream", SHMB_READ | SHMB_WRITE);
	uint64_t size;

	say(0);
	while ((size = hear()) != 0) {
		CHECK_OK(shmb_region_resize(region, size));
		say(size);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static void resize_to(struct actor *actor, uint64_t size)
{
	actor_say(actor, size);
	CHECK_INT(actor_hear(actor), size);
}

CASE(F23_shortened_by_another_process_the_position_stays, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 20000, 40000);
	struct actor actor = actor_start(broker, &SELF, resize_as_told, NULL);
	unsigned char buffer[64];
	struct shmb_cursor cursor;
	int i;

	actor_hear(&actor);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_seek(&cursor, 10000, SHMB_SEEK_SET), 10000);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 64);
	resize_to(&actor, 5000);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 0);
	CHECK_INT(cursor.position, 10064);
	CHECK_INT(shmb_cursor_write(&cursor, buffer, 64), SHMB_EBOUNDS);
	CHECK_INT(last(region).size, 5000);
	CHECK_INT(cursor.position, 10064);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_END), 5000); /* of what is in use */
	CHECK_INT(shmb_cursor_seek(&cursor, 10064, SHMB_SEEK_SET), 10064);
	resize_to(&actor, 10070); /* there is more again: zeros */
	memset(buffer, 0xff, sizeof(buffer));
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 6);
	for (i = 0; i < 6; i++)
		CHECK_INT(buffer[i], 0);
	CHECK_INT(buffer[6], 0xff);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 0);
	resize_to(&actor, 40000);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 64);
	CHECK_INT(cursor.position, 10134);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_END), 40000);
	CHECK_INT(shmb_cursor_seek(&cursor, 4990, SHMB_SEEK_SET), 4990);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 10), 10);
	check_pattern(buffer, 10, 4990);
	actor_say(&actor, 0);
	actor_end(&actor);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void resize_all_the_time(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "stream", SHMB_READ | SHMB_WRITE);
	unsigned i;

	say(0);
	for (i = 0; i < 500; i++)
		CHECK_OK(shmb_region_resize(region, i % 2 ? 40000 : 1 + i * 70));
	CHECK_OK(shmb_region_resize(region, 999));
	say(0);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Whatever the size is, a read gives bytes of before or zeros, and none beyond it. */
CASE(F23_reads_while_another_process_resizes, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 40000, 40000);
	struct actor actor = actor_start(broker, &SELF, resize_all_the_time, NULL);
	unsigned char buffer[64];
	struct shmb_cursor cursor;
	uint64_t position = 0;
	int64_t n, i;

	actor_hear(&actor);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	while (shmb_region_size(region) != 999) {
		n = shmb_cursor_read(&cursor, buffer, sizeof(buffer));
		CHECK(n >= 0 && n <= 64);
		for (i = 0; i < n; i++)
			CHECK(buffer[i] == 0 || buffer[i] == (position + (uint64_t)i) % 251);
		position += (uint64_t)n;
		CHECK_INT(cursor.position, position);
		if (n < 64)
			position = (uint64_t)shmb_cursor_seek(&cursor, 0, SHMB_SEEK_SET);
	}
	CHECK_INT(shmb_cursor_seek(&cursor, 990, SHMB_SEEK_SET), 990);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 9);
	actor_hear(&actor);
	actor_end(&actor);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F23_closed_and_out_of_the_ordinary, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 1000, 0);
	struct shmb_cursor cursor, none = { .position = 5 };
	unsigned char buffer[64];
	size_t done;

	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), 64);
	CHECK_OK(shmb_region_close(region));
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), SHMB_ECLOSED);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 0), SHMB_ECLOSED);
	CHECK_INT(shmb_cursor_write(&cursor, buffer, 64), SHMB_ECLOSED);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_END), SHMB_ECLOSED);
	CHECK_CODE(shmb_cursor_read_at(&cursor, 0, buffer, 1, &done), SHMB_ECLOSED);
	CHECK_INT(cursor.position, 64);
	CHECK_CODE(shmb_cursor_open(region, &none), SHMB_ECLOSED);
	CHECK_INT(none.position, 5);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void check_none(struct shmb_cursor *none)
{
	struct shmb_cursor within = { .position = 5 };
	struct shmb_window part = { .length = 5 };
	char bytes[4] = "abc";
	struct shmb_view view;
	size_t done = 7;

	CHECK_INT(shmb_cursor_read(none, bytes, 0), SHMB_ECLOSED);
	CHECK_INT(shmb_cursor_read(none, bytes, 4), SHMB_ECLOSED);
	CHECK_INT(shmb_cursor_read_checked(none, bytes, 4), SHMB_ECLOSED);
	CHECK_INT(shmb_cursor_write(none, bytes, 4), SHMB_ECLOSED);
	CHECK_INT(shmb_cursor_seek(none, 0, SHMB_SEEK_SET), SHMB_ECLOSED);
	CHECK_CODE(shmb_cursor_read_at(none, 0, bytes, 4, &done), SHMB_ECLOSED);
	CHECK_INT(done, 0);
	CHECK_CODE(shmb_cursor_write_at(none, 0, bytes, 4, &done), SHMB_ECLOSED);
	CHECK_STRING(bytes, "abc");
	CHECK_CODE(shmb_cursor_open_window(&none->_window, &within), SHMB_ECLOSED);
	CHECK_INT(within.position, 5);
	CHECK_CODE(shmb_window_open_within(&none->_window, 0, 0, &part), SHMB_ECLOSED);
	CHECK_INT(part.length, 5);
	CHECK_INT(shmb_window_size(&none->_window), 0);
	CHECK_CODE(shmb_window_read(&none->_window, 0, bytes, 1, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_window_write(&none->_window, 0, bytes, 1, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_window_view(&none->_window, 0, 1, 0, SHMB_READ, &view), SHMB_ECLOSED);
}

/* And so is the window in it, and a walk goes nowhere. */
CASE(F23_one_that_is_zeroed_or_was_closed_says_closed, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 1000, 0);
	struct shmb_cursor cursor = { 0 };
	struct shmb_walk walk = { 0 };
	char bytes[4];

	check_none(&cursor);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_read(&cursor, bytes, 4), 4);
	shmb_cursor_close(&cursor);
	check_none(&cursor);
	CHECK_INT(shmb_walk_next(&walk), 0);
	CHECK_INT(shmb_walk_copy(&walk, bytes), 0);
	CHECK_OK(shmb_walk_close(&walk));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* A handle that may not read does not do it inline either. */
CASE(F23_of_a_handle_that_may_only_write, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_pattern(client, 1000, 0);
	struct shmb_region *writer = open_region(client, "stream", SHMB_WRITE);
	struct shmb_cursor cursor;
	unsigned char buffer[64];

	CHECK_OK(shmb_cursor_open(writer, &cursor));
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 64), SHMB_EMODE);
	CHECK_INT(shmb_cursor_write(&cursor, "abcd", 4), 4);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 1), SHMB_EMODE);
	CHECK_INT(cursor.position, 4);
	CHECK_OK(shmb_region_read(region, 0, buffer, 5, 0));
	CHECK(memcmp(buffer, "abcd\004", 5) == 0);
	shmb_cursor_close(&cursor);
	shmb_region_free(writer);
	shmb_region_free(region);
	shmb_client_free(client);
}
