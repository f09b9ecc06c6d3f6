/* SPDX-License-Identifier: MIT */
/*
 * How long to spin before sleeping, and how to sleep. Knows words and the clock; what is waited for
 * is the caller's.
 */

#include "wait.h"

#include <sched.h>
#include <unistd.h>

#include "clock.h"
#include "layout/futex.h"
#include "layout/step.h"

enum {
	SLICE_NS = 1000000000, /* no sleep is longer: a wake-up that was stolen costs that much */
	SPIN_DEFAULT_NS = 100000, /* waking a sleeper on another CPU was measured at 20 to 90 us */
	SPIN_LEAST_NS = 2000,     /* less is not worth the clock */
	NS_PER_MS = 1000000,
};

int64_t wait_spin_default(void)
{
	cpu_set_t cpus;

	/* With one processor nobody else can run while we spin. */
	if (sysconf(_SC_NPROCESSORS_ONLN) == 1)
		return 0;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) == 1)
		return 0;
	return SPIN_DEFAULT_NS;
}

int64_t wait_look(struct waiting *waiting)
{
	int64_t now = clock_now();

	if (waiting->timed)
		return now;
	waiting->timed = true;
	waiting->start = now;
	waiting->deadline = WAIT_FOR_EVER;
	if (waiting->timeout_ms >= 0)
		waiting->deadline = now + (int64_t)waiting->timeout_ms * NS_PER_MS;
	waiting->spin_until = now + atomic_load_explicit(waiting->learnt, memory_order_relaxed);
	if (waiting->spin_until > waiting->deadline)
		waiting->spin_until = waiting->deadline;
	return now;
}

bool wait_spin_on(struct waiting *waiting)
{
	waiting->turns = WAIT_TURNS;
	return wait_look(waiting) < waiting->spin_until;
}

bool wait_sleep_for(struct waiting *waiting, const _Atomic uint32_t *word, uint32_t expected,
		    int64_t limit_ns)
{
	int64_t left = limit_ns < SLICE_NS ? limit_ns : SLICE_NS;

	if (waiting->timeout_ms >= 0 || (waiting->most > 0 && !waiting->timed)) {
		int64_t now = wait_look(waiting);

		if (now >= waiting->deadline)
			return false;
		if (waiting->deadline - now < left)
			left = waiting->deadline - now;
	}
	waiting->slept = true;
	futex_wait((const uint32_t *)word, expected, left > 0 ? left : 0);
	return true;
}

bool wait_sleep(struct waiting *waiting, const _Atomic uint32_t *word, uint32_t expected)
{
	return wait_sleep_for(waiting, word, expected, SLICE_NS);
}

/*
 * Whoever slept learns: had it been worth to spin on? If so spin longer the next time, else less,
 * down to nothing; from there a wait that was short all the same leads up again.
 */
void wait_learn(struct waiting *waiting)
{
	int64_t waited = clock_now() - waiting->start;
	int64_t budget = atomic_load_explicit(waiting->learnt, memory_order_relaxed);

	if (waited > waiting->most)
		budget = budget / 2 < SPIN_LEAST_NS ? 0 : budget / 2;
	else
		budget = budget * 2 < SPIN_LEAST_NS ? SPIN_LEAST_NS : budget * 2;
	atomic_store_explicit(waiting->learnt, budget < waiting->most ? budget : waiting->most,
			      memory_order_relaxed);
}

int wait_wake(const _Atomic uint32_t *word, int n)
{
	int woken = futex_wake((const uint32_t *)word, n);

	STEP();
	return woken;
}

void wait_wake_all(const _Atomic uint32_t *word)
{
	futex_wake_all((const uint32_t *)word);
	STEP();
}
