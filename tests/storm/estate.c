/* SPDX-License-Identifier: MIT */
/*
 * What somebody left who was killed: his heir waits until the broker knows of the death, and then
 * holds the broker's word against the ledger, fact by fact.
 */

#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "keep.h"

enum { GONE_US = 30000000 };

/* ---- The broker's word ---- */

static int region_facts(struct keeper *keeper, const char *name, struct facts *ret_facts)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	int r = shmb_region_stat(keeper->client, name, &info);

	if (r == 0)
		*ret_facts = (struct facts){ .exists = 1,
					     .lifetime = info.lifetime,
					     .mode = info.mode,
					     .id = info.id,
					     .size = info.size };
	return r;
}

static int lock_facts(struct keeper *keeper, const char *name, struct facts *ret_facts)
{
	struct shmb_lock_info info = { .struct_size = sizeof(info) };
	int r = shmb_lock_stat(keeper->client, name, &info);

	if (r == 0)
		*ret_facts = (struct facts){
			.exists = 1, .lifetime = info.lifetime, .mode = info.mode, .id = info.id
		};
	return r;
}

static int semaphore_facts(struct keeper *keeper, const char *name, struct facts *ret_facts)
{
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	int r = shmb_semaphore_stat(keeper->client, name, &info);

	if (r == 0)
		*ret_facts = (struct facts){ .exists = 1,
					     .lifetime = info.lifetime,
					     .mode = info.mode,
					     .id = info.id,
					     .count = info.value };
	return r;
}

static int facts_of(struct keeper *keeper, enum lot_kind kind, const char *name,
		    struct facts *ret_facts)
{
	if (kind == LOT_REGION)
		return region_facts(keeper, name, ret_facts);
	if (kind == LOT_LOCK)
		return lock_facts(keeper, name, ret_facts);
	return semaphore_facts(keeper, name, ret_facts);
}

bool estate_facts(struct keeper *keeper, unsigned lot, struct facts *ret_facts)
{
	char name[64];
	int r = facts_of(keeper, lot_kind(lot), keep_name(keeper->place, lot, name), ret_facts);

	RULE(&keeper->player, r == 0 || r == SHMB_ENOENT, "stat %s: %s", name, storm_result(r));
	return r == 0;
}

void estate_gone(struct keeper *keeper, enum lot_kind kind, const char *name)
{
	int64_t patience = storm_now_us() + (int64_t)GONE_US * harness_slow();
	struct facts facts;
	int r;

	while ((r = facts_of(keeper, kind, name, &facts)) == 0)
		RULE(&keeper->player, storm_now_us() < patience, "%s is still there", name);
	RULE(&keeper->player, r == SHMB_ENOENT, "stat %s: %s", name, storm_result(r));
}

/* ---- Comparing ---- */

static bool agree(unsigned lot, const struct facts *found, const struct facts *ledger)
{
	return found->exists == ledger->exists && found->lifetime == ledger->lifetime &&
	       found->mode == ledger->mode && (ledger->id == 0 || found->id == ledger->id) &&
	       (lot_kind(lot) != LOT_REGION || found->size == ledger->size) &&
	       (lot_kind(lot) != LOT_COUNTING || found->count == ledger->count);
}

__attribute__((noreturn)) static void disagree(struct keeper *keeper, unsigned lot, bool is_there,
					       const struct facts *found)
{
	const struct lot *ledger = &keeper->record->lots[lot];
	struct facts held = lot_facts(ledger), intended = lot_intended(ledger);
	char name[64];

	player_fail(&keeper->player, __FILE__, __LINE__,
		    "%s: the broker says there %u id %llu life %u mode %o size %llu count %llu; the"
		    " ledger: %u id %llu life %u mode %o size %llu count %llu; intent %u: %u id"
		    " %llu life %u mode %o size %llu count %llu",
		    keep_name(keeper->place, lot, name), is_there, (unsigned long long)found->id,
		    found->lifetime, found->mode, (unsigned long long)found->size,
		    (unsigned long long)found->count, held.exists, (unsigned long long)held.id,
		    held.lifetime, held.mode, (unsigned long long)held.size,
		    (unsigned long long)held.count,
		    (unsigned)lot_intent(atomic_load(&ledger->state)), intended.exists,
		    (unsigned long long)intended.id, intended.lifetime, intended.mode,
		    (unsigned long long)intended.size, (unsigned long long)intended.count);
}

