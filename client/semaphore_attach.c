/* SPDX-License-Identifier: MIT */
/*
 * Semaphores: made and opened, let go, and the arenas that they lie in.
 *
 * The broker gives a session a slot in an arena with the first semaphore that it opens there, and
 * takes it back with the last that it closes. Every answer to an open says the slot. As long as a
 * handle is open at the broker its slot stays, so an answer that has not been looked at yet is as
 * true as the day it was sent, whatever else was closed meanwhile, and all handles that are open in
 * an arena at a time have the same slot. So an arena is mapped as long as we have a handle there,
 * and when the next comes after the last has gone it is asked for and mapped anew.
 */

#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "client.h"
#include "guard.h"
#include "map.h"
#include "output.h"
#include "semaphore.h"
#include "sized.h"

enum { MODE_ALL = 0777 };

/* ---- The tables; the mutex is held ---- */

static struct arena **arena_bucket(struct shmb_client *client, uint64_t id)
{
	return &client->arenas[id % ARENA_BUCKETS];
}

static struct semaphore **semaphore_bucket(struct shmb_client *client, uint64_t id)
{
	return &client->semaphores[id % SEMAPHORE_BUCKETS];
}

static struct arena *find_arena(struct shmb_client *client, uint64_t id)
{
	struct arena *arena = *arena_bucket(client, id);

	while (arena && arena->id != id)
		arena = arena->next;
	return arena;
}

static struct semaphore *find_semaphore(struct shmb_client *client, uint64_t id)
{
	struct semaphore *semaphore = *semaphore_bucket(client, id);

	while (semaphore && semaphore->id != id)
		semaphore = semaphore->next;
	return semaphore;
}

static struct arena *arena_free(struct arena *arena)
{
	if (arena) {
		guard_remove(&arena->guarded);
		map_release(&arena->mapping);
	}
	free(arena);
	return NULL;
}

static void drop_arena(struct shmb_client *client, struct arena *arena)
{
	struct arena **link = arena_bucket(client, arena->id);

	if (--arena->refs > 0)
		return;
	while (*link != arena)
		link = &(*link)->next;
	*link = arena->next;
	arena_free(arena);
}

static void drop_semaphore(struct shmb_client *client, struct semaphore *semaphore)
{
	struct semaphore **link = semaphore_bucket(client, semaphore->id);

	if (--semaphore->refs > 0)
		return;
	while (*link != semaphore)
		link = &(*link)->next;
	*link = semaphore->next;
	drop_arena(client, semaphore->arena);
	free(semaphore);
}

/* ---- Arenas ---- */

static int map_arena(struct arena *arena, int fd, uint64_t bytes)
{
	int result;

	if (bytes < LAYOUT_ARENA_BYTES)
		return SHMB_EPROTO;
	result = map_segment(fd, LAYOUT_ARENA_BYTES, true, true, &arena->mapping);
	if (result == 0)
		result = guard_add(&arena->guarded, &arena->mapping, &arena->lost, 1);
	if (result < 0)
		return result;
	arena->words = arena->mapping.data;
	if (arena->words->magic != LAYOUT_ARENA_MAGIC ||
	    arena->words->version != LAYOUT_ARENA_VERSION)
		return atomic_load(&arena->lost) ? SHMB_EBUS : SHMB_EPROTO;
	return 0;
}

/* No mutex held. */
static int ask_arena(struct shmb_client *client, struct arena *arena)
{
	struct wire_arena_params params = { .arena = arena->id };
	struct call *call = call_new(WIRE_SEMAPHORE_ARENA);
	int result = call_answer(client, &client->error, call, &params);

	if (result < 0)
		return result;
	result = map_arena(arena, call->fds[0], call->result.arena.bytes);
	if (result < 0)
		error_note(&client->error, result, "map");
	call_free(call);
	return result;
}

