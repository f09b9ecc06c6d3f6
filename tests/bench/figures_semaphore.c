/* SPDX-License-Identifier: MIT */
/*
 * sem_*: semaphores against sem_t, shared between processes: pairs of calls that nobody is in the
 * way of, and a pair of semaphores through which two processes take turns. The unit of the latter
 * is a round trip.
 */

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "broker.h"
#include "duo.h"

enum { ANY_SPIN = -1 };

/* Of the floors: what goes there and what comes back, each on a cache line of its own. */
struct shared {
	struct {
		_Alignas(64) sem_t semaphore;
	} posix[2];
	struct {
		_Alignas(64) _Atomic uint64_t turn;
	} spin[2];
};

struct waiting {
	struct bench_broker broker;
	struct shmb_client *client;
	struct shmb_semaphore *semaphores[2];
	struct shared *shared;
	int spin_us;
};

/* ---- Setting up ---- */

static int waiting_start(const struct bench *bench, struct waiting *waiting)
{
	struct shared *shared;
	int r = bench_broker_start(bench, "semaphore", NULL, &waiting->broker);

	if (r < 0)
		return r;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return -errno;
	for (int i = 0; i < 2; i++)
		if (sem_init(&shared->posix[i].semaphore, 1, 0) < 0)
			return -errno;
	waiting->shared = shared;
	return 0;
}

static int waiting_attach(struct waiting *waiting, enum shmb_semaphore_kind kind)
{
	static const char *const names[] = { "bench/there", "bench/back" };
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_semaphore_options kind_options = SHMB_SEMAPHORE_OPTIONS_INIT;
	int r;

	options.spin_us = waiting->spin_us;
	kind_options.kind = kind;
	r = shmb_client_connect(waiting->broker.address, &options, &waiting->client);
	for (int i = 0; r >= 0 && i < 2; i++)
		r = shmb_semaphore_open_or_create(waiting->client, names[i], &kind_options,
						  &waiting->semaphores[i]);
	return r < 0 ? r : 0;
}

static int waiting_stop(struct waiting *waiting)
{
	for (int i = 0; i < 2; i++)
		shmb_semaphore_free(waiting->semaphores[i]);
	shmb_client_free(waiting->client);
	return bench_broker_stop(&waiting->broker);
}

/* ---- Pairs ---- */

static int run_counting(void *context, uint64_t count, double *ret_ns)
{
	const struct waiting *waiting = context;
	struct shmb_semaphore *semaphore = waiting->semaphores[0];
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_semaphore_post(semaphore, 1);

		if (r == 0)
			r = shmb_semaphore_wait(semaphore, -1);
		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

/* Wait first: only who holds a permit can give it. */
static int run_owned(void *context, uint64_t count, double *ret_ns)
{
	const struct waiting *waiting = context;
	struct shmb_semaphore *semaphore = waiting->semaphores[0];
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_semaphore_wait(semaphore, -1);

		if (r == 0)
			r = shmb_semaphore_post(semaphore, 1);
		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_posix(void *context, uint64_t count, double *ret_ns)
{
	const struct waiting *waiting = context;
	sem_t *semaphore = &waiting->shared->posix[0].semaphore;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++)
		if (sem_post(semaphore) < 0 || sem_wait(semaphore) < 0)
			return -errno;
	*ret_ns = bench_now() - begin;
	return 0;
}

static int measure_pairs(const struct bench *bench, enum shmb_semaphore_kind kind,
			 struct bench_result *ret_result)
{
	struct waiting waiting = { .spin_us = ANY_SPIN };
	const struct bench_side sides[] = {
		{ kind == SHMB_OWNED ? run_owned : run_counting, &waiting },
		{ run_posix, &waiting },
	};
	double medians[2] = { 0 };
	int r = waiting_start(bench, &waiting), stopped;

	if (r == 0)
		r = waiting_attach(&waiting, kind);
	if (r == 0)
		r = bench_pin(0, bench->cpus[0]);
	if (r == 0)
		r = bench_compare_brief(bench, sides, 2, medians, &ret_result->n);
	ret_result->ours = medians[0];
	ret_result->floor = medians[1];
	stopped = waiting_stop(&waiting);
	return r < 0 ? r : stopped;
}

static int measure_counting(const struct bench *bench, const struct bench_figure *figure,
			    enum bench_placement placement, struct bench_result *ret_result)
{
	return measure_pairs(bench, SHMB_COUNTING, ret_result);
}

static int measure_owned(const struct bench *bench, const struct bench_figure *figure,
			 enum bench_placement placement, struct bench_result *ret_result)
{
	return measure_pairs(bench, SHMB_OWNED, ret_result);
}

/* ---- Taking turns ---- */

enum way { OURS, POSIX, SPIN, WAYS };

/* @index: 0 there, 1 back. @turn: counted by both processes alike, for the floor that spins. */
static int post_ours(const struct waiting *waiting, int index, uint64_t turn)
{
	return shmb_semaphore_post(waiting->semaphores[index], 1);
}

static int wait_ours(const struct waiting *waiting, int index, uint64_t turn)
{
	return shmb_semaphore_wait(waiting->semaphores[index], -1);
}

static int post_posix(const struct waiting *waiting, int index, uint64_t turn)
{
	return sem_post(&waiting->shared->posix[index].semaphore) < 0 ? -errno : 0;
}

static int wait_posix(const struct waiting *waiting, int index, uint64_t turn)
{
	return sem_wait(&waiting->shared->posix[index].semaphore) < 0 ? -errno : 0;
}

/* An exchange, not a store: it empties the store buffer, and the other side sees it earlier. */
static int post_spin(const struct waiting *waiting, int index, uint64_t turn)
{
	(void)atomic_exchange(&waiting->shared->spin[index].turn, turn);
	return 0;
}

static int wait_spin(const struct waiting *waiting, int index, uint64_t turn)
{
	while (atomic_load_explicit(&waiting->shared->spin[index].turn, memory_order_acquire) !=
	       turn)
		bench_relax();
	return 0;
}

static const struct {
	int (*post)(const struct waiting *waiting, int index, uint64_t turn);
	int (*wait)(const struct waiting *waiting, int index, uint64_t turn);
} ways[WAYS] = {
	[OURS] = { post_ours, wait_ours },
	[POSIX] = { post_posix, wait_posix },
	[SPIN] = { post_spin, wait_spin },
};

struct turns {
	struct waiting waiting;
	struct duo duo;
	uint64_t spin_turn; /* so far; each process keeps its own count */
};

struct contender {
	struct turns *turns;
	enum way way;
};

/* @out: what this process posts; it waits for the other first, or last. */
static int take_turns(struct turns *turns, enum way way, uint64_t count, int out, bool post_first)
{
	const struct waiting *waiting = &turns->waiting;
	uint64_t turn = turns->spin_turn;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < count; i++) {
		turn++;
		r = post_first ? ways[way].post(waiting, out, turn)
			       : ways[way].wait(waiting, !out, turn);
		if (r == 0)
			r = post_first ? ways[way].wait(waiting, !out, turn)
				       : ways[way].post(waiting, out, turn);
	}
	if (way == SPIN)
		turns->spin_turn = turn;
	return r;
}

