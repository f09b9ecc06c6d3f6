/* SPDX-License-Identifier: MIT */
/*
 * Connections. Reads packets, hands them to dispatch.c, sends or queues what comes back. The one
 * place where a fatal error of a peer ends that peer. Must not know what the messages mean.
 */
#include "peer.h"

#include "account.h"
#include "adopt.h"
#include "broker.h"
#include "destroy.h"
#include "dispatch.h"
#include "log.h"
#include "output.h"
#include "session.h"
#include "wire/packet.h"

#include <shmbroker/errors.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

enum {
	BLOCKED_TICK_MS = 5,
	JOBS_MAX = 16,
};

static void on_peer_event(uv_poll_t *watch, int status, int events);

/* ---- Whom we listen to ---- */

static void update_events(struct peer *peer)
{
	bool deaf = peer->condemned || peer->queue || peer->stalled || peer->adoption ||
		    !peer->session || peer->session->jobs >= JOBS_MAX;
	int events = UV_DISCONNECT;

	if (!deaf)
		events |= UV_READABLE;
	if (peer->queue)
		events |= UV_WRITABLE;
	if (events == peer->events)
		return;
	peer->events = events;
	uv_poll_start(&peer->watch, events, on_peer_event);
}

static void on_blocked_tick(uv_timer_t *timer);
static void close_peer(struct peer *peer);

static void update_blocked(struct peer *peer)
{
	struct broker *broker = peer->broker;
	bool blocked = peer->lingering || (!peer->condemned && (peer->queue || peer->stalled));

	if (blocked && !peer->is_blocked) {
		if (!broker->blocked)
			uv_timer_start(&broker->blocked_tick, on_blocked_tick, BLOCKED_TICK_MS,
				       BLOCKED_TICK_MS);
		peer->blocked_since = uv_now(&broker->loop);
		DL_APPEND2(broker->blocked, peer, blocked_previous, blocked_next);
	} else if (!blocked && peer->is_blocked) {
		DL_DELETE2(broker->blocked, peer, blocked_previous, blocked_next);
		if (!broker->blocked)
			uv_timer_stop(&broker->blocked_tick);
	}
	peer->is_blocked = blocked;
	update_events(peer);
}

/* ---- Descriptors in flight ---- */

/* SIOCOUTQ is 0 once the peer has received everything that we sent. */
static void settle_fds(struct peer *peer)
{
	int unread = 0;

	if (peer->fds_in_flight == 0 || ioctl(peer->socket, TIOCOUTQ, &unread) < 0 || unread != 0)
		return;
	account_uncharge(peer->account, CHARGE_FDS, peer->fds_in_flight);
	peer->fds_in_flight = 0;
}

static bool has_unread_fds(struct peer *peer)
{
	settle_fds(peer);
	return peer->fds_in_flight > 0;
}

static bool fits_in_flight(const struct peer *peer)
{
	const struct settings *settings = &peer->broker->settings;

	return peer->fds_in_flight + SEGMENT_MAPPED <= settings->fds_per_connection &&
	       account_used(peer->account, CHARGE_FDS) + SEGMENT_MAPPED <=
		       settings->per_user[CHARGE_FDS];
}

/* Once a millisecond, or a user with many connections that all wait could keep the loop busy. */
static void settle_all(struct broker *broker)
{
	struct peer *peer;

	if (broker->settled_ms == uv_now(&broker->loop))
		return;
	broker->settled_ms = uv_now(&broker->loop);
	DL_FOREACH2(broker->peers, peer, next)
		settle_fds(peer);
}

/* May one more answer with descriptors go out? Asked before a request is read, so that none needs
 * to be undone. */
static bool may_send_fds(struct peer *peer)
{
	if (fits_in_flight(peer))
		return true;
	settle_fds(peer);
	if (fits_in_flight(peer))
		return true;
	settle_all(peer->broker);
	return fits_in_flight(peer);
}

