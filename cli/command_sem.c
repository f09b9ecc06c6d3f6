/* SPDX-License-Identifier: MIT */
/*
 * sem, sem create, sem post, sem value: which semaphores there are, and what they stand at.
 */

#include "cli.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "holders.h"
#include "info.h"
#include "size.h"
#include "table.h"

/* ---- How a semaphore is spelt ---- */

static const char *kind_name(enum shmb_semaphore_kind kind)
{
	switch (kind) {
	case SHMB_COUNTING:
		return "counting";
	case SHMB_OWNED:
		return "owned";
	}
	return "unknown";
}

static const struct shmb_process *one_holder(const struct shmb_semaphore_info *info)
{
	return info->kind == SHMB_OWNED && info->value < info->maximum ? &info->holder : NULL;
}

static void print_json(const struct shmb_semaphore_info *info)
{
	struct json json = json_begin(stdout);

	json_string(&json, "name", info->name);
	json_uint(&json, "id", info->id);
	json_string(&json, "kind", kind_name(info->kind));
	info_mode_json(&json, info->mode);
	json_uint(&json, "uid", info->uid);
	json_uint(&json, "gid", info->gid);
	json_string(&json, "lifetime", info_lifetime(info->lifetime));
	json_uint(&json, "attachments", info->attachments);
	json_uint(&json, "value", info->value);
	json_uint(&json, "maximum", info->maximum);
	json_uint(&json, "waiting", info->waiting);
	if (one_holder(info) != NULL)
		holder_json(&json, one_holder(info));
	json_end(&json);
}

/* ---- sem ---- */

struct sem_values {
	bool holders, quiet;
};

static const struct cli_option sem_options[] = {
	{ 'H', "holders", CLI_FLAG, offsetof(struct sem_values, holders), NULL,
	  "instead, list all who hold a permit of NAME or wait for it" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct sem_values, quiet), NULL, "print names only" },
};

static const struct table_column columns[] = {
	{ .title = "KIND" },
	{ .title = "VALUE", .right = true },
	{ .title = "MAXIMUM", .right = true },
	{ .title = "WAITING", .right = true },
	HOLDER_COLUMNS,
	{ .title = "NAME" },
};

struct sem_walk {
	const struct cli *cli;
	bool quiet;
	struct table table;
};

static void add_number(struct table *table, uint32_t number)
{
	char text[16];

	snprintf(text, sizeof(text), "%" PRIu32, number);
	table_add(table, text);
}

static void add_row(struct table *table, const struct shmb_semaphore_info *info)
{
	table_add(table, kind_name(info->kind));
	add_number(table, info->value);
	add_number(table, info->maximum);
	add_number(table, info->waiting);
	holder_cells(table, one_holder(info));
	table_add(table, info->name);
}

static int each_semaphore(const struct shmb_semaphore_info *info, void *userdata)
{
	struct sem_walk *walk = userdata;

	if (walk->quiet) {
		info_print_name(walk->cli->json, info->name);
	} else if (walk->cli->json) {
		print_json(info);
	} else {
		add_row(&walk->table, info);
		return walk->table.no_memory ? SHMB_ENOMEM : 0;
	}
	return ferror(stdout) != 0 ? 1 : 0; /* nobody reads any more; main() tells */
}

static int sem_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct sem_values *values = parsed;
	struct sem_walk walk = { .cli = cli, .quiet = values->quiet };
	const char *prefix = argc > 0 ? argv[0] : "";
	int result, status;

	if (values->holders && argc == 0)
		return cli_usage(cli, "--holders needs the name of a semaphore");
	if (values->holders)
		return holders_print(cli, argv[0], true);
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	table_init(&walk.table, columns, sizeof(columns) / sizeof(columns[0]));
	result = shmb_semaphore_list(cli->client, prefix, each_semaphore, &walk);
	if (result == 0)
		result = table_print(&walk.table, stdout);
	table_deinit(&walk.table);
	return result < 0 ? cli_fail_client(cli, prefix[0] != '\0' ? prefix : NULL, result)
			  : CLI_OK;
}

const struct cli_command command_sem = {
	.name = "sem",
	.synopsis = "[-q] [PREFIX] | --holders NAME | create|wait|take|post|value ...",
	.summary = "List semaphores, and who holds permits of them.",
	.options = sem_options,
	.n_options = sizeof(sem_options) / sizeof(sem_options[0]),
	.values_size = sizeof(struct sem_values),
	.max_operands = 1,
	.run = sem_run,
};

/* ---- sem create ---- */

struct create_values {
	bool counting, owned, hold;
	struct cli_number initial, max;
	const char *mode, *lifetime;
};

#define OFFSET(member) offsetof(struct create_values, member)
static const struct cli_option create_options[] = {
	{ 'c', "counting", CLI_FLAG, OFFSET(counting), NULL, "a number without owner (default)" },
	{ 'o', "owned", CLI_FLAG, OFFSET(owned), NULL,
	  "permits that come back when their holder has ended" },
	{ 'i', "initial", CLI_NUMBER, OFFSET(initial), "NUMBER",
	  "counting: the value it begins with; default 0" },
	{ 'M', "max", CLI_NUMBER, OFFSET(max), "NUMBER",
	  "counting: the largest value, default 2147483647; owned: how many permits, default 1" },
	{ 'm', "mode", CLI_TEXT, OFFSET(mode), "MODE", "who may use it (l); default 0700" },
	{ 'l', "lifetime", CLI_TEXT, OFFSET(lifetime), "persistent|session|attached",
	  "when it goes by itself; default: never (persistent), with --hold: attached" },
	{ 'H', "hold", CLI_FLAG, OFFSET(hold), NULL, "stay attached until signalled" },
};
#undef OFFSET

