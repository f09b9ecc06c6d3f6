/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that are not what they should be, or do harm to who asks or closes them: refused or
 * left to a process of their own, while the daemon goes on answering everybody else, and nothing
 * stays behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "harness.h"

#define ALLOW_BOTH "[broker]\nallow-adopt = 1001, 1002\n"

enum { BYTES = 8192, BOTH = SHMB_READ | SHMB_WRITE };

/* ---- What there is to pass ---- */

/* Two descriptors of one memfd, as they should be. */
static void good_pair(int ret_fds[2])
{
	char path[32];

	ret_fds[0] = SYS(memfd_create("good", MFD_CLOEXEC));
	SYS(ftruncate(ret_fds[0], BYTES));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ret_fds[0]);
	ret_fds[1] = SYS(open(path, O_RDONLY | O_CLOEXEC));
}

static void close_pair(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

static struct raw *begun(struct broker *broker)
{
	struct raw *raw = raw_greet(broker);

	CHECK_OK(raw_begin_adopt(raw));
	return raw;
}

/* What every connection can still do, whatever it has passed. */
static void adopt_well(struct raw *raw, const char *name)
{
	struct wire_region_attached attached;
	int fds[2], given[2];

	good_pair(fds);
	CHECK_OK(raw_adopt(raw, name, BYTES, BOTH, fds, 2, 2, &attached, given));
	CHECK_INT(attached.created, 1);
	CHECK_INT(attached.backing, SHMB_BACKING_FILE);
	CHECK_OK(raw_close(raw, attached.handle));
	close_pair(given);
	close_pair(fds);
}

static unsigned children_of(pid_t pid)
{
	char path[64], buffer[4096];
	unsigned n = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fscanf(file, "%4095s", buffer) == 1)
		n++;
	fclose(file);
	return n;
}

static int adopt_pair(struct raw *raw, const int fds[2], unsigned access)
{
	struct wire_region_attached attached;
	int given[2], r = raw_adopt(raw, "bad", BYTES, access, fds, 2, 2, &attached, given);

	if (r == 0) {
		CHECK_OK(raw_close(raw, attached.handle));
		close_pair(given);
	}
	return r;
}

/* The same thing twice. */
static void check_refused(struct raw *raw, int fd, int code, const char *what)
{
	int fds[2] = { fd, fd }, r = adopt_pair(raw, fds, SHMB_READ);

	if (r != code)
		FAIL("%s: %s", what, shmb_error_name(r));
	close(fd);
}

static int a_socket(void)
{
	return SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int a_signalfd(void)
{
	sigset_t set;

	sigemptyset(&set);
	return SYS(signalfd(-1, &set, SFD_CLOEXEC));
}

CASE(F03_what_is_no_file_of_a_local_file_system_is_refused, PRIVATE)
{
	struct raw *raw = begun(broker);
	int pipes[2], secret;

	SYS(pipe2(pipes, O_CLOEXEC));
	check_refused(raw, pipes[0], SHMB_ENOTSUP, "pipe");
	check_refused(raw, pipes[1], SHMB_EMODE, "pipe's end");
	check_refused(raw, a_socket(), SHMB_ENOTSUP, "socket");
	check_refused(raw, SYS(open("/", O_RDONLY | O_CLOEXEC)), SHMB_ENOTSUP, "directory");
	check_refused(raw, SYS(open("/dev/zero", O_RDONLY | O_CLOEXEC)), SHMB_ENOTSUP, "device");
	check_refused(raw, SYS(open("/dev/ptmx", O_RDONLY | O_NOCTTY | O_CLOEXEC)), SHMB_ENOTSUP,
		      "terminal");
	check_refused(raw, SYS(open("/proc/self/status", O_RDONLY | O_CLOEXEC)), SHMB_ENOTSUP,
		      "proc");
	check_refused(raw, SYS(open("/proc/self/mem", O_RDONLY | O_CLOEXEC)), SHMB_ENOTSUP, "mem");
	check_refused(
		raw, SYS(open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC)),
		SHMB_ENOTSUP, "sys");
	check_refused(raw, SYS(eventfd(0, EFD_CLOEXEC)), SHMB_ENOTSUP, "eventfd");
	check_refused(raw, SYS(epoll_create1(EPOLL_CLOEXEC)), SHMB_ENOTSUP, "epoll");
	check_refused(raw, SYS(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)), SHMB_ENOTSUP,
		      "timerfd");
	check_refused(raw, a_signalfd(), SHMB_ENOTSUP, "signalfd");
	check_refused(raw, SYS(pidfd_open(getpid(), 0)), SHMB_ENOTSUP, "pidfd");
	check_refused(raw, SYS(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)), SHMB_ENOTSUP,
		      "namespace");
	check_refused(raw, SYS(open(broker->directory, O_PATH | O_CLOEXEC)), SHMB_EMODE, "path");
	secret = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	if (secret >= 0) {
		SYS(ftruncate(secret, BYTES));
		check_refused(raw, secret, SHMB_ENOTSUP, "secret memory");
	}
	adopt_well(raw, "good");
	raw_free(raw);
	UNTIL(broker, children_of(broker->pid) == 0);
	CHECK_INT(broker_stat(broker, "regions"), 0);
	CHECK_INT(broker_stat(broker, "dropped_total"), 0);
}

