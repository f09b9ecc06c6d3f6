/* SPDX-License-Identifier: MIT */
/* The manifest's file: what was committed is read again, and nothing else, whatever became of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manifest.h"

/* Where fields are in the file: they stay there for ever, so that any daemon finds them. */
enum { AT_VERSION = 8, AT_FIRST = 12, AT_INSTANCE = 16, AT_BOOT = 24, AT_COMMITTED = 40 };

static const struct manifest_origin origin = {
	.instance = 0x1234567890abcdef, .next_id = 77, .next_session = 5, .recoveries = 3
};

static char directory[64], path[80], new_path[80];

static int set_up(void **state)
{
	strcpy(directory, "/tmp/shmb-manifest.XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/manifest", directory);
	snprintf(new_path, sizeof(new_path), "%s/manifest.new", directory);
	return 0;
}

static int tear_down(void **state)
{
	manifest_remove(directory);
	return rmdir(directory);
}

static void write_nothing(struct manifest *manifest, void *userdata)
{
}

static struct manifest begin(void)
{
	struct manifest manifest = { .fd = -1 };

	assert_int_equal(manifest_write(&manifest, directory, &origin, write_nothing, NULL), 0);
	return manifest;
}

/* ---- Records that can be told apart ---- */

static struct record_object object_number(uint64_t number)
{
	return (struct record_object){
		.id = number, .size = number * 3, .capacity = number * 5, .mode = 0640, .kind = 1
	};
}

static size_t name_number(uint64_t number, char name[32])
{
	return (size_t)snprintf(name, 32, "%.*s%u", (int)(number % 11), "a-long-name",
				(unsigned)number);
}

static void append_number(struct manifest *manifest, uint64_t number)
{
	const struct record_object object = object_number(number);
	char name[32];
	size_t length = name_number(number, name);

	manifest_append(manifest, RECORD_OBJECT, &object, sizeof(object), name, length);
}

static void expect_number(const struct record *record, uint64_t number)
{
	const struct record_object object = object_number(number);
	char name[32];

	assert_int_equal(record->type, RECORD_OBJECT);
	assert_memory_equal(record->fixed, &object, sizeof(object));
	assert_int_equal(record->text_length, name_number(number, name));
	assert_memory_equal(record->text, name, record->text_length);
}

/* Reads objects numbered from 1. Return: how many; *ret_end: what the reading ended with. */
static uint64_t read_numbers(const struct manifest_view *view, int *ret_end)
{
	struct record_object room;
	struct record record;
	uint64_t at = 0, n = 0;

	while ((*ret_end = manifest_read(view, &at, &room, sizeof(room), &record)) == 1)
		expect_number(&record, ++n);
	return n;
}

static void expect_numbers(uint64_t n)
{
	struct manifest_view view;
	int end;

	assert_int_equal(manifest_look(&view, directory), MANIFEST_GOOD);
	assert_int_equal(read_numbers(&view, &end), n);
	assert_int_equal(end, 0);
	manifest_view_close(&view);
}

/* ---- The file by hand ---- */

static size_t read_file(const char *name, unsigned char **ret_data)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	*ret_data = malloc((size_t)st.st_size + 1);
	assert_non_null(*ret_data);
	assert_int_equal(read(fd, *ret_data, (size_t)st.st_size), st.st_size);
	close(fd);
	return (size_t)st.st_size;
}

static void write_file(const char *name, const void *data, size_t length)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, length), length);
	close(fd);
}

static void poke(size_t at, const void *data, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, length, (off_t)at), length);
	close(fd);
}

static void poke_u32(size_t at, uint32_t value)
{
	poke(at, &value, sizeof(value));
}

static void poke_u64(size_t at, uint64_t value)
{
	poke(at, &value, sizeof(value));
}

static int look(void)
{
	struct manifest_view view;
	int state = manifest_look(&view, directory);

	manifest_view_close(&view);
	return state;
}

/* ---- Writing and reading ---- */

