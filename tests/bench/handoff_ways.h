/* SPDX-License-Identifier: MIT */
#ifndef BENCH_HANDOFF_WAYS_H
#define BENCH_HANDOFF_WAYS_H

/* The entries of handoff_ways[]; see handoff.h. */

#include "handoff.h"

int handoff_ours_lead(const struct handoff *handoff, uint64_t rounds, uint64_t base);
int handoff_ours_follow(const struct handoff *handoff, uint64_t rounds, uint64_t base);

#endif
