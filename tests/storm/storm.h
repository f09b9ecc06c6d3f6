/* SPDX-License-Identifier: MIT */
#ifndef STORM_STORM_H
#define STORM_STORM_H

/*
 * The storm: processes and threads that do everything at random with a handful of objects, under
 * rules that the objects have to keep, while some of them are killed all the time.
 *
 * storm/table   a region: counters whose sum is 0, and a record with a checksum, under its lock
 * storm/frames  a region: a frame for each permit of the pool, and what the named lock guards
 * storm/lock    a named lock
 * storm/pool    an owned semaphore: permit i is frame i
 * storm/mutex   an owned semaphore of one permit, which guards what it guards in storm/frames
 * storm/count   a counting semaphore
 *
 * The master forks *workers*. Each connects, and its threads, the *players*, play with *kits*: a
 * client and its handles. What the master must know of players even when they are dead is in the
 * control page, ordinary shared memory that the library has nothing to do with.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <shmbroker/shmbroker.h>

enum {
	STORM_WORKERS = 24, /* at a time */
	STORM_THREADS = 4,  /* of one worker at most */
	STORM_CLIENTS = 5,  /* of the one process of the variant without kills */
	STORM_FRAMES = 5,
	STORM_COUNT = 6,                 /* what the counting semaphore begins with */
	STORM_COUNT_MAX = 1000,          /* room for what the master gives back for the dead */
	STORM_SLOTS = STORM_WORKERS + 4, /* of each lock: not enough for everybody all the time */
};

#define STORM_TABLE_NAME  "storm/table"
#define STORM_FRAMES_NAME "storm/frames"
#define STORM_LOCK_NAME   "storm/lock"
#define STORM_POOL_NAME   "storm/pool"
#define STORM_MUTEX_NAME  "storm/mutex"
#define STORM_COUNT_NAME  "storm/count"

/* ---- The control page ---- */

/* What a player waits for. */
enum storm_wait {
	WAIT_NOTHING,
	WAIT_TABLE_SHARED,
	WAIT_TABLE_EXCLUSIVE,
	WAIT_LOCK_SHARED,
	WAIT_LOCK_EXCLUSIVE,
	WAIT_POOL,
	WAIT_MUTEX,
	WAIT_COUNT,
	WAITS,
};

/* What is counted, so that a storm in which nothing happened does not pass. */
enum storm_tally {
	TALLY_TABLE_WRITTEN,
	TALLY_TABLE_READ,
	TALLY_REPAIRED,
	TALLY_LEFT_BROKEN,
	TALLY_RESET,
	TALLY_DOWNGRADED,
	TALLY_ABANDONED,
	TALLY_SNAPSHOTS,
	TALLY_SNAPSHOTS_BUSY,
	TALLY_LOCKED,
	TALLY_TAKEN,
	TALLY_ADOPTED,
	TALLY_CAME_BACK,
	TALLY_ALONE,
	TALLY_COUNTED,
	TALLY_TIMED_OUT,
	TALLY_LONG,
	TALLY_NO_SLOT,
	TALLY_REOPENED,
	TALLY_SUICIDES,
	TALLIES,
};

struct storm_player_record {
	_Atomic uint32_t tid;
	_Atomic uint32_t waits_for; /* enum storm_wait */
	_Atomic uint32_t wait;      /* its number, so that two waits are not taken for one */
	_Atomic int64_t began;      /* microseconds, monotonic */
	/* Of the counting semaphore: given minus taken, and in the low half what may have been
	 * given (taken, if negative) besides. One word, because its owner may die at any time. */
	_Atomic int64_t ledger;
};

struct storm_worker_record {
	_Atomic uint32_t life;   /* of the worker in this place: 0 for none, never used twice */
	_Atomic uint32_t doomed; /* set before it is killed */
	struct storm_player_record players[STORM_THREADS];
};

struct storm_control {
	_Atomic uint32_t stop;    /* all players are to put everything back and end */
	_Atomic uint32_t calm;    /* see player_timeout() */
	_Atomic uint32_t faulted; /* 1: somebody is writing what follows; 2: written */
	char fault[400];
	_Atomic uint64_t tallies[TALLIES];
	struct storm_worker_record workers[STORM_WORKERS];
	bool mortal; /* players may kill themselves */
};

/* A player's name in frames and tables: who it is, and in which life. Never 0. */
static inline uint64_t storm_name(uint32_t life, unsigned worker, unsigned player)
{
	return (uint64_t)life << 16 | worker << 8 | (player + 1);
}

