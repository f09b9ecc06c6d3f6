/* SPDX-License-Identifier: MIT */
/*
 * The end of regions: their memory is destroyed on the thread pool where that may take long, and
 * many at once are destroyed together.
 */
#include "region.h"

#include "broker.h"
#include "watch.h"

#include <stdlib.h>
#include <utlist.h>

/* Destroying this much may take longer than the loop should stand still: 0.05 s for each GiB that
 * was touched. */
enum { DESTROY_INLINE_MAX = 16 << 20 };

struct destroy_job {
	uv_work_t work; /* of the first of a list */
	struct destroy_job *next;
	uint64_t instance;
	struct segments segments;
};

static void destroy_work(uv_work_t *work)
{
	for (struct destroy_job *job = work->data; job; job = job->next)
		segments_destroy(&job->segments, job->instance);
}

static void destroy_done(uv_work_t *work, int status)
{
	struct destroy_job *job = work->data;

	while (job) {
		struct destroy_job *next = job->next;

		free(job);
		job = next;
	}
}

static void destroy_list(struct broker *broker, struct destroy_job *first)
{
	manifest_commit(&broker->manifest); /* or the next daemon would look for them */
	first->work.data = first;
	if (uv_queue_work(&broker->loop, &first->work, destroy_work, destroy_done) == 0)
		return;
	destroy_work(&first->work);
	destroy_done(&first->work, 0);
}

void region_destroy_segments(struct broker *broker, struct segments *segments, uint64_t bytes)
{
	struct regions *regions = &broker->regions;
	struct destroy_job *job = NULL;

	if (broker->leaving) {
		segments_leave(segments);
		return;
	}
	if (segments->backing->held_fds + segments->data->held_fds > 0)
		manifest_commit(&broker->manifest);
	store_drop(&broker->store, segments, SEGMENTS_ALL);
	/* Removing an object waits for its inode's lock, which a writer can hold, see resize.c. */
	if (regions->batching || bytes > DESTROY_INLINE_MAX || segments->data->slow_end ||
	    ((segments->backing == &backing_shm || segments->data == &backing_shm) &&
	     broker->options.scope == SCOPE_SYSTEM))
		job = calloc(1, sizeof(*job));
	if (!job) {
		manifest_commit(&broker->manifest); /* or the next daemon would look for it */
		segments_destroy(segments, broker->instance.id);
		return;
	}
	job->instance = broker->instance.id;
	job->segments = *segments;
	if (!regions->batching) {
		destroy_list(broker, job);
		return;
	}
	if (regions->last)
		regions->last->next = job;
	else
		regions->batch = job;
	regions->last = job;
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
	struct destroy_job *first = regions->batch;

	if (--regions->batching > 0)
		return;
	while (regions->dirty) {
		struct region *region = regions->dirty;

		region_leave_dirty(broker, region);
		region_notify(broker, region);
	}
	regions->batch = regions->last = NULL;
	if (first)
		destroy_list(broker, first);
}
