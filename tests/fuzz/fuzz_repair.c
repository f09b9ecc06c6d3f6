/* SPDX-License-Identifier: MIT */
/*
 * The repair on arbitrary memory: the input is a lock segment and an arena, at the end of pages
 * behind which there is nothing, and some of the time another thread goes on changing them. No
 * crash, no hang, nothing touched outside, nothing left of the slot in the parts that are its own.
 */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout/lock.h"
#include "layout/semaphore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FLIPS = 3000 };

struct segment {
	unsigned char *data; /* ends where a page without access begins */
	size_t bytes;
};

/* A deterministic source for the thread, seeded by the input. */
static uint64_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *state >> 29;
}

static void segment_map(struct segment *segment, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
	unsigned char *base =
		mmap(NULL, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED || mprotect(base + page, room, PROT_READ | PROT_WRITE) < 0)
		abort();
	segment->bytes = bytes;
	segment->data = base + page + room - bytes;
}

static void segment_fill(const struct segment *segment, const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < segment->bytes; at += size) {
		size_t n = segment->bytes - at < size ? segment->bytes - at : size;

		memcpy(segment->data + at, data, n);
	}
}

struct meddler {
	const struct segment *segment;
	uint64_t seed;
	atomic_bool stop;
};

/* Mostly the words that decide, so that exchanges fail. */
static void *meddle(void *argument)
{
	struct meddler *meddler = argument;
	const struct segment *segment = meddler->segment;
	uint64_t seed = meddler->seed;

	for (int i = 0; i < FLIPS && !atomic_load(&meddler->stop); i++) {
		uint64_t random = next_random(&seed);
		size_t words = segment->bytes / 4, at = (size_t)(random >> 8) % words;

		if (random & 3)
			at = 16 + (random >> 8) % 4;
		atomic_store((_Atomic uint32_t *)(void *)segment->data + at % words,
			     (uint32_t)next_random(&seed) & (random & 4 ? 7 : UINT32_MAX));
	}
	return NULL;
}

static void repair_lock(const struct segment *segment, uint32_t slot, uint32_t n_slots, bool quiet)
{
	struct layout_lock *lock = (void *)segment->data;
	struct layout_locker dead = { lock, &lock->slots[slot - 1], slot, n_slots };

	(void)layout_lock_died_holding(&dead);
	layout_lock_repair(&dead);
	if (quiet && ((atomic_load(&lock->word) & LAYOUT_LOCK_SLOT) == slot ||
		      atomic_load(&dead.own->readers) || atomic_load(&dead.own->solo) ||
		      atomic_load(&dead.own->held) || atomic_load(&dead.own->ticket) ||
		      atomic_load(&lock->next) == slot))
		abort();
}

/* As the daemon does, on whatever it takes for semaphores. */
static void repair_arena(const struct segment *segment, uint32_t slot, uint32_t unit, uint32_t n,
			 bool quiet)
{
	struct layout_arena *arena = (void *)segment->data;
	struct layout_owned *owned = (void *)(segment->data + (size_t)unit * LAYOUT_ARENA_UNIT);
	struct layout_permit permit;

	if (layout_owned_return(owned, n, slot) > n)
		abort();
	(void)layout_arena_waits(arena, slot, unit);
	if (layout_owned_free(owned, n) > n || layout_owned_holder(owned, n - 1) > LAYOUT_HOLDER)
		abort();
	if (quiet && layout_owned_find(owned, n, slot, 0, &permit))
		abort();
	layout_arena_repair_slot(arena, slot);
	for (uint32_t i = 0; quiet && i < LAYOUT_ARENA_WAITS; i++)
		if (atomic_load(&arena->slots[slot - 1].waits[i]))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct segment lock, arena;
	static const uint32_t tables[] = { 1, 2, 62, LAYOUT_LOCK_SLOTS_MAX };
	uint32_t n_slots, slot, n;
	struct meddler meddler = { .stop = false };
	pthread_t thread;
	bool meddled;

	if (size < 16)
		return 0;
	if (!arena.data) {
		segment_map(&arena, LAYOUT_ARENA_BYTES);
		segment_map(&lock, layout_lock_bytes(LAYOUT_LOCK_SLOTS_MAX));
	}
	n_slots = tables[data[0] % 4];
	slot = 1 + (data[1] | (uint32_t)data[2] << 8) % n_slots;
	n = 1 + (data[3] | (uint32_t)data[4] << 8) % LAYOUT_PERMITS_MAX;
	meddled = data[5] % 8 == 0;
	/* A smaller table ends at the same edge. */
	struct segment table = { lock.data + lock.bytes - layout_lock_bytes(n_slots),
				 layout_lock_bytes(n_slots) };
	segment_fill(&table, data + 8, size - 8);
	segment_fill(&arena, data + 8, size - 8);
	if (meddled) {
		memcpy(&meddler.seed, data + 8, 8);
		meddler.segment = data[6] % 2 ? &arena : &table;
		if (pthread_create(&thread, NULL, meddle, &meddler) != 0)
			abort();
	}
	repair_lock(&table, slot, n_slots, !meddled);
	/* The last place there is for so many. */
	repair_arena(&arena, 1 + slot % LAYOUT_ARENA_SLOTS,
		     LAYOUT_ARENA_UNITS - layout_owned_units(n), n, !meddled);
	if (meddled) {
		atomic_store(&meddler.stop, true);
		pthread_join(thread, NULL);
	}
	return 0;
}
