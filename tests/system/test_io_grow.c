/* SPDX-License-Identifier: MIT */
/*
 * Windows, cursors, walks and copies of a region that another process moves to a larger segment.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "harness.h"

enum { SMALL = 8192, LARGE = 5 << 20 };

/* Told a size, makes it that and writes over the first bytes and the last; 0 ends it. */
static void grow_as_told(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	uint64_t size;

	say(0);
	while ((size = hear()) != 0) {
		CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
		CHECK_OK(shmb_region_resize(region, size));
		CHECK_OK(shmb_region_write(region, 0, "grown", 5, 0));
		CHECK_OK(shmb_region_write(region, size - 5, "grown", 5, 0));
		CHECK_OK(shmb_region_unlock(region));
		say(size);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static void grow_to(struct actor *actor, uint64_t size)
{
	actor_say(actor, size);
	CHECK_INT(actor_hear(actor), size);
}

static struct shmb_region *create_filled(struct shmb_client *client)
{
	struct shmb_region *region = create(client, "r", SMALL, NULL);

	memset(shmb_region_data(region), 'a', SMALL);
	return region;
}

CASE(F33_a_cursor_follows, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client);
	struct actor grower = actor_start(broker, &SELF, grow_as_told, NULL);
	struct shmb_cursor cursor;
	char bytes[64];

	actor_hear(&grower);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_INT(shmb_cursor_read(&cursor, bytes, 64), 64);
	CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_SET), 0);
	grow_to(&grower, SMALL + 4096);
	grow_to(&grower, SMALL);                             /* looks as it did, but moved */
	CHECK_INT(shmb_cursor_read(&cursor, bytes, 64), 64); /* of the new one */
	CHECK(memcmp(bytes, "growna", 6) == 0);
	grow_to(&grower, LARGE);
	CHECK_INT(shmb_cursor_read(&cursor, bytes, 64), 64);
	CHECK_INT(bytes[0], 'a');
	CHECK_INT(shmb_cursor_seek(&cursor, -5, SHMB_SEEK_END), LARGE - 5);
	CHECK_INT(shmb_cursor_read(&cursor, bytes, 64), 5);
	CHECK(memcmp(bytes, "grown", 5) == 0);
	CHECK_INT(shmb_cursor_seek(&cursor, SMALL - 1, SHMB_SEEK_SET), SMALL - 1);
	CHECK_INT(shmb_cursor_read(&cursor, bytes, 2), 2);
	CHECK(bytes[0] == 'n' && bytes[1] == 0); /* of "grown", at its end of that time */
	/* The first call after the growth is one that writes. */
	grow_to(&grower, LARGE + 4096);
	CHECK_INT(shmb_cursor_seek(&cursor, -5, SHMB_SEEK_END), LARGE + 4096 - 5);
	grow_to(&grower, LARGE + 8192);
	CHECK_INT(shmb_cursor_write(&cursor, "written", 7), 7);
	CHECK_OK(shmb_region_read(region, LARGE + 4096 - 5, bytes, 7, 0));
	CHECK(memcmp(bytes, "written", 7) == 0);
	actor_say(&grower, 0);
	actor_end(&grower);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F33_a_window_follows_and_a_walk_stays, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client);
	struct actor grower = actor_start(broker, &SELF, grow_as_told, NULL);
	struct shmb_window window, far;
	struct shmb_walk walk;
	char bytes[10];
	size_t i;

	actor_hear(&grower);
	CHECK_OK(shmb_window_open(region, 2, 100, &window));
	CHECK_OK(shmb_walk_open(region, 0, 0, 4096, SHMB_READ | SHMB_WRITE, &walk));
	CHECK_INT(shmb_walk_next(&walk), 1);
	grow_to(&grower, LARGE);
	CHECK_INT(shmb_window_size(&window), 100);
	CHECK_OK(shmb_window_read(&window, 0, bytes, 4, 0));
	CHECK(memcmp(bytes, "owna", 4) == 0);
	CHECK_OK(shmb_window_write(&window, 50, "w", 1, 0));
	CHECK_OK(shmb_region_read(region, 52, bytes, 1, 0));
	CHECK_INT(bytes[0], 'w');
	CHECK_OK(shmb_window_open(region, LARGE - 10, 10, &far));
	CHECK_OK(shmb_window_read(&far, 5, bytes, 5, 0));
	CHECK(memcmp(bytes, "grown", 5) == 0);

	for (i = 0; i < 4096; i++) /* the old segment, as it was */
		CHECK_INT(walk.data[i], 'a');
	CHECK_INT(shmb_walk_next(&walk), 1);
	CHECK_INT(walk.length, SMALL - 4096);
	walk.data[0] = 'x';
	CHECK_INT(shmb_walk_next(&walk), 0);
	CHECK_OK(shmb_walk_close(&walk));
	CHECK_OK(shmb_region_read(region, 4096, bytes, 1, 0));
	CHECK_INT(bytes[0], 'a');
	grow_to(&grower, LARGE + 4096); /* a walk of all of it sees that there is more */
	CHECK_OK(shmb_walk_open(region, LARGE - 4096, 0, 4096, SHMB_READ, &walk));
	for (i = 0; shmb_walk_next(&walk); i++)
		CHECK_INT(walk.length, 4096);
	CHECK_INT(i, 2);
	CHECK_OK(shmb_walk_close(&walk));
	actor_say(&grower, 0);
	actor_end(&grower);
	shmb_window_close(&window);
	shmb_window_close(&far);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Growth while something is copied ---- */

