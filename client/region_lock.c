/* SPDX-License-Identifier: MIT */
/*
 * The lock of a region, as programs see it, and copies for those who do not lock. How locking works
 * is in lock.c.
 */

#include "region.h"

#include <sched.h>
#include <string.h>

#include "client.h"
#include "clock.h"
#include "copy.h"
#include "touch.h"

enum {
	SNAPSHOT_NS = 5000000, /* of trying */
	SNAPSHOT_TRIES = 4,    /* at least, however long they take */
};

/* ---- Locking ---- */

/* The lock of a usable handle is ready after the first call. */
static int make_ready(struct shmb_region *region)
{
	int result = region_usable(region);

	if (result < 0)
		return region_refuse(region, result, NULL);
	if (!(region->access & SHMB_LOCK) && !region_is_public(region))
		return region_refuse(region, SHMB_EMODE, "lock");
	return locker_attach(&region->locker, region->client, region->handle, &region->error);
}

/* Outcomes of waiting are answers, not kept as errors. */
static int lock_failed(struct shmb_region *region, int result)
{
	return result == SHMB_ETIMEDOUT ? result : region_refuse(region, result, "lock");
}

/* A child maps what its parent has, so the generation comes first. */
static always_inline bool is_ready(const struct shmb_region *region)
{
	return likely(!fork_crossed(region->generation)) && likely(locker_ready(&region->locker));
}

/* @flags: as locker_lock_slowly() */
static out_of_line int lock_slowly(struct shmb_region *region, enum shmb_lock_kind kind,
				   int timeout_ms, unsigned flags)
{
	int result = is_ready(region) || flags & LOCKER_GOT ? 0 : make_ready(region);

	if (result < 0)
		return result;
	if (kind != SHMB_SHARED && kind != SHMB_EXCLUSIVE)
		return region_refuse(region, SHMB_EINVAL, "kind");
	result = locker_lock_slowly(&region->locker, kind, timeout_ms, flags);
	return result < 0 ? lock_failed(region, result) : 0;
}

int shmb_region_lock(struct shmb_region *region, enum shmb_lock_kind kind, int timeout_ms)
{
	unsigned flags = 0;

	if (is_ready(region) && likely(locker_lock_fast(&region->locker, kind, &flags))) {
		if (likely(locker_still_ready(&region->locker)))
			return 0;
		flags = LOCKER_GOT;
	}
	return lock_slowly(region, kind, timeout_ms, flags);
}

/* Return: 0, or why a handle that is not ready holds nothing. */
static int refuse_holder(struct shmb_region *region)
{
	int result = region_usable(region);

	if (result == 0)
		result = locker_lost(&region->locker) ? SHMB_EBUS : SHMB_EINVAL;
	return region_refuse(region, result, "not held");
}

static out_of_line int unlock_slowly(struct shmb_region *region, enum locker_rest rest)
{
	if (fork_crossed(region->generation))
		return SHMB_EFORKED;
	return locker_unlock_slowly(&region->locker, rest) < 0 ? refuse_holder(region) : 0;
}

int shmb_region_unlock(struct shmb_region *region)
{
	enum locker_rest rest = LOCKER_REST_NOT_HELD;

	if (is_ready(region))
		rest = locker_unlock_fast(&region->locker);
	if (likely(rest == 0) && likely(locker_still_ready(&region->locker)))
		return 0;
	return unlock_slowly(region, rest);
}

int shmb_region_downgrade(struct shmb_region *region)
{
	int result;

	if (!is_ready(region))
		return refuse_holder(region);
	result = locker_downgrade(&region->locker);
	if (result == 0 && locker_lost(&region->locker))
		result = SHMB_EBUS;
	return result < 0 ? region_refuse(region, result, "downgrade") : 0;
}

