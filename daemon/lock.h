/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LOCK_H
#define DAEMON_LOCK_H

/* The broker's part in locks: it makes their segments, numbers those who use them, looks at them
 * for people, and undoes what the dead have left. It never locks. */

#include "answer.h"

#include <stdbool.h>
#include <stdint.h>

struct attachment;
struct broker;
struct region;

/* lock_bytes() - length of a lock segment, whole pages */
uint64_t lock_bytes(const struct broker *broker, uint32_t n_slots);

/* lock_make() - the segment and table of a named lock, charged already. Return: 0 or a negative
 * errno. */
int lock_make(struct broker *broker, struct region *region);

/*
 * lock_attach() - give an attachment its slot; a region's lock is made when it is first asked for
 * @ret_fd: the lock segment, writable; borrowed until the next request
 */
int lock_attach(struct broker *broker, struct attachment *attachment, int *ret_fd,
		struct failure *failure);

/* lock_holds() - does that slot hold the lock exclusively, as far as the lock says? Return: 1, 0,
 * or a negative errno. */
int lock_holds(struct broker *broker, const struct region *region, uint32_t slot);

/* lock_fd() - the lock segment of an attachment that has its slot, as above; or a negative errno */
int lock_fd(struct broker *broker, const struct attachment *attachment);

/* lock_recover() - the table of a lock whose segment is there. Return: 0 or -ENOMEM. */
int lock_recover(struct broker *broker, struct region *region);

/* lock_sweep() - undo what is left of slots that nobody owns, when all owners are known again.
 * Return: 0, or a negative errno: try again later. */
int lock_sweep(struct broker *broker, struct region *region);

/* lock_detach() - the attachment ends: what it left in its slot is to be undone */
void lock_detach(struct broker *broker, struct attachment *attachment);

/* What one attachment has of a lock. */
struct lock_part {
	bool exclusive;
	uint32_t shared, waiting_shared, waiting_exclusive;
};

/* What a lock says of itself; its users can make it say anything. */
struct lock_state {
	bool claimed, held, owner_died, not_recoverable;
	uint32_t readers, waiting_shared, waiting_exclusive;
	struct attachment *holder; /* the claimant, else a reader; NULL: none */
	struct lock_part parts[];  /* by slot number less one */
};

/*
 * lock_look() - read a lock that has a segment; free() it
 *
 * Return: 0, or a negative errno.
 */
int lock_look(struct broker *broker, struct region *region, struct lock_state **ret_state);

#endif
