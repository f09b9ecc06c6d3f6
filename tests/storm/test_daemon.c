/* SPDX-License-Identifier: MIT */
/*
 * The storm against the daemon: it is killed again and again, and its clients do not notice.
 *
 * Round by round: workers (see storm.h) and keepers (see keep.h) do everything at random, the
 * warden kills, stops and ends the daemon, the master kills, stops and replaces clients. Then the
 * daemon is left alone, half of the rounds end with the death of all clients, and heirs settle what
 * is left: the ledgers have to be right, everything free, and nothing left over.
 *
 * No call may fail, not even by its time-out, which is a minute, but for what clients do to each
 * other: a visitor finds nothing under a name whose owner has changed it meanwhile, or is told that
 * an owner died, or that a writer is at it (a snapshot); of a name that all try to make all but one
 * hear that it exists; and a broker of several users asks who resizes again and again to wait.
 *
 * STORM_SEED, STORM_KILLS (of the daemon) and STORM_SECONDS are as for the other storm. With
 * STORM_SPARE=1 the daemon is not killed, and STORM_KILLS are rounds: who errs then is the storm.
 * STORM_ABRUPT=1: see keeper.c.
 */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keep.h"
#include "master.h"
#include "warden.h"

enum {
	ROUND_KILLS = 50,
	ROUND_ALARM_S = 240,
	WORKERS = 7,
	THREADS = 3,
	END_US = 60000000,
	CLIENT_KILL_TURNS = 6, /* one client is killed in so many of the master's turns */
};

struct tempest {
	struct storm storm;
	struct warden warden;
	struct keep_page *page;
	pid_t keepers[KEEPERS]; /* 0: none in that place */
	unsigned fds;           /* of the daemon when nothing happens */
	uint64_t keepers_killed;
	bool spared; /* the daemon is not killed: who errs then is the storm */
};

/* ---- Keepers ---- */

static void start_keeper(struct tempest *tempest, unsigned place)
{
	struct keeper_record *record = &tempest->page->keepers[place];
	uint64_t seed = tempest->storm.seed + ++tempest->storm.life * UINT64_C(0x94d049bb133111eb);

	atomic_store(&record->doomed, 0);
	atomic_store(&record->life, tempest->storm.life);
	fflush(NULL);
	tempest->keepers[place] = SYS(fork());
	if (tempest->keepers[place] != 0)
		return;
	alarm(0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)close_range(3, ~0U, 0);
	keeper_run(tempest->storm.control, tempest->page, tempest->storm.broker->socket, place,
		   seed);
	_exit(0);
}

static void keeper_ended(struct tempest *tempest, unsigned place, int status)
{
	struct keeper_record *record = &tempest->page->keepers[place];
	bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
		      atomic_load(&record->doomed) != 0;
	bool over =
		WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
		(atomic_load(&tempest->storm.control->stop) || atomic_load(&tempest->page->clear));

	if (!killed && !over) {
		print_error("keeper %u, process %d, life %x, ended with status %x\n", place,
			    (int)tempest->keepers[place], atomic_load(&record->life),
			    (unsigned)status);
		storm_check_fault(&tempest->storm);
		FAIL("a keeper ended by itself");
	}
	tempest->keepers_killed += killed;
	tempest->keepers[place] = 0;
}

/* Return: how many there are still. */
static unsigned reap_keepers(struct tempest *tempest)
{
	unsigned n = 0;
	int status;

	for (unsigned i = 0; i < KEEPERS; i++) {
		pid_t pid = tempest->keepers[i];

		if (pid && waitpid(pid, &status, WNOHANG) == pid)
			keeper_ended(tempest, i, status);
		n += tempest->keepers[i] != 0;
	}
	return n;
}

static void doom_keeper(struct tempest *tempest, unsigned place)
{
	if (!tempest->keepers[place])
		return;
	atomic_store(&tempest->page->keepers[place].doomed, 1);
	(void)kill(tempest->keepers[place], SIGKILL);
}

/* ---- A round ---- */

static void turn(struct tempest *tempest)
{
	storm_turn(&tempest->storm);
	warden_check(&tempest->warden);
	(void)reap_keepers(tempest);
}

