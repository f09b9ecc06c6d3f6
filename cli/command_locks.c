/* SPDX-License-Identifier: MIT */
/*
 * locks: which locks there are, and who has them.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "holders.h"
#include "info.h"
#include "lock_info.h"
#include "table.h"

struct locks_values {
	bool holders, quiet;
};

static const struct cli_option locks_options[] = {
	{ 'H', "holders", CLI_FLAG, offsetof(struct locks_values, holders), NULL,
	  "instead, list all who hold the lock NAME or wait for it" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct locks_values, quiet), NULL, "print names only" },
};

static const struct table_column columns[] = {
	{ .title = "KIND" },
	{ .title = "STATE" },
	{ .title = "WAITING", .right = true },
	{ .title = "SLOTS", .right = true },
	HOLDER_COLUMNS,
	{ .title = "NAME" },
};

struct locks_walk {
	const struct cli *cli;
	bool quiet;
	struct table table;
};

/* ---- How a lock is spelt ---- */

static const char *kind_of(const struct shmb_lock_info *info)
{
	return info->is_region != 0 ? "region" : "lock";
}

static const char *state_of(const struct shmb_lock_info *info)
{
	return info->held != 0      ? "exclusive"
	       : info->pending != 0 ? "pending"
	       : info->readers > 0  ? "shared"
				    : "free";
}

const struct shmb_process *lock_holder(const struct shmb_lock_info *info)
{
	return strcmp(state_of(info), "free") != 0 ? &info->holder : NULL;
}

static const char *state_format(const struct shmb_lock_info *info, char *buffer, size_t size)
{
	const char *died = info->not_recoverable != 0 ? ", not recoverable"
			   : info->owner_died != 0    ? ", owner died"
						      : "";
	char readers[16] = "";

	if (strcmp(state_of(info), "shared") == 0)
		snprintf(readers, sizeof(readers), " %" PRIu32, info->readers);
	snprintf(buffer, size, "%s%s%s", state_of(info), readers, died);
	return buffer;
}

void lock_print_json(const struct shmb_lock_info *info)
{
	struct json json = json_begin(stdout);

	json_string(&json, "name", info->name);
	json_uint(&json, "id", info->id);
	json_string(&json, "kind", kind_of(info));
	info_mode_json(&json, info->mode);
	json_uint(&json, "uid", info->uid);
	json_uint(&json, "gid", info->gid);
	json_string(&json, "lifetime", info_lifetime(info->lifetime));
	json_uint(&json, "attachments", info->attachments);
	json_string(&json, "state", state_of(info));
	json_uint(&json, "readers", info->readers);
	json_uint(&json, "waiting_shared", info->waiting_shared);
	json_uint(&json, "waiting_exclusive", info->waiting_exclusive);
	json_bool(&json, "owner_died", info->owner_died != 0);
	json_bool(&json, "not_recoverable", info->not_recoverable != 0);
	json_uint(&json, "slots", info->slots);
	json_uint(&json, "slots_used", info->slots_used);
	if (lock_holder(info) != NULL)
		holder_json(&json, lock_holder(info));
	json_end(&json);
}

/* ---- The list ---- */

static void add_row(struct table *table, const struct shmb_lock_info *info)
{
	char text[64];

	table_add(table, kind_of(info));
	table_add(table, state_format(info, text, sizeof(text)));
	snprintf(text, sizeof(text), "%" PRIu64,
		 (uint64_t)info->waiting_shared + info->waiting_exclusive);
	table_add(table, text);
	snprintf(text, sizeof(text), "%" PRIu32 "/%" PRIu32, info->slots_used, info->slots);
	table_add(table, text);
	holder_cells(table, lock_holder(info));
	table_add(table, info->name);
}

static int each_lock(const struct shmb_lock_info *info, void *userdata)
{
	struct locks_walk *walk = userdata;

	if (walk->quiet) {
		info_print_name(walk->cli->json, info->name);
	} else if (walk->cli->json) {
		lock_print_json(info);
	} else {
		add_row(&walk->table, info);
		return walk->table.no_memory ? SHMB_ENOMEM : 0;
	}
	return ferror(stdout) != 0 ? 1 : 0; /* nobody reads any more; main() tells */
}

static int locks_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct locks_values *values = parsed;
	struct locks_walk walk = { .cli = cli, .quiet = values->quiet };
	const char *prefix = argc > 0 ? argv[0] : "";
	int result, status;

	if (values->holders && argc == 0)
		return cli_usage(cli, "--holders needs the name of a lock");
	if (values->holders)
		return holders_print(cli, argv[0], false);
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	table_init(&walk.table, columns, sizeof(columns) / sizeof(columns[0]));
	result = shmb_lock_list(cli->client, prefix, each_lock, &walk);
	if (result == 0)
		result = table_print(&walk.table, stdout);
	table_deinit(&walk.table);
	return result < 0 ? cli_fail_client(cli, prefix[0] != '\0' ? prefix : NULL, result)
			  : CLI_OK;
}

const struct cli_command command_locks = {
	.name = "locks",
	.synopsis = "[-q] [PREFIX] | --holders NAME",
	.summary = "List named locks and those of regions, and who has them.",
	.options = locks_options,
	.n_options = sizeof(locks_options) / sizeof(locks_options[0]),
	.values_size = sizeof(struct locks_values),
	.max_operands = 1,
	.run = locks_run,
};
