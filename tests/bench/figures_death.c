/* SPDX-License-Identifier: MIT */
/*
 * owner_death: from the SIGKILL of a process that holds a lock exclusively until one that waits for
 * it has it. The floor is the news alone: from the SIGKILL of a process that is as large until a
 * bare epoll loop is told that its connection hung up.
 *
 * Each death needs a new process. Killer and victim have one CPU; waiter and floor the other, where
 * there are two; the broker runs where it likes.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"
#include "duo.h"
#include "server.h"

static const char region_name[] = "bench/mortal";

enum {
	DEATHS = 300,
	DEATHS_QUICK = 5,
	REGION_BYTES = 65536,
	PAGE_BYTES = 4096,
	N_SEGMENTS = 3, /* of an attachment that locks: data, publish page, lock */
	PATIENCE_MS = 10000,
};

static const size_t segment_bytes[N_SEGMENTS] = { REGION_BYTES, PAGE_BYTES, PAGE_BYTES };

struct shared {
	_Atomic bool waiting; /* the follower has nothing to do any more but to wait */
	double seen_ns;       /* when it was over */
};

struct deaths {
	struct bench_broker broker;
	char path[128]; /* of the bare epoll loop */
	int listener;
	int segments[N_SEGMENTS]; /* for the floor's victims */
	struct shared *shared;
	struct shmb_client *client; /* the waiter's */
	struct shmb_region *region;
	int poll; /* the bare loop's */
};

/* ---- Who waits for the lock ---- */

static int waiter_attach(void *context)
{
	struct deaths *deaths = context;
	int r = shmb_client_connect(deaths->broker.address, NULL, &deaths->client);

	if (r >= 0)
		r = shmb_region_create(deaths->client, region_name, REGION_BYTES, NULL,
				       &deaths->region);
	/* The first locking call asks the broker for a slot, which is not to be measured. */
	if (r >= 0)
		r = shmb_region_lock(deaths->region, SHMB_EXCLUSIVE, -1);
	return r < 0 ? r : shmb_region_unlock(deaths->region);
}

static int wait_for_lock(void *context, const struct duo_order *order)
{
	struct deaths *deaths = context;
	int r;

	atomic_store(&deaths->shared->waiting, true);
	r = shmb_region_lock(deaths->region, SHMB_EXCLUSIVE, PATIENCE_MS);
	deaths->shared->seen_ns = bench_now();
	if (r != SHMB_EOWNERDEAD)
		return r < 0 ? r : SHMB_EIO; /* the victim did not hold it */
	r = shmb_region_mark_consistent(deaths->region);
	return r < 0 ? r : shmb_region_unlock(deaths->region);
}

/* ---- Who waits for the hang-up ---- */

