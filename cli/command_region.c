/* SPDX-License-Identifier: MIT */
/*
 * resize, rm: commands that change how much there is of what.
 */

#include "cli.h"

#include <stdio.h>

#include "json.h"
#include "size.h"

/* ---- resize ---- */

static int resize_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct shmb_region *region;
	struct json json;
	uint64_t size;
	int result, status;

	if (!size_parse(argv[1], &size))
		return cli_usage(cli, "'%s' is no size", argv[1]);
	status = cli_open(cli, argv[0], SHMB_READ | SHMB_WRITE, &region);
	if (status != CLI_OK)
		return status;
	result = shmb_region_resize(region, size);
	if (result < 0) {
		status = cli_fail_region(cli, region, result);
	} else if (cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", argv[0]);
		json_uint(&json, "size", size);
		json_end(&json);
	}
	shmb_region_free(region);
	return status;
}

const struct cli_command command_resize = {
	.name = "resize",
	.synopsis = "[OPTION...] NAME SIZE",
	.summary = "Change how many bytes of a region are in use, within its capacity.",
	.min_operands = 2,
	.max_operands = 2,
	.run = resize_run,
};

/* ---- rm ---- */

struct rm_values {
	bool force;
};

static const struct cli_option rm_options[] = {
	{ 'f', "force", CLI_FLAG, offsetof(struct rm_values, force), NULL,
	  "no error if there is nothing of that name" },
};

static int remove_any(struct shmb_client *client, const char *name)
{
	int result = shmb_region_remove(client, name);

	if (result == SHMB_EKIND)
		result = shmb_lock_remove(client, name);
	if (result == SHMB_EKIND)
		result = shmb_semaphore_remove(client, name);
	return result;
}

static int rm_one(struct cli *cli, const struct rm_values *values, const char *name)
{
	int result = remove_any(cli->client, name);
	struct json json;

	if (result < 0 && !(result == SHMB_ENOENT && values->force))
		return cli_fail_client(cli, name, result);
	if (cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", name);
		json_bool(&json, "removed", result == 0);
		json_end(&json);
	}
	return CLI_OK;
}

static int rm_run(struct cli *cli, const void *values, int argc, char **argv)
{
	int status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	for (int i = 0; i < argc && status != CLI_NO_BROKER; i++)
		status = cli_first_failure(status, rm_one(cli, values, argv[i]));
	return status;
}

const struct cli_command command_rm = {
	.name = "rm",
	.synopsis = "[-f] NAME...",
	.summary = "Take names of regions, locks and semaphores away; programs that are attached "
		   "keep what they have.",
	.options = rm_options,
	.n_options = sizeof(rm_options) / sizeof(rm_options[0]),
	.values_size = sizeof(struct rm_values),
	.min_operands = 1,
	.max_operands = -1,
	.run = rm_run,
};
