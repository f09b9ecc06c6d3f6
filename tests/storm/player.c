/* SPDX-License-Identifier: MIT */
/*
 * What every player needs: chance, the control page, handles. Knows nothing of the objects' rules.
 */

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "storm.h"

/* As long as a sleep without a wake-up. */
enum { LONG_US = 950000 };

uint32_t player_random(struct player *player, uint32_t n)
{
	/* Marsaglia's xorshift64*; the seed is never 0. */
	player->random ^= player->random >> 12;
	player->random ^= player->random << 25;
	player->random ^= player->random >> 27;
	return (uint32_t)((player->random * UINT64_C(2685821657736338717)) >> 32) % n;
}

bool storm_is_dead(struct storm_control *control, uint64_t name)
{
	struct storm_worker_record *worker = &control->workers[(name >> 8 & 0xff) % STORM_WORKERS];

	return atomic_load(&worker->life) != (uint32_t)(name >> 16) ||
	       atomic_load(&worker->doomed) != 0;
}

bool player_is_calm(const struct player *player)
{
	return atomic_load_explicit(&player->control->calm, memory_order_relaxed) != 0;
}

void player_may_die(struct player *player)
{
	if (!player->self || !player->control->mortal || player_is_calm(player) ||
	    !player_chance(player, 20000))
		return;
	player_tally(player, TALLY_SUICIDES);
	atomic_store(&player->worker->doomed, 1);
	(void)kill(getpid(), SIGKILL);
}

void player_tally(struct player *player, enum storm_tally tally)
{
	atomic_fetch_add_explicit(&player->control->tallies[tally], 1, memory_order_relaxed);
}

void player_wait_begin(struct player *player, enum storm_wait what)
{
	if (!player->self)
		return;
	atomic_fetch_add(&player->self->wait, 1);
	atomic_store(&player->self->began, storm_now_us());
	atomic_store(&player->self->waits_for, what);
}

void player_wait_end(struct player *player, int result)
{
	if (!player->self)
		return;
	if (result != SHMB_ETIMEDOUT &&
	    storm_now_us() - atomic_load(&player->self->began) > LONG_US)
		player_tally(player, TALLY_LONG);
	atomic_store(&player->self->waits_for, WAIT_NOTHING);
}

int player_timeout(struct player *player)
{
	if (player_is_calm(player))
		return -1;
	switch (player->hasty ? 0 : player_random(player, 4)) {
	case 0:
		return 0;
	case 1:
		return 1 + (int)player_random(player, 20);
	case 2:
		return 1000;
	default:
		return -1;
	}
}

int64_t storm_now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void player_late(struct player *player, const char *what, int64_t begun, int timeout_ms)
{
	int64_t took = storm_now_us() - begun;

	player_tally(player, TALLY_TIMED_OUT);
	RULE(player, timeout_ms >= 0 && took >= (int64_t)timeout_ms * 1000,
	     "%s timed out after %lld us of %d ms", what, (long long)took, timeout_ms);
}

void player_fail(const struct player *player, const char *file, int line, const char *format, ...)
{
	struct storm_control *control = player->control;
	uint32_t nobody = 0;
	va_list arguments;
	int n;

	if (!player->self) {
		char text[sizeof(control->fault)];

		va_start(arguments, format);
		(void)vsnprintf(text, sizeof(text), format, arguments);
		va_end(arguments);
		harness_fail(file, line, "%s", text);
	}
	if (atomic_compare_exchange_strong(&control->faulted, &nobody, 1)) {
		const char *base = strrchr(file, '/');

		n = snprintf(control->fault, sizeof(control->fault),
			     "%s:%d: player %llx: ", base ? base + 1 : file, line,
			     (unsigned long long)player->name);
		va_start(arguments, format);
		(void)vsnprintf(control->fault + n, sizeof(control->fault) - (size_t)n, format,
				arguments);
		va_end(arguments);
		atomic_store(&control->faulted, 2);
	}
	_exit(1);
}

const char *storm_result(int result)
{
	return result == 0 ? "success" : shmb_error_name(result);
}

/* ---- Handles ---- */

static void expect(struct player *player, int r, const char *what)
{
	RULE(player, r >= 0, "%s: %s", what, storm_result(r));
}

bool kit_open(struct player *player, struct kit *kit, unsigned access)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	int r;

	memset(kit, 0, sizeof(*kit));
	kit->access = access;
	options.timeout_ms = 60000;
	/* Some never spin, so that they sleep, and are woken, all the time. */
	if (player_chance(player, 2))
		options.spin_us = 0;
	expect(player, shmb_client_connect(player->address, &options, &kit->client), "connect");
	expect(player,
	       shmb_region_open(kit->client, STORM_TABLE_NAME, access & ~(unsigned)SHMB_LOCK, NULL,
				&kit->table),
	       "open the table");
	if (access & SHMB_LOCK) {
		kit->table = shmb_region_free(kit->table);
		/* Asks for a slot at once, where the others ask when they first lock. */
		r = shmb_region_open(kit->client, STORM_TABLE_NAME, access, NULL, &kit->table);
		if (r == SHMB_ESLOTS)
			return false;
		expect(player, r, "open the table to lock it");
	}
	expect(player,
	       shmb_region_open(kit->client, STORM_FRAMES_NAME, SHMB_READ | SHMB_WRITE, NULL,
				&kit->frames),
	       "open the frames");
	r = shmb_lock_open(kit->client, STORM_LOCK_NAME, &kit->lock);
	if (r == SHMB_ESLOTS)
		return false;
	expect(player, r, "open the lock");
	expect(player, shmb_semaphore_open(kit->client, STORM_POOL_NAME, &kit->pool),
	       "open the pool");
	expect(player, shmb_semaphore_open(kit->client, STORM_MUTEX_NAME, &kit->mutex),
	       "open the mutex");
	expect(player, shmb_semaphore_open(kit->client, STORM_COUNT_NAME, &kit->count),
	       "open the count");
	return true;
}

void kit_close(struct kit *kit)
{
	shmb_semaphore_free(kit->count);
	shmb_semaphore_free(kit->mutex);
	shmb_semaphore_free(kit->pool);
	shmb_lock_free(kit->lock);
	shmb_region_free(kit->frames);
	shmb_region_free(kit->table);
	shmb_client_free(kit->client);
	memset(kit, 0, sizeof(*kit));
}