struct growing {
	struct actor *grower;
	uint64_t size;
	unsigned calls;
};

static int grow_meanwhile(uint64_t done, uint64_t total, void *userdata)
{
	struct growing *growing = userdata;

	growing->calls++;
	grow_to(growing->grower, growing->size += 4096);
	return 0;
}

CASE(F33_what_is_imported_is_there_after_growing, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", LARGE, NULL);
	struct shmb_region *source = create(client, "source", LARGE, NULL);
	struct actor grower = actor_start(broker, &SELF, grow_as_told, NULL);
	struct growing growing = { .grower = &grower, .size = LARGE };
	unsigned char *data = shmb_region_data(source), *copy = malloc(LARGE);
	FILE *file = tmpfile();
	size_t i;

	CHECK(file && copy);
	actor_hear(&grower);
	for (i = 0; i < LARGE; i++)
		data[i] = (unsigned char)(i % 251);
	CHECK_INT(shmb_region_export(source, 0, 0, fileno(file), NULL, NULL), LARGE);
	CHECK_INT(lseek(fileno(file), 0, SEEK_SET), 0);
	CHECK_INT(shmb_region_import(region, 0, LARGE, fileno(file), grow_meanwhile, &growing),
		  LARGE);
	CHECK(growing.calls >= 5);
	CHECK_INT(shmb_region_last_write(region), LARGE);
	CHECK_OK(shmb_region_read(region, 0, copy, LARGE, 0));
	for (i = 5; i < LARGE - 5; i++)
		CHECK_INT(copy[i], i % 251);

	/* And out: as it was when it began. */
	growing.calls = 0;
	CHECK_INT(lseek(fileno(file), 0, SEEK_SET), 0);
	CHECK_INT(shmb_region_export(region, 0, LARGE, fileno(file), grow_meanwhile, &growing),
		  LARGE);
	CHECK(growing.calls >= 5);
	CHECK_INT(pread(fileno(file), copy, LARGE, 0), LARGE);
	for (i = 5; i < LARGE - 5; i++)
		CHECK_INT(copy[i], i % 251);
	actor_say(&grower, 0);
	actor_end(&grower);
	(void)fclose(file);
	free(copy);
	shmb_region_free(source);
	shmb_region_free(region);
	shmb_client_free(client);
}

struct import {
	struct shmb_region *region;
	int fd;
	int64_t result;
	_Atomic unsigned pieces;
};

static int count_pieces(uint64_t done, uint64_t total, void *userdata)
{
	atomic_fetch_add(&((struct import *)userdata)->pieces, 1);
	return 0;
}

