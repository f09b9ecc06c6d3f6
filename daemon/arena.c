/* SPDX-License-Identifier: MIT */
/*
 * Semaphores and the arenas they lie in. What is in an arena is looked at through a guard, and
 * where its semaphores lie is known from here alone.
 */
#include "arena.h"

#include "account.h"
#include "broker.h"
#include "cost.h"
#include "guard.h"
#include "remember.h"
#include "session.h"
#include "slots.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

enum {
	/* Of work on a slot between two looks at how long the loop has stood still. */
	UNDO_NS = 500000,
};

/* ---- Arenas ---- */

int semaphore_arena_fd(struct broker *broker, const struct arena *arena)
{
	return segment_borrow(&broker->segments, broker->instance.id, &arena->segments,
			      SEGMENT_LOCK);
}

static int open_guard(struct broker *broker, const struct arena *arena, struct guard *guard)
{
	int fd = semaphore_arena_fd(broker, arena);

	return fd < 0 ? fd : guard_open(guard, fd, LAYOUT_ARENA_BYTES);
}

static void *unit_at(const struct guard *guard, uint32_t unit)
{
	return (char *)guard->data + (size_t)unit * LAYOUT_ARENA_UNIT;
}

static struct layout_counting *counting_at(const struct guard *guard,
					   const struct semaphore *semaphore)
{
	return unit_at(guard, semaphore->unit);
}

static struct layout_owned *owned_at(const struct guard *guard, const struct semaphore *semaphore)
{
	return unit_at(guard, semaphore->unit);
}

/* The first unit from @unit on that is taken, or free; LAYOUT_ARENA_UNITS: none. */
static uint32_t next_unit(const struct arena *arena, uint32_t unit, bool taken)
{
	for (; unit < LAYOUT_ARENA_UNITS; unit = (unit / 64 + 1) * 64) {
		uint64_t word = arena->taken[unit / 64];
		uint64_t wanted = (taken ? word : ~word) >> (unit % 64);

		if (wanted)
			return unit + (uint32_t)__builtin_ctzll(wanted);
	}
	return LAYOUT_ARENA_UNITS;
}

static void mark(struct arena *arena, uint32_t unit, uint32_t n, bool taken)
{
	for (uint32_t i = unit; i < unit + n; i++) {
		if (taken)
			arena->taken[i / 64] |= UINT64_C(1) << (i % 64);
		else
			arena->taken[i / 64] &= ~(UINT64_C(1) << (i % 64));
	}
	arena->n_free = taken ? arena->n_free - n : arena->n_free + n;
}

/* The first @n free units in a row. Return: 0 if there are none. By runs and not by units, as a
 * user can have a thousand arenas in which there is no room. */
static uint32_t find_units(const struct arena *arena, uint32_t n)
{
	uint32_t unit = LAYOUT_ARENA_FIRST;

	if (arena->n_free < n)
		return 0;
	while ((unit = next_unit(arena, unit, false)) + n <= LAYOUT_ARENA_UNITS) {
		uint32_t end = next_unit(arena, unit, true);

		if (end - unit >= n)
			return unit;
		unit = end;
	}
	return 0;
}

/* The dead one may have been woken and not have taken, have posted and not have woken, or have
 * cleared SLEEPERS and not have woken: whoever sleeps looks for itself. Return: how many were
 * woken, at most SLOTS_WAKES. */
static int undo_semaphore(const struct guard *guard, const struct semaphore *semaphore,
			  uint32_t slot)
{
	_Atomic uint32_t *word;

	if (semaphore->kind == SHMB_OWNED) {
		layout_owned_return(owned_at(guard, semaphore), semaphore->maximum, slot);
		word = &owned_at(guard, semaphore)->gate;
	} else {
		word = &counting_at(guard, semaphore)->value;
	}
	if (!(atomic_load(word) & LAYOUT_SLEEPERS) &&
	    !layout_arena_waits(guard->data, slot, semaphore->unit))
		return 0;
	return slots_wake(word, SLOTS_WAKES);
}

