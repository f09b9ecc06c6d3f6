/* SPDX-License-Identifier: MIT */
/* check FILE: does the packet in FILE decode, header and body, as its name (ok_..., bad_...) says?
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "wire/wire.h"

static uint8_t packet[WIRE_PACKET_MAX + 2];

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* The type of a message's body; NULL if there is none to check (an unknown method is answered). */
static const struct wire_message_type *body_type(const struct wire_incoming *message,
						 const char *name)
{
	const char *marker = strstr(name, "_result-");

	if (message->kind != WIRE_RESPONSE)
		return message->method ? message->method->params : NULL;
	if (message->failed)
		return &wire_message_types[WIRE_MESSAGE_error];
	if (!marker)
		return NULL;
	marker += strlen("_result-");
	const struct wire_method *method = wire_method_find(marker, strcspn(marker, "-"));
	return method ? method->result : NULL;
}

static int decode(const char *name, size_t length, char *what, size_t size)
{
	_Alignas(uint64_t) static char body[512];
	const struct wire_message_type *type;
	struct wire_decoder decoder;
	struct wire_incoming message;
	const char *field = "";
	int r;

	r = wire_decoder_init(&decoder);
	if (r < 0)
		return r;
	r = wire_decode(&decoder, packet, length, &message);
	snprintf(what, size, "header");
	if (r == 0) {
		type = body_type(&message, name);
		if (type && type->size <= sizeof(body))
			r = wire_decode_body(&message, type, body, &field);
		snprintf(what, size, "%s %s", type ? type->name : "unknown body", field);
	}
	wire_decoder_deinit(&decoder);
	return r;
}

int main(int argc, char **argv)
{
	const char *name = argc == 2 ? base_name(argv[1]) : "";
	char what[128];
	bool good = strncmp(name, "ok_", 3) == 0;
	size_t length;
	FILE *file;
	int r;

	if (!good && strncmp(name, "bad_", 4) != 0) {
		fprintf(stderr, "usage: check ok_... | bad_...\n");
		return 2;
	}
	file = fopen(argv[1], "rbe");
	if (!file) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
		return 2;
	}
	length = fread(packet, 1, sizeof(packet), file);
	if (ferror(file) || fclose(file) != 0)
		return 2;
	r = decode(name, length, what, sizeof(what));
	printf("%s: %s: %s\n", name, what, r < 0 ? wire_error_name(r) : "decodes");
	/* Out of memory proves nothing. */
	if (r != 0 && r != SHMB_EPROTO && r != SHMB_EINVAL)
		return 2;
	return (r == 0) == good ? 0 : 1;
}
