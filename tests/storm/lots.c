/* SPDX-License-Identifier: MIT */
/*
 * What a keeper does with objects of its own. Nobody else makes, changes or removes them, so every
 * call has one right result, whatever happens to the daemon meanwhile.
 */

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "keep.h"

static struct lot *lot_of(struct keeper *keeper, unsigned lot)
{
	return &keeper->record->lots[lot];
}

static enum intent intent_of(struct keeper *keeper, unsigned lot)
{
	return lot_intent(atomic_load(&lot_of(keeper, lot)->state));
}

static void done(struct keeper *keeper, unsigned lot)
{
	lot_end(lot_of(keeper, lot), true);
	atomic_fetch_add_explicit(&keeper->record->done[lot], 1, memory_order_relaxed);
}

/* ---- Contents ---- */

static uint64_t word_of(uint64_t stamp, unsigned i)
{
	return stamp == 0 ? 0 : (stamp + i) * UINT64_C(0x9e3779b97f4a7c15);
}

void kept_write(struct keeper *keeper, struct kept *kept, uint64_t stamp)
{
	kept->holder = keeper->player.name;
	for (unsigned i = 0; i < sizeof(kept->words) / sizeof(kept->words[0]); i++)
		kept->words[i] = word_of(stamp, i);
	RULE(&keeper->player, kept->holder == keeper->player.name, "%llx writes, too",
	     (unsigned long long)kept->holder);
	kept->stamp = stamp;
	kept->holder = 0;
}

void kept_check(struct keeper *keeper, const struct kept *kept, const char *how)
{
	RULE(&keeper->player, kept->holder == 0, "%s: %llx writes", how,
	     (unsigned long long)kept->holder);
	for (unsigned i = 0; i < sizeof(kept->words) / sizeof(kept->words[0]); i++)
		RULE(&keeper->player, kept->words[i] == word_of(kept->stamp, i),
		     "%s: word %u of %llx is wrong", how, i, (unsigned long long)kept->stamp);
}

static void check_zeros(struct keeper *keeper, unsigned lot, uint64_t from, uint64_t to)
{
	const uint8_t *data = shmb_region_data(keeper->regions[lot]);

	for (uint64_t i = from; i < to; i++)
		RULE(&keeper->player, data[i] == 0, "lot %u: byte %llu is not zero", lot,
		     (unsigned long long)i);
}

/* Under the exclusive lock. Who died while he wrote has left it half-written, and nobody else. */
static void settle_region(struct keeper *keeper, unsigned lot)
{
	struct kept *kept = shmb_region_data(keeper->regions[lot]);
	struct facts held = lot_facts(lot_of(keeper, lot));
	struct facts intended = lot_intended(lot_of(keeper, lot));
	bool writing = intent_of(keeper, lot) == INTENT_WRITE;
	bool looking = atomic_exchange(&keeper->record->looking[lot], true);
	int r = shmb_region_lock(keeper->regions[lot], SHMB_EXCLUSIVE, KEEPER_TIMEOUT_MS);

	RULE(&keeper->player, r == 0 || (r == SHMB_EOWNERDEAD && (writing || looking)),
	     "lock lot %u: %s", lot, storm_result(r));
	if (r == SHMB_EOWNERDEAD) {
		kept_write(keeper, kept, writing ? intended.stamp : held.stamp);
		KEEP(keeper, shmb_region_mark_consistent(keeper->regions[lot]));
	}
	kept_check(keeper, kept, "inherited");
	RULE(&keeper->player,
	     kept->stamp == held.stamp || (writing && kept->stamp == intended.stamp),
	     "lot %u has the stamp %llx, not %llx", lot, (unsigned long long)kept->stamp,
	     (unsigned long long)held.stamp);
	if (writing)
		lot_end(lot_of(keeper, lot), kept->stamp == intended.stamp);
	KEEP(keeper, shmb_region_unlock(keeper->regions[lot]));
	atomic_store(&keeper->record->looking[lot], false);
}

