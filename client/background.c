/* SPDX-License-Identifier: MIT */
/*
 * The client's threads. Few are at work at a time, as what they wait for (a disk, memory bandwidth)
 * gets no faster with more of them; they begin when there is something to do and end when there has
 * not been for a while, so a program that never asks for anything in the background has none. All
 * that they share is guarded by the client's mutex, which they never hold while they work.
 *
 * What one is at may take for ever, on a disk that no longer answers. So what has taken for long
 * does not count any more, and as long as something waits there is one thread that is not at work:
 * it sees to that. What a dead disk can take is the threads for the regions that are on it.
 *
 * A region is named by at most its queued operations, its place among the timed ones, and the
 * workers; background_end() sees to all three, so none of them keeps a reference.
 */

#include "background.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>

#include <shmbroker/io.h>

#include "client.h"
#include "clock.h"
#include "loop.h"
#include "operation.h"
#include "region.h"

enum {
	WORKERS_MAX = 8,
	OPERATIONS_AT_ONCE = 2, /* that have not taken for long; and of one region, in any case */
	OPERATIONS_MAX = 1024,  /* in flight, until their callbacks run */
	STACK_BYTES = 256 << 10,
	RETRY_MS = 100, /* at least, until a timed flush that failed is tried again */
};

/* Threads that have nothing to do for so long end. */
static int64_t idle_ns = INT64_C(5000000000);

/* After so long others do not wait any more for an operation, or for a flush by time. */
static const int64_t operation_ns = INT64_C(5000000000), flush_ns = INT64_C(1000000000);

void background_set_idle(int64_t nanoseconds)
{
	idle_ns = nanoseconds;
}

struct worker {
	struct shmb_client *client;
	pthread_t thread;
	enum { WORKER_NONE, WORKER_RUNS, WORKER_ENDED } state; /* ended: to be joined */
	struct operation *operation;                           /* what it is at */
	struct shmb_region *flushing;                          /* or this */
	int64_t until; /* so long others wait for it, unless they have to */
};

struct background {
	pthread_cond_t wake; /* for workers: there may be something to do */
	pthread_cond_t done; /* for others: a worker is done with something */
	struct worker workers[WORKERS_MAX];
	bool stopping;
	unsigned n_queued, n_operations; /* the latter until the callback runs */
	TAILQ_HEAD(, operation) queue;
	LIST_HEAD(, shmb_region) timed;
};

/* ---- Making it; the mutex is held ---- */

static int init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;
	int result = pthread_condattr_init(&attributes);

	if (result != 0)
		return -1;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	result = pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
	return result == 0 ? 0 : -1;
}

static struct background *get(struct shmb_client *client)
{
	struct background *background = client->background;

	if (background)
		return background;
	background = calloc(1, sizeof(*background));
	if (!background || init_cond(&background->wake) < 0)
		goto no_memory;
	if (init_cond(&background->done) < 0) {
		pthread_cond_destroy(&background->wake);
		goto no_memory;
	}
	for (int i = 0; i < WORKERS_MAX; i++)
		background->workers[i].client = client;
	TAILQ_INIT(&background->queue);
	LIST_INIT(&background->timed);
	client->background = background;
	return background;

no_memory:
	free(background);
	return NULL;
}

void background_free(struct shmb_client *client)
{
	struct background *background = client->background;
	struct operation *operation;

	if (!background)
		return;
	/* Of a child alone: after background_stop() there are none. */
	while ((operation = TAILQ_FIRST(&background->queue))) {
		TAILQ_REMOVE(&background->queue, operation, link);
		free(operation);
	}
	for (int i = 0; i < WORKERS_MAX; i++)
		free(background->workers[i].operation);
	/* The parent's threads may have been waiting in the child's copy. */
	if (!client_forked(client)) {
		pthread_cond_destroy(&background->wake);
		pthread_cond_destroy(&background->done);
	}
	free(background);
	client->background = NULL;
}

/* ---- Operations that have ended ---- */

