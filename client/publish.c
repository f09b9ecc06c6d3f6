/* SPDX-License-Identifier: MIT */
/*
 * Publish and wait: the algorithms over the page are in proto/layout; here are the futex, the
 * message to the broker when an event loop watches. Takes no mutex, so a publisher never waits for
 * anybody.
 */

#include "region.h"

#include "client.h"
#include "layout/futex.h"
#include "wait.h"
#include "wire/packet.h"

/* ---- Publishing ---- */

static void tell_broker(struct shmb_region *region)
{
	struct wire_region_handle params = { .handle = region->handle };
	struct shmb_client *client = region->client;
	struct wire_buffer packet;

	/* Past the queue of client->output: nothing there depends on the order, and the queue has a
	 * mutex. */
	if (client->gone || wire_encode_notification(&packet, WIRE_REGION_PUBLISHED, &params) < 0 ||
	    packet_send(client->socket, packet.data, packet.length, NULL, 0) < 0)
		layout_publish_rearm(region->page);
}

int shmb_region_publish(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	int result = region_usable(region);
	unsigned duty;

	if (unlikely(result < 0))
		return region_refuse(region, result, NULL);
	if (unlikely(!region_is_public(region)))
		return region_refuse(region, SHMB_EMODE, "publish");
	if (unlikely(!region_within(offset, length, region_bytes(region))))
		return region_refuse_bounds(region, offset, length);
	duty = layout_publish(region->page, offset, length);
	if (unlikely(duty & LAYOUT_DUTY_WAKE))
		futex_wake_all(layout_publish_futex(region->page));
	if (unlikely(duty & LAYOUT_DUTY_TELL))
		tell_broker(region);
	return region_check_page(region);
}

uint64_t shmb_region_sequence(struct shmb_region *region)
{
	uint64_t sequence;

	if (region_usable(region) < 0)
		return 0;
	sequence = layout_publish_sequence(region->page);
	return region_usable(region) < 0 ? 0 : sequence;
}

void publish_range(const struct shmb_region *region, uint64_t seen, uint64_t now,
		   uint64_t *ret_offset, uint64_t *ret_length)
{
	uint64_t size = region_bytes(region), offset, length;

	if (layout_publish_range(region->page, seen, now, &offset, &length) &&
	    region_within(offset, length, size)) {
		*ret_offset = offset;
		*ret_length = length;
	} else {
		*ret_offset = 0;
		*ret_length = size;
	}
}

/* ---- Waiting ---- */

static bool is_over(const struct shmb_region *region, uint64_t seen)
{
	return layout_publish_sequence(region->page) != seen ||
	       atomic_load(&region->state) & (REGION_CLOSED | REGION_PAGE_LOST);
}

/* Return: true, or false at the deadline. */
static bool sleep_until_over(struct shmb_region *region, uint64_t seen, struct waiting *waiting)
{
	const _Atomic uint32_t *word = (const _Atomic uint32_t *)layout_publish_futex(region->page);

	do {
		/* Before announcing (again), which costs the next publisher a call. */
		if (is_over(region, seen))
			return true;
		if (region_is_public(region)) /* for others the broker has announced it */
			layout_publish_announce(region->page);
		if (is_over(region, seen))
			return true;
	} while (wait_sleep(waiting, word, (uint32_t)seen));
	return is_over(region, seen);
}

static bool wait_until_over(struct shmb_region *region, uint64_t seen, int timeout_ms)
{
	struct waiting waiting;
	bool over;

	wait_begin(&waiting, &region->spin_ns, region->client->spin_ns, timeout_ms);
	do {
		if (is_over(region, seen))
			return true;
	} while (wait_spin(&waiting));
	atomic_fetch_add(&region->n_sleeping, 1);
	over = sleep_until_over(region, seen, &waiting);
	atomic_fetch_sub(&region->n_sleeping, 1);
	wait_end(&waiting);
	return over;
}

int shmb_region_wait(struct shmb_region *region, uint64_t seen, int timeout_ms,
		     struct shmb_publication *ret_publication)
{
	int result = region_usable(region);
	uint64_t now;

	if (unlikely(result < 0))
		return region_refuse(region, result, NULL);
	if (layout_publish_sequence(region->page) == seen &&
	    (timeout_ms == 0 || !wait_until_over(region, seen, timeout_ms)))
		return SHMB_ETIMEDOUT; /* the answer to a question, not kept as an error */
	now = layout_publish_sequence(region->page);
	/* Last: a closed region's page reads as zeros, and so does one that has vanished. */
	result = region_usable(region);
	if (unlikely(result < 0))
		return region_refuse(region, result, NULL);
	result = region_check_page(region);
	if (unlikely(result < 0))
		return result;
	if (ret_publication) {
		ret_publication->sequence = now;
		publish_range(region, seen, now, &ret_publication->offset,
			      &ret_publication->length);
	}
	return 0;
}