static void settle_lock(struct keeper *keeper, unsigned lot)
{
	bool using = intent_of(keeper, lot) == INTENT_WRITE;
	bool looking = atomic_exchange(&keeper->record->looking[lot], true);
	int r = shmb_lock_acquire(keeper->locks[lot], SHMB_EXCLUSIVE, KEEPER_TIMEOUT_MS);

	RULE(&keeper->player, r == 0 || (r == SHMB_EOWNERDEAD && (using || looking)),
	     "acquire lot %u: %s", lot, storm_result(r));
	if (r == SHMB_EOWNERDEAD)
		KEEP(keeper, shmb_lock_mark_consistent(keeper->locks[lot]));
	KEEP(keeper, shmb_lock_release(keeper->locks[lot]));
	if (using)
		lot_end(lot_of(keeper, lot), false);
	atomic_store(&keeper->record->looking[lot], false);
}

void lots_check_contents(struct keeper *keeper, unsigned lot)
{
	struct facts held = lot_facts(lot_of(keeper, lot));

	if (lot_kind(lot) == LOT_REGION)
		settle_region(keeper, lot);
	else if (lot_kind(lot) == LOT_LOCK)
		settle_lock(keeper, lot);
	else if (lot_kind(lot) == LOT_COUNTING)
		RULE(&keeper->player,
		     shmb_semaphore_value(keeper->semaphores[lot]) == (int64_t)held.count,
		     "lot %u counts %lld", lot,
		     (long long)shmb_semaphore_value(keeper->semaphores[lot]));
	else
		RULE(&keeper->player,
		     shmb_semaphore_value(keeper->semaphores[lot]) ==
			     KEPT_PERMITS - keeper->permits[lot],
		     "lot %u has %lld permits, %u are taken", lot,
		     (long long)shmb_semaphore_value(keeper->semaphores[lot]),
		     keeper->permits[lot]);
}

/* ---- Handles ---- */

void lots_open(struct keeper *keeper, unsigned lot)
{
	static const unsigned accesses[] = { SHMB_READ | SHMB_WRITE,
					     SHMB_READ | SHMB_WRITE | SHMB_LOCK };
	unsigned access = accesses[player_random(&keeper->player, 2)];
	char name[64];

	keep_name(keeper->place, lot, name);
	if (lot_kind(lot) == LOT_REGION)
		KEEP(keeper,
		     shmb_region_open(keeper->client, name, access, NULL, &keeper->regions[lot]));
	else if (lot_kind(lot) == LOT_LOCK)
		KEEP(keeper, shmb_lock_open(keeper->client, name, &keeper->locks[lot]));
	else
		KEEP(keeper, shmb_semaphore_open(keeper->client, name, &keeper->semaphores[lot]));
}

void lots_close(struct keeper *keeper, unsigned lot)
{
	if (lot < LOTS_REGIONS)
		keeper->regions[lot] = shmb_region_free(keeper->regions[lot]);
	keeper->locks[lot] = shmb_lock_free(keeper->locks[lot]);
	keeper->semaphores[lot] = shmb_semaphore_free(keeper->semaphores[lot]);
	keeper->permits[lot] = 0;
}

/* ---- Making and removing ---- */

/* A request in flight while others are made; its callback may run in another thread. */
struct late {
	struct shmb_region *region;
	_Atomic int status;
	_Atomic bool done;
};

static void on_made(int status, struct shmb_region *region, void *userdata)
{
	struct late *late = userdata;

	late->region = region;
	atomic_store(&late->status, status);
	atomic_store(&late->done, true);
}

static int make_late(struct keeper *keeper, const char *name, uint64_t size,
		     const struct shmb_region_options *options, struct shmb_region **ret_region)
{
	int64_t patience = storm_now_us() + (int64_t)2000 * KEEPER_TIMEOUT_MS;
	struct late late = { 0 };
	int r;

	/* Its memory is the other thread's to write in: no way out of here but with an answer. */
	KEEP(keeper, shmb_region_create_async(keeper->client, name, size, options, on_made, &late));
	while (!atomic_load(&late.done)) {
		struct pollfd ready = { .fd = shmb_client_get_fd(keeper->client),
					.events = POLLIN };

		(void)poll(&ready, 1, 2);
		r = keeper_process(keeper);
		RULE(&keeper->player, r >= 0, "process: %s", storm_result(r));
		RULE(&keeper->player, storm_now_us() < patience, "no answer at all");
	}
	keep_tally(keeper, KEPT_LATE);
	*ret_region = late.region;
	r = atomic_load(&late.status);
	return r == 1 ? 0 : r; /* 1: made */
}

