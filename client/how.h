/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_HOW_H
#define CLIENT_HOW_H

/* What options say of a handle's mapping. Functions that return an int return 0 or an error, whose
 * particulars the client keeps. */

#include <stdbool.h>

#include <shmbroker/shmbroker.h>

#include "calls.h"
#include "map.h"

/* Flags that are about the mapping, and hold for create and open alike. */
enum {
	HOW_FLAGS = SHMB_KEEP_FD | SHMB_DUMP | SHMB_PRIVATE | SHMB_POPULATE | SHMB_PIN |
		    SHMB_UNGUARDED | SHMB_STAY_MAPPED | SHMB_FIXED | SHMB_EXEC | SHMB_NO_ACCESS |
		    SHMB_NO_CACHE | SHMB_SYNC,
};

/* how_check() - are there only flags and values that exist, and do they fit each other? */
int how_check(struct shmb_client *client, unsigned access,
	      const struct shmb_region_options *options);

/* how_asked() - what a handle for @access has to ask the broker for */
unsigned how_asked(unsigned access, unsigned flags);

/* how_granted() - and what it may do then. Return: 0: less was granted than is needed. */
unsigned how_granted(unsigned access, unsigned flags, unsigned granted);

/* how_to_map() - the data of a region */
struct map_how how_to_map(const struct attach *attach, unsigned access);

/*
 * how_apply() - what is to be done with the pages of a mapping that is new
 * @bytes:     of the region
 * @file:      it is one: touching it does not make it dirty; where it is private there are copies
 * @ret_error: why not: code and particulars
 */
int how_apply(const struct attach *attach, const struct mapping *mapping, uint64_t bytes, bool file,
	      struct shmb_error *ret_error);

/* how_pool_first() - are pages of the pool to be tried, which may fail? */
bool how_pool_first(const struct shmb_region_options *options);

/* how_without_pool() - is this why one goes on without them? */
bool how_without_pool(int code);

/* how_capacity() - bytes to ask for, so that they can be huge pages without the pool; 0: as many
 * as the size */
uint64_t how_capacity(const struct shmb_region_options *options, uint64_t size);

#endif
