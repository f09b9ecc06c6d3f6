/* SPDX-License-Identifier: MIT */
/*
 * Clients that die, stop, fork, or do not read: what the broker undoes, when, and for whom.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static void hold_a_region(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);

	create(client, "held", 4096, NULL);
	say(1);
	hear();
	_exit(0);
}

CASE(a_killed_client_holds_nothing, SYSTEM)
{
	struct actor actor = actor_start(broker, &ALICE, hold_a_region, NULL);

	actor_hear(&actor);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	actor_kill(&actor);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
	CHECK_INT(broker_stat(broker, "connections"), 1);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
}

static void hold_one_of_many(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	char name[32];

	snprintf(name, sizeof(name), "held/%d", (int)getpid());
	create(client, name, 4096, NULL);
	hear();
}

CASE(a_hundred_killed_at_once, SYSTEM)
{
	unsigned round, i;

	/* At any point of their lives: connecting, creating, holding. */
	for (round = 0; round < 4; round++) {
		for (i = 0; i < 25; i++)
			actor_start(broker, i % 2 ? &ALICE : &BOB, hold_one_of_many, NULL);
		actors_kill();
		UNTIL(broker, broker_stat(broker, "connections") == 1);
		UNTIL(broker, broker_stat(broker, "regions") == 0);
	}
}

/* Forks a child that inherits the connection and lives on. */
static void leave_a_child_behind(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "held", 4096, NULL);
	pid_t pid;

	(void)region;
	pid = SYS(fork());
	if (pid == 0) {
		say((uint64_t)getpid());
		hear(); /* fails when the test ends, which is soon enough */
		_exit(0);
	}
	hear();
	_exit(0);
}

CASE(attachments_go_with_the_process_though_a_child_holds_the_connection, SYSTEM)
{
	struct actor actor = actor_start(broker, &ALICE, leave_a_child_behind, NULL);
	pid_t child = (pid_t)actor_hear(&actor);

	CHECK_INT(broker_stat(broker, "attachments"), 1);
	kill(actor.pid, SIGKILL);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_OK(kill(child, 0)); /* it still lives, and still holds the socket */
	kill(child, SIGKILL);
	UNTIL(broker, kill(child, 0) < 0 || broker_stat(broker, "connections") == 1);
	actor_kill(&actor);
}

