/* SPDX-License-Identifier: MIT */
/*
 * What a handle says of its last error: the fields that apply, and a sentence with them; and how
 * much was written last.
 */
#include <fcntl.h>
#include <unistd.h>

#include <shmbroker/io.h>

#include "harness.h"

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

/* The last error is exactly this, and says so. */
static void check_last(struct shmb_region *region, const struct shmb_error *expected,
		       const char *sentence)
{
	struct shmb_error error = last(region);
	char text[256];

	CHECK_CODE(error.code, expected->code);
	CHECK_INT(error.offset, expected->offset);
	CHECK_INT(error.length, expected->length);
	CHECK_INT(error.size, expected->size);
	CHECK_INT(error.alignment, expected->alignment);
	CHECK_INT(error.limit, expected->limit);
	CHECK_STRING(error.what, expected->what);
	CHECK_INT(shmb_error_format(&error, text, sizeof(text)), strlen(text));
	CHECK_STRING(text, sentence);
}

#define CHECK_LAST(region, sentence, ...) \
	check_last(region, &(struct shmb_error){ __VA_ARGS__ }, sentence)

static int none_listed(const char *name, uint64_t value, void *userdata)
{
	return 0;
}

CASE(F12_fields_and_sentences, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_buffer buffers[] = { { region, 100 }, { region, 4000 } };
	struct shmb_error error = { .struct_size = sizeof(error), .code = 1 };
	struct shmb_atomics64 atomics;
	struct shmb_window window;
	struct shmb_view view;
	char bytes[64];

	CHECK_INT(last(region).code, 0); /* nothing has failed yet */
	CHECK_CODE(shmb_region_read(region, 4092, bytes, 8, 0), SHMB_EBOUNDS);
	CHECK_LAST(region, "out of bounds: 8 bytes at offset 4092 of a region of 4096 bytes",
		   .code = SHMB_EBOUNDS, .offset = 4092, .length = 8, .size = 4096);
	CHECK_CODE(shmb_region_writev(region, 5, buffers, 2, 0), SHMB_EBOUNDS);
	CHECK_LAST(region, "out of bounds: 4100 bytes at offset 5 of a region of 4096 bytes",
		   .code = SHMB_EBOUNDS, .offset = 5, .length = 4100, .size = 4096);
	CHECK_CODE(shmb_region_view(region, 6, 8, 4, SHMB_READ, &view), SHMB_EALIGN);
	CHECK_LAST(region, "misaligned offset: 6 is not a multiple of 4", .code = SHMB_EALIGN,
		   .offset = 6, .length = 8, .size = 4096, .alignment = 4);
	CHECK_CODE(shmb_region_atomics64(region, 12, 2, &atomics), SHMB_EALIGN);
	CHECK_LAST(region, "misaligned offset: 12 is not a multiple of 8", .code = SHMB_EALIGN,
		   .offset = 12, .length = 16, .size = 4096, .alignment = 8);
	CHECK_OK(shmb_region_write_string(region, 0, "twelve bytes"));
	CHECK_INT(shmb_region_read_string(region, 0, bytes, 10), SHMB_EOVERFLOW);
	CHECK_LAST(region, "value too large: 13 bytes do not fit into 10", .code = SHMB_EOVERFLOW,
		   .offset = 0, .length = 13, .size = 4096, .limit = 10);
	CHECK_CODE(shmb_region_write_u8(reader, 0, 1), SHMB_EMODE);
	CHECK_LAST(reader, "the handle was not opened for this access: write", .code = SHMB_EMODE,
		   .what = "write");
	CHECK_CODE(shmb_region_read(region, 0, bytes, 1, 32), SHMB_EINVAL);
	CHECK_LAST(region, "invalid argument: flags", .code = SHMB_EINVAL, .what = "flags");
	CHECK_INT(shmb_region_export(region, 0, 0, -1, NULL, NULL), SHMB_EINVAL);
	CHECK_LAST(region, "invalid argument: write", .code = SHMB_EINVAL, .what = "write");
	CHECK_OK(shmb_window_open(region, 1000, 100, &window));
	CHECK_CODE(shmb_window_read(&window, 99, bytes, 2, 0), SHMB_EBOUNDS);
	CHECK_LAST(region, "out of bounds: 2 bytes at offset 99 of a region of 100 bytes",
		   .code = SHMB_EBOUNDS, .offset = 99, .length = 2, .size = 100);
	shmb_window_close(&window);

	/* What succeeds changes nothing of it; each handle has its own; a closed one keeps it. */
	CHECK_OK(shmb_region_read(region, 0, bytes, 1, 0));
	CHECK_INT(last(region).offset, 99);
	CHECK_OK(shmb_client_stats(client, none_listed, NULL));
	CHECK_CODE(last(reader).code, SHMB_EMODE);
	CHECK_OK(shmb_region_close(region));
	CHECK_INT(last(region).offset, 99);
	CHECK_CODE(shmb_region_read(region, 0, bytes, 1, 0), SHMB_ECLOSED);
	CHECK_LAST(region, "the handle is closed", .code = SHMB_ECLOSED);

	/* A program that knows less of the struct gets what it knows. */
	error.struct_size = offsetof(struct shmb_error, offset);
	error.offset = 77;
	CHECK_OK(shmb_region_last_error(reader, &error));
	CHECK_CODE(error.code, SHMB_EMODE);
	CHECK_INT(error.offset, 77);
	error.struct_size = 1;
	CHECK_CODE(shmb_region_last_error(reader, &error), SHMB_EINVAL);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void check_sentence(const struct shmb_error *error, const char *expected)
{
	char text[256];

	CHECK_INT(shmb_error_format(error, text, sizeof(text)), strlen(expected));
	CHECK_STRING(text, expected);
}

/* Whoever has filled it: only what it says that it has is looked at. */
CASE(F12_sentences_of_any_particulars, PRIVATE)
{
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct {
		struct shmb_error error;
		uint64_t more; /* of a later version */
	} later = { .error = { .struct_size = sizeof(later) }, .more = 77 };
	struct shmb_client *client = connect_to(broker);
	char text[10];

	check_sentence(&error, "no error");
	error.code = SHMB_EBUS;
	error.offset = 4096;
	error.length = 8192;
	error.size = 65536;
	check_sentence(&error, "memory behind the mapping vanished: 8192 bytes at offset 4096 of a "
			       "region of 65536 bytes");
	error = (struct shmb_error){ .struct_size = sizeof(error), .code = SHMB_EDQUOT };
	error.length = 100;
	error.limit = 64;
	memset(error.what, 'w', sizeof(error.what)); /* no end */
	CHECK_INT(shmb_error_format(&error, text, sizeof(text)),
		  strlen(shmb_strerror(SHMB_EDQUOT)) + strlen(": ") + sizeof(error.what) - 1 +
			  strlen(" (100 asked for) (limit 64)"));
	CHECK_INT(strlen(text), sizeof(text) - 1);
	memcpy(error.what, "bytes", 6);
	check_sentence(&error,
		       "a limit for this user is reached: bytes (100 asked for) (limit 64)");
	error.struct_size = offsetof(struct shmb_error, offset);
	check_sentence(&error, "a limit for this user is reached");

	CHECK_CODE(shmb_client_set_timeout(client, 0), SHMB_EINVAL);
	CHECK_OK(shmb_client_last_error(client, &later.error));
	CHECK_CODE(later.error.code, SHMB_EINVAL);
	CHECK_INT(later.more, 0);
	shmb_client_free(client);
}

CASE(F12_bytes_of_the_last_write, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_region *other = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	struct shmb_buffer buffers[] = { { (void *)(uintptr_t) "abc", 3 },
					 { (void *)(uintptr_t) "de", 2 } };
	struct shmb_window window;
	struct shmb_cursor cursor;
	char bytes[100] = { 0 };
	size_t done;
	int fd;

#define CHECK_WROTE(call, result, bytes)                          \
	do {                                                      \
		CHECK_INT(call, result);                          \
		CHECK_INT(shmb_region_last_write(region), bytes); \
	} while (0)

	CHECK_INT(shmb_region_last_write(region), 0);
	CHECK_WROTE(shmb_region_write(region, 0, bytes, 100, 0), 0, 100);
	CHECK_WROTE(shmb_region_read(region, 0, bytes, 50, 0), 0, 100);
	CHECK_WROTE(shmb_region_write_u32(region, 0, 1), 0, 4);
	CHECK_WROTE(shmb_region_write(region, 0, bytes, 99, SHMB_LOCKED), 0, 99);
	CHECK_WROTE(shmb_region_write(region, 4000, bytes, 100, 0), SHMB_EBOUNDS, 0);
	CHECK_WROTE(shmb_region_write_string(region, 0, "four"), 0, 5);
	CHECK_WROTE(shmb_region_write_u64(region, 4090, 1), SHMB_EBOUNDS, 0);
	CHECK_WROTE(shmb_region_writev(region, 0, buffers, 2, 0), 0, 5);
	CHECK_WROTE(shmb_region_writev(region, 4092, buffers, 2, 0), SHMB_EBOUNDS, 0);
	CHECK_WROTE(shmb_region_writev(region, 0, buffers, 2, SHMB_LOCKED), 0, 5);
	CHECK_WROTE(shmb_region_copy(region, 0, region, 10, 1000), 0, 1000);
	CHECK_WROTE(shmb_region_copy(region, 0, region, 10, 5000), SHMB_EBOUNDS, 0);
	CHECK_WROTE(shmb_region_copy(other, 0, region, 3000, 7), 0, 7);
	CHECK_INT(shmb_region_last_write(other), 0); /* of this handle */
	fd = SYS(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	CHECK_WROTE(shmb_region_import(region, 0, 77, fd, NULL, NULL), 77, 77);
	close(fd);
	CHECK_OK(shmb_window_open(region, 0, 50, &window));
	CHECK_WROTE(shmb_window_write(&window, 0, bytes, 9, 0), 0, 9);
	CHECK_WROTE(shmb_window_write(&window, 45, bytes, 9, 0), SHMB_EBOUNDS, 0);
	CHECK_OK(shmb_cursor_open_window(&window, &cursor));
	CHECK_WROTE(shmb_cursor_write(&cursor, bytes, 40), 40, 40);
	CHECK_WROTE(shmb_cursor_write(&cursor, bytes, 40), 10, 10); /* what there was room for */
	CHECK_WROTE(shmb_cursor_write(&cursor, bytes, 40), SHMB_EBOUNDS, 0);
	CHECK_WROTE(shmb_cursor_write_at(&cursor, 45, bytes, 40, &done), SHMB_EBOUNDS, 5);
	shmb_cursor_close(&cursor);
	shmb_window_close(&window);
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}