static bool may_go_on(struct peer *peer)
{
	return may_send_fds(peer) && (!peer->crowded || adopt_has_room(peer));
}

/* ---- Output ---- */

static void on_blocked_tick(uv_timer_t *timer)
{
	struct broker *broker = timer->data;
	struct peer *peer, *next;

	DL_FOREACH_SAFE2(broker->blocked, peer, next, blocked_next) {
		if (peer->lingering) {
			if (!has_unread_fds(peer))
				close_peer(peer);
		} else if (peer->stalled && may_go_on(peer)) {
			peer->stalled = peer->crowded = false;
			update_blocked(peer);
		} else if (!peer->queue && !has_unread_fds(peer)) {
			/* It waits for others of its user: not its fault. */
		} else if (uv_now(&broker->loop) - peer->blocked_since >=
			   broker->settings.slow_timeout_ms) {
			peer_drop(peer, SHMB_ETIMEDOUT, "does not read what it asked for");
		}
	}
}

static void sent_fds(struct peer *peer, unsigned n_fds)
{
	peer->fds_in_flight += n_fds;
	account_charge(peer->account, CHARGE_FDS, n_fds, UINT64_MAX);
}

/* The region may be gone by now, and the last descriptor of its memory be among these. */
static void pop(struct peer *peer)
{
	int fds[WIRE_FDS_MAX];
	unsigned n_fds = output_pop(&peer->queue, peer->account, fds);

	destroy_fds(peer->broker, account_uid(peer->account), fds, n_fds);
}

static void flush(struct peer *peer)
{
	while (peer->queue) {
		unsigned n_fds = output_n_fds(peer->queue);
		int result = output_send(peer->socket, peer->queue);

		if (result == -EAGAIN)
			break;
		if (result < 0 && result != -EPIPE && result != -ECONNRESET) {
			peer_drop(peer, SHMB_EIO, "cannot be sent what it asked for");
			return;
		}
		if (result == 0)
			sent_fds(peer, n_fds);
		pop(peer);
		peer->blocked_since = uv_now(&peer->broker->loop);
	}
	update_blocked(peer);
}

/* Sends what stands in broker->out. Return: 0 (sent, queued, or of no use any more), or a negative
 * errno. */
static int send_out(struct peer *peer, const int *fds, unsigned n_fds)
{
	struct broker *broker = peer->broker;
	int result = -EAGAIN;

	if (peer->condemned)
		return 0;
	/* Whatever somebody is told of is remembered first. */
	manifest_commit(&broker->manifest);
	if (!peer->queue)
		result =
			packet_send(peer->socket, broker->out.data, broker->out.length, fds, n_fds);
	if (result == 0)
		sent_fds(peer, n_fds);
	if (result == 0 || result == -EPIPE || result == -ECONNRESET)
		return 0; /* its end-of-file is next */
	if (result != -EAGAIN)
		return result;
	result = output_push(&peer->queue, peer->account, broker->settings.per_user[CHARGE_QUEUE],
			     &broker->out, fds, n_fds);
	update_blocked(peer);
	return result;
}

static void send_or_drop(struct peer *peer)
{
	int result = send_out(peer, NULL, 0);

	if (result == -EDQUOT)
		peer_drop(peer, SHMB_EDQUOT, settings_charge_name(CHARGE_QUEUE));
	else if (result < 0)
		peer_drop(peer, SHMB_ENOMEM, strerror(-result));
}

int peer_answer_fds(struct peer *peer, uint32_t msgid, enum wire_method_id method,
		    const void *result, const int *fds, unsigned n_fds)
{
	if (wire_encode_result(&peer->broker->out, msgid, method, result, n_fds) < 0)
		return -EMSGSIZE;
	return send_out(peer, fds, n_fds);
}

