/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_GROWTH_H
#define DAEMON_GROWTH_H

/*
 * Growing beyond the capacity: a larger data segment is made for whoever holds the region's lock
 * exclusively, who fills it and then says that it is the region's.
 */

#include "answer.h"

#include <stdint.h>

struct attachment;
struct broker;
struct region;
struct session;

/*
 * growth_begin() - make the larger segment, in place of one that was begun before
 * @ret_fd: the caller's to close
 *
 * Return: 0, or ANSWER_FAILED.
 */
int growth_begin(struct broker *broker, struct attachment *attachment, uint64_t capacity,
		 int *ret_fd, struct failure *failure);

/*
 * growth_check() - may growth_end() be called? The publish page says already that it was.
 * @writing: what that word of the publish page was when the bytes were copied; NULL: not told
 *
 * Return: 0, or ANSWER_FAILED.
 */
int growth_check(struct broker *broker, struct attachment *attachment, uint64_t size,
		 const uint64_t *writing, struct failure *failure);

/* growth_end() - it is the region's; the request must be recorded as done before the next packet
 * goes out */
void growth_end(struct broker *broker, struct region *region, uint64_t size);

/* growth_show() - say in the publish page which data segment it is, and how large */
void growth_show(struct broker *broker, struct region *region);

/* growth_fd() - the descriptor of what was begun, borrowed; -1: nothing was, or it is kept by name
 */
int growth_fd(const struct region *region);

/* growth_drop() - what was begun is not wanted any more, if there is something */
void growth_drop(struct broker *broker, struct region *region);

/* growth_detach() - the same, if it is that attachment's */
void growth_detach(struct broker *broker, const struct attachment *attachment);

#endif
