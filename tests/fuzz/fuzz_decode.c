/* SPDX-License-Identifier: MIT */
/*
 * The decoder over any bytes, as both sides run it: header, then the body as whatever it may be.
 * Beyond not crashing: what decodes can be encoded, in no more bytes, and then decodes to the same.
 */

#include <stdlib.h>

#include "wire/wire.h"
#include "wire_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct wire_decoder first, second;
static struct wire_buffer buffer;

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

struct body {
	_Alignas(uint64_t) char bytes[512];
};

static int encode(const struct wire_incoming *message, enum wire_method_id method,
		  const struct body *body)
{
	switch (message->kind) {
	case WIRE_REQUEST:
		return wire_encode_request(&buffer, message->msgid, method, body, message->n_fds);
	case WIRE_NOTIFICATION:
		return wire_encode_notification(&buffer, method, body);
	default:
		if (message->failed)
			return wire_encode_error(&buffer, message->msgid, (const void *)body);
		return wire_encode_result(&buffer, message->msgid, method, body, message->n_fds);
	}
}

static void try_body(const struct wire_incoming *message, enum wire_method_id method,
		     const struct wire_message_type *type, size_t size)
{
	struct wire_incoming again;
	struct body body, same;
	const char *field = NULL;
	int r;

	REQUIRE(type->size <= sizeof(body));
	r = wire_decode_body(message, type, &body, &field);
	REQUIRE(field);
	if (r != 0) {
		REQUIRE(r == SHMB_EINVAL || r == SHMB_ENOMEM);
		return;
	}
	REQUIRE(encode(message, method, &body) == 0);
	REQUIRE(buffer.length <= size);
	REQUIRE(wire_decode(&second, buffer.data, buffer.length, &again) == 0);
	REQUIRE(again.kind == message->kind && again.msgid == message->msgid);
	REQUIRE(again.failed == message->failed && again.method == message->method);
	/* Only requests and results are encoded with descriptors. */
	REQUIRE(again.n_fds == message->n_fds || message->failed ||
		message->kind == WIRE_NOTIFICATION);
	REQUIRE(wire_decode_body(&again, type, &same, &field) == 0);
	REQUIRE(table_equal(type, &body, &same));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct wire_incoming message;
	int r;

	if (!ready)
		ready = wire_decoder_init(&first) == 0 && wire_decoder_init(&second) == 0;
	REQUIRE(ready);

	r = wire_decode(&first, data, size, &message);
	if (r != 0) {
		REQUIRE(r == SHMB_EPROTO || r == SHMB_ENOMEM);
		return 0;
	}
	REQUIRE(message.n_fds <= WIRE_FDS_MAX);
	if (message.failed) {
		try_body(&message, WIRE_HELLO, &wire_message_types[WIRE_MESSAGE_error], size);
	} else if (message.kind != WIRE_RESPONSE) {
		if (message.method)
			try_body(&message, message.method_id, message.method->params, size);
	} else {
		/* A response does not say of what: it must be safe as any. */
		for (unsigned id = 0; id < WIRE_METHOD_COUNT; id++)
			try_body(&message, (enum wire_method_id)id, wire_methods[id].result, size);
	}
	return 0;
}
