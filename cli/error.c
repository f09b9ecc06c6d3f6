/* SPDX-License-Identifier: MIT */
/*
 * What went wrong, on stderr: a sentence, its particulars, and what can be done; or all of that as
 * one JSON object. The one place that turns an error into an exit status.
 */

#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

/* All that can be told about one failure; what does not apply is NULL. */
struct failure {
	int status;
	const char *error; /* short name */
	const char *subject;
	const char *name; /* region */
	const char *message;
	const char *hint;
	const struct shmb_error *particulars;
};

static void json_particulars(struct json *json, const struct shmb_error *error)
{
	const struct {
		const char *key;
		uint64_t value;
	} fields[] = {
		{ "offset", error->offset }, { "length", error->length },
		{ "size", error->size },     { "alignment", error->alignment },
		{ "limit", error->limit },
	};

	if (error->what[0] != '\0')
		json_string(json, "what", error->what);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		/* an offset of 0 says something where there is a length */
		if (fields[i].value != 0 || (i == 0 && error->length != 0))
			json_uint(json, fields[i].key, fields[i].value);
}

static int tell_json(const struct cli *cli, const struct failure *failure)
{
	struct json json = json_begin(stderr);

	json_string(&json, "error", failure->error);
	json_string(&json, "message", failure->message);
	if (cli->command != NULL)
		json_string(&json, "command", cli->command->name);
	if (failure->name != NULL)
		json_string(&json, "name", failure->name);
	json_int(&json, "status", failure->status);
	if (failure->particulars != NULL)
		json_particulars(&json, failure->particulars);
	if (failure->hint != NULL)
		json_string(&json, "hint", failure->hint);
	json_end(&json);
	return failure->status;
}

static int tell(const struct cli *cli, const struct failure *failure)
{
	const char *subject = failure->subject != NULL ? failure->subject : failure->name;

	fflush(stdout); /* in the order in which it happened, where both go to one place */
	if (cli->json)
		return tell_json(cli, failure);
	fputs("shmbctl: ", stderr);
	if (cli->command != NULL)
		fprintf(stderr, "%s: ", cli->command->name);
	if (subject != NULL)
		fprintf(stderr, "%s: ", subject);
	fprintf(stderr, "%s\n", failure->message);
	if (failure->hint != NULL)
		fprintf(stderr, "shmbctl: %s\n", failure->hint);
	return failure->status;
}

/* What runs a command has one status of its own, since the others are the command's. */
static int status_of(const struct cli *cli, int status)
{
	bool runs_command = cli->runs_command;

	if (cli->command != NULL && cli->command->runs_command)
		runs_command = true;
	return runs_command ? CLI_RUN_FAILED : status;
}

static int status_of_code(int code)
{
	switch (code) {
	case SHMB_ENOENT:
		return CLI_NOT_FOUND;
	case SHMB_ETIMEDOUT:
		return CLI_TIMED_OUT;
	case SHMB_EDISCONNECTED:
		return CLI_NO_BROKER;
	default:
		return CLI_FAILED;
	}
}

/* ---- What can be done about it ---- */

static bool is_about_semaphores(const struct cli *cli)
{
	return cli->command != NULL && strncmp(cli->command->name, "sem", 3) == 0;
}

/* Of locks and semaphores; what is said of regions does not hold for them. */
static const char *hint_for_coordination(const struct cli *cli, int code)
{
	bool sem = is_about_semaphores(cli);

	switch (code) {
	case SHMB_ENOENT:
		return sem ? "`shmbctl sem` lists the semaphores you may know of"
		       : cli->command == &command_lock
			       ? "`shmbctl ls` and `shmbctl locks` list what you may know of"
			       : "`shmbctl locks` lists the locks you may know of";
	case SHMB_EEXIST:
		return "`shmbctl rm` removes it";
	case SHMB_EACCES:
		return sem ? "names below ~UID belong to that user; using a semaphore takes the "
			     "lock right, `shmbctl --json sem` tells the mode"
			   : "names below ~UID belong to that user; locking takes the lock or "
			     "write right, and --recover for a region the write right";
	case SHMB_EKIND:
		return "`shmbctl ls`, `shmbctl locks` and `shmbctl sem` tell what it is";
	case SHMB_EOVERFLOW:
		return "`shmbctl sem` tells the maximum";
	case SHMB_EDQUOT:
		return "limits are set in shmbroker.conf(5)";
	default:
		return NULL;
	}
}

