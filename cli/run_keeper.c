/* SPDX-License-Identifier: MIT */
/*
 * The keeper: owns the broker and its directory, so that both go whatever happens to shmbctl. It
 * has a session of its own, no terminal, and no descriptor of the user's but stderr.
 */

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	STARTS_MAX = 10, /* that fail in a row: then no broker is started any more */
	/* Between an end and the next start. One that has served for a while is not one of a row.
	 */
	DELAY_MIN_MS = 10,
	DELAY_MAX_MS = 1000,
	SERVED_MS = 5000,
};

/* The broker, and what has become of those before it. */
struct kept {
	struct run_keeper *keeper;
	struct run_store store;
	struct run_watch watch;
	unsigned row; /* ends, one soon after the other */
};

/* ---- Becoming the keeper ---- */

static int compare_int(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* What the user has open (a lock file, the other end of somebody's pipe) is not ours to hold. */
static void close_other_fds(const struct run_keeper *keeper)
{
	int kept[] = { STDERR_FILENO,          keeper->home->fd, keeper->home->listener,
		       keeper->home->notifier, keeper->lifeline, keeper->report };
	size_t n = sizeof(kept) / sizeof(kept[0]);

	qsort(kept, n, sizeof(kept[0]), compare_int);
	for (size_t i = 0; i + 1 < n; i++)
		for (int fd = kept[i] + 1; fd < kept[i + 1]; fd++)
			close(fd);
	closefrom(kept[n - 1] + 1);
}

static void detach(const struct run_keeper *keeper)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid(); /* the terminal's signals are not for us */
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "shmbctl-keeper");
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	close_other_fds(keeper);
	/* the broker stays where it is, for the sake of relative paths in its options */
}

/* ---- Its end ---- */

