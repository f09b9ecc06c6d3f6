/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that clients send: the daemon never takes one, with the kernel's help or without.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static bool kernel_refuses_fds(void)
{
	int off = 0, fd = SYS(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	int r = setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));

	close(fd);
	return r == 0;
}

static size_t encode_ping(struct wire_buffer *buffer, uint32_t msgid)
{
	static const struct wire_empty empty;

	CHECK_OK(wire_encode_request(buffer, msgid, WIRE_PING, &empty, 0));
	return buffer->length;
}

/* Does the daemon hold this file, as any of its descriptors? */
static bool daemon_holds(const struct broker *broker, int fd)
{
	struct stat ours, theirs;
	char path[64];
	int i;

	CHECK_OK(fstat(fd, &ours));
	for (i = 0; i < 1024; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)broker->pid, i);
		if (stat(path, &theirs) == 0 && theirs.st_dev == ours.st_dev &&
		    theirs.st_ino == ours.st_ino)
			return true;
	}
	return false;
}

/* Sends a ping with descriptors, before or after hello. Return: what packet_send() said. */
static int send_with_fds(struct broker *broker, bool hello, const int *fds, unsigned n)
{
	struct raw *raw = raw_connect(broker);
	struct wire_buffer buffer;
	int r;

	if (hello)
		raw_hello(raw);
	r = raw_send(raw, buffer.data, encode_ping(&buffer, 7), fds, n);
	if (r == 0)
		while (raw_receive(raw))
			CHECK(raw->message.kind == WIRE_NOTIFICATION || raw->message.failed);
	raw_free(raw);
	return r;
}

