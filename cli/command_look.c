/* SPDX-License-Identifier: MIT */
/*
 * ls, stat, stats, ping: commands that ask the broker and change nothing.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "info.h"
#include "size.h"
#include "table.h"

/* ---- ls ---- */

struct ls_values {
	bool detailed, bytes, quiet;
};

static const struct cli_option ls_options[] = {
	{ 'l', "long", CLI_FLAG, offsetof(struct ls_values, detailed), NULL,
	  "also tell group, capacity, publishes, backing, lifetime and birth" },
	{ 'b', "bytes", CLI_FLAG, offsetof(struct ls_values, bytes), NULL, "print sizes in bytes" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct ls_values, quiet), NULL, "print names only" },
};

static const struct table_column short_columns[] = {
	{ .title = "MODE" },
	{ .title = "OWNER" },
	{ .title = "SIZE", .right = true },
	{ .title = "ATTACHED", .right = true },
	{ .title = "NAME" },
};

static const struct table_column long_columns[] = {
	{ .title = "MODE" },
	{ .title = "OWNER" },
	{ .title = "GROUP" },
	{ .title = "SIZE", .right = true },
	{ .title = "CAPACITY", .right = true },
	{ .title = "ATTACHED", .right = true },
	{ .title = "PUBLISHED", .right = true },
	{ .title = "BACKING" },
	{ .title = "LIFETIME" },
	{ .title = "CREATED" },
	{ .title = "NAME" },
};

struct ls_walk {
	const struct cli *cli;
	const struct ls_values *values;
	struct table table;
};

static void add_number(struct table *table, uint64_t number)
{
	char text[SIZE_TEXT];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	table_add(table, text);
}

static void add_size(struct ls_walk *walk, uint64_t bytes)
{
	char text[SIZE_TEXT];

	if (walk->values->bytes)
		add_number(&walk->table, bytes);
	else
		table_add(&walk->table, size_format(bytes, text));
}

static void add_row(struct ls_walk *walk, const struct shmb_region_info *info)
{
	char mode[MODE_TEXT], owner[OWNER_TEXT], time[TIME_TEXT];
	struct table *table = &walk->table;

	table_add(table, mode_format(info->mode, mode));
	table_add(table, info_user(info->uid, owner));
	if (walk->values->detailed)
		table_add(table, info_group(info->gid, owner));
	add_size(walk, info->size);
	if (walk->values->detailed)
		add_size(walk, info->capacity);
	add_number(table, info->attachments);
	if (walk->values->detailed) {
		add_number(table, info->sequence);
		table_add(table, info_backing(info->backing));
		table_add(table, info_lifetime(info->lifetime));
		table_add(table, info_time(info->created, time));
	}
	table_add(table, info->name);
}

static int ls_each(const struct shmb_region_info *info, void *userdata)
{
	struct ls_walk *walk = userdata;
	struct json json;

	if (walk->values->quiet) {
		info_print_name(walk->cli->json, info->name);
	} else if (walk->cli->json) {
		json = json_begin(stdout);
		info_json(&json, info);
		json_end(&json);
	} else {
		add_row(walk, info);
		return walk->table.no_memory ? SHMB_ENOMEM : 0;
	}
	return ferror(stdout) != 0 ? 1 : 0; /* nobody reads any more; main() tells */
}

static int ls_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	struct ls_walk walk = { .cli = cli, .values = parsed };
	const char *prefix = argc > 0 ? argv[0] : "";
	int result, status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	if (walk.values->detailed)
		table_init(&walk.table, long_columns,
			   sizeof(long_columns) / sizeof(long_columns[0]));
	else
		table_init(&walk.table, short_columns,
			   sizeof(short_columns) / sizeof(short_columns[0]));
	result = shmb_region_list(cli->client, prefix, ls_each, &walk);
	if (result == 0)
		result = table_print(&walk.table, stdout);
	table_deinit(&walk.table);
	return result < 0 ? cli_fail_client(cli, prefix[0] != '\0' ? prefix : NULL, result)
			  : CLI_OK;
}

const struct cli_command command_ls = {
	.name = "ls",
	.synopsis = "[OPTION...] [PREFIX]",
	.summary = "List the regions that you may know of.",
	.options = ls_options,
	.n_options = sizeof(ls_options) / sizeof(ls_options[0]),
	.values_size = sizeof(struct ls_values),
	.max_operands = 1,
	.run = ls_run,
};

/* ---- stat ---- */

static void print_size(const char *title, uint64_t bytes)
{
	char text[SIZE_TEXT];

	printf("%14s: %" PRIu64, title, bytes);
	if (bytes >= 1024)
		printf(" (%s)", size_format(bytes, text));
	putchar('\n');
}

static void print_info(const struct shmb_region_info *info)
{
	char mode[MODE_TEXT], user[OWNER_TEXT], group[OWNER_TEXT], time[TIME_TEXT];

	printf("%14s: %s%s\n", "Name", info->name, info->removed != 0 ? " (removed)" : "");
	printf("%14s: %" PRIu64 "\n", "Id", info->id);
	print_size("Size", info->size);
	print_size("Capacity", info->capacity);
	printf("%14s: %s\n", "Mode", mode_format(info->mode, mode));
	printf("%14s: %s (%" PRIu32 ")\n", "Owner", info_user(info->uid, user), info->uid);
	printf("%14s: %s (%" PRIu32 ")\n", "Group", info_group(info->gid, group), info->gid);
	printf("%14s: %s\n", "Backing", info_backing(info->backing));
	if (info->path[0] != '\0')
		printf("%14s: %s\n", "File", info->path);
	printf("%14s: %s\n", "Lifetime", info_lifetime(info->lifetime));
	printf("%14s: %" PRIu32 "\n", "Attachments", info->attachments);
	printf("%14s: %" PRIu64 "\n", "Published", info->sequence);
	printf("%14s: %s\n", "Created", info_time(info->created, time));
}

