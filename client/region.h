/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_REGION_H
#define CLIENT_REGION_H

/*
 * What a handle of a region is made of, and the checks that everything begins with. No mutex is
 * held, except where told; reading, writing, publishing and waiting take none.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shmbroker/shmbroker.h>

#include "background.h"
#include "error.h"
#include "flush.h"
#include "fork.h"
#include "layout/publish.h"
#include "lock.h"
#include "loop.h"
#include "map.h"
#include "mapped.h"
#include "predict.h"
#include "watch.h"

struct call;
struct output;
struct shmb_client;

/* Bits of shmb_region.state: what a fast path must not pass by. See touch.h. */
enum region_state {
	REGION_CLOSED = 1 << 0,
	REGION_FAULTED = 1 << 1,   /* memory of the data has vanished in a mapping of this handle */
	REGION_PAGE_LOST = 1 << 2, /* the publish page has */
	REGION_NO_READ = 1 << 3,   /* opened without SHMB_READ */
	REGION_NO_WRITE = 1 << 4,  /* or without SHMB_WRITE */
	REGION_COUNTED = 1 << 5,   /* a flush policy counts what is written */
	REGION_UNSETTLED = 1 << 6, /* whether a growth of ours took place is not known yet */
	REGION_UNMAPPING = 1 << 7, /* nothing is handed out any more, see region_hold() */
	REGION_MENDED = 1 << 16,   /* from here on a number: how often vanished memory came back */
};

struct shmb_region {
	/*
	 * What reading and writing touch: one cache line.
	 *
	 * `data`, `capacity` and `generation_seen` change when the region moves to another segment,
	 * stored in this order and to be loaded in the opposite one, as region_check() in touch.h
	 * does: what is behind `data` is never shorter than a capacity that was loaded before.
	 */
	_Atomic(unsigned char *) data;
	struct layout_publish *page;
	_Atomic uint64_t capacity;
	_Atomic uint32_t state;           /* enum region_state, ored */
	_Atomic uint32_t generation_seen; /* of the data segment, as the page says it */
	_Atomic uint64_t last_write;      /* bytes */
	uint32_t generation;              /* see fork.h */
	unsigned access;
	_Atomic int64_t spin_ns;     /* what shmb_region_wait() has learnt */
	_Atomic uint32_t n_sleeping; /* threads of this process in shmb_region_wait() */

	/* And locking: begins another. */
	struct locker locker;

	struct shmb_client *client;
	_Atomic unsigned refs;
	uint32_t handle;
	uint64_t id;
	unsigned flags;     /* enum shmb_region_flags that it was made with */
	struct map_how how; /* its data is mapped */
	enum shmb_backing backing;
	int fd;                          /* -1: not kept */
	char *path;                      /* of the file, as it was opened here; owned; NULL: none */
	_Atomic(struct mapped *) mapped; /* what `data` is in, and those before it; see mapped.h */
	pthread_mutex_t remapping;       /* see mapped.h */
	pthread_mutex_t following;       /* held by the thread that asks for a new segment */
	_Atomic uint32_t n_unanswered;   /* times that it was not answered */
	_Atomic uint32_t n_holds;        /* see region_hold() */
	struct mapping page_mapping;
	struct guarded page_guarded;
	_Atomic int last_flush; /* 0 or an error */
	struct flush flush;
	struct error_slot error;

	/* Guarded by the client's mutex. */
	struct output *close_room;
	struct watch watch;
	struct work work;
	struct background_part background;

	char name[SHMB_NAME_MAX + 1];
};

/*
 * region_attach() - make the region of an answered create or open; no mutex held
 *
 * On failure the attachment has been given back, and a region that was created is removed.
 *
 * Return: 0 (opened), 1 (created), or an error, which the client keeps.
 */
int region_attach(struct shmb_client *client, struct call *call, struct shmb_region **ret_region);

struct shmb_region *region_ref(struct shmb_region *region);

/* region_unref() - no mutex held */
void region_unref(struct shmb_region *region);

static inline bool region_closed(const struct shmb_region *region)
{
	return atomic_load_explicit(&region->state, memory_order_relaxed) & REGION_CLOSED;
}

/* region_usable() - 0, SHMB_ECLOSED or SHMB_EFORKED */
static inline int region_usable(const struct shmb_region *region)
{
	if (unlikely(fork_crossed(region->generation)))
		return SHMB_EFORKED;
	if (unlikely(region_closed(region)))
		return SHMB_ECLOSED;
	return 0;
}

/* region_is_public() - may the handle change what others see? */
static inline bool region_is_public(const struct shmb_region *region)
{
	return region->access & SHMB_WRITE && !(region->flags & SHMB_PRIVATE);
}

