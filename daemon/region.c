/* SPDX-License-Identifier: MIT */
/*
 * Regions: names, life and death. May use backings and accounts; must not know peers or messages.
 */
#include "region.h"

#include "account.h"
#include "broker.h"
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

uint64_t region_data_bytes(const struct broker *broker, uint64_t capacity)
{
	return region_in_pages(broker, capacity);
}

static uint64_t publish_bytes(const struct broker *broker)
{
	return region_in_pages(broker, LAYOUT_PUBLISH_BYTES);
}

/* ---- Charges ---- */

/* What an object costs its owner. */
struct cost {
	enum charge what;
	uint64_t bytes; /* whole pages */
	unsigned n_segments;
};

static struct cost cost_of(const struct broker *broker, enum object_kind kind, uint64_t capacity,
			   uint32_t n_lock_slots)
{
	static const enum charge charges[OBJECT_KINDS] = { [OBJECT_REGION] = CHARGE_REGIONS,
							   [OBJECT_LOCK] = CHARGE_LOCKS,
							   [OBJECT_SEMAPHORE] = CHARGE_SEMAPHORES };
	struct cost cost = { .what = charges[kind] };

	if (kind == OBJECT_REGION) {
		cost.bytes = region_data_bytes(broker, capacity) + publish_bytes(broker);
		cost.n_segments = SEGMENT_MAPPED;
	}
	if (n_lock_slots > 0) {
		cost.bytes += lock_bytes(broker, n_lock_slots);
		cost.n_segments++;
	}
	return cost;
}

/* A region's lock is charged when it is made, a semaphore's arena is charged by itself. */
static struct cost cost_to_create(const struct broker *broker, const struct region_request *request)
{
	return cost_of(broker, request->kind, request->capacity,
		       request->kind == OBJECT_LOCK ? request->n_slots : 0);
}

static struct cost cost_now(const struct broker *broker, const struct region *region)
{
	return cost_of(broker, region->kind, region->capacity, region->slots ? region->n_slots : 0);
}

/* Those that are held are stored, too, if there is a store; -ENOSPC: it is full. @ret_over: on
 * -EDQUOT. */
static int hold_fds(struct broker *broker, struct account *account, unsigned n_fds,
		    enum charge *ret_over)
{
	unsigned n_stored = broker->store.max > 0 ? n_fds : 0;
	uint64_t limit = broker->settings.per_user[CHARGE_STORED_FDS];
	int result = broker_hold_fds(broker, account, n_fds);

	*ret_over = CHARGE_HELD_FDS;
	if (result < 0)
		return result;
	*ret_over = CHARGE_STORED_FDS;
	if (broker->accounts.total[CHARGE_STORED_FDS] + n_stored > broker->store.max)
		result = -ENOSPC;
	else if (!account_charge(account, CHARGE_STORED_FDS, n_stored, limit))
		result = -EDQUOT;
	if (result < 0)
		account_uncharge(account, CHARGE_HELD_FDS, n_fds);
	return result;
}

int region_charge_memory(struct broker *broker, struct account *account,
			 const struct backing *backing, uint64_t bytes, unsigned n_segments,
			 struct failure *failure)
{
	const struct settings *settings = &broker->settings;
	enum charge over = CHARGE_BYTES;
	int result;

	if (account_charge(account, CHARGE_BYTES, bytes, settings->per_user[CHARGE_BYTES])) {
		result = hold_fds(broker, account, n_segments * backing->held_fds, &over);
		if (result == 0)
			return 0;
		account_uncharge(account, CHARGE_BYTES, bytes);
		if (result == -EMFILE)
			return answer_fail_system(failure, EMFILE, "keeping the region's memory");
		if (result == -ENOSPC)
			return answer_fail_limit(failure, SHMB_EMFILE, "the broker's fd store",
						 broker->store.max);
	}
	return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(over),
				 settings->per_user[over]);
}

void region_uncharge_memory(struct broker *broker, struct account *account,
			    const struct backing *backing, uint64_t bytes, unsigned n_segments)
{
	uint64_t n_fds = (uint64_t)n_segments * backing->held_fds;

	account_uncharge(account, CHARGE_BYTES, bytes);
	account_uncharge(account, CHARGE_HELD_FDS, n_fds);
	if (broker->store.max > 0)
		account_uncharge(account, CHARGE_STORED_FDS, n_fds);
}

void region_charge_recovered_memory(struct broker *broker, struct account *account,
				    const struct backing *backing, uint64_t bytes,
				    unsigned n_segments)
{
	uint64_t n_fds = (uint64_t)n_segments * backing->held_fds;

	account_charge(account, CHARGE_BYTES, bytes, UINT64_MAX);
	account_charge(account, CHARGE_HELD_FDS, n_fds, UINT64_MAX);
	if (broker->store.max > 0)
		account_charge(account, CHARGE_STORED_FDS, n_fds, UINT64_MAX);
}

