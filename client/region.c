/* SPDX-License-Identifier: MIT */
/*
 * Regions: attached to, let go, and what a handle knows by itself. Whatever the broker says of a
 * region is checked before anything is touched through it. How one is asked for is in make.c.
 */

#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "client.h"
#include "file.h"
#include "how.h"
#include "layout/futex.h"
#include "loop.h"
#include "output.h"
#include "watch.h"

/* ---- References ---- */

struct shmb_region *region_ref(struct shmb_region *region)
{
	atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
	return region;
}

static void free_mapped(struct shmb_region *region)
{
	struct mapped *mapped = atomic_load(&region->mapped);

	if (mapped && region->flags & SHMB_STAY_MAPPED)
		mapped_leave(mapped);
	atomic_store(&region->mapped, mapped_free(mapped));
}

static void destroy(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	free_mapped(region);
	guard_remove(&region->page_guarded);
	map_release(&region->page_mapping);
	locker_deinit(&region->locker, fork_crossed(region->generation));
	if (!fork_crossed(region->generation)) {
		error_slot_deinit(&region->error);
		pthread_mutex_destroy(&region->remapping);
		pthread_mutex_destroy(&region->following);
	}
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

static uint32_t state_of(unsigned access)
{
	uint32_t state = 0;

	if (!(access & SHMB_READ))
		state |= REGION_NO_READ;
	if (!(access & SHMB_WRITE))
		state |= REGION_NO_WRITE;
	return state;
}

/* One page, worth having in a core dump. */
static int map_page(struct shmb_region *region, int fd)
{
	bool writable = region_is_public(region);
	int result = map_segment(fd, LAYOUT_PUBLISH_BYTES, writable, true, &region->page_mapping);

	if (result == 0 && !(region->flags & SHMB_UNGUARDED))
		result = guard_add(&region->page_guarded, &region->page_mapping, &region->state,
				   REGION_PAGE_LOST);
	if (result < 0)
		return result;
	region->page = region->page_mapping.data;
	if (region->page->magic != LAYOUT_PUBLISH_MAGIC ||
	    region->page->version != LAYOUT_PUBLISH_VERSION)
		return atomic_load(&region->state) & REGION_PAGE_LOST ? SHMB_EBUS : SHMB_EPROTO;
	atomic_init(&region->flush.errors_seen, atomic_load(&region->page->flush_errors));
	region->locker.page = writable ? region->page : NULL;
	region->locker.may_mark = writable;
	return 0;
}

static int map_region(struct shmb_region *region, const struct call *call)
{
	struct mapped *mapped = NULL;
	int result = 0;

	if (region->flags & SHMB_UNGUARDED)
		region->locker.unguarded = true;
	else
		result = guard_install_once(region->generation);
	if (result == 0)
		result = mapped_new(region, call->fds[0], region->capacity,
				    (uint32_t)call->result.attached.generation, &mapped);
	if (result != 0)
		return result;
	atomic_init(&region->mapped, mapped);
	atomic_init(&region->data, mapped->mapping.data);
	return map_page(region, call->fds[1]);
}

static int reserve_and_apply(struct shmb_region *region, const struct call *call,
			     struct shmb_error *error)
{
	const struct attach *attach = call->attach;
	int result = 0;

	error_what(error, "reserve", strlen("reserve"));
	if (attach->flags & SHMB_RESERVE && call->result.attached.created)
		result = map_reserve(call->fds[0], attach->size);
	if (result == 0)
		result = how_apply(attach, region_mapping(region), region_bytes(region),
				   region->backing == SHMB_BACKING_FILE, error);
	/* Pages were touched one by one, and there was no memory for one of them. */
	if (result == 0 && atomic_load(&region->state) & REGION_FAULTED)
		result = SHMB_EBUS;
	return result;
}

/* Fills a zeroed region as far as it gets; destroy() undoes it. @error: gets all but the code. */
static int fill(struct shmb_region *region, struct call *call, struct shmb_error *error)
{
	const struct wire_region_attached *attached = &call->result.attached;
	const struct attach *attach = call->attach;
	int result;

	error_what(error, "attachment", strlen("attachment"));
	region->access = how_granted(attach->access, attach->flags, (unsigned)attached->access);
	if (region->access == 0 || attached->size > attached->capacity)
		return SHMB_EPROTO;
	region->handle = (uint32_t)attached->handle;
	region->id = attached->id;
	region->flags = attach->flags;
	region->how = how_to_map(attach, region->access);
	region->backing = (enum shmb_backing)attached->backing;
	/* Others may have shortened it: reading says so then, and resizing mends it. */
	region->how.short_file = region->backing == SHMB_BACKING_FILE;
	atomic_init(&region->capacity, attached->capacity);
	atomic_init(&region->generation_seen, (uint32_t)attached->generation);
	atomic_init(&region->state, state_of(region->access));
	memcpy(region->name, attach->name, sizeof(region->name));
	error_what(error, "map", strlen("map"));
	result = map_region(region, call);
	if (result == SHMB_EEXIST)
		error_what(error, "address", strlen("address"));
	/* The system sets them aside when they are mapped. */
	if (result == SHMB_ENOMEM && region->backing == SHMB_BACKING_HUGETLB)
		error_what(error, "huge pages", strlen("huge pages"));
	return result < 0 ? result : reserve_and_apply(region, call, error);
}

/* Return: false: out of memory, and nothing is left to undo. */
static bool init_parts(struct shmb_region *region, struct shmb_client *client)
{
	if (error_slot_init(&region->error) < 0)
		return false;
	if (locker_init(&region->locker, client) < 0)
		goto no_locker;
	if (pthread_mutex_init(&region->remapping, NULL) != 0)
		goto no_remapping;
	if (pthread_mutex_init(&region->following, NULL) == 0)
		return true;
	pthread_mutex_destroy(&region->remapping);
no_remapping:
	locker_deinit(&region->locker, false);
no_locker:
	error_slot_deinit(&region->error);
	return false;
}

static struct shmb_region *region_new(struct shmb_client *client)
{
	struct shmb_region *region = calloc(1, sizeof(*region));

	if (!region || !init_parts(region, client)) {
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
	struct shmb_error error = { .code = 0 };
	int result = region ? fill(region, call, &error) : SHMB_ENOMEM;

	if (result < 0) {
		pthread_mutex_lock(&client->mutex);
		call_give_back(client, call, true);
		pthread_mutex_unlock(&client->mutex);
		if (region) {
			region->flags = 0; /* nothing stays mapped */
			region_unref(region);
		}
		error.code = result;
		return error_set(&client->error, &error);
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

/* Under the mutex, as whoever changes what is mapped looks there whether the handle is closed: the
 * number may be another file's at once, which is neither to be replaced nor to be mapped. */
static void close_fd(struct shmb_region *region)
{
	pthread_mutex_lock(&region->remapping);
	if (region->fd >= 0)
		close(region->fd);
	pthread_mutex_unlock(&region->remapping);
}

/* Nothing of the region is used any more by those who look whether it is closed, and they do. */
static int end_use(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	if (region_closed(region))
		return SHMB_ECLOSED;
	background_end(region);
	flush_last(region);
	if (atomic_fetch_or(&region->state, REGION_CLOSED) & REGION_CLOSED)
		return SHMB_ECLOSED;
	pthread_mutex_lock(&client->mutex);
	watch_end(region);
	calls_forget_region(client, region);
	locker_close(&region->locker);
	pthread_mutex_unlock(&client->mutex);
	if (atomic_load(&region->n_sleeping) > 0)
		futex_wake_all(layout_publish_futex(region->page));
	close_fd(region);
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
	mapped_detach_all(region);
	map_detach(&region->page_mapping);
	if (locker_detach(&region->locker))
		leave(region);
	return 0;
}

/* Whether it is unmapped is decided under the mutex: whoever waits for that knows it then. */
int region_hold_slowly(struct shmb_region *region)
{
	bool unmapping;

	pthread_mutex_lock(&region->remapping);
	unmapping = atomic_load(&region->state) & REGION_UNMAPPING;
	pthread_mutex_unlock(&region->remapping);
	if (!unmapping)
		return 0;
	region_release(region);
	return region_refuse(region, SHMB_ECLOSED, NULL);
}

/* Nobody holds anything of it, and from now on nobody will. Return: a descriptor like the handle's,
 * which is still its own, or an error. */
static int begin_unmapping(struct shmb_region *region, const char **ret_what)
{
	int fd;

	*ret_what = NULL;
	if (atomic_load(&region->state) & (REGION_CLOSED | REGION_UNMAPPING))
		return SHMB_ECLOSED;
	*ret_what = "views";
	atomic_fetch_or(&region->state, REGION_UNMAPPING); /* see region_hold() */
	if (atomic_load(&region->n_holds) > 0)
		return SHMB_EBUSY;
	*ret_what = "fd";
	fd = fcntl(region->fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 ? fd : error_from_errno(errno);
}

int shmb_region_unmap(struct shmb_region *region, int *ret_fd)
{
	int result = region_usable(region), fd;
	const char *what;

	if (result < 0)
		return region_refuse(region, result, NULL);
	if (region->fd < 0)
		return region_refuse(region, SHMB_EINVAL, "SHMB_KEEP_FD");
	pthread_mutex_lock(&region->remapping);
	fd = begin_unmapping(region, &what);
	if (fd < 0 && fd != SHMB_ECLOSED)
		atomic_fetch_and(&region->state, ~(uint32_t)REGION_UNMAPPING);
	pthread_mutex_unlock(&region->remapping);
	if (fd < 0)
		return region_refuse(region, fd, what);
	result = shmb_region_close(region);
	if (result < 0)
		close(fd);
	else
		*ret_fd = fd;
	return result;
}

/* The child's copy: its addresses and descriptors, but nothing that reaches the broker. */
static void free_in_child(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	if (!region_closed(region) && region->fd >= 0)
		close(region->fd);
	region->fd = -1;
	free_mapped(region);
	guard_remove(&region->page_guarded);
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

	if (result < 0)
		return region_refuse(region, result, NULL);
	result = region_check_page(region);
	return result < 0 ? result : error_set(&region->error, &error);
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

/* For those below that change when the region moves: where it is now, as far as one can tell. */
static int use_here(struct shmb_region *region)
{
	int result = region_usable(region);

	if (result == 0 && unlikely(region_has_moved(region)))
		region_follow(region);
	return result;
}

void *shmb_region_data(struct shmb_region *region)
{
	return use_here(region) < 0 ? NULL : region->data;
}

uint64_t shmb_region_size(struct shmb_region *region)
{
	return use_here(region) < 0 ? 0 : region_bytes(region);
}

uint64_t shmb_region_capacity(struct shmb_region *region)
{
	return use_here(region) < 0 ? 0 : region->capacity;
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