/* region_bytes() - bytes in use; the page may say anything, the mapping ends at the capacity */
static inline uint64_t region_bytes(const struct shmb_region *region)
{
	uint64_t size = atomic_load_explicit(&region->page->size, memory_order_relaxed);
	uint64_t capacity = atomic_load_explicit(&region->capacity, memory_order_relaxed);

	return size < capacity ? size : capacity;
}

/* region_within() - does the range lie within @size bytes? */
static inline bool region_within(uint64_t offset, uint64_t length, uint64_t size)
{
	return length <= size && offset <= size - length;
}

/* region_mapping() - of the data, as of now */
static inline struct mapping *region_mapping(const struct shmb_region *region)
{
	return &atomic_load(&region->mapped)->mapping;
}

/* region_hold_slowly() - the rest of region_hold() */
int region_hold_slowly(struct shmb_region *region);

/*
 * region_hold(), region_release() - what is handed out and refers to the region (views, windows,
 * cursors, walks): as long as there is any, shmb_region_unmap() refuses
 *
 * A view also keeps the mapping it is in, see mapped.h.
 *
 * Return: 0, or SHMB_ECLOSED: it is being unmapped, and not held.
 */
static inline int region_hold(struct shmb_region *region)
{
	/* seq_cst: we hold it and then look whether it is being unmapped; who unmaps it says so and
	 * then looks for holders. One of the two sees the other. */
	atomic_fetch_add(&region->n_holds, 1);
	if (likely(!(atomic_load(&region->state) & REGION_UNMAPPING)))
		return 0;
	return region_hold_slowly(region);
}

static inline void region_release(struct shmb_region *region)
{
	atomic_fetch_sub_explicit(&region->n_holds, 1, memory_order_release);
}

/* region_refuse_bounds() - keep the particulars. Return: SHMB_EBOUNDS (or why there are no bounds
 * any more). */
int region_refuse_bounds(struct shmb_region *region, uint64_t offset, uint64_t length);

/* region_refuse() - keep @code. Return: @code, or SHMB_EFORKED as it is. */
int region_refuse(struct shmb_region *region, int code, const char *what);

/* region_check_page() - has the publish page vanished? Return: 0 or SHMB_EBUS, which is kept. */
static inline int region_check_page(struct shmb_region *region)
{
	/* The handler runs in this thread, if it is this thread that touched it. */
	atomic_signal_fence(memory_order_seq_cst);
	if (likely(!(atomic_load_explicit(&region->state, memory_order_relaxed) &
		     REGION_PAGE_LOST)))
		return 0;
	return region_refuse(region, SHMB_EBUS, "publish page");
}

/* ---- region_lock.c ---- */

/*
 * region_lock() - for the copying functions: take the lock for at most the client's timeout
 *
 * Return: as shmb_region_lock(), but not held after SHMB_EOWNERDEAD.
 */
int region_lock(struct shmb_region *region, enum shmb_lock_kind kind);
void region_unlock(struct shmb_region *region);

/* ---- publish.c ---- */

/* publish_range() - what changed after @seen, bounded by the region's size */
void publish_range(const struct shmb_region *region, uint64_t seen, uint64_t now,
		   uint64_t *ret_offset, uint64_t *ret_length);

/* ---- mend.c ---- */

/* region_mend() - is what has vanished of a range there again? Return: 0, or SHMB_EBUS with the
 * particulars. */
int region_mend(struct shmb_region *region, uint64_t offset, uint64_t length);

/* region_find_lost() - the same without looking for it */
int region_find_lost(struct shmb_region *region, uint64_t offset, uint64_t length);

/* ---- follow.c ---- */

/* region_has_moved() - or may have: is there a reason to ask for its segment? */
static inline bool region_has_moved(const struct shmb_region *region)
{
	return atomic_load(&region->page->generation) != atomic_load(&region->generation_seen) ||
	       atomic_load(&region->state) & REGION_UNSETTLED;
}

/* region_follow() - if so, map the data segment that the broker says the region has now. Return: 0,
 * or an error, which is kept. */
int region_follow(struct shmb_region *region);

/* region_move() - to a segment that is mapped already, the publish page's generation being @seen;
 * `following` is held. @mapped, @fd: consumed. Return: false: it is closed. */
bool region_move(struct shmb_region *region, struct mapped *mapped, uint64_t capacity,
		 uint32_t seen, int fd);

/* region_apply_flags() - to the pages of a new mapping, where it works */
void region_apply_flags(struct shmb_region *region, const struct mapped *mapped);

/* ---- grow.c ---- */

/* region_grow() - beyond the capacity. Return: 0, or an error, which is kept. */
int region_grow(struct shmb_region *region, uint64_t size);

#endif
