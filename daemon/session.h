/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

/*
 * A session is what one client process holds: attachments, watches, regions that live as long as it
 * does. It usually has a peer (a connection); when the broker drops the peer, the session stays
 * until its process is known to be gone.
 */

#include "identity.h"
#include "region.h"
#include "arena.h"

#include <uv.h>

struct account;
struct broker;
struct peer;

enum { SESSION_TOKEN_BYTES = 16, SESSION_COMMAND_MAX = 64 };

struct session {
	struct broker *broker;
	struct peer *peer; /* NULL once it has ended */
	struct account *account;
	struct identity identity;
	struct attachment *attachments; /* by handle */
	struct member *members;         /* arenas that it has semaphores open in, by arena */
	struct use *uses;               /* semaphores that it has open */
	struct region *regions;         /* of lifetime "session" that it created */
	uint32_t last_handle;
	uint32_t list_serial; /* of the position below */
	char *list_position;  /* owned: where a listing goes on that has seen nothing it may show */
	unsigned references;
	bool ended;
	uint8_t token[SESSION_TOKEN_BYTES];
	char command[SESSION_COMMAND_MAX + 1]; /* what it calls itself, printable */
	uv_poll_t death;                       /* of the process; active if there is a pidfd */
};

/*
 * session_new() - begin a session
 * @identity: consumed on success
 * @account:  borrowed; the session takes a reference of its own
 *
 * Return: 0, or a negative errno.
 */
int session_new(struct broker *broker, struct identity *identity, struct account *account,
		struct session **ret_session);

/* session_end() - undo everything it holds; frees it when the last reference goes */
void session_end(struct session *session);

struct session *session_ref(struct session *session);
void session_unref(struct session *session);

/* session_name() - keep what it calls itself, whatever it is; not NUL-terminated */
void session_name(struct session *session, const char *name, size_t length);

/* session_attachment() - by handle; NULL: none */
struct attachment *session_attachment(struct session *session, uint64_t handle);

#endif
