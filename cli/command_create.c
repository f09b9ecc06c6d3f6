/* SPDX-License-Identifier: MIT */
/*
 * create: makes a region, and may hold it.
 */

#include "cli.h"

#include <stdio.h>
#include <string.h>

#include "info.h"
#include "size.h"

struct create_values {
	struct cli_number capacity, slots;
	const char *mode, *backing, *lifetime;
	bool reserve, or_open, exclusive, hold;
};

#define OFFSET(member) offsetof(struct create_values, member)
static const struct cli_option create_options[] = {
	{ 'c', "capacity", CLI_SIZE, OFFSET(capacity), "SIZE",
	  "what it can grow to; default: its size" },
	{ 'm', "mode", CLI_TEXT, OFFSET(mode), "MODE",
	  "octal, or such as u=rwl,g=r; default 0700" },
	{ 'b', "backing", CLI_TEXT, OFFSET(backing), "shm|memfd",
	  "what it is made of; default: the broker chooses" },
	{ 'l', "lifetime", CLI_TEXT, OFFSET(lifetime), "persistent|session|attached",
	  "when it goes by itself; default: never (persistent), with --hold: attached" },
	{ 0, "slots", CLI_NUMBER, OFFSET(slots), "NUMBER",
	  "how many can use its lock at a time; default 62" },
	{ 'r', "reserve", CLI_FLAG, OFFSET(reserve), NULL, "take the memory now" },
	{ 'o', "or-open", CLI_FLAG, OFFSET(or_open), NULL, "no error if it is there already" },
	{ 'x', "exclusive", CLI_FLAG, OFFSET(exclusive), NULL,
	  "an error if it is there already (default)" },
	{ 'H', "hold", CLI_FLAG, OFFSET(hold), NULL, "stay attached until signalled" },
};
#undef OFFSET

static int parse_lifetime(struct cli *cli, const struct create_values *values,
			  enum shmb_lifetime *ret_lifetime)
{
	int status;

	*ret_lifetime = values->hold ? SHMB_ATTACHED : SHMB_PERSISTENT;
	status = cli_parse_lifetime(cli, values->lifetime, ret_lifetime);
	if (status == CLI_OK && *ret_lifetime != SHMB_PERSISTENT && !values->hold)
		return cli_usage(cli,
				 "with --lifetime=%s the region would go with this command: add "
				 "--hold",
				 values->lifetime);
	return status;
}

static int parse_create(struct cli *cli, const struct create_values *values, const char *size_text,
			struct shmb_region_options *options, uint64_t *ret_size)
{
	if (!size_parse(size_text, ret_size))
		return cli_usage(cli, "'%s' is no size", size_text);
	if (values->or_open && values->exclusive)
		return cli_usage(cli, "--or-open and --exclusive exclude each other");
	if (cli_parse_mode(cli, values->mode, &options->mode) != CLI_OK ||
	    cli_parse_range(cli, "slots", &values->slots, 1, 1024, &options->slots) != CLI_OK)
		return CLI_USAGE;
	if (values->backing == NULL)
		options->backing = SHMB_BACKING_DEFAULT;
	else if (strcmp(values->backing, "shm") == 0)
		options->backing = SHMB_BACKING_SHM;
	else if (strcmp(values->backing, "memfd") == 0)
		options->backing = SHMB_BACKING_MEMFD;
	else
		return cli_usage(cli, "--backing: '%s' is neither shm nor memfd", values->backing);
	options->flags = values->reserve ? SHMB_RESERVE : 0;
	options->capacity = values->capacity.given ? values->capacity.value : 0;
	return parse_lifetime(cli, values, &options->lifetime);
}

static int print_created(struct cli *cli, struct shmb_region *region, bool opened, bool hold)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct json json;
	int result;

	if (!cli->json) {
		if (hold)
			printf("holding %s\n", shmb_region_name(region));
		return CLI_OK;
	}
	result = shmb_region_info(region, &info);
	if (result < 0)
		return cli_fail_region(cli, region, result);
	json = json_begin(stdout);
	info_json(&json, &info);
	json_bool(&json, "opened", opened);
	json_end(&json);
	return CLI_OK;
}

static int create_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct create_values *values = parsed;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	sigset_t signals;
	uint64_t size;
	int result, status;

	status = parse_create(cli, values, argv[1], &options, &size);
	if (status != CLI_OK)
		return status;
	if (values->hold) /* before "holding" is printed: it invites a signal */
		signals = cli_hold_signals();
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	if (values->or_open)
		result = shmb_region_open_or_create(cli->client, argv[0], size, &options, &region);
	else
		result = shmb_region_create(cli->client, argv[0], size, &options, &region);
	if (result < 0)
		return cli_fail_client(cli, argv[0], result);
	status = print_created(cli, region, values->or_open && result == 0, values->hold);
	if (status == CLI_OK && values->hold) {
		fflush(stdout);
		status = cli_hold(cli, argv[0], &signals);
	}
	shmb_region_free(region);
	return status;
}

const struct cli_command command_create = {
	.name = "create",
	.synopsis = "[OPTION...] NAME SIZE",
	.summary = "Make a region.",
	.options = create_options,
	.n_options = sizeof(create_options) / sizeof(create_options[0]),
	.values_size = sizeof(struct create_values),
	.min_operands = 2,
	.max_operands = 2,
	.run = create_run,
};
