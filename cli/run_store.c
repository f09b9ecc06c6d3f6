/* SPDX-License-Identifier: MIT */
/*
 * The descriptor store: what a broker's memory cannot be found by after its death, kept for the
 * next one, as a service manager does. Knows names and descriptors, and not what they are.
 */

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	/*
	 * The names go to the broker in one string of the environment, of at most 128 KiB with all
	 * that is in it. So many names of 4 characters, each with its colon, are 120 KiB.
	 */
	STORE_MAX = 24576,
	/* What keeper and broker need besides: sockets, files, what is being received. */
	OTHER_FDS = 64,
	/* Giving back less than this takes no time. In blocks of 512 bytes: 16 MiB. */
	SLOW_BLOCKS = 32768,
};

/*
 * Every descriptor here is one more that the broker has open, too. Half of what a process may have
 * is left to it for connections, two descriptors each, and to us while we sort ours out.
 */
static size_t room_within_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur / 2 >= STORE_MAX + OTHER_FDS)
		return STORE_MAX;
	return limit.rlim_cur / 2 > OTHER_FDS ? (size_t)limit.rlim_cur / 2 - OTHER_FDS : 0;
}

bool run_store_make(struct run_store *store)
{
	*store = (struct run_store){ .room = room_within_limit() };
	store->entries = malloc((store->room + 1) * sizeof(*store->entries));
	return store->entries != NULL;
}

/* ---- Letting go ---- */

static void *close_slowly(void *argument)
{
	close((int)(intptr_t)argument);
	return NULL;
}

/* If it is the last one of large memory, that is given back now. The broker must not wait for it:
 * a service manager does this aside, too. */
static void close_aside(int fd)
{
	pthread_attr_t attributes;
	pthread_t thread;
	struct stat info;
	int error;

	if (fstat(fd, &info) < 0 || info.st_blocks < SLOW_BLOCKS ||
	    pthread_attr_init(&attributes) != 0) {
		close(fd);
		return;
	}
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, close_slowly, (void *)(intptr_t)fd);
	pthread_attr_destroy(&attributes);
	if (error != 0)
		close(fd);
}

void run_store_free(struct run_store *store)
{
	for (size_t i = 0; i < store->count; i++)
		close(store->entries[i].fd);
	free(store->entries);
	*store = (struct run_store){ .entries = NULL };
}

/* ---- What the broker says ---- */

static bool is_name(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length < RUN_STORE_NAME && strspn(name, "0123456789abcdef") == length;
}

void run_store_add(struct run_store *store, const char *name, int fd)
{
	struct run_store_entry *entry;

	if (!is_name(name) || store->count >= store->room) {
		close_aside(fd);
		return;
	}
	entry = &store->entries[store->count++];
	entry->fd = fd;
	strcpy(entry->name, name);
}

void run_store_remove(struct run_store *store, const char *name)
{
	size_t kept = 0;

	for (size_t i = 0; i < store->count; i++) {
		if (strcmp(store->entries[i].name, name) == 0)
			close_aside(store->entries[i].fd);
		else
			store->entries[kept++] = store->entries[i];
	}
	store->count = kept;
}

/* ---- Handing over ---- */

static int compare_entries(const void *a, const void *b)
{
	int x = ((const struct run_store_entry *)a)->fd,
	    y = ((const struct run_store_entry *)b)->fd;

	return (x > y) - (x < y);
}

bool run_store_arrange(const struct run_store *store, int first)
{
	/* in this order each goes down, or stays, to where those before it are not any more */
	qsort(store->entries, store->count, sizeof(*store->entries), compare_entries);
	for (size_t i = 0; i < store->count; i++) {
		int from = store->entries[i].fd, to = first + (int)i;

		if (from == to ? fcntl(to, F_SETFD, 0) < 0 : dup2(from, to) < 0)
			return false;
		store->entries[i].fd = to;
	}
	return true;
}

char *run_store_names(const struct run_store *store, const char *last)
{
	char *names = malloc(store->count * RUN_STORE_NAME + strlen(last) + 1), *end = names;

	if (names == NULL)
		return NULL;
	for (size_t i = 0; i < store->count; i++) {
		end = stpcpy(end, store->entries[i].name);
		*end++ = ':';
	}
	strcpy(end, last);
	return names;
}
