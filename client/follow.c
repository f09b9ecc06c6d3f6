/* SPDX-License-Identifier: MIT */
/*
 * Going after a region that has moved to another segment, and the slow ways of touching its bytes:
 * whatever the fast ones in touch.h send here.
 */

#include "client.h"

int region_follow(struct shmb_region *region)
{
	/* Whoever may write the page may have written this, so it is no more than a hint. */
	atomic_store(&region->generation_seen, atomic_load(&region->page->generation));
	return 0;
}

/* ---- Before ---- */

static int check_state(struct shmb_region *region, uint32_t bars)
{
	uint32_t state = atomic_load(&region->state) & bars;

	if (state & REGION_CLOSED)
		return region_refuse(region, SHMB_ECLOSED, NULL);
	if (state & REGION_NO_READ)
		return region_refuse(region, SHMB_EMODE, "read");
	if (state & REGION_NO_WRITE)
		return region_refuse(region, SHMB_EMODE, "write");
	return 0;
}

static bool has_moved(const struct shmb_region *region)
{
	return atomic_load(&region->page->generation) != atomic_load(&region->generation_seen);
}

static int check_range(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	uint64_t capacity = atomic_load(&region->capacity);
	uint64_t size = atomic_load(&region->page->size);

	if (!region_within(offset, length, size < capacity ? size : capacity))
		return region_refuse_bounds(region, offset, length);
	return 0;
}

int region_check_slowly(struct shmb_region *region, uint32_t bars, uint64_t offset, uint64_t length,
			struct region_place *ret_place)
{
	int result = fork_crossed(region->generation) ? SHMB_EFORKED : check_state(region, bars);

	if (result == 0 && has_moved(region)) {
		result = region_follow(region);
		if (result < 0)
			region_refuse(region, result, "follow");
	}
	if (result == 0 && bars & REGION_PAGE_LOST)
		result = region_check_page(region);
	if (result == 0)
		result = check_range(region, offset, length);
	if (result == 0 && bars & atomic_load(&region->state) & REGION_FAULTED)
		result = region_mend(region, offset, length);
	if (result < 0)
		return result;
	/* What happened before this was not seen; what happens after it will be. */
	ret_place->state = atomic_load(&region->state);
	ret_place->data = atomic_load(&region->data) + offset;
	return 0;
}

/* ---- After ---- */

int region_after_slowly(struct shmb_region *region, uint32_t bars, uint64_t offset, uint64_t length,
			const struct region_place *place)
{
	uint32_t now = atomic_load(&region->state);
	int result = 0;

	if (now & REGION_CLOSED)
		return region_refuse(region, SHMB_ECLOSED, NULL);
	if (atomic_load(&region->data) + offset != place->data ||
	    (now ^ place->state) & REGION_MENDINGS)
		return 1;
	if (now & REGION_PAGE_LOST)
		result = region_check_page(region);
	if (result == 0 && now & REGION_FAULTED)
		result = region_find_lost(region, offset, length);
	if (result == 0 && bars & now & REGION_COUNTED)
		result = flush_count(region, offset, length);
	return result;
}
