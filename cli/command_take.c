/* SPDX-License-Identifier: MIT */
/*
 * sem wait and sem take: commands that take from a semaphore, and may run a command with what they
 * got. A permit is this process's, so it comes back when shmbctl ends, whatever happens.
 */

#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "child.h"
#include "holders.h"
#include "under.h"

struct take_values {
	bool nonblock;
	struct cli_number conflict;
};

static const struct cli_option take_options[] = {
	{ 'n', "nonblock", CLI_FLAG, offsetof(struct take_values, nonblock), NULL,
	  "fail at once where one would have to wait" },
	{ 'E', "conflict-exit-code", CLI_NUMBER, offsetof(struct take_values, conflict), "NUMBER",
	  "the exit status if there was none in time; default 1, without a command 4" },
};

/* One semaphore, opened to take from. */
struct source {
	struct cli *cli;
	const char *name;
	enum shmb_semaphore_kind kind;
	struct shmb_semaphore *semaphore;
	struct shmb_permit permit; /* owned: what was taken */
};

/* ---- Taking ---- */

static int open_source(struct source *source)
{
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	struct cli *cli = source->cli;
	int result, status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	result = shmb_semaphore_stat(cli->client, source->name, &info);
	if (result == 0 && info.kind != source->kind)
		return cli_fail(cli, SHMB_EKIND, source->name,
				info.kind == SHMB_OWNED
					? "an owned semaphore: `shmbctl sem take` holds a permit "
					  "of it while a command runs"
					: "a counting semaphore has no permits to hold: `shmbctl "
					  "sem wait` takes from it");
	if (result == 0)
		result = shmb_semaphore_open(cli->client, source->name, &source->semaphore);
	if (result == 0)
		result = shmb_client_get_fd(cli->client); /* from now on its end is noticed */
	return result < 0 ? cli_fail_client(cli, source->name, result) : CLI_OK;
}

static int try_for(struct source *source, int timeout_ms)
{
	return source->kind == SHMB_OWNED
		       ? shmb_semaphore_take(source->semaphore, timeout_ms, &source->permit)
		       : shmb_semaphore_wait(source->semaphore, timeout_ms);
}

static int fail_conflict(const struct source *source, int status)
{
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	char text[HOLDER_TEXT];

	if (source->kind == SHMB_COUNTING)
		return cli_fail_conflict(source->cli, status, source->name,
					 "nobody posted in time");
	if (shmb_semaphore_stat(source->cli->client, source->name, &info) < 0 ||
	    info.value == info.maximum)
		return cli_fail_conflict(source->cli, status, source->name,
					 "no permit was free in time");
	return cli_fail_conflict(
		source->cli, status, source->name, "no permit was free in time, %s has %s",
		holder_format(&info.holder, text), info.maximum == 1 ? "it" : "one");
}

enum { SLICE_MS = 500 }; /* how late the broker's end may be noticed; nobody loses a turn by it */

/* *@ret_status: if there was none, an exit status, told; one for a conflict may be 0. Return:
 * whether it was taken. */
static bool take_from(struct source *source, const struct under *under, int *ret_status)
{
	struct cli *cli = source->cli;
	int64_t deadline = under->timeout_ms < 0 ? -1 : cli_now_ms() + under->timeout_ms;

	for (;;) {
		int64_t left = deadline < 0 ? SLICE_MS : deadline - cli_now_ms();
		int slice = left < 0 ? 0 : left < SLICE_MS ? (int)left : SLICE_MS;
		int result = try_for(source, slice);

		if (result == 0)
			return true;
		if (result == SHMB_ETIMEDOUT && deadline >= 0 && cli_now_ms() >= deadline) {
			*ret_status = fail_conflict(source, under->conflict);
			return false;
		}
		if (result == SHMB_ETIMEDOUT)
			result = shmb_client_process(cli->client);
		if (result < 0) {
			*ret_status = cli_fail_client(cli, source->name, result);
			return false;
		}
	}
}

