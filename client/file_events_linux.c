/* SPDX-License-Identifier: MIT */
/* Changes to files, by inotify. Knows neither client nor region. */

#include "file_events.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "error.h"

enum {
	/* An open file never sees the end of itself: that its last name goes is an attribute. */
	CONTENT = IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF | IN_UNMOUNT,
	ENTRIES_BYTES = 4096, /* about a hundred at a time; equal ones are merged by the kernel */
};

int file_events_open(void)
{
	int events = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	return events >= 0 ? events : error_from_errno(errno == ENOSYS ? ENOTSUP : errno);
}

void file_events_close(int events)
{
	close(events);
}

/* By descriptor, so that it is this file whatever its name means by now. */
int file_events_add(int events, int fd)
{
	char path[32];
	int number;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	number = inotify_add_watch(events, path, IN_MODIFY | IN_MOVE_SELF | IN_ATTRIB);
	if (number >= 0)
		return number;
	return errno == ENOENT || errno == ENOTDIR ? SHMB_ENOTSUP : error_from_errno(errno);
}

void file_events_remove(int events, int number)
{
	inotify_rm_watch(events, number);
}

void file_events_take(int events,
		      void (*callback)(void *context, int number, enum file_change change),
		      void *context)
{
	_Alignas(struct inotify_event) char entries[ENTRIES_BYTES];
	ssize_t length = read(events, entries, sizeof(entries));

	for (ssize_t at = 0; at < length;) {
		const struct inotify_event *event = (const void *)(entries + at);

		if (event->mask & IN_Q_OVERFLOW)
			callback(context, -1, FILE_CHANGE_CONTENT);
		else if (event->mask & CONTENT)
			callback(context, event->wd, FILE_CHANGE_CONTENT);
		else if (event->mask & IN_ATTRIB)
			callback(context, event->wd, FILE_CHANGE_ATTRIBUTES);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}
