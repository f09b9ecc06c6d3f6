/* SPDX-License-Identifier: MIT */
/*
 * Packets on their way out. Sends at once where it can; what the socket does not take waits in
 * order, and later calls, waiting threads or the event loop send it. Never blocks.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

/* A region.close notification fits: [2, "region.close", {"handle": UINT32_MAX}]. */
enum { OUTPUT_CLOSE_BYTES = 64 };

struct output *output_new_close(void)
{
	return malloc(sizeof(struct output) + OUTPUT_CLOSE_BYTES);
}

static void enqueue(struct shmb_client *client, struct output *output, uint32_t msgid,
		    const struct wire_buffer *packet)
{
	output->msgid = msgid;
	output->length = packet->length;
	memcpy(output->data, packet->data, packet->length);
	TAILQ_INSERT_TAIL(&client->output, output, link);
	loop_output_changed(client);
}

/*
 * Return: true if the packet needs no more care: it was sent, or the broker is gone, which whoever
 * reads will learn together with the reason that the broker may have left there.
 */
static bool send_now(struct shmb_client *client, const void *data, size_t length)
{
	int result = packet_send(client->socket, data, length, NULL, 0);

	if (result == -EAGAIN)
		return false;
	if (result < 0 && result != -EPIPE && result != -ECONNRESET && result != -ENOTCONN)
		receive_disconnect(client, SHMB_EDISCONNECTED, "send");
	return true;
}

int output_send(struct shmb_client *client, uint32_t msgid, const struct wire_buffer *packet)
{
	struct output *output;

	if (client->gone)
		return 0;
	output_flush(client);
	if (TAILQ_EMPTY(&client->output) && send_now(client, packet->data, packet->length))
		return 0;
	output = malloc(sizeof(*output) + packet->length);
	if (!output)
		return SHMB_ENOMEM;
	enqueue(client, output, msgid, packet);
	return 0;
}

void output_close(struct shmb_client *client, struct output *room, uint32_t handle)
{
	struct wire_region_handle params = { .handle = handle };
	struct wire_buffer *packet = &client->scratch;

	if (client->gone || wire_encode_notification(packet, WIRE_REGION_CLOSE, &params) < 0 ||
	    packet->length > OUTPUT_CLOSE_BYTES) {
		free(room);
		return;
	}
	output_flush(client);
	if (TAILQ_EMPTY(&client->output) && send_now(client, packet->data, packet->length))
		free(room);
	else
		enqueue(client, room, 0, packet);
}

int output_notify(struct shmb_client *client, enum wire_method_id method, const void *params)
{
	int result = wire_encode_notification(&client->scratch, method, params);

	return result < 0 ? result : output_send(client, 0, &client->scratch);
}

void output_flush(struct shmb_client *client)
{
	struct output *output;

	if (TAILQ_EMPTY(&client->output))
		return;
	while ((output = TAILQ_FIRST(&client->output))) {
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it does not see through TAILQ_REMOVE
		if (!send_now(client, output->data, output->length))
			return;
		if (client->gone) /* the queue has been cleared */
			return;
		TAILQ_REMOVE(&client->output, output, link);
		free(output);
	}
	loop_output_changed(client);
}

static struct output *find(const struct shmb_client *client, uint32_t msgid)
{
	struct output *output;

	TAILQ_FOREACH(output, &client->output, link)
		if (output->msgid == msgid)
			return output;
	return NULL;
}

bool output_waiting(const struct shmb_client *client, uint32_t msgid)
{
	return find(client, msgid) != NULL;
}

bool output_withdraw(struct shmb_client *client, uint32_t msgid)
{
	struct output *output = find(client, msgid);

	if (!output)
		return false;
	TAILQ_REMOVE(&client->output, output, link);
	free(output);
	loop_output_changed(client);
	return true;
}

void output_clear(struct shmb_client *client)
{
	struct output *output;

	while ((output = TAILQ_FIRST(&client->output))) {
		TAILQ_REMOVE(&client->output, output, link);
		free(output);
	}
}
