/* SPDX-License-Identifier: MIT */
/*
 * The segments of one object, whatever they are made of.
 */
#include "backing.h"

#include <stddef.h>
#include <unistd.h>

const struct backing *backing_of(unsigned number)
{
	static const struct backing *const all[] = { &backing_shm, &backing_memfd };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i]->number == number)
			return all[i];
	return NULL;
}

void segments_init(struct segments *segments, const struct backing *backing, uint64_t id)
{
	*segments = (struct segments){ .backing = backing, .id = id };
	for (int i = 0; i < SEGMENT_COUNT; i++)
		segments->fds[i] = -1;
}

int segments_create(struct segments *segments, uint64_t instance, enum segment which,
		    uint64_t bytes)
{
	int result = segments->backing->create(instance, segments, which, bytes);

	segments->made[which] = result == 0;
	return result;
}

int segments_open(const struct segments *segments, uint64_t instance, enum segment which,
		  bool writable)
{
	return segments->backing->open(instance, segments, which, writable);
}

void segments_destroy(struct segments *segments, uint64_t instance)
{
	for (int i = 0; i < SEGMENT_COUNT; i++) {
		if (segments->made[i])
			segments->backing->destroy(instance, segments, (enum segment)i);
		segments->made[i] = false;
	}
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
