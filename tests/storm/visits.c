/* SPDX-License-Identifier: MIT */
/*
 * Visits: a keeper opens what others keep, now and then by a request that is in flight meanwhile,
 * looks at it under the lock, waits for a publish, and watches it through an event loop. What it
 * may expect is in the other's ledger: where that has not changed from before to after, there is
 * one right answer.
 */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "keep.h"

enum { VISITS = 6, LATE_US = 20000000, IN_FLIGHT_US = 2000 * KEEPER_TIMEOUT_MS };

enum phase { PHASE_NONE, PHASE_ASKED, PHASE_OPEN };

struct visit {
	struct visits *all;
	_Atomic uint32_t phase; /* enum phase; a callback makes it open, or ends it */
	const struct lot *lot;
	char name[64];
	struct facts facts; /* what the ledger said when it began */
	uint64_t word;
	unsigned access;
	int64_t asked; /* when */
	struct shmb_region *region;
	bool watched, removed; /* removed: the broker says so */
	/* What the watch told. */
	_Atomic uint64_t sequence, size;
	_Atomic bool told_removed;
	int64_t behind; /* since when it has not told what is; 0: it has */
};

struct visits {
	struct keeper *keeper;
	struct player player; /* chance and faults, in the visitors' own thread */
	struct visit visits[VISITS];
};

struct visits *visits_new(struct keeper *keeper, uint64_t seed)
{
	struct visits *visits = calloc(1, sizeof(*visits));

	if (!visits)
		player_fail(&keeper->player, __FILE__, __LINE__, "no memory");
	visits->keeper = keeper;
	visits->player = keeper->player;
	visits->player.random = (seed ^ UINT64_C(0x5851f42d4c957f2d)) | 1;
	for (unsigned i = 0; i < VISITS; i++)
		visits->visits[i].all = visits;
	return visits;
}

void visits_free(struct visits *visits)
{
	free(visits);
}

bool visits_are_over(const struct visits *visits)
{
	return atomic_load(&visits->player.control->stop) != 0;
}

/* ---- Opening ---- */

static void opened(struct visit *visit, int status, struct shmb_region *region)
{
	struct player *player = &visit->all->player;
	bool same = atomic_load(&visit->lot->state) == visit->word;

	RULE(player, status == 0 || (status == SHMB_ENOENT && !same), "open %s: %s", visit->name,
	     storm_result(status));
	visit->region = region;
	atomic_store(&visit->phase, status == 0 ? PHASE_OPEN : PHASE_NONE);
}

static void on_opened(int status, struct shmb_region *region, void *userdata)
{
	opened(userdata, status, region);
}

static void begin(struct visit *visit)
{
	static const unsigned accesses[] = { SHMB_READ, SHMB_READ | SHMB_LOCK,
					     SHMB_READ | SHMB_WRITE };
	struct visits *visits = visit->all;
	struct player *player = &visits->player;
	unsigned place = player_random(player, KEEPERS), lot = player_random(player, LOTS_REGIONS);
	struct shmb_client *client = visits->keeper->client;
	struct shmb_region *region = NULL;
	int r;

	visit->lot = &visits->keeper->page->keepers[place].lots[lot];
	if (!lot_peek(visit->lot, &visit->facts, &visit->word) || !visit->facts.exists ||
	    visit->facts.lifetime != SHMB_PERSISTENT)
		return;
	keep_name(place, lot, visit->name);
	visit->access = accesses[player_random(player, 3)];
	visit->watched = visit->removed = false;
	visit->behind = 0;
	visit->asked = storm_now_us();
	atomic_store(&visit->told_removed, false);
	atomic_store(&visit->phase, PHASE_ASKED);
	if (player_chance(player, 2)) {
		r = shmb_region_open_async(client, visit->name, visit->access, NULL, on_opened,
					   visit);
		RULE(player, r == 0, "ask for %s: %s", visit->name, storm_result(r));
	} else {
		r = shmb_region_open(client, visit->name, visit->access, NULL, &region);
		opened(visit, r, region);
	}
}

