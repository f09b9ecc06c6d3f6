/* SPDX-License-Identifier: MIT */
/*
 * Locks. What is in the segment is looked at through a guard, a bounded number of words of it, and
 * believed in nothing but that lock's own affairs.
 */
#include "lock.h"

#include "account.h"
#include "broker.h"
#include "cost.h"
#include "guard.h"
#include "layout/lock.h"
#include "layout/publish.h"
#include "remember.h"
#include "session.h"
#include "slots.h"
#include "watch.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t lock_bytes(const struct broker *broker, uint32_t n_slots)
{
	return region_in_pages(broker, layout_lock_bytes(n_slots));
}

static int borrow(struct broker *broker, const struct region *region)
{
	return segment_borrow(&broker->segments, broker->instance.id, &region->segments,
			      SEGMENT_LOCK);
}

static int write_header(struct broker *broker, const struct region *region)
{
	const struct layout_lock header = { .magic = LAYOUT_LOCK_MAGIC,
					    .version = LAYOUT_LOCK_VERSION,
					    .n_slots = region->n_slots };
	int fd = borrow(broker, region);

	if (fd < 0)
		return fd;
	errno = EIO;
	return pwrite(fd, &header, sizeof(header), 0) == sizeof(header) ? 0 : -errno;
}

static int open_guard(struct broker *broker, const struct region *region, struct guard *guard)
{
	int fd = borrow(broker, region);

	return fd < 0 ? fd : guard_open(guard, fd, layout_lock_bytes(region->n_slots));
}

static struct layout_locker locker_of(const struct region *region, struct layout_lock *lock,
				      uint32_t slot)
{
	return (struct layout_locker){ .lock = lock,
				       .own = &lock->slots[slot - 1],
				       .slot = slot,
				       .n_slots = region->n_slots };
}

/* Return: true: there may be more. */
static bool wake(_Atomic uint32_t *word)
{
	return slots_wake(word, SLOTS_WAKES) == SLOTS_WAKES;
}

static bool wake_sleepers(const struct layout_locker *dead)
{
	bool more = wake(&dead->lock->word);

	more |= wake(&dead->lock->next);
	more |= wake(&dead->own->readers);
	return wake(&dead->own->solo) || more;
}

/* For those who take snapshots. */
static int tell_readers(struct broker *broker, struct region *region)
{
	int result = region_write_word(broker, region, offsetof(struct layout_publish, consistency),
				       LAYOUT_OWNER_DIED, sizeof(uint32_t));

	return slots_unreachable(result);
}

/* Watchers, when it is repaired; but counted, for the daemon after this one, as long as it is not.
 */
static void count_death(struct broker *broker, struct region *region)
{
	region_count(region, SHMB_EVENT_OWNER_DIED);
	if (remember_reserve(broker, false) < 0)
		return; /* told, unless we are killed before */
	remember_object(broker, region);
	manifest_commit(&broker->manifest);
}

/* The publish page first, as long as the dead one's claim still keeps others out. Later rounds find
 * nothing to repair, and wake. */
static int undo(struct broker *broker, void *object, uint32_t slot, uint32_t round)
{
	struct region *region = object;
	struct layout_locker dead;
	struct guard guard;
	bool died_holding;
	int result = open_guard(broker, region, &guard);

	if (result < 0)
		return slots_unreachable(result);
	dead = locker_of(region, guard.data, slot);
	died_holding = region->kind == OBJECT_REGION && layout_lock_died_holding(&dead);
	if (died_holding)
		result = tell_readers(broker, region);
	if (result == 0 && died_holding)
		count_death(broker, region);
	if (result == 0) {
		layout_lock_repair(&dead);
		if (wake_sleepers(&dead) && round + 1 < SLOTS_WAKE_ROUNDS)
			result = SLOTS_MORE;
	}
	guard_close(&guard);
	if (died_holding)
		region_notify(broker, region);
	return result;
}

