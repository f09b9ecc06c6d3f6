/* SPDX-License-Identifier: MIT */
/*
 * MessagePack to structs, along the table. First the structural scan (check.c), then msgpack-c into
 * the decoder's zone, then the framing; the body is read once the caller knows its type. Objects
 * and strings refer into the packet and the zone: nothing is copied but lists, whose elements are
 * laid out in the zone.
 */

#include <string.h>

#include "wire/check.h"
#include "wire/wire.h"

enum { ZONE_CHUNK_BYTES = 8192 };

int wire_decoder_init(struct wire_decoder *decoder)
{
	return msgpack_zone_init(&decoder->zone, ZONE_CHUNK_BYTES) ? 0 : SHMB_ENOMEM;
}

void wire_decoder_deinit(struct wire_decoder *decoder)
{
	msgpack_zone_destroy(&decoder->zone);
}

static int read_uint(const msgpack_object *object, uint64_t max, uint64_t *ret_value)
{
	if (object->type != MSGPACK_OBJECT_POSITIVE_INTEGER || object->via.u64 > max)
		return SHMB_EPROTO;
	*ret_value = object->via.u64;
	return 0;
}

static bool key_is(const msgpack_object *key, const char *name, size_t length)
{
	return key->type == MSGPACK_OBJECT_STR && key->via.str.size == length &&
	       memcmp(key->via.str.ptr, name, length) == 0;
}

/* "fds" belongs to the framing, as it says what came with the packet. */
static int read_fds(const msgpack_object *body, unsigned *ret_n_fds)
{
	const msgpack_object_map *map = &body->via.map;
	uint64_t n_fds = 0;
	bool seen = false;

	for (uint32_t i = 0; i < map->size; i++) {
		if (!key_is(&map->ptr[i].key, "fds", 3))
			continue;
		if (seen || read_uint(&map->ptr[i].val, WIRE_FDS_MAX, &n_fds) < 0)
			return SHMB_EPROTO;
		seen = true;
	}
	*ret_n_fds = (unsigned)n_fds;
	return 0;
}

static int take_body(struct wire_incoming *message, const msgpack_object *body)
{
	if (body->type != MSGPACK_OBJECT_MAP)
		return SHMB_EPROTO;
	message->body = body;
	return read_fds(body, &message->n_fds);
}

static int take_call(struct wire_incoming *message, const msgpack_object *name,
		     const msgpack_object *params)
{
	if (name->type != MSGPACK_OBJECT_STR)
		return SHMB_EPROTO;
	message->method = wire_method_find(name->via.str.ptr, name->via.str.size);
	if (message->method)
		message->method_id = (enum wire_method_id)(message->method - wire_methods);
	return take_body(message, params);
}

/* Exactly one of the two is a map, the other nil. */
static int take_response(struct wire_incoming *message, const msgpack_object *error,
			 const msgpack_object *result)
{
	message->failed = error->type != MSGPACK_OBJECT_NIL;
	if (message->failed && result->type != MSGPACK_OBJECT_NIL)
		return SHMB_EPROTO;
	return take_body(message, message->failed ? error : result);
}

static int take_message(struct wire_incoming *message, const msgpack_object_array *frame)
{
	uint64_t kind, msgid = 0;
	int r;

	if (frame->size < 3 || read_uint(&frame->ptr[0], WIRE_NOTIFICATION, &kind) < 0)
		return SHMB_EPROTO;
	if (frame->size != (kind == WIRE_NOTIFICATION ? 3 : 4))
		return SHMB_EPROTO;
	message->kind = (enum wire_kind)kind;
	if (kind == WIRE_NOTIFICATION)
		return take_call(message, &frame->ptr[1], &frame->ptr[2]);

	r = read_uint(&frame->ptr[1], UINT32_MAX, &msgid);
	if (r < 0)
		return r;
	message->msgid = (uint32_t)msgid;
	return kind == WIRE_REQUEST ? take_call(message, &frame->ptr[2], &frame->ptr[3])
				    : take_response(message, &frame->ptr[2], &frame->ptr[3]);
}

int wire_decode(struct wire_decoder *decoder, const void *packet, size_t length,
		struct wire_incoming *ret_message)
{
	struct wire_incoming message = { .decoder = decoder };
	msgpack_object frame;
	size_t offset = 0;
	int r;

	msgpack_zone_clear(&decoder->zone);
	if (length > WIRE_PACKET_MAX || !wire_check(packet, length))
		return SHMB_EPROTO;
	switch (msgpack_unpack(packet, length, &offset, &decoder->zone, &frame)) {
	case MSGPACK_UNPACK_SUCCESS:
		break;
	case MSGPACK_UNPACK_NOMEM_ERROR:
		return SHMB_ENOMEM;
	default:
		return SHMB_EPROTO;
	}
	if (frame.type != MSGPACK_OBJECT_ARRAY)
		return SHMB_EPROTO;
	r = take_message(&message, &frame.via.array);
	if (r < 0)
		return r;
	*ret_message = message;
	return 0;
}