CASE(F03_descriptors_that_are_open_for_the_wrong_thing_are_refused, PRIVATE)
{
	struct raw *raw = begun(broker);
	int good[2], other[2], fds[2], writer;
	char path[32];

	good_pair(good);
	good_pair(other);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", good[0]);
	writer = SYS(open(path, O_WRONLY | O_CLOEXEC));
	/* What readers would get could be written. */
	fds[0] = good[0];
	fds[1] = good[0];
	CHECK_CODE(adopt_pair(raw, fds, BOTH), SHMB_EMODE);
	fds[1] = writer;
	CHECK_CODE(adopt_pair(raw, fds, BOTH), SHMB_EMODE);
	fds[0] = writer;
	fds[1] = good[1];
	CHECK_CODE(adopt_pair(raw, fds, BOTH), SHMB_EMODE);
	/* Nobody may write, and yet somebody wants to. */
	fds[0] = good[1];
	CHECK_CODE(adopt_pair(raw, fds, BOTH), SHMB_EMODE);
	CHECK_OK(adopt_pair(raw, fds, SHMB_READ));
	/* Two files. */
	fds[0] = good[0];
	fds[1] = other[1];
	CHECK_CODE(adopt_pair(raw, fds, BOTH), SHMB_EINVAL);
	/* Shorter than it is said to be. */
	SYS(ftruncate(good[0], BYTES - 1));
	fds[1] = good[1];
	CHECK_CODE(adopt_pair(raw, fds, BOTH), SHMB_EINVAL);
	SYS(ftruncate(good[0], BYTES));
	CHECK_OK(adopt_pair(raw, fds, BOTH));
	close(writer);
	close_pair(good);
	close_pair(other);
	raw_free(raw);
}

/* ---- More or fewer than stated ---- */

/* Any number of them. */
static void send_many(struct raw *raw, const struct wire_buffer *buffer, int fd, unsigned n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)] = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buffer->data,
			     .iov_len = buffer->length };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = CMSG_SPACE(sizeof(int) * n) };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int) * n);
	for (unsigned i = 0; i < n; i++)
		memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof(fd));
	SYS(sendmsg(raw->socket, &message, MSG_NOSIGNAL));
}

/* Whatever it says to this one, it has nothing of it. */
static void check_answer(struct broker *broker, struct raw *raw, enum wire_method_id method)
{
	int r = raw_answer(raw, method, NULL);

	if (r != SHMB_EPROTO && r != SHMB_EDISCONNECTED)
		FAIL("%s: %s", wire_methods[method].name, shmb_error_name(r));
	raw_free(raw);
	UNTIL(broker, children_of(broker->pid) == 0);
	CHECK_INT(broker_stat(broker, "regions"), 0);
}

