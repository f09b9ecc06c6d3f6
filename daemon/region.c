/* SPDX-License-Identifier: MIT */
/*
 * Regions: names, life and death. May use backings and accounts; must not know peers or messages.
 */
#include "region.h"

#include "account.h"
#include "broker.h"
#include "cost.h"
#include "growth.h"
#include "layout/publish.h"
#include "lock.h"
#include "log.h"
#include "remember.h"
#include "resize.h"
#include "arena.h"
#include "session.h"
#include "slots.h"
#include "watch.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

static int compare(const struct region *a, const struct region *b)
{
	return strcmp(a->name, b->name);
}

RB_GENERATE_STATIC(region_tree, region, node, compare)

struct region *region_find(struct regions *regions, const char *name)
{
	struct region key = { .name = name };

	return RB_FIND(region_tree, &regions->tree, &key);
}

bool region_insert(struct regions *regions, struct region *region)
{
	return RB_INSERT(region_tree, &regions->tree, region) == NULL;
}

struct region *region_next_from(struct regions *regions, const char *name, bool after)
{
	struct region key = { .name = name };
	struct region *region = RB_NFIND(region_tree, &regions->tree, &key);

	if (region && after && strcmp(region->name, name) == 0)
		region = region_next(region);
	return region;
}

struct region *region_next(struct region *region)
{
	return RB_NEXT(region_tree, NULL, region);
}

uid_t region_owner(const struct region *region)
{
	return account_uid(region->account);
}

uint64_t region_in_pages(const struct broker *broker, uint64_t bytes)
{
	return (bytes + broker->page_size - 1) / broker->page_size * broker->page_size;
}

uint64_t region_data_bytes(const struct broker *broker, const struct backing *data,
			   uint64_t capacity)
{
	uint64_t page = backing_page_bytes(data, broker->page_size);

	return (capacity + page - 1) / page * page;
}

void region_charge_recovered(struct broker *broker, struct region *region)
{
	cost_charge_recovered(broker, region->account, cost_of_region(broker, region));
}

/* ---- Making one ---- */

const struct backing *region_default_backing(const struct broker *broker)
{
	return broker->options.scope != SCOPE_SYSTEM ? &backing_shm : &backing_memfd;
}

/* Scope decides: memory that one user could pull from under another is never the default, see
 * shmbroker(7). Return: of the data; NULL: it is not allowed. */
static const struct backing *choose_backing(const struct broker *broker,
					    const struct region_request *request)
{
	bool shm_allowed = broker->options.scope != SCOPE_SYSTEM ||
			   settings_allows_shm(&broker->settings, request->name);

	switch (request->backing) {
	case SHMB_BACKING_SHM:
		return shm_allowed ? &backing_shm : NULL;
	case SHMB_BACKING_DEFAULT:
		return region_default_backing(broker);
	default:
		return backing_of(request->backing);
	}
}

/* Of the publish page and the lock: as the data, if that is ordinary memory. */
static const struct backing *side_backing(const struct broker *broker, const struct backing *data)
{
	return data == &backing_shm || data == &backing_memfd ? data
							      : region_default_backing(broker);
}

static int check_request(const struct broker *broker, const struct region_request *request,
			 struct failure *failure)
{
	if (request->size > request->capacity)
		return answer_fail_limit(failure, SHMB_EINVAL, "capacity", request->capacity);
	if (request->capacity > broker->settings.max_region)
		return answer_fail_limit(failure, SHMB_EFBIG, "max-region",
					 broker->settings.max_region);
	if (!choose_backing(broker, request))
		return answer_fail(failure, SHMB_EACCES, "backing");
	if (!*request->name && request->lifetime != SHMB_ATTACHED)
		return answer_fail(failure, SHMB_EINVAL, "lifetime");
	return 0;
}

struct region *region_alloc(const char *name, size_t length)
{
	struct region *region = calloc(1, sizeof(*region) + length + 1);

	if (!region)
		return NULL;
	memcpy(region + 1, name, length);
	region->name = (const char *)(region + 1);
	return region;
}

