/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_WAIT_H
#define CLIENT_WAIT_H

/*
 * The one way of waiting for a word in shared memory: spin for a bounded time that the handle has
 * learnt, then sleep in slices and look again.
 *
 *	wait_begin(&waiting, &handle->spin_ns, client->spin_ns, timeout_ms);
 *	while (!got_it()) {
 *		if (wait_spin(&waiting))
 *			continue;
 *		...announce that somebody sleeps, look again...
 *		if (!wait_sleep(&waiting, word, expected))
 *			break;          the deadline has passed
 *	}
 *	wait_end(&waiting);
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "layout/relax.h"

enum { WAIT_TURNS = 32 }; /* looks between two looks at the clock */

#define WAIT_FOR_EVER INT64_MAX

struct waiting {
	_Atomic int64_t *learnt; /* nanoseconds, kept by the handle */
	int64_t most;            /* that it may spin; 0: not at all */
	int timeout_ms;
	int turns; /* left until the clock is looked at */
	int64_t start, spin_until, deadline;
	bool timed; /* the three above are known */
	bool slept;
};

/* wait_spin_default() - nanoseconds that waiting may spin on this machine */
int64_t wait_spin_default(void);

/* wait_begin() - @timeout_ms: -1: for ever. Looks at the clock only where it has to. */
static inline void wait_begin(struct waiting *waiting, _Atomic int64_t *learnt, int64_t most,
			      int timeout_ms)
{
	*waiting = (struct waiting){
		.learnt = learnt,
		.most = most,
		.timeout_ms = timeout_ms,
		.turns = WAIT_TURNS,
	};
}

/* wait_look() - the time; the first look sets the deadline */
int64_t wait_look(struct waiting *waiting);

/* wait_spin_on() - the rest of wait_spin() */
bool wait_spin_on(struct waiting *waiting);

/*
 * wait_spin() - one turn of spinning
 *
 * Return: true: look again; false: time to sleep. After that a few more turns are granted each
 * time, as what has woken a sleeper is near.
 */
static inline bool wait_spin(struct waiting *waiting)
{
	if (waiting->most == 0)
		return false;
	if (--waiting->turns > 0) {
		cpu_relax();
		return true;
	}
	return wait_spin_on(waiting);
}

/*
 * wait_sleep() - sleep while *@word is @expected, for a slice
 *
 * Return: true: look again; false: the deadline has passed, do not wait any more.
 */
bool wait_sleep(struct waiting *waiting, const _Atomic uint32_t *word, uint32_t expected);

/* wait_sleep_for() - the same for at most @limit_ns */
bool wait_sleep_for(struct waiting *waiting, const _Atomic uint32_t *word, uint32_t expected,
		    int64_t limit_ns);

/* wait_learn() - the rest of wait_end() */
void wait_learn(struct waiting *waiting);

/* wait_end() - learn from how it went */
static inline void wait_end(struct waiting *waiting)
{
	if (waiting->slept && waiting->most > 0)
		wait_learn(waiting);
}

/* wait_wake() - wake at most @n, or all, who sleep on a word */
int wait_wake(const _Atomic uint32_t *word, int n);
void wait_wake_all(const _Atomic uint32_t *word);

#endif
