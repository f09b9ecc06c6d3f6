/* SPDX-License-Identifier: MIT */
/*
 * Attacks through what clients pass, map and grow: descriptors that are not what they seem, memory
 * that grows between a crash and the next daemon, accounts that others could be made to pay.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

#define ALLOW_ALICE "[broker]\nallow-adopt = 1001\n"

/* ---- Growing ---- */

static uint64_t hold_lock(struct raw *raw, uint64_t handle)
{
	struct wire_region_lock_result lock;
	struct layout_lock *words;
	int fd;

	CHECK_OK(raw_region_lock(raw, handle, &lock, &fd));
	words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(words != MAP_FAILED);
	close(fd);
	/* As a client that lies does it; the daemon knows no more than what stands there. */
	atomic_store(&words->slots[lock.slot - 1].held, 1);
	atomic_store(&words->word, (uint32_t)lock.slot);
	munmap(words, 4096);
	return lock.slot;
}

static int grow(struct raw *raw, uint64_t handle, uint64_t capacity)
{
	const struct wire_region_grow_params params = { .handle = handle, .capacity = capacity };

	return raw_call(raw, WIRE_REGION_GROW, &params, NULL);
}

static int grown(struct raw *raw, uint64_t handle, uint64_t size)
{
	const struct wire_region_grown_params params = { .handle = handle, .size = size };

	return raw_call(raw, WIRE_REGION_GROWN, &params, NULL);
}

/* The page, too, which was put there with the data that is gone. */
CASE(what_has_grown_is_all_in_the_store, SYSTEM, .fd_store = 64)
{
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached attached, other;
	unsigned stored;
	int fds[2];
	char byte = 0;

	CHECK_OK(raw_create(raw, "g", 4096, 0700, SHMB_PERSISTENT, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	hold_lock(raw, attached.handle);
	stored = store_count(broker->store);
	CHECK_OK(grow(raw, attached.handle, 65536));
	CHECK_INT(pwrite(raw->packet.fds[0], "x", 1, 5000), 1);
	CHECK_OK(grown(raw, attached.handle, 65536));
	CHECK_INT(store_count(broker->store), stored);
	CHECK_INT(broker_stat(broker, "stored_fds"), stored);
	raw_make(raw, "next", SHMB_PERSISTENT); /* takes a number that has become free */
	raw = raw_survive(broker, raw, 0);
	CHECK_OK(raw_open(raw, "g", SHMB_READ, &other, fds));
	CHECK_INT(other.capacity, 65536);
	CHECK_INT(other.generation, 1);
	CHECK_INT(pread(fds[0], &byte, 1, 5000), 1);
	CHECK_INT(byte, 'x');
	close(fds[0]);
	close(fds[1]);
	CHECK_OK(raw_open(raw, "next", SHMB_READ, &other, fds));
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}

/* The store would keep one of the two, and the next broker miss the other. */
CASE(what_a_region_grows_into_is_no_other_region, SYSTEM, .fd_store = 64)
{
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached attached;
	int fds[2], given[2];
	char path[40];

	CHECK_OK(raw_begin_adopt(raw));
	CHECK_OK(raw_create(raw, "g", 4096, 0700, SHMB_PERSISTENT, &attached, given));
	close(given[0]);
	close(given[1]);
	hold_lock(raw, attached.handle);
	CHECK_OK(grow(raw, attached.handle, 65536));
	fds[0] = SYS(dup(raw->packet.fds[0]));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	fds[1] = SYS(open(path, O_RDONLY | O_CLOEXEC));
	CHECK_CODE(raw_adopt(raw, "other", 65536, SHMB_READ, fds, 2, 2, &attached, given),
		   SHMB_EBUSY);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}

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

/* ---- Memory whose last descriptor is the broker's, in a queue ---- */

enum { HUGE_BYTES = 1 << 30 };

/* Answers that are not read, until one has to wait. Return: how many fitted. */
static unsigned fill(struct broker *broker, struct raw *raw, unsigned most)
{
	unsigned n = 0;

	while (n < most && broker_stat(broker, "queued_bytes") == 0) {
		CHECK_OK(raw_request(raw, WIRE_STATS, NULL));
		broker_turn(broker);
		n++;
	}
	return n;
}

/* A region has grown, and of its memory before that there is but a descriptor that is queued for
 * the connection that is returned. */
static struct raw *leave_the_last_one_in_a_queue(struct broker *broker)
{
	struct raw *raw = raw_greet(broker), *full = raw_greet(broker), *slow = raw_greet(broker);
	struct wire_region_attached attached, opened;
	struct wire_region_handle data;
	int fds[2];
	unsigned n;

	CHECK_OK(raw_create(raw, "big", HUGE_BYTES, 0700, SHMB_PERSISTENT, &attached, fds));
	SYS(fallocate(fds[0], 0, 0, HUGE_BYTES));
	close(fds[0]);
	close(fds[1]);
	CHECK_OK(raw_open(slow, "big", SHMB_READ | SHMB_WRITE, &opened, fds));
	close(fds[0]);
	close(fds[1]);
	n = fill(broker, full, UINT_MAX) - 1;
	raw_free(full);
	UNTIL(broker, broker_stat(broker, "queued_bytes") == 0);
	CHECK_INT(fill(broker, slow, n), n);
	data.handle = opened.handle;
	CHECK_OK(raw_request(slow, WIRE_REGION_DATA, &data));
	UNTIL(broker, broker_stat(broker, "queued_bytes") > 0);
	hold_lock(raw, attached.handle);
	CHECK_OK(grow(raw, attached.handle, HUGE_BYTES + 4096));
	CHECK_OK(grown(raw, attached.handle, HUGE_BYTES));
	CHECK_OK(raw_remove(raw, "big", RAW_REGION));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "attachments") == 1);
	return slow;
}