/* ---- Running a command with it ---- */

static int tell_permit(const struct source *source)
{
	char index[16];

	if (source->kind == SHMB_COUNTING)
		return CLI_OK;
	snprintf(index, sizeof(index), "%" PRIu32, source->permit.index);
	return setenv("SHMB_PERMIT", index, 1) < 0 ? cli_fail_errno(source->cli, "setenv", errno)
						   : CLI_OK;
}

/* An owned permit comes back in any case; what was counted only if the command did not run. */
static int give_back(const struct source *source, bool ran)
{
	if (source->kind == SHMB_OWNED)
		return shmb_semaphore_give(source->semaphore, &source->permit);
	return ran ? 0 : shmb_semaphore_post(source->semaphore, 1);
}

static int run_with(const struct source *source, char **argv)
{
	struct child child = { .bound = source->kind == SHMB_OWNED };
	int result, status = child_take_signals(source->cli, &child);
	bool ran;

	if (status == CLI_OK)
		status = tell_permit(source);
	if (status == CLI_OK)
		status = child_start(source->cli, &child, argv);
	ran = status == CLI_OK;
	if (ran)
		status = child_exit_status(child_wait(&child));
	result = give_back(source, ran);
	if (result < 0)
		cli_fail_client(source->cli, source->name, result);
	return status;
}

static int take_and_run(struct source *source, const struct take_values *values, int argc,
			char **argv, bool *ret_taken)
{
	struct cli *cli = source->cli;
	struct under under = {
		.nonblock = values->nonblock,
		.conflict = argc > 1 ? CLI_FAILED : CLI_TIMED_OUT,
	};
	char client_name[CLIENT_NAME];
	int status;

	*ret_taken = false;
	status = under_parse(cli, &under, NULL, &values->conflict);

	if (status == CLI_OK) {
		if (argc > 1)
			cli->client_name = under_client_name(argv[1], client_name);
		status = open_source(source);
	}
	if (status == CLI_OK)
		*ret_taken = take_from(source, &under, &status);
	if (*ret_taken && argc > 1)
		status = run_with(source, argv + 1);
	shmb_semaphore_free(source->semaphore);
	cli->client_name = NULL;
	return status;
}

/* ---- sem wait ---- */

static int wait_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct source source = { .cli = cli, .name = argv[0], .kind = SHMB_COUNTING };
	struct json json;
	bool taken;
	int status;

	cli->runs_command = argc > 1;
	status = take_and_run(&source, values, argc, argv, &taken);
	if (taken && argc == 1 && cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", argv[0]);
		json_end(&json);
	}
	return status;
}

const struct cli_command command_sem_wait = {
	.name = "sem wait",
	.synopsis = "[OPTION...] NAME [[--] COMMAND [ARGUMENT...]]",
	.summary = "Take one from a counting semaphore, waiting for it, and run a command then.",
	.options = take_options,
	.n_options = sizeof(take_options) / sizeof(take_options[0]),
	.values_size = sizeof(struct take_values),
	.min_operands = 1,
	.max_operands = -1,
	.stop_at_operand = 2,
	.run = wait_run,
};

/* ---- sem take ---- */

static int take_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct source source = { .cli = cli, .name = argv[0], .kind = SHMB_OWNED };
	bool taken;

	return take_and_run(&source, values, argc, argv, &taken);
}

const struct cli_command command_sem_take = {
	.name = "sem take",
	.synopsis = "[OPTION...] NAME [--] COMMAND [ARGUMENT...]",
	.summary = "Hold a permit of an owned semaphore while a command runs.",
	.options = take_options,
	.n_options = sizeof(take_options) / sizeof(take_options[0]),
	.values_size = sizeof(struct take_values),
	.min_operands = 2,
	.max_operands = -1,
	.stop_at_operand = 2,
	.runs_command = true,
	.run = take_run,
};
