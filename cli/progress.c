/* SPDX-License-Identifier: MIT */
/*
 * A line on the terminal about a transfer that takes long: only on stderr, only if that is a
 * terminal, and only after half a second. Knows nothing of what is moved.
 */

#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "size.h"

enum { PROGRESS_DELAY_MS = 500, PROGRESS_INTERVAL_MS = 100 };

void progress_init(struct progress *progress, uint64_t total, bool wanted)
{
	*progress = (struct progress){
		.enabled = wanted && isatty(STDERR_FILENO) != 0,
		.total = total,
		.start_ms = cli_now_ms(),
	};
	progress->next_ms = progress->start_ms + PROGRESS_DELAY_MS;
}

void progress_update(struct progress *progress, uint64_t done)
{
	char moved[SIZE_TEXT], total[SIZE_TEXT], rate[SIZE_TEXT];
	int64_t now, elapsed;

	if (!progress->enabled)
		return;
	now = cli_now_ms();
	if (now < progress->next_ms)
		return;
	elapsed = now - progress->start_ms;
	size_format(done, moved);
	size_format((uint64_t)((double)done * 1000 / (double)elapsed), rate);
	if (progress->total == 0) {
		fprintf(stderr, "\r\033[K%s  %s/s", moved, rate);
	} else {
		double share = (double)done / (double)progress->total;
		double left = done == 0 ? 0 : (double)elapsed / 1000 * (1 / share - 1);

		fprintf(stderr, "\r\033[K%s of %s  %.0f %%  %s/s  %.0f s left", moved,
			size_format(progress->total, total), share * 100, rate, left);
	}
	fflush(stderr);
	progress->shown = true;
	progress->next_ms = now + PROGRESS_INTERVAL_MS;
}

void progress_clear(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}
