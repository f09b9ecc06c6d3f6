/* SPDX-License-Identifier: MIT */
/*
 * Time, as deadlines need it.
 */

#include "clock.h"

#include <limits.h>
#include <time.h>

#include "client.h"

int64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void clock_sleep(int64_t duration)
{
	struct timespec rest = { .tv_nsec = (long)duration };

	nanosleep(&rest, NULL);
}

int clock_poll_ms(int64_t deadline)
{
	int64_t left = deadline - clock_now();

	if (left <= 0)
		return 0;
	left = (left + 999999) / 1000000;
	return left > INT_MAX ? INT_MAX : (int)left;
}

int64_t client_deadline(const struct shmb_client *client)
{
	return clock_now() + (int64_t)atomic_load(&client->timeout_ms) * 1000000;
}
