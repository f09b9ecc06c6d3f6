/* SPDX-License-Identifier: MIT */
/*
 * watch: what happens to regions, in an event loop around the client's descriptor.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json.h"

struct watch_values {
	const char *types;
	struct cli_number count, seen;
};

static const struct cli_option watch_options[] = {
	{ 'e', "types", CLI_TEXT, offsetof(struct watch_values, types), "TYPE[,TYPE...]",
	  "published, resized, removed, metadata, owner-died, file; default: all" },
	{ 'c', "count", CLI_NUMBER, offsetof(struct watch_values, count), "COUNT",
	  "end after that many events" },
	{ 0, "seen", CLI_NUMBER, offsetof(struct watch_values, seen), "SEQUENCE",
	  "the last publish that is old news; default: the newest one" },
};

static const struct {
	const char *name;
	unsigned type;
} event_types[] = {
	{ "published", SHMB_EVENT_PUBLISHED },   { "resized", SHMB_EVENT_RESIZED },
	{ "removed", SHMB_EVENT_REMOVED },       { "metadata", SHMB_EVENT_METADATA },
	{ "owner-died", SHMB_EVENT_OWNER_DIED }, { "file", SHMB_EVENT_FILE },
};

enum { N_EVENT_TYPES = sizeof(event_types) / sizeof(event_types[0]) };

struct watch {
	struct cli *cli;
	bool all;       /* no types were named */
	unsigned types; /* to print; removal is always watched for, as it ends the watch */
	uint64_t left;  /* events to print; UINT64_MAX: no limit */
	int watched;    /* regions that have not been removed */
	bool disconnected;
};

static int parse_types(struct cli *cli, const char *text, unsigned *ret_types)
{
	bool all = text == NULL;
	unsigned types = 0;

	while (text != NULL) {
		size_t length = strcspn(text, ","), i;

		for (i = 0; i < N_EVENT_TYPES; i++)
			if (strlen(event_types[i].name) == length &&
			    memcmp(event_types[i].name, text, length) == 0)
				break;
		if (i == N_EVENT_TYPES)
			return cli_usage(cli,
					 "--types: '%.*s' is none of published, resized, removed, "
					 "metadata, owner-died, file",
					 (int)length, text);
		types |= event_types[i].type;
		text = text[length] == ',' ? text + length + 1 : NULL;
	}
	for (size_t i = 0; all && i < N_EVENT_TYPES; i++)
		types |= event_types[i].type;
	*ret_types = types;
	return CLI_OK;
}

static void print_event_json(const char *name, unsigned types, const struct shmb_event *event)
{
	struct json json = json_begin(stdout);

	json_string(&json, "name", name);
	json_array(&json, "types");
	if (types == 0)
		json_string(&json, NULL, "watching");
	for (size_t i = 0; i < N_EVENT_TYPES; i++)
		if ((types & event_types[i].type) != 0)
			json_string(&json, NULL, event_types[i].name);
	json_array_end(&json);
	json_uint(&json, "sequence", event->sequence);
	json_uint(&json, "size", event->size);
	if ((types & SHMB_EVENT_PUBLISHED) != 0) {
		json_uint(&json, "offset", event->offset);
		json_uint(&json, "length", event->length);
	}
	json_end(&json);
}

static void print_event_text(const char *name, unsigned types, const struct shmb_event *event)
{
	char text[64] = "";
	time_t now = time(NULL);
	struct tm local;
	char clock[16] = "";

	if (localtime_r(&now, &local) != NULL)
		strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	for (size_t i = 0; i < N_EVENT_TYPES; i++) {
		if ((types & event_types[i].type) == 0)
			continue;
		if (text[0] != '\0')
			strcat(text, ","); /* all names together fit */
		strcat(text, event_types[i].name);
	}
	printf("%s  %s  %s  sequence %" PRIu64 "  size %" PRIu64, clock, name,
	       types == 0 ? "watching" : text, event->sequence, event->size);
	if ((types & SHMB_EVENT_PUBLISHED) != 0)
		printf("  offset %" PRIu64 "  length %" PRIu64, event->offset, event->length);
	putchar('\n');
}

