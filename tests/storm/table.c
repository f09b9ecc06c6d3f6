/* SPDX-License-Identifier: MIT */
/*
 * The table, a region under its own lock. Its rules: under the lock, shared or exclusive, and in a
 * snapshot, nobody is writing, the counters' sum is 0, and the record's checksum is right, unless
 * the library says that an owner died. Exclusive is exclusive.
 *
 * The words are ordinary memory, so that ThreadSanitizer sees whether the lock orders them.
 */

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "storm.h"

enum { COUNTERS = 24, WORDS = 64 };

struct table {
	uint64_t owner; /* name of who writes it; 0: nobody */
	uint64_t version;
	uint64_t counters[COUNTERS];
	uint64_t words[WORDS];
	uint64_t checksum;
};

#define ABANDONED UINT64_MAX

uint64_t table_bytes(void)
{
	return sizeof(struct table);
}

static uint64_t word_of(uint64_t version, unsigned i)
{
	return (version * 31 + i) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t checksum_of(const struct table *table)
{
	uint64_t sum = table->version;

	for (unsigned i = 0; i < WORDS; i++)
		sum = sum * 3 + table->words[i];
	return sum;
}

static uint64_t sum_of(const struct table *table)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < COUNTERS; i++)
		sum += table->counters[i];
	return sum;
}

/* @how: by which right it is looked at */
static void check(struct player *player, const struct table *table, const char *how)
{
	RULE(player, table->owner == 0, "%s: %llx is writing the table", how,
	     (unsigned long long)table->owner);
	RULE(player, sum_of(table) == 0, "%s: the counters' sum is %lld", how,
	     (long long)sum_of(table));
	RULE(player, checksum_of(table) == table->checksum, "%s: record %llu is torn", how,
	     (unsigned long long)table->version);
}

/* ---- Writing ---- */

static void write_record(struct player *player, struct table *table)
{
	table->version++;
	for (unsigned i = 0; i < WORDS; i++) {
		table->words[i] = word_of(table->version, i);
		if (i == WORDS / 2 && player)
			player_may_die(player);
	}
	table->checksum = checksum_of(table);
}

void table_make(struct shmb_region *region)
{
	write_record(NULL, shmb_region_data(region));
}

static void write_table(struct player *player, struct table *table)
{
	unsigned from = player_random(player, COUNTERS), to = player_random(player, COUNTERS);
	uint64_t amount = player_random(player, 1000), version = table->version;

	table->owner = player->name;
	table->counters[from] -= amount;
	player_may_die(player);
	write_record(player, table);
	table->counters[to] += amount;
	RULE(player, table->owner == player->name && table->version == version + 1,
	     "%llx writes the table, too", (unsigned long long)table->owner);
	table->owner = 0;
	player_tally(player, TALLY_TABLE_WRITTEN);
}

/* The lock is held and its owner died: in what state the table is, nobody knows. */
static void repair(struct player *player, struct kit *kit)
{
	struct table *table = shmb_region_data(kit->table);
	int r;

	RULE(player,
	     table->owner == 0 || table->owner == ABANDONED ||
		     storm_is_dead(player->control, table->owner),
	     "owner died, but %llx lives", (unsigned long long)table->owner);
	table->owner = player->name;
	table->counters[0] -= sum_of(table);
	player_may_die(player);
	write_record(player, table);
	RULE(player, table->owner == player->name, "%llx writes the table, too",
	     (unsigned long long)table->owner);
	table->owner = 0;
	r = shmb_region_downgrade(kit->table);
	RULE(player, r == SHMB_EOWNERDEAD, "downgrade unrepaired: %s", storm_result(r));
	r = shmb_region_mark_consistent(kit->table);
	RULE(player, r == 0, "mark consistent: %s", storm_result(r));
	player_tally(player, TALLY_REPAIRED);
}

/* ---- Under the lock ---- */

static void unlock(struct player *player, struct kit *kit)
{
	int r;

	player_may_die(player);
	r = shmb_region_unlock(kit->table);
	RULE(player, r == 0, "unlock the table: %s", storm_result(r));
}

static int lock(struct player *player, struct kit *kit, enum shmb_lock_kind kind)
{
	int timeout = player_timeout(player), r;
	int64_t begun = storm_now_us();

	player_wait_begin(player, kind == SHMB_SHARED ? WAIT_TABLE_SHARED : WAIT_TABLE_EXCLUSIVE);
	r = shmb_region_lock(kit->table, kind, timeout);
	player_wait_end(player, r);
	if (r == SHMB_ETIMEDOUT)
		player_late(player,
			    kind == SHMB_SHARED ? "the table, shared" : "the table, exclusive",
			    begun, timeout);
	else if (r == SHMB_ESLOTS)
		player_tally(player, TALLY_NO_SLOT);
	else
		RULE(player, r == 0 || r == SHMB_EOWNERDEAD || r == SHMB_ENOTRECOVERABLE,
		     "lock the table: %s", storm_result(r));
	return r;
}

static void look_twice(struct player *player, const struct kit *kit)
{
	const struct table *table = shmb_region_data(kit->table);
	uint64_t version = table->version;

	check(player, table, "shared");
	player_may_die(player);
	check(player, table, "still shared");
	RULE(player, table->version == version, "written under a shared lock");
	player_tally(player, TALLY_TABLE_READ);
}

static void play_shared(struct player *player, struct kit *kit)
{
	if (lock(player, kit, SHMB_SHARED) != 0)
		return;
	look_twice(player, kit);
	unlock(player, kit);
}

