/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_REMEMBER_H
#define DAEMON_REMEMBER_H

/*
 * What the broker has, put into its manifest. Everything is remembered where it changes, and
 * becomes part of the manifest with the next commit: before a packet is sent, before memory is
 * destroyed, and at the end of each turn of the loop.
 */

#include <stdbool.h>
#include <stdint.h>

struct arena;
struct attachment;
struct broker;
struct done;
struct region;
struct session;
struct ticket;

/* Room that the end of each takes, and a resize's two sizes with its done. */
enum {
	OWED_END = 32,
	OWED_NAME = OWED_END + 40, /* that it went, and at whose request */
	OWED_OBJECT = OWED_NAME + OWED_END,
	OWED_RESIZE = 128,
};

/* remember_start(), remember_stop() - the loop's part */
void remember_start(struct broker *broker);
void remember_stop(struct broker *broker);

/*
 * remember_reserve() - room for all that one request can change
 * @hello: of a session that begins; some room is kept for those, as they may want to remove things
 *
 * Return: 0, or a negative errno.
 */
int remember_reserve(struct broker *broker, bool hello);

/* remember_rewrite() - write the manifest anew, in @directory (NULL: where it is) */
int remember_rewrite(struct broker *broker, const char *directory);

/* Again whenever something has changed of what the record has. */
void remember_arena(struct broker *broker, const struct arena *arena);
void remember_object(struct broker *broker, const struct region *region);
void remember_removed(struct broker *broker, const struct region *region);
void remember_size(struct broker *broker, const struct region *region);
void remember_session(struct broker *broker, struct session *session);
void remember_attachment(struct broker *broker, struct attachment *attachment);
void remember_position(struct broker *broker, const struct session *session);

/* remember_object_bytes() - what remember_object() takes in the manifest */
uint64_t remember_object_bytes(const struct region *region);

/* remember_done() - the request @msgid of @session was done; @handle: the attachment it made, or 0
 */
void remember_done(struct broker *broker, struct session *session, uint32_t msgid, uint32_t handle,
		   bool created);

void remember_ticket(struct broker *broker, const struct ticket *ticket);
void forget_ticket(struct broker *broker, const struct ticket *ticket);
void forget_arena(struct broker *broker, const struct arena *arena);
void forget_object(struct broker *broker, const struct region *region);
void forget_session(struct broker *broker, struct session *session);
void forget_attachment(struct broker *broker, struct attachment *attachment);

#endif
