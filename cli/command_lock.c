/* SPDX-License-Identifier: MIT */
/*
 * lock: run a command while holding a lock, in the manner of flock(1). The lock is this process's,
 * so it goes when shmbctl does, whatever happens; the command is killed then.
 */

#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "child.h"
#include "holders.h"
#include "lock_info.h"
#include "under.h"

struct lock_values {
	bool shared, exclusive, nonblock, recover, reset, existing, create;
	struct cli_number wait, conflict, slots;
	const char *lifetime, *mode;
};

#define OFFSET(member) offsetof(struct lock_values, member)
static const struct cli_option lock_options[] = {
	{ 's', "shared", CLI_FLAG, OFFSET(shared), NULL,
	  "others may hold it shared at the same time" },
	{ 'x', "exclusive", CLI_FLAG, OFFSET(exclusive), NULL,
	  "nobody else may hold it (default)" },
	{ 'n', "nonblock", CLI_FLAG, OFFSET(nonblock), NULL,
	  "fail at once where one would have to wait" },
	{ 'w', "wait", CLI_SECONDS, OFFSET(wait), "SECONDS",
	  "fail after waiting for so long; the same as --timeout" },
	{ 'E', "conflict-exit-code", CLI_NUMBER, OFFSET(conflict), "NUMBER",
	  "the exit status if it was not had in time; default 1" },
	{ 'R', "recover", CLI_FLAG, OFFSET(recover), NULL,
	  "if a holder died: say that all is right again when the command has succeeded" },
	{ 0, "reset", CLI_FLAG, OFFSET(reset), NULL,
	  "if it is not recoverable: go on as if its owner had just died" },
	{ 0, "existing", CLI_FLAG, OFFSET(existing), NULL,
	  "it is an error if there is neither a lock nor a region of that name" },
	{ 'l', "lifetime", CLI_TEXT, OFFSET(lifetime), "persistent|session|attached",
	  "if it is made: when it goes by itself; default: attached, with --create: persistent" },
	{ 'm', "mode", CLI_TEXT, OFFSET(mode), "MODE",
	  "if it is made: who may use it (l); default 0700" },
	{ 0, "slots", CLI_NUMBER, OFFSET(slots), "NUMBER",
	  "if it is made: how many can use it at a time; default 62" },
	{ 0, "create", CLI_FLAG, OFFSET(create), NULL, "only make the lock, and run nothing" },
};
#undef OFFSET

/* A named lock, or the lock of a region: one of the two. */
struct target {
	struct cli *cli;
	const char *name;
	struct shmb_lock *lock;
	struct shmb_region *region;
	enum shmb_lock_kind kind;
};

/* ---- The command line ---- */

static int check(struct cli *cli, const struct lock_values *values, int argc)
{
	if (values->shared && values->exclusive)
		return cli_usage(cli, "--shared and --exclusive exclude each other");
	if (values->shared && (values->recover || values->reset))
		return cli_usage(cli, "--recover and --reset need the lock exclusively");
	if (values->existing && (values->create || values->lifetime != NULL ||
				 values->mode != NULL || values->slots.given))
		return cli_usage(cli, "--existing makes no lock: --create, --lifetime, --mode and "
				      "--slots are not for it");
	if (values->create && argc > 1)
		return cli_usage(cli, "--create runs no command");
	if (!values->create && argc < 2)
		return cli_usage(cli, "a command is missing");
	return CLI_OK;
}

static int parse_options(struct cli *cli, const struct lock_values *values,
			 struct shmb_lock_options *options)
{
	int status;

	options->lifetime = values->create ? SHMB_PERSISTENT : SHMB_ATTACHED;
	status = cli_parse_lifetime(cli, values->lifetime, &options->lifetime);
	if (status == CLI_OK && values->create && options->lifetime != SHMB_PERSISTENT)
		status = cli_usage(cli, "with --lifetime=%s the lock would go with this command",
				   values->lifetime);
	if (status == CLI_OK)
		status = cli_parse_mode(cli, values->mode, &options->mode);
	if (status == CLI_OK)
		status = cli_parse_range(cli, "slots", &values->slots, 1, 1024, &options->slots);
	return status;
}

/* ---- The lock ---- */

