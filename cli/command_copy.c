/* SPDX-License-Identifier: MIT */
/*
 * cp: from region to region.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "json.h"
#include "progress.h"
#include "target.h"

enum { PIECE = 16 * 1024 * 1024 }; /* between two looks at the clock */

struct cp_values {
	struct target_values target;
};

static const struct cli_option cp_options[] = {
	TARGET_OPTIONS(struct cp_values),
};

static int copy(struct target *target, struct shmb_region *source, uint64_t size, bool progress)
{
	struct progress line;
	int result = 0;

	progress_init(&line, size, progress);
	for (uint64_t done = 0; result == 0 && done < size;) {
		uint64_t length = size - done < PIECE ? size - done : PIECE;

		result = shmb_region_copy(source, done, target->region, done, length);
		done += length;
		progress_update(&line, done);
	}
	progress_clear(&line);
	if (result < 0) { /* either's last error says more */
		struct shmb_error error = { .struct_size = sizeof(error) };
		bool mine = shmb_region_last_error(source, &error) == 0 && error.code == result;

		return cli_fail_region(target->cli, mine ? source : target->region, result);
	}
	return CLI_OK;
}

static int copy_to(struct target *target, const struct cp_values *values,
		   struct shmb_region *source)
{
	uint64_t size = shmb_region_size(source), room;
	int status = target_open(target, &values->target, size, shmb_region_capacity(source));

	if (status != CLI_OK)
		return status;
	room = shmb_region_size(target->region);
	if (room < size)
		status = cli_fail(target->cli, SHMB_EFBIG, target->name,
				  "the %" PRIu64 " bytes of %s do not fit into the %" PRIu64
				  " bytes of this region; nothing was copied",
				  size, shmb_region_name(source), room);
	if (status == CLI_OK)
		status = copy(target, source, size, !values->target.no_progress);
	if (status == CLI_OK)
		status = target_publish(target, &values->target, 0, size);
	if (status == CLI_OK && target->cli->json) {
		struct json json = json_begin(stdout);

		json_string(&json, "source", shmb_region_name(source));
		json_string(&json, "name", target->name);
		json_uint(&json, "length", size);
		json_bool(&json, "created", target->created);
		if (target->sequence != 0)
			json_uint(&json, "sequence", target->sequence);
		json_end(&json);
	}
	return target_close(target, status);
}

static int cp_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct target target = { .cli = cli, .name = argv[1] };
	struct shmb_region *source;
	int status;

	if (strcmp(argv[0], argv[1]) == 0)
		return cli_usage(cli, "'%s' and '%s' are the same region", argv[0], argv[1]);
	status = cli_open(cli, argv[0], SHMB_READ, &source);
	if (status != CLI_OK)
		return status;
	status = copy_to(&target, values, source);
	shmb_region_free(source);
	return status;
}

const struct cli_command command_cp = {
	.name = "cp",
	.synopsis = "[OPTION...] SOURCE DESTINATION",
	.summary = "Copy the bytes of a region to another, which is made if there is none.",
	.options = cp_options,
	.n_options = sizeof(cp_options) / sizeof(cp_options[0]),
	.values_size = sizeof(struct cp_values),
	.min_operands = 2,
	.max_operands = 2,
	.run = cp_run,
};