static int loop_watch(const struct deaths *deaths, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.fd = fd };

	return epoll_ctl(deaths->poll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int loop_attach(void *context)
{
	struct deaths *deaths = context;

	deaths->poll = epoll_create1(EPOLL_CLOEXEC);
	return deaths->poll < 0 ? -errno : loop_watch(deaths, deaths->listener);
}

static int next_event(const struct deaths *deaths, struct epoll_event *ret_event)
{
	int n;

	do
		n = epoll_wait(deaths->poll, ret_event, 1, PATIENCE_MS);
	while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : n < 0 ? -errno : SHMB_ETIMEDOUT;
}

/* One connection comes, says one byte, which is answered, and goes. */
static int wait_for_hangup(void *context, const struct duo_order *order)
{
	const struct deaths *deaths = context;
	struct epoll_event event;
	char byte;
	int fd, r = next_event(deaths, &event);

	if (r < 0)
		return r;
	fd = accept4(deaths->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = loop_watch(deaths, fd);
	if (r == 0)
		r = next_event(deaths, &event);
	if (r == 0 && (recv(fd, &byte, 1, 0) != 1 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1))
		r = SHMB_EDISCONNECTED;
	atomic_store(&deaths->shared->waiting, true);
	if (r == 0)
		r = next_event(deaths, &event);
	deaths->shared->seen_ns = bench_now();
	if (r == 0 && !(event.events & EPOLLHUP))
		r = SHMB_EIO;
	(void)close(fd);
	return r;
}

/* ---- Victims ---- */

static int hold_lock(const struct deaths *deaths)
{
	struct shmb_client *client;
	struct shmb_region *region;
	int r = shmb_client_connect(deaths->broker.address, NULL, &client);

	if (r >= 0)
		r = shmb_region_open(client, region_name, SHMB_READ | SHMB_WRITE, NULL, &region);
	if (r >= 0)
		r = shmb_region_lock(region, SHMB_EXCLUSIVE, PATIENCE_MS);
	if (r >= 0)
		*(volatile char *)shmb_region_data(region) = 1;
	return r;
}

static int hold_socket(const struct deaths *deaths)
{
	int fd;

	for (int i = 0; i < N_SEGMENTS; i++) {
		char *data = mmap(NULL, segment_bytes[i], PROT_READ | PROT_WRITE, MAP_SHARED,
				  deaths->segments[i], 0);

		if (data == MAP_FAILED)
			return -errno;
		*(volatile char *)data = 1;
	}
	fd = server_connect(deaths->path);
	return fd < 0 ? fd : server_ask(fd, 1, 0, NULL);
}

static void be_victim(const struct deaths *deaths, int (*hold)(const struct deaths *deaths),
		      int ready)
{
	int r = hold(deaths);

	if (write(ready, &r, sizeof(r)) == (ssize_t)sizeof(r))
		(void)pause();
	_exit(1);
}

/* Return: its pid, when it holds what it is to hold; or a negative error. */
static pid_t start_victim(const struct deaths *deaths, int (*hold)(const struct deaths *deaths))
{
	int ends[2], r = SHMB_EIO;
	pid_t victim;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	victim = bench_fork();
	if (victim == 0)
		be_victim(deaths, hold, ends[1]);
	(void)close(ends[1]);
	if (victim > 0 && read(ends[0], &r, sizeof(r)) != (ssize_t)sizeof(r))
		r = SHMB_EIO;
	(void)close(ends[0]);
	if (victim > 0 && r < 0) {
		bench_end(victim);
		return r;
	}
	return victim;
}

/* ---- One death ---- */

struct observer {
	struct duo duo;
	int (*hold)(const struct deaths *deaths);
	bool first; /* it has to be there before the victim; else after */
};

static void await_waiting(const struct deaths *deaths)
{
	while (!atomic_load(&deaths->shared->waiting))
		bench_relax();
}

static int die(const struct deaths *deaths, const struct observer *observer, double *ret_us)
{
	pid_t victim;
	double begin;
	int r = 0;

	atomic_store(&deaths->shared->waiting, false);
	if (observer->first)
		r = duo_tell(&observer->duo, 0, 0);
	if (r < 0)
		return r;
	victim = start_victim(deaths, observer->hold);
	if (victim < 0)
		return (int)victim;
	if (!observer->first)
		r = duo_tell(&observer->duo, 0, 0);
	if (r == 0)
		await_waiting(deaths);
	if (r == 0)
		r = bench_await_sleep(observer->duo.pid);
	if (r == 0)
		r = bench_await_sleep(victim);
	begin = bench_now();
	if (r == 0 && kill(victim, SIGKILL) < 0)
		r = -errno;
	if (r == 0)
		r = duo_answer(&observer->duo);
	*ret_us = (deaths->shared->seen_ns - begin) / 1000;
	bench_end(victim);
	return r;
}

/* ---- The comparison ---- */

static int compare(const struct bench *bench, const struct deaths *deaths,
		   const struct observer *observers, struct bench_result *ret_result)
{
	static double samples[2][DEATHS];
	size_t n = bench->quick ? DEATHS_QUICK : DEATHS;

	for (size_t i = 0; i < n; i++) {
		for (size_t side = 0; side < 2; side++) {
			size_t turn = (i + side) % 2;
			int r = die(deaths, &observers[turn], &samples[turn][i]);

			if (r < 0)
				return r;
		}
	}
	ret_result->ours = bench_share(samples[0], n, 0.5);
	ret_result->floor = bench_share(samples[1], n, 0.5);
	ret_result->ours_p99 = bench_share(samples[0], n, 0.99);
	ret_result->floor_p99 = bench_share(samples[1], n, 0.99);
	ret_result->n = n;
	return 0;
}

static int prepare(const struct bench *bench, struct deaths *deaths)
{
	static const char zeros[REGION_BYTES];

	deaths->shared = mmap(NULL, sizeof(*deaths->shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (deaths->shared == MAP_FAILED)
		return -errno;
	for (int i = 0; i < N_SEGMENTS; i++) {
		deaths->segments[i] = memfd_create("bench", MFD_CLOEXEC);
		if (deaths->segments[i] < 0)
			return -errno;
		if (write(deaths->segments[i], zeros, segment_bytes[i]) !=
		    (ssize_t)segment_bytes[i])
			return -errno;
	}
	(void)snprintf(deaths->path, sizeof(deaths->path), "%s/floor.sock", bench->directory);
	deaths->listener = bench_listen(deaths->path);
	return deaths->listener < 0 ? deaths->listener : 0;
}

static int place(const struct bench *bench, enum bench_placement placement,
		 const struct deaths *deaths, const struct observer *observers)
{
	int other = bench->cpus[placement == BENCH_TWO_CPUS];
	int r = bench_pin(0, bench->cpus[0]);

	for (int i = 0; r == 0 && i < 2; i++)
		r = bench_pin(observers[i].duo.pid, other);
	if (r == 0 && placement == BENCH_ONE_CPU)
		r = bench_pin(deaths->broker.pid, bench->cpus[0]);
	return r;
}

static int measure(const struct bench *bench, const struct bench_figure *figure,
		   enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct duo_part waiter = { waiter_attach, wait_for_lock };
	static const struct duo_part loop = { loop_attach, wait_for_hangup };
	struct observer observers[] = { { .hold = hold_lock },
					{ .hold = hold_socket, .first = true } };
	struct deaths deaths = { 0 };
	int r = bench_broker_start(bench, "death", NULL, &deaths.broker), stopped;

	if (r < 0)
		return r;
	r = prepare(bench, &deaths);
	if (r == 0)
		r = duo_start(&observers[0].duo, &waiter, &deaths);
	if (r == 0)
		r = duo_start(&observers[1].duo, &loop, &deaths);
	if (r == 0)
		r = place(bench, placement, &deaths, observers);
	if (r == 0)
		r = compare(bench, &deaths, observers, ret_result);
	duo_end(&observers[0].duo);
	duo_end(&observers[1].duo);
	stopped = bench_broker_stop(&deaths.broker);
	return r < 0 ? r : stopped;
}

const struct bench_figure bench_death_figures[] = {
	{ .name = "owner_death",
	  .unit = "us",
	  .floor = "the hang-up of a process as large, seen by a bare epoll loop",
	  .placed = true,
	  .aim_ratio = 2,
	  .measure = measure },
	{ .name = NULL },
};