/* @types 0: the watch is there */
static void print_event(const struct cli *cli, const char *name, unsigned types,
			const struct shmb_event *event)
{
	if (cli->json)
		print_event_json(name, types, event);
	else
		print_event_text(name, types, event);
	fflush(stdout); /* whoever reads a pipe wants it now */
}

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct watch *watch = userdata;
	unsigned types = event->types & watch->types;

	if ((event->types & SHMB_EVENT_DISCONNECTED) != 0)
		watch->disconnected = true;
	if (types != 0 && watch->left > 0) {
		print_event(watch->cli, shmb_region_name(region), types, event);
		if (watch->left != UINT64_MAX)
			watch->left--;
	}
	if ((event->types & SHMB_EVENT_REMOVED) != 0) {
		watch->watched--;
		shmb_region_watch(region, 0, 0, NULL, NULL);
	}
}

/* If everything is watched, a file's changes are where the system tells of them. */
static int arm(struct watch *watch, struct shmb_region *region, uint64_t seen)
{
	unsigned types = watch->types | SHMB_EVENT_REMOVED;
	int result = shmb_region_watch(region, types, seen, on_event, watch);

	if (watch->all && (result == SHMB_ENOTSUP || result == SHMB_EACCES ||
			   result == SHMB_ENOSPC || result == SHMB_EMFILE))
		result = shmb_region_watch(region, types & ~(unsigned)SHMB_EVENT_FILE, seen,
					   on_event, watch);
	return result;
}

static int fail_watch(struct watch *watch, struct shmb_region *region, int code)
{
	if (code == SHMB_ENOTSUP && shmb_region_backing(region) != SHMB_BACKING_FILE)
		return cli_fail(watch->cli, code, shmb_region_name(region),
				"it is made of no file, so that none can change");
	return cli_fail_region(watch->cli, region, code);
}

static int watch_one(struct watch *watch, const struct cli_number *seen, const char *name,
		     struct shmb_region **ret_region)
{
	struct shmb_event now = { .struct_size = sizeof(now) };
	struct shmb_region *region;
	uint64_t from;
	int result, status;

	status = cli_open(watch->cli, name, SHMB_READ, &region);
	if (status != CLI_OK)
		return status;
	now.sequence = shmb_region_sequence(region);
	now.size = shmb_region_size(region);
	from = seen->given ? seen->value : now.sequence;
	result = arm(watch, region, from);
	if (result < 0) {
		status = fail_watch(watch, region, result);
		shmb_region_free(region);
		return status;
	}
	watch->watched++;
	print_event(watch->cli, name, 0, &now);
	*ret_region = region;
	return CLI_OK;
}

static int watch_loop(struct watch *watch)
{
	int64_t deadline = cli_deadline(watch->cli);

	while (watch->watched > 0 && watch->left > 0 && ferror(stdout) == 0) {
		int result = cli_wait_client(watch->cli, -1, deadline);

		if (watch->disconnected && result >= 0)
			result = SHMB_EDISCONNECTED;
		if (result < 0)
			return cli_fail_client(watch->cli, NULL, result);
		if (result == 0)
			return cli_fail(watch->cli, SHMB_ETIMEDOUT, NULL,
					watch->left == UINT64_MAX
						? "the time is over"
						: "the time is over before the last event");
	}
	return CLI_OK;
}

static int watch_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct watch_values *values = parsed;
	struct watch watch = {
		.cli = cli,
		.left = values->count.given ? values->count.value : UINT64_MAX,
	};
	struct shmb_region **regions;
	int status, n = 0;

	watch.all = values->types == NULL;
	status = parse_types(cli, values->types, &watch.types);
	if (status == CLI_OK)
		status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	regions = calloc((size_t)argc, sizeof(struct shmb_region *));
	if (regions == NULL)
		return cli_fail_client(cli, NULL, SHMB_ENOMEM);
	while (status == CLI_OK && n < argc) {
		status = watch_one(&watch, &values->seen, argv[n], &regions[n]);
		n += status == CLI_OK;
	}
	if (status == CLI_OK)
		status = watch_loop(&watch);
	while (n > 0)
		shmb_region_free(regions[--n]);
	free(regions);
	return status;
}

const struct cli_command command_watch = {
	.name = "watch",
	.synopsis = "[OPTION...] NAME...",
	.summary = "Print what happens to regions, until all of them are removed.",
	.options = watch_options,
	.n_options = sizeof(watch_options) / sizeof(watch_options[0]),
	.values_size = sizeof(struct watch_values),
	.min_operands = 1,
	.max_operands = -1,
	.run = watch_run,
};
