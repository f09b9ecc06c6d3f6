/* SPDX-License-Identifier: MIT */
/*
 * Accessors, cursors and walks: what goes through a region in small steps, against the plain loads,
 * stores and loops on the same mapping. One process; the broker only makes the region.
 */

#include <string.h>

#include <shmbroker/io.h>
#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"

enum {
	SMALL_BYTES = 1 << 16,
	STREAM_BYTES = 1 << 20,
	STEP = 64,
	CHUNK = 4096,
	PART_BYTES = 8 << 20, /* of a walk: some milliseconds in turn with the other side's */
	AT = 4040,            /* where a single thing is; a multiple of 8 */
};

static const unsigned char step[STEP] = { 1 };
static const char text[] = "a string of 31 bytes, as names.";

struct io {
	struct shmb_region *region;
	unsigned char *data;
	size_t size;
	struct shmb_cursor cursor;
	struct shmb_atomics64 atomics;
	/* What a cursor is for the floor. */
	struct {
		const unsigned char *data;
		size_t position;
		size_t size;
	} plain;
	uint64_t part; /* of those that chunks are taken from: which is next */
	uint64_t sum;
};

/* One turn of a loop must not know what the one before has seen. */
#define USE_VALUE(value) __asm__ volatile("" : : "r"(value) : "memory")

/* A side: does @step @count times, ... */
#define PLAIN(name, step)                                              \
	static int name(void *context, uint64_t count, double *ret_ns) \
	{                                                              \
		struct io *io = context;                               \
		double begin = bench_now();                            \
                                                                       \
		for (uint64_t i = 0; i < count; i++)                   \
			step;                                          \
		*ret_ns = bench_now() - begin;                         \
		return 0;                                              \
	}

/* ... and ends when it fails. */
#define SIDE(name, step)                                               \
	static int name(void *context, uint64_t count, double *ret_ns) \
	{                                                              \
		struct io *io = context;                               \
		double begin = bench_now();                            \
                                                                       \
		for (uint64_t i = 0; i < count; i++) {                 \
			int r = step;                                  \
                                                                       \
			if (r < 0)                                     \
				return r;                              \
		}                                                      \
		*ret_ns = bench_now() - begin;                         \
		return 0;                                              \
	}

#define VOLATILE(type) (*(volatile type *)(void *)(io->data + AT))

/* ---- Accessors ---- */

static inline int read_u8(const struct io *io)
{
	uint8_t value = 0;
	int r = shmb_region_read_u8(io->region, AT, &value);

	USE_VALUE(value);
	return r;
}

static inline void plain_read_u8(const struct io *io)
{
	uint8_t value = VOLATILE(uint8_t);

	USE_VALUE(value);
}

static inline int write_u8(const struct io *io, uint64_t i)
{
	return shmb_region_write_u8(io->region, AT, (uint8_t)i);
}

static inline void plain_write_u8(const struct io *io, uint64_t i)
{
	VOLATILE(uint8_t) = (uint8_t)i;
}

static inline int write_u32(const struct io *io, uint64_t i)
{
	return shmb_region_write_u32(io->region, AT, (uint32_t)i);
}

static inline void plain_write_u32(const struct io *io, uint64_t i)
{
	VOLATILE(uint32_t) = (uint32_t)i;
}

static inline int read_string(const struct io *io)
{
	char buffer[64];
	int64_t length = shmb_region_read_string(io->region, AT, buffer, sizeof(buffer));

	bench_use(buffer);
	return length == sizeof(text) - 1 ? 0 : SHMB_EIO;
}

static inline int plain_read_string(const struct io *io)
{
	const char *string = (const char *)io->data + AT;
	size_t length = strlen(string);
	char buffer[64];

	if (length >= sizeof(buffer))
		return SHMB_EOVERFLOW;
	memcpy(buffer, string, length + 1);
	bench_use(buffer);
	return length == sizeof(text) - 1 ? 0 : SHMB_EIO;
}

static inline int write_string(const struct io *io)
{
	const char *string = text;

	USE_VALUE(string);
	return shmb_region_write_string(io->region, AT, string);
}

static inline void plain_write_string(const struct io *io)
{
	const char *string = text;

	bench_use(&string);
	memcpy(io->data + AT, string, strlen(string) + 1);
	bench_use(io->data);
}

static inline void add_atomic(const struct io *io)
{
	__atomic_fetch_add((uint64_t *)io->atomics.words, 1, __ATOMIC_SEQ_CST);
}