static void make_region(struct keeper *keeper, unsigned lot, const char *name,
			struct facts *intended)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region_info info = { .struct_size = sizeof(info) };

	options.mode = intended->mode;
	options.lifetime = (enum shmb_lifetime)intended->lifetime;
	options.capacity = (uint64_t)KEPT_PAGES * KEPT_PAGE;
	if (player_chance(&keeper->player, 3))
		options.access |= SHMB_LOCK;
	if (lot >= LOTS_REGIONS - LOTS_LATE) {
		options.access &= ~(unsigned)SHMB_LOCK;
		KEEP(keeper,
		     make_late(keeper, name, intended->size, &options, &keeper->regions[lot]));
	} else {
		KEEP(keeper, shmb_region_create(keeper->client, name, intended->size, &options,
						&keeper->regions[lot]));
	}
	KEEP(keeper, shmb_region_info(keeper->regions[lot], &info));
	intended->id = info.id;
	check_zeros(keeper, lot, 0, intended->size);
}

static void make_lock(struct keeper *keeper, unsigned lot, const char *name, struct facts *intended)
{
	struct shmb_lock_options options = SHMB_LOCK_OPTIONS_INIT;

	options.mode = intended->mode;
	options.lifetime = (enum shmb_lifetime)intended->lifetime;
	KEEP(keeper, shmb_lock_create(keeper->client, name, &options, &keeper->locks[lot]));
}

static void make_semaphore(struct keeper *keeper, unsigned lot, const char *name,
			   struct facts *intended)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	bool owned = lot_kind(lot) == LOT_OWNED;

	/* Few modes: those of one share memory. */
	intended->mode &= 0710;
	lot_revise(lot_of(keeper, lot), intended);
	options.kind = owned ? SHMB_OWNED : SHMB_COUNTING;
	options.mode = intended->mode;
	options.lifetime = (enum shmb_lifetime)intended->lifetime;
	options.initial = owned ? 0 : (uint32_t)intended->count;
	options.maximum = owned ? KEPT_PERMITS : KEPT_COUNT_MAX;
	KEEP(keeper,
	     shmb_semaphore_create(keeper->client, name, &options, &keeper->semaphores[lot]));
}

/* Numbers are not given twice: what is made now has a higher one than all that was made before. */
static void check_id(struct keeper *keeper, uint64_t before, uint64_t id)
{
	uint64_t last = atomic_load(&keeper->page->last_id);

	RULE(&keeper->player, id > before, "the id %llu is not new, there was %llu",
	     (unsigned long long)id, (unsigned long long)before);
	while (last < id && !atomic_compare_exchange_weak(&keeper->page->last_id, &last, id))
		;
}

static void make(struct keeper *keeper, unsigned lot)
{
	uint64_t last_id = atomic_load(&keeper->page->last_id);
	struct player *player = &keeper->player;
	struct facts intended = {
		.exists = 1,
		.lifetime = player_chance(player, 2) ? SHMB_PERSISTENT : player_random(player, 2),
		.mode = 0700 | player_random(player, 64),
		.size = (1 + player_random(player, KEPT_PAGES)) * (uint64_t)KEPT_PAGE
	};
	struct facts found = { 0 };
	char name[64];

	keep_name(keeper->place, lot, name);
	if (lot_kind(lot) == LOT_COUNTING)
		intended.count = player_random(player, 6);
	if (lot_kind(lot) == LOT_OWNED)
		intended.count = KEPT_PERMITS;
	lot_begin(lot_of(keeper, lot), INTENT_MAKE, &intended);
	if (lot_kind(lot) == LOT_REGION)
		make_region(keeper, lot, name, &intended);
	else if (lot_kind(lot) == LOT_LOCK)
		make_lock(keeper, lot, name, &intended);
	else
		make_semaphore(keeper, lot, name, &intended);
	if (intended.id == 0 && estate_facts(keeper, lot, &found))
		intended.id = found.id;
	check_id(keeper, last_id, intended.id);
	lot_revise(lot_of(keeper, lot), &intended);
	done(keeper, lot);
	estate_check(keeper, lot);
	keep_tally(keeper, KEPT_MADE);
}

