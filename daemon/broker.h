/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_BROKER_H
#define DAEMON_BROKER_H

/* The daemon as a whole: what its parts share. One thread, one loop. */

#include "account.h"
#include "discard.h"
#include "instance.h"
#include "manifest.h"
#include "options.h"
#include "region.h"
#include "segments.h"
#include "slots.h"
#include "store.h"
#include "wire/wire.h"

#include <uv.h>

struct arena;
struct destroyer;
struct peer;
struct session;
struct ticket;

struct counters {
	uint64_t accepted, requests, errors, dropped, refused, resumed;
};

struct broker {
	uv_loop_t loop;
	struct options options;
	struct settings settings;
	struct instance instance;
	char *directory; /* owned; of lock file and manifest */
	struct manifest manifest;
	struct store store;
	struct accounts accounts;
	struct regions regions;
	struct arena *arenas;
	struct session *sessions; /* by token: those that have said hello */
	uint64_t next_session, next_ticket;
	struct ticket *tickets;       /* by token */
	uint64_t recoveries;          /* daemons before us that served what we serve */
	struct destroyer *destroyers; /* by user: of those for whom memory is being destroyed */
	struct repairs repairs;
	struct segment_cache segments;
	struct discard discard;
	struct counters counters;
	uint64_t page_size;
	uint64_t fds_max; /* held for all users together; above it is a reserve for serving them */
	uint64_t started_ms; /* uv_now() */
	bool stopping;
	bool leaving;      /* and all stays as it is for the next daemon */
	uv_prepare_t turn; /* remember.c */
	uint64_t rewrite_again_ms;

	/* listener.c */
	uv_poll_t listen_watch;
	uv_timer_t listen_pause;
	int listen_fd;
	int spare_fd; /* given up for a moment to accept, and refuse, when there are no others */
	char *socket_path; /* owned; NULL: the socket came by activation */

	/* peer.c */
	struct peer *peers;
	struct peer *blocked; /* those we do not read from until they have read from us */
	uint64_t settled_ms;  /* uv_now() when it was last asked what all peers have not read */
	unsigned n_condemned;
	uv_timer_t blocked_tick;

	uv_timer_t recheck; /* watch.c */

	/* One message at a time passes through these. */
	struct wire_decoder decoder;
	struct wire_buffer out;
	uint8_t in[WIRE_PACKET_MAX + 1];
};

/*
 * broker_init() - prepare everything but the listener
 * @options, @settings: copied
 *
 * Return: 0, or a negative errno with nothing to undo.
 */
int broker_init(struct broker *broker, const struct options *options,
		const struct settings *settings);

/*
 * broker_hold_fds() - charge descriptors that the broker will keep open for a user
 *
 * Return: 0, -EDQUOT (the user's limit), or -EMFILE (everybody's).
 */
int broker_hold_fds(struct broker *broker, struct account *account, unsigned n_fds);

/* broker_apply() - new settings from a reload: for what is asked from now on */
void broker_apply(struct broker *broker, const struct settings *settings);

/* broker_leave() - stop, but leave regions and sessions as they are to the next daemon */
void broker_leave(struct broker *broker);

/* broker_stop() - end all sessions and remove all regions; the loop then runs out of things to do
 */
void broker_stop(struct broker *broker);

/* broker_deinit() - after the loop has run out */
void broker_deinit(struct broker *broker);

#endif