static inline void plain_add_atomic(const struct io *io)
{
	__atomic_fetch_add((uint64_t *)(void *)(io->data + AT), 1, __ATOMIC_SEQ_CST);
}

SIDE(run_read_u8, read_u8(io))
PLAIN(run_plain_read_u8, plain_read_u8(io))
SIDE(run_write_u8, write_u8(io, i))
PLAIN(run_plain_write_u8, plain_write_u8(io, i))
SIDE(run_write_u32, write_u32(io, i))
PLAIN(run_plain_write_u32, plain_write_u32(io, i))
SIDE(run_read_string, read_string(io))
SIDE(run_plain_read_string, plain_read_string(io))
SIDE(run_write_string, write_string(io))
PLAIN(run_plain_write_string, plain_write_string(io))
PLAIN(run_add_atomic, add_atomic(io))
PLAIN(run_plain_add_atomic, plain_add_atomic(io))

/* ---- Streams, from the beginning again at the end ---- */

static int rewind_cursor(struct io *io, int64_t result)
{
	if (result == 0 || result == SHMB_EBOUNDS)
		result = shmb_cursor_seek(&io->cursor, 0, SHMB_SEEK_SET);
	return (int)result;
}

static inline int next_of_cursor(struct io *io)
{
	unsigned char buffer[STEP];
	int64_t n = shmb_cursor_read(&io->cursor, buffer, sizeof(buffer));

	bench_use(buffer);
	return n > 0 ? 0 : rewind_cursor(io, n);
}

static inline void next_of_plain(struct io *io)
{
	unsigned char buffer[STEP];

	if (io->plain.position == io->plain.size)
		io->plain.position = 0;
	memcpy(buffer, io->plain.data + io->plain.position, sizeof(buffer));
	io->plain.position += sizeof(buffer);
	bench_use(buffer);
}

static inline int next_of_cursor_write(struct io *io)
{
	int64_t n = shmb_cursor_write(&io->cursor, step, sizeof(step));

	return n > 0 ? 0 : rewind_cursor(io, n);
}

static inline void next_of_plain_write(struct io *io)
{
	if (io->plain.position == io->plain.size)
		io->plain.position = 0;
	memcpy(io->data + io->plain.position, step, sizeof(step));
	io->plain.position += sizeof(step);
	bench_use(io->data);
}

SIDE(run_cursor, next_of_cursor(io))
PLAIN(run_plain, next_of_plain(io))
SIDE(run_cursor_write, next_of_cursor_write(io))
PLAIN(run_plain_write, next_of_plain_write(io))

/* ---- Chunks ---- */

/* The same code for both sides: no compiler unrolls the one more than the other. */
__attribute__((noinline)) static uint64_t sum_words(const unsigned char *data, size_t length)
{
	const uint64_t *words = (const uint64_t *)(const void *)data;
	uint64_t sum = 0;

	for (size_t i = 0; i < length / sizeof(*words); i++)
		sum += words[i];
	return sum;
}

/* The next part, from the beginning again after the last. */
static size_t next_part(struct io *io)
{
	return io->part++ * PART_BYTES % io->size;
}

static int walk_part(struct io *io)
{
	struct shmb_walk walk;
	uint64_t sum = 0;
	int r = shmb_walk_open(io->region, next_part(io), PART_BYTES, CHUNK, SHMB_READ, &walk);

	if (r < 0)
		return r;
	while (shmb_walk_next(&walk))
		sum += sum_words(walk.data, walk.length);
	io->sum = sum;
	bench_use(&io->sum);
	return shmb_walk_close(&walk);
}

static void loop_over_part(struct io *io)
{
	const unsigned char *data = io->data + next_part(io);
	uint64_t sum = 0;

	for (size_t at = 0; at < PART_BYTES; at += CHUNK)
		sum += sum_words(data + at, CHUNK);
	io->sum = sum;
	bench_use(&io->sum);
}

SIDE(run_walk, walk_part(io))
PLAIN(run_loop, loop_over_part(io))

/* ---- Measuring ---- */

static int io_open(struct shmb_client *client, size_t size, struct io *io)
{
	int r = shmb_region_create(client, "bench/io", size, NULL, &io->region);

	if (r < 0)
		return r;
	io->size = io->plain.size = size;
	io->data = shmb_region_data(io->region);
	io->plain.data = io->data;
	memset(io->data, 2, size);
	memcpy(io->data + AT, text, sizeof(text));
	r = shmb_cursor_open(io->region, &io->cursor);
	return r < 0 ? r : shmb_region_atomics64(io->region, AT, 1, &io->atomics);
}

