/* SPDX-License-Identifier: MIT */
#ifndef CLI_TRANSFER_H
#define CLI_TRANSFER_H

/* What read and write have in common: a region, a range of it, and how far it is. */

#include <stddef.h>
#include <stdint.h>

#include "cli.h"
#include "progress.h"

/* One transfer between a region and a descriptor. */
struct transfer {
	struct cli *cli;
	struct shmb_region *region;
	uint64_t offset, length; /* the range */
	uint64_t done;
	struct progress progress;
};

/* transfer_set_range() - the range that --offset and --length mean. Return: CLI_OK, or an exit
 * status, told. */
int transfer_set_range(struct transfer *transfer, const struct cli_number *offset,
		       const struct cli_number *length);

/* transfer_piece() - bytes to do next */
size_t transfer_piece(const struct transfer *transfer);

/* transfer_try_again() - is @error, of a stream, one that goes away? Waits until it has, as
 * somebody else may have made the stream non-blocking. */
bool transfer_try_again(int fd, short events, int error);

/* transfer_fail(), transfer_fail_stream() - the region's error, or that of standard input or
 * output. Return: an exit status, told. */
int transfer_fail(struct transfer *transfer, int code);
int transfer_fail_stream(struct transfer *transfer, const char *stream, int error);

#endif
