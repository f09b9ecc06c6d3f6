/* SPDX-License-Identifier: MIT */
/*
 * read_*, write_*: the checked copies of the public library against memcpy and a plain load on the
 * same mapping. One process; the broker only makes the region.
 */

#include <stdlib.h>
#include <string.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"

struct copy {
	struct shmb_region *region;
	char *data;   /* its mapping */
	char *buffer; /* private memory of the same size */
	size_t size;
};

static int run_read(void *context, uint64_t count, double *ret_ns)
{
	const struct copy *copy = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_region_read(copy->region, 0, copy->buffer, copy->size, 0);

		if (r < 0)
			return r;
		bench_use(copy->buffer);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_read_floor(void *context, uint64_t count, double *ret_ns)
{
	const struct copy *copy = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		memcpy(copy->buffer, copy->data, copy->size);
		bench_use(copy->buffer);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_write(void *context, uint64_t count, double *ret_ns)
{
	const struct copy *copy = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_region_write(copy->region, 0, copy->buffer, copy->size, 0);

		if (r < 0)
			return r;
		bench_use(copy->data);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_write_floor(void *context, uint64_t count, double *ret_ns)
{
	const struct copy *copy = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		memcpy(copy->data, copy->buffer, copy->size);
		bench_use(copy->data);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_load(void *context, uint64_t count, double *ret_ns)
{
	const struct copy *copy = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		uint32_t value;
		int r = shmb_region_read_u32(copy->region, 64, &value);

		if (r < 0)
			return r;
		__asm__ volatile("" : : "r"(value) : "memory");
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_load_floor(void *context, uint64_t count, double *ret_ns)
{
	const struct copy *copy = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		uint32_t value = *(const volatile uint32_t *)(const void *)(copy->data + 64);

		__asm__ volatile("" : : "r"(value) : "memory");
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

/* The region and the buffer, every page touched. */
static int copy_open(struct shmb_client *client, size_t size, struct copy *ret_copy)
{
	struct copy copy = { .size = size };
	int r;

	if (posix_memalign((void **)&copy.buffer, 4096, size) != 0)
		return SHMB_ENOMEM;
	r = shmb_region_create(client, "bench/copy", size, NULL, &copy.region);
	if (r < 0) {
		free(copy.buffer);
		return r;
	}
	copy.data = shmb_region_data(copy.region);
	memset(copy.buffer, 1, size);
	memset(copy.data, 2, size);
	*ret_copy = copy;
	return 0;
}

static int measure_sides(const struct bench *bench, size_t size, const struct bench_side *functions,
			 struct bench_result *ret_result)
{
	struct bench_side sides[2] = { functions[0], functions[1] };
	struct shmb_client *client = NULL;
	struct bench_broker broker;
	struct copy copy = { 0 };
	double medians[2];
	int r, stopped;

	r = bench_broker_start(bench, "copy", NULL, &broker);
	if (r < 0)
		return r;
	r = shmb_client_connect(broker.address, NULL, &client);
	if (r >= 0)
		r = copy_open(client, size, &copy);
	if (r >= 0)
		r = bench_pin(0, bench->cpus[0]);
	if (r >= 0) {
		sides[0].context = sides[1].context = &copy;
		r = bench_compare(bench, sides, 2, medians, &ret_result->n);
	}
	shmb_region_free(copy.region);
	free(copy.buffer);
	shmb_client_free(client);
	stopped = bench_broker_stop(&broker);
	if (r < 0 || stopped < 0)
		return r < 0 ? r : stopped;
	ret_result->ours = medians[0];
	ret_result->floor = medians[1];
	return 0;
}

static int measure_read(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct bench_side sides[] = { { run_read, NULL }, { run_read_floor, NULL } };

	return measure_sides(bench, figure->size, sides, ret_result);
}

static int measure_write(const struct bench *bench, const struct bench_figure *figure,
			 enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct bench_side sides[] = { { run_write, NULL }, { run_write_floor, NULL } };

	return measure_sides(bench, figure->size, sides, ret_result);
}

static int measure_load(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct bench_side sides[] = { { run_load, NULL }, { run_load_floor, NULL } };

	return measure_sides(bench, figure->size, sides, ret_result);
}

#define COPY(NAME, SIZE, MORE, RATIO, MEASURE)                                                     \
	{                                                                                          \
		.name = NAME, .unit = "ns", .floor = "memcpy on the same mapping", .size = (SIZE), \
		.aim_more = (MORE), .aim_ratio = (RATIO), .measure = (MEASURE)                     \
	}

const struct bench_figure bench_copy_figures[] = {
	COPY("read_4k", 4096, 4, 0, measure_read),
	COPY("read_64k", 65536, 0, 1.03, measure_read),
	COPY("read_1m", 1 << 20, 0, 1.03, measure_read),
	COPY("read_64m", 64 << 20, 0, 1.03, measure_read),
	COPY("write_4k", 4096, 4, 0, measure_write),
	COPY("write_64k", 65536, 0, 1.03, measure_write),
	COPY("write_1m", 1 << 20, 0, 1.03, measure_write),
	COPY("write_64m", 64 << 20, 0, 1.03, measure_write),
	{ .name = "read_u32",
	  .unit = "ns",
	  .floor = "a plain load",
	  .size = 4096,
	  .aim_more = 4,
	  .measure = measure_load },
	{ .name = NULL },
};
