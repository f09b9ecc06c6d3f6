/* SPDX-License-Identifier: MIT */
/*
 * A pool of large frames that producers fill and consumers look at, nothing copied, while both are
 * killed at random: no frame is ever lost, and none is ever seen torn or twice. Copy the pattern.
 *
 *   pool/frames   the frames
 *   pool/permits  an owned semaphore with a permit for each: who holds permit i owns frame i
 *   pool/board    a region with the queue in it, under its exclusive lock: for each frame its place
 *                 in the line and the serial of the permit under which it was queued
 *   pool/queued   a counting semaphore: how many frames are in the queue, for consumers to sleep on
 *
 * A producer takes a permit, fills the frame, queues index and serial, posts, and goes on. It does
 * not give the permit back: it holds it until a consumer *adopts* it, which happens in one step,
 * so that at every instant the frame has exactly one owner, whose death the broker notices. The
 * consumer adopts while the entry still stands in the queue, removes the entry, looks, and gives
 * the permit back.
 *
 * Where a producer may die:
 *
 * - It has a permit, the frame is not in the queue: the broker gives the permit back.
 * - In the lock, half-way through queueing: the same, and the lock says so (SHMB_EOWNERDEAD) to
 *   whoever comes next, who repairs the queue.
 * - Queued, not posted; or posted, and nobody has adopted yet: the permit comes back, and the entry
 *   is stale: its permit is free, or has a new serial. Adopting it fails, and the consumer drops
 *   it. So what a producer had queued goes with it; if that must not be, let somebody adopt at once
 *   who lives longer.
 *
 * Where a consumer may die:
 *
 * - Woken, not in the lock yet: it takes its count along, as counts have no owner. So `queued` says
 *   only when to look, and the queue says what is there: a consumer that leaves frames in it while
 *   the count is 0 posts once more, and none sleeps for longer than LOOK_AGAIN_MS without looking.
 * - In the lock, adopted, the entry not removed: the broker gives the permit back and the entry is
 *   stale, or the next one is faster than the broker and adopts it from the dead. Both are right.
 *   (Were the entry removed first and the permit adopted then, a death in between would leave the
 *   frame to a producer that believes it is rid of it: lost.)
 * - Looking at the frame: the broker gives the permit back.
 *
 * A frame is queued again only by one who took its permit, so its one place in the queue suffices:
 * the queue cannot overflow, and a stale entry is overwritten.
 *
 * The program starts producers and consumers as processes of its own, kills and replaces them, and
 * counts at the end.
 */
#define _POSIX_C_SOURCE 200809L /* for -std=c11, which hides what is not of C alone */

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

enum {
	FRAMES = 8,
	FRAME_WORDS = 32 * 1024, /* 256 KiB */
	PRODUCERS = 3,
	CONSUMERS = 3,
	PROCESSES = PRODUCERS + CONSUMERS,
	KILLS = 200,
	KILL_EACH_NS = 5000000,
	LOOK_AGAIN_MS = 100,
	PATIENCE_MS = 10000,
	NUMBERS = 1 << 20, /* pictures that can be told apart */
};

struct entry {
	_Atomic uint64_t order; /* place in the line; 0: not queued */
	uint32_t serial;        /* of the permit */
};

struct board {
	/* under the lock */
	uint64_t last; /* place given out last */
	struct entry queue[FRAMES];
	/* for the final count */
	_Atomic uint64_t drawn;          /* numbers of pictures */
	_Atomic uint64_t seen;           /* pictures that were looked at */
	_Atomic uint32_t twice, torn;    /* of them */
	_Atomic uint64_t uses[FRAMES];   /* how often each frame was looked at */
	_Atomic uint8_t looked[NUMBERS]; /* at which picture */
};

struct pool {
	struct shmb_client *client;
	struct shmb_region *frames, *board_region;
	struct shmb_semaphore *permits, *queued;
	struct board *board;
};

static int pool_open(struct pool *pool)
{
	struct shmb_semaphore_options permits = SHMB_SEMAPHORE_OPTIONS_INIT;
	uint64_t bytes = (uint64_t)FRAMES * FRAME_WORDS * sizeof(uint64_t);
	int r = shmb_client_connect(NULL, NULL, &pool->client);

	permits.kind = SHMB_OWNED;
	permits.maximum = FRAMES;
	if (r >= 0)
		r = shmb_region_open_or_create(pool->client, "pool/frames", bytes, NULL,
					       &pool->frames);
	if (r >= 0)
		r = shmb_region_open_or_create(pool->client, "pool/board", sizeof(struct board),
					       NULL, &pool->board_region);
	if (r >= 0)
		r = shmb_semaphore_open_or_create(pool->client, "pool/permits", &permits,
						  &pool->permits);
	if (r >= 0)
		r = shmb_semaphore_open_or_create(pool->client, "pool/queued", NULL, &pool->queued);
	if (r >= 0)
		pool->board = shmb_region_data(pool->board_region);
	return r;
}

