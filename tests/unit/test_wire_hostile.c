/* SPDX-License-Identifier: MIT */
/*
 * The decoder against a peer that wants to break it: every limit of every field violated, one at a
 * time, all made from the table; then packets that are no messages, or announce more than they
 * bring. Messages are packed here by hand, since our encoder cannot make wrong ones.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/check.h"
#include "wire/wire.h"
#include "wire_table.h"

static struct wire_decoder decoder;
static msgpack_sbuffer out;
static msgpack_packer packer;

static int set_up(void **state)
{
	msgpack_sbuffer_init(&out);
	msgpack_packer_init(&packer, &out, msgpack_sbuffer_write);
	return wire_decoder_init(&decoder);
}

static int tear_down(void **state)
{
	wire_decoder_deinit(&decoder);
	msgpack_sbuffer_destroy(&out);
	return 0;
}

/* ---- One wrong field ---- */

enum fault {
	FAULT_NONE,
	FAULT_MISSING,
	FAULT_DOUBLED,
	FAULT_BELOW,
	FAULT_ABOVE,
	FAULT_ELEMENT, /* LIST: the last element lacks its first field */
	FAULT_TYPES,   /* and on: a value of another type */
};

/* One value of each MessagePack type, by number; those that would be right for a field are skipped.
 */
enum {
	VALUE_NIL,
	VALUE_BOOL,
	VALUE_UINT,
	VALUE_NEGATIVE,
	VALUE_FLOAT,
	VALUE_STR,
	VALUE_BIN,
	VALUE_ARRAY,
	VALUE_MAP,
	VALUE_EXT,
	VALUE_COUNT
};

static void pack_some_value(int value)
{
	switch (value) {
	case VALUE_NIL:
		msgpack_pack_nil(&packer);
		break;
	case VALUE_BOOL:
		msgpack_pack_true(&packer);
		break;
	case VALUE_UINT:
		msgpack_pack_uint64(&packer, 1);
		break;
	case VALUE_NEGATIVE:
		msgpack_pack_int64(&packer, INT64_MIN);
		break;
	case VALUE_FLOAT:
		msgpack_pack_double(&packer, 1.0);
		break;
	case VALUE_STR:
		msgpack_pack_str(&packer, 16);
		msgpack_pack_str_body(&packer, "0123456789abcdef", 16);
		break;
	case VALUE_BIN:
		msgpack_pack_bin(&packer, 16);
		msgpack_pack_bin_body(&packer, "0123456789abcdef", 16);
		break;
	case VALUE_ARRAY:
		msgpack_pack_array(&packer, 0);
		break;
	case VALUE_MAP:
		msgpack_pack_map(&packer, 0);
		break;
	default:
		msgpack_pack_ext(&packer, 1, 5);
		msgpack_pack_ext_body(&packer, "x", 1);
		break;
	}
}

static int right_value(enum wire_type type)
{
	static const int values[] = {
		[WIRE_TYPE_UINT] = VALUE_UINT,  [WIRE_TYPE_BOOL] = VALUE_BOOL,
		[WIRE_TYPE_STR] = VALUE_STR,    [WIRE_TYPE_BIN] = VALUE_BIN,
		[WIRE_TYPE_LIST] = VALUE_ARRAY,
	};
	return values[type];
}

/* Does the fault make sense for this field? */
static bool applies(const struct wire_field *field, int fault)
{
	switch (fault) {
	case FAULT_BELOW:
		return field->type != WIRE_TYPE_BOOL && field->min > 0;
	case FAULT_ABOVE:
		return field->type != WIRE_TYPE_BOOL && field->max < UINT64_MAX;
	case FAULT_ELEMENT:
		return field->type == WIRE_TYPE_LIST && field->max > 0;
	default:
		return fault < FAULT_TYPES || fault - FAULT_TYPES != right_value(field->type);
	}
}

static void pack_map(const struct wire_message_type *type, size_t wrong, int fault);

static void pack_list(const struct wire_field *field, uint64_t n, bool last_is_wrong)
{
	msgpack_pack_array(&packer, (size_t)n);
	for (uint64_t i = 0; i < n; i++)
		pack_map(field->element, 0,
			 last_is_wrong && i == n - 1 ? FAULT_MISSING : FAULT_NONE);
}

static void pack_value(const struct wire_field *field, uint64_t value)
{
	static const char filler[2048];

	switch (field->type) {
	case WIRE_TYPE_UINT:
		msgpack_pack_uint64(&packer, value);
		break;
	case WIRE_TYPE_BOOL:
		msgpack_pack_true(&packer);
		break;
	case WIRE_TYPE_STR:
		assert_true(value <= sizeof(filler));
		msgpack_pack_str(&packer, (size_t)value);
		msgpack_pack_str_body(&packer, filler, (size_t)value);
		break;
	case WIRE_TYPE_BIN:
		assert_true(value <= sizeof(filler));
		msgpack_pack_bin(&packer, (size_t)value);
		msgpack_pack_bin_body(&packer, filler, (size_t)value);
		break;
	case WIRE_TYPE_LIST:
		pack_list(field, value, false);
		break;
	}
}

