/* SPDX-License-Identifier: MIT */
/*
 * What a handle does with memory: reading, writing, views, sizes, and what closing means.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "harness.h"

enum { MIB = 1 << 20 };

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

static struct shmb_region *create_with_capacity(struct shmb_client *client, uint64_t size,
						uint64_t capacity)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.capacity = capacity;
	options.flags = SHMB_KEEP_FD;
	return create(client, "memory", size, &options);
}

CASE(F20_any_range_and_nothing_beyond, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 10000, NULL);
	char out[10000], in[10000];
	struct shmb_error error;
	char sentence[256];
	size_t i;

	for (i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 7);
	CHECK_OK(shmb_region_write(region, 0, out, sizeof(out), 0));
	CHECK_OK(shmb_region_read(region, 0, in, sizeof(in), 0));
	CHECK(memcmp(in, out, sizeof(in)) == 0);
	CHECK_OK(shmb_region_read(region, 9999, in, 1, 0));
	CHECK_INT(in[0], out[9999]);
	CHECK_OK(shmb_region_read(region, 10000, in, 0, 0));
	CHECK_CODE(shmb_region_read(region, 10001, in, 0, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_read(region, 10000, in, 1, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_read(region, UINT64_MAX, in, 2, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_read(region, UINT64_MAX - 4, in, 8, 0), SHMB_EBOUNDS);

	memset(in, 0x55, sizeof(in));
	CHECK_CODE(shmb_region_write(region, 9990, in, 11, 0), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_read(region, 9990, in, 10, 0));
	CHECK(memcmp(in, out + 9990, 10) == 0); /* moved no byte */
	error = last(region);
	CHECK_CODE(error.code, SHMB_EBOUNDS);
	CHECK_INT(error.offset, 9990);
	CHECK_INT(error.length, 11);
	CHECK_INT(error.size, 10000);
	CHECK(shmb_error_format(&error, sentence, sizeof(sentence)) < (int)sizeof(sentence));
	CHECK(strstr(sentence, "9990") && strstr(sentence, "11") && strstr(sentence, "10000"));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Longer than what is copied at once. */
