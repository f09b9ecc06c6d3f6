/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_EVENTS_H
#define SHMBROKER_EVENTS_H

/*
 * Publishing and waiting, and being told from an event loop. Part of <shmbroker/shmbroker.h>, whose
 * first comment holds here, too.
 */

#include <shmbroker/shmbroker.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* ---- Publish and wait ----
 *
 * Each region carries a sequence number. A writer that has finished a change publishes it; whoever
 * waits wakes. Bytes written before a publish are visible to those who saw its number. Publishes
 * are not queued: a slow reader sees the newest. Publishing does not lock.
 */

/** What is known of the newest publish. */
struct shmb_publication {
	uint64_t sequence;
	uint64_t offset; /* bytes: the range that changed since the caller's @seen, where every
			    publisher gave one, */
	uint64_t length; /* else the whole region (0, size) */
};

/**
 * shmb_region_publish() - say that the region changed
 * @offset, @length: bytes: what changed; 0, 0 for "anything"
 *
 * Makes no system call unless somebody sleeps or watches, or holds a read-only attachment. Never
 * blocks. Needs SHMB_WRITE.
 *
 * Return: 0, or SHMB_EMODE, SHMB_EBOUNDS.
 */
int shmb_region_publish(struct shmb_region *region, uint64_t offset, uint64_t length);

/** shmb_region_sequence() - the number of publishes so far; start waiting from it. 0 on a closed
 * handle. */
uint64_t shmb_region_sequence(struct shmb_region *region);

/**
 * shmb_region_wait() - wait until somebody has published after @seen
 * @seen:            the last sequence the caller has dealt with; one that is larger than the
 * newest (of an earlier region of that name, say) counts as an older one
 * @timeout_ms:      milliseconds; 0 looks and returns, -1 waits without a limit
 * @ret_publication: may be NULL
 *
 * Spins for at most the client's spin_us, adaptively, then sleeps. Works with read access alone.
 *
 * Return: 0, SHMB_ETIMEDOUT, or SHMB_ECLOSED (closed meanwhile, noticed within a second).
 */
int shmb_region_wait(struct shmb_region *region, uint64_t seen, int timeout_ms,
		     struct shmb_publication *ret_publication);

/* ---- Events for event loops ---- */

enum shmb_event_type {
	SHMB_EVENT_PUBLISHED = 1,
	SHMB_EVENT_RESIZED = 2,
	SHMB_EVENT_REMOVED = 4,
	SHMB_EVENT_DISCONNECTED = 8, /* no way back to the broker; always told, ends the watch */
	SHMB_EVENT_METADATA = 16,    /* mode, owner or group were changed */
	SHMB_EVENT_OWNER_DIED = 32,  /* it, or its handle, ended with the region's lock held
					exclusively */
	SHMB_EVENT_FILE = 64, /* the file was written, shortened, renamed or deleted otherwise than
				 through the region; mapped writes are not seen, a resize of the
				 region is */
};

struct shmb_event {
	size_t struct_size;
	unsigned types;    /* enum shmb_event_type; several when they happened close together */
	uint64_t sequence; /* as of now */
	uint64_t size;     /* bytes, as of now */
	uint64_t offset;   /* PUBLISHED: as in struct shmb_publication */
	uint64_t length;
};

typedef void (*shmb_event_fn)(struct shmb_region *region, const struct shmb_event *event,
			      void *userdata);

/**
 * shmb_region_watch() - be told of changes from shmb_client_process()
 * @types:    enum shmb_event_type, ored; 0 ends the watch
 * @callback: runs for what happens after @seen; replaces an earlier watch of this handle
 * @seen:     the last sequence the caller has dealt with; a later one that exists already is told
 * at once
 *
 * Needs read access alone. Events of one region are merged while the caller is busy: the last state
 * is always told, not every step. At most one is on its way at a time, so a slow program is never
 * flooded.
 *
 * SHMB_EVENT_FILE is for handles that keep a descriptor (those of files do), and comes from the
 * system, not from the broker.
 *
 * Return: 0, or SHMB_EINVAL (no @callback, an unknown type, or one that an older broker does not
 * know), SHMB_EDQUOT, and for SHMB_EVENT_FILE
 *   SHMB_ENOTSUP  the handle has no descriptor, or the system does not tell of changes to files
 *   SHMB_EACCES   this user may not read the file by itself
 *   SHMB_ENOSPC, SHMB_EMFILE, SHMB_ENOMEM  the system's limits on such watches are reached
 */
int shmb_region_watch(struct shmb_region *region, unsigned types, uint64_t seen,
		      shmb_event_fn callback, void *userdata);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
