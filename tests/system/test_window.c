/* SPDX-License-Identifier: MIT */
/*
 * Windows: a part of a region as a region of its own, also after the region was resized.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "harness.h"

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

static void check_refused(struct shmb_region *region, uint64_t offset, uint64_t length,
			  uint64_t size)
{
	struct shmb_error error = last(region);

	CHECK_CODE(error.code, SHMB_EBOUNDS);
	CHECK_INT(error.offset, offset);
	CHECK_INT(error.length, length);
	CHECK_INT(error.size, size);
}

static struct shmb_region *create_with_capacity(struct shmb_client *client, uint64_t size,
						uint64_t capacity)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.capacity = capacity;
	return create(client, "whole", size, &options);
}

CASE(F25_positions_and_bounds_are_its_own, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, 1000, 1000);
	struct shmb_region *other = open_region(client, "whole", SHMB_READ | SHMB_LOCK);
	struct shmb_window window;
	char buffer[200] = { 0 };
	struct shmb_view view;
	uint8_t byte;

	CHECK_OK(shmb_window_open(region, 100, 200, &window));
	CHECK(window.region == region); /* knows its parent */
	CHECK_INT(window.offset, 100);
	CHECK_INT(window.length, 200);
	CHECK_INT(shmb_window_size(&window), 200);
	CHECK_OK(shmb_window_write(&window, 0, "first", 5, 0));
	CHECK_OK(shmb_window_write(&window, 195, "lasts", 5, SHMB_LOCKED));
	CHECK_OK(shmb_region_read(region, 100, buffer, 200, 0));
	CHECK(memcmp(buffer, "first", 5) == 0 && memcmp(buffer + 195, "lasts", 5) == 0);
	CHECK_OK(shmb_window_read(&window, 195, buffer, 5, 0));
	CHECK(memcmp(buffer, "lasts", 5) == 0);
	CHECK_OK(shmb_window_read(&window, 200, buffer, 0, 0));

	CHECK_CODE(shmb_window_read(&window, 196, buffer, 5, 0), SHMB_EBOUNDS);
	check_refused(region, 196, 5, 200);
	CHECK_CODE(shmb_window_write(&window, 1, buffer, 200, 0), SHMB_EBOUNDS);
	check_refused(region, 1, 200, 200);
	CHECK_CODE(shmb_window_read(&window, UINT64_MAX - 50, buffer, 100, 0), SHMB_EBOUNDS);
	check_refused(region, UINT64_MAX - 50, 100, 200);
	CHECK_CODE(shmb_window_view(&window, 200, 1, 0, SHMB_READ, &view), SHMB_EBOUNDS);
	check_refused(region, 200, 1, 200);
	CHECK_OK(shmb_region_read_u8(region, 300, &byte));
	CHECK_INT(byte, 0); /* nothing went beyond it */

	CHECK_OK(shmb_client_set_timeout(client, 100)); /* its flags are the region's */
	CHECK_OK(shmb_region_lock(other, SHMB_EXCLUSIVE, -1));
	CHECK_CODE(shmb_window_write(&window, 0, "x", 1, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_window_read(&window, 0, buffer, 1, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_unlock(other));
	shmb_region_free(other);

	CHECK_OK(shmb_window_view(&window, 4, 8, 8, SHMB_READ | SHMB_WRITE, &view));
	CHECK(view.data == (char *)shmb_region_data(region) + 104);
	CHECK_OK(shmb_view_release(&view));
	CHECK_CODE(shmb_window_view(&window, 8, 8, 8, SHMB_READ, &view), SHMB_EALIGN);
	CHECK_INT(last(region).alignment, 8);
	CHECK_CODE(shmb_window_read(&window, 0, buffer, 1, 64), SHMB_EINVAL);
	shmb_window_close(&window);
	CHECK(!window.region);
	shmb_window_close(&window);
	shmb_window_close(NULL);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F25_what_cannot_be_opened, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, 1000, 2000);
	struct shmb_window window = { .length = 7 };

	CHECK_CODE(shmb_window_open(region, 0, 1001, &window), SHMB_EBOUNDS);
	check_refused(region, 0, 1001, 1000);
	CHECK_CODE(shmb_window_open(region, 1001, 1, &window), SHMB_EBOUNDS);
	CHECK_CODE(shmb_window_open(region, 1000, 0, &window), SHMB_EBOUNDS);
	CHECK_CODE(shmb_window_open(region, UINT64_MAX, 2, &window), SHMB_EBOUNDS);
	CHECK_INT(window.length, 7);
	CHECK_OK(shmb_window_open(region, 999, 0, &window)); /* everything, as of now */
	CHECK_INT(window.length, 1);
	CHECK_OK(shmb_region_resize(region, 2000));
	CHECK_INT(shmb_window_size(&window), 1);
	shmb_window_close(&window);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F25_a_window_within_a_window, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, 1000, 1000);
	struct shmb_window outer, inner, none;
	struct shmb_cursor cursor;
	char buffer[100];

	CHECK_OK(shmb_region_write(region, 160, "inner part", 10, 0));
	CHECK_OK(shmb_window_open(region, 100, 200, &outer));
	CHECK_OK(shmb_window_open_within(&outer, 60, 10, &inner));
	CHECK_INT(inner.offset, 160);
	CHECK(inner.region == region);
	CHECK_CODE(shmb_window_open_within(&outer, 190, 11, &none), SHMB_EBOUNDS);
	check_refused(region, 190, 11, 200);
	shmb_window_close(&outer); /* it does not depend on it */
	CHECK_OK(shmb_window_read(&inner, 0, buffer, 10, 0));
	CHECK(memcmp(buffer, "inner part", 10) == 0);
	CHECK_CODE(shmb_window_read(&inner, 0, buffer, 11, 0), SHMB_EBOUNDS);

	CHECK_OK(shmb_cursor_open_window(&inner, &cursor));
	shmb_window_close(&inner);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 6), 6);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 6), 4);
	CHECK(memcmp(buffer, "part", 4) == 0);
	CHECK_INT(shmb_cursor_read(&cursor, buffer, 6), 0);
	CHECK_INT(shmb_cursor_seek(&cursor, -4, SHMB_SEEK_END), 6);
	CHECK_INT(shmb_cursor_write(&cursor, "whole", 5), 4);
	CHECK_INT(shmb_cursor_write(&cursor, "e", 1), SHMB_EBOUNDS);
	check_refused(region, 10, 1, 10);
	CHECK_OK(shmb_region_read(region, 160, buffer, 11, 0));
	CHECK(memcmp(buffer, "inner whol\0", 11) == 0);
	shmb_cursor_close(&cursor);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void shrink_and_grow(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "whole", SHMB_READ | SHMB_WRITE);
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

