/* SPDX-License-Identifier: MIT */
/*
 * What the keeper waits for: the broker's word, its end, and shmbctl's. Starts nothing, and takes
 * no decision but the last one, SIGKILL.
 */

#include "run.h"

#include <poll.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SLOW_MS = 10000, /* an orderly shutdown may take long where there is much memory to free */
	KILL_MS = 60000, /* but not for ever: others may be waiting for us */
};

/* What a look around found, ored. */
enum { SAW_ENDED = 1, SAW_READY = 2 };

static unsigned look(struct run_watch *watch, int timeout_ms)
{
	struct pollfd fds[] = {
		{ .fd = watch->signals, .events = POLLIN },
		{ .fd = watch->home->notifier, .events = POLLIN },
		{ .fd = watch->done ? -1 : watch->lifeline, .events = POLLIN },
	};
	struct signalfd_siginfo info;
	unsigned saw = 0;

	if (poll(fds, 3, timeout_ms) < 0)
		return 0;
	if (fds[2].revents != 0) {
		watch->done = true;
		run_home_unlisten(watch->home); /* there will be no further broker */
	}
	/* Also when the broker has ended: what it gave away before that is already in the queue,
	 * and its number is its own until waitpid(). */
	if ((fds[0].revents != 0 || fds[1].revents != 0) &&
	    run_notify_serve(watch->home->notifier, watch->pid, watch->store))
		saw |= SAW_READY;
	if (fds[0].revents != 0 && read(watch->signals, &info, sizeof(info)) > 0 &&
	    watch->pid > 0 && waitpid(watch->pid, &watch->status, WNOHANG) == watch->pid) {
		watch->pid = 0;
		saw |= SAW_ENDED;
	}
	return saw;
}

static int timeout_until(int64_t deadline_ms)
{
	int64_t left = deadline_ms - cli_now_ms();

	return left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
}

enum run_start run_watch_start(struct run_watch *watch, int64_t deadline_ms)
{
	for (;;) {
		int timeout = timeout_until(deadline_ms);
		unsigned saw = look(watch, timeout);

		if ((saw & SAW_ENDED) != 0)
			return RUN_ENDED;
		if ((saw & SAW_READY) != 0)
			return RUN_READY;
		if (watch->done)
			return RUN_DONE;
		if (timeout == 0)
			return RUN_LATE;
	}
}

void run_watch_end(struct run_watch *watch, bool leaving)
{
	int64_t since = cli_now_ms(), elapsed;
	bool told = false;

	while (!leaving && !watch->done) {
		if ((look(watch, -1) & SAW_ENDED) != 0)
			return;
		since = cli_now_ms();
	}
	do {
		elapsed = cli_now_ms() - since;
		if (elapsed >= KILL_MS) {
			kill(watch->pid, SIGKILL);
		} else if (elapsed >= SLOW_MS && !told) {
			fprintf(stderr,
				"shmbctl: run: still waiting for the broker (process %ld)\n",
				(long)watch->pid);
			told = true;
		}
	} while ((look(watch, elapsed < KILL_MS ? 1000 : -1) & SAW_ENDED) == 0);
}

void run_watch_pause(struct run_watch *watch, int64_t deadline_ms)
{
	while (!watch->done) {
		int timeout = deadline_ms < 0 ? -1 : timeout_until(deadline_ms);

		look(watch, timeout);
		if (timeout == 0)
			return;
	}
}
