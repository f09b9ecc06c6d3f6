/* SPDX-License-Identifier: MIT */
/*
 * The segments of one object, whatever they are made of.
 */
#include "backing.h"

#include <stddef.h>
#include <unistd.h>

const struct backing *backing_of(unsigned number)
{
	static const struct backing *const all[] = { &backing_shm, &backing_memfd, &backing_file,
						     &backing_hugetlb };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i]->number == number)
			return all[i];
	return NULL;
}

void segments_init(struct segments *segments, const struct backing *backing,
		   const struct backing *data, uint64_t id)
{
	*segments = (struct segments){ .backing = backing, .data = data, .id = id };
	for (int i = 0; i < SEGMENT_COUNT; i++)
		segments->fds[i] = -1;
}

const struct backing *segment_backing(const struct segments *segments, enum segment which)
{
	return which == SEGMENT_DATA || which == SEGMENT_READER ? segments->data
								: segments->backing;
}

int segments_create(struct segments *segments, uint64_t instance, enum segment which,
		    uint64_t bytes)
{
	int result = segment_backing(segments, which)->create(instance, segments, which, bytes);

	segments->made[which] = result == 0;
	return result;
}

int segments_open(const struct segments *segments, uint64_t instance, enum segment which,
		  bool writable)
{
	return segment_backing(segments, which)->open(instance, segments, which, writable);
}

void segments_destroy(struct segments *segments, uint64_t instance)
{
	for (int i = 0; i < SEGMENT_COUNT; i++) {
		enum segment which = (enum segment)i;

		if (segments->made[i])
			segment_backing(segments, which)->destroy(instance, segments, which);
		segments->made[i] = false;
	}
}

struct segments segments_take(struct segments *segments, unsigned which)
{
	struct segments taken;

	segments_init(&taken, segments->backing, segments->data, segments->id);
	taken.generation = segments->generation;
	for (int i = 0; i < SEGMENT_COUNT; i++) {
		if (!(which & SEGMENT_BIT(i)))
			continue;
		taken.fds[i] = segments->fds[i];
		taken.made[i] = segments->made[i];
		taken.missed[i] = segments->missed[i];
		taken.inodes[i] = segments->inodes[i];
		taken.stored[i] = segments->stored[i];
		segments->fds[i] = -1;
		segments->made[i] = segments->missed[i] = false;
		segments->inodes[i] = segments->stored[i] = 0;
	}
	return taken;
}

void segments_leave(struct segments *segments)
{
	for (int i = 0; i < SEGMENT_COUNT; i++) {
		if (segments->fds[i] >= 0)
			close(segments->fds[i]);
		segments->fds[i] = -1;
		segments->made[i] = false;
	}
}
