/* SPDX-License-Identifier: MIT */
/* Publish and wait, between two handles on one region. */

#include "fake_broker.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct state {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *writer, *reader;
	struct fake_region *truth;
};

static struct shmb_client *connect_spinning(struct fake *fake, int spin_us)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client;

	options.spin_us = spin_us;
	assert_code(shmb_client_connect(fake->path, &options, &client), 0);
	return client;
}

static int setup_spinning(void **state, int spin_us)
{
	struct state *all = calloc(1, sizeof(*all));

	assert_non_null(all);
	all->fake = fake_start();
	all->truth = fake_make(all->fake, "a", 1000, 4096);
	all->client = connect_spinning(all->fake, spin_us);
	assert_code(shmb_region_open(all->client, "a", SHMB_READ | SHMB_WRITE, NULL, &all->writer),
		    0);
	assert_code(shmb_region_open(all->client, "a", SHMB_READ, NULL, &all->reader), 0);
	all->truth->words->readers = 1; /* as the broker does for those who cannot announce */
	*state = all;
	return 0;
}

static int setup(void **state)
{
	return setup_spinning(state, -1);
}

static int setup_sleeping(void **state)
{
	return setup_spinning(state, 0);
}

static int teardown(void **state)
{
	struct state *all = *state;

	shmb_region_free(all->writer);
	shmb_region_free(all->reader);
	shmb_client_free(all->client);
	fake_stop(all->fake);
	free(all);
	return 0;
}

static void a_publish_is_counted_and_seen(void **state)
{
	struct state *all = *state;
	struct shmb_publication publication = { 77, 77, 77 };

	assert_int_equal(shmb_region_sequence(all->reader), 0);
	assert_code(shmb_region_wait(all->reader, 0, 0, &publication), SHMB_ETIMEDOUT);
	assert_int_equal(publication.sequence, 77);
	assert_code(shmb_region_publish(all->writer, 10, 20), 0);
	assert_int_equal(shmb_region_sequence(all->reader), 1);
	assert_code(shmb_region_wait(all->reader, 0, -1, &publication), 0);
	assert_int_equal(publication.sequence, 1);
	assert_int_equal(publication.offset, 10);
	assert_int_equal(publication.length, 20);
	assert_code(shmb_region_publish(all->writer, 50, 1), 0);
	assert_code(shmb_region_wait(all->reader, 0, 0, &publication), 0);
	assert_int_equal(publication.sequence, 2);
	assert_int_equal(publication.offset, 10); /* covers both */
	assert_int_equal(publication.length, 41);
	assert_code(shmb_region_publish(all->writer, 0, 0), 0);
	assert_code(shmb_region_wait(all->reader, 2, 0, &publication), 0);
	assert_int_equal(publication.offset, 0);
	assert_int_equal(publication.length, 1000); /* anything */
	assert_code(shmb_region_wait(all->reader, 1, 0, NULL), 0);
}

static void what_is_published_is_within_bounds(void **state)
{
	struct state *all = *state;
	struct shmb_publication publication;

	assert_code(shmb_region_publish(all->writer, 0, 1001), SHMB_EBOUNDS);
	assert_code(shmb_region_publish(all->writer, 1001, 0), SHMB_EBOUNDS);
	assert_code(shmb_region_publish(all->writer, 5, UINT64_MAX), SHMB_EBOUNDS);
	assert_int_equal(shmb_region_sequence(all->writer), 0);
	assert_code(shmb_region_publish(all->writer, 900, 100), 0);
	all->truth->words->size = 950; /* smaller since */
	assert_code(shmb_region_wait(all->reader, 0, 0, &publication), 0);
	assert_int_equal(publication.offset, 0);
	assert_int_equal(publication.length, 950);
}

static void waiting_ends_at_the_timeout(void **state)
{
	struct state *all = *state;
	int64_t start = now_ms();

	assert_code(shmb_region_wait(all->reader, 0, 30, NULL), SHMB_ETIMEDOUT);
	assert_code(shmb_region_wait(all->writer, 0, 30, NULL), SHMB_ETIMEDOUT);
	assert_true(now_ms() - start >= 60);
}

/* ---- Back and forth ---- */

enum { ROUNDS = 2000 };

struct player {
	struct shmb_region *mine, *theirs;
	int failures;
};

/* Waits for each odd number, answers with the next even one. */
static void *answer(void *argument)
{
	struct player *player = argument;
	uint64_t seen = 0;

	for (int i = 0; i < ROUNDS; i++) {
		struct shmb_publication publication;

		player->failures += shmb_region_wait(player->theirs, seen, 10000, &publication) < 0;
		seen = publication.sequence + 1;
		player->failures += shmb_region_publish(player->mine, 0, 8) < 0;
	}
	return NULL;
}

