/* SPDX-License-Identifier: MIT */
/*
 * What the master of a storm does, whatever is killed in it: makes the objects, starts workers,
 * kills, stops and replaces them. Knows nothing of who else is killed, nor of when it is enough.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "master.h"

enum {
	TICK_US = 3000,
	LOOK_US = 25000, /* between two looks of the watchdog */
	PAUSE_US = 200000,
	CALM_US = 1500000, /* longer than anybody sleeps without a wake-up */
};

/* ---- Starting ---- */

uint64_t storm_setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* The objects live as long as the master has them open. */
static void make_objects(struct storm *storm)
{
	struct shmb_region_options region = SHMB_REGION_OPTIONS_INIT;
	struct shmb_lock_options lock = SHMB_LOCK_OPTIONS_INIT;
	struct shmb_semaphore_options semaphore = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct kit *kit = &storm->kit;

	kit->client = connect_to(storm->broker);
	CHECK_OK(shmb_client_set_timeout(kit->client, 60000));
	kit->access = SHMB_READ | SHMB_WRITE;
	region.slots = lock.slots = STORM_SLOTS;
	kit->table = create(kit->client, STORM_TABLE_NAME, table_bytes(), &region);
	table_make(kit->table);
	/* Its slot is taken now, so that it is there when the others have none left. */
	CHECK_OK(shmb_region_lock(kit->table, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(kit->table));
	kit->frames = create(kit->client, STORM_FRAMES_NAME, frames_bytes(), NULL);
	CHECK_OK(shmb_lock_create(kit->client, STORM_LOCK_NAME, &lock, &kit->lock));
	semaphore.initial = STORM_COUNT;
	semaphore.maximum = STORM_COUNT_MAX;
	CHECK_OK(shmb_semaphore_create(kit->client, STORM_COUNT_NAME, &semaphore, &kit->count));
	semaphore.kind = SHMB_OWNED;
	semaphore.initial = 0;
	semaphore.maximum = STORM_FRAMES;
	CHECK_OK(shmb_semaphore_create(kit->client, STORM_POOL_NAME, &semaphore, &kit->pool));
	semaphore.maximum = 1;
	CHECK_OK(shmb_semaphore_create(kit->client, STORM_MUTEX_NAME, &semaphore, &kit->mutex));
}

void storm_begin(struct storm *storm, struct broker *broker)
{
	memset(storm, 0, sizeof(*storm));
	storm->broker = broker;
	storm->n_workers = STORM_WORKERS;
	storm->seed = storm_setting("STORM_SEED", (uint64_t)storm_now_us());
	printf("STORM_SEED=%llu\n", (unsigned long long)storm->seed);
	storm->control = mmap(NULL, sizeof(*storm->control), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(storm->control != MAP_FAILED);
	storm->master = (struct player){ .control = storm->control,
					 .address = broker->socket,
					 .kit = &storm->kit,
					 .name = UINT64_MAX - 1,
					 .random = storm->seed | 1 };
	make_objects(storm);
	storm->watchdog = watchdog_new(storm->control, storm->kit.client);
	take_gauges(storm, storm->gauges);
}

void storm_end(struct storm *storm)
{
	watchdog_free(storm->watchdog);
	kit_close(&storm->kit);
	SYS(munmap(storm->control, sizeof(*storm->control)));
}

/* ---- Workers ---- */

static void become_worker(struct storm *storm, unsigned first, unsigned n_clients,
			  unsigned n_players, uint64_t seed)
{
	/* The master's patience is not inherited; its end is. */
	alarm(0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)close_range(3, ~0U, 0);
	worker_run(storm->control, storm->broker->socket, first, n_clients, n_players, seed);
	_exit(0);
}

void storm_start_worker(struct storm *storm, unsigned first, unsigned n_clients, unsigned n_players)
{
	struct place *place = &storm->places[first];
	uint64_t seed = storm->seed + ++storm->life * UINT64_C(0x94d049bb133111eb);

	for (unsigned i = first; i < first + n_clients; i++) {
		struct storm_worker_record *worker = &storm->control->workers[i];

		memset(worker, 0, sizeof(*worker));
		atomic_store(&worker->life, storm->life);
	}
	fflush(NULL);
	place->pid = SYS(fork());
	if (place->pid == 0)
		become_worker(storm, first, n_clients, n_players, seed);
	place->stopped = false;
}

static bool ended_as_it_may(const struct storm *storm, unsigned i, int status)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGKILL &&
		       atomic_load(&storm->control->workers[i].doomed) != 0;
	return WEXITSTATUS(status) == 0 && atomic_load(&storm->control->stop) != 0;
}

/* Perhaps somebody found what another had left that crashed. */
static void tell_of_crashes(const struct storm *storm)
{
	int status;

	for (unsigned i = 0; i < STORM_WORKERS; i++)
		if (storm->places[i].pid > 0 &&
		    waitpid(storm->places[i].pid, &status, WNOHANG) > 0 &&
		    !ended_as_it_may(storm, i, status))
			print_error("worker %u, process %d, life %x, ended with status %x\n", i,
				    (int)storm->places[i].pid,
				    atomic_load(&storm->control->workers[i].life),
				    (unsigned)status);
}

void storm_check_fault(const struct storm *storm)
{
	if (atomic_load(&storm->control->faulted) != 2)
		return;
	tell_of_crashes(storm);
	FAIL("%s (kill %llu, seed %llu)", storm->control->fault, (unsigned long long)storm->kills,
	     (unsigned long long)storm->seed);
}

/* What the dead had of the counting semaphore, as far as it is known, is given back for them. */
void storm_settle_ledgers(struct storm *storm, struct storm_worker_record *worker)
{
	for (unsigned i = 0; i < STORM_THREADS; i++) {
		int64_t word = atomic_load(&worker->players[i].ledger);
		int32_t intent = (int32_t)word;
		int64_t balance = (word - intent) / ((int64_t)1 << 32);
		int64_t back = -balance - (intent > 0 ? intent : 0);

		storm->balance += balance;
		storm->may_lack += intent < 0;
		storm->may_exceed += intent > 0 ? intent : 0;
		if (back <= 0)
			continue;
		CHECK_OK(shmb_semaphore_post(storm->kit.count, (uint32_t)back));
		storm->balance += back;
	}
}

static void worker_ended(struct storm *storm, unsigned i, int status)
{
	struct storm_worker_record *worker = &storm->control->workers[i];

	if (!ended_as_it_may(storm, i, status)) {
		print_error("worker %u, process %d, life %x, ended with status %x (seed %llu)\n", i,
			    (int)storm->places[i].pid, atomic_load(&worker->life), (unsigned)status,
			    (unsigned long long)storm->seed);
		storm->places[i].pid = 0;
		storm_check_fault(storm);
		FAIL("a worker ended by itself");
	}
	storm->kills += WIFSIGNALED(status);
	storm_settle_ledgers(storm, worker);
	atomic_store(&worker->life, 0);
	storm->places[i].pid = 0;
}

/* Return: how many there are still. */
static unsigned reap(struct storm *storm)
{
	unsigned n = 0;
	int status;

	for (unsigned i = 0; i < STORM_WORKERS; i++) {
		pid_t pid = storm->places[i].pid;

		if (pid && waitpid(pid, &status, WNOHANG) == pid)
			worker_ended(storm, i, status);
		n += storm->places[i].pid != 0;
	}
	return n;
}

/* ---- Killing ---- */

static void doom(struct storm *storm, unsigned i)
{
	atomic_store(&storm->control->workers[i].doomed, 1);
	(void)kill(storm->places[i].pid, SIGKILL);
}

static bool waits(const struct storm *storm, unsigned i)
{
	return atomic_load(&storm->control->workers[i].players[0].waits_for) != WAIT_NOTHING;
}

void storm_kill_somebody(struct storm *storm)
{
	unsigned i = player_random(&storm->master, storm->n_workers);

	/* One in four dies while it waits, if there is one. */
	if (player_chance(&storm->master, 4))
		for (unsigned n = 0; n < STORM_WORKERS && !waits(storm, i); n++)
			i = (i + 1) % STORM_WORKERS;
	if (storm->places[i].pid)
		doom(storm, i);
}

void storm_stop_somebody(struct storm *storm)
{
	struct place *place = &storm->places[player_random(&storm->master, storm->n_workers)];

	if (!place->pid || place->stopped)
		return;
	(void)kill(place->pid, SIGSTOP);
	place->stopped = true;
	place->goes_on = storm_now_us() + player_random(&storm->master, 40000);
}

static void continue_stopped(struct storm *storm, bool all)
{
	int64_t now = storm_now_us();

	for (unsigned i = 0; i < STORM_WORKERS; i++) {
		struct place *place = &storm->places[i];

		if (!place->pid || !place->stopped || (!all && now < place->goes_on))
			continue;
		(void)kill(place->pid, SIGCONT);
		place->stopped = false;
	}
}

static void look(struct storm *storm)
{
	pid_t pids[STORM_WORKERS];
	const char *complaint;

	if (storm_now_us() - storm->looked < LOOK_US)
		return;
	storm->looked = storm_now_us();
	for (unsigned i = 0; i < STORM_WORKERS; i++)
		pids[i] = i < storm->n_clients ? storm->places[0].pid : storm->places[i].pid;
	complaint = watchdog_look(storm->watchdog, pids);
	if (complaint)
		FAIL("%s (kill %llu, seed %llu)", complaint, (unsigned long long)storm->kills,
		     (unsigned long long)storm->seed);
}

/* The pace of it all. Workers that end meanwhile are found then. */
static void tick(void)
{
	const struct timespec pause = { .tv_nsec = TICK_US * 1000 };

	(void)nanosleep(&pause, NULL);
}

void storm_turn(struct storm *storm)
{
	int64_t now = storm_now_us();

	storm->paused |= storm->turned != 0 && now - storm->turned > PAUSE_US;
	storm->turned = now;
	tick();
	storm_check_fault(storm);
	(void)reap(storm);
	continue_stopped(storm, false);
	look(storm);
}

/* ---- The end of a round ---- */

/* Half of the rounds end with the death of all. */
void storm_end_workers(struct storm *storm)
{
	int64_t patience = storm_now_us() + (int64_t)30000000 * harness_slow();

	continue_stopped(storm, true);
	atomic_store(&storm->control->stop, 1);
	for (unsigned i = 0; storm->rounds % 2 && i < STORM_WORKERS; i++)
		if (storm->places[i].pid)
			doom(storm, i);
	while (reap(storm) > 0) {
		tick();
		storm_check_fault(storm);
		look(storm);
		if (storm_now_us() > patience)
			FAIL("a worker does not end (seed %llu)", (unsigned long long)storm->seed);
	}
	atomic_store(&storm->control->stop, 0);
}

void storm_calm_down(struct storm *storm)
{
	int64_t end = storm_now_us() + CALM_US;

	continue_stopped(storm, true);
	atomic_store(&storm->control->calm, 1);
	while (storm_now_us() < end)
		storm_turn(storm);
	atomic_store(&storm->control->calm, 0);
}
