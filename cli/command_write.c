/* SPDX-License-Identifier: MIT */
/*
 * write: standard input to a region, straight into the shared memory, piece by piece as in read.
 */

#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "transfer.h"

struct write_values {
	struct cli_number offset, length;
	bool publish, no_progress;
};

static const struct cli_option write_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct write_values, offset), "OFFSET",
	  "where to begin; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct write_values, length), "LENGTH",
	  "take exactly so many bytes; default: all, up to the region's size" },
	{ 'p', "publish", CLI_FLAG, offsetof(struct write_values, publish), NULL,
	  "publish the range that was written" },
	{ 0, "no-progress", CLI_FLAG, offsetof(struct write_values, no_progress), NULL,
	  "show no progress on the terminal" },
};

/* One read(2). Return: bytes, 0 at the end, or -1 with errno. */
static ssize_t read_some(void *data, size_t length)
{
	ssize_t n;

	do
		n = read(STDIN_FILENO, data, length);
	while (n < 0 && transfer_try_again(STDIN_FILENO, POLLIN, errno));
	return n;
}

/* If the input is a file, how much is left in it can be known before a byte is written. */
static int check_file(struct transfer *transfer)
{
	struct stat stat;
	off_t position;

	if (fstat(STDIN_FILENO, &stat) < 0 || !S_ISREG(stat.st_mode))
		return CLI_OK;
	position = lseek(STDIN_FILENO, 0, SEEK_CUR);
	if (position < 0 || stat.st_size < position ||
	    (uint64_t)(stat.st_size - position) <= transfer->length)
		return CLI_OK;
	return cli_fail(transfer->cli, SHMB_EFBIG, shmb_region_name(transfer->region),
			"the input of %" PRIu64 " bytes does not fit into the %" PRIu64
			" bytes from offset %" PRIu64 " on; nothing was written",
			(uint64_t)(stat.st_size - position), transfer->length, transfer->offset);
}

static int fill(struct transfer *transfer, bool *ret_ended)
{
	struct shmb_view view;

	*ret_ended = false;
	while (!*ret_ended && transfer->done < transfer->length) {
		ssize_t n;
		int result, error;

		result = shmb_region_view(transfer->region, transfer->offset + transfer->done,
					  transfer_piece(transfer), 1, SHMB_READ | SHMB_WRITE,
					  &view);
		if (result < 0)
			return transfer_fail(transfer, result);
		n = read_some(view.data, view.length);
		error = errno;
		shmb_view_release(&view);
		if (n < 0)
			return transfer_fail_stream(transfer, "standard input", error);
		*ret_ended = n == 0;
		transfer->done += (uint64_t)n;
		progress_update(&transfer->progress, transfer->done);
	}
	return CLI_OK;
}

/* Is the input over where it should be? */
static int check_end(struct transfer *transfer, bool exact, bool ended)
{
	const char *name = shmb_region_name(transfer->region);
	char more;
	ssize_t n;

	if (exact) {
		if (transfer->done == transfer->length)
			return CLI_OK;
		progress_clear(&transfer->progress);
		return cli_fail(transfer->cli, 0, name,
				"the input ended after %" PRIu64 " of %" PRIu64 " bytes",
				transfer->done, transfer->length);
	}
	if (ended)
		return CLI_OK;
	n = read_some(&more, 1);
	if (n == 0)
		return CLI_OK;
	if (n < 0)
		return transfer_fail_stream(transfer, "standard input", errno);
	progress_clear(&transfer->progress);
	return cli_fail(transfer->cli, SHMB_EFBIG, name,
			"the input does not fit: the %" PRIu64 " bytes from offset %" PRIu64
			" on are full, and it goes on; --length takes a part of it",
			transfer->length, transfer->offset);
}

static int finish_write(struct transfer *transfer, bool publish)
{
	struct json json;
	int result;

	/* a range of 0 bytes would mean "anything" */
	publish = publish && transfer->done > 0;
	if (publish) {
		result = shmb_region_publish(transfer->region, transfer->offset, transfer->done);
		if (result < 0)
			return transfer_fail(transfer, result);
	}
	if (!transfer->cli->json)
		return CLI_OK;
	json = json_begin(stdout);
	json_string(&json, "name", shmb_region_name(transfer->region));
	json_uint(&json, "offset", transfer->offset);
	json_uint(&json, "length", transfer->done);
	if (publish)
		json_uint(&json, "sequence", shmb_region_sequence(transfer->region));
	json_end(&json);
	return CLI_OK;
}

static int write_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct write_values *values = parsed;
	struct transfer transfer = { .cli = cli };
	bool exact = values->length.given, ended;
	int status = cli_open(cli, argv[0], SHMB_READ | SHMB_WRITE, &transfer.region);

	if (status != CLI_OK)
		return status;
	status = transfer_set_range(&transfer, &values->offset, &values->length);
	if (status == CLI_OK && !exact)
		status = check_file(&transfer);
	/* typing at the terminal needs no progress */
	progress_init(&transfer.progress, exact ? transfer.length : 0,
		      !values->no_progress && isatty(STDIN_FILENO) == 0);
	if (status == CLI_OK)
		status = fill(&transfer, &ended);
	if (status == CLI_OK)
		status = check_end(&transfer, exact, ended);
	progress_clear(&transfer.progress);
	if (status == CLI_OK)
		status = finish_write(&transfer, values->publish);
	shmb_region_free(transfer.region);
	return status;
}

const struct cli_command command_write = {
	.name = "write",
	.synopsis = "[OPTION...] NAME",
	.summary = "Fill a region from standard input.",
	.options = write_options,
	.n_options = sizeof(write_options) / sizeof(write_options[0]),
	.values_size = sizeof(struct write_values),
	.min_operands = 1,
	.max_operands = 1,
	.run = write_run,
};
