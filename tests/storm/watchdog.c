/* SPDX-License-Identifier: MIT */
/*
 * Nobody sleeps for what is there to be had. Who waits re-checks within a second anyway, so a lost
 * wake-up would show as nothing but a pause; the watchdog therefore looks, again and again, at who
 * waits for what, whether the kernel says that this thread sleeps, and what the broker says of the
 * object. A thread that is seen asleep in the same wait, the object free, at every look of some
 * hundred milliseconds, was forgotten. Neither a busy machine nor a stopped process looks like
 * that: a thread that was woken and gets no processor does not sleep.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "storm.h"

enum {
	FORGOTTEN_US = 500000, /* less than a re-check */
	FORGOTTEN_LOOKS = 10,
	FOREVER_US = 20000000,
};

struct watched {
	uint32_t wait;  /* the wait's number; with a wait begins a new watch */
	int64_t began;  /* first seen */
	int64_t asleep; /* first seen asleep with the object free, and ever since */
	unsigned looks; /* since then */
};

struct watchdog {
	struct storm_control *control;
	struct shmb_client *client;
	struct watched watched[STORM_WORKERS][STORM_THREADS];
	bool free[WAITS];        /* the object is */
	uint32_t drained[WAITS]; /* pid that has claimed the lock, all readers being out */
	char complaint[256];
};

static const char *const names[WAITS] = {
	[WAIT_TABLE_SHARED] = "the table, shared",
	[WAIT_TABLE_EXCLUSIVE] = "the table, exclusive",
	[WAIT_LOCK_SHARED] = "the lock, shared",
	[WAIT_LOCK_EXCLUSIVE] = "the lock, exclusive",
	[WAIT_POOL] = "a permit",
	[WAIT_MUTEX] = "the mutex",
	[WAIT_COUNT] = "the count",
};

struct watchdog *watchdog_new(struct storm_control *control, struct shmb_client *client)
{
	struct watchdog *watchdog = calloc(1, sizeof(*watchdog));

	CHECK(watchdog);
	watchdog->control = control;
	watchdog->client = client;
	return watchdog;
}

struct watchdog *watchdog_free(struct watchdog *watchdog)
{
	free(watchdog);
	return NULL;
}

/* ---- What is free ---- */

static void see_lock(struct watchdog *watchdog, const char *name, enum storm_wait shared,
		     enum storm_wait exclusive)
{
	struct shmb_lock_info info = look_at_lock(watchdog->client, name);

	watchdog->free[shared] = !info.held && !info.pending;
	watchdog->free[exclusive] = watchdog->free[shared] && info.readers == 0;
	watchdog->drained[exclusive] = info.pending && info.readers == 0 ? info.holder.pid : 0;
}

static void see_semaphore(struct watchdog *watchdog, const char *name, enum storm_wait wait)
{
	watchdog->free[wait] = look_at_semaphore(watchdog->client, name).value > 0;
}

/* ---- Who sleeps ---- */

/* Return: as in the third field of proc_pid_stat(5), or 'X' */
static char state_of(pid_t pid, uint32_t tid)
{
	char path[64], line[256], state = 'X';
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%u/stat", (int)pid, tid);
	file = fopen(path, "re");
	if (!file)
		return 'X';
	if (fgets(line, sizeof(line), file) && strrchr(line, ')'))
		state = strrchr(line, ')')[2];
	(void)fclose(file);
	return state;
}

static const char *complain(struct watchdog *watchdog, pid_t pid, enum storm_wait what,
			    const char *how, int64_t us)
{
	(void)snprintf(watchdog->complaint, sizeof(watchdog->complaint),
		       "process %d %s %s for %lld ms", (int)pid, how, names[what],
		       (long long)(us / 1000));
	return watchdog->complaint;
}

static const char *look_at_player(struct watchdog *watchdog, struct watched *watched,
				  struct storm_player_record *player, pid_t pid)
{
	uint32_t what = atomic_load(&player->waits_for), wait = atomic_load(&player->wait);
	int64_t now = storm_now_us();
	bool could_go_on;
	char state;

	if (what == WAIT_NOTHING || what >= WAITS || watched->wait != wait) {
		*watched = (struct watched){ .wait = wait, .began = now };
		return NULL;
	}
	state = state_of(pid, atomic_load(&player->tid));
	could_go_on = watchdog->free[what] || watchdog->drained[what] == (uint32_t)pid;
	if (!could_go_on || state != 'S') {
		watched->looks = 0;
	} else if (watched->looks++ == 0) {
		watched->asleep = now;
	}
	if (watched->looks >= FORGOTTEN_LOOKS && now - watched->asleep > FORGOTTEN_US)
		return complain(watchdog, pid, (enum storm_wait)what, "sleeps though there is",
				now - watched->asleep);
	if (now - watched->began > (int64_t)FOREVER_US * harness_slow())
		return complain(watchdog, pid, (enum storm_wait)what, "waits for",
				now - watched->began);
	return NULL;
}

const char *watchdog_look(struct watchdog *watchdog, const pid_t *pids)
{
	see_lock(watchdog, STORM_TABLE_NAME, WAIT_TABLE_SHARED, WAIT_TABLE_EXCLUSIVE);
	see_lock(watchdog, STORM_LOCK_NAME, WAIT_LOCK_SHARED, WAIT_LOCK_EXCLUSIVE);
	see_semaphore(watchdog, STORM_POOL_NAME, WAIT_POOL);
	see_semaphore(watchdog, STORM_MUTEX_NAME, WAIT_MUTEX);
	see_semaphore(watchdog, STORM_COUNT_NAME, WAIT_COUNT);
	for (unsigned i = 0; i < STORM_WORKERS; i++) {
		for (unsigned n = 0; pids[i] && n < STORM_THREADS; n++) {
			const char *complaint =
				look_at_player(watchdog, &watchdog->watched[i][n],
					       &watchdog->control->workers[i].players[n], pids[i]);

			if (complaint)
				return complaint;
		}
	}
	return NULL;
}
