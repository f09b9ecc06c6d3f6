/* SPDX-License-Identifier: MIT */
/*
 * The pool of frames and the named lock. Rules: no permit has two holders, each of which writes its
 * name into the frame; none is lost; who adopts a permit has it, and nobody else; what the named
 * lock guards is touched by one at a time.
 *
 * The mailbox, under the named lock, is how permits change hands: the giver goes on holding the
 * permit until it is adopted, so that it comes back by itself whoever dies. A mailbox may therefore
 * name a permit that has come back; adopting then says so.
 */

#include <string.h>

#include "storm.h"

enum { WORDS = 500 };

struct frame {
	_Atomic uint64_t holder; /* its name; 0: nobody, or one that has just offered it */
	uint64_t words[WORDS];   /* all of them the holder's name */
};

struct frames {
	struct frame frames[STORM_FRAMES];
	/* under storm/lock */
	uint64_t owner;
	uint64_t full; /* the mailbox is */
	struct shmb_permit mailbox;
	/* under storm/mutex */
	uint64_t alone, entered, left; /* name; how often; not as often, if one died within */
};

uint64_t frames_bytes(void)
{
	return sizeof(struct frames);
}

static struct frames *frames_of(const struct player *player)
{
	return shmb_region_data(player->kit->frames);
}

/* ---- Frames ---- */

/* The permit is ours: nobody living may have the frame. */
static void move_in(struct player *player, struct shmb_permit permit)
{
	struct frame *frame;
	uint64_t before;

	RULE(player, permit.index < STORM_FRAMES, "permit %u", permit.index);
	frame = &frames_of(player)->frames[permit.index];
	before = atomic_exchange(&frame->holder, player->name);
	RULE(player, before == 0 || storm_is_dead(player->control, before),
	     "%llx has frame %u, too", (unsigned long long)before, permit.index);
	for (unsigned i = 0; i < WORDS; i++)
		frame->words[i] = player->name;
	player->held[player->n_held++] = permit;
}

static void check_frame(struct player *player, uint32_t index)
{
	struct frame *frame = &frames_of(player)->frames[index];
	uint64_t holder = atomic_load(&frame->holder);

	RULE(player, holder == player->name, "%llx has frame %u, too", (unsigned long long)holder,
	     index);
	for (unsigned i = 0; i < WORDS; i++)
		RULE(player, frame->words[i] == player->name, "%llx writes frame %u, too",
		     (unsigned long long)frame->words[i], index);
}

/* Before the permit is anybody else's. */
static void move_out(struct player *player, uint32_t index)
{
	uint64_t me = player->name;

	check_frame(player, index);
	RULE(player,
	     atomic_compare_exchange_strong(&frames_of(player)->frames[index].holder, &me, 0),
	     "%llx has frame %u, too", (unsigned long long)me, index);
}

/* ---- Taking and giving ---- */

static void take(struct player *player)
{
	int timeout = player_timeout(player);
	int64_t begun = storm_now_us();
	struct shmb_permit permit;
	int r;

	if (player_holds(player) && timeout != 0)
		timeout = (int)player_random(player, 3);
	player_wait_begin(player, WAIT_POOL);
	r = shmb_semaphore_take(player->kit->pool, timeout, &permit);
	player_wait_end(player, r);
	RULE(player, r == 0 || r == SHMB_ETIMEDOUT, "take: %s", storm_result(r));
	if (r == SHMB_ETIMEDOUT) {
		player_late(player, "a permit", begun, timeout);
		return;
	}
	player_may_die(player);
	move_in(player, permit);
	player_tally(player, TALLY_TAKEN);
}

