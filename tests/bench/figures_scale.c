/* SPDX-License-Identifier: MIT */
/*
 * regions_100k, open_at_100k, clients_5k: what a broker with much to keep costs. The floor of
 * memory is a process that keeps the same facts in one malloc() each; that of opening is a broker
 * with ten regions.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"
#include "scale.h"
#include "server.h"

enum {
	FEW = 10,  /* regions of the broker that open_at_100k is compared with */
	WARM = 64, /* made before counting, so that what exists once is not counted */
	REGION_BYTES = 4096,
	NAME_BYTES = 48,
	SPARE_FDS = 128, /* of a process, beside its connections */
};

const char *const scale_roomy[] = {
	"--regions-per-user=1000000",
	"--attachments-per-user=1000000",
	"--bytes-per-user=1T",
	"--connections-per-user=100000",
	NULL,
};

static void region_name(uint64_t number, char *name, size_t size)
{
	(void)snprintf(name, size, "bench/scale/%06llu", (unsigned long long)number);
}

int scale_make_regions(struct shmb_client *client, uint64_t first, uint64_t last)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	char name[NAME_BYTES];

	options.lifetime = SHMB_PERSISTENT;
	options.backing = SHMB_BACKING_SHM;
	for (uint64_t i = first; i < last; i++) {
		struct shmb_region *region;
		int r;

		region_name(i, name, sizeof(name));
		r = shmb_region_create(client, name, REGION_BYTES, &options, &region);
		if (r < 0)
			return r;
		shmb_region_free(region);
	}
	return 0;
}

/* A round trip more, so that the broker has dealt with all that was sent without an answer. */
static int settled_bytes(struct shmb_client *client, pid_t broker, uint64_t *ret_bytes)
{
	int r = shmb_client_ping(client);

	return r < 0 ? r : bench_anonymous_bytes(broker, ret_bytes);
}

/* ---- regions_100k ---- */

/* What region.stat answers, and nothing to find it by. */
struct bare_region {
	struct bare_region *next;
	uint64_t id, size, capacity, created;
	uint32_t uid, gid, attachments;
	uint16_t mode;
	uint8_t backing, lifetime;
	char name[];
};

static struct bare_region *bare_regions(uint64_t n, struct bare_region *list)
{
	char name[NAME_BYTES];

	for (uint64_t i = 0; i < n; i++) {
		struct bare_region *region;

		region_name(i, name, sizeof(name));
		region = malloc(sizeof(*region) + strlen(name) + 1);
		if (!region)
			_exit(1);
		*region = (struct bare_region){ .next = list, .id = i };
		(void)strcpy(region->name, name);
		list = region;
	}
	return list;
}

/* In a process of its own, so that no memory freed before is used again. */
static int bare_bytes_per_region(uint64_t n, double *ret_bytes)
{
	double *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char token;
	pid_t pid;
	int ends[2];

	if (shared == MAP_FAILED || pipe(ends) < 0)
		return -errno;
	pid = bench_fork();
	if (pid < 0)
		return (int)pid;
	if (pid == 0) {
		uint64_t before = 0, after = 0;
		struct bare_region *list = bare_regions(WARM, NULL);
		int r = bench_anonymous_bytes(getpid(), &before);

		list = bare_regions(n, list);
		bench_use(list);
		if (r < 0 || bench_anonymous_bytes(getpid(), &after) < 0)
			_exit(1);
		*shared = (double)(after - before) / (double)n;
		_exit(write(ends[1], "", 1) != 1);
	}
	(void)close(ends[1]);
	n = (uint64_t)read(ends[0], &token, 1);
	bench_end(pid);
	(void)close(ends[0]);
	*ret_bytes = *shared;
	(void)munmap(shared, sizeof(*shared));
	return n == 1 ? 0 : SHMB_EIO;
}

