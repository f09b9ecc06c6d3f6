/* SPDX-License-Identifier: MIT */
/*
 * The end of a round: nobody is left, and everything has to be there, free and exact. Knows nothing
 * of how it came to that.
 */

#include <stdio.h>
#include <string.h>

#include "master.h"

enum { LONG_WAITS = 4 };

static const char *const gauge_names[GAUGES] = { "connections",  "condemned",  "regions",
						 "attachments",  "watches",    "bytes",
						 "queued_bytes", "semaphores", "locks",
						 "slots" };

static int take_gauge(const char *name, uint64_t value, void *userdata)
{
	uint64_t *gauges = userdata;

	for (unsigned i = 0; i < GAUGES; i++)
		if (strcmp(name, gauge_names[i]) == 0)
			gauges[i] = value;
	return 0;
}

void take_gauges(const struct storm *storm, uint64_t *ret_gauges)
{
	CHECK_OK(shmb_client_stats(storm->kit.client, take_gauge, ret_gauges));
}

struct figure {
	const char *name;
	uint64_t value;
};

static int take_figure(const char *name, uint64_t value, void *userdata)
{
	struct figure *figure = userdata;

	if (strcmp(name, figure->name) == 0)
		figure->value = value;
	return 0;
}

uint64_t storm_figure(const struct storm *storm, const char *name)
{
	struct figure figure = { .name = name, .value = UINT64_MAX };

	CHECK_OK(shmb_client_stats(storm->kit.client, take_figure, &figure));
	return figure.value;
}

static bool lock_is_quiet(const struct storm *storm, const char *name)
{
	struct shmb_lock_info info = look_at_lock(storm->kit.client, name);

	return info.attachments == 1 && info.slots_used == 1 && !info.held && !info.pending &&
	       info.readers == 0 && info.waiting_shared == 0 && info.waiting_exclusive == 0;
}

static bool semaphore_is_quiet(const struct storm *storm, const char *name)
{
	struct shmb_semaphore_info info = look_at_semaphore(storm->kit.client, name);

	return info.attachments == 1 && info.waiting == 0 &&
	       (info.kind == SHMB_COUNTING || info.value == info.maximum);
}

static bool gauges_are_back(const struct storm *storm)
{
	uint64_t gauges[GAUGES] = { 0 };

	take_gauges(storm, gauges);
	return memcmp(gauges, storm->gauges, sizeof(gauges)) == 0;
}

/* Every slot but the master's can be had, and no more than that. */
static void count_slots(const struct storm *storm)
{
	struct shmb_lock *locks[STORM_SLOTS] = { NULL };
	struct shmb_region *tables[STORM_SLOTS];

	for (unsigned i = 0; i < STORM_SLOTS; i++) {
		int expected = i < STORM_SLOTS - 1 ? 0 : SHMB_ESLOTS;

		CHECK_CODE(shmb_lock_open(storm->kit.client, STORM_LOCK_NAME, &locks[i]), expected);
		CHECK_OK(shmb_region_open(storm->kit.client, STORM_TABLE_NAME,
					  SHMB_READ | SHMB_WRITE, NULL, &tables[i]));
		CHECK_CODE(shmb_region_lock(tables[i], SHMB_SHARED, 0), expected);
	}
	/* Whoever had the slots before has left nothing in them. */
	for (unsigned i = 0; i < 2; i++) {
		struct shmb_lock_info info = look_at_lock(
			storm->kit.client, i == 0 ? STORM_TABLE_NAME : STORM_LOCK_NAME);

		CHECK_INT(info.slots_used, STORM_SLOTS);
		CHECK_INT(info.readers, i == 0 ? STORM_SLOTS - 1 : 0);
		CHECK_INT(info.waiting_shared + info.waiting_exclusive, 0);
	}
	/* Closed with the lock held, all of them. */
	for (unsigned i = 0; i < STORM_SLOTS; i++) {
		shmb_lock_free(locks[i]);
		shmb_region_free(tables[i]);
	}
}

