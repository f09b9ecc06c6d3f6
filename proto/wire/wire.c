/* SPDX-License-Identifier: MIT */
/*
 * The table: schema.def as data, for whoever walks messages instead of naming their fields
 * (encoder, decoder, tests, documentation). Data and look-ups only.
 */

#include <string.h>

#include "wire/wire.h"

#define PRESENCE_REQ true
#define PRESENCE_OPT false

#define FIELD(message, field_type, field, presence, lowest, highest, meaning) \
	{                                                                     \
		.name = #field,                                               \
		.name_length = sizeof(#field) - 1,                            \
		.type = WIRE_TYPE_##field_type,                               \
		.required = PRESENCE_##presence,                              \
		.min = (lowest),                                              \
		.max = (highest),                                             \
		.offset = offsetof(struct wire_##message, field),             \
		.doc = (meaning),                                             \
	},
#define LIST(message, element_type, field, presence, lowest, highest, meaning) \
	{                                                                      \
		.name = #field,                                                \
		.name_length = sizeof(#field) - 1,                             \
		.type = WIRE_TYPE_LIST,                                        \
		.required = PRESENCE_##presence,                               \
		.min = (lowest),                                               \
		.max = (highest),                                              \
		.offset = offsetof(struct wire_##message, field),              \
		.count_offset = offsetof(struct wire_##message, n_##field),    \
		.element = &wire_message_types[WIRE_MESSAGE_##element_type],   \
		.doc = (meaning),                                              \
	},

/* The last entry, without a name, is there because C has no empty arrays. */
#define FIELDS(message)                                                              \
	static const struct wire_field message##_fields[] = { WIRE_FIELDS_##message( \
		FIELD, LIST, message){ .name = NULL } };
WIRE_MESSAGES(FIELDS)

#define MESSAGE(message)                                                                \
	{                                                                               \
		.name = #message,                                                       \
		.size = sizeof(struct wire_##message),                                  \
		.n_fields = sizeof(message##_fields) / sizeof(message##_fields[0]) - 1, \
		.fields = message##_fields,                                             \
	},
const struct wire_message_type wire_message_types[WIRE_MESSAGE_COUNT] = { WIRE_MESSAGES(MESSAGE) };

#define METHOD(id, wire_name, way, params_type, result_type, in, out, meaning) \
	{                                                                      \
		.name = (wire_name),                                           \
		.name_length = sizeof(wire_name) - 1,                          \
		.direction = WIRE_##way,                                       \
		.params = &wire_message_types[WIRE_MESSAGE_##params_type],     \
		.result = &wire_message_types[WIRE_MESSAGE_##result_type],     \
		.fds_in = (in),                                                \
		.fds_out = (out),                                              \
		.doc = (meaning),                                              \
	},
const struct wire_method wire_methods[WIRE_METHOD_COUNT] = { WIRE_METHODS(METHOD) };

/* What the code over the table relies on. */
#define CHECK_MESSAGE(message)                                      \
	_Static_assert(sizeof(struct wire_##message##_index) <= 64, \
		       "each field of a message has a bit in its has and seen");
WIRE_MESSAGES(CHECK_MESSAGE)
#define CHECK_METHOD(id, wire_name, way, params, result, in, out, meaning) \
	_Static_assert((in) <= WIRE_FDS_MAX && (out) <= WIRE_FDS_MAX,      \
		       "descriptors fit into one packet");
WIRE_METHODS(CHECK_METHOD)

const struct wire_method *wire_method_find(const char *name, size_t length)
{
	for (size_t i = 0; i < WIRE_METHOD_COUNT; i++) {
		const struct wire_method *method = &wire_methods[i];
		if (method->name_length == length && memcmp(method->name, name, length) == 0)
			return method;
	}
	return NULL;
}

struct wire_bytes wire_string(const char *string)
{
	return (struct wire_bytes){ .data = string, .length = strlen(string) };
}
