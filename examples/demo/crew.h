/* SPDX-License-Identifier: MIT */
#ifndef DEMO_CREW_H
#define DEMO_CREW_H

/* The driver's three processes. Every wait for one of them is bounded. */

#include <sys/types.h>

#include "demo.h"

enum { CREW_SIZE = 1 + DEMO_RECEIVERS, CREW_PUBLISHER = 0, CREW_RECEIVER = 1 };

struct member {
	const char *title;
	pid_t pid;
	int orders;
	bool busy; /* a report is due */
};

struct crew {
	struct member members[CREW_SIZE];
};

/* Called while waiting. Return: bytes passed on so far, so that a standstill is noticed. */
typedef uint64_t (*crew_progress_fn)(void *userdata);

/* crew_start() - start all; crew_end() whatever it returns */
int crew_start(struct crew *crew, const char *file, uint64_t size);

/* crew_order() - to one member */
int crew_order(struct crew *crew, int index, const struct demo_order *order);

/*
 * crew_collect() - wait for the reports of all who are busy
 * @progress:    may be NULL
 * @ret_reports: CREW_SIZE of them; those of busy members are set
 *
 * Prints what happened, on stderr, if a member failed, died or stands still.
 */
int crew_collect(struct crew *crew, crew_progress_fn progress, void *userdata,
		 struct demo_report *ret_reports);

/* crew_end() - let all go, or kill those who do not, and wait for them */
void crew_end(struct crew *crew, bool kill_them);

/* crew_wait() - wait for a child, kill it after @timeout_ms. Return: its status, or -1. */
int crew_wait(pid_t pid, int timeout_ms);

#endif
