/* SPDX-License-Identifier: MIT */
/*
 * Slot tables and the queue of repairs. Knows neither locks nor semaphores.
 */
#include "slots.h"

#include "broker.h"
#include "layout/futex.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

enum {
	/* That the loop may stand still for repairs in one turn. Most take some 10 microseconds;
	 * one in an arena full of semaphores with thousands of sleepers takes 100 ms, in pieces. */
	TURN_NS = 2000000,
	AGAIN_MS = 10,
};

int slots_wake(_Atomic uint32_t *word, uint32_t n)
{
	return futex_wake((const uint32_t *)(const void *)word,
			  n < SLOTS_WAKES ? (int)n : SLOTS_WAKES);
}

int slots_unreachable(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM ? error : 0;
}

static char due_mark; /* its address stands for an owner that is gone */

struct slots *slots_new(uint32_t size, slots_undo_fn *undo, void *object)
{
	struct slots *slots = calloc(1, sizeof(*slots) + size * sizeof(slots->owners[0]));

	if (!slots)
		return NULL;
	slots->undo = undo;
	slots->object = object;
	slots->size = size;
	return slots;
}

struct slots *slots_free(struct broker *broker, struct slots *slots)
{
	if (slots && slots->due > 0)
		DL_DELETE2(broker->repairs.due, slots, previous, next);
	free(slots);
	return NULL;
}

uint32_t slots_take(struct slots *slots, void *owner)
{
	if (slots->used == slots->size)
		return 0;
	for (uint32_t i = 0; i < slots->size; i++) {
		if (!slots->owners[i]) {
			slots->owners[i] = owner;
			slots->used++;
			return i + 1;
		}
	}
	return 0;
}

bool slots_put(struct slots *slots, uint32_t slot, void *owner)
{
	if (slot == 0 || slot > slots->size || slots->owners[slot - 1])
		return false;
	slots->owners[slot - 1] = owner;
	slots->used++;
	return true;
}

void slots_sweep(struct broker *broker, struct slots *slots, uint32_t slot)
{
	if (slots_put(slots, slot, &due_mark))
		slots_release(broker, slots, slot);
}

void *slots_owner(const struct slots *slots, uint32_t slot)
{
	void *owner = slots->owners[slot - 1];

	return owner == &due_mark ? NULL : owner;
}

static void on_more(uv_idle_t *idle)
{
	slots_undo_some(idle->data);
}

uint32_t slots_highest(const struct slots *slots)
{
	uint32_t slot = slots->size;

	while (slot > 0 && !slots_owner(slots, slot))
		slot--;
	return slot;
}

void slots_release(struct broker *broker, struct slots *slots, uint32_t slot)
{
	if (broker->leaving) {
		slots->owners[slot - 1] = NULL;
		slots->used--;
		return;
	}
	slots->owners[slot - 1] = &due_mark;
	if (slots->due++ == 0)
		DL_APPEND2(broker->repairs.due, slots, previous, next);
	uv_idle_start(&broker->repairs.more, on_more); /* for callers that do not undo at once */
}

/* Many calls may come in one turn of the loop; they share its time. */
static bool has_time(struct broker *broker)
{
	struct repairs *repairs = &broker->repairs;
	uint64_t now = uv_now(&broker->loop);

	if (repairs->turn != now) {
		repairs->turn = now;
		repairs->spent_ns = 0;
	}
	return repairs->spent_ns < TURN_NS;
}

static int undo_one(struct broker *broker, struct slots *slots, uint32_t slot)
{
	uint64_t start = uv_hrtime();
	int result = slots->undo(broker, slots->object, slot, slots->round);

	broker->repairs.spent_ns += uv_hrtime() - start;
	return result;
}

/* The first that is due, from @slot on. Return: 0: none. */
static uint32_t next_due(const struct slots *slots, uint32_t slot)
{
	for (; slots->due > 0 && slot <= slots->size; slot++)
		if (slots->owners[slot - 1] == &due_mark)
			return slot;
	return 0;
}

static void undone(struct broker *broker, struct slots *slots, uint32_t slot)
{
	slots->owners[slot - 1] = NULL;
	slots->used--;
	slots->due--;
	slots->begun = slots->round = 0;
	broker->repairs.total++;
}

/* Return: false if one could not be undone now. */
static bool undo_slots(struct broker *broker, struct slots *slots)
{
	uint32_t slot = slots->begun ? slots->begun : next_due(slots, 1);

	while (slot && has_time(broker)) {
		int result = undo_one(broker, slots, slot);

		if (result < 0)
			return false;
		if (result == SLOTS_MORE) {
			slots->begun = slot;
			slots->round++;
			continue;
		}
		undone(broker, slots, slot);
		slot = next_due(slots, slot + 1);
	}
	return true;
}

static void on_again(uv_timer_t *timer)
{
	slots_undo_some(timer->data);
}

void slots_undo_some(struct broker *broker)
{
	struct repairs *repairs = &broker->repairs;
	bool failed = false;

	while (repairs->due && has_time(broker) && !failed) {
		struct slots *slots = repairs->due;

		failed = !undo_slots(broker, slots);
		DL_DELETE2(repairs->due, slots, previous, next);
		if (slots->due > 0) /* others have their turn */
			DL_APPEND2(repairs->due, slots, previous, next);
	}
	if (failed) /* we are out of something, for all of them */
		uv_timer_start(&repairs->again, on_again, AGAIN_MS, 0);
	if (repairs->due && !failed)
		uv_idle_start(&repairs->more, on_more);
	else
		uv_idle_stop(&repairs->more);
}

void slots_init(struct broker *broker)
{
	uv_idle_init(&broker->loop, &broker->repairs.more);
	uv_timer_init(&broker->loop, &broker->repairs.again);
	broker->repairs.more.data = broker->repairs.again.data = broker;
}

void slots_stop(struct broker *broker)
{
	uv_close((uv_handle_t *)&broker->repairs.more, NULL);
	uv_close((uv_handle_t *)&broker->repairs.again, NULL);
}
