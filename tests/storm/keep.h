/* SPDX-License-Identifier: MIT */
#ifndef STORM_KEEP_H
#define STORM_KEEP_H

/*
 * Keepers: client processes that make, change, look at and remove objects of their own while the
 * daemon is killed, and keep a *ledger* of each in memory that the library has nothing to do with.
 * Before it asks for a change a keeper writes down what it intends, and after it what came of it,
 * so that the ledger is exact whenever the keeper is killed. Whoever comes into its place next, its
 * heir, compares the broker's word with the ledger, and goes on.
 *
 * Names: keep/PLACE/LOT for what one keeper makes (others visit), keep/PLACE/alive.LIFE for as long
 * as a keeper's session lives, race/N for what all try to make and only one can.
 */

#include <pthread.h>

#include "storm.h"

enum {
	KEEPERS = 6,
	LOTS = 10, /* of each */
	LOTS_REGIONS = 5,
	LOTS_LATE = 2, /* of these regions, made by asynchronous requests */
	RACES = 3,
	KEPT_PAGE = 4096,
	KEPT_PAGES = 8, /* a region's capacity */
	KEPT_COUNT_MAX = 1000,
	KEPT_PERMITS = 3,
	KEEPER_TIMEOUT_MS = 60000, /* of each request: all that may ever fail is this */
};

/* ---- The ledger ---- */

enum lot_kind { LOT_REGION, LOT_LOCK, LOT_COUNTING, LOT_OWNED };

/* What is intended. */
enum intent {
	INTENT_NOTHING,
	INTENT_MAKE,
	INTENT_REMOVE,
	INTENT_WRITE,
	INTENT_RESIZE,
	INTENT_CHMOD,
	INTENT_COUNT,
	INTENT_END, /* closing what goes with its last handle */
};

struct facts {
	uint32_t exists, lifetime, mode;
	uint64_t id;    /* 0: not known */
	uint64_t size;  /* regions */
	uint64_t stamp; /* regions: what is written in it; 0: nothing */
	uint64_t count; /* counting semaphores */
};

struct lot {
	_Atomic uint64_t state; /* see lot_word() */
	struct facts facts[2];
};

/* One word, so that outcome and intent are never at odds: which facts hold, what is intended (the
 * other facts hold then, or will, or never will), and how many changes there were. */
static inline uint64_t lot_word(uint64_t changes, enum intent intent, unsigned which)
{
	return changes << 8 | (uint64_t)intent << 1 | which;
}

static inline enum intent lot_intent(uint64_t word)
{
	return (enum intent)(word >> 1 & 0x7f);
}

struct keeper_record {
	_Atomic uint32_t life;   /* 0: nobody is in this place */
	_Atomic uint32_t doomed; /* set before it is killed */
	_Atomic uint32_t alive;  /* the last life whose session may still be there; 0: none */
	struct lot lots[LOTS];
	_Atomic uint64_t done[LOTS]; /* changes that were carried out */
	_Atomic bool looking[LOTS];  /* an heir may have the lock, and die with it */
	struct storm_player_record player;
};

enum keep_tally {
	KEPT_MADE,
	KEPT_REMOVED,
	KEPT_WRITTEN,
	KEPT_RESIZED,
	KEPT_VISITED,
	KEPT_TOLD,
	KEPT_LATE,
	KEPT_RACES,
	KEPT_LISTED,
	KEPT_COUNTED,
	KEPT_LEFT,
	KEPT_INHERITED,
	KEPT_UNDECIDED, /* inherited in the middle of a change */
	KEPT_TALLIES,
};

struct keep_page {
	struct keeper_record keepers[KEEPERS];
	_Atomic uint64_t races[RACES]; /* name of who has made it; 0: nobody */
	_Atomic uint64_t last_id;      /* the highest that was ever given to what is kept */
	_Atomic uint64_t tallies[KEPT_TALLIES];
	_Atomic uint32_t clear; /* keepers remove what they inherit, and end */
};

/* ---- A keeper ---- */