static void pool_close(struct pool *pool)
{
	shmb_semaphore_free(pool->queued);
	shmb_semaphore_free(pool->permits);
	shmb_region_free(pool->board_region);
	shmb_region_free(pool->frames);
	shmb_client_free(pool->client);
}

static uint64_t *frame_of(const struct pool *pool, uint32_t index)
{
	return (uint64_t *)shmb_region_data(pool->frames) + (size_t)index * FRAME_WORDS;
}

/* ---- The queue ---- */

/*
 * An entry is in the queue from the store of its order on, and out of it with the store of a 0:
 * there is no half-way, so that all there is to repair is the place given out last.
 */
static void repair(struct board *board)
{
	for (int i = 0; i < FRAMES; i++) {
		uint64_t order = atomic_load(&board->queue[i].order);

		if (order > board->last)
			board->last = order;
	}
}

static int lock_queue(struct pool *pool)
{
	int r = shmb_region_lock(pool->board_region, SHMB_EXCLUSIVE, -1);

	if (r != SHMB_EOWNERDEAD)
		return r;
	repair(pool->board);
	return shmb_region_mark_consistent(pool->board_region);
}

static int enqueue(struct pool *pool, const struct shmb_permit *permit)
{
	struct entry *entry = &pool->board->queue[permit->index];
	int r = lock_queue(pool);

	if (r < 0)
		return r;
	entry->serial = permit->serial;
	atomic_store(&entry->order, ++pool->board->last);
	return shmb_region_unlock(pool->board_region);
}

/* Return: the frame at the head of the queue, or FRAMES: it is empty. */
static uint32_t head_of(const struct board *board)
{
	uint64_t best = 0;
	uint32_t head = FRAMES;

	for (uint32_t i = 0; i < FRAMES; i++) {
		uint64_t order = atomic_load(&board->queue[i].order);

		if (order != 0 && (best == 0 || order < best)) {
			best = order;
			head = i;
		}
	}
	return head;
}

/* Return: 0, SHMB_ENOENT: the queue is empty, or an error. */
static int dequeue(struct pool *pool, struct shmb_permit *ret_permit)
{
	struct entry *queue = pool->board->queue;
	int r = lock_queue(pool), adopted = SHMB_ENOENT, unlocked;
	uint32_t head;
	bool more;

	if (r < 0)
		return r;
	while (adopted == SHMB_ENOENT && (head = head_of(pool->board)) < FRAMES) {
		*ret_permit = (struct shmb_permit){ head, queue[head].serial };
		adopted = shmb_semaphore_adopt(pool->permits, ret_permit);
		/* Ours, or stale: only now it goes. */
		atomic_store(&queue[head].order, 0);
	}
	more = head_of(pool->board) < FRAMES;
	unlocked = shmb_region_unlock(pool->board_region);
	/* Somebody died and took a count along. */
	if (more && shmb_semaphore_value(pool->queued) == 0)
		(void)shmb_semaphore_post(pool->queued, 1);
	return unlocked < 0 ? unlocked : adopted;
}

/* ---- Producers and consumers ---- */

static int produce(struct pool *pool)
{
	uint64_t number;

	while ((number = atomic_fetch_add(&pool->board->drawn, 1)) < NUMBERS) {
		struct shmb_permit permit;
		uint64_t *frame;
		int r = shmb_semaphore_take(pool->permits, -1, &permit);

		if (r < 0)
			return r;
		frame = frame_of(pool, permit.index);
		for (int i = 0; i < FRAME_WORDS; i++)
			frame[i] = number;
		r = enqueue(pool, &permit);
		if (r >= 0)
			r = shmb_semaphore_post(pool->queued, 1);
		if (r < 0)
			return r;
	}
	return SHMB_EOVERFLOW; /* nobody is to live that long here */
}

