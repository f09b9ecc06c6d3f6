/* SPDX-License-Identifier: MIT */
/*
 * The keeper: owns the broker and its directory, so that both go whatever happens to shmbctl. It
 * has a session of its own, no terminal, and no descriptor of the user's but stderr.
 */

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SLOW_MS = 10000, /* an orderly shutdown may take long where there is much memory to free */
	KILL_MS = 60000, /* but not for ever: others may be waiting for us */
};

/* What a look around found, ored. */
enum { SAW_ENDED = 1, SAW_DONE = 2, SAW_READY = 4 };

/* The broker and what is known of it. */
struct watched {
	struct run_keeper *keeper;
	pid_t pid;
	int signals; /* signalfd for SIGCHLD */
	int status;  /* of waitpid(), once it has ended */
	bool done;   /* the lifeline was cut */
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

/* ---- Watching the broker ---- */

static bool says_ready(int notifier)
{
	char text[4096];
	bool ready = false;
	ssize_t n;

	/* all of it: a broker whose messages nobody takes would block */
	while ((n = recv(notifier, text, sizeof(text) - 1, MSG_DONTWAIT)) >= 0) {
		text[n] = '\0';
		for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
			ready = ready || strcmp(line, "READY=1") == 0;
	}
	return ready;
}

static unsigned look(struct watched *watched, int timeout_ms)
{
	struct run_keeper *keeper = watched->keeper;
	struct pollfd fds[] = {
		{ .fd = watched->signals, .events = POLLIN },
		{ .fd = keeper->home->notifier, .events = POLLIN },
		{ .fd = watched->done ? -1 : keeper->lifeline, .events = POLLIN },
	};
	struct signalfd_siginfo info;
	unsigned saw = 0;

	if (poll(fds, 3, timeout_ms) < 0)
		return 0;
	if (fds[1].revents != 0 && says_ready(keeper->home->notifier))
		saw |= SAW_READY;
	if (fds[2].revents != 0) {
		watched->done = true;
		saw |= SAW_DONE;
	}
	if (fds[0].revents != 0 && read(watched->signals, &info, sizeof(info)) > 0 &&
	    waitpid(watched->pid, &watched->status, WNOHANG) == watched->pid)
		saw |= SAW_ENDED;
	return saw;
}

static const char *describe_end(int status, char *buffer, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(buffer, size, "was killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(buffer, size, "ended with exit status %d", WEXITSTATUS(status));
	return buffer;
}

/* Return: whether the broker serves; else it has ended, or is about to, and why was told. */
static bool wait_until_ready(struct watched *watched, bool *ret_ended)
{
	struct run_keeper *keeper = watched->keeper;
	struct cli *cli = keeper->cli;
	int64_t limit = cli->timeout.given ? (int64_t)cli->timeout.value : 30000;
	char text[128];

	*ret_ended = false;
	for (;;) {
		int64_t left = keeper->start_ms + limit - cli_now_ms();
		unsigned saw = look(watched, left < 0 ? 0 : (int)left);

		if ((saw & SAW_ENDED) != 0) {
			*ret_ended = true;
			cli_fail(cli, SHMB_ECONNREFUSED, NULL, "the broker %s before it was ready",
				 describe_end(watched->status, text, sizeof(text)));
			return false;
		}
		if ((saw & SAW_READY) != 0)
			return true;
		if ((saw & SAW_DONE) != 0)
			return false; /* interrupted by the user: nothing to tell */
		if (left <= 0) {
			cli_fail(cli, SHMB_ETIMEDOUT, NULL, "%s did not become ready in time",
				 keeper->broker->path);
			kill(watched->pid, SIGTERM);
			return false;
		}
	}
}

/* Waits for the broker's end: without limit while the command runs, then patiently. */
static void wait_until_ended(struct watched *watched, bool leaving)
{
	int64_t since = leaving ? cli_now_ms() : 0;
	bool told = false;

	for (;;) {
		int64_t elapsed, next;
		unsigned saw;

		leaving = leaving || watched->done;
		if (leaving && since == 0)
			since = cli_now_ms();
		elapsed = cli_now_ms() - since;
		next = elapsed < SLOW_MS ? SLOW_MS - elapsed : KILL_MS - elapsed;
		saw = look(watched, !leaving ? -1 : next < 0 ? 1000 : (int)next);
		if ((saw & SAW_ENDED) != 0)
			return;
		if (!leaving)
			continue;
		elapsed = cli_now_ms() - since;
		if (elapsed >= KILL_MS) {
			kill(watched->pid, SIGKILL);
		} else if (elapsed >= SLOW_MS && !told) {
			fprintf(stderr,
				"shmbctl: run: still waiting for the broker (process %ld)\n",
				(long)watched->pid);
			told = true;
		}
	}
}

/* ---- Leaving nothing behind ---- */

/* Whether a broker that ended like this may have left regions. */
static bool left_something(int status)
{
	/* 2, 3 and 4 are its refusals to start, see shmbrokerd(8) */
	return !WIFEXITED(status) || WEXITSTATUS(status) == 1 || WEXITSTATUS(status) > 4;
}

/* A broker removes what a dead one left in its directory when it starts; this one then finds its
 * lifeline cut, and ends in order. */
static bool sweep(struct watched *watched)
{
	struct run_keeper *keeper = watched->keeper;
	struct watched sweeper = { .keeper = keeper, .signals = watched->signals, .done = true };
	int cut[2], listener;

	if (pipe2(cut, O_CLOEXEC) < 0)
		return false;
	close(cut[1]);
	listener = run_home_listen(keeper->home, "sweep.sock");
	sweeper.pid = listener < 0 ? -1
				   : run_broker_start(keeper->broker, keeper->home, listener,
						      cut[0], false);
	close(cut[0]);
	if (listener >= 0)
		close(listener);
	if (sweeper.pid < 0)
		return false;
	wait_until_ended(&sweeper, true);
	return WIFEXITED(sweeper.status) && WEXITSTATUS(sweeper.status) == 0;
}

/* The broker served, and has ended. */
static void tidy_up(struct watched *watched)
{
	struct cli *cli = watched->keeper->cli;
	bool left = left_something(watched->status);
	char text[128];

	if (left || !watched->done)
		cli_fail(cli, SHMB_EDISCONNECTED, NULL, "the broker %s%s; %s",
			 describe_end(watched->status, text, sizeof(text)),
			 watched->done ? "" : " while the command was running",
			 left ? "what it left is being removed" : "it left nothing");
	if (left && !sweep(watched))
		cli_fail(cli, 0, NULL,
			 "what the broker left could not be removed: see /dev/shm/shmb.*");
	while (!watched->done) /* the command still runs; it would miss the directory */
		look(watched, -1);
}

/* ---- Its life ---- */

static pid_t start_broker(struct run_keeper *keeper)
{
	pid_t pid = run_broker_start(keeper->broker, keeper->home, keeper->home->listener,
				     keeper->lifeline, true);

	if (pid < 0)
		cli_fail_errno(keeper->cli, keeper->broker->path, errno);
	/* from now on the socket is the broker's alone: with it, it dies */
	close(keeper->home->listener);
	keeper->home->listener = -1;
	return pid;
}

static void keep(struct run_keeper *keeper)
{
	struct watched watched = { .keeper = keeper };
	bool ready, ended;
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	watched.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (watched.signals < 0) {
		cli_fail_errno(keeper->cli, "signalfd", errno);
		return;
	}
	watched.pid = start_broker(keeper);
	if (watched.pid < 0)
		return;
	ready = wait_until_ready(&watched, &ended);
	if (ready)
		(void)!write(keeper->report, "R", 1);
	close(keeper->report); /* without the byte: it failed */
	if (!ended)
		wait_until_ended(&watched, !ready);
	if (ready) /* else nobody was told its address, so it has made nothing */
		tidy_up(&watched);
}

void run_keeper_main(struct run_keeper *keeper)
{
	detach(keeper);
	keep(keeper);
	if (run_home_remove(keeper->home) < 0)
		cli_fail_errno(keeper->cli, keeper->home->path, errno);
	_exit(0);
}