void estate_check(struct keeper *keeper, unsigned lot)
{
	struct facts found = { 0 }, held = lot_facts(&keeper->record->lots[lot]);
	bool is_there = estate_facts(keeper, lot, &found);

	if (is_there != held.exists || (is_there && !agree(lot, &found, &held)))
		disagree(keeper, lot, is_there, &found);
}

/* ---- Inheriting ---- */

/* What was made to go with whoever made it. */
static void bury(struct keeper *keeper, unsigned lot)
{
	struct lot *ledger = &keeper->record->lots[lot];
	struct facts nothing = { 0 };
	char name[64];

	lot_begin(ledger, INTENT_END, &nothing);
	estate_gone(keeper, lot_kind(lot), keep_name(keeper->place, lot, name));
	lot_end(ledger, true);
}

/* In the middle of a change: it was made, or it was not, and nothing else. */
static void decide(struct keeper *keeper, unsigned lot, enum intent intent)
{
	struct lot *ledger = &keeper->record->lots[lot];
	struct facts found = { 0 }, held = lot_facts(ledger), intended = lot_intended(ledger);
	bool is_there = estate_facts(keeper, lot, &found);

	keep_tally(keeper, KEPT_UNDECIDED);
	if (is_there == held.exists && (!is_there || agree(lot, &found, &held))) {
		/* Of writing, the contents will tell. */
		if (intent != INTENT_WRITE)
			lot_end(ledger, false);
	} else if (is_there == intended.exists && (!is_there || agree(lot, &found, &intended))) {
		if (is_there) {
			intended.id = found.id;
			lot_revise(ledger, &intended);
		}
		lot_end(ledger, true);
	} else {
		disagree(keeper, lot, is_there, &found);
	}
}

void estate_await_permits(struct keeper *keeper, unsigned lot, uint64_t n)
{
	int64_t patience = storm_now_us() + (int64_t)GONE_US * harness_slow();
	struct facts found = { 0 };

	while (estate_facts(keeper, lot, &found) && found.count != n)
		RULE(&keeper->player, storm_now_us() < patience, "lot %u: %llu permits, not %llu",
		     lot, (unsigned long long)found.count, (unsigned long long)n);
}

static void inherit(struct keeper *keeper, unsigned lot)
{
	struct lot *ledger = &keeper->record->lots[lot];
	enum intent intent = lot_intent(atomic_load(&ledger->state));
	struct facts held = lot_facts(ledger), intended = lot_intended(ledger);

	if (held.exists ? held.lifetime != SHMB_PERSISTENT
			: intent == INTENT_MAKE && intended.lifetime != SHMB_PERSISTENT)
		bury(keeper, lot);
	else if (intent != INTENT_NOTHING)
		decide(keeper, lot, intent);
	else
		estate_check(keeper, lot);
	if (!lot_facts(ledger).exists)
		return;
	if (lot_kind(lot) == LOT_OWNED)
		estate_await_permits(keeper, lot, KEPT_PERMITS);
	lots_open(keeper, lot);
	lots_check_contents(keeper, lot);
	RULE(&keeper->player, lot_intent(atomic_load(&ledger->state)) == INTENT_NOTHING,
	     "lot %u was not settled", lot);
	keep_tally(keeper, KEPT_INHERITED);
}

static void make_alive(struct keeper *keeper)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	uint32_t life = atomic_load(&keeper->record->life);
	char name[64];

	(void)snprintf(name, sizeof(name), "keep/%u/alive.%u", keeper->place, life);
	options.lifetime = SHMB_SESSION;
	KEEP(keeper, shmb_region_create(keeper->client, name, KEPT_PAGE, &options, &keeper->alive));
}

void estate_take(struct keeper *keeper)
{
	uint32_t before = atomic_load(&keeper->record->alive);
	char name[64];

	/* When that is gone the broker has done all that was ever asked for in its name. */
	if (before) {
		(void)snprintf(name, sizeof(name), "keep/%u/alive.%u", keeper->place, before);
		estate_gone(keeper, LOT_REGION, name);
	}
	atomic_store(&keeper->record->alive, atomic_load(&keeper->record->life));
	make_alive(keeper);
	for (unsigned lot = 0; lot < LOTS; lot++)
		inherit(keeper, lot);
	races_settle(keeper);
}

void estate_clear(struct keeper *keeper)
{
	for (unsigned lot = 0; lot < LOTS; lot++)
		if (lot_facts(&keeper->record->lots[lot]).exists)
			lots_remove(keeper, lot);
	lots_list(keeper);
}
