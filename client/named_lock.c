/* SPDX-License-Identifier: MIT */
/*
 * Named locks: made and opened, used, let go. How locking works is in lock.c.
 */

#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "client.h"
#include "lock.h"
#include "output.h"
#include "sized.h"

enum { MODE_ALL = 0777 };

struct shmb_lock {
	struct locker locker;
	struct shmb_client *client;
	uint32_t generation;
	uint32_t handle;
	struct output *close_room;
};

/* ---- Making and opening ---- */

static void destroy(struct shmb_lock *lock)
{
	struct shmb_client *client = lock->client;

	locker_deinit(&lock->locker, fork_crossed(lock->generation));
	free(lock->close_room);
	free(lock);
	client_unref(client);
}

static struct shmb_lock *lock_new(struct shmb_client *client)
{
	struct shmb_lock *lock = calloc(1, sizeof(*lock));

	if (!lock)
		return NULL;
	if (locker_init(&lock->locker, client) < 0) {
		free(lock);
		return NULL;
	}
	lock->locker.may_mark = true;
	lock->generation = client->generation;
	lock->client = client_ref(client);
	return lock;
}

static int attach(struct shmb_client *client, struct call *call, struct shmb_lock **ret_lock)
{
	const struct wire_lock_attached *attached = &call->result.lock_attached;
	struct shmb_lock *lock = lock_new(client);
	int result = SHMB_ENOMEM;

	if (lock)
		result = locker_map(&lock->locker, client, call->fds[0], attached->slot,
				    attached->slots);
	if (result < 0) {
		pthread_mutex_lock(&client->mutex);
		call_give_back(client, call, true);
		pthread_mutex_unlock(&client->mutex);
		if (lock)
			destroy(lock);
		return error_note(&client->error, result, "map");
	}
	lock->handle = (uint32_t)attached->handle;
	lock->close_room = call->attach->close_room;
	call->attach->close_room = NULL;
	*ret_lock = lock;
	return attached->created ? 1 : 0;
}

static int run(struct shmb_client *client, enum wire_method_id method, const char *name,
	       const void *params, struct shmb_lock **ret_lock)
{
	struct call *call = call_new_attach(method, name);
	int result = call_answer(client, &client->error, call, params);

	if (result < 0)
		return result;
	result = attach(client, call, ret_lock);
	call_free(call);
	return result;
}

static int check_options(struct shmb_client *client, const struct shmb_lock_options *options)
{
	if (options->mode & ~(uint32_t)MODE_ALL)
		return error_note(&client->error, SHMB_EINVAL, "mode");
	if ((unsigned)options->lifetime > SHMB_PERSISTENT)
		return error_note(&client->error, SHMB_EINVAL, "lifetime");
	if (options->slots > LAYOUT_LOCK_SLOTS_MAX)
		return error_note(&client->error, SHMB_EINVAL, "slots");
	return 0;
}

static int create(struct shmb_client *client, const char *name,
		  const struct shmb_lock_options *options, bool open_existing,
		  struct shmb_lock **ret_lock)
{
	struct wire_lock_create_params params = {
		.has = WIRE_HAS(lock_create_params, mode) | WIRE_HAS(lock_create_params, lifetime) |
		       WIRE_HAS(lock_create_params, open_existing),
		.open_existing = open_existing,
	};
	struct shmb_lock_options own = SHMB_LOCK_OPTIONS_INIT;
	int result = client_check_name(client, name);

	if (result == 0 && sized_read(&own, sizeof(own), options) < 0)
		result = error_note(&client->error, SHMB_EINVAL, "options");
	if (result == 0)
		result = check_options(client, &own);
	if (result < 0)
		return result;
	params.name = wire_string(name);
	params.mode = own.mode;
	params.lifetime = own.lifetime;
	params.slots = own.slots;
	if (own.slots != 0)
		params.has |= WIRE_HAS(lock_create_params, slots);
	return run(client, WIRE_LOCK_CREATE, name, &params, ret_lock);
}

int shmb_lock_create(struct shmb_client *client, const char *name,
		     const struct shmb_lock_options *options, struct shmb_lock **ret_lock)
{
	int result = create(client, name, options, false, ret_lock);

	return result < 0 ? result : 0;
}

