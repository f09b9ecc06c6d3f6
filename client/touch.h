/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_TOUCH_H
#define CLIENT_TOUCH_H

/*
 * Touching a region's bytes: what is checked before and after.
 *
 *	struct region_place place;
 *
 *	do {
 *		result = region_check_read(region, offset, length, &place);
 *		if (unlikely(result < 0))
 *			return result;
 *		memcpy(buffer, place.data, length);
 *		result = region_after_read(region, offset, length, &place);
 *	} while (unlikely(result > 0));
 *	return result;
 *
 * What has to be checked after: the handle may have been closed by another thread, or have moved to
 * another segment (then what was copied may be the zeros that the old mapping turned to: again), or
 * memory may have vanished. No lock and no write to anything shared, where nothing of this has
 * happened.
 */

#include "region.h"

/* What sends a thread to the slow way. */
enum {
	REGION_LOST = REGION_CLOSED | REGION_FAULTED | REGION_PAGE_LOST | REGION_UNSETTLED,
	REGION_BARS_READ = REGION_LOST | REGION_NO_READ,
	REGION_BARS_WRITE = REGION_LOST | REGION_NO_WRITE,
	REGION_AFTER_READ = REGION_LOST,
	/* What is counted goes the slow way from the beginning. */
	REGION_BARS_WRITE_FAST = REGION_BARS_WRITE | REGION_COUNTED,
	REGION_AFTER_WRITE = REGION_LOST | REGION_COUNTED,
	REGION_MENDINGS = 0x7fff0000, /* the number at REGION_MENDED, but for its highest bit */
	/* Longer ranges are copied in such pieces, looking between them: where memory has vanished
	 * each page of it costs a signal. */
	REGION_PIECE = 1 << 20,
};

/* Where a range is, and what was known when that was found out. */
struct region_place {
	unsigned char *data; /* its first byte */
	uint32_t state;      /* the region's */
};

/* region_check_slowly() - the rest of region_check(); keeps the particulars of a failure */
int region_check_slowly(struct shmb_region *region, uint32_t bars, uint64_t offset, uint64_t length,
			struct region_place *ret_place);

/* region_after_slowly() - the rest of region_after() */
int region_after_slowly(struct shmb_region *region, uint32_t bars, uint64_t offset, uint64_t length,
			const struct region_place *place);

/*
 * region_check_fast() - may the range be touched, as far as that can be told here?
 * @ret_place: where the region begins
 */
static always_inline bool region_check_fast(const struct shmb_region *region, uint32_t bars,
					    uint64_t offset, uint64_t length,
					    struct region_place *ret_place)
{
	/* acquire: each of the three before the next, see struct shmb_region. */
	uint32_t seen = atomic_load_explicit(&region->generation_seen, memory_order_acquire);
	uint64_t capacity = atomic_load_explicit(&region->capacity, memory_order_acquire);
	const struct layout_publish *page = region->page;
	/* relaxed: who holds the lock has acquired whatever a grower wrote before it gave it back;
	 * for others this is as if they had come a moment earlier. */
	uint64_t size = atomic_load_explicit(&page->size, memory_order_relaxed);

	ret_place->data = atomic_load_explicit(&region->data, memory_order_relaxed);
	ret_place->state = atomic_load_explicit(&region->state, memory_order_relaxed);
	return likely(!fork_crossed(region->generation)) && likely(!(ret_place->state & bars)) &&
	       likely(atomic_load_explicit(&page->generation, memory_order_relaxed) == seen) &&
	       likely(region_within(offset, length, size < capacity ? size : capacity));
}

/* region_after_fast() - and was it there all the time? */
static always_inline bool region_after_fast(const struct shmb_region *region,
					    const struct region_place *place)
{
	/* What was touched was touched before we look. */
	atomic_thread_fence(memory_order_acquire);
	return likely(atomic_load_explicit(&region->state, memory_order_relaxed) == place->state) &&
	       likely(atomic_load_explicit(&region->data, memory_order_relaxed) == place->data);
}