static struct operation *operation_of(struct work *work)
{
	return (struct operation *)((char *)work - offsetof(struct operation, work));
}

static void end_operation(struct shmb_client *client, struct operation *operation, int status)
{
	operation->status = status;
	if (!client->freed) {
		loop_queue(client, &operation->work);
		return;
	}
	client->background->n_operations--;
	free(operation);
}

static void unqueue(struct background *background, struct operation *operation)
{
	TAILQ_REMOVE(&background->queue, operation, link);
	background->n_queued--;
}

int background_run(struct shmb_client *client, struct work *work)
{
	struct operation *operation = operation_of(work);
	shmb_done_fn callback = operation->callback;
	void *userdata = operation->userdata;
	int status = operation->status;

	client->background->n_operations--;
	pthread_mutex_unlock(&client->mutex);
	free(operation);
	callback(status, userdata);
	if (client_forked(client))
		return SHMB_EFORKED;
	pthread_mutex_lock(&client->mutex);
	return 1;
}

/* ---- What may begin; the mutex is held ---- */

/* Through whichever handle? */
static bool is_about(const struct operation *operation, const struct shmb_region *region)
{
	return region && (operation->region->id == region->id ||
			  (operation->to && operation->to->id == region->id));
}

/* How many more operations may be under way at @now? */
static unsigned room_at(const struct background *background, int64_t now)
{
	unsigned n = 0;

	for (int i = 0; i < WORKERS_MAX; i++)
		n += background->workers[i].operation && background->workers[i].until > now;
	return n < OPERATIONS_AT_ONCE ? OPERATIONS_AT_ONCE - n : 0;
}

/* The first that need not wait for others of its region; NULL: there is none. */
static struct operation *next_operation(const struct background *background)
{
	struct operation *operation;

	TAILQ_FOREACH(operation, &background->queue, link) {
		unsigned n = 0;

		for (int i = 0; i < WORKERS_MAX; i++)
			n += background->workers[i].operation &&
			     (is_about(background->workers[i].operation, operation->region) ||
			      is_about(background->workers[i].operation, operation->to));
		if (n < OPERATIONS_AT_ONCE)
			return operation;
	}
	return NULL;
}

static bool is_being_flushed(const struct background *background, const struct shmb_region *region)
{
	for (int i = 0; i < WORKERS_MAX; i++)
		if (background->workers[i].flushing == region)
			return true;
	return false;
}

/* The one that is due first, of those that nobody is at; NULL: there is none. */
static struct shmb_region *first_due(const struct background *background)
{
	struct shmb_region *region, *first = NULL;

	LIST_FOREACH(region, &background->timed, background.link)
		if (region->background.due != 0 &&
		    (!first || region->background.due < first->background.due) &&
		    !is_being_flushed(background, region))
			first = region;
	return first;
}

/* From when on may another flush by time begin? They take turns. */
static int64_t flush_from(const struct background *background)
{
	int64_t from = 0;

	for (int i = 0; i < WORKERS_MAX; i++)
		if (background->workers[i].flushing && background->workers[i].until > from)
			from = background->workers[i].until;
	return from;
}

/* And another operation, where there is no room for it @now? */
static int64_t operation_from(const struct background *background, int64_t now)
{
	int64_t from = INT64_MAX;

	for (int i = 0; i < WORKERS_MAX; i++)
		if (background->workers[i].operation && background->workers[i].until > now &&
		    background->workers[i].until < from)
			from = background->workers[i].until;
	return from;
}

/* ---- Workers; the mutex is held, and let go of while they work or wait ---- */

/* How many, besides @but, are not at work? */
static unsigned count_free(const struct background *background, const struct worker *but)
{
	unsigned n = 0;

	for (int i = 0; i < WORKERS_MAX; i++) {
		const struct worker *worker = &background->workers[i];

		n += worker != but && worker->state == WORKER_RUNS && !worker->operation &&
		     !worker->flushing;
	}
	return n;
}