static void send_all_sorts(struct broker *broker, void *argument)
{
	struct sockaddr_storage address = { .ss_family = AF_INET };
	struct linger linger = { 1, 30 };
	bool refused = *(bool *)argument;
	int fds[3], pipe_ends[2], i;

	fds[0] = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
	SYS(pipe2(pipe_ends, O_CLOEXEC));
	fds[1] = pipe_ends[1];
	fds[2] = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); /* one that may linger */
	SYS(setsockopt(fds[2], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	(void)address;
	for (i = 0; i < 6; i++) {
		int r = send_with_fds(broker, i % 2, fds, 1 + (unsigned)i / 2);

		if (refused)
			CHECK_INT(r, -EPERM);
		else
			CHECK_INT(r, 0);
	}
	for (i = 0; i < 3; i++)
		close(fds[i]);
	/* The other end of the pipe ends when nobody holds the first, in whatever process. */
	SYS(poll(&(struct pollfd){ .fd = pipe_ends[0], .events = POLLIN }, 1, 10000));
	CHECK_INT(read(pipe_ends[0], &i, 1), 0);
	close(pipe_ends[0]);
}

CASE(the_kernel_refuses_descriptors_from_strangers, SYSTEM)
{
	bool refused = true;

	if (!kernel_refuses_fds())
		SKIP("SO_PASSRIGHTS is Linux 6.16");
	actor_run(broker, &ALICE, send_all_sorts, &refused);
	actor_run(broker, &BOB, send_all_sorts, &refused);
}

CASE(an_old_kernel_peeks_and_discards, SYSTEM, .bare = true, .faults = true)
{
	bool refused = false;

	broker_fault(broker, FAULT_PASSRIGHTS, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_start(broker);
	CHECK(broker_fault_hits(broker, FAULT_PASSRIGHTS) > 0);
	actor_run(broker, &ALICE, send_all_sorts, &refused);
	actor_run(broker, &BOB, send_all_sorts, &refused);
	shmb_client_free(connect_to(broker));
}

/* Unread, a descriptor waits in the queue of a stopped daemon; it is never taken out of it. */
static void send_and_leave(struct broker *broker, void *argument)
{
	int held = SYS(open(broker_path(broker, "held"), O_RDONLY | O_CLOEXEC));
	struct raw *raw = raw_connect(broker);
	struct wire_buffer buffer;
	int i, sent = 0;

	raw_hello(raw);
	say(1);
	hear();
	for (i = 0; i < 50; i++)
		sent += raw_send(raw, buffer.data, encode_ping(&buffer, 100), &held, 1) == 0;
	CHECK(sent > 0);
	say(1);
	hear();
	raw_free(raw);
	close(held);
}

CASE(no_descriptor_ever_shows_up_in_the_daemon, SYSTEM, .bare = true, .faults = true)
{
	struct actor actor;
	int held;

	held = SYS(open(broker_path(broker, "held"), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	broker_fault(broker, FAULT_PASSRIGHTS, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_start(broker);
	actor = actor_start(broker, &ALICE, send_and_leave, NULL);
	actor_hear(&actor);
	SYS(kill(broker->pid, SIGSTOP));
	actor_say(&actor, 1);
	actor_hear(&actor);
	SYS(kill(broker->pid, SIGCONT));
	UNTIL(broker, broker_stat(broker, "dropped_total") == 1);
	CHECK(!daemon_holds(broker, held));
	actor_say(&actor, 1);
	actor_end(&actor);
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
	CHECK(!daemon_holds(broker, held));
	close(held);
}

/*
 * Where not even a throwaway process can be made, the daemon neither hangs nor ends: it keeps the
 * connection.
 */
CASE(no_process_for_the_discarding, SYSTEM, .bare = true, .faults = true, .keeps_fds = true)
{
	bool refused = false;
	struct actor actor;

	broker_fault(broker, FAULT_PASSRIGHTS, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_start(broker);
	broker_fault(broker, FAULT_FORK, EAGAIN, 0, 2);
	actor = actor_start(broker, &ALICE, send_all_sorts, &refused);
	UNTIL(broker, broker_fault_hits(broker, FAULT_FORK) > 0);
	shmb_client_free(connect_to(broker));
	actor_kill(&actor);
}

/* Descriptors sent while the daemon does not look, by a client that is gone when it does. */
static void send_and_vanish(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	struct wire_buffer buffer;
	int null = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));

	raw_hello(raw);
	say(1);
	hear();
	raw_send(raw, buffer.data, encode_ping(&buffer, 100), &null, 1);
	raw_send(raw, buffer.data, encode_ping(&buffer, 101), &null, 1);
}

CASE(a_queue_of_descriptors_left_by_the_dead, SYSTEM, .bare = true, .faults = true)
{
	struct actor actor;

	broker_fault(broker, FAULT_PASSRIGHTS, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_start(broker);
	actor = actor_start(broker, &ALICE, send_and_vanish, NULL);
	actor_hear(&actor);
	SYS(kill(broker->pid, SIGSTOP));
	actor_say(&actor, 1);
	actor_end(&actor);
	SYS(kill(broker->pid, SIGCONT));
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
	shmb_client_free(connect_to(broker));
}

/* Descriptors behind what reads like the end of the queue. */
static void send_behind_empty_packets(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	struct wire_buffer buffer;
	int null = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));

	raw_hello(raw);
	say(1);
	hear();
	for (int i = 0; i < 3; i++)
		SYS(send(raw->socket, "", 0, 0));
	CHECK_OK(raw_send(raw, buffer.data, encode_ping(&buffer, 100), &null, 1));
}

/* With an answer unread the end of the client is a reset, which the daemon is told before it gets
 * to the packet. */
static void send_behind_a_reset(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	struct wire_buffer buffer;
	int null = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));

	raw_hello(raw);
	CHECK_OK(raw_send(raw, buffer.data, encode_ping(&buffer, 99), NULL, 0));
	CHECK(raw_ready(raw, 10000));
	say(1);
	hear();
	CHECK_OK(raw_send(raw, buffer.data, encode_ping(&buffer, 100), &null, 1));
}

/* Descriptors that the daemon saw go to a throwaway process: that it wants one tells that it has
 * not received them. */
static void check_discarded(struct broker *broker, actor_fn *function)
{
	struct actor actor;

	broker_fault(broker, FAULT_PASSRIGHTS, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_start(broker);
	broker_fault(broker, FAULT_FORK, EAGAIN, 0, 1);
	actor = actor_start(broker, &ALICE, function, NULL);
	actor_hear(&actor);
	SYS(kill(broker->pid, SIGSTOP));
	actor_say(&actor, 1);
	actor_end(&actor);
	SYS(kill(broker->pid, SIGCONT));
	UNTIL(broker, broker_fault_hits(broker, FAULT_FORK) == 1);
	shmb_client_free(connect_to(broker));
}

CASE(descriptors_behind_empty_packets, SYSTEM, .bare = true, .faults = true, .keeps_fds = true)
{
	check_discarded(broker, send_behind_empty_packets);
}

CASE(descriptors_behind_a_reset, SYSTEM, .bare = true, .faults = true, .keeps_fds = true)
{
	check_discarded(broker, send_behind_a_reset);
}
