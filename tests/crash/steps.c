/* SPDX-License-Identifier: MIT */
/* The crash tests' layout_step(): kills its own process at the chosen step. */

#include "steps.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "layout/step.h"

static atomic_bool armed;
static atomic_uint done, chosen;

void layout_step(void)
{
	if (atomic_load(&armed) && atomic_fetch_add(&done, 1) + 1 == atomic_load(&chosen))
		kill(getpid(), SIGKILL);
}

void steps_arm(unsigned n)
{
	atomic_store(&done, 0);
	atomic_store(&chosen, n);
	atomic_store(&armed, true);
}

unsigned steps_disarm(void)
{
	atomic_store(&armed, false);
	return atomic_load(&done);
}