void peer_answer(struct peer *peer, uint32_t msgid, enum wire_method_id method, const void *result)
{
	if (wire_encode_result(&peer->broker->out, msgid, method, result, 0) < 0)
		peer_drop(peer, SHMB_EFBIG, "an answer does not fit into a packet");
	else
		send_or_drop(peer);
}

static struct wire_error wire_failure(const struct failure *failure)
{
	struct wire_error error = { .code = wire_string(wire_error_name(failure->code)),
				    .limit = failure->limit };

	if (failure->what) {
		error.what = wire_string(failure->what);
		error.has |= WIRE_HAS(error, what);
	}
	if (failure->limit)
		error.has |= WIRE_HAS(error, limit);
	return error;
}

void peer_answer_failure(struct peer *peer, uint32_t msgid, const struct failure *failure)
{
	struct wire_error error = wire_failure(failure);

	peer->broker->counters.errors++;
	if (wire_encode_error(&peer->broker->out, msgid, &error) == 0)
		send_or_drop(peer);
}

void peer_notify(struct peer *peer, enum wire_method_id method, const void *params)
{
	if (peer && wire_encode_notification(&peer->broker->out, method, params) == 0)
		send_or_drop(peer);
}

void peer_adopted(struct peer *peer)
{
	peer->adoption = NULL;
	update_events(peer);
}

void peer_job_begin(struct session *session)
{
	session->jobs++;
	if (session->peer)
		update_events(session->peer);
}

void peer_job_done(struct session *session)
{
	session->jobs--;
	if (session->peer)
		update_events(session->peer);
}

/* ---- Beginning and end ---- */

static void say_goodbye(struct broker *broker, int socket, int code, const char *what)
{
	struct failure failure = { .code = code, .what = what };
	struct wire_error goodbye = wire_failure(&failure);

	if (wire_encode_notification(&broker->out, WIRE_GOODBYE, &goodbye) == 0)
		packet_send(socket, broker->out.data, broker->out.length, NULL, 0);
}

void peer_refuse(struct broker *broker, int socket, int code, const char *what)
{
	broker->counters.refused++;
	say_goodbye(broker, socket, code, what);
	discard_socket(&broker->discard, socket, discard_trusts(socket), NULL);
}

void peer_say_end(struct peer *peer)
{
	if (!peer->condemned)
		say_goodbye(peer->broker, peer->socket, SHMB_ESESSION, "the broker has ended");
}

static void drop_queue(struct peer *peer)
{
	while (peer->queue)
		pop(peer);
}

/*
 * The connection stays, unread, so that the hang-up is seen; the client sees our end closed. Its
 * session stays, too: the process may still write into what it has mapped.
 */
void peer_drop(struct peer *peer, int code, const char *what)
{
	struct broker *broker = peer->broker;

	if (peer->condemned)
		return;
	log_notice("dropping a connection of user %u, process %d: %s: %s",
		   (unsigned)account_uid(peer->account), (int)peer->session->identity.pid,
		   wire_error_name(code), what);
	broker->counters.dropped++;
	say_goodbye(broker, peer->socket, code, what);
	shutdown(peer->socket, SHUT_WR);
	drop_queue(peer);
	peer->condemned = true;
	broker->n_condemned++;
	update_blocked(peer);
}

static void on_peer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/*
 * Unread descriptors stay in flight as long as anybody, a forked child say, holds the other end:
 * until then the connection stays, charged, and is looked at by the tick.
 */
static void linger(struct peer *peer)
{
	drop_queue(peer);
	if (!peer->condemned)
		peer->broker->n_condemned++;
	peer->condemned = true;
	peer->lingering = true;
	shutdown(peer->socket, SHUT_RDWR);
	update_blocked(peer);
	uv_poll_stop(&peer->watch);
}

