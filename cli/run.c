/* SPDX-License-Identifier: MIT */
/*
 * run: a private broker for a command tree. This is shmbctl's own part: it makes the directory,
 * starts the keeper, runs the command, passes signals on, and ends as the command did. Uses no
 * broker.
 */

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct run_values {
	const char *log_level;
	struct cli_list broker_options;
};

static const struct cli_option run_options[] = {
	{ 'L', "log-level", CLI_TEXT, offsetof(struct run_values, log_level), "LEVEL",
	  "what the broker logs: error, warning (default), notice, info, debug" },
	{ 'o', "broker-option", CLI_LIST, offsetof(struct run_values, broker_options), "KEY=VALUE",
	  "set a key of shmbroker.conf(5) for the broker; several times if need be" },
};

/* One run, seen from shmbctl. */
struct run {
	struct cli *cli;
	struct run_home home;
	struct run_broker broker;
	int lifeline; /* writing end: while it is open, the broker lives */
	int report;   /* reading end: a byte when the broker is ready */
	pid_t keeper;
	struct child command;
};

/* ---- The command line ---- */

/* The options by which we hold the broker are not the user's to set. */
static int check_broker_options(struct cli *cli, const struct cli_list *options)
{
	static const char *const ours[] = { "system",
					    "user",
					    "private",
					    "socket",
					    "exit-on-eof",
					    "log-level",
					    "runtime-directory",
					    "check-config",
					    "on-stop",
					    "purge",
					    "help",
					    "version" };

	for (size_t i = 0; i < options->count; i++) {
		const char *option = options->items[i];
		size_t length = strcspn(option, "=");

		if (option[length] == '\0' || length == 0)
			return cli_usage(cli, "--broker-option: '%s' is not KEY=VALUE", option);
		for (size_t j = 0; j < sizeof(ours) / sizeof(ours[0]); j++)
			if (strlen(ours[j]) == length && memcmp(ours[j], option, length) == 0)
				return cli_usage(cli, "--broker-option: %s is not for this",
						 ours[j]);
	}
	return CLI_OK;
}

/* ---- The keeper and its broker ---- */

static int fork_keeper(struct run *run, int lifeline, int report)
{
	struct run_keeper keeper = {
		.cli = run->cli,
		.broker = &run->broker,
		.home = &run->home,
		.lifeline = lifeline,
		.report = report,
		.start_ms = cli_now_ms(),
	};

	fflush(NULL); /* or the child would have it to print, too */
	run->keeper = fork();
	if (run->keeper == 0)
		run_keeper_main(&keeper);
	close(lifeline);
	close(report);
	if (run->keeper < 0) {
		int status = cli_fail_errno(run->cli, "fork", errno);

		run_home_remove(&run->home);
		return status;
	}
	/* ours no more; the directory is removed by the keeper */
	close(run->home.listener);
	close(run->home.notifier);
	run->home.listener = run->home.notifier = -1;
	return CLI_OK;
}

static int start_keeper(struct run *run)
{
	int lifeline[2], report[2], status;

	status = run_home_make(run->cli, &run->home);
	if (status != CLI_OK)
		return status;
	if (pipe2(lifeline, O_CLOEXEC) < 0 || pipe2(report, O_CLOEXEC) < 0) {
		status = cli_fail_errno(run->cli, "pipe", errno);
		run_home_remove(&run->home);
		return status;
	}
	run->lifeline = lifeline[1];
	run->report = report[0];
	return fork_keeper(run, lifeline[0], report[1]);
}

/* Return: CLI_OK, CLI_RUN_FAILED (told by the keeper), or 128 plus the signal that came first. */
static int wait_until_ready(const struct run *run)
{
	struct pollfd fds[] = { { .fd = run->report, .events = POLLIN },
				{ .fd = run->command.signals, .events = POLLIN } };
	struct signalfd_siginfo info;
	char byte;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return cli_fail_errno(run->cli, "poll", errno);
		if (fds[0].revents != 0)
			return read(run->report, &byte, 1) == 1 ? CLI_OK : CLI_RUN_FAILED;
		while (child_next_signal(&run->command, &info))
			if (info.ssi_signo != SIGCHLD)
				return 128 + (int)info.ssi_signo;
	}
}