CASE(F03_more_or_fewer_descriptors_than_stated, PRIVATE)
{
	static const struct {
		unsigned sent, stated;
	} wrong[] = { { 0, 2 }, { 1, 2 }, { 3, 2 }, { 4, 2 }, { 2, 0 },
		      { 2, 1 }, { 2, 3 }, { 1, 1 }, { 4, 4 }, { 0, 0 } };
	struct wire_buffer ping;
	int fds[4];

	good_pair(fds);
	fds[2] = fds[0];
	fds[3] = fds[1];
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct raw *raw = begun(broker);

		CHECK_OK(raw_send_adopt(raw, "bad", BYTES, BOTH, fds, wrong[i].sent,
					wrong[i].stated));
		check_answer(broker, raw, WIRE_REGION_ADOPT);
	}
	for (unsigned n = 1; n <= 253; n += 84) {
		struct raw *raw = begun(broker);

		CHECK_OK(wire_encode_request(&ping, ++raw->msgid, WIRE_PING,
					     &(struct wire_empty){ 0 }, 0));
		send_many(raw, &ping, fds[0], n);
		check_answer(broker, raw, WIRE_PING);
	}
	close_pair(fds);
}

CASE(F03_a_notification_with_descriptors_leaves_nothing, PRIVATE)
{
	const struct wire_region_adopt_params params = { .name = wire_string("quiet"),
							 .size = BYTES };
	struct raw *raw = begun(broker);
	struct wire_buffer buffer;
	int fds[2];

	good_pair(fds);
	CHECK_OK(wire_encode_notification(&buffer, WIRE_REGION_ADOPT, &params));
	CHECK_OK(raw_send(raw, buffer.data, buffer.length, fds, 2));
	raw_request(raw, WIRE_PING, NULL);
	while (raw_receive(raw) && raw->message.kind != WIRE_RESPONSE)
		;
	raw_free(raw);
	close_pair(fds);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, children_of(broker->pid) == 0);
}

/* ---- Who may not ---- */

static void pass_without_leave(struct broker *broker, void *argument)
{
	struct wire_region_attached attached;
	struct raw *raw = raw_greet(broker);
	int fds[2], r;

	(void)argument;
	good_pair(fds);
	CHECK_CODE(raw_begin_adopt(raw), SHMB_EACCES);
	r = raw_send_adopt(raw, "bad", BYTES, BOTH, fds, 2, 2);
	if (r == 0) /* before Linux 6.16: the daemon looks first, and drops it */
		CHECK_CODE(raw_answer(raw, WIRE_REGION_ADOPT, &attached), SHMB_EDISCONNECTED);
	else
		CHECK_INT(r, -EPERM);
	close_pair(fds);
	raw_free(raw);
}

CASE(F03_nothing_is_received_from_users_who_may_not, SYSTEM, .config = ALLOW_BOTH)
{
	actor_run(broker, &CAROL, pass_without_leave, NULL);
	CHECK_INT(broker_stat(broker, "regions"), 0);
}

