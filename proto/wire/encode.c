/* SPDX-License-Identifier: MIT */
/*
 * Structs to MessagePack, along the table. Allocates nothing: msgpack-c's packer writes through a
 * callback into the caller's buffer. It does not check limits: what a caller puts in, it has
 * checked, and the other side will.
 */

#include <string.h>

#include "wire/wire.h"

/* Remembers that something did not fit, so that packing needs no check at each step. */
struct writer {
	struct wire_buffer *buffer;
	bool full;
	msgpack_packer packer;
};

static int write_bytes(void *userdata, const char *bytes, size_t length)
{
	struct writer *writer = userdata;
	struct wire_buffer *buffer = writer->buffer;

	if (writer->full || length > sizeof(buffer->data) - buffer->length) {
		writer->full = true;
		return -1;
	}
	memcpy(buffer->data + buffer->length, bytes, length);
	buffer->length += length;
	return 0;
}

static void pack_string(struct writer *writer, const char *string, size_t length)
{
	msgpack_pack_str(&writer->packer, length);
	msgpack_pack_str_body(&writer->packer, string, length);
}

static const void *member(const void *body, size_t offset)
{
	return (const char *)body + offset;
}

static void pack_map(struct writer *writer, const struct wire_message_type *type, const void *body,
		     unsigned n_fds);

static void pack_list(struct writer *writer, const struct wire_field *field, const void *body)
{
	const char *elements;
	size_t n;

	memcpy(&elements, member(body, field->offset), sizeof(elements));
	memcpy(&n, member(body, field->count_offset), sizeof(n));
	msgpack_pack_array(&writer->packer, n);
	for (size_t i = 0; i < n && !writer->full; i++)
		pack_map(writer, field->element, elements + i * field->element->size, 0);
}

static void pack_field(struct writer *writer, const struct wire_field *field, const void *body)
{
	const void *value = member(body, field->offset);
	const struct wire_bytes *bytes = value;

	pack_string(writer, field->name, field->name_length);
	switch (field->type) {
	case WIRE_TYPE_UINT:
		msgpack_pack_uint64(&writer->packer, *(const uint64_t *)value);
		break;
	case WIRE_TYPE_BOOL:
		if (*(const bool *)value)
			msgpack_pack_true(&writer->packer);
		else
			msgpack_pack_false(&writer->packer);
		break;
	case WIRE_TYPE_STR:
		pack_string(writer, bytes->data, bytes->length);
		break;
	case WIRE_TYPE_BIN:
		msgpack_pack_bin(&writer->packer, bytes->length);
		msgpack_pack_bin_body(&writer->packer, bytes->data, bytes->length);
		break;
	case WIRE_TYPE_LIST:
		pack_list(writer, field, body);
		break;
	}
}

static void pack_map(struct writer *writer, const struct wire_message_type *type, const void *body,
		     unsigned n_fds)
{
	uint64_t present = 0;
	size_t n = 0;

	if (type->n_fields > 0) {
		uint64_t has = *(const uint64_t *)body; /* the first member of each struct */
		for (size_t i = 0; i < type->n_fields; i++) {
			if (type->fields[i].required || has >> i & 1) {
				present |= UINT64_C(1) << i;
				n++;
			}
		}
	}
	msgpack_pack_map(&writer->packer, n + (n_fds > 0));
	for (size_t i = 0; i < type->n_fields; i++) {
		if (present >> i & 1)
			pack_field(writer, &type->fields[i], body);
	}
	if (n_fds > 0) {
		pack_string(writer, "fds", 3);
		msgpack_pack_unsigned_int(&writer->packer, n_fds);
	}
}

static void begin(struct writer *writer, struct wire_buffer *buffer, size_t n, enum wire_kind kind)
{
	buffer->length = 0;
	writer->buffer = buffer;
	writer->full = false;
	msgpack_packer_init(&writer->packer, writer, write_bytes);
	msgpack_pack_array(&writer->packer, n);
	msgpack_pack_int(&writer->packer, (int)kind);
}

static int finish(struct writer *writer)
{
	if (writer->full) {
		writer->buffer->length = 0;
		return SHMB_EFBIG;
	}
	return 0;
}

int wire_encode_request(struct wire_buffer *buffer, uint32_t msgid, enum wire_method_id method,
			const void *params, unsigned n_fds)
{
	struct writer writer;

	begin(&writer, buffer, 4, WIRE_REQUEST);
	msgpack_pack_uint32(&writer.packer, msgid);
	pack_string(&writer, wire_methods[method].name, wire_methods[method].name_length);
	pack_map(&writer, wire_methods[method].params, params, n_fds);
	return finish(&writer);
}

int wire_encode_notification(struct wire_buffer *buffer, enum wire_method_id method,
			     const void *params)
{
	struct writer writer;

	begin(&writer, buffer, 3, WIRE_NOTIFICATION);
	pack_string(&writer, wire_methods[method].name, wire_methods[method].name_length);
	pack_map(&writer, wire_methods[method].params, params, 0);
	return finish(&writer);
}

int wire_encode_result(struct wire_buffer *buffer, uint32_t msgid, enum wire_method_id method,
		       const void *result, unsigned n_fds)
{
	struct writer writer;

	begin(&writer, buffer, 4, WIRE_RESPONSE);
	msgpack_pack_uint32(&writer.packer, msgid);
	msgpack_pack_nil(&writer.packer);
	pack_map(&writer, wire_methods[method].result, result, n_fds);
	return finish(&writer);
}

int wire_encode_error(struct wire_buffer *buffer, uint32_t msgid, const struct wire_error *error)
{
	struct writer writer;

	begin(&writer, buffer, 4, WIRE_RESPONSE);
	msgpack_pack_uint32(&writer.packer, msgid);
	pack_map(&writer, &wire_message_types[WIRE_MESSAGE_error], error, 0);
	msgpack_pack_nil(&writer.packer);
	return finish(&writer);
}
