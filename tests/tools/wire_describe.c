/* SPDX-License-Identifier: MIT */
/*
 * wire_describe --markdown    the table as the reference part of doc/protocol.md
 * wire_describe --dictionary  the table as a dictionary for libFuzzer
 *
 * Prints what schema.def, errors.h and publish.h say, so that nobody has to write it down again.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "layout/publish.h"
#include "wire/wire.h"

/* ---- Markdown ---- */

static const char *type_name(enum wire_type type)
{
	static const char *const names[] = {
		[WIRE_TYPE_UINT] = "integer", [WIRE_TYPE_BOOL] = "boolean",
		[WIRE_TYPE_STR] = "string",   [WIRE_TYPE_BIN] = "bytes",
		[WIRE_TYPE_LIST] = "array",
	};
	return names[type];
}

/* Limits near a power of two are easier to read as one; modes are octal. */
static void print_number(const struct wire_field *field, uint64_t value)
{
	if (value == UINT64_MAX)
		printf("2^64-1");
	else if (value == INT64_MAX)
		printf("2^63-1");
	else if (value == UINT32_MAX)
		printf("2^32-1");
	else if (value == UINT32_MAX - 1)
		printf("2^32-2");
	else if (strcmp(field->name, "mode") == 0)
		printf("%#" PRIo64, value);
	else
		printf("%" PRIu64, value);
}

static void print_limits(const struct wire_field *field)
{
	if (field->type == WIRE_TYPE_BOOL)
		return;
	print_number(field, field->min);
	if (field->max != field->min) {
		printf(" to ");
		print_number(field, field->max);
	}
	if (field->type == WIRE_TYPE_STR || field->type == WIRE_TYPE_BIN)
		printf(" bytes");
	if (field->type == WIRE_TYPE_LIST)
		printf(" maps");
}

static void print_fields(const struct wire_message_type *type)
{
	printf("| field | type | | limits | meaning |\n|---|---|---|---|---|\n");
	for (size_t i = 0; i < type->n_fields; i++) {
		const struct wire_field *field = &type->fields[i];

		printf("| `%s` | %s", field->name, type_name(field->type));
		if (field->element)
			printf(" of [%s](#%s)", field->element->name, field->element->name);
		printf(" | %s | ", field->required ? "required" : "optional");
		print_limits(field);
		printf(" | %s |\n", field->doc);
	}
	printf("\n");
}

static void print_methods(void)
{
	printf("### Methods\n\n| method | direction | params | result | descriptors | meaning "
	       "|\n|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < WIRE_METHOD_COUNT; i++) {
		const struct wire_method *method = &wire_methods[i];

		printf("| `%s` | %s | [%s](#%s) | ", method->name,
		       method->direction == WIRE_CALL ? "client to broker" : "broker to client",
		       method->params->name, method->params->name);
		if (method->direction == WIRE_CALL)
			printf("[%s](#%s)", method->result->name, method->result->name);
		printf(" | %u in, %u out | %s |\n", method->fds_in, method->fds_out, method->doc);
	}
	printf("\n");
}

static void print_messages(void)
{
	printf("### Maps\n\n");
	for (size_t i = 0; i < WIRE_MESSAGE_COUNT; i++) {
		const struct wire_message_type *type = &wire_message_types[i];

		printf("#### %s\n\n", type->name);
		if (type->n_fields > 0)
			print_fields(type);
		else
			printf("No fields.\n\n");
	}
}

static void print_errors(void)
{
	static const char *const names[] = {
#define ERROR_WIRE_NAME(identifier, number, name, sentence) name,
		SHMB_ERROR_MAP(ERROR_WIRE_NAME)
	};

	printf("### Errors\n\n| code | meaning |\n|---|---|\n");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int code = wire_error_code(names[i], strlen(names[i]));
		printf("| `%s` | %s |\n", names[i], wire_error_sentence(code));
	}
	printf("\n");
}

