/* SPDX-License-Identifier: MIT */
/*
 * Walks and atomics: views of a certain kind. What is done chunk by chunk is inline in the header.
 */

#include "io_parts.h"
#include "region.h"

/* ---- Walks ---- */

int shmb_walk_open(struct shmb_region *region, uint64_t offset, uint64_t length, size_t chunk,
		   unsigned access, struct shmb_walk *ret_walk)
{
	struct shmb_walk walk = { .offset = offset, ._chunk = chunk };
	uint64_t size;
	int result;

	if (chunk == 0)
		return io_refuse(region, SHMB_EINVAL, "chunk");
	if (length == 0) {
		size = io_size(region);
		length = offset < size ? size - offset : 1; /* which is out of bounds */
	}
	if (length > SIZE_MAX)
		return region_refuse_bounds(region, offset, length);
	result = shmb_region_view(region, offset, (size_t)length, 0, access, &walk._view);
	if (result == 0)
		*ret_walk = walk;
	return result;
}

int shmb_walk_close(struct shmb_walk *walk)
{
	int result;

	if (!walk)
		return 0;
	result = shmb_view_release(&walk->_view);
	*walk = (struct shmb_walk){ .data = NULL };
	return result;
}

/* ---- Atomics ---- */

static int view_words(struct shmb_region *region, uint64_t offset, size_t count, size_t bytes,
		      struct shmb_view *ret_view)
{
	if (count == 0)
		return io_refuse(region, SHMB_EINVAL, "count");
	if (count > SIZE_MAX / bytes)
		return region_refuse_bounds(region, offset, UINT64_MAX);
	return shmb_region_view(region, offset, count * bytes, bytes, SHMB_READ | SHMB_WRITE,
				ret_view);
}

int shmb_region_atomics32(struct shmb_region *region, uint64_t offset, size_t count,
			  struct shmb_atomics32 *ret_atomics)
{
	struct shmb_view view = { .data = NULL };
	int result = view_words(region, offset, count, sizeof(uint32_t), &view);

	if (result == 0)
		*ret_atomics = (struct shmb_atomics32){ view.data, count, view };
	return result;
}

int shmb_region_atomics64(struct shmb_region *region, uint64_t offset, size_t count,
			  struct shmb_atomics64 *ret_atomics)
{
	struct shmb_view view = { .data = NULL };
	int result = view_words(region, offset, count, sizeof(uint64_t), &view);

	if (result == 0)
		*ret_atomics = (struct shmb_atomics64){ view.data, count, view };
	return result;
}

int shmb_atomics32_release(struct shmb_atomics32 *atomics)
{
	int result;

	if (!atomics)
		return 0;
	result = shmb_view_release(&atomics->_view);
	*atomics = (struct shmb_atomics32){ .words = NULL };
	return result;
}

int shmb_atomics64_release(struct shmb_atomics64 *atomics)
{
	int result;

	if (!atomics)
		return 0;
	result = shmb_view_release(&atomics->_view);
	*atomics = (struct shmb_atomics64){ .words = NULL };
	return result;
}