/* Return: true: the slot is undone on all semaphores; false: go on later. */
static bool undo_some(struct arena *arena, const struct guard *guard, uint32_t slot)
{
	uint64_t until = uv_hrtime() + UNDO_NS;
	struct semaphore *semaphore;

	DL_FOREACH(arena->semaphores, semaphore) {
		if (semaphore->undone == arena->pass)
			continue;
		if (undo_semaphore(guard, semaphore, slot) == SLOTS_WAKES &&
		    ++arena->chunks < SLOTS_WAKE_ROUNDS)
			return false;
		arena->chunks = 0;
		semaphore->undone = arena->pass;
		if (uv_hrtime() >= until)
			return false;
	}
	return true;
}

static int undo(struct broker *broker, void *object, uint32_t slot, uint32_t round)
{
	struct arena *arena = object;
	struct guard guard;
	bool done;
	int result = open_guard(broker, arena, &guard);

	if (result < 0)
		return slots_unreachable(result);
	if (round == 0) {
		arena->pass++;
		arena->chunks = 0;
	}
	done = undo_some(arena, &guard, slot);
	if (done)
		layout_arena_repair_slot(guard.data, slot);
	guard_close(&guard);
	return done ? 0 : SLOTS_MORE;
}

static int make_segment(struct broker *broker, struct arena *arena)
{
	const struct layout_arena header = { .magic = LAYOUT_ARENA_MAGIC,
					     .version = LAYOUT_ARENA_VERSION };
	size_t length = offsetof(struct layout_arena, slots);
	int result = segments_create(&arena->segments, broker->instance.id, SEGMENT_LOCK,
				     region_in_pages(broker, LAYOUT_ARENA_BYTES));
	int fd;

	if (result < 0)
		return result;
	fd = semaphore_arena_fd(broker, arena);
	if (fd < 0)
		return fd;
	errno = EIO;
	if (pwrite(fd, &header, length, 0) != (ssize_t)length)
		return -errno;
	return store_keep(&broker->store, &arena->segments, SEGMENT_BIT(SEGMENT_LOCK));
}

static void arena_free(struct broker *broker, struct arena *arena)
{
	if (!arena)
		return;
	segment_forget(&broker->segments, arena->segments.id);
	region_destroy_segments(broker, arena->uid, &arena->segments, LAYOUT_ARENA_BYTES);
	slots_free(broker, arena->slots);
	free(arena);
}

static struct arena *arena_new(const struct backing *backing, uint64_t id)
{
	struct arena *arena = calloc(1, sizeof(*arena));

	if (!arena)
		return NULL;
	segments_init(&arena->segments, backing, backing, id);
	arena->n_free = LAYOUT_ARENA_UNITS - LAYOUT_ARENA_FIRST;
	arena->slots = slots_new(LAYOUT_ARENA_SLOTS, undo, arena);
	if (arena->slots)
		return arena;
	free(arena);
	return NULL;
}

static struct cost arena_cost(const struct broker *broker, const struct backing *backing)
{
	return cost_of_memory(backing, region_in_pages(broker, LAYOUT_ARENA_BYTES));
}

static int make_arena(struct broker *broker, struct session *session, uint32_t mode,
		      struct arena **ret_arena, struct failure *failure)
{
	const struct backing *backing = region_default_backing(broker);
	struct cost cost = arena_cost(broker, backing);
	struct arena *arena;
	int result = cost_charge(broker, session->account, cost, failure);

	if (result != 0)
		return result;
	arena = arena_new(backing, ++broker->regions.next_id);
	result = arena ? make_segment(broker, arena) : -ENOMEM;
	if (result < 0) {
		arena_free(broker, arena);
		cost_uncharge(broker, session->account, cost);
		return answer_fail_system(failure, result, "making the semaphores' memory");
	}
	arena->uid = session->identity.uid;
	arena->gid = session->identity.gid;
	arena->mode = (uint16_t)mode;
	arena->account = account_get(&broker->accounts, arena->uid);
	DL_PREPEND(broker->arenas, arena);
	manifest_owe(&broker->manifest, OWED_END);
	remember_arena(broker, arena);
	*ret_arena = arena;
	return 0;
}

