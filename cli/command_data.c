/* SPDX-License-Identifier: MIT */
/*
 * read, write, dump: bytes between a region and the standard streams, straight from and into the
 * shared memory. A view is taken piece by piece, so that a shrink halfway is an error and not
 * zeros.
 */

#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "progress.h"

enum { PIECE = 1024 * 1024 };

/* One transfer between a region and a descriptor. */
struct transfer {
	struct cli *cli;
	struct shmb_region *region;
	uint64_t offset, length; /* the range */
	uint64_t done;
	struct progress progress;
};

static int fail_transfer(struct transfer *transfer, int code)
{
	progress_clear(&transfer->progress);
	return cli_fail_region(transfer->cli, transfer->region, code);
}

static int fail_stream(struct transfer *transfer, const char *stream, int error)
{
	progress_clear(&transfer->progress);
	if (error == EFAULT) /* the kernel met what would have been our SIGBUS */
		return cli_fail_region(transfer->cli, transfer->region, SHMB_EBUS);
	return cli_fail_errno(transfer->cli, stream, error);
}

/* Somebody else may have made the stream non-blocking. Return: whether to try again. */
static bool try_again(int fd, short events, int error)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	if (error == EINTR)
		return true;
	if (error != EAGAIN)
		return false;
	return poll(&poll_fd, 1, -1) >= 0 || errno == EINTR;
}

static size_t piece_size(const struct transfer *transfer)
{
	uint64_t left = transfer->length - transfer->done;

	return left < PIECE ? (size_t)left : PIECE;
}

/* The range that -s and -n mean. Return: CLI_OK, or an exit status, told. */
static int set_range(struct transfer *transfer, const struct cli_number *offset,
		     const struct cli_number *length)
{
	return cli_range(transfer->cli, transfer->region, offset, length, &transfer->offset,
			 &transfer->length);
}

/* ---- read ---- */

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
			if (try_again(STDOUT_FILENO, POLLOUT, errno))
				continue;
			return fail_stream(transfer, "standard output", errno);
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
					  piece_size(transfer), 1, SHMB_READ, &view);
		if (result < 0)
			return fail_transfer(transfer, result);
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
		return fail_transfer(transfer, result);
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
	status = set_range(&transfer, &values->offset, &values->length);
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

/* ---- write ---- */

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
	while (n < 0 && try_again(STDIN_FILENO, POLLIN, errno));
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
					  piece_size(transfer), 1, SHMB_READ | SHMB_WRITE, &view);
		if (result < 0)
			return fail_transfer(transfer, result);
		n = read_some(view.data, view.length);
		error = errno;
		shmb_view_release(&view);
		if (n < 0)
			return fail_stream(transfer, "standard input", error);
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
		return fail_stream(transfer, "standard input", errno);
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
			return fail_transfer(transfer, result);
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
	status = set_range(&transfer, &values->offset, &values->length);
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
