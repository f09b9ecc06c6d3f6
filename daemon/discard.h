/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DISCARD_H
#define DAEMON_DISCARD_H

/*
 * Closing connections whose queue may hold a stranger's descriptors.
 *
 * The last close of a descriptor runs its file's own code, and for some files (a FUSE file whose
 * server ignores it, a lingering TCP socket) that never returns. Unread descriptors are closed by
 * whoever closes the connection. So where the kernel cannot refuse them (before Linux 6.16) such a
 * connection is handed to a throwaway process.
 */

#include "options.h"

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct account;

struct discard {
	uv_loop_t *loop;
	struct discard_child *children;
	unsigned n_children;
};

/* discard_trusts() - has the kernel refused descriptors on this connection since it was made */
bool discard_trusts(int socket);

/*
 * discard_socket() - close a connection without ever hanging
 * @socket:  consumed
 * @trusted: the kernel refuses descriptors on it; then this is close(2)
 * @account: stays charged for one connection until it is really gone; its reference is consumed
 */
void discard_socket(struct discard *discard, int socket, bool trusted, struct account *account);

/*
 * discard_watch() - look after a process that may hang
 * @account: charged for @what until it has ended; its reference is consumed
 */
void discard_watch(struct discard *discard, pid_t pid, struct account *account, enum charge what);

/* discard_stop() - wait no longer for throwaway processes: they end by themselves, or hang alone */
void discard_stop(struct discard *discard);

#endif