static void end_arena(struct broker *broker, struct arena *arena)
{
	struct account *account = arena->account;
	const struct backing *backing = arena->segments.backing;

	DL_DELETE(broker->arenas, arena);
	manifest_owe(&broker->manifest, -OWED_END);
	forget_arena(broker, arena);
	arena_free(broker, arena);
	cost_uncharge(broker, account, arena_cost(broker, backing));
	account_put(account);
}

/* Whoever may use one semaphore of an arena could be given all: owner, group and mode are the same.
 */
static struct arena *find_arena(struct broker *broker, const struct session *session, uint32_t mode,
				uint32_t n_units, uint32_t *ret_unit)
{
	struct arena *arena;

	DL_FOREACH(broker->arenas, arena) {
		if (arena->uid != session->identity.uid || arena->gid != session->identity.gid ||
		    arena->mode != mode)
			continue;
		*ret_unit = find_units(arena, n_units);
		if (*ret_unit)
			return arena;
	}
	return NULL;
}

/* ---- Semaphores ---- */

/* Its place may have been another's before, whose end is remembered first. */
static int prepare(struct broker *broker, const struct semaphore *semaphore, uint32_t initial)
{
	struct guard guard;
	int result;

	manifest_commit(&broker->manifest);
	result = open_guard(broker, semaphore->arena, &guard);
	if (result < 0)
		return result;
	memset(unit_at(&guard, semaphore->unit), 0, (size_t)semaphore->n_units * LAYOUT_ARENA_UNIT);
	if (semaphore->kind == SHMB_COUNTING)
		atomic_store(&counting_at(&guard, semaphore)->value, 2 * initial);
	if (guard_close(&guard))
		return 0;
	return guard_error(semaphore_arena_fd(broker, semaphore->arena), LAYOUT_ARENA_BYTES);
}

static int place(struct broker *broker, struct semaphore *semaphore, struct session *session,
		 uint32_t mode, struct failure *failure)
{
	uint32_t unit = LAYOUT_ARENA_FIRST;
	struct arena *arena = find_arena(broker, session, mode, semaphore->n_units, &unit);
	int result = 0;

	if (!arena)
		result = make_arena(broker, session, mode, &arena, failure);
	if (result != 0)
		return result;
	semaphore->arena = arena;
	// NOLINTNEXTLINE(clang-analyzer-core.NullDereference) one was made if the result is 0
	semaphore->unit = arena->semaphores ? unit : LAYOUT_ARENA_FIRST;
	mark(arena, semaphore->unit, semaphore->n_units, true);
	DL_APPEND(arena->semaphores, semaphore);
	return 0;
}

int semaphore_make(struct broker *broker, struct region *object, struct session *session,
		   const struct region_request *request, struct failure *failure)
{
	struct semaphore *semaphore = calloc(1, sizeof(*semaphore));
	int result;

	if (!semaphore)
		return answer_fail_system(failure, ENOMEM, "semaphore");
	semaphore->kind = request->semaphore_kind;
	semaphore->maximum = request->maximum;
	semaphore->n_units =
		semaphore->kind == SHMB_OWNED ? layout_owned_units(semaphore->maximum) : 1;
	result = place(broker, semaphore, session, request->mode, failure);
	if (result != 0) {
		free(semaphore);
		return result;
	}
	result = prepare(broker, semaphore, request->initial);
	if (result < 0) {
		semaphore_free(broker, semaphore);
		return answer_fail_system(failure, result, "preparing a semaphore");
	}
	object->semaphore = semaphore;
	return 0;
}

void semaphore_free(struct broker *broker, struct semaphore *semaphore)
{
	struct arena *arena = semaphore->arena;

	DL_DELETE(arena->semaphores, semaphore);
	mark(arena, semaphore->unit, semaphore->n_units, false);
	free(semaphore);
	if (!arena->semaphores)
		end_arena(broker, arena);
}

/* ---- Members ---- */

struct member *semaphore_member(struct session *session, uint64_t arena)
{
	struct member *member;

	HASH_FIND(hh, session->members, &arena, sizeof(arena), member);
	return member;
}

/* The memory in which a session's threads will say that they sleep. */
static int reserve_slot(struct broker *broker, const struct arena *arena, uint32_t slot)
{
	size_t offset = (size_t)slot * LAYOUT_ARENA_UNIT;
	int fd;

	if (offset < (size_t)sysconf(_SC_PAGESIZE)) /* with the header */
		return 0;
	fd = semaphore_arena_fd(broker, arena);
	return fd < 0 ? fd : guard_touch(fd, LAYOUT_ARENA_BYTES, offset);
}