static void print_limits_of_all(void)
{
	printf("### Numbers\n\n| what | value |\n|---|---|\n");
	printf("| protocol version | %d |\n", WIRE_VERSION);
	printf("| longest packet | %d bytes |\n", WIRE_PACKET_MAX);
	printf("| most descriptors with a packet | %d |\n", WIRE_FDS_MAX);
	printf("| deepest nesting of arrays and maps, the message itself included | %d |\n\n",
	       WIRE_DEPTH_MAX);
}

#define PAGE_ROW(member, type, meaning)                                                        \
	printf("| %zu | `%s` | %s | %s |\n", offsetof(struct layout_publish, member), #member, \
	       type, meaning)
#define RANGE_ROW(member, meaning)                                                              \
	printf("| %zu + %zu i | `ranges[i].%s` | 64 | %s |\n",                                  \
	       offsetof(struct layout_publish, ranges) + offsetof(struct layout_range, member), \
	       sizeof(struct layout_range), #member, meaning)

static void print_page(void)
{
	printf("### Publish page\n\n| offset | word | bits | meaning |\n|---|---|---|---|\n");
	PAGE_ROW(magic, "32", "0x626d6873, the bytes \"shmb\" in little-endian");
	PAGE_ROW(version, "32", "version of this layout: 1");
	PAGE_ROW(size, "64",
		 "bytes in use; written by the broker; a hint: clamp it to the capacity");
	PAGE_ROW(readers, "32", "not 0: read-only attachments exist, every publish must wake");
	PAGE_ROW(removed, "32", "not 0: the region has no name any more");
	PAGE_ROW(sequence, "64", "publishes so far; its low 32 bits are the futex");
	PAGE_ROW(sleepers, "32", "0, or the announcement of a writer that sleeps");
	PAGE_ROW(armed, "32", "not 0: the broker wants to be told of the next publish");
	PAGE_ROW(ranged, "32", "not 0: some publish has given a range");
	RANGE_ROW(stamp, "the sequence it belongs to; bit 63: being written");
	RANGE_ROW(offset, "bytes");
	RANGE_ROW(length, "bytes; 0: that publish gave no range");
	printf("\nThere are %d ranges, i from 0 to %d. All other bytes are reserved: they are 0 "
	       "and stay "
	       "so.\n",
	       LAYOUT_PUBLISH_RANGES, LAYOUT_PUBLISH_RANGES - 1);
	_Static_assert(LAYOUT_PUBLISH_MAGIC == 0x626d6873 && LAYOUT_PUBLISH_VERSION == 1,
		       "the sentences above say so");
}

/* ---- Worked example ---- */

static struct wire_buffer buffer;

/* The message in msgpack-c's notation, with ": " for its "=>". */
static void print_notation(void)
{
	char text[1024];
	msgpack_unpacked unpacked;
	size_t offset = 0;

	msgpack_unpacked_init(&unpacked);
	if (msgpack_unpack_next(&unpacked, (const char *)buffer.data, buffer.length, &offset) ==
		    MSGPACK_UNPACK_SUCCESS &&
	    msgpack_object_print_buffer(text, sizeof(text), unpacked.data) > 0) {
		for (const char *at = text; *at; at++) {
			if (at[0] == '=' && at[1] == '>') {
				printf(": ");
				at++;
			} else {
				putchar(*at);
			}
		}
	}
	msgpack_unpacked_destroy(&unpacked);
}

static void print_packet(const char *title)
{
	printf("%s\n\n```\n", title);
	print_notation();
	printf("\n\n");
	for (size_t i = 0; i < buffer.length; i++) {
		bool last = i + 1 == buffer.length || i % 24 == 23;
		printf("%02x%c", buffer.data[i], last ? '\n' : ' ');
	}
	printf("```\n\n");
}

static void print_example(void)
{
	static const char token[] =
		"\x8e\x11\x40\xc7\x05\xd2\x9b\x3f\x6a\xe0\x77\x18\xb4\x1c\xf1\x23";
	const struct wire_hello_params hello = { .version_min = WIRE_VERSION,
						 .version_max = WIRE_VERSION };
	const struct wire_hello_result welcome = { .version = WIRE_VERSION,
						   .broker = wire_string("shmbroker"),
						   .session = { token, 16 },
						   .features = WIRE_FEATURE_PUBLISH,
						   .page_size = 4096,
						   .max_region = UINT64_C(1) << 40,
						   .max_requests = 64 };
	const struct wire_region_open_params open = { .name = wire_string("video/cam0"),
						      .access = 4 };
	const struct wire_region_attached attached = { .handle = 1,
						       .id = 7,
						       .size = 1000000,
						       .capacity = 1048576,
						       .access = 4,
						       .backing = 2 };
	const struct wire_error error = { .code = wire_string("not-found") };

	printf("### Worked example\n\n");
	if (wire_encode_request(&buffer, 1, WIRE_HELLO, &hello, 0) == 0)
		print_packet("The client's first packet:");
	if (wire_encode_result(&buffer, 1, WIRE_HELLO, &welcome, 0) == 0)
		print_packet("The broker's answer:");
	if (wire_encode_request(&buffer, 2, WIRE_REGION_OPEN, &open, 0) == 0)
		print_packet("The client opens a region for reading:");
	if (wire_encode_result(&buffer, 2, WIRE_REGION_OPEN, &attached, 2) == 0)
		print_packet("The answer, with two descriptors (data, publish page) beside it:");
	if (wire_encode_error(&buffer, 2, &error) == 0)
		print_packet("Or, if there is no such region:");
}

static void print_markdown(void)
{
	printf("\n");
	print_limits_of_all();
	print_methods();
	print_messages();
	print_errors();
	print_page();
	printf("\n");
	print_example();
}

/* ---- Dictionary ---- */

static void print_entry(const void *bytes, size_t length)
{
	const unsigned char *byte = bytes;

	printf("\"");
	for (size_t i = 0; i < length; i++)
		printf("\\x%02x", byte[i]);
	printf("\"\n");
}

/* A string as MessagePack has it, so that the fuzzer need not find the length by chance. */
static void print_string(const char *string)
{
	uint8_t bytes[64];
	size_t length = strlen(string);

	if (length >= 32) {
		print_entry(string, length);
		return;
	}
	bytes[0] = (uint8_t)(0xa0 | length);
	memcpy(bytes + 1, string, length);
	print_entry(bytes, length + 1);
}

static void print_integer(uint64_t value)
{
	uint8_t bytes[9] = { 0xcf };

	for (unsigned i = 0; i < 8; i++)
		bytes[1 + i] = (uint8_t)(value >> (56 - 8 * i));
	print_entry(bytes, sizeof(bytes));
	/* The same in 32 bits. */
	bytes[4] = 0xce;
	if (value <= UINT32_MAX)
		print_entry(bytes + 4, 5);
}

static void print_dictionary(void)
{
	static const char *const frames[] = { "\x94\x01", "\x93\x02", "\xdd", "\xdf",
					      "\xc0",     "\xc2",     "\xc3" };

	print_entry("\x94\x00", 2);
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
		print_entry(frames[i], strlen(frames[i]));
	print_string("fds");
	for (size_t i = 0; i < WIRE_METHOD_COUNT; i++)
		print_string(wire_methods[i].name);
	for (size_t i = 0; i < WIRE_MESSAGE_COUNT; i++) {
		const struct wire_message_type *type = &wire_message_types[i];
		for (size_t j = 0; j < type->n_fields; j++) {
			print_string(type->fields[j].name);
			print_integer(type->fields[j].min);
			print_integer(type->fields[j].max);
		}
	}
#define ERROR_ENTRY(identifier, number, name, sentence) print_string(name);
	SHMB_ERROR_MAP(ERROR_ENTRY)
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--markdown") == 0) {
		print_markdown();
	} else if (argc == 2 && strcmp(argv[1], "--dictionary") == 0) {
		print_dictionary();
	} else {
		fprintf(stderr, "usage: wire_describe --markdown | --dictionary\n");
		return 2;
	}
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
