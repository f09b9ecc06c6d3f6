/* SPDX-License-Identifier: MIT */
/*
 * Mappings of a region's data: who keeps one, and when it is let go of. Knows of a region only what
 * has to change when its mapping does.
 */

#include "client.h"

#include <stdlib.h>

struct mapped *mapped_free(struct mapped *mapped)
{
	while (mapped) {
		struct mapped *older = mapped->older;

		map_release(&mapped->mapping);
		free(mapped);
		mapped = older;
	}
	return NULL;
}

void mapped_leave(struct mapped *mapped)
{
	mapped->mapping = (struct mapping){ 0 };
}

bool mapped_detach(struct mapped *mapped)
{
	bool detached = true;

	for (; mapped; mapped = mapped->older)
		detached = map_detach(&mapped->mapping) && detached;
	return detached;
}

/* Whoever comes last lets go; twice does no harm. Out of memory keeps the segment until the region
 * is closed. */
static void let_go_if_unused(struct mapped *mapped)
{
	if (atomic_load(&mapped->superseded) && atomic_load(&mapped->holds) == 0)
		map_detach(&mapped->mapping);
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

void mapped_release(struct mapped *mapped)
{
	if (atomic_fetch_sub(&mapped->holds, 1) == 1)
		let_go_if_unused(mapped);
}

void mapped_supersede(struct shmb_region *region, struct mapped *mapped)
{
	struct mapped *older = atomic_load(&region->mapped);

	mapped->older = older;
	/* In this order, see struct shmb_region: the length behind `data` never shrinks. */
	atomic_store(&region->data, mapped->mapping.data);
	atomic_store(&region->mapped, mapped);
	atomic_store(&older->superseded, true);
	let_go_if_unused(older);
}