static int take_slot(struct broker *broker, struct member *member, struct failure *failure)
{
	struct slots *slots = member->arena->slots;
	uint32_t slot = slots_take(slots, member);
	int result;

	if (!slot)
		return answer_fail_limit(failure, SHMB_ESLOTS, "slots", LAYOUT_ARENA_SLOTS);
	result = reserve_slot(broker, member->arena, slot);
	if (result < 0) {
		slots_release(broker, slots, slot);
		return answer_fail_system(failure, result, "making room for a slot");
	}
	member->slot = slot;
	return 0;
}

static struct member *member_new(struct session *session, struct arena *arena)
{
	struct member *member = calloc(1, sizeof(*member));

	if (!member)
		return NULL;
	member->arena = arena;
	member->session = session;
	member->id = arena->segments.id;
	HASH_ADD(hh, session->members, id, sizeof(member->id), member);
	if (TABLE_HAS(member))
		return member;
	free(member);
	return NULL;
}

static int join(struct broker *broker, struct session *session, struct arena *arena,
		struct member **ret_member, struct failure *failure)
{
	uint64_t limit = broker->settings.per_user[CHARGE_SLOTS];
	struct member *member;
	int result;

	if (!account_charge(session->account, CHARGE_SLOTS, 1, limit))
		return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(CHARGE_SLOTS),
					 limit);
	member = member_new(session, arena);
	result = member ? take_slot(broker, member, failure)
			: answer_fail_system(failure, ENOMEM, "semaphore");
	if (result == 0) {
		*ret_member = member;
		return 0;
	}
	if (member)
		HASH_DEL(session->members, member);
	free(member);
	account_uncharge(session->account, CHARGE_SLOTS, 1);
	return result;
}

/* A session's last semaphore in the arena was closed. */
static void leave(struct broker *broker, struct member *member)
{
	account_uncharge(member->session->account, CHARGE_SLOTS, 1);
	HASH_DEL(member->session->members, member);
	slots_release(broker, member->arena->slots, member->slot);
	free(member);
}

static struct use *add_use(struct member *member, const struct region *object)
{
	struct use *use = calloc(1, sizeof(*use));

	if (!use)
		return NULL;
	use->member = member;
	use->id = object->segments.id;
	HASH_ADD(hh, member->session->uses, id, sizeof(use->id), use);
	if (!TABLE_HAS(use)) {
		free(use);
		return NULL;
	}
	member->n_uses++;
	return use;
}

static int begin_use(struct broker *broker, struct session *session, struct region *object,
		     struct use **ret_use, struct failure *failure)
{
	struct arena *arena = object->semaphore->arena;
	struct member *member = semaphore_member(session, arena->segments.id);
	int result = 0;

	if (!member)
		result = join(broker, session, arena, &member, failure);
	if (result != 0)
		return result;
	*ret_use = add_use(member, object);
	if (*ret_use)
		return 0;
	if (member->n_uses == 0)
		leave(broker, member);
	return answer_fail_system(failure, ENOMEM, "semaphore");
}

int semaphore_attach(struct broker *broker, struct attachment *attachment, struct failure *failure)
{
	struct session *session = attachment->session;
	struct use *use;
	int result = 0;

	HASH_FIND(hh, session->uses, &attachment->region->segments.id, sizeof(use->id), use);
	if (!use)
		result = begin_use(broker, session, attachment->region, &use, failure);
	if (result != 0)
		return result;
	use->n_attachments++;
	attachment->use = use;
	remember_attachment(broker, attachment);
	return 0;
}

/* If this cannot be done now, the permits come back with the session's last semaphore in the arena.
 * The process lives and has finished what it was doing, so there is nothing else to make good; of
 * more sleepers than slots_wake() wakes, the rest wake when these give, or within a second. */