static int charge(struct broker *broker, struct account *account, const struct backing *backing,
		  struct cost cost, struct failure *failure)
{
	uint64_t limit = broker->settings.per_user[cost.what];
	int result;

	if (!account_charge(account, cost.what, 1, limit))
		return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(cost.what),
					 limit);
	if (cost.n_segments == 0)
		return 0;
	result = region_charge_memory(broker, account, backing, cost.bytes, cost.n_segments,
				      failure);
	if (result != 0)
		account_uncharge(account, cost.what, 1);
	return result;
}

static void uncharge(struct broker *broker, struct account *account, const struct backing *backing,
		     struct cost cost)
{
	account_uncharge(account, cost.what, 1);
	if (cost.n_segments > 0)
		region_uncharge_memory(broker, account, backing, cost.bytes, cost.n_segments);
}

void region_charge_recovered(struct broker *broker, struct region *region)
{
	struct cost cost = cost_now(broker, region);

	account_charge(region->account, cost.what, 1, UINT64_MAX);
	if (cost.n_segments > 0)
		region_charge_recovered_memory(broker, region->account, region->segments.backing,
					       cost.bytes, cost.n_segments);
}

/* ---- Making one ---- */

const struct backing *region_default_backing(const struct broker *broker)
{
	return broker->options.scope != SCOPE_SYSTEM ? &backing_shm : &backing_memfd;
}

/* Scope decides: memory that one user could pull from under another is never the default, see
 * shmbroker(7). */
static const struct backing *choose_backing(const struct broker *broker,
					    const struct region_request *request)
{
	bool shm_allowed = broker->options.scope != SCOPE_SYSTEM ||
			   settings_allows_shm(&broker->settings, request->name);

	switch (request->backing) {
	case SHMB_BACKING_SHM:
		return shm_allowed ? &backing_shm : NULL;
	case SHMB_BACKING_MEMFD:
		return &backing_memfd;
	default:
		return region_default_backing(broker);
	}
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

static struct region *region_new(struct broker *broker, const struct region_request *request)
{
	struct region *region = region_alloc(request->name, strlen(request->name));

	if (!region)
		return NULL;
	segments_init(&region->segments, choose_backing(broker, request),
		      ++broker->regions.next_id);
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

static int make_segments(struct broker *broker, struct region *region)
{
	uint64_t instance = broker->instance.id;
	int result = segments_create(&region->segments, instance, SEGMENT_DATA,
				     region_data_bytes(broker, region->capacity));

	if (result == 0)
		result = segments_create(&region->segments, instance, SEGMENT_PUBLISH,
					 publish_bytes(broker));
	if (result == 0)
		result =
			store_keep(&broker->store, &region->segments, SEGMENT_DATA, SEGMENT_MAPPED);
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
					      : make_segments(broker, region);
	if (result == 0)
		return 0;
	segment_forget(&broker->segments, region->segments.id);
	store_drop(&broker->store, &region->segments, SEGMENT_DATA, SEGMENT_COUNT);
	segments_destroy(&region->segments, broker->instance.id);
	return answer_fail_system(failure, result, "making the region's memory");
}

static void enter(struct broker *broker, struct region *region, struct session *session)
{
	region->gid = session->identity.gid;
	if (region->lifetime == SHMB_SESSION) {
		region->creator = session;
		DL_APPEND2(session->regions, region, creator_previous, creator_next);
	}
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
	const struct backing *backing = choose_backing(broker, request);
	struct cost cost = cost_to_create(broker, request);
	struct region *region;
	int result = check_request(broker, request, failure);

	if (result == 0)
		result = charge(broker, session->account, backing, cost, failure);
	if (result != 0)
		return result;
	region = region_new(broker, request);
	result = region ? make_inside(broker, region, session, request, failure)
			: answer_fail_system(failure, ENOMEM, "region");
	if (result != 0) {
		free(region);
		uncharge(broker, session->account, backing, cost);
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
	struct cost cost = cost_now(broker, region);
	int result;

	if (!account)
		return answer_fail_system(failure, ENOMEM, "account");
	if (account != region->account) {
		result = charge(broker, account, region->segments.backing, cost, failure);
		if (result != 0) {
			account_put(account);
			return result;
		}
		uncharge(broker, region->account, region->segments.backing, cost);
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
	if (!region->removed)
		RB_REMOVE(region_tree, &broker->regions.tree, region);
	leave_creator(region);
	region_leave_dirty(broker, region);
	DL_DELETE2(broker->regions.all, region, previous, next);
	broker->regions.counts[region->kind]--;
	manifest_owe(&broker->manifest, region->removed ? -OWED_END : -OWED_OBJECT);
	forget_object(broker, region);
	uncharge(broker, region->account, region->segments.backing, cost_now(broker, region));
	if (region->semaphore) {
		semaphore_free(broker, region->semaphore);
	} else {
		segment_forget(&broker->segments, region->segments.id);
		region_destroy_segments(broker, &region->segments, region->capacity);
	}
	slots_free(broker, region->slots);
	account_put(region->account);
	free(region);
}