static void test_what_was_committed_is_read(void **state)
{
	struct manifest manifest = begin();
	struct manifest_view view;
	int end;

	expect_numbers(0);
	append_number(&manifest, 1);
	append_number(&manifest, 2);
	expect_numbers(0);
	manifest_commit(&manifest);
	expect_numbers(2);
	append_number(&manifest, 3);
	manifest_close(&manifest);
	assert_int_equal(manifest_look(&view, directory), MANIFEST_GOOD);
	assert_int_equal(read_numbers(&view, &end), 2);
	assert_int_equal(view.version, MANIFEST_VERSION);
	assert_memory_equal(&view.origin, &origin, sizeof(origin));
	manifest_view_close(&view);
}

/* It may not remember that it is closed, and is told of ends nevertheless. */
static void test_closed_takes_nothing(void **state)
{
	struct manifest manifest = begin();

	append_number(&manifest, 1);
	manifest_commit(&manifest);
	manifest_close(&manifest);
	append_number(&manifest, 2);
	manifest_commit(&manifest);
	assert_int_equal(manifest_reserve(&manifest, 1 << 30), 0);
	assert_false(manifest_is_due(&manifest));
	expect_numbers(1);
}

static void test_it_grows(void **state)
{
	enum { MANY = 30000 };
	struct manifest manifest = begin();

	assert_false(manifest_is_due(&manifest));
	for (uint64_t i = 1; i <= MANY; i++)
		append_number(&manifest, i);
	manifest_commit(&manifest);
	assert_false(manifest.behind);
	assert_true(manifest_is_due(&manifest));
	expect_numbers(MANY);
	manifest_close(&manifest);
}

static void test_lengths_of_texts(void **state)
{
	struct manifest manifest = begin();
	struct record_position position = { .session = 1, .serial = 2 }, room;
	struct manifest_view view;
	struct record record;
	char text[300];
	uint64_t at = 0;

	memset(text, 'x', sizeof(text));
	for (size_t length = 0; length < sizeof(text); length++)
		manifest_append(&manifest, RECORD_POSITION, &position, sizeof(position), text,
				length);
	manifest_commit(&manifest);
	assert_int_equal(manifest_look(&view, directory), MANIFEST_GOOD);
	for (size_t length = 0; length < sizeof(text); length++) {
		assert_int_equal(manifest_read(&view, &at, &room, sizeof(room), &record), 1);
		assert_int_equal(record.type, RECORD_POSITION);
		assert_int_equal(record.text_length, length);
		assert_memory_equal(record.text, text, length);
		assert_memory_equal(&room, &position, sizeof(room));
	}
	assert_int_equal(manifest_read(&view, &at, &room, sizeof(room), &record), 0);
	manifest_view_close(&view);
	manifest_close(&manifest);
}

/* Room that is owed is there, in the file, before anything is promised. */
static void test_owed_room(void **state)
{
	struct manifest manifest = begin();
	struct stat st;

	manifest_owe(&manifest, 1 << 20);
	assert_int_equal(manifest_reserve(&manifest, 4096), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size >= (1 << 20) + 4096);
	assert_true(st.st_blocks * 512 >= st.st_size);
	manifest_owe(&manifest, -(1 << 20));
	assert_int_equal(manifest.owed, 0);
	manifest_close(&manifest);
}

/* ---- Other versions ---- */

static void test_records_of_an_older_daemon(void **state)
{
	struct manifest manifest = begin();
	struct record_object object = object_number(9), room, expected = { 0 };
	size_t shorter = offsetof(struct record_object, capacity);
	struct manifest_view view;
	struct record record;
	uint64_t at = 0;

	manifest_append(&manifest, RECORD_OBJECT, &object, shorter, "name", 4);
	manifest_commit(&manifest);
	manifest_close(&manifest);
	memcpy(&expected, &object, shorter);
	memset(&room, 0xff, sizeof(room));
	assert_int_equal(manifest_look(&view, directory), MANIFEST_GOOD);
	assert_int_equal(manifest_read(&view, &at, &room, sizeof(room), &record), 1);
	assert_memory_equal(&room, &expected, sizeof(room));
	assert_int_equal(record.text_length, 4);
	assert_memory_equal(record.text, "name", 4);
	manifest_view_close(&view);
}

