/* SPDX-License-Identifier: MIT */
/*
 * Mappings of a region's data: who keeps one, and when it is let go of. Knows of a region only what
 * has to change when its mapping does.
 */

#include "mapped.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "region.h"

int mapped_new(struct shmb_region *region, int fd, uint64_t bytes, uint32_t generation,
	       struct mapped **ret_mapped)
{
	struct mapped *mapped = calloc(1, sizeof(*mapped));
	int result;

	if (!mapped)
		return SHMB_ENOMEM;
	mapped->region = region;
	mapped->generation = generation;
	result = map_data(fd, bytes, &region->how, &mapped->mapping);
	if (result == 0 && !(region->flags & SHMB_UNGUARDED))
		result = guard_add(&mapped->guarded, &mapped->mapping, &region->state,
				   REGION_FAULTED);
	if (result < 0)
		mapped_free(mapped);
	else
		*ret_mapped = mapped;
	return result;
}

struct mapped *mapped_free(struct mapped *mapped)
{
	while (mapped) {
		struct mapped *older = mapped->older;

		guard_remove(&mapped->guarded);
		map_release(&mapped->mapping);
		mended_free(mapped);
		free(mapped);
		mapped = older;
	}
	return NULL;
}

void mapped_leave(struct mapped *mapped)
{
	guard_remove(&mapped->guarded);
	mapped->mapping = (struct mapping){ 0 };
}

static bool detach(struct mapped *mapped)
{
	if (!mapped->detached)
		mapped->detached = map_detach(&mapped->mapping);
	return mapped->detached;
}

bool mapped_detach_all(struct shmb_region *region)
{
	struct mapped *mapped;
	bool detached = true;

	pthread_mutex_lock(&region->remapping);
	mapped = atomic_load(&region->mapped);
	if (region->flags & SHMB_STAY_MAPPED) /* the older ones never do */
		mapped = mapped->older;
	for (; mapped; mapped = mapped->older)
		detached = detach(mapped) && detached;
	pthread_mutex_unlock(&region->remapping);
	return detached;
}

struct mapped *mapped_hold(struct shmb_region *region)
{
	for (;;) {
		struct mapped *mapped = atomic_load(&region->mapped);

		/* seq_cst: we hold it and then look whether it is still the one; who supersedes it
		 * says so and then looks for holders. One of the two sees the other. */
		atomic_fetch_add(&mapped->holds, 1);
		if (likely(atomic_load(&region->mapped) == mapped))
			return mapped;
		mapped_release(mapped);
	}
}

/* Whoever comes last lets go. Out of memory keeps the segment until the region is closed. */
static out_of_line void let_go(struct mapped *mapped)
{
	struct shmb_region *region = mapped->region;

	if (fork_crossed(region->generation)) /* its copy goes with the child's other mappings */
		return;
	pthread_mutex_lock(&region->remapping);
	if (atomic_load(&mapped->holds) == 0)
		detach(mapped);
	pthread_mutex_unlock(&region->remapping);
}

void mapped_release(struct mapped *mapped)
{
	if (atomic_fetch_sub(&mapped->holds, 1) == 1 && unlikely(atomic_load(&mapped->superseded)))
		let_go(mapped);
}

/* The number stays: the program may have it. And so does a file, with the locks that this handle's
 * own description of it has. */
static void replace_fd(struct shmb_region *region, int fd)
{
	if (region->fd >= 0 && region->backing != SHMB_BACKING_FILE)
		dup3(fd, region->fd, O_CLOEXEC);
	close(fd);
}

bool mapped_supersede(struct shmb_region *region, struct mapped *mapped, int fd)
{
	struct mapped *older;
	uint64_t start, length;

	pthread_mutex_lock(&region->remapping);
	/* Closing says so and then detaches what there is. */
	if (region_closed(region)) {
		pthread_mutex_unlock(&region->remapping);
		return false;
	}
	replace_fd(region, fd);
	older = atomic_load(&region->mapped);
	mapped->older = older;
	/* See struct shmb_region. What was lost was lost of the older one. */
	atomic_store(&region->data, mapped->mapping.data);
	atomic_store(&region->mapped, mapped);
	atomic_fetch_and(&region->state, ~(uint32_t)REGION_FAULTED);
	/* But of this one some may be lost already: the handler notes what, and then says so. */
	if (guard_find_lost(&mapped->guarded, 0, mapped->mapping.length, &start, &length))
		atomic_fetch_or(&region->state, REGION_FAULTED);
	atomic_fetch_add(&region->state, REGION_MENDED);
	atomic_store(&older->superseded, true);
	if (atomic_load(&older->holds) == 0)
		detach(older);
	pthread_mutex_unlock(&region->remapping);
	return true;
}
