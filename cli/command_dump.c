/* SPDX-License-Identifier: MIT */
/*
 * dump: bytes in hexadecimal, in the form of hexdump -C.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

enum { LINE = 16, CHUNK = 4096 * LINE };

struct dump_values {
	struct cli_number offset, length;
	bool no_squeezing;
};

static const struct cli_option dump_options[] = {
	{ 's', "offset", CLI_SIZE, offsetof(struct dump_values, offset), "OFFSET",
	  "where to begin; default 0" },
	{ 'n', "length", CLI_SIZE, offsetof(struct dump_values, length), "LENGTH",
	  "at most so many bytes; default: up to the region's size" },
	{ 'v', "no-squeezing", CLI_FLAG, offsetof(struct dump_values, no_squeezing), NULL,
	  "show repeated lines, too" },
};

struct dump {
	bool json, squeeze;
	unsigned char last[LINE]; /* the line before */
	bool has_last, squeezing;
};

static void print_text_line(uint64_t offset, const unsigned char *data, size_t length)
{
	printf("%08" PRIx64 " ", offset);
	for (size_t i = 0; i < LINE; i++) {
		if (i % 8 == 0)
			putchar(' ');
		if (i < length)
			printf("%02x ", data[i]);
		else
			fputs("   ", stdout);
	}
	fputs(" |", stdout);
	for (size_t i = 0; i < length; i++)
		putchar(data[i] >= 0x20 && data[i] < 0x7f ? data[i] : '.');
	fputs("|\n", stdout);
}

static void print_json_line(uint64_t offset, const unsigned char *data, size_t length)
{
	char hex[2 * LINE + 1] = "";
	struct json json = json_begin(stdout);

	for (size_t i = 0; i < length; i++)
		snprintf(hex + 2 * i, 3, "%02x", data[i]);
	json_uint(&json, "offset", offset);
	json_string(&json, "hex", hex);
	json_end(&json);
}

static void dump_line(struct dump *dump, uint64_t offset, const unsigned char *data, size_t length)
{
	if (dump->json) {
		print_json_line(offset, data, length);
		return;
	}
	if (dump->squeeze && dump->has_last && length == LINE &&
	    memcmp(dump->last, data, LINE) == 0) {
		if (!dump->squeezing)
			puts("*");
		dump->squeezing = true;
		return;
	}
	dump->squeezing = false;
	print_text_line(offset, data, length);
	memcpy(dump->last, data, length);
	dump->has_last = length == LINE;
}

/* Copies a chunk at a time: what is compared and what is printed must be the same bytes. */
static int dump_range(struct cli *cli, struct dump *dump, struct shmb_region *region,
		      uint64_t offset, uint64_t end)
{
	static unsigned char buffer[CHUNK];

	while (offset < end && ferror(stdout) == 0) {
		size_t length = end - offset < CHUNK ? (size_t)(end - offset) : CHUNK;
		int result = shmb_region_read(region, offset, buffer, length, 0);

		if (result < 0)
			return cli_fail_region(cli, region, result);
		for (size_t i = 0; i < length; i += LINE)
			dump_line(dump, offset + i, buffer + i,
				  length - i < LINE ? length - i : LINE);
		offset += length;
	}
	if (!dump->json)
		printf("%08" PRIx64 "\n", end);
	return CLI_OK;
}

static int dump_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct dump_values *values = parsed;
	struct dump dump = { .json = cli->json, .squeeze = !values->no_squeezing };
	uint64_t offset = values->offset.given ? values->offset.value : 0;
	struct shmb_region *region;
	uint64_t size;
	int status = cli_open(cli, argv[0], SHMB_READ, &region);

	if (status != CLI_OK)
		return status;
	size = shmb_region_size(region);
	if (offset > size) {
		status = cli_fail_bounds(cli, argv[0], offset, values->length.value, size);
	} else {
		if (values->length.given && values->length.value < size - offset)
			size = offset + values->length.value;
		status = dump_range(cli, &dump, region, offset, size);
	}
	shmb_region_free(region);
	return status;
}

const struct cli_command command_dump = {
	.name = "dump",
	.synopsis = "[OPTION...] NAME",
	.summary = "Print a region's bytes in hexadecimal.",
	.options = dump_options,
	.n_options = sizeof(dump_options) / sizeof(dump_options[0]),
	.values_size = sizeof(struct dump_values),
	.min_operands = 1,
	.max_operands = 1,
	.run = dump_run,
};