void lots_remove(struct keeper *keeper, unsigned lot)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct facts nothing = { 0 };
	char name[64];

	keep_name(keeper->place, lot, name);
	lot_begin(lot_of(keeper, lot), INTENT_REMOVE, &nothing);
	if (lot_kind(lot) == LOT_REGION) {
		KEEP(keeper, shmb_region_remove(keeper->client, name));
		KEEP(keeper, shmb_region_info(keeper->regions[lot], &info));
		RULE(&keeper->player, info.removed, "%s still has its name", name);
		kept_check(keeper, shmb_region_data(keeper->regions[lot]), "removed");
	} else if (lot_kind(lot) == LOT_LOCK) {
		KEEP(keeper, shmb_lock_remove(keeper->client, name));
	} else {
		KEEP(keeper, shmb_semaphore_remove(keeper->client, name));
	}
	done(keeper, lot);
	lots_close(keeper, lot);
	keep_tally(keeper, KEPT_REMOVED);
}

/* With its last handle, if that is what it was made for; visitors may have it open a little
 * longer. */
static void close_last(struct keeper *keeper, unsigned lot)
{
	struct facts nothing = { 0 };
	char name[64];

	lot_begin(lot_of(keeper, lot), INTENT_END, &nothing);
	lots_close(keeper, lot);
	estate_gone(keeper, lot_kind(lot), keep_name(keeper->place, lot, name));
	done(keeper, lot);
}

static void reopen(struct keeper *keeper, unsigned lot)
{
	lots_close(keeper, lot);
	lots_open(keeper, lot);
	if (lot_kind(lot) != LOT_OWNED)
		lots_check_contents(keeper, lot);
}

/* Another session of this process may not have the name. */
static void make_again(struct keeper *keeper, unsigned lot)
{
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_region *region = NULL;
	struct shmb_lock *lock = NULL;
	char name[64];
	int r;

	keep_name(keeper->place, lot, name);
	if (lot_kind(lot) == LOT_REGION)
		r = shmb_region_create(keeper->other, name, KEPT_PAGE, NULL, &region);
	else if (lot_kind(lot) == LOT_LOCK)
		r = shmb_lock_create(keeper->other, name, NULL, &lock);
	else
		r = shmb_semaphore_create(keeper->other, name, NULL, &semaphore);
	RULE(&keeper->player, r == SHMB_EEXIST, "made %s again: %s", name, storm_result(r));
}

/* ---- Using ---- */

static void write_region(struct keeper *keeper, unsigned lot)
{
	struct shmb_region *region = keeper->regions[lot];
	struct facts intended = lot_facts(lot_of(keeper, lot));
	uint64_t sequence = shmb_region_sequence(region);

	intended.stamp = 1 + ((uint64_t)player_random(&keeper->player, UINT32_MAX) << 16);
	lot_begin(lot_of(keeper, lot), INTENT_WRITE, &intended);
	KEEP(keeper, shmb_region_lock(region, SHMB_EXCLUSIVE, KEEPER_TIMEOUT_MS));
	kept_check(keeper, shmb_region_data(region), "to be written");
	kept_write(keeper, shmb_region_data(region), intended.stamp);
	KEEP(keeper, shmb_region_publish(region, 0, sizeof(struct kept)));
	KEEP(keeper, shmb_region_unlock(region));
	done(keeper, lot);
	RULE(&keeper->player, shmb_region_sequence(region) == sequence + 1,
	     "lot %u: published once, but from %llu to %llu", lot, (unsigned long long)sequence,
	     (unsigned long long)shmb_region_sequence(region));
	keep_tally(keeper, KEPT_WRITTEN);
}

static void resize_region(struct keeper *keeper, unsigned lot)
{
	struct shmb_region *region = keeper->regions[lot];
	struct facts held = lot_facts(lot_of(keeper, lot)), intended = held;
	int r;

	intended.size = (1 + player_random(&keeper->player, KEPT_PAGES)) * (uint64_t)KEPT_PAGE;
	lot_begin(lot_of(keeper, lot), INTENT_RESIZE, &intended);
	/* Busy: the broker of several users gives memory back on other threads. */
	do
		r = shmb_region_resize(region, intended.size);
	while (r == SHMB_EBUSY);
	RULE(&keeper->player, r == 0, "resize lot %u: %s", lot, storm_result(r));
	done(keeper, lot);
	RULE(&keeper->player, shmb_region_size(region) == intended.size, "lot %u has %llu bytes",
	     lot, (unsigned long long)shmb_region_size(region));
	if (intended.size > held.size)
		check_zeros(keeper, lot, held.size, intended.size);
	memset((char *)shmb_region_data(region) + intended.size - 64, 0xa5,
	       intended.size > KEPT_PAGE ? 64 : 0);
	keep_tally(keeper, KEPT_RESIZED);
}