/* An arena that the broker has been asked for, if we have none of that id. */
static int prepare_arena(struct shmb_client *client, const struct wire_semaphore_attached *attached,
			 struct arena **ret_arena)
{
	struct arena *arena;
	bool known;
	int result;

	pthread_mutex_lock(&client->mutex);
	known = find_arena(client, attached->arena) != NULL;
	pthread_mutex_unlock(&client->mutex);
	if (known)
		return 0;
	arena = calloc(1, sizeof(*arena));
	if (!arena)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	arena->id = attached->arena;
	arena->slot = (uint32_t)attached->slot;
	result = ask_arena(client, arena);
	if (result < 0)
		arena_free(arena);
	else
		*ret_arena = arena;
	return result;
}

/* ---- Attaching ---- */

/* What the broker says must lie within the segment. */
static int check_place(const struct wire_semaphore_attached *attached)
{
	uint64_t units = 1;

	if (attached->kind == SHMB_OWNED) {
		if (attached->maximum > LAYOUT_PERMITS_MAX)
			return SHMB_EPROTO;
		units = layout_owned_units((uint32_t)attached->maximum);
	}
	return attached->unit + units <= LAYOUT_ARENA_UNITS ? 0 : SHMB_EPROTO;
}

static void fill(struct semaphore *semaphore, const struct wire_semaphore_attached *attached,
		 const struct shmb_client *client)
{
	char *base = semaphore->arena->mapping.data;

	semaphore->words = base + attached->unit * LAYOUT_ARENA_UNIT;
	if (attached->kind == SHMB_OWNED) {
		semaphore->futex = &semaphore->owned->gate;
		semaphore->asleep = &semaphore->owned->asleep;
	} else {
		semaphore->futex = &semaphore->counting->value;
		semaphore->asleep = &semaphore->counting->asleep;
	}
	semaphore->kind = (uint32_t)attached->kind;
	semaphore->maximum = (uint32_t)attached->maximum;
	semaphore->slot = (uint32_t)attached->slot;
	semaphore->unit = (uint32_t)attached->unit;
	semaphore->spin_most = client->spin_ns;
	semaphore->spin_ns = client->spin_ns;
	semaphore->id = attached->id;
}

static bool is_same(const struct semaphore *semaphore,
		    const struct wire_semaphore_attached *attached)
{
	return semaphore->kind == attached->kind && semaphore->maximum == attached->maximum &&
	       semaphore->unit == attached->unit && semaphore->slot == attached->slot &&
	       semaphore->arena->id == attached->arena;
}

/*
 * Find or make the object; the mutex is held.
 * @fresh_arena, @fresh: consumed and set to NULL where they were needed
 *
 * Return: 0, SHMB_EPROTO, or SHMB_EBUSY: the arena that we had has gone meanwhile, ask for it.
 */
static int join(struct shmb_client *client, const struct wire_semaphore_attached *attached,
		struct arena **fresh_arena, struct semaphore **fresh,
		struct semaphore **ret_semaphore)
{
	struct semaphore *semaphore = find_semaphore(client, attached->id);
	struct arena *arena = find_arena(client, attached->arena);

	if (semaphore) {
		if (!is_same(semaphore, attached))
			return SHMB_EPROTO;
		semaphore->refs++;
		*ret_semaphore = semaphore;
		return 0;
	}
	if (!arena && !*fresh_arena)
		return SHMB_EBUSY;
	if (!arena) {
		arena = *fresh_arena;
		*fresh_arena = NULL;
		arena->next = *arena_bucket(client, arena->id);
		*arena_bucket(client, arena->id) = arena;
	} else if (arena->slot != attached->slot) {
		return SHMB_EPROTO;
	}
	arena->refs++;
	semaphore = *fresh;
	*fresh = NULL;
	semaphore->arena = arena;
	fill(semaphore, attached, client);
	semaphore->refs = 1;
	semaphore->next = *semaphore_bucket(client, semaphore->id);
	*semaphore_bucket(client, semaphore->id) = semaphore;
	*ret_semaphore = semaphore;
	return 0;
}

