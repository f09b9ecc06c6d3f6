/* SPDX-License-Identifier: MIT */
/*
 * Packets on their way out, and those that would have to be sent again. Sends at once where it can;
 * what the socket does not take waits in order, and later calls, waiting threads or the event loop
 * send it. Never blocks. Knows no answers; when the connection breaks it only puts everything back
 * in line.
 */

#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "client.h"
#include "loop.h"
#include "receive.h"
#include "region.h"

/* A region.close notification fits: [2, "region.close", {"handle": UINT32_MAX}]. */
enum { OUTPUT_CLOSE_BYTES = 64 };

struct output *output_new_close(void)
{
	return malloc(sizeof(struct output) + OUTPUT_CLOSE_BYTES);
}

static void fill(struct output *output, uint32_t msgid, const struct wire_buffer *packet)
{
	output->msgid = msgid;
	output->length = (uint32_t)packet->length;
	output->repeat = true;
	output->sent = false;
	output->passed = NULL;
	memcpy(output->data, packet->data, packet->length);
}

struct output *output_new_request(uint32_t msgid, const struct wire_buffer *packet)
{
	struct output *output = malloc(sizeof(*output) + packet->length);

	if (output)
		fill(output, msgid, packet);
	return output;
}

struct passed *passed_free(struct passed *passed)
{
	if (!passed)
		return NULL;
	for (unsigned i = 0; i < passed->n; i++)
		close(passed->fds[i]);
	if (passed->claim >= 0)
		close(passed->claim);
	free(passed);
	return NULL;
}

/* Not for room that was not used. */
static void output_free(struct output *output)
{
	passed_free(output->passed);
	free(output);
}

/* ---- Sending ---- */

/* The broker lives and has seen no end, so it would not let us go on over another connection. */
static void give_up(struct shmb_client *client)
{
	struct shmb_error error = { .code = SHMB_EDISCONNECTED };

	error_what(&error, "send", strlen("send"));
	receive_give_up(client, &error);
}

/*
 * Return: true if the packet needs no more care now: it was sent, or the broker is gone, which
 * whoever reads will learn together with the reason that the broker may have left there.
 */
static bool sent_or_lost(struct shmb_client *client, int result)
{
	if (result >= 0 || result == -EPIPE || result == -ECONNRESET || result == -ENOTCONN)
		return true;
	if (result != -EAGAIN && result != -ENOMEM && result != -ENOBUFS)
		give_up(client);
	return false;
}

static bool send_now(struct shmb_client *client, const struct wire_buffer *packet)
{
	return sent_or_lost(client,
			    packet_send(client->socket, packet->data, packet->length, NULL, 0));
}

/* Descriptors that do not get through fail their request, and nothing else. Return: why. */
static int fds_refused(const struct output *output, int result)
{
	if (!output->passed)
		return 0;
	if (result == -EPERM)
		return SHMB_EACCES;
	/* Of one that was sent before nobody knows whether it was done: it has to get through. */
	return result == -ETOOMANYREFS && !output->sent ? SHMB_ETOOMANYREFS : 0;
}

static int send_output(const struct shmb_client *client, const struct output *output)
{
	const struct passed *passed = output->passed;
	int result = packet_send(client->socket, output->data, output->length,
				 passed ? passed->fds : NULL, passed ? passed->n : 0);

	return result == -ETOOMANYREFS && output->sent ? -EAGAIN : result;
}

static bool can_send(const struct shmb_client *client)
{
	return client->connection == CONNECTION_UP && !client->gone;
}

/* The broker remembers only so many requests, should they have to be repeated. */
static bool held_back(const struct shmb_client *client, const struct output *output)
{
	return output->msgid != 0 && client->n_unanswered >= client->max_requests;
}

/* It is the first in line, and has been sent. */
static void keep(struct shmb_client *client, struct output *output)
{
	TAILQ_REMOVE(&client->output, output, link);
	if (!output->repeat) {
		output_free(output);
		return;
	}
	output->sent = true;
	output->queued = false;
	TAILQ_INSERT_TAIL(&client->sent, output, link);
	if (output->msgid != 0)
		client->n_unanswered++;
}

