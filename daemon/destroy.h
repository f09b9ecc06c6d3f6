/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DESTROY_H
#define DAEMON_DESTROY_H

/*
 * Destroying memory on the thread pool: it takes long where there is much of it, and can wait for
 * somebody's lock. A user has one thread for all that is destroyed for it, so that it keeps nobody
 * but itself waiting.
 */

#include "backing.h"

#include <stdbool.h>
#include <sys/types.h>

struct broker;
struct destroyer;

/*
 * destroy_later() - put segments on the list of a user's
 * @segments: consumed
 *
 * Return: true, or false: out of memory, they are still the caller's.
 */
bool destroy_later(struct broker *broker, uid_t uid, const struct segments *segments);

/* destroy_run() - begin with what is on the lists. Commits the manifest: what is not in it the next
 * daemon would look for. */
void destroy_run(struct broker *broker);

/* destroy_fds() - close descriptors, which are consumed, of which each may be the last of its
 * memory */
void destroy_fds(struct broker *broker, uid_t uid, const int *fds, unsigned n_fds);

#endif
