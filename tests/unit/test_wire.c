/* SPDX-License-Identifier: MIT */
/* Encoder and decoder, for every message of the table: what is written is read back the same. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "wire/wire.h"
#include "wire_table.h"

static struct wire_decoder decoder;
static struct wire_buffer buffer;

static int set_up(void **state)
{
	return wire_decoder_init(&decoder);
}

static int tear_down(void **state)
{
	wire_decoder_deinit(&decoder);
	return 0;
}

static bool seen_types[WIRE_MESSAGE_COUNT];

static void expect_body(const struct wire_message_type *type, const void *expected, unsigned n_fds,
			struct wire_incoming *ret_message)
{
	_Alignas(uint64_t) char body[512];
	const char *field = NULL;

	assert_true(type->size <= sizeof(body));
	assert_int_equal(wire_decode(&decoder, buffer.data, buffer.length, ret_message), 0);
	assert_int_equal(ret_message->n_fds, n_fds);
	assert_int_equal(wire_decode_body(ret_message, type, body, &field), 0);
	assert_string_equal(field, "");
	assert_true(table_equal(type, body, expected));
	seen_types[type - wire_message_types] = true;
	for (size_t i = 0; i < type->n_fields; i++) {
		if (type->fields[i].type == WIRE_TYPE_LIST)
			seen_types[type->fields[i].element - wire_message_types] = true;
	}
}

static void round_trip(enum wire_method_id id, bool highest, bool optional)
{
	const struct wire_method *method = &wire_methods[id];
	uint32_t msgid = highest ? UINT32_MAX : 0;
	struct wire_incoming message;
	struct table_memory memory;
	void *body = table_make(method->params, highest, optional, &memory);

	assert_int_equal(wire_encode_request(&buffer, msgid, id, body, method->fds_in), 0);
	expect_body(method->params, body, method->fds_in, &message);
	assert_int_equal(message.kind, WIRE_REQUEST);
	assert_int_equal(message.msgid, msgid);
	assert_ptr_equal(message.method, method);
	assert_int_equal(message.method_id, id);

	assert_int_equal(wire_encode_notification(&buffer, id, body), 0);
	expect_body(method->params, body, 0, &message);
	assert_int_equal(message.kind, WIRE_NOTIFICATION);
	assert_ptr_equal(message.method, method);
	table_free(body, &memory);

	body = table_make(method->result, highest, optional, &memory);
	assert_int_equal(wire_encode_result(&buffer, msgid, id, body, method->fds_out), 0);
	expect_body(method->result, body, method->fds_out, &message);
	assert_int_equal(message.kind, WIRE_RESPONSE);
	assert_int_equal(message.msgid, msgid);
	assert_false(message.failed);
	table_free(body, &memory);
}

static void every_message_comes_back_as_it_went(void **state)
{
	for (unsigned id = 0; id < WIRE_METHOD_COUNT; id++) {
		for (unsigned i = 0; i < 4; i++)
			round_trip((enum wire_method_id)id, i & 1, i & 2);
	}
	for (size_t i = 0; i < WIRE_MESSAGE_COUNT; i++) {
		if (!seen_types[i])
			fail_msg("no method carries message \"%s\"", wire_message_types[i].name);
	}
}

static void an_error_comes_back_as_it_went(void **state)
{
	const struct wire_message_type *type = &wire_message_types[WIRE_MESSAGE_error];

	for (unsigned i = 0; i < 4; i++) {
		struct wire_incoming message;
		struct table_memory memory;
		void *body = table_make(type, i & 1, i & 2, &memory);

		assert_int_equal(wire_encode_error(&buffer, 9, body), 0);
		expect_body(type, body, 0, &message);
		assert_int_equal(message.kind, WIRE_RESPONSE);
		assert_true(message.failed);
		assert_int_equal(message.msgid, 9);
		table_free(body, &memory);
	}
}

static void descriptors_are_counted_in_the_map(void **state)
{
	struct wire_empty empty = { 0 };

	for (unsigned n = 0; n <= WIRE_FDS_MAX; n++) {
		struct wire_incoming message;
		assert_int_equal(wire_encode_result(&buffer, 1, WIRE_PING, &empty, n), 0);
		assert_int_equal(memmem(buffer.data, buffer.length,
					"\xa3"
					"fds",
					4) != NULL,
				 n > 0);
		assert_int_equal(wire_decode(&decoder, buffer.data, buffer.length, &message), 0);
		assert_int_equal(message.n_fds, n);
	}
	assert_int_equal(wire_encode_result(&buffer, 1, WIRE_PING, &empty, WIRE_FDS_MAX + 1), 0);
	struct wire_incoming message;
	assert_int_equal(wire_decode(&decoder, buffer.data, buffer.length, &message), SHMB_EPROTO);
}

static void what_does_not_fit_is_refused(void **state)
{
	static char big[WIRE_PACKET_MAX];
	struct wire_remove_params params = { .name = { big, sizeof(big) } };
	struct wire_incoming message;

	memset(big, 'x', sizeof(big));
	assert_int_equal(wire_encode_request(&buffer, 1, WIRE_REGION_REMOVE, &params, 0),
			 SHMB_EFBIG);
	assert_int_equal(buffer.length, 0);

	/* [0, 1, "region.remove", {"name": str16}] spends 25 bytes on everything but the name. */
	params.name.length = WIRE_PACKET_MAX - 26;
	assert_int_equal(wire_encode_request(&buffer, 1, WIRE_REGION_REMOVE, &params, 0), 0);
	assert_int_equal(buffer.length, WIRE_PACKET_MAX);
	assert_int_equal(wire_decode(&decoder, buffer.data, buffer.length, &message), 0);
	params.name.length++;
	assert_int_equal(wire_encode_request(&buffer, 1, WIRE_REGION_REMOVE, &params, 0),
			 SHMB_EFBIG);
}

