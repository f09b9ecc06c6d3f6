/* SPDX-License-Identifier: MIT */
/*
 * The end of a session that its program lets go of.
 *
 * The end of the connection says it to the broker. But a broker that dies before it has seen that
 * end leaves the session to the next one, for which our process lives and may come back: what we
 * held would be held until the process ends. So the broker confirms with a goodbye, and if its end
 * comes without one, the next broker is told. There is a limit to the waiting; what is under way by
 * then arrives all the same, unless that broker dies, too.
 */

#include "parting.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "resume.h"
#include "wire/packet.h"

enum { PARTING_NS = 100000000, PAUSE_NS = 1000000 };

enum parted { PARTED, PARTED_NOT, PARTED_UNKNOWN };

/* The broker's goodbye, or its word that it knows of no such session. */
static bool is_confirmed(struct shmb_client *client, const struct packet *packet)
{
	struct wire_incoming message;
	struct wire_error error;
	const char *field;

	if (wire_decode(&client->decoder, client->input, packet->length, &message) < 0)
		return true; /* there is no talking to this one */
	if (message.kind == WIRE_NOTIFICATION)
		return message.method && message.method_id == WIRE_GOODBYE;
	return message.kind == WIRE_RESPONSE && message.msgid == RESUME_MSGID && message.failed &&
	       wire_decode_body(&message, &wire_message_types[WIRE_MESSAGE_error], &error,
				&field) == 0 &&
	       wire_error_code(error.code.data, error.code.length) != SHMB_EBUSY;
}

static enum parted part(struct shmb_client *client, int socket, int64_t deadline)
{
	struct pollfd poll_fd = { .fd = socket, .events = POLLIN };
	bool was_reset = false;

	shutdown(socket, SHUT_WR);
	for (;;) {
		struct packet packet;
		int result = packet_receive(socket, client->input, sizeof(client->input), &packet);

		if (result == 1) {
			bool confirmed = is_confirmed(client, &packet);

			packet_close_fds(&packet);
			if (confirmed)
				return PARTED;
		} else if (result == -ECONNRESET && !was_reset) {
			was_reset = true; /* told once, and before what was sent last */
		} else if (result != -EAGAIN) {
			return PARTED_NOT;
		} else if (poll(&poll_fd, 1, clock_poll_ms(deadline)) == 0 ||
			   clock_now() >= deadline) {
			return PARTED_UNKNOWN;
		}
	}
}

/* Over a connection of its own, for which a broker that a service manager starts need not run yet.
 */
static enum parted part_anew(struct shmb_client *client, int64_t deadline)
{
	enum parted parted = PARTED_UNKNOWN;
	int socket = packet_socket();

	if (socket < 0)
		return PARTED_UNKNOWN;
	if (packet_connect_now(socket, client->resume.path) == 0 &&
	    resume_say_hello(client, socket) == 0)
		parted = part(client, socket, deadline);
	close(socket);
	return parted;
}

void parting(struct shmb_client *client)
{
	int64_t deadline = clock_now() + PARTING_NS;
	enum parted parted = PARTED_NOT;

	if (!client->greeted || !client->resume.known)
		return;
	if (client->resume.socket >= 0)
		parted = part(client, client->resume.socket, deadline);
	else if (client->connection == CONNECTION_UP && !client->gone)
		parted = part(client, client->socket, deadline);
	while (parted == PARTED_NOT) {
		parted = part_anew(client, deadline);
		if (parted == PARTED_NOT && clock_now() + PAUSE_NS >= deadline)
			break;
		if (parted == PARTED_NOT)
			clock_sleep(PAUSE_NS);
	}
}
