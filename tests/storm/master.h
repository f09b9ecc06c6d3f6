/* SPDX-License-Identifier: MIT */
#ifndef STORM_MASTER_H
#define STORM_MASTER_H

/* The master's own: who plays at this moment, and what is to be there when nobody does. */

#include "harness.h"
#include "storm.h"

enum { GAUGES = 10 };

struct place {
	pid_t pid; /* 0: free */
	bool stopped;
	int64_t goes_on; /* when a stopped one is to be continued */
};

struct storm {
	struct broker *broker;
	struct storm_control *control;
	struct place places[STORM_WORKERS];
	struct player master;
	struct kit kit;
	struct watchdog *watchdog;
	uint64_t seed;
	uint64_t gauges[GAUGES]; /* of the broker, before anybody came */
	uint32_t life;
	unsigned n_clients; /* of the one process, without kills */
	unsigned n_workers; /* places in use */
	bool slow_deaths;   /* the dead are not repaired at once: waits may be long */
	uint64_t kills, rounds;
	int64_t looked;      /* when the watchdog did */
	int64_t turned;      /* when the master last had its turn; 0: not in this round */
	bool paused;         /* this round it did not have it for long: the machine stood still */
	uint64_t long_waits; /* before this round */
	/* Of the counting semaphore, this round: what is in the ledgers of all, and may be besides.
	 */
	int64_t balance, may_lack, may_exceed;
};

/* storm_setting() - a number out of the environment */
uint64_t storm_setting(const char *name, uint64_t otherwise);

/* storm_begin() - makes control page and objects; storm_end() lets go of them */
void storm_begin(struct storm *storm, struct broker *broker);
void storm_end(struct storm *storm);

/* storm_start_worker() - one process, as the workers @first to @first + @n_clients - 1 */
void storm_start_worker(struct storm *storm, unsigned first, unsigned n_clients,
			unsigned n_players);

/* storm_turn() - lets some milliseconds pass, takes notice of who has ended, and looks whether all
 * is well. storm_check_fault(): has anybody complained? */
void storm_turn(struct storm *storm);
void storm_check_fault(const struct storm *storm);

void storm_kill_somebody(struct storm *storm);
void storm_stop_somebody(struct storm *storm); /* who goes on by itself later */

/* storm_calm_down() - for longer than anybody sleeps without a wake-up, everybody waits for as long
 * as it takes */
void storm_calm_down(struct storm *storm);

/* storm_end_workers() - the end of a round: half of the rounds end with the death of all */
void storm_end_workers(struct storm *storm);

/* storm_settle_ledgers() - what a worker that ended had of the counting semaphore */
void storm_settle_ledgers(struct storm *storm, struct storm_worker_record *worker);

/* take_gauges() - the broker's figures that go back to what they were when all have gone */
void take_gauges(const struct storm *storm, uint64_t *ret_gauges);

/* storm_figure() - one of the broker's figures; UINT64_MAX: it has none of that name */
uint64_t storm_figure(const struct storm *storm, const char *name);

/* ending_settle() - nobody is left: waits for the broker to know it, and looks at everything */
void ending_settle(struct storm *storm);

/* ending_tell() - what happened so far */
void ending_tell(const struct storm *storm);

/* ending_check() - these have happened at all */
void ending_check(const struct storm *storm, const enum storm_tally *tallies, size_t n);

#endif
