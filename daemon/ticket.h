/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_TICKET_H
#define DAEMON_TICKET_H

/*
 * Tickets: what one process gives to another so that it can attach to a region, once, whatever the
 * region is called and whoever it is. Each belongs to the attachment that it was asked for with,
 * and counts as one until it is used.
 */

#include "answer.h"
#include "table.h"

#include <stdint.h>

struct attachment;
struct broker;

enum { TICKET_BYTES = 16 };

struct ticket {
	uint8_t token[TICKET_BYTES];
	uint64_t number; /* in the manifest */
	struct attachment *attachment;
	unsigned access;                /* enum shmb_access */
	struct ticket *previous, *next; /* of the attachment */
	UT_hash_handle hh;              /* by token */
};

/* ticket_new() - Return: 0, or ANSWER_FAILED. */
int ticket_new(struct broker *broker, struct attachment *attachment, unsigned access,
	       struct ticket **ret_ticket, struct failure *failure);

/* ticket_recover() - one of the daemon before. Return: 0, -EINVAL or -ENOMEM. */
int ticket_recover(struct broker *broker, struct attachment *attachment,
		   const struct ticket *model);

/* ticket_find() - NULL: there is none, or it was used; @token: TICKET_BYTES */
struct ticket *ticket_find(struct broker *broker, const void *token);

/* ticket_end() - it was used */
void ticket_end(struct broker *broker, struct ticket *ticket);

/* ticket_restore() - it was not: what ended it has failed. @model: as it was before */
void ticket_restore(struct broker *broker, const struct ticket *model);

/* tickets_end() - their attachment ends */
void tickets_end(struct broker *broker, struct attachment *attachment);

#endif
