/* SPDX-License-Identifier: MIT */
/*
 * Regions: attached to, let go, and what a handle knows by itself. Whatever the broker says of a
 * region is checked before anything is touched through it. How one is asked for is in make.c.
 */

#include "client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "layout/futex.h"

/* ---- References ---- */

struct shmb_region *region_ref(struct shmb_region *region)
{
	atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
	return region;
}

static void destroy(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	mapped_free(atomic_load(&region->mapped));
	map_release(&region->page_mapping);
	locker_deinit(&region->locker, fork_crossed(region->generation));
	if (!fork_crossed(region->generation))
		error_slot_deinit(&region->error);
	free(region->close_room);
	free(region->path);
	free(region);
	client_unref(client);
}

void region_unref(struct shmb_region *region)
{
	if (atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) == 1)
		destroy(region);
}

/* ---- Attaching ---- */

/* What may be done with the handle: what was asked for, with what it implies. 0: less was granted.
 */
static unsigned effective_access(const struct call *call)
{
	unsigned asked = call->attach->access, granted = (unsigned)call->result.attached.access;

	if ((granted & asked) != asked)
		return 0;
	return granted & (asked & SHMB_WRITE ? asked | SHMB_LOCK : asked);
}

static uint32_t state_of(unsigned access)
{
	uint32_t state = 0;

	if (!(access & SHMB_READ))
		state |= REGION_NO_READ;
	if (!(access & SHMB_WRITE))
		state |= REGION_NO_WRITE;
	return state;
}

static int map_region(struct shmb_region *region, const struct call *call)
{
	bool writable = region->access & SHMB_WRITE, dump = call->attach->flags & SHMB_DUMP;
	struct mapped *mapped = calloc(1, sizeof(*mapped));
	int result;

	if (!mapped)
		return SHMB_ENOMEM;
	atomic_init(&region->mapped, mapped);
	result = map_segment(call->fds[0], region->capacity, writable, dump, &mapped->mapping);
	if (result < 0)
		return result;
	/* One page, worth having in a core dump. */
	result = map_segment(call->fds[1], LAYOUT_PUBLISH_BYTES, writable, true,
			     &region->page_mapping);
	if (result < 0)
		return result;
	atomic_init(&region->data, mapped->mapping.data);
	region->page = region->page_mapping.data;
	if (region->page->magic != LAYOUT_PUBLISH_MAGIC ||
	    region->page->version != LAYOUT_PUBLISH_VERSION)
		return SHMB_EPROTO;
	region->locker.page = writable ? region->page : NULL;
	region->locker.may_mark = writable;
	return 0;
}

/* Fills a zeroed region as far as it gets; destroy() undoes it. */
static int fill(struct shmb_region *region, struct call *call, const char **ret_what)
{
	const struct wire_region_attached *attached = &call->result.attached;
	int result;

	*ret_what = "attachment";
	region->access = effective_access(call);
	if (region->access == 0 || attached->size > attached->capacity)
		return SHMB_EPROTO;
	region->handle = (uint32_t)attached->handle;
	region->id = attached->id;
	region->flags = call->attach->flags;
	region->backing = (enum shmb_backing)attached->backing;
	atomic_init(&region->capacity, attached->capacity);
	atomic_init(&region->generation_seen, (uint32_t)attached->generation);
	atomic_init(&region->state, state_of(region->access));
	memcpy(region->name, call->attach->name, sizeof(region->name));
	*ret_what = "map";
	result = map_region(region, call);
	if (result < 0)
		return result;
	*ret_what = "reserve";
	return call->attach->flags & SHMB_RESERVE && attached->created
		       ? map_reserve(call->fds[0], call->attach->size)
		       : 0;
}

static struct shmb_region *region_new(struct shmb_client *client)
{
	struct shmb_region *region = calloc(1, sizeof(*region));

	if (!region)
		return NULL;
	if (error_slot_init(&region->error) < 0) {
		free(region);
		return NULL;
	}
	if (locker_init(&region->locker, client) < 0) {
		error_slot_deinit(&region->error);
		free(region);
		return NULL;
	}
	region->refs = 1;
	region->fd = region->watch.file_watch = -1;
	region->generation = client->generation;
	region->spin_ns = client->spin_ns;
	region->work.kind = WORK_REGION;
	region->client = client_ref(client);
	return region;
}

/* That of a file always, as it says more than the mapping does. */
static void keep_fd(struct shmb_region *region, struct call *call)
{
	bool file = region->backing == SHMB_BACKING_FILE;

	if (!file && !(call->attach->flags & SHMB_KEEP_FD))
		return;
	region->fd = file ? file_own(call->fds[0]) : call->fds[0];
	call->fds[0] = -1;
}

int region_attach(struct shmb_client *client, struct call *call, struct shmb_region **ret_region)
{
	struct shmb_region *region = region_new(client);
	const char *what = NULL;
	int result = region ? fill(region, call, &what) : SHMB_ENOMEM;

	if (result < 0) {
		pthread_mutex_lock(&client->mutex);
		call_give_back(client, call, true);
		pthread_mutex_unlock(&client->mutex);
		if (region)
			region_unref(region);
		return error_note(&client->error, result, what);
	}
	keep_fd(region, call);
	region->path = call->attach->path;
	call->attach->path = NULL;
	region->close_room = call->attach->close_room;
	call->attach->close_room = NULL;
	*ret_region = region;
	return call->result.attached.created ? 1 : 0;
}

