/* SPDX-License-Identifier: MIT */
/*
 * Watches. A publisher that finds the region armed tells the broker, which looks who is to be told.
 * It may be stopped between clearing the flag and telling, or find its socket full, or lie: so, as
 * with every sleep here, what is armed is looked at again within a second.
 *
 * What a watch waits for is a difference to what its client has seen, so that nothing is missed
 * between two watches. Sequence, size and removal are there to be compared. Changes of metadata and
 * deaths of lock holders leave nothing that could be, so they are counted. The counters are in the
 * region's record, written with the change itself, and before a dead holder's slot is repaired: a
 * daemon that is killed in between has the next one count that death again, which tells somebody
 * twice and leaves nobody out.
 */
#include "watch.h"

#include "account.h"
#include "broker.h"
#include "layout/publish.h"
#include "peer.h"
#include "session.h"

#include <shmbroker/shmbroker.h>

#include <stdatomic.h>
#include <utlist.h>

enum {
	RECHECK_TICK_MS = 100,
	RECHECK_TICKS = 10, /* a round takes a second */
	RECHECK_LEAST = 64, /* regions looked at in one tick, if there are as many */
	RECHECK_MOST =
		1024, /* some milliseconds; with more than ten times as many a round takes longer */
};

/* ---- Armed or not ---- */

static void disarm(struct broker *broker, struct attachment *attachment)
{
	struct region *region = attachment->region;

	if (!attachment->watch_types)
		return;
	attachment->watch_types = attachment->watch_due = 0;
	DL_DELETE2(region->armed, attachment, previous, next);
	broker->regions.n_watches--;
	if (region->armed)
		return;
	DL_DELETE2(broker->regions.watched, region, watched_previous, watched_next);
	if (--broker->regions.n_watched == 0)
		uv_timer_stop(&broker->recheck);
}

static void on_recheck(uv_timer_t *timer);

static void arm(struct broker *broker, struct attachment *attachment, unsigned types)
{
	struct region *region = attachment->region;

	if (!region->armed) {
		if (broker->regions.n_watched++ == 0)
			uv_timer_start(&broker->recheck, on_recheck, RECHECK_TICK_MS,
				       RECHECK_TICK_MS);
		DL_APPEND2(broker->regions.watched, region, watched_previous, watched_next);
	}
	attachment->watch_types = (uint8_t)types;
	DL_APPEND2(region->armed, attachment, previous, next);
	broker->regions.n_watches++;
}

void watch_end(struct broker *broker, struct attachment *attachment)
{
	disarm(broker, attachment);
	if (attachment->watch_charged)
		account_uncharge(attachment->session->account, CHARGE_WATCHES, 1);
	attachment->watch_charged = false;
}

/* A client that does not say what it has seen has seen what there is. */
static unsigned counted_since(const struct region *region,
			      const struct wire_region_watch_params *seen)
{
	unsigned types = 0;

	if (seen->has & WIRE_HAS(region_watch_params, metadata) &&
	    seen->metadata != region->metadata)
		types |= SHMB_EVENT_METADATA;
	if (seen->has & WIRE_HAS(region_watch_params, deaths) && seen->deaths != region->deaths)
		types |= SHMB_EVENT_OWNER_DIED;
	return types;
}

int watch_set(struct broker *broker, struct attachment *attachment,
	      const struct wire_region_watch_params *wanted, struct failure *failure)
{
	uint64_t limit = broker->settings.per_user[CHARGE_WATCHES];

	if (!wanted->types) {
		watch_end(broker, attachment);
		return 0;
	}
	if (!attachment->watch_charged &&
	    !account_charge(attachment->session->account, CHARGE_WATCHES, 1, limit))
		return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(CHARGE_WATCHES),
					 limit);
	attachment->watch_charged = true;
	disarm(broker, attachment);
	attachment->watch_sequence = wanted->sequence;
	attachment->watch_size = wanted->size;
	attachment->watch_due = (uint8_t)counted_since(attachment->region, wanted);
	arm(broker, attachment, (unsigned)wanted->types);
	return 0;
}

