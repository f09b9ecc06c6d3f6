/* SPDX-License-Identifier: MIT */
/*
 * recover_100k, manifest_100k, resume: what it takes to go on after a broker that was killed. The
 * floor of a start is one that finds nothing; where it has to look through /dev/shm, looking
 * through it and doing nothing comes on top.
 */

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"
#include "scale.h"

enum {
	SAMPLES_MAX = 31,
	STARTS = 5,
	STARTS_QUICK = 3,
	RESUMES = 31,
	RESUMES_QUICK = 3,
	READY_TIMEOUT_MS = 60000,
	REGION_BYTES = 4096,
	FACTS_BYTES = 48, /* of a region without its name, see figures_scale.c */
};

/* ---- From exec to READY ---- */

static int open_notify(const struct bench *bench)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify.sock",
		       bench->directory);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setenv("NOTIFY_SOCKET", address.sun_path, 1) < 0) {
		int error = errno;

		(void)close(fd);
		return -error;
	}
	return fd;
}

/* What else it says meanwhile is of no interest; what another one said is gone. */
static int await_ready(int notify)
{
	struct pollfd ready = { .fd = notify, .events = POLLIN };
	char text[512];

	for (;;) {
		int n = poll(&ready, 1, READY_TIMEOUT_MS);
		ssize_t length;

		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1)
			return n < 0 ? -errno : SHMB_ETIMEDOUT;
		length = recv(notify, text, sizeof(text) - 1, 0);
		if (length < 0)
			return -errno;
		text[length] = '\0';
		if (strstr(text, "READY=1"))
			return 0;
	}
}

static int forget_notified(int notify)
{
	char byte;

	while (recv(notify, &byte, 1, MSG_DONTWAIT) >= 0)
		;
	return errno == EAGAIN ? 0 : -errno;
}

/* A start that finds nothing. */
static int start_empty(const struct bench *bench, int notify, unsigned turn, double *ret_ns)
{
	struct bench_broker broker;
	double begin;
	char name[16];
	int r, stopped;

	(void)snprintf(name, sizeof(name), "empty%u", turn);
	r = forget_notified(notify);
	if (r < 0)
		return r;
	begin = bench_now();
	r = bench_broker_start(bench, name, scale_roomy, &broker);
	if (r < 0)
		return r;
	r = await_ready(notify);
	*ret_ns = bench_now() - begin;
	stopped = bench_broker_stop(&broker);
	return r < 0 ? r : stopped;
}

static int restart(struct bench_broker *broker, int notify, double *ret_ns)
{
	double begin;
	int r = bench_broker_crash(broker);

	if (r >= 0)
		r = forget_notified(notify);
	begin = bench_now();
	if (r >= 0)
		r = bench_broker_restart(broker);
	if (r >= 0)
		r = await_ready(notify);
	*ret_ns = bench_now() - begin;
	return r;
}

/* ---- recover_100k ---- */

static int look_through_shm(double *ret_ns)
{
	double begin = bench_now();
	DIR *directory = opendir("/dev/shm");

	if (!directory)
		return -errno;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		bench_use(entry);
	(void)closedir(directory);
	*ret_ns = bench_now() - begin;
	return 0;
}

static int fill(const struct bench_broker *broker, uint64_t n)
{
	struct shmb_client *client;
	int r = shmb_client_connect(broker->address, NULL, &client);

	if (r < 0)
		return r;
	r = scale_make_regions(client, 0, n);
	shmb_client_free(client);
	return r;
}

static int find_figure(const struct bench_broker *broker, shmb_stats_fn find, uint64_t *ret_value)
{
	struct shmb_client *client;
	int r = shmb_client_connect(broker->address, NULL, &client);

	if (r < 0)
		return r;
	r = shmb_client_stats(client, find, ret_value);
	shmb_client_free(client);
	return r;
}

static int find_regions(const char *name, uint64_t value, void *userdata)
{
	if (strcmp(name, "regions") == 0)
		*(uint64_t *)userdata = value;
	return 0;
}

/* What came back fast must have come back. */
static int check_regions(const struct bench_broker *broker, uint64_t n)
{
	uint64_t regions = 0;
	int r = find_figure(broker, find_regions, &regions);

	return r < 0 ? r : regions == n ? 0 : SHMB_EIO;
}

static int time_starts(const struct bench *bench, struct bench_broker *broker, int notify,
		       struct bench_result *ret_result)
{
	unsigned n = bench->quick ? STARTS_QUICK : STARTS;
	double ours[SAMPLES_MAX], floors[SAMPLES_MAX];

