/* SPDX-License-Identifier: MIT */
/* Changes to files, where the system does not tell. */

#include "file_events.h"

#include <shmbroker/errors.h>

int file_events_open(void)
{
	return SHMB_ENOTSUP;
}

void file_events_close(int events)
{
	(void)events;
}

int file_events_add(int events, int fd)
{
	(void)events;
	(void)fd;
	return SHMB_ENOTSUP;
}

void file_events_remove(int events, int number)
{
	(void)events;
	(void)number;
}

void file_events_take(int events,
		      void (*callback)(void *context, int number, enum file_change change),
		      void *context)
{
	(void)events;
	(void)callback;
	(void)context;
}