static int bytes_per_region(const struct bench_broker *broker, uint64_t n, double *ret_bytes)
{
	struct shmb_client *client;
	uint64_t before, after;
	int r = shmb_client_connect(broker->address, NULL, &client);

	if (r < 0)
		return r;
	r = scale_make_regions(client, n, n + WARM);
	if (r >= 0)
		r = settled_bytes(client, broker->pid, &before);
	if (r >= 0)
		r = scale_make_regions(client, 0, n);
	if (r >= 0)
		r = settled_bytes(client, broker->pid, &after);
	if (r >= 0)
		*ret_bytes = (double)(after - before) / (double)n;
	shmb_client_free(client);
	return r;
}

static int measure_regions(const struct bench *bench, const struct bench_figure *figure,
			   enum bench_placement placement, struct bench_result *ret_result)
{
	uint64_t n = bench->quick ? figure->size / 100 : figure->size;
	struct bench_broker broker;
	int r, stopped;

	r = bare_bytes_per_region(n, &ret_result->floor);
	if (r < 0)
		return r;
	r = bench_broker_start(bench, "scale", scale_roomy, &broker);
	if (r < 0)
		return r;
	r = bytes_per_region(&broker, n, &ret_result->ours);
	stopped = bench_broker_stop(&broker);
	ret_result->n = n;
	return r < 0 ? r : stopped;
}

/* ---- open_at_100k ---- */