static void return_permits(struct broker *broker, const struct semaphore *semaphore, uint32_t slot)
{
	struct layout_owned *owned;
	struct guard guard;
	uint32_t n;

	if (semaphore->kind != SHMB_OWNED || open_guard(broker, semaphore->arena, &guard) < 0)
		return;
	owned = owned_at(&guard, semaphore);
	n = layout_owned_return(owned, semaphore->maximum, slot);
	if (n > 0 && atomic_load(&owned->gate) & LAYOUT_SLEEPERS)
		slots_wake(&owned->gate, n);
	guard_close(&guard);
}

void semaphore_detach(struct broker *broker, struct attachment *attachment)
{
	struct session *session = attachment->session;
	struct use *use = attachment->use;
	struct member *member = use->member;

	attachment->use = NULL;
	if (--use->n_attachments > 0)
		return;
	HASH_DEL(session->uses, use);
	free(use);
	if (--member->n_uses == 0)
		leave(broker, member);
	else if (!session->ended)
		return_permits(broker, attachment->region->semaphore, member->slot);
}

/* ---- Looking ---- */

static void look_at_owned(const struct semaphore *semaphore, const struct layout_owned *owned,
			  struct semaphore_state *state)
{
	for (uint32_t i = 0; i < semaphore->maximum; i++) {
		uint32_t slot = layout_owned_holder(owned, i);

		if (slot == 0)
			state->value++;
		else if (slot <= LAYOUT_ARENA_SLOTS && slots_owner(semaphore->arena->slots, slot)) {
			state->parts[slot - 1].permits++;
			state->holder = slots_owner(semaphore->arena->slots, slot);
		}
	}
}

static void look_at_waits(const struct semaphore *semaphore, const struct layout_arena *arena,
			  uint32_t n_slots, struct semaphore_state *state)
{
	for (uint32_t i = 0; i < n_slots; i++) {
		if (!slots_owner(semaphore->arena->slots, i + 1))
			continue;
		for (int j = 0; j < LAYOUT_ARENA_WAITS; j++)
			if (atomic_load(&arena->slots[i].waits[j]) == semaphore->unit)
				state->parts[i].waiting++;
		state->waiting += state->parts[i].waiting;
	}
}

/* The slots that are in use, and behind them the semaphore. */
static int copy(struct broker *broker, const struct semaphore *semaphore, char *words,
		size_t slots_bytes, size_t own_bytes)
{
	int fd = semaphore_arena_fd(broker, semaphore->arena);
	int result = fd < 0 ? fd : guard_read(fd, words, slots_bytes, 0);

	if (result == 0)
		result = guard_read(fd, words + slots_bytes, own_bytes,
				    (size_t)semaphore->unit * LAYOUT_ARENA_UNIT);
	return result;
}

static void look_at(const struct semaphore *semaphore, const void *own,
		    const struct layout_arena *arena, uint32_t n_slots,
		    struct semaphore_state *state)
{
	memset(state, 0, sizeof(*state));
	if (semaphore->kind == SHMB_OWNED)
		look_at_owned(semaphore, own, state);
	else
		state->value = layout_counting_value(own);
	look_at_waits(semaphore, arena, n_slots, state);
}

int semaphore_look(struct broker *broker, const struct semaphore *semaphore,
		   struct semaphore_state *ret_state)
{
	uint32_t n_slots = slots_highest(semaphore->arena->slots);
	size_t slots_bytes = (n_slots + 1) * sizeof(struct layout_arena_slot); /* with unit 0 */
	size_t own_bytes = (size_t)semaphore->n_units * LAYOUT_ARENA_UNIT;
	void *words = malloc(slots_bytes + own_bytes);
	int result;

	if (!words)
		return -ENOMEM;
	result = copy(broker, semaphore, words, slots_bytes, own_bytes);
	if (result == 0)
		look_at(semaphore, (char *)words + slots_bytes, words, n_slots, ret_state);
	free(words);
	return result;
}

/* ---- Recovery ---- */

struct arena *arena_recover(struct broker *broker, const struct arena_request *request)
{
	struct account *account = account_get(&broker->accounts, request->uid);
	struct arena *arena = account ? arena_new(request->backing, request->id) : NULL;

