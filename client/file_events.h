/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_FILE_EVENTS_H
#define CLIENT_FILE_EVENTS_H

/* Being told by the system that a file was changed. Mapped writes are not seen. */

#include <stdbool.h>

enum file_change {
	FILE_CHANGE_CONTENT,    /* written, made longer or shorter, renamed, or gone */
	FILE_CHANGE_ATTRIBUTES, /* its permission, times, or how many names it has */
};

/* file_events_open() - a descriptor that is readable when there is something to take. Return: it,
 * or SHMB_ENOTSUP, SHMB_EMFILE, SHMB_ENFILE, SHMB_ENOMEM. */
int file_events_open(void);
void file_events_close(int events);

/*
 * file_events_add() - be told of the file behind @fd, which is borrowed
 *
 * Return: its number, the same for the same file; or SHMB_EACCES (this process may not read it),
 * SHMB_ENOSPC (too many), SHMB_ENOMEM, SHMB_ENOTSUP.
 */
int file_events_add(int events, int fd);
void file_events_remove(int events, int number);

/* file_events_take() - call @callback for what has come, with number -1 for all files; never
 * blocks */
void file_events_take(int events,
		      void (*callback)(void *context, int number, enum file_change change),
		      void *context);

#endif