static const char *describe_end(int status, char *buffer, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(buffer, size, "was killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(buffer, size, "ended with exit status %d", WEXITSTATUS(status));
	return buffer;
}

/* Whether another one would do better. 2, 3, 4 and 5 are its refusals, see shmbrokerd(8): usage,
 * configuration, somebody else's place, somebody newer's manifest. */
static bool may_restart(int status)
{
	return !WIFEXITED(status) || WEXITSTATUS(status) < 2 || WEXITSTATUS(status) > 5;
}

/* ---- Starting it ---- */

static bool start(struct kept *kept)
{
	struct run_keeper *keeper = kept->keeper;
	pid_t pid = run_broker_start(keeper->broker, keeper->home, keeper->home->listener,
				     keeper->lifeline, &kept->store);

	kept->watch.pid = pid > 0 ? pid : 0;
	return pid > 0;
}

static int64_t start_deadline(const struct run_keeper *keeper, int64_t since_ms)
{
	return since_ms +
	       (keeper->cli->timeout.given ? (int64_t)keeper->cli->timeout.value : 30000);
}

/* Return: whether the broker serves; else it has ended, and why was told. */
static bool start_first(struct kept *kept)
{
	struct run_keeper *keeper = kept->keeper;
	struct cli *cli = keeper->cli;
	char text[128];

	if (!start(kept)) {
		cli_fail_errno(cli, keeper->broker->path, errno);
		return false;
	}
	switch (run_watch_start(&kept->watch, start_deadline(keeper, keeper->start_ms))) {
	case RUN_READY:
		return true;
	case RUN_ENDED: /* nothing depends on it yet: one try is enough */
		cli_fail(cli, SHMB_ECONNREFUSED, NULL, "the broker %s before it was ready",
			 describe_end(kept->watch.status, text, sizeof(text)));
		return false;
	case RUN_LATE:
		cli_fail(cli, SHMB_ETIMEDOUT, NULL, "%s did not become ready in time",
			 keeper->broker->path);
		kill(kept->watch.pid, SIGTERM);
		break;
	case RUN_DONE: /* interrupted by the user: nothing to tell */
		break;
	}
	run_watch_end(&kept->watch, true);
	return false;
}

/* ---- Starting it again ---- */

static void pause_before_start(struct kept *kept)
{
	int64_t delay = DELAY_MIN_MS;

	if (kept->row++ == 0) /* a single crash costs nobody any time */
		return;
	for (unsigned i = 2; i < kept->row && delay < DELAY_MAX_MS; i++)
		delay *= 2;
	run_watch_pause(&kept->watch, cli_now_ms() + (delay < DELAY_MAX_MS ? delay : DELAY_MAX_MS));
}

/* One try. *@ret_final: there is no point in another one. */
static bool start_again(struct kept *kept, bool *ret_final)
{
	enum run_start result;

	pause_before_start(kept);
	*ret_final = kept->watch.done;
	if (kept->watch.done || !start(kept))
		return false;
	result = run_watch_start(&kept->watch, start_deadline(kept->keeper, cli_now_ms()));
	if (result == RUN_READY)
		return true;
	if (result == RUN_LATE) /* it loses nothing by that */
		kill(kept->watch.pid, SIGKILL);
	if (result != RUN_ENDED)
		run_watch_end(&kept->watch, true);
	*ret_final = result == RUN_DONE || !may_restart(kept->watch.status);
	return false;
}

/* Return: whether a broker serves again; else why not was told, or will be by tidy_up(). */
static bool restart(struct kept *kept)
{
	struct cli *cli = kept->keeper->cli;
	char text[128];
	bool final;

	describe_end(kept->watch.status, text, sizeof(text));
	for (int i = 0; i < STARTS_MAX; i++) {
		if (start_again(kept, &final)) {
			cli_warn(cli, SHMB_EDISCONNECTED, NULL,
				 "the broker %s and has been started again", text);
			return true;
		}
		if (final)
			return false;
	}
	cli_fail(cli, SHMB_EDISCONNECTED, NULL,
		 "the broker %s and could not be started again, in %d tries", text, STARTS_MAX);
	return false;
}

/* Until shmbctl is done, or no broker will serve any more. */
static void serve(struct kept *kept)
{
	int64_t since;

	do {
		since = cli_now_ms();
		run_watch_end(&kept->watch, false);
		if (cli_now_ms() - since >= SERVED_MS)
			kept->row = 0;
	} while (!kept->watch.done && may_restart(kept->watch.status) && restart(kept));
}

/* ---- Leaving nothing behind ---- */

static bool sweep(struct kept *kept)
{
	pid_t pid = run_broker_purge(kept->keeper->broker, kept->keeper->home);

	if (pid < 0)
		return false;
	kept->watch.pid = pid;
	run_watch_end(&kept->watch, true);
	return WIFEXITED(kept->watch.status) && WEXITSTATUS(kept->watch.status) == 0;
}

/* One that ends in order takes its lock file with it, last of all. */
static bool left_something(const struct kept *kept)
{
	return !WIFEXITED(kept->watch.status) || WEXITSTATUS(kept->watch.status) != 0 ||
	       run_home_has(kept->keeper->home, "broker.lock");
}

/* There were brokers that served, and the last has ended. */
static void tidy_up(struct kept *kept)
{
	struct run_keeper *keeper = kept->keeper;
	struct run_watch *watch = &kept->watch;
	bool left = left_something(kept);
	char text[128];

	/* whoever connects from now on is told that nobody serves */
	run_home_unlisten(keeper->home);
	if (left || !watch->done)
		cli_fail(keeper->cli, SHMB_EDISCONNECTED, NULL, "the broker %s%s; %s",
			 describe_end(watch->status, text, sizeof(text)),
			 watch->done ? "" : " while the command was running",
			 left ? "what it left is being removed" : "it left nothing");
	if (left && !sweep(kept))
		cli_fail(keeper->cli, 0, NULL,
			 "what the broker left could not be removed: see /dev/shm/shmb.*");
	run_watch_pause(watch, -1); /* the command still runs; it would miss the directory */
}

/* ---- Its life ---- */

static void keep(struct kept *kept)
{
	struct run_keeper *keeper = kept->keeper;
	sigset_t child;
	bool ready;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	kept->watch = (struct run_watch){
		.home = keeper->home,
		.store = &kept->store,
		.lifeline = keeper->lifeline,
		.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK),
	};
	if (kept->watch.signals < 0 || !run_store_make(&kept->store)) {
		cli_fail_errno(keeper->cli, "the broker's keeper", errno);
		return;
	}
	ready = start_first(kept);
	if (ready)
		(void)!write(keeper->report, "R", 1);
	close(keeper->report); /* without the byte: it failed */
	if (!ready)            /* nobody was told its address, so it has made nothing */
		return;
	serve(kept);
	tidy_up(kept);
	run_store_free(&kept->store);
}

void run_keeper_main(struct run_keeper *keeper)
{
	struct kept kept = { .keeper = keeper };

	detach(keeper);
	keep(&kept);
	if (run_home_remove(keeper->home) < 0)
		cli_fail_errno(keeper->cli, keeper->home->path, errno);
	_exit(0);
}
