/* SPDX-License-Identifier: MIT */
/*
 * Publish and wait over the publish page. Pure: the caller makes the futex call and sends the
 * message. The page may be written by anybody with write access, at any time, with anything: every
 * loop here is bounded, and no value from the page is used as an address or index.
 *
 * No wake-up is lost because of the order on both sides, sequentially consistent throughout:
 *
 *   publisher: add to sequence,       then look at readers, sleepers, armed
 *   waiter:    announce in sleepers,  then look at sequence
 *   broker:    set readers or armed,  then look at sequence
 *
 * so that at least one of the two sees the other. Between a waiter's last look and its sleep the
 * kernel compares the futex word once more.
 *
 * The announcement carries the sequence that the waiter had seen, because of the slow publisher:
 * its sequence may be seen, dealt with and waited beyond before it comes to look at sleepers. Were
 * the word a mere flag, it would then clear the announcement of somebody who waits for the *next*
 * publish, and that publish would wake nobody. So a publisher clears only announcements made before
 * its own sequence, and wakes (needlessly, rarely) for later ones, too.
 *
 * A publisher that dies between clearing and waking leaves sleepers to their re-check within a
 * second.
 */

#include "layout/publish.h"
#include "layout/relax.h"

enum {
	RANGE_SPINS = 200,   /* turns to wait for ranges that are being written */
	ANNOUNCE_TRIES = 16, /* more than that is not competition but sabotage */
};

/* ---- Who sleeps ---- */

/* Never 0. 31 bits of the sequence are compared, modulo; a wrong answer costs needless wake-ups. */
static uint32_t announcement(uint64_t sequence)
{
	return (uint32_t)sequence << 1 | 1;
}

/* Of two announcements; both odd, so that the difference of the 31 bits above decides. */
static bool is_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

void layout_publish_announce(struct layout_publish *page)
{
	uint32_t mine = announcement(atomic_load(&page->sequence));
	uint32_t other = atomic_load(&page->sleepers);

	for (int i = 0; i < ANNOUNCE_TRIES; i++) {
		/* Who announced the same or a later sequence keeps the word set for us as well: it
		 * is cleared by a publish after theirs, which is one after ours. The exchange is
		 * made all the same, as it puts us into the order above. */
		uint32_t next = other != 0 && is_before(mine, other) ? other : mine;
		if (atomic_compare_exchange_weak(&page->sleepers, &other, next))
			return;
	}
	atomic_store(&page->sleepers, mine);
}

static bool take_sleepers(struct layout_publish *page, uint64_t sequence)
{
	uint32_t other = atomic_load(&page->sleepers);

	if (other == 0)
		return false;
	/* Failing is fine: somebody else cleared it and wakes, or announced anew. */
	if (is_before(other, announcement(sequence)))
		atomic_compare_exchange_strong(&page->sleepers, &other, 0);
	return true;
}

/* ---- Ranges ---- */

/*
 * Leave the range of @sequence in its slot. If the slot is taken (a publisher eight behind is still
 * writing it, or died there, or a later one was faster), do without: readers then take the whole
 * region.
 *
 * Orders, as in a seqlock. The exchange acquires the stamp of the slot's last user (release), so
 * that its stores come before ours; on failure nothing is taken over (relaxed). A reader that sees
 * one of our two stores (release, read with acquire) also sees our stamp marked WRITING, or a later
 * one, when it looks at the stamp again, and rejects what it has. A reader that sees our last stamp
 * (release, read with acquire) sees both stores.
 */
static void leave_range(struct layout_publish *page, uint64_t sequence, uint64_t offset,
			uint64_t length)
{
	struct layout_range *range = &page->ranges[sequence % LAYOUT_PUBLISH_RANGES];
	uint64_t stamp = atomic_load_explicit(&range->stamp, memory_order_relaxed);

	if (stamp >= sequence) /* WRITING is the highest bit */
		return;
	if (!atomic_compare_exchange_strong_explicit(&range->stamp, &stamp,
						     sequence | LAYOUT_RANGE_WRITING,
						     memory_order_acquire, memory_order_relaxed))
		return;
	atomic_store_explicit(&range->offset, offset, memory_order_release);
	atomic_store_explicit(&range->length, length, memory_order_release);
	atomic_store_explicit(&range->stamp, sequence, memory_order_release);
}

