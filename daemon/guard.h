/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_GUARD_H
#define DAEMON_GUARD_H

/*
 * Looking into memory that a client can write, for a moment. What it says is never trusted; that it
 * may vanish while we look (a truncated shm segment, no page left) is what this is for: the rest of
 * the look then goes to private zeros, and is good for nothing.
 */

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

struct guard {
	void *data;
	size_t bytes; /* whole pages */
	struct guard *outer;
	volatile sig_atomic_t vanished;
};

/* guard_init() - once, before the first look: take SIGBUS */
void guard_init(void);

/*
 * guard_open() - map a segment writable
 * @fd: borrowed
 *
 * On the loop's thread. Of two the inner one is closed first. Return: 0, or a negative errno.
 */
int guard_open(struct guard *guard, int fd, size_t bytes);

/* guard_close() - Return: true, or false: it vanished while we looked */
bool guard_close(struct guard *guard);

/*
 * guard_enter() - the same for a mapping that is there already and stays
 * @data: borrowed
 * @bytes: all of the mapping
 */
void guard_enter(struct guard *guard, void *data, size_t bytes);

/* guard_leave() - Return: true, or false: it vanished, and the mapping is one of zeros now */
bool guard_leave(struct guard *guard);

/*
 * guard_touch() - have memory for one word of a segment, so that no client's access to it can fault
 *                 later for want of room; leaves what is there
 * @fd: borrowed
 *
 * Return: 0, -ENOSPC, -EIO (somebody has truncated it), or another negative errno.
 */
int guard_touch(int fd, size_t bytes, size_t offset);

/*
 * guard_read() - a copy of part of a segment, where nothing is to be changed: much cheaper than
 *                mapping; what is not there any more reads as zeros
 * @fd: borrowed
 *
 * Return: 0, or a negative errno.
 */
int guard_read(int fd, void *buffer, size_t bytes, size_t offset);

/* guard_error() - why a segment has vanished: -ENOSPC (it is as long as it was), else -EIO */
int guard_error(int fd, size_t bytes);

#endif
