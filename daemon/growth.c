/* SPDX-License-Identifier: MIT */
/*
 * Growing. The new segment is in no record until it is the region's: whatever dies before, nobody
 * has seen it. From the record on it is, and what the publish page does not say yet a daemon after
 * us says. tests/model/grow.pml checks the order of the steps. Must not know peers or messages.
 */
#include "growth.h"

#include "account.h"
#include "broker.h"
#include "cost.h"
#include "layout/publish.h"
#include "layout/step.h"
#include "lock.h"
#include "remember.h"
#include "watch.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct growth {
	struct segments segments; /* the data alone */
	const struct attachment *attachment;
	struct account *account; /* a reference; charged */
	struct cost cost;
	uint64_t capacity; /* bytes */
};

/* Only then does nobody write what would be lost. */
static int check_lock(struct broker *broker, const struct attachment *attachment,
		      struct failure *failure)
{
	int result =
		attachment->slot ? lock_holds(broker, attachment->region, attachment->slot) : 0;

	if (result == 0)
		return answer_fail(failure, SHMB_EDEADLK, "the lock is not held exclusively");
	return result < 0 ? answer_fail_system(failure, result, "looking at the lock") : 0;
}

static int check_capacity(const struct broker *broker, const struct region *region,
			  uint64_t capacity, struct failure *failure)
{
	uint64_t limit = broker->settings.max_region;

	if (region->segments.data == &backing_file)
		return answer_fail(failure, SHMB_EINVAL, "file");
	if (capacity <= region->capacity)
		return answer_fail_limit(failure, SHMB_EINVAL, "capacity", region->capacity);
	return capacity > limit ? answer_fail_limit(failure, SHMB_EFBIG, "max-region", limit) : 0;
}

/* What the page shows now; nonsense there, which whoever may write it can write, is 0. */
static uint32_t shown_generation(struct broker *broker, const struct region *region)
{
	uint64_t words;
	uint32_t shown = 0;

	if (region_read_word(broker, region, offsetof(struct layout_publish, generation), &words) ==
	    0)
		memcpy(&shown, &words, sizeof(shown));
	return shown < UINT32_MAX / 2 ? shown : 0;
}

/* Another number than any before: what was begun may not be gone yet, and the page may have shown
 * one that nothing came of, see growth_check(). */
static uint32_t next_generation(struct broker *broker, struct region *region)
{
	uint32_t shown = shown_generation(broker, region);

	if (region->newest < region->segments.generation)
		region->newest = region->segments.generation;
	if (region->newest < shown)
		region->newest = shown;
	return ++region->newest;
}

static struct growth *growth_new(struct broker *broker, struct region *region, uint64_t capacity)
{
	struct growth *growth = calloc(1, sizeof(*growth));

	if (!growth)
		return NULL;
	segments_init(&growth->segments, region->segments.backing, region->segments.data,
		      region->segments.id);
	growth->segments.generation = next_generation(broker, region);
	growth->capacity = capacity;
	growth->cost = cost_of_data(broker, region->segments.data, capacity, false);
	return growth;
}

static int make(struct broker *broker, struct growth *growth)
{
	uint64_t bytes = region_data_bytes(broker, growth->segments.data, growth->capacity);

	return segments_create(&growth->segments, broker->instance.id, SEGMENT_DATA, bytes);
}

int growth_begin(struct broker *broker, struct attachment *attachment, uint64_t capacity,
		 int *ret_fd, struct failure *failure)
{
	struct region *region = attachment->region;
	struct growth *growth;
	int result = check_capacity(broker, region, capacity, failure);

	if (result == 0)
		result = check_lock(broker, attachment, failure);
	if (result != 0)
		return result;
	growth_drop(broker, region);
	growth = growth_new(broker, region, capacity);
	if (!growth)
		return answer_fail_system(failure, ENOMEM, "growing");
	result = cost_charge(broker, region->account, growth->cost, failure);
	if (result != 0) {
		free(growth);
		return result;
	}
	growth->account = account_get(&broker->accounts, account_uid(region->account));
	growth->attachment = attachment;
	region->growth = growth;
	result = make(broker, growth);
	if (result == 0)
		result = *ret_fd =
			segments_open(&growth->segments, broker->instance.id, SEGMENT_DATA, true);
	if (result >= 0)
		return 0;
	growth_drop(broker, region);
	return answer_fail_system(failure, result, "making the region's memory");
}

/*
 * Of a request that comes late the sender may have given up waiting, and the lock back: what others
 * have written since is not in its copy, though it holds the lock again.
 */
