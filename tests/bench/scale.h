/* SPDX-License-Identifier: MIT */
#ifndef BENCH_SCALE_H
#define BENCH_SCALE_H

/* A broker with very many regions. */

#include <stdint.h>

struct shmb_client;

/* scale_roomy - options of a broker whose limits allow it */
extern const char *const scale_roomy[];

/* scale_make_regions() - those with the numbers @first to @last - 1: persistent, not attached */
int scale_make_regions(struct shmb_client *client, uint64_t first, uint64_t last);

#endif
