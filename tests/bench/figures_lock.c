/* SPDX-License-Identifier: MIT */
/*
 * lock_*: a region's lock against pthread_rwlock_t, shared between processes: pairs of calls that
 * nobody is in the way of, and two processes that are in each other's.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"
#include "duo.h"

static const char region_name[] = "bench/lock";

enum { REGION_BYTES = 4096, SLOTS = 1024, RECORD_WORDS = 8 };

/* What is locked: all words are equal, except while it is being written. One cache line. */
struct record {
	_Alignas(64) uint64_t words[RECORD_WORDS];
};

/* Of the floor, and of both processes; each part has cache lines of its own. */
struct shared {
	_Alignas(64) pthread_rwlock_t rwlock;
	struct record record;
	_Alignas(64) _Atomic uint64_t followed; /* operations of the follower, this time */
	_Alignas(64) _Atomic bool stop;
};

struct locking {
	struct bench_broker broker;
	struct shmb_client *client;
	struct shmb_region *region;
	struct shmb_region **others; /* whose slots are published, too */
	uint64_t n_others;
	struct shared *shared;
};

/* ---- Setting up ---- */

static int make_rwlock(pthread_rwlock_t *rwlock)
{
	pthread_rwlockattr_t attributes;
	int error = pthread_rwlockattr_init(&attributes);

	if (error == 0)
		error = pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (error == 0)
		error = pthread_rwlock_init(rwlock, &attributes);
	(void)pthread_rwlockattr_destroy(&attributes);
	return -error;
}

/* The first locking call asks the broker for a slot, which no figure is to measure. */
static int warm_lock(struct shmb_region *region)
{
	int r = shmb_region_lock(region, SHMB_EXCLUSIVE, -1);

	return r < 0 ? r : shmb_region_unlock(region);
}

static int locking_attach(void *context)
{
	struct locking *locking = context;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	int r = shmb_client_connect(locking->broker.address, NULL, &locking->client);

	if (r < 0)
		return r;
	options.slots = SLOTS;
	r = shmb_region_open_or_create(locking->client, region_name, REGION_BYTES, &options,
				       &locking->region);
	return r < 0 ? r : warm_lock(locking->region);
}

static int attach_others(struct locking *locking, uint64_t n)
{
	locking->others = calloc(n, sizeof(struct shmb_region *));
	if (!locking->others)
		return SHMB_ENOMEM;
	for (; locking->n_others < n; locking->n_others++) {
		struct shmb_region **other = &locking->others[locking->n_others];
		int r = shmb_region_open(locking->client, region_name, SHMB_READ | SHMB_WRITE, NULL,
					 other);

		if (r >= 0)
			r = warm_lock(*other);
		if (r < 0)
			return r;
	}
	return 0;
}