int shmb_region_mark_consistent(struct shmb_region *region)
{
	if (region_usable(region) == 0 && !region_is_public(region))
		return region_refuse(region, SHMB_EMODE, "mark consistent");
	if (!is_ready(region) || locker_mark_consistent(&region->locker) < 0)
		return refuse_holder(region);
	return 0;
}

int shmb_region_reset_lock(struct shmb_region *region)
{
	int result = is_ready(region) ? 0 : make_ready(region);

	if (result < 0)
		return result;
	if (!region_is_public(region))
		return region_refuse(region, SHMB_EMODE, "reset lock");
	result = locker_reset(&region->locker);
	return result < 0 ? region_refuse(region, result, "lock is not lost") : 0;
}

int region_lock(struct shmb_region *region, enum shmb_lock_kind kind)
{
	unsigned flags = 0;

	if (is_ready(region) && likely(locker_lock_fast(&region->locker, kind, &flags))) {
		if (likely(locker_still_ready(&region->locker)))
			return 0;
		flags = LOCKER_GOT;
	}
	return lock_slowly(region, kind, region->client->timeout_ms, flags | LOCKER_SOUND);
}

void region_unlock(struct shmb_region *region)
{
	enum locker_rest rest = locker_unlock_fast(&region->locker);

	if (unlikely(rest != 0) || unlikely(!locker_still_ready(&region->locker)))
		locker_unlock_slowly(&region->locker, rest);
}

/* ---- Snapshots ---- */

/*
 * One try. What a dead writer has left is read after `writing`: who gave the lock back without
 * putting the data right has said so before it made `writing` even, which is what we acquire.
 *
 * Return: 0, SHMB_EBUSY, SHMB_EOWNERDEAD or SHMB_ENOTRECOVERABLE.
 */
static int try_snapshot(struct shmb_region *region, uint64_t offset, void *buffer, size_t length)
{
	const struct layout_publish *page = region->page;
	uint64_t sequence;
	bool quiet = layout_snapshot_begin(page, &sequence);
	struct region_place place;
	int result;

	switch (atomic_load(&page->consistency)) {
	case LAYOUT_CONSISTENT:
		break;
	case LAYOUT_OWNER_DIED:
		return SHMB_EOWNERDEAD;
	default:
		return SHMB_ENOTRECOVERABLE;
	}
	if (!quiet)
		return SHMB_EBUSY;
	/* After the sequence: one who grew the region said so before it made that even. */
	result = region_check_read(region, offset, length, &place);
	if (result < 0)
		return result;
	copy_racing(buffer, place.data, length);
	result = region_after_read(region, offset, length, &place);
	if (result != 0)
		return result > 0 ? SHMB_EBUSY : result;
	return layout_snapshot_end(page, sequence) ? 0 : SHMB_EBUSY;
}

static int try_until(struct shmb_region *region, uint64_t offset, void *buffer, size_t length)
{
	int result = try_snapshot(region, offset, buffer, length);
	int64_t until;

	if (likely(result != SHMB_EBUSY))
		return result;
	until = clock_now() + SNAPSHOT_NS;
	for (int tries = 1; result == SHMB_EBUSY; tries++) {
		if (tries >= SNAPSHOT_TRIES && clock_now() >= until)
			break;
		/* The writer may be waiting for this processor. */
		sched_yield();
		result = try_snapshot(region, offset, buffer, length);
	}
	return result;
}

int shmb_region_snapshot(struct shmb_region *region, uint64_t offset, void *buffer, size_t length)
{
	struct region_place place;
	int result = region_check_read(region, offset, length, &place);

	if (unlikely(result < 0))
		return result;
	result = try_until(region, offset, buffer, length);
	switch (result) {
	case SHMB_EBUSY:
	case SHMB_EOWNERDEAD:
	case SHMB_ENOTRECOVERABLE:
		/* Last: a closed region reads as zeros. */
		if (region_usable(region) < 0)
			result = region_usable(region);
		return region_refuse(region, result, "snapshot");
	default: /* its particulars are kept already */
		return result;
	}
}
