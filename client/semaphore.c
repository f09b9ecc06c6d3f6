/* SPDX-License-Identifier: MIT */
/*
 * Using semaphores: the steps of proto/layout/semaphore.h, with spinning, sleeping and waking. Asks
 * nobody, takes no mutex.
 */

#include "semaphore.h"

#include "client.h"
#include "layout/step.h"
#include "predict.h"
#include "wait.h"

static out_of_line int refuse(const struct shmb_semaphore *handle, int code, const char *what)
{
	return error_note(&handle->client->error, code, what);
}

/*
 * Has the memory vanished? Then what was done was done to private zeros, and is nothing. Last, as
 * it is touching it that shows.
 */
static always_inline int ended(const struct shmb_semaphore *handle, int result)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (likely(!atomic_load_explicit(&handle->shared->arena->lost, memory_order_relaxed)))
		return result;
	return refuse(handle, SHMB_EBUS, "semaphore");
}

/* ---- Waking ---- */

static uint32_t available(const struct semaphore *semaphore)
{
	if (semaphore->kind == SHMB_OWNED)
		return layout_owned_free(semaphore->owned, semaphore->maximum);
	return layout_counting_value(semaphore->counting);
}

/*
 * As many as there is to take, not as many as we have given: a poster may have died before it woke
 * the one it had posted for. Dying in here is made good by the broker, which wakes all: the bit is
 * set, or the semaphore stands among our waits.
 */
int semaphore_wake(struct semaphore *semaphore)
{
	struct layout_arena *arena = semaphore->arena->words;
	uint32_t n, place;

	/* seq_cst: behind what we gave. Who counts itself later finds that. */
	if (atomic_load(semaphore->asleep) == 0)
		return 0;
	n = available(semaphore);
	STEP();
	if (n == 0 || (uint32_t)wait_wake(semaphore->futex, (int)n) >= n)
		return 0;
	place = layout_sleepers_clear(arena, semaphore->slot, semaphore->unit, semaphore->futex);
	if (place == LAYOUT_ARENA_WAITS)
		return 0;
	wait_wake_all(semaphore->futex);
	layout_arena_wait_end(arena, semaphore->slot, place);
	return 0;
}

/* ---- Waiting ---- */

static uint32_t last_seen(const struct semaphore *semaphore)
{
	return atomic_load_explicit(&semaphore->seen, memory_order_relaxed);
}

static void now_seen(struct semaphore *semaphore, uint32_t seen)
{
	atomic_store_explicit(&semaphore->seen, seen, memory_order_relaxed);
}

static bool take(struct semaphore *semaphore, struct layout_permit *ret_permit)
{
	if (semaphore->kind != SHMB_OWNED)
		return layout_counting_take(semaphore->counting);
	if (!layout_owned_take(semaphore->owned, semaphore->maximum, semaphore->slot, ret_permit))
		return false;
	now_seen(semaphore, ret_permit->serial);
	return true;
}

/* Return: true: taken, or false at the deadline. */
static bool sleep_until_taken(struct semaphore *semaphore, struct waiting *waiting,
			      struct layout_permit *ret_permit)
{
	bool owned = semaphore->kind == SHMB_OWNED;

	for (;;) {
		uint32_t expected;

		/* A counting one may have changed and not be announced; then it is not what is
		 * expected either, and the sleep does not begin. */
		if (owned)
			layout_owned_announce(semaphore->owned, &expected);
		else
			layout_counting_announce(semaphore->counting, &expected);
		/* Who gives looks for sleepers after it has given: one of us sees the other. */
		if (take(semaphore, ret_permit))
			return true;
		if (!wait_sleep(waiting, semaphore->futex, expected))
			return false;
		/* One that has vanished is told by who calls us. */
		if (take(semaphore, ret_permit) || atomic_load(&semaphore->arena->lost))
			return true;
	}
}

static bool wait_until_taken(struct semaphore *semaphore, int timeout_ms,
			     struct layout_permit *ret_permit)
{
	struct layout_arena *arena = semaphore->arena->words;
	struct waiting waiting;
	uint32_t place;
	bool taken;