static int find_or_make(struct shmb_client *client, const struct wire_semaphore_attached *attached,
			struct semaphore **ret_semaphore)
{
	struct semaphore *fresh = calloc(1, sizeof(*fresh));
	struct arena *arena = NULL;
	int result;

	if (!fresh)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	do {
		result = prepare_arena(client, attached, &arena);
		if (result < 0)
			break;
		pthread_mutex_lock(&client->mutex);
		result = join(client, attached, &arena, &fresh, ret_semaphore);
		pthread_mutex_unlock(&client->mutex);
		if (result == SHMB_EPROTO)
			error_note(&client->error, result, "semaphore");
	} while (result == SHMB_EBUSY);
	arena_free(arena);
	free(fresh);
	return result;
}

/* @kind: what it must be; 0: either */
static int make_handle(struct shmb_client *client, const struct wire_semaphore_attached *attached,
		       uint32_t kind, struct shmb_semaphore **ret_semaphore)
{
	struct shmb_semaphore *semaphore;
	int result;

	if (check_place(attached) < 0)
		return error_note(&client->error, SHMB_EPROTO, "place");
	if (kind != 0 && attached->kind != kind)
		return error_note(&client->error, SHMB_EKIND, "kind");
	semaphore = calloc(1, sizeof(*semaphore));
	if (!semaphore)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	result = find_or_make(client, attached, &semaphore->shared);
	if (result < 0) {
		free(semaphore);
		return result;
	}
	semaphore->client = client_ref(client);
	semaphore->generation = client->generation;
	semaphore->handle = (uint32_t)attached->handle;
	*ret_semaphore = semaphore;
	return 0;
}

/* What the call has made of it; on failure it is undone. */
static int attach(struct shmb_client *client, struct call *call, uint32_t kind,
		  struct shmb_semaphore **ret_semaphore)
{
	const struct wire_semaphore_attached *attached = &call->result.semaphore_attached;
	struct shmb_semaphore *semaphore = NULL;
	int result = make_handle(client, attached, kind, &semaphore);

	if (!semaphore) {
		pthread_mutex_lock(&client->mutex);
		call_give_back(client, call, true);
		pthread_mutex_unlock(&client->mutex);
		return result;
	}
	semaphore->close_room = call->attach->close_room;
	call->attach->close_room = NULL;
	*ret_semaphore = semaphore;
	return attached->created ? 1 : 0;
}

/* @kind: what it must be; 0: either */
static int run(struct shmb_client *client, enum wire_method_id method, const char *name,
	       const void *params, uint32_t kind, struct shmb_semaphore **ret_semaphore)
{
	struct call *call = call_new_attach(method, name);
	int result = call_answer(client, &client->error, call, params);

	if (result < 0)
		return result;
	result = attach(client, call, kind, ret_semaphore);
	call_free(call);
	return result;
}

/* Fills in the default maximum, too. */
static int check_options(struct shmb_client *client, struct shmb_semaphore_options *options)
{
	bool owned = options->kind == SHMB_OWNED;
	uint32_t most = owned ? LAYOUT_PERMITS_MAX : LAYOUT_SEMAPHORE_MAX;
	const char *wrong = NULL;

	if (options->maximum == 0)
		options->maximum = owned ? 1 : LAYOUT_SEMAPHORE_MAX;
	if (options->kind != SHMB_COUNTING && options->kind != SHMB_OWNED)
		wrong = "kind";
	else if (options->mode & ~(uint32_t)MODE_ALL)
		wrong = "mode";
	else if ((unsigned)options->lifetime > SHMB_PERSISTENT)
		wrong = "lifetime";
	else if (options->maximum > most)
		wrong = "maximum";
	else if (options->initial > (owned ? 0 : options->maximum))
		wrong = "initial";
	return wrong ? error_note(&client->error, SHMB_EINVAL, wrong) : 0;
}

