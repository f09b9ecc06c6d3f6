/* SPDX-License-Identifier: MIT */
/*
 * Pages of a region, as programs see them: presence, pinning, advice, huge pages, protection.
 * Checks ranges and rights and keeps errors; how a system does it is in map_*.c.
 */

#include <string.h>

#include "touch.h"

size_t shmb_page_size(void)
{
	return map_page_size();
}

uint64_t shmb_align_up(uint64_t bytes, uint64_t alignment)
{
	uint64_t mask = alignment - 1;

	if (alignment == 0 || (alignment & mask) != 0 || bytes > UINT64_MAX - mask)
		return 0;
	return (bytes + mask) & ~mask;
}

int shmb_supports(enum shmb_feature feature)
{
	return map_supports(feature);
}

int shmb_supports_advice(enum shmb_advice advice)
{
	return map_supports_advice(advice);
}

/* ---- Ranges ---- */

/* A range of a region, in the mapping that it is in now and stays in until it is given back. */
struct range {
	struct mapped *mapped;
	uint64_t offset, length;
};

/* @length: 0: all that there is from @offset on, which may be nothing */
static int range_take(struct shmb_region *region, uint64_t offset, uint64_t length,
		      struct range *ret_range)
{
	struct region_place place;
	int result = region_check(region, REGION_CLOSED, offset, length, &place);
	uint64_t size;

	if (result < 0)
		return result;
	size = region_bytes(region);
	if (length == 0 && size > offset)
		length = size - offset;
	*ret_range = (struct range){ mapped_hold(region), offset, length };
	return 0;
}

/* Return: @code, whose particulars are kept. */
static int range_done(struct shmb_region *region, const struct range *range, int code,
		      const char *what, uint64_t limit)
{
	struct shmb_error error = {
		.code = code,
		.offset = range->offset,
		.length = range->length,
		.size = region_bytes(region),
		.limit = limit,
	};

	mapped_release(range->mapped);
	if (code == 0)
		return 0;
	error_what(&error, what, strlen(what));
	return error_set(&region->error, &error);
}

/* ---- Presence ---- */

static bool has_lost_some(const struct shmb_region *region)
{
	return atomic_load(&region->state) & REGION_FAULTED;
}

int shmb_region_touch(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	/* Writing would make every page of a file dirty, but for copies of it. */
	bool may_write = region->backing != SHMB_BACKING_FILE || region->flags & SHMB_PRIVATE;
	bool write = region->access & SHMB_WRITE && may_write;
	struct range range;
	int result = range_take(region, offset, length, &range);

	if (result < 0)
		return result;
	if (has_lost_some(region))
		result = region_mend(region, range.offset, range.length);
	if (result == 0)
		result = map_touch(&range.mapped->mapping, range.offset, range.length, write);
	/* Where the system cannot populate, pages have been touched one by one. */
	if (result == 0 && has_lost_some(region))
		result = region_find_lost(region, range.offset, range.length);
	return range_done(region, &range, result, "touch", 0);
}

int shmb_region_pin(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	struct range range;
	int result = range_take(region, offset, length, &range);
	uint64_t limit = 0;

	if (result < 0)
		return result;
	result = map_pin(&range.mapped->mapping, range.offset, range.length, &limit);
	return range_done(region, &range, result, result == SHMB_EDQUOT ? "RLIMIT_MEMLOCK" : "pin",
			  limit);
}

int shmb_region_unpin(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	struct range range;
	int result = range_take(region, offset, length, &range);

	if (result < 0)
		return result;
	result = map_unpin(&range.mapped->mapping, range.offset, range.length);
	return range_done(region, &range, result, "unpin", 0);
}

/* ---- Advice ---- */

static const char *advice_name(enum shmb_advice advice)
{
	switch (advice) {
#define ADVICE_NAME(identifier, number, name) \
	case SHMB_ADVICE_##identifier:        \
		return name;
		SHMB_ADVICE_MAP(ADVICE_NAME)
#undef ADVICE_NAME
	}
	return NULL;
}

/* What an advice throws away is whole pages within the range, never a byte beside it. */
static struct range whole_pages(const struct range *range)
{
	uint64_t mask = range->mapped->mapping.unit - 1, end = range->offset + range->length;
	uint64_t first = (range->offset + mask) & ~mask, last = end & ~mask;

	if (first >= last)
		first = last = end;
	return (struct range){ range->mapped, first, last - first };
}

