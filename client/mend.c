/* SPDX-License-Identifier: MIT */
/*
 * Memory that has vanished from a region's mapping, seen from outside the signal handler: whether
 * it is there again, and who is told that it was not.
 */

#include "region.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "touch.h"

/* A part that was lost while there were views, and is back. */
struct mended {
	struct mended *next;
	uint64_t offset, length;
	uint64_t serial; /* `n_mended` after it */
};

void mended_free(struct mapped *mapped)
{
	while (mapped->mended) {
		struct mended *next = mapped->mended->next;

		free(mapped->mended);
		mapped->mended = next;
	}
}

/* For those who hold views: they have seen zeros. Return: false: out of memory. */
static bool remember(struct mapped *mapped, uint64_t offset, uint64_t length)
{
	struct mended *mended = mapped->mended;

	if (atomic_load(&mapped->holds) == 0) {
		mended_free(mapped);
		return true;
	}
	while (mended && (mended->offset != offset || mended->length != length))
		mended = mended->next;
	if (!mended) {
		mended = calloc(1, sizeof(*mended));
		if (!mended)
			return false;
		mended->offset = offset;
		mended->length = length;
		mended->next = mapped->mended;
		mapped->mended = mended;
	}
	mended->serial = atomic_fetch_add(&mapped->n_mended, 1) + 1;
	return true;
}

/* How much of a part the file has; what it has not need not be tried. */
static uint64_t present(const struct shmb_region *region, const struct mapped *mapped,
			uint64_t offset, uint64_t length)
{
	uint64_t unit = mapped->mapping.unit, end;
	struct stat status;

	if (region->fd < 0 || mapped->mapping.private || fstat(region->fd, &status) != 0 ||
	    status.st_size < 0)
		return 0;
	end = ((uint64_t)status.st_size + unit - 1) & ~(unit - 1);
	if (end <= offset)
		return 0;
	return end - offset < length ? end - offset : length;
}

/* Return: how many bytes of the part are there again, from its beginning. */
static uint64_t mend_part(struct shmb_region *region, struct mapped *mapped, uint64_t offset,
			  uint64_t length)
{
	uint64_t there = present(region, mapped, offset, length);

	if (there == 0 || !remember(mapped, offset, there) ||
	    map_again(&mapped->mapping, region->fd, offset, there) < 0)
		return 0;
	/* Who has copied zeros copies again: first, see region_after_slowly(). */
	atomic_fetch_add(&region->state, REGION_MENDED);
	return guard_forget(&mapped->guarded, offset, there) ? there : 0;
}

bool mapped_mend(struct shmb_region *region, uint64_t offset, uint64_t length, uint64_t *ret_offset,
		 uint64_t *ret_length)
{
	uint64_t start, n;
	struct mapped *mapped;
	bool lost = false;

	pthread_mutex_lock(&region->remapping);
	mapped = atomic_load(&region->mapped);
	/* Of a closed handle the descriptor is another's by now. */
	if (region_closed(region) || mapped->detached || mapped->guarded.entry == 0) {
		pthread_mutex_unlock(&region->remapping);
		return true;
	}
	guard_pause(&mapped->guarded);
	while (!lost && guard_find_lost(&mapped->guarded, offset, length, &start, &n)) {
		lost = mend_part(region, mapped, start, n) < n;
		if (lost)
			lost = guard_find_lost(&mapped->guarded, offset, length, ret_offset,
					       ret_length);
	}
	if (!lost && !guard_find_lost(&mapped->guarded, 0, mapped->mapping.length, &start, &n)) {
		atomic_fetch_and(&region->state, ~(uint32_t)REGION_FAULTED);
		/* Unless somebody who has not waited noted something in between. */
		if (guard_find_lost(&mapped->guarded, 0, mapped->mapping.length, &start, &n))
			atomic_fetch_or(&region->state, REGION_FAULTED);
	}
	guard_resume(&mapped->guarded);
	pthread_mutex_unlock(&region->remapping);
	return !lost;
}

bool mapped_was_lost(struct mapped *mapped, uint64_t offset, uint64_t length, uint64_t since)
{
	struct shmb_region *region = mapped->region;
	uint64_t start, n;
	bool lost;

	if (guard_find_lost(&mapped->guarded, offset, length, &start, &n))
		return true;
	if (atomic_load(&mapped->n_mended) == since || fork_crossed(region->generation))
		return false;
	pthread_mutex_lock(&region->remapping);
	lost = false;
	for (const struct mended *mended = mapped->mended; mended && !lost; mended = mended->next)
		lost = mended->serial > since && mended->offset < offset + length &&
		       offset < mended->offset + mended->length;
	pthread_mutex_unlock(&region->remapping);
	return lost;
}

static int refuse_lost(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	struct shmb_error error = {
		.code = SHMB_EBUS,
		.offset = offset,
		.length = length,
		.size = region_bytes(region),
	};

	return error_set(&region->error, &error);
}

int region_mend(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	uint64_t start, n;

	if (mapped_mend(region, offset, length, &start, &n))
		return 0;
	return refuse_lost(region, start, n);
}

int region_find_lost(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	struct mapped *mapped = mapped_hold(region);
	uint64_t start, n;
	bool lost = guard_find_lost(&mapped->guarded, offset, length, &start, &n);

	mapped_release(mapped);
	return lost ? refuse_lost(region, start, n) : 0;
}

int shmb_region_check(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	uint32_t bars = REGION_CLOSED | REGION_PAGE_LOST;
	struct region_place place;
	int result = region_check(region, bars, offset, length, &place);
	uint64_t size = region_bytes(region);

	if (result < 0)
		return result;
	if (length == 0)
		length = offset < size ? size - offset : 0;
	return region_find_lost(region, offset, length);
}
