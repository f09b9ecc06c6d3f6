/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* What the service manager is told. All of it does nothing when there is none. */

#include <uv.h>

struct broker;

void notify_ready(struct broker *broker);
void notify_status(struct broker *broker);
void notify_reloading(void);
void notify_stopping(void);

/*
 * notify_watchdog_start() - if the manager wants to hear that the loop turns, tell it three times
 * as often as it asks to be told
 * @timer: initialized here, in any case; the caller closes it
 */
void notify_watchdog_start(uv_loop_t *loop, uv_timer_t *timer);

#endif
