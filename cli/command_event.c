/* SPDX-License-Identifier: MIT */
/*
 * publish, wait: say that something changed, and wait for it, in shared memory.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>

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
	result = cli_note_removal(cli, region, &removed);
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