static void chmod_region(struct keeper *keeper, unsigned lot)
{
	struct facts intended = lot_facts(lot_of(keeper, lot));
	char name[64];

	intended.mode = 0700 | player_random(&keeper->player, 64);
	lot_begin(lot_of(keeper, lot), INTENT_CHMOD, &intended);
	KEEP(keeper,
	     shmb_region_chmod(keeper->client, keep_name(keeper->place, lot, name), intended.mode));
	done(keeper, lot);
}

static void use_region(struct keeper *keeper, unsigned lot)
{
	switch (player_random(&keeper->player, 6)) {
	case 0:
		resize_region(keeper, lot);
		break;
	case 1:
		chmod_region(keeper, lot);
		break;
	default:
		write_region(keeper, lot);
	}
}

static void use_lock(struct keeper *keeper, unsigned lot)
{
	struct facts same = lot_facts(lot_of(keeper, lot));

	lot_begin(lot_of(keeper, lot), INTENT_WRITE, &same);
	KEEP(keeper, shmb_lock_acquire(keeper->locks[lot], SHMB_EXCLUSIVE, KEEPER_TIMEOUT_MS));
	if (player_chance(&keeper->player, 4))
		estate_check(keeper, lot);
	KEEP(keeper, shmb_lock_release(keeper->locks[lot]));
	done(keeper, lot);
}

static void use_count(struct keeper *keeper, unsigned lot)
{
	struct facts held = lot_facts(lot_of(keeper, lot)), intended = held;
	bool take = held.count > 0 && player_chance(&keeper->player, 2);

	intended.count = take ? held.count - 1 : held.count + 1;
	if (intended.count > KEPT_COUNT_MAX)
		return;
	lot_begin(lot_of(keeper, lot), INTENT_COUNT, &intended);
	if (take)
		KEEP(keeper, shmb_semaphore_wait(keeper->semaphores[lot], 0));
	else
		KEEP(keeper, shmb_semaphore_post(keeper->semaphores[lot], 1));
	done(keeper, lot);
	lots_check_contents(keeper, lot);
	keep_tally(keeper, KEPT_COUNTED);
}

static void use_permits(struct keeper *keeper, unsigned lot)
{
	if (keeper->permits[lot] < KEPT_PERMITS && player_chance(&keeper->player, 2)) {
		KEEP(keeper, shmb_semaphore_wait(keeper->semaphores[lot], 0));
		keeper->permits[lot]++;
	} else if (keeper->permits[lot] > 0) {
		KEEP(keeper, shmb_semaphore_post(keeper->semaphores[lot], 1));
		keeper->permits[lot]--;
	}
	lots_check_contents(keeper, lot);
}

static void use(struct keeper *keeper, unsigned lot)
{
	if (lot_kind(lot) == LOT_REGION)
		use_region(keeper, lot);
	else if (lot_kind(lot) == LOT_LOCK)
		use_lock(keeper, lot);
	else if (lot_kind(lot) == LOT_COUNTING)
		use_count(keeper, lot);
	else
		use_permits(keeper, lot);
}

void lots_play(struct keeper *keeper, unsigned lot)
{
	struct facts held = lot_facts(lot_of(keeper, lot));

	if (!held.exists) {
		make(keeper, lot);
		return;
	}
	switch (player_random(&keeper->player, 12)) {
	case 0:
		lots_remove(keeper, lot);
		break;
	case 1:
		if (held.lifetime == SHMB_ATTACHED)
			close_last(keeper, lot);
		else if (keeper->permits[lot] == 0)
			reopen(keeper, lot);
		break;
	case 2:
		if (held.lifetime == SHMB_PERSISTENT)
			make_again(keeper, lot);
		break;
	case 3:
	case 4:
		if (lot_kind(lot) != LOT_OWNED)
			estate_check(keeper, lot);
		break;
	default:
		use(keeper, lot);
	}
}
