/* SPDX-License-Identifier: MIT */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

/* Showing figures, as a table for people or as JSON lines. */

#include <stdbool.h>

#include "bench.h"

struct output {
	bool json;
};

void output_begin(const struct output *output);
void output_figure(const struct output *output, const char *name, const struct bench_figure *figure,
		   const struct bench_result *result);

#endif