static int start_worker(struct background *background);

/*
 * Enough of them: one for each operation that may begin now, and one that sees to what has to wait.
 *
 * Return: 0, or SHMB_ENOMEM: there is not one. If there cannot be more of them, things are late.
 */
static int see_to_it(struct background *background)
{
	unsigned room = room_at(background, clock_now()), n_queued = background->n_queued;
	bool waits = n_queued > room || first_due(background);
	unsigned wanted = (n_queued < room ? n_queued : room) + waits;

	if (background->stopping)
		return 0;
	/* All, as the one that the signal hit might not be the one that it is for; and whether or
	 * not there are enough of them, as there may never be more. */
	pthread_cond_broadcast(&background->wake);
	return count_free(background, NULL) < wanted ? start_worker(background) : 0;
}

static void run_operation(struct worker *worker, struct operation *operation)
{
	struct shmb_client *client = worker->client;
	struct background *background = client->background;
	int status;

	unqueue(background, operation);
	worker->operation = operation;
	worker->until = clock_now() + operation_ns;
	(void)see_to_it(background);
	pthread_mutex_unlock(&client->mutex);
	status = operation_perform(operation);
	pthread_mutex_lock(&client->mutex);
	worker->operation = NULL;
	end_operation(client, operation, status);
	pthread_cond_broadcast(&background->done);
}

static void run_flush(struct worker *worker, struct shmb_region *region)
{
	struct shmb_client *client = worker->client;
	struct background *background = client->background;
	uint32_t ms;

	region->background.due = 0;
	worker->flushing = region;
	worker->until = clock_now() + flush_ns;
	(void)see_to_it(background);
	pthread_mutex_unlock(&client->mutex);
	ms = flush_timed(region);
	pthread_mutex_lock(&client->mutex);
	worker->flushing = NULL;
	if (ms != 0 && region->background.timed && !background->stopping)
		region->background.due =
			clock_now() + (int64_t)(ms > RETRY_MS ? ms : RETRY_MS) * 1000000;
	pthread_cond_broadcast(&background->done);
}

/* Return: false: there was nothing to do @now. */
static bool work_once(struct worker *worker, int64_t now)
{
	struct background *background = worker->client->background;
	struct shmb_region *due = first_due(background);
	struct operation *operation;

	/* What must not wait longer than some time comes before what waits for its turn. */
	if (due && (background->stopping || due->background.due <= now) &&
	    flush_from(background) <= now) {
		run_flush(worker, due);
		return true;
	}
	operation = room_at(background, now) > 0 ? next_operation(background) : NULL;
	if (operation)
		run_operation(worker, operation);
	return operation != NULL;
}

/* Is this the last one that is not at work, and does something need one? */
static bool is_needed(const struct worker *worker)
{
	const struct background *background = worker->client->background;

	return (!LIST_EMPTY(&background->timed) || background->n_queued > 0) &&
	       count_free(background, worker) == 0;
}

/* Until when there is nothing to do, as far as one knows @now. */
static int64_t next_time(const struct background *background, int64_t now)
{
	struct shmb_region *due = first_due(background);
	int64_t flush = INT64_MAX, operation = INT64_MAX;

	if (due) {
		int64_t from = flush_from(background);

		flush = due->background.due > from ? due->background.due : from;
	}
	if (background->n_queued > 0)
		operation = operation_from(background, now);
	return flush < operation ? flush : operation;
}

/* There is nothing to do @now. Return: false: it has been idle for long enough. */
static bool wait_for_work(struct worker *worker, int64_t now, int64_t idle_until)
{
	struct background *background = worker->client->background;
	int64_t until = next_time(background, now);
	bool needed = is_needed(worker);
	struct timespec when;

	if (now >= idle_until && !needed)
		return false;
	if (!needed && idle_until < until)
		until = idle_until;
	when = (struct timespec){ .tv_sec = (time_t)(until / 1000000000),
				  .tv_nsec = (long)(until % 1000000000) };
	pthread_cond_timedwait(&background->wake, &worker->client->mutex, &when);
	return true;
}