static int open_region(struct target *target, bool recover)
{
	struct shmb_client *client = target->cli->client;
	unsigned access = SHMB_READ | (target->kind == SHMB_SHARED ? SHMB_LOCK : SHMB_WRITE);
	int result = shmb_region_open(client, target->name, access, NULL, &target->region);

	/* without write access one can lock all the same, only not put anything right */
	if (result == SHMB_EACCES && (access & SHMB_WRITE) != 0 && !recover)
		result = shmb_region_open(client, target->name, SHMB_READ | SHMB_LOCK, NULL,
					  &target->region);
	return result;
}

/* @options: to make a lock with; NULL: none is made. */
static int open_target(struct target *target, const struct shmb_lock_options *options, bool recover)
{
	struct cli *cli = target->cli;
	int result, status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	if (options != NULL)
		result =
			shmb_lock_open_or_create(cli->client, target->name, options, &target->lock);
	else
		result = shmb_lock_open(cli->client, target->name, &target->lock);
	if (result == SHMB_EKIND)
		result = open_region(target, recover);
	return result < 0 ? cli_fail_client(cli, target->name, result) : CLI_OK;
}

/* Lets go of it; a lock that is held exclusively is left "owner died". */
static void close_target(struct target *target)
{
	target->lock = shmb_lock_free(target->lock);
	target->region = shmb_region_free(target->region);
}

static int fail(const struct target *target, int code)
{
	return target->region != NULL ? cli_fail_region(target->cli, target->region, code)
				      : cli_fail_client(target->cli, target->name, code);
}

static int take(const struct target *target, int timeout_ms)
{
	return target->region != NULL ? shmb_region_lock(target->region, target->kind, timeout_ms)
				      : shmb_lock_acquire(target->lock, target->kind, timeout_ms);
}

static int give(const struct target *target)
{
	return target->region != NULL ? shmb_region_unlock(target->region)
				      : shmb_lock_release(target->lock);
}

static int mark_consistent(const struct target *target)
{
	return target->region != NULL ? shmb_region_mark_consistent(target->region)
				      : shmb_lock_mark_consistent(target->lock);
}

static int reset(const struct target *target)
{
	return target->region != NULL ? shmb_region_reset_lock(target->region)
				      : shmb_lock_reset(target->lock);
}

static int fail_conflict(const struct target *target, int status)
{
	struct shmb_lock_info info = { .struct_size = sizeof(info) };
	const struct shmb_process *holder = NULL;
	char text[HOLDER_TEXT];

	if (shmb_lock_stat(target->cli->client, target->name, &info) == 0)
		holder = lock_holder(&info);
	if (holder == NULL)
		return cli_fail_conflict(target->cli, status, target->name,
					 "the lock was not had in time");
	return cli_fail_conflict(target->cli, status, target->name,
				 "the lock was not had in time, %s has it",
				 holder_format(holder, text));
}

enum outcome { NOT_HELD, HELD, HELD_DIED };

/* *@ret_status: if it is not held, an exit status, told; one for a conflict may be 0. */
static enum outcome acquire(const struct target *target, const struct lock_values *values,
			    const struct under *under, int *ret_status)
{
	int result = take(target, under->timeout_ms);

	if (result == SHMB_ENOTRECOVERABLE && values->reset) {
		result = reset(target);
		if (result == 0 || result == SHMB_EINVAL) /* somebody else was faster */
			result = take(target, under->timeout_ms);
	}
	if (result == 0)
		return HELD;
	if (result == SHMB_EOWNERDEAD && target->kind == SHMB_EXCLUSIVE)
		return HELD_DIED;
	*ret_status = result == SHMB_ETIMEDOUT ? fail_conflict(target, under->conflict)
					       : fail(target, result);
	return NOT_HELD;
}

/* ---- The command under it ---- */

/*
 * The end of a lock that was held exclusively. *@wait_status: of the command, NULL: it did not run.
 *
 * The lock stays "owner died" if it was so and nobody says that things are right, and becomes it if
 * the command was killed: it may have been in the middle of something.
 */