static void play_exclusive_held(struct player *player, struct kit *kit)
{
	struct table *table = shmb_region_data(kit->table);
	int r;

	check(player, table, "exclusive");
	if (kit->access & SHMB_WRITE)
		write_table(player, table);
	if (player_chance(player, 16)) {
		r = shmb_region_lock(kit->table, SHMB_EXCLUSIVE, -1);
		RULE(player, r == SHMB_EDEADLK, "locked twice: %s", storm_result(r));
	}
	if (player_chance(player, 4)) {
		r = shmb_region_downgrade(kit->table);
		RULE(player, r == 0, "downgrade: %s", storm_result(r));
		player_tally(player, TALLY_DOWNGRADED);
		look_twice(player, kit);
	}
	unlock(player, kit);
}

static void play_owner_died(struct player *player, struct kit *kit)
{
	if (!(kit->access & SHMB_WRITE)) {
		int r = shmb_region_mark_consistent(kit->table);

		RULE(player, r == SHMB_EMODE, "marked without write access: %s", storm_result(r));
	} else if (player_chance(player, 12)) {
		player_tally(player, TALLY_LEFT_BROKEN);
	} else {
		repair(player, kit);
	}
	unlock(player, kit);
}

static void play_exclusive(struct player *player, struct kit *kit)
{
	int r = lock(player, kit, SHMB_EXCLUSIVE);

	if (r == 0)
		play_exclusive_held(player, kit);
	else if (r == SHMB_EOWNERDEAD)
		play_owner_died(player, kit);
	else if (r == SHMB_ENOTRECOVERABLE && (kit->access & SHMB_WRITE)) {
		r = shmb_region_reset_lock(kit->table);
		/* Not in that state any more: somebody else was faster. */
		RULE(player, r == 0 || r == SHMB_EINVAL, "reset: %s", storm_result(r));
		if (r == 0)
			player_tally(player, TALLY_RESET);
	}
}

/* ---- Without ---- */

static void play_copy(struct player *player, struct kit *kit)
{
	struct table copy;
	int r;

	player_wait_begin(player, WAIT_TABLE_SHARED);
	r = shmb_region_read(kit->table, 0, &copy, sizeof(copy), SHMB_LOCKED);
	player_wait_end(player, r);
	if (r == 0)
		check(player, &copy, "copied under the lock");
	else
		RULE(player,
		     r == SHMB_EOWNERDEAD || r == SHMB_ENOTRECOVERABLE || r == SHMB_ESLOTS ||
			     r == SHMB_ETIMEDOUT,
		     "read locked: %s", storm_result(r));
}

static void play_snapshot(struct player *player, struct kit *kit)
{
	struct table copy;
	int r = shmb_region_snapshot(kit->table, 0, &copy, sizeof(copy));

	if (r == 0)
		check(player, &copy, "snapshot");
	else
		RULE(player, r == SHMB_EBUSY || r == SHMB_EOWNERDEAD || r == SHMB_ENOTRECOVERABLE,
		     "snapshot: %s", storm_result(r));
	player_tally(player, r == 0 ? TALLY_SNAPSHOTS : TALLY_SNAPSHOTS_BUSY);
}

void table_play(struct player *player)
{
	struct kit *kit = player->kit;

	if (!(kit->access & (SHMB_LOCK | SHMB_WRITE))) {
		int r = shmb_region_lock(kit->table, SHMB_SHARED, 0);

		RULE(player, r == SHMB_EMODE, "locked with read access alone: %s", storm_result(r));
		play_snapshot(player, kit);
		return;
	}
	switch (player_random(player, 8)) {
	case 0:
		/* A thread of this process may be writing through this very mapping, which is
		 * what snapshots are for, and what ThreadSanitizer must call a race. */
		if (player->alone)
			play_snapshot(player, kit);
		break;
	case 1:
		play_copy(player, kit);
		break;
	case 2:
	case 3:
	case 4:
		play_exclusive(player, kit);
		break;
	default:
		play_shared(player, kit);
	}
}

void table_abandon(struct player *player)
{
	struct kit *kit = player->kit;
	struct table *table = shmb_region_data(kit->table);
	int r = lock(player, kit, SHMB_EXCLUSIVE);

	if (r == 0 && (kit->access & SHMB_WRITE)) {
		table->owner = ABANDONED;
		table->counters[0]++;
		player_tally(player, TALLY_ABANDONED);
	}
	/* Held or not: whoever comes next must be told. */
	kit->table = shmb_region_free(kit->table);
}

/* ---- The master, when everybody is gone ---- */

void table_settle(struct player *player)
{
	struct kit *kit = player->kit;
	struct table copy;
	int r = shmb_region_lock(kit->table, SHMB_EXCLUSIVE, 10000);

	if (r == SHMB_ENOTRECOVERABLE) {
		r = shmb_region_reset_lock(kit->table);
		RULE(player, r == 0, "reset at the end: %s", storm_result(r));
		r = shmb_region_lock(kit->table, SHMB_EXCLUSIVE, 10000);
		RULE(player, r == SHMB_EOWNERDEAD, "lock after a reset: %s", storm_result(r));
	}
	RULE(player, r == 0 || r == SHMB_EOWNERDEAD, "lock at the end: %s", storm_result(r));
	if (r == SHMB_EOWNERDEAD)
		repair(player, kit);
	check(player, shmb_region_data(kit->table), "at the end");
	unlock(player, kit);
	r = shmb_region_lock(kit->table, SHMB_SHARED, 0);
	RULE(player, r == 0, "lock shared at the end: %s", storm_result(r));
	unlock(player, kit);
	r = shmb_region_snapshot(kit->table, 0, &copy, sizeof(copy));
	RULE(player, r == 0, "snapshot at the end: %s", storm_result(r));
	check(player, &copy, "snapshot at the end");
}