static void leave(struct visit *visit)
{
	struct keeper *keeper = visit->all->keeper;

	/* No callback of it runs now. */
	(void)pthread_mutex_lock(&keeper->processing);
	visit->region = shmb_region_free(visit->region);
	atomic_store(&visit->phase, PHASE_NONE);
	(void)pthread_mutex_unlock(&keeper->processing);
	keep_tally(keeper, KEPT_VISITED);
}

/* ---- Looking ---- */

static void look_at_facts(struct visit *visit)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct player *player = &visit->all->player;
	const struct facts *facts = &visit->facts;
	bool same;
	int r;

	/* By handle, whatever has the name now. */
	r = shmb_region_info(visit->region, &info);
	same = atomic_load(&visit->lot->state) == visit->word;
	RULE(player, r == 0, "info of %s: %s", visit->name, storm_result(r));
	visit->removed = info.removed != 0;
	if (!same)
		return;
	RULE(player,
	     !info.removed && info.id == facts->id && info.size == facts->size &&
		     info.mode == facts->mode,
	     "%s: removed %d, id %llu size %llu mode %o, not id %llu size %llu mode %o",
	     visit->name, info.removed, (unsigned long long)info.id, (unsigned long long)info.size,
	     info.mode, (unsigned long long)facts->id, (unsigned long long)facts->size,
	     facts->mode);
}

static void look_under_lock(struct visit *visit)
{
	struct player *player = &visit->all->player;
	struct kept copy;
	char why[160];
	int r;

	if (!(visit->access & (SHMB_LOCK | SHMB_WRITE))) {
		r = shmb_region_snapshot(visit->region, 0, &copy, sizeof(copy));
		RULE(player, r == 0 || r == SHMB_EBUSY || r == SHMB_EOWNERDEAD,
		     "snapshot of %s: %s", visit->name, storm_result(r));
		if (r == 0)
			kept_check(visit->all->keeper, &copy, "snapshot");
		return;
	}
	r = shmb_region_lock(visit->region, SHMB_SHARED, KEEPER_TIMEOUT_MS);
	/* Whoever wrote it died, and his heir has not come yet. */
	RULE(player, r == 0 || r == SHMB_EOWNERDEAD, "lock %s: %s", visit->name,
	     keep_why(visit->all->keeper, r, why));
	if (r != 0)
		return;
	kept_check(visit->all->keeper, shmb_region_data(visit->region), "visited");
	r = shmb_region_unlock(visit->region);
	RULE(player, r == 0, "unlock %s: %s", visit->name, storm_result(r));
}

static void wait_for_news(struct visit *visit)
{
	struct player *player = &visit->all->player;
	uint64_t seen = shmb_region_sequence(visit->region);
	struct shmb_publication news;
	int r = shmb_region_wait(visit->region, seen, (int)player_random(player, 10), &news);

	RULE(player, r == SHMB_ETIMEDOUT || (r == 0 && news.sequence > seen), "wait for %s: %s",
	     visit->name, storm_result(r));
}

/* ---- Watching ---- */

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct visit *visit = userdata;
	struct player *player = &visit->all->player;

	RULE(player, !(event->types & SHMB_EVENT_DISCONNECTED), "%s: the watch says disconnected",
	     visit->name);
	RULE(player, event->sequence <= shmb_region_sequence(region),
	     "%s: told publish %llu, there are %llu", visit->name,
	     (unsigned long long)event->sequence, (unsigned long long)shmb_region_sequence(region));
	atomic_store(&visit->sequence, event->sequence);
	atomic_store(&visit->size, event->size);
	if (event->types & SHMB_EVENT_REMOVED)
		atomic_store(&visit->told_removed, true);
	keep_tally(visit->all->keeper, KEPT_TOLD);
}