	if (!arena) {
		account_put(account);
		return NULL;
	}
	arena->uid = request->uid;
	arena->gid = request->gid;
	arena->mode = (uint16_t)request->mode;
	arena->account = account;
	cost_charge_recovered(broker, account, arena_cost(broker, request->backing));
	DL_PREPEND(broker->arenas, arena);
	manifest_owe(&broker->manifest, OWED_END);
	return arena;
}

void arena_recovered(struct broker *broker, struct arena *arena)
{
	if (!arena->semaphores)
		end_arena(broker, arena);
}

static bool all_free(const struct arena *arena, uint32_t unit, uint32_t n)
{
	return unit >= LAYOUT_ARENA_FIRST && n <= LAYOUT_ARENA_UNITS &&
	       unit <= LAYOUT_ARENA_UNITS - n && next_unit(arena, unit, true) >= unit + n;
}

int semaphore_recover(struct arena *arena, struct region *object, uint32_t unit,
		      const struct region_request *request)
{
	uint32_t n_units =
		request->semaphore_kind == SHMB_OWNED ? layout_owned_units(request->maximum) : 1;
	struct semaphore *semaphore;

	if (!all_free(arena, unit, n_units))
		return -EINVAL;
	semaphore = calloc(1, sizeof(*semaphore));
	if (!semaphore)
		return -ENOMEM;
	semaphore->kind = request->semaphore_kind;
	semaphore->maximum = request->maximum;
	semaphore->n_units = n_units;
	semaphore->unit = unit;
	semaphore->arena = arena;
	mark(arena, unit, n_units, true);
	DL_APPEND(arena->semaphores, semaphore);
	object->semaphore = semaphore;
	return 0;
}

/* Slots of which something is left: in themselves, or as the holder of a permit. */
static void find_named(const struct arena *arena, const unsigned char *memory, bool *named)
{
	static const struct layout_arena_slot empty;
	const struct layout_arena *layout = (const void *)memory;
	const struct semaphore *semaphore;

	for (uint32_t i = 0; i < LAYOUT_ARENA_SLOTS; i++)
		// NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*) a copy; no padding
		named[i] = memcmp(&layout->slots[i], &empty, sizeof(empty)) != 0;
	DL_FOREACH(arena->semaphores, semaphore) {
		const void *own = memory + (size_t)semaphore->unit * LAYOUT_ARENA_UNIT;

		for (uint32_t i = 0; semaphore->kind == SHMB_OWNED && i < semaphore->maximum; i++) {
			uint32_t slot = layout_owned_holder(own, i);

			if (slot > 0 && slot <= LAYOUT_ARENA_SLOTS)
				named[slot - 1] = true;
		}
	}
}

int arena_sweep(struct broker *broker, struct arena *arena)
{
	bool named[LAYOUT_ARENA_SLOTS];
	unsigned char *memory = malloc(LAYOUT_ARENA_BYTES);
	int fd = semaphore_arena_fd(broker, arena);
	int result = memory ? fd : -ENOMEM;

	if (result >= 0)
		result = guard_read(fd, memory, LAYOUT_ARENA_BYTES, 0);
	if (result >= 0) {
		find_named(arena, memory, named);
		for (uint32_t i = 0; i < LAYOUT_ARENA_SLOTS; i++)
			if (named[i])
				slots_sweep(broker, arena->slots, i + 1);
	}
	free(memory);
	return result < 0 ? slots_unreachable(result) : 0;
}

int semaphore_recover_attachment(struct attachment *attachment, uint32_t slot)
{
	struct session *session = attachment->session;
	struct region *object = attachment->region;
	struct arena *arena = object->semaphore->arena;
	struct member *member = semaphore_member(session, arena->segments.id);
	struct use *use;

	if (!member) {
		member = member_new(session, arena);
		if (!member)
			return -ENOMEM;
		if (!slots_put(arena->slots, slot, member)) {
			HASH_DEL(session->members, member);
			free(member);
			return -EINVAL;
		}
		member->slot = slot;
		account_charge(session->account, CHARGE_SLOTS, 1, UINT64_MAX);
	}
	HASH_FIND(hh, session->uses, &object->segments.id, sizeof(use->id), use);
	if (!use)
		use = add_use(member, object);
	if (!use)
		return -ENOMEM; /* a member without a use goes with the session */
	use->n_attachments++;
	attachment->use = use;
	return 0;
}
