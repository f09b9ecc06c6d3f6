/* SPDX-License-Identifier: MIT */
/*
 * Publish and wait: the algorithms over the page are in proto/layout; here are the futex, the
 * message to the broker when an event loop watches, and how long to spin before sleeping. Takes no
 * mutex, so a publisher never waits for anybody.
 */

#include "client.h"

#include <sched.h>
#include <unistd.h>

#include "layout/futex.h"
#include "layout/relax.h"

enum {
	SLICE_NS = 1000000000, /* no sleep is longer: a wake-up that was stolen costs that much */
	SPIN_DEFAULT_NS = 100000, /* waking a sleeper on another CPU was measured at 20 to 90 us */
	SPIN_LEAST_NS = 2000,     /* less is not worth the clock */
	SPIN_TURNS = 32,          /* looks between two looks at the clock */
};

#define NO_DEADLINE INT64_MAX

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
	if (unlikely(!(region->access & SHMB_WRITE)))
		return region_refuse(region, SHMB_EMODE, "publish");
	if (unlikely(!region_within(offset, length, region_bytes(region))))
		return region_refuse_bounds(region, offset, length);
	duty = layout_publish(region->page, offset, length);
	if (unlikely(duty & LAYOUT_DUTY_WAKE))
		futex_wake_all(layout_publish_futex(region->page));
	if (unlikely(duty & LAYOUT_DUTY_TELL))
		tell_broker(region);
	return 0;
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

int64_t publish_spin_default(void)
{
	cpu_set_t cpus;

	/* With one processor the publisher cannot run while we spin. */
	if (sysconf(_SC_NPROCESSORS_ONLN) == 1)
		return 0;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) == 1)
		return 0;
	return SPIN_DEFAULT_NS;
}

static bool is_over(const struct shmb_region *region, uint64_t seen)
{
	return layout_publish_sequence(region->page) != seen || region_usable(region) < 0;
}

/* Return: true if there is something new (or the region was closed), false if it is time to sleep.
 */
static bool spin(const struct shmb_region *region, uint64_t seen, int64_t start, int64_t deadline)
{
	int64_t until = start + atomic_load_explicit(&region->spin_ns, memory_order_relaxed);

	if (until > deadline)
		until = deadline;
	if (until == start)
		return false;
	do {
		for (int i = 0; i < SPIN_TURNS; i++) {
			if (layout_publish_sequence(region->page) != seen)
				return true;
			cpu_relax();
		}
		if (region_usable(region) < 0)
			return true;
	} while (clock_now() < until);
	return false;
}

/*
 * Whoever slept learns: had it been worth to spin on? If so spin longer the next time, else less,
 * down to nothing; from there a wait that was short all the same leads up again.
 */
static void learn(struct shmb_region *region, int64_t waited)
{
	int64_t most = region->client->spin_ns;
	int64_t budget = atomic_load_explicit(&region->spin_ns, memory_order_relaxed);

	if (waited > most)
		budget = budget / 2 < SPIN_LEAST_NS ? 0 : budget / 2;
	else
		budget = budget * 2 < SPIN_LEAST_NS ? SPIN_LEAST_NS : budget * 2;
	atomic_store_explicit(&region->spin_ns, budget < most ? budget : most,
			      memory_order_relaxed);
}

/* How long to sleep at most; not positive: the deadline has passed. */
static int64_t slice(int64_t now, int64_t deadline)
{
	return deadline - now < SLICE_NS ? deadline - now : SLICE_NS;
}

/* Return: true, or false at the deadline. */
static bool sleep_until_over(struct shmb_region *region, uint64_t seen, int64_t start,
			     int64_t deadline)
{
	const uint32_t *word = layout_publish_futex(region->page);
	int64_t left = slice(start, deadline);

	while (left > 0) {
		if (region->access & SHMB_WRITE) /* for others the broker has announced it */
			layout_publish_announce(region->page);
		if (is_over(region, seen))
			return true;
		futex_wait(word, (uint32_t)seen, left);
		/* Before announcing again, which would cost the next publisher a call. */
		if (is_over(region, seen))
			return true;
		if (deadline != NO_DEADLINE)
			left = slice(clock_now(), deadline);
	}
	return false;
}

static bool wait_until_over(struct shmb_region *region, uint64_t seen, int timeout_ms)
{
	bool may_spin = region->client->spin_ns > 0, over;
	int64_t start = may_spin || timeout_ms >= 0 ? clock_now() : 0, deadline = NO_DEADLINE;

	if (timeout_ms >= 0)
		deadline = start + (int64_t)timeout_ms * 1000000;
	if (may_spin && spin(region, seen, start, deadline))
		return true;
	atomic_fetch_add(&region->n_sleeping, 1);
	over = sleep_until_over(region, seen, start, deadline);
	atomic_fetch_sub(&region->n_sleeping, 1);
	if (may_spin)
		learn(region, clock_now() - start);
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
	result = region_usable(region); /* last: a closed region's page reads as zeros */
	if (unlikely(result < 0))
		return region_refuse(region, result, NULL);
	if (ret_publication) {
		ret_publication->sequence = now;
		publish_range(region, seen, now, &ret_publication->offset,
			      &ret_publication->length);
	}
	return 0;
}
