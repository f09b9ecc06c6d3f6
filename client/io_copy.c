/* SPDX-License-Identifier: MIT */
/*
 * Several buffers at once, and copies from region to region: the checks of one copy around many
 * pieces. A write is counted as one, however many pieces it has.
 */

#include <string.h>

#include "io_parts.h"
#include "touch.h"

enum { BOUNCE_BYTES = 8192 };

/* ---- Writes in parts ---- */

int io_put(struct shmb_region *region, uint64_t offset, const void *buffer, size_t length)
{
	struct region_place place;
	int result;

	do {
		result = region_check_write(region, offset, length, &place);
		if (result < 0)
			return result;
		memcpy(place.data, buffer, length);
		result = region_after(region, REGION_LOST, offset, length, &place);
	} while (result > 0);
	return result;
}

/* ---- Several buffers ---- */

enum direction { OUT, IN };

static uint32_t bars(enum direction direction)
{
	return direction == IN ? REGION_BARS_WRITE : REGION_BARS_READ;
}

/* One buffer, @at bytes into the range, in pieces as of any copy. */
static int move_buffer(struct shmb_region *region, enum direction direction, uint64_t offset,
		       const struct shmb_buffer *buffer, const struct region_place *place,
		       uint64_t at)
{
	unsigned char *bytes = buffer->data;
	size_t done = 0;
	int result = 0;

	while (done < buffer->length && result == 0) {
		size_t left = buffer->length - done;
		size_t n = left < REGION_PIECE ? left : REGION_PIECE;

		if (direction == IN)
			memcpy(place->data + at + done, bytes + done, n);
		else
			memcpy(bytes + done, place->data + at + done, n);
		result = io_after_part(region, offset, n, place, at + done);
		done += n;
	}
	return result;
}

static int move_buffers(struct shmb_region *region, enum direction direction, uint64_t offset,
			const struct shmb_buffer *buffers, size_t n_buffers, uint64_t total)
{
	struct region_place place;
	int result;

	do {
		uint64_t done = 0;
		size_t i;

		result = region_check(region, bars(direction), offset, total, &place);
		for (i = 0; i < n_buffers && result == 0; i++) {
			result = move_buffer(region, direction, offset, &buffers[i], &place, done);
			done += buffers[i].length;
		}
		if (result == 0 && direction == IN)
			result = region_after_write(region, offset, total, &place);
	} while (result > 0);
	return result;
}

/* Bytes of all of them. */
static int add_up(struct shmb_region *region, uint64_t offset, const struct shmb_buffer *buffers,
		  size_t n_buffers, uint64_t *ret_total)
{
	uint64_t total = 0;
	size_t i;

	if (n_buffers > SHMB_BUFFERS_MAX)
		return io_refuse(region, SHMB_EINVAL, "buffers");
	for (i = 0; i < n_buffers; i++) {
		if (buffers[i].length > UINT64_MAX - total)
			return region_refuse_bounds(region, offset, UINT64_MAX);
		total += buffers[i].length;
	}
	*ret_total = total;
	return 0;
}

static int move_vector(struct shmb_region *region, enum direction direction, uint64_t offset,
		       const struct shmb_buffer *buffers, size_t n_buffers, unsigned flags)
{
	struct region_place place;
	uint64_t total = 0;
	int result = add_up(region, offset, buffers, n_buffers, &total);

	if (result < 0 || likely(flags == 0))
		return result < 0
			       ? result
			       : move_buffers(region, direction, offset, buffers, n_buffers, total);
	/* What is wrong with the call shows before waiting. */
	result = region_check(region, bars(direction), offset, total, &place);
	if (result == 0 && flags != SHMB_LOCKED)
		result = region_refuse(region, SHMB_EINVAL, "flags");
	if (result == 0)
		result = region_lock(region, direction == IN ? SHMB_EXCLUSIVE : SHMB_SHARED);
	if (result < 0)
		return result;
	result = move_buffers(region, direction, offset, buffers, n_buffers, total);
	region_unlock(region);
	return result;
}

int shmb_region_readv(struct shmb_region *region, uint64_t offset,
		      const struct shmb_buffer *buffers, size_t n_buffers, unsigned flags)
{
	return move_vector(region, OUT, offset, buffers, n_buffers, flags);
}

int shmb_region_writev(struct shmb_region *region, uint64_t offset,
		       const struct shmb_buffer *buffers, size_t n_buffers, unsigned flags)
{
	int result = move_vector(region, IN, offset, buffers, n_buffers, flags);

	return result < 0 ? region_write_failed(region, result) : 0;
}

/* ---- From region to region ---- */

struct copy {
	struct shmb_region *from, *to;
	uint64_t from_offset, to_offset, length;
};

static int check_copy(const struct copy *copy, struct region_place *ret_source,
		      struct region_place *ret_target)
{
	int result = region_check_read(copy->from, copy->from_offset, copy->length, ret_source);

	if (result < 0)
		return result;
	return region_check_write(copy->to, copy->to_offset, copy->length, ret_target);
}

/* Two places that do not touch. */
static int copy_straight(const struct copy *copy)
{
	struct region_place source, target;
	uint64_t done;
	int result;

	do {
		result = check_copy(copy, &source, &target);
		for (done = 0; done < copy->length && result == 0; done += REGION_PIECE) {
			uint64_t left = copy->length - done;
			uint64_t n = left < REGION_PIECE ? left : REGION_PIECE;

			memcpy(target.data + done, source.data + done, (size_t)n);
			result = io_after_part(copy->from, copy->from_offset, n, &source, done);
			if (result == 0)
				result = io_after_part(copy->to, copy->to_offset, n, &target, done);
		}
	} while (result > 0);
	return result;
}

/*
 * Within one region. It may be mapped at two addresses, and it may move between two pieces, so
 * that nothing can be done again: each piece is taken out before it is put in.
 */
static int copy_overlapping(const struct copy *copy)
{
	unsigned char bounce[BOUNCE_BYTES];
	struct region_place source, target;
	int result = check_copy(copy, &source, &target);
	bool backwards = copy->to_offset > copy->from_offset;
	uint64_t done = 0;

	while (done < copy->length && result == 0) {
		uint64_t left = copy->length - done;
		size_t n = left < BOUNCE_BYTES ? (size_t)left : BOUNCE_BYTES;
		uint64_t at = backwards ? left - n : done;

		result = region_copy_out(copy->from, copy->from_offset + at, bounce, n);
		if (result == 0)
			result = io_put(copy->to, copy->to_offset + at, bounce, n);
		done += n;
	}
	return result;
}

static bool overlaps(const struct copy *copy)
{
	uint64_t distance = copy->from_offset < copy->to_offset
				    ? copy->to_offset - copy->from_offset
				    : copy->from_offset - copy->to_offset;

	return copy->from->id == copy->to->id && distance < copy->length;
}

int shmb_region_copy(struct shmb_region *from, uint64_t from_offset, struct shmb_region *to,
		     uint64_t to_offset, uint64_t length)
{
	const struct copy copy = { from, to, from_offset, to_offset, length };
	int result = overlaps(&copy) ? copy_overlapping(&copy) : copy_straight(&copy);

	if (result == 0)
		result = shmb_region_wrote(to, to_offset, length);
	return result < 0 ? region_write_failed(to, result) : 0;
}
