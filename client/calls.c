/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight, from the number they get to the answer that ends them.
 *
 * Several threads may wait at once: one of them polls the socket for all, the others sleep in the
 * condition; whoever has its answer leaves, and another takes the reader's place. A request that
 * nobody waits for any more stays among those in flight until its late answer has been discarded.
 * While the broker is away the reader looks for it, and requests in flight wait to be repeated.
 */

#include "calls.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "loop.h"
#include "output.h"
#include "receive.h"
#include "region.h"
#include "resume.h"
#include "watch.h"

/* ---- The table ---- */

static struct call **bucket(struct shmb_client *client, uint32_t msgid)
{
	return &client->calls[msgid % CALL_BUCKETS];
}

static struct call *find(struct shmb_client *client, uint32_t msgid)
{
	struct call *call = *bucket(client, msgid);

	while (call && call->msgid != msgid)
		call = call->next;
	return call;
}

static void insert(struct shmb_client *client, struct call *call)
{
	struct call **head = bucket(client, call->msgid);

	call->next = *head;
	*head = call;
	call->in_flight = true;
	client->n_in_flight++;
}

static void take_out(struct shmb_client *client, struct call *call)
{
	struct call **link = bucket(client, call->msgid);

	while (*link != call)
		link = &(*link)->next;
	*link = call->next;
	call->in_flight = false;
	call->output = NULL; /* whoever takes it out has seen to that */
	client->n_in_flight--;
}

static uint32_t new_msgid(struct shmb_client *client)
{
	do
		client->next_msgid++;
	while (client->next_msgid == 0 || find(client, client->next_msgid));
	return client->next_msgid;
}

/* Any call of the table, for those who empty it. */
static struct call *any_call(struct shmb_client *client)
{
	for (size_t i = 0; i < CALL_BUCKETS; i++)
		if (client->calls[i])
			return client->calls[i];
	return NULL;
}

struct call *call_new(enum wire_method_id method)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->method = method;
	call->work.kind = WORK_CALL;
	return call;
}

struct call *call_new_attach(enum wire_method_id method, const char *name)
{
	struct call *call = call_new(method);

	if (!call)
		return NULL;
	call->attach = calloc(1, sizeof(*call->attach));
	if (!call->attach)
		return call_free(call);
	call->attach->close_room = output_new_close();
	if (!call->attach->close_room)
		return call_free(call);
	memcpy(call->attach->name, name, strlen(name));
	return call;
}

struct call *call_free(struct call *call)
{
	if (!call)
		return NULL;
	for (unsigned i = 0; i < call->n_fds; i++)
		if (call->fds[i] >= 0)
			close(call->fds[i]);
	passed_free(call->passed);
	if (call->attach) {
		free(call->attach->close_room);
		free(call->attach->path);
		free(call->attach->instead);
	}
	free(call->attach);
	free(call);
	return NULL;
}

int call_start_anyway(struct shmb_client *client, struct call *call, const void *params,
		      int64_t deadline)
{
	struct output *output;

	if (client->gone)
		return SHMB_EDISCONNECTED;
	call->msgid = new_msgid(client);
	call->deadline = deadline;
	if (wire_encode_request(&client->scratch, call->msgid, call->method, params,
				call->passed ? call->passed->n : 0) < 0)
		return SHMB_EINVAL; /* fits whatever the limits of the fields allow */
	output = output_new_request(call->msgid, &client->scratch);
	if (!output)
		return SHMB_ENOMEM;
	/* First: if there is no way back to the broker, the call ends with the others. */
	insert(client, call);
	call->output = output;
	output->passed = call->passed;
	call->passed = NULL;
	output_push(client, output);
	return 0;
}

int call_start(struct shmb_client *client, struct call *call, const void *params, int64_t deadline)
{
	if (!client->gone && client->n_in_flight >= client->max_requests)
		return SHMB_EBUSY;
	return call_start_anyway(client, call, params, deadline);
}

/* ---- Waiting ---- */

