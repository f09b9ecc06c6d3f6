/* SPDX-License-Identifier: MIT */
/*
 * Which mappings are guarded, and what of them has vanished. The handler calls in here, so whatever
 * it needs is free of locks and made of loads, stores and system calls; nothing here takes a lock
 * that a forked child could inherit held. Who gets the signals that are not ours is in sigbus.c.
 */

#include "guard.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fork.h"
#include "map_system.h"
#include "sigbus.h"

enum {
	CHUNK = 256,   /* entries */
	CHUNKS = 4096, /* a million mappings: more than a process can have */
	BITS = 64,
	BUSY_TURNS = 1000, /* of waiting, until it is time to sleep a millisecond at a time */
	/* Of a thread that faults while the mapping is being mended, which is two seconds. Then it
	 * goes on, as the mender may be what this thread is in the middle of: the program has a
	 * handler for another signal, which came there and has touched the mapping. */
	PAUSE_TURNS = BUSY_TURNS + 2000,
};

/* ---- The registry ---- */

/*
 * Written by whoever owns the entry, read by the handler at any time. The entry of a mapping that a
 * thread has just touched is stable; any other may change while it is looked at, and is then none
 * that could be meant.
 */
struct entry {
	_Atomic uintptr_t start, end; /* end 0: not in use */
	_Atomic(struct guarded *) guarded;
	_Atomic uint32_t next_free; /* number plus one */
};

static _Atomic(struct entry *) chunks[CHUNKS];
static _Atomic uint32_t n_entries; /* that were ever used */
static _Atomic uint64_t
	free_entries; /* number plus one of the first, and above it a count of changes */

/* Its chunk is there: whoever counted the entry has made it before. */
static struct entry *entry_at(uint32_t number)
{
	/* acquire: with add_chunk(). */
	return atomic_load_explicit(&chunks[number / CHUNK], memory_order_acquire) + number % CHUNK;
}

/* Return: false: out of memory. Of several threads one makes it. */
static bool add_chunk(uint32_t index)
{
	struct entry *none = NULL, *chunk;

	if (atomic_load(&chunks[index]))
		return true;
	chunk = calloc(CHUNK, sizeof(*chunk));
	if (!chunk)
		return false;
	if (!atomic_compare_exchange_strong(&chunks[index], &none, chunk))
		free(chunk);
	return true;
}

/* Return: number plus one, or 0: there is none. */
static uint32_t take_free_entry(void)
{
	uint64_t head = atomic_load(&free_entries);

	while ((uint32_t)head != 0) {
		uint32_t next = atomic_load(&entry_at((uint32_t)head - 1)->next_free);
		uint64_t changed = ((head >> 32) + 1) << 32 | next;

		if (atomic_compare_exchange_weak(&free_entries, &head, changed))
			return (uint32_t)head;
	}
	return 0;
}

static void give_entry_back(uint32_t number)
{
	uint64_t head = atomic_load(&free_entries), changed;

	do {
		atomic_store(&entry_at(number - 1)->next_free, (uint32_t)head);
		changed = ((head >> 32) + 1) << 32 | number;
	} while (!atomic_compare_exchange_weak(&free_entries, &head, changed));
}

static uint32_t new_entry(void)
{
	uint32_t number = atomic_load(&n_entries);

	do {
		if (number == CHUNK * CHUNKS || !add_chunk(number / CHUNK))
			return 0;
	} while (!atomic_compare_exchange_weak(&n_entries, &number, number + 1));
	return number + 1;
}

int guard_add(struct guarded *guarded, const struct mapping *mapping, _Atomic uint32_t *state,
	      uint32_t lost_bit)
{
	int result = fork_generation(&guarded->generation);
	uint32_t number = result == 0 ? take_free_entry() : 0;
	uintptr_t start = (uintptr_t)mapping->data;
	struct entry *entry;

	if (result < 0)
		return result;
	if (number == 0)
		number = new_entry();
	if (number == 0)
		return SHMB_ENOMEM;
	guarded->mapping = *mapping;
	guarded->state = state;
	guarded->lost_bit = lost_bit;
	guarded->entry = number;
	entry = entry_at(number - 1);
	atomic_store(&entry->guarded, guarded);
	atomic_store(&entry->start, start);
	atomic_store(&entry->end, start + mapping->length); /* last: from now on it counts */
	return 0;
}

static struct guarded *find(uintptr_t address)
{
	uint32_t n = atomic_load(&n_entries);

	for (uint32_t i = 0; i < n; i++) {
		struct entry *entry = entry_at(i);
		uintptr_t end = atomic_load(&entry->end);
		struct guarded *guarded;

		if (address >= end || address < atomic_load(&entry->start))
			continue;
		guarded = atomic_load(&entry->guarded);
		if (atomic_load(&entry->end) == end)
			return guarded;
	}
	return NULL;
}

/* ---- What has vanished ---- */

static size_t n_units(const struct guarded *guarded)
{
	return guarded->mapping.length / guarded->mapping.unit;
}

static size_t map_bytes(const struct guarded *guarded)
{
	return (n_units(guarded) + BITS - 1) / BITS * sizeof(uint64_t);
}

void guard_remove(struct guarded *guarded)
{
	_Atomic uint64_t *lost = atomic_load(&guarded->lost);

	if (guarded->entry == 0)
		return;
	atomic_store(&entry_at(guarded->entry - 1)->end, 0);
	give_entry_back(guarded->entry);
	if (lost)
		munmap(lost, map_bytes(guarded));
	*guarded = (struct guarded){ 0 };
}

