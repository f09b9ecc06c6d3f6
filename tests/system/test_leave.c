/* SPDX-License-Identifier: MIT */
/*
 * What must not be seen, nor remembered: the end that everything in a daemon comes to when it stops
 * and leaves all to the next one, and what was taken for an answer that could not be sent.
 */
#include <poll.h>
#include <unistd.h>

#include "harness.h"

/* ---- A daemon that leaves ---- */

static void note_types(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	unsigned *types = userdata;

	(void)region;
	*types |= event->types;
}

/* All events that are on their way. With the first answer the library asks for its watches again,
 * and what it has heard it tells when that is answered, which is before the second. */
static void hear_all(struct shmb_client *client)
{
	struct pollfd poll_fd = { .fd = SYS(shmb_client_get_fd(client)), .events = POLLIN };

	CHECK_OK(shmb_client_ping(client));
	CHECK_OK(shmb_client_ping(client));
	while (SYS(poll(&poll_fd, 1, 0)) > 0)
		CHECK(shmb_client_process(client) >= 0);
}

static void watch_a_leave(struct broker *broker, enum shmb_lifetime lifetime)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	/* The daemon goes through its connections in the order in which they came. */
	struct shmb_client *maker = connect_to(broker), *watcher = connect_to(broker);
	struct shmb_region *made, *watched;
	unsigned types = 0;

	options.lifetime = lifetime;
	made = create(maker, "r", 4096, &options);
	watched = open_region(watcher, "r", SHMB_READ);
	CHECK_OK(shmb_region_watch(watched, SHMB_EVENT_REMOVED | SHMB_EVENT_PUBLISHED, 0,
				   note_types, &types));
	CHECK_INT(broker_leave(broker), 0);
	broker_restart(broker);
	hear_all(watcher);
	CHECK_INT(types, 0);
	CHECK_OK(shmb_region_remove(maker, "r"));
	hear_all(watcher);
	CHECK_INT(types, SHMB_EVENT_REMOVED);
	shmb_region_free(watched);
	shmb_region_free(made);
	shmb_client_free(watcher);
	shmb_client_free(maker);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(a_region_that_stays_is_not_told_to_be_removed, PRIVATE, .on_stop = "keep")
{
	watch_a_leave(broker, SHMB_ATTACHED);
	watch_a_leave(broker, SHMB_SESSION);
	watch_a_leave(broker, SHMB_PERSISTENT);
}

/* ---- An answer that could not be sent ---- */

CASE(a_slot_that_nobody_was_told_is_nobodys_after_a_crash, PRIVATE, .faults = true)
{
	struct raw *first = raw_greet(broker), *second = raw_greet(broker);
	uint64_t mine = raw_make(first, "r", SHMB_ATTACHED), theirs;
	struct wire_region_lock_result slot;
	struct wire_region_attached attached;
	int fd, fds[2];

	CHECK_OK(raw_open(second, "r", SHMB_READ | SHMB_WRITE, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	theirs = attached.handle;
	broker_fault(broker, FAULT_SEND_FDS, ENOBUFS, 0, 1);
	CHECK(raw_region_lock(first, mine, &slot, &fd) < 0);
	CHECK_INT(broker_fault_hits(broker, FAULT_SEND_FDS), 1);
	CHECK_OK(raw_region_lock(second, theirs, &slot, &fd));
	close(fd);
	CHECK_INT(slot.slot, 1);
	CHECK_INT(broker_stat(broker, "slots"), 1);
	broker_crash(broker);
	broker_restart(broker);
	CHECK_INT(broker_stat(broker, "slots"), 1);
	CHECK_INT(broker_stat(broker, "attachments"), 2);
	first = raw_return(broker, first, 0);
	second = raw_return(broker, second, 0);
	CHECK_OK(raw_region_lock(second, theirs, &slot, &fd));
	close(fd);
	CHECK_INT(slot.slot, 1);
	CHECK_OK(raw_region_lock(first, mine, &slot, &fd));
	close(fd);
	CHECK_INT(slot.slot, 2);
	raw_free(first);
	raw_free(second);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}
