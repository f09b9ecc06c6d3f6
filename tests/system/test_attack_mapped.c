/* SPDX-License-Identifier: MIT */
/*
 * Attacks through what clients pass, map and grow: descriptors that are not what they seem, memory
 * that grows between a crash and the next daemon, accounts that others could be made to pay.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

#define ALLOW_ALICE "[broker]\nallow-adopt = 1001\n"

/* ---- Descriptors ---- */

enum { BIG = 512 << 20, N_BIG = 4 }; /* bytes; some 25 ms each to free */

/* Their last descriptors are on their way when they are refused. */
static void pass_in_vain(struct broker *broker, void *argument)
{
	struct raw *raw = raw_greet(broker);

	(void)argument;
	CHECK_OK(raw_begin_adopt(raw));
	say(1);
	for (int i = 0; i < N_BIG; i++) {
		struct wire_region_attached attached;
		char path[40];
		int fds[2];

		fds[0] = SYS(memfd_create("big", MFD_CLOEXEC));
		SYS(ftruncate(fds[0], BIG));
		SYS(fallocate(fds[0], 0, 0, BIG));
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
		fds[1] = SYS(open(path, O_RDONLY | O_CLOEXEC));
		CHECK_OK(raw_send_adopt(raw, "big", (uint64_t)BIG + 1, SHMB_READ, fds, 2, 2));
		close(fds[0]);
		close(fds[1]);
		CHECK_CODE(raw_answer(raw, WIRE_REGION_ADOPT, &attached), SHMB_EINVAL);
	}
	raw_free(raw);
}

CASE(closing_what_was_passed_in_vain_keeps_nobody_waiting, SYSTEM, .config = ALLOW_ALICE)
{
	struct actor alice = actor_start(broker, &ALICE, pass_in_vain, NULL);
	struct pulse pulse;
	int64_t us;

	actor_hear(&alice);
	pulse_begin(broker, &pulse);
	actor_end(&alice);
	us = pulse_end(&pulse);
	if (us >= 20000 * harness_slow())
		FAIL("somebody waited for %lld us", (long long)us);
}
