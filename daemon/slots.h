/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SLOTS_H
#define DAEMON_SLOTS_H

/*
 * Slot numbers of a lock or an arena: who has which, and the undoing of those that were let go.
 *
 * A number is not given out again before what its last owner left in shared memory has been undone.
 * That may have to wait (for descriptors, for memory, because one process left very many), so it is
 * a queue.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct broker;
struct slots;

/*
 * Undo what @slot left, about half a millisecond of it.
 * @round: how often it was called for this slot before
 *
 * Return: 0; SLOTS_MORE: go on, when the loop has had its turn; or a negative errno: try again
 * later.
 */
typedef int slots_undo_fn(struct broker *broker, void *object, uint32_t slot, uint32_t round);

/* For those functions. Waking a sleeper takes some microseconds, so many are woken a few at a time.
 * More than 1,024 on one word wake at their next re-check, within a second. */
enum { SLOTS_MORE = 1, SLOTS_WAKES = 64, SLOTS_WAKE_ROUNDS = 16 };

/* slots_wake() - wake at most @n, and at most SLOTS_WAKES, who sleep on a word. Return: how many.
 */
int slots_wake(_Atomic uint32_t *word, uint32_t n);

/* slots_unreachable() - what to answer if the memory could not be mapped: @error, if that may pass;
 * else 0: somebody has removed it, and there is nothing that anybody could get */
int slots_unreachable(int error);

struct slots {
	slots_undo_fn *undo;
	void *object;
	struct slots *previous, *next; /* of those that have something to undo */
	uint32_t size, used;           /* used: those to be undone included */
	uint32_t due;                  /* to be undone */
	uint32_t begun, round;         /* the slot whose undoing goes on (0: none), and how often */
	void *owners[];                /* by number less one; NULL: free */
};

struct repairs {
	struct slots *due;
	uv_idle_t more;   /* there is something to undo */
	uv_timer_t again; /* something failed */
	uint64_t turn;    /* of the loop, by its clock, and the time it has spent on repairs */
	uint64_t spent_ns;
	uint64_t total;
};

/* slots_new() - Return: NULL if out of memory */
struct slots *slots_new(uint32_t size, slots_undo_fn *undo, void *object);

/* slots_free() - the object ends: nothing of it needs undoing any more. Takes NULL. Return: NULL.
 */
struct slots *slots_free(struct broker *broker, struct slots *slots);

/* slots_take() - the lowest free number for @owner. Return: 1 to size, or 0: all are taken. */
uint32_t slots_take(struct slots *slots, void *owner);

/* slots_put() - @owner has had this number before. Return: false: it cannot. */
bool slots_put(struct slots *slots, uint32_t slot, void *owner);

/* slots_sweep() - undo a number that nobody owns */
void slots_sweep(struct broker *broker, struct slots *slots, uint32_t slot);

/* slots_owner() - NULL: nobody, or it is being undone */
void *slots_owner(const struct slots *slots, uint32_t slot);

/* slots_highest() - the highest number that somebody owns; 0: none */
uint32_t slots_highest(const struct slots *slots);

/* slots_release() - the owner lets go: undo what it left at the loop's next turn, or before, see
 * slots_undo_some() */
void slots_release(struct broker *broker, struct slots *slots, uint32_t slot);

/* slots_undo_some() - at once, as far as the loop should stand still for it; the rest at its next
 * turns */
void slots_undo_some(struct broker *broker);

void slots_init(struct broker *broker);
void slots_stop(struct broker *broker);

#endif