CASE(the_same_by_hang_up_alone_on_an_old_kernel, SYSTEM, .faults = true)
{
	struct actor actor;

	broker_fault(broker, FAULT_PEERPIDFD, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_fault(broker, FAULT_PIDFD_OPEN, ENOSYS, 0, FAULT_FOREVER);
	actor = actor_start(broker, &ALICE, hold_a_region, NULL);
	actor_hear(&actor);
	CHECK(broker_fault_hits(broker, FAULT_PEERPIDFD) > 0);
	CHECK(broker_fault_hits(broker, FAULT_PIDFD_OPEN) > 0);
	actor_kill(&actor);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(the_same_by_pidfd_open_before_linux_6_5, SYSTEM, .faults = true)
{
	struct actor actor;
	pid_t child;

	broker_fault(broker, FAULT_PEERPIDFD, ENOPROTOOPT, 0, FAULT_FOREVER);
	actor = actor_start(broker, &ALICE, leave_a_child_behind, NULL);
	child = (pid_t)actor_hear(&actor);
	CHECK(broker_fault_hits(broker, FAULT_PEERPIDFD) > 0);
	kill(actor.pid, SIGKILL);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_OK(kill(child, 0));
	kill(child, SIGKILL);
	actor_kill(&actor);
}

CASE(a_stopped_client_is_alive, SYSTEM, .arguments = { "--slow-timeout=100ms" })
{
	struct actor actor = actor_start(broker, &ALICE, hold_a_region, NULL);
	int64_t end;

	actor_hear(&actor);
	SYS(kill(actor.pid, SIGSTOP));
	for (end = harness_now_ms() + 500; harness_now_ms() < end;)
		broker_turn(broker);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	CHECK_INT(broker_stat(broker, "connections"), 2);
	CHECK_INT(broker_stat(broker, "dropped_total"), 0);
	SYS(kill(actor.pid, SIGCONT));
	actor_say(&actor, 1);
	actor_end(&actor);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* ---- Condemned ---- */

static void break_the_protocol(struct broker *broker, void *argument)
{
	struct wire_region_attached attached;
	struct raw *raw = raw_connect(broker);
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_create(raw, "held", 4096, 0700, SHMB_ATTACHED, &attached, fds));
	CHECK_OK(raw_send(raw, "\xc1", 1, NULL, 0));
	CHECK_CODE(raw_goodbye(raw), SHMB_EPROTO);
	say(1);
	hear();
	_exit(0);
}

CASE(a_condemned_peer_keeps_what_it_holds_until_its_process_ends, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct actor actor = actor_start(broker, &ALICE, break_the_protocol, NULL);

	actor_hear(&actor);
	UNTIL(broker, broker_stat(broker, "condemned") == 1);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	CHECK_INT(broker_stat(broker, "dropped_total"), 1);
	CHECK_OK(shmb_region_stat(client, "held", &info));
	CHECK_INT(info.attachments, 1);
	actor_kill(&actor);
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
	UNTIL(broker, shmb_region_stat(client, "held", &info) == SHMB_ENOENT);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
	shmb_client_free(client);
}

CASE(a_condemned_peer_of_an_old_kernel, SYSTEM, .faults = true)
{
	struct actor actor;

	broker_fault(broker, FAULT_PEERPIDFD, ENOPROTOOPT, 0, FAULT_FOREVER);
	actor = actor_start(broker, &ALICE, break_the_protocol, NULL);
	actor_hear(&actor);
	UNTIL(broker, broker_stat(broker, "condemned") == 1);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	actor_say(&actor, 1);
	actor_end(&actor);
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
}

/* ---- Slow ---- */

/* Asks and asks and reads nothing, whenever there is room again, until the daemon has had enough.
 */
static void ask_and_do_not_read(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	struct pollfd poll_fd = { .fd = raw->socket, .events = POLLOUT | POLLRDHUP };
	int r;

	raw_hello(raw);
	while (poll(&poll_fd, 1, 20000) == 1 && !(poll_fd.revents & POLLRDHUP)) {
		r = raw_request(raw, WIRE_STATS, NULL);
		CHECK(r == 0 || r == -EAGAIN || r == -EPIPE || r == -ECONNRESET);
	}
	CHECK(poll_fd.revents & POLLRDHUP);
	raw_free(raw);
}

CASE(a_client_that_does_not_read_is_dropped_alone, SYSTEM,
     .arguments = { "--slow-timeout=500ms", "--log-level=info" })
{
	struct actor slow = actor_start(broker, &ALICE, ask_and_do_not_read, NULL);
	struct shmb_client *client = connect_to(broker);
	int64_t worst = 0, start;

	while (broker_stat(broker, "dropped_total") == 0) {
		start = harness_now_ms();
		CHECK_OK(shmb_client_ping(client));
		if (harness_now_ms() - start > worst)
			worst = harness_now_ms() - start;
		broker_turn(broker);
	}
	actor_end(&slow);
	CHECK(worst < 100 * harness_slow()); /* the others never noticed */
	CHECK_OK(shmb_client_ping(client));
	UNTIL(broker, broker_stat(broker, "queued_bytes") == 0);
	shmb_client_free(client);
}

/* Back-pressure alone is no reason to be dropped: one that reads late, but reads, gets it all. */
static void ask_a_lot_then_read_it_all(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	unsigned sent = 0, received = 0;

	raw_hello(raw);
	while (received < 20000) {
		while (sent < 20000 && raw_request(raw, WIRE_PING, NULL) == 0)
			sent++;
		raw->msgid = sent + 1; /* the one that did not go out is asked again */
		CHECK_INT(raw_receive(raw), 1);
		received++;
		CHECK_INT(raw->message.msgid, received + 1);
	}
	raw_free(raw);
}

CASE(thousands_of_pipelined_requests_are_answered_in_order, SYSTEM)
{
	actor_run(broker, &ALICE, ask_a_lot_then_read_it_all, NULL);
	CHECK_INT(broker_stat(broker, "dropped_total"), 0);
}

/* Opens without reading: every reply holds two descriptors in flight. */
static void open_and_do_not_read(struct broker *broker, void *argument)
{
	struct wire_region_open_params params = { .name = wire_string("common"), .access = 4 };
	struct raw *raw = raw_connect(broker);
	unsigned sent = 0;
	int r, i;

	raw_hello(raw);
	do {
		r = raw_request(raw, WIRE_REGION_OPEN, &params);
		sent += r == 0;
	} while (r == 0 && sent < 5000);
	say(sent);
	hear();
	for (i = 0; i < (int)sent; i++) {
		CHECK_INT(raw_receive(raw), 1);
		CHECK(!raw->message.failed);
		CHECK_INT(raw->packet.n_fds, 2);
	}
	say(1);
	hear();
	raw_free(raw);
}

CASE(descriptors_in_flight_are_bounded, SYSTEM,
     .arguments = { "--fds-in-flight-per-connection=16", "--fds-in-flight-per-user=64" })
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region, *other;
	struct actor greedy;

	options.mode = 0744;
	region = create(client, "common", 4096, &options);
	greedy = actor_start(broker, &ALICE, open_and_do_not_read, NULL);
	CHECK(actor_hear(&greedy) > 16);
	UNTIL(broker, broker_stat(broker, "fds_in_flight") >= 14);
	CHECK(broker_stat(broker, "fds_in_flight") <= 16 + 4);
	other = open_region(client, "common", SHMB_READ); /* others are served */
	shmb_region_free(other);
	actor_say(&greedy, 1);
	actor_hear(&greedy); /* read, it gets all of its replies */
	actor_say(&greedy, 1);
	actor_end(&greedy);
	UNTIL(broker, broker_stat(broker, "attachments") == 1);
	CHECK(broker_stat(broker, "fds_in_flight") <= 4);
	shmb_region_free(region);
	shmb_client_free(client);
}
