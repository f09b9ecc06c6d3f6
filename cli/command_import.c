/* SPDX-License-Identifier: MIT */
/*
 * import: a file's bytes to a region. The file is opened here, with the rights of who runs this.
 */

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "file.h"
#include "json.h"
#include "progress.h"
#include "target.h"

struct import_values {
	struct cli_number offset, length, size;
	struct target_values target;
};

static const struct cli_option import_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct import_values, offset), "OFFSET",
	  "where to begin in the region; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct import_values, length), "LENGTH",
	  "take exactly so many bytes; default: all" },
	{ 'S', "size", CLI_SIZE, offsetof(struct import_values, size), "SIZE",
	  "if the region is made: how large; default: as large as what is copied" },
	TARGET_OPTIONS(struct import_values),
};

struct input {
	const char *path;
	int fd;
	uint64_t left; /* bytes that are in it; 0: not known, or none */
};

static int open_input(struct cli *cli, struct input *input)
{
	struct stat stat;
	off_t position;

	if (file_is_stream(input->path)) {
		input->fd = STDIN_FILENO;
		input->path = "standard input";
	} else {
		input->fd = open(input->path, O_RDONLY | O_CLOEXEC);
	}
	if (input->fd < 0 || fstat(input->fd, &stat) < 0)
		return cli_fail_errno(cli, input->path, errno);
	if (S_ISDIR(stat.st_mode))
		return cli_fail_errno(cli, input->path, EISDIR);
	position = S_ISREG(stat.st_mode) ? lseek(input->fd, 0, SEEK_CUR) : -1;
	if (position >= 0 && stat.st_size > position)
		input->left = (uint64_t)(stat.st_size - position);
	return CLI_OK;
}

/* How large the region has to be if it is made; 0: not known. */
static uint64_t size_to_make(const struct import_values *values, const struct input *input)
{
	uint64_t length = values->length.given ? values->length.value : input->left, size;

	if (values->size.given)
		return values->size.value;
	if (length == 0 || __builtin_add_overflow(values->offset.value, length, &size))
		return 0;
	return size;
}

static int fail_import(struct target *target, const struct input *input, uint64_t offset,
		       uint64_t room, int64_t result)
{
	if (result != SHMB_EBOUNDS)
		return file_fail(target->cli, target->region, input->path, result);
	return cli_fail(target->cli, SHMB_EFBIG, target->name,
			"the input does not fit into the %" PRIu64 " bytes from offset %" PRIu64
			" on%s; --length takes a part of it",
			room, offset, input->left > 0 ? "; nothing was written" : "");
}

static int import_range(struct target *target, const struct import_values *values,
			const struct input *input, uint64_t offset, uint64_t length,
			uint64_t *ret_done)
{
	bool exact = values->length.given, nothing = exact && length == 0;
	struct progress progress;
	int64_t result = 0;

	progress_init(&progress, exact ? length : input->left,
		      !values->target.no_progress && isatty(input->fd) == 0);
	if (!nothing)
		result = shmb_region_import(target->region, offset, exact ? length : 0, input->fd,
					    file_on_progress, &progress);
	progress_clear(&progress);
	if (result < 0)
		return fail_import(target, input, offset, length, result);
	*ret_done = (uint64_t)result;
	if (exact && *ret_done < length)
		return cli_fail(target->cli, 0, target->name,
				"the input ended after %" PRIu64 " of %" PRIu64 " bytes", *ret_done,
				length);
	return CLI_OK;
}

static void print_imported(const struct target *target, const struct input *input, uint64_t offset,
			   uint64_t length)
{
	struct json json = json_begin(stdout);

	json_string(&json, "file", input->path);
	json_string(&json, "name", target->name);
	json_uint(&json, "offset", offset);
	json_uint(&json, "length", length);
	json_bool(&json, "created", target->created);
	if (target->sequence != 0)
		json_uint(&json, "sequence", target->sequence);
	json_end(&json);
}

static int import_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct import_values *values = parsed;
	struct input input = { .path = argv[0] };
	struct target target = { .cli = cli, .name = argv[1] };
	uint64_t offset, length, done = 0;
	int status = open_input(cli, &input);

	if (status == CLI_OK)
		status = target_open(&target, &values->target, size_to_make(values, &input), 0);
	if (status == CLI_OK)
		status = cli_range(cli, target.region, &values->offset, &values->length, &offset,
				   &length);
	if (status == CLI_OK)
		status = import_range(&target, values, &input, offset, length, &done);
	if (status == CLI_OK)
		status = target_publish(&target, &values->target, offset, done);
	if (status == CLI_OK && cli->json)
		print_imported(&target, &input, offset, done);
	if (input.fd > STDERR_FILENO)
		close(input.fd);
	return target_close(&target, status);
}

const struct cli_command command_import = {
	.name = "import",
	.synopsis = "[OPTION...] FILE|- NAME",
	.summary = "Copy a file to a region, which is made if there is none.",
	.options = import_options,
	.n_options = sizeof(import_options) / sizeof(import_options[0]),
	.values_size = sizeof(struct import_values),
	.min_operands = 2,
	.max_operands = 2,
	.run = import_run,
};
