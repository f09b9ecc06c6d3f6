/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

/*
 * The service manager's store of descriptors (sd_notify(3), FDSTORE=1): what keeps memory without a
 * name while there is no daemon. `shmbctl run` speaks the same protocol.
 */

#include "backing.h"

#include <stdint.h>

/* All names of stored descriptors come back in one string of the environment, LISTEN_FDNAMES,
 * which may have 128 KiB (MAX_ARG_STRLEN, execve(2)): five bytes for each. */
enum { STORE_MAX = 24576 };

struct store {
	uint32_t max;    /* descriptors that it takes; 0: there is none */
	uint32_t n_fds;  /* in it */
	uint32_t lowest; /* no number below is free */
	uint64_t taken[STORE_MAX / 64];
};

/* store_init() - is there one? The environment tells. */
void store_init(struct store *store);

/*
 * store_keep() - put some of an object's segments there, those that are made of descriptors
 * @which: SEGMENT_BIT()s; they get one number
 *
 * Return: 0 (also if there is no store), or a negative errno.
 */
int store_keep(struct store *store, struct segments *segments, unsigned which);

/* store_drop() - take segments out of it, those of @which that are there */
void store_drop(struct store *store, struct segments *segments, unsigned which);

/* store_claim() - a number that came back belongs to a segment. Return: false: it is impossible. */
bool store_claim(struct store *store, uint32_t number);

/* store_disown() - take out what nobody claims, unless the number is somebody else's, too */
void store_disown(const struct store *store, uint32_t number);

#endif