static int give_exclusive(struct target *target, bool died, bool recover, const int *wait_status)
{
	bool killed = wait_status != NULL && WIFSIGNALED(*wait_status);
	int result = 0;

	if (died && recover && wait_status != NULL && !killed && WEXITSTATUS(*wait_status) == 0) {
		result = mark_consistent(target);
		died = result < 0;
	}
	if (killed)
		cli_warn(target->cli, SHMB_EOWNERDEAD, target->name,
			 "the command was killed by signal %d, the lock is left 'owner died'",
			 WTERMSIG(*wait_status));
	if (result == 0 && !died && !killed)
		result = give(target);
	return result;
}

static void tell_died(const struct target *target, bool recover)
{
	cli_warn(target->cli, SHMB_EOWNERDEAD, target->name,
		 recover ? "a holder died, what the lock guards may be half done"
			 : "a holder died, what the lock guards may be half done; the lock stays "
			   "'owner died' until somebody succeeds with --recover");
}

static int run_locked(struct target *target, const struct lock_values *values, bool died,
		      char **argv)
{
	struct child child = { .bound = true };
	int wait_status = 0, result, status;
	bool ran;

	status = child_take_signals(target->cli, &child);
	if (died)
		tell_died(target, values->recover);
	if (status == CLI_OK &&
	    (died ? setenv("SHMB_OWNER_DIED", "1", 1) : unsetenv("SHMB_OWNER_DIED")) < 0)
		status = cli_fail_errno(target->cli, "setenv", errno);
	if (status == CLI_OK)
		status = child_start(target->cli, &child, argv);
	ran = status == CLI_OK;
	if (ran) {
		wait_status = child_wait(&child);
		status = child_exit_status(wait_status);
	}
	if (target->kind == SHMB_SHARED)
		result = give(target);
	else
		result = give_exclusive(target, died, values->recover, ran ? &wait_status : NULL);
	if (result < 0)
		fail(target, result);
	return status;
}

static int create_lock(struct cli *cli, const char *name, const struct shmb_lock_options *options)
{
	struct shmb_lock_info info = { .struct_size = sizeof(info) };
	struct shmb_lock *lock;
	int result, status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	result = shmb_lock_create(cli->client, name, options, &lock);
	if (result < 0)
		return cli_fail_client(cli, name, result);
	if (cli->json) {
		result = shmb_lock_stat(cli->client, name, &info);
		if (result < 0)
			status = cli_fail_client(cli, name, result);
		else
			lock_print_json(&info);
	}
	shmb_lock_free(lock);
	return status;
}

static int lock_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct lock_values *values = parsed;
	struct shmb_lock_options options = SHMB_LOCK_OPTIONS_INIT;
	struct target target = { .cli = cli, .name = argv[0] };
	struct under under = { .nonblock = values->nonblock, .conflict = CLI_FAILED };
	char client_name[CLIENT_NAME];
	enum outcome outcome = NOT_HELD;
	int status = check(cli, values, argc);

	target.kind = values->shared ? SHMB_SHARED : SHMB_EXCLUSIVE;
	if (status == CLI_OK)
		status = parse_options(cli, values, &options);
	if (status == CLI_OK)
		status = under_parse(cli, &under, &values->wait, &values->conflict);
	if (status == CLI_OK && values->create)
		return create_lock(cli, argv[0], &options);
	if (status == CLI_OK) {
		cli->client_name = under_client_name(argv[1], client_name);
		status = open_target(&target, values->existing ? NULL : &options,
				     values->recover || values->reset);
	}
	if (status == CLI_OK)
		outcome = acquire(&target, values, &under, &status);
	if (outcome != NOT_HELD)
		status = run_locked(&target, values, outcome == HELD_DIED, argv + 1);
	close_target(&target);
	cli->client_name = NULL;
	return status;
}

const struct cli_command command_lock = {
	.name = "lock",
	.synopsis = "[OPTION...] NAME [--] COMMAND [ARGUMENT...] | --create [OPTION...] NAME",
	.summary = "Run a command while holding a lock.",
	.options = lock_options,
	.n_options = sizeof(lock_options) / sizeof(lock_options[0]),
	.values_size = sizeof(struct lock_values),
	.min_operands = 1,
	.max_operands = -1,
	.stop_at_operand = 2,
	.runs_command = true,
	.run = lock_run,
};
