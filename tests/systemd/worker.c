/* SPDX-License-Identifier: MIT */
/*
 * A client as a service of the box would be: it has a region with contents, holds the region's lock
 * and a permit, shares a count under a lock with the workers of other users, and keeps the broker
 * busy. Asked through a FIFO, it tells whether all of that is still so. Uses the public header
 * alone, and knows nothing of what is done to the broker.
 *
 *	worker ADDRESS NAME BACKING COUNT DIRECTORY
 *
 * counts in the region COUNT, reads commands from DIRECTORY/NAME.in and answers each with a line in
 *DIRECTORY/NAME.out: "check" (contents=ok region=ok lock=ok permit=ok rounds=ok counted=N) and
 *"quit" (bye N).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmbroker/lock.h>
#include <shmbroker/semaphore.h>
#include <shmbroker/shmbroker.h>

enum {
	WORDS = 4096,
	/* A call that needs the broker waits for it; the box's bounds are below this. */
	PATIENCE_MS = 60000,
	PAUSE_MS = 2, /* so that workers do not keep the broker of two processors from starting */
};

struct worker {
	const char *name, *address, *count_name;
	enum shmb_backing backing;
	struct shmb_client *client;
	struct shmb_region *own, *shared;
	struct shmb_semaphore *semaphore;
	struct shmb_permit permit;
	uint64_t *words; /* of the own region; kept, because a signal handler looks at them */
	uint64_t seed, id, counted;
	char own_name[64], scratch_name[64], semaphore_name[64];
	int failed; /* the first error of a round, 0: none */
	const char *failed_at;
	int in, out;
};

static void die(const char *what, int error)
{
	fprintf(stderr, "worker: %s: %s\n", what, shmb_strerror(error));
	exit(1);
}

static uint64_t word_of(const struct worker *worker, uint64_t index)
{
	return (worker->seed + index) * UINT64_C(0x9e3779b97f4a7c15);
}

/* ---- What it holds ---- */

static void make_own(struct worker *worker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	int result;

	options.backing = worker->backing;
	result = shmb_region_create(worker->client, worker->own_name, WORDS * sizeof(uint64_t),
				    &options, &worker->own);
	if (result == 0)
		result = shmb_region_lock(worker->own, SHMB_EXCLUSIVE, PATIENCE_MS);
	if (result == 0)
		result = shmb_region_info(worker->own, &info);
	if (result < 0)
		die(worker->own_name, result);
	worker->id = info.id;
	worker->words = shmb_region_data(worker->own);
	for (uint64_t i = 0; i < WORDS; i++)
		worker->words[i] = word_of(worker, i);
}

static void make_permit(struct worker *worker)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	int result;

	options.kind = SHMB_OWNED;
	result = shmb_semaphore_create(worker->client, worker->semaphore_name, &options,
				       &worker->semaphore);
	if (result == 0)
		result = shmb_semaphore_take(worker->semaphore, PATIENCE_MS, &worker->permit);
	if (result < 0)
		die(worker->semaphore_name, result);
}

static void share(struct worker *worker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	int result;

	options.mode = 0777;
	options.lifetime = SHMB_PERSISTENT;
	options.backing = worker->backing;
	result = shmb_region_open_or_create(worker->client, worker->count_name, 4096, &options,
					    &worker->shared);
	if (result < 0)
		die(worker->count_name, result);
}

/* ---- What it does all the time ---- */

/* One more, under the lock of all workers; @ret_at tells where it failed. */
static int count(struct worker *worker, const char **ret_at)
{
	uint64_t *counter = shmb_region_data(worker->shared);
	int result;

	*ret_at = "lock";
	result = shmb_region_lock(worker->shared, SHMB_EXCLUSIVE, PATIENCE_MS);
	if (result < 0)
		return result;
	/* Two words that differ only while somebody is in here. */
	if (counter[0] != counter[1]) {
		*ret_at = "two-in-the-lock";
		result = SHMB_EBUSY;
	}
	counter[0]++;
	poll(NULL, 0, 0);
	counter[1]++;
	worker->counted++;
	if (result == 0) {
		*ret_at = "unlock";
		result = shmb_region_unlock(worker->shared);
	}
	return result;
}

/* A region of its own for a moment: all that makes the broker write something down. */
static int scribble(struct worker *worker, const char **ret_at)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region = NULL, *again = NULL;
	uint64_t value = 0;
	int result;

	options.backing = worker->backing;
	options.capacity = 65536;
	*ret_at = "create";
	result = shmb_region_create(worker->client, worker->scratch_name, 4096, &options, &region);
	if (result == 0) {
		*ret_at = "resize";
		result = shmb_region_resize(region, 32768);
	}
	if (result == 0) {
		*ret_at = "write";
		result = shmb_region_write(region, 32000, &worker->counted, sizeof(value), 0);
	}
	if (result == 0) {
		*ret_at = "open";
		result = shmb_region_open(worker->client, worker->scratch_name,
					  SHMB_READ | SHMB_LOCK, NULL, &again);
	}
	if (result == 0) {
		*ret_at = "read";
		result = shmb_region_read(again, 32000, &value, sizeof(value), 0);
	}
	if (result == 0 && value != worker->counted) {
		*ret_at = "read-something-else";
		result = SHMB_EBUSY;
	}
	shmb_region_free(again);
	shmb_region_free(region);
	return result;
}

static void work(struct worker *worker)
{
	const char *at = NULL;
	int result = count(worker, &at);

	if (result == 0)
		result = scribble(worker, &at);
	if (result < 0 && worker->failed == 0) {
		worker->failed = result;
		worker->failed_at = at;
	}
}

/* ---- What it says ---- */

