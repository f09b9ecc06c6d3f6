/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_IO_PARTS_H
#define CLIENT_IO_PARTS_H

/* What the functions of <shmbroker/io.h> share. */

#include <shmbroker/io.h>

#include "touch.h"

/* io_refuse() - as region_refuse(), for what was found without a look at the handle: that it is
 * closed, or the parent's, comes first */
static inline int io_refuse(struct shmb_region *region, int code, const char *what)
{
	int result = region_usable(region);

	return region_refuse(region, result < 0 ? result : code, result < 0 ? NULL : what);
}

/* io_ready() - follow the region, whatever the handle may do. Return: 0, SHMB_ECLOSED, ... */
static inline int io_ready(struct shmb_region *region)
{
	struct region_place place;

	return region_check(region, REGION_LOST, 0, 0, &place);
}

/* io_window_ready() - the same for a window's region; one that is zeroed or closed has none.
 * Return: 0, SHMB_ECLOSED, ... */
static inline int io_window_ready(const struct shmb_window *window)
{
	return likely(window->region) ? io_ready(window->region) : SHMB_ECLOSED;
}

/* io_size() - bytes in use, wherever the region is by now; 0: it is of no use */
static inline uint64_t io_size(struct shmb_region *region)
{
	return io_ready(region) < 0 ? 0 : region_bytes(region);
}

/* io_after_part() - region_after() of a part of what is at @place, @done bytes into it */
static inline int io_after_part(struct shmb_region *region, uint64_t offset, uint64_t length,
				const struct region_place *place, uint64_t done)
{
	const struct region_place part = { place->data + done, place->state };

	return region_after(region, REGION_LOST, offset + done, length, &part);
}

/* io_put() - region_copy_in() of a part of a write: it is not counted as one, see
 * shmb_region_wrote() */
int io_put(struct shmb_region *region, uint64_t offset, const void *buffer, size_t length);

/* io_window_bytes() - as shmb_window_size(), of a region that was just looked at */
static inline uint64_t io_window_bytes(const struct shmb_window *window)
{
	uint64_t size = region_bytes(window->region), left;

	left = size > window->offset ? size - window->offset : 0;
	return left < window->length ? left : window->length;
}

/* io_window_relative() - what the region said of a range, as seen through the window. Return:
 * @result. */
int io_window_relative(const struct shmb_window *window, int result);

/* io_window_refuse() - keep the particulars as seen through the window. Return: SHMB_EBOUNDS, or
 * why the region is of no use. */
int io_window_refuse(const struct shmb_window *window, uint64_t offset, uint64_t length);

#endif
