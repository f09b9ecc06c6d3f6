/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* What the service manager is told. All of it does nothing when there is none. */

struct broker;

void notify_ready(struct broker *broker);
void notify_status(struct broker *broker);
void notify_reloading(void);
void notify_stopping(void);

#endif
