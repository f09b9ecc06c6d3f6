/* SPDX-License-Identifier: MIT */
/*
 * The ledger of a lot, exact under kill -9 of who keeps it. Knows nothing of what the facts mean.
 */

#include <stdio.h>

#include "keep.h"

static uint64_t changes_of(uint64_t word)
{
	return word >> 8;
}

static unsigned which_of(uint64_t word)
{
	return (unsigned)(word & 1);
}

void lot_begin(struct lot *lot, enum intent intent, const struct facts *intended)
{
	uint64_t word = atomic_load(&lot->state);
	unsigned which = which_of(word);

	lot->facts[!which] = *intended;
	atomic_store(&lot->state, lot_word(changes_of(word) + 1, intent, which));
}

void lot_revise(struct lot *lot, const struct facts *intended)
{
	lot->facts[!which_of(atomic_load(&lot->state))] = *intended;
}

void lot_end(struct lot *lot, bool done)
{
	uint64_t word = atomic_load(&lot->state);
	unsigned which = which_of(word) ^ done;

	atomic_store(&lot->state, lot_word(changes_of(word) + 1, INTENT_NOTHING, which));
}

struct facts lot_facts(const struct lot *lot)
{
	return lot->facts[which_of(atomic_load(&lot->state))];
}

struct facts lot_intended(const struct lot *lot)
{
	return lot->facts[!which_of(atomic_load(&lot->state))];
}

bool lot_peek(const struct lot *lot, struct facts *ret_facts, uint64_t *ret_word)
{
	uint64_t word = atomic_load(&lot->state);

	if (lot_intent(word) != INTENT_NOTHING)
		return false;
	*ret_facts = lot->facts[which_of(word)];
	*ret_word = word;
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load(&lot->state) == word;
}

void keep_tally(struct keeper *keeper, enum keep_tally tally)
{
	atomic_fetch_add_explicit(&keeper->page->tallies[tally], 1, memory_order_relaxed);
}

const char *keep_why(struct keeper *keeper, int result, char buffer[160])
{
	struct shmb_client *clients[] = { keeper->client, keeper->other };
	struct shmb_error error = { .struct_size = sizeof(error) };
	int at = snprintf(buffer, 160, "%s; the last errors:", storm_result(result));

	for (unsigned i = 0; i < 2 && at < 160; i++)
		if (clients[i] && shmb_client_last_error(clients[i], &error) == 0)
			at += snprintf(buffer + at, 160 - (size_t)at, " %s (%s)",
				       storm_result(error.code), error.what);
	return buffer;
}

enum lot_kind lot_kind(unsigned lot)
{
	static const enum lot_kind others[LOTS - LOTS_REGIONS] = { LOT_LOCK, LOT_COUNTING,
								   LOT_COUNTING, LOT_OWNED,
								   LOT_OWNED };

	return lot < LOTS_REGIONS ? LOT_REGION : others[lot - LOTS_REGIONS];
}

const char *keep_name(unsigned place, unsigned lot, char buffer[64])
{
	(void)snprintf(buffer, 64, "keep/%u/%c%u", place, "rlco"[lot_kind(lot)], lot);
	return buffer;
}
