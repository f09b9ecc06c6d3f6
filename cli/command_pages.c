/* SPDX-License-Identifier: MIT */
/*
 * flush, advise: what becomes of a region's pages. Only what has an effect beyond this process.
 */

#include "cli.h"

#include <stdio.h>
#include <string.h>

#include <shmbroker/memory.h>

#include "json.h"

static void print_range(const struct cli *cli, const char *name, uint64_t offset, uint64_t length,
			const char *advice)
{
	struct json json;

	if (!cli->json)
		return;
	json = json_begin(stdout);
	json_string(&json, "name", name);
	if (advice != NULL)
		json_string(&json, "advice", advice);
	json_uint(&json, "offset", offset);
	json_uint(&json, "length", length);
	json_end(&json);
}

/* ---- flush ---- */

struct flush_values {
	struct cli_number offset, length;
	bool start;
};

static const struct cli_option flush_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct flush_values, offset), "OFFSET",
	  "where to begin; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct flush_values, length), "LENGTH",
	  "how many bytes; default: up to the region's size" },
	{ 0, "start", CLI_FLAG, offsetof(struct flush_values, start), NULL, "only begin with it" },
};

static int flush_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct flush_values *values = parsed;
	struct shmb_region *region;
	uint64_t offset, length;
	int result = 0, status = cli_open(cli, argv[0], SHMB_READ, &region);

	if (status != CLI_OK)
		return status;
	status = cli_range(cli, region, &values->offset, &values->length, &offset, &length);
	if (status == CLI_OK && length > 0) /* 0 would be everything */
		result = shmb_region_flush(region, offset, length,
					   values->start ? SHMB_FLUSH_START : 0);
	if (result < 0)
		status = cli_fail_region(cli, region, result);
	if (status == CLI_OK)
		print_range(cli, argv[0], offset, length, NULL);
	shmb_region_free(region);
	return status;
}

const struct cli_command command_flush = {
	.name = "flush",
	.synopsis = "[OPTION...] NAME",
	.summary = "Write a region's bytes to the disk, if it is made of a file.",
	.options = flush_options,
	.n_options = sizeof(flush_options) / sizeof(flush_options[0]),
	.values_size = sizeof(struct flush_values),
	.min_operands = 1,
	.max_operands = 1,
	.run = flush_run,
};

/* ---- advise ---- */

struct advise_values {
	struct cli_number offset, length;
};

static const struct cli_option advise_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct advise_values, offset), "OFFSET",
	  "where to begin; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct advise_values, length), "LENGTH",
	  "how many bytes; default: up to the region's size" },
};

static const struct {
	const char *name;
	enum shmb_advice advice;
} advices[] = {
#define ADVICE(identifier, number, name) { name, SHMB_ADVICE_##identifier },
	SHMB_ADVICE_MAP(ADVICE)
#undef ADVICE
};

enum { N_ADVICES = sizeof(advices) / sizeof(advices[0]) };

/* The others are kept with a mapping, or look at the pages that it has touched: the one of this
 * process has touched none, and goes with it. */
static bool outlives_process(enum shmb_advice advice)
{
	return advice == SHMB_ADVICE_WILLNEED || advice == SHMB_ADVICE_PREFETCH ||
	       advice == SHMB_ADVICE_COLLAPSE || advice == SHMB_ADVICE_REMOVE;
}

static int parse_advice(struct cli *cli, const char *text, enum shmb_advice *ret_advice)
{
	for (size_t i = 0; i < N_ADVICES; i++) {
		if (strcmp(advices[i].name, text) != 0)
			continue;
		if (!outlives_process(advices[i].advice))
			return cli_usage(cli,
					 "'%s' is about the program that gives it, and would be "
					 "over with this command",
					 text);
		*ret_advice = advices[i].advice;
		return CLI_OK;
	}
	return cli_usage(cli, "'%s' is none of willneed, prefetch, collapse, remove", text);
}

/* Only what is mapped as huge pages lie can become some. */
static int open_to_advise(struct cli *cli, const char *name, unsigned access,
			  enum shmb_advice advice, struct shmb_region **ret_region)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	int result = cli_connect(cli);

	if (result != CLI_OK)
		return result;
	if (advice == SHMB_ADVICE_COLLAPSE)
		options.huge = SHMB_HUGE_TRY;
	result = shmb_region_open(cli->client, name, access, &options, ret_region);
	return result < 0 ? cli_fail_client(cli, name, result) : CLI_OK;
}

static int advise_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct advise_values *values = parsed;
	enum shmb_advice advice = SHMB_ADVICE_NORMAL;
	struct shmb_region *region;
	uint64_t offset, length;
	unsigned access = SHMB_READ;
	int result = 0, status = parse_advice(cli, argv[1], &advice);

	if (status != CLI_OK)
		return status;
	if (advice == SHMB_ADVICE_REMOVE)
		access |= SHMB_WRITE;
	status = open_to_advise(cli, argv[0], access, advice, &region);
	if (status != CLI_OK)
		return status;
	status = cli_range(cli, region, &values->offset, &values->length, &offset, &length);
	if (status == CLI_OK && length > 0) /* 0 would be everything */
		result = shmb_region_advise(region, offset, length, advice);
	if (result < 0)
		status = cli_fail_region(cli, region, result);
	if (status == CLI_OK)
		print_range(cli, argv[0], offset, length, argv[1]);
	shmb_region_free(region);
	return status;
}

const struct cli_command command_advise = {
	.name = "advise",
	.synopsis = "[OPTION...] NAME willneed|prefetch|collapse|remove",
	.summary = "Tell the system what a region will be used for.",
	.options = advise_options,
	.n_options = sizeof(advise_options) / sizeof(advise_options[0]),
	.values_size = sizeof(struct advise_values),
	.min_operands = 2,
	.max_operands = 2,
	.run = advise_run,
};
