/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_FLUSH_H
#define CLIENT_FLUSH_H

/* Writing back to files: when it is asked for, and when a handle's policy says so. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct shmb_region;

/* A handle's policy, and what has been counted since it has one (REGION_COUNTED). */
struct flush {
	_Atomic uint64_t every_bytes, every_writes;
	_Atomic uint32_t every_ms;
	_Atomic bool awaited;         /* the timer knows that something is pending */
	_Atomic uint32_t errors_seen; /* of the publish page's flush_errors */
	/* All that ever was, so that no two threads have to agree on what is left. */
	_Atomic uint64_t bytes, bytes_flushed;
	_Atomic uint64_t writes, writes_flushed;
};

/* flush_count() - a write was made through a handle with a flush policy (REGION_COUNTED). Return:
 * 0, or what the flush that it caused says. */
int flush_count(struct shmb_region *region, uint64_t offset, uint64_t length);

/* flush_timed() - the time of a region has come. Return: 0, or after how many milliseconds it wants
 * to be tried again. */
uint32_t flush_timed(struct shmb_region *region);

/* flush_last() - a handle is closing, nobody flushes any more */
void flush_last(struct shmb_region *region);

#endif
