/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_IO_H
#define SHMBROKER_IO_H

/*
 * Ways through a region's bytes, built on <shmbroker/shmbroker.h>, whose first comment holds here,
 * too; include this header by itself.
 *
 * Windows, cursors and walks are small structs that the caller keeps. Their members may be read
 * where told; those that begin with '_' are the library's. Each holds a part of the region as a
 * view does: close it before the region is freed. All go through the same check of bounds as
 * shmb_region_read(). One struct is for one thread at a time; a region may have many.
 *
 * One that is all zeros (struct shmb_cursor cursor = { 0 };) is as one that was closed: closing it
 * does nothing, it has nothing to walk through, its size is 0, and everything else says
 * SHMB_ECLOSED, of which no handle keeps the particulars.
 */

#include <stdint.h>
#include <string.h>

#include <shmbroker/shmbroker.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* ---- Several buffers at once ---- */

/** One of the caller's buffers. */
struct shmb_buffer {
	void *data; /* only read by shmb_region_writev() */
	size_t length;
};

/** Most buffers of one call. */
#define SHMB_BUFFERS_MAX 1024

/**
 * shmb_region_readv(), shmb_region_writev() - as read and write, into or from several buffers, in
 * order
 * @flags: enum shmb_copy_flags: the lock is held around all of it
 *
 * All or nothing: the range of all buffers together is checked first. Return: 0, or as
 * shmb_region_read(), shmb_region_write(); SHMB_EINVAL: too many buffers.
 */
int shmb_region_readv(struct shmb_region *region, uint64_t offset,
		      const struct shmb_buffer *buffers, size_t n_buffers, unsigned flags);
int shmb_region_writev(struct shmb_region *region, uint64_t offset,
		       const struct shmb_buffer *buffers, size_t n_buffers, unsigned flags);

/* ---- Window: a part that behaves as a region of its own ---- */

struct shmb_window {
	struct shmb_region *region; /* what it is a part of */
	uint64_t offset;            /* bytes: where it begins there */
	uint64_t length;            /* bytes: how long it is */
	int _held;
};

/**
 * shmb_window_open() - a part of a region
 * @offset, @length: bytes; length 0 for everything from @offset on, as of now
 *
 * Return: 0, SHMB_EBOUNDS.
 */
int shmb_window_open(struct shmb_region *region, uint64_t offset, uint64_t length,
		     struct shmb_window *ret_window);

/** shmb_window_open_within() - a part of a part; @offset is relative to @window. The new one does
 * not depend on @window. */
int shmb_window_open_within(const struct shmb_window *window, uint64_t offset, uint64_t length,
			    struct shmb_window *ret_window);

void shmb_window_close(struct shmb_window *window);

/** shmb_window_size() - bytes of it that are within the region's size now: its length, less where
 * the region was made smaller. */
uint64_t shmb_window_size(const struct shmb_window *window);

/**
 * shmb_window_read(), shmb_window_write(), shmb_window_view() - as the region's, relative to the
 * window and within it
 *
 * What the region's last error says is relative to the window, too, and its size that of the
 * window. Alignment alone is that of the address: of window.offset + @offset, and SHMB_EALIGN says
 * so. For anything else, the region's functions take window.offset + x.
 */
int shmb_window_read(const struct shmb_window *window, uint64_t offset, void *buffer, size_t length,
		     unsigned flags);
int shmb_window_write(const struct shmb_window *window, uint64_t offset, const void *buffer,
		      size_t length, unsigned flags);
int shmb_window_view(const struct shmb_window *window, uint64_t offset, size_t length,
		     size_t alignment, unsigned access, struct shmb_view *ret_view);

/* ---- Cursor: a region or window as a stream ---- */

struct shmb_cursor {
	uint64_t position; /* bytes from the beginning of what it goes through; set it by seeking */
	/* for what is inline below: as it was when something was out of the ordinary last */
	const unsigned char *_data; /* the first byte of what it goes through */
	uint64_t _limit;            /* one more than bytes of that; 0: nothing is inline */
	const uint64_t *_words;     /* the region's size; two further, the segment's number */
	const uint32_t *_state;     /* the handle's */
	uint64_t _seen_size;        /* what those were */
	uint32_t _seen_segment, _seen_state;
	struct shmb_window _window;
};

enum shmb_whence {
	SHMB_SEEK_SET = 0,
	SHMB_SEEK_CURRENT = 1,
	SHMB_SEEK_END = 2, /* of the size of that moment */
};

/** shmb_cursor_open(), shmb_cursor_open_window() - at position 0. The second does not depend on
 * @window. Return: 0, or an error of shmb_window_open(). */