CASE(F03_nor_on_old_kernels, SYSTEM, .bare = true, .faults = true, .config = ALLOW_BOTH)
{
	broker_fault(broker, FAULT_PASSRIGHTS, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_start(broker);
	actor_run(broker, &CAROL, pass_without_leave, NULL);
	CHECK_INT(broker_stat(broker, "regions"), 0);
}

static void pass_before_asking(struct broker *broker, void *argument)
{
	struct raw *raw = raw_greet(broker);
	int fds[2], r;

	(void)argument;
	good_pair(fds);
	r = raw_send_adopt(raw, "bad", BYTES, BOTH, fds, 2, 2);
	if (r == 0)
		CHECK_CODE(raw_answer(raw, WIRE_REGION_ADOPT, NULL), SHMB_EDISCONNECTED);
	close_pair(fds);
	raw_free(raw);
}

CASE(F03_not_before_it_was_asked_for, SYSTEM, .config = ALLOW_BOTH)
{
	actor_run(broker, &ALICE, pass_before_asking, NULL);
	CHECK_INT(broker_stat(broker, "regions"), 0);
}

static void adopt_one(struct broker *broker, void *argument)
{
	struct raw *raw = begun(broker);

	(void)argument;
	adopt_well(raw, "good");
	raw_free(raw);
}

CASE(F03_who_may_does_on_old_kernels_too, SYSTEM, .bare = true, .faults = true,
     .config = ALLOW_BOTH)
{
	broker_fault(broker, FAULT_PASSRIGHTS, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_start(broker);
	actor_run(broker, &ALICE, adopt_one, NULL);
	actor_run(broker, &SELF, adopt_one, NULL);
}

/* ---- A file that changes afterwards ---- */

CASE(F03_a_file_that_is_shortened_at_once, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct wire_region_resize_params resize = { .size = 3 * BYTES };
	struct raw *raw = begun(broker), *other = raw_greet(broker);
	struct wire_region_attached attached, opened;
	int fds[2], given[4], r;

	good_pair(fds);
	CHECK_OK(raw_adopt(raw, "short", BYTES, BOTH, fds, 2, 2, &attached, given));
	SYS(ftruncate(fds[0], 0));
	r = raw_open(other, "short", SHMB_READ, &opened, given + 2);
	CHECK_OK(r);
	close_pair(given + 2);
	CHECK_OK(raw_stat_handle(raw, attached.handle));
	resize.handle = attached.handle;
	raw_call(raw, WIRE_REGION_RESIZE, &resize, NULL);
	CHECK_INT(broker_stat(broker, "regions"), 1);
	CHECK_OK(raw_close(raw, attached.handle));
	close_pair(given);
	close_pair(fds);
	raw_free(raw);
	raw_free(other);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(F03_a_memfd_that_is_sealed_afterwards, PRIVATE)
{
	struct raw *raw = begun(broker);
	struct wire_region_resize_params resize = { .size = 3 * BYTES };
	struct wire_region_attached attached;
	int fds[2], given[2], r;
	char path[32];

	fds[0] = SYS(memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	SYS(ftruncate(fds[0], BYTES));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	fds[1] = SYS(open(path, O_RDONLY | O_CLOEXEC));
	CHECK_OK(raw_adopt(raw, "sealed", BYTES, BOTH, fds, 2, 2, &attached, given));
	SYS(fcntl(fds[0], F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL));
	resize.handle = attached.handle;
	r = raw_call(raw, WIRE_REGION_RESIZE, &resize, NULL);
	CHECK(r < 0 && r != SHMB_EDISCONNECTED);
	CHECK_OK(raw_close(raw, attached.handle));
	close_pair(given);
	close_pair(fds);
	raw_free(raw);
}

/* ---- Many ---- */

CASE(F03_thousands_of_adoptions_leave_nothing, PRIVATE, .timeout_s = 120)
{
	struct raw *raw = begun(broker);
	unsigned before, n = 2000 / harness_slow();

	adopt_well(raw, "first");
	before = fd_count(broker->pid);
	for (unsigned i = 0; i < n; i++)
		adopt_well(raw, "again");
	UNTIL(broker, children_of(broker->pid) == 0);
	UNTIL(broker, fd_count(broker->pid) <= before);
	CHECK_INT(broker_stat(broker, "regions"), 0);
	raw_free(raw);
}

CASE(F03_pipelined_adoptions_are_done_in_order, PRIVATE)
{
	struct raw *raw = begun(broker);
	enum { N = 20 };
	char name[16];
	int fds[2];

	good_pair(fds);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		CHECK_OK(raw_send_adopt(raw, name, BYTES, BOTH, fds, 2, 2));
		CHECK_OK(raw_request(raw, WIRE_PING, NULL));
	}
	for (int i = 0; i < 2 * N; i++) {
		CHECK_INT(raw_receive(raw), 1);
		CHECK_INT(raw->message.failed, false);
		CHECK_INT(raw->message.msgid, raw->msgid - 2 * N + 1 + (uint32_t)i);
	}
	CHECK_INT(broker_stat(broker, "regions"), N);
	close_pair(fds);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

static void adopt_for_ever(struct broker *broker, void *argument)
{
	struct raw *raw = begun(broker);

	(void)argument;
	adopt_well(raw, "mine");
	say(1);
	for (;;)
		adopt_well(raw, "mine");
}

CASE(F03_who_dies_in_the_middle_leaves_nothing, PRIVATE, .timeout_s = 60)
{
	for (int i = 0; i < 30; i++) {
		struct actor actor = actor_start(broker, &SELF, adopt_for_ever, NULL);

		CHECK_INT(actor_hear(&actor), 1);
		broker_turn(broker);
		actor_kill(&actor);
		UNTIL(broker, broker_stat(broker, "regions") == 0);
	}
	UNTIL(broker, children_of(broker->pid) == 0);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
}

/* ---- What hangs ---- */

CASE(F03_a_socket_that_lingers, PRIVATE)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t length = sizeof(address);
	struct linger linger = { 1, 30 };
	int listener = a_socket(), sender = a_socket(), receiver, fds[2];
	struct raw *raw = begun(broker);
	char bytes[65536] = { 0 };
	int64_t began;

	SYS(bind(listener, (struct sockaddr *)&address, sizeof(address)));
	SYS(listen(listener, 1));
	SYS(getsockname(listener, (struct sockaddr *)&address, &length));
	SYS(connect(sender, (struct sockaddr *)&address, sizeof(address)));
	receiver = SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	while (send(sender, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	SYS(setsockopt(sender, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	fds[0] = fds[1] = sender;
	SYS(kill(broker->pid, SIGSTOP));
	CHECK_OK(raw_send_adopt(raw, "bad", BYTES, SHMB_READ, fds, 2, 2));
	close(sender); /* the last ones are now in that packet */
	SYS(kill(broker->pid, SIGCONT));
	began = harness_now_ms();
	CHECK_CODE(raw_answer(raw, WIRE_REGION_ADOPT, NULL), SHMB_ENOTSUP);
	adopt_well(raw, "good");
	CHECK(harness_now_ms() - began < 10000 * (int64_t)harness_slow());
	raw_free(raw);
	close(listener);
	close(receiver); /* what was not read resets it, so that nobody lingers any longer */
	UNTIL(broker, children_of(broker->pid) == 0);
}

enum { WAITING_MAX = 300, HANGING_MAX = 8 };

struct hang {
	unsigned how;
	bool overlay;
	unsigned n; /* connections */
};

/* An overlay that reads from the stubborn one. */
static void lay_over(const char *lower, const char *at, const char *empty)
{
	char options[512];

	SYS(mount("empty", empty, "tmpfs", 0, NULL));
	snprintf(options, sizeof(options), "lowerdir=%s:%s", lower, empty);
	SYS(mount("overlay", at, "overlay", MS_RDONLY, options));
}

static void become_alice(void)
{
	SYS(setresgid(ALICE.gid, ALICE.gid, ALICE.gid));
	SYS(setresuid(ALICE.uid, ALICE.uid, 0)); /* and back */
}

/* As root at first, who may mount. Says 0: there is no such thing here; 1: passed; then waits. */
static void pass_what_hangs(struct broker *broker, void *argument)
{
	const struct hang *hang = argument;
	char lower[128], at[128], empty[128], path[160];
	struct raw *raws[WAITING_MAX];
	struct stubborn *stubborn;
	int fds[2];

	snprintf(lower, sizeof(lower), "%s", broker_path(broker, "lower"));
	snprintf(at, sizeof(at), "%s", broker_path(broker, "at"));
	snprintf(empty, sizeof(empty), "%s", broker_path(broker, "empty"));
	stubborn = stubborn_mount(lower);
	if (!stubborn) {
		say(0);
		return;
	}
	if (hang->overlay)
		lay_over(lower, at, empty);
	snprintf(path, sizeof(path), "%s/file", hang->overlay ? at : lower);
	fds[0] = SYS(open(path, O_RDONLY | O_CLOEXEC));
	fds[1] = SYS(open(path, O_RDONLY | O_CLOEXEC));
	become_alice();
	for (unsigned i = 0; i < hang->n; i++)
		raws[i] = begun(broker);
	stubborn_hang(stubborn, hang->how);
	for (unsigned i = 0; i < hang->n; i++)
		CHECK_OK(raw_send_adopt(raws[i], "bad", BYTES, SHMB_READ, fds, 2, 2));
	say(1);
	hear();
	/* Meanwhile this user is served on other connections. */
	for (unsigned i = 0; i < 3; i++) {
		struct raw *raw = raw_greet(broker);

		CHECK_OK(raw_call(raw, WIRE_PING, NULL, NULL));
		raw_free(raw);
	}
	say(stubborn_waiting(stubborn));
	hear();
	/* Whoever waits goes on. */
	SYS(seteuid(0));
	stubborn_end(stubborn);
	say(1);
	for (unsigned i = 0; i < hang->n; i++)
		raw_free(raws[i]);
	close_pair(fds);
}

static void make_directories(const struct broker *broker)
{
	SYS(mkdir(broker_path(broker, "lower"), 0755));
	SYS(mkdir(broker_path(broker, "at"), 0755));
	SYS(mkdir(broker_path(broker, "empty"), 0755));
}

static void remove_directories(const struct broker *broker)
{
	rmdir(broker_path(broker, "lower"));
	rmdir(broker_path(broker, "at"));
	rmdir(broker_path(broker, "empty"));
}

static void nobody_else_waits(struct broker *broker, const struct hang *hang)
{
	struct pulse pulse;
	struct actor actor;
	int64_t worst;

	make_directories(broker);
	pulse_begin(broker, &pulse);
	actor = actor_start(broker, &SELF, pass_what_hangs, (void *)(uintptr_t)hang);
	if (actor_hear(&actor) == 0) {
		actor_end(&actor);
		pulse_end(&pulse);
		remove_directories(broker);
		SKIP("no FUSE");
	}
	for (int i = 0; i < 20; i++)
		broker_turn(broker);
	/* Others adopt, and so does root. */
	actor_run(broker, &BOB, adopt_one, NULL);
	actor_run(broker, &SELF, adopt_one, NULL);
	actor_say(&actor, 1);
	actor_hear(&actor);
	worst = pulse_end(&pulse);
	CHECK(worst < 200000 * (int64_t)harness_slow());
	actor_say(&actor, 1);
	CHECK_INT(actor_hear(&actor), 1);
	actor_end(&actor);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	UNTIL(broker, children_of(broker->pid) == 0);
	CHECK_INT(broker_stat(broker, "regions"), 0);
	remove_directories(broker);
}

CASE(F03_a_file_system_that_does_not_tell_of_its_files, SYSTEM, .config = ALLOW_BOTH)
{
	nobody_else_waits(broker, &(const struct hang){ STUBBORN_STAT, false, 1 });
}

CASE(F03_a_file_system_that_does_not_close_its_files, SYSTEM, .config = ALLOW_BOTH)
{
	nobody_else_waits(broker, &(const struct hang){ STUBBORN_CLOSE, false, 1 });
}

CASE(F03_more_of_them_than_processes_for_them, SYSTEM, .config = ALLOW_BOTH)
{
	nobody_else_waits(broker,
			  &(const struct hang){ STUBBORN_STAT | STUBBORN_CLOSE, false, 12 });
}

CASE(F03_an_overlay_on_it_that_does_not_tell, SYSTEM, .config = ALLOW_BOTH)
{
	nobody_else_waits(broker, &(const struct hang){ STUBBORN_STAT, true, 1 });
}

CASE(F03_an_overlay_on_it_that_does_not_close, SYSTEM, .config = ALLOW_BOTH)
{
	nobody_else_waits(broker, &(const struct hang){ STUBBORN_CLOSE, true, 1 });
}

/* What a user's hanging processes keep waiting is not asked after again and again. */
CASE(F03_many_that_wait_for_them_cost_nothing, SYSTEM, .config = ALLOW_BOTH, .timeout_s = 60)
{
	const struct hang hang = { STUBBORN_STAT, false, WAITING_MAX };
	struct raw *raw = raw_greet(broker);
	struct actor actor;
	int64_t us;

	make_directories(broker);
	actor = actor_start(broker, &SELF, pass_what_hangs, (void *)(uintptr_t)&hang);
	if (actor_hear(&actor) == 0) {
		actor_end(&actor);
		remove_directories(broker);
		SKIP("no FUSE");
	}
	broker_turn(broker);
	us = broker_cpu_us(broker);
	CHECK(!raw_ready(raw, 500));
	us = broker_cpu_us(broker) - us;
	if (us > 25000 * harness_slow())
		FAIL("%lld us of half a second", (long long)us);
	raw_free(raw);
	actor_say(&actor, 1);
	actor_hear(&actor);
	actor_say(&actor, 1);
	CHECK_INT(actor_hear(&actor), 1);
	actor_end(&actor);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	UNTIL(broker, children_of(broker->pid) == 0);
	remove_directories(broker);
}

/* Who waits for them and has read all that it got is none that does not read. */
CASE(F03_who_waits_for_them_is_not_dropped, SYSTEM, .arguments = { "--slow-timeout=100ms" })
{
	struct wire_region_attached attached;
	struct stubborn *stubborn;
	struct raw *hanging[HANGING_MAX], *raw;
	char lower[128], path[160];
	int fds[2], given[2];

	make_directories(broker);
	snprintf(lower, sizeof(lower), "%s", broker_path(broker, "lower"));
	stubborn = stubborn_mount(lower);
	if (!stubborn) {
		remove_directories(broker);
		SKIP("no FUSE");
	}
	snprintf(path, sizeof(path), "%s/file", lower);
	fds[0] = SYS(open(path, O_RDONLY | O_CLOEXEC));
	fds[1] = SYS(open(path, O_RDONLY | O_CLOEXEC));
	for (int i = 0; i < HANGING_MAX; i++)
		hanging[i] = begun(broker);
	raw = begun(broker);
	CHECK_OK(raw_create(raw, "own", BYTES, 0700, SHMB_ATTACHED, &attached, given));
	close_pair(given);
	stubborn_hang(stubborn, STUBBORN_STAT);
	for (int i = 0; i < HANGING_MAX; i++)
		CHECK_OK(raw_send_adopt(hanging[i], "bad", BYTES, SHMB_READ, fds, 2, 2));
	UNTIL(broker, children_of(broker->pid) == HANGING_MAX);
	CHECK_OK(raw_send_adopt(raw, "bad", BYTES, SHMB_READ, fds, 2, 2));
	CHECK(!raw_ready(raw, 1000));
	stubborn_end(stubborn);
	CHECK(raw_ready(raw, 5000)); /* it is its turn */
	raw_free(raw);
	for (int i = 0; i < HANGING_MAX; i++)
		raw_free(hanging[i]);
	close_pair(fds);
	UNTIL(broker, children_of(broker->pid) == 0);
	remove_directories(broker);
}

/* ---- Without pidfds ---- */

/* More in a row than a user may have at a time: each that ends is noticed, one way or another. */
CASE(F03_processes_that_looked_are_noticed_to_end_without_pidfds, PRIVATE, .faults = true)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);

	broker_fault(broker, FAULT_PIDFD_OPEN, EMFILE, 0, 1000);
	options.backing = SHMB_BACKING_FILE;
	options.path = broker_path(broker, "file");
	options.file_flags = SHMB_FILE_CREATE;
	for (int i = 0; i < 20; i++)
		shmb_region_free(create(client, "r", 4096, &options));
	CHECK(broker_fault_hits(broker, FAULT_PIDFD_OPEN) >= 20);
	UNTIL(broker, children_of(broker->pid) == 0);
	shmb_client_free(client);
}