static void *run_worker(void *argument)
{
	struct worker *worker = argument;
	struct shmb_client *client = worker->client;
	struct background *background = client->background;
	int64_t idle_until;

	pthread_mutex_lock(&client->mutex);
	idle_until = clock_now() + idle_ns;
	for (;;) {
		int64_t now = clock_now();

		if (work_once(worker, now))
			idle_until = clock_now() + idle_ns;
		else if (background->stopping || !wait_for_work(worker, now, idle_until))
			break;
	}
	worker->state = WORKER_ENDED;
	pthread_mutex_unlock(&client->mutex);
	return NULL;
}

/*
 * No signal of the program's is handled here, but those that a thread causes itself: blocked, a
 * SIGBUS would end the process instead of reaching the guard.
 */
static void signals_to_block(sigset_t *ret_set)
{
	static const int own[] = { SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS };

	sigfillset(ret_set);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(ret_set, own[i]);
}

/* A program with much thread-local memory needs more than our stack; then it is as for its own. */
static int create_thread(struct worker *worker)
{
	pthread_attr_t attributes;
	int result = pthread_attr_init(&attributes);

	if (result != 0)
		return result;
	result = pthread_attr_setstacksize(&attributes, STACK_BYTES);
	if (result == 0)
		result = pthread_create(&worker->thread, &attributes, run_worker, worker);
	pthread_attr_destroy(&attributes);
	if (result == EINVAL)
		result = pthread_create(&worker->thread, NULL, run_worker, worker);
	return result;
}

/* Return: 0, or SHMB_ENOMEM: there is not one. */
static int start_worker(struct background *background)
{
	struct worker *worker = NULL;
	sigset_t block, before;
	unsigned n_running = 0;
	int result;

	for (int i = 0; i < WORKERS_MAX; i++) {
		if (background->workers[i].state == WORKER_RUNS)
			n_running++;
		else if (!worker)
			worker = &background->workers[i];
	}
	if (!worker)
		return 0;
	if (worker->state == WORKER_ENDED) /* it needs the mutex no more */
		pthread_join(worker->thread, NULL);
	worker->state = WORKER_NONE;
	signals_to_block(&block);
	pthread_sigmask(SIG_SETMASK, &block, &before);
	result = create_thread(worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result == 0)
		worker->state = WORKER_RUNS;
	return result == 0 || n_running > 0 ? 0 : SHMB_ENOMEM;
}

/* ---- Flushing by time ---- */

static int begin_timed(struct shmb_region *region)
{
	struct background *background;

	if (region->background.ended || region->client->freed)
		return SHMB_ECLOSED;
	background = get(region->client);
	if (!background)
		return SHMB_ENOMEM;
	if (region->background.timed)
		return 0;
	LIST_INSERT_HEAD(&background->timed, region, background.link);
	region->background.timed = true;
	region->background.due = 0;
	if (count_free(background, NULL) > 0 || start_worker(background) == 0)
		return 0;
	LIST_REMOVE(region, background.link);
	region->background.timed = false;
	return SHMB_ENOMEM;
}

static void end_timed(struct shmb_region *region)
{
	if (!region->background.timed)
		return;
	LIST_REMOVE(region, background.link);
	region->background.timed = false;
	region->background.due = 0;
	/* The thread that was kept for it need not be any more. */
	pthread_cond_broadcast(&region->client->background->wake);
}

int background_time(struct shmb_region *region, bool timed)
{
	int result = 0;

	pthread_mutex_lock(&region->client->mutex);
	if (timed)
		result = begin_timed(region);
	else
		end_timed(region);
	pthread_mutex_unlock(&region->client->mutex);
	return result;
}

