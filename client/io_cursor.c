/* SPDX-License-Identifier: MIT */
/*
 * Cursors: a window with a position. Reading is inline in the header as long as nothing is out of
 * the ordinary; what is here does the rest, and then lets the next ones be inline again.
 */

#include "io_parts.h"
#include "touch.h"

/* What the header takes for granted of the publish page. */
_Static_assert(offsetof(struct layout_publish, generation) ==
		       offsetof(struct layout_publish, size) + 2 * sizeof(uint64_t),
	       "the number of the segment is two words after the size");
_Static_assert(sizeof(_Atomic uint64_t) == sizeof(uint64_t) &&
		       sizeof(_Atomic uint32_t) == sizeof(uint32_t),
	       "atomic words are words");

enum { TRIES = 16 }; /* of reading up to an end that others move to and fro */

/* ---- Opening ---- */

int shmb_cursor_open(struct shmb_region *region, struct shmb_cursor *ret_cursor)
{
	/* Its end is wherever the region's is. */
	const struct shmb_window whole = { .region = region, .length = UINT64_MAX };

	return shmb_cursor_open_window(&whole, ret_cursor);
}

/*
 * Lets reads be inline from here on, if nothing is out of the ordinary: they compare the words with
 * what they are now, and end where the window, the size and the held mapping do.
 */
static void arm(struct shmb_cursor *cursor)
{
	struct shmb_region *region = cursor->_window.region;
	const struct layout_publish *page = region->page;
	uint64_t offset = cursor->_window.offset, capacity, end;

	cursor->_limit = 0;
	cursor->_seen_state = atomic_load(&region->state);
	/* In this order, see struct shmb_region. */
	cursor->_seen_segment = atomic_load(&region->generation_seen);
	capacity = atomic_load(&region->capacity);
	cursor->_seen_size = atomic_load(&page->size);
	if (cursor->_seen_state & REGION_BARS_READ)
		return;
	cursor->_data = atomic_load(&region->data) + offset;
	end = cursor->_seen_size < capacity ? cursor->_seen_size : capacity;
	end = end > offset ? end - offset : 0;
	if (end > cursor->_window.length)
		end = cursor->_window.length;
	cursor->_limit = end + 1; /* no capacity comes near the largest number */
}

int shmb_cursor_open_window(const struct shmb_window *window, struct shmb_cursor *ret_cursor)
{
	struct shmb_region *region = window->region;
	struct shmb_cursor cursor = { ._window = *window };
	int result = io_window_ready(window);

	if (result == 0)
		result = region_hold(region);
	if (result < 0)
		return result;
	cursor._window._held = 1;
	cursor._words = (const uint64_t *)&region->page->size;
	cursor._state = (const uint32_t *)&region->state;
	arm(&cursor);
	*ret_cursor = cursor;
	return 0;
}

void shmb_cursor_close(struct shmb_cursor *cursor)
{
	if (!cursor)
		return;
	shmb_window_close(&cursor->_window);
	*cursor = (struct shmb_cursor){ .position = 0 };
}

/* ---- Reading and writing ---- */

/* How many bytes there are from @position on, at most @length. */
static size_t available(const struct shmb_window *window, uint64_t position, size_t length)
{
	uint64_t size = io_window_bytes(window);

	if (position >= size)
		return 0;
	return size - position < length ? (size_t)(size - position) : length;
}

/*
 * As far as there is something. Others may move the end between the look and the copy.
 *
 * Return: 0, or an error, with *@ret_done 0.
 */
static int read_some(const struct shmb_window *window, uint64_t position, void *buffer,
		     size_t length, size_t *ret_done)
{
	struct region_place place;
	int result, tries = 0;

	*ret_done = 0;
	if (unlikely(!window->region))
		return SHMB_ECLOSED;
	do {
		size_t n;

		result = region_check_read(window->region, 0, 0, &place);
		n = available(window, position, length);
		if (result < 0 || n == 0)
			return result;
		result = region_copy_out(window->region, window->offset + position, buffer, n);
		if (likely(result == 0))
			*ret_done = n;
	} while (unlikely(result == SHMB_EBOUNDS) && ++tries < TRIES);
	return likely(result == 0) ? 0 : io_window_relative(window, result);
}

static int write_some(const struct shmb_window *window, uint64_t position, const void *buffer,
		      size_t length, size_t *ret_done)
{
	struct region_place place;
	int result, tries = 0;

	*ret_done = 0;
	if (unlikely(!window->region))
		return SHMB_ECLOSED;
	do {
		size_t n;

		result = region_check_write(window->region, 0, 0, &place);
		n = available(window, position, length);
		if (result < 0 || n == 0)
			return region_write_failed(window->region, result);
		result = region_copy_in(window->region, window->offset + position, buffer, n);
		if (likely(result == 0))
			*ret_done = n;
	} while (unlikely(result == SHMB_EBOUNDS) && ++tries < TRIES);
	return likely(result == 0) ? 0 : io_window_relative(window, result);
}

int64_t shmb_cursor_read_checked(struct shmb_cursor *cursor, void *buffer, size_t length)
{
	size_t done;
	int result = read_some(&cursor->_window, cursor->position, buffer, length, &done);

	if (result < 0)
		return result;
	cursor->position += done;
	arm(cursor);
	return (int64_t)done;
}

int64_t shmb_cursor_write(struct shmb_cursor *cursor, const void *buffer, size_t length)
{
	size_t done;
	int result = write_some(&cursor->_window, cursor->position, buffer, length, &done);

	if (result == 0 && done == 0 && length > 0)
		result = io_window_refuse(&cursor->_window, cursor->position, length);
	if (result < 0)
		return result;
	cursor->position += done;
	return (int64_t)done;
}

int shmb_cursor_read_at(struct shmb_cursor *cursor, uint64_t position, void *buffer, size_t length,
			size_t *ret_done)
{
	size_t done;
	int result = read_some(&cursor->_window, position, buffer, length, &done);

	if (ret_done)
		*ret_done = done;
	if (result == 0 && done < length)
		result = io_window_refuse(&cursor->_window, position, length);
	return result;
}

int shmb_cursor_write_at(struct shmb_cursor *cursor, uint64_t position, const void *buffer,
			 size_t length, size_t *ret_done)
{
	size_t done;
	int result = write_some(&cursor->_window, position, buffer, length, &done);

	if (ret_done)
		*ret_done = done;
	if (result == 0 && done < length)
		result = io_window_refuse(&cursor->_window, position, length);
	return result;
}

/* ---- Seeking ---- */

int64_t shmb_cursor_seek(struct shmb_cursor *cursor, int64_t offset, enum shmb_whence whence)
{
	struct shmb_region *region = cursor->_window.region;
	uint64_t distance = offset < 0 ? 0 - (uint64_t)offset : (uint64_t)offset, base = 0;
	int result = io_window_ready(&cursor->_window);

	if (result < 0)
		return result;
	if (whence == SHMB_SEEK_CURRENT)
		base = cursor->position;
	else if (whence == SHMB_SEEK_END)
		base = io_window_bytes(&cursor->_window);
	else if (whence != SHMB_SEEK_SET)
		return region_refuse(region, SHMB_EINVAL, "whence");
	if (base > INT64_MAX || (offset < 0 ? base < distance : distance > INT64_MAX - base))
		return region_refuse(region, SHMB_EINVAL, "offset");
	cursor->position = base + (uint64_t)offset;
	return (int64_t)cursor->position;
}