static int check_writing(struct broker *broker, const struct region *region, uint64_t expected,
			 struct failure *failure)
{
	uint64_t writing;
	int result = region_read_word(broker, region, offsetof(struct layout_publish, writing),
				      &writing);

	if (result < 0)
		return answer_fail_system(failure, result, "looking at the publish page");
	return writing == expected
		       ? 0
		       : answer_fail(failure, SHMB_EDEADLK, "the lock was given back meanwhile");
}

static void show_generation(struct broker *broker, struct region *region, uint32_t generation)
{
	region_write_word(broker, region, offsetof(struct layout_publish, generation), generation,
			  sizeof(generation));
}

/*
 * The page shows the number before it is true, and before the lock is looked at: whoever gets the
 * lock after that touches the old segment no more without asking, and is answered when it is known
 * what became of this. The other way round the grower may lose patience, with us or with a daemon
 * that died behind the record, and give the lock back, and others would write to a segment that is
 * the region's no more. A number that nothing comes of costs everybody a question.
 */
int growth_check(struct broker *broker, struct attachment *attachment, uint64_t size,
		 const uint64_t *writing, struct failure *failure)
{
	struct region *region = attachment->region;
	struct growth *growth = region->growth;
	int result;

	if (!growth || growth->attachment != attachment)
		return answer_fail(failure, SHMB_ENOENT, "growth");
	if (size > growth->capacity)
		return answer_fail_limit(failure, SHMB_EFBIG, "capacity", growth->capacity);
	show_generation(broker, region, growth->segments.generation);
	STEP();
	result = check_lock(broker, attachment, failure);
	if (result == 0 && writing)
		result = check_writing(broker, region, *writing, failure);
	if (result != 0)
		return result;
	result = store_keep(&broker->store, &growth->segments, SEGMENT_BIT(SEGMENT_DATA));
	return result < 0 ? answer_fail_system(failure, result, "keeping the region's memory") : 0;
}

void growth_show(struct broker *broker, struct region *region)
{
	region_write_word(broker, region, offsetof(struct layout_publish, size), region->size,
			  sizeof(region->size));
	/* Never a lower one: it may have been seen before, and meant something else. */
	if (shown_generation(broker, region) < region->segments.generation)
		show_generation(broker, region, region->segments.generation);
	region_notify(broker, region);
}

/* Return: what was the region's before. */
static struct segments put_in_place(struct region *region, struct growth *growth)
{
	const unsigned data = SEGMENT_BIT(SEGMENT_DATA);
	struct segments old = segments_take(&region->segments, data);
	struct segments new = segments_take(&growth->segments, data);

	region->segments.fds[SEGMENT_DATA] = new.fds[SEGMENT_DATA];
	region->segments.made[SEGMENT_DATA] = new.made[SEGMENT_DATA];
	region->segments.inodes[SEGMENT_DATA] = new.inodes[SEGMENT_DATA];
	region->segments.stored[SEGMENT_DATA] = new.stored[SEGMENT_DATA];
	region->segments.generation = new.generation;
	return old;
}

void growth_end(struct broker *broker, struct region *region, uint64_t size)
{
	struct cost before = cost_of_data(broker, region->segments.data, region->capacity, false);
	uint64_t capacity = region->capacity;
	struct growth *growth = region->growth;
	struct segments old = put_in_place(region, growth);

	segment_forget(&broker->segments, region->segments.id);
	region->capacity = growth->capacity;
	region->size = size;
	cost_uncharge(broker, region->account, before);
	account_put(growth->account);
	free(growth);
	region->growth = NULL;
	remember_object(broker, region);
	manifest_commit(&broker->manifest);
	STEP();
	growth_show(broker, region);
	STEP();
	region_destroy_segments(broker, region_owner(region), &old, capacity);
}

int growth_fd(const struct region *region)
{
	return region->growth ? region->growth->segments.fds[SEGMENT_DATA] : -1;
}

void growth_drop(struct broker *broker, struct region *region)
{
	struct growth *growth = region->growth;

	if (!growth)
		return;
	region->growth = NULL;
	cost_uncharge(broker, growth->account, growth->cost);
	region_destroy_segments(broker, account_uid(growth->account), &growth->segments,
				growth->capacity);
	account_put(growth->account);
	free(growth);
}

void growth_detach(struct broker *broker, const struct attachment *attachment)
{
	struct growth *growth = attachment->region->growth;

	if (growth && growth->attachment == attachment)
		growth_drop(broker, attachment->region);
}
