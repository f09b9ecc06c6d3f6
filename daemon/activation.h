/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ACTIVATION_H
#define DAEMON_ACTIVATION_H

/* What the service manager passes at the start (sd_listen_fds(3)): the listening socket, and the
 * descriptors that it has stored. */

#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

struct store;

struct stored {
	uint32_t number; /* its name */
	int fd;          /* owned; -1: somebody has taken it */
	ino_t inode;
};

struct activation {
	int listener;      /* owned; -1: none */
	unsigned n_others; /* that were of no use, and have been closed */
	struct stored *stored;
	size_t n_stored; /* ordered by number */
};

/* activation_take() - sort out what was passed. Return: 0 or -ENOMEM. */
int activation_take(struct activation *activation);

/* activation_claim() - the descriptor stored as @number with that inode. Return: it, now the
 * caller's, or -1. */
int activation_claim(struct activation *activation, uint32_t number, uint64_t inode);

/* activation_deinit() - close what nobody has claimed, and take it out of the store. Return: how
 * many those were. */
size_t activation_deinit(struct activation *activation, const struct store *store);

#endif
