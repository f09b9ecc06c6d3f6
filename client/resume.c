/* SPDX-License-Identifier: MIT */
/*
 * Going on with a session when its connection has broken: the broker died, was restarted, or
 * dropped us though we live. Nobody but those who wait for an answer, and shmb_client_process(),
 * comes here; each does what can be done at once, and one waits for the rest.
 *
 * Away: we connect when it is time to. With a socket-activated broker that succeeds while no daemon
 * runs, so its answer to our hello is waited for like any other: greeting. Until it says that the
 * session goes on nothing else is sent over the new connection, and the old one stays open: for a
 * broker that dropped us its end would be the session's. Then the new socket takes the old one's
 * number, which other threads may be using at that moment.
 *
 * Knows nothing of what is repeated, which is output.c's, nor of watches.
 */

#include "resume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "calls.h"
#include "client.h"
#include "clock.h"
#include "loop.h"
#include "output.h"
#include "receive.h"
#include "watch.h"

enum {
	BACKOFF_LEAST_NS = 1000000,
	BACKOFF_MOST_NS = 1000000000,
	STEADY_NS = 1000000000, /* a connection that lived so long did not break because of us */
};

/* ---- What it takes ---- */

/* The program may change its directory before it needs the path again. */
static void keep_path(struct resume *resume, const char *path)
{
	const struct sockaddr_un *address = NULL;
	char directory[RESUME_PATH_BYTES];
	int length = 0;

	if (path[0] != '/' && getcwd(directory, sizeof(directory)))
		length = snprintf(resume->path, sizeof(resume->path), "%s/%s", directory, path);
	if (length <= 0 || (size_t)length >= sizeof(address->sun_path))
		snprintf(resume->path, sizeof(resume->path), "%s", path);
}

void resume_keep(struct shmb_client *client, const char *path, const char *name)
{
	struct resume *resume = &client->resume;

	keep_path(resume, path);
	if (!name)
		name = program_invocation_short_name;
	resume->name_length = strnlen(name, sizeof(resume->name));
	memcpy(resume->name, name, resume->name_length);
}

struct wire_hello_params resume_hello(const struct shmb_client *client, bool again)
{
	const struct resume *resume = &client->resume;
	struct wire_hello_params params = {
		.has = WIRE_HAS(hello_params, client),
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION,
		.client = { resume->name, resume->name_length },
	};

	if (!again)
		return params;
	params.has |= WIRE_HAS(hello_params, session) | WIRE_HAS(hello_params, again);
	params.session = (struct wire_bytes){ resume->token, sizeof(resume->token) };
	params.again = output_again(client);
	/* What waits to be sent again may bring some, and so may whoever was told that it may. */
	if (client->may_pass)
		params.has |= WIRE_HAS(hello_params, adopt);
	params.adopt = client->may_pass;
	return params;
}

int resume_check(struct shmb_client *client, const struct wire_hello_result *hello)
{
	struct resume *resume = &client->resume;

	if (hello->version < WIRE_VERSION_MIN || hello->version > WIRE_VERSION)
		return SHMB_EVERSION;
	client->max_requests =
		hello->max_requests < REQUESTS_MAX ? (uint32_t)hello->max_requests : REQUESTS_MAX;
	memcpy(resume->token, hello->session.data, sizeof(resume->token));
	resume->known = hello->features & WIRE_FEATURE_RESUME;
	resume->began = clock_now();
	resume->random = (uint32_t)resume->began ^ (uint32_t)getpid();
	return 0;
}

/* ---- Breaking off, and trying again ---- */

static void set_next(struct shmb_client *client, int64_t delay)
{
	client->resume.next = clock_now() + delay;
	loop_deadline_changed(client);
}

/* Twice as long as before, give or take a quarter. */
static int64_t backoff(struct resume *resume)
{
	resume->backoff *= 2;
	if (resume->backoff < BACKOFF_LEAST_NS)
		resume->backoff = BACKOFF_LEAST_NS;
	if (resume->backoff > BACKOFF_MOST_NS)
		resume->backoff = BACKOFF_MOST_NS;
	resume->random = resume->random * 1664525 + 1013904223;
	return resume->backoff * 3 / 4 + resume->backoff / 2 * (resume->random >> 16) / 65536;
}

