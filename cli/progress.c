/* SPDX-License-Identifier: MIT */
/*
 * A line on the terminal about a transfer that takes long: only on stderr, only if that is a
 * terminal, and only after half a second. Knows nothing of what is moved.
 */

#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"
#include "size.h"

enum { PROGRESS_DELAY_MS = 500, PROGRESS_INTERVAL_MS = 100, BAR_MIN = 8, BAR_MAX = 40 };

void progress_init(struct progress *progress, uint64_t total, bool wanted)
{
	*progress = (struct progress){
		.enabled = wanted && isatty(STDERR_FILENO) != 0,
		.total = total,
		.start_ms = cli_now_ms(),
	};
	progress->next_ms = progress->start_ms + PROGRESS_DELAY_MS;
}

/* Fills the rest of a line that has @used columns, of the terminal's 80 or what it says. */
static void print_bar(int used, double share)
{
	char bar[BAR_MAX + 1];
	struct winsize window;
	int columns = 80, width, full;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
		columns = window.ws_col;
	width = columns - used - 5; /* blanks, brackets, and the last column: no terminal wraps */
	if (width < BAR_MIN)
		return;
	if (width > BAR_MAX)
		width = BAR_MAX;
	full = share < 1 ? (int)(share * width) : width;
	memset(bar, ' ', sizeof(bar));
	memset(bar, '=', (size_t)full);
	if (full < width)
		bar[full] = '>';
	fprintf(stderr, "  [%.*s]", width, bar);
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

		int used;

		fputs("\r\033[K", stderr);
		used = fprintf(stderr, "%s of %s  %.0f %%  %s/s  %.0f s left", moved,
			       size_format(progress->total, total), share * 100, rate, left);
		print_bar(used, share);
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