static int locking_start(const struct bench *bench, struct locking *locking)
{
	int r = bench_broker_start(bench, "lock", NULL, &locking->broker);

	if (r < 0)
		return r;
	locking->shared = mmap(NULL, sizeof(*locking->shared), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (locking->shared == MAP_FAILED)
		r = SHMB_ENOMEM;
	else
		r = make_rwlock(&locking->shared->rwlock);
	return r;
}

static int locking_stop(struct locking *locking)
{
	for (uint64_t i = 0; i < locking->n_others; i++)
		shmb_region_free(locking->others[i]);
	free(locking->others);
	shmb_region_free(locking->region);
	shmb_client_free(locking->client);
	return bench_broker_stop(&locking->broker);
}

/* ---- Pairs ---- */

static int run_pairs(const struct locking *locking, enum shmb_lock_kind kind, uint64_t count,
		     double *ret_ns)
{
	struct shmb_region *region = locking->region;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_region_lock(region, kind, -1);

		if (r == 0)
			r = shmb_region_unlock(region);
		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_shared(void *context, uint64_t count, double *ret_ns)
{
	return run_pairs(context, SHMB_SHARED, count, ret_ns);
}

static int run_exclusive(void *context, uint64_t count, double *ret_ns)
{
	return run_pairs(context, SHMB_EXCLUSIVE, count, ret_ns);
}

static int run_rdlock(void *context, uint64_t count, double *ret_ns)
{
	const struct locking *locking = context;
	pthread_rwlock_t *rwlock = &locking->shared->rwlock;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int error = pthread_rwlock_rdlock(rwlock);

		if (error == 0)
			error = pthread_rwlock_unlock(rwlock);
		if (error != 0)
			return -error;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_wrlock(void *context, uint64_t count, double *ret_ns)
{
	const struct locking *locking = context;
	pthread_rwlock_t *rwlock = &locking->shared->rwlock;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int error = pthread_rwlock_wrlock(rwlock);

		if (error == 0)
			error = pthread_rwlock_unlock(rwlock);
		if (error != 0)
			return -error;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

/* figure->size slots are published. */
static int measure_pairs(const struct bench *bench, const struct bench_figure *figure,
			 const struct bench_side *ways, struct bench_result *ret_result)
{
	struct locking locking = { 0 };
	struct bench_side sides[] = { { ways[0].run, &locking }, { ways[1].run, &locking } };
	double medians[2] = { 0 };
	int r = locking_start(bench, &locking), stopped;

	if (r == 0)
		r = locking_attach(&locking);
	if (r == 0)
		r = attach_others(&locking, figure->size - 1);
	if (r == 0)
		r = bench_pin(0, bench->cpus[0]);
	if (r == 0)
		r = bench_compare_brief(bench, sides, 2, medians, &ret_result->n);
	ret_result->ours = medians[0];
	ret_result->floor = medians[1];
	stopped = locking_stop(&locking);
	return r < 0 ? r : stopped;
}

static int measure_shared(const struct bench *bench, const struct bench_figure *figure,
			  enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct bench_side ways[] = { { run_shared, NULL }, { run_rdlock, NULL } };

	return measure_pairs(bench, figure, ways, ret_result);
}

static int measure_exclusive(const struct bench *bench, const struct bench_figure *figure,
			     enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct bench_side ways[] = { { run_exclusive, NULL }, { run_wrlock, NULL } };

	return measure_pairs(bench, figure, ways, ret_result);
}

/* ---- Two processes at once ---- */

enum way { OURS, FLOOR };

struct rivals {
	struct locking locking;
	struct duo duo;
	uint64_t writes; /* of a hundred operations */
};

/* One side of bench_compare(). */
struct rival {
	struct rivals *rivals;
	enum way way;
};

static int read_record(const struct record *record)
{
	for (int i = 1; i < RECORD_WORDS; i++)
		if (record->words[i] != record->words[0])
			return SHMB_EIO;
	return 0;
}

static int write_record(struct record *record)
{
	int r = read_record(record);

	for (int i = 0; i < RECORD_WORDS; i++)
		record->words[i]++;
	return r;
}

static int operate_ours(struct shmb_region *region, bool writes)
{
	struct record *record = shmb_region_data(region);
	int r = shmb_region_lock(region, writes ? SHMB_EXCLUSIVE : SHMB_SHARED, -1), unlocked;

	if (r < 0)
		return r;
	r = writes ? write_record(record) : read_record(record);
	bench_use(record);
	unlocked = shmb_region_unlock(region);
	return r < 0 ? r : unlocked;
}

static int operate_floor(struct shared *shared, bool writes)
{
	int error = writes ? pthread_rwlock_wrlock(&shared->rwlock)
			   : pthread_rwlock_rdlock(&shared->rwlock);
	int r;

	if (error != 0)
		return -error;
	r = writes ? write_record(&shared->record) : read_record(&shared->record);
	bench_use(&shared->record);
	error = pthread_rwlock_unlock(&shared->rwlock);
	return r < 0 ? r : -error;
}

/* Xorshift: neither process knows what the other will do next. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static int operate(const struct rivals *rivals, enum way way, uint64_t *random)
{
	bool writes = next_random(random) % 100 < rivals->writes;

	return way == OURS ? operate_ours(rivals->locking.region, writes)
			   : operate_floor(rivals->locking.shared, writes);
}

/* Works for as long as the leader measures, and counts. */
static int follow(void *context, const struct duo_order *order)
{
	const struct rivals *rivals = context;
	struct shared *shared = rivals->locking.shared;
	uint64_t random = 88172645463325252, done = 0;
	int r = 0;

	while (r == 0 && !atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		r = operate(rivals, (enum way)order->way, &random);
		atomic_store_explicit(&shared->followed, ++done, memory_order_relaxed);
	}
	return r;
}

static int attach_follower(void *context)
{
	struct rivals *rivals = context;

	return locking_attach(&rivals->locking);
}

/* The time per operation of either process, had both done as many: what one gains by keeping the
 * lock from the other is no gain. */
static int lead(void *context, uint64_t count, double *ret_ns)
{
	const struct rival *rival = context;
	const struct rivals *rivals = rival->rivals;
	struct shared *shared = rivals->locking.shared;
	uint64_t random = 2463534242, before, after;
	double begin;
	int r, followed;

	atomic_store(&shared->stop, false);
	atomic_store(&shared->followed, 0);
	r = duo_tell(&rivals->duo, rival->way, 0);
	if (r < 0)
		return r;
	while (atomic_load(&shared->followed) == 0)
		;
	before = atomic_load(&shared->followed);
	begin = bench_now();
	for (uint64_t i = 0; r == 0 && i < count; i++)
		r = operate(rivals, rival->way, &random);
	after = atomic_load(&shared->followed);
	*ret_ns = (bench_now() - begin) * 2 * (double)count / (double)(count + after - before);
	atomic_store(&shared->stop, true);
	followed = duo_answer(&rivals->duo);
	return r < 0 ? r : followed;
}

static int measure_rivals(const struct bench *bench, const struct bench_figure *figure,
			  enum bench_placement placement, struct bench_result *ret_result)
{
	static const struct duo_part part = { attach_follower, follow };
	struct rivals rivals = { .writes = figure->size };
	struct rival contenders[] = { { &rivals, OURS }, { &rivals, FLOOR } };
	const struct bench_side sides[] = { { lead, &contenders[0] }, { lead, &contenders[1] } };
	double medians[2] = { 0 };
	int r = locking_start(bench, &rivals.locking), stopped;

	if (r == 0)
		r = duo_start(&rivals.duo, &part, &rivals);
	if (r == 0)
		r = locking_attach(&rivals.locking);
	if (r == 0)
		r = bench_place(bench, placement, rivals.duo.pid);
	if (r == 0)
		r = bench_compare(bench, sides, 2, medians, &ret_result->n);
	ret_result->ours = medians[0];
	ret_result->floor = medians[1];
	duo_end(&rivals.duo);
	stopped = locking_stop(&rivals.locking);
	return r < 0 ? r : stopped;
}

#define EXCLUSIVE(NAME, SLOTS_PUBLISHED, RATIO)                                               \
	{                                                                                     \
		.name = NAME, .unit = "ns", .floor = "pthread_rwlock_wrlock() and _unlock()", \
		.size = (SLOTS_PUBLISHED), .aim_ratio = (RATIO), .measure = measure_exclusive \
	}

#define RIVALS(NAME, WRITES, RATIO)                                                              \
	{                                                                                        \
		.name = NAME, .unit = "ns", .floor = "pthread_rwlock_t, the same two processes", \
		.size = (WRITES), .two_cpus = true, .aim_ratio = (RATIO),                        \
		.measure = measure_rivals                                                        \
	}

const struct bench_figure bench_lock_figures[] = {
	{ .name = "lock_shared_pair",
	  .unit = "ns",
	  .floor = "pthread_rwlock_rdlock() and _unlock()",
	  .size = 8,
	  .aim_ratio = 0.7,
	  .measure = measure_shared },
	EXCLUSIVE("lock_exclusive_pair", 8, 0.8),
	EXCLUSIVE("lock_exclusive_2", 2, 0),
	EXCLUSIVE("lock_exclusive_64", 64, 0),
	EXCLUSIVE("lock_exclusive_256", 256, 0),
	EXCLUSIVE("lock_exclusive_1024", SLOTS, 0),
	RIVALS("lock_readers_2cpu", 0, 0.34),
	RIVALS("lock_mix_90_10", 10, 1),
	RIVALS("lock_mix_50_50", 50, 1),
	{ .name = NULL },
};