	wait_begin(&waiting, &semaphore->spin_ns, semaphore->spin_most, timeout_ms);
	while (wait_spin(&waiting))
		if (take(semaphore, ret_permit))
			return true;
	place = layout_arena_wait_begin(arena, semaphore->slot, semaphore->unit);
	atomic_fetch_add(semaphore->asleep, 1);
	STEP();
	taken = sleep_until_taken(semaphore, &waiting, ret_permit);
	atomic_fetch_sub(semaphore->asleep, 1);
	STEP();
	layout_arena_wait_end(arena, semaphore->slot, place);
	wait_end(&waiting);
	return taken;
}

/* There was none. */
static int wait_for_one(struct semaphore *semaphore, int timeout_ms,
			struct layout_permit *ret_permit)
{
	if (timeout_ms == 0 || !wait_until_taken(semaphore, timeout_ms, ret_permit))
		return SHMB_ETIMEDOUT; /* the answer to a question, not kept as an error */
	return 0;
}

/* Nobody has seen one. */
static out_of_line int wait_slowly(struct semaphore *semaphore, int timeout_ms)
{
	struct layout_permit permit;

	if (take(semaphore, &permit))
		return 0;
	return wait_for_one(semaphore, timeout_ms, &permit);
}

static int wait_owned(struct semaphore *semaphore, int timeout_ms)
{
	struct layout_permit permit = { 0, last_seen(semaphore) };

	if (semaphore->maximum == 1 &&
	    likely(layout_owned_take_seen(semaphore->owned, semaphore->slot, &permit))) {
		now_seen(semaphore, permit.serial);
		return 0;
	}
	return wait_slowly(semaphore, timeout_ms);
}

static int wait_counting(struct semaphore *semaphore, int timeout_ms)
{
	uint32_t seen = last_seen(semaphore);

	if (unlikely(!layout_counting_take_seen(semaphore->counting, &seen)))
		return wait_slowly(semaphore, timeout_ms);
	now_seen(semaphore, seen);
	return 0;
}

int shmb_semaphore_wait(struct shmb_semaphore *handle, int timeout_ms)
{
	struct semaphore *semaphore = handle->shared;

	if (unlikely(fork_crossed(handle->generation)))
		return SHMB_EFORKED;
	return ended(handle, semaphore->kind == SHMB_OWNED ? wait_owned(semaphore, timeout_ms)
							   : wait_counting(semaphore, timeout_ms));
}

int shmb_semaphore_take(struct shmb_semaphore *handle, int timeout_ms,
			struct shmb_permit *ret_permit)
{
	struct semaphore *semaphore = handle->shared;
	struct layout_permit permit;
	int result = 0;

	if (unlikely(fork_crossed(handle->generation)))
		return SHMB_EFORKED;
	if (unlikely(semaphore->kind != SHMB_OWNED))
		return refuse(handle, SHMB_EKIND, "take");
	if (unlikely(!take(semaphore, &permit)))
		result = wait_for_one(semaphore, timeout_ms, &permit);
	result = ended(handle, result);
	if (likely(result == 0))
		*ret_permit = (struct shmb_permit){ permit.index, permit.serial };
	return result;
}

/* ---- Giving ---- */

static bool find(const struct semaphore *semaphore, uint32_t from, struct layout_permit *ret_permit)
{
	return layout_owned_find(semaphore->owned, semaphore->maximum, semaphore->slot, from,
				 ret_permit);
}

static bool holds(const struct semaphore *semaphore, uint32_t n)
{
	struct layout_permit permit = { 0, 0 };
	uint32_t from = 0;

	for (; n > 0 && find(semaphore, from, &permit); n--)
		from = permit.index + 1;
	return n == 0;
}