/* storm_is_dead() - has the player of that name been killed, or is it about to be */
bool storm_is_dead(struct storm_control *control, uint64_t name);

/* ---- Players ---- */

/* A client and its handles. Those of a worker are used by all its players at once. */
struct kit {
	struct shmb_client *client;
	struct shmb_region *table;
	struct shmb_region *frames;
	struct shmb_lock *lock;
	struct shmb_semaphore *pool, *mutex, *count;
	unsigned access; /* to the table */
};

struct player {
	struct storm_control *control;
	struct storm_worker_record *worker;
	struct storm_player_record *self; /* NULL: the master */
	struct kit *kit;
	const char *address;
	uint64_t name;
	uint64_t random;
	struct shmb_permit held[STORM_FRAMES];
	unsigned n_held;
	bool alone; /* nobody else uses the kit */
	bool hasty; /* waits for nothing */
};

/* A number from 0 to @n - 1. */
uint32_t player_random(struct player *player, uint32_t n);

/* True once in @n times. */
static inline bool player_chance(struct player *player, uint32_t n)
{
	return player_random(player, n) == 0;
}

bool player_is_calm(const struct player *player);

/* player_may_die() - every now and then, this is the last thing it does */
void player_may_die(struct player *player);

void player_tally(struct player *player, enum storm_tally tally);

/* Around everything that may sleep. */
void player_wait_begin(struct player *player, enum storm_wait what);
void player_wait_end(struct player *player, int result);

/* player_holds() - has it a permit or a count? Then it waits for no other for long, or all might
 * wait for each other. */
bool player_holds(const struct player *player);

/*
 * player_timeout() - how long to wait: not at all, some milliseconds, a second, or for ever
 *
 * Where people die, give up or come and go all the time, somebody is woken for one of these reasons
 * soon, and nobody sees that a wake-up was lost. So there are times of calm, in which everybody
 * waits for as long as it takes.
 */
int player_timeout(struct player *player);

/* player_late() - checks that a wait of @timeout_ms that began at @begun did not end too early */
void player_late(struct player *player, const char *what, int64_t begun, int timeout_ms);
int64_t storm_now_us(void);

/* player_fail() - a rule is broken: tell the master, end the process */
void player_fail(const struct player *player, const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 4, 5)));

#define RULE(player, condition, ...)                                          \
	do {                                                                  \
		if (!(condition))                                             \
			player_fail(player, __FILE__, __LINE__, __VA_ARGS__); \
	} while (0)

/* storm_result() - the name of what a call returned */
const char *storm_result(int result);

/* Handles. Return of kit_open(): false: there was no slot for this one. */
bool kit_open(struct player *player, struct kit *kit, unsigned access);
void kit_close(struct kit *kit);

/* ---- What players do: one room for each object ---- */

void table_play(struct player *player);
void table_abandon(struct player *player); /* closes the kit's table with the lock held */
void pool_play(struct player *player);
void pool_give_all(struct player *player);
void pool_forget(struct player *player); /* without giving: its client goes, with all it holds */
void pool_play_alone(struct player *player); /* verbs that do not say which permit */
void mailbox_play(struct player *player);
void mutex_play(struct player *player);
void count_play(struct player *player);
void count_give_all(struct player *player);

/* As the master uses them. table_settle() leaves everything consistent and free. */
void table_make(struct shmb_region *table);
void table_settle(struct player *player);
void mailbox_settle(struct player *player);
void pool_settle(struct player *player);
void count_settle(struct player *player, int64_t expected, int64_t may_lack, int64_t may_exceed);
uint64_t table_bytes(void);
uint64_t frames_bytes(void);

/* worker_run() - be the workers @first to @first + @n_clients - 1, each with its players, until
 * told to stop. In a process of its own. */
void worker_run(struct storm_control *control, const char *address, unsigned first,
		unsigned n_clients, unsigned n_players, uint64_t seed);

/* ---- The watchdog ---- */

struct watchdog;

/* watchdog_new() - for the workers of @control; asks through @client */
struct watchdog *watchdog_new(struct storm_control *control, struct shmb_client *client);
struct watchdog *watchdog_free(struct watchdog *watchdog);

/*
 * watchdog_look() - does anybody sleep for something that is there to be had?
 * @pids: of the workers' processes, 0: none
 *
 * To be called every few milliseconds. Return: NULL, or the complaint.
 */
const char *watchdog_look(struct watchdog *watchdog, const pid_t *pids);

#endif