/* ---- Bodies ---- */

static int read_map(struct wire_decoder *decoder, const msgpack_object *object,
		    const struct wire_message_type *type, void *body, const char **ret_field);

static bool in_limits(const struct wire_field *field, uint64_t value)
{
	return value >= field->min && value <= field->max;
}

static int read_list(struct wire_decoder *decoder, const struct wire_field *field,
		     const msgpack_object *object, void *body, const char **ret_field)
{
	const struct wire_message_type *type = field->element;
	size_t n = object->via.array.size;
	char *elements = NULL;

	if (object->type != MSGPACK_OBJECT_ARRAY || !in_limits(field, n))
		return SHMB_EINVAL;
	if (n > 0) {
		elements = msgpack_zone_malloc(&decoder->zone, n * type->size);
		if (!elements)
			return SHMB_ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		int r = read_map(decoder, &object->via.array.ptr[i], type,
				 elements + i * type->size, ret_field);
		if (r < 0)
			return r;
	}
	memcpy((char *)body + field->offset, &elements, sizeof(elements));
	memcpy((char *)body + field->count_offset, &n, sizeof(n));
	return 0;
}

static int read_bytes(const struct wire_field *field, const char *data, size_t length, void *value)
{
	if (!in_limits(field, length))
		return SHMB_EINVAL;
	*(struct wire_bytes *)value = (struct wire_bytes){ .data = data, .length = length };
	return 0;
}

static int read_field(struct wire_decoder *decoder, const struct wire_field *field,
		      const msgpack_object *object, void *body, const char **ret_field)
{
	void *value = (char *)body + field->offset;

	switch (field->type) {
	case WIRE_TYPE_UINT:
		if (object->type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
		    !in_limits(field, object->via.u64))
			return SHMB_EINVAL;
		*(uint64_t *)value = object->via.u64;
		return 0;
	case WIRE_TYPE_BOOL:
		if (object->type != MSGPACK_OBJECT_BOOLEAN)
			return SHMB_EINVAL;
		*(bool *)value = object->via.boolean;
		return 0;
	case WIRE_TYPE_STR:
		if (object->type != MSGPACK_OBJECT_STR)
			return SHMB_EINVAL;
		return read_bytes(field, object->via.str.ptr, object->via.str.size, value);
	case WIRE_TYPE_BIN:
		if (object->type != MSGPACK_OBJECT_BIN)
			return SHMB_EINVAL;
		return read_bytes(field, object->via.bin.ptr, object->via.bin.size, value);
	case WIRE_TYPE_LIST:
		return read_list(decoder, field, object, body, ret_field);
	}
	return SHMB_EINVAL;
}

static size_t find_field(const struct wire_message_type *type, const msgpack_object *key)
{
	size_t i = 0;

	while (i < type->n_fields &&
	       !key_is(key, type->fields[i].name, type->fields[i].name_length))
		i++;
	return i;
}

static int read_map(struct wire_decoder *decoder, const msgpack_object *object,
		    const struct wire_message_type *type, void *body, const char **ret_field)
{
	uint64_t seen = 0;
	uint64_t *has = body; /* the first member of each struct */

	memset(body, 0, type->size);
	*ret_field = "";
	if (object->type != MSGPACK_OBJECT_MAP)
		return SHMB_EINVAL;
	for (uint32_t i = 0; i < object->via.map.size; i++) {
		const msgpack_object_kv *pair = &object->via.map.ptr[i];
		size_t n = find_field(type, &pair->key);
		int r;

		if (n == type->n_fields)
			continue; /* from a newer version than ours */
		*ret_field = type->fields[n].name;
		if (seen >> n & 1)
			return SHMB_EINVAL;
		seen |= UINT64_C(1) << n;
		r = read_field(decoder, &type->fields[n], &pair->val, body, ret_field);
		if (r < 0)
			return r;
		if (!type->fields[n].required)
			*has |= UINT64_C(1) << n;
	}
	for (size_t n = 0; n < type->n_fields; n++) {
		*ret_field = type->fields[n].name;
		if (type->fields[n].required && !(seen >> n & 1))
			return SHMB_EINVAL;
	}
	*ret_field = "";
	return 0;
}

int wire_decode_body(const struct wire_incoming *message, const struct wire_message_type *type,
		     void *ret_body, const char **ret_field)
{
	return read_map(message->decoder, message->body, type, ret_body, ret_field);
}
