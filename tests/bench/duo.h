/* SPDX-License-Identifier: MIT */
#ifndef BENCH_DUO_H
#define BENCH_DUO_H

/* A second process that does its part when it is told to. */

#include <stdint.h>
#include <sys/types.h>

struct duo {
	pid_t pid;
	int orders; /* packets of struct duo_order, each answered with an int */
};

struct duo_order {
	uint32_t way;
	uint64_t count;
};

/* What the second process does, with the @context it was forked with. */
struct duo_part {
	int (*attach)(void *context); /* once; what it acquires ends with the process */
	int (*follow)(void *context, const struct duo_order *order);
};

/* duo_start() - fork it, and wait until it has attached. Return: 0, or what failed there or here.
 */
int duo_start(struct duo *duo, const struct duo_part *part, void *context);

/* duo_tell() - it begins to follow; duo_answer() - what that returned, when it is done */
int duo_tell(const struct duo *duo, uint32_t way, uint64_t count);
int duo_answer(const struct duo *duo);

/* duo_end() - end it; one that was not started is ignored */
void duo_end(struct duo *duo);

#endif