static void *import_a_pipe(void *argument)
{
	struct import *import = argument;

	import->result =
		shmb_region_import(import->region, 100, 20, import->fd, count_pieces, import);
	return NULL;
}

/* The system copies into the mapping that the region had when it began to wait. */
CASE(F33_what_comes_after_growing_is_imported_to_where_it_belongs, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client);
	struct actor grower = actor_start(broker, &SELF, grow_as_told, NULL);
	struct import import = { .region = region };
	char bytes[20] = "";
	pthread_t thread;
	int fds[2];

	actor_hear(&grower);
	SYS(pipe2(fds, O_CLOEXEC));
	import.fd = fds[0];
	CHECK_OK(pthread_create(&thread, NULL, import_a_pipe, &import));
	CHECK_INT(write(fds[1], "before ***", 10), 10);
	UNTIL(broker, atomic_load(&import.pieces) == 1);
	CHECK_OK(shmb_client_ping(client)); /* now it waits for the rest, most likely */
	grow_to(&grower, LARGE);
	CHECK_INT(write(fds[1], "and after", 10), 10);
	CHECK_OK(pthread_join(thread, NULL));
	CHECK_INT(import.result, 20);
	CHECK_OK(shmb_region_read(region, 100, bytes, 20, 0));
	CHECK_STRING(bytes, "before ***and after");
	actor_say(&grower, 0);
	actor_end(&grower);
	close(fds[0]);
	close(fds[1]);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Grows without being told, until it has done it often. */
static void grow_all_the_time(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	unsigned i;

	say(0);
	for (i = 1; i <= 200; i++) {
		CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
		CHECK_OK(shmb_region_resize(region, SMALL + i * 4096));
		CHECK_OK(shmb_region_write_u8(region, SMALL + i * 4096 - 1, 1));
		CHECK_OK(shmb_region_unlock(region));
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Nothing but the bytes that were always there, however often they move. */
CASE(F33_reads_of_every_kind_while_a_region_moves, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client);
	struct shmb_region *other = create(client, "other", SMALL, NULL);
	unsigned char *copy = shmb_region_data(other), a[100], b[SMALL - 100];
	struct shmb_buffer buffers[] = { { a, sizeof(a) }, { b, sizeof(b) } };
	struct actor grower = actor_start(broker, &SELF, grow_all_the_time, NULL);
	struct shmb_window window;
	struct shmb_cursor cursor;

	actor_hear(&grower);
	CHECK_OK(shmb_cursor_open(region, &cursor));
	CHECK_OK(shmb_window_open(region, 100, SMALL - 100, &window));
	while (shmb_region_size(region) < SMALL + 200 * 4096) {
		if (cursor.position + sizeof(a) > SMALL)
			CHECK_INT(shmb_cursor_seek(&cursor, 0, SHMB_SEEK_SET), 0);
		CHECK_INT(shmb_cursor_read(&cursor, a, sizeof(a)), sizeof(a));
		CHECK(a[0] == 'a' && memcmp(a, a + 1, sizeof(a) - 1) == 0);
		memset(a, 0, sizeof(a));
		CHECK_OK(shmb_region_readv(region, 0, buffers, 2, 0));
		CHECK(a[0] == 'a' && memcmp(a, a + 1, sizeof(a) - 1) == 0);
		CHECK(b[0] == 'a' && memcmp(b, b + 1, sizeof(b) - 1) == 0);
		memset(copy, 0, SMALL);
		CHECK_OK(shmb_region_copy(region, 0, other, 0, SMALL));
		CHECK(copy[0] == 'a' && memcmp(copy, copy + 1, SMALL - 1) == 0);
		CHECK_OK(shmb_window_read(&window, 0, b, sizeof(b), 0));
		CHECK(b[0] == 'a' && memcmp(b, b + 1, sizeof(b) - 1) == 0);
	}
	actor_end(&grower);
	shmb_window_close(&window);
	shmb_cursor_close(&cursor);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}
