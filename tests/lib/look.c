/* SPDX-License-Identifier: MIT */
/*
 * What locks and semaphores look like from outside: the conditions that tests wait for, so that
 * nothing has to sleep until another process "should" be waiting. And threads of this one.
 *
 * Uses the public library alone, and /proc.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

static char state_of(pid_t task)
{
	char path[64], line[512] = "";
	const char *name_end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)task);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file)) /* it has ended */
		strcpy(line, ") S");
	if (file)
		fclose(file);
	name_end = strrchr(line, ')');
	CHECK(name_end);
	return name_end[2];
}

void await_asleep(pid_t task)
{
	while (state_of(task) != 'S')
		sched_yield();
}

struct shmb_lock_info look_at_lock(struct shmb_client *client, const char *name)
{
	struct shmb_lock_info info = { .struct_size = sizeof(info) };

	CHECK_OK(shmb_lock_stat(client, name, &info));
	return info;
}

struct shmb_semaphore_info look_at_semaphore(struct shmb_client *client, const char *name)
{
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };

	CHECK_OK(shmb_semaphore_stat(client, name, &info));
	return info;
}

static int keep_holder(const struct shmb_holder *holder, void *userdata)
{
	struct holders *holders = userdata;

	if (holders->n < HOLDERS_MAX)
		holders->all[holders->n] = *holder;
	holders->n++;
	return 0;
}

struct holders look_at_holders(struct shmb_client *client, const char *name)
{
	struct holders holders = { .n = 0 };

	CHECK_OK(shmb_client_holders(client, name, keep_holder, &holders));
	return holders;
}

const struct shmb_holder *find_holder(const struct holders *holders, pid_t pid)
{
	size_t i;

	for (i = 0; i < holders->n && i < HOLDERS_MAX; i++)
		if (holders->all[i].process.pid == (uint32_t)pid)
			return &holders->all[i];
	return NULL;
}

struct shmb_lock *create_lock(struct shmb_client *client, const char *name, uint32_t mode,
			      enum shmb_lifetime lifetime)
{
	struct shmb_lock_options options = SHMB_LOCK_OPTIONS_INIT;
	struct shmb_lock *lock = NULL;

	options.mode = mode;
	options.lifetime = lifetime;
	CHECK_OK(shmb_lock_create(client, name, &options, &lock));
	keep_reachable(lock);
	return lock;
}

struct shmb_lock *open_lock(struct shmb_client *client, const char *name)
{
	struct shmb_lock *lock = NULL;

	CHECK_OK(shmb_lock_open(client, name, &lock));
	keep_reachable(lock);
	return lock;
}

struct shmb_semaphore *create_semaphore(struct shmb_client *client, const char *name,
					enum shmb_semaphore_kind kind, uint32_t initial,
					uint32_t maximum, uint32_t mode)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_semaphore *semaphore = NULL;

	options.kind = kind;
	options.initial = initial;
	options.maximum = maximum;
	options.mode = mode;
	CHECK_OK(shmb_semaphore_create(client, name, &options, &semaphore));
	keep_reachable(semaphore);
	return semaphore;
}

struct shmb_semaphore *open_semaphore(struct shmb_client *client, const char *name)
{
	struct shmb_semaphore *semaphore = NULL;

	CHECK_OK(shmb_semaphore_open(client, name, &semaphore));
	keep_reachable(semaphore);
	return semaphore;
}