static int stat_one(struct cli *cli, const char *name, bool first)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	int result = shmb_region_stat(cli->client, name, &info);
	struct json json;

	if (result < 0)
		return cli_fail_client(cli, name, result);
	if (cli->json) {
		json = json_begin(stdout);
		info_json(&json, &info);
		json_end(&json);
		return CLI_OK;
	}
	if (!first)
		putchar('\n');
	print_info(&info);
	return CLI_OK;
}

static int stat_run(struct cli *cli, const void *values, int argc, char **argv)
{
	int status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	for (int i = 0; i < argc && status != CLI_NO_BROKER; i++)
		status = cli_first_failure(status, stat_one(cli, argv[i], i == 0));
	return status;
}

const struct cli_command command_stat = {
	.name = "stat",
	.synopsis = "[OPTION...] NAME...",
	.summary = "Tell everything the broker knows of regions.",
	.min_operands = 1,
	.max_operands = -1,
	.run = stat_run,
};

/* ---- stats ---- */

struct stats_walk {
	bool json, begun;
	struct json object;
	struct table table;
};

static const struct table_column stats_columns[] = {
	{ .title = "FIGURE" },
	{ .title = "VALUE", .right = true },
};

static int stats_each(const char *name, uint64_t value, void *userdata)
{
	struct stats_walk *walk = userdata;

	if (walk->json) {
		if (!walk->begun) /* not before the broker answered: half an object is no JSON */
			walk->object = json_begin(stdout);
		walk->begun = true;
		json_uint(&walk->object, name, value);
		return 0;
	}
	table_add(&walk->table, name);
	add_number(&walk->table, value);
	return 0;
}

static int stats_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct stats_walk walk = { .json = cli->json };
	int result, status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	table_init(&walk.table, stats_columns, sizeof(stats_columns) / sizeof(stats_columns[0]));
	result = shmb_client_stats(cli->client, stats_each, &walk);
	if (walk.begun)
		json_end(&walk.object);
	if (result == 0)
		result = table_print(&walk.table, stdout);
	table_deinit(&walk.table);
	return result < 0 ? cli_fail_client(cli, NULL, result) : CLI_OK;
}

const struct cli_command command_stats = {
	.name = "stats",
	.synopsis = "[OPTION...]",
	.summary = "Print the broker's live figures.",
	.run = stats_run,
};

/* ---- ping ---- */

struct ping_values {
	struct cli_number count;
};

static const struct cli_option ping_options[] = {
	{ 'c', "count", CLI_NUMBER, offsetof(struct ping_values, count), "COUNT",
	  "ask so many times, one right after the other, and sum up" },
};

static int ping_once(struct cli *cli, double *ret_us)
{
	struct timespec before, after;
	int result;

	clock_gettime(CLOCK_MONOTONIC, &before);
	result = shmb_client_ping(cli->client);
	clock_gettime(CLOCK_MONOTONIC, &after);
	if (result < 0)
		return result;
	*ret_us = (double)(after.tv_sec - before.tv_sec) * 1e6 +
		  (double)(after.tv_nsec - before.tv_nsec) / 1e3;
	return 0;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_summary(const struct cli *cli, double *times, size_t n)
{
	struct json json;

	qsort(times, n, sizeof(*times), compare_double);
	if (!cli->json) {
		printf("%zu answers: min %.1f us, median %.1f us, max %.1f us\n", n, times[0],
		       times[n / 2], times[n - 1]);
		return;
	}
	json = json_begin(stdout);
	json_uint(&json, "count", n);
	json_double(&json, "min_us", times[0]);
	json_double(&json, "median_us", times[n / 2]);
	json_double(&json, "max_us", times[n - 1]);
	json_end(&json);
}

static int ping_many(struct cli *cli, double *times, size_t n)
{
	struct json json;

	for (size_t i = 0; i < n; i++) {
		int result = ping_once(cli, &times[i]);

		if (result < 0)
			return cli_fail_client(cli, NULL, result);
		if (cli->json) {
			json = json_begin(stdout);
			json_double(&json, "round_trip_us", times[i]);
			json_end(&json);
		} else {
			printf("answer in %.1f us\n", times[i]);
		}
	}
	return CLI_OK;
}

static int ping_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct ping_values *values = parsed;
	size_t n = values->count.given ? (size_t)values->count.value : 1;
	double *times;
	int status;

	if (n < 1 || n > 1000000)
		return cli_usage(cli, "--count is 1 to 1000000");
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	times = calloc(n, sizeof(*times));
	if (times == NULL)
		return cli_fail_client(cli, NULL, SHMB_ENOMEM);
	status = ping_many(cli, times, n);
	if (status == CLI_OK && values->count.given)
		print_summary(cli, times, n);
	free(times);
	return status;
}

const struct cli_command command_ping = {
	.name = "ping",
	.synopsis = "[-c COUNT]",
	.summary = "Ask the broker for an answer, and tell how long it took.",
	.options = ping_options,
	.n_options = sizeof(ping_options) / sizeof(ping_options[0]),
	.values_size = sizeof(struct ping_values),
	.run = ping_run,
};
