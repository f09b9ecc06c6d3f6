/* SPDX-License-Identifier: MIT */
/*
 * read_guarded, write_guarded: copies through a handle that is protected against SIGBUS, beside the
 * same copies through one that is not. One region, one process.
 */

#include <stdlib.h>
#include <string.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"

struct handle {
	struct shmb_region *region;
	char *buffer;
	size_t size;
};

static int run_read(void *context, uint64_t count, double *ret_ns)
{
	const struct handle *handle = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_region_read(handle->region, 0, handle->buffer, handle->size, 0);

		if (r < 0)
			return r;
		bench_use(handle->buffer);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_write(void *context, uint64_t count, double *ret_ns)
{
	const struct handle *handle = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_region_write(handle->region, 0, handle->buffer, handle->size, 0);

		if (r < 0)
			return r;
		bench_use(handle->buffer);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int open_handle(struct shmb_client *client, unsigned flags, struct handle *handle)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	int r;

	options.flags = flags;
	r = shmb_region_open_or_create(client, "bench/guard", handle->size, &options,
				       &handle->region);
	return r < 0 ? r : shmb_region_touch(handle->region, 0, 0);
}

/* Both sides have the same buffer: where it lies makes more of a difference than what is measured.
 */
static int compare(const struct bench *bench, struct shmb_client *client, size_t size,
		   struct bench_side sides[2], double medians[2], uint64_t *ret_n)
{
	struct handle guarded = { .size = size }, plain = { .size = size };
	int r;

	if (posix_memalign((void **)&guarded.buffer, 4096, size) != 0)
		return SHMB_ENOMEM;
	memset(guarded.buffer, 1, size);
	plain.buffer = guarded.buffer;
	r = open_handle(client, 0, &guarded);
	if (r >= 0)
		r = open_handle(client, SHMB_UNGUARDED, &plain);
	if (r >= 0)
		r = bench_pin(0, bench->cpus[0]);
	if (r >= 0) {
		sides[0].context = &guarded;
		sides[1].context = &plain;
		r = bench_compare_brief(bench, sides, 2, medians, ret_n);
	}
	shmb_region_free(plain.region);
	shmb_region_free(guarded.region);
	free(guarded.buffer);
	return r;
}

static int measure(const struct bench *bench, size_t size,
		   int (*run)(void *context, uint64_t count, double *ret_ns),
		   struct bench_result *ret_result)
{
	struct bench_side sides[2] = { { run, NULL }, { run, NULL } };
	struct shmb_client *client = NULL;
	struct bench_broker broker;
	double medians[2] = { 0, 0 };
	int r, stopped;

	r = bench_broker_start(bench, "guard", NULL, &broker);
	if (r < 0)
		return r;
	r = shmb_client_connect(broker.address, NULL, &client);
	if (r >= 0)
		r = compare(bench, client, size, sides, medians, &ret_result->n);
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
	return measure(bench, figure->size, run_read, ret_result);
}

static int measure_write(const struct bench *bench, const struct bench_figure *figure,
			 enum bench_placement placement, struct bench_result *ret_result)
{
	return measure(bench, figure->size, run_write, ret_result);
}

const struct bench_figure bench_guard_figures[] = {
	{ .name = "read_guarded",
	  .unit = "ns",
	  .floor = "shmb_region_read() of an unguarded handle",
	  .size = 4096,
	  .aim_ratio = 1.05,
	  .measure = measure_read },
	{ .name = "write_guarded",
	  .unit = "ns",
	  .floor = "shmb_region_write() of an unguarded handle",
	  .size = 4096,
	  .aim_ratio = 1.05,
	  .measure = measure_write },
	{ .name = NULL },
};
