/* SPDX-License-Identifier: MIT */
/*
 * flush_async_64m: how long shmb_region_flush_async() holds its caller while 64 dirty MiB of a file
 * have to be written, against handing anything to another thread: an element made, put into a
 * queue under a mutex, and the thread that sleeps for it woken. Each is done once in a while, with
 * a cold cache and a sleeping thread, as a program would.
 */

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include <shmbroker/io.h>

#include "bench.h"
#include "broker.h"

enum { SAMPLES = 41, SAMPLES_QUICK = 5, DIRTY_STEP = 4096, ANSWER_MS = 60000 };

/* ---- The floor: a queue and a thread ---- */

struct element {
	TAILQ_ENTRY(element) link;
	void (*done)(int status, void *userdata);
	void *userdata;
	uint64_t offset, length;
};

struct queue {
	pthread_mutex_t mutex;
	pthread_cond_t wake, done;
	TAILQ_HEAD(, element) elements;
	unsigned n_done;
	bool ending;
	pthread_t thread;
};

static void *take(void *argument)
{
	struct queue *queue = argument;
	struct element *element;

	pthread_mutex_lock(&queue->mutex);
	while (!queue->ending) {
		element = TAILQ_FIRST(&queue->elements);
		if (!element) {
			pthread_cond_wait(&queue->wake, &queue->mutex);
			continue;
		}
		TAILQ_REMOVE(&queue->elements, element, link);
		free(element);
		queue->n_done++;
		pthread_cond_signal(&queue->done);
	}
	pthread_mutex_unlock(&queue->mutex);
	return NULL;
}

static int queue_open(struct queue *queue)
{
	pthread_mutex_init(&queue->mutex, NULL);
	pthread_cond_init(&queue->wake, NULL);
	pthread_cond_init(&queue->done, NULL);
	TAILQ_INIT(&queue->elements);
	queue->ending = false;
	queue->n_done = 0;
	return -pthread_create(&queue->thread, NULL, take, queue);
}

static void queue_close(struct queue *queue)
{
	pthread_mutex_lock(&queue->mutex);
	queue->ending = true;
	pthread_cond_signal(&queue->wake);
	pthread_mutex_unlock(&queue->mutex);
	pthread_join(queue->thread, NULL);
}

static int push(struct queue *queue)
{
	struct element *element = malloc(sizeof(*element));

	if (!element)
		return SHMB_ENOMEM;
	*element = (struct element){ .done = NULL };
	pthread_mutex_lock(&queue->mutex);
	TAILQ_INSERT_TAIL(&queue->elements, element, link);
	pthread_cond_signal(&queue->wake);
	pthread_mutex_unlock(&queue->mutex);
	return 0;
}

static int time_push(struct queue *queue, double *ret_ns)
{
	unsigned before = queue->n_done; /* nobody writes it now */
	double begin;
	int r;

	begin = bench_now();
	r = push(queue);
	*ret_ns = bench_now() - begin;
	pthread_mutex_lock(&queue->mutex);
	while (r == 0 && queue->n_done == before)
		pthread_cond_wait(&queue->done, &queue->mutex);
	pthread_mutex_unlock(&queue->mutex);
	return r;
}

/* ---- Ours ---- */

struct flush {
	struct bench_broker broker;
	struct shmb_client *client;
	struct shmb_region *region;
	uint64_t size;
};

static void on_done(int status, void *userdata)
{
	*(int *)userdata = status == 0 ? 1 : status;
}

static int await(struct shmb_client *client, const int *status)
{
	struct pollfd poll_fd = { .fd = shmb_client_get_fd(client), .events = POLLIN };

	while (*status == 0) {
		int r = poll(&poll_fd, 1, ANSWER_MS);

		if (r <= 0)
			return SHMB_ETIMEDOUT;
		r = shmb_client_process(client);
		if (r < 0)
			return r;
	}
	return *status < 0 ? *status : 0;
}

/* Also before the floor, which then finds the same cold cache. */
static void make_dirty(const struct flush *flush)
{
	unsigned char *data = shmb_region_data(flush->region);

	for (uint64_t i = 0; i < flush->size; i += DIRTY_STEP)
		data[i]++;
}

static int time_flush(const struct flush *flush, double *ret_ns)
{
	double begin;
	int r, status = 0;

	make_dirty(flush);
	begin = bench_now();
	r = shmb_region_flush_async(flush->region, 0, 0, on_done, &status);
	*ret_ns = bench_now() - begin;
	return r < 0 ? r : await(flush->client, &status);
}

static int flush_open(const struct bench *bench, uint64_t size, struct flush *flush)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	char path[512];
	int r = shmb_client_connect(flush->broker.address, NULL, &flush->client);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/flushed", bench->directory);
	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.file_flags = SHMB_FILE_CREATE;
	flush->size = size;
	return shmb_region_create(flush->client, "bench/flush", size, &options, &flush->region);
}

/* ---- Both in turns ---- */

static int compare(const struct bench *bench, const struct flush *flush, struct queue *queue,
		   struct bench_result *ret_result)
{
	double samples[2][SAMPLES];
	size_t n = bench->quick ? SAMPLES_QUICK : SAMPLES;
	double first;
	int r = time_flush(flush, &first); /* in which its thread begins */

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = time_flush(flush, &samples[0][i]);
		make_dirty(flush);
		if (r == 0)
			r = time_push(queue, &samples[1][i]);
		samples[0][i] /= 1000;
		samples[1][i] /= 1000;
	}
	if (r < 0)
		return r;
	ret_result->ours = bench_share(samples[0], n, 0.5);
	ret_result->floor = bench_share(samples[1], n, 0.5);
	ret_result->n = n;
	return 0;
}

static int measure_flush(const struct bench *bench, const struct bench_figure *figure,
			 enum bench_placement placement, struct bench_result *ret_result)
{
	uint64_t size = bench->quick ? figure->size / 64 : figure->size;
	struct flush flush = { .client = NULL };
	struct queue queue;
	int r = bench_broker_start(bench, "flush", NULL, &flush.broker), stopped;

	if (r < 0)
		return r;
	r = flush_open(bench, size, &flush);
	if (r == 0)
		r = queue_open(&queue);
	if (r == 0) {
		r = compare(bench, &flush, &queue, ret_result);
		queue_close(&queue);
	}
	shmb_region_free(flush.region);
	shmb_client_free(flush.client);
	stopped = bench_broker_stop(&flush.broker);
	return r < 0 ? r : stopped;
}

const struct bench_figure bench_flush_figures[] = {
	{ .name = "flush_async_64m",
	  .unit = "us",
	  .floor = "an element into a queue, and its sleeping thread woken",
	  .size = 64 << 20,
	  .aim_ratio = 1.2,
	  .measure = measure_flush },
	{ .name = NULL },
};