/*
 * Who sleeps looks for itself after a second, which hides a wake-up that was lost. Here nobody
 * holds anything for that long; so of all who get what they wait for nobody does after a second,
 * but for a machine that stands still.
 */
static void check_long_waits(struct storm *storm)
{
	uint64_t all = atomic_load(&storm->control->tallies[TALLY_LONG]);
	uint64_t waits = all - storm->long_waits;

	if (waits > LONG_WAITS && !storm->paused && !storm->slow_deaths)
		FAIL("%llu waits were ended by the sleeper itself (kill %llu, seed %llu)",
		     (unsigned long long)waits, (unsigned long long)storm->kills,
		     (unsigned long long)storm->seed);
	storm->long_waits = all;
	storm->paused = false;
	storm->turned = 0;
}

void ending_settle(struct storm *storm)
{
	check_long_waits(storm);
	UNTIL(storm->broker, lock_is_quiet(storm, STORM_TABLE_NAME));
	UNTIL(storm->broker, lock_is_quiet(storm, STORM_LOCK_NAME));
	UNTIL(storm->broker, semaphore_is_quiet(storm, STORM_POOL_NAME));
	UNTIL(storm->broker, semaphore_is_quiet(storm, STORM_MUTEX_NAME));
	UNTIL(storm->broker, semaphore_is_quiet(storm, STORM_COUNT_NAME));
	UNTIL(storm->broker, gauges_are_back(storm));
	table_settle(&storm->master);
	mailbox_settle(&storm->master);
	pool_settle(&storm->master);
	mutex_play(&storm->master);
	count_settle(&storm->master, STORM_COUNT + storm->balance, storm->may_lack,
		     storm->may_exceed);
	storm->balance = storm->may_lack = storm->may_exceed = 0;
	count_slots(storm);
	UNTIL(storm->broker, lock_is_quiet(storm, STORM_TABLE_NAME));
	UNTIL(storm->broker, gauges_are_back(storm));
}

/* ---- What happened ---- */

static const char *const tally_names[TALLIES] = {
	[TALLY_TABLE_WRITTEN] = "written",
	[TALLY_TABLE_READ] = "read",
	[TALLY_REPAIRED] = "repaired",
	[TALLY_LEFT_BROKEN] = "left broken",
	[TALLY_RESET] = "reset",
	[TALLY_DOWNGRADED] = "downgraded",
	[TALLY_ABANDONED] = "abandoned",
	[TALLY_SNAPSHOTS] = "snapshots",
	[TALLY_SNAPSHOTS_BUSY] = "refused snapshots",
	[TALLY_LOCKED] = "named locks",
	[TALLY_TAKEN] = "permits taken",
	[TALLY_ADOPTED] = "adopted",
	[TALLY_CAME_BACK] = "came back instead",
	[TALLY_ALONE] = "alone",
	[TALLY_COUNTED] = "counted",
	[TALLY_TIMED_OUT] = "timed out",
	[TALLY_LONG] = "waited for a second",
	[TALLY_NO_SLOT] = "no slot",
	[TALLY_REOPENED] = "reopened",
	[TALLY_SUICIDES] = "died at a chosen place",
};

void ending_tell(const struct storm *storm)
{
	printf("%llu kills in %llu rounds", (unsigned long long)storm->kills,
	       (unsigned long long)storm->rounds);
	for (unsigned i = 0; i < TALLIES; i++)
		printf("%s%s %llu", i % 6 ? ", " : "\n  ", tally_names[i],
		       (unsigned long long)atomic_load(&storm->control->tallies[i]));
	printf("\n");
}

void ending_check(const struct storm *storm, const enum storm_tally *tallies, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (atomic_load(&storm->control->tallies[tallies[i]]) == 0)
			FAIL("nothing was ever %s", tally_names[tallies[i]]);
}
