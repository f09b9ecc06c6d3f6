/* SPDX-License-Identifier: MIT */
/*
 * wire_describe --markdown    the table as the reference part of doc/protocol.md
 * wire_describe --dictionary  the table as a dictionary for libFuzzer
 *
 * Prints what schema.def, errors.h and the layout headers say, so that nobody has to write it down
 * again.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "layout/lock.h"
#include "layout/publish.h"
#include "layout/semaphore.h"
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
	else if (value == INT32_MAX)
		printf("2^31-1");
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
	PAGE_ROW(writing, "64", "odd: the exclusive holder of the lock may be writing");
	PAGE_ROW(consistency, "32", "0 consistent, 1 an exclusive holder died, 2 not recoverable");
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

/* ---- Locks and semaphores ---- */

#define LOCK_ROW(member, meaning) \
	printf("| %zu | `%s` | 32 | %s |\n", offsetof(struct layout_lock, member), #member, meaning)
#define SLOT_ROW(member, meaning)                                                               \
	printf("| %zu + %zu (s - 1) | `%s` | 32 | %s |\n",                                      \
	       offsetof(struct layout_lock, slots) + offsetof(struct layout_lock_slot, member), \
	       sizeof(struct layout_lock_slot), #member, meaning)
#define BIT_ROW(bits, name, meaning) printf("| %#x | %s | %s |\n", (unsigned)(bits), name, meaning)

static void print_lock(void)
{
	printf("\n### Lock segment\n\n| offset | word | bits | meaning |\n|---|---|---|---|\n");
	LOCK_ROW(magic, "0x6c6d6873, the bytes \"shml\" in little-endian");
	LOCK_ROW(version, "version of this layout: 1");
	LOCK_ROW(n_slots, "for people; go by `slots` of the answer");
	LOCK_ROW(word, "who has claimed the lock, see below; a futex");
	LOCK_ROW(next, "the slot whose turn it is, 0: nobody's; a futex");
	LOCK_ROW(published, "slots that may be in use: 1 to this");
	LOCK_ROW(tickets, "drawn so far, in steps of 2");
	SLOT_ROW(readers, "shared locks held, and attempts at one; a futex");
	SLOT_ROW(held, "not 0: the claim of this slot is complete");
	SLOT_ROW(waiting_shared, "threads that wait, for people");
	SLOT_ROW(waiting_exclusive, "threads that wait, for people");
	SLOT_ROW(ticket, "0, or since when it asks for its turn");
	SLOT_ROW(solo, "as `readers`, of one thread alone; a futex");
	printf("\ns is the slot, from 1 to `slots`, which is at most %d. All other bytes are "
	       "reserved. The bits of "
	       "`word`:\n\n| bits | name | meaning |\n|---|---|---|\n",
	       LAYOUT_LOCK_SLOTS_MAX);
	BIT_ROW(LAYOUT_LOCK_SLOT, "SLOT", "the slot that has claimed it; 0: nobody");
	BIT_ROW(LAYOUT_LOCK_LOST, "LOST", "not recoverable");
	BIT_ROW(LAYOUT_LOCK_DIED, "DIED", "an exclusive holder died");
	BIT_ROW(LAYOUT_LOCK_DRAINING, "DRAINING", "the claimant sleeps on some `readers`");
	BIT_ROW(LAYOUT_LOCK_SLEEPERS, "SLEEPERS", "somebody sleeps on `word`");
	_Static_assert(LAYOUT_LOCK_MAGIC == 0x6c6d6873 && LAYOUT_LOCK_VERSION == 1,
		       "the sentences above say so");
}

static void print_arena(void)
{
	printf("\n### Arena\n\nUnits are %d bytes; an arena has %d. u is the semaphore's "
	       "`unit`, s the session's "
	       "`slot`.\n\n| unit | offset in it | word | bits | meaning "
	       "|\n|---|---|---|---|---|\n",
	       LAYOUT_ARENA_UNIT, LAYOUT_ARENA_UNITS);
	printf("| 0 | %zu | `magic` | 32 | 0x616d6873, the bytes \"shma\" in little-endian |\n",
	       offsetof(struct layout_arena, magic));
	printf("| 0 | %zu | `version` | 32 | version of this layout: 1 |\n",
	       offsetof(struct layout_arena, version));
	printf("| s | 4 i | `waits[i]` | 32 | a semaphore on which a thread sleeps or clears "
	       "SLEEPERS, by its unit, 0: none; i from 0 to %d |\n",
	       LAYOUT_ARENA_WAITS - 1);
	printf("| u | %zu | `value` | 32 | counting: twice the count, plus SLEEPERS; a futex |\n",
	       offsetof(struct layout_counting, value));
	printf("| u | %zu | `asleep` | 32 | counting: threads that sleep, or are about to |\n",
	       offsetof(struct layout_counting, asleep));
	printf("| u | %zu | `gate` | 32 | owned: counts returns in steps of 2, plus SLEEPERS; a "
	       "futex |\n",
	       offsetof(struct layout_owned, gate));
	printf("| u | %zu | `hint` | 32 | owned: the index of a permit that may be free |\n",
	       offsetof(struct layout_owned, hint));
	printf("| u | %zu | `asleep` | 32 | owned: threads that sleep, or are about to |\n",
	       offsetof(struct layout_owned, asleep));
	printf("| u | %zu + 4 i | `permits[i]` | 32 | owned: the holder's slot in the lower %d "
	       "bits, 0: free; above "
	       "them a serial number |\n",
	       offsetof(struct layout_owned, permits), LAYOUT_HOLDER_BITS);
	printf("\nSLEEPERS is bit 0. Slots are numbered from 1 to %d, semaphores begin at unit "
	       "%d. All other bytes "
	       "are reserved.\n",
	       LAYOUT_ARENA_SLOTS, LAYOUT_ARENA_FIRST);
	_Static_assert(LAYOUT_ARENA_MAGIC == 0x616d6873 && LAYOUT_ARENA_VERSION == 1 &&
			       LAYOUT_SLEEPERS == 1 && sizeof(struct layout_arena_slot) == 64,
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
						   .features = WIRE_FEATURE_PUBLISH |
							       WIRE_FEATURE_LOCKS |
							       WIRE_FEATURE_RESUME,
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
	print_lock();
	print_arena();
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