static const char *hint_for(const struct cli *cli, int code)
{
	bool create = cli->command == &command_create, rm = cli->command == &command_rm;
	const char *hint = NULL;

	if (is_about_semaphores(cli) || cli->command == &command_lock ||
	    cli->command == &command_locks)
		hint = hint_for_coordination(cli, code);
	if (hint != NULL)
		return hint;
	switch (code) {
	case SHMB_ENOENT:
		return rm ? "`shmbctl ls`, `shmbctl locks` and `shmbctl sem` list what you may "
			    "know "
			    "of"
			  : "`shmbctl ls` lists the regions you may know of";
	case SHMB_EKIND:
		return "it is no region: `shmbctl locks` and `shmbctl sem` tell about it, and its "
		       "mode and owner are for good";
	case SHMB_ESLOTS:
		return "as many use it already as it was made for";
	case SHMB_EOWNERDEAD:
		return "what it guards may be half done; when that has been put right: "
		       "`shmbctl lock --recover NAME -- COMMAND`";
	case SHMB_ENOTRECOVERABLE:
		return "somebody unlocked it without putting things right; `shmbctl lock --reset` "
		       "gives it another chance";
	case SHMB_EEXIST:
		return create ? "--or-open takes it if it is a region; `shmbctl rm` removes it"
			      : NULL;
	case SHMB_EACCES:
		return create ? "names below ~UID belong to that user; --backing is the broker's "
				"decision, see shmbroker.conf(5)"
		       : rm   ? "only its owner or root may remove it"
			      : "the owner or root may change this with `shmbctl chmod` or "
				"`chown`; "
				"`shmbctl stat` tells the mode";
	case SHMB_EMODE:
		return "this needs write access to the region";
	case SHMB_EFBIG:
		return create ? "the broker's limit is max-region, see shmbroker.conf(5)"
			      : "the capacity is fixed when a region is made, see create "
				"--capacity";
	case SHMB_EDQUOT:
		return "limits are set in shmbroker.conf(5); `shmbctl ls -l` tells what is in use";
	case SHMB_ENOSPC:
		return "see `df /dev/shm` for shm, or make the region with --backing=memfd";
	case SHMB_EDISCONNECTED:
		return "the broker ended or dropped this connection; its log says why";
	case SHMB_ETIMEDOUT:
		return "the broker is slow or stopped; --timeout=SECONDS waits longer";
	case SHMB_ENOMEM:
	case SHMB_EMFILE:
	case SHMB_ENFILE:
		return "here or in the broker; its log says which";
	default:
		return NULL;
	}
}

static const char *hint_for_connect(const char *address, int code)
{
	bool is_system = strcmp(address, "system") == 0;
	bool is_user = strcmp(address, "user") == 0;

	switch (code) {
	case SHMB_ENOENT:
	case SHMB_ECONNREFUSED:
		if (is_system)
			return "start it: systemctl start shmbrokerd.socket";
		if (is_user && getenv("XDG_RUNTIME_DIR") == NULL)
			return "XDG_RUNTIME_DIR is not set, so there is no place for a user's "
			       "broker; run the command under a private one: shmbctl run -- "
			       "COMMAND, or name another with --address";
		if (is_user)
			return "start one: shmbrokerd --user, or run the command under a private "
			       "one: shmbctl run -- COMMAND";
		return "start one there: shmbrokerd --private --socket=PATH, or run the command "
		       "under a private one: shmbctl run -- COMMAND";
	case SHMB_EINVAL:
		return "an address is \"system\", \"user\" or a path with a '/'";
	case SHMB_EACCES:
		return "the broker at this address does not serve this user";
	case SHMB_ETIMEDOUT:
		return "something listens but does not answer; --timeout=SECONDS waits longer";
	case SHMB_EDQUOT:
		return "too many connections of this user; see connections-per-user in "
		       "shmbroker.conf(5)";
	default:
		return NULL;
	}
}

/* ---- For the commands ---- */

int cli_usage(struct cli *cli, const char *format, ...)
{
	char message[512], hint[64];
	const char *command = cli->command != NULL ? cli->command->name : NULL;
	struct failure failure = { .error = "usage", .message = message, .hint = hint };
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	snprintf(hint, sizeof(hint), "see `shmbctl %s%s--help`", command != NULL ? command : "",
		 command != NULL ? " " : "");
	failure.status = status_of(cli, CLI_USAGE);
	return tell(cli, &failure);
}

