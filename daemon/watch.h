/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_WATCH_H
#define DAEMON_WATCH_H

/* One-shot watches: a client asks to be told, once, when a region differs from what it has seen. */

#include "answer.h"

#include <stdint.h>

struct attachment;
struct broker;
struct region;
struct wire_region_watch_params;

/*
 * watch_set() - arm the watch of an attachment, in place of an earlier one; with no types end it
 * @wanted: what to tell of, and what the client has seen; call region_notify() after answering
 *
 * Charged from the first time until it is ended, armed or not: a client that is busy with an event
 * finds its place when it comes back.
 */
int watch_set(struct broker *broker, struct attachment *attachment,
	      const struct wire_region_watch_params *wanted, struct failure *failure);

/* watch_end() - no watch any more */
void watch_end(struct broker *broker, struct attachment *attachment);

/*
 * region_count() - something happened that no state of the region shows: SHMB_EVENT_METADATA or
 * SHMB_EVENT_OWNER_DIED
 *
 * Before it is remembered; region_notify() when it can be told.
 */
void region_count(struct region *region, unsigned type);

/* region_notify() - fire every watch whose condition holds */
void region_notify(struct broker *broker, struct region *region);

/* watch_init(), watch_stop() - the timer, see watch.c */
void watch_init(struct broker *broker);
void watch_stop(struct broker *broker);

#endif
