/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SLOW_DISK_H
#define TESTS_SLOW_DISK_H

/*
 * A disk as slow and as broken as a case wants it, for this process: its msync() stands before
 * libc's. To be included by one file of a program.
 */

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"

static struct disk {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool stuck;       /* nothing gets done until disk_go_on() */
	const char *dead; /* nor, until then, for what is mapped here; NULL: nothing is */
	size_t dead_length;
	unsigned waiting;    /* calls that it keeps waiting */
	unsigned calls;      /* begun so far */
	const char *address; /* of the last one, and its length */
	size_t length;
	int error;   /* errno of the next ones */
	int failing; /* how many */
} disk = { .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

/* What stands before libc's; the rest of the program is hidden. */
#define BEFORE_LIBC __attribute__((visibility("default")))

static inline bool disk_keeps(const char *address)
{
	return disk.stuck ||
	       (disk.dead && address >= disk.dead && address < disk.dead + disk.dead_length);
}

BEFORE_LIBC int msync(void *address, size_t length, int flags)
{
	int error = 0;

	pthread_mutex_lock(&disk.mutex);
	disk.calls++;
	disk.address = address;
	disk.length = length;
	disk.waiting++;
	pthread_cond_broadcast(&disk.cond);
	while (disk_keeps(address))
		pthread_cond_wait(&disk.cond, &disk.mutex);
	disk.waiting--;
	if (disk.failing > 0) {
		disk.failing--;
		error = disk.error;
	}
	pthread_mutex_unlock(&disk.mutex);
	if (error == 0)
		return (int)syscall(SYS_msync, address, length, flags);
	errno = error;
	return -1;
}

static inline void disk_get_stuck(void)
{
	pthread_mutex_lock(&disk.mutex);
	disk.stuck = true;
	pthread_mutex_unlock(&disk.mutex);
}

/* disk_die_for() - the same for one region alone */
static inline void disk_die_for(struct shmb_region *region)
{
	pthread_mutex_lock(&disk.mutex);
	disk.dead = shmb_region_data(region);
	disk.dead_length = (size_t)shmb_region_capacity(region);
	pthread_mutex_unlock(&disk.mutex);
}

static inline void disk_go_on(void)
{
	pthread_mutex_lock(&disk.mutex);
	disk.stuck = false;
	disk.dead = NULL;
	pthread_cond_broadcast(&disk.cond);
	pthread_mutex_unlock(&disk.mutex);
}

/* disk_await_waiting() - until so many calls wait for it */
static inline void disk_await_waiting(unsigned n)
{
	pthread_mutex_lock(&disk.mutex);
	while (disk.waiting < n)
		pthread_cond_wait(&disk.cond, &disk.mutex);
	pthread_mutex_unlock(&disk.mutex);
}

static inline unsigned disk_calls(void)
{
	unsigned calls;

	pthread_mutex_lock(&disk.mutex);
	calls = disk.calls;
	pthread_mutex_unlock(&disk.mutex);
	return calls;
}

/* disk_await_calls() - until there have been so many */
static inline void disk_await_calls(unsigned n)
{
	pthread_mutex_lock(&disk.mutex);
	while (disk.calls < n)
		pthread_cond_wait(&disk.cond, &disk.mutex);
	pthread_mutex_unlock(&disk.mutex);
}

static inline void disk_fail(int error, int times)
{
	pthread_mutex_lock(&disk.mutex);
	disk.error = error;
	disk.failing = times;
	pthread_mutex_unlock(&disk.mutex);
}

/* create_file() - a region of a new file in the broker's directory */
static inline struct shmb_region *create_file(struct broker *broker, struct shmb_client *client,
					      const char *name, uint64_t size)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = SHMB_BACKING_FILE;
	options.path = broker_path(broker, name);
	options.file_flags = SHMB_FILE_CREATE;
	options.mode = 0777;
	return create(client, name, size, &options);
}

/* ---- Threads of this process ---- */

enum { TASKS_MAX = 32 };

struct tasks {
	unsigned n;
	char ids[TASKS_MAX][16];
};

static inline struct tasks look_at_tasks(void)
{
	struct tasks tasks = { .n = 0 };
	DIR *directory = opendir("/proc/self/task");

	CHECK(directory);
	for (struct dirent *entry; (entry = readdir(directory));)
		if (entry->d_name[0] != '.') {
			CHECK(tasks.n < TASKS_MAX);
			snprintf(tasks.ids[tasks.n], sizeof(tasks.ids[0]), "%.15s", entry->d_name);
			tasks.n++;
		}
	closedir(directory);
	return tasks;
}

static inline void *do_nothing(void *argument)
{
	return argument;
}

/* tasks_before() - with the one that a sanitizer adds to a program's first */
static inline struct tasks tasks_before(void)
{
	pthread_t thread;

	CHECK_INT(pthread_create(&thread, NULL, do_nothing, NULL), 0);
	CHECK_INT(pthread_join(thread, NULL), 0);
	return look_at_tasks();
}

static inline unsigned count_threads(void)
{
	return look_at_tasks().n;
}

#endif
