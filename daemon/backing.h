/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_BACKING_H
#define DAEMON_BACKING_H

/*
 * What shared memory is made of. Each object has segments: a region data and publish page, and a
 * lock segment once somebody locks it; a named lock and an arena of semaphores the last alone. A
 * backing makes them, opens them for clients, and destroys them. One file for each backing; nobody
 * else knows how.
 */

#include <stdbool.h>
#include <stdint.h>

/* SEGMENT_READER: of a file that can be written, the descriptor that readers get; the same file as
 * SEGMENT_DATA. */
enum segment { SEGMENT_DATA, SEGMENT_PUBLISH, SEGMENT_LOCK, SEGMENT_READER, SEGMENT_COUNT };

enum { SEGMENT_MAPPED = 2 }; /* data and publish page, which every attachment to a region gets */

/* For sets of them. */
#define SEGMENT_BIT(which) (1u << (which))
#define SEGMENTS_ALL       ((1u << SEGMENT_COUNT) - 1)

struct backing;

struct segments {
	const struct backing *backing; /* of all but the data */
	const struct backing *data;    /* the same, but for files and huge pages */
	uint64_t id;                   /* of the object, which names its segments */
	uint32_t generation;    /* of the data segment: its number, higher than those before it */
	int fds[SEGMENT_COUNT]; /* -1: not made, or of a backing that keeps none open */
	bool made[SEGMENT_COUNT];
	bool missed[SEGMENT_COUNT];     /* it was made, and was not found again after a restart */
	uint64_t inodes[SEGMENT_COUNT]; /* where stored */
	uint32_t stored[SEGMENT_COUNT]; /* number in the service manager's store; 0: not there */
};

struct backing {
	const char *name;
	unsigned number;   /* enum shmb_backing */
	unsigned held_fds; /* kept open for each segment */
	bool slow_end;     /* destroying a segment may wait for somebody else */
	/*
	 * create() - make one segment; @bytes is a multiple of the page size
	 * Return: 0, or a negative errno with nothing left behind.
	 */
	int (*create)(uint64_t instance, struct segments *segments, enum segment which,
		      uint64_t bytes);
	/*
	 * open() - a new descriptor of one segment, for a client or for the broker's own short use;
	 * the caller owns it
	 * @writable: false gives one through which nothing can be written, mapped writable or
	 * resized Return: the descriptor, or a negative errno.
	 */
	int (*open)(uint64_t instance, const struct segments *segments, enum segment which,
		    bool writable);
	/* destroy() - let one segment go; those who have it mapped keep it. Slow for large ones. */
	void (*destroy)(uint64_t instance, struct segments *segments, enum segment which);
};

extern const struct backing backing_shm, backing_memfd, backing_file, backing_hugetlb;

/* backing_of() - by its number; NULL: none */
const struct backing *backing_of(unsigned number);

/* backing_page_bytes() - data segments are multiples of it; at least @page_size, the system's */
uint64_t backing_page_bytes(const struct backing *backing, uint64_t page_size);

/* segments_init() - none made yet */
void segments_init(struct segments *segments, const struct backing *backing,
		   const struct backing *data, uint64_t id);

/* segment_backing() - of one of them */
const struct backing *segment_backing(const struct segments *segments, enum segment which);

/* segments_create(), segments_open() - as the backing's; segments_destroy() - all that were made */
int segments_create(struct segments *segments, uint64_t instance, enum segment which,
		    uint64_t bytes);
int segments_open(const struct segments *segments, uint64_t instance, enum segment which,
		  bool writable);
void segments_destroy(struct segments *segments, uint64_t instance);

/* segments_take() - move some of them, SEGMENT_BIT()s, to where they can be destroyed by themselves
 */
struct segments segments_take(struct segments *segments, unsigned which);

/* segments_leave() - they stay for the next daemon; close what we have of them */
void segments_leave(struct segments *segments);

/*
 * backing_shm_sweep() - look at all shm objects of an instance, remove those that nobody claims
 * @claim: is it this segment of an object that is remembered? NULL: nobody claims any
 *
 * Return: how many were removed, or a negative errno.
 */
int backing_shm_sweep(uint64_t instance,
		      bool (*claim)(void *userdata, uint64_t id, enum segment which,
				    uint32_t generation),
		      void *userdata);

#endif
