/* SPDX-License-Identifier: MIT */
/*
 * Costs of objects: what is charged for them, and the limits. Must not know how anything is made.
 */
#include "cost.h"

#include "account.h"
#include "answer.h"
#include "broker.h"
#include "layout/publish.h"
#include "lock.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>

struct cost cost_of_memory(const struct backing *backing, uint64_t bytes)
{
	return (struct cost){ .what = CHARGE_COUNT, .bytes = bytes, .n_fds = backing->held_fds };
}

/* A file is its owner's already. */
struct cost cost_of_data(const struct broker *broker, const struct backing *data, uint64_t capacity,
			 bool read_only)
{
	uint64_t bytes = region_data_bytes(broker, data, capacity);

	if (data == &backing_file)
		return (struct cost){ .what = CHARGE_COUNT, .n_fds = read_only ? 1 : 2 };
	return (struct cost){ .what = CHARGE_COUNT,
			      .bytes = bytes,
			      .huge_bytes = data == &backing_hugetlb ? bytes : 0,
			      .n_fds = data->held_fds };
}

static void add(struct cost *cost, struct cost more)
{
	cost->bytes += more.bytes;
	cost->huge_bytes += more.huge_bytes;
	cost->n_fds += more.n_fds;
}

static struct cost cost_of(const struct broker *broker, enum object_kind kind,
			   const struct backing *backing, uint32_t n_lock_slots)
{
	static const enum charge charges[OBJECT_KINDS] = { [OBJECT_REGION] = CHARGE_REGIONS,
							   [OBJECT_LOCK] = CHARGE_LOCKS,
							   [OBJECT_SEMAPHORE] = CHARGE_SEMAPHORES };
	struct cost cost = { .what = charges[kind] };

	if (kind == OBJECT_REGION)
		add(&cost, cost_of_memory(backing, region_in_pages(broker, LAYOUT_PUBLISH_BYTES)));
	if (n_lock_slots > 0)
		add(&cost, cost_of_memory(backing, lock_bytes(broker, n_lock_slots)));
	return cost;
}

struct cost cost_to_create(const struct broker *broker, const struct region_request *request,
			   const struct backing *backing, const struct backing *data)
{
	struct cost cost = cost_of(broker, request->kind, backing,
				   request->kind == OBJECT_LOCK ? request->n_slots : 0);

	if (request->kind == OBJECT_REGION)
		add(&cost, cost_of_data(broker, data, request->capacity, request->read_only));
	return cost;
}

struct cost cost_of_region(const struct broker *broker, const struct region *region)
{
	struct cost cost = cost_of(broker, region->kind, region->segments.backing,
				   region->slots ? region->n_slots : 0);

	if (region->kind == OBJECT_REGION)
		add(&cost, cost_of_data(broker, region->segments.data, region->capacity,
					region->read_only));
	return cost;
}

/* Those that are held are stored, too, if there is a store; -ENOSPC: it is full. @ret_over: on
 * -EDQUOT. */
static int hold_fds(struct broker *broker, struct account *account, unsigned n_fds,
		    enum charge *ret_over)
{
	unsigned n_stored = broker->store.max > 0 ? n_fds : 0;
	uint64_t limit = broker->settings.per_user[CHARGE_STORED_FDS];
	int result = broker_hold_fds(broker, account, n_fds);

	*ret_over = CHARGE_HELD_FDS;
	if (result < 0)
		return result;
	*ret_over = CHARGE_STORED_FDS;
	if (broker->accounts.total[CHARGE_STORED_FDS] + n_stored > broker->store.max)
		result = -ENOSPC;
	else if (!account_charge(account, CHARGE_STORED_FDS, n_stored, limit))
		result = -EDQUOT;
	if (result < 0)
		account_uncharge(account, CHARGE_HELD_FDS, n_fds);
	return result;
}

static int charge_one(struct broker *broker, struct account *account, enum charge what,
		      uint64_t amount, struct failure *failure)
{
	uint64_t limit = broker->settings.per_user[what];

	if (amount == 0 || account_charge(account, what, amount, limit))
		return 0;
	return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(what), limit);
}

static int charge_fds(struct broker *broker, struct account *account, unsigned n_fds,
		      struct failure *failure)
{
	enum charge over = CHARGE_HELD_FDS;
	int result = hold_fds(broker, account, n_fds, &over);

	if (result == 0)
		return 0;
	if (result == -EMFILE)
		return answer_fail_system(failure, EMFILE, "keeping the region's memory");
	if (result == -ENOSPC)
		return answer_fail_limit(failure, SHMB_EMFILE, "the broker's fd store",
					 broker->store.max);
	return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(over),
				 broker->settings.per_user[over]);
}

int cost_charge(struct broker *broker, struct account *account, struct cost cost,
		struct failure *failure)
{
	struct cost done = { .what = CHARGE_COUNT };
	int result = 0;

	if (cost.what != CHARGE_COUNT)
		result = charge_one(broker, account, cost.what, 1, failure);
	if (result == 0) {
		done.what = cost.what;
		result = charge_one(broker, account, CHARGE_BYTES, cost.bytes, failure);
	}
	if (result == 0) {
		done.bytes = cost.bytes;
		result = charge_one(broker, account, CHARGE_HUGE_BYTES, cost.huge_bytes, failure);
	}
	if (result == 0) {
		done.huge_bytes = cost.huge_bytes;
		result = charge_fds(broker, account, cost.n_fds, failure);
	}
	if (result != 0)
		cost_uncharge(broker, account, done);
	return result;
}

void cost_uncharge(struct broker *broker, struct account *account, struct cost cost)
{
	if (cost.what != CHARGE_COUNT)
		account_uncharge(account, cost.what, 1);
	account_uncharge(account, CHARGE_BYTES, cost.bytes);
	account_uncharge(account, CHARGE_HUGE_BYTES, cost.huge_bytes);
	account_uncharge(account, CHARGE_HELD_FDS, cost.n_fds);
	if (broker->store.max > 0)
		account_uncharge(account, CHARGE_STORED_FDS, cost.n_fds);
}

void cost_charge_recovered(struct broker *broker, struct account *account, struct cost cost)
{
	if (cost.what != CHARGE_COUNT)
		account_charge(account, cost.what, 1, UINT64_MAX);
	account_charge(account, CHARGE_BYTES, cost.bytes, UINT64_MAX);
	account_charge(account, CHARGE_HUGE_BYTES, cost.huge_bytes, UINT64_MAX);
	account_charge(account, CHARGE_HELD_FDS, cost.n_fds, UINT64_MAX);
	if (broker->store.max > 0)
		account_charge(account, CHARGE_STORED_FDS, cost.n_fds, UINT64_MAX);
}
