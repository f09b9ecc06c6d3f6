/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

/*
 * A session is what one client process holds: attachments, watches, regions that live as long as it
 * does. It usually has a peer (a connection). When the broker drops the peer, or has died and
 * another has taken over, the session stays until its process comes back or is known to be gone.
 */

#include "identity.h"
#include "region.h"
#include "arena.h"

#include <uv.h>

struct account;
struct broker;
struct peer;

enum {
	SESSION_TOKEN_BYTES = 16,
	SESSION_COMMAND_MAX = 64,
	SESSION_DONE_MAX = 64, /* as many as a client may have unanswered, see serve_hello() */
};

/* A request that changed something and was answered well; the answer may not have arrived. */
struct done {
	uint32_t msgid;
	uint32_t handle; /* the attachment it made; 0: none */
	bool created;    /* and the object */
};

struct session {
	struct broker *broker;
	struct peer *peer; /* NULL: away, or ended */
	uint64_t number;   /* unique in the life of the instance */
	UT_hash_handle hh; /* of the broker, by token, once it has said hello */
	struct account *account;
	struct identity identity;
	struct attachment *attachments; /* by handle */
	struct member *members;         /* arenas that it has semaphores open in, by arena */
	struct use *uses;               /* semaphores that it has open */
	struct region *regions;         /* of lifetime "session" that it created */
	uint32_t last_handle;
	uint32_t list_serial; /* of the position below */
	char *list_position;  /* owned: where a listing goes on that has seen nothing it may show */
	struct done *done;    /* owned: a ring of SESSION_DONE_MAX; NULL: none yet */
	unsigned n_done, next_done;
	unsigned jobs;    /* requests whose answer is being worked on */
	unsigned returns; /* connections that it has lost */
	unsigned references;
	bool known; /* to the broker and its manifest */
	bool ended;
	uint8_t token[SESSION_TOKEN_BYTES];
	char command[SESSION_COMMAND_MAX + 1]; /* what it calls itself, printable */
	uv_poll_t death;                       /* of the process; active if there is a pidfd */
};

/*
 * session_new() - begin a session
 * @identity: consumed on success
 *
 * Return: 0, or a negative errno.
 */
int session_new(struct broker *broker, struct identity *identity, struct session **ret_session);

/* session_introduce() - it has said hello: from now on it is remembered. Return: 0, -ENOMEM, or
 * -EDQUOT: with those that are away the user has as many as it may have connections. */
int session_introduce(struct session *session);

/*
 * session_recover() - a session of the daemon before, which has no connection yet
 * @model: number, token, identity (its pidfd is consumed on success), command, last_handle
 *
 * Return: 0, or a negative errno.
 */
int session_recover(struct broker *broker, const struct session *model,
		    struct session **ret_session);

/* session_find() - by token and by number; NULL: none */
struct session *session_find(struct broker *broker, const void *token);

/* session_is_away() - can its process come back over a new connection? */
bool session_is_away(const struct session *session);

/*
 * session_return() - its process is back: @peer is its connection from now on
 *
 * What @peer's own session was is freed, groups are those of the new connection.
 */
void session_return(struct session *session, struct peer *peer);

/* session_add_done() - remember that a request was done. Return: the entry, or NULL if out of
 * memory.
 */
const struct done *session_add_done(struct session *session, uint32_t msgid, uint32_t handle,
				    bool created);

/* session_find_done() - NULL: it was not, or too long ago; session_done_at() - oldest first */
const struct done *session_find_done(const struct session *session, uint32_t msgid);
const struct done *session_done_at(const struct session *session, unsigned index);

/* session_end() - undo everything it holds; frees it when the last reference goes */
void session_end(struct session *session);

struct session *session_ref(struct session *session);
void session_unref(struct session *session);

/* session_name() - keep what it calls itself, whatever it is; not NUL-terminated */
void session_name(struct session *session, const char *name, size_t length);

/* session_attachment() - by handle; NULL: none */
struct attachment *session_attachment(struct session *session, uint64_t handle);

#endif
