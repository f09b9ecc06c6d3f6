/* SPDX-License-Identifier: MIT */
/*
 * The region that cp and import copy to. One that was made for a copy that failed does not stay.
 */

#include "target.h"

int target_open(struct target *target, const struct target_values *values, uint64_t size,
		uint64_t capacity)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct cli *cli = target->cli;
	int result, status = cli_parse_mode(cli, values->mode, &options.mode);

	if (status == CLI_OK)
		status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	options.lifetime = SHMB_PERSISTENT;
	options.capacity = capacity;
	if (size == 0)
		result = shmb_region_open(cli->client, target->name, SHMB_READ | SHMB_WRITE, NULL,
					  &target->region);
	else if (values->exclusive)
		result = shmb_region_create(cli->client, target->name, size, &options,
					    &target->region);
	else
		result = shmb_region_open_or_create(cli->client, target->name, size, &options,
						    &target->region);
	target->created = size != 0 && (result == 1 || (result == 0 && values->exclusive));
	if (size == 0 && result == SHMB_ENOENT)
		return cli_fail(cli, result, target->name,
				"there is no such region, and how large it is to be is not known: "
				"--size says it");
	return result < 0 ? cli_fail_client(cli, target->name, result) : CLI_OK;
}

int target_publish(struct target *target, const struct target_values *values, uint64_t offset,
		   uint64_t length)
{
	int result;

	if (!values->publish || length == 0) /* a range of 0 bytes would mean "anything" */
		return CLI_OK;
	result = shmb_region_publish(target->region, offset, length);
	if (result < 0)
		return cli_fail_region(target->cli, target->region, result);
	target->sequence = shmb_region_sequence(target->region);
	return CLI_OK;
}

int target_close(struct target *target, int status)
{
	if (status != CLI_OK && target->created)
		shmb_region_remove(target->cli->client, target->name);
	target->region = shmb_region_free(target->region);
	return status;
}