/* Never written by a daemon of this version, but a record may be longer than the room for it. */
static void test_records_that_are_longer(void **state)
{
	struct manifest manifest = begin();
	struct record_object object = object_number(9);
	struct manifest_view view;
	struct record record;
	uint64_t room[2] = { 0, UINT64_MAX }, at = 0;

	manifest_append(&manifest, RECORD_OBJECT, &object, sizeof(object), "name", 4);
	manifest_commit(&manifest);
	manifest_close(&manifest);
	assert_int_equal(manifest_look(&view, directory), MANIFEST_GOOD);
	assert_int_equal(manifest_read(&view, &at, room, sizeof(room[0]), &record), 1);
	assert_int_equal(room[0], 9);
	assert_int_equal(room[1], UINT64_MAX);
	assert_memory_equal(record.text, "name", 4);
	assert_int_equal(manifest_read(&view, &at, room, sizeof(room[0]), &record), 0);
	manifest_view_close(&view);
}

static void test_newer_and_nonsense(void **state)
{
	struct manifest manifest = begin();
	struct manifest_view view;

	manifest_close(&manifest);
	poke_u32(AT_VERSION, MANIFEST_VERSION + 1);
	assert_int_equal(manifest_look(&view, directory), MANIFEST_NEWER);
	assert_int_equal(view.version, MANIFEST_VERSION + 1);
	assert_int_equal(view.origin.instance, origin.instance);
	manifest_view_close(&view);
	poke_u32(AT_VERSION, 0);
	assert_int_equal(look(), MANIFEST_GARBLED);
	poke_u32(AT_VERSION, MANIFEST_VERSION);
	assert_int_equal(look(), MANIFEST_GOOD);
	poke_u64(AT_INSTANCE, 0);
	assert_int_equal(look(), MANIFEST_GARBLED);
}

/* Of another boot: nothing of it exists any more. */
static void test_another_boot(void **state)
{
	struct manifest manifest = begin();
	struct manifest_view view;
	unsigned char byte, *data;

	manifest_close(&manifest);
	read_file(path, &data);
	byte = (unsigned char)(data[AT_BOOT] ^ 1);
	free(data);
	poke(AT_BOOT, &byte, 1);
	assert_int_equal(manifest_look(&view, directory), MANIFEST_NONE);
	assert_int_equal(view.origin.instance, origin.instance);
	manifest_view_close(&view);
}

static void test_no_manifest(void **state)
{
	assert_int_equal(look(), MANIFEST_NONE);
	write_file(path, "", 0);
	assert_int_equal(look(), MANIFEST_GARBLED);
	write_file(path, "shmb", 4);
	assert_int_equal(look(), MANIFEST_GARBLED);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(look(), MANIFEST_GARBLED);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(look(), -ELOOP);
}

/* ---- A file that something happened to ---- */

enum { NUMBERS = 6 };

static size_t write_numbers(unsigned char **ret_data)
{
	struct manifest manifest = begin();
	size_t used;

	for (uint64_t i = 1; i <= NUMBERS; i++)
		append_number(&manifest, i);
	manifest_commit(&manifest);
	used = manifest.used;
	manifest_close(&manifest);
	assert_true(read_file(path, ret_data) >= used);
	return used;
}

/* What is left of it is read, and it is told that there was more. */
static void test_torn_off_anywhere(void **state)
{
	unsigned char *data;
	size_t used = write_numbers(&data);
	uint64_t before = 0;

	for (size_t length = 1; length <= used; length++) {
		struct manifest_view view;
		uint64_t n = 0;
		int found, end = 0;

		write_file(path, data, length);
		found = manifest_look(&view, directory);
		if (found == MANIFEST_GOOD)
			n = read_numbers(&view, &end);
		else
			assert_int_equal(found, MANIFEST_GARBLED);
		assert_true(n >= before && n <= before + 1);
		assert_true(end == 0 || end == -EBADMSG);
		before = n;
		manifest_view_close(&view);
	}
	assert_int_equal(before, NUMBERS);
	free(data);
}

/* No bit of a record can change and be taken for what was written. */
static void test_any_bit_flipped(void **state)
{
	struct manifest empty = begin();
	size_t first = empty.used, used;
	unsigned char *data;

	manifest_close(&empty);
	used = write_numbers(&data);
	for (size_t bit = first * 8; bit < used * 8; bit++) {
		unsigned char byte = (unsigned char)(data[bit / 8] ^ 1 << bit % 8);
		struct manifest_view view;
		int end;

		poke(bit / 8, &byte, 1);
		assert_int_equal(manifest_look(&view, directory), MANIFEST_GOOD);
		assert_true(read_numbers(&view, &end) < NUMBERS);
		assert_int_equal(end, -EBADMSG);
		manifest_view_close(&view);
		poke(bit / 8, &data[bit / 8], 1);
	}
	expect_numbers(NUMBERS);
	free(data);
}