static void watch(struct visit *visit)
{
	uint64_t seen = shmb_region_sequence(visit->region);
	int r;

	atomic_store(&visit->sequence, seen);
	atomic_store(&visit->size, shmb_region_size(visit->region));
	r = shmb_region_watch(visit->region,
			      SHMB_EVENT_PUBLISHED | SHMB_EVENT_RESIZED | SHMB_EVENT_REMOVED, seen,
			      on_event, visit);
	RULE(&visit->all->player, r == 0, "watch %s: %s", visit->name, storm_result(r));
	visit->watched = true;
}

/* Told late is told; not at all is not. */
static void check_told(struct visit *visit)
{
	struct player *player = &visit->all->player;
	uint64_t sequence = atomic_load(&visit->sequence), size = atomic_load(&visit->size);
	int64_t now = storm_now_us();

	if (!visit->watched)
		return;
	if (sequence == shmb_region_sequence(visit->region) &&
	    size == shmb_region_size(visit->region) &&
	    (!visit->removed || atomic_load(&visit->told_removed))) {
		visit->behind = 0;
	} else if (visit->behind == 0) {
		visit->behind = now;
	} else {
		RULE(player, now - visit->behind < (int64_t)LATE_US * harness_slow(),
		     "%s: told publish %llu of %llu, %llu bytes of %llu, removed %d", visit->name,
		     (unsigned long long)sequence,
		     (unsigned long long)shmb_region_sequence(visit->region),
		     (unsigned long long)size, (unsigned long long)shmb_region_size(visit->region),
		     visit->removed && atomic_load(&visit->told_removed));
	}
}

/* ---- One step ---- */

static void process(struct visits *visits)
{
	struct pollfd ready = { .fd = shmb_client_get_fd(visits->keeper->client),
				.events = POLLIN };
	int r;

	(void)poll(&ready, 1, (int)player_random(&visits->player, 3));
	r = keeper_process(visits->keeper);
	RULE(&visits->player, r >= 0, "process: %s", storm_result(r));
}

static void play_open(struct visit *visit)
{
	struct player *player = &visit->all->player;

	switch (player_random(player, 8)) {
	case 0:
		look_at_facts(visit);
		break;
	case 1:
	case 2:
		look_under_lock(visit);
		break;
	case 3:
		wait_for_news(visit);
		break;
	case 4:
		if (!visit->watched)
			watch(visit);
		break;
	case 5:
		/* What is behind is not let go: it has to come. */
		if (player_chance(player, 4) && visit->behind == 0)
			leave(visit);
		break;
	default:
		break;
	}
}

void visits_play(struct visits *visits)
{
	struct visit *visit = &visits->visits[player_random(&visits->player, VISITS)];

	process(visits);
	switch ((enum phase)atomic_load(&visit->phase)) {
	case PHASE_NONE:
		begin(visit);
		break;
	case PHASE_ASKED:
		RULE(&visits->player, storm_now_us() - visit->asked < (int64_t)IN_FLIGHT_US,
		     "%s: no answer", visit->name);
		break;
	case PHASE_OPEN:
		play_open(visit);
		break;
	}
	for (unsigned i = 0; i < VISITS; i++)
		if (atomic_load(&visits->visits[i].phase) == PHASE_OPEN &&
		    visits->visits[i].watched)
			check_told(&visits->visits[i]);
}

static bool is_settled(const struct visit *visit)
{
	return atomic_load(&visit->phase) == PHASE_NONE ||
	       (atomic_load(&visit->phase) == PHASE_OPEN && visit->behind == 0);
}

void visits_leave(struct visits *visits)
{
	int64_t patience = storm_now_us() + (int64_t)LATE_US * harness_slow();

	for (unsigned i = 0; i < VISITS; i++) {
		struct visit *visit = &visits->visits[i];

		while (!is_settled(visit)) {
			process(visits);
			if (atomic_load(&visit->phase) == PHASE_OPEN)
				check_told(visit);
			RULE(&visits->player, storm_now_us() < patience, "%s: no answer",
			     visit->name);
		}
		if (atomic_load(&visit->phase) == PHASE_OPEN)
			leave(visit);
	}
}