static void pack_key(const char *name)
{
	msgpack_pack_str(&packer, strlen(name));
	msgpack_pack_str_body(&packer, name, strlen(name));
}

static void pack_field(const struct wire_field *field, int fault)
{
	pack_key(field->name);
	if (fault >= FAULT_TYPES)
		pack_some_value(fault - FAULT_TYPES);
	else if (fault == FAULT_ELEMENT)
		pack_list(field, field->max, true);
	else if (fault == FAULT_BELOW)
		pack_value(field, field->min - 1);
	else if (fault == FAULT_ABOVE)
		pack_value(field, field->max + 1);
	else
		pack_value(field, field->min);
}

/* Every field at its lowest value, field number @wrong with its @fault. */
static void pack_map(const struct wire_message_type *type, size_t wrong, int fault)
{
	size_t n = type->n_fields;

	if (fault == FAULT_MISSING)
		n--;
	if (fault == FAULT_DOUBLED)
		n++;
	msgpack_pack_map(&packer, n);
	for (size_t i = 0; i < type->n_fields; i++) {
		int own = i == wrong ? fault : FAULT_NONE;
		if (own != FAULT_MISSING)
			pack_field(&type->fields[i], own);
		if (own == FAULT_DOUBLED)
			pack_field(&type->fields[i], FAULT_NONE);
	}
}

static void begin_response(void)
{
	msgpack_sbuffer_clear(&out);
	msgpack_pack_array(&packer, 4);
	msgpack_pack_int(&packer, 1);
	msgpack_pack_int(&packer, 7);
	msgpack_pack_nil(&packer);
}

static int decode_as(const struct wire_message_type *type, const char **ret_field)
{
	_Alignas(uint64_t) static char body[512];
	struct wire_incoming message;

	assert_true(type->size <= sizeof(body));
	assert_int_equal(wire_decode(&decoder, out.data, out.size, &message), 0);
	return wire_decode_body(&message, type, body, ret_field);
}

static void try_fault(const struct wire_message_type *type, size_t wrong, int fault)
{
	const struct wire_field *field = &type->fields[wrong];
	bool fine = fault == FAULT_NONE || (fault == FAULT_MISSING && !field->required);
	const char *named = NULL;
	int r;

	begin_response();
	pack_map(type, wrong, fault);
	r = decode_as(type, &named);
	if (r != (fine ? 0 : SHMB_EINVAL))
		fail_msg("%s.%s, fault %d: %d", type->name, field->name, fault, r);
	if (fault == FAULT_ELEMENT)
		assert_string_equal(named, field->element->fields[0].name);
	else
		assert_string_equal(named, fine ? "" : field->name);
}

static void every_limit_of_every_field_holds(void **state)
{
	size_t tried = 0;

	for (size_t m = 0; m < WIRE_MESSAGE_COUNT; m++) {
		const struct wire_message_type *type = &wire_message_types[m];
		for (size_t i = 0; i < type->n_fields; i++) {
			for (int fault = 0; fault < FAULT_TYPES + VALUE_COUNT; fault++) {
				if (!applies(&type->fields[i], fault))
					continue;
				try_fault(type, i, fault);
				tried++;
			}
		}
	}
	assert_true(tried > 1000); /* the table was walked */
}

static void every_limit_itself_is_allowed(void **state)
{
	for (size_t m = 0; m < WIRE_MESSAGE_COUNT; m++) {
		const struct wire_message_type *type = &wire_message_types[m];
		const char *field;

		begin_response();
		msgpack_pack_map(&packer, type->n_fields);
		for (size_t i = 0; i < type->n_fields; i++) {
			pack_key(type->fields[i].name);
			pack_value(&type->fields[i], type->fields[i].max);
		}
		assert_int_equal(decode_as(type, &field), 0);
	}
}

static void unknown_fields_are_ignored(void **state)
{
	for (size_t m = 0; m < WIRE_MESSAGE_COUNT; m++) {
		const struct wire_message_type *type = &wire_message_types[m];
		const char *field;

		begin_response();
		msgpack_pack_map(&packer, type->n_fields + 2 * VALUE_COUNT);
		for (int value = 0; value < VALUE_COUNT; value++) {
			pack_key("a field of a later version"); /* and doubled, too */
			pack_some_value(value);
			pack_some_value(value); /* keys that are no strings */
			pack_some_value(value);
		}
		for (size_t i = 0; i < type->n_fields; i++)
			pack_field(&type->fields[i], FAULT_NONE);
		assert_int_equal(decode_as(type, &field), 0);
	}
}

