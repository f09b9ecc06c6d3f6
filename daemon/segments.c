/* SPDX-License-Identifier: MIT */
/*
 * The cache is mapped directly: a region has its place, and whoever else has the same place loses
 * it. Regions are numbered in order of creation, so that those in use together rarely meet.
 */
#include "segments.h"

#include "region.h"

#include <errno.h>
#include <unistd.h>

static unsigned slot_of(uint64_t id, enum segment which)
{
	return (unsigned)(id * SEGMENT_COUNT + which) % SEGMENT_CACHE_SLOTS;
}

static void empty(struct segment_cache *cache, unsigned slot)
{
	if (cache->slots[slot].id)
		close(cache->slots[slot].fd);
	cache->slots[slot].id = 0;
}

int segment_borrow(struct segment_cache *cache, uint64_t instance, const struct region *region,
		   enum segment which)
{
	unsigned slot = slot_of(region->segments.id, which);
	int fd;

	if (cache->slots[slot].id == region->segments.id)
		return cache->slots[slot].fd;
	empty(cache, slot);
	fd = region->backing->open(instance, &region->segments, which, true);
	if (fd == -EMFILE || fd == -ENFILE) {
		segment_forget_others(cache, region->segments.id);
		fd = region->backing->open(instance, &region->segments, which, true);
	}
	if (fd < 0)
		return fd;
	cache->slots[slot].id = region->segments.id;
	cache->slots[slot].fd = fd;
	return fd;
}

void segment_forget(struct segment_cache *cache, uint64_t id)
{
	for (int i = 0; i < SEGMENT_COUNT; i++) {
		unsigned slot = slot_of(id, (enum segment)i);

		if (cache->slots[slot].id == id)
			empty(cache, slot);
	}
}

void segment_forget_others(struct segment_cache *cache, uint64_t id)
{
	for (unsigned slot = 0; slot < SEGMENT_CACHE_SLOTS; slot++)
		if (cache->slots[slot].id != id)
			empty(cache, slot);
}
