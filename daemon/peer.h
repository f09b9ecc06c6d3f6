/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

/* A connection: what comes in, what goes out, and when to stop listening to it. */

#include "answer.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <uv.h>

struct account;
struct adoption;
struct broker;
struct session;
struct queued;

struct peer {
	uv_poll_t watch;
	int socket;
	int events; /* UV_READABLE and so on, as watched now */
	struct broker *broker;
	struct session *session;   /* NULL: ended, only the connection lingers */
	struct account *account;   /* a reference, charged for the connection */
	bool trusted;              /* the kernel refuses descriptors on it */
	bool may_pass;             /* it may send some, see adopt.h */
	struct adoption *adoption; /* they are being looked at; NULL: none are */
	bool said_hello;
	bool condemned;  /* dropped by us; waits for its process to go */
	bool lingering;  /* dead, but what it has not read is still in flight */
	bool stalled;    /* has too many descriptors unread, or: */
	bool crowded;    /* waits for a process that looks at those it sends */
	bool is_blocked; /* on the broker's list of blocked peers */
	unsigned fds_in_flight;
	uint32_t again;         /* of the requests to come, how many were sent before */
	uint64_t blocked_since; /* uv_now() of its last progress */
	struct queued *queue;
	struct peer *previous, *next;
	struct peer *blocked_previous, *blocked_next;
};

enum { PEER_HELD_FDS = 2 }; /* a connection and the pidfd of its process */

/*
 * peer_accept() - take a new connection in, or refuse it with a goodbye
 * @socket: consumed
 */
void peer_accept(struct broker *broker, int socket);

/* peer_refuse() - say why, and close. @socket: consumed */
void peer_refuse(struct broker *broker, int socket, int code, const char *what);

/* peer_say_end() - the broker ends, and everything with it: there is nothing to come back to */
void peer_say_end(struct peer *peer);

/* peer_free() - the peer is gone: undo its session, close, free. Takes NULL. */
void peer_free(struct peer *peer);

/*
 * peer_drop() - be rid of a peer that is too slow or breaks the protocol, without undoing what it
 * holds
 * @what: static sentence, for the log and the goodbye
 */
void peer_drop(struct peer *peer, int code, const char *what);

/*
 * peer_answer(), peer_answer_failure(), peer_notify() - send one message, or queue it
 *
 * peer_answer_fds() also sends descriptors, which it borrows, and tells if they cannot be sent: 0,
 * or a negative errno with nothing sent.
 */
void peer_answer(struct peer *peer, uint32_t msgid, enum wire_method_id method, const void *result);
int peer_answer_fds(struct peer *peer, uint32_t msgid, enum wire_method_id method,
		    const void *result, const int *fds, unsigned n_fds);
void peer_answer_failure(struct peer *peer, uint32_t msgid, const struct failure *failure);
void peer_notify(struct peer *peer, enum wire_method_id method, const void *params);

/* peer_adopted() - nothing is being looked at any more */
void peer_adopted(struct peer *peer);

/* peer_job_begin(), peer_job_done() - a request of a session that is answered later; too many, and
 * we stop reading */
void peer_job_begin(struct session *session);
void peer_job_done(struct session *session);

#endif
