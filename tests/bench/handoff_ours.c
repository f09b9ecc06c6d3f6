/* SPDX-License-Identifier: MIT */
/* Handing a buffer over with shmb_region_publish() and shmb_region_wait(), as a program would. */

#include <shmbroker/shmbroker.h>

#include "handoff.h"
#include "handoff_ways.h"
#include "work.h"

enum { PATIENCE_MS = 10000 };

static int take(const struct handoff *handoff, uint64_t sequence)
{
	int r = shmb_region_wait(handoff->region, sequence - 1, PATIENCE_MS, NULL);

	return r < 0 ? r : work_check(handoff->buffer, handoff->length, sequence);
}

static int pass(const struct handoff *handoff, uint64_t sequence)
{
	work_fill(handoff->buffer, handoff->length, sequence);
	return shmb_region_publish(handoff->region, 0, 0);
}

int handoff_ours_lead(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	for (uint64_t sequence = base; rounds > 0; rounds--) {
		int r = pass(handoff, ++sequence);

		if (r == 0)
			r = take(handoff, ++sequence);
		if (r < 0)
			return r;
	}
	return 0;
}

int handoff_ours_follow(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	for (uint64_t sequence = base; rounds > 0; rounds--) {
		int r = take(handoff, ++sequence);

		if (r == 0)
			r = pass(handoff, ++sequence);
		if (r < 0)
			return r;
	}
	return 0;
}
