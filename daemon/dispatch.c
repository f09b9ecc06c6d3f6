/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, and the methods that are about no object. A packet is decoded completely before
 * anything is done about it.
 */
#include "dispatch.h"

#include "account.h"
#include "broker.h"
#include "peer.h"
#include "session.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <string.h>

enum { REQUESTS_MAX = 64 }; /* unanswered; advice, back-pressure does the rest */

static int (*const servers[WIRE_METHOD_COUNT])(struct request *request) = {
	[WIRE_HELLO] = serve_hello,
	[WIRE_PING] = serve_ping,
	[WIRE_STATS] = serve_stats,
	[WIRE_REGION_CREATE] = serve_region_create,
	[WIRE_REGION_OPEN] = serve_region_open,
	[WIRE_REGION_CLOSE] = serve_region_close,
	[WIRE_REGION_STAT] = serve_region_stat,
	[WIRE_REGION_LIST] = serve_region_list,
	[WIRE_REGION_RESIZE] = serve_region_resize,
	[WIRE_REGION_CHMOD] = serve_region_chmod,
	[WIRE_REGION_CHOWN] = serve_region_chown,
	[WIRE_REGION_REMOVE] = serve_region_remove,
	[WIRE_REGION_WATCH] = serve_region_watch,
	[WIRE_REGION_PUBLISHED] = serve_region_published,
	[WIRE_REGION_LOCK] = serve_region_lock,
	[WIRE_LOCK_CREATE] = serve_lock_create,
	[WIRE_LOCK_OPEN] = serve_lock_open,
	[WIRE_LOCK_STAT] = serve_lock_stat,
	[WIRE_LOCK_LIST] = serve_lock_list,
	[WIRE_SEMAPHORE_CREATE] = serve_semaphore_create,
	[WIRE_SEMAPHORE_OPEN] = serve_semaphore_open,
	[WIRE_SEMAPHORE_ARENA] = serve_semaphore_arena,
	[WIRE_SEMAPHORE_STAT] = serve_semaphore_stat,
	[WIRE_SEMAPHORE_LIST] = serve_semaphore_list,
	[WIRE_HOLDERS] = serve_holders,
};

/* Room for the params of any method. */
union params {
#define PARAMS_MEMBER(message) struct wire_##message message;
	WIRE_MESSAGES(PARAMS_MEMBER)
#undef PARAMS_MEMBER
};

static int serve(struct request *request, const struct wire_incoming *message,
		 const struct packet *packet)
{
	const char *field = NULL;
	union params params;
	int result;

	if (!message->method || !servers[message->method_id])
		return answer_fail(&request->failure, SHMB_ENOSYS, NULL);
	if (packet->fds_lost || packet->n_fds != message->n_fds ||
	    message->n_fds != message->method->fds_in)
		return answer_fail(&request->failure, SHMB_EPROTO, "fds");
	result = wire_decode_body(message, message->method->params, &params, &field);
	if (result == SHMB_ENOMEM)
		return answer_fail_system(&request->failure, ENOMEM, "decoding a request");
	if (result < 0)
		return answer_fail(&request->failure, SHMB_EINVAL, field);
	request->method = message->method_id;
	request->params = &params;
	return servers[request->method](request);
}

static bool is_hello(const struct wire_incoming *message)
{
	return message->kind == WIRE_REQUEST && message->method && message->method_id == WIRE_HELLO;
}

void dispatch_packet(struct peer *peer, const void *data, const struct packet *packet)
{
	struct broker *broker = peer->broker;
	struct wire_incoming message;
	struct request request;
	int result = wire_decode(&broker->decoder, data, packet->length, &message);

	if (result < 0 || message.kind == WIRE_RESPONSE) {
		peer_drop(peer, result == SHMB_ENOMEM ? SHMB_ENOMEM : SHMB_EPROTO,
			  "a packet is not a request");
		return;
	}
	if (peer->said_hello == is_hello(&message)) {
		peer_drop(peer, SHMB_EPROTO, "hello must come first, and once");
		return;
	}
	request = (struct request){ .broker = broker,
				    .peer = peer,
				    .session = peer->session,
				    .msgid = message.msgid,
				    .wants_reply = message.kind == WIRE_REQUEST };
	broker->counters.requests++;
	result = serve(&request, &message, packet);
	if (result < 0)
		peer_drop(peer, SHMB_EIO, strerror(-result));
	else if (result == ANSWER_FAILED && request.wants_reply)
		peer_answer_failure(peer, request.msgid, &request.failure);
}

int request_answer(struct request *request, const void *result)
{
	if (request->wants_reply)
		peer_answer(request->peer, request->msgid, request->method, result);
	return 0;
}

int serve_hello(struct request *request)
{
	const struct wire_hello_params *params = request->params;
	struct broker *broker = request->broker;
	const struct wire_hello_result result = {
		.version = params->version_max < WIRE_VERSION ? params->version_max : WIRE_VERSION,
		.broker = wire_string("shmbroker " SHMB_VERSION),
		.session = { (const char *)request->session->token, SESSION_TOKEN_BYTES },
		.features = WIRE_FEATURE_PUBLISH | WIRE_FEATURE_LOCKS,
		.page_size = broker->page_size,
		.max_region = broker->settings.max_region,
		.max_requests = REQUESTS_MAX,
	};

	if (params->version_min > WIRE_VERSION || params->version_max < WIRE_VERSION_MIN)
		return answer_fail_limit(&request->failure, SHMB_EVERSION, "version", WIRE_VERSION);
	request->peer->said_hello = true;
	session_name(request->session, params->client.data, params->client.length);
	return request_answer(request, &result);
}

int serve_ping(struct request *request)
{
	return request_answer(request, &(struct wire_empty){ 0 });
}

int serve_stats(struct request *request)
{
	struct broker *broker = request->broker;
	const uint64_t *total = broker->accounts.total;
	const struct wire_stats_result result = {
		.uptime_seconds = (uv_now(&broker->loop) - broker->started_ms) / 1000,
		.connections = total[CHARGE_CONNECTIONS],
		.condemned = broker->n_condemned,
		.regions = broker->regions.counts[OBJECT_REGION],
		.attachments = broker->regions.n_attachments,
		.watches = broker->regions.n_watches,
		.bytes = total[CHARGE_BYTES],
		.semaphores = broker->regions.counts[OBJECT_SEMAPHORE],
		.locks = broker->regions.counts[OBJECT_LOCK],
		.slots = total[CHARGE_SLOTS],
		.repairs_total = broker->repairs.total,
		.queued_bytes = total[CHARGE_QUEUE],
		.fds_in_flight = total[CHARGE_FDS],
		.accepted_total = broker->counters.accepted,
		.requests_total = broker->counters.requests,
		.errors_total = broker->counters.errors,
		.dropped_total = broker->counters.dropped,
		.refused_total = broker->counters.refused,
	};

	return request_answer(request, &result);
}
