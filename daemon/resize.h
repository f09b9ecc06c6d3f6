/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RESIZE_H
#define DAEMON_RESIZE_H

/* Moving a region's size within its capacity, and giving back the memory that is no longer in use.
 */

#include "answer.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct region;
struct session;

/*
 * resize_start() - begin, or queue behind another, a change of size
 * @size:  bytes, 1 to the capacity
 * @msgid: of the request; @wants_reply: it is answered when the memory has gone back, now or later
 *
 * Return: 0 (the answer is given by this part), or ANSWER_FAILED.
 */
int resize_start(struct broker *broker, struct region *region, struct session *session,
		 uint64_t size, uint32_t msgid, int wants_reply, struct failure *failure);

/* resize_repeat() - is that session's request being worked on? If so, its answer goes to the
 * connection that the session has now; else nobody would expect it there. */
bool resize_repeat(struct region *region, const struct session *session, uint32_t msgid);

/* resize_recover() - finish what the daemon before had begun. Return: 0, or a negative errno. */
int resize_recover(struct broker *broker, struct region *region);

#endif
