/* SPDX-License-Identifier: MIT */
/*
 * Peers that speak the protocol by hand, and may break it: any bytes, any descriptors, any order.
 *
 * Uses proto/wire and no client library.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

enum { REPLY_MS = 10000 };

struct raw *raw_connect(const struct broker *broker)
{
	struct raw *raw = calloc(1, sizeof(*raw));

	CHECK(raw);
	raw->socket = SYS(packet_socket());
	CHECK_OK(wire_decoder_init(&raw->decoder));
	CHECK_OK(packet_connect(raw->socket, broker->socket, REPLY_MS * (int)harness_slow()));
	return raw;
}

struct raw *raw_free(struct raw *raw)
{
	if (!raw)
		return NULL;
	packet_close_fds(&raw->packet);
	wire_decoder_deinit(&raw->decoder);
	if (raw->socket >= 0)
		close(raw->socket);
	free(raw);
	return NULL;
}

bool raw_ready(struct raw *raw, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = raw->socket, .events = POLLIN };

	return poll(&poll_fd, 1, timeout_ms) > 0;
}

int raw_send(struct raw *raw, const void *data, size_t length, const int *fds, unsigned n_fds)
{
	return packet_send(raw->socket, data, length, fds, n_fds);
}

int raw_request(struct raw *raw, enum wire_method_id method, const void *params)
{
	static const struct wire_empty empty;
	struct wire_buffer buffer;

	CHECK_OK(wire_encode_request(&buffer, ++raw->msgid, method, params ? params : &empty, 0));
	return raw_send(raw, buffer.data, buffer.length, NULL, 0);
}

/* The daemon may have to be waited for, but a peer that was dropped is no failure of the harness.
 */
static bool is_end(int error)
{
	return error == 0 || error == -ECONNRESET || error == -EPIPE;
}

int raw_receive(struct raw *raw)
{
	const char *field;
	int r;

	packet_close_fds(&raw->packet);
	memset(&raw->packet, 0, sizeof(raw->packet));
	if (!raw_ready(raw, REPLY_MS * (int)harness_slow()))
		FAIL("the daemon says nothing");
	r = packet_receive(raw->socket, raw->buffer, sizeof(raw->buffer), &raw->packet);
	if (is_end(r))
		return 0;
	CHECK_INT(r, 1);
	CHECK_OK(wire_decode(&raw->decoder, raw->buffer, raw->packet.length, &raw->message));
	CHECK(!raw->packet.fds_lost);
	CHECK_INT(raw->message.n_fds, raw->packet.n_fds);
	if (raw->message.failed ||
	    (raw->message.kind == WIRE_NOTIFICATION && raw->message.method_id == WIRE_GOODBYE))
		CHECK_OK(wire_decode_body(&raw->message, &wire_message_types[WIRE_MESSAGE_error],
					  &raw->error, &field));
	return 1;
}

static int error_code(const struct raw *raw)
{
	return wire_error_code(raw->error.code.data, raw->error.code.length);
}

int raw_call(struct raw *raw, enum wire_method_id method, const void *params, void *ret_result)
{
	const char *field;
	int r;

	r = raw_request(raw, method, params);
	if (is_end(r) && r != 0)
		return SHMB_EDISCONNECTED;
	CHECK_OK(r);
	do {
		if (raw_receive(raw) == 0)
			return SHMB_EDISCONNECTED;
	} while (raw->message.kind != WIRE_RESPONSE);
	CHECK_INT(raw->message.msgid, raw->msgid);
	if (raw->message.failed)
		return error_code(raw);
	if (ret_result)
		CHECK_OK(wire_decode_body(&raw->message, wire_methods[method].result, ret_result,
					  &field));
	return 0;
}

void raw_hello(struct raw *raw)
{
	struct wire_hello_params params = { .version_min = WIRE_VERSION,
					    .version_max = WIRE_VERSION };

	CHECK_OK(raw_call(raw, WIRE_HELLO, &params, NULL));
}

int raw_goodbye(struct raw *raw)
{
	int code = 0;

	while (raw_receive(raw))
		if (raw->message.kind == WIRE_NOTIFICATION &&
		    raw->message.method_id == WIRE_GOODBYE)
			code = error_code(raw);
	return code;
}

static int take_fds(struct raw *raw, int result, int ret_fds[2])
{
	int i;

	if (result)
		return result;
	CHECK_INT(raw->packet.n_fds, 2);
	for (i = 0; i < 2; i++) {
		ret_fds[i] = raw->packet.fds[i];
		raw->packet.fds[i] = -1;
	}
	return 0;
}

int raw_create(struct raw *raw, const char *name, uint64_t size, uint32_t mode, uint64_t lifetime,
	       struct wire_region_attached *ret_attached, int ret_fds[2])
{
	struct wire_region_create_params params = {
		.has = WIRE_HAS(region_create_params, mode) |
		       WIRE_HAS(region_create_params, lifetime),
		.name = wire_string(name),
		.size = size,
		.mode = mode,
		.lifetime = lifetime,
	};

	return take_fds(raw, raw_call(raw, WIRE_REGION_CREATE, &params, ret_attached), ret_fds);
}

int raw_open(struct raw *raw, const char *name, unsigned access,
	     struct wire_region_attached *ret_attached, int ret_fds[2])
{
	struct wire_region_open_params params = { .name = wire_string(name), .access = access };

	return take_fds(raw, raw_call(raw, WIRE_REGION_OPEN, &params, ret_attached), ret_fds);
}