static void fail(struct call *call, int code, const char *what)
{
	call->error = (struct shmb_error){ .code = code };
	error_what(&call->error, what, strlen(what));
}

static void timed_out(const struct shmb_client *client, enum wire_method_id method,
		      struct shmb_error *error)
{
	const char *why = client->connection == CONNECTION_UP ? "" : ": the broker is away";

	*error = (struct shmb_error){ .code = SHMB_ETIMEDOUT };
	snprintf(error->what, sizeof(error->what), "%s%s", wire_methods[method].name, why);
}

static void wake_waiters(struct shmb_client *client)
{
	if (client->n_waiting > 0)
		pthread_cond_broadcast(&client->cond);
}

int calls_poll(struct shmb_client *client, int socket, short events, int64_t deadline)
{
	struct pollfd poll_fd = { .fd = socket, .events = events };
	int result;

	pthread_mutex_unlock(&client->mutex);
	result = poll(&poll_fd, 1, clock_poll_ms(deadline));
	pthread_mutex_lock(&client->mutex);
	/* EINTR and ENOMEM: whoever waits looks at its deadline and comes back. */
	return result > 0 ? poll_fd.revents : 0;
}

void calls_sleep(struct shmb_client *client, int64_t deadline)
{
	struct timespec until = {
		.tv_sec = (time_t)(deadline / 1000000000),
		.tv_nsec = (long)(deadline % 1000000000),
	};

	client->n_waiting++;
	pthread_cond_timedwait(&client->cond, &client->mutex, &until);
	client->n_waiting--;
}

static void poll_for_all(struct shmb_client *client, int64_t deadline)
{
	short events = output_blocked(client) ? POLLIN | POLLOUT : POLLIN;
	int seen;

	client->reading = true;
	seen = calls_poll(client, client->socket, events, deadline);
	client->reading = false;
	if (seen & POLLOUT)
		output_flush(client);
	if (seen & ~POLLOUT)
		receive_packets(client, 1);
}

static void read_for_all(struct shmb_client *client, int64_t deadline)
{
	if (unlikely(client->connection != CONNECTION_UP))
		resume_wait(client, deadline);
	/* Most often there is nothing to wait for but the answer, and all the time for it. */
	else if (!output_blocked(client) && clock_poll_ms(deadline) >= client->wait_limit_ms)
		receive_wait(client);
	else
		poll_for_all(client, deadline);
}

/* One step of waiting for an answer, or for a place if @call is NULL. */
static void wait_step(struct shmb_client *client, const struct call *call, int64_t deadline)
{
	if (!client->reading)
		read_for_all(client, deadline);
	else if (!call || !call->output->queued || !output_blocked(client))
		calls_sleep(client, deadline);
	/* The connection may break, and then is not the one that we look at. */
	else if (calls_poll(client, client->socket, POLLOUT | POLLRDHUP, deadline))
		output_flush(client);
}

static int wait_for_place(struct shmb_client *client, int64_t deadline)
{
	while (!client->gone && client->n_in_flight >= client->max_requests) {
		if (clock_now() >= deadline)
			return SHMB_ETIMEDOUT;
		wait_step(client, NULL, deadline);
	}
	return 0;
}

/* Return: true if the call was answered, false if its time has passed. */
static bool wait_for_answer(struct shmb_client *client, struct call *call)
{
	while (call->in_flight) {
		if (clock_now() >= call->deadline)
			return false;
		wait_step(client, call, call->deadline);
	}
	return true;
}

/* The answer may still come: the call becomes that of those in flight. */
static void abandon(struct shmb_client *client, struct call *call)
{
	call->abandoned = true;
	call->take = NULL;
	if (!output_withdraw(client, call->output))
		return;
	take_out(client, call);
	if (call->watching)
		watch_armed(call->watching, NULL);
	call_free(call);
}

