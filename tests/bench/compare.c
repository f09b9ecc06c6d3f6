/* SPDX-License-Identifier: MIT */
/*
 * Comparing contenders: batches long enough for the clock, taken in turns, medians of all batches.
 * Knows nothing of what is measured.
 */

#include <stdlib.h>
#include <time.h>

#include <shmbroker/errors.h>

#include "bench.h"

enum {
	ROUNDS_MAX = 4001,
	SHIFTS = 61, /* of the stack, over nearly 4 KiB */
	SHIFT_BYTES = 64,
};

struct plan {
	double batch_ns;  /* how long one batch should take */
	double budget_ns; /* when to stop adding rounds, */
	unsigned rounds;  /* but not before so many */
	unsigned most;    /* rounds */
};

static const struct plan plan_full = { 2e6, 4e9, 15, 301 };
/* Shorter than a scheduler's slice by far: whatever else runs disturbs few of the batches. */
static const struct plan plan_brief = { 5e4, 1e9, 15, ROUNDS_MAX };
static const struct plan plan_quick = { 1e5, 5e7, 3, 301 };

double bench_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare_doubles(const void *left, const void *right)
{
	double l = *(const double *)left, r = *(const double *)right;

	return (l > r) - (l < r);
}

double bench_share(double *samples, size_t n, double share)
{
	double place = share * (double)(n - 1), below;
	size_t index = (size_t)place;

	qsort(samples, n, sizeof(*samples), compare_doubles);
	below = samples[index];
	return index + 1 < n ? below + (place - (double)index) * (samples[index + 1] - below)
			     : below;
}

/* How many operations make a batch; also warms the side up. */
static int calibrate(const struct bench_side *side, double batch_ns, uint64_t *ret_count)
{
	uint64_t count = 1;

	for (;;) {
		double ns;
		int r = side->run(side->context, count, &ns);

		if (r < 0)
			return r;
		if (ns >= batch_ns || count >= UINT64_C(1) << 40)
			break;
		/* Never more than tenfold at once: the first operation is the coldest. */
		if (ns * 10 < batch_ns)
			count *= 10;
		else
			count = (uint64_t)((double)count * batch_ns / ns) + 1;
	}
	*ret_count = count;
	return 0;
}

/*
 * The stack is elsewhere each round. Where it lies at a multiple of 4 KiB from what is measured,
 * the processor takes the one for the other and waits: a matter of luck, and for the whole life of
 * a process. At a few of 256 positions a pair of calls takes half as long again.
 */
static int run_shifted(const struct bench_side *side, uint64_t count, unsigned round,
		       double *ret_ns)
{
	char shift[round % SHIFTS * SHIFT_BYTES + 1];

	bench_use(shift);
	return side->run(side->context, count, ret_ns);
}

static int compare(const struct plan *plan, const struct bench_side *sides, size_t n_sides,
		   double *ret_medians, uint64_t *ret_n)
{
	static double samples[BENCH_SIDES_MAX][ROUNDS_MAX];
	uint64_t counts[BENCH_SIDES_MAX];
	unsigned round;
	double end;

	if (n_sides > BENCH_SIDES_MAX)
		return SHMB_EINVAL;
	for (size_t i = 0; i < n_sides; i++) {
		int r = calibrate(&sides[i], plan->batch_ns, &counts[i]);

		if (r < 0)
			return r;
	}
	end = bench_now() + plan->budget_ns;
	for (round = 0; round < plan->most; round++) {
		if (round >= plan->rounds && bench_now() > end)
			break;
		for (size_t i = 0; i < n_sides; i++) {
			size_t turn = (i + round) % n_sides;
			double ns;
			int r = run_shifted(&sides[turn], counts[turn], round, &ns);

			if (r < 0)
				return r;
			samples[turn][round] = ns / (double)counts[turn];
		}
	}
	for (size_t i = 0; i < n_sides; i++)
		ret_medians[i] = bench_share(samples[i], round, 0.5);
	*ret_n = round;
	return 0;
}

int bench_compare(const struct bench *bench, const struct bench_side *sides, size_t n_sides,
		  double *ret_medians, uint64_t *ret_n)
{
	return compare(bench->quick ? &plan_quick : &plan_full, sides, n_sides, ret_medians, ret_n);
}

int bench_compare_brief(const struct bench *bench, const struct bench_side *sides, size_t n_sides,
			double *ret_medians, uint64_t *ret_n)
{
	return compare(bench->quick ? &plan_quick : &plan_brief, sides, n_sides, ret_medians,
		       ret_n);
}
