/* SPDX-License-Identifier: MIT */
/*
 * publish, wait, watch: commands about changes. wait sleeps in shared memory, watch in an event
 * loop around the client's descriptor.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json.h"

/* ---- publish ---- */

struct publish_values {
	struct cli_number offset, length;
};

static const struct cli_option publish_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct publish_values, offset), "OFFSET",
	  "where the change begins; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct publish_values, length), "LENGTH",
	  "how many bytes changed; default: up to the region's size" },
};

static int publish_region(struct cli *cli, const struct publish_values *values,
			  struct shmb_region *region)
{
	uint64_t offset = values->offset.value, length = values->length.value;
	struct json json;
	int result;

	if (values->length.given && length == 0)
		return cli_usage(cli, "--length is at least 1");
	if (!values->length.given && offset > 0) {
		uint64_t size = shmb_region_size(region);

		/* at or beyond the end the library shall refuse it */
		length = offset < size ? size - offset : 1;
	}
	result = shmb_region_publish(region, offset, length);
	if (result < 0)
		return cli_fail_region(cli, region, result);
	if (!cli->json)
		return CLI_OK;
	json = json_begin(stdout);
	json_string(&json, "name", shmb_region_name(region));
	json_uint(&json, "offset", offset);
	json_uint(&json, "length", length != 0 ? length : shmb_region_size(region));
	json_uint(&json, "sequence", shmb_region_sequence(region));
	json_end(&json);
	return CLI_OK;
}

static int publish_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct shmb_region *region;
	int status = cli_open(cli, argv[0], SHMB_READ | SHMB_WRITE, &region);

	if (status != CLI_OK)
		return status;
	status = publish_region(cli, values, region);
	shmb_region_free(region);
	return status;
}

const struct cli_command command_publish = {
	.name = "publish",
	.synopsis = "[OPTION...] NAME",
	.summary = "Say that a region, or a range of it, changed.",
	.options = publish_options,
	.n_options = sizeof(publish_options) / sizeof(publish_options[0]),
	.values_size = sizeof(struct publish_values),
	.min_operands = 1,
	.max_operands = 1,
	.run = publish_run,
};

/* ---- wait ---- */

struct wait_values {
	struct cli_number seen;
};

static const struct cli_option wait_options[] = {
	{ 0, "seen", CLI_NUMBER, offsetof(struct wait_values, seen), "SEQUENCE",
	  "the last publish that is old news; default: the newest one" },
};

enum { WAIT_SLICE_MS = 500 }; /* how late a removal or the broker's end may be noticed */

static void note_removed(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	bool *removed = userdata;

	if ((event->types & SHMB_EVENT_REMOVED) != 0)
		*removed = true;
}

/* Sleeps in the region until a publish; between slices, looks whether one can still come. */
static int wait_publish(struct cli *cli, struct shmb_region *region, uint64_t seen,
			const bool *removed, struct shmb_publication *ret_publication)
{
	int64_t deadline = cli_deadline(cli);
	bool last_look = false;

	for (;;) {
		int64_t left = deadline < 0 ? WAIT_SLICE_MS : deadline - cli_now_ms();
		int slice = left < 0 ? 0 : left < WAIT_SLICE_MS ? (int)left : WAIT_SLICE_MS;
		int result;

		result = shmb_region_wait(region, seen, last_look ? 0 : slice, ret_publication);
		if (result == 0)
			return CLI_OK;
		if (result != SHMB_ETIMEDOUT)
			return cli_fail_region(cli, region, result);
		if (last_look)
			return cli_fail(cli, SHMB_ENOENT, shmb_region_name(region),
					"the region was removed");
		if (deadline >= 0 && cli_now_ms() >= deadline)
			return cli_fail(cli, SHMB_ETIMEDOUT, shmb_region_name(region),
					"nobody published in time");
		result = shmb_client_process(cli->client);
		if (result < 0)
			return cli_fail_client(cli, shmb_region_name(region), result);
		last_look = *removed; /* a publish before the removal still counts */
	}
}

static void print_publication(const struct cli *cli, struct shmb_region *region,
			      const struct shmb_publication *publication)
{
	struct json json;

	if (!cli->json) {
		printf("sequence %" PRIu64 "  offset %" PRIu64 "  length %" PRIu64 "\n",
		       publication->sequence, publication->offset, publication->length);
		return;
	}
	json = json_begin(stdout);
	json_string(&json, "name", shmb_region_name(region));
	json_uint(&json, "sequence", publication->sequence);
	json_uint(&json, "offset", publication->offset);
	json_uint(&json, "length", publication->length);
	json_end(&json);
}