/* Not of what is in it. */
static void region_dispose(struct region *region)
{
	if (region)
		free(region->path);
	free(region);
}

static struct region *region_new(struct broker *broker, const struct region_request *request)
{
	const struct backing *data = choose_backing(broker, request);
	struct region *region = region_alloc(request->name, strlen(request->name));

	if (!region)
		return NULL;
	if (request->path && !(region->path = strdup(request->path))) {
		region_dispose(region);
		return NULL;
	}
	segments_init(&region->segments, side_backing(broker, data), data,
		      ++broker->regions.next_id);
	region->read_only = request->read_only;
	region->kind = (uint8_t)request->kind;
	region->n_slots = (uint16_t)request->n_slots;
	region->size = request->size;
	region->capacity = request->capacity;
	region->mode = (uint16_t)request->mode;
	region->lifetime = (uint8_t)request->lifetime;
	region->created = (int64_t)time(NULL);
	return region;
}

static int write_header(struct broker *broker, struct region *region)
{
	const struct layout_publish header = { .magic = LAYOUT_PUBLISH_MAGIC,
					       .version = LAYOUT_PUBLISH_VERSION,
					       .size = region->size };
	size_t length = offsetof(struct layout_publish, sequence);
	int fd = segment_borrow(&broker->segments, broker->instance.id, &region->segments,
				SEGMENT_PUBLISH);

	if (fd < 0)
		return fd;
	errno = EIO;
	return pwrite(fd, &header, length, 0) == (ssize_t)length ? 0 : -errno;
}

/* A file is made already: its descriptors are ours from now on. */
static int adopt(struct region *region, const struct region_request *request)
{
	struct segments *segments = &region->segments;

	segments->fds[SEGMENT_DATA] = request->fds[0];
	request->fds[0] = -1;
	if (request->read_only)
		return 0;
	segments->fds[SEGMENT_READER] = request->fds[1];
	request->fds[1] = -1;
	return segments_create(segments, 0, SEGMENT_READER, 0);
}

static int make_segments(struct broker *broker, struct region *region,
			 const struct region_request *request)
{
	const unsigned page = SEGMENT_BIT(SEGMENT_PUBLISH);
	uint64_t instance = broker->instance.id;
	struct segments *segments = &region->segments;
	int result = request->fds ? adopt(region, request) : 0;

	if (result == 0)
		result = segments_create(
			segments, instance, SEGMENT_DATA,
			region_data_bytes(broker, segments->data, region->capacity));
	if (result == 0)
		result = segments_create(segments, instance, SEGMENT_PUBLISH,
					 region_in_pages(broker, LAYOUT_PUBLISH_BYTES));
	if (result == 0)
		result = store_keep(&broker->store, segments, page);
	/* By a number of its own: growing takes the data out of the store, and the page stays. To
	 * put it in again first would not do, as systemd(1) takes no descriptor twice. */
	if (result == 0)
		result = store_keep(&broker->store, segments, SEGMENTS_ALL & ~page);
	return result < 0 ? result : write_header(broker, region);
}

/* What the object is made of, by kind; on failure nothing of it is left. */
static int make_inside(struct broker *broker, struct region *region, struct session *session,
		       const struct region_request *request, struct failure *failure)
{
	int result;

	if (request->kind == OBJECT_SEMAPHORE)
		return semaphore_make(broker, region, session, request, failure);
	result = request->kind == OBJECT_LOCK ? lock_make(broker, region)
					      : make_segments(broker, region, request);
	if (result == 0)
		return 0;
	segment_forget(&broker->segments, region->segments.id);
	store_drop(&broker->store, &region->segments, SEGMENTS_ALL);
	segments_destroy(&region->segments, broker->instance.id);
	return answer_fail_system(failure, result, "making the region's memory");
}

static bool has_name(const struct region *region)
{
	return *region->name && !region->removed;
}

