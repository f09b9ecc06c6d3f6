/* SPDX-License-Identifier: MIT */
/*
 * A keeper's process: its sessions and threads, what it does next, what all keepers fight for, and
 * what lists say.
 */

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep.h"
#include "master.h"

/* ---- Lists ---- */

struct listing {
	struct keeper *keeper;
	enum lot_kind kind;
	bool alive, seen[LOTS];
	char last[SHMB_NAME_MAX + 1];
};

static unsigned find(struct listing *listing, const char *name)
{
	struct keeper *keeper = listing->keeper;
	char own[64];

	for (unsigned lot = 0; lot < LOTS; lot++)
		if (strcmp(name, keep_name(keeper->place, lot, own)) == 0)
			return lot;
	(void)snprintf(own, sizeof(own), "keep/%u/alive.%u", keeper->place,
		       atomic_load(&keeper->record->life));
	RULE(&keeper->player, strcmp(name, own) == 0 && !listing->alive, "%s is listed", name);
	listing->alive = true;
	return LOTS;
}

static void see(struct listing *listing, const char *name, uint64_t id)
{
	struct keeper *keeper = listing->keeper;
	unsigned lot = find(listing, name);
	struct facts held;

	RULE(&keeper->player, strcmp(listing->last, name) < 0, "%s is listed after %s", name,
	     listing->last);
	(void)snprintf(listing->last, sizeof(listing->last), "%s", name);
	if (lot == LOTS)
		return;
	held = lot_facts(&keeper->record->lots[lot]);
	RULE(&keeper->player, held.exists && held.id == id, "%s is listed, as %llu, not %llu", name,
	     (unsigned long long)id, (unsigned long long)held.id);
	listing->seen[lot] = true;
}

static int see_region(const struct shmb_region_info *info, void *userdata)
{
	see(userdata, info->name, info->id);
	return 0;
}

static int see_semaphore(const struct shmb_semaphore_info *info, void *userdata)
{
	see(userdata, info->name, info->id);
	return 0;
}

static void all_seen(const struct listing *listing, bool semaphores)
{
	for (unsigned lot = 0; lot < LOTS; lot++) {
		bool is_there = lot_facts(&listing->keeper->record->lots[lot]).exists != 0;
		bool asked =
			semaphores ? lot_kind(lot) >= LOT_COUNTING : lot_kind(lot) == LOT_REGION;

		RULE(&listing->keeper->player, !asked || is_there == listing->seen[lot],
		     "lot %u is %slisted", lot, is_there ? "not " : "");
	}
}

void lots_list(struct keeper *keeper)
{
	struct listing regions = { .keeper = keeper }, semaphores = { .keeper = keeper };
	char prefix[32];

	(void)snprintf(prefix, sizeof(prefix), "keep/%u/", keeper->place);
	KEEP(keeper, shmb_region_list(keeper->client, prefix, see_region, &regions));
	all_seen(&regions, false);
	RULE(&keeper->player, regions.alive, "this very keeper is not listed");
	KEEP(keeper, shmb_semaphore_list(keeper->client, prefix, see_semaphore, &semaphores));
	all_seen(&semaphores, true);
	keep_tally(keeper, KEPT_LISTED);
}

/* ---- Races: a name is made by one ---- */

static const char *race_name(unsigned race, char buffer[32])
{
	(void)snprintf(buffer, 32, "race/%u", race);
	return buffer;
}

/* So that the region tells who made it. */
static uint32_t race_mode(const struct keeper *keeper)
{
	return 0701 + keeper->place;
}

static void let_go(struct keeper *keeper, unsigned race, uint64_t name)
{
	char text[32];

	RULE(&keeper->player, atomic_compare_exchange_strong(&keeper->page->races[race], &name, 0),
	     "%s is %llx's, too", race_name(race, text), (unsigned long long)name);
	KEEP(keeper, shmb_region_remove(keeper->client, race_name(race, text)));
}

/* Did this place make it? Return: false, if there is none, or another's. */
static bool is_mine(struct keeper *keeper, unsigned race)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	char name[32];
	int r = shmb_region_stat(keeper->client, race_name(race, name), &info);

	RULE(&keeper->player, r == 0 || r == SHMB_ENOENT, "stat %s: %s", name, storm_result(r));
	return r == 0 && info.mode == race_mode(keeper);
}

static void run(struct keeper *keeper, unsigned race)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	uint64_t nobody = 0;
	char name[32];
	int r;

	options.lifetime = SHMB_PERSISTENT;
	options.mode = race_mode(keeper);
	r = shmb_region_create(keeper->client, race_name(race, name), KEPT_PAGE, &options, &region);
	if (r == 0) {
		RULE(&keeper->player,
		     atomic_compare_exchange_strong(&keeper->page->races[race], &nobody,
						    keeper->player.name),
		     "%s is %llx's, too", name, (unsigned long long)nobody);
		shmb_region_free(region);
		keep_tally(keeper, KEPT_RACES);
		return;
	}
	RULE(&keeper->player, r == SHMB_EEXIST, "make %s: %s", name, storm_result(r));
	RULE(&keeper->player, !is_mine(keeper, race), "made %s, and was told that there is one",
	     name);
}

void races_play(struct keeper *keeper)
{
	unsigned race = player_random(&keeper->player, RACES);

	if (atomic_load(&keeper->page->races[race]) == keeper->player.name)
		let_go(keeper, race, keeper->player.name);
	else
		run(keeper, race);
}

/* Those of who was in this place before, who may have died before he could say that he won, or
 * after he said that he let go. */
