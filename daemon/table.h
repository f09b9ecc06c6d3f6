/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_TABLE_H
#define DAEMON_TABLE_H

/*
 * uthash as the daemon uses it: running out of memory leaves the element out (its hh.tbl is then
 * NULL) instead of ending the process. Keys here are never chosen by a client (user ids, handles
 * that the broker numbers), so that an unseeded hash is no weakness.
 */

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* TABLE_HAS() - did the last HASH_ADD of @element take place */
#define TABLE_HAS(element) ((element)->hh.tbl != NULL)

#endif