static void fill_places(struct tempest *tempest)
{
	struct storm *storm = &tempest->storm;

	for (unsigned i = 0; i < storm->n_workers; i++)
		if (!storm->places[i].pid)
			storm_start_worker(storm, i, 1,
					   player_chance(&storm->master, 3) ? THREADS : 1);
	for (unsigned i = 0; i < KEEPERS; i++)
		if (!tempest->keepers[i])
			start_keeper(tempest, i);
}

static void strike(struct tempest *tempest)
{
	struct storm *storm = &tempest->storm;

	if (!player_chance(&storm->master, CLIENT_KILL_TURNS))
		return;
	if (player_chance(&storm->master, 4))
		storm_stop_somebody(storm);
	else if (player_chance(&storm->master, 3))
		doom_keeper(tempest, player_random(&storm->master, KEEPERS));
	else
		storm_kill_somebody(storm);
}

static void end_keepers(struct tempest *tempest)
{
	int64_t patience = storm_now_us() + (int64_t)END_US * harness_slow();

	while (reap_keepers(tempest) > 0) {
		turn(tempest);
		if (storm_now_us() > patience)
			FAIL("a keeper does not end (seed %llu)",
			     (unsigned long long)tempest->storm.seed);
	}
}

/* Everybody goes, or dies. */
static void end_clients(struct tempest *tempest)
{
	for (unsigned i = 0; tempest->storm.rounds % 2 && i < KEEPERS; i++)
		doom_keeper(tempest, i);
	storm_end_workers(&tempest->storm);
	atomic_store(&tempest->storm.control->stop, 1);
	end_keepers(tempest);
	atomic_store(&tempest->storm.control->stop, 0);
}

/* Heirs look at all that was kept, and remove it. */
static void settle_estates(struct tempest *tempest)
{
	atomic_store(&tempest->page->clear, 1);
	for (unsigned i = 0; i < KEEPERS; i++)
		start_keeper(tempest, i);
	end_keepers(tempest);
	atomic_store(&tempest->page->clear, 0);
}

static unsigned fds_of_daemon(const struct tempest *tempest)
{
	return fd_count(atomic_load(&tempest->warden.page->pid));
}

/* Nothing is left in the daemon, nor in the store. */
static void settle_figures(struct tempest *tempest)
{
	struct storm *storm = &tempest->storm;
	int64_t patience = storm_now_us() + (int64_t)10000000 * harness_slow();

	UNTIL(storm->broker, storm_figure(storm, "away") == 0);
	UNTIL(storm->broker,
	      storm_figure(storm, "stored_fds") == atomic_load(&tempest->warden.page->stored));
	/* Less, when it no longer has at hand what was used last. */
	while (fds_of_daemon(tempest) > tempest->fds) {
		broker_turn(storm->broker);
		if (storm_now_us() > patience)
			FAIL("the daemon has %u descriptors, at the beginning %u",
			     fds_of_daemon(tempest), tempest->fds);
	}
}

static void settle(struct tempest *tempest)
{
	settle_estates(tempest);
	ending_settle(&tempest->storm);
	settle_figures(tempest);
}

static void tell_all(const struct tempest *tempest)
{
	static const char *const names[KEPT_TALLIES] = {
		"made",  "removed", "written", "resized", "visited",   "told",     "late",
		"races", "listed",  "counted", "left",    "inherited", "undecided"
	};
	const struct warden_page *page = tempest->warden.page;

	ending_tell(&tempest->storm);
	printf("  the daemon: %llu kills (%llu before it was ready, %llu while stopped), %llu "
	       "stops, %llu ends, %llu descriptors stored, ready within %lld ms\n",
	       (unsigned long long)atomic_load(&page->kills),
	       (unsigned long long)atomic_load(&page->early),
	       (unsigned long long)atomic_load(&page->frozen),
	       (unsigned long long)atomic_load(&page->stops),
	       (unsigned long long)atomic_load(&page->ends),
	       (unsigned long long)atomic_load(&page->kept),
	       (long long)atomic_load(&page->longest_us) / 1000);
	printf("  keepers: %llu killed", (unsigned long long)tempest->keepers_killed);
	for (unsigned i = 0; i < KEPT_TALLIES; i++)
		printf(", %s %llu", names[i],
		       (unsigned long long)atomic_load(&tempest->page->tallies[i]));
	printf("\n");
}

