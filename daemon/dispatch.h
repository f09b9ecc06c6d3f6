/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DISPATCH_H
#define DAEMON_DISPATCH_H

/* From a packet to the function that serves it. */

#include "answer.h"
#include "wire/packet.h"
#include "wire/wire.h"

#include <stdbool.h>

struct attachment;
struct broker;
struct peer;
struct session;

/* One decoded request; @params is the struct of its method. */
struct request {
	struct broker *broker;
	struct peer *peer;
	struct session *session;
	uint32_t msgid;
	bool wants_reply;
	bool repeated; /* it may have been done before, and the answer lost */
	enum wire_method_id method;
	const void *params;
	int *fds; /* that came with it, as many as its method says */
	struct failure failure;
};

/*
 * dispatch_packet() - decode, check, serve and answer one packet; its descriptors stay the
 * caller's, but for those that were taken (-1)
 * @refused: why its descriptors were not let in; NULL: they were, if there are any
 */
void dispatch_packet(struct peer *peer, const void *data, struct packet *packet,
		     const struct failure *refused);

/* request_done() - what it asked for is done: remember so with the change itself. @attachment: that
 * it made, or NULL; @created: and the object */
void request_done(struct request *request, const struct attachment *attachment, bool created);

/* request_answer() - send the result, unless the request was a notification. Return: 0. */
int request_answer(struct request *request, const void *result);

/* The functions that serve methods: 0 (answered), ANSWER_FAILED (request->failure says why), or
 * fatal to the peer. */
int serve_hello(struct request *request);
int serve_ping(struct request *request);
int serve_stats(struct request *request);
int serve_region_create(struct request *request);
int serve_region_open(struct request *request);
int serve_region_close(struct request *request);
int serve_region_stat(struct request *request);
int serve_region_path(struct request *request);
int serve_region_list(struct request *request);
int serve_region_resize(struct request *request);
int serve_region_chmod(struct request *request);
int serve_region_chown(struct request *request);
int serve_region_remove(struct request *request);
int serve_region_watch(struct request *request);
int serve_region_published(struct request *request);
int serve_region_lock(struct request *request);
int serve_adopt_begin(struct request *request);
int serve_region_adopt(struct request *request);
int serve_region_grow(struct request *request);
int serve_region_grown(struct request *request);
int serve_region_data(struct request *request);
int serve_region_ticket(struct request *request);
int serve_region_redeem(struct request *request);
int serve_lock_create(struct request *request);
int serve_lock_open(struct request *request);
int serve_lock_stat(struct request *request);
int serve_lock_list(struct request *request);
int serve_semaphore_create(struct request *request);
int serve_semaphore_open(struct request *request);
int serve_semaphore_arena(struct request *request);
int serve_semaphore_stat(struct request *request);
int serve_semaphore_list(struct request *request);
int serve_holders(struct request *request);

/* serve_again() - answer a repeated request that was done before. Return: as the others; or
 * SERVE_NOT_DONE: what it did is not there (any more), it is like a new one. */
enum { SERVE_NOT_DONE = 2 };
int serve_again(struct request *request);

#endif
