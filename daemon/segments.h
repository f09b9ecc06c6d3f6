/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SEGMENTS_H
#define DAEMON_SEGMENTS_H

/*
 * Descriptors of segments that were used lately, kept open for the next use, and mappings of
 * publish pages that were written.
 *
 * Opening an shm object by name costs several times what passing its descriptor does, and mapping a
 * page for one word costs as much as a round trip. Only writable descriptors are kept: those who
 * share a writable one can disturb each other anyway, while two readers that shared one would share
 * its file offset and flags.
 */

#include "backing.h"

#include <stddef.h>

enum { SEGMENT_CACHE_SLOTS = 64 }; /* a multiple of SEGMENT_COUNT */

struct segment_cache {
	struct {
		uint64_t id;
		int fd;        /* meaningful if @id is not 0 */
		void *mapping; /* or NULL */
		size_t bytes;
	} slots[SEGMENT_CACHE_SLOTS];
};

/*
 * segment_borrow() - a writable descriptor of one segment
 *
 * Return: the descriptor, which belongs to the cache and is good until the next call for another
 * object, or a negative errno. All segments of one object may be borrowed at a time.
 */
int segment_borrow(struct segment_cache *cache, uint64_t instance, const struct segments *segments,
		   enum segment which);

/*
 * segment_map() - one segment mapped writable
 * @bytes: from its beginning; the same in each call for a segment
 *
 * Return: 0 and the mapping, which belongs to the cache and is good for as long as the descriptor
 * would be, or a negative errno. It is to be touched inside a guard only, see guard_enter(); if it
 * has vanished it has to be forgotten.
 */
int segment_map(struct segment_cache *cache, uint64_t instance, const struct segments *segments,
		enum segment which, size_t bytes, void **ret_data);

/* segment_forget() - close what is kept of an object whose memory is to go */
void segment_forget(struct segment_cache *cache, uint64_t id);

/* segment_forget_others() - close all but what is kept of one object; @id 0: close all */
void segment_forget_others(struct segment_cache *cache, uint64_t id);

#endif