static void look_at(struct pool *pool, uint32_t index)
{
	struct board *board = pool->board;
	const uint64_t *frame = frame_of(pool, index);
	uint64_t number = frame[0];

	for (int i = 1; i < FRAME_WORDS; i++)
		if (frame[i] != number)
			atomic_store(&board->torn, 1);
	if (number >= NUMBERS || atomic_exchange(&board->looked[number], 1) != 0)
		atomic_fetch_add(&board->twice, 1);
	atomic_fetch_add(&board->seen, 1);
	atomic_fetch_add(&board->uses[index], 1);
}

static int consume(struct pool *pool)
{
	for (;;) {
		struct shmb_permit permit = { 0, 0 };
		int r = shmb_semaphore_wait(pool->queued, LOOK_AGAIN_MS);

		if (r == 0 || r == SHMB_ETIMEDOUT)
			r = dequeue(pool, &permit);
		if (r == SHMB_ENOENT)
			continue;
		if (r < 0)
			return r;
		look_at(pool, permit.index);
		r = shmb_semaphore_give(pool->permits, &permit);
		if (r < 0)
			return r;
	}
}

static int be(int (*work)(struct pool *pool))
{
	struct pool pool = { 0 };
	int r;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = pool_open(&pool);
	if (r >= 0)
		r = work(&pool);
	/* They go on until they are killed: something went wrong. */
	fprintf(stderr, "frame_pool: %s\n", shmb_strerror(r));
	pool_close(&pool);
	return EXIT_FAILURE;
}

/* ---- The one that kills ---- */

static pid_t start(const char *role)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)execl("/proc/self/exe", "frame_pool", role, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static bool end(pid_t pid)
{
	int status = 0;

	return kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static bool every_frame_was_used(const struct board *board, uint64_t times)
{
	for (int i = 0; i < FRAMES; i++)
		if (atomic_load(&board->uses[i]) < times)
			return false;
	return true;
}

/* Return: how many it killed, or an error. */
static int rage(const struct board *board)
{
	const struct timespec pause = { .tv_nsec = KILL_EACH_NS };
	unsigned chance = (unsigned)getpid(); /* who is next */
	pid_t pids[PROCESSES];
	int kills, r = 0;

	for (int i = 0; i < PROCESSES; i++)
		pids[i] = start(i < PRODUCERS ? "producer" : "consumer");
	for (kills = 0; r == 0 && (kills < KILLS || !every_frame_was_used(board, 2)); kills++) {
		int i;

		chance = chance * 1103515245 + 12345;
		i = (int)(chance >> 16) % PROCESSES;
		(void)nanosleep(&pause, NULL);
		if (pids[i] < 0 || !end(pids[i]) || kills > 20 * KILLS)
			r = SHMB_EPROTO;
		pids[i] = start(i < PRODUCERS ? "producer" : "consumer");
	}
	for (int i = 0; i < PROCESSES; i++)
		if (pids[i] < 0 || !end(pids[i]))
			r = SHMB_EPROTO;
	return r < 0 ? r : kills + PROCESSES;
}

/* All permits are there, and no more than all. */
static int count_permits(struct pool *pool)
{
	struct shmb_permit permit;

	for (int i = 0; i < FRAMES; i++) {
		/* The broker needs a moment to notice who died last. */
		int r = shmb_semaphore_take(pool->permits, PATIENCE_MS, &permit);

		if (r < 0)
			return r;
	}
	return shmb_semaphore_take(pool->permits, 0, &permit) == SHMB_ETIMEDOUT ? 0 : SHMB_EPROTO;
}

static int run(struct pool *pool)
{
	struct board *board = pool->board;
	int kills = rage(board);
	int r = kills < 0 ? kills : count_permits(pool);

	if (r < 0)
		return r;
	printf("%d processes killed, %llu frames looked at, %u torn, %u twice; "
	       "all %d permits are back\n",
	       kills, (unsigned long long)atomic_load(&board->seen), atomic_load(&board->torn),
	       atomic_load(&board->twice), FRAMES);
	return atomic_load(&board->torn) || atomic_load(&board->twice) ? SHMB_EPROTO : 0;
}

int main(int argc, char **argv)
{
	struct pool pool = { 0 };
	int r;

	if (argc == 2 && strcmp(argv[1], "producer") == 0)
		return be(produce);
	if (argc == 2 && strcmp(argv[1], "consumer") == 0)
		return be(consume);
	r = pool_open(&pool);
	if (r >= 0)
		r = run(&pool);
	if (r < 0)
		fprintf(stderr, "frame_pool: %s\n", shmb_strerror(r));
	pool_close(&pool);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