CASE(what_is_queued_and_never_read_is_destroyed_off_the_loop, SYSTEM, .timeout_s = 60)
{
	struct raw *slow = leave_the_last_one_in_a_queue(broker);
	struct pulse pulse;
	int64_t us;

	pulse_begin(broker, &pulse);
	raw_free(slow);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	us = pulse_end(&pulse);
	if (us >= 20000 * harness_slow())
		FAIL("somebody waited for %lld us", (long long)us);
}

/* ---- Tickets ---- */

/* Whoever keeps descriptors in flight can make that happen to others. */
CASE(a_ticket_whose_answer_cannot_be_sent_is_still_good, SYSTEM, .faults = true, .fd_store = 64)
{
	struct raw *raw = raw_greet(broker);
	const struct wire_region_ticket_params params = { .handle =
								  raw_make(raw, "t", SHMB_ATTACHED),
							  .access = SHMB_READ };
	struct wire_region_redeem_params redeem = { .access = SHMB_READ };
	struct wire_region_ticket_result ticket;
	uint8_t token[16];

	CHECK_OK(raw_call(raw, WIRE_REGION_TICKET, &params, &ticket));
	memcpy(token, ticket.ticket.data, sizeof(token));
	redeem.ticket = (struct wire_bytes){ (const char *)token, sizeof(token) };
	broker_fault(broker, FAULT_SEND_FDS, ETOOMANYREFS, 0, 1);
	CHECK_CODE(raw_call(raw, WIRE_REGION_REDEEM, &redeem, NULL), SHMB_ETOOMANYREFS);
	raw = raw_survive(broker, raw, 0);
	CHECK_OK(raw_call(raw, WIRE_REGION_REDEEM, &redeem, NULL));
	CHECK_CODE(raw_call(raw, WIRE_REGION_REDEEM, &redeem, NULL), SHMB_ENOENT);
	CHECK_INT(broker_stat(broker, "attachments"), 2);
	raw_free(raw);
}