static bool is_enough(const struct tempest *tempest, uint64_t kills)
{
	const struct storm *storm = &tempest->storm;

	if (tempest->spared)
		return storm->kills >= (storm->rounds + 1) * ROUND_KILLS;
	return atomic_load(&tempest->warden.page->kills) >= kills;
}

static void play_round(struct tempest *tempest, uint64_t kills)
{
	uint64_t enough = atomic_load(&tempest->warden.page->kills) + kills;

	alarm(ROUND_ALARM_S * harness_slow());
	warden_order(&tempest->warden, tempest->spared ? WARDEN_REST : WARDEN_RAGE);
	while (!is_enough(tempest, enough)) {
		fill_places(tempest);
		turn(tempest);
		strike(tempest);
	}
	/* Everybody has to come to an end while the daemon is killed, too. */
	if (tempest->storm.rounds % 4 == 1)
		storm_calm_down(&tempest->storm);
	end_clients(tempest);
	warden_order(&tempest->warden, WARDEN_REST);
	settle(tempest);
	tempest->storm.rounds++;
}

/* ---- Cases ---- */

static void begin(struct tempest *tempest, struct broker *broker, bool system)
{
	struct storm *storm = &tempest->storm;
	long pid;

	memset(tempest, 0, sizeof(*tempest));
	tempest->page = mmap(NULL, sizeof(*tempest->page), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(tempest->page != MAP_FAILED);
	warden_begin(&tempest->warden, broker, system,
		     storm_setting("STORM_SEED", (uint64_t)storm_now_us()));
	CHECK(broker_lock_read(broker, &pid, broker->instance));
	storm_begin(storm, broker);
	storm->n_workers = WORKERS;
	tempest->spared = storm_setting("STORM_SPARE", 0) != 0;
	storm->slow_deaths = true;
	storm->control->mortal = true;
	tempest->fds = fds_of_daemon(tempest);
}

static void end(struct tempest *tempest)
{
	struct broker *broker = tempest->storm.broker;

	storm_end(&tempest->storm);
	warden_end(&tempest->warden, broker);
	SYS(munmap(tempest->page, sizeof(*tempest->page)));
	CHECK_INT(broker_shm_count(broker), 0);
	CHECK(access(broker_path(broker, "manifest"), F_OK) != 0);
	CHECK(access(broker_path(broker, "manifest.new"), F_OK) != 0);
}

static uint64_t progress(const struct tempest *tempest)
{
	return tempest->spared ? tempest->storm.rounds : atomic_load(&tempest->warden.page->kills);
}

static void play(struct broker *broker, bool system)
{
	static const enum storm_tally expected[] = { TALLY_TABLE_WRITTEN, TALLY_TABLE_READ,
						     TALLY_LOCKED, TALLY_TAKEN, TALLY_COUNTED };
	uint64_t kills = storm_setting("STORM_KILLS", 100), left;
	int64_t seconds = (int64_t)storm_setting("STORM_SECONDS", 0), begun = storm_now_us();
	static struct tempest tempest;

	begin(&tempest, broker, system);
	while (progress(&tempest) < kills || storm_now_us() - begun < seconds * 1000000) {
		left = kills > progress(&tempest) ? kills - progress(&tempest) : ROUND_KILLS;
		play_round(&tempest, left < ROUND_KILLS ? left : ROUND_KILLS);
		if (tempest.storm.rounds % 10 == 0)
			tell_all(&tempest);
	}
	tell_all(&tempest);
	ending_check(&tempest.storm, expected, sizeof(expected) / sizeof(expected[0]));
	for (unsigned i = 0; i < KEPT_UNDECIDED; i++)
		CHECK(atomic_load(&tempest.page->tallies[i]) > 0);
	end(&tempest);
}

/* Regions in /dev/shm, found again by their names. */
CASE(by_name, PRIVATE, .bare = true, .timeout_s = ROUND_ALARM_S)
{
	play(broker, false);
}

/* Regions of memfds, found again in the store. */
CASE(by_store, SYSTEM, .bare = true, .timeout_s = ROUND_ALARM_S)
{
	play(broker, true);
}
