/* SPDX-License-Identifier: MIT */
/*
 * Regions to files and back, through any descriptor that write(2) and read(2) take. The system
 * copies out of the mapping and into it; memory that has vanished is an EFAULT here, no signal.
 */

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io_parts.h"
#include "touch.h"

enum { PIECE_BYTES = 1 << 20 }; /* between two reports of progress */

/* A copy under way. */
struct transfer {
	struct shmb_region *region;
	uint64_t offset, length; /* the range; length: at most */
	uint64_t done;
	uint64_t total; /* as progress is told: the best that is known */
	int fd;
	shmb_progress_fn progress;
	void *userdata;
};

/* The range of a call: length 0 is the rest. Return: 0 or SHMB_EBOUNDS. */
static int take_range(struct transfer *transfer)
{
	uint64_t size = io_size(transfer->region);

	if (transfer->length == 0 && transfer->offset < size)
		transfer->length = size - transfer->offset;
	if (region_within(transfer->offset, transfer->length, size))
		return 0;
	return region_refuse_bounds(transfer->region, transfer->offset, transfer->length);
}

static int refuse_range(struct transfer *transfer, int code, uint64_t length)
{
	struct shmb_error error = {
		.code = code,
		.offset = transfer->offset + transfer->done,
		.length = length,
		.size = io_size(transfer->region),
	};

	return error_set(&transfer->region->error, &error);
}

/* What the system said of the descriptor, in our words. */
static int system_error(struct transfer *transfer, int number, const char *what)
{
	switch (number) {
	case EFAULT: /* the other side of the copy is a mapping of ours */
		return refuse_range(transfer, SHMB_EBUS, 0);
	case EBADF:
	case EISDIR:
		return region_refuse(transfer->region, SHMB_EINVAL, what);
	case EPIPE:
	case ECONNRESET: /* not the connection to the broker */
		return region_refuse(transfer->region, SHMB_EIO, what);
	default:
		return region_refuse(transfer->region, error_from_errno(number), what);
	}
}

/* After a call that moved nothing. Return: 0: try again, else the error. */
static int try_again(struct transfer *transfer, short events, const char *what)
{
	struct pollfd pollfd = { .fd = transfer->fd, .events = events };

	if (errno == EINTR)
		return 0;
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		return system_error(transfer, errno, what);
	/* It does not block by itself. */
	if (poll(&pollfd, 1, -1) < 0 && errno != EINTR)
		return system_error(transfer, errno, what);
	return 0;
}

static int report(struct transfer *transfer)
{
	if (!transfer->progress)
		return 0;
	if (transfer->total < transfer->done)
		transfer->total = transfer->done;
	return transfer->progress(transfer->done, transfer->total, transfer->userdata);
}

static size_t piece(const struct transfer *transfer)
{
	uint64_t left = transfer->length - transfer->done;

	return left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
}

/* ---- Out ---- */

static int export_range(struct transfer *transfer, const unsigned char *data)
{
	int result = 0;
	ssize_t n;

	while (transfer->done < transfer->length && result == 0) {
		n = write(transfer->fd, data + transfer->done, piece(transfer));
		if (n < 0) {
			result = try_again(transfer, POLLOUT, "write");
		} else if (n == 0) {
			result = region_refuse(transfer->region, SHMB_EIO, "write");
		} else {
			transfer->done += (uint64_t)n;
			result = report(transfer);
		}
	}
	return result;
}

int64_t shmb_region_export(struct shmb_region *region, uint64_t offset, uint64_t length, int fd,
			   shmb_progress_fn progress, void *userdata)
{
	struct transfer transfer = { .region = region,
				     .offset = offset,
				     .length = length,
				     .fd = fd,
				     .progress = progress,
				     .userdata = userdata };
	struct shmb_view view;
	struct region_place place;
	int result = region_check_read(region, 0, 0, &place), released;

	if (result == 0)
		result = take_range(&transfer);
	if (result < 0 || transfer.length == 0)
		return result;
	transfer.total = transfer.length;
	result = shmb_region_view(region, offset, (size_t)transfer.length, 0, SHMB_READ, &view);
	if (result < 0)
		return result;
	result = export_range(&transfer, view.data);
	/* Zeros may have been copied in the place of what was there, as memory has vanished or the
	 * handle was closed. */
	released = shmb_view_release(&view);
	if (result == 0)
		result = released;
	if (result == 0 && region_closed(region))
		result = region_refuse(region, SHMB_ECLOSED, NULL);
	return result != 0 ? result : (int64_t)transfer.done;
}