int shmb_cursor_open(struct shmb_region *region, struct shmb_cursor *ret_cursor);
int shmb_cursor_open_window(const struct shmb_window *window, struct shmb_cursor *ret_cursor);
void shmb_cursor_close(struct shmb_cursor *cursor);

/** shmb_cursor_read_checked() - shmb_cursor_read() with nothing inline; for those who cannot use
 * inline functions. */
int64_t shmb_cursor_read_checked(struct shmb_cursor *cursor, void *buffer, size_t length);

/**
 * shmb_cursor_read() - copy what comes next, and go on behind it
 *
 * At the end less is read than was asked for, then nothing. If the region was made smaller than the
 * position, that is the end, too; the position stays, and there is more when it has grown again.
 *
 * In a forked child it may read from its parent's mapping before it says SHMB_EFORKED.
 *
 * Return: bytes read, 0 at the end, or as shmb_region_read().
 */
static inline int64_t shmb_cursor_read(struct shmb_cursor *cursor, void *buffer, size_t length)
{
#if defined(__GNUC__) && UINTPTR_MAX == UINT64_MAX
	/*
	 * Small enough to cost as much as the copy it is about. Whatever others write to the
	 * words, nothing from _limit on is read, and addresses stay a region's until it is freed.
	 * The state and the segment are looked at after the copy: only then is it known what it was
	 * that was copied.
	 */
	const uint64_t *words = cursor->_words;
	uint64_t position = cursor->position, next;

	if (__builtin_expect(!__builtin_add_overflow(position, length, &next) &&
				     next < cursor->_limit &&
				     __atomic_load_n(words, __ATOMIC_RELAXED) == cursor->_seen_size,
			     1)) {
		memcpy(buffer, cursor->_data + position, length);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__builtin_expect(
			    __atomic_load_n(cursor->_state, __ATOMIC_RELAXED) ==
					    cursor->_seen_state &&
				    __atomic_load_n((const uint32_t *)(const void *)(words + 2),
						    __ATOMIC_RELAXED) == cursor->_seen_segment,
			    1)) {
			cursor->position = next;
			return (int64_t)length;
		}
	}
#endif
	return shmb_cursor_read_checked(cursor, buffer, length);
}

/**
 * shmb_cursor_write() - copy over what comes next, and go on behind it
 *
 * Return: bytes written: less than asked for where the region ends before; SHMB_EBOUNDS: it has
 * ended already; or as shmb_region_write().
 */
int64_t shmb_cursor_write(struct shmb_cursor *cursor, const void *buffer, size_t length);

/**
 * shmb_cursor_seek() - go elsewhere; beyond the end is allowed, before the beginning is not
 *
 * Return: the new position, or SHMB_EINVAL (nothing has changed).
 */
int64_t shmb_cursor_seek(struct shmb_cursor *cursor, int64_t offset, enum shmb_whence whence);

/**
 * shmb_cursor_read_at(), shmb_cursor_write_at() - the same at a position, without moving
 * @ret_done: bytes copied, also on SHMB_EBOUNDS
 *
 * Return: 0: all of it; SHMB_EBOUNDS: fewer bytes than asked for, up to the end; or as read and
 * write.
 */
int shmb_cursor_read_at(struct shmb_cursor *cursor, uint64_t position, void *buffer, size_t length,
			size_t *ret_done);
int shmb_cursor_write_at(struct shmb_cursor *cursor, uint64_t position, const void *buffer,
			 size_t length, size_t *ret_done);

/* ---- Walk: in chunks, in place ---- */

struct shmb_walk {
	unsigned char *data; /* the chunk, after shmb_walk_next() */
	size_t length;       /* bytes of it; the last one may be shorter */
	uint64_t offset;     /* bytes: where it is in the region */
	struct shmb_view _view;
	size_t _chunk;
	size_t _done;
};

/**
 * shmb_walk_open() - begin a walk
 * @offset, @length: bytes; length 0 for everything from @offset on
 * @chunk:  bytes, at least 1; shmb_page_size() for pages
 * @access: SHMB_READ or SHMB_READ | SHMB_WRITE
 *
 * It is one view: nothing moves until it is closed. Then
 *
 *     while (shmb_walk_next(&walk))
 *             digest(walk.data, walk.length);
 *     r = shmb_walk_close(&walk);
 *
 * Return: as shmb_region_view(), SHMB_EINVAL (chunk 0).
 */