enum { TAKEN_MS = 60000, PAUSE_MAX_MS = 100 };

/*
 * In the keeper's place. A broker that still runs removes its own, and one that was killed may take
 * a moment to be gone: what it leaves can be removed after that.
 *
 * Return: false: a signal has come first.
 */
static bool purge(const struct run *run)
{
	struct pollfd fd = { .fd = run->command.signals, .events = POLLIN };
	int64_t end = cli_now_ms() + TAKEN_MS;
	struct signalfd_siginfo info;
	pid_t pid;

	for (int pause = 1; run_home_is_taken(&run->home) && cli_now_ms() < end;
	     pause = pause < PAUSE_MAX_MS ? pause * 2 : pause) {
		poll(&fd, 1, pause);
		while (child_next_signal(&run->command, &info))
			if (info.ssi_signo != SIGCHLD)
				return false;
	}
	pid = run_broker_purge(&run->broker, &run->home);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return true;
}

/* Cuts the lifeline and waits until broker and directory are gone. A further signal ends the
 * waiting, not the keeper's work. */
static void finish(struct run *run)
{
	struct pollfd fd = { .fd = run->command.signals, .events = POLLIN };
	struct signalfd_siginfo info;
	int keeper_status = 0;

	close(run->lifeline);
	while (child_next_signal(&run->command, &info)) {
		/* what came with the command's end, such as the ^C that ended it, is old news */
	}
	while (waitpid(run->keeper, &keeper_status, WNOHANG) == 0) {
		poll(&fd, 1, -1);
		while (child_next_signal(&run->command, &info))
			if (info.ssi_signo != SIGCHLD)
				return;
	}
	/* if somebody killed the keeper, the broker ends by itself, and this is left to us */
	if (WIFSIGNALED(keeper_status) && !purge(run))
		return;
	if (run_home_remove(&run->home) < 0)
		cli_fail_errno(run->cli, run->home.path, errno);
}

/* ---- The command ---- */

static int run_command(struct run *run, char **argv)
{
	char address[sizeof(run->home.path)];
	int status;

	run_home_path(&run->home, "broker.sock", address);
	if (setenv("SHMB_ADDRESS", address, 1) < 0)
		return cli_fail_errno(run->cli, "setenv", errno);
	status = child_start(run->cli, &run->command, argv);
	return status == CLI_OK ? child_exit_status(child_wait(&run->command)) : status;
}

/* ---- All of it ---- */

static int run_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct run_values *values = parsed;
	struct run run = { .cli = cli };
	int status;

	run.broker.log_level = values->log_level != NULL ? values->log_level : "warning";
	run.broker.extra = values->broker_options;
	status = check_broker_options(cli, &values->broker_options);
	if (status == CLI_OK)
		status = run_broker_find(cli, &run.broker);
	if (status == CLI_OK)
		status = child_take_signals(cli, &run.command);
	run.broker.signals = run.command.mask;
	if (status == CLI_OK)
		status = start_keeper(&run);
	if (status != CLI_OK)
		return status;
	status = wait_until_ready(&run);
	if (status == CLI_OK)
		status = run_command(&run, argv);
	finish(&run);
	return status;
}

const struct cli_command command_run = {
	.name = "run",
	.synopsis = "[OPTION...] -- COMMAND [ARGUMENT...]",
	.summary = "Run a command with a private broker, which is gone without a trace afterwards.",
	.options = run_options,
	.n_options = sizeof(run_options) / sizeof(run_options[0]),
	.values_size = sizeof(struct run_values),
	.min_operands = 1,
	.max_operands = -1,
	.stop_at_operand = 1,
	.runs_command = true,
	.run = run_run,
};
