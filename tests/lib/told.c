/* SPDX-License-Identifier: MIT */
/*
 * Client processes that lock as they are told: one order at a time, each answered with its result,
 * so that a test can bring several of them into any state step by step.
 */
#include <unistd.h>

#include "harness.h"

struct hold {
	struct shmb_client *client;
	struct shmb_region *region;
	struct shmb_lock *lock;
};

static int obey_region(struct shmb_region *region, enum order order, int timeout_ms)
{
	switch (order) {
	case ORDER_UNLOCK:
		return shmb_region_unlock(region);
	case ORDER_SHARED:
		return shmb_region_lock(region, SHMB_SHARED, timeout_ms);
	case ORDER_EXCLUSIVE:
		return shmb_region_lock(region, SHMB_EXCLUSIVE, timeout_ms);
	case ORDER_DOWNGRADE:
		return shmb_region_downgrade(region);
	case ORDER_MARK:
		return shmb_region_mark_consistent(region);
	case ORDER_RESET:
		return shmb_region_reset_lock(region);
	case ORDER_CLOSE:
		return shmb_region_close(region);
	default:
		FAIL("no such order: %d", order);
	}
}

static int obey_lock(struct hold *hold, enum order order, int timeout_ms)
{
	struct shmb_lock *lock = hold->lock;

	switch (order) {
	case ORDER_UNLOCK:
		return shmb_lock_release(lock);
	case ORDER_SHARED:
		return shmb_lock_acquire(lock, SHMB_SHARED, timeout_ms);
	case ORDER_EXCLUSIVE:
		return shmb_lock_acquire(lock, SHMB_EXCLUSIVE, timeout_ms);
	case ORDER_DOWNGRADE:
		return shmb_lock_downgrade(lock);
	case ORDER_MARK:
		return shmb_lock_mark_consistent(lock);
	case ORDER_RESET:
		return shmb_lock_reset(lock);
	case ORDER_CLOSE:
		hold->lock = shmb_lock_free(lock);
		return 0;
	default:
		FAIL("no such order: %d", order);
	}
}

void lock_as_told(struct broker *broker, void *argument)
{
	const struct told *told = argument;
	struct hold hold = { .client = connect_to(broker) };
	uint64_t order;
	int timeout_ms, r;

	if (told->lock)
		hold.lock = open_lock(hold.client, told->name);
	else
		hold.region = open_region(hold.client, told->name, told->access);
	while ((order = hear()) != ORDER_END) {
		timeout_ms = order & ORDER_WAITING ? -1 : 0;
		order &= ~(uint64_t)ORDER_WAITING;
		if (order == ORDER_EXIT)
			_exit(0);
		if (order == ORDER_EXEC)
			execl("/bin/sleep", "sleep", "1000", (char *)NULL);
		r = told->lock ? obey_lock(&hold, (enum order)order, timeout_ms)
			       : obey_region(hold.region, (enum order)order, timeout_ms);
		say((uint64_t)-r);
	}
	shmb_region_free(hold.region);
	shmb_lock_free(hold.lock);
	shmb_client_free(hold.client);
}

int tell(struct actor *actor, uint64_t order)
{
	actor_say(actor, order);
	return -(int)actor_hear(actor);
}

int answer(struct actor *actor)
{
	return -(int)actor_hear(actor);
}

void dismiss(struct actor *actor)
{
	actor_say(actor, ORDER_END);
	actor_end(actor);
}
