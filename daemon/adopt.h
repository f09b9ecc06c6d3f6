/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ADOPT_H
#define DAEMON_ADOPT_H

/*
 * Taking in descriptors that a client has opened.
 *
 * Asking a stranger's file anything, and closing it, can wait for ever (a FUSE file whose server
 * does not answer). So a throwaway process receives the packet, looks at what came with it, and
 * passes on only what cannot do that to us: regular files of local file systems, and memfds.
 */

#include <stdbool.h>
#include <sys/types.h>

struct adoption;
struct broker;
struct peer;

/* adopt_allowed() - may this user pass descriptors? */
bool adopt_allowed(const struct broker *broker, uid_t uid);

/* adopt_has_room() - may this peer's user have one more process that looks at descriptors? */
bool adopt_has_room(const struct peer *peer);

/* adopt_begin() - from now on descriptors are accepted on this connection. Return: 0, or a negative
 * errno. */
int adopt_begin(struct peer *peer);

/*
 * adopt_receive() - let a process receive the next packet of @peer, which brings descriptors
 *
 * Nothing else is read from it meanwhile (peer->adoption is set); then the packet is dispatched.
 *
 * Return: 0; -EAGAIN: later, the user has enough of these processes; or another negative errno.
 */
int adopt_receive(struct peer *peer);

/* adopt_is_same() - are these two of one open file description? false where it cannot be told */
bool adopt_is_same(int fd, int other);

/* adopt_abandon() - the peer ends. Takes NULL. */
void adopt_abandon(struct adoption *adoption);

#endif
