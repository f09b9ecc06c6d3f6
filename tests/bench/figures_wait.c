/* SPDX-License-Identifier: MIT */
/*
 * waiter_cpu_*: the processor time of a process that waits for one second and gets nothing. Ours
 * and the floor wait side by side, each in a process of its own.
 */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <time.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"
#include "duo.h"

static const char region_name[] = "bench/held", semaphore_name[] = "bench/empty";

enum { WAIT_MS = 1000, WAIT_QUICK_MS = 100, ROUNDS = 5, ROUNDS_QUICK = 3, REGION_BYTES = 4096 };

enum way { SEMAPHORE, LOCK, POSIX_SEMAPHORE, POSIX_LOCK };

/* What the floors wait for, and what the two processes have used. */
struct shared {
	pthread_rwlock_t rwlock;
	sem_t semaphore;
	double used_ns[2];
};

struct vain {
	struct bench_broker broker;
	struct shmb_client *client;
	struct shmb_region *region; /* locked by the leader, all the time */
	struct shmb_semaphore *semaphore;
	struct shared *shared;
	int waiter; /* which of the two this process is */
	struct duo duos[2];
};

/* ---- Waiting in vain ---- */

static double cpu_ns(void)
{
	struct timespec used;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (double)used.tv_sec * 1e9 + (double)used.tv_nsec;
}

static struct timespec deadline(int wait_ms)
{
	struct timespec at;

	(void)clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += wait_ms / 1000;
	at.tv_nsec += wait_ms % 1000 * 1000000L;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return at;
}

static int wait_posix(struct shared *shared, enum way way, int wait_ms)
{
	const struct timespec at = deadline(wait_ms);

	if (way == POSIX_LOCK)
		return -pthread_rwlock_timedwrlock(&shared->rwlock, &at);
	return sem_timedwait(&shared->semaphore, &at) < 0 ? -errno : 0;
}

static int wait_any(const struct vain *vain, enum way way, int wait_ms)
{
	switch (way) {
	case SEMAPHORE:
		return shmb_semaphore_wait(vain->semaphore, wait_ms);
	case LOCK:
		return shmb_region_lock(vain->region, SHMB_EXCLUSIVE, wait_ms);
	default:
		return wait_posix(vain->shared, way, wait_ms);
	}
}

static int follow(void *context, const struct duo_order *order)
{
	const struct vain *vain = context;
	double begin = cpu_ns();
	int r = wait_any(vain, (enum way)order->way, (int)order->count);

	vain->shared->used_ns[vain->waiter] = cpu_ns() - begin;
	if (r != SHMB_ETIMEDOUT && r != -ETIMEDOUT)
		return r < 0 ? r : SHMB_EIO; /* nobody gave it anything */
	return 0;
}

/* ---- Setting up ---- */

static int attach(void *context)
{
	struct vain *vain = context;
	int r = shmb_client_connect(vain->broker.address, NULL, &vain->client);

	if (r >= 0)
		r = shmb_region_open_or_create(vain->client, region_name, REGION_BYTES, NULL,
					       &vain->region);
	if (r >= 0)
		r = shmb_semaphore_open_or_create(vain->client, semaphore_name, NULL,
						  &vain->semaphore);
	return r < 0 ? r : 0;
}

static int hold_posix(struct shared *shared)
{
	pthread_rwlockattr_t attributes;
	int error = pthread_rwlockattr_init(&attributes);

	if (error == 0)
		error = pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (error == 0)
		error = pthread_rwlock_init(&shared->rwlock, &attributes);
	if (error == 0)
		error = pthread_rwlock_wrlock(&shared->rwlock);
	(void)pthread_rwlockattr_destroy(&attributes);
	if (error != 0)
		return -error;
	return sem_init(&shared->semaphore, 1, 0) < 0 ? -errno : 0;
}

static int start(struct vain *vain)
{
	static const struct duo_part part = { attach, follow };
	int r;

	vain->shared = mmap(NULL, sizeof(*vain->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vain->shared == MAP_FAILED)
		return -errno;
	r = hold_posix(vain->shared);
	for (int i = 0; r == 0 && i < 2; i++) {
		vain->waiter = i;
		r = duo_start(&vain->duos[i], &part, vain);
	}
	if (r == 0)
		r = attach(vain);
	return r < 0 ? r : shmb_region_lock(vain->region, SHMB_EXCLUSIVE, -1);
}

static int stop(struct vain *vain)
{
	for (int i = 0; i < 2; i++)
		duo_end(&vain->duos[i]);
	shmb_semaphore_free(vain->semaphore);
	shmb_region_free(vain->region);
	shmb_client_free(vain->client);
	return bench_broker_stop(&vain->broker);
}

/* ---- Both at once ---- */

static int wait_both(const struct vain *vain, enum way ours, enum way floor, int wait_ms)
{
	int r = duo_tell(&vain->duos[0], ours, (uint64_t)wait_ms), answers[2];

	if (r == 0)
		r = duo_tell(&vain->duos[1], floor, (uint64_t)wait_ms);
	if (r < 0)
		return r;
	for (int i = 0; i < 2; i++)
		answers[i] = duo_answer(&vain->duos[i]);
	return answers[0] < 0 ? answers[0] : answers[1];
}

static int compare(const struct bench *bench, const struct vain *vain, enum way ours,
		   enum way floor, struct bench_result *ret_result)
{
	double samples[2][ROUNDS];
	size_t rounds = bench->quick ? ROUNDS_QUICK : ROUNDS;

	for (size_t i = 0; i < rounds; i++) {
		int r = wait_both(vain, ours, floor, bench->quick ? WAIT_QUICK_MS : WAIT_MS);

		if (r < 0)
			return r;
		samples[0][i] = vain->shared->used_ns[0] / 1000;
		samples[1][i] = vain->shared->used_ns[1] / 1000;
	}
	ret_result->ours = bench_share(samples[0], rounds, 0.5);
	ret_result->floor = bench_share(samples[1], rounds, 0.5);
	ret_result->n = rounds;
	return 0;
}

static int measure(const struct bench *bench, enum way ours, enum way floor,
		   struct bench_result *ret_result)
{
	struct vain vain = { 0 };
	int r = bench_broker_start(bench, "wait", NULL, &vain.broker), stopped;

	if (r < 0)
		return r;
	r = start(&vain);
	if (r == 0)
		r = compare(bench, &vain, ours, floor, ret_result);
	stopped = stop(&vain);
	return r < 0 ? r : stopped;
}

static int measure_semaphore(const struct bench *bench, const struct bench_figure *figure,
			     enum bench_placement placement, struct bench_result *ret_result)
{
	return measure(bench, SEMAPHORE, POSIX_SEMAPHORE, ret_result);
}

static int measure_lock(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, struct bench_result *ret_result)
{
	return measure(bench, LOCK, POSIX_LOCK, ret_result);
}

const struct bench_figure bench_wait_figures[] = {
	{ .name = "waiter_cpu_sem",
	  .unit = "us",
	  .floor = "sem_timedwait() for as long",
	  .aim_most = 1000,
	  .measure = measure_semaphore },
	{ .name = "waiter_cpu_lock",
	  .unit = "us",
	  .floor = "pthread_rwlock_timedwrlock() for as long",
	  .aim_most = 1000,
	  .measure = measure_lock },
	{ .name = NULL },
};
