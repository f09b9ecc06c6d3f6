/* SPDX-License-Identifier: MIT */
/*
 * ls, stat: what regions there are, and what the broker knows of them.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>

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