static int run_locked(struct shmb_client *client, struct call *call, const void *params)
{
	int64_t deadline = client_deadline(client);
	int result = wait_for_place(client, deadline);

	if (result == 0)
		result = call_start(client, call, params, deadline);
	if (result < 0) {
		if (result == SHMB_ETIMEDOUT)
			timed_out(client, call->method, &call->error);
		else
			fail(call, result,
			     result == SHMB_EDISCONNECTED ? client->goodbye.what : "");
		return 0;
	}
	if (wait_for_answer(client, call))
		return 0;
	abandon(client, call);
	return SHMB_ETIMEDOUT;
}

int call_run(struct shmb_client *client, struct call *call, const void *params)
{
	int result;

	pthread_mutex_lock(&client->mutex);
	result = run_locked(client, call, params);
	if (!client->reading) {
		wake_waiters(client);
		/* Looking for the broker was ours. */
		if (unlikely(client->connection != CONNECTION_UP))
			loop_deadline_changed(client);
	}
	pthread_mutex_unlock(&client->mutex);
	return result;
}

void client_timed_out(struct shmb_client *client, enum wire_method_id method,
		      struct shmb_error *ret_error)
{
	pthread_mutex_lock(&client->mutex);
	timed_out(client, method, ret_error);
	pthread_mutex_unlock(&client->mutex);
}

int call_answer(struct shmb_client *client, struct error_slot *slot, struct call *call,
		const void *params)
{
	enum wire_method_id method;
	int result;

	if (!call)
		return error_note(slot, SHMB_ENOMEM, NULL);
	method = call->method;
	result = call_run(client, call, params);
	if (result < 0) {
		struct shmb_error error;

		client_timed_out(client, method, &error);
		return error_set(slot, &error);
	}
	if (call->error.code == 0)
		return 0;
	result = error_set(slot, &call->error);
	call_free(call);
	return result;
}

int call_ask(struct shmb_client *client, struct error_slot *slot, enum wire_method_id method,
	     const void *params, int (*take)(struct call *call, const void *result), void *context)
{
	struct call *call = call_new(method);
	int result;

	if (call) {
		call->take = take;
		call->context = context;
	}
	result = call_answer(client, slot, call, params);
	if (result == 0)
		call_free(call);
	return result;
}

/* ---- Answers ---- */

static void copy_error(struct shmb_error *error, const struct wire_error *from)
{
	const struct wire_bytes *what = from->what.length > 0 ? &from->what : &from->code;
	int code = wire_error_code(from->code.data, from->code.length);

	*error = (struct shmb_error){
		.code = code,
		.offset = from->offset,
		.length = from->length,
		.size = from->size,
		.limit = from->limit,
	};
	/* A name that we do not know is all there is to tell. */
	if (from->what.length > 0 || code == SHMB_EUNKNOWN)
		error_what(error, what->data, what->length);
}

static void read_error(struct call *call, const struct wire_incoming *message)
{
	const char *field = "";
	struct wire_error error;

	if (wire_decode_body(message, &wire_message_types[WIRE_MESSAGE_error], &error, &field) < 0)
		fail(call, SHMB_EPROTO, field);
	else
		copy_error(&call->error, &error);
}

static void read_result(struct call *call, const struct wire_incoming *message)
{
	const struct wire_message_type *type = wire_methods[call->method].result;
	union {
		struct wire_empty empty;
		struct wire_hello_result hello;
		struct wire_stats_result stats;
		struct wire_region_attached attached;
		struct wire_region_info info;
		struct wire_region_list_result list;
		struct wire_region_ticket_result ticket;
		struct wire_region_watch_result watch;
		struct wire_region_lock_result region_lock;
		struct wire_lock_attached lock_attached;
		struct wire_lock_info lock_info;
		struct wire_lock_list_result lock_list;
		struct wire_semaphore_attached semaphore_attached;
		struct wire_arena_result arena;
		struct wire_semaphore_info semaphore_info;
		struct wire_semaphore_list_result semaphore_list;
		struct wire_holders_result holders;
	} body;
	const char *field = "";
	int result = wire_decode_body(message, type, &body, &field);

	if (result < 0) {
		fail(call, result == SHMB_ENOMEM ? SHMB_ENOMEM : SHMB_EPROTO, field);
		return;
	}
	if (type->size <= sizeof(call->result))
		memcpy(&call->result, &body, type->size);
	if (call->take)
		call->error.code = call->take(call, &body);
}