/* ---- Packets that are no messages ---- */

static int decode(const void *packet, size_t length)
{
	/* A copy of exactly this length, so that a sanitizer sees every byte too far. */
	void *copy = malloc(length ? length : 1);
	struct wire_incoming message;
	int r;

	assert_non_null(copy);
	memcpy(copy, packet, length);
	r = wire_decode(&decoder, copy, length, &message);
	free(copy);
	return r;
}

#define DECODE(literal) decode(literal, sizeof(literal) - 1)

static void framing_is_strict(void **state)
{
	assert_int_equal(DECODE("\x94\x00\x01\xa4ping\x80"), 0);
	assert_int_equal(DECODE("\x93\x02\xa4ping\x80"), 0);
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x80"), 0);
	assert_int_equal(DECODE("\x94\x01\x01\x80\xc0"), 0);
	assert_int_equal(DECODE("\x94\x00\x01\xa4nope\x80"), 0); /* unknown, to be answered */

	assert_int_equal(DECODE(""), SHMB_EPROTO);
	assert_int_equal(DECODE("\x80"), SHMB_EPROTO);                     /* a map */
	assert_int_equal(DECODE("\x90"), SHMB_EPROTO);                     /* [] */
	assert_int_equal(DECODE("\x94\x03\x01\xa4ping\x80"), SHMB_EPROTO); /* kind 3 */
	assert_int_equal(DECODE("\x94\xff\x01\xa4ping\x80"), SHMB_EPROTO); /* kind -1 */
	assert_int_equal(DECODE("\x93\x00\x01\xa4ping"), SHMB_EPROTO);     /* too short */
	assert_int_equal(DECODE("\x95\x00\x01\xa4ping\x80\x80"), SHMB_EPROTO);
	assert_int_equal(DECODE("\x94\x02\x01\xa4ping\x80"), SHMB_EPROTO);
	assert_int_equal(DECODE("\x94\x00\xff\xa4ping\x80"), SHMB_EPROTO); /* msgid -1 */
	assert_int_equal(DECODE("\x94\x00\xcf\0\0\0\1\0\0\0\0\xa4ping\x80"), SHMB_EPROTO);
	assert_int_equal(DECODE("\x94\x00\x01\xc4\x04ping\x80"), SHMB_EPROTO); /* bin name */
	assert_int_equal(DECODE("\x94\x00\x01\xa4ping\xc0"), SHMB_EPROTO);     /* nil params */
	assert_int_equal(DECODE("\x94\x00\x01\xa4ping\x90"), SHMB_EPROTO);     /* array params */
	assert_int_equal(DECODE("\x94\x01\x01\xc0\xc0"), SHMB_EPROTO);         /* neither */
	assert_int_equal(DECODE("\x94\x01\x01\x80\x80"), SHMB_EPROTO);         /* both */
	assert_int_equal(DECODE("\x94\x01\x01\xa1x\xc0"), SHMB_EPROTO);        /* error a string */
}

static void the_count_of_descriptors_is_checked(void **state)
{
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x81\xa3"
				"fds\x00"),
			 0);
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x81\xa3"
				"fds\x04"),
			 0);
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x81\xa3"
				"fds\x05"),
			 SHMB_EPROTO);
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x81\xa3"
				"fds\xff"),
			 SHMB_EPROTO);
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x81\xa3"
				"fds\xc0"),
			 SHMB_EPROTO);
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x82\xa3"
				"fds\x01\xa3"
				"fds\x01"),
			 SHMB_EPROTO);
	/* As bytes it is not the field. */
	assert_int_equal(DECODE("\x94\x01\x01\xc0\x81\xc4\x03"
				"fds\x09"),
			 0);
}

static void bombs_are_refused_before_anything_is_allocated(void **state)
{
	assert_int_equal(DECODE("\xdd\xff\xff\xff\xff"), SHMB_EPROTO);     /* array32 */
	assert_int_equal(DECODE("\xdf\xff\xff\xff\xff"), SHMB_EPROTO);     /* map32 */
	assert_int_equal(DECODE("\xdf\x80\x00\x00\x00"), SHMB_EPROTO);     /* twice 2^31 */
	assert_int_equal(DECODE("\xdb\xff\xff\xff\xff"), SHMB_EPROTO);     /* str32 */
	assert_int_equal(DECODE("\xc6\xff\xff\xff\xff"), SHMB_EPROTO);     /* bin32 */
	assert_int_equal(DECODE("\xc9\xff\xff\xff\xff\x01"), SHMB_EPROTO); /* ext32 */
	assert_int_equal(DECODE("\x94\x00\x01\xa4ping\x81\xa1x\xdd\xff\xff\xff\xff"), SHMB_EPROTO);
	assert_int_equal(DECODE("\x94\x00\x01\xa4ping\x81\xa1x\xdd\x00\x00\x00\x02\x01"),
			 SHMB_EPROTO);
	assert_int_equal(DECODE("\xc1"), SHMB_EPROTO); /* never used */
}

