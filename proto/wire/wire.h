/* SPDX-License-Identifier: MIT */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

/*
 * Messages: C structs on one side, MessagePack on the other, and the table between them
 * (schema.def).
 *
 * Pure: no I/O, no logging, no global state. Decoding is complete, and every limit checked, before
 * a caller sees a field. Strings in a decoded struct point into the packet that was decoded.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <msgpack.h>

#include <shmbroker/errors.h>

#include "wire/schema.def"

/* A build may claim a later version, to test what old and new make of each other. */
#ifndef SHMB_WIRE_VERSION
#define SHMB_WIRE_VERSION 1
#endif

enum {
	WIRE_VERSION = SHMB_WIRE_VERSION, /* the protocol version described by schema.def */
	WIRE_VERSION_MIN = 1,             /* the oldest that is still spoken */
	WIRE_PACKET_MAX = 32768,          /* bytes of one message */
	WIRE_FDS_MAX = 4,                 /* descriptors with one message */
	WIRE_DEPTH_MAX = 8,               /* nesting of MessagePack containers */
	WIRE_FEATURE_PUBLISH = 1,         /* hello_result.features */
	WIRE_FEATURE_LOCKS = 2,           /* locks and semaphores */
	WIRE_FEATURE_RESUME = 4, /* hello takes the token of a session that lost its connection */
};

/* A string or byte string; not NUL-terminated. */
struct wire_bytes {
	const char *data;
	size_t length;
};

/* The structs: struct wire_hello_params { uint64_t has; uint64_t version_min; ... } and so on. */
#define WIRE_MEMBER_UINT(name)                                    uint64_t name;
#define WIRE_MEMBER_BOOL(name)                                    bool name;
#define WIRE_MEMBER_STR(name)                                     struct wire_bytes name;
#define WIRE_MEMBER_BIN(name)                                     struct wire_bytes name;
#define WIRE_MEMBER(message, type, name, presence, min, max, doc) WIRE_MEMBER_##type(name)
#define WIRE_MEMBER_LIST(message, element, name, presence, min, max, doc) \
	const struct wire_##element *name;                                \
	size_t n_##name;
#define WIRE_STRUCT(message)                                                           \
	struct wire_##message {                                                        \
		uint64_t has; /* WIRE_HAS() of the optional fields that are present */ \
		WIRE_FIELDS_##message(WIRE_MEMBER, WIRE_MEMBER_LIST, message)          \
	};
WIRE_MESSAGES(WIRE_STRUCT)

/* Each field's number within its message, for WIRE_HAS(). */
#define WIRE_INDEX_SCOPED(message)                                                             \
	struct wire_##message##_index {                                                        \
		WIRE_FIELDS_##message(WIRE_INDEX_MEMBER, WIRE_INDEX_MEMBER, message) char end; \
	};
#define WIRE_INDEX_MEMBER(message, type, name, presence, min, max, doc) char name;
WIRE_MESSAGES(WIRE_INDEX_SCOPED)

/* The bit in .has of an optional field: params.has |= WIRE_HAS(region_ref, name). */
#define WIRE_HAS(message, field) (UINT64_C(1) << offsetof(struct wire_##message##_index, field))

/* ---- The table ---- */

enum wire_type { WIRE_TYPE_UINT, WIRE_TYPE_BOOL, WIRE_TYPE_STR, WIRE_TYPE_BIN, WIRE_TYPE_LIST };

struct wire_message_type;

struct wire_field {
	const char *name;
	size_t name_length;
	enum wire_type type;
	bool required;
	uint64_t min, max;
	size_t offset;       /* of the member */
	size_t count_offset; /* LIST: of its n_ member */
	const struct wire_message_type *element;
	const char *doc;
};

struct wire_message_type {
	const char *name;
	size_t size; /* of the struct */
	size_t n_fields;
	const struct wire_field *fields;
};

enum wire_direction { WIRE_CALL, WIRE_EVENT };

struct wire_method {
	const char *name;
	size_t name_length;
	enum wire_direction direction;
	const struct wire_message_type *params, *result;
	unsigned fds_in, fds_out;
	const char *doc;
};

enum wire_method_id {
#define WIRE_METHOD_ENUM(id, name, direction, params, result, in, out, doc) WIRE_##id,
	WIRE_METHODS(WIRE_METHOD_ENUM)
#undef WIRE_METHOD_ENUM
		WIRE_METHOD_COUNT
};