void call_remove(struct shmb_client *client, const char *name, enum object_kind kind)
{
	struct wire_remove_params params = {
		.has = WIRE_HAS(remove_params, kind),
		.kind = kind,
		.name = wire_string(name),
	};
	struct call *call = call_new(WIRE_REGION_REMOVE);

	/* A request, as it must not be done twice: the name may be another's by then. */
	if (call) {
		call->abandoned = true;
		if (call_start_anyway(client, call, &params, 0) == 0)
			return;
		call_free(call);
	}
	output_notify(client, WIRE_REGION_REMOVE, &params);
}

void call_give_back(struct shmb_client *client, struct call *call, bool failed)
{
	enum object_kind kind;
	uint64_t handle;
	bool created;

	switch (call->method) {
	case WIRE_LOCK_CREATE:
	case WIRE_LOCK_OPEN:
		kind = OBJECT_LOCK;
		handle = call->result.lock_attached.handle;
		created = call->result.lock_attached.created;
		break;
	case WIRE_SEMAPHORE_CREATE:
	case WIRE_SEMAPHORE_OPEN:
		kind = OBJECT_SEMAPHORE;
		handle = call->result.semaphore_attached.handle;
		created = call->result.semaphore_attached.created;
		break;
	default:
		kind = OBJECT_REGION;
		handle = call->result.attached.handle;
		created = call->result.attached.created;
		break;
	}
	/* Before the attachment ends: as long as it is there the name cannot mean another object,
	 * unless somebody took it away. */
	if (failed && created && call->attach->name[0] != '\0')
		call_remove(client, call->attach->name, kind);
	output_close(client, call->attach->close_room, (uint32_t)handle);
	call->attach->close_room = NULL;
}

/* A message that came without descriptors it told of lost them to our own limit. */
static int check_fds(const struct call *call, const struct wire_incoming *message,
		     const struct packet *packet)
{
	unsigned expected = message->failed ? 0 : wire_methods[call->method].fds_out;

	if (message->n_fds != expected)
		return SHMB_EPROTO;
	if (packet->fds_lost && packet->n_fds < expected)
		return SHMB_EMFILE;
	return packet->fds_lost || packet->n_fds != expected ? SHMB_EPROTO : 0;
}

static void take_fds(struct call *call, struct packet *packet)
{
	for (unsigned i = 0; i < packet->n_fds; i++) {
		call->fds[i] = packet->fds[i];
		packet->fds[i] = -1;
	}
	call->n_fds = packet->n_fds;
}

static void read_answer(struct shmb_client *client, struct call *call,
			const struct wire_incoming *message, struct packet *packet)
{
	int result = check_fds(call, message, packet);

	if (message->failed)
		read_error(call, message);
	else
		read_result(call, message);
	if (result == 0) {
		take_fds(call, packet);
		return;
	}
	if (call->attach && call->error.code == 0)
		call_give_back(client, call, true);
	fail(call, result, "descriptors");
}

/* Whoever waits for the call gets it; @call may be freed when this returns. */
static void finish(struct shmb_client *client, struct call *call)
{
	if (call_is_asynchronous(call))
		client->n_async--;
	if (call->watching && call->rearming)
		watch_rearmed(call->watching, call->error.code, &call->result.watch);
	else if (call->watching)
		watch_armed(call->watching, call->error.code == 0 ? &call->result.watch : NULL);
	call->watching = NULL;
	if (call->abandoned)
		call_free(call);
	else if (call_is_asynchronous(call))
		loop_queue(client, &call->work);
	else
		wake_waiters(client);
}

void call_unsent(struct shmb_client *client, uint32_t msgid, int code)
{
	struct call *call = find(client, msgid);

	take_out(client, call);
	fail(call, code, code == SHMB_EACCES ? "allow-adopt" : "");
	finish(client, call);
}

