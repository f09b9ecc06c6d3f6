/* SPDX-License-Identifier: MIT */
/*
 * handoff_*: a buffer goes to and fro between two processes. The unit is one hand-over, half a
 * round trip. Both processes are children of nobody else, the follower dies with the leader.
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
#include "handoff.h"

static const char region_name[] = "bench/handoff";

/* What the leader tells the follower before each batch. */
struct order {
	enum handoff_way way;
	uint64_t rounds, base;
};

struct pair {
	struct shmb_client *client;
	struct handoff handoff;
	int orders; /* to the other process: packets of struct order, answered with an int */
};

/* One contender of bench_compare(). */
struct contender {
	struct pair *pair;
	enum handoff_way way;
	uint64_t turns; /* so far, of this way */
};

enum { SPIN_HOT_US = 1000000 };

/* ---- Both processes ---- */

static int pair_attach(struct pair *pair, const char *address, bool sleeping, size_t length)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct handoff *handoff = &pair->handoff;
	int r;

	/* Hot means that nobody sleeps, as the floor does not: the default budget is for less. */
	options.spin_us = sleeping ? 0 : SPIN_HOT_US;
	handoff->length = length;
	if (posix_memalign(&handoff->private, 4096, length) != 0)
		return SHMB_ENOMEM;
	memset(handoff->private, 0, length);
	r = shmb_client_connect(address, &options, &pair->client);
	if (r < 0)
		return r;
	r = shmb_region_open_or_create(pair->client, region_name, length, NULL, &handoff->region);
	if (r < 0)
		return r;
	handoff->buffer = shmb_region_data(handoff->region);
	/* Every page is there in both processes before the first hand-over. */
	memset(handoff->buffer, 0, length);
	return 0;
}

static void pair_detach(struct pair *pair)
{
	shmb_region_free(pair->handoff.region);
	shmb_client_free(pair->client);
	free(pair->handoff.private);
}

/* ---- The follower ---- */

static void follow(struct pair *pair, const char *address, bool sleeping, size_t length)
{
	struct order order;
	int r = pair_attach(pair, address, sleeping, length);

	if (send(pair->orders, &r, sizeof(r), MSG_NOSIGNAL) < 0 || r < 0)
		_exit(1);
	while (recv(pair->orders, &order, sizeof(order), 0) == (ssize_t)sizeof(order)) {
		r = handoff_ways[order.way].follow(&pair->handoff, order.rounds, order.base);
		if (send(pair->orders, &r, sizeof(r), MSG_NOSIGNAL) < 0)
			break;
	}
	pair_detach(pair);
	_exit(0);
}

static int follower_answer(const struct pair *pair)
{
	int r;

	if (recv(pair->orders, &r, sizeof(r), 0) != (ssize_t)sizeof(r))
		return SHMB_EDISCONNECTED;
	return r;
}

/* ---- The leader ---- */

/* A few rounds first, so that the follower is out of its recv() and both are hot. */
static int lead(void *context, uint64_t count, double *ret_ns)
{
	struct contender *contender = context;
	struct pair *pair = contender->pair;
	const struct handoff_roles *roles = &handoff_ways[contender->way];
	uint64_t warm = count / 8 + 1;
	struct order order = { contender->way, warm + count, contender->turns };
	double begin;
	int r, followed;

	if (send(pair->orders, &order, sizeof(order), MSG_NOSIGNAL) < 0)
		return -errno;
	r = roles->lead(&pair->handoff, warm, order.base);
	begin = bench_now();
	if (r == 0)
		r = roles->lead(&pair->handoff, count, order.base + 2 * warm);
	*ret_ns = (bench_now() - begin) / 2;
	followed = r == 0 ? follower_answer(pair) : 0;
	contender->turns += 2 * order.rounds;
	return r < 0 ? r : followed;
}