/* ---- Making and attaching ---- */

int lock_make(struct broker *broker, struct region *region)
{
	int result = segments_create(&region->segments, broker->instance.id, SEGMENT_LOCK,
				     lock_bytes(broker, region->n_slots));

	if (result == 0)
		result = write_header(broker, region);
	if (result == 0)
		result = store_keep(&broker->store, &region->segments, SEGMENT_BIT(SEGMENT_LOCK));
	if (result < 0)
		return result;
	region->slots = slots_new(region->n_slots, undo, region);
	return region->slots ? 0 : -ENOMEM;
}

static int make_charged(struct broker *broker, struct region *region, struct failure *failure)
{
	const struct backing *backing = region->segments.backing;
	struct cost cost = cost_of_memory(backing, lock_bytes(broker, region->n_slots));
	int result = cost_charge(broker, region->account, cost, failure);

	if (result != 0)
		return result;
	result = lock_make(broker, region);
	if (result == 0) {
		remember_object(broker, region);
		return 0;
	}
	if (region->segments.made[SEGMENT_LOCK]) {
		segment_forget(&broker->segments, region->segments.id);
		region->segments.made[SEGMENT_LOCK] = false;
		store_drop(&broker->store, &region->segments, SEGMENT_BIT(SEGMENT_LOCK));
		backing->destroy(broker->instance.id, &region->segments, SEGMENT_LOCK);
	}
	cost_uncharge(broker, region->account, cost);
	return answer_fail_system(failure, result, "making the lock's memory");
}

/* The slot's memory. What the header's page holds is there already: all of a small table. */
static int reserve_slot(const struct region *region, int fd, uint32_t slot)
{
	size_t offset =
		offsetof(struct layout_lock, slots) + (slot - 1) * sizeof(struct layout_lock_slot);

	if (offset < (size_t)sysconf(_SC_PAGESIZE))
		return 0;
	return guard_touch(fd, layout_lock_bytes(region->n_slots), offset);
}

static int take_slot(struct broker *broker, struct attachment *attachment, int fd,
		     struct failure *failure)
{
	struct region *region = attachment->region;
	uint32_t slot = slots_take(region->slots, attachment);
	int result;

	if (!slot)
		return answer_fail_limit(failure, SHMB_ESLOTS, "slots", region->n_slots);
	result = reserve_slot(region, fd, slot);
	if (result < 0) {
		slots_release(broker, region->slots, slot);
		return answer_fail_system(failure, result, "making room for a slot");
	}
	attachment->slot = (uint16_t)slot;
	return 0;
}

int lock_attach(struct broker *broker, struct attachment *attachment, int *ret_fd,
		struct failure *failure)
{
	struct region *region = attachment->region;
	struct account *account = attachment->session->account;
	uint64_t limit = broker->settings.per_user[CHARGE_SLOTS];
	int result = 0;

	if (!account_charge(account, CHARGE_SLOTS, 1, limit))
		return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(CHARGE_SLOTS),
					 limit);
	if (!region->slots)
		result = make_charged(broker, region, failure);
	if (result == 0) {
		*ret_fd = borrow(broker, region);
		if (*ret_fd < 0)
			result = answer_fail_system(failure, *ret_fd, "opening the lock's memory");
	}
	if (result == 0)
		result = take_slot(broker, attachment, *ret_fd, failure);
	if (result == 0)
		remember_attachment(broker, attachment);
	else
		account_uncharge(account, CHARGE_SLOTS, 1);
	return result;
}

/* Whoever may write the segment can make it say anything, about that lock alone. */
int lock_holds(struct broker *broker, const struct region *region, uint32_t slot)
{
	struct layout_lock_slot own;
	struct layout_lock head;
	int fd = region->slots ? borrow(broker, region) : -ENOENT;
	int result = fd < 0 ? fd : guard_read(fd, &head, sizeof(head), 0);

	if (result == 0)
		result = guard_read(fd, &own, sizeof(own),
				    offsetof(struct layout_lock, slots) + (slot - 1) * sizeof(own));
	if (result < 0)
		return result;
	return (atomic_load(&head.word) & LAYOUT_LOCK_SLOT) == slot && atomic_load(&own.held) != 0;
}

