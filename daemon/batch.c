/* SPDX-License-Identifier: MIT */
/*
 * The end of regions: their memory is destroyed on the thread pool where that may take long, and
 * many at once are destroyed together.
 */
#include "region.h"

#include "broker.h"
#include "destroy.h"
#include "watch.h"

#include <utlist.h>

/* Destroying this much may take longer than the loop should stand still: 0.05 s for each GiB that
 * was touched. */
enum { DESTROY_INLINE_MAX = 16 << 20 };

static bool is_slow(const struct broker *broker, const struct segments *segments, uint64_t bytes)
{
	if (bytes > DESTROY_INLINE_MAX || segments->data->slow_end)
		return true;
	/* Removing an object waits for its inode's lock, which a writer can hold, see resize.c. */
	return (segments->backing == &backing_shm || segments->data == &backing_shm) &&
	       broker->options.scope == SCOPE_SYSTEM;
}

void region_destroy_segments(struct broker *broker, uid_t uid, struct segments *segments,
			     uint64_t bytes)
{
	bool batching = broker->regions.batching > 0;

	if (broker->leaving) {
		segments_leave(segments);
		return;
	}
	if (segments->backing->held_fds + segments->data->held_fds > 0)
		manifest_commit(&broker->manifest);
	store_drop(&broker->store, segments, SEGMENTS_ALL);
	if ((batching || is_slow(broker, segments, bytes)) &&
	    destroy_later(broker, uid, segments)) {
		if (!batching)
			destroy_run(broker);
		return;
	}
	manifest_commit(&broker->manifest); /* or the next daemon would look for it */
	segments_destroy(segments, broker->instance.id);
}

void region_batch_begin(struct broker *broker)
{
	broker->regions.batching++;
}

void region_leave_dirty(struct broker *broker, struct region *region)
{
	if (region->dirty)
		DL_DELETE2(broker->regions.dirty, region, dirty_previous, dirty_next);
	region->dirty = false;
}

void region_batch_end(struct broker *broker)
{
	struct regions *regions = &broker->regions;

	if (--regions->batching > 0)
		return;
	while (regions->dirty) {
		struct region *region = regions->dirty;

		region_leave_dirty(broker, region);
		region_notify(broker, region);
	}
	destroy_run(broker);
}
