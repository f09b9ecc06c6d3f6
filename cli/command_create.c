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
	const char *mode, *backing, *lifetime, *hugepages;
	const char *file, *file_mode;
	bool read_only, truncate, new_file; /* about the file */
	bool memfd, reserve, populate, pin, or_open, exclusive, hold;
};

#define OFFSET(member) offsetof(struct create_values, member)
static const struct cli_option create_options[] = {
	{ 'c', "capacity", CLI_SIZE, OFFSET(capacity), "SIZE",
	  "what it can grow to without moving; default: its size" },
	{ 'm', "mode", CLI_TEXT, OFFSET(mode), "MODE",
	  "octal, or such as u=rwl,g=r; default 0700" },
	{ 'b', "backing", CLI_TEXT, OFFSET(backing), "shm|memfd|hugetlb",
	  "what it is made of; default: the broker chooses" },
	{ 0, "memfd", CLI_FLAG, OFFSET(memfd), NULL, "the same as --backing=memfd" },
	{ 'f', "file", CLI_TEXT, OFFSET(file), "PATH",
	  "its bytes are those of a file, which is made if there is none and a SIZE" },
	{ 0, "file-mode", CLI_TEXT, OFFSET(file_mode), "MODE",
	  "permissions of a file that is made, octal; default 0600" },
	{ 'R', "read-only", CLI_FLAG, OFFSET(read_only), NULL,
	  "open the file for reading alone: nobody can write through the region" },
	{ 0, "truncate", CLI_FLAG, OFFSET(truncate), NULL, "empty the file first" },
	{ 0, "new-file", CLI_FLAG, OFFSET(new_file), NULL, "an error if the file is there" },
	{ 0, "hugepages", CLI_OPTIONAL, OFFSET(hugepages), "try|require",
	  "make it of huge pages, if there are some (default), or else fail" },
	{ 'l', "lifetime", CLI_TEXT, OFFSET(lifetime), "persistent|session|attached",
	  "when it goes by itself; default: never (persistent), with --hold: attached" },
	{ 0, "slots", CLI_NUMBER, OFFSET(slots), "NUMBER",
	  "how many can use its lock at a time; default 62" },
	{ 'r', "reserve", CLI_FLAG, OFFSET(reserve), NULL, "take the memory now" },
	{ 0, "populate", CLI_FLAG, OFFSET(populate), NULL, "make all pages present now" },
	{ 0, "pin", CLI_FLAG, OFFSET(pin), NULL,
	  "with --hold: keep all pages in memory meanwhile" },
	{ 'o', "or-open", CLI_FLAG, OFFSET(or_open), NULL, "no error if it is there already" },
	{ 'x', "exclusive", CLI_FLAG, OFFSET(exclusive), NULL,
	  "an error if it is there already (default)" },
	{ 'H', "hold", CLI_FLAG, OFFSET(hold), NULL,
	  "stay attached until signalled, or until it is removed" },
};
#undef OFFSET

/* ---- The command line ---- */

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

static int parse_backing(struct cli *cli, const struct create_values *values,
			 enum shmb_backing *ret_backing)
{
	static const enum shmb_backing backings[] = { SHMB_BACKING_SHM, SHMB_BACKING_MEMFD,
						      SHMB_BACKING_HUGETLB };
	const char *text = values->memfd ? "memfd" : values->backing;

	if (values->memfd && values->backing != NULL)
		return cli_usage(cli, "--memfd and --backing are the same");
	*ret_backing = values->file != NULL ? SHMB_BACKING_FILE : SHMB_BACKING_DEFAULT;
	if (text == NULL)
		return CLI_OK;
	for (size_t i = 0; i < sizeof(backings) / sizeof(backings[0]); i++) {
		if (strcmp(text, info_backing(backings[i])) != 0)
			continue;
		*ret_backing = backings[i];
		return CLI_OK;
	}
	return cli_usage(cli, "--backing: '%s' is none of shm, memfd, hugetlb", text);
}

static int parse_hugepages(struct cli *cli, const char *text, enum shmb_huge *ret_huge)
{
	if (text == NULL)
		return CLI_OK;
	if (text[0] != '\0' && strcmp(text, "try") != 0 && strcmp(text, "require") != 0)
		return cli_usage(cli, "--hugepages: '%s' is neither try nor require", text);
	*ret_huge = strcmp(text, "require") == 0 ? SHMB_HUGE_REQUIRE : SHMB_HUGE_TRY;
	return CLI_OK;
}

/* @size: 0 if none was given */
static int parse_file(struct cli *cli, const struct create_values *values, uint64_t size,
		      struct shmb_region_options *options)
{
	bool is_new = values->truncate || values->new_file;

