/* SPDX-License-Identifier: MIT */
/*
 * The counting semaphore. Its rule: what was given and not taken is there. It has no owner, so what
 * a killed player had taken is gone, and nobody can say of one that was killed while it took or
 * gave whether it had; all others are counted exactly.
 */

#include "storm.h"

static int64_t ledger(int64_t balance, int32_t intent)
{
	return balance * ((int64_t)1 << 32) + intent;
}

/* Of this player: it never gives more than it took. */
static int64_t balance_of(const struct player *player)
{
	int64_t word = atomic_load(&player->self->ledger);

	return (word - (int32_t)word) / ((int64_t)1 << 32);
}

static void take(struct player *player, int timeout)
{
	int64_t balance = balance_of(player), begun = storm_now_us();
	int r;

	atomic_store(&player->self->ledger, ledger(balance, -1));
	player_wait_begin(player, WAIT_COUNT);
	r = shmb_semaphore_wait(player->kit->count, timeout);
	player_wait_end(player, r);
	RULE(player, r == 0 || r == SHMB_ETIMEDOUT, "wait for the count: %s", storm_result(r));
	atomic_store(&player->self->ledger, ledger(balance - (r == 0), 0));
	if (r == 0)
		player_tally(player, TALLY_COUNTED);
	else
		player_late(player, "the count", begun, timeout);
}

static void give(struct player *player, uint32_t n)
{
	int64_t balance = balance_of(player);
	int r;

	atomic_store(&player->self->ledger, ledger(balance, (int32_t)n));
	r = shmb_semaphore_post(player->kit->count, n);
	RULE(player, r == 0, "post %u: %s", n, storm_result(r));
	atomic_store(&player->self->ledger, ledger(balance + n, 0));
}

bool player_holds(const struct player *player)
{
	return player->n_held > 0 || balance_of(player) < 0;
}

void count_give_all(struct player *player)
{
	int64_t balance = balance_of(player);

	if (balance < 0)
		give(player, (uint32_t)-balance);
}

void count_play(struct player *player)
{
	int64_t value = shmb_semaphore_value(player->kit->count);
	int r;

	RULE(player, value >= 0 && value <= STORM_COUNT_MAX, "the count is %lld", (long long)value);
	if (player_chance(player, 16)) {
		r = shmb_semaphore_post(player->kit->count, STORM_COUNT_MAX + 1);
		RULE(player, r == SHMB_EOVERFLOW, "post too much: %s", storm_result(r));
	}
	if (balance_of(player) < 0 && !player_chance(player, 3))
		count_give_all(player);
	else if (player->hasty || player_holds(player))
		take(player, player->hasty ? 0 : (int)player_random(player, 3));
	else
		/* Not for ever: the dead may have taken all there were. */
		take(player, player_is_calm(player) ? 2000 : (int)player_random(player, 2) * 1000);
}

void count_settle(struct player *player, int64_t expected, int64_t may_lack, int64_t may_exceed)
{
	int64_t value = shmb_semaphore_value(player->kit->count);
	int r;

	RULE(player, value >= expected - may_lack && value <= expected + may_exceed,
	     "the count is %lld, not between %lld and %lld", (long long)value,
	     (long long)(expected - may_lack), (long long)(expected + may_exceed));
	for (int64_t i = 0; i < value; i++) {
		r = shmb_semaphore_wait(player->kit->count, 0);
		RULE(player, r == 0, "take %lld of %lld: %s", (long long)i + 1, (long long)value,
		     storm_result(r));
	}
	r = shmb_semaphore_wait(player->kit->count, 0);
	RULE(player, r == SHMB_ETIMEDOUT, "take one too many: %s", storm_result(r));
	r = shmb_semaphore_post(player->kit->count, STORM_COUNT);
	RULE(player, r == 0, "post at the end: %s", storm_result(r));
}
