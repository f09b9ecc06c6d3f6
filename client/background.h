/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_BACKGROUND_H
#define CLIENT_BACKGROUND_H

/*
 * Work that would block, done by threads of the client: operations whose callbacks
 * shmb_client_process() runs, and flushes that are due by a policy's time. No function here may be
 * called with the client's mutex held, except where told.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct shmb_client;
struct shmb_region;
struct work;

/* Of a region; guarded by the client's mutex. */
struct background_part {
	bool ended; /* nothing begins any more */
	bool timed; /* in the list of those with a timed policy */
	LIST_ENTRY(shmb_region) link;
	int64_t due; /* nanoseconds: when to flush it; 0: nothing is pending */
};

/*
 * background_end() - a handle is closing: what has not begun is cancelled, what is under way is
 * waited for, nothing begins any more
 */
void background_end(struct shmb_region *region);

/* background_stop() - the client is being freed: the same for all, silently, and no thread is left
 */
void background_stop(struct shmb_client *client);

/* background_free() - the last reference is gone, or this is a forked child, which has no threads
 */
void background_free(struct shmb_client *client);

/*
 * background_run() - the callback of an operation that has ended; the mutex is held, and let go of
 * meanwhile
 *
 * Return: 1, or SHMB_EFORKED as watch_run().
 */
int background_run(struct shmb_client *client, struct work *work);

/*
 * background_time() - a region gets a timed policy, or loses it
 *
 * Return: 0, or with @timed SHMB_ENOMEM (no thread) or SHMB_ECLOSED.
 */
int background_time(struct shmb_region *region, bool timed);

/* background_flush_within() - a timed region has something pending: flush it within @ms */
void background_flush_within(struct shmb_region *region, uint32_t ms);

/* background_set_idle() - for tests: end threads that have had nothing to do for so long */
void background_set_idle(int64_t nanoseconds);

#endif