static void play(struct state *all, struct shmb_region *answering)
{
	struct player player = { .mine = all->writer, .theirs = answering };
	pthread_t thread;
	uint64_t seen = 0;

	assert_int_equal(pthread_create(&thread, NULL, answer, &player), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct shmb_publication publication;

		assert_code(shmb_region_publish(all->writer, 0, 8), 0);
		seen++;
		while (seen % 2 != 0) {
			assert_code(shmb_region_wait(all->writer, seen, 10000, &publication), 0);
			seen = publication.sequence;
		}
	}
	pthread_join(thread, NULL);
	assert_int_equal(player.failures, 0);
	assert_int_equal(shmb_region_sequence(all->writer), 2 * ROUNDS);
}

static void no_wake_up_is_lost_with_write_access(void **state)
{
	struct state *all = *state;

	all->truth->words->readers = 0; /* the waiters announce themselves */
	play(all, all->writer);
}

static void no_wake_up_is_lost_with_read_access(void **state)
{
	struct state *all = *state;

	play(all, all->reader);
}

/* ---- Closing ---- */

static void *wait_for_ever(void *argument)
{
	return (void *)(intptr_t)shmb_region_wait(argument, 0, -1, NULL);
}

static void closing_wakes_who_waits(void **state)
{
	struct state *all = *state;
	struct shmb_region *regions[] = { all->writer, all->reader };

	for (int i = 0; i < 2; i++) {
		pthread_t thread;
		int64_t start = now_ms();
		void *result;

		assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, regions[i]), 0);
		if (i == 0)
			while (all->truth->words->sleepers == 0)
				sched_yield();
		assert_code(shmb_region_close(regions[i]), 0);
		pthread_join(thread, &result);
		assert_code((intptr_t)result, SHMB_ECLOSED);
		assert_true(now_ms() - start < 5000); /* at the latest after a second */
	}
}

/* ---- Telling the broker ---- */

static void the_broker_is_told_once_when_it_asked(void **state)
{
	struct state *all = *state;

	assert_code(shmb_region_publish(all->writer, 0, 0), 0);
	all->truth->words->armed = 1;
	assert_code(shmb_region_publish(all->writer, 0, 0), 0);
	assert_int_equal(all->truth->words->armed, 0);
	assert_code(shmb_region_publish(all->writer, 0, 0), 0);
	fake_wait(all->fake, WIRE_REGION_PUBLISHED, 1);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_PUBLISHED).kind, WIRE_NOTIFICATION);
	assert_int_equal(fake_last(all->fake, WIRE_REGION_PUBLISHED).params.handle.handle, 1);
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_PUBLISHED), 1);
}

static void what_cannot_be_told_is_left_to_the_next(void **state)
{
	struct state *all = *state;
	unsigned n = 0;

	fake_pause(all->fake, true);
	do { /* until the socket is full */
		all->truth->words->armed = 1;
		assert_code(shmb_region_publish(all->writer, 0, 0), 0);
		n++;
	} while (all->truth->words->armed == 0);
	fake_pause(all->fake, false);
	fake_wait(all->fake, WIRE_REGION_PUBLISHED, n - 1);
	assert_code(shmb_region_publish(all->writer, 0, 0), 0);
	assert_int_equal(all->truth->words->armed, 0);
	fake_wait(all->fake, WIRE_REGION_PUBLISHED, n);
}

static void memory_outlives_the_broker(void **state)
{
	struct state *all = *state;
	uint8_t byte = 0;

	fake_hang_up(all->fake, fake_peer(all->fake));
	assert_code(shmb_client_ping(all->client), SHMB_EDISCONNECTED);
	all->truth->words->armed = 1;
	assert_code(shmb_region_write_u8(all->writer, 7, 7), 0);
	assert_code(shmb_region_publish(all->writer, 0, 0), 0);
	assert_int_equal(all->truth->words->armed, 1);
	assert_code(shmb_region_wait(all->reader, 0, -1, NULL), 0);
	assert_code(shmb_region_read_u8(all->reader, 7, &byte), 0);
	assert_int_equal(byte, 7);
	assert_code(shmb_region_resize(all->writer, 5), SHMB_EDISCONNECTED);
	assert_code(shmb_region_close(all->writer), 0);
}

int main(void)
{
#define TEST(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SLEEPING(name) cmocka_unit_test_setup_teardown(name, setup_sleeping, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_publish_is_counted_and_seen),
		TEST(what_is_published_is_within_bounds),
		TEST(waiting_ends_at_the_timeout),
		TEST(no_wake_up_is_lost_with_write_access),
		TEST(no_wake_up_is_lost_with_read_access),
		SLEEPING(no_wake_up_is_lost_with_write_access),
		SLEEPING(no_wake_up_is_lost_with_read_access),
		SLEEPING(closing_wakes_who_waits),
		TEST(the_broker_is_told_once_when_it_asked),
		TEST(what_cannot_be_told_is_left_to_the_next),
		TEST(memory_outlives_the_broker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