static void give(struct player *player)
{
	struct shmb_permit permit = player->held[--player->n_held];
	int r;

	move_out(player, permit.index);
	player_may_die(player);
	r = shmb_semaphore_give(player->kit->pool, &permit);
	RULE(player, r == 0, "give: %s", storm_result(r));
	if (player_chance(player, 8)) {
		r = shmb_semaphore_give(player->kit->pool, &permit);
		RULE(player, r == SHMB_EINVAL, "give twice: %s", storm_result(r));
		r = shmb_semaphore_adopt(player->kit->pool, &permit);
		RULE(player, r == SHMB_ENOENT, "adopt what was given: %s", storm_result(r));
	}
}

void pool_give_all(struct player *player)
{
	while (player->n_held)
		give(player);
}

void pool_forget(struct player *player)
{
	while (player->n_held)
		move_out(player, player->held[--player->n_held].index);
}

void pool_play(struct player *player)
{
	for (unsigned i = 0; i < player->n_held; i++)
		check_frame(player, player->held[i].index);
	if (player->n_held < 2 && player_chance(player, 2))
		take(player);
	else if (player->n_held)
		give(player);
}

void pool_play_alone(struct player *player)
{
	struct shmb_semaphore *pool = player->kit->pool;
	int r;

	player_wait_begin(player, WAIT_POOL);
	r = shmb_semaphore_wait(pool, 20);
	player_wait_end(player, r);
	RULE(player, r == 0 || r == SHMB_ETIMEDOUT, "wait for a permit: %s", storm_result(r));
	if (r == 0) {
		r = shmb_semaphore_post(pool, 2);
		RULE(player, r == SHMB_EOVERFLOW, "post another's permit: %s", storm_result(r));
		r = shmb_semaphore_post(pool, 1);
		RULE(player, r == 0, "post a permit: %s", storm_result(r));
	}
	r = shmb_semaphore_post(pool, 1);
	RULE(player, r == SHMB_EOVERFLOW, "post no permit: %s", storm_result(r));
}

/* ---- The named lock and the mailbox ---- */

static int lock(struct player *player, enum shmb_lock_kind kind)
{
	int timeout = player_timeout(player), r;
	int64_t begun = storm_now_us();

	player_wait_begin(player, kind == SHMB_SHARED ? WAIT_LOCK_SHARED : WAIT_LOCK_EXCLUSIVE);
	r = shmb_lock_acquire(player->kit->lock, kind, timeout);
	player_wait_end(player, r);
	RULE(player, r == 0 || r == SHMB_ETIMEDOUT || r == SHMB_EOWNERDEAD, "acquire: %s",
	     storm_result(r));
	if (r == SHMB_ETIMEDOUT)
		player_late(player, "the lock", begun, timeout);
	else
		player_tally(player, TALLY_LOCKED);
	return r;
}

static void release(struct player *player)
{
	int r;

	player_may_die(player);
	r = shmb_lock_release(player->kit->lock);
	RULE(player, r == 0, "release: %s", storm_result(r));
}

static void mark_consistent(struct player *player)
{
	struct frames *frames = frames_of(player);
	int r;

	RULE(player, frames->owner == 0 || storm_is_dead(player->control, frames->owner),
	     "owner died, but %llx lives", (unsigned long long)frames->owner);
	/* A half-written mailbox names a permit that adopting will refuse, or none. */
	frames->full = 0;
	frames->owner = 0;
	r = shmb_lock_mark_consistent(player->kit->lock);
	RULE(player, r == 0, "mark consistent: %s", storm_result(r));
}

static void offer(struct player *player, struct frames *frames)
{
	struct shmb_permit permit = player->held[player->n_held - 1];

	move_out(player, permit.index);
	player_may_die(player);
	frames->mailbox = permit;
	player_may_die(player);
	frames->full = 1;
	player->n_held--;
}

static void adopt(struct player *player, struct frames *frames)
{
	int r = shmb_semaphore_adopt(player->kit->pool, &frames->mailbox);

	RULE(player, r == 0 || r == SHMB_ENOENT, "adopt: %s", storm_result(r));
	player_may_die(player);
	if (r == 0)
		move_in(player, frames->mailbox);
	player_tally(player, r == 0 ? TALLY_ADOPTED : TALLY_CAME_BACK);
	frames->full = 0;
}