void races_settle(struct keeper *keeper)
{
	for (unsigned race = 0; race < RACES; race++) {
		uint64_t winner = atomic_load(&keeper->page->races[race]);

		if (winner != 0 && (winner >> 8 & 0xff) != keeper->place)
			winner = 0;
		if (is_mine(keeper, race))
			let_go(keeper, race, winner);
		else
			RULE(&keeper->player, winner == 0, "race/%u is lost", race);
	}
}

/* ---- A session that ends while its process lives ---- */

static struct shmb_client *connect_client(struct keeper *keeper)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client;

	options.timeout_ms = KEEPER_TIMEOUT_MS;
	options.name = "keeper";
	if (player_chance(&keeper->player, 2))
		options.spin_us = 0;
	KEEP(keeper, shmb_client_connect(keeper->player.address, &options, &client));
	return client;
}

/*
 * The other session makes this and holds that, and lets go: all of it has to go, and come back, and
 * the session ends. STORM_ABRUPT=1: without a ping before, so that its end and the daemon's meet.
 * That fails if a daemon stands still for longer than a client waits to be let go, and then dies.
 */
static void leave_session(struct keeper *keeper)
{
	bool abrupt = storm_setting("STORM_ABRUPT", 0) != 0;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_region *region;
	unsigned lot = LOTS - 1;
	char name[64];

	(void)snprintf(name, sizeof(name), "leave/%u.%u", keeper->place,
		       atomic_load(&keeper->record->life));
	options.lifetime = abrupt ? SHMB_SESSION : SHMB_ATTACHED;
	KEEP(keeper, shmb_region_create(keeper->other, name, KEPT_PAGE, &options, &region));
	KEEP(keeper, shmb_region_lock(region, SHMB_EXCLUSIVE, KEEPER_TIMEOUT_MS));
	if (keeper->semaphores[lot] && keeper->permits[lot] < KEPT_PERMITS) {
		char own[64];

		KEEP(keeper, shmb_semaphore_open(keeper->other, keep_name(keeper->place, lot, own),
						 &semaphore));
		KEEP(keeper, shmb_semaphore_wait(semaphore, 0));
		estate_await_permits(keeper, lot, KEPT_PERMITS - keeper->permits[lot] - 1);
	}
	shmb_region_free(region);
	shmb_semaphore_free(semaphore);
	if (!abrupt)
		KEEP(keeper, shmb_client_ping(keeper->other));
	shmb_client_free(keeper->other);
	keeper->other = connect_client(keeper);
	estate_gone(keeper, LOT_REGION, name);
	if (semaphore)
		estate_await_permits(keeper, lot, KEPT_PERMITS - keeper->permits[lot]);
	keep_tally(keeper, KEPT_LEFT);
}

/* ---- The process ---- */

int keeper_process(struct keeper *keeper)
{
	int r;

	(void)pthread_mutex_lock(&keeper->processing);
	r = shmb_client_process(keeper->client);
	(void)pthread_mutex_unlock(&keeper->processing);
	return r;
}

static bool is_over(const struct keeper *keeper)
{
	return atomic_load(&keeper->player.control->stop) != 0;
}

static void *visit_all_day(void *argument)
{
	struct visits *visits = argument;

	while (!visits_are_over(visits))
		visits_play(visits);
	visits_leave(visits);
	return NULL;
}

static void play(struct keeper *keeper)
{
	if (player_chance(&keeper->player, 30))
		lots_list(keeper);
	else if (player_chance(&keeper->player, 8))
		races_play(keeper);
	else if (player_chance(&keeper->player, 15))
		leave_session(keeper);
	else
		lots_play(keeper, player_random(&keeper->player, LOTS));
}

static void work(struct keeper *keeper, uint64_t seed)
{
	struct visits *visits = visits_new(keeper, seed);
	bool two = player_chance(&keeper->player, 2);
	pthread_t thread;

	if (two && pthread_create(&thread, NULL, visit_all_day, visits) != 0)
		player_fail(&keeper->player, __FILE__, __LINE__, "no thread");
	while (!is_over(keeper)) {
		play(keeper);
		if (!two)
			visits_play(visits);
	}
	if (two)
		(void)pthread_join(thread, NULL);
	else
		visits_leave(visits);
	visits_free(visits);
}

#ifdef __SANITIZE_ADDRESS__
int __lsan_do_recoverable_leak_check(void);
#else
static int __lsan_do_recoverable_leak_check(void)
{
	return 0;
}
#endif

static void live(struct keeper *keeper, uint64_t seed)
{
	keeper->client = connect_client(keeper);
	keeper->other = connect_client(keeper);
	estate_take(keeper);
	if (atomic_load(&keeper->page->clear))
		estate_clear(keeper);
	else
		work(keeper, seed);
	for (unsigned lot = 0; lot < LOTS; lot++)
		lots_close(keeper, lot);
	shmb_region_free(keeper->alive);
	shmb_client_free(keeper->other);
	shmb_client_free(keeper->client);
}

void keeper_run(struct storm_control *control, struct keep_page *page, const char *address,
		unsigned place, uint64_t seed)
{
	static struct keeper keeper = { .processing = PTHREAD_MUTEX_INITIALIZER };
	unsigned fds = fd_count(getpid());

	keeper.page = page;
	keeper.place = place;
	keeper.record = &page->keepers[place];
	keeper.player.control = control;
	keeper.player.self = &keeper.record->player;
	keeper.player.address = address;
	keeper.player.random = seed | 1;
	keeper.player.name = storm_name(atomic_load(&keeper.record->life), place, 0);
	live(&keeper, seed);
	/* However often it came back, a client has left nothing. */
	RULE(&keeper.player, fd_count(getpid()) == fds, "%u descriptors, at the beginning %u",
	     fd_count(getpid()), fds);
	RULE(&keeper.player, __lsan_do_recoverable_leak_check() == 0, "leaked memory");
}