/*
 * A list whose page does not fit would end in an error for those who have long names. Nothing is
 * longer than this: every name and command, every number at its limit. The map's "fds" comes on
 * top.
 */
static void a_full_page_of_any_list_fits_into_one_packet(void **state)
{
	size_t lists = 0;

	for (size_t id = 0; id < WIRE_METHOD_COUNT; id++) {
		const struct wire_message_type *type = wire_methods[id].result;
		struct table_memory memory;
		void *page;

		if (type->n_fields == 0 || type->fields[0].type != WIRE_TYPE_LIST)
			continue;
		page = table_make(type, true, true, &memory);
		if (wire_encode_result(&buffer, UINT32_MAX, (enum wire_method_id)id, page,
				       WIRE_FDS_MAX) != 0)
			fail_msg("%s does not fit", wire_methods[id].name);
		table_free(page, &memory);
		lists++;
	}
	assert_int_equal(lists, 4); /* regions, locks, semaphores, holders */
}

static void absent_optional_fields_are_zero(void **state)
{
	struct wire_region_list_params params = { .has = 0, .limit = 99 }, got;
	struct wire_incoming message;
	const char *field;

	memset(&got, 0xff, sizeof(got));
	assert_int_equal(wire_encode_request(&buffer, 1, WIRE_REGION_LIST, &params, 0), 0);
	assert_int_equal(wire_decode(&decoder, buffer.data, buffer.length, &message), 0);
	assert_int_equal(wire_decode_body(&message,
					  &wire_message_types[WIRE_MESSAGE_region_list_params],
					  &got, &field),
			 0);
	assert_int_equal(got.has, 0);
	assert_int_equal(got.limit, 0);
	assert_null(got.prefix.data);

	params.has = WIRE_HAS(region_list_params, limit);
	assert_int_equal(wire_encode_request(&buffer, 1, WIRE_REGION_LIST, &params, 0), 0);
	assert_int_equal(wire_decode(&decoder, buffer.data, buffer.length, &message), 0);
	/* 99 is above the limit, and the field is named. */
	assert_int_equal(wire_decode_body(&message,
					  &wire_message_types[WIRE_MESSAGE_region_list_params],
					  &got, &field),
			 SHMB_EINVAL);
	assert_string_equal(field, "limit");
}

static void methods_are_found_by_their_whole_name(void **state)
{
	for (size_t i = 0; i < WIRE_METHOD_COUNT; i++) {
		const char *name = wire_methods[i].name;
		assert_ptr_equal(wire_method_find(name, strlen(name)), &wire_methods[i]);
		assert_ptr_not_equal(wire_method_find(name, strlen(name) - 1), &wire_methods[i]);
	}
	assert_null(wire_method_find("region.opens", 12));
	assert_null(wire_method_find("", 0));
	assert_null(wire_method_find("ping\0", 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_comes_back_as_it_went),
		cmocka_unit_test(an_error_comes_back_as_it_went),
		cmocka_unit_test(descriptors_are_counted_in_the_map),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(a_full_page_of_any_list_fits_into_one_packet),
		cmocka_unit_test(absent_optional_fields_are_zero),
		cmocka_unit_test(methods_are_found_by_their_whole_name),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