/* A header that points outside is not followed. */
static void test_a_header_that_lies(void **state)
{
	static const uint64_t ends[] = { 0, 1, 8, UINT64_MAX, UINT64_MAX - 7, INT64_MAX };
	static const uint32_t firsts[] = { 0, 8, 44, 81, 1 << 30, UINT32_MAX, UINT32_MAX - 7 };
	unsigned char *data;

	write_numbers(&data);
	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		for (size_t j = 0; j < sizeof(ends) / sizeof(ends[0]); j++) {
			struct record_object room;
			struct manifest_view view;
			struct record record;
			uint64_t at = 0;

			poke_u32(AT_FIRST, firsts[i]);
			poke_u64(AT_COMMITTED, ends[j]);
			if (manifest_look(&view, directory) == MANIFEST_GOOD)
				assert_int_not_equal(
					manifest_read(&view, &at, &room, sizeof(room), &record), 1);
			manifest_view_close(&view);
		}
	}
	free(data);
}

/* ---- Written anew ---- */

struct rewrite {
	uint64_t n;
};

static void write_some(struct manifest *manifest, void *userdata)
{
	const struct rewrite *rewrite = userdata;

	for (uint64_t i = 1; i <= rewrite->n; i++)
		append_number(manifest, i);
	/* Until it is complete, the old one is what is read. */
	expect_numbers(0);
}

static void test_written_anew(void **state)
{
	struct manifest manifest = begin();
	struct rewrite rewrite = { 4 };

	assert_int_equal(manifest_write(&manifest, NULL, &origin, write_some, &rewrite), 0);
	assert_int_equal(access(new_path, F_OK), -1);
	expect_numbers(4);
	append_number(&manifest, 5);
	manifest_commit(&manifest);
	expect_numbers(5);
	manifest_close(&manifest);
}

/* Somebody died while writing it anew. */
static void test_a_new_one_that_was_not_finished(void **state)
{
	struct manifest manifest = begin();
	struct rewrite rewrite = { 2 };

	write_file(new_path, "half", 4);
	expect_numbers(0);
	assert_int_equal(manifest_write(&manifest, NULL, &origin, write_some, &rewrite), 0);
	expect_numbers(2);
	manifest_close(&manifest);
}

/* Nothing is lost, and it can be tried again. */
static void test_cannot_be_written_anew(void **state)
{
	struct manifest manifest = begin();
	struct rewrite rewrite = { 2 };

	assert_int_equal(mkdir(new_path, 0700), 0);
	assert_true(manifest_write(&manifest, NULL, &origin, write_nothing, NULL) < 0);
	append_number(&manifest, 1);
	manifest_commit(&manifest);
	expect_numbers(1);
	assert_int_equal(rmdir(new_path), 0);
	manifest_close(&manifest);
	manifest = begin();
	assert_int_equal(manifest_write(&manifest, NULL, &origin, write_some, &rewrite), 0);
	expect_numbers(2);
	manifest_close(&manifest);
}

static void test_removed(void **state)
{
	struct manifest manifest = begin();

	manifest_close(&manifest);
	write_file(new_path, "half", 4);
	manifest_remove(directory);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(new_path, F_OK), -1);
	manifest_remove(directory);
	assert_int_equal(look(), MANIFEST_NONE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_was_committed_is_read),
		TEST(test_closed_takes_nothing),
		TEST(test_it_grows),
		TEST(test_lengths_of_texts),
		TEST(test_owed_room),
		TEST(test_records_of_an_older_daemon),
		TEST(test_records_that_are_longer),
		TEST(test_newer_and_nonsense),
		TEST(test_another_boot),
		TEST(test_no_manifest),
		TEST(test_torn_off_anywhere),
		TEST(test_any_bit_flipped),
		TEST(test_a_header_that_lies),
		TEST(test_written_anew),
		TEST(test_a_new_one_that_was_not_finished),
		TEST(test_cannot_be_written_anew),
		TEST(test_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
