/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ARENA_H
#define DAEMON_ARENA_H

/*
 * Semaphores and the arenas they lie in. The broker places them, numbers the sessions that use an
 * arena, looks at them for people, and gives back the permits of the dead. It never posts or waits.
 */

#include "answer.h"
#include "backing.h"
#include "region.h"
#include "layout/semaphore.h"

#include <sys/types.h>

struct account;
struct broker;
struct session;
struct slots;

struct arena {
	struct segments segments;
	struct arena *prev, *next; /* of all, those with room lately first */
	struct semaphore *semaphores;
	struct slots *slots;
	struct account *account; /* of the owner; charged for it */
	uid_t uid;
	gid_t gid;
	uint16_t mode;
	uint32_t n_free; /* units */
	uint64_t pass;   /* undoings of a slot begun so far */
	uint32_t chunks; /* of sleepers that were woken on the semaphore at which it is */
	uint64_t taken[LAYOUT_ARENA_UNITS / 64];
};

struct semaphore {
	struct arena *arena;
	struct semaphore *prev, *next; /* of the arena */
	uint32_t unit, n_units;
	uint32_t maximum; /* of the value, or permits */
	unsigned kind;    /* enum shmb_semaphore_kind */
	uint64_t undone;  /* the last pass of the arena that has seen it */
};

/* A session's part in an arena; it exists while it has a semaphore open there. */
struct member {
	struct arena *arena;
	struct session *session;
	uint64_t id; /* of the arena */
	uint32_t slot;
	uint32_t n_uses;
	UT_hash_handle hh; /* of the session */
};

/* A session's part in a semaphore; shared by its attachments to it. */
struct use {
	struct member *member;
	uint64_t id; /* of the semaphore */
	uint32_t n_attachments;
	UT_hash_handle hh; /* of the session */
};

/*
 * semaphore_make() - place and prepare the semaphore of @object, which is charged already
 *
 * An arena is made, and charged to @session's user, if none of the right owner, group and mode has
 * room.
 */
int semaphore_make(struct broker *broker, struct region *object, struct session *session,
		   const struct region_request *request, struct failure *failure);

/* semaphore_free() - nobody uses it any more; takes the arena with it if it was the last there */
void semaphore_free(struct broker *broker, struct semaphore *semaphore);

/* semaphore_attach() - make the session a user of the semaphore and a member of the arena */
int semaphore_attach(struct broker *broker, struct attachment *attachment, struct failure *failure);

/* semaphore_detach() - the attachment ends; with the session's last one to it its permits come back
 */
void semaphore_detach(struct broker *broker, struct attachment *attachment);

/* ---- Recovery ---- */

struct arena_request {
	uint64_t id;
	const struct backing *backing;
	uid_t uid;
	gid_t gid;
	uint32_t mode;
};

/* arena_recover() - an arena whose segment is there, without semaphores. Return: NULL if out of
 * memory. */
struct arena *arena_recover(struct broker *broker, const struct arena_request *request);

/* arena_recovered() - all of its semaphores are there; without any, it goes */
void arena_recovered(struct broker *broker, struct arena *arena);

/* arena_sweep() - as lock_sweep() */
int arena_sweep(struct broker *broker, struct arena *arena);

/* semaphore_recover() - put @object's semaphore where it was. Return: 0, -EINVAL or -ENOMEM. */
int semaphore_recover(struct arena *arena, struct region *object, uint32_t unit,
		      const struct region_request *request);

/* semaphore_recover_attachment() - as semaphore_attach(), with the slot it had. Return: 0, -EINVAL
 * or -ENOMEM. */
int semaphore_recover_attachment(struct attachment *attachment, uint32_t slot);

/* ---- Looking ---- */

/* semaphore_member() - by arena id; NULL: the session has nothing open there */
struct member *semaphore_member(struct session *session, uint64_t arena);

/* semaphore_arena_fd() - the arena's segment, writable; borrowed until the next request. Or a
 * negative errno. */
int semaphore_arena_fd(struct broker *broker, const struct arena *arena);

/* What one session has of a semaphore. */
struct semaphore_part {
	uint32_t permits, waiting;
};

/* What a semaphore says of itself; its users can make it say anything. */
struct semaphore_state {
	uint32_t value, waiting;
	struct member *holder;                           /* of some permit; NULL: none */
	struct semaphore_part parts[LAYOUT_ARENA_SLOTS]; /* by slot number less one */
};

/* semaphore_look() - Return: 0, or a negative errno */
int semaphore_look(struct broker *broker, const struct semaphore *semaphore,
		   struct semaphore_state *ret_state);

#endif