/* ---- In ---- */

/* What a regular file has from its position on. Return: false: that cannot be known. */
static bool file_rest(int fd, uint64_t *ret_rest)
{
	struct stat status;
	off_t position;

	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return false;
	position = lseek(fd, 0, SEEK_CUR);
	if (position < 0 || status.st_size == 0) /* empty, or made up as it is read, as in /proc */
		return false;
	*ret_rest = position < status.st_size ? (uint64_t)(status.st_size - position) : 0;
	return true;
}

/* Where the next bytes go, while they are read. */
struct landing {
	struct region_place place;
	struct mapped *mapped; /* held */
	uint64_t since;        /* see mapped_was_lost() */
};

/*
 * What was read is at the landing. The read may have waited for long: if the region has moved to
 * another segment meanwhile, it goes there, too, for it cannot be read again. And if it went to
 * zeros that stood for what had vanished, it is lost, whatever is there by now.
 */
static int settle(struct transfer *transfer, uint64_t offset, size_t length,
		  const struct landing *landing)
{
	struct shmb_region *region = transfer->region;
	struct region_place now;
	int result = region_check_write(region, offset, length, &now);

	if (result < 0 || length == 0)
		return result;
	if (mapped_was_lost(landing->mapped, offset, length, landing->since))
		return refuse_range(transfer, SHMB_EBUS, length);
	if (now.data != landing->place.data)
		return io_put(region, offset, landing->place.data, length);
	return 0;
}

/* One read, of at most @length bytes, into the region. Return: how many; 0: end, or an error. */
static ssize_t read_piece(struct transfer *transfer, size_t length, int *ret_result)
{
	uint64_t at = transfer->offset + transfer->done;
	struct landing landing;
	ssize_t n;

	*ret_result = region_check_and_keep(transfer->region, REGION_BARS_WRITE, at, length,
					    &landing.place, &landing.mapped, &landing.since);
	if (*ret_result < 0)
		return 0;
	n = read(transfer->fd, landing.place.data, length);
	*ret_result = n < 0 ? try_again(transfer, POLLIN, "read")
			    : settle(transfer, at, (size_t)n, &landing);
	mapped_release(landing.mapped);
	return n;
}

static int import_range(struct transfer *transfer)
{
	int result = 0;
	ssize_t n;

	while (transfer->done < transfer->length) {
		n = read_piece(transfer, piece(transfer), &result);
		if (result == 0 && n == 0)
			return 0;
		if (n > 0)
			transfer->done += (uint64_t)n;
		if (result == 0 && n > 0)
			result = report(transfer);
		if (result != 0)
			return result;
	}
	return 0;
}

/* The range is full and was not given: is that all? */
static int expect_end(struct transfer *transfer)
{
	char byte;
	ssize_t n;
	int result;

	while ((n = read(transfer->fd, &byte, 1)) < 0) {
		result = try_again(transfer, POLLIN, "read");
		if (result < 0)
			return result;
	}
	return n == 0 ? 0 : refuse_range(transfer, SHMB_EBOUNDS, 1);
}

/* What can be known before anything is changed. */
static int prepare_import(struct transfer *transfer, bool whole)
{
	uint64_t rest;

	transfer->total = transfer->length;
	if (!file_rest(transfer->fd, &rest))
		return 0;
	if (whole && rest > transfer->length)
		return refuse_range(transfer, SHMB_EBOUNDS, rest);
	if (rest < transfer->total)
		transfer->total = rest;
	return 0;
}

int64_t shmb_region_import(struct shmb_region *region, uint64_t offset, uint64_t length, int fd,
			   shmb_progress_fn progress, void *userdata)
{
	struct transfer transfer = { .region = region,
				     .offset = offset,
				     .length = length,
				     .fd = fd,
				     .progress = progress,
				     .userdata = userdata };
	struct region_place place;
	int result = region_check_write(region, 0, 0, &place), counted;

	if (result == 0)
		result = take_range(&transfer);
	if (result == 0)
		result = prepare_import(&transfer, length == 0);
	if (result < 0)
		return result;
	result = import_range(&transfer);
	if (result == 0 && length == 0 && transfer.done == transfer.length)
		result = expect_end(&transfer);
	if (result != 0 && transfer.done == 0)
		return region_write_failed(region, result);
	/* Whatever has come is written. */
	counted = shmb_region_wrote(region, offset, transfer.done);
	if (result == 0)
		result = counted;
	return result != 0 ? result : (int64_t)transfer.done;
}
