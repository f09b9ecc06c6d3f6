/* SPDX-License-Identifier: MIT */
/*
 * Several buffers at once, walks, atomics, and copies between regions. Cursors, windows and files
 * have tests of their own.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#include <shmbroker/io.h>

#include "harness.h"

enum { MIB = 1 << 20 };

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

static void fill(struct shmb_region *region)
{
	unsigned char *data = shmb_region_data(region);
	uint64_t i, size = shmb_region_size(region);

	for (i = 0; i < size; i++)
		data[i] = (unsigned char)(i % 251);
}

/* ---- F22: several buffers ---- */

CASE(F22_several_buffers_in_order, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 100, NULL);
	char a[3], b[5], c[2] = "??";
	struct shmb_buffer out[] = { { (void *)(uintptr_t) "abc", 3 },
				     { NULL, 0 },
				     { (void *)(uintptr_t) "defgh", 5 } };
	struct shmb_buffer in[] = { { b, 5 }, { c, 0 }, { a, 3 } };
	char all[9] = "";

	CHECK_OK(shmb_region_writev(region, 90, out, 3, 0));
	CHECK_INT(shmb_region_last_write(region), 8);
	CHECK_OK(shmb_region_read(region, 90, all, 8, 0));
	CHECK_STRING(all, "abcdefgh");
	CHECK_OK(shmb_region_readv(region, 90, in, 3, SHMB_LOCKED));
	CHECK(memcmp(b, "abcde", 5) == 0 && memcmp(a, "fgh", 3) == 0 && c[0] == '?');
	CHECK_OK(shmb_region_writev(region, 92, out, 3, SHMB_LOCKED));
	CHECK_OK(shmb_region_readv(region, 100, in, 0, 0));
	CHECK_OK(shmb_region_writev(region, 100, NULL, 0, 0));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* One of them longer than what is copied at once. */
