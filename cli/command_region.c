/* SPDX-License-Identifier: MIT */
/*
 * resize, rm: commands that change how much there is of what.
 */

#include "cli.h"

#include <stdio.h>

#include "holders.h"
#include "json.h"
#include "lock_info.h"
#include "size.h"

/* ---- resize ---- */

static int fail_locked(struct cli *cli, const char *name)
{
	struct shmb_lock_info info = { .struct_size = sizeof(info) };
	const struct shmb_process *holder = NULL;
	char text[HOLDER_TEXT];

	if (shmb_lock_stat(cli->client, name, &info) == 0)
		holder = lock_holder(&info);
	if (holder == NULL)
		return cli_fail(cli, SHMB_ETIMEDOUT, name,
				"to grow beyond the capacity takes the region's lock, which was "
				"not had in time");
	return cli_fail(cli, SHMB_ETIMEDOUT, name,
			"to grow beyond the capacity takes the region's lock, which %s has",
			holder_format(holder, text));
}

/* To grow beyond the capacity takes the lock: nobody who uses it loses what it writes meanwhile. */
static int resize_locked(struct cli *cli, struct shmb_region *region, uint64_t size)
{
	const char *name = shmb_region_name(region);
	int result, status = CLI_OK;
	bool died;

	result = shmb_region_lock(region, SHMB_EXCLUSIVE,
				  cli->timeout.given ? (int)cli->timeout.value : -1);
	died = result == SHMB_EOWNERDEAD;
	if (result == SHMB_ETIMEDOUT)
		return fail_locked(cli, name);
	if (result < 0 && !died)
		return cli_fail_region(cli, region, result);
	if (died)
		cli_warn(cli, SHMB_EOWNERDEAD, name,
			 "a holder of the lock died, the region may be half done; the lock stays "
			 "'owner died'");
	result = shmb_region_resize(region, size);
	if (result < 0)
		status = cli_fail_region(cli, region, result);
	if (!died) /* else it is left by letting go of the region, as it was found */
		shmb_region_unlock(region);
	return status;
}

static int resize(struct cli *cli, struct shmb_region *region, uint64_t size)
{
	int result;

	if (size > shmb_region_capacity(region) && shmb_region_backing(region) != SHMB_BACKING_FILE)
		return resize_locked(cli, region, size);
	result = shmb_region_resize(region, size);
	return result < 0 ? cli_fail_region(cli, region, result) : CLI_OK;
}

static int resize_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct shmb_region *region;
	struct json json;
	uint64_t size, capacity;
	int status;

	if (!size_parse(argv[1], &size))
		return cli_usage(cli, "'%s' is no size", argv[1]);
	status = cli_open(cli, argv[0], SHMB_READ | SHMB_WRITE, &region);
	if (status != CLI_OK)
		return status;
	capacity = shmb_region_capacity(region);
	status = resize(cli, region, size);
	if (status == CLI_OK && cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", argv[0]);
		json_uint(&json, "size", size);
		if (shmb_region_capacity(region) != capacity)
			json_uint(&json, "capacity", shmb_region_capacity(region));
		json_end(&json);
	}
	shmb_region_free(region);
	return status;
}

const struct cli_command command_resize = {
	.name = "resize",
	.synopsis = "[OPTION...] NAME SIZE",
	.summary = "Change how many bytes of a region are in use.",
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