struct keeper {
	struct player player;
	struct keep_page *page;
	struct keeper_record *record;
	unsigned place;
	struct shmb_client *client, *other; /* two sessions of one process */
	struct shmb_region *alive;
	/* Handles of its lots, by kind; NULL: not open. */
	struct shmb_region *regions[LOTS_REGIONS];
	struct shmb_lock *locks[LOTS];
	struct shmb_semaphore *semaphores[LOTS];
	uint32_t permits[LOTS];     /* taken of owned semaphores */
	pthread_mutex_t processing; /* callbacks run, or what they use goes */
};

/* keep_why() - what a call returned, and the particulars that the client remembers */
const char *keep_why(struct keeper *keeper, int result, char buffer[160]);

/* KEEP() - a call that must succeed: nothing but the daemon is in its way */
#define KEEP(keeper, call)                                           \
	do {                                                         \
		char why_[160];                                      \
		int keep_ = (call);                                  \
		RULE(&(keeper)->player, keep_ == 0, "%s: %s", #call, \
		     keep_why(keeper, keep_, why_));                 \
	} while (0)

void keep_tally(struct keeper *keeper, enum keep_tally tally);
const char *keep_name(unsigned place, unsigned lot, char buffer[64]);
enum lot_kind lot_kind(unsigned lot);

/* lot_begin(), lot_end() - around a change. @done: it was made. */
void lot_begin(struct lot *lot, enum intent intent, const struct facts *intended);
void lot_end(struct lot *lot, bool done);
struct facts lot_facts(const struct lot *lot);    /* what holds, or held before an intent */
struct facts lot_intended(const struct lot *lot); /* what will hold, perhaps */

/* lot_revise() - more is known of what is intended */
void lot_revise(struct lot *lot, const struct facts *intended);

/* lot_peek() - another's lot: false, if its owner is changing it, or was. @ret_word tells later
 * whether it has changed since. */
bool lot_peek(const struct lot *lot, struct facts *ret_facts, uint64_t *ret_word);

/* ---- Rooms ---- */

/* estate.c: what was left by who was killed */
void estate_take(struct keeper *keeper);
void estate_clear(struct keeper *keeper); /* removes all */
/* estate_gone() - waits until there is nothing of that name and kind any more */
void estate_gone(struct keeper *keeper, enum lot_kind kind, const char *name);
/* estate_await_permits() - waits until so many are free: those of whoever went come back */
void estate_await_permits(struct keeper *keeper, unsigned lot, uint64_t n);
/* estate_facts() - what the broker says. Return: false, if there is nothing. */
bool estate_facts(struct keeper *keeper, unsigned lot, struct facts *ret_facts);

/* estate_check() - the broker's word is the ledger's */
void estate_check(struct keeper *keeper, unsigned lot);

/* lots.c: its own */
void lots_play(struct keeper *keeper, unsigned lot);
void lots_list(struct keeper *keeper);
void lots_check_contents(struct keeper *keeper, unsigned lot);
void lots_open(struct keeper *keeper, unsigned lot);
void lots_close(struct keeper *keeper, unsigned lot);
void lots_remove(struct keeper *keeper, unsigned lot);
void races_play(struct keeper *keeper);
void races_settle(struct keeper *keeper);

/* The contents of a region: under its lock they are whole, and nobody is writing. */
struct kept {
	uint64_t holder; /* name of who writes; 0: nobody */
	uint64_t stamp;
	uint64_t words[126];
};
void kept_write(struct keeper *keeper, struct kept *kept, uint64_t stamp);
void kept_check(struct keeper *keeper, const struct kept *kept, const char *how);

/* visits.c: others' */
struct visits;
struct visits *visits_new(struct keeper *keeper, uint64_t seed);
void visits_play(struct visits *visits);
bool visits_are_over(const struct visits *visits);
void visits_leave(struct visits *visits); /* waits for what is on its way */
void visits_free(struct visits *visits);

/* keeper_process() - shmb_client_process() of @client */
int keeper_process(struct keeper *keeper);

/* keeper_run() - be the keeper in that place, until told to stop. In a process of its own. */
void keeper_run(struct storm_control *control, struct keep_page *page, const char *address,
		unsigned place, uint64_t seed);

#endif