int cli_fail(struct cli *cli, int code, const char *name, const char *format, ...)
{
	char message[512];
	struct failure failure = {
		.error = code == 0 ? "failed" : shmb_error_name(code),
		.name = name,
		.message = message,
	};
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	failure.status = status_of(cli, status_of_code(code));
	return tell(cli, &failure);
}

int cli_fail_conflict(struct cli *cli, int status, const char *name, const char *format, ...)
{
	char message[512];
	const struct failure failure = {
		.status = status,
		.error = shmb_error_name(SHMB_ETIMEDOUT),
		.name = name,
		.message = message,
	};
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	return tell(cli, &failure);
}

void cli_warn(const struct cli *cli, int code, const char *name, const char *format, ...)
{
	char message[512];
	struct json json;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	if (!cli->json) {
		fprintf(stderr, "shmbctl: %s: %s%s%s\n", cli->command->name,
			name != NULL ? name : "", name != NULL ? ": " : "", message);
		return;
	}
	json = json_begin(stderr);
	json_string(&json, "warning", shmb_error_name(code));
	json_string(&json, "message", message);
	json_string(&json, "command", cli->command->name);
	if (name != NULL)
		json_string(&json, "name", name);
	json_end(&json);
}

int cli_fail_errno(struct cli *cli, const char *what, int error)
{
	const struct failure failure = {
		.status = status_of(cli, CLI_FAILED),
		.error = shmb_error_name(-error),
		.subject = what,
		.message = strerror(error),
	};

	return tell(cli, &failure);
}

int cli_fail_execute(struct cli *cli, const char *command, int error)
{
	const struct failure failure = {
		.status = error == ENOENT ? CLI_NO_COMMAND : CLI_CANNOT_EXECUTE,
		.error = shmb_error_name(-error),
		.subject = command,
		.message = strerror(error),
	};

	return tell(cli, &failure);
}

int cli_fail_connect(struct cli *cli, int code)
{
	const char *address = cli->address;
	char message[512];
	struct failure failure = { .error = shmb_error_name(code), .message = message };
	const char *sentence =
		code == SHMB_ENOENT ? "no broker's socket is there" : shmb_strerror(code);

	if (address == NULL)
		address = getenv("SHMB_ADDRESS");
	if (address == NULL)
		address = "user";
	if (code == SHMB_ENOENT) /* of a region it would mean something else */
		failure.error = shmb_error_name(SHMB_ECONNREFUSED);
	snprintf(message, sizeof(message), "%s (address: %s)", sentence, address);
	failure.hint = hint_for_connect(address, code);
	failure.status = status_of(cli, code == SHMB_ETIMEDOUT ? CLI_TIMED_OUT
					: code == SHMB_EINVAL  ? CLI_USAGE
							       : CLI_NO_BROKER);
	return tell(cli, &failure);
}

static int fail_library(struct cli *cli, const char *name, int code, const struct shmb_error *error)
{
	char message[256];
	struct failure failure = {
		.status = status_of(cli, status_of_code(code)),
		.error = shmb_error_name(code),
		.name = name,
		.message = shmb_strerror(code),
		.hint = hint_for(cli, code),
	};

	if (error->code == code) {
		shmb_error_format(error, message, sizeof(message));
		failure.message = message;
		failure.particulars = error;
	}
	return tell(cli, &failure);
}

int cli_fail_bounds(struct cli *cli, const char *name, uint64_t offset, uint64_t length,
		    uint64_t size)
{
	const struct shmb_error error = {
		.struct_size = sizeof(error),
		.code = SHMB_EBOUNDS,
		.offset = offset,
		.length = length,
		.size = size,
	};

	return fail_library(cli, name, SHMB_EBOUNDS, &error);
}

int cli_fail_client(struct cli *cli, const char *name, int code)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	if (cli->client == NULL || shmb_client_last_error(cli->client, &error) < 0)
		error.code = 0;
	return fail_library(cli, name, code, &error);
}

int cli_fail_region(struct cli *cli, struct shmb_region *region, int code)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	if (shmb_region_last_error(region, &error) < 0 || error.code != code)
		return cli_fail_client(cli, shmb_region_name(region), code);
	return fail_library(cli, shmb_region_name(region), code, &error);
}