static int create(struct shmb_client *client, const char *name,
		  const struct shmb_semaphore_options *options, bool open_existing,
		  struct shmb_semaphore **ret_semaphore)
{
	struct wire_semaphore_create_params params = {
		.has = WIRE_HAS(semaphore_create_params, mode) |
		       WIRE_HAS(semaphore_create_params, lifetime) |
		       WIRE_HAS(semaphore_create_params, open_existing),
		.open_existing = open_existing,
	};
	struct shmb_semaphore_options own = SHMB_SEMAPHORE_OPTIONS_INIT;
	int result = client_check_name(client, name);

	if (result == 0 && sized_read(&own, sizeof(own), options) < 0)
		result = error_note(&client->error, SHMB_EINVAL, "options");
	if (result == 0)
		result = check_options(client, &own);
	if (result < 0)
		return result;
	params.name = wire_string(name);
	params.kind = own.kind;
	params.mode = own.mode;
	params.lifetime = own.lifetime;
	params.maximum = own.maximum;
	params.initial = own.initial;
	if (own.initial != 0)
		params.has |= WIRE_HAS(semaphore_create_params, initial);
	return run(client, WIRE_SEMAPHORE_CREATE, name, &params, own.kind, ret_semaphore);
}

int shmb_semaphore_create(struct shmb_client *client, const char *name,
			  const struct shmb_semaphore_options *options,
			  struct shmb_semaphore **ret_semaphore)
{
	int result = create(client, name, options, false, ret_semaphore);

	return result < 0 ? result : 0;
}

int shmb_semaphore_open_or_create(struct shmb_client *client, const char *name,
				  const struct shmb_semaphore_options *options,
				  struct shmb_semaphore **ret_semaphore)
{
	return create(client, name, options, true, ret_semaphore);
}

int shmb_semaphore_open(struct shmb_client *client, const char *name,
			struct shmb_semaphore **ret_semaphore)
{
	struct wire_semaphore_name params = { .has = 0 };
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	params.name = wire_string(name);
	result = run(client, WIRE_SEMAPHORE_OPEN, name, &params, 0, ret_semaphore);
	return result < 0 ? result : 0;
}

/* ---- Letting go ---- */

/*
 * Permits come back with the last handle, and before the broker hears of it: after that the slot
 * may be another session's. The broker does the same once more, for us if we die in between.
 */
static void return_permits(struct semaphore *semaphore)
{
	if (semaphore->kind != SHMB_OWNED || semaphore->refs > 1)
		return;
	if (layout_owned_return(semaphore->owned, semaphore->maximum, semaphore->slot) > 0 &&
	    atomic_load(semaphore->futex) & LAYOUT_SLEEPERS)
		semaphore_wake(semaphore);
}

static void leave(struct shmb_semaphore *semaphore)
{
	struct shmb_client *client = semaphore->client;

	pthread_mutex_lock(&client->mutex);
	return_permits(semaphore->shared);
	drop_semaphore(client, semaphore->shared);
	output_close(client, semaphore->close_room, semaphore->handle);
	semaphore->close_room = NULL;
	pthread_mutex_unlock(&client->mutex);
}

/* The child's copy. What a thread of the parent was just changing is left alone. */
static void leave_in_child(struct shmb_semaphore *semaphore)
{
	struct shmb_client *client = semaphore->client;

	if (pthread_mutex_trylock(&client->mutex) != 0)
		return;
	drop_semaphore(client, semaphore->shared);
	pthread_mutex_unlock(&client->mutex);
}

struct shmb_semaphore *shmb_semaphore_free(struct shmb_semaphore *semaphore)
{
	struct shmb_client *client;

	if (!semaphore)
		return NULL;
	client = semaphore->client;
	if (fork_crossed(semaphore->generation))
		leave_in_child(semaphore);
	else
		leave(semaphore);
	free(semaphore->close_room);
	free(semaphore);
	client_unref(client);
	return NULL;
}
