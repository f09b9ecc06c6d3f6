/* SPDX-License-Identifier: MIT */
#ifndef DEMO_SHOW_H
#define DEMO_SHOW_H

/* What the demo says, for somebody who has never seen it. */

#include "crew.h"
#include "file.h"

/* What was measured: median gigabytes per second to each receiver. */
struct speeds {
	double values[DEMO_CHECKS][DEMO_WAYS];
};

/* A bar on the last line, only if stdout is a terminal. */
struct bar {
	bool terminal;
	uint64_t total, done; /* bytes of all runs; of those that have ended */
	const char *text;
};

void show_opening(const struct file *file);
void show_crew(const struct crew *crew);

/* show_regions() - what `shmbctl ls` prints at this moment */
void show_regions(void);

void show_bar(const struct bar *bar, uint64_t now);
void clear_bar(const struct bar *bar);

void show_verified(const struct crew *crew, const struct file *file,
		   const struct demo_report *reports);
void show_speeds(const struct file *file, const struct speeds *speeds, int n_runs);
void show_accident_opening(void);
void show_locks(void); /* what `shmbctl locks` prints at this moment */
void show_accidents(const struct accidents *accidents);
void show_closing(void);

#endif