int shmb_walk_open(struct shmb_region *region, uint64_t offset, uint64_t length, size_t chunk,
		   unsigned access, struct shmb_walk *ret_walk);

/** shmb_walk_next() - the next chunk. Return: 1, or 0: that was the last one. */
static inline int shmb_walk_next(struct shmb_walk *walk)
{
	size_t left = walk->_view.length - walk->_done;

	if (left == 0)
		return 0;
	walk->data = (unsigned char *)walk->_view.data + walk->_done;
	walk->offset += walk->length;
	walk->length = left < walk->_chunk ? left : walk->_chunk;
	walk->_done += walk->length;
	return 1;
}

/** shmb_walk_copy() - the next chunk, copied to @buffer of at least a chunk. Return: as
 * shmb_walk_next(). */
static inline int shmb_walk_copy(struct shmb_walk *walk, void *buffer)
{
	if (!shmb_walk_next(walk))
		return 0;
	memcpy(buffer, walk->data, walk->length);
	return 1;
}

/** shmb_walk_close() - Return: 0, or SHMB_EBUS: memory has vanished on the way. */
int shmb_walk_close(struct shmb_walk *walk);

/* ---- Atomics in place ---- */

#ifdef __cplusplus
#define SHMB_ATOMIC(type) volatile type /* shmbroker.hpp has std::atomic */
#else
#define SHMB_ATOMIC(type) _Atomic(type)
#endif

/** Words that several processes change at once, without a lock: use <stdatomic.h> on them. */
struct shmb_atomics32 {
	SHMB_ATOMIC(uint32_t) * words;
	size_t count;
	struct shmb_view _view;
};

struct shmb_atomics64 {
	SHMB_ATOMIC(uint64_t) * words;
	size_t count;
	struct shmb_view _view;
};

/**
 * shmb_region_atomics32(), shmb_region_atomics64() - view a range as @count atomic words
 * @offset: bytes, a multiple of 4 or 8
 *
 * Needs SHMB_WRITE: even an atomic load may need it. Give them back with shmb_atomics32_release(),
 * shmb_atomics64_release().
 *
 * Return: 0, or SHMB_EALIGN (the last error says what the offset must be a multiple of),
 * SHMB_EBOUNDS, SHMB_EMODE, SHMB_EINVAL (count 0).
 */
int shmb_region_atomics32(struct shmb_region *region, uint64_t offset, size_t count,
			  struct shmb_atomics32 *ret_atomics);
int shmb_region_atomics64(struct shmb_region *region, uint64_t offset, size_t count,
			  struct shmb_atomics64 *ret_atomics);
int shmb_atomics32_release(struct shmb_atomics32 *atomics);
int shmb_atomics64_release(struct shmb_atomics64 *atomics);

/* ---- Copies ---- */

/**
 * shmb_region_copy() - from one region to another, or within one; the ranges may overlap,
 * through whichever handles of it
 *
 * Return: 0; SHMB_EBOUNDS, SHMB_EMODE, SHMB_EBUS of either: its last error has the particulars.
 */
int shmb_region_copy(struct shmb_region *from, uint64_t from_offset, struct shmb_region *to,
		     uint64_t to_offset, uint64_t length);

/** Called now and then with how far it is; non-zero ends the copy with that result. @total is all
 * that it can become where what is imported does not tell how long it is. */
typedef int (*shmb_progress_fn)(uint64_t done, uint64_t total, void *userdata);

/**
 * shmb_region_export() - copy a range to a file at @fd, from its position on
 * shmb_region_import() - copy a file from its position on to a range
 * @length:   bytes; 0: everything from @offset on (import: as much of that as the file has)
 * @progress: may be NULL
 *
 * Any descriptor that write(2) or read(2) takes, borrowed; blocks for as long as that does. What is
 * imported is flushed to nothing and published to nobody: see shmb_region_flush(),
 * shmb_region_publish().
 *
 * Return: bytes copied, or SHMB_EBOUNDS (import: the file is longer than the range and @length is
 * 0: nothing was changed if it is a regular file), SHMB_EMODE, SHMB_EBUS, what @progress returned,
 * or what the system said: SHMB_ENOSPC, SHMB_EIO, SHMB_EINVAL, ...
 */
int64_t shmb_region_export(struct shmb_region *region, uint64_t offset, uint64_t length, int fd,
			   shmb_progress_fn progress, void *userdata);
int64_t shmb_region_import(struct shmb_region *region, uint64_t offset, uint64_t length, int fd,
			   shmb_progress_fn progress, void *userdata);

/* ---- When writes are flushed ---- */