/* Zeros for everybody: whole pages are given back, what is left at the edges is overwritten. */
static int remove_range(const struct range *range)
{
	const struct mapping *mapping = &range->mapped->mapping;
	struct range inside = whole_pages(range);
	uint64_t inside_end = inside.offset + inside.length;
	char *data = mapping->data;
	int result = 0;

	if (inside.length > 0)
		result = map_advise(mapping, inside.offset, inside.length, SHMB_ADVICE_REMOVE);
	if (result < 0)
		return result;
	memset(data + range->offset, 0, (size_t)(inside.offset - range->offset));
	memset(data + inside_end, 0, (size_t)(range->offset + range->length - inside_end));
	return 0;
}

static int advise(const struct shmb_region *region, const struct range *range,
		  enum shmb_advice advice)
{
	const struct mapping *mapping = &range->mapped->mapping;
	struct range inside = whole_pages(range);

	if (advice == SHMB_ADVICE_PREFETCH && region->fd >= 0)
		return map_prefetch(region->fd, range->offset, range->length);
	if (advice == SHMB_ADVICE_REMOVE)
		return map_supports_advice(advice) ? remove_range(range) : SHMB_ENOTSUP;
	if (advice == SHMB_ADVICE_DONTNEED && mapping->private)
		return map_advise(mapping, inside.offset, inside.length, advice);
	return map_advise(mapping, range->offset, range->length, advice);
}

/* Is it for this handle at all? */
static int check_advice(struct shmb_region *region, enum shmb_advice advice)
{
	const char *name = advice_name(advice);

	if (!name)
		return region_refuse(region, SHMB_EINVAL, "advice");
	if (advice == SHMB_ADVICE_REMOVE && !(region->access & SHMB_WRITE))
		return region_refuse(region, SHMB_EMODE, name);
	if (advice == SHMB_ADVICE_REMOVE && region->flags & SHMB_PRIVATE)
		return region_refuse(region, SHMB_EINVAL, name);
	return 0;
}

int shmb_region_advise(struct shmb_region *region, uint64_t offset, uint64_t length,
		       enum shmb_advice advice)
{
	struct range range;
	int result = range_take(region, offset, length, &range);
	uint64_t since;

	if (result < 0)
		return result;
	result = check_advice(region, advice);
	if (result < 0) {
		mapped_release(range.mapped);
		return result;
	}
	/* It writes: not to zeros that stand for what has vanished. */
	if (advice == SHMB_ADVICE_REMOVE && has_lost_some(region))
		result = region_mend(region, range.offset, range.length);
	since = atomic_load(&range.mapped->n_mended);
	if (result == 0)
		result = advise(region, &range, advice);
	if (result == 0 && advice == SHMB_ADVICE_REMOVE &&
	    mapped_was_lost(range.mapped, range.offset, range.length, since))
		result = SHMB_EBUS;
	return range_done(region, &range, result, advice_name(advice), 0);
}

/* ---- Huge pages and protection ---- */

int shmb_region_huge(struct shmb_region *region)
{
	struct range range;
	int result = range_take(region, 0, 0, &range);

	if (result < 0)
		return result;
	result = map_huge(&range.mapped->mapping, range.length);
	mapped_release(range.mapped);
	return result;
}

static int check_protection(struct shmb_region *region, unsigned protection)
{
	const unsigned all = SHMB_PROTECT_READ | SHMB_PROTECT_WRITE | SHMB_PROTECT_EXEC;

	if (protection & ~all)
		return region_refuse(region, SHMB_EINVAL, "protection");
	if (protection & SHMB_PROTECT_WRITE && !(region->access & SHMB_WRITE))
		return region_refuse(region, SHMB_EMODE, "write");
	if (protection & SHMB_PROTECT_READ && !(region->access & SHMB_READ))
		return region_refuse(region, SHMB_EMODE, "read");
	return 0;
}

int shmb_region_protect(struct shmb_region *region, uint64_t offset, uint64_t length,
			unsigned protection)
{
	struct range range;
	int result = range_take(region, offset, length, &range);

	if (result < 0)
		return result;
	result = check_protection(region, protection);
	if (result < 0) {
		mapped_release(range.mapped);
		return result;
	}
	result = map_protect(&range.mapped->mapping, range.offset, range.length, protection);
	return range_done(region, &range, result, "protect", 0);
}