static int compare_io(const struct bench *bench, struct shmb_client *client, size_t size,
		      const struct bench_side *functions, bool brief,
		      struct bench_result *ret_result)
{
	struct bench_side sides[2] = { functions[0], functions[1] };
	struct io io = { 0 };
	double medians[2];
	int r = io_open(client, size, &io);

	if (r >= 0)
		r = bench_pin(0, bench->cpus[0]);
	if (r >= 0) {
		sides[0].context = sides[1].context = &io;
		r = (brief ? bench_compare_brief : bench_compare)(bench, sides, 2, medians,
								  &ret_result->n);
	}
	(void)shmb_atomics64_release(&io.atomics);
	shmb_cursor_close(&io.cursor);
	shmb_region_free(io.region);
	if (r < 0)
		return r;
	ret_result->ours = medians[0];
	ret_result->floor = medians[1];
	return 0;
}

static int measure_io(const struct bench *bench, size_t size, const struct bench_side *functions,
		      bool brief, struct bench_result *ret_result)
{
	struct shmb_client *client = NULL;
	struct bench_broker broker;
	int r, stopped;

	r = bench_broker_start(bench, "io", NULL, &broker);
	if (r < 0)
		return r;
	r = shmb_client_connect(broker.address, NULL, &client);
	if (r >= 0)
		r = compare_io(bench, client, size, functions, brief, ret_result);
	shmb_client_free(client);
	stopped = bench_broker_stop(&broker);
	return r < 0 ? r : stopped;
}

#define MEASURE(name, ours, plain)                                                            \
	static int name(const struct bench *bench, const struct bench_figure *figure,         \
			enum bench_placement placement, struct bench_result *ret_result)      \
	{                                                                                     \
		static const struct bench_side sides[] = { { ours, NULL }, { plain, NULL } }; \
                                                                                              \
		return measure_io(bench, figure->size, sides, true, ret_result);              \
	}

MEASURE(measure_read_u8, run_read_u8, run_plain_read_u8)
MEASURE(measure_write_u8, run_write_u8, run_plain_write_u8)
MEASURE(measure_write_u32, run_write_u32, run_plain_write_u32)
MEASURE(measure_read_string, run_read_string, run_plain_read_string)
MEASURE(measure_write_string, run_write_string, run_plain_write_string)
MEASURE(measure_atomic, run_add_atomic, run_plain_add_atomic)
MEASURE(measure_cursor, run_cursor, run_plain)
MEASURE(measure_cursor_write, run_cursor_write, run_plain_write)

static int measure_walk(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct bench_side sides[] = { { run_walk, NULL }, { run_loop, NULL } };
	size_t size = bench->quick ? PART_BYTES : figure->size;

	return measure_io(bench, size, sides, false, ret_result);
}

#define ACCESSOR(NAME, FLOOR, MEASURE)                                                          \
	{                                                                                       \
		.name = NAME, .unit = "ns", .floor = FLOOR, .size = SMALL_BYTES, .aim_more = 4, \
		.measure = (MEASURE)                                                            \
	}

const struct bench_figure bench_io_figures[] = {
	ACCESSOR("read_u8", "a plain load", measure_read_u8),
	ACCESSOR("write_u8", "a plain store", measure_write_u8),
	ACCESSOR("write_u32", "a plain store", measure_write_u32),
	ACCESSOR("read_string", "strlen and memcpy", measure_read_string),
	ACCESSOR("write_string", "strlen and memcpy", measure_write_string),
	ACCESSOR("atomic_add", "the same on a pointer", measure_atomic),
	{ .name = "cursor_read_64",
	  .unit = "ns",
	  .floor = "memcpy and an add",
	  .size = STREAM_BYTES,
	  .aim_ratio = 1.4,
	  .measure = measure_cursor },
	{ .name = "cursor_write_64",
	  .unit = "ns",
	  .floor = "memcpy and an add",
	  .size = STREAM_BYTES,
	  .measure = measure_cursor_write },
	{ .name = "walk_1g",
	  .unit = "ns",
	  .floor = "a plain loop over the same 8 MiB",
	  .size = 1 << 30,
	  .aim_ratio = 1.03,
	  .measure = measure_walk },
	{ .name = NULL },
};