static int parse_create(struct cli *cli, const struct create_values *values,
			struct shmb_semaphore_options *options)
{
	uint32_t most = values->owned ? 1024 : INT32_MAX;
	int status;

	if (values->counting && values->owned)
		return cli_usage(cli, "--counting and --owned exclude each other");
	if (values->owned && values->initial.given)
		return cli_usage(cli, "--initial is for counting semaphores; permits are free");
	options->kind = values->owned ? SHMB_OWNED : SHMB_COUNTING;
	options->lifetime = values->hold ? SHMB_ATTACHED : SHMB_PERSISTENT;
	status = cli_parse_range(cli, "max", &values->max, 1, most, &options->maximum);
	if (values->max.given)
		most = options->maximum;
	if (status == CLI_OK)
		status = cli_parse_range(cli, "initial", &values->initial, 0, most,
					 &options->initial);
	if (status == CLI_OK)
		status = cli_parse_mode(cli, values->mode, &options->mode);
	if (status == CLI_OK)
		status = cli_parse_lifetime(cli, values->lifetime, &options->lifetime);
	if (status == CLI_OK && options->lifetime != SHMB_PERSISTENT && !values->hold)
		return cli_usage(cli,
				 "with --lifetime=%s the semaphore would go with this command: add "
				 "--hold",
				 values->lifetime);
	return status;
}

static int print_created(struct cli *cli, const char *name, bool hold)
{
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	int result;

	if (!cli->json) {
		if (hold)
			printf("holding %s\n", name);
		return CLI_OK;
	}
	result = shmb_semaphore_stat(cli->client, name, &info);
	if (result < 0)
		return cli_fail_client(cli, name, result);
	print_json(&info);
	return CLI_OK;
}

static int create_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct create_values *values = parsed;
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_semaphore *semaphore;
	sigset_t signals;
	int result, status;

	status = parse_create(cli, values, &options);
	if (status != CLI_OK)
		return status;
	if (values->hold) /* before "holding" is printed: it invites a signal */
		signals = cli_hold_signals();
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	result = shmb_semaphore_create(cli->client, argv[0], &options, &semaphore);
	if (result < 0)
		return cli_fail_client(cli, argv[0], result);
	status = print_created(cli, argv[0], values->hold);
	if (status == CLI_OK && values->hold) {
		fflush(stdout);
		status = cli_hold(cli, argv[0], &signals, NULL);
	}
	shmb_semaphore_free(semaphore);
	return status;
}

const struct cli_command command_sem_create = {
	.name = "sem create",
	.synopsis = "[OPTION...] NAME",
	.summary = "Make a semaphore.",
	.options = create_options,
	.n_options = sizeof(create_options) / sizeof(create_options[0]),
	.values_size = sizeof(struct create_values),
	.min_operands = 1,
	.max_operands = 1,
	.run = create_run,
};

/* ---- sem post ---- */

static int print_value(struct cli *cli, const char *name, struct shmb_semaphore *semaphore,
		       bool quiet)
{
	int64_t value = shmb_semaphore_value(semaphore);
	struct json json;

	if (value < 0)
		return cli_fail_client(cli, name, (int)value);
	if (cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", name);
		json_int(&json, "value", value);
		json_end(&json);
	} else if (!quiet) {
		printf("%" PRId64 "\n", value);
	}
	return CLI_OK;
}

static int open_semaphore(struct cli *cli, const char *name, struct shmb_semaphore **ret_semaphore)
{
	int result = cli_connect(cli);

	if (result != CLI_OK)
		return result;
	result = shmb_semaphore_open(cli->client, name, ret_semaphore);
	return result < 0 ? cli_fail_client(cli, name, result) : CLI_OK;
}

/* Posting to an owned semaphore gives back own permits, of which this process has none. */
static int check_counting(struct cli *cli, const char *name)
{
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	int result = shmb_semaphore_stat(cli->client, name, &info);

	if (result < 0)
		return cli_fail_client(cli, name, result);
	if (info.kind == SHMB_OWNED)
		return cli_fail(cli, SHMB_EKIND, name,
				"an owned semaphore: its permits come back when `shmbctl sem "
				"take`, or whoever holds them, ends");
	return CLI_OK;
}

static int post_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct shmb_semaphore *semaphore;
	uint64_t n = 1;
	int result, status;

	if (argc > 1 && (!number_parse(argv[1], &n) || n < 1 || n > INT32_MAX))
		return cli_usage(cli, "'%s' is no number from 1 to 2147483647", argv[1]);
	status = open_semaphore(cli, argv[0], &semaphore);
	if (status != CLI_OK)
		return status;
	status = check_counting(cli, argv[0]);
	if (status == CLI_OK) {
		result = shmb_semaphore_post(semaphore, (uint32_t)n);
		if (result < 0)
			status = cli_fail_client(cli, argv[0], result);
		else
			status = print_value(cli, argv[0], semaphore, true);
	}
	shmb_semaphore_free(semaphore);
	return status;
}

const struct cli_command command_sem_post = {
	.name = "sem post",
	.synopsis = "NAME [NUMBER]",
	.summary = "Add to a counting semaphore, and wake those who wait for it.",
	.min_operands = 1,
	.max_operands = 2,
	.run = post_run,
};

/* ---- sem value ---- */

static int value_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct shmb_semaphore *semaphore;
	int status = open_semaphore(cli, argv[0], &semaphore);

	if (status != CLI_OK)
		return status;
	status = print_value(cli, argv[0], semaphore, false);
	shmb_semaphore_free(semaphore);
	return status;
}

const struct cli_command command_sem_value = {
	.name = "sem value",
	.synopsis = "NAME",
	.summary = "Print the value of a semaphore, or how many of its permits are free.",
	.min_operands = 1,
	.max_operands = 1,
	.run = value_run,
};