int shmb_lock_open_or_create(struct shmb_client *client, const char *name,
			     const struct shmb_lock_options *options, struct shmb_lock **ret_lock)
{
	return create(client, name, options, true, ret_lock);
}

int shmb_lock_open(struct shmb_client *client, const char *name, struct shmb_lock **ret_lock)
{
	struct wire_lock_name params = { .has = 0 };
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	params.name = wire_string(name);
	result = run(client, WIRE_LOCK_OPEN, name, &params, ret_lock);
	return result < 0 ? result : 0;
}

struct shmb_lock *shmb_lock_free(struct shmb_lock *lock)
{
	if (!lock)
		return NULL;
	/* A child lets go of its copy alone. */
	if (!fork_crossed(lock->generation)) {
		locker_abandon(&lock->locker);
		pthread_mutex_lock(&lock->client->mutex);
		output_close(lock->client, lock->close_room, lock->handle);
		lock->close_room = NULL;
		pthread_mutex_unlock(&lock->client->mutex);
	}
	destroy(lock);
	return NULL;
}

/* ---- Using ---- */

static int refuse(struct shmb_lock *lock, int code, const char *what)
{
	return code == SHMB_ETIMEDOUT ? code : error_note(&lock->client->error, code, what);
}

static out_of_line int acquire_slowly(struct shmb_lock *lock, enum shmb_lock_kind kind,
				      int timeout_ms, unsigned flags)
{
	int result;

	if (kind != SHMB_SHARED && kind != SHMB_EXCLUSIVE)
		return refuse(lock, SHMB_EINVAL, "kind");
	result = locker_lock_slowly(&lock->locker, kind, timeout_ms, flags);
	return result < 0 ? refuse(lock, result, "lock") : 0;
}

int shmb_lock_acquire(struct shmb_lock *lock, enum shmb_lock_kind kind, int timeout_ms)
{
	unsigned flags;

	if (unlikely(fork_crossed(lock->generation)))
		return SHMB_EFORKED;
	if (unlikely(!locker_ready(&lock->locker)))
		return refuse(lock, SHMB_EBUS, "lock");
	if (likely(locker_lock_fast(&lock->locker, kind, &flags))) {
		if (likely(locker_still_ready(&lock->locker)))
			return 0;
		flags = LOCKER_GOT;
	}
	return acquire_slowly(lock, kind, timeout_ms, flags);
}

static out_of_line int release_slowly(struct shmb_lock *lock, enum locker_rest rest)
{
	int result = locker_unlock_slowly(&lock->locker, rest);

	return result < 0 ? refuse(lock, result, "not held") : 0;
}

int shmb_lock_release(struct shmb_lock *lock)
{
	enum locker_rest rest;

	if (unlikely(fork_crossed(lock->generation)))
		return SHMB_EFORKED;
	rest = locker_unlock_fast(&lock->locker);
	if (likely(rest == 0) && likely(locker_still_ready(&lock->locker)))
		return 0;
	return release_slowly(lock, rest);
}

int shmb_lock_downgrade(struct shmb_lock *lock)
{
	int result;

	if (fork_crossed(lock->generation))
		return SHMB_EFORKED;
	result = locker_downgrade(&lock->locker);
	if (locker_lost(&lock->locker))
		result = SHMB_EBUS;
	return result < 0 ? refuse(lock, result, "downgrade") : 0;
}

int shmb_lock_mark_consistent(struct shmb_lock *lock)
{
	if (fork_crossed(lock->generation))
		return SHMB_EFORKED;
	if (locker_mark_consistent(&lock->locker) < 0)
		return refuse(lock, locker_lost(&lock->locker) ? SHMB_EBUS : SHMB_EINVAL,
			      "not held");
	return 0;
}

int shmb_lock_reset(struct shmb_lock *lock)
{
	if (fork_crossed(lock->generation))
		return SHMB_EFORKED;
	if (locker_reset(&lock->locker) < 0)
		return refuse(lock, SHMB_EINVAL, "lock is not lost");
	return 0;
}