/*
 * region_check() - may the range be touched, and where is it?
 *
 * Return: 0, or SHMB_EFORKED, SHMB_ECLOSED, SHMB_EMODE, SHMB_EBOUNDS, SHMB_EBUS, or why the region
 * could not be followed.
 */
static always_inline int region_check(struct shmb_region *region, uint32_t bars, uint64_t offset,
				      uint64_t length, struct region_place *ret_place)
{
	if (unlikely(!region_check_fast(region, bars, offset, length, ret_place)))
		return region_check_slowly(region, bars, offset, length, ret_place);
	ret_place->data += offset;
	return 0;
}

/*
 * region_after() - it was touched: does that count?
 *
 * Return: 0, 1 (again, it was not there any more), SHMB_ECLOSED, SHMB_EBUS, or what a flush that
 * became due says.
 */
static always_inline int region_after(struct shmb_region *region, uint32_t bars, uint64_t offset,
				      uint64_t length, const struct region_place *place)
{
	const struct region_place whole = { place->data - offset, place->state };

	if (unlikely(place->state & bars) || unlikely(!region_after_fast(region, &whole)))
		return region_after_slowly(region, bars, offset, length, place);
	return 0;
}

static always_inline int region_check_read(struct shmb_region *region, uint64_t offset,
					   uint64_t length, struct region_place *ret_place)
{
	return region_check(region, REGION_BARS_READ, offset, length, ret_place);
}

static always_inline int region_check_write(struct shmb_region *region, uint64_t offset,
					    uint64_t length, struct region_place *ret_place)
{
	return region_check(region, REGION_BARS_WRITE, offset, length, ret_place);
}

static always_inline int region_after_read(struct shmb_region *region, uint64_t offset,
					   uint64_t length, const struct region_place *place)
{
	return region_after(region, REGION_AFTER_READ, offset, length, place);
}

/* region_set_last_write() - only when it changes, so that threads do not share a written line */
static always_inline void region_set_last_write(struct shmb_region *region, uint64_t bytes)
{
	if (unlikely(atomic_load_explicit(&region->last_write, memory_order_relaxed) != bytes))
		atomic_store_explicit(&region->last_write, bytes, memory_order_relaxed);
}

static always_inline int region_after_write(struct shmb_region *region, uint64_t offset,
					    uint64_t length, const struct region_place *place)
{
	region_set_last_write(region, length);
	return region_after(region, REGION_AFTER_WRITE, offset, length, place);
}

/* region_write_failed() - a write did, as a whole. Return: @result. */
static inline int region_write_failed(struct shmb_region *region, int result)
{
	/* A child's copy is nobody's to write. */
	if (result != SHMB_EFORKED)
		region_set_last_write(region, 0);
	return result;
}

/*
 * region_keep() - the mapping that region_check() has found a range in
 * @ret_mapped: to be given to mapped_release()
 * @ret_since:  for mapped_was_lost(): whatever of the range vanishes from now on, it knows
 *
 * Return: 0, or 1: check again, it is not as it was, and not kept.
 */
int region_keep(struct shmb_region *region, uint64_t offset, uint64_t length,
		const struct region_place *place, struct mapped **ret_mapped, uint64_t *ret_since);

/* region_check_and_keep() - both. Return: as region_check(). */
int region_check_and_keep(struct shmb_region *region, uint32_t bars, uint64_t offset,
			  uint64_t length, struct region_place *ret_place,
			  struct mapped **ret_mapped, uint64_t *ret_since);

/* region_copy_out(), region_copy_in() - shmb_region_read() and _write() without flags */
int region_copy_out(struct shmb_region *region, uint64_t offset, void *buffer, size_t length);
int region_copy_in(struct shmb_region *region, uint64_t offset, const void *buffer, size_t length);

#endif
