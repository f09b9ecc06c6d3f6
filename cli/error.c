/* SPDX-License-Identifier: MIT */
/*
 * What went wrong, on stderr: a sentence, its particulars, and what can be done (hint.c); or all of
 * that as one JSON object. The one place that turns an error into an exit status.
 */

#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hint.h"
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
	if (failure->subject != NULL)
		json_string(&json, "what", failure->subject);
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

int cli_fail_file(struct cli *cli, const char *path, int code)
{
	const struct failure failure = {
		.status = status_of(cli, CLI_FAILED),
		.error = shmb_error_name(code),
		.subject = path,
		/* of a file the system's sentence is the better one */
		.message = code > SHMB_ECLOSED ? strerror(-code) : shmb_strerror(code),
		.hint = hint_for(cli, code, "file"),
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

	if (address == NULL)
		address = getenv("SHMB_ADDRESS");
	if (address == NULL)
		address = "user";
	snprintf(message, sizeof(message), "%s (address: %s)", shmb_strerror(code), address);
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
		.hint = hint_for(cli, code, error->code == code ? error->what : ""),
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
