/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, and the methods that are about no object. A packet is decoded completely before
 * anything is done about it.
 */
#include "dispatch.h"

#include "account.h"
#include "adopt.h"
#include "broker.h"
#include "log.h"
#include "peer.h"
#include "remember.h"
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
	[WIRE_REGION_PATH] = serve_region_path,
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
	[WIRE_ADOPT_BEGIN] = serve_adopt_begin,
	[WIRE_REGION_ADOPT] = serve_region_adopt,
	[WIRE_REGION_GROW] = serve_region_grow,
	[WIRE_REGION_GROWN] = serve_region_grown,
	[WIRE_REGION_DATA] = serve_region_data,
	[WIRE_REGION_TICKET] = serve_region_ticket,
	[WIRE_REGION_REDEEM] = serve_region_redeem,
};

/* Those that change something that outlives us; there has to be room in the manifest. For what
 * removes something it was set aside when that was made. */
static const bool changes[WIRE_METHOD_COUNT] = {
	[WIRE_HELLO] = true,          [WIRE_REGION_CREATE] = true,
	[WIRE_REGION_OPEN] = true,    [WIRE_REGION_RESIZE] = true,
	[WIRE_REGION_CHMOD] = true,   [WIRE_REGION_CHOWN] = true,
	[WIRE_REGION_LOCK] = true,    [WIRE_LOCK_CREATE] = true,
	[WIRE_LOCK_OPEN] = true,      [WIRE_SEMAPHORE_CREATE] = true,
	[WIRE_SEMAPHORE_OPEN] = true, [WIRE_REGION_ADOPT] = true,
	[WIRE_REGION_GROWN] = true,   [WIRE_REGION_TICKET] = true,
	[WIRE_REGION_REDEEM] = true,
};

/* Room for the params of any method. */
union params {
#define PARAMS_MEMBER(message) struct wire_##message message;
	WIRE_MESSAGES(PARAMS_MEMBER)
#undef PARAMS_MEMBER
};

static int serve_change(struct request *request)
{
	int result = remember_reserve(request->broker, request->method == WIRE_HELLO);

	if (result < 0)
		return answer_fail_system(&request->failure, result, "manifest");
	return servers[request->method](request);
}

static int serve(struct request *request, const struct wire_incoming *message,
		 struct packet *packet, const struct failure *refused)
{
	const char *field = NULL;
	union params params;
	int result;

	if (!message->method || !servers[message->method_id])
		return answer_fail(&request->failure, SHMB_ENOSYS, NULL);
	if (refused) {
		request->failure = *refused;
		return ANSWER_FAILED;
	}
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
	request->fds = packet->fds;
	result = request->repeated ? serve_again(request) : SERVE_NOT_DONE;
	if (result != SERVE_NOT_DONE)
		return result;
	return changes[request->method] ? serve_change(request) : servers[request->method](request);
}

static bool is_hello(const struct wire_incoming *message)
{
	return message->method && message->method_id == WIRE_HELLO;
}

void dispatch_packet(struct peer *peer, const void *data, struct packet *packet,
		     const struct failure *refused)
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
	if (peer->said_hello == is_hello(&message) ||
	    (!peer->said_hello && message.kind != WIRE_REQUEST)) {
		peer_drop(peer, SHMB_EPROTO, "hello must come first, and once");
		return;
	}
	request = (struct request){ .broker = broker,
				    .peer = peer,
				    .session = peer->session,
				    .msgid = message.msgid,
				    .wants_reply = message.kind == WIRE_REQUEST };
	if (request.wants_reply && peer->again > 0) {
		peer->again--;
		request.repeated = true;
	}
	broker->counters.requests++;
	result = serve(&request, &message, packet, refused);
	if (result < 0)
		peer_drop(peer, SHMB_EIO, strerror(-result));
	else if (result == ANSWER_FAILED && request.wants_reply)
		peer_answer_failure(peer, request.msgid, &request.failure);
}

void request_done(struct request *request, const struct attachment *attachment, bool created)
{
	if (request->wants_reply)
		remember_done(request->broker, request->session, request->msgid,
			      attachment ? attachment->handle : 0, created);
}

int request_answer(struct request *request, const void *result)
{
	if (request->wants_reply)
		peer_answer(request->peer, request->msgid, request->method, result);
	return 0;
}

static int greet(struct request *request, bool resumed)
{
	const struct wire_hello_params *params = request->params;
	struct broker *broker = request->broker;
	const struct wire_hello_result result = {
		.version = params->version_max < WIRE_VERSION ? params->version_max : WIRE_VERSION,
		.broker = wire_string("shmbroker " SHMB_VERSION),
		.session = { (const char *)request->session->token, SESSION_TOKEN_BYTES },
		.resumed = resumed,
		.features = WIRE_FEATURE_PUBLISH | WIRE_FEATURE_LOCKS | WIRE_FEATURE_RESUME,
		.page_size = broker->page_size,
		.max_region = broker->settings.max_region,
		.max_requests = REQUESTS_MAX,
	};

	request->peer->said_hello = true;
	return request_answer(request, &result);
}

/* A forked child has its parent's token, and whoever may look into a process can take it from
 * there: it counts with the same process alone. Not told apart from a token that never was. */
static int resume(struct request *request)
{
	const struct wire_hello_params *params = request->params;
	struct session *session = session_find(request->broker, params->session.data);

	if (!session || !identity_is_same(&session->identity, &request->session->identity))
		return answer_fail(&request->failure, SHMB_ESESSION, "session");
	if (!session_is_away(session))
		return answer_fail(&request->failure, SHMB_EBUSY, "session");
	log_debug("process %d of user %u is back", (int)session->identity.pid,
		  (unsigned)session->identity.uid);
	session_return(session, request->peer);
	request->session = session;
	if (params->has & WIRE_HAS(hello_params, again))
		request->peer->again = (uint32_t)params->again;
	return greet(request, true);
}

int serve_hello(struct request *request)
{
	const struct wire_hello_params *params = request->params;
	int result;

	if (params->version_min > WIRE_VERSION || params->version_max < WIRE_VERSION_MIN)
		return answer_fail_limit(&request->failure, SHMB_EVERSION, "version", WIRE_VERSION);
	if (params->adopt && adopt_allowed(request->broker, request->session->identity.uid))
		adopt_begin(request->peer); /* else sending them fails */
	if (params->has & WIRE_HAS(hello_params, session))
		return resume(request);
	session_name(request->session, params->client.data, params->client.length);
	result = session_introduce(request->session);
	if (result == -EDQUOT)
		return answer_fail_limit(&request->failure, SHMB_EDQUOT,
					 settings_charge_name(CHARGE_CONNECTIONS),
					 request->broker->settings.per_user[CHARGE_CONNECTIONS]);
	if (result < 0)
		return answer_fail_system(&request->failure, ENOMEM, "session");
	return greet(request, false);
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
		.away = total[CHARGE_AWAY],
		.resumed_total = broker->counters.resumed,
		.recoveries = broker->recoveries,
		.manifest_bytes = broker->manifest.used,
		.stored_fds = broker->store.n_fds,
		.stored_fds_max = broker->store.max,
	};

	return request_answer(request, &result);
}
