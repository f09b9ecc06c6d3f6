/* SPDX-License-Identifier: MIT */
/*
 * The methods of tickets. Must not touch sockets or uv.
 */
#include "broker.h"
#include "serve.h"
#include "session.h"
#include "ticket.h"

int serve_region_ticket(struct request *request)
{
	const struct wire_region_ticket_params *params = request->params;
	unsigned access = (unsigned)params->access;
	struct attachment *attachment;
	struct ticket *ticket;
	int result = serve_find_region(request, params->handle, &attachment);

	if (result != 0)
		return result;
	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	if (!(access & SHMB_READ))
		return answer_fail(&request->failure, SHMB_EINVAL, "access");
	if (access & SHMB_WRITE)
		access |= SHMB_LOCK;
	if (access & ~(unsigned)attachment->access)
		return answer_fail(&request->failure, SHMB_EMODE, "access");
	result = ticket_new(request->broker, attachment, access, &ticket, &request->failure);
	if (result != 0)
		return result;
	return request_answer(request,
			      &(struct wire_region_ticket_result){
				      .ticket = { (const char *)ticket->token, TICKET_BYTES } });
}

/* The ticket counted as one of its user's attachments, and is one of the caller's from now on. */
int serve_region_redeem(struct request *request)
{
	const struct wire_region_redeem_params *params = request->params;
	unsigned access = (unsigned)params->access;
	struct ticket *ticket = ticket_find(request->broker, params->ticket.data);

	if (!ticket)
		return answer_fail(&request->failure, SHMB_ENOENT, "ticket");
	if (!(access & SHMB_READ))
		return answer_fail(&request->failure, SHMB_EINVAL, "access");
	if (access & ~ticket->access)
		return answer_fail(&request->failure, SHMB_EACCES, "ticket");
	return serve_attach(request, ticket->attachment->region, access, false, ticket);
}
