/* SPDX-License-Identifier: MIT */
/*
 * features: what this system and this library can do. Asks no broker.
 */

#include "cli.h"

#include <stdio.h>
#include <string.h>

#include <shmbroker/memory.h>

#include "json.h"
#include "table.h"

struct feature {
	const char *name, *what; /* what: "" for advices, whose names say it */
	bool is_advice;
	int number;
};

static const struct feature features[] = {
#define FEATURE(identifier, number, name, what) { name, what, false, number },
	SHMB_FEATURE_MAP(FEATURE)
#undef FEATURE
#define ADVICE(identifier, number, name) { "advice-" name, "", true, number },
		SHMB_ADVICE_MAP(ADVICE)
#undef ADVICE
};

enum { N_FEATURES = sizeof(features) / sizeof(features[0]) };

static const struct table_column columns[] = {
	{ .title = "FEATURE" },
	{ .title = "HERE" },
	{ .title = "WHAT" },
};

static bool is_supported(const struct feature *feature)
{
	return feature->is_advice ? shmb_supports_advice((enum shmb_advice)feature->number) == 1
				  : shmb_supports((enum shmb_feature)feature->number) == 1;
}

static const struct feature *find(const char *name)
{
	for (size_t i = 0; i < N_FEATURES; i++)
		if (strcmp(features[i].name, name) == 0)
			return &features[i];
	return NULL;
}

/* Return: whether it is supported. */
static bool tell(const struct cli *cli, struct table *table, const struct feature *feature)
{
	bool supported = is_supported(feature);
	struct json json;

	if (!cli->json) {
		table_add(table, feature->name);
		table_add(table, supported ? "yes" : "no");
		table_add(table, feature->what);
		return supported;
	}
	json = json_begin(stdout);
	json_string(&json, "feature", feature->name);
	json_bool(&json, "supported", supported);
	if (!feature->is_advice)
		json_string(&json, "what", feature->what);
	json_end(&json);
	return supported;
}

static int features_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct table table;
	int result, status = CLI_OK;

	for (int i = 0; i < argc; i++)
		if (find(argv[i]) == NULL)
			return cli_usage(cli, "there is no feature '%s'", argv[i]);
	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (int i = 0; i < argc; i++)
		if (!tell(cli, &table, find(argv[i])))
			status = CLI_FAILED;
	for (size_t i = 0; argc == 0 && i < N_FEATURES; i++)
		tell(cli, &table, &features[i]);
	result = table_print(&table, stdout);
	table_deinit(&table);
	return result < 0 ? cli_fail_client(cli, NULL, result) : status;
}

const struct cli_command command_features = {
	.name = "features",
	.synopsis = "[OPTION...] [NAME...]",
	.summary = "Tell what this system can do.",
	.max_operands = -1,
	.run = features_run,
};
