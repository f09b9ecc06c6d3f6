/* SPDX-License-Identifier: MIT */
/*
 * The storm of clients: workers are killed, stopped and replaced, round by round, and when a round
 * is over and nobody is left, everything has to be there and free.
 *
 * STORM_SEED, STORM_KILLS and STORM_SECONDS in the environment say more than the defaults; with the
 * same seed the same is tried, though the processors will not interleave it in the same way.
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "master.h"

enum { ROUND_KILLS = 150, ROUND_ALARM_S = 120 };

static void play_round(struct storm *storm, uint64_t kills)
{
	uint64_t enough = storm->kills + kills;

	alarm(ROUND_ALARM_S * harness_slow());
	while (storm->kills < enough) {
		for (unsigned i = 0; i < STORM_WORKERS; i++)
			if (!storm->places[i].pid)
				storm_start_worker(storm, i, 1,
						   player_chance(&storm->master, 3) ? STORM_THREADS
										    : 1);
		storm_turn(storm);
		if (player_chance(&storm->master, 5))
			storm_stop_somebody(storm);
		else
			storm_kill_somebody(storm);
	}
	if (storm->rounds % 4 == 1)
		storm_calm_down(storm);
	storm_end_workers(storm);
	ending_settle(storm);
	storm->rounds++;
}

/* Processes, of one or several threads, killed all the time. */
CASE(kills, PRIVATE, .timeout_s = ROUND_ALARM_S)
{
	static const enum storm_tally expected[] = { TALLY_TABLE_WRITTEN, TALLY_TABLE_READ,
						     TALLY_REPAIRED,      TALLY_SNAPSHOTS,
						     TALLY_LOCKED,        TALLY_TAKEN,
						     TALLY_ADOPTED,       TALLY_COUNTED };
	uint64_t kills = storm_setting("STORM_KILLS", harness_slow() > 1 ? 150 : 750);
	int64_t seconds = (int64_t)storm_setting("STORM_SECONDS", 0);
	static struct storm storm;
	int64_t begun;

	storm_begin(&storm, broker);
	storm.control->mortal = true;
	begun = storm_now_us();
	while (storm.kills < kills || storm_now_us() - begun < seconds * 1000000) {
		uint64_t left = kills > storm.kills ? kills - storm.kills : ROUND_KILLS;

		play_round(&storm, left < ROUND_KILLS ? left : ROUND_KILLS);
		if (storm.rounds % 20 == 0)
			ending_tell(&storm);
	}
	ending_tell(&storm);
	ending_check(&storm, expected, sizeof(expected) / sizeof(expected[0]));
	storm_end(&storm);
}

/* One process, several clients, many threads, nobody dies: everything is counted exactly, and
 * ThreadSanitizer can look. */
CASE(threads, PRIVATE, .timeout_s = ROUND_ALARM_S)
{
	static const enum storm_tally expected[] = { TALLY_TABLE_WRITTEN, TALLY_TABLE_READ,
						     TALLY_LOCKED,        TALLY_TAKEN,
						     TALLY_ALONE,         TALLY_COUNTED };
	int64_t seconds = (int64_t)storm_setting("STORM_SECONDS", 2), end;
	static struct storm storm;

	storm_begin(&storm, broker);
	storm.n_clients = STORM_CLIENTS;
	storm_start_worker(&storm, 0, STORM_CLIENTS, STORM_THREADS);
	end = storm_now_us() + seconds * 1000000;
	while (storm_now_us() < end && storm.places[0].pid)
		storm_turn(&storm);
	storm_calm_down(&storm);
	storm_end_workers(&storm);
	for (unsigned i = 1; i < STORM_CLIENTS; i++)
		storm_settle_ledgers(&storm, &storm.control->workers[i]);
	ending_tell(&storm);
	ending_settle(&storm);
	ending_check(&storm, expected, sizeof(expected) / sizeof(expected[0]));
	storm_end(&storm);
}