	for (unsigned i = 0; i < n; i++) {
		double empty, look = 0;
		int r = restart(broker, notify, &ours[i]);

		if (r >= 0)
			r = start_empty(bench, notify, i, &empty);
		if (r >= 0)
			r = look_through_shm(&look);
		if (r < 0)
			return r;
		floors[i] = empty + look;
	}
	ret_result->ours = bench_share(ours, n, 0.5) / 1000;
	ret_result->floor = bench_share(floors, n, 0.5) / 1000;
	ret_result->n = n;
	return 0;
}

static int measure_recover(const struct bench *bench, const struct bench_figure *figure,
			   enum bench_placement placement, struct bench_result *ret_result)
{
	uint64_t n = bench->quick ? figure->size / 100 : figure->size;
	int notify = open_notify(bench);
	struct bench_broker broker;
	int r, stopped;

	if (notify < 0)
		return notify;
	r = bench_broker_start(bench, "many", scale_roomy, &broker);
	if (r < 0)
		return r;
	r = fill(&broker, n);
	if (r >= 0)
		r = time_starts(bench, &broker, notify, ret_result);
	if (r >= 0)
		r = check_regions(&broker, n);
	stopped = bench_broker_stop(&broker);
	(void)close(notify);
	return r < 0 ? r : stopped;
}

/* ---- manifest_100k ---- */

static int find_manifest(const char *name, uint64_t value, void *userdata)
{
	if (strcmp(name, "manifest_bytes") == 0)
		*(uint64_t *)userdata = value;
	return 0;
}

static int measure_manifest(const struct bench *bench, const struct bench_figure *figure,
			    enum bench_placement placement, struct bench_result *ret_result)
{
	uint64_t n = bench->quick ? figure->size / 100 : figure->size, bytes = 0;
	struct bench_broker broker;
	int r, stopped;

	r = bench_broker_start(bench, "many", scale_roomy, &broker);
	if (r < 0)
		return r;
	r = fill(&broker, n);
	if (r >= 0)
		r = find_figure(&broker, find_manifest, &bytes);
	ret_result->ours = (double)bytes / (double)n;
	ret_result->floor = FACTS_BYTES + sizeof("bench/scale/000000") - 1;
	ret_result->n = n;
	stopped = bench_broker_stop(&broker);
	return r < 0 ? r : stopped;
}

/* ---- resume ---- */

static int resume_once(struct bench_broker *broker, struct shmb_client *client, double *ret_ns)
{
	double begin = bench_now();
	int r = bench_broker_crash(broker);

	if (r >= 0)
		r = bench_broker_restart(broker);
	if (r >= 0)
		r = shmb_client_ping(client);
	*ret_ns = bench_now() - begin;
	return r;
}

static int time_resumes(const struct bench *bench, struct bench_broker *broker, int notify,
			struct shmb_client *client, struct bench_result *ret_result)
{
	unsigned n = bench->quick ? RESUMES_QUICK : RESUMES;
	double ours[SAMPLES_MAX], floors[SAMPLES_MAX];

	for (unsigned i = 0; i < n; i++) {
		int r = resume_once(broker, client, &ours[i]);

		if (r >= 0)
			r = start_empty(bench, notify, i, &floors[i]);
		if (r < 0)
			return r;
	}
	ret_result->ours = bench_share(ours, n, 0.5) / 1000;
	ret_result->floor = bench_share(floors, n, 0.5) / 1000;
	ret_result->n = n;
	return 0;
}

static int measure_resume(const struct bench *bench, const struct bench_figure *figure,
			  enum bench_placement placement, struct bench_result *ret_result)
{
	int notify = open_notify(bench);
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	struct bench_broker broker;
	int r, stopped;

	if (notify < 0)
		return notify;
	r = bench_broker_start(bench, "mortal", scale_roomy, &broker);
	if (r < 0)
		return r;
	r = shmb_client_connect(broker.address, NULL, &client);
	if (r >= 0)
		r = shmb_region_create(client, "bench/resume", REGION_BYTES, NULL, &region);
	if (r >= 0)
		r = time_resumes(bench, &broker, notify, client, ret_result);
	shmb_region_free(region);
	shmb_client_free(client);
	stopped = bench_broker_stop(&broker);
	(void)close(notify);
	return r < 0 ? r : stopped;
}

const struct bench_figure bench_recovery_figures[] = {
	{ .name = "recover_100k",
	  .unit = "us",
	  .floor = "exec to READY of an empty broker, and a look through /dev/shm",
	  .size = 100000,
	  .aim_most = 1e6,
	  .measure = measure_recover },
	{ .name = "manifest_100k",
	  .unit = "bytes",
	  .floor = "a region's name and what stat tells of it",
	  .size = 100000,
	  .measure = measure_manifest },
	{ .name = "resume",
	  .unit = "us",
	  .floor = "exec to READY of an empty broker",
	  .measure = measure_resume },
	{ .name = NULL },
};
