/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_COST_H
#define DAEMON_COST_H

/* What objects and their memory cost the user who owns them: charged before it is made. */

#include "options.h"
#include "region.h"

struct cost {
	enum charge what;           /* an object of that kind; CHARGE_COUNT: memory alone */
	uint64_t bytes, huge_bytes; /* whole pages */
	unsigned n_fds;             /* that the broker keeps open */
};

/* cost_of_memory() - of a segment that is no region's data */
struct cost cost_of_memory(const struct backing *backing, uint64_t bytes);

/* cost_of_data() - of a data segment; @read_only: a file that nobody may write */
struct cost cost_of_data(const struct broker *broker, const struct backing *data, uint64_t capacity,
			 bool read_only);

/* cost_to_create(), cost_of_region() - of an object as a whole. A region's lock is charged when it
 * is made, a semaphore's arena is charged by itself. */
struct cost cost_to_create(const struct broker *broker, const struct region_request *request,
			   const struct backing *backing, const struct backing *data);
struct cost cost_of_region(const struct broker *broker, const struct region *region);

/* cost_charge() - Return: 0, or ANSWER_FAILED: a limit would be passed, nothing is charged. */
int cost_charge(struct broker *broker, struct account *account, struct cost cost,
		struct failure *failure);
void cost_uncharge(struct broker *broker, struct account *account, struct cost cost);

/* cost_charge_recovered() - the same without a limit: it is there already */
void cost_charge_recovered(struct broker *broker, struct account *account, struct cost cost);

#endif