/* Return: false if the socket takes no more now. */
static bool send_first(struct shmb_client *client, struct output *output)
{
	int result = send_output(client, output), refused = fds_refused(output, result);

	if (refused != 0) {
		TAILQ_REMOVE(&client->output, output, link);
		call_unsent(client, output->msgid, refused);
		output_free(output);
		return true;
	}
	if (!sent_or_lost(client, result))
		return false;
	/* What fails may have cleared the queue. */
	// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it does not see through TAILQ_REMOVE
	keep(client, output);
	return true;
}

void output_flush(struct shmb_client *client)
{
	struct output *output;

	while (can_send(client) && (output = TAILQ_FIRST(&client->output)))
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it does not see through TAILQ_REMOVE
		if (held_back(client, output) || !send_first(client, output))
			break;
	loop_output_changed(client);
}

bool output_blocked(const struct shmb_client *client)
{
	const struct output *output = TAILQ_FIRST(&client->output);

	return output && can_send(client) && !held_back(client, output);
}

void output_push(struct shmb_client *client, struct output *output)
{
	if (client->gone) {
		output_free(output);
		return;
	}
	output->queued = true;
	TAILQ_INSERT_TAIL(&client->output, output, link);
	output_flush(client);
}

void output_close(struct shmb_client *client, struct output *room, uint32_t handle)
{
	struct wire_region_handle params = { .handle = handle };
	struct wire_buffer *packet = &client->scratch;

	if (wire_encode_notification(packet, WIRE_REGION_CLOSE, &params) < 0 ||
	    packet->length > OUTPUT_CLOSE_BYTES) {
		free(room);
		return;
	}
	fill(room, 0, packet);
	output_push(client, room);
}

int output_notify(struct shmb_client *client, enum wire_method_id method, const void *params)
{
	struct wire_buffer *packet = &client->scratch;
	struct output *output;
	int result;

	if (!can_send(client))
		return 0;
	result = wire_encode_notification(packet, method, params);
	if (result < 0)
		return result;
	if (TAILQ_EMPTY(&client->output) && send_now(client, packet))
		return 0;
	if (!can_send(client)) /* the connection broke just now */
		return 0;
	output = output_new_request(0, packet);
	if (!output)
		return SHMB_ENOMEM;
	output->repeat = false;
	output_push(client, output);
	return 0;
}

/* ---- What becomes of it ---- */

bool output_withdraw(struct shmb_client *client, struct output *output)
{
	if (output->sent)
		return false;
	TAILQ_REMOVE(&client->output, output, link);
	output_free(output);
	loop_output_changed(client);
	return true;
}

void output_answered(struct shmb_client *client, struct output *output)
{
	struct output *before = TAILQ_PREV(output, output_queue, link), *next;

	for (; before; before = next) {
		next = TAILQ_PREV(before, output_queue, link);
		if (before->msgid != 0)
			continue;
		TAILQ_REMOVE(&client->sent, before, link);
		free(before);
	}
	TAILQ_REMOVE(&client->sent, output, link);
	client->n_unanswered--;
	output_free(output);
}

void output_lost(struct shmb_client *client)
{
	struct output *output, *next;

	TAILQ_CONCAT(&client->sent, &client->output, link);
	TAILQ_CONCAT(&client->output, &client->sent, link);
	client->n_unanswered = 0;
	for (output = TAILQ_FIRST(&client->output); output; output = next) {
		next = TAILQ_NEXT(output, link);
		output->queued = true;
		if (output->repeat)
			continue;
		TAILQ_REMOVE(&client->output, output, link);
		free(output);
	}
}

uint32_t output_again(const struct shmb_client *client)
{
	const struct output *output;
	uint32_t n = 0;

	TAILQ_FOREACH(output, &client->output, link)
		n += output->msgid != 0 && output->sent;
	return n;
}

static void clear(struct output_queue *queue)
{
	struct output *output;

	while ((output = TAILQ_FIRST(queue))) {
		TAILQ_REMOVE(queue, output, link);
		output_free(output);
	}
}

void output_clear(struct shmb_client *client)
{
	clear(&client->output);
	clear(&client->sent);
	client->n_unanswered = 0;
}