static void enter(struct broker *broker, struct region *region, struct session *session)
{
	region->gid = session->identity.gid;
	if (region->lifetime == SHMB_SESSION) {
		region->creator = session;
		DL_APPEND2(session->regions, region, creator_previous, creator_next);
	}
	if (has_name(region))
		RB_INSERT(region_tree, &broker->regions.tree, region);
	DL_APPEND2(broker->regions.all, region, previous, next);
	broker->regions.counts[region->kind]++;
	manifest_owe(&broker->manifest, OWED_OBJECT);
	remember_object(broker, region);
}

int region_create(struct broker *broker, struct session *session,
		  const struct region_request *request, struct region **ret_region,
		  struct failure *failure)
{
	const struct backing *data = choose_backing(broker, request);
	struct region *region;
	struct cost cost;
	int result = check_request(broker, request, failure);

	if (result != 0)
		return result;
	cost = cost_to_create(broker, request, side_backing(broker, data), data);
	result = cost_charge(broker, session->account, cost, failure);
	if (result != 0)
		return result;
	region = region_new(broker, request);
	result = region ? make_inside(broker, region, session, request, failure)
			: answer_fail_system(failure, ENOMEM, "region");
	if (result != 0) {
		region_dispose(region);
		cost_uncharge(broker, session->account, cost);
		return result;
	}
	region->account = account_get(&broker->accounts, session->identity.uid);
	enter(broker, region, session);
	log_end(LOG_OUT_OF_SPACE);
	*ret_region = region;
	return 0;
}

static void leave_creator(struct region *region)
{
	if (region->creator)
		DL_DELETE2(region->creator->regions, region, creator_previous, creator_next);
	region->creator = NULL;
}

void region_unlink(struct broker *broker, struct region *region)
{
	if (!region->removed) {
		if (has_name(region))
			RB_REMOVE(region_tree, &broker->regions.tree, region);
		region->removed = true;
		leave_creator(region);
		manifest_owe(&broker->manifest, -OWED_NAME);
		if (region->n_attachments > 0 || region->resizes)
			remember_removed(broker, region);
		if (region->n_attachments > 0 && region->kind == OBJECT_REGION) {
			manifest_commit(&broker->manifest); /* before anybody can see it */
			region_write_word(broker, region, offsetof(struct layout_publish, removed),
					  1, sizeof(uint32_t));
			region_notify(broker, region);
		}
	}
	if (region->n_attachments == 0 && !region->resizes)
		region_free(broker, region);
}

void region_orphan(struct broker *broker, struct session *session)
{
	while (session->regions)
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) unlinking takes it off the list
		region_unlink(broker, session->regions);
}

int region_chown(struct broker *broker, struct region *region, uid_t uid, gid_t gid,
		 struct failure *failure)
{
	struct account *account = account_get(&broker->accounts, uid);
	struct cost cost = cost_of_region(broker, region);
	int result;

	if (!account)
		return answer_fail_system(failure, ENOMEM, "account");
	if (account != region->account) {
		result = cost_charge(broker, account, cost, failure);
		if (result != 0) {
			account_put(account);
			return result;
		}
		cost_uncharge(broker, region->account, cost);
		growth_drop(broker, region); /* which the old owner pays for */
	}
	if (account != region->account || gid != region->gid)
		region_count(region, SHMB_EVENT_METADATA);
	account_put(region->account);
	region->account = account;
	region->gid = gid;
	remember_object(broker, region);
	return 0;
}

void region_free(struct broker *broker, struct region *region)
{
	if (has_name(region))
		RB_REMOVE(region_tree, &broker->regions.tree, region);
	leave_creator(region);
	growth_drop(broker, region);
	region_leave_dirty(broker, region);
	DL_DELETE2(broker->regions.all, region, previous, next);
	broker->regions.counts[region->kind]--;
	manifest_owe(&broker->manifest, region->removed ? -OWED_END : -OWED_OBJECT);
	forget_object(broker, region);
	cost_uncharge(broker, region->account, cost_of_region(broker, region));
	if (region->semaphore) {
		semaphore_free(broker, region->semaphore);
	} else {
		segment_forget(&broker->segments, region->segments.id);
		region_destroy_segments(broker, region_owner(region), &region->segments,
					region->capacity);
	}
	slots_free(broker, region->slots);
	account_put(region->account);
	region_dispose(region);
}