/* [2, "ping", {"x": [[...[]...]]}]: @depth containers in all */
static size_t nested(uint8_t *packet, size_t depth)
{
	static const char head[] = "\x93\x02\xa4ping\x81\xa1x";
	size_t at = sizeof(head) - 1;

	memcpy(packet, head, at);
	for (size_t i = 2; i + 1 < depth; i++)
		packet[at++] = 0x91;
	packet[at++] = 0x90;
	return at;
}

static void nesting_is_bounded(void **state)
{
	static uint8_t packet[WIRE_PACKET_MAX];

	assert_int_equal(decode(packet, nested(packet, WIRE_DEPTH_MAX)), 0);
	assert_int_equal(decode(packet, nested(packet, WIRE_DEPTH_MAX + 1)), SHMB_EPROTO);
	assert_int_equal(decode(packet, nested(packet, sizeof(packet) - 64)), SHMB_EPROTO);
}

static void a_packet_has_a_greatest_length(void **state)
{
	static uint8_t packet[WIRE_PACKET_MAX + 1] = "\x93\x02\xa4ping\x81\xa1x\xc5";
	size_t head = 13; /* with the two bytes of the length */

	packet[11] = (WIRE_PACKET_MAX - 13) >> 8;
	packet[12] = (WIRE_PACKET_MAX - 13) & 0xff;
	assert_int_equal(decode(packet, WIRE_PACKET_MAX), 0);
	packet[11] = (uint8_t)((sizeof(packet) - head) >> 8);
	packet[12] = (uint8_t)((sizeof(packet) - head) & 0xff);
	assert_true(wire_check(packet, sizeof(packet)));
	assert_int_equal(decode(packet, sizeof(packet)), SHMB_EPROTO);
}

static void no_part_of_a_message_is_one(void **state)
{
	static struct wire_buffer buffer;
	static uint8_t longer[WIRE_PACKET_MAX + 1];

	for (size_t id = 0; id < WIRE_METHOD_COUNT; id++) {
		struct table_memory memory;
		void *body = table_make(wire_methods[id].params, true, true, &memory);

		assert_int_equal(wire_encode_request(&buffer, 1, (enum wire_method_id)id, body, 0),
				 0);
		table_free(body, &memory);
		for (size_t length = 0; length < buffer.length; length++)
			assert_int_equal(decode(buffer.data, length), SHMB_EPROTO);
		assert_int_equal(decode(buffer.data, buffer.length), 0);

		memcpy(longer, buffer.data, buffer.length);
		for (unsigned byte = 0; byte < 256; byte++) {
			longer[buffer.length] = (uint8_t)byte;
			assert_int_equal(decode(longer, buffer.length + 1), SHMB_EPROTO);
			assert_false(wire_check(longer, buffer.length + 1));
		}
	}
}

/* The scan and msgpack-c agree on what every first byte means. */
static void the_scan_knows_every_type(void **state)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		uint8_t packet[64] = { (uint8_t)byte };
		size_t by_scan = 0, by_msgpack = 0;

		/* With zeros behind it, each type is complete at one length. */
		for (size_t length = 1; length < sizeof(packet) && !by_scan; length++) {
			if (wire_check(packet, length))
				by_scan = length;
		}
		for (size_t length = 1; length < sizeof(packet) && !by_msgpack; length++) {
			msgpack_object object;
			size_t offset = 0;

			msgpack_zone_clear(&decoder.zone);
			if (msgpack_unpack((const char *)packet, length, &offset, &decoder.zone,
					   &object) == MSGPACK_UNPACK_SUCCESS)
				by_msgpack = length;
		}
		if (by_scan != by_msgpack)
			fail_msg("0x%02x: %zu, msgpack-c %zu", byte, by_scan, by_msgpack);
		assert_true(by_scan > 0 || byte == 0xc1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_limit_of_every_field_holds),
		cmocka_unit_test(every_limit_itself_is_allowed),
		cmocka_unit_test(unknown_fields_are_ignored),
		cmocka_unit_test(framing_is_strict),
		cmocka_unit_test(the_count_of_descriptors_is_checked),
		cmocka_unit_test(bombs_are_refused_before_anything_is_allocated),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(a_packet_has_a_greatest_length),
		cmocka_unit_test(no_part_of_a_message_is_one),
		cmocka_unit_test(the_scan_knows_every_type),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
