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
	uint64_t kills, rounds;
	int64_t looked;      /* when the watchdog did */
	int64_t turned;      /* when the master last had its turn; 0: not in this round */
	bool paused;         /* this round it did not have it for long: the machine stood still */
	uint64_t long_waits; /* before this round */
	/* Of the counting semaphore, this round: what is in the ledgers of all, and may be besides.
	 */
	int64_t balance, may_lack, may_exceed;
};

/* take_gauges() - the broker's figures that go back to what they were when all have gone */
void take_gauges(const struct storm *storm, uint64_t *ret_gauges);

/* ending_settle() - nobody is left: waits for the broker to know it, and looks at everything */
void ending_settle(struct storm *storm);

/* ending_tell() - what happened so far */
void ending_tell(const struct storm *storm);

/* ending_check() - these have happened at all */
void ending_check(const struct storm *storm, const enum storm_tally *tallies, size_t n);

#endif