void background_flush_within(struct shmb_region *region, uint32_t ms)
{
	int64_t due = clock_now() + (int64_t)ms * 1000000;

	pthread_mutex_lock(&region->client->mutex);
	if (region->background.timed &&
	    (region->background.due == 0 || due < region->background.due)) {
		region->background.due = due;
		(void)see_to_it(region->client->background);
	}
	pthread_mutex_unlock(&region->client->mutex);
}

/* ---- Ends ---- */

static bool touches(const struct operation *operation, const struct shmb_region *region)
{
	return operation && (operation->region == region || operation->to == region);
}

static void cancel_queued(struct shmb_region *region)
{
	struct background *background = region->client->background;
	struct operation *operation = TAILQ_FIRST(&background->queue), *next;

	for (; operation; operation = next) {
		next = TAILQ_NEXT(operation, link);
		if (!touches(operation, region))
			continue;
		unqueue(background, operation);
		end_operation(region->client, operation, SHMB_ECANCELED);
	}
}

static bool is_at_work(const struct shmb_region *region)
{
	const struct background *background = region->client->background;

	for (int i = 0; i < WORKERS_MAX; i++)
		if (background->workers[i].flushing == region ||
		    touches(background->workers[i].operation, region))
			return true;
	return false;
}

void background_end(struct shmb_region *region)
{
	struct shmb_client *client = region->client;

	pthread_mutex_lock(&client->mutex);
	region->background.ended = true;
	if (client->background) {
		end_timed(region);
		cancel_queued(region);
		while (is_at_work(region))
			pthread_cond_wait(&client->background->done, &client->mutex);
	}
	pthread_mutex_unlock(&client->mutex);
}

static void forget_operations(struct shmb_client *client)
{
	struct background *background = client->background;
	struct operation *operation;

	while ((operation = TAILQ_FIRST(&background->queue))) {
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it does not see through TAILQ_REMOVE
		unqueue(background, operation);
		end_operation(client, operation, SHMB_ECANCELED);
	}
	for (struct work *work = TAILQ_FIRST(&client->work), *next; work; work = next) {
		next = TAILQ_NEXT(work, link);
		if (work->kind != WORK_OPERATION)
			continue;
		loop_unqueue(client, work);
		end_operation(client, operation_of(work), SHMB_ECANCELED);
	}
}

/* Nobody starts threads any more: client->freed is set. Workers flush what is pending, and end. */
void background_stop(struct shmb_client *client)
{
	struct background *background;
	pthread_t threads[WORKERS_MAX];
	int n_threads = 0;

	pthread_mutex_lock(&client->mutex);
	background = client->background;
	if (background) {
		forget_operations(client);
		background->stopping = true;
		pthread_cond_broadcast(&background->wake);
	}
	for (int i = 0; background && i < WORKERS_MAX; i++)
		if (background->workers[i].state != WORKER_NONE)
			threads[n_threads++] = background->workers[i].thread;
	pthread_mutex_unlock(&client->mutex);
	while (n_threads > 0)
		pthread_join(threads[--n_threads], NULL);
}

int background_submit(const struct operation *wanted)
{
	struct shmb_client *client = wanted->region->client;
	struct operation *operation = malloc(sizeof(*operation));
	struct background *background;
	int result = SHMB_ENOMEM;

	if (!operation)
		return SHMB_ENOMEM;
	*operation = *wanted;
	operation->work.kind = WORK_OPERATION;
	operation->work.queued = false;
	pthread_mutex_lock(&client->mutex);
	background = get(client);
	if (wanted->region->background.ended || (wanted->to && wanted->to->background.ended) ||
	    client->freed)
		result = SHMB_ECLOSED;
	else if (background && background->n_operations >= OPERATIONS_MAX)
		result = SHMB_EBUSY;
	else if (background) {
		TAILQ_INSERT_TAIL(&background->queue, operation, link);
		background->n_queued++;
		result = see_to_it(background);
		if (result == 0)
			background->n_operations++;
		else
			unqueue(background, operation);
	}
	pthread_mutex_unlock(&client->mutex);
	if (result < 0)
		free(operation);
	return result;
}