CASE(F25_bounds_are_looked_at_again_after_another_process_resized, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, 10000, 20000);
	struct actor actor = actor_start(broker, &SELF, shrink_and_grow, NULL);
	struct shmb_window window;
	char buffer[2000];
	size_t i;

	actor_hear(&actor);
	memset(buffer, 'w', sizeof(buffer));
	CHECK_OK(shmb_window_open(region, 8000, 2000, &window));
	CHECK_OK(shmb_window_write(&window, 0, buffer, 2000, 0));

	resize_to(&actor, 8100);
	CHECK_INT(shmb_window_size(&window), 100);
	CHECK_OK(shmb_window_read(&window, 0, buffer, 100, 0));
	CHECK_CODE(shmb_window_read(&window, 0, buffer, 101, 0), SHMB_EBOUNDS);
	check_refused(region, 0, 101, 100);
	resize_to(&actor, 7000); /* before it begins */
	CHECK_INT(shmb_window_size(&window), 0);
	CHECK_CODE(shmb_window_write(&window, 0, buffer, 1, 0), SHMB_EBOUNDS);
	check_refused(region, 0, 1, 0);
	CHECK_CODE(shmb_window_read(&window, 5, buffer, 1, 0), SHMB_EBOUNDS);
	check_refused(region, 5, 1, 0);

	resize_to(&actor, 20000); /* larger than ever: the window is as long as it was */
	CHECK_INT(shmb_window_size(&window), 2000);
	CHECK_OK(shmb_window_read(&window, 0, buffer, 2000, 0));
	for (i = 0; i < 2000; i++)
		CHECK_INT(buffer[i], 0);
	CHECK_CODE(shmb_window_read(&window, 1, buffer, 2000, 0), SHMB_EBOUNDS);
	check_refused(region, 1, 2000, 2000);
	actor_say(&actor, 0);
	actor_end(&actor);
	shmb_window_close(&window);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F25_of_a_handle_that_was_closed_or_may_not_write, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, 1000, 1000);
	struct shmb_region *reader = open_region(client, "whole", SHMB_READ);
	struct shmb_window window, none;
	char buffer[10];

	CHECK_OK(shmb_window_open(reader, 10, 10, &window));
	CHECK_CODE(shmb_window_write(&window, 0, buffer, 1, 0), SHMB_EMODE);
	CHECK_CODE(shmb_window_write(&window, 0, buffer, 11, 0), SHMB_EMODE);
	CHECK_OK(shmb_window_read(&window, 0, buffer, 10, 0));
	CHECK_OK(shmb_region_close(reader));
	CHECK_INT(shmb_window_size(&window), 0);
	CHECK_CODE(shmb_window_read(&window, 0, buffer, 10, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_window_read(&window, 0, buffer, 11, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_window_open(reader, 0, 1, &none), SHMB_ECLOSED);
	CHECK_CODE(shmb_window_open_within(&window, 0, 1, &none), SHMB_ECLOSED);
	shmb_window_close(&window);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Windows, cursors and walks are held as views are; closing each once is enough. */
CASE(F25_what_is_open_keeps_the_region_mapped, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_window window, inner;
	struct shmb_cursor cursor;
	struct shmb_region *region;
	struct shmb_atomics32 at;
	struct shmb_walk walk;
	int fd = -1;

	options.flags = SHMB_KEEP_FD;
	region = create(client, "whole", 1000, &options);
	CHECK_OK(shmb_window_open(region, 10, 10, &window));
	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_EBUSY);
	CHECK_OK(shmb_window_open_within(&window, 0, 0, &inner));
	shmb_window_close(&window);
	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_EBUSY);
	CHECK_OK(shmb_cursor_open_window(&inner, &cursor));
	shmb_window_close(&inner);
	shmb_window_close(&inner);
	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_EBUSY);
	CHECK_OK(shmb_walk_open(region, 0, 0, 10, SHMB_READ, &walk));
	shmb_cursor_close(&cursor);
	shmb_cursor_close(&cursor);
	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_EBUSY);
	CHECK_OK(shmb_region_atomics32(region, 0, 1, &at));
	CHECK_OK(shmb_walk_close(&walk));
	CHECK_CODE(shmb_region_unmap(region, &fd), SHMB_EBUSY);
	CHECK_OK(shmb_atomics32_release(&at));
	CHECK_OK(shmb_region_unmap(region, &fd));
	CHECK(fd >= 0);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Unmapping while others open ---- */

