/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_PUNCH_H
#define DAEMON_PUNCH_H

/*
 * Giving a file's memory back, or making the file longer or shorter. It waits for the inode's lock,
 * which a writer can hold for as long as it likes, and no signal ends that.
 */

#include <stdbool.h>
#include <stdint.h>

/* punch() - here and now. Return: 0 or a negative errno. */
int punch(int fd, uint64_t from, uint64_t to);

/*
 * punch_apart() - the same in a process that has @fd alone, and shares our memory; waits for it
 *
 * Who waits like this outlives SIGKILL. A thread of ours would keep us from dying, our connections
 * from hanging up, and the next daemon from our lock.
 */
int punch_apart(int fd, uint64_t from, uint64_t to);

/*
 * truncate_check() - is there something about a file that forbids truncate_apart()? Waits for
 * nobody.
 *
 * Return: 0, -EPERM (it is sealed), -EINVAL (it has huge pages, of which that is no multiple), or
 * another negative errno.
 */
int truncate_check(int fd, uint64_t size, bool shorter);

/*
 * truncate_apart() - make a file as long as that, in such a process
 * @shorter: false: only if it is shorter; true: only if it is longer
 */
int truncate_apart(int fd, uint64_t size, bool shorter);

#endif