/* Return: true with the range that the publish @sequence left, or false: none, or not to be had. */
static bool take_range(const struct layout_publish *page, uint64_t sequence, int *spins,
		       uint64_t *ret_offset, uint64_t *ret_length)
{
	const struct layout_range *range = &page->ranges[sequence % LAYOUT_PUBLISH_RANGES];
	uint64_t stamp, offset, length;

	/* The range is written after the sequence, so it may be a moment late. */
	for (;;) {
		stamp = atomic_load_explicit(&range->stamp, memory_order_acquire);
		if (stamp == sequence)
			break;
		if ((stamp & ~LAYOUT_RANGE_WRITING) > sequence || (*spins)-- <= 0)
			return false;
		cpu_relax();
	}
	offset = atomic_load_explicit(&range->offset, memory_order_acquire);
	length = atomic_load_explicit(&range->length, memory_order_acquire);
	/* relaxed: the two loads before it acquire, which keeps it behind them. */
	if (atomic_load_explicit(&range->stamp, memory_order_relaxed) != sequence)
		return false;
	if (length == 0 || offset > UINT64_MAX - length)
		return false;
	*ret_offset = offset;
	*ret_length = length;
	return true;
}

bool layout_publish_range(const struct layout_publish *page, uint64_t seen, uint64_t now,
			  uint64_t *ret_offset, uint64_t *ret_length)
{
	uint64_t start = UINT64_MAX, end = 0;
	int spins = RANGE_SPINS;

	/* relaxed: it is set before the add to sequence through which the caller learned @now. */
	if (atomic_load_explicit(&page->ranged, memory_order_relaxed) == 0)
		return false;
	if (now - seen == 0 || now - seen > LAYOUT_PUBLISH_RANGES)
		return false;
	for (uint64_t sequence = now; sequence != seen; sequence--) {
		uint64_t offset, length;

		if (!take_range(page, sequence, &spins, &offset, &length))
			return false;
		start = offset < start ? offset : start;
		end = offset + length > end ? offset + length : end;
	}
	*ret_offset = start;
	*ret_length = end - start;
	return true;
}

/* ---- Publishing ---- */

unsigned layout_publish(struct layout_publish *page, uint64_t offset, uint64_t length)
{
	unsigned duty = 0;
	uint64_t sequence;

	/* relaxed: the add below releases it. Not looked at first: that would fetch the cache line
	 * to read it, and then once more to write. */
	if (length != 0)
		atomic_store_explicit(&page->ranged, 1, memory_order_relaxed);

	sequence = atomic_fetch_add(&page->sequence, 1) + 1;

	/* Where others give ranges, say that this publish has none, so that readers do not wait for
	 * it. relaxed: missing it makes readers wait for RANGE_SPINS, once. */
	if (length != 0 || atomic_load_explicit(&page->ranged, memory_order_relaxed) != 0)
		leave_range(page, sequence, offset, length);

	if (take_sleepers(page, sequence) || atomic_load(&page->readers) != 0)
		duty |= LAYOUT_DUTY_WAKE;
	if (atomic_load(&page->armed) != 0 && atomic_exchange(&page->armed, 0) != 0)
		duty |= LAYOUT_DUTY_TELL;
	return duty;
}

void layout_publish_rearm(struct layout_publish *page)
{
	atomic_store(&page->armed, 1);
}

uint64_t layout_publish_sequence(const struct layout_publish *page)
{
	return atomic_load(&page->sequence);
}

const uint32_t *layout_publish_futex(const struct layout_publish *page)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return (const uint32_t *)(const void *)&page->sequence + 1;
#else
	return (const uint32_t *)(const void *)&page->sequence;
#endif
}