/* ---- Letting go ---- */

/* Nothing of the region is used any more by those who look whether it is closed, and they do. */
static int end_use(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	if (atomic_fetch_or(&region->state, REGION_CLOSED) & REGION_CLOSED)
		return SHMB_ECLOSED;
	pthread_mutex_lock(&client->mutex);
	watch_end(region);
	calls_forget_region(client, region);
	locker_close(&region->locker);
	pthread_mutex_unlock(&client->mutex);
	if (atomic_load(&region->n_sleeping) > 0)
		futex_wake_all(layout_publish_futex(region->page));
	if (region->fd >= 0)
		close(region->fd);
	return 0;
}

/* Ends the broker's part, if it has not been. In a forked child there is none of ours. */
static void leave(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	if (!region->close_room)
		return;
	pthread_mutex_lock(&client->mutex);
	output_close(client, region->close_room, region->handle);
	region->close_room = NULL;
	pthread_mutex_unlock(&client->mutex);
}

int shmb_region_close(struct shmb_region *region)
{
	int result;

	if (fork_crossed(region->generation))
		return SHMB_EFORKED;
	result = end_use(region);
	if (result < 0)
		return result;
	/*
	 * Only after it is seen to be closed do the mappings turn to zeros, and only then is the
	 * broker told, for then the lock is another's: the data first, so that a thread that still
	 * "locks" zeros has no data to write; and nothing of ours reaches a slot that is not ours
	 * any more. Where even zeros cannot be had the broker is told when the handle is freed.
	 */
	mapped_detach(atomic_load(&region->mapped));
	map_detach(&region->page_mapping);
	if (locker_detach(&region->locker))
		leave(region);
	return 0;
}

/* The child's copy: its addresses and descriptors, but nothing that reaches the broker. */
static void free_in_child(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	if (!region_closed(region) && region->fd >= 0)
		close(region->fd);
	region->fd = -1;
	atomic_store(&region->mapped, mapped_free(atomic_load(&region->mapped)));
	map_release(&region->page_mapping);
	/* A mutex that a thread of the parent held will never be free here; then the few bytes of
	 * a handle with work queued stay. */
	if (pthread_mutex_trylock(&client->mutex) == 0) {
		watch_end(region);
		pthread_mutex_unlock(&client->mutex);
	}
	region_unref(region);
}

struct shmb_region *shmb_region_free(struct shmb_region *region)
{
	if (!region)
		return NULL;
	if (fork_crossed(region->generation)) {
		free_in_child(region);
		return NULL;
	}
	locker_abandon(&region->locker);
	end_use(region); /* nobody copies any more: the mappings need not stay as zeros */
	leave(region);
	region_unref(region);
	return NULL;
}

/* ---- What a handle knows ---- */

int region_refuse(struct shmb_region *region, int code, const char *what)
{
	return code == SHMB_EFORKED ? code : error_note(&region->error, code, what);
}

int region_refuse_bounds(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	struct shmb_error error = {
		.code = SHMB_EBOUNDS,
		.offset = offset,
		.length = length,
		.size = region_bytes(region),
	};
	/* A handle that was closed just now has no bytes, which is not what went wrong. */
	int result = region_usable(region);

	return result < 0 ? region_refuse(region, result, NULL) : error_set(&region->error, &error);
}

int shmb_region_last_error(struct shmb_region *region, struct shmb_error *ret_error)
{
	if (fork_crossed(region->generation))
		return SHMB_EFORKED;
	return error_get(&region->error, ret_error);
}

const char *shmb_region_name(struct shmb_region *region)
{
	return region_usable(region) < 0 ? NULL : region->name;
}

void *shmb_region_data(struct shmb_region *region)
{
	return region_usable(region) < 0 ? NULL : region->data;
}

uint64_t shmb_region_size(struct shmb_region *region)
{
	return region_usable(region) < 0 ? 0 : region_bytes(region);
}

uint64_t shmb_region_capacity(struct shmb_region *region)
{
	return region_usable(region) < 0 ? 0 : region->capacity;
}

int shmb_region_is_valid(struct shmb_region *region)
{
	return region_usable(region) == 0;
}

enum shmb_backing shmb_region_backing(struct shmb_region *region)
{
	return region_usable(region) < 0 ? SHMB_BACKING_DEFAULT : region->backing;
}

uint64_t shmb_region_last_write(struct shmb_region *region)
{
	return region_usable(region) < 0 ? 0 : atomic_load(&region->last_write);
}

int shmb_region_last_flush(struct shmb_region *region)
{
	int result = region_usable(region);

	return result < 0 ? result : atomic_load(&region->last_flush);
}

unsigned shmb_region_access(struct shmb_region *region)
{
	return region_usable(region) < 0 ? 0 : region->access;
}

const char *shmb_region_path(struct shmb_region *region)
{
	if (region_usable(region) < 0)
		return NULL;
	return region->path ? region->path : "";
}

int shmb_region_fd(struct shmb_region *region)
{
	int result = region_usable(region);

	if (result < 0)
		return region_refuse(region, result, NULL);
	return region->fd >= 0 ? region->fd : region_refuse(region, SHMB_EINVAL, "SHMB_KEEP_FD");
}
