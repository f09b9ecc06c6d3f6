/* SPDX-License-Identifier: MIT */
/*
 * Windows: a part of a region under positions of its own. What is within it is the part's business,
 * everything else is the region's, whose functions do the work; then what they say is made to fit.
 */

#include "io_parts.h"
#include "touch.h"

int io_window_refuse(const struct shmb_window *window, uint64_t offset, uint64_t length)
{
	struct shmb_error error = {
		.code = SHMB_EBOUNDS,
		.offset = offset,
		.length = length,
		.size = shmb_window_size(window),
	};

	int result = region_usable(window->region);

	return result < 0 ? region_refuse(window->region, result, NULL)
			  : error_set(&window->region->error, &error);
}

int io_window_relative(const struct shmb_window *window, int result)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	if (result != SHMB_EBOUNDS && result != SHMB_EBUS)
		return result;
	if (error_get(&window->region->error, &error) < 0 || error.code != result ||
	    error.offset < window->offset)
		return result;
	error.offset -= window->offset;
	error.size = shmb_window_size(window);
	return error_set(&window->region->error, &error);
}

/*
 * Is the range within the window? Where it is not, the region is asked, which may have moved.
 *
 * Return: 0 (the region's functions find what else is wrong), SHMB_EBOUNDS, SHMB_EMODE, ...
 */
static int check(const struct shmb_window *window, uint32_t bars, uint64_t offset, uint64_t length)
{
	struct region_place place;
	int result;

	if (likely(region_within(offset, length, io_window_bytes(window))))
		return 0;
	result = region_check(window->region, bars, 0, 0, &place);
	if (result < 0 || region_within(offset, length, io_window_bytes(window)))
		return result;
	return io_window_refuse(window, offset, length);
}

int shmb_window_open(struct shmb_region *region, uint64_t offset, uint64_t length,
		     struct shmb_window *ret_window)
{
	const struct shmb_window whole = { .region = region, .length = UINT64_MAX };

	return shmb_window_open_within(&whole, offset, length, ret_window);
}

int shmb_window_open_within(const struct shmb_window *window, uint64_t offset, uint64_t length,
			    struct shmb_window *ret_window)
{
	struct shmb_window part = { .region = window->region };
	uint64_t size;
	int result = io_window_ready(window);

	if (result < 0)
		return result;
	size = io_window_bytes(window);
	if (length == 0 && offset < size)
		length = size - offset;
	if (length == 0 || !region_within(offset, length, size))
		return io_window_refuse(window, offset, length);
	part.offset = window->offset + offset;
	part.length = length;
	result = region_hold(window->region);
	if (result < 0)
		return result;
	part._held = 1;
	*ret_window = part;
	return 0;
}

void shmb_window_close(struct shmb_window *window)
{
	if (!window || !window->_held)
		return;
	region_release(window->region);
	*window = (struct shmb_window){ .region = NULL };
}

uint64_t shmb_window_size(const struct shmb_window *window)
{
	return io_window_ready(window) < 0 ? 0 : io_window_bytes(window);
}

int shmb_window_read(const struct shmb_window *window, uint64_t offset, void *buffer, size_t length,
		     unsigned flags)
{
	int result;

	if (unlikely(!window->region))
		return SHMB_ECLOSED;
	result = check(window, REGION_BARS_READ, offset, length);
	if (unlikely(result < 0))
		return result;
	result = shmb_region_read(window->region, window->offset + offset, buffer, length, flags);
	return likely(result == 0) ? 0 : io_window_relative(window, result);
}

int shmb_window_write(const struct shmb_window *window, uint64_t offset, const void *buffer,
		      size_t length, unsigned flags)
{
	int result;

	if (unlikely(!window->region))
		return SHMB_ECLOSED;
	result = check(window, REGION_BARS_WRITE, offset, length);
	if (unlikely(result < 0))
		return region_write_failed(window->region, result);
	result = shmb_region_write(window->region, window->offset + offset, buffer, length, flags);
	return likely(result == 0) ? 0 : io_window_relative(window, result);
}

int shmb_window_view(const struct shmb_window *window, uint64_t offset, size_t length,
		     size_t alignment, unsigned access, struct shmb_view *ret_view)
{
	uint32_t bars = access & SHMB_WRITE ? REGION_BARS_WRITE : REGION_BARS_READ;
	int result;

	if (unlikely(!window->region))
		return SHMB_ECLOSED;
	result = check(window, bars, offset, length);
	if (unlikely(result < 0))
		return result;
	result = shmb_region_view(window->region, window->offset + offset, length, alignment,
				  access, ret_view);
	return likely(result == 0) ? 0 : io_window_relative(window, result);
}
