/* SPDX-License-Identifier: MIT */
/*
 * read: a region's bytes to standard output, straight from the shared memory. A view is taken piece
 * by piece, so that a shrink halfway is an error and not zeros.
 */

#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "json.h"
#include "transfer.h"

struct read_values {
	struct cli_number offset, length;
	bool no_progress;
};

static const struct cli_option read_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct read_values, offset), "OFFSET",
	  "where to begin; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct read_values, length), "LENGTH",
	  "how many bytes; default: up to the region's size" },
	{ 0, "no-progress", CLI_FLAG, offsetof(struct read_values, no_progress), NULL,
	  "show no progress on the terminal" },
};

/* Return: CLI_OK, or an exit status, told. */
static int write_all(struct transfer *transfer, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = write(STDOUT_FILENO, data, length);

		if (n < 0) {
			if (transfer_try_again(STDOUT_FILENO, POLLOUT, errno))
				continue;
			return transfer_fail_stream(transfer, "standard output", errno);
		}
		data += n;
		length -= (size_t)n;
		transfer->done += (uint64_t)n;
		progress_update(&transfer->progress, transfer->done);
	}
	return CLI_OK;
}

static int read_raw(struct transfer *transfer)
{
	struct shmb_view view;
	int result, status = CLI_OK;

	while (status == CLI_OK && transfer->done < transfer->length) {
		result = shmb_region_view(transfer->region, transfer->offset + transfer->done,
					  transfer_piece(transfer), 1, SHMB_READ, &view);
		if (result < 0)
			return transfer_fail(transfer, result);
		status = write_all(transfer, view.data, view.length);
		shmb_view_release(&view);
	}
	return status;
}

/* RFC 4648; 3 bytes become 4 characters, so pieces are a multiple of 3. */
static void write_base64(const unsigned char *data, size_t length)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < length; i += 3) {
		unsigned group = (unsigned)data[i] << 16;

		if (i + 1 < length)
			group |= (unsigned)data[i + 1] << 8;
		if (i + 2 < length)
			group |= data[i + 2];
		putchar(letters[group >> 18]);
		putchar(letters[group >> 12 & 63]);
		putchar(i + 1 < length ? letters[group >> 6 & 63] : '=');
		putchar(i + 2 < length ? letters[group & 63] : '=');
	}
}

static int read_json(struct transfer *transfer)
{
	unsigned char buffer[3 * 4096];
	struct json json = json_begin(stdout);
	int result = 0;

	json_string(&json, "name", shmb_region_name(transfer->region));
	json_uint(&json, "offset", transfer->offset);
	json_uint(&json, "length", transfer->length);
	json_key(&json, "data");
	putchar('"');
	while (result == 0 && transfer->done < transfer->length && ferror(stdout) == 0) {
		uint64_t left = transfer->length - transfer->done;
		size_t length = left < sizeof(buffer) ? (size_t)left : sizeof(buffer);

		result = shmb_region_read(transfer->region, transfer->offset + transfer->done,
					  buffer, length, 0);
		if (result == 0)
			write_base64(buffer, length);
		transfer->done += length;
	}
	if (result < 0) {
		putchar('\n'); /* the object stays without its end, as it must not look whole */
		return transfer_fail(transfer, result);
	}
	putchar('"');
	json_end(&json);
	return CLI_OK;
}

static int read_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct read_values *values = parsed;
	struct transfer transfer = { .cli = cli };
	int status = cli_open(cli, argv[0], SHMB_READ, &transfer.region);

	if (status != CLI_OK)
		return status;
	status = transfer_set_range(&transfer, &values->offset, &values->length);
	/* where the bytes go to the same terminal, a line of progress would be among them */
	progress_init(&transfer.progress, transfer.length,
		      !values->no_progress && isatty(STDOUT_FILENO) == 0);
	if (status == CLI_OK)
		status = cli->json ? read_json(&transfer) : read_raw(&transfer);
	progress_clear(&transfer.progress);
	shmb_region_free(transfer.region);
	return status;
}

const struct cli_command command_read = {
	.name = "read",
	.synopsis = "[OPTION...] NAME",
	.summary = "Write a region's bytes to standard output.",
	.options = read_options,
	.n_options = sizeof(read_options) / sizeof(read_options[0]),
	.values_size = sizeof(struct read_values),
	.min_operands = 1,
	.max_operands = 1,
	.run = read_run,
};