enum { ROUNDS = 1500, LOOKS = 10000 };

struct race {
	struct shmb_region *region;
	_Atomic bool begun;
};

/* What is held is there, and once nothing can be held any more it stays so. */
static void *hold_and_look(void *argument)
{
	struct race *race = argument;
	struct shmb_window window;
	struct shmb_view view;
	int result;

	while ((result = shmb_region_view(race->region, 0, 1, 0, SHMB_READ, &view)) == 0) {
		atomic_store(&race->begun, true);
		for (int i = 0; i < LOOKS; i++)
			CHECK_INT(*(volatile char *)view.data, 7);
		CHECK_OK(shmb_view_release(&view));
		sched_yield();
		result = shmb_window_open(race->region, 0, 1, &window);
		if (result < 0)
			break;
		for (int i = 0; i < LOOKS; i++)
			CHECK_INT(shmb_window_size(&window), 1);
		shmb_window_close(&window);
		sched_yield();
	}
	CHECK_CODE(result, SHMB_ECLOSED);
	CHECK_CODE(shmb_region_view(race->region, 0, 1, 0, SHMB_READ, &view), SHMB_ECLOSED);
	return NULL;
}

CASE(F03_unmapping_waits_for_nobody_and_takes_nothing_away, PRIVATE, .timeout_s = 60)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);

	options.flags = SHMB_KEEP_FD;
	for (int i = 0; i < ROUNDS; i++) {
		struct race race = { .region = create(client, "whole", 1000, &options) };
		int fd = -1, result;
		pthread_t thread;

		CHECK_OK(shmb_region_write_u8(race.region, 0, 7));
		CHECK_INT(pthread_create(&thread, NULL, hold_and_look, &race), 0);
		while (!atomic_load(&race.begun))
			sched_yield();
		while ((result = shmb_region_unmap(race.region, &fd)) == SHMB_EBUSY)
			sched_yield();
		CHECK_OK(result);
		CHECK_INT(pthread_join(thread, NULL), 0);
		close(fd);
		shmb_region_free(race.region);
	}
	shmb_client_free(client);
}
