/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_H
#define CLIENT_MAP_H

/* Putting segments into the address space; the only place that knows how the system does it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mapping {
	void *data;
	size_t length; /* whole pages */
	bool writable;
};

/* map_page_size() - bytes of a page of memory */
size_t map_page_size(void);

/*
 * map_segment() - map the first @bytes of a segment, shared
 * @fd:   borrowed; not needed after
 * @dump: include it in core dumps
 *
 * Return: 0, SHMB_ENOMEM, or SHMB_EPROTO (@fd is not a segment of that size and access).
 */
int map_segment(int fd, uint64_t bytes, bool writable, bool dump, struct mapping *ret_mapping);

/*
 * map_detach() - let go of the segment, keep the addresses
 *
 * From now on they show private zeros, so that a thread that is just using them does not crash.
 *
 * Return: false if the system has no memory for even that: the segment stays mapped until
 * map_release().
 */
bool map_detach(struct mapping *mapping);

/* map_release() - unmap; a zeroed or released mapping is ignored */
void map_release(struct mapping *mapping);

/*
 * map_reserve() - allocate the first @bytes of a segment now
 *
 * Return: 0, SHMB_ENOSPC, SHMB_ENOMEM, SHMB_EDQUOT, SHMB_EIO, ...
 */
int map_reserve(int fd, uint64_t bytes);

/* map_flush() - write a range back to what backs it. Return: 0 or SHMB_EIO. */
int map_flush(const struct mapping *mapping, uint64_t offset, uint64_t length);

#endif
