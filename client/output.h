/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_OUTPUT_H
#define CLIENT_OUTPUT_H

/*
 * Packets on their way out, and those that may have to go again. The client's mutex is held.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "wire/packet.h"
#include "wire/wire.h"

/* Descriptors of a request; all are kept until it is answered, as it may have to be sent again. */
struct passed {
	unsigned n; /* to send */
	int fds[WIRE_FDS_MAX];
	int claim; /* kept alone, see file.h; -1: none */
};

/*
 * A packet, until it cannot be lost any more: a request until it is answered, the end of an
 * attachment until a later request is (packets are read in order). The broker may die in between.
 */
struct output {
	TAILQ_ENTRY(output) link;
	uint32_t msgid; /* of a request; 0: a notification */
	uint32_t length;
	bool repeat;           /* over the next connection, if this one breaks */
	bool sent;             /* over this connection or one before: it may have been done */
	bool queued;           /* in client->output, else in client->sent */
	struct passed *passed; /* owned; NULL: no descriptors travel with it */
	uint8_t data[]; /* room for OUTPUT_CLOSE_BYTES at least, where made by output_new_close() */
};

TAILQ_HEAD(output_queue, output);

struct shmb_client;

/* output_new_close() - room for one region.close. Return: NULL if out of memory. */
struct output *output_new_close(void);

/* output_new_request() - a copy of @packet. Return: NULL if out of memory. */
struct output *output_new_request(uint32_t msgid, const struct wire_buffer *packet);

/* passed_free() - close all. Return: NULL. */
struct passed *passed_free(struct passed *passed);

/*
 * output_push() - send it, or keep it until the socket takes it; consumes it
 *
 * A broker that is gone shows when reading.
 */
void output_push(struct shmb_client *client, struct output *output);

/* output_close() - give attachment @handle back; @room is consumed, and makes that this cannot fail
 */
void output_close(struct shmb_client *client, struct output *room, uint32_t handle);

/* output_notify() - a notification on best effort, forgotten if the connection breaks. Return: 0 or
 * SHMB_ENOMEM. */
int output_notify(struct shmb_client *client, enum wire_method_id method, const void *params);

/* output_flush() - send what waits, as far as the socket takes it */
void output_flush(struct shmb_client *client);

/* output_blocked() - is it the socket that output waits for? */
bool output_blocked(const struct shmb_client *client);

/* output_withdraw() - take a request back, and free it. Return: false if it may have been done. */
bool output_withdraw(struct shmb_client *client, struct output *output);

/* output_answered() - of a request that was sent: neither it nor what was sent before it can be
 * lost any more */
void output_answered(struct shmb_client *client, struct output *output);

/* output_lost() - the connection broke: all that may be lost waits again, in its old order */
void output_lost(struct shmb_client *client);

/* output_again() - how many requests wait that were sent before; they come before the others */
uint32_t output_again(const struct shmb_client *client);

void output_clear(struct shmb_client *client);

#endif