int lock_fd(struct broker *broker, const struct attachment *attachment)
{
	return borrow(broker, attachment->region);
}

void lock_detach(struct broker *broker, struct attachment *attachment)
{
	account_uncharge(attachment->session->account, CHARGE_SLOTS, 1);
	slots_release(broker, attachment->region->slots, attachment->slot);
	attachment->slot = 0;
}

/* ---- Looking ---- */

static void look_at_slot(struct lock_state *state, const struct layout_locker *locker,
			 struct attachment *owner, uint32_t claimant)
{
	struct lock_part *part = &state->parts[locker->slot - 1];

	part->exclusive = claimant == locker->slot;
	part->shared = layout_lock_shared(locker->own);
	part->waiting_shared = atomic_load(&locker->own->waiting_shared);
	part->waiting_exclusive = atomic_load(&locker->own->waiting_exclusive);
	state->readers += part->shared;
	state->waiting_shared += part->waiting_shared;
	state->waiting_exclusive += part->waiting_exclusive;
	if (part->exclusive) {
		state->claimed = true;
		state->held = atomic_load(&locker->own->held) != 0;
	}
	if (part->exclusive || (part->shared > 0 && !state->holder))
		state->holder = owner;
}

static int copy(struct broker *broker, const struct region *region, struct layout_lock **ret_lock)
{
	size_t bytes = layout_lock_bytes(region->n_slots);
	struct layout_lock *lock = malloc(bytes);
	int result = lock ? borrow(broker, region) : -ENOMEM;

	if (result >= 0)
		result = guard_read(result, lock, bytes, 0);
	if (result < 0) {
		free(lock);
		return result;
	}
	*ret_lock = lock;
	return 0;
}

int lock_look(struct broker *broker, struct region *region, struct lock_state **ret_state)
{
	struct lock_state *state;
	struct layout_lock *lock;
	uint32_t word;
	int result;

	state = calloc(1, sizeof(*state) + region->n_slots * sizeof(state->parts[0]));
	if (!state)
		return -ENOMEM;
	result = copy(broker, region, &lock);
	if (result < 0) {
		free(state);
		return result;
	}
	word = atomic_load(&lock->word);
	state->owner_died = word & LAYOUT_LOCK_DIED;
	state->not_recoverable = word & LAYOUT_LOCK_LOST;
	for (uint32_t slot = 1; slot <= region->n_slots; slot++) {
		struct layout_locker locker = locker_of(region, lock, slot);
		struct attachment *owner = slots_owner(region->slots, slot);

		if (owner)
			look_at_slot(state, &locker, owner, word & LAYOUT_LOCK_SLOT);
	}
	free(lock);
	*ret_state = state;
	return 0;
}

/* ---- Recovery ---- */

int lock_recover(struct broker *broker, struct region *region)
{
	region->slots = slots_new(region->n_slots, undo, region);
	return region->slots ? 0 : -ENOMEM;
}

static bool names(const struct layout_lock *lock, uint32_t slot)
{
	static const struct layout_lock_slot empty;

	return (atomic_load(&lock->word) & LAYOUT_LOCK_SLOT) == slot ||
	       // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*) a copy; no padding
	       memcmp(&lock->slots[slot - 1], &empty, sizeof(empty)) != 0;
}

int lock_sweep(struct broker *broker, struct region *region)
{
	struct layout_lock *lock;
	int result = copy(broker, region, &lock);

	if (result < 0)
		return slots_unreachable(result);
	for (uint32_t slot = 1; slot <= region->n_slots; slot++)
		if (names(lock, slot))
			slots_sweep(broker, region->slots, slot);
	free(lock);
	return 0;
}
