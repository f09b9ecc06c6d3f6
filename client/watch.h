/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_WATCH_H
#define CLIENT_WATCH_H

/*
 * What a program hears of a region that changes. The client's mutex is held.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <shmbroker/shmbroker.h>

#include "wire/wire.h"

struct shmb_client;

struct watch {
	struct shmb_region *next; /* of its bucket, while registered */
	bool registered;
	bool unarmed; /* counted by client->n_unarmed */
	unsigned types;
	shmb_event_fn callback;
	void *userdata;
	uint64_t sequence; /* last told */
	uint64_t size;     /* last told */
	uint64_t serial;   /* changes with each shmb_region_watch() */
	unsigned n_arming; /* unanswered region.watch: an event that comes now may be of an older
			      watch */
	unsigned events;   /* enum shmb_event_type that came and have not been told */
	uint64_t event_size;
	/* The broker's counters: last told, last heard. It may be too old to have any. */
	bool counted;
	uint32_t metadata, deaths;
	uint32_t event_metadata, event_deaths;
	/* Of SHMB_EVENT_FILE. */
	LIST_ENTRY(shmb_region) file_link;
	int file_watch; /* number, among client->files; -1: none */
	uint64_t file_links;
};

/* watch_event() - the broker says that something happened */
void watch_event(struct shmb_client *client, const struct wire_region_event *event);

/* watch_armed() - a region.watch was answered; @seen: with what the broker counts, NULL if it
 * failed */
void watch_armed(struct shmb_region *region, const struct wire_region_watch_result *seen);

/* watch_rearmed() - the same, for one of watch_arm_lost(); @code: 0 or why not */
void watch_rearmed(struct shmb_region *region, int code,
		   const struct wire_region_watch_result *seen);

/* watch_files() - take what has happened to watched files */
void watch_files(struct shmb_client *client);

/* watch_lose_all() - the connection broke, and the broker's watches with it */
void watch_lose_all(struct shmb_client *client);

/* watch_arm_lost() - arm them again, as many as may be asked for now */
void watch_arm_lost(struct shmb_client *client);

/* watch_deadline() - when to call it again; 0: with the next answer, or never */
int64_t watch_deadline(const struct shmb_client *client);

void watch_end(struct shmb_region *region);
void watch_end_all(struct shmb_client *client);
void watch_disconnect_all(struct shmb_client *client);

/*
 * watch_run() - tell a region's events, if there is something to tell
 *
 * Lets go of the mutex while the callback runs.
 *
 * Return: 1 (told), 0, or SHMB_EFORKED (the callback forked, this is the child: the mutex is not
 * held).
 */
int watch_run(struct shmb_region *region);

#endif
