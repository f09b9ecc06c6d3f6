/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_WATCH_H
#define DAEMON_WATCH_H

/* One-shot watches: a client asks to be told, once, when a region differs from what it has seen. */

#include "answer.h"

#include <stdint.h>

struct attachment;
struct broker;
struct region;

/*
 * watch_set() - arm the watch of an attachment, in place of an earlier one; with no @types end it
 * @types:           enum shmb_event_type, what to tell of
 * @sequence, @size: what the client has seen; call region_notify() after answering
 *
 * Charged from the first time until it is ended, armed or not: a client that is busy with an event
 * finds its place when it comes back.
 */
int watch_set(struct broker *broker, struct attachment *attachment, unsigned types,
	      uint64_t sequence, uint64_t size, struct failure *failure);

/* watch_end() - no watch any more */
void watch_end(struct broker *broker, struct attachment *attachment);

/* region_notify() - fire every watch whose condition holds */
void region_notify(struct broker *broker, struct region *region);

/* watch_init(), watch_stop() - the timer, see watch.c */
void watch_init(struct broker *broker);
void watch_stop(struct broker *broker);

#endif
