/* SPDX-License-Identifier: MIT */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

/* A line on the terminal about a transfer that takes long. */

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool enabled;     /* stderr is a terminal and the user wants it */
	bool shown;       /* there is a line on the terminal */
	uint64_t total;   /* bytes; 0: not known */
	int64_t start_ms; /* monotonic */
	int64_t next_ms;  /* when the line is due again */
};

/* progress_init() - begin; @wanted false: never show anything */
void progress_init(struct progress *progress, uint64_t total, bool wanted);

/* progress_update() - so many bytes are done */
void progress_update(struct progress *progress, uint64_t done);

/* progress_clear() - take the line away, before anything else is printed */
void progress_clear(struct progress *progress);

#endif