CASE(F22_long_buffers_are_copied_whole, PRIVATE)
{
	enum { LENGTH = 2 * MIB + 33 };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", LENGTH + 10, NULL);
	unsigned char *data = shmb_region_data(region), *bytes = malloc(LENGTH), small[2];
	struct shmb_buffer buffers[] = { { bytes, LENGTH }, { small, 2 } };
	size_t i;

	CHECK(bytes);
	for (i = 0; i < LENGTH; i++)
		bytes[i] = (unsigned char)(i % 251 ^ i >> 16);
	memcpy(small, "ab", 2);
	CHECK_OK(shmb_region_writev(region, 7, buffers, 2, 0));
	CHECK(memcmp(data + 7, bytes, LENGTH) == 0);
	CHECK(memcmp(data + 7 + LENGTH, "ab", 3) == 0 && data[6] == 0);
	memset(bytes, 0, LENGTH);
	memset(small, 0, 2);
	CHECK_OK(shmb_region_readv(region, 7, buffers, 2, 0));
	CHECK(memcmp(data + 7, bytes, LENGTH) == 0);
	CHECK(memcmp(small, "ab", 2) == 0);
	free(bytes);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F22_all_of_them_or_none, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 100, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	static struct shmb_buffer many[SHMB_BUFFERS_MAX + 1];
	char bytes[60], before[100], after[100];
	struct shmb_buffer two[] = { { bytes, 60 }, { bytes, 41 } };
	struct shmb_buffer huge[] = { { bytes, 60 }, { bytes, SIZE_MAX - 20 } };
	size_t i;

	fill(region);
	CHECK_OK(shmb_region_read(region, 0, before, 100, 0));
	memset(bytes, 'x', sizeof(bytes));
	CHECK_CODE(shmb_region_writev(region, 0, two, 2, 0), SHMB_EBOUNDS);
	CHECK_INT(last(region).offset, 0);
	CHECK_INT(last(region).length, 101);
	CHECK_INT(last(region).size, 100);
	CHECK_CODE(shmb_region_writev(region, 0, huge, 2, 0), SHMB_EBOUNDS); /* overflows */
	CHECK_CODE(shmb_region_writev(region, 1, two, 2, SHMB_LOCKED), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_writev(region, 0, many, SHMB_BUFFERS_MAX + 1, 0), SHMB_EINVAL);
	CHECK_CODE(shmb_region_writev(region, 0, two, 1, 2), SHMB_EINVAL);
	CHECK_CODE(shmb_region_writev(reader, 0, two, 1, 0), SHMB_EMODE);
	CHECK_OK(shmb_region_read(region, 0, after, 100, 0));
	CHECK(memcmp(before, after, 100) == 0);

	CHECK_CODE(shmb_region_readv(region, 0, two, 2, 0), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_readv(region, 0, two, 1, 2), SHMB_EINVAL);
	CHECK_CODE(shmb_region_readv(region, 0, many, SHMB_BUFFERS_MAX + 1, 0), SHMB_EINVAL);
	for (i = 0; i < sizeof(bytes); i++)
		CHECK_INT(bytes[i], 'x');
	for (i = 0; i < SHMB_BUFFERS_MAX; i++)
		many[i] = (struct shmb_buffer){ &after[i % 100], i < 100 };
	CHECK_OK(shmb_region_readv(region, 0, many, SHMB_BUFFERS_MAX, 0));
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void write_pairs(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	uint64_t a, b, i;
	struct shmb_buffer buffers[] = { { &a, sizeof(a) }, { &b, sizeof(b) } };

	say(0);
	for (i = 1; i <= 3000; i++) {
		a = i;
		b = ~i;
		CHECK_OK(shmb_region_writev(region, 4, buffers, 2, SHMB_LOCKED));
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

/* The lock is held around all of it: both numbers are of the same time. */
CASE(F22_locked_around_all_of_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 100, NULL);
	struct actor writer;
	uint64_t a = 0, b = ~UINT64_C(0);
	struct shmb_buffer buffers[] = { { &a, sizeof(a) }, { &b, sizeof(b) } };

	CHECK_OK(shmb_region_writev(region, 4, buffers, 2, 0));
	writer = actor_start(broker, &SELF, write_pairs, NULL);
	actor_hear(&writer);
	do {
		CHECK_OK(shmb_region_readv(region, 4, buffers, 2, SHMB_LOCKED));
		CHECK(a == ~b);
	} while (a < 3000);
	actor_end(&writer);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F22_readers_share_the_lock_and_writers_do_not, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 100, NULL);
	struct shmb_region *other = open_region(client, "r", SHMB_READ | SHMB_LOCK);
	char bytes[3] = "abc";
	struct shmb_buffer buffer = { bytes, 3 };

	CHECK_OK(shmb_client_set_timeout(client, 100));
	CHECK_OK(shmb_region_lock(other, SHMB_SHARED, -1));
	CHECK_CODE(shmb_region_writev(region, 0, &buffer, 1, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_readv(region, 0, &buffer, 1, SHMB_LOCKED));
	CHECK(memcmp(bytes, "\0\0\0", 3) == 0); /* nothing was written */
	CHECK_OK(shmb_region_unlock(other));
	CHECK_OK(shmb_region_lock(other, SHMB_EXCLUSIVE, -1));
	CHECK_CODE(shmb_region_readv(region, 0, &buffer, 1, SHMB_LOCKED), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_unlock(other));
	CHECK_OK(shmb_region_writev(region, 0, &buffer, 1, SHMB_LOCKED));
	CHECK_OK(shmb_region_lock(other, SHMB_EXCLUSIVE, 0)); /* it was given back */
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F26: walks ---- */

CASE(F26_chunks_in_place_and_a_shorter_last_one, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 10000, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	unsigned char *data = shmb_region_data(region);
	struct shmb_walk walk;
	size_t page = shmb_page_size();
	uint64_t seen = 0;
	unsigned n = 0;

	fill(region);
	CHECK_OK(shmb_walk_open(region, 0, 0, 4096, SHMB_READ | SHMB_WRITE, &walk));
	while (shmb_walk_next(&walk)) {
		CHECK_INT(walk.offset, seen);
		CHECK(walk.data == data + seen);
		CHECK_INT(walk.length, n < 2 ? 4096 : 10000 - 2 * 4096);
		walk.data[0] = 'x';
		walk.data[walk.length - 1] = 'y';
		seen += walk.length;
		n++;
	}
	CHECK_INT(n, 3);
	CHECK_INT(seen, 10000);
	CHECK_INT(shmb_walk_next(&walk), 0);
	CHECK_OK(shmb_walk_close(&walk));
	CHECK_OK(shmb_walk_close(&walk));
	CHECK_INT(shmb_walk_next(&walk), 0);
	CHECK(data[0] == 'x' && data[4095] == 'y' && data[4096] == 'x' && data[9999] == 'y');

	data = shmb_region_data(reader); /* a part of it, in chunks that fit */
	CHECK_OK(shmb_walk_open(reader, 1000, 300, 100, SHMB_READ, &walk));
	for (n = 0; shmb_walk_next(&walk); n++) {
		CHECK_INT(walk.offset, 1000 + n * 100);
		CHECK_INT(walk.length, 100);
		CHECK(walk.data == data + 1000 + n * 100);
	}
	CHECK_INT(n, 3);
	CHECK_OK(shmb_walk_close(&walk));
	CHECK_OK(shmb_walk_close(NULL));

	CHECK_OK(shmb_walk_open(reader, 9000, 0, 600, SHMB_READ, &walk)); /* all that is behind */
	for (seen = 9000; shmb_walk_next(&walk); seen += walk.length)
		CHECK_INT(walk.offset, seen);
	CHECK_INT(seen, 10000);
	CHECK_INT(walk.length, 400);
	CHECK_OK(shmb_walk_close(&walk));

	CHECK_OK(shmb_walk_open(reader, 0, 0, page, SHMB_READ, &walk)); /* by pages */
	CHECK_INT(shmb_walk_next(&walk), 1);
	CHECK_INT((uintptr_t)walk.data % page, 0);
	CHECK_OK(shmb_walk_close(&walk));
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F26_chunks_copied_out, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 1000, NULL);
	unsigned char chunk[301];
	struct shmb_walk walk;
	size_t i, seen = 0;

	fill(region);
	CHECK_OK(shmb_walk_open(region, 0, 0, 300, SHMB_READ, &walk));
	memset(chunk, 0xff, sizeof(chunk));
	while (shmb_walk_copy(&walk, chunk)) {
		for (i = 0; i < walk.length; i++)
			CHECK_INT(chunk[i], (seen + i) % 251);
		seen += walk.length;
	}
	CHECK_INT(seen, 1000);
	CHECK_INT(walk.length, 100);
	CHECK_INT(chunk[100], (600 + 100) % 251); /* of the one before: no more was copied */
	CHECK_INT(chunk[300], 0xff);
	CHECK_OK(shmb_walk_close(&walk));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F26_what_cannot_be_walked, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 1000, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_walk walk = { .offset = 7 };

	CHECK_CODE(shmb_walk_open(region, 0, 0, 0, SHMB_READ, &walk), SHMB_EINVAL);
	CHECK_STRING(last(region).what, "chunk");
	CHECK_CODE(shmb_walk_open(region, 0, 1001, 10, SHMB_READ, &walk), SHMB_EBOUNDS);
	CHECK_CODE(shmb_walk_open(region, 1000, 0, 10, SHMB_READ, &walk), SHMB_EBOUNDS);
	CHECK_INT(last(region).offset, 1000);
	CHECK_CODE(shmb_walk_open(region, UINT64_MAX, 0, 10, SHMB_READ, &walk), SHMB_EBOUNDS);
	CHECK_CODE(shmb_walk_open(region, 0, 0, 10, SHMB_WRITE, &walk), SHMB_EINVAL);
	CHECK_CODE(shmb_walk_open(reader, 0, 0, 10, SHMB_READ | SHMB_WRITE, &walk), SHMB_EMODE);
	CHECK_INT(walk.offset, 7);
	shmb_region_close(reader);
	CHECK_CODE(shmb_walk_open(reader, 0, 0, 10, SHMB_READ, &walk), SHMB_ECLOSED);
	CHECK_CODE(shmb_walk_open(reader, 0, 0, 0, SHMB_READ, &walk), SHMB_ECLOSED);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F27: atomics ---- */

CASE(F27_words_at_an_offset, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 100, NULL);
	struct shmb_region *other = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	struct shmb_atomics32 small;
	struct shmb_atomics64 large;
	uint32_t u32;
	uint64_t u64;

	CHECK_OK(shmb_region_atomics32(region, 4, 3, &small));
	CHECK_INT(small.count, 3);
	atomic_store(&small.words[2], 7);
	CHECK_INT(atomic_fetch_add(&small.words[2], 5), 7);
	CHECK_OK(shmb_region_read_u32(other, 12, &u32));
	CHECK_INT(u32, 12);
	CHECK_OK(shmb_atomics32_release(&small));
	CHECK_OK(shmb_atomics32_release(&small));
	CHECK(!small.words);

	CHECK_OK(shmb_region_atomics64(region, 88, 1, &large));
	atomic_store(&large.words[0], UINT64_C(1) << 40);
	CHECK_OK(shmb_region_read_u64(other, 88, &u64));
	CHECK(u64 == UINT64_C(1) << 40);
	CHECK_OK(shmb_atomics64_release(&large));
	CHECK_OK(shmb_atomics64_release(&large));
	CHECK(!large.words);
	CHECK_OK(shmb_atomics64_release(NULL));
	CHECK_OK(shmb_atomics32_release(NULL));
	shmb_region_free(other);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F27_misaligned_says_the_alignment_required, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 100, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_atomics32 small = { .count = 9 };
	struct shmb_atomics64 large = { .count = 9 };
	struct shmb_error error;
	char sentence[256];

	CHECK_CODE(shmb_region_atomics32(region, 6, 1, &small), SHMB_EALIGN);
	CHECK_INT(last(region).alignment, 4);
	CHECK_INT(last(region).offset, 6);
	CHECK_CODE(shmb_region_atomics64(region, 12, 1, &large), SHMB_EALIGN);
	error = last(region);
	CHECK_INT(error.alignment, 8);
	CHECK_INT(error.offset, 12);
	CHECK_INT(error.length, 8);
	shmb_error_format(&error, sentence, sizeof(sentence));
	CHECK(strstr(sentence, "12 is not a multiple of 8"));

	CHECK_CODE(shmb_region_atomics32(region, 4, 25, &small), SHMB_EBOUNDS);
	CHECK_INT(last(region).length, 100);
	CHECK_CODE(shmb_region_atomics64(region, 96, 1, &large), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_atomics64(region, 0, SIZE_MAX / 8 + 2, &large), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_atomics32(region, 0, SIZE_MAX / 4 + 2, &small), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_atomics32(region, 0, SIZE_MAX, &small), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_atomics32(region, 0, 0, &small), SHMB_EINVAL);
	CHECK_STRING(last(region).what, "count");
	CHECK_CODE(shmb_region_atomics32(reader, 0, 1, &small), SHMB_EMODE);
	CHECK_CODE(shmb_region_atomics64(reader, 0, 1, &large), SHMB_EMODE);
	CHECK_INT(small.count, 9);
	CHECK_INT(large.count, 9);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

enum { COUNTERS = 4, KILLS = 30, WORDS = 2 + COUNTERS };

/* Words: what all have counted, whether to stop, and what each has counted by itself. */
static void count(struct broker *broker, void *argument)
{
	unsigned own = 2 + *(unsigned *)argument;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "counts", SHMB_READ | SHMB_WRITE);
	struct shmb_atomics64 at;

	CHECK_OK(shmb_region_atomics64(region, 64, WORDS, &at));
	say(0);
	while (!atomic_load(&at.words[1])) {
		atomic_fetch_add(&at.words[0], 1);
		atomic_fetch_add(&at.words[own], 1);
	}
	CHECK_OK(shmb_atomics64_release(&at));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F27_processes_count_up_and_are_killed, PRIVATE, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "counts", 4096, NULL);
	static unsigned numbers[COUNTERS] = { 0, 1, 2, 3 };
	struct actor actors[COUNTERS];
	struct shmb_atomics64 at;
	uint64_t sum = 0, seen;
	unsigned i, killed;
	uint8_t which;

	CHECK_OK(shmb_region_atomics64(region, 64, WORDS, &at));
	for (i = 0; i < COUNTERS; i++)
		actors[i] = actor_start(broker, &SELF, count, &numbers[i]);
	for (i = 0; i < COUNTERS; i++)
		actor_hear(&actors[i]);
	for (killed = 0; killed < KILLS; killed++) {
		CHECK_INT(getrandom(&which, 1, 0), 1);
		which %= COUNTERS;
		seen = atomic_load(&at.words[2 + which]);
		UNTIL(broker, atomic_load(&at.words[2 + which]) > seen + 100);
		actor_kill(&actors[which]);
		actors[which] = actor_start(broker, &SELF, count, &numbers[which]);
		actor_hear(&actors[which]);
	}
	atomic_store(&at.words[1], 1);
	for (i = 0; i < COUNTERS; i++)
		actor_end(&actors[i]);
	for (i = 0; i < COUNTERS; i++)
		sum += atomic_load(&at.words[2 + i]);
	/* None was lost and none counted twice: who was killed may have been between the two. */
	CHECK(sum >= KILLS * 100 && atomic_load(&at.words[0]) >= sum &&
	      atomic_load(&at.words[0]) - sum <= KILLS);
	CHECK_OK(shmb_atomics64_release(&at));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- F28: copies between regions ---- */

CASE(F28_from_one_region_to_another, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *from = create(client, "from", 3 * MIB + 17, NULL);
	struct shmb_region *to = create(client, "to", 3 * MIB + 100, NULL);
	struct shmb_region *reader = open_region(client, "to", SHMB_READ);
	unsigned char *data = shmb_region_data(to);
	uint64_t i;

	fill(from);
	CHECK_OK(shmb_region_copy(from, 10, to, 50, 3 * MIB + 7));
	CHECK_INT(shmb_region_last_write(to), 3 * MIB + 7);
	for (i = 0; i < 3 * MIB + 100; i++)
		if (data[i] != (i < 50 || i >= 3 * MIB + 57 ? 0 : (i - 40) % 251))
			FAIL("byte %llu is %u", (unsigned long long)i, data[i]);
	CHECK_OK(shmb_region_copy(from, 3 * MIB + 17, to, 0, 0));

	CHECK_CODE(shmb_region_copy(from, 10, to, 50, 3 * MIB + 8), SHMB_EBOUNDS);
	CHECK_INT(last(from).offset, 10);
	CHECK_INT(last(from).size, 3 * MIB + 17);
	CHECK_CODE(last(to).code, 0);
	CHECK_CODE(shmb_region_copy(from, 0, to, 101, 3 * MIB), SHMB_EBOUNDS);
	CHECK_INT(last(to).offset, 101);
	CHECK_INT(last(to).length, 3 * MIB);
	CHECK_CODE(shmb_region_copy(from, 0, reader, 0, 1), SHMB_EMODE);
	CHECK_CODE(last(reader).code, SHMB_EMODE);
	CHECK_OK(shmb_region_copy(reader, 50, from, 0, 4));
	CHECK_INT(((unsigned char *)shmb_region_data(from))[3], 13);
	CHECK_OK(shmb_region_close(reader));
	CHECK_CODE(shmb_region_copy(reader, 50, from, 0, 4), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_copy(from, 50, reader, 0, 4), SHMB_ECLOSED);
	shmb_region_free(reader);
	shmb_region_free(to);
	shmb_region_free(from);
	shmb_client_free(client);
}

/* As memmove(), whichever handles of the region are used. */
static void check_overlap(struct shmb_region *from, struct shmb_region *to)
{
	static const struct {
		uint64_t from, to, length;
	} cases[] = {
		{ 0, 1, 2999999 },       { 1, 0, 2999999 },   { 0, 100000, 2900000 },
		{ 100000, 0, 2900000 },  { 5, 5, 1000 },      { 0, 1048576, 1900000 },
		{ 1048576, 0, 1900000 }, { 10, 2000000, 10 }, { 0, 4097, 2000000 },
		{ 0, 1499999, 1500000 }, /* by a single byte */
	};
	unsigned char *data = shmb_region_data(to), *expected = malloc(3000000);
	size_t i, j;

	CHECK(expected);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fill(to);
		memcpy(expected, data, 3000000);
		memmove(expected + cases[i].to, expected + cases[i].from, cases[i].length);
		CHECK_OK(shmb_region_copy(from, cases[i].from, to, cases[i].to, cases[i].length));
		for (j = 0; j < 3000000; j++)
			if (data[j] != expected[j])
				FAIL("case %zu, byte %zu: %u, not %u", i, j, data[j], expected[j]);
	}
	free(expected);
}

CASE(F28_overlapping_within_one_region, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *second = connect_to(broker);
	struct shmb_region *region = create(client, "r", 3000000, NULL);
	struct shmb_region *again = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	struct shmb_region *reader = open_region(second, "r", SHMB_READ);

	check_overlap(region, region);
	check_overlap(again, region);
	check_overlap(region, again);
	check_overlap(reader, region); /* through another connection */
	shmb_region_free(reader);
	shmb_region_free(again);
	shmb_region_free(region);
	shmb_client_free(second);
	shmb_client_free(client);
}
