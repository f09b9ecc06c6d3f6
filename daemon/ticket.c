/* SPDX-License-Identifier: MIT */
/*
 * Tickets, and where they are kept. Must not know peers or messages.
 */
#include "ticket.h"

#include "account.h"
#include "broker.h"
#include "remember.h"
#include "session.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

static bool enter(struct broker *broker, struct ticket *ticket)
{
	HASH_ADD(hh, broker->tickets, token, TICKET_BYTES, ticket);
	if (!TABLE_HAS(ticket))
		return false;
	DL_APPEND2(ticket->attachment->tickets, ticket, previous, next);
	manifest_owe(&broker->manifest, OWED_END);
	return true;
}

/* Not charged. */
static int make(struct broker *broker, struct attachment *attachment, unsigned access,
		struct ticket **ret_ticket)
{
	struct ticket *ticket = calloc(1, sizeof(*ticket));

	if (!ticket)
		return -ENOMEM;
	ticket->attachment = attachment;
	ticket->access = access;
	ticket->number = ++broker->next_ticket;
	if (getrandom(ticket->token, TICKET_BYTES, 0) == TICKET_BYTES && enter(broker, ticket)) {
		*ret_ticket = ticket;
		return 0;
	}
	free(ticket);
	return -ENOMEM;
}

int ticket_new(struct broker *broker, struct attachment *attachment, unsigned access,
	       struct ticket **ret_ticket, struct failure *failure)
{
	struct account *account = attachment->session->account;
	uint64_t limit = broker->settings.per_user[CHARGE_ATTACHMENTS];
	int result;

	if (!account_charge(account, CHARGE_ATTACHMENTS, 1, limit))
		return answer_fail_limit(failure, SHMB_EDQUOT,
					 settings_charge_name(CHARGE_ATTACHMENTS), limit);
	result = make(broker, attachment, access, ret_ticket);
	if (result < 0) {
		account_uncharge(account, CHARGE_ATTACHMENTS, 1);
		return answer_fail_system(failure, result, "ticket");
	}
	remember_ticket(broker, *ret_ticket);
	return 0;
}

int ticket_recover(struct broker *broker, struct attachment *attachment, const struct ticket *model)
{
	struct ticket *ticket;

	if (ticket_find(broker, model->token))
		return -EINVAL;
	ticket = malloc(sizeof(*ticket));
	if (!ticket)
		return -ENOMEM;
	*ticket = *model;
	ticket->attachment = attachment;
	if (!enter(broker, ticket)) {
		free(ticket);
		return -ENOMEM;
	}
	if (ticket->number > broker->next_ticket)
		broker->next_ticket = ticket->number;
	account_charge(attachment->session->account, CHARGE_ATTACHMENTS, 1, UINT64_MAX);
	return 0;
}

struct ticket *ticket_find(struct broker *broker, const void *token)
{
	struct ticket *ticket;

	HASH_FIND(hh, broker->tickets, token, TICKET_BYTES, ticket);
	return ticket;
}

void ticket_end(struct broker *broker, struct ticket *ticket)
{
	manifest_owe(&broker->manifest, -OWED_END);
	forget_ticket(broker, ticket);
	account_uncharge(ticket->attachment->session->account, CHARGE_ATTACHMENTS, 1);
	DL_DELETE2(ticket->attachment->tickets, ticket, previous, next);
	HASH_DEL(broker->tickets, ticket);
	free(ticket);
}

void ticket_restore(struct broker *broker, const struct ticket *model)
{
	if (ticket_recover(broker, model->attachment, model) == 0)
		remember_ticket(broker, ticket_find(broker, model->token));
}

void tickets_end(struct broker *broker, struct attachment *attachment)
{
	while (attachment->tickets)
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) ending takes it off the list
		ticket_end(broker, attachment->tickets);
}
