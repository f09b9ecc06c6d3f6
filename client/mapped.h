/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAPPED_H
#define CLIENT_MAPPED_H

/*
 * A mapping of a region's data. A region that grows beyond its capacity gets another one; the ones
 * before it stay for those that hold them, and their addresses until the region is freed, so that a
 * thread that was just using one does not crash.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "map.h"

struct shmb_region;

struct mapped {
	struct mapping mapping;
	_Atomic uint32_t holds;  /* views in it */
	_Atomic bool superseded; /* there is a newer one */
	struct mapped *older;    /* owned */
};

/* mapped_free() - unmap all, the older ones, too. Return: NULL. */
struct mapped *mapped_free(struct mapped *mapped);

/* mapped_detach() - let go of the segments, keep the addresses. Return: as map_detach(). */
bool mapped_detach(struct mapped *mapped);

/* mapped_leave() - the newest one's addresses belong to the program from now on: nothing here
 * touches them again */
void mapped_leave(struct mapped *mapped);

/* mapped_hold() - keep the region's present mapping from being let go of */
struct mapped *mapped_hold(struct shmb_region *region);
void mapped_release(struct mapped *mapped);

/* mapped_supersede() - make @mapped the region's; the caller sees that only one thread does */
void mapped_supersede(struct shmb_region *region, struct mapped *mapped);

#endif