/* In the handler. Return: NULL: out of memory. */
static _Atomic uint64_t *lost_units(struct guarded *guarded)
{
	_Atomic uint64_t *lost = atomic_load(&guarded->lost), *made;

	if (lost)
		return lost;
	made = mmap(NULL, map_bytes(guarded), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if ((void *)made == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong(&guarded->lost, &lost, made))
		return made;
	munmap(made, map_bytes(guarded));
	return lost;
}

static bool replace(struct guarded *guarded, size_t first, size_t n)
{
	const struct mapping *mapping = &guarded->mapping;
	_Atomic uint64_t *lost = lost_units(guarded);

	if (!lost)
		return false;
	/* First what tells of it: who sees the zeros and looks finds it. */
	for (size_t i = first; i < first + n; i++)
		atomic_fetch_or(&lost[i / BITS], UINT64_C(1) << i % BITS);
	atomic_fetch_or(guarded->state, guarded->lost_bit);
	return map_zeros(mapping, first * mapping->unit, n * mapping->unit);
}

/* A thread of the lowest priority may have to get on with it. */
static void wait_a_turn(int turns)
{
	if (turns < BUSY_TURNS)
		sched_yield();
	else
		poll(NULL, 0, 1);
}

/* While one mends the mapping others do not replace parts of it, and the other way round. A forked
 * child has no mender. */
static void enter(struct guarded *guarded)
{
	for (int turns = 0;; turns++) {
		atomic_fetch_add(&guarded->n_handling, 1);
		if (!atomic_load(&guarded->paused))
			return;
		if (turns == PAUSE_TURNS || fork_crossed(guarded->generation))
			break;
		atomic_fetch_sub(&guarded->n_handling, 1);
		wait_a_turn(turns);
	}
	/* seq_cst: we say so and then note what is lost; who mends forgets that and then looks. */
	atomic_fetch_add(&guarded->n_intruders, 1);
}

bool guard_handle(const void *address, size_t bytes)
{
	struct guarded *guarded = find((uintptr_t)address);
	size_t unit, first, n = 1;
	bool done;

	if (!guarded)
		return false;
	unit = guarded->mapping.unit;
	first = (size_t)((uintptr_t)address - (uintptr_t)guarded->mapping.data) / unit;
	/* A bad piece of memory can be larger than a page of the mapping. */
	if (bytes > unit) {
		first -= first % (bytes / unit);
		n = bytes / unit;
		if (n > n_units(guarded) - first)
			n = n_units(guarded) - first;
	}
	enter(guarded);
	done = replace(guarded, first, n);
	atomic_fetch_sub(&guarded->n_handling, 1);
	return done;
}

void guard_pause(struct guarded *guarded)
{
	/* seq_cst: we say so and then look for those who are in; they come in and then look. */
	atomic_store(&guarded->paused, true);
	for (int turns = 0; atomic_load(&guarded->n_handling) > 0;)
		wait_a_turn(turns < BUSY_TURNS ? turns++ : turns);
	guarded->n_intruders_before = atomic_load(&guarded->n_intruders);
}

void guard_resume(struct guarded *guarded)
{
	atomic_store(&guarded->paused, false);
}

static bool was_intruded(const struct guarded *guarded)
{
	return atomic_load(&guarded->n_intruders) != guarded->n_intruders_before;
}

bool guard_forget(struct guarded *guarded, uint64_t offset, uint64_t length)
{
	_Atomic uint64_t *lost = atomic_load(&guarded->lost);
	size_t unit = guarded->mapping.unit, first = offset / unit;
	size_t end = (size_t)((offset + length + unit - 1) / unit);

	if (was_intruded(guarded))
		return false;
	for (size_t i = first; lost && i < end; i++)
		atomic_fetch_and(&lost[i / BITS], ~(UINT64_C(1) << i % BITS));
	if (!was_intruded(guarded))
		return true;
	for (size_t i = first; lost && i < end; i++)
		atomic_fetch_or(&lost[i / BITS], UINT64_C(1) << i % BITS);
	return false;
}

static bool is_lost(const _Atomic uint64_t *lost, size_t i)
{
	return atomic_load_explicit(&lost[i / BITS], memory_order_relaxed) >> i % BITS & 1;
}

bool guard_find_lost(const struct guarded *guarded, uint64_t offset, uint64_t length,
		     uint64_t *ret_offset, uint64_t *ret_length)
{
	const _Atomic uint64_t *lost = atomic_load(&guarded->lost);
	size_t unit = guarded->mapping.unit, i, end, first;

	if (!lost || length == 0)
		return false;
	end = (size_t)((offset + length - 1) / unit) + 1;
	end = end < n_units(guarded) ? end : n_units(guarded);
	for (i = offset / unit; i < end && !is_lost(lost, i); i++)
		/* Most of it is not. */
		if (i % BITS == 0 && atomic_load(&lost[i / BITS]) == 0)
			i += BITS - 1;
	if (i >= end)
		return false;
	first = i;
	while (i < end && is_lost(lost, i))
		i++;
	*ret_offset = (uint64_t)first * unit;
	*ret_length = (uint64_t)(i - first) * unit;
	return true;
}
