/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_OVERLAY_H
#define DAEMON_OVERLAY_H

/* Overlays that somebody with root's rights has mounted, and those that anybody may have. */

#include <stdbool.h>
#include <sys/types.h>

/*
 * overlay_is_mounted() - is the overlay that has files of this device among our own mounts?
 *
 * Whoever makes a user namespace can mount an overlay there, over files of a server of its own, and
 * then every question about a file of it may wait for ever. Such mounts are seen in that namespace
 * alone. Async-signal-safe.
 *
 * @device: as fstat(2) says of the file
 */
bool overlay_is_mounted(dev_t device);

#endif