void mailbox_play(struct player *player)
{
	struct frames *frames = frames_of(player);
	int r;

	if (player_chance(player, 3)) {
		if (lock(player, SHMB_SHARED) != 0)
			return;
		RULE(player, frames->owner == 0, "%llx has the lock, too",
		     (unsigned long long)frames->owner);
		release(player);
		return;
	}
	r = lock(player, SHMB_EXCLUSIVE);
	if (r == SHMB_ETIMEDOUT)
		return;
	if (r == SHMB_EOWNERDEAD)
		mark_consistent(player);
	RULE(player, frames->owner == 0, "%llx has the lock, too",
	     (unsigned long long)frames->owner);
	frames->owner = player->name;
	if (frames->full && player->n_held < 2)
		adopt(player, frames);
	else if (!frames->full && player->n_held)
		offer(player, frames);
	RULE(player, frames->owner == player->name, "%llx has the lock, too",
	     (unsigned long long)frames->owner);
	frames->owner = 0;
	release(player);
}

/* ---- The mutex ---- */

/* The permit comes back from the dead without a word, so that what they left has to show it. */
static void play_alone(struct player *player)
{
	struct frames *frames = frames_of(player);
	uint64_t before = frames->alone;

	RULE(player, before == 0 || storm_is_dead(player->control, before),
	     "%llx has the mutex, too", (unsigned long long)before);
	RULE(player, before != 0 || frames->entered == frames->left,
	     "entered %llu times, left %llu", (unsigned long long)frames->entered,
	     (unsigned long long)frames->left);
	frames->alone = player->name;
	frames->left = frames->entered++;
	player_may_die(player);
	frames->left++;
	RULE(player, frames->alone == player->name, "%llx has the mutex, too",
	     (unsigned long long)frames->alone);
	frames->alone = 0;
	player_tally(player, TALLY_ALONE);
}

void mutex_play(struct player *player)
{
	int timeout = player_timeout(player), r;
	int64_t begun = storm_now_us();

	player_wait_begin(player, WAIT_MUTEX);
	r = shmb_semaphore_wait(player->kit->mutex, timeout);
	player_wait_end(player, r);
	RULE(player, r == 0 || r == SHMB_ETIMEDOUT, "wait for the mutex: %s", storm_result(r));
	if (r == SHMB_ETIMEDOUT) {
		player_late(player, "the mutex", begun, timeout);
		return;
	}
	play_alone(player);
	r = shmb_semaphore_post(player->kit->mutex, 1);
	RULE(player, r == 0, "post the mutex: %s", storm_result(r));
}

/* ---- The master, when everybody is gone ---- */

void mailbox_settle(struct player *player)
{
	int r = shmb_lock_acquire(player->kit->lock, SHMB_EXCLUSIVE, 10000);

	RULE(player, r == 0 || r == SHMB_EOWNERDEAD, "acquire at the end: %s", storm_result(r));
	if (r == SHMB_EOWNERDEAD)
		mark_consistent(player);
	/* Who offered is gone, and the permit came back. */
	frames_of(player)->full = 0;
	release(player);
}

void pool_settle(struct player *player)
{
	struct shmb_permit permit;
	int r;

	for (unsigned i = 0; i < STORM_FRAMES; i++) {
		r = shmb_semaphore_take(player->kit->pool, 0, &permit);
		RULE(player, r == 0, "take permit %u of %d at the end: %s", i + 1, STORM_FRAMES,
		     storm_result(r));
		move_in(player, permit);
	}
	r = shmb_semaphore_take(player->kit->pool, 0, &permit);
	RULE(player, r == SHMB_ETIMEDOUT, "take one too many: %s", storm_result(r));
	pool_give_all(player);
}