	if (values->file == NULL)
		return values->file_mode != NULL || values->read_only || is_new
			       ? cli_usage(cli, "--file-mode, --read-only, --truncate and "
						"--new-file are about a --file")
			       : CLI_OK;
	if (values->backing != NULL || values->memfd || values->hugepages != NULL ||
	    values->capacity.given)
		return cli_usage(cli, "--file says what it is made of, and its capacity is its "
				      "size: --backing, --memfd, --hugepages and --capacity are "
				      "not for it");
	if (values->read_only && (is_new || values->reserve))
		return cli_usage(cli, "--read-only changes no file: --truncate, --new-file and "
				      "--reserve are not for it");
	if (is_new && size == 0)
		return cli_usage(cli, "--truncate and --new-file need a size");
	if (values->file_mode != NULL && (mode_is_change(values->file_mode) ||
					  !mode_parse(values->file_mode, 0, &options->file_mode)))
		return cli_usage(cli, "--file-mode: '%s' is no octal mode", values->file_mode);
	options->path = values->file;
	options->access = values->read_only ? SHMB_READ : SHMB_READ | SHMB_WRITE;
	options->file_flags = (values->truncate ? SHMB_FILE_TRUNCATE : 0u) |
			      (values->new_file ? SHMB_FILE_EXCLUSIVE : 0u) |
			      (size > 0 && !values->read_only ? SHMB_FILE_CREATE : 0u);
	return CLI_OK;
}

/* @size_text: NULL if there is none, which is the size of a file */
static int parse_size(struct cli *cli, const struct create_values *values, const char *size_text,
		      uint64_t *ret_size)
{
	*ret_size = 0;
	if (size_text == NULL)
		return values->file != NULL ? CLI_OK : cli_usage(cli, "a size is missing");
	if (!size_parse(size_text, ret_size))
		return cli_usage(cli, "'%s' is no size", size_text);
	if (*ret_size == 0 && values->file != NULL)
		return cli_usage(cli, "a region has at least one byte; without a size it is as "
				      "large as the file");
	return CLI_OK;
}

static int parse_create(struct cli *cli, const struct create_values *values, const char *size_text,
			struct shmb_region_options *options, uint64_t *ret_size)
{
	if (values->or_open && values->exclusive)
		return cli_usage(cli, "--or-open and --exclusive exclude each other");
	if (values->pin && !values->hold)
		return cli_usage(cli, "--pin ends with this command: add --hold");
	if (parse_size(cli, values, size_text, ret_size) != CLI_OK ||
	    parse_backing(cli, values, &options->backing) != CLI_OK ||
	    parse_file(cli, values, *ret_size, options) != CLI_OK ||
	    parse_hugepages(cli, values->hugepages, &options->huge) != CLI_OK ||
	    cli_parse_mode(cli, values->mode, &options->mode) != CLI_OK ||
	    cli_parse_range(cli, "slots", &values->slots, 1, 1024, &options->slots) != CLI_OK)
		return CLI_USAGE;
	options->flags = (values->reserve ? SHMB_RESERVE : 0u) |
			 (values->populate ? SHMB_POPULATE : 0u) | (values->pin ? SHMB_PIN : 0u);
	options->capacity = values->capacity.given ? values->capacity.value : 0;
	return parse_lifetime(cli, values, &options->lifetime);
}

/* ---- The region ---- */

static int print_created(struct cli *cli, struct shmb_region *region, bool opened,
			 const struct create_values *values)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct json json;
	int result;

	if (!cli->json) {
		if (values->hold)
			printf("holding %s\n", shmb_region_name(region));
		return CLI_OK;
	}
	result = shmb_region_info(region, &info);
	if (result < 0)
		return cli_fail_region(cli, region, result);
	json = json_begin(stdout);
	info_json(&json, &info);
	json_bool(&json, "opened", opened);
	if (values->hugepages != NULL)
		json_string(&json, "huge", info_answer(shmb_region_huge(region)));
	json_end(&json);
	return CLI_OK;
}

static int print_and_hold(struct cli *cli, struct shmb_region *region, bool opened,
			  const struct create_values *values, const sigset_t *signals)
{
	bool removed = false;
	int result, status;

	if (!values->hold)
		return print_created(cli, region, opened, values);
	result = cli_note_removal(cli, region, &removed); /* before anybody knows of it */
	if (result < 0)
		return cli_fail_region(cli, region, result);
	status = print_created(cli, region, opened, values);
	fflush(stdout);
	return status == CLI_OK ? cli_hold(cli, shmb_region_name(region), signals, &removed)
				: status;
}

static int fail_create(struct cli *cli, const char *name, const char *path, int code)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	if (path != NULL && shmb_client_last_error(cli->client, &error) == 0 &&
	    error.code == code && strcmp(error.what, "file") == 0)
		return cli_fail_file(cli, path, code);
	return cli_fail_client(cli, name, code);
}

static int create_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct create_values *values = parsed;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region = NULL;
	sigset_t signals;
	uint64_t size = 0;
	int result, status;

	status = parse_create(cli, values, argc > 1 ? argv[1] : NULL, &options, &size);
	if (status != CLI_OK)
		return status;
	sigemptyset(&signals);
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
		return fail_create(cli, argv[0], values->file, result);
	status = print_and_hold(cli, region, values->or_open && result == 0, values, &signals);
	shmb_region_free(region);
	return status;
}

const struct cli_command command_create = {
	.name = "create",
	.synopsis = "[OPTION...] NAME SIZE | --file=PATH [OPTION...] NAME [SIZE]",
	.summary = "Make a region.",
	.options = create_options,
	.n_options = sizeof(create_options) / sizeof(create_options[0]),
	.values_size = sizeof(struct create_values),
	.min_operands = 1,
	.max_operands = 2,
	.run = create_run,
};