static void close_peer(struct peer *peer)
{
	struct broker *broker = peer->broker;

	drop_queue(peer);
	peer->stalled = peer->lingering = false;
	update_blocked(peer);
	if (peer->condemned)
		broker->n_condemned--;
	account_uncharge(peer->account, CHARGE_FDS, peer->fds_in_flight);
	account_uncharge(peer->account, CHARGE_HELD_FDS, PEER_HELD_FDS);
	DL_DELETE2(broker->peers, peer, previous, next);
	uv_close((uv_handle_t *)&peer->watch, on_peer_closed);
	discard_socket(&broker->discard, peer->socket, peer->trusted, peer->account);
	log_end(LOG_OUT_OF_FDS);
}

/* Who lets go of its session wants to know that it is done: if we died before that was remembered,
 * it would have to tell the next daemon. */
static void confirm_end(struct peer *peer)
{
	if (peer->condemned || peer->broker->stopping)
		return;
	manifest_commit(&peer->broker->manifest);
	say_goodbye(peer->broker, peer->socket, SHMB_ECLOSED, "the session has ended");
}

void peer_free(struct peer *peer)
{
	bool ended = false;

	if (!peer)
		return;
	adopt_abandon(peer->adoption);
	peer->adoption = NULL;
	if (peer->session) {
		session_end(peer->session);
		peer->session = NULL;
		ended = true;
	}
	settle_fds(peer);
	if (ended) /* after settling: nothing settles while this is unread */
		confirm_end(peer);
	if (peer->fds_in_flight > 0 && !peer->broker->stopping)
		linger(peer);
	else
		close_peer(peer);
}

/* ---- Input ---- */

enum step { STEP_MORE, STEP_LATER, STEP_GONE };

/*
 * What has not been looked at is not received. Looking may find nothing, with a packet there a
 * moment later, or be told of a reset that hides the packet behind it.
 */
static int look_first(const struct peer *peer)
{
	return peer->trusted ? 0 : packet_peek_fds(peer->socket);
}

static enum step let_examine(struct peer *peer)
{
	int result;

	if (!peer->may_pass) {
		peer_drop(peer, SHMB_EPROTO, "descriptors are not accepted");
		return STEP_LATER;
	}
	result = adopt_receive(peer);
	if (result == -EAGAIN) {
		peer->stalled = peer->crowded = true;
		update_blocked(peer);
	} else if (result < 0) {
		peer_drop(peer, SHMB_ENOMEM, strerror(-result));
	}
	update_events(peer);
	return STEP_LATER;
}

static enum step read_one(struct peer *peer)
{
	struct broker *broker = peer->broker;
	struct packet packet;
	int result;

	if (!may_send_fds(peer)) {
		peer->stalled = true;
		update_blocked(peer);
		return STEP_LATER;
	}
	result = look_first(peer);
	if (result == 1)
		return let_examine(peer);
	if (result == 0)
		result = packet_receive(peer->socket, broker->in, sizeof(broker->in), &packet);
	switch (result) {
	case 1:
		dispatch_packet(peer, broker->in, &packet, NULL);
		packet_close_fds(&packet);
		return STEP_MORE;
	case 0:
		return STEP_GONE;
	case -ECONNRESET: /* told once; what was sent before is still there */
	case -EINTR:
		return STEP_MORE;
	case -EAGAIN:
		return STEP_LATER;
	case -EMSGSIZE:
		peer_drop(peer, SHMB_EPROTO, "a packet is too long");
		return STEP_LATER;
	default:
		peer_drop(peer, SHMB_EIO, strerror(-result));
		return STEP_LATER;
	}
}