static int wait_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct wait_values *values = parsed;
	struct shmb_publication publication = { 0 };
	struct shmb_region *region;
	bool removed = false;
	uint64_t seen;
	int result, status;

	status = cli_open(cli, argv[0], SHMB_READ, &region);
	if (status != CLI_OK)
		return status;
	seen = values->seen.given ? values->seen.value : shmb_region_sequence(region);
	result = shmb_client_get_fd(cli->client); /* events flow from now on */
	if (result >= 0)
		result =
			shmb_region_watch(region, SHMB_EVENT_REMOVED, seen, note_removed, &removed);
	if (result < 0)
		status = cli_fail_region(cli, region, result);
	else
		status = wait_publish(cli, region, seen, &removed, &publication);
	if (status == CLI_OK)
		print_publication(cli, region, &publication);
	shmb_region_free(region);
	return status;
}

const struct cli_command command_wait = {
	.name = "wait",
	.synopsis = "[OPTION...] NAME",
	.summary = "Wait until somebody publishes.",
	.options = wait_options,
	.n_options = sizeof(wait_options) / sizeof(wait_options[0]),
	.values_size = sizeof(struct wait_values),
	.min_operands = 1,
	.max_operands = 1,
	.run = wait_run,
};

/* ---- watch ---- */

struct watch_values {
	const char *types;
	struct cli_number count, seen;
};

static const struct cli_option watch_options[] = {
	{ 'e', "types", CLI_TEXT, offsetof(struct watch_values, types), "TYPE[,TYPE...]",
	  "published, resized, removed; default: all" },
	{ 'c', "count", CLI_NUMBER, offsetof(struct watch_values, count), "COUNT",
	  "end after that many events" },
	{ 0, "seen", CLI_NUMBER, offsetof(struct watch_values, seen), "SEQUENCE",
	  "the last publish that is old news; default: the newest one" },
};

static const struct {
	const char *name;
	unsigned type;
} event_types[] = {
	{ "published", SHMB_EVENT_PUBLISHED },
	{ "resized", SHMB_EVENT_RESIZED },
	{ "removed", SHMB_EVENT_REMOVED },
};

enum { N_EVENT_TYPES = sizeof(event_types) / sizeof(event_types[0]) };

struct watch {
	struct cli *cli;
	unsigned types; /* to print; removal is always watched for, as it ends the watch */
	uint64_t left;  /* events to print; UINT64_MAX: no limit */
	int watched;    /* regions that have not been removed */
	bool disconnected;
};

static int parse_types(struct cli *cli, const char *text, unsigned *ret_types)
{
	unsigned types = 0;

	while (text != NULL) {
		size_t length = strcspn(text, ","), i;

		for (i = 0; i < N_EVENT_TYPES; i++)
			if (strlen(event_types[i].name) == length &&
			    memcmp(event_types[i].name, text, length) == 0)
				break;
		if (i == N_EVENT_TYPES)
			return cli_usage(cli,
					 "--types: '%.*s' is none of published, resized, removed",
					 (int)length, text);
		types |= event_types[i].type;
		text = text[length] == ',' ? text + length + 1 : NULL;
	}
	*ret_types = types == 0 ? ~0u : types;
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
	unsigned types = event->types & watch->types & ~(unsigned)SHMB_EVENT_DISCONNECTED;

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

static int watch_one(struct watch *watch, const struct cli_number *seen, const char *name,
		     struct shmb_region **ret_region)
{
	struct shmb_event now = { .struct_size = sizeof(now) };
	struct shmb_region *region;
	unsigned types = (watch->types & 7) | SHMB_EVENT_REMOVED;
	uint64_t from;
	int result, status;

	status = cli_open(watch->cli, name, SHMB_READ, &region);
	if (status != CLI_OK)
		return status;
	now.sequence = shmb_region_sequence(region);
	now.size = shmb_region_size(region);
	from = seen->given ? seen->value : now.sequence;
	result = shmb_region_watch(region, types, from, on_event, watch);
	if (result < 0) {
		status = cli_fail_region(watch->cli, region, result);
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