void call_answered(struct shmb_client *client, const struct wire_incoming *message,
		   struct packet *packet)
{
	struct call *call = find(client, message->msgid);

	if (!call || call->output->queued) {
		receive_disconnect(client, SHMB_EPROTO, "answer to no request");
		return;
	}
	output_answered(client, call->output);
	take_out(client, call);
	read_answer(client, call, message, packet);
	if (call->abandoned && call->attach && call->error.code == 0)
		call_give_back(client, call, false);
	finish(client, call);
	/* There is room for another. */
	if (unlikely(!TAILQ_EMPTY(&client->output)))
		output_flush(client);
	if (unlikely(client->n_unarmed > 0))
		watch_arm_lost(client);
}

/* ---- Ends ---- */

void calls_disconnect(struct shmb_client *client, const struct shmb_error *error)
{
	struct call *call;

	while ((call = any_call(client))) {
		take_out(client, call);
		call->error = *error;
		finish(client, call);
	}
}

/*
 * An expired call is told at once, and stays in flight as one that nobody waits for: two calls, if
 * its request has been sent. The new one takes over the place in the table.
 */
static void expire(struct shmb_client *client, struct call *call)
{
	struct call *late = call_new(call->method);
	struct output *output = call->output;

	take_out(client, call);
	if (output_withdraw(client, output)) {
		free(late);
	} else if (late) {
		late->msgid = call->msgid;
		late->output = output;
		late->attach = call->attach;
		call->attach = NULL;
		late->abandoned = true;
		insert(client, late);
	} else {
		/* Without a place for the late answer it would look like one to no request. */
		call->output = output;
		insert(client, call);
		return;
	}
	timed_out(client, call->method, &call->error);
	finish(client, call);
}

static struct call *expired_call(struct shmb_client *client, int64_t now)
{
	for (size_t i = 0; i < CALL_BUCKETS; i++)
		for (struct call *call = client->calls[i]; call; call = call->next)
			if (call_is_asynchronous(call) && call->deadline <= now)
				return call;
	return NULL;
}

void calls_expire(struct shmb_client *client)
{
	int64_t now;
	struct call *call;

	if (client->n_async == 0 || (now = clock_now()) < client->timer_deadline)
		return;
	while ((call = expired_call(client, now))) {
		expire(client, call);
		if (call->in_flight) /* no memory: the next round tries again */
			return;
	}
}

int64_t calls_next_deadline(const struct shmb_client *client)
{
	int64_t next = 0;

	if (client->n_async == 0)
		return 0;
	for (size_t i = 0; i < CALL_BUCKETS; i++)
		for (const struct call *call = client->calls[i]; call; call = call->next)
			if (call_is_asynchronous(call) && (next == 0 || call->deadline < next))
				next = call->deadline;
	return next;
}

void calls_cancel(struct shmb_client *client)
{
	for (size_t i = 0; i < CALL_BUCKETS; i++)
		for (struct call *call = client->calls[i]; call; call = call->next)
			if (call_is_asynchronous(call)) {
				call->callback = NULL;
				call->done = NULL;
				call->abandoned = true;
			}
	client->n_async = 0;
	for (struct work *work = TAILQ_FIRST(&client->work), *next; work; work = next) {
		struct call *call = (struct call *)((char *)work - offsetof(struct call, work));

		next = TAILQ_NEXT(work, link);
		if (work->kind != WORK_CALL)
			continue;
		loop_unqueue(client, work);
		if (call->attach && call->error.code == 0)
			call_give_back(client, call, false);
		call_free(call);
	}
}

void calls_forget_region(struct shmb_client *client, const struct shmb_region *region)
{
	for (size_t i = 0; i < CALL_BUCKETS; i++)
		for (struct call *call = client->calls[i]; call; call = call->next)
			if (call->watching == region)
				call->watching = NULL;
}

void calls_clear(struct shmb_client *client)
{
	struct call *call;

	while ((call = any_call(client))) {
		take_out(client, call);
		call_free(call);
	}
}
