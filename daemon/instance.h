/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_INSTANCE_H
#define DAEMON_INSTANCE_H

/* One daemon per runtime directory, and the identity under which its shm objects are named. */

#include <stdint.h>
#include <sys/types.h>

struct instance {
	uint64_t id;       /* random; part of each shm object's name */
	uint64_t previous; /* of the daemon before us that left no word; 0: none */
	int lock_fd;
	char *lock_path;
};

/*
 * instance_acquire() - take the lock of @directory; instance_name() comes next
 * @mode:       of the directory, which is made if it does not exist
 * @ret_holder: on -EEXIST: pid of the daemon that holds the lock, 0 if unknown
 *
 * The lock file says "PID INSTANCE". It is found again with a dead daemon's id in it if that one
 * did not end in order.
 *
 * Return: 0, -EEXIST, or a negative errno.
 */
int instance_acquire(struct instance *instance, const char *directory, mode_t mode,
		     pid_t *ret_holder);

/*
 * instance_name() - say who we are, in the lock file
 * @id: of the daemon whose memory we take over; 0: draw a new one
 *
 * Return: 0, or a negative errno.
 */
int instance_name(struct instance *instance, uint64_t id);

/* instance_leave() - let the lock go, but leave the file as it is: the next daemon takes over */
void instance_leave(struct instance *instance);

/* instance_release() - remove the lock file and let the lock go */
void instance_release(struct instance *instance);

#endif