bool resume_begin(struct shmb_client *client, bool hung_up)
{
	struct resume *resume = &client->resume;
	int64_t now = clock_now();

	if (!client->greeted || !resume->known || resume->away_ms == 0)
		return false;
	if (client->connection != CONNECTION_UP)
		return true;
	client->connection = CONNECTION_AWAY;
	/* Wakes who reads it. Not for writing: see above. */
	shutdown(client->socket, SHUT_RD);
	client->goodbye = (struct shmb_error){ .code = 0 };
	output_lost(client);
	watch_lose_all(client);
	loop_unwatch(client, client->socket);
	resume->give_up = resume->away_ms < 0 ? 0 : now + (int64_t)resume->away_ms * 1000000;
	/* Whoever was dropped may be dropped again for the same reason. */
	if (hung_up || now - resume->began > STEADY_NS)
		resume->backoff = 0;
	set_next(client, resume->backoff == 0 && hung_up ? 0 : backoff(resume));
	return true;
}

static void close_fresh(struct shmb_client *client)
{
	loop_unwatch(client, client->resume.socket);
	close(client->resume.socket);
	client->resume.socket = -1;
}

static void try_later(struct shmb_client *client)
{
	client->connection = CONNECTION_AWAY;
	set_next(client, backoff(&client->resume));
}

static void end(struct shmb_client *client, const char *why)
{
	struct shmb_error error = { .code = SHMB_EDISCONNECTED };

	error_what(&error, why, strlen(why));
	receive_give_up(client, &error);
}

/* ---- Connecting ---- */

int resume_say_hello(struct shmb_client *client, int socket)
{
	struct wire_hello_params params = resume_hello(client, true);
	int result = wire_encode_request(&client->scratch, RESUME_MSGID, WIRE_HELLO, &params, 0);

	if (result < 0)
		return result;
	return packet_send(socket, client->scratch.data, client->scratch.length, NULL, 0);
}

/* Once a hello has been sent the socket must not be closed while it might be granted: that would
 * end the session. */
static int connect_fresh(struct shmb_client *client, int socket)
{
	int result = packet_connect_now(socket, client->resume.path);

	if (result < 0)
		return result;
	if (loop_watch(client, socket) < 0)
		return SHMB_ENOMEM;
	result = resume_say_hello(client, socket);
	if (result < 0)
		loop_unwatch(client, socket);
	return result;
}

static void try_now(struct shmb_client *client)
{
	int socket = packet_socket();

	if (socket >= 0 && connect_fresh(client, socket) < 0) {
		close(socket);
		socket = -1;
	}
	if (socket < 0) {
		try_later(client);
		return;
	}
	client->resume.socket = socket;
	client->connection = CONNECTION_GREETING;
	loop_deadline_changed(client);
}

/* ---- Greeting ---- */

static void refused(struct shmb_client *client, int code)
{
	bool forgotten = code == SHMB_ESESSION;

	close_fresh(client);
	switch (code) {
	case SHMB_ESESSION:
	case SHMB_EVERSION:
	case SHMB_EPROTO:
	case SHMB_EACCES:
	case SHMB_EINVAL:
	case SHMB_EUNKNOWN:
		client->resume.known = false;
		end(client,
		    forgotten ? "the broker has forgotten this session" : shmb_strerror(code));
		break;
	default: /* our old connection is still there for the broker, or it lacks something */
		try_later(client);
	}
}

static void granted(struct shmb_client *client)
{
	struct resume *resume = &client->resume;

	/* Nobody reads now who has relied on the limit. */
	if (client->wait_limit_ms < INT_MAX &&
	    packet_limit_wait(resume->socket, client->wait_limit_ms) < 0)
		client->wait_limit_ms = INT_MAX;
	loop_unwatch(client, resume->socket);
	if (dup3(resume->socket, client->socket, O_CLOEXEC) < 0) {
		/* It stays open: what our handles hold must not be undone. */
		end(client, "taking over the connection");
		return;
	}
	close(resume->socket);
	resume->socket = -1;
	client->connection = CONNECTION_UP;
	loop_watch_connection(client);
	output_flush(client);
	watch_arm_lost(client);
	loop_deadline_changed(client);
}

