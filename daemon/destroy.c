/* SPDX-License-Identifier: MIT */
/*
 * For each user a list of what is to be destroyed, and a thread that works one off while the next
 * is being written. Must not know regions.
 */
#include "destroy.h"

#include "broker.h"
#include "table.h"

#include <stdlib.h>
#include <unistd.h>

struct job {
	struct job *next;
	struct segments segments;
};

struct destroyer {
	uv_work_t work;
	struct broker *broker;
	uid_t uid;
	uint64_t instance;
	struct job *first, *last; /* waiting */
	struct job *working;      /* the thread's; NULL: it has nothing to do */
	UT_hash_handle hh;
};

static void start(struct destroyer *destroyer);

static void destroy_work(uv_work_t *work)
{
	struct destroyer *destroyer = work->data;

	for (struct job *job = destroyer->working; job; job = job->next)
		segments_destroy(&job->segments, destroyer->instance);
}

static void destroy_done(uv_work_t *work, int status)
{
	struct destroyer *destroyer = work->data;

	while (destroyer->working) {
		struct job *job = destroyer->working;

		destroyer->working = job->next;
		free(job);
	}
	if (destroyer->first) {
		start(destroyer);
		return;
	}
	HASH_DEL(destroyer->broker->destroyers, destroyer);
	free(destroyer);
}

static void start(struct destroyer *destroyer)
{
	struct broker *broker = destroyer->broker;

	manifest_commit(&broker->manifest);
	destroyer->working = destroyer->first;
	destroyer->first = destroyer->last = NULL;
	destroyer->work.data = destroyer;
	if (uv_queue_work(&broker->loop, &destroyer->work, destroy_work, destroy_done) == 0)
		return;
	destroy_work(&destroyer->work);
	destroy_done(&destroyer->work, 0);
}

static struct destroyer *destroyer_of(struct broker *broker, uid_t uid)
{
	struct destroyer *destroyer;

	HASH_FIND(hh, broker->destroyers, &uid, sizeof(uid), destroyer);
	if (destroyer)
		return destroyer;
	destroyer = calloc(1, sizeof(*destroyer));
	if (!destroyer)
		return NULL;
	destroyer->broker = broker;
	destroyer->uid = uid;
	destroyer->instance = broker->instance.id;
	HASH_ADD(hh, broker->destroyers, uid, sizeof(uid), destroyer);
	if (TABLE_HAS(destroyer))
		return destroyer;
	free(destroyer);
	return NULL;
}

/* The job first: a destroyer without one would never end. */
bool destroy_later(struct broker *broker, uid_t uid, const struct segments *segments)
{
	struct job *job = malloc(sizeof(*job));
	struct destroyer *destroyer = job ? destroyer_of(broker, uid) : NULL;

	if (!destroyer) {
		free(job);
		return false;
	}
	*job = (struct job){ .segments = *segments };
	if (destroyer->last)
		destroyer->last->next = job;
	else
		destroyer->first = job;
	destroyer->last = job;
	return true;
}

void destroy_run(struct broker *broker)
{
	struct destroyer *destroyer, *next;

	HASH_ITER(hh, broker->destroyers, destroyer, next)
		if (destroyer->first && !destroyer->working)
			start(destroyer);
}

_Static_assert(WIRE_FDS_MAX <= (int)SEGMENT_COUNT, "the descriptors of a packet fit into segments");

void destroy_fds(struct broker *broker, uid_t uid, const int *fds, unsigned n_fds)
{
	struct segments segments;

	if (n_fds == 0)
		return;
	segments_init(&segments, &backing_file, &backing_file, 0);
	for (unsigned i = 0; i < n_fds; i++) {
		segments.fds[i] = fds[i];
		segments.made[i] = true;
	}
	if (destroy_later(broker, uid, &segments))
		destroy_run(broker);
	else
		segments_destroy(&segments, broker->instance.id);
}