extern const struct wire_method wire_methods[WIRE_METHOD_COUNT];

/* wire_method_find() - the method of that name, or NULL */
const struct wire_method *wire_method_find(const char *name, size_t length);

/* ---- Encoding ---- */

struct wire_buffer {
	size_t length;
	uint8_t data[WIRE_PACKET_MAX];
};

/*
 * wire_encode_...() - write one message into @buffer, replacing what was there
 * @params, @result: the struct of the method's message type
 * @n_fds:           descriptors that will travel with it
 *
 * Return: 0, or SHMB_EFBIG (does not fit into one packet).
 */
int wire_encode_request(struct wire_buffer *buffer, uint32_t msgid, enum wire_method_id method,
			const void *params, unsigned n_fds);
int wire_encode_notification(struct wire_buffer *buffer, enum wire_method_id method,
			     const void *params);
int wire_encode_result(struct wire_buffer *buffer, uint32_t msgid, enum wire_method_id method,
		       const void *result, unsigned n_fds);
int wire_encode_error(struct wire_buffer *buffer, uint32_t msgid, const struct wire_error *error);

/* ---- Decoding ---- */

enum wire_kind { WIRE_REQUEST = 0, WIRE_RESPONSE = 1, WIRE_NOTIFICATION = 2 };

/* Reusable memory of a decoder; one per thread that decodes. */
struct wire_decoder {
	msgpack_zone zone;
};

/* Return: 0 or SHMB_ENOMEM. */
int wire_decoder_init(struct wire_decoder *decoder);
void wire_decoder_deinit(struct wire_decoder *decoder);

/* One message after wire_decode(); valid until the next wire_decode() with the same decoder. */
struct wire_incoming {
	enum wire_kind kind;
	uint32_t msgid;                   /* request, response */
	const struct wire_method *method; /* request, notification; NULL: unknown */
	enum wire_method_id method_id;    /* meaningful if @method is set */
	bool failed;                      /* response: body is an error */
	unsigned n_fds;                   /* as stated by the sender */
	struct wire_decoder *decoder;
	const msgpack_object *body; /* the map of params, result or error */
};

/*
 * wire_decode() - take a packet apart as far as its framing goes
 *
 * Checks the whole structure (lengths against the input, depth, nothing behind the end) before
 * anything is allocated, so that a header cannot announce memory that was not sent.
 *
 * Return: 0, SHMB_EPROTO (not a message), or SHMB_ENOMEM.
 */
int wire_decode(struct wire_decoder *decoder, const void *packet, size_t length,
		struct wire_incoming *ret_message);

/*
 * wire_decode_body() - read the map of a message into the struct of @type
 * @ret_body:  the struct; zeroed first
 * @ret_field: set to the offending field's name (or "") on SHMB_EINVAL
 *
 * Unknown fields are ignored; a known one that is missing, doubled, of the wrong type or out of its
 * limits is an error.
 *
 * Return: 0, SHMB_EINVAL, or SHMB_ENOMEM.
 */
int wire_decode_body(const struct wire_incoming *message, const struct wire_message_type *type,
		     void *ret_body, const char **ret_field);

extern const struct wire_message_type wire_message_types[];
enum wire_message_id {
#define WIRE_MESSAGE_ENUM(message) WIRE_MESSAGE_##message,
	WIRE_MESSAGES(WIRE_MESSAGE_ENUM)
#undef WIRE_MESSAGE_ENUM
		WIRE_MESSAGE_COUNT
};

/* ---- Small things both sides need ---- */

/* A string literal or C string as wire_bytes. */
struct wire_bytes wire_string(const char *string);

/*
 * wire_name_check() - is this a region name (or, with @prefix, the beginning of one)
 *
 * Return: true or false.
 */
bool wire_name_check(const char *name, size_t length, bool prefix);

/* wire_error_code() - the SHMB_E... of an error's wire name; SHMB_EUNKNOWN if we do not know it */
int wire_error_code(const char *name, size_t length);

/* wire_error_name(), wire_error_sentence() - static strings; "unknown" and its sentence for other
 * numbers */
const char *wire_error_name(int code);
const char *wire_error_sentence(int code);

#endif
