/* SPDX-License-Identifier: MIT */
/*
 * A worker: one client, some threads, and no plan. Every now and then a thread opens handles of its
 * own, also those of a client of its own, and closes them again, whatever it holds.
 */

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "storm.h"

static void play_once(struct player *player, uint32_t what)
{
	switch (what) {
	case 0:
	case 1:
		table_play(player);
		break;
	case 2:
	case 3:
		pool_play(player);
		break;
	case 4:
		mailbox_play(player);
		break;
	case 5:
		mutex_play(player);
		break;
	default:
		count_play(player);
	}
}

/* Now and then the same again and again, without waiting: two processors that are busy with one
 * object meet at each of its instructions, those that sleep most of the time never do. */
static void play(struct player *player)
{
	uint32_t what = player_random(player, 7);
	int times = !player_is_calm(player) && player_chance(player, 4) ? 100 : 1;

	player->hasty = times > 1;
	while (times-- > 0)
		play_once(player, what);
	player->hasty = false;
}

static unsigned any_access(struct player *player)
{
	static const unsigned accesses[] = { SHMB_READ | SHMB_WRITE, SHMB_READ | SHMB_WRITE,
					     SHMB_READ | SHMB_WRITE | SHMB_LOCK,
					     SHMB_READ | SHMB_LOCK, SHMB_READ };

	return accesses[player_random(player, sizeof(accesses) / sizeof(accesses[0]))];
}

/* With a client of its own for a while; it lets go of it with everything in hand. */
static void play_elsewhere(struct player *player)
{
	struct player other = *player;
	struct kit kit;

	/* Its permits belong to its client. */
	pool_give_all(player);
	other = *player;
	other.kit = &kit;
	other.alone = true;
	if (kit_open(&other, &kit, any_access(player))) {
		pool_play_alone(&other);
		for (int i = 0; i < 8; i++)
			play(&other);
		count_give_all(&other);
		if ((kit.access & SHMB_WRITE) && player_chance(player, 4))
			table_abandon(&other);
		/* The permits come back, and others may have the frames as soon as they do. */
		if (player_chance(player, 2))
			pool_give_all(&other);
		else
			pool_forget(&other);
	} else {
		player_tally(player, TALLY_NO_SLOT);
	}
	kit_close(&kit);
	player->random = other.random;
	player_tally(player, TALLY_REOPENED);
}

/* A second handle of everything, of the same client's: one holder, whatever the handle. */
static void play_with_second_handle(struct player *player)
{
	struct kit kit = *player->kit, *first = player->kit;
	int r = shmb_semaphore_open(kit.client, STORM_POOL_NAME, &kit.pool);

	RULE(player, r == 0, "a second handle of the pool: %s", storm_result(r));
	r = shmb_semaphore_open(kit.client, STORM_COUNT_NAME, &kit.count);
	RULE(player, r == 0, "a second handle of the count: %s", storm_result(r));
	player->kit = &kit;
	for (int i = 0; i < 4; i++) {
		pool_play(player);
		count_play(player);
	}
	player->kit = first;
	shmb_semaphore_free(kit.pool);
	shmb_semaphore_free(kit.count);
	player_tally(player, TALLY_REOPENED);
}

static void *player_main(void *argument)
{
	struct player *player = argument;

	atomic_store(&player->self->tid, (uint32_t)gettid());
	while (!atomic_load(&player->control->stop)) {
		if (player_is_calm(player))
			play(player);
		else if (player_chance(player, 200))
			play_elsewhere(player);
		else if (player_chance(player, 200))
			play_with_second_handle(player);
		else
			play(player);
	}
	pool_give_all(player);
	count_give_all(player);
	atomic_store(&player->self->tid, 0);
	return NULL;
}

/* Return: how many were started. */
static unsigned start_players(struct player *model, struct kit *kit, unsigned worker,
			      unsigned n_players, struct player *players, pthread_t *threads)
{
	uint32_t life = atomic_load(&model->worker->life);
	unsigned n;

	for (n = 0; n < n_players; n++) {
		players[n] = *model;
		players[n].kit = kit;
		players[n].self = &model->worker->players[n];
		players[n].name = storm_name(life, worker, n);
		players[n].random += n * UINT64_C(0x9e3779b97f4a7c15);
		players[n].random |= 1;
		players[n].alone = n_players == 1;
		if (pthread_create(&threads[n], NULL, player_main, &players[n]) != 0)
			player_fail(model, __FILE__, __LINE__, "no thread");
	}
	return n;
}

void worker_run(struct storm_control *control, const char *address, unsigned first,
		unsigned n_clients, unsigned n_players, uint64_t seed)
{
	static struct player players[STORM_CLIENTS][STORM_THREADS];
	static struct kit kits[STORM_CLIENTS];
	pthread_t threads[STORM_CLIENTS][STORM_THREADS];
	unsigned started[STORM_CLIENTS] = { 0 };

	for (unsigned i = 0; i < n_clients; i++) {
		unsigned worker = first + i;
		struct player model = { .control = control, .address = address };

		model.worker = &control->workers[worker];
		model.self = &model.worker->players[0];
		model.name = storm_name(atomic_load(&model.worker->life), worker, 0);
		model.random = (seed + i * UINT64_C(0xbf58476d1ce4e5b9)) | 1;
		/* The places are for all; one that finds none tries again later. */
		while (!kit_open(&model, &kits[i], any_access(&model))) {
			player_tally(&model, TALLY_NO_SLOT);
			kit_close(&kits[i]);
			if (atomic_load(&control->stop))
				break;
		}
		if (kits[i].count)
			started[i] = start_players(&model, &kits[i], worker, n_players, players[i],
						   threads[i]);
	}
	for (unsigned i = 0; i < n_clients; i++)
		for (unsigned n = 0; n < started[i]; n++)
			(void)pthread_join(threads[i][n], NULL);
	for (unsigned i = 0; i < n_clients; i++)
		kit_close(&kits[i]);
}
