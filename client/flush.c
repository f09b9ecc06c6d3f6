/* SPDX-License-Identifier: MIT */
/*
 * Flushing, and the policies that do it. How the system writes back is in map_unix.c.
 *
 * A write is counted after its bytes are in the region, and a flush takes note of the count before
 * it begins: what it takes off the pending ones was there to be flushed. What is written meanwhile
 * may be flushed, too, and stays pending; that errs on the safe side.
 */

#include "flush.h"

#include <shmbroker/io.h>

#include "background.h"
#include "sized.h"
#include "touch.h"

/* ---- Counting ---- */

/* Several threads may have flushed at once: the one that noted most counts. */
static void advance(_Atomic uint64_t *flushed, uint64_t noted)
{
	uint64_t before = atomic_load(flushed);

	while (before < noted && !atomic_compare_exchange_weak(flushed, &before, noted))
		;
}

/* In this order, so that the difference is never negative. */
static uint64_t pending_bytes(const struct flush *flush)
{
	uint64_t flushed = atomic_load(&flush->bytes_flushed);

	return atomic_load(&flush->bytes) - flushed;
}

static uint64_t pending_writes(const struct flush *flush)
{
	uint64_t flushed = atomic_load(&flush->writes_flushed);

	return atomic_load(&flush->writes) - flushed;
}

/* ---- Flushing ---- */

/* Only a file is somewhere else than in memory. */
static bool has_something_behind(const struct shmb_region *region)
{
	return region->backing == SHMB_BACKING_FILE && !(region->flags & SHMB_PRIVATE);
}

static int write_back(struct shmb_region *region, uint64_t offset, uint64_t length, unsigned flags)
{
	struct mapped *mapped;
	uint64_t end;
	int result = 0;

	if (!has_something_behind(region))
		return 0;
	/* It stays mapped for as long as this takes, whoever makes the file longer. */
	mapped = mapped_hold(region);
	end = offset + length < mapped->mapping.length ? offset + length : mapped->mapping.length;
	if (offset < end)
		result = map_flush(&mapped->mapping, region->fd, offset, end - offset,
				   flags & SHMB_FLUSH_START);
	mapped_release(mapped);
	return result;
}

/*
 * Linux tells an error of writing back once for each open file description, and those that the
 * broker handed its descriptor share one: what one of them hears of, the others never would. So it
 * tells them. Between its hearing and its telling another may still miss it.
 */
static int share_errors(struct shmb_region *region, int result)
{
	_Atomic uint32_t *errors = &region->page->flush_errors, *seen = &region->flush.errors_seen;
	uint32_t now;

	if (!has_something_behind(region))
		return result;
	if (result < 0 && region->access & SHMB_WRITE)
		atomic_fetch_add(errors, 1);
	now = atomic_load(errors);
	if (atomic_exchange(seen, now) != now && result == 0)
		return SHMB_EIO;
	return result;
}

static int flush_range(struct shmb_region *region, uint64_t offset, uint64_t length, unsigned flags)
{
	struct flush *flush = &region->flush;
	uint64_t bytes = atomic_load(&flush->bytes), writes = atomic_load(&flush->writes);
	uint64_t size = region_bytes(region);
	bool whole = offset == 0 && (length == 0 || length >= size);
	const struct region_place place = { atomic_load(&region->data) + offset,
					    atomic_load(&region->state) };
	int result, after;

	if (length == 0)
		length = offset < size ? size - offset : 0;
	result = share_errors(region, write_back(region, offset, length, flags));
	/* Closed meanwhile, it may have been the zeros in its place that were flushed. Moved, it
	 * was the same file. */
	after = region_after(region, REGION_LOST, offset, length, &place);
	if (after < 0)
		result = after;
	else if (result < 0)
		region_refuse(region, result, "flush");
	atomic_store(&region->last_flush, result);
	if (result == 0 && whole && !(flags & SHMB_FLUSH_START)) {
		advance(&flush->bytes_flushed, bytes);
		advance(&flush->writes_flushed, writes);
	}
	return result;
}

int shmb_region_flush(struct shmb_region *region, uint64_t offset, uint64_t length, unsigned flags)
{
	struct region_place place;
	int result = region_check(region, REGION_LOST, offset, length, &place);

	if (result < 0)
		return result;
	if (flags & ~(unsigned)SHMB_FLUSH_START)
		return region_refuse(region, SHMB_EINVAL, "flags");
	return flush_range(region, offset, length, flags);
}

/* ---- Policies ---- */

