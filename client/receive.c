/* SPDX-License-Identifier: MIT */
/*
 * What comes from the broker: takes packets off the socket and hands each to whom it concerns. A
 * broker that breaks the protocol is disconnected; it can cost an error, never a crash or a
 * descriptor.
 */

#include "receive.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "calls.h"
#include "client.h"
#include "loop.h"
#include "output.h"
#include "region.h"
#include "resume.h"
#include "watch.h"

static void take_event(struct shmb_client *client, const struct wire_incoming *message)
{
	struct wire_region_event event;
	const char *field = "";

	if (wire_decode_body(message, message->method->params, &event, &field) < 0)
		receive_disconnect(client, SHMB_EPROTO, field);
	else
		watch_event(client, &event);
}

static void take_goodbye(struct shmb_client *client, const struct wire_incoming *message)
{
	struct shmb_error *goodbye = &client->goodbye;
	struct wire_error error;
	const char *field = "";

	if (wire_decode_body(message, message->method->params, &error, &field) < 0) {
		receive_disconnect(client, SHMB_EPROTO, field);
		return;
	}
	*goodbye = (struct shmb_error){
		.code = wire_error_code(error.code.data, error.code.length),
		.size = error.size,
		.limit = error.limit,
	};
	if (error.what.length > 0)
		error_what(goodbye, error.what.data, error.what.length);
	else
		error_what(goodbye, error.code.data, error.code.length);
}

static void take_notification(struct shmb_client *client, const struct wire_incoming *message,
			      const struct packet *packet)
{
	if (!message->method) /* of a later version; whoever sends it can do without us */
		return;
	if (message->n_fds != 0 || packet->n_fds != 0 || packet->fds_lost)
		receive_disconnect(client, SHMB_EPROTO, "descriptors");
	else if (message->method_id == WIRE_REGION_EVENT)
		take_event(client, message);
	else if (message->method_id == WIRE_GOODBYE)
		take_goodbye(client, message);
	else
		receive_disconnect(client, SHMB_EPROTO, "notification");
}

static void take_packet(struct shmb_client *client, struct packet *packet)
{
	struct wire_incoming message;
	int result = wire_decode(&client->decoder, client->input, packet->length, &message);

	if (result < 0)
		receive_disconnect(client, result, "message");
	else if (message.kind == WIRE_RESPONSE)
		call_answered(client, &message, packet);
	else if (message.kind == WIRE_NOTIFICATION)
		take_notification(client, &message, packet);
	else
		receive_disconnect(client, SHMB_EPROTO, "request");
	packet_close_fds(packet);
}

/* Return: 1 if a packet was taken, 0 if it is worth looking again, -1 if there is nothing. */
static int take_received(struct shmb_client *client, int result, struct packet *packet,
			 bool *was_reset)
{
	if (result == -EAGAIN || result == -ENOMEM || result == -ENOBUFS)
		return -1;
	if (result == -ECONNRESET && !*was_reset) {
		/* Told once, and before what the broker sent last: its goodbye. */
		*was_reset = true;
		return 0;
	}
	if (result == 1) {
		take_packet(client, packet);
		return 1;
	}
	receive_disconnect(client, result == -EMSGSIZE ? SHMB_EPROTO : SHMB_EDISCONNECTED, "");
	return -1;
}

static bool is_up(const struct shmb_client *client)
{
	return client->connection == CONNECTION_UP && !client->gone;
}

static int receive(struct shmb_client *client, struct packet *packet)
{
	return packet_receive(client->socket, client->input, sizeof(client->input), packet);
}

unsigned receive_packets(struct shmb_client *client, unsigned most)
{
	bool was_reset = false;
	unsigned n = 0;

	while (n < most && is_up(client)) {
		struct packet packet;
		int taken = take_received(client, receive(client, &packet), &packet, &was_reset);

		if (taken < 0)
			break;
		n += (unsigned)taken;
	}
	return n;
}

void receive_wait(struct shmb_client *client)
{
	bool was_reset = false;
	struct packet packet;
	int result;

	client->reading = true;
	pthread_mutex_unlock(&client->mutex);
	result = packet_receive_wait(client->socket, client->input, sizeof(client->input), &packet);
	pthread_mutex_lock(&client->mutex);
	client->reading = false;
	/* Another thread saw the end while it sent; what was received will be asked for again. */
	if (!is_up(client)) {
		if (result == 1)
			packet_close_fds(&packet);
		return;
	}
	if (take_received(client, result, &packet, &was_reset) == 0)
		receive_packets(client, 1);
}

/* What a broker does not say to a client that may come back. */
static bool is_final(const struct shmb_error *goodbye)
{
	return goodbye->code == SHMB_EPROTO || goodbye->code == SHMB_EACCES ||
	       goodbye->code == SHMB_ESESSION;
}

void receive_disconnect(struct shmb_client *client, int code, const char *what)
{
	struct shmb_error error = { .code = code };

	if (client->gone)
		return;
	if (code == SHMB_EDISCONNECTED && !is_final(&client->goodbye) &&
	    resume_begin(client, *what == '\0' && client->goodbye.code == 0))
		return;
	/* It knows that it has ended, or there is no talking to it. */
	if (code != SHMB_EDISCONNECTED || is_final(&client->goodbye))
		client->resume.known = false;
	error_what(&error, what, strlen(what));
	if (client->goodbye.code != 0) {
		error = client->goodbye;
		if (client->greeted)
			error.code = SHMB_EDISCONNECTED;
	}
	receive_give_up(client, &error);
}

void receive_give_up(struct shmb_client *client, const struct shmb_error *why)
{
	client->gone = true;
	client->goodbye = *why; /* later calls tell it, too */
	error_set(&client->error, why);
	/* Not for writing: the broker would take that for our end, and undo what our handles still
	 * hold. Freeing the last of them closes the socket. */
	shutdown(client->socket, SHUT_RD);
	output_clear(client);
	calls_disconnect(client, why);
	watch_disconnect_all(client);
	loop_disconnected(client);
	pthread_cond_broadcast(&client->cond);
}
