/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_BACKING_MEMFD_H
#define DAEMON_BACKING_MEMFD_H

/* What memory without a name has in common, whatever its pages are. */

#include "backing.h"

/*
 * memfd_make() - a sealed memfd of the broker's own
 * @flags: beyond those that all have
 *
 * Return: the descriptor, or a negative errno.
 */
int memfd_make(const char *name, unsigned flags, uint64_t bytes);

/* As struct backing has them. */
int memfd_backing_open(uint64_t instance, const struct segments *segments, enum segment which,
		       bool writable);
void memfd_backing_destroy(uint64_t instance, struct segments *segments, enum segment which);

#endif