static const char *contents(struct worker *worker)
{
	for (uint64_t i = 0; i < WORDS; i++)
		if (worker->words[i] != word_of(worker, i))
			return "changed";
	return "ok";
}

/* The name leads to the memory that is mapped here: what is written here is read there. */
static const char *region(struct worker *worker)
{
	uint64_t *words = worker->words;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *again = NULL;
	uint64_t value = 0;
	int result = shmb_region_stat(worker->client, worker->own_name, &info);

	if (result == 0 && info.id != worker->id)
		return "another";
	if (result == 0)
		result =
			shmb_region_open(worker->client, worker->own_name, SHMB_READ, NULL, &again);
	if (result < 0)
		return shmb_error_name(result);
	words[0] ^= UINT64_MAX;
	result = shmb_region_read(again, 0, &value, sizeof(value), 0);
	words[0] ^= UINT64_MAX;
	shmb_region_free(again);
	if (result < 0)
		return shmb_error_name(result);
	return value == ~words[0] ? "ok" : "other-memory";
}

static const char *lock(struct worker *worker)
{
	struct shmb_lock_info info = { .struct_size = sizeof(info) };
	int result = shmb_lock_stat(worker->client, worker->own_name, &info);

	if (result < 0)
		return shmb_error_name(result);
	if (info.owner_died || !info.held)
		return "lost";
	return info.holder.pid == (uint32_t)getpid() ? "ok" : "somebody-else";
}

static const char *permit(struct worker *worker)
{
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	int result = shmb_semaphore_stat(worker->client, worker->semaphore_name, &info);

	if (result < 0)
		return shmb_error_name(result);
	if (info.value != 0)
		return "lost";
	return info.holder.pid == (uint32_t)getpid() ? "ok" : "somebody-else";
}

static void answer(struct worker *worker, const char *text)
{
	if (write(worker->out, text, strlen(text)) < 0)
		_exit(1);
}

static struct worker *the_worker;

static void on_look(int number)
{
	int saved = errno;
	bool well = strcmp(contents(the_worker), "ok") == 0;

	answer(the_worker, well ? "contents=ok\n" : "contents=changed\n");
	errno = saved;
}

static void check(struct worker *worker)
{
	char line[512];

	snprintf(line, sizeof(line),
		 "contents=%s region=%s lock=%s permit=%s rounds=%s%s%s counted=%" PRIu64 "\n",
		 contents(worker), region(worker), lock(worker), permit(worker),
		 worker->failed ? worker->failed_at : "ok", worker->failed ? ":" : "",
		 worker->failed ? shmb_error_name(worker->failed) : "", worker->counted);
	answer(worker, line);
}

/* Return: whether to go on. */
static bool serve(struct worker *worker)
{
	char line[64];
	ssize_t length = read(worker->in, line, sizeof(line) - 1);

	if (length < 0)
		return errno == EAGAIN || errno == EINTR;
	line[length] = '\0';
	if (strncmp(line, "check", 5) == 0) {
		check(worker);
		return true;
	}
	return strncmp(line, "quit", 4) != 0;
}

/* Let go in order: whatever it held must be free afterwards without anybody having died. */
static void leave(struct worker *worker)
{
	char line[64];
	int result = worker->failed ? worker->failed : shmb_region_unlock(worker->own);

	if (result == 0)
		result = shmb_semaphore_give(worker->semaphore, &worker->permit);
	shmb_semaphore_free(worker->semaphore);
	shmb_region_free(worker->own);
	shmb_region_free(worker->shared);
	shmb_client_free(worker->client);
	snprintf(line, sizeof(line), "%s %" PRIu64 "\n",
		 result == 0 ? "bye" : shmb_error_name(result), worker->counted);
	answer(worker, line);
}

static int open_fifo(const char *directory, const char *name, const char *suffix, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.%s", directory, name, suffix);
	/* For both, so that opening waits for nobody and nobody's closing ends it. */
	fd = open(path, O_RDWR | O_CLOEXEC | flags);
	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct worker worker = { 0 };
	int result;

	if (argc != 6) {
		fprintf(stderr, "usage: worker ADDRESS NAME shm|memfd|default COUNT DIRECTORY\n");
		return 2;
	}
	worker.address = argv[1];
	worker.name = argv[2];
	worker.backing = strcmp(argv[3], "shm") == 0     ? SHMB_BACKING_SHM
			 : strcmp(argv[3], "memfd") == 0 ? SHMB_BACKING_MEMFD
							 : SHMB_BACKING_DEFAULT;
	worker.count_name = argv[4];
	worker.seed = (uint64_t)getpid();
	snprintf(worker.own_name, sizeof(worker.own_name), "work/own/%s", worker.name);
	snprintf(worker.scratch_name, sizeof(worker.scratch_name), "work/scratch/%s", worker.name);
	snprintf(worker.semaphore_name, sizeof(worker.semaphore_name), "work/sem/%s", worker.name);
	worker.in = open_fifo(argv[5], worker.name, "in", O_NONBLOCK);
	worker.out = open_fifo(argv[5], worker.name, "out", 0);

	options.timeout_ms = PATIENCE_MS;
	result = shmb_client_connect(worker.address, &options, &worker.client);
	if (result < 0)
		die(worker.address, result);
	make_own(&worker);
	make_permit(&worker);
	share(&worker);
	the_worker = &worker;
	signal(SIGUSR1, on_look);
	answer(&worker, "ready\n");
	for (;;) {
		struct pollfd ready = { .fd = worker.in, .events = POLLIN };

		if (poll(&ready, 1, PAUSE_MS) > 0 && !serve(&worker))
			break;
		work(&worker);
	}
	leave(&worker);
	return 0;
}