/* An empty packet reads like the end; only the end hangs up. */
static void end_of_input(struct peer *peer, int events)
{
	char byte;

	if (!(events & UV_DISCONNECT) && recv(peer->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
		peer_drop(peer, SHMB_EPROTO, "an empty packet");
	else
		peer_free(peer);
}

/*
 * One packet for each time that there is one: others have their turn, and whether its answer may go
 * out is asked when the peer has had its chance to read the ones before.
 */
static void read_next(struct peer *peer, int events)
{
	enum step step = STEP_LATER;

	if (peer->events & UV_READABLE)
		step = read_one(peer);
	if (step == STEP_GONE)
		end_of_input(peer, events);
	else if (step == STEP_LATER && (events & UV_DISCONNECT) && !peer->condemned)
		peer_free(peer); /* it hung up, and cannot be served further */
}

static void on_peer_event(uv_poll_t *watch, int status, int events)
{
	struct peer *peer = watch->data;

	if (status < 0) {
		/* libuv has stopped watching: a reset, which hides neither the end nor what was
		 * sent before it. */
		peer->events = 0;
		events = UV_DISCONNECT;
	}
	if (peer->condemned) {
		peer_free(peer);
		return;
	}
	if (events & UV_DISCONNECT)
		drop_queue(peer); /* nobody will read it; what the peer has sent is still served */
	else if (events & UV_WRITABLE)
		flush(peer);
	update_blocked(peer);
	read_next(peer, events);
}

static int peer_new(struct broker *broker, int socket, struct identity *identity,
		    struct account *account)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	int result;

	if (!peer)
		return -ENOMEM;
	result = uv_poll_init(&broker->loop, &peer->watch, socket);
	if (result < 0) {
		free(peer);
		return result;
	}
	peer->watch.data = peer;
	result = session_new(broker, identity, &peer->session);
	if (result < 0) {
		uv_close((uv_handle_t *)&peer->watch, on_peer_closed);
		return result;
	}
	peer->session->peer = peer;
	peer->broker = broker;
	peer->socket = socket;
	peer->account = account;
	peer->trusted = discard_trusts(socket);
	if (!peer->trusted)
		packet_refuse_fds(socket); /* late for what is queued already, hence not trusted */
	DL_APPEND2(broker->peers, peer, previous, next);
	update_events(peer);
	return 0;
}

static bool may_connect(const struct broker *broker, const struct identity *identity)
{
	return broker->options.scope == SCOPE_SYSTEM || identity->uid == 0 ||
	       identity->uid == geteuid();
}

void peer_accept(struct broker *broker, int socket)
{
	uint64_t limit = broker->settings.per_user[CHARGE_CONNECTIONS];
	struct account *account = NULL;
	struct identity identity;
	struct failure failure;
	int result = identity_read(socket, &identity);

	broker->counters.accepted++;
	if (result < 0) {
		answer_fail_system(&failure, result, "identifying a client");
		peer_refuse(broker, socket, failure.code, "the broker ran out");
		return;
	}
	if (!may_connect(broker, &identity)) {
		peer_refuse(broker, socket, SHMB_EACCES, "this broker serves another user");
		goto out;
	}
	account = account_get(&broker->accounts, identity.uid);
	if (!account) {
		peer_refuse(broker, socket, SHMB_ENOMEM, "the broker ran out");
		goto out;
	}
	if (!account_charge(account, CHARGE_CONNECTIONS, 1, limit)) {
		peer_refuse(broker, socket, SHMB_EDQUOT, settings_charge_name(CHARGE_CONNECTIONS));
		goto out;
	}
	result = broker_hold_fds(broker, account, PEER_HELD_FDS);
	if (result == 0) {
		result = peer_new(broker, socket, &identity, account);
		if (result == 0)
			return;
		account_uncharge(account, CHARGE_HELD_FDS, PEER_HELD_FDS);
	}
	account_uncharge(account, CHARGE_CONNECTIONS, 1);
	if (result == -EDQUOT) {
		peer_refuse(broker, socket, SHMB_EDQUOT, settings_charge_name(CHARGE_HELD_FDS));
		goto out;
	}
	answer_fail_system(&failure, result, "taking in a client");
	peer_refuse(broker, socket, failure.code, "the broker ran out");
out:
	account_put(account);
	identity_deinit(&identity);
}
