/* SPDX-License-Identifier: MIT */
/*
 * Futexes, shared between processes: not the PRIVATE kind, as the word is found by the memory
 * object behind the mapping and not by its address. Both calls work on read-only mappings.
 */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "layout/futex.h"

enum { NS_PER_S = 1000000000 };

/* FUTEX_WAIT measures its relative timeout by CLOCK_MONOTONIC: setting the time disturbs nobody. */
int futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
	struct timespec timeout = { 0 };

	if (timeout_ns > 0) {
		timeout.tv_sec = (time_t)(timeout_ns / NS_PER_S);
		timeout.tv_nsec = (long)(timeout_ns % NS_PER_S);
	}
	if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, NULL, 0) == 0)
		return 0;
	/* EAGAIN: the word differs; EINTR: a signal. Both mean: look again. */
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

int futex_wake(const uint32_t *word, int n)
{
	long woken = syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);

	return woken > 0 ? (int)woken : 0;
}

void futex_wake_all(const uint32_t *word)
{
	futex_wake(word, INT_MAX);
}
