/* SPDX-License-Identifier: MIT */
/*
 * Making a region grow beyond its capacity: a new segment, a copy of the bytes, and then it is the
 * region's, all of it under the region's lock. How others come after is in follow.c.
 *
 * Dying anywhere in here leaves a lock whose owner died, and the old segment or the new one, whole:
 * the broker changes from one to the other in one step, when it is told that the copy is made.
 */

#include "region.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "calls.h"
#include "client.h"
#include "layout/step.h"
#include "output.h"
#include "touch.h"

enum {
	PIECE = 1 << 20,
	BLOCK = 4096, /* that is all zeros is not copied, so that what is sparse stays so */
	TRIES = 16,   /* each of them: the broker died in between */
};

static const unsigned char zeros[BLOCK];

/* ---- The copy ---- */

static size_t smaller(uint64_t a, size_t b)
{
	return a < b ? (size_t)a : b;
}

/* Return: bytes from the beginning that are whole blocks of zeros, or of something else. */
static size_t run_of(const unsigned char *data, size_t length, bool *ret_zeros)
{
	size_t done = 0;

	while (done < length) {
		size_t block = smaller(length - done, BLOCK);
		bool is_zeros = memcmp(data + done, zeros, block) == 0;

		if (done > 0 && is_zeros != *ret_zeros)
			break;
		*ret_zeros = is_zeros;
		done += block;
	}
	return done;
}

/* Beyond RLIMIT_FSIZE the system would send SIGXFSZ, though the segment has its size already. */
static bool may_write(uint64_t end)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
	       end <= limit.rlim_cur;
}

/* The other way. Present first: that says when there is no memory, which is no signal then. */
static int put_in_place(struct mapped *to, uint64_t offset, const unsigned char *from,
			size_t length)
{
	int result = map_touch(&to->mapping, offset, length, true);

	if (result == SHMB_EBUS)
		return SHMB_ENOSPC;
	if (result == 0)
		memcpy((unsigned char *)to->mapping.data + offset, from, length);
	return result;
}

/* Written with a call, as that says when there is no memory; but huge pages cannot be written so.
 */
static int put(int fd, struct mapped *to, uint64_t offset, const unsigned char *from, size_t length)
{
	size_t done = 0;

	while (done < length && may_write(offset + length)) {
		ssize_t n = pwrite(fd, from + done, length - done, (off_t)(offset + done));

		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EINVAL)
			break;
		else if (n == 0 || errno != EINTR)
			return n == 0 ? SHMB_EIO : error_from_errno(errno);
	}
	return done < length ? put_in_place(to, offset + done, from + done, length - done) : 0;
}

/*
 * The old segment from @offset on, a piece. It is ours: nobody follows meanwhile.
 *
 * Return: 0; 1: again, memory that had vanished came back; or an error.
 */
static int copy_piece(struct shmb_region *region, int fd, struct mapped *to, uint64_t offset,
		      size_t length)
{
	const struct region_place place = {
		.state = atomic_load(&region->state),
		.data = atomic_load(&region->data) + offset,
	};
	size_t done = 0;

	while (done < length) {
		bool is_zeros = false;
		size_t run = run_of(place.data + done, length - done, &is_zeros);
		int result = 0;

		if (!is_zeros)
			result = put(fd, to, offset + done, place.data + done, run);
		if (result < 0)
			return region_refuse(region, result, "copying");
		done += run;
	}
	return region_after(region, REGION_LOST, offset, length, &place);
}

static int copy(struct shmb_region *region, int fd, struct mapped *to, uint64_t size)
{
	int result = 0;

	for (uint64_t done = 0; result == 0 && done < size;) {
		size_t piece = smaller(size - done, PIECE);

		do {
			result = copy_piece(region, fd, to, done, piece);
		} while (result > 0);
		done += piece;
	}
	return result;
}

/* ---- Growing ---- */

/* Return: 0, or an error: SHMB_ENOENT: the broker knows nothing of it, begin again. */
static int tell(struct shmb_region *region, uint64_t size)
{
	struct wire_region_grown_params params = {
		.has = WIRE_HAS(region_grown_params, writing),
		.handle = region->handle,
		.size = size,
		.writing = atomic_load(&region->page->writing),
	};
	int result;

	result = call_ask(region->client, &region->error, WIRE_REGION_GROWN, &params, NULL, NULL);
	/* It may still be done. Until that is known nothing is read or written: it would be in one
	 * of the segments only. Asking comes after it, on whatever connection. */
	if (result == SHMB_ETIMEDOUT)
		atomic_fetch_or(&region->state, REGION_UNSETTLED);
	return result;
}

/* With a segment that the broker has made. */
static int fill_and_tell(struct shmb_region *region, struct call *call, uint64_t size)
{
	uint64_t capacity = call->result.grow.capacity;
	int fd = call->fds[0], result;
	struct mapped *mapped;
	uint32_t generation;

	if (capacity < size)
		return region_refuse(region, SHMB_EPROTO, "capacity");
	result = mapped_new(region, fd, capacity, 0, &mapped);
	if (result < 0)
		return region_refuse(region, result, "map");
	STEP();
	result = copy(region, fd, mapped, region_bytes(region));
	STEP();
	if (result == 0)
		result = tell(region, size);
	STEP();
	if (result < 0) {
		mapped_free(mapped);
		return result;
	}
	call->fds[0] = -1;
	/* Nobody but us can have changed it, as we have the lock. */
	generation = mapped->generation = atomic_load(&region->page->generation);
	if (!region_move(region, mapped, capacity, generation, fd))
		return region_refuse(region, SHMB_ECLOSED, NULL);
	STEP();
	return 0;
}

/* What the broker has made for us and we could not use: asking for what cannot be had drops it. */
static void give_back(struct shmb_region *region)
{
	struct wire_region_grow_params nothing = { .handle = region->handle, .capacity = 1 };
	struct shmb_client *client = region->client;

	pthread_mutex_lock(&client->mutex);
	if (!client->gone)
		output_notify(client, WIRE_REGION_GROW, &nothing);
	pthread_mutex_unlock(&client->mutex);
}

static int try_to_grow(struct shmb_region *region, uint64_t size)
{
	struct wire_region_grow_params params = { .handle = region->handle, .capacity = size };
	struct call *call = call_new(WIRE_REGION_GROW);
	int result = call_answer(region->client, &region->error, call, &params);

	STEP();
	if (result < 0)
		return result;
	result = fill_and_tell(region, call, size);
	call_free(call);
	/* Not if it may be done yet, or the broker has none. */
	if (result < 0 && result != SHMB_ETIMEDOUT && result != SHMB_ENOENT)
		give_back(region);
	return result;
}

int region_grow(struct shmb_region *region, uint64_t size)
{
	int result = SHMB_ENOENT;

	if (region->flags & SHMB_FIXED)
		return region_refuse(region, SHMB_ENOTSUP, "SHMB_FIXED");
	if (!locker_is_mine(&region->locker))
		return region_refuse(region, SHMB_EDEADLK, "the region's lock is not held");
	/* Not held by others who only follow, as there is nothing to follow while we have the lock;
	 * but the page may say anything. */
	pthread_mutex_lock(&region->following);
	for (int tries = 0; result == SHMB_ENOENT && tries < TRIES; tries++)
		result = region_closed(region) ? region_refuse(region, SHMB_ECLOSED, NULL)
					       : try_to_grow(region, size);
	pthread_mutex_unlock(&region->following);
	return result;
}
