/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CLOCK_H
#define CLIENT_CLOCK_H

/*
 * The one clock that everything here waits by.
 */

#include <stdint.h>

/* clock_now() - nanoseconds of CLOCK_MONOTONIC */
int64_t clock_now(void);

/* clock_sleep() - for so many nanoseconds, less than a second; signals may make it less */
void clock_sleep(int64_t duration);

/* clock_poll_ms() - milliseconds from now to @deadline for poll(2), rounded up, not negative */
int clock_poll_ms(int64_t deadline);

#endif
