/* SPDX-License-Identifier: MIT */
#ifndef STORM_WARDEN_H
#define STORM_WARDEN_H

/*
 * The warden: a process between the master and the daemon, which is to the daemon what a service
 * manager is. It keeps the listening socket and the descriptor store, starts the daemon, kills,
 * stops and ends it as chance has it, and starts it again at once.
 *
 * It stands apart from the master because the master is a client, too, and has to live through all
 * of it.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct broker;

/* Master and warden share it. */
struct warden_page {
	_Atomic uint32_t order;   /* enum warden_order */
	_Atomic uint32_t obeyed;  /* the last order that was carried out */
	_Atomic uint32_t faulted; /* 1: the warden is writing what follows; 2: written */
	char fault[200];
	_Atomic int pid;         /* of the daemon; 0: none runs */
	_Atomic uint32_t stored; /* descriptors in the store */
	/* So far: */
	_Atomic uint64_t kills;     /* with SIGKILL */
	_Atomic uint64_t early;     /* of them before the daemon said that it was ready */
	_Atomic uint64_t frozen;    /* of them while it was stopped */
	_Atomic uint64_t stops;     /* with SIGSTOP */
	_Atomic uint64_t ends;      /* with SIGTERM */
	_Atomic uint64_t kept;      /* descriptors put into the store */
	_Atomic int64_t longest_us; /* from a start until the daemon was ready */
};

enum warden_order {
	WARDEN_REST, /* leave it alone; obeyed when the daemon is ready */
	WARDEN_RAGE,
	WARDEN_END, /* let the daemon end for good */
};

struct warden {
	struct warden_page *page;
};

/* warden_begin() - start the warden, and the daemon; returns when it serves. To the harness
 * @broker's process is the warden.
 * @system: --system, with a store, instead of --private without */
void warden_begin(struct warden *warden, struct broker *broker, bool system, uint64_t seed);

/* warden_order() - and wait until it is obeyed */
void warden_order(struct warden *warden, enum warden_order order);

/* warden_check() - fails if the warden has found a fault */
void warden_check(const struct warden *warden);

/* warden_end() - the daemon ends in good order, and leaves nothing in the store */
void warden_end(struct warden *warden, struct broker *broker);

#endif