/* ---- Telling ---- */

static unsigned due(const struct attachment *attachment, uint64_t sequence)
{
	const struct region *region = attachment->region;
	unsigned types = attachment->watch_due;

	if (sequence != attachment->watch_sequence)
		types |= SHMB_EVENT_PUBLISHED;
	if (region->size != attachment->watch_size)
		types |= SHMB_EVENT_RESIZED;
	if (region->removed)
		types |= SHMB_EVENT_REMOVED;
	return types & attachment->watch_types;
}

static void fire(struct broker *broker, struct attachment *attachment, unsigned types,
		 uint64_t sequence)
{
	const struct region *region = attachment->region;
	const struct wire_region_event event = {
		.has = WIRE_HAS(region_event, metadata) | WIRE_HAS(region_event, deaths),
		.handle = attachment->handle,
		.types = types,
		.sequence = sequence,
		.size = region->size,
		.metadata = region->metadata,
		.deaths = region->deaths,
	};

	disarm(broker, attachment);
	peer_notify(attachment->session->peer, WIRE_REGION_EVENT, &event);
}

void region_count(struct region *region, unsigned type)
{
	struct attachment *attachment;

	if (type == SHMB_EVENT_METADATA)
		region->metadata++;
	else
		region->deaths++;
	DL_FOREACH2(region->armed, attachment, next)
		attachment->watch_due |= (uint8_t)type;
}

/*
 * The armed flag is set first and the sequence read after, where a publisher counts first and reads
 * the flag after (see layout/publish.c): one of the two sees the other. The fence keeps our two
 * system calls in that order.
 */
static uint64_t arm_and_read(struct broker *broker, struct region *region)
{
	region_write_word(broker, region, offsetof(struct layout_publish, armed), 1,
			  sizeof(uint32_t));
	atomic_thread_fence(memory_order_seq_cst);
	return region_sequence(broker, region);
}

void region_notify(struct broker *broker, struct region *region)
{
	struct attachment *attachment, *next;
	uint64_t sequence;
	unsigned armed = 0;

	if (!region->armed || broker->leaving) /* what ends then goes on with the next daemon */
		return;
	DL_FOREACH2(region->armed, attachment, next)
		armed |= attachment->watch_types;
	sequence = armed & SHMB_EVENT_PUBLISHED ? arm_and_read(broker, region)
						: region_sequence(broker, region);
	for (attachment = region->armed; attachment; attachment = next) {
		unsigned types = due(attachment, sequence);

		next = attachment->next; /* firing takes it off the list */
		if (types)
			fire(broker, attachment, types, sequence);
	}
}

/* ---- Looking again ---- */

static bool any_due(struct broker *broker, struct region *region)
{
	uint64_t sequence = region_sequence(broker, region);
	struct attachment *attachment;

	DL_FOREACH2(region->armed, attachment, next)
		if (due(attachment, sequence))
			return true;
	return false;
}

/* A part of all at each tick; the list is turned, so that each has its turn. */
static void on_recheck(uv_timer_t *timer)
{
	struct broker *broker = timer->data;
	struct regions *regions = &broker->regions;
	uint64_t n = regions->n_watched / RECHECK_TICKS + 1;

	if (n < RECHECK_LEAST)
		n = regions->n_watched < RECHECK_LEAST ? regions->n_watched : RECHECK_LEAST;
	else if (n > RECHECK_MOST)
		n = RECHECK_MOST;
	while (n-- > 0 && regions->watched) {
		struct region *region = regions->watched;

		DL_DELETE2(regions->watched, region, watched_previous, watched_next);
		DL_APPEND2(regions->watched, region, watched_previous, watched_next);
		if (any_due(broker, region))
			region_notify(broker, region);
	}
}

void watch_init(struct broker *broker)
{
	uv_timer_init(&broker->loop, &broker->recheck);
	broker->recheck.data = broker;
}

void watch_stop(struct broker *broker)
{
	uv_close((uv_handle_t *)&broker->recheck, NULL);
}
