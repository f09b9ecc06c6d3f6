/* SPDX-License-Identifier: MIT */
/*
 * create_fill_1g: making a region and writing all of it, with huge pages where they can be had. The
 * floor is what a program without a broker does: shm_open, mmap, memset; beside it is the same
 * region of ordinary pages. What is given back afterwards is not measured.
 *
 * The pool of huge pages is made large enough if this process may, and as it was when it ends,
 * however it ends. --quick leaves it alone.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"

#define POOL "/proc/sys/vm/nr_hugepages"

enum {
	ROUNDS = 9,
	ROUNDS_QUICK = 3,
	SIZE_QUICK = 16 << 20,
	POOL_WAIT_MS = 20000, /* until what was freed is back in the pool */
};

/* ---- The pool ---- */

static uint64_t meminfo(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t number = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			number = strtoull(line + strlen(name), NULL, 10);
	if (file)
		(void)fclose(file);
	return number;
}

static int set_pool(uint64_t pages)
{
	int fd = open(POOL, O_WRONLY | O_CLOEXEC), n;

	if (fd < 0)
		return -errno;
	n = dprintf(fd, "%llu\n", (unsigned long long)pages);
	(void)close(fd);
	return n > 0 ? 0 : -EIO;
}

struct pool {
	uint64_t needed; /* pages that have to be free; 0: it is not looked at */
	int lifeline;    /* closing it, or dying, puts the pool back; -1: it was not changed */
};

/* A process that outlives us by as long as that takes. */
static int put_back_at_the_end(uint64_t pages, struct pool *pool)
{
	int ends[2];
	pid_t pid;
	char none;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		(void)close(ends[1]);
		(void)prctl(PR_SET_PDEATHSIG, 0);
		while (read(ends[0], &none, 1) < 0 && errno == EINTR)
			;
		_exit(set_pool(pages) == 0 ? 0 : 1);
	}
	(void)close(ends[0]);
	if (pid < 0) {
		(void)close(ends[1]);
		return -errno;
	}
	pool->lifeline = ends[1];
	return 0;
}

static void pool_open(const struct bench *bench, uint64_t size, struct pool *ret_pool)
{
	uint64_t page = meminfo("Hugepagesize:") << 10, had = meminfo("HugePages_Total:");
	uint64_t available = meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:");

	*ret_pool = (struct pool){ .lifeline = -1 };
	if (page == 0)
		return;
	ret_pool->needed = (size + page - 1) / page;
	if (!bench->quick && available < ret_pool->needed && access(POOL, W_OK) == 0 &&
	    put_back_at_the_end(had, ret_pool) == 0)
		(void)set_pool(had + ret_pool->needed - available);
	available = meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:");
	if (available >= ret_pool->needed)
		return;
	ret_pool->needed = 0;
	if (!bench->quick)
		fprintf(stderr,
			"shmb_bench: create_fill_1g: the pool of huge pages is too small\n");
}

/* The broker destroys large memory beside its other work. */
static int pool_settle(const struct pool *pool)
{
	const struct timespec moment = { .tv_nsec = 1000000 };

	for (int i = 0; i < POOL_WAIT_MS; i++) {
		if (meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:") >= pool->needed)
			return 0;
		(void)nanosleep(&moment, NULL);
	}
	return SHMB_ETIMEDOUT;
}

static void pool_close(const struct pool *pool)
{
	if (pool->lifeline >= 0)
		(void)close(pool->lifeline);
}

/* ---- The three ways ---- */

struct way {
	struct shmb_client *client;
	const struct pool *pool;
	size_t size;
};

static int fill_region(const struct way *way, enum shmb_huge huge, double *ret_ns)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region = NULL;
	double begin = bench_now();
	int r;

	options.huge = huge;
	r = shmb_region_create(way->client, "bench/memory", way->size, &options, &region);
	if (r < 0)
		return r;
	memset(shmb_region_data(region), 1, way->size);
	bench_use(shmb_region_data(region));
	*ret_ns = bench_now() - begin;
	shmb_region_free(region);
	return pool_settle(way->pool);
}

static int fill_shm(const struct way *way, double *ret_ns)
{
	char name[40];
	double begin;
	void *data;
	int fd;

	(void)snprintf(name, sizeof(name), "/shmb_bench.%d", (int)getpid());
	begin = bench_now();
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return -errno;
	(void)shm_unlink(name);
	data = ftruncate(fd, (off_t)way->size) < 0
		       ? MAP_FAILED
		       : mmap(NULL, way->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED) {
		(void)close(fd);
		return SHMB_ENOMEM;
	}
	memset(data, 1, way->size);
	bench_use(data);
	*ret_ns = bench_now() - begin;
	(void)munmap(data, way->size);
	(void)close(fd);
	return 0;
}

/* In turns, so that whatever else the machine does hits all. */
static int measure_ways(const struct bench *bench, const struct way *way,
			struct bench_result *ret_result)
{
	double huge[ROUNDS], plain[ROUNDS], floor[ROUNDS];
	size_t n = bench->quick ? ROUNDS_QUICK : ROUNDS;

	for (size_t i = 0; i < n; i++) {
		int r = fill_region(way, SHMB_HUGE_TRY, &huge[i]);

		if (r >= 0)
			r = fill_region(way, SHMB_HUGE_DEFAULT, &plain[i]);
		if (r >= 0)
			r = fill_shm(way, &floor[i]);
		if (r < 0)
			return r;
	}
	*ret_result = (struct bench_result){
		.ours = bench_share(huge, n, 0.5) / 1e3,
		.beside = bench_share(plain, n, 0.5) / 1e3,
		.floor = bench_share(floor, n, 0.5) / 1e3,
		.n = n,
	};
	return 0;
}

static int measure_fill(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, struct bench_result *ret_result)
{
	struct way way = { .size = bench->quick ? SIZE_QUICK : (size_t)figure->size };
	struct bench_broker broker;
	struct pool pool;
	int r, stopped;

	pool_open(bench, way.size,
		  &pool); /* first: its process must not hold the broker's lifeline */
	way.pool = &pool;
	r = bench_broker_start(bench, "memory", NULL, &broker);
	if (r < 0) {
		pool_close(&pool);
		return r;
	}
	r = shmb_client_connect(broker.address, NULL, &way.client);
	if (r >= 0)
		r = bench_pin(0, bench->cpus[0]);
	if (r >= 0)
		r = measure_ways(bench, &way, ret_result);
	shmb_client_free(way.client);
	stopped = bench_broker_stop(&broker);
	pool_close(&pool);
	return r < 0 ? r : stopped;
}

const struct bench_figure bench_memory_figures[] = {
	{ .name = "create_fill_1g",
	  .unit = "us",
	  .floor = "shm_open, mmap, memset",
	  .beside = "ordinary",
	  .size = 1 << 30,
	  .aim_ratio = 1,
	  .measure = measure_fill },
	{ .name = NULL },
};
