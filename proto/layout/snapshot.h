/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_SNAPSHOT_H
#define LAYOUT_SNAPSHOT_H

/*
 * Untorn copies for those who can only read: a sequence lock (Lameter 2005; the orders are those of
 * Boehm, "Can seqlocks get along with programming language memory models?", 2012) around what the
 * exclusive holder of the region lock writes. Its words are in the publish page. Numbers in
 * brackets are the steps of tests/model/snapshot.pml.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "layout/publish.h"
#include "layout/step.h"

/* layout_snapshot_write() - the caller, who holds the lock exclusively, is about to write */
static inline void layout_snapshot_write(struct layout_publish *page)
{
	/* relaxed: only the holder writes it. One that died has left it odd. */
	uint64_t sequence = atomic_load_explicit(&page->writing, memory_order_relaxed);

	/* [1] The fence keeps the store ahead of the caller's writes: who copies one of them also
	 * finds the sequence changed when it looks again. */
	atomic_store_explicit(&page->writing, sequence | 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	STEP();
}

/* layout_snapshot_written() - it has written; call it before the lock is given back */
static inline void layout_snapshot_written(struct layout_publish *page)
{
	uint64_t sequence = atomic_load_explicit(&page->writing, memory_order_relaxed);

	/* [3] release: who sees it even sees all that was written. */
	atomic_store_explicit(&page->writing, (sequence | 1) + 1, memory_order_release);
	STEP();
}

/* layout_snapshot_begin() - Return: true: copy now, then ask layout_snapshot_end(); false: being
 * written */
static inline bool layout_snapshot_begin(const struct layout_publish *page, uint64_t *ret_sequence)
{
	*ret_sequence = atomic_load_explicit(&page->writing, memory_order_acquire); /* [4] */
	return !(*ret_sequence & 1);
}

/* layout_snapshot_end() - Return: true: nothing was written meanwhile */
static inline bool layout_snapshot_end(const struct layout_publish *page, uint64_t sequence)
{
	/* [6] The fence keeps the copying ahead of this load. */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&page->writing, memory_order_relaxed) == sequence;
}

#endif