static int error_code(const struct wire_incoming *message, const struct wire_message_type *type)
{
	struct wire_error error;
	const char *field;

	if (wire_decode_body(message, type, &error, &field) < 0)
		return SHMB_EPROTO;
	return wire_error_code(error.code.data, error.code.length);
}

static int hello_result(struct shmb_client *client, const struct wire_incoming *message)
{
	struct wire_hello_result hello;
	const char *field;

	if (wire_decode_body(message, wire_methods[WIRE_HELLO].result, &hello, &field) < 0)
		return SHMB_EPROTO;
	if (!hello.resumed ||
	    memcmp(hello.session.data, client->resume.token, sizeof(client->resume.token)) != 0)
		return SHMB_ESESSION;
	return resume_check(client, &hello);
}

/*
 * Return: 0: the session goes on; or why not.
 * @ret_refused: it was refused: the new connection can be closed
 */
static int read_hello(struct shmb_client *client, const struct packet *packet, bool *ret_refused)
{
	struct wire_incoming message;
	int result = wire_decode(&client->decoder, client->input, packet->length, &message);
	bool goodbye;

	if (result < 0)
		return result;
	if (message.n_fds != 0 || packet->n_fds != 0 || packet->fds_lost)
		return SHMB_EPROTO;
	goodbye = message.kind == WIRE_NOTIFICATION && message.method &&
		  message.method_id == WIRE_GOODBYE;
	*ret_refused = goodbye || (message.kind == WIRE_RESPONSE && message.failed);
	if (goodbye)
		return error_code(&message, message.method->params);
	if (message.kind != WIRE_RESPONSE || message.msgid != RESUME_MSGID)
		return SHMB_EPROTO;
	if (message.failed)
		return error_code(&message, &wire_message_types[WIRE_MESSAGE_error]);
	result = hello_result(client, &message);
	*ret_refused = result == SHMB_ESESSION;
	return result;
}

static void take_packet(struct shmb_client *client, struct packet *packet)
{
	bool is_refused = false;
	int result = read_hello(client, packet, &is_refused);

	packet_close_fds(packet);
	if (result == 0)
		granted(client);
	else if (is_refused)
		refused(client, result);
	else /* it may have been granted, so the socket stays open, see above */
		end(client, shmb_strerror(result));
}

static void take_hello(struct shmb_client *client)
{
	struct packet packet;
	int result;

	do /* A reset is told once, and before what the broker sent last. */
		result = packet_receive(client->resume.socket, client->input, sizeof(client->input),
					&packet);
	while (result == -ECONNRESET);
	if (result == -EAGAIN || result == -ENOMEM || result == -ENOBUFS)
		return;
	if (result == 1)
		take_packet(client, &packet);
	else
		refused(client, SHMB_EDISCONNECTED); /* it died again */
}

/* ---- By whom, and when ---- */

void resume_advance(struct shmb_client *client)
{
	int64_t now = clock_now(), give_up = client->resume.give_up;

	if (client->gone)
		return;
	if (client->connection == CONNECTION_GREETING)
		take_hello(client);
	else if (client->connection == CONNECTION_AWAY && now >= client->resume.next)
		try_now(client);
	if (client->connection != CONNECTION_UP && !client->gone && give_up != 0 && now >= give_up)
		end(client, "the broker did not come back");
}

void resume_wait(struct shmb_client *client, int64_t deadline)
{
	const struct resume *resume = &client->resume;

	if (resume->give_up != 0 && resume->give_up < deadline)
		deadline = resume->give_up;
	client->reading = true;
	if (client->connection == CONNECTION_GREETING)
		calls_poll(client, resume->socket, POLLIN, deadline);
	else if (resume->next > clock_now())
		calls_sleep(client, resume->next < deadline ? resume->next : deadline);
	client->reading = false;
	resume_advance(client);
}

int64_t resume_deadline(const struct shmb_client *client)
{
	const struct resume *resume = &client->resume;

	/* Whoever reads sees to it. */
	if (client->gone || client->connection == CONNECTION_UP || client->reading)
		return 0;
	if (client->connection == CONNECTION_GREETING)
		return resume->give_up;
	return resume->give_up != 0 && resume->give_up < resume->next ? resume->give_up
								      : resume->next;
}
