/* SPDX-License-Identifier: MIT */
/*
 * export: a region's bytes to a file, which is opened here, with the rights of who runs this.
 */

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "file.h"
#include "json.h"
#include "progress.h"

struct export_values {
	struct cli_number offset, length;
	bool exclusive, no_progress;
};

static const struct cli_option export_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct export_values, offset), "OFFSET",
	  "where to begin; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct export_values, length), "LENGTH",
	  "how many bytes; default: up to the region's size" },
	{ 'x', "exclusive", CLI_FLAG, offsetof(struct export_values, exclusive), NULL,
	  "an error if the file is there already" },
	{ 0, "no-progress", CLI_FLAG, offsetof(struct export_values, no_progress), NULL,
	  "show no progress on the terminal" },
};

struct output {
	const char *path;
	int fd;
	bool created;
};

/* To empty the file that the region is made of would be to empty the region. */
static bool is_of(struct shmb_region *region, const struct stat *file)
{
	int fd = shmb_region_fd(region);
	struct stat own;

	return fd >= 0 && fstat(fd, &own) == 0 && own.st_dev == file->st_dev &&
	       own.st_ino == file->st_ino;
}

static int open_output(struct cli *cli, struct output *output, struct shmb_region *region,
		       bool exclusive)
{
	struct stat stat;

	if (file_is_stream(output->path)) {
		output->fd = STDOUT_FILENO;
		output->path = "standard output";
		return CLI_OK;
	}
	output->fd = open(output->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	output->created = output->fd >= 0;
	if (output->fd < 0 && errno == EEXIST && !exclusive)
		output->fd = open(output->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (output->fd < 0 || fstat(output->fd, &stat) < 0)
		return cli_fail_errno(cli, output->path, errno);
	if (is_of(region, &stat))
		return cli_fail(cli, 0, shmb_region_name(region),
				"%s is the file that the region is made of", output->path);
	if (S_ISREG(stat.st_mode) && ftruncate(output->fd, 0) < 0)
		return cli_fail_errno(cli, output->path, errno);
	return CLI_OK;
}

/* Return: @status, or another failure. */
static int close_output(struct cli *cli, struct output *output, int status)
{
	if (output->fd > STDERR_FILENO && close(output->fd) < 0 && status == CLI_OK)
		status = cli_fail_errno(cli, output->path, errno);
	if (status != CLI_OK && output->created)
		unlink(output->path);
	return status;
}

static int export_range(struct cli *cli, const struct export_values *values,
			struct shmb_region *region, struct output *output)
{
	struct progress progress;
	uint64_t offset, length;
	int64_t result = 0;
	struct json json;
	int status = cli_range(cli, region, &values->offset, &values->length, &offset, &length);

	if (status == CLI_OK)
		status = open_output(cli, output, region, values->exclusive);
	if (status != CLI_OK)
		return status;
	progress_init(&progress, length,
		      !values->no_progress &&
			      (output->fd != STDOUT_FILENO || isatty(STDOUT_FILENO) == 0));
	if (length > 0) /* 0 would be everything */
		result = shmb_region_export(region, offset, length, output->fd, file_on_progress,
					    &progress);
	progress_clear(&progress);
	if (result < 0)
		return file_fail(cli, region, output->path, result);
	if (cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", shmb_region_name(region));
		json_string(&json, "file", output->path);
		json_uint(&json, "offset", offset);
		json_uint(&json, "length", length);
		json_end(&json);
	}
	return CLI_OK;
}

static int export_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct output output = { .path = argv[1], .fd = -1 };
	struct shmb_region *region;
	int status;

	if (file_is_stream(argv[1]) && cli->json)
		return cli_usage(cli, "--json would be among the bytes; `shmbctl --json read` "
				      "gives them in JSON");
	status = cli_open(cli, argv[0], SHMB_READ, &region);
	if (status != CLI_OK)
		return status;
	status = export_range(cli, values, region, &output);
	status = close_output(cli, &output, status);
	shmb_region_free(region);
	return status;
}

const struct cli_command command_export = {
	.name = "export",
	.synopsis = "[OPTION...] NAME FILE|-",
	.summary = "Copy a region's bytes to a file.",
	.options = export_options,
	.n_options = sizeof(export_options) / sizeof(export_options[0]),
	.values_size = sizeof(struct export_values),
	.min_operands = 2,
	.max_operands = 2,
	.run = export_run,
};