/** After which of the writes through a handle its file is flushed; several may be set. */
struct shmb_flush_policy {
	size_t struct_size;
	uint64_t every_bytes;  /* when so many have been written since the last flush; 0: never */
	uint64_t every_writes; /* 1: each write is on the disk when it returns */
	uint32_t every_ms;     /* milliseconds after which a written byte is on its way to the disk,
				  by a thread that all handles of the client share; see "In the
				  background" for a disk that does not answer */
};

#define SHMB_FLUSH_POLICY_INIT                            \
	{                                                 \
		sizeof(struct shmb_flush_policy), 0, 0, 0 \
	}

/**
 * shmb_region_set_flush_policy(), shmb_region_get_flush_policy()
 *
 * All writing functions of the library count; what is written through views and pointers does not,
 * nor what SHMB_ADVICE_REMOVE takes away: tell it with shmb_region_wrote(). A flush that fails
 * makes the write that caused it fail with its error (the bytes are in the region); one of the
 * timer shows in shmb_region_last_flush() and is tried again. With every_ms what is pending is
 * flushed when the handle is closed, and when the client is freed, whose thread ends then. Each
 * flush is of all that the handle's range has, others' writes included; with SHMB_LOCKED the lock
 * is held meanwhile. A policy of zeros ends counting.
 *
 * Return: 0, or SHMB_EINVAL, SHMB_EMODE (it cannot be written), SHMB_ENOMEM (every_ms: no thread).
 */
int shmb_region_set_flush_policy(struct shmb_region *region,
				 const struct shmb_flush_policy *policy);
int shmb_region_get_flush_policy(struct shmb_region *region, struct shmb_flush_policy *ret_policy);

/** shmb_region_wrote() - count bytes that were written through a pointer. Return: as
 * shmb_region_write() of them. */
int shmb_region_wrote(struct shmb_region *region, uint64_t offset, uint64_t length);

/**
 * shmb_region_pending() - bytes written through this handle since it was last flushed as a whole
 *
 * Exact while the handle has a policy; without one nothing is counted, and this is 0.
 */
uint64_t shmb_region_pending(struct shmb_region *region);

/* ---- In the background ----
 *
 * Threads of the client, started when they are needed and ended when they have been idle for some
 * seconds, do what would block; shmb_client_process() runs the callbacks, in the order in which the
 * operations ended. Two operations are under way at a time, beside what a flush policy wants
 * flushed by now, and another thread waits while anything does. What has taken for long (five
 * seconds, a flush by time one) keeps others waiting no longer: then there are more threads, eight
 * at most, and no more than two operations of one region, so that a disk that does not answer stops
 * what is on it. But for that, operations begin in the order in which they were asked for;
 * those that touch the same bytes are not ordered among each other. Closing or freeing a region
 * cancels its operations: those that have not begun end with SHMB_ECANCELED, one that is under way
 * is waited for, and its callback still runs with what became of it; nothing touches the caller's
 * buffers after that. Freeing the client waits likewise, and no callback runs any more.
 *
 * Making a region is asynchronous by itself: shmb_region_create_async().
 */

typedef void (*shmb_done_fn)(int status, void *userdata);

/**
 * shmb_region_write_async() - write, and flush what was written
 * @buffer: borrowed until @callback has run
 * shmb_region_flush_async() - as shmb_region_flush()
 * shmb_region_copy_async()  - as shmb_region_copy(), and flush the copy
 * shmb_region_remove_async() - as shmb_region_remove(); asks the broker, needs no thread
 *
 * Return: 0 (@callback will run exactly once, with 0 or the error), or an error (it will not):
 * SHMB_EINVAL, SHMB_EBOUNDS, SHMB_EMODE, SHMB_ENOMEM, SHMB_EBUSY (1024 are in flight, counted until
 * their callbacks run), SHMB_ECLOSED (the client was freed). What the bytes are when its turn comes
 * is what counts: a region that was made smaller meanwhile is SHMB_EBOUNDS then.
 */
int shmb_region_write_async(struct shmb_region *region, uint64_t offset, const void *buffer,
			    size_t length, shmb_done_fn callback, void *userdata);
int shmb_region_flush_async(struct shmb_region *region, uint64_t offset, uint64_t length,
			    shmb_done_fn callback, void *userdata);
int shmb_region_copy_async(struct shmb_region *from, uint64_t from_offset, struct shmb_region *to,
			   uint64_t to_offset, uint64_t length, shmb_done_fn callback,
			   void *userdata);
int shmb_region_remove_async(struct shmb_client *client, const char *name, shmb_done_fn callback,
			     void *userdata);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
