/* SPDX-License-Identifier: MIT */
#ifndef CRASH_CRASH_PAGE_H
#define CRASH_CRASH_PAGE_H

/* A page that a test shares with a daemon that has steps: when it is to die. */

#include <stdatomic.h>

#define CRASH_PAGE_ENVIRONMENT "SHMB_CRASH_PAGE" /* path of the file that holds it */

struct crash_page {
	atomic_bool armed;
	atomic_uint chosen; /* step at which the daemon dies, counted from 1; 0: none */
	atomic_uint then;   /* the same for its successor */
	atomic_uint done;   /* steps, since it was armed or somebody died */
	atomic_uint deaths; /* at a step, since it was armed */
	atomic_int pid;     /* of the daemon that runs, for who wants to kill it otherwise */
};

#endif