static bool is_due(const struct flush *flush)
{
	uint64_t every_bytes = atomic_load(&flush->every_bytes);
	uint64_t every_writes = atomic_load(&flush->every_writes);

	return (every_bytes != 0 && pending_bytes(flush) >= every_bytes) ||
	       (every_writes != 0 && pending_writes(flush) >= every_writes);
}

int flush_count(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	struct flush *flush = &region->flush;
	uint32_t ms;

	(void)offset;
	atomic_fetch_add(&flush->bytes, length);
	atomic_fetch_add(&flush->writes, 1);
	if (is_due(flush))
		return flush_range(region, 0, 0, 0);
	ms = atomic_load(&flush->every_ms);
	/* seq_cst: the timer takes the mark away and then notes the count; we count and then look
	 * at the mark. */
	if (ms != 0 && !atomic_load(&flush->awaited) && !atomic_exchange(&flush->awaited, true))
		background_flush_within(region, ms);
	return 0;
}

uint32_t flush_timed(struct shmb_region *region)
{
	struct flush *flush = &region->flush;

	atomic_store(&flush->awaited, false);
	if (pending_writes(flush) == 0 || flush_range(region, 0, 0, 0) == 0)
		return 0;
	atomic_store(&flush->awaited, true);
	return atomic_load(&flush->every_ms);
}

void flush_last(struct shmb_region *region)
{
	struct flush *flush = &region->flush;

	if (atomic_load(&flush->every_ms) != 0 && pending_writes(flush) > 0)
		flush_range(region, 0, 0, 0);
}

/* With none there is nothing to count, and nothing that was. */
static void set_counting(struct shmb_region *region, bool counting)
{
	struct flush *flush = &region->flush;

	if (counting) {
		atomic_fetch_or(&region->state, REGION_COUNTED);
		return;
	}
	atomic_fetch_and(&region->state, ~(uint32_t)REGION_COUNTED);
	advance(&flush->bytes_flushed, atomic_load(&flush->bytes));
	advance(&flush->writes_flushed, atomic_load(&flush->writes));
}

static int set_policy(struct shmb_region *region, const struct shmb_flush_policy *policy)
{
	struct flush *flush = &region->flush;
	int result = background_time(region, policy->every_ms != 0);

	if (result < 0)
		return region_refuse(region, result, "every_ms");
	atomic_store(&flush->every_bytes, policy->every_bytes);
	atomic_store(&flush->every_writes, policy->every_writes);
	atomic_store(&flush->every_ms, policy->every_ms);
	set_counting(region, policy->every_bytes || policy->every_writes || policy->every_ms);
	/* What is pending already has its time from now on. */
	atomic_store(&flush->awaited, policy->every_ms != 0 && pending_writes(flush) > 0);
	if (atomic_load(&flush->awaited))
		background_flush_within(region, policy->every_ms);
	return 0;
}

int shmb_region_set_flush_policy(struct shmb_region *region, const struct shmb_flush_policy *policy)
{
	struct shmb_flush_policy own = SHMB_FLUSH_POLICY_INIT;
	struct region_place place;
	int result = region_check(region, REGION_CLOSED | REGION_NO_WRITE, 0, 0, &place);

	if (result < 0)
		return result;
	if (!policy || sized_read(&own, sizeof(own), policy) < 0)
		return region_refuse(region, SHMB_EINVAL, "policy");
	return set_policy(region, &own);
}

int shmb_region_get_flush_policy(struct shmb_region *region, struct shmb_flush_policy *ret_policy)
{
	const struct flush *flush = &region->flush;
	struct shmb_flush_policy policy = SHMB_FLUSH_POLICY_INIT;
	int result = region_usable(region);

	if (result < 0)
		return region_refuse(region, result, NULL);
	if (ret_policy->struct_size < sizeof(ret_policy->struct_size))
		return region_refuse(region, SHMB_EINVAL, "struct_size");
	policy.every_bytes = atomic_load(&flush->every_bytes);
	policy.every_writes = atomic_load(&flush->every_writes);
	policy.every_ms = atomic_load(&flush->every_ms);
	sized_write(ret_policy, &policy, sizeof(policy));
	return 0;
}

int shmb_region_wrote(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	struct region_place place;
	int result = region_check_write(region, offset, length, &place);

	if (result < 0)
		return result;
	region_set_last_write(region, length);
	if (atomic_load(&region->state) & REGION_COUNTED)
		return flush_count(region, offset, length);
	return 0;
}

uint64_t shmb_region_pending(struct shmb_region *region)
{
	if (region_usable(region) < 0 || !(atomic_load(&region->state) & REGION_COUNTED))
		return 0;
	return pending_bytes(&region->flush);
}