static int attach_follower(void *context)
{
	struct turns *turns = context;

	return waiting_attach(&turns->waiting, SHMB_COUNTING);
}

static int follow(void *context, const struct duo_order *order)
{
	return take_turns(context, (enum way)order->way, order->count, 1, false);
}

/* A few turns first, so that the follower is out of its recv() and both are hot. */
static int lead(void *context, uint64_t count, double *ret_ns)
{
	const struct contender *contender = context;
	struct turns *turns = contender->turns;
	uint64_t warm = count / 8 + 1;
	double begin;
	int r = duo_tell(&turns->duo, contender->way, warm + count);

	if (r == 0)
		r = take_turns(turns, contender->way, warm, 0, true);
	begin = bench_now();
	if (r == 0)
		r = take_turns(turns, contender->way, count, 0, true);
	*ret_ns = bench_now() - begin;
	return r < 0 ? r : duo_answer(&turns->duo);
}

static int compare_turns(const struct bench *bench, struct turns *turns, const enum way *others,
			 size_t n_others, double *ret_medians, uint64_t *ret_n)
{
	struct contender contenders[BENCH_SIDES_MAX] = { { turns, OURS } };
	struct bench_side sides[BENCH_SIDES_MAX] = { { lead, &contenders[0] } };

	for (size_t i = 0; i < n_others; i++) {
		contenders[i + 1] = (struct contender){ turns, others[i] };
		sides[i + 1] = (struct bench_side){ lead, &contenders[i + 1] };
	}
	return bench_compare(bench, sides, n_others + 1, ret_medians, ret_n);
}

static int measure_turns(const struct bench *bench, enum bench_placement placement, int spin_us,
			 const enum way *others, size_t n_others, struct bench_result *ret_result)
{
	static const struct duo_part part = { attach_follower, follow };
	struct turns turns = { .waiting = { .spin_us = spin_us } };
	double medians[BENCH_SIDES_MAX] = { 0 };
	int r = waiting_start(bench, &turns.waiting), stopped;

	if (r == 0)
		r = duo_start(&turns.duo, &part, &turns);
	if (r == 0)
		r = waiting_attach(&turns.waiting, SHMB_COUNTING);
	if (r == 0)
		r = bench_place(bench, placement, turns.duo.pid);
	if (r == 0)
		r = compare_turns(bench, &turns, others, n_others, medians, &ret_result->n);
	ret_result->ours = medians[0];
	ret_result->floor = medians[1];
	ret_result->beside = medians[2];
	duo_end(&turns.duo);
	stopped = waiting_stop(&turns.waiting);
	return r < 0 ? r : stopped;
}

static int measure_hot(const struct bench *bench, const struct bench_figure *figure,
		       enum bench_placement placement, struct bench_result *ret_result)
{
	static const enum way others[] = { SPIN, POSIX };

	return measure_turns(bench, placement, ANY_SPIN, others, 2, ret_result);
}

static int measure_cold(const struct bench *bench, const struct bench_figure *figure,
			enum bench_placement placement, struct bench_result *ret_result)
{
	static const enum way others[] = { POSIX };

	return measure_turns(bench, placement, 0, others, 1, ret_result);
}

const struct bench_figure bench_semaphore_figures[] = {
	{ .name = "sem_pair",
	  .unit = "ns",
	  .floor = "sem_post() and sem_wait()",
	  .aim_ratio = 1,
	  .measure = measure_counting },
	{ .name = "sem_pair_owned",
	  .unit = "ns",
	  .floor = "sem_post() and sem_wait()",
	  .aim_ratio = 0.9,
	  .measure = measure_owned },
	{ .name = "sem_handoff_hot",
	  .unit = "ns",
	  .floor = "bare spin round trip on two cache lines",
	  .beside = "sem_t",
	  .two_cpus = true,
	  .aim_ratio = 3,
	  .measure = measure_hot },
	{ .name = "sem_handoff_cold",
	  .unit = "ns",
	  .floor = "sem_t, there and back",
	  .placed = true,
	  .aim_ratio = 1.1,
	  .measure = measure_cold },
	{ .name = NULL },
};