static int compare_ways(const struct bench *bench, struct pair *pair, enum handoff_way floor,
			bool with_socket, struct bench_result *ret_result)
{
	struct contender contenders[] = {
		{ pair, HANDOFF_OURS, shmb_region_sequence(pair->handoff.region) },
		{ pair, floor, 0 },
		{ pair, HANDOFF_SOCKET, 0 },
	};
	const struct bench_side sides[] = {
		{ lead, &contenders[0] },
		{ lead, &contenders[1] },
		{ lead, &contenders[2] },
	};
	double medians[3] = { 0 };
	int r = bench_compare(bench, sides, with_socket ? 3 : 2, medians, &ret_result->n);

	if (r < 0)
		return r;
	ret_result->ours = medians[0];
	ret_result->floor = medians[1];
	ret_result->beside = medians[2];
	return 0;
}

/* Sockets and the floors' word, before the fork. */
static int pair_prepare(struct pair *pair, int *ret_orders, int *ret_socket)
{
	int orders[2], stream[2];

	pair->handoff.word = mmap(NULL, sizeof(*pair->handoff.word), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pair->handoff.word == MAP_FAILED)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, orders) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) < 0)
		return -errno;
	pair->orders = orders[0];
	pair->handoff.socket = stream[0];
	*ret_orders = orders[1];
	*ret_socket = stream[1];
	return 0;
}

static int pair_start(struct pair *pair, const char *address, bool sleeping, size_t length,
		      pid_t *ret_follower)
{
	int orders = -1, stream = -1, r;
	pid_t pid;

	r = pair_prepare(pair, &orders, &stream);
	if (r < 0)
		return r;
	pid = bench_fork();
	if (pid == 0) {
		(void)close(pair->orders);
		(void)close(pair->handoff.socket);
		pair->orders = orders;
		pair->handoff.socket = stream;
		follow(pair, address, sleeping, length);
	}
	(void)close(orders);
	(void)close(stream);
	if (pid < 0)
		return (int)pid;
	*ret_follower = pid;
	r = pair_attach(pair, address, sleeping, length);
	return r < 0 ? r : follower_answer(pair);
}

static int measure_pair(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, enum handoff_way floor, bool with_socket,
			struct bench_result *ret_result)
{
	bool sleeping = floor == HANDOFF_FUTEX;
	struct bench_broker broker;
	struct pair pair = { 0 };
	pid_t follower = 0;
	int r, stopped;

	r = bench_broker_start(bench, "handoff", NULL, &broker);
	if (r < 0)
		return r;
	r = pair_start(&pair, broker.address, sleeping, figure->size, &follower);
	if (r >= 0)
		r = bench_place(bench, placement, follower);
	if (r >= 0)
		r = compare_ways(bench, &pair, floor, with_socket, ret_result);
	bench_end(follower);
	pair_detach(&pair);
	stopped = bench_broker_stop(&broker);
	return r < 0 ? r : stopped;
}

static int measure_hot(const struct bench *bench, const struct bench_figure *figure,
		       enum bench_placement placement, struct bench_result *ret_result)
{
	return measure_pair(bench, figure, placement, HANDOFF_SPIN, true, ret_result);
}

static int measure_sleeping(const struct bench *bench, const struct bench_figure *figure,
			    enum bench_placement placement, struct bench_result *ret_result)
{
	return measure_pair(bench, figure, placement, HANDOFF_FUTEX, false, ret_result);
}

#define HANDOFF(NAME, SIZE, RATIO)                                                            \
	{                                                                                     \
		.name = NAME, .unit = "ns", .floor = "bare spin ping-pong on one cache line", \
		.beside = "socket", .size = (SIZE), .two_cpus = true, .aim_ratio = (RATIO),   \
		.measure = measure_hot                                                        \
	}

const struct bench_figure bench_handoff_figures[] = {
	HANDOFF("handoff_64", 64, 3),
	HANDOFF("handoff_4k", 4096, 0),
	HANDOFF("handoff_1m", 1 << 20, 1.1),
	HANDOFF("handoff_64m", 64 << 20, 1.1),
	{ .name = "handoff_sleeping",
	  .unit = "ns",
	  .floor = "bare futex ping-pong",
	  .size = 64,
	  .placed = true,
	  .aim_ratio = 1.1,
	  .measure = measure_sleeping },
	{ .name = NULL },
};
