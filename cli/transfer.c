/* SPDX-License-Identifier: MIT */
/*
 * What read and write have in common.
 */

#include "transfer.h"

#include <errno.h>
#include <poll.h>

enum { PIECE = 1024 * 1024 };

int transfer_fail(struct transfer *transfer, int code)
{
	progress_clear(&transfer->progress);
	return cli_fail_region(transfer->cli, transfer->region, code);
}

int transfer_fail_stream(struct transfer *transfer, const char *stream, int error)
{
	progress_clear(&transfer->progress);
	if (error == EFAULT) /* the kernel met what would have been our SIGBUS */
		return cli_fail_region(transfer->cli, transfer->region, SHMB_EBUS);
	return cli_fail_errno(transfer->cli, stream, error);
}

bool transfer_try_again(int fd, short events, int error)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	if (error == EINTR)
		return true;
	if (error != EAGAIN)
		return false;
	return poll(&poll_fd, 1, -1) >= 0 || errno == EINTR;
}

size_t transfer_piece(const struct transfer *transfer)
{
	uint64_t left = transfer->length - transfer->done;

	return left < PIECE ? (size_t)left : PIECE;
}

int transfer_set_range(struct transfer *transfer, const struct cli_number *offset,
		       const struct cli_number *length)
{
	return cli_range(transfer->cli, transfer->region, offset, length, &transfer->offset,
			 &transfer->length);
}
