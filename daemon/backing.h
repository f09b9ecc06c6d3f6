/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_BACKING_H
#define DAEMON_BACKING_H

/*
 * What a region's memory is made of. A region has two segments, data and publish page; a backing
 * makes them, opens them for clients, and destroys them. One file for each backing; nobody else
 * knows how.
 */

#include <stdbool.h>
#include <stdint.h>

enum segment { SEGMENT_DATA, SEGMENT_PUBLISH, SEGMENT_COUNT };

struct segments {
	uint64_t id;            /* of the region, which names its objects */
	int fds[SEGMENT_COUNT]; /* -1 for backings that keep none open */
};

struct backing {
	const char *name;
	unsigned held_fds; /* kept open for each region */
	/*
	 * create() - make both segments; sizes in bytes, multiples of the page size
	 * Return: 0, or a negative errno with nothing left behind.
	 */
	int (*create)(uint64_t instance, uint64_t data_bytes, uint64_t publish_bytes,
		      struct segments *segments);
	/*
	 * open() - a new descriptor of one segment, for a client or for the broker's own short use;
	 * the caller owns it
	 * @writable: false gives one through which nothing can be written, mapped writable or
	 * resized Return: the descriptor, or a negative errno.
	 */
	int (*open)(uint64_t instance, const struct segments *segments, enum segment which,
		    bool writable);
	/* destroy() - let the memory go; those who have it mapped keep it. Slow for large ones. */
	void (*destroy)(uint64_t instance, struct segments *segments);
};

extern const struct backing backing_shm, backing_memfd;

/* backing_shm_remove_instance() - remove what a dead instance left. Return: how many objects were
 * removed. */
unsigned backing_shm_remove_instance(uint64_t instance);

#endif
