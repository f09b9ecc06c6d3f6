/* SPDX-License-Identifier: MIT */
/*
 * The cache is mapped directly: an object has its place, and whoever else has the same place loses
 * it. Objects are numbered in order of creation, so that those in use together rarely meet.
 */
#include "segments.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned slot_of(uint64_t id, enum segment which)
{
	return (unsigned)(id * SEGMENT_COUNT + which) % SEGMENT_CACHE_SLOTS;
}

static void empty(struct segment_cache *cache, unsigned slot)
{
	if (!cache->slots[slot].id)
		return;
	if (cache->slots[slot].mapping)
		munmap(cache->slots[slot].mapping, cache->slots[slot].bytes);
	close(cache->slots[slot].fd);
	cache->slots[slot].mapping = NULL;
	cache->slots[slot].id = 0;
}

int segment_borrow(struct segment_cache *cache, uint64_t instance, const struct segments *segments,
		   enum segment which)
{
	unsigned slot = slot_of(segments->id, which);
	int fd;

	if (cache->slots[slot].id == segments->id)
		return cache->slots[slot].fd;
	empty(cache, slot);
	fd = segments_open(segments, instance, which, true);
	if (fd == -EMFILE || fd == -ENFILE) {
		segment_forget_others(cache, segments->id);
		fd = segments_open(segments, instance, which, true);
	}
	if (fd < 0)
		return fd;
	cache->slots[slot].id = segments->id;
	cache->slots[slot].fd = fd;
	return fd;
}

int segment_map(struct segment_cache *cache, uint64_t instance, const struct segments *segments,
		enum segment which, size_t bytes, void **ret_data)
{
	unsigned slot = slot_of(segments->id, which);
	int fd = segment_borrow(cache, instance, segments, which);
	void *mapping;

	if (fd < 0)
		return fd;
	if (!cache->slots[slot].mapping) {
		mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (mapping == MAP_FAILED)
			return -errno;
		cache->slots[slot].mapping = mapping;
		cache->slots[slot].bytes = bytes;
	}
	*ret_data = cache->slots[slot].mapping;
	return 0;
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