struct shelf {
	struct bench_broker broker;
	struct shmb_client *client;
	uint64_t n;      /* regions in it */
	uint64_t random; /* state of the choice */
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static int run_open(void *context, uint64_t count, double *ret_ns)
{
	struct shelf *shelf = context;
	double begin = bench_now();
	char name[NAME_BYTES];

	for (uint64_t i = 0; i < count; i++) {
		struct shmb_region *region;
		int r;

		region_name(next_random(&shelf->random) % shelf->n, name, sizeof(name));
		r = shmb_region_open(shelf->client, name, SHMB_READ | SHMB_WRITE, NULL, &region);
		if (r < 0)
			return r;
		shmb_region_free(region);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int shelf_fill(const struct bench *bench, struct shelf *shelf)
{
	int r = shmb_client_connect(shelf->broker.address, NULL, &shelf->client);

	if (r >= 0)
		r = scale_make_regions(shelf->client, 0, shelf->n);
	if (r >= 0)
		r = bench_place(bench, bench->n_cpus > 1 ? BENCH_TWO_CPUS : BENCH_ONE_CPU,
				shelf->broker.pid);
	return r;
}

static int measure_open(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, struct bench_result *ret_result)
{
	struct shelf shelves[2] = {
		{ .n = bench->quick ? figure->size / 100 : figure->size,
		  .random = 88172645463325252 },
		{ .n = FEW, .random = 88172645463325252 },
	};
	const struct bench_side sides[2] = { { run_open, &shelves[0] }, { run_open, &shelves[1] } };
	double medians[2];
	int r, stopped, few_stopped;

	r = bench_broker_start(bench, "many", scale_roomy, &shelves[0].broker);
	if (r < 0)
		return r;
	r = bench_broker_start(bench, "few", scale_roomy, &shelves[1].broker);
	if (r < 0) {
		(void)bench_broker_stop(&shelves[0].broker);
		return r;
	}
	r = shelf_fill(bench, &shelves[0]);
	if (r >= 0)
		r = shelf_fill(bench, &shelves[1]);
	if (r >= 0)
		r = bench_compare(bench, sides, 2, medians, &ret_result->n);
	shmb_client_free(shelves[0].client);
	shmb_client_free(shelves[1].client);
	stopped = bench_broker_stop(&shelves[0].broker);
	few_stopped = bench_broker_stop(&shelves[1].broker);
	if (r < 0 || stopped < 0 || few_stopped < 0)
		return r < 0 ? r : stopped < 0 ? stopped : few_stopped;
	ret_result->ours = medians[0] / 1000;
	ret_result->floor = medians[1] / 1000;
	return 0;
}

/* ---- clients_5k ---- */

static int connect_many(const char *address, struct shmb_client **clients, uint64_t first,
			uint64_t last)
{
	for (uint64_t i = first; i < last; i++) {
		int r = shmb_client_connect(address, NULL, &clients[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int bytes_per_client(const struct bench_broker *broker, uint64_t n, double *ret_bytes)
{
	struct shmb_client **clients = calloc(n + WARM, sizeof(*clients));
	uint64_t before, after;
	int r;

	if (!clients)
		return SHMB_ENOMEM;
	r = connect_many(broker->address, clients, 0, WARM);
	if (r >= 0)
		r = settled_bytes(clients[0], broker->pid, &before);
	if (r >= 0)
		r = connect_many(broker->address, clients, WARM, n + WARM);
	if (r >= 0)
		r = settled_bytes(clients[0], broker->pid, &after);
	if (r >= 0)
		*ret_bytes = (double)(after - before) / (double)n;
	for (uint64_t i = 0; i < n + WARM; i++)
		shmb_client_free(clients[i]);
	free(clients);
	return r;
}

/* Sets @fds from @first to @last - 1; each connection has been served once. */
static int bare_connect_many(const char *path, int *fds, uint64_t first, uint64_t last)
{
	for (uint64_t i = first; i < last; i++) {
		int r;

		fds[i] = server_connect(path);
		if (fds[i] < 0)
			return fds[i];
		r = server_ask(fds[i], 1, 0, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

static int bare_count_bytes(const char *path, pid_t server, uint64_t n, int *fds, double *ret_bytes)
{
	uint64_t before, after;
	int r = bare_connect_many(path, fds, 0, WARM);

	if (r >= 0)
		r = bench_anonymous_bytes(server, &before);
	if (r >= 0)
		r = bare_connect_many(path, fds, WARM, n + WARM);
	if (r >= 0)
		r = bench_anonymous_bytes(server, &after);
	if (r >= 0)
		*ret_bytes = (double)(after - before) / (double)n;
	return r;
}

static int bare_bytes_per_client(const struct bench *bench, uint64_t n, double *ret_bytes)
{
	static const struct server_plan plan = { .reply_length = 1 };
	char path[128];
	pid_t server;
	int *fds;
	int r;

	(void)snprintf(path, sizeof(path), "%s/floor.sock", bench->directory);
	server = server_start(path, &plan);
	if (server < 0)
		return (int)server;
	fds = malloc((n + WARM) * sizeof(*fds));
	for (uint64_t i = 0; fds && i < n + WARM; i++)
		fds[i] = -1;
	r = fds ? bare_count_bytes(path, server, n, fds, ret_bytes) : SHMB_ENOMEM;
	for (uint64_t i = 0; fds && i < n + WARM; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	free(fds);
	bench_end(server);
	(void)unlink(path);
	return r;
}

static int measure_clients(const struct bench *bench, const struct bench_figure *figure,
			   enum bench_placement placement, struct bench_result *ret_result)
{
	uint64_t n = bench->quick ? figure->size / 5 : figure->size;
	struct bench_broker broker;
	int r, stopped;

	/* The broker needs a socket and a pidfd for each; it inherits our limit. */
	r = bench_need_fds(figure->name, 2 * (n + WARM) + SPARE_FDS);
	if (r < 0)
		return r;
	/* First, because a forked server could use again what our clients freed here. */
	r = bare_bytes_per_client(bench, n, &ret_result->floor);
	if (r < 0)
		return r;
	r = bench_broker_start(bench, "clients", scale_roomy, &broker);
	if (r < 0)
		return r;
	r = bytes_per_client(&broker, n, &ret_result->ours);
	stopped = bench_broker_stop(&broker);
	ret_result->n = n;
	return r < 0 ? r : stopped;
}

const struct bench_figure bench_scale_figures[] = {
	{ .name = "regions_100k",
	  .unit = "bytes",
	  .floor = "one malloc() per region with name and stat, in a list",
	  .size = 100000,
	  .aim_most = 600,
	  .measure = measure_regions },
	{ .name = "open_at_100k",
	  .unit = "us",
	  .floor = "a broker with 10 regions",
	  .size = 100000,
	  .aim_ratio = 1.2,
	  .measure = measure_open },
	{ .name = "clients_5k",
	  .unit = "bytes",
	  .floor = "bare epoll server with one malloc() per connection",
	  .size = 5000,
	  .aim_most = 4096,
	  .measure = measure_clients },
	{ .name = NULL },
};