/* The lowest first. One that another thread of this client gives at the same time is its. */
static out_of_line int post_many(struct shmb_semaphore *handle, uint32_t n)
{
	struct semaphore *semaphore = handle->shared;
	struct layout_permit permit;
	bool wake_any = false;

	if (n > 1 && !holds(semaphore, n))
		return refuse(handle, SHMB_EOVERFLOW, "permits");
	while (n > 0 && find(semaphore, 0, &permit)) {
		bool wake = false;

		n -= layout_owned_give(semaphore->owned, semaphore->maximum, semaphore->slot,
				       permit, &wake);
		wake_any |= wake;
	}
	if (wake_any)
		semaphore_wake(semaphore);
	return n == 0 ? 0 : refuse(handle, SHMB_EOVERFLOW, "permits");
}

static int post_owned(struct shmb_semaphore *handle, uint32_t n)
{
	struct semaphore *semaphore = handle->shared;
	struct layout_permit permit = { 0, last_seen(semaphore) };
	bool wake;

	if (semaphore->maximum != 1 || n != 1 ||
	    unlikely(!layout_owned_give(semaphore->owned, 1, semaphore->slot, permit, &wake)))
		return post_many(handle, n);
	return likely(!wake) ? 0 : semaphore_wake(semaphore);
}

static out_of_line int post_counting(struct shmb_semaphore *handle, uint32_t n)
{
	struct semaphore *semaphore = handle->shared;
	bool wake;

	if (!layout_counting_post(semaphore->counting, n, semaphore->maximum, &wake))
		return refuse(handle, SHMB_EOVERFLOW, "maximum");
	return wake ? semaphore_wake(semaphore) : 0;
}

static always_inline int post_counting_fast(struct shmb_semaphore *handle, uint32_t n)
{
	struct semaphore *semaphore = handle->shared;
	uint32_t seen = last_seen(semaphore);
	bool wake;

	/* What was seen may be too much by now. */
	if (unlikely(!layout_counting_post_seen(semaphore->counting, n, semaphore->maximum, &seen,
						&wake)))
		return post_counting(handle, n);
	now_seen(semaphore, seen);
	return likely(!wake) ? 0 : semaphore_wake(semaphore);
}

int shmb_semaphore_post(struct shmb_semaphore *handle, uint32_t n)
{
	if (unlikely(fork_crossed(handle->generation)))
		return SHMB_EFORKED;
	if (unlikely(n == 0))
		return refuse(handle, SHMB_EINVAL, "n");
	return ended(handle, handle->shared->kind == SHMB_OWNED ? post_owned(handle, n)
								: post_counting_fast(handle, n));
}

int shmb_semaphore_give(struct shmb_semaphore *handle, const struct shmb_permit *permit)
{
	struct semaphore *semaphore = handle->shared;
	struct layout_permit own = { permit->index, permit->serial };
	bool wake;

	if (unlikely(fork_crossed(handle->generation)))
		return SHMB_EFORKED;
	if (unlikely(semaphore->kind != SHMB_OWNED))
		return refuse(handle, SHMB_EKIND, "give");
	if (unlikely(!layout_owned_give(semaphore->owned, semaphore->maximum, semaphore->slot, own,
					&wake)))
		return ended(handle, refuse(handle, SHMB_EINVAL, "permit"));
	return ended(handle, likely(!wake) ? 0 : semaphore_wake(semaphore));
}

int shmb_semaphore_adopt(struct shmb_semaphore *handle, const struct shmb_permit *permit)
{
	struct semaphore *semaphore = handle->shared;
	struct layout_permit wanted = { permit->index, permit->serial };

	if (unlikely(fork_crossed(handle->generation)))
		return SHMB_EFORKED;
	if (unlikely(semaphore->kind != SHMB_OWNED))
		return refuse(handle, SHMB_EKIND, "adopt");
	if (unlikely(permit->index >= semaphore->maximum))
		return refuse(handle, SHMB_EINVAL, "permit");
	if (!layout_owned_adopt(semaphore->owned, semaphore->maximum, semaphore->slot, wanted))
		return ended(handle, refuse(handle, SHMB_ENOENT, "permit"));
	return ended(handle, 0);
}

int64_t shmb_semaphore_value(struct shmb_semaphore *handle)
{
	if (fork_crossed(handle->generation))
		return SHMB_EFORKED;
	return ended(handle, (int)available(handle->shared));
}
