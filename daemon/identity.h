/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_IDENTITY_H
#define DAEMON_IDENTITY_H

/* Who is at the other end of a connection, as the kernel says. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct identity {
	uid_t uid;
	gid_t gid;
	pid_t pid;        /* 0: in a PID namespace that we cannot see into */
	uint64_t start;   /* of the process, clock ticks since the boot; 0: not known */
	uint64_t process; /* what no other process of this boot has, Linux 6.9; 0: not known */
	int pidfd;        /* owned; -1: none, then only a hang-up tells of its death */
	gid_t *groups;    /* owned; supplementary groups */
	size_t n_groups;
};

/*
 * identity_read() - ask the kernel about the peer of a connected socket
 *
 * Return: 0, or -EMFILE, -ENFILE, -ENOMEM, or another negative errno.
 */
int identity_read(int socket, struct identity *ret_identity);

/* identity_is_same() - is that the same process of the same user? */
bool identity_is_same(const struct identity *a, const struct identity *b);

/*
 * identity_find() - open the process that was remembered, if it lives
 * @identity: pid, start and process; its pidfd is set
 *
 * Return: 1, 0: it is gone, or -EMFILE, -ENFILE, -ENOMEM. One without a pid counts as alive.
 */
int identity_find(struct identity *identity);

/* identity_deinit() - close and free what it owns */
void identity_deinit(struct identity *identity);

bool identity_in_group(const struct identity *identity, gid_t gid);

#endif