CASE(F20_long_ranges_are_copied_whole, PRIVATE)
{
	enum { LENGTH = 3 * MIB + 77, AT = 5 };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", LENGTH + 2 * AT, NULL);
	unsigned char *data = shmb_region_data(region), *bytes = malloc(LENGTH);
	size_t i;

	CHECK(bytes);
	for (i = 0; i < LENGTH; i++)
		bytes[i] = (unsigned char)(i % 251 ^ i >> 16);
	CHECK_OK(shmb_region_write(region, AT, bytes, LENGTH, 0));
	CHECK_INT(shmb_region_last_write(region), LENGTH);
	CHECK(memcmp(data + AT, bytes, LENGTH) == 0);
	for (i = 0; i < AT; i++)
		CHECK(data[i] == 0 && data[AT + LENGTH + i] == 0);
	memset(bytes, 0, LENGTH);
	CHECK_OK(shmb_region_read(region, AT, bytes, LENGTH, 0));
	CHECK(memcmp(data + AT, bytes, LENGTH) == 0);
	memset(bytes, 0, LENGTH);
	CHECK_CODE(shmb_region_write(region, 2 * AT + 1, bytes, LENGTH, 0), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_read(region, AT, bytes, LENGTH, SHMB_LOCKED));
	CHECK(memcmp(data + AT, bytes, LENGTH) == 0);
	CHECK_INT(bytes[MIB + 1], (MIB + 1) % 251 ^ MIB >> 16);
	free(bytes);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F20_with_the_lock_readers_share_it_and_writers_do_not, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 100, NULL);
	struct shmb_region *other = open_region(client, "r", SHMB_READ | SHMB_LOCK);
	char byte = 'x';

	CHECK_OK(shmb_client_set_timeout(client, 100));
	CHECK_OK(shmb_region_lock(other, SHMB_SHARED, -1));
	CHECK_CODE(shmb_region_write(region, 0, &byte, 1, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_read(region, 0, &byte, 1, SHMB_LOCKED));
	CHECK_INT(byte, 0); /* nothing was written */
	CHECK_OK(shmb_region_unlock(other));
	CHECK_OK(shmb_region_lock(other, SHMB_EXCLUSIVE, -1));
	CHECK_CODE(shmb_region_read(region, 0, &byte, 1, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_unlock(other));
	CHECK_OK(shmb_region_write(region, 0, &byte, 1, SHMB_LOCKED));
	CHECK_OK(shmb_region_lock(other, SHMB_EXCLUSIVE, 0)); /* it was given back */
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F21_numbers_and_strings_cross_processes, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 64, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	uint8_t u8;
	char text[64];

	CHECK_OK(shmb_region_write_u8(region, 63, 0xab));
	CHECK_OK(shmb_region_read_u8(reader, 63, &u8));
	CHECK_INT(u8, 0xab);
	CHECK_OK(shmb_region_write_u32_le(region, 1, 0x01020304));
	CHECK_OK(shmb_region_read_u8(reader, 1, &u8));
	CHECK_INT(u8, 4);
	CHECK_OK(shmb_region_read_u32(reader, 1, &u32));
	CHECK_OK(shmb_region_write_u64(region, 3, UINT64_C(0x1122334455667788)));
	CHECK_OK(shmb_region_read_u64(reader, 3, &u64));
	CHECK(u64 == UINT64_C(0x1122334455667788));
	CHECK_OK(shmb_region_write_u16_le(region, 11, 0xbeef));
	CHECK_OK(shmb_region_read_u16_le(reader, 11, &u16));
	CHECK_INT(u16, 0xbeef);
	CHECK_CODE(shmb_region_read_u16(reader, 63, &u16), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_read_u32(reader, 61, &u32), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_write_u64(region, 57, 1), SHMB_EBOUNDS);

	CHECK_OK(shmb_region_write_string(region, 20, "hello"));
	CHECK_INT(shmb_region_read_string(reader, 20, text, sizeof(text)), 5);
	CHECK_STRING(text, "hello");
	CHECK_INT(shmb_region_read_string(reader, 20, text, 5), SHMB_EOVERFLOW);
	CHECK_CODE(shmb_region_write_string(region, 60, "long"), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_write_string(region, 59, "long"));
	CHECK_INT(shmb_region_read_string(reader, 59, text, sizeof(text)), 4);
	CHECK_OK(shmb_region_write_u8(region, 63, 'X'));
	CHECK_INT(shmb_region_read_string(reader, 59, text, sizeof(text)), SHMB_EBOUNDS);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

#define CHECK_INTEGER(suffix, type, value, ...)                                           \
	do {                                                                              \
		static const unsigned char bytes_[] = { __VA_ARGS__ };                    \
		unsigned char found_[sizeof(bytes_)];                                     \
		type back_ = 0;                                                           \
		uint64_t at_;                                                             \
		for (at_ = 64 - sizeof(type); at_ > 50 - sizeof(type); at_--) {           \
			CHECK_OK(shmb_region_write_##suffix(region, at_, value));         \
			CHECK_OK(shmb_region_read(reader, at_, found_, sizeof(type), 0)); \
			CHECK(memcmp(found_, bytes_, sizeof(type)) == 0);                 \
			CHECK_OK(shmb_region_read_##suffix(reader, at_, &back_));         \
			CHECK(back_ == (value));                                          \
		}                                                                         \
		back_ = 5;                                                                \
		at_ = 65 - sizeof(type);                                                  \
		CHECK_CODE(shmb_region_write_##suffix(region, at_, value), SHMB_EBOUNDS); \
		CHECK_CODE(shmb_region_read_##suffix(reader, at_, &back_), SHMB_EBOUNDS); \
		CHECK_INT(last(reader).length, sizeof(type));                             \
		CHECK_INT(back_, 5); /* written on success only */                        \
		CHECK_CODE(shmb_region_write_##suffix(reader, 0, value), SHMB_EMODE);     \
	} while (0)

CASE(F21_every_width_in_either_byte_order_at_any_offset, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 64, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);

	CHECK_INTEGER(u8, uint8_t, 0xf1, 0xf1);
	CHECK_INTEGER(u16_le, uint16_t, 0xf1e2, 0xe2, 0xf1);
	CHECK_INTEGER(u32_le, uint32_t, 0xf1e2d3c4, 0xc4, 0xd3, 0xe2, 0xf1);
	CHECK_INTEGER(u64_le, uint64_t, UINT64_C(0xf1e2d3c4b5a69788), 0x88, 0x97, 0xa6, 0xb5, 0xc4,
		      0xd3, 0xe2, 0xf1);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	CHECK_INTEGER(u16, uint16_t, 0xf1e2, 0xe2, 0xf1);
	CHECK_INTEGER(u32, uint32_t, 0xf1e2d3c4, 0xc4, 0xd3, 0xe2, 0xf1);
	CHECK_INTEGER(u64, uint64_t, UINT64_C(0xf1e2d3c4b5a69788), 0x88, 0x97, 0xa6, 0xb5, 0xc4,
		      0xd3, 0xe2, 0xf1);
#else
	CHECK_INTEGER(u16, uint16_t, 0xf1e2, 0xf1, 0xe2);
	CHECK_INTEGER(u32, uint32_t, 0xf1e2d3c4, 0xf1, 0xe2, 0xd3, 0xc4);
	CHECK_INTEGER(u64, uint64_t, UINT64_C(0xf1e2d3c4b5a69788), 0xf1, 0xe2, 0xd3, 0xc4, 0xb5,
		      0xa6, 0x97, 0x88);
#endif
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F21_strings_of_every_length_up_to_the_end, PRIVATE)
{
	enum { SIZE = 70000 };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	char *data = shmb_region_data(region), *text = malloc(SIZE), *out = malloc(SIZE);
	size_t length, i;

	CHECK(text && out);
	for (length = 0; length < 600; length += length < 40 ? 1 : 37) {
		for (i = 0; i < length; i++)
			text[i] = (char)(i % 255 + 1);
		text[length] = '\0';
		memset(data, 'x', SIZE); /* the last one that fits, and the NUL is the last byte */
		CHECK_OK(shmb_region_write_string(region, SIZE - length - 1, text));
		CHECK_INT(shmb_region_last_write(region), length + 1);
		CHECK_CODE(shmb_region_write_string(region, SIZE - length, text), SHMB_EBOUNDS);
		CHECK_INT(data[SIZE - length - 2], 'x');
		memset(out, 0x55, SIZE);
		CHECK_INT(shmb_region_read_string(region, SIZE - length - 1, out, length + 1),
			  length);
		CHECK_STRING(out, text);
		CHECK_INT(out[length + 1], 0x55);

		/* What is refused moves no byte: too long, or without an end. */
		memset(out, 0x55, SIZE);
		CHECK_INT(shmb_region_read_string(region, SIZE - length - 1, out, length),
			  SHMB_EOVERFLOW);
		CHECK_INT(last(region).length, length + 1);
		CHECK_INT(last(region).limit, length);
		data[SIZE - 1] = 'x';
		CHECK_INT(shmb_region_read_string(region, SIZE - length - 1, out, SIZE),
			  SHMB_EBOUNDS);
		CHECK_CODE(last(region).code, SHMB_EBOUNDS);
		CHECK_INT(last(region).offset, SIZE - length - 1);
		CHECK_INT(last(region).length, length + 2); /* with the NUL that is missing */
		CHECK_INT(last(region).size, SIZE);
		for (i = 0; i < 700; i++)
			CHECK_INT(out[i], 0x55);
	}
	memset(data, 'y', SIZE - 1); /* as long as it can be */
	data[SIZE - 1] = '\0';
	CHECK_INT(shmb_region_read_string(region, 0, out, SIZE), SIZE - 1);
	CHECK_INT(shmb_region_read_string(region, SIZE, out, SIZE), SHMB_EBOUNDS);
	free(text);
	free(out);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void change_a_string(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	volatile char *data = shmb_region_data(region);
	unsigned i;

	say(0);
	for (i = 0; data[100] == '\0'; i++)
		memcpy((char *)data, i % 2 ? "long enough to be torn" : "short\0now and then a bit",
		       23);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Written meanwhile it is some string all the same, and its length is the one that is told. */
CASE(F21_a_string_that_changes_is_a_string, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct actor writer;
	int64_t length;
	char out[64];
	unsigned i;

	CHECK_OK(shmb_region_write_string(region, 0, "short"));
	writer = actor_start(broker, &SELF, change_a_string, NULL);
	actor_hear(&writer);
	for (i = 0; i < 200000; i++) {
		length = shmb_region_read_string(region, 0, out, sizeof(out));
		CHECK(length >= 0 && length < (int64_t)sizeof(out));
		CHECK_INT(strlen(out), length);
	}
	CHECK_OK(shmb_region_write_u8(region, 100, 1));
	actor_end(&writer);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void change_a_long_string(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	volatile char *data = shmb_region_data(region);
	unsigned i;

	say(0);
	for (i = 0; data[4000] == '\0'; i++)
		data[i % 2 ? 300 : 1000] = i % 4 < 2 ? '\0' : 'x';
	shmb_region_free(region);
	shmb_client_free(client);
}

/* One that is not copied word by word. */
CASE(F21_a_long_string_that_changes_is_a_string, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct actor writer;
	int64_t before = 0, length, end = harness_now_ms() + 3000;
	unsigned changes = 0;
	char out[3000];

	memset(shmb_region_data(region), 'x', 2000);
	writer = actor_start(broker, &SELF, change_a_long_string, NULL);
	actor_hear(&writer);
	while (changes < 5000 && harness_now_ms() < end) {
		length = shmb_region_read_string(region, 0, out, sizeof(out));
		CHECK(length == 300 || length == 1000 || length == 2000);
		CHECK_INT(strlen(out), length);
		changes += length != before;
		before = length;
	}
	CHECK(changes > 1);
	CHECK_OK(shmb_region_write_u8(region, 4000, 1));
	actor_end(&writer);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Only so much of it is looked at. */
CASE(F21_what_is_no_string_is_not_read_to_its_end, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4 * MIB, NULL);
	char out[10];

	memset(shmb_region_data(region), 'x', 4 * MIB);
	CHECK_INT(shmb_region_read_string(region, 5, out, sizeof(out)), SHMB_EOVERFLOW);
	CHECK_INT(last(region).offset, 5);
	CHECK_INT(last(region).limit, sizeof(out));
	CHECK(last(region).length > sizeof(out) && last(region).length < MIB);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F24_views_for_reading_and_for_writing, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 3 * 4096, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_view view = { .length = 7 }, second;

	CHECK_CODE(shmb_region_view(reader, 0, 8, 0, SHMB_READ | SHMB_WRITE, &view), SHMB_EMODE);
	CHECK_CODE(shmb_region_view(region, 0, 8, 0, SHMB_WRITE, &view), SHMB_EINVAL);
	CHECK_CODE(shmb_region_view(region, 0, 8, 0, 0, &view), SHMB_EINVAL);
	CHECK_CODE(shmb_region_view(region, 0, 0, 0, SHMB_READ, &view), SHMB_EINVAL);
	CHECK_CODE(shmb_region_view(region, 0, 8, 2 * shmb_page_size(), SHMB_READ, &view),
		   SHMB_EINVAL);
	CHECK_CODE(shmb_region_view(region, 3 * 4096, 1, 0, SHMB_READ, &view), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_view(region, UINT64_MAX, 2, 0, SHMB_READ, &view), SHMB_EBOUNDS);
	CHECK_INT(view.length, 7);

	CHECK_OK(shmb_region_view(region, 4096, 4096, 4096, SHMB_READ | SHMB_WRITE, &view));
	CHECK_OK(shmb_region_view(reader, 4100, 5, 4, SHMB_READ, &second));
	CHECK(view.data == (char *)shmb_region_data(region) + 4096 && view.length == 4096);
	CHECK(view.region == region && second.region == reader && second.length == 5);
	memcpy((char *)view.data + 4, "hello", 5);
	CHECK(memcmp(second.data, "hello", 5) == 0); /* the same memory, nothing was copied */
	CHECK_OK(shmb_view_release(&second));
	CHECK(!second.data);
	CHECK_OK(shmb_view_release(&second));
	CHECK_OK(shmb_view_release(&view));
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F24_views_are_checked_and_stay_while_the_region_shrinks, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, MIB, MIB);
	struct shmb_view view, none;
	size_t i;

	CHECK_OK(shmb_region_view(region, 4096, MIB - 4096, 4096, SHMB_READ | SHMB_WRITE, &view));
	CHECK_CODE(shmb_region_view(region, 4096, MIB, 0, SHMB_READ, &none), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_view(region, 100, 8, 8, SHMB_READ, &none), SHMB_EALIGN);
	CHECK_INT(last(region).alignment, 8);
	CHECK_CODE(shmb_region_view(region, 0, 8, 3, SHMB_READ, &none), SHMB_EINVAL);
	memset(view.data, 0x77, view.length);
	CHECK_OK(shmb_region_resize(region, 8192));
	for (i = 4096; i < view.length; i++)
		CHECK_INT(((unsigned char *)view.data)[i], 0);
	CHECK_INT(((unsigned char *)view.data)[0], 0x77);
	((unsigned char *)view.data)[MIB / 2] = 9; /* discarded by the growth, no fault */
	CHECK_OK(shmb_region_resize(region, MIB));
	CHECK_INT(((unsigned char *)view.data)[MIB / 2], 0);
	shmb_view_release(&view);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F30_flush_of_memory_succeeds_within_bounds, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 10000, NULL);

	CHECK_OK(shmb_region_flush(region, 0, 0, 0));
	CHECK_OK(shmb_region_flush(region, 5000, 5000, 0));
	CHECK_CODE(shmb_region_flush(region, 5000, 5001, 0), SHMB_EBOUNDS);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F33: resize while others look ---- */

/* Reads every page of the whole capacity again and again, as a careless program does. */
static void walk_the_mapping(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "memory", SHMB_READ);
	volatile const char *data = shmb_region_data(region);
	uint64_t capacity = shmb_region_capacity(region), i;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	unsigned round;
	char byte;

	say(1);
	for (round = 0; round < 50 || shmb_region_size(region) != 12345; round++) {
		for (i = 0; i < capacity; i += 4096)
			byte = data[i];
		CHECK_OK(shmb_client_ping(client));
	}
	(void)byte;
	CHECK(shmb_region_data(region) == data);
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.size, 12345);
	CHECK_CODE(shmb_region_read(region, 12345, &byte, 1, 0), SHMB_EBOUNDS);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F33_nobody_faults_while_the_size_changes, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, 8 * MIB, 8 * MIB);
	struct actor walkers[2];
	void *data = shmb_region_data(region);
	unsigned i;

	memset(data, 1, 8 * MIB);
	for (i = 0; i < 2; i++)
		walkers[i] = actor_start(broker, &SELF, walk_the_mapping, NULL);
	for (i = 0; i < 2; i++)
		actor_hear(&walkers[i]);
	for (i = 0; i < 200; i++)
		CHECK_OK(shmb_region_resize(region, i % 2 ? 8 * MIB : 1 + i * 1000));
	CHECK_OK(shmb_region_resize(region, 12345));
	CHECK(shmb_region_data(region) == data);
	for (i = 0; i < 2; i++)
		actor_end(&walkers[i]);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void check_resize(struct broker *broker, enum shmb_backing backing)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct shmb_error error;
	unsigned char *data, byte;
	struct stat st;
	uint64_t i;

	options.capacity = 16 * MIB;
	options.flags = SHMB_KEEP_FD;
	options.backing = backing;
	region = create(client, "memory", 16 * MIB, &options);
	data = shmb_region_data(region);
	memset(data, 0xee, 16 * MIB);
	CHECK_OK(fstat(shmb_region_fd(region), &st));
	CHECK(st.st_blocks * 512 >= 16 * MIB);

	CHECK_OK(shmb_region_resize(region, MIB + 100));
	CHECK_INT(shmb_region_size(region), MIB + 100);
	CHECK_OK(fstat(shmb_region_fd(region), &st));
	CHECK(st.st_blocks * 512 <= MIB + 2 * 4096); /* given back */
	CHECK_CODE(shmb_region_read(region, MIB + 100, &byte, 1, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_write(region, MIB + 99, "ab", 2, 0), SHMB_EBOUNDS);

	data[2 * MIB] = 5; /* a late writer through a stale pointer */
	CHECK_OK(shmb_region_resize(region, 16 * MIB));
	for (i = 0; i < 16 * MIB; i++)
		if (data[i] != (i < MIB + 100 ? 0xee : 0))
			FAIL("byte %llu is %u after growing", (unsigned long long)i, data[i]);
	CHECK_CODE(shmb_region_resize(region, 0), SHMB_EINVAL);
	/* See test_grow.c for more than the capacity. */
	CHECK_CODE(shmb_region_resize(region, 16 * MIB + 1), SHMB_EDEADLK);
	error = last(region);
	CHECK_CODE(error.code, SHMB_EDEADLK);
	CHECK_INT(shmb_region_size(region), 16 * MIB);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F33_shrunk_shm_goes_back_and_grows_as_zeros, PRIVATE)
{
	check_resize(broker, SHMB_BACKING_SHM);
}

CASE(F33_shrunk_memfd_goes_back_and_grows_as_zeros, PRIVATE)
{
	check_resize(broker, SHMB_BACKING_MEMFD);
}

CASE(F33_a_capacity_that_is_no_multiple_of_a_page, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_capacity(client, 1, 5000);
	uint8_t byte;

	CHECK_INT(shmb_region_capacity(region), 5000);
	CHECK_OK(shmb_region_resize(region, 5000));
	CHECK_OK(shmb_region_write_u8(region, 4999, 3));
	CHECK_OK(shmb_region_resize(region, 4999));
	CHECK_OK(shmb_region_resize(region, 5000));
	CHECK_OK(shmb_region_read_u8(region, 4999, &byte));
	CHECK_INT(byte, 0);
	CHECK_CODE(shmb_region_resize(region, 5001), SHMB_EDEADLK);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F12 ---- */

CASE(F12_the_last_error_says_what_a_person_can_act_on, PRIVATE, .arguments = { "--max-region=1M" })
{
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *none = NULL;
	char sentence[256], byte;

	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_INT(error.code, 0);
	CHECK_CODE(shmb_region_create(client, "big", 2 * MIB, NULL, &none), SHMB_EFBIG);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_CODE(error.code, SHMB_EFBIG);
	CHECK_INT(error.limit, MIB);
	shmb_error_format(&error, sentence, sizeof(sentence));
	CHECK(strstr(sentence, "1048576"));

	region = create(client, "small", 100, NULL);
	CHECK_CODE(shmb_region_read(region, 100, &byte, 1, 0), SHMB_EBOUNDS);
	CHECK_CODE(last(region).code, SHMB_EBOUNDS);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_CODE(error.code, SHMB_EFBIG); /* each handle has its own */
	error.struct_size = 3;
	CHECK_CODE(shmb_client_last_error(client, &error), SHMB_EINVAL);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F36: threads ---- */

struct shared {
	struct shmb_client *client;
	struct shmb_region *region;
	_Atomic int ready, stop;
};

static void *copy_all_the_time(void *argument)
{
	struct shared *shared = argument;
	char buffer[4096];
	int r;

	atomic_fetch_add(&shared->ready, 1);
	do {
		r = shmb_region_read(shared->region, 4096, buffer, sizeof(buffer), 0);
		if (r != 0 && r != SHMB_ECLOSED)
			return (void *)1;
	} while (r == 0 || !atomic_load(&shared->stop));
	return NULL;
}

static void *copy_through_a_pointer(void *argument)
{
	struct shared *shared = argument;
	volatile const char *data = shmb_region_data(shared->region);
	int sum = 0;

	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->stop))
		sum += data[5000];
	return sum == -1 ? (void *)1 : NULL;
}

CASE(F36_a_closed_handle_says_closed_and_never_crashes, PRIVATE)
{
	struct shared shared = { .client = connect_to(broker) };
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_view view;
	pthread_t threads[4];
	void *result;
	char byte;
	int i;

	shared.region = create(shared.client, "closing", 64 << 10, NULL);
	CHECK_OK(shmb_region_view(shared.region, 0, 100, 0, SHMB_READ | SHMB_WRITE, &view));
	for (i = 0; i < 4; i++)
		CHECK_OK(pthread_create(&threads[i], NULL,
					i < 2 ? copy_all_the_time : copy_through_a_pointer,
					&shared));
	while (atomic_load(&shared.ready) < 4)
		CHECK_OK(shmb_client_ping(shared.client));
	CHECK_OK(shmb_region_close(shared.region));
	CHECK_CODE(shmb_region_close(shared.region), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_read(shared.region, 0, &byte, 1, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_write(shared.region, 0, "x", 1, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_resize(shared.region, 1), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_publish(shared.region, 0, 0), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_wait(shared.region, 0, 0, NULL), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_info(shared.region, &info), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_view(shared.region, 0, 1, 0, SHMB_READ, &view), SHMB_ECLOSED);
	CHECK(!shmb_region_data(shared.region));
	CHECK_INT(shmb_region_size(shared.region), 0);
	CHECK_INT(shmb_region_sequence(shared.region), 0);
	CHECK_OK(shmb_region_last_error(shared.region, &error));
	atomic_store(&shared.stop, 1);
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		CHECK(!result);
	}
	((char *)view.data)[0] = 1; /* goes nowhere, faults nowhere */
	shmb_view_release(&view);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	shmb_region_free(shared.region);
	shmb_client_free(shared.client);
}

static unsigned mapped_segments(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned n = 0;

	CHECK(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "/dev/shm/shmb.") != NULL;
	fclose(maps);
	return n;
}

CASE(F36_of_a_closed_handle_nothing_is_mapped, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 64 << 10, NULL), *other;
	volatile unsigned char *data = shmb_region_data(region);
	uint8_t byte = 9;

	CHECK_OK(shmb_region_write_u8(region, 5, 1));
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_INT(mapped_segments(), 3); /* data, publish page, lock */
	other = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	CHECK_OK(shmb_region_close(region));
	CHECK_INT(mapped_segments(), 2); /* the other's */
	CHECK_INT(data[5], 0);
	data[6] = 7; /* goes nowhere, */
	CHECK_OK(shmb_region_read_u8(other, 6, &byte));
	CHECK_INT(byte, 0);
	CHECK_OK(shmb_region_write_u8(other, 7, 8)); /* and nothing comes */
	CHECK_INT(data[7], 0);
	shmb_region_free(other);
	CHECK_INT(mapped_segments(), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

enum { LENGTH = 512 << 10 };

/* Each byte is 0x5a, or the handle is closed: zeros are never taken for what was there. */
static void *copy_until_closed(void *argument)
{
	struct shared *shared = argument;
	bool by_snapshot = atomic_fetch_add(&shared->ready, 1) % 2;
	unsigned char *bytes = malloc(LENGTH);
	int r;

	CHECK(bytes);
	for (;;) {
		r = by_snapshot ? shmb_region_snapshot(shared->region, 0, bytes, LENGTH)
				: shmb_region_read(shared->region, 0, bytes, LENGTH, 0);
		if (r != 0)
			break;
		if (bytes[0] != 0x5a || memcmp(bytes, bytes + 1, LENGTH - 1) != 0)
			FAIL("%s a closed handle", by_snapshot ? "a snapshot of" : "read");
	}
	CHECK_CODE(r, SHMB_ECLOSED);
	free(bytes);
	return NULL;
}

CASE(F36_closing_in_the_middle_of_a_copy_is_no_copy, PRIVATE)
{
	struct shared shared = { .client = connect_to(broker) };
	pthread_t threads[2];
	unsigned round, i;

	for (round = 0; round < 30; round++) {
		shared.region = create(shared.client, NULL, LENGTH, NULL);
		memset(shmb_region_data(shared.region), 0x5a, LENGTH);
		atomic_store(&shared.ready, 0);
		for (i = 0; i < 2; i++)
			CHECK_OK(pthread_create(&threads[i], NULL, copy_until_closed, &shared));
		while (atomic_load(&shared.ready) < 2)
			CHECK_OK(shmb_client_ping(shared.client));
		CHECK_OK(shmb_client_ping(shared.client));
		CHECK_OK(shmb_region_close(shared.region));
		for (i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		shmb_region_free(shared.region);
	}
	shmb_client_free(shared.client);
}

static void *wait_until_closed(void *argument)
{
	CHECK_CODE(shmb_region_wait(argument, 0, -1, NULL), SHMB_ECLOSED);
	return NULL;
}

static void *close_at_once(void *argument)
{
	struct shared *shared = argument;

	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->stop))
		;
	if (shmb_region_close(shared->region) == 0)
		atomic_fetch_add(&shared->ready, 1 << 8);
	return NULL;
}

CASE(F36_of_several_that_close_a_handle_one_does, PRIVATE)
{
	struct shared shared = { .client = connect_to(broker) };
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	pthread_t threads[3], waiter;
	unsigned round, i;

	options.flags = SHMB_KEEP_FD;
	for (round = 0; round < 200; round++) {
		shared.region = create(shared.client, NULL, 4096, &options);
		CHECK_OK(pthread_create(&waiter, NULL, wait_until_closed, shared.region));
		atomic_store(&shared.ready, 0);
		atomic_store(&shared.stop, 0);
		for (i = 0; i < 3; i++)
			CHECK_OK(pthread_create(&threads[i], NULL, close_at_once, &shared));
		while (atomic_load(&shared.ready) < 3)
			CHECK_OK(shmb_client_ping(shared.client));
		atomic_store(&shared.stop, 1);
		for (i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		pthread_join(waiter, NULL);
		CHECK_INT(atomic_load(&shared.ready), 3 + (1 << 8));
		shmb_region_free(shared.region);
	}
	shmb_client_free(shared.client);
}

#define CHECK_CLOSED(call) CHECK_INT((int64_t)(call), SHMB_ECLOSED)

static void no_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
}

static void not_done(int status, void *userdata)
{
}

static void check_closed_bytes(struct shmb_region *region, struct shmb_region *open)
{
	struct shmb_buffer buffer = { &(char){ 0 }, 1 };
	struct shmb_view view;
	char text[8];

	CHECK_CLOSED(shmb_region_read(region, 0, text, 1, 0));
	CHECK_CLOSED(shmb_region_read(region, 0, text, 1, SHMB_LOCKED));
	CHECK_CLOSED(shmb_region_write(region, 0, text, 1, 0));
	CHECK_CLOSED(shmb_region_write(region, 0, text, 1, SHMB_LOCKED));
	CHECK_CLOSED(shmb_region_readv(region, 0, &buffer, 1, 0));
	CHECK_CLOSED(shmb_region_writev(region, 0, &buffer, 1, 0));
	CHECK_CLOSED(shmb_region_snapshot(region, 0, text, 1));
	CHECK_CLOSED(shmb_region_read_u8(region, 0, &(uint8_t){ 0 }));
	CHECK_CLOSED(shmb_region_read_u16(region, 0, &(uint16_t){ 0 }));
	CHECK_CLOSED(shmb_region_read_u32(region, 0, &(uint32_t){ 0 }));
	CHECK_CLOSED(shmb_region_read_u64(region, 0, &(uint64_t){ 0 }));
	CHECK_CLOSED(shmb_region_read_u16_le(region, 0, &(uint16_t){ 0 }));
	CHECK_CLOSED(shmb_region_read_u32_le(region, 0, &(uint32_t){ 0 }));
	CHECK_CLOSED(shmb_region_read_u64_le(region, 0, &(uint64_t){ 0 }));
	CHECK_CLOSED(shmb_region_write_u8(region, 0, 1));
	CHECK_CLOSED(shmb_region_write_u16(region, 0, 1));
	CHECK_CLOSED(shmb_region_write_u32(region, 0, 1));
	CHECK_CLOSED(shmb_region_write_u64(region, 0, 1));
	CHECK_CLOSED(shmb_region_write_u16_le(region, 0, 1));
	CHECK_CLOSED(shmb_region_write_u32_le(region, 0, 1));
	CHECK_CLOSED(shmb_region_write_u64_le(region, 0, 1));
	CHECK_CLOSED(shmb_region_read_string(region, 0, text, sizeof(text)));
	CHECK_CLOSED(shmb_region_write_string(region, 0, "a"));
	CHECK_CLOSED(shmb_region_view(region, 0, 1, 0, SHMB_READ, &view));
	CHECK_CLOSED(shmb_region_copy(region, 0, open, 0, 1));
	CHECK_CLOSED(shmb_region_copy(open, 0, region, 0, 1));
	CHECK_CLOSED(shmb_region_export(region, 0, 1, STDERR_FILENO, NULL, NULL));
	CHECK_CLOSED(shmb_region_import(region, 0, 1, STDIN_FILENO, NULL, NULL));
	CHECK_CLOSED(shmb_region_flush(region, 0, 0, 0));
	CHECK_CLOSED(shmb_region_wrote(region, 0, 1));
	CHECK_CLOSED(shmb_region_write_async(region, 0, text, 1, not_done, NULL));
	CHECK_CLOSED(shmb_region_flush_async(region, 0, 0, not_done, NULL));
	CHECK_CLOSED(shmb_region_copy_async(region, 0, open, 0, 1, not_done, NULL));
	CHECK_CLOSED(shmb_region_copy_async(open, 0, region, 0, 1, not_done, NULL));
}

static void check_closed_parts(struct shmb_region *region)
{
	struct shmb_window window;
	struct shmb_cursor cursor;
	struct shmb_walk walk;
	struct shmb_atomics32 small;
	struct shmb_atomics64 large;

	CHECK_CLOSED(shmb_window_open(region, 0, 1, &window));
	CHECK_CLOSED(shmb_cursor_open(region, &cursor));
	CHECK_CLOSED(shmb_walk_open(region, 0, 0, 1, SHMB_READ, &walk));
	CHECK_CLOSED(shmb_region_atomics32(region, 0, 1, &small));
	CHECK_CLOSED(shmb_region_atomics64(region, 0, 1, &large));
}

static void check_closed_memory(struct shmb_region *region)
{
	CHECK_CLOSED(shmb_region_touch(region, 0, 0));
	CHECK_CLOSED(shmb_region_pin(region, 0, 0));
	CHECK_CLOSED(shmb_region_unpin(region, 0, 0));
	CHECK_CLOSED(shmb_region_advise(region, 0, 0, SHMB_ADVICE_NORMAL));
	CHECK_CLOSED(shmb_region_huge(region));
	CHECK_CLOSED(shmb_region_protect(region, 0, 0, SHMB_PROTECT_READ));
	CHECK_CLOSED(shmb_region_check(region, 0, 0));
}

static void check_closed_rest(struct shmb_region *region)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_flush_policy policy = SHMB_FLUSH_POLICY_INIT;
	struct shmb_ticket ticket;
	int fd;

	CHECK_CLOSED(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_CLOSED(shmb_region_unlock(region));
	CHECK_CLOSED(shmb_region_downgrade(region));
	CHECK_CLOSED(shmb_region_mark_consistent(region));
	CHECK_CLOSED(shmb_region_reset_lock(region));
	CHECK_CLOSED(shmb_region_publish(region, 0, 0));
	CHECK_CLOSED(shmb_region_wait(region, 0, 0, NULL));
	CHECK_CLOSED(shmb_region_watch(region, SHMB_EVENT_REMOVED, 0, no_event, NULL));
	CHECK_CLOSED(shmb_region_info(region, &info));
	CHECK_CLOSED(shmb_region_resize(region, 1));
	CHECK_CLOSED(shmb_region_ticket(region, SHMB_READ, &ticket));
	CHECK_CLOSED(shmb_region_fd(region));
	CHECK_CLOSED(shmb_region_last_flush(region));
	CHECK_CLOSED(shmb_region_set_flush_policy(region, &policy));
	CHECK_CLOSED(shmb_region_get_flush_policy(region, &policy));
	CHECK_CLOSED(shmb_region_unmap(region, &fd));
	CHECK_CLOSED(shmb_region_close(region));
	CHECK(!shmb_region_name(region) && !shmb_region_path(region) && !shmb_region_data(region));
	CHECK_INT(shmb_region_is_valid(region), 0);
	CHECK_INT(shmb_region_size(region), 0);
	CHECK_INT(shmb_region_capacity(region), 0);
	CHECK_INT(shmb_region_access(region), 0);
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_DEFAULT);
	CHECK_INT(shmb_region_sequence(region), 0);
	CHECK_INT(shmb_region_last_write(region), 0);
	CHECK_INT(shmb_region_pending(region), 0);
}

CASE(F36_every_function_says_that_its_handle_is_closed, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *open = create(client, "open", 4096, NULL), *region;

	options.flags = SHMB_KEEP_FD;
	region = create(client, "r", 4096, &options);
	CHECK_OK(shmb_region_write(region, 0, "x", 1, SHMB_LOCKED)); /* it has a slot */
	CHECK_OK(shmb_region_close(region));
	check_closed_bytes(region, open);
	check_closed_parts(region);
	check_closed_memory(region);
	check_closed_rest(region);
	CHECK_CODE(last(region).code, SHMB_ECLOSED);
	shmb_region_free(region);
	shmb_region_free(open);
	shmb_client_free(client);
}

struct job {
	struct shmb_client *client;
	unsigned number;
	int failed;
};

static void *work(void *argument)
{
	struct job *job = argument;
	struct shmb_region *region = NULL;
	char name[32];
	uint32_t value;
	unsigned i;

	for (i = 0; i < 100 && !job->failed; i++) {
		snprintf(name, sizeof(name), "t/%u/%u", job->number, i);
		job->failed |= shmb_region_create(job->client, name, 4096, NULL, &region) != 0;
		if (job->failed)
			break;
		job->failed |= shmb_region_write_u32(region, 8, i) != 0;
		job->failed |= shmb_region_read_u32(region, 8, &value) != 0 || value != i;
		job->failed |= shmb_client_ping(job->client) != 0;
		shmb_region_free(region);
	}
	return NULL;
}

CASE(F36_threads_share_one_client, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct job jobs[8];
	pthread_t threads[8];
	unsigned i;

	for (i = 0; i < 8; i++) {
		jobs[i] = (struct job){ client, i, 0 };
		CHECK_OK(pthread_create(&threads[i], NULL, work, &jobs[i]));
	}
	for (i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		CHECK(!jobs[i].failed);
	}
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* Every thread makes a handle of its own on one region, and lets go of it while others read. */
static void *open_and_free(void *argument)
{
	struct job *job = argument;
	struct shmb_region *region = NULL;
	char byte;
	unsigned i;

	for (i = 0; i < 200; i++) {
		if (shmb_region_open(job->client, "common", SHMB_READ, NULL, &region) != 0 ||
		    shmb_region_read(region, 0, &byte, 1, 0) != 0 || byte != 'c')
			job->failed = 1;
		region = shmb_region_free(region);
	}
	return NULL;
}

CASE(F36_many_readers_of_one_region_in_one_process, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "common", 4096, NULL);
	struct job jobs[4];
	pthread_t threads[4];
	unsigned i;

	CHECK_OK(shmb_region_write(region, 0, "c", 1, 0));
	for (i = 0; i < 4; i++) {
		jobs[i] = (struct job){ client, i, 0 };
		CHECK_OK(pthread_create(&threads[i], NULL, open_and_free, &jobs[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		CHECK(!jobs[i].failed);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Fork ---- */

CASE(a_forked_child_is_told_so_and_leaves_the_parent_alone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL), *none = NULL;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	int status, bad = 0;
	pid_t pid;

	fflush(NULL);
	pid = SYS(fork());
	if (pid == 0) {
		bad |= shmb_client_ping(client) != SHMB_EFORKED;
		bad |= (shmb_region_create(client, "x", 1, NULL, &none) != SHMB_EFORKED) << 1;
		bad |= (shmb_region_resize(region, 1) != SHMB_EFORKED) << 2;
		bad |= (shmb_region_close(region) != SHMB_EFORKED) << 3;
		shmb_region_free(region);
		shmb_client_free(client);
		_exit(bad);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : 1000, 0);
	CHECK_OK(shmb_client_ping(client));
	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.attachments, 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(a_client_keeps_no_descriptor_but_the_connection, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	unsigned before = fd_count(getpid());
	struct shmb_region *regions[20];
	char name[16];
	int i;

	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "n/%d", i);
		regions[i] = create(client, name, 4096, NULL);
	}
	CHECK_INT(fd_count(getpid()), before);
	CHECK_CODE(shmb_region_fd(regions[0]), SHMB_EINVAL);
	for (i = 0; i < 20; i++)
		shmb_region_free(regions[i]);
	shmb_client_free(client);
	CHECK_INT(fd_count(getpid()), before - 1);
}

/* VmFlags of the mapping that holds an address: is it left out of core dumps? */
static bool is_dont_dump(const void *address)
{
	unsigned long start, end;
	char line[512];
	bool here = false, found = false;
	FILE *file = fopen("/proc/self/smaps", "re");

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)address >= start && (uintptr_t)address < end;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, " dd") != NULL;
	}
	fclose(file);
	return found;
}

CASE(mappings_stay_out_of_core_dumps_unless_asked, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *quiet = create(client, "quiet", 1 << 20, NULL), *dumped;

	options.flags = SHMB_DUMP;
	dumped = create(client, "dumped", 1 << 20, &options);
	CHECK(is_dont_dump(shmb_region_data(quiet)));
	CHECK(!is_dont_dump(shmb_region_data(dumped)));
	shmb_region_free(quiet);
	shmb_region_free(dumped);
	shmb_client_free(client);
}
