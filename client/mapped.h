/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAPPED_H
#define CLIENT_MAPPED_H

/*
 * A mapping of a region's data. A region that grows beyond its capacity gets another one; the ones
 * before it stay for those that hold them, and their addresses until the region is freed, so that a
 * thread that was just using one does not crash.
 *
 * Changes of what is mapped (superseding, mending, detaching) exclude each other by the region's
 * `remapping` mutex, which is held for no longer than it takes to read from a disk what is there
 * again.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guard.h"
#include "map.h"

struct shmb_region;

struct mapped {
	struct mapping mapping;
	struct shmb_region *region;
	uint32_t generation; /* of the segment, as the broker counts */
	struct guarded guarded;
	_Atomic uint32_t holds;  /* views in it */
	_Atomic bool superseded; /* there is a newer one */
	bool detached;
	_Atomic uint64_t n_mended; /* times that something came back while there were views */
	struct mended *mended;     /* what that was, for them */
	struct mapped *older;      /* owned */
};

/*
 * mapped_new() - map a data segment as the region's flags and access say
 * @fd: borrowed
 *
 * Return: 0, or as map_data() and guard_add().
 */
int mapped_new(struct shmb_region *region, int fd, uint64_t bytes, uint32_t generation,
	       struct mapped **ret_mapped);

/* mapped_free() - unmap all, the older ones, too. Return: NULL. */
struct mapped *mapped_free(struct mapped *mapped);

/* mapped_detach_all() - let go of the region's segments, keep the addresses. Return: as
 * map_detach(). */
bool mapped_detach_all(struct shmb_region *region);

/* mapped_leave() - the newest one's addresses belong to the program from now on: nothing here
 * touches them again */
void mapped_leave(struct mapped *mapped);

/* mapped_hold() - keep the region's present mapping from being let go of */
struct mapped *mapped_hold(struct shmb_region *region);
void mapped_release(struct mapped *mapped);

/*
 * mapped_supersede() - make @mapped the region's
 * @fd: takes the place of the one that the region has kept; consumed
 *
 * Return: false: it is closed, nothing was done.
 */
bool mapped_supersede(struct shmb_region *region, struct mapped *mapped, int fd);

/* ---- mend.c: memory that has vanished ---- */

/*
 * mapped_mend() - whatever of a range has vanished: is it there again?
 * @ret_offset, @ret_length: the first part that is not
 *
 * Return: true: all of it is there, as far as one knows.
 */
bool mapped_mend(struct shmb_region *region, uint64_t offset, uint64_t length, uint64_t *ret_offset,
		 uint64_t *ret_length);

/* mapped_was_lost() - has anything of a range been lost since the count of `n_mended` was @since?
 */
bool mapped_was_lost(struct mapped *mapped, uint64_t offset, uint64_t length, uint64_t since);

/* mended_free() - forget what came back */
void mended_free(struct mapped *mapped);

#endif
