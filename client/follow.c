/* SPDX-License-Identifier: MIT */
/*
 * Going after a region that has moved to another segment, and the slow ways of touching its bytes:
 * whatever the fast ones in touch.h send here.
 */

#include "region.h"

#include <unistd.h>

#include "calls.h"
#include "how.h"
#include "touch.h"

void region_apply_flags(struct shmb_region *region, const struct mapped *mapped)
{
	const struct attach attach = {
		.flags = region->flags & (SHMB_POPULATE | SHMB_PIN),
	};
	struct shmb_error error;

	if (attach.flags != 0)
		how_apply(&attach, &mapped->mapping, region_bytes(region),
			  region->backing == SHMB_BACKING_FILE, &error);
}

bool region_move(struct shmb_region *region, struct mapped *mapped, uint64_t capacity,
		 uint32_t seen, int fd)
{
	if (!mapped_supersede(region, mapped, fd)) {
		mapped_free(mapped);
		close(fd);
		return false;
	}
	/* Behind the data, see struct shmb_region. */
	atomic_store(&region->capacity, capacity);
	atomic_store(&region->generation_seen, seen);
	atomic_fetch_and(&region->state, ~(uint32_t)REGION_UNSETTLED);
	region_apply_flags(region, mapped);
	return true;
}

/* It is where it was, or a file that is still within the mapping. */
static void stay(struct shmb_region *region, const struct wire_region_data_result *data,
		 uint32_t seen)
{
	atomic_load(&region->mapped)->generation = (uint32_t)data->generation;
	atomic_store(&region->capacity, data->capacity);
	atomic_store(&region->generation_seen, seen);
	atomic_fetch_and(&region->state, ~(uint32_t)REGION_UNSETTLED);
}

static int go_there(struct shmb_region *region, struct call *call, uint32_t seen)
{
	const struct wire_region_data_result *data = &call->result.data;
	struct mapped *mapped = atomic_load(&region->mapped);
	int result, fd;

	if (data->capacity > INT64_MAX || data->size > data->capacity)
		return region_refuse(region, SHMB_EPROTO, "segment");
	/* Of a file all descriptors are of the same bytes. A mapping never gets shorter: who is
	 * about to touch it has looked at the capacity before. */
	if (data->generation == mapped->generation ||
	    (region->backing == SHMB_BACKING_FILE && data->capacity <= mapped->mapping.length)) {
		stay(region, data, seen);
		return 0;
	}
	if (region->flags & SHMB_FIXED)
		return region_refuse(region, SHMB_ENOTSUP, "SHMB_FIXED: the region has moved");
	result = mapped_new(region, call->fds[0], data->capacity, (uint32_t)data->generation,
			    &mapped);
	if (result < 0)
		return region_refuse(region, result, "map");
	fd = call->fds[0];
	call->fds[0] = -1;
	if (!region_move(region, mapped, data->capacity, seen, fd))
		return region_refuse(region, SHMB_ECLOSED, NULL);
	return 0;
}

/* `following` is held. */
static int ask(struct shmb_region *region)
{
	struct wire_region_handle params = { .handle = region->handle };
	/* Before the answer: if it changes after this we ask again. */
	uint32_t seen = atomic_load(&region->page->generation);
	struct call *call;
	int result;

	if (region_closed(region))
		return region_refuse(region, SHMB_ECLOSED, NULL);
	/* A copy of its own stays what it is. */
	if (region->flags & SHMB_PRIVATE) {
		atomic_store(&region->generation_seen, seen);
		return 0;
	}
	call = call_new(WIRE_REGION_DATA);
	result = call_answer(region->client, &region->error, call, &params);
	/* Another thread was faster, and the broker knows the handle no more. */
	if (result < 0 && region_closed(region))
		return region_refuse(region, SHMB_ECLOSED, NULL);
	if (result < 0)
		return result;
	result = go_there(region, call, seen);
	call_free(call);
	return result;
}

/* No other thread has found out where it is. One that the broker has not answered meanwhile has
 * asked for all who came before it had lost patience: they have waited, too. */
static int ask_unless_asked(struct shmb_region *region, uint32_t unanswered)
{
	int result;

	if (atomic_load(&region->n_unanswered) != unanswered)
		return SHMB_ETIMEDOUT; /* its particulars are kept */
	result = ask(region);
	if (result == SHMB_ETIMEDOUT)
		atomic_fetch_add(&region->n_unanswered, 1);
	return result;
}

int region_follow(struct shmb_region *region)
{
	uint32_t unanswered = atomic_load(&region->n_unanswered);
	int result = 0;

	pthread_mutex_lock(&region->following);
	if (region_has_moved(region))
		result = ask_unless_asked(region, unanswered);
	pthread_mutex_unlock(&region->following);
	return result;
}

/* ---- Before ---- */

static int check_state(struct shmb_region *region, uint32_t bars)
{
	uint32_t state = atomic_load(&region->state) & bars;

	if (state & REGION_CLOSED)
		return region_refuse(region, SHMB_ECLOSED, NULL);
	if (state & REGION_NO_READ)
		return region_refuse(region, SHMB_EMODE, "read");
	if (state & REGION_NO_WRITE)
		return region_refuse(region, SHMB_EMODE, "write");
	return 0;
}

static int check_range(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	uint64_t capacity = atomic_load(&region->capacity);
	uint64_t size = atomic_load(&region->page->size);

	if (!region_within(offset, length, size < capacity ? size : capacity))
		return region_refuse_bounds(region, offset, length);
	return 0;
}

int region_check_slowly(struct shmb_region *region, uint32_t bars, uint64_t offset, uint64_t length,
			struct region_place *ret_place)
{
	int result = fork_crossed(region->generation) ? SHMB_EFORKED : check_state(region, bars);

	if (result == 0 && bars & REGION_PAGE_LOST)
		result = region_check_page(region);
	if (result == 0 && region_has_moved(region))
		result = region_follow(region);
	if (result == 0)
		result = check_range(region, offset, length);
	if (result == 0 && bars & atomic_load(&region->state) & REGION_FAULTED)
		result = region_mend(region, offset, length);
	if (result < 0)
		return result;
	/* What happened before this was not seen; what happens after it will be. */
	ret_place->state = atomic_load(&region->state);
	ret_place->data = atomic_load(&region->data) + offset;
	return 0;
}

/* ---- After ---- */

/* Is it somewhere else since it was looked for, or did anything come back that had vanished? */
static bool has_changed(const struct shmb_region *region, uint64_t offset,
			const struct region_place *place)
{
	return ((atomic_load(&region->state) ^ place->state) & REGION_MENDINGS) ||
	       atomic_load(&region->data) + offset != place->data;
}

int region_after_slowly(struct shmb_region *region, uint32_t bars, uint64_t offset, uint64_t length,
			const struct region_place *place)
{
	uint32_t now = atomic_load(&region->state);
	int result = 0;

	if (now & REGION_CLOSED)
		return region_refuse(region, SHMB_ECLOSED, NULL);
	if (has_changed(region, offset, place))
		return 1;
	if (now & REGION_PAGE_LOST)
		result = region_check_page(region);
	if (result == 0 && now & REGION_FAULTED)
		result = region_find_lost(region, offset, length);
	/* seq_cst: we look for what is lost and then whether anything came back; who mends says so
	 * and then forgets what was lost. What was not found was there all the time, or we see it.
	 */
	if (result == 0 && now & REGION_FAULTED && has_changed(region, offset, place))
		return 1;
	if (result == 0 && bars & now & REGION_COUNTED)
		result = flush_count(region, offset, length);
	return result;
}
