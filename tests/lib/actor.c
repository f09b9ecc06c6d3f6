/* SPDX-License-Identifier: MIT */
/*
 * Client processes: forked from the test, of any user, in step with it through a socket pair.
 *
 * Uses the public library as any program would; knows nothing of the daemon but its socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

enum { CHANNEL = 3, STEP_MS = 60000, ACTORS_MAX = 64 };

const struct identity SELF = { .uid = (uid_t)-1 };
const struct identity ALICE = { 1001, 1001, { SHARED_GROUP } };
const struct identity BOB = { 1002, 1002, { SHARED_GROUP } };
const struct identity CAROL = { 1003, 1003, { 0 } };

/* Those that have not been waited for; 0 marks a free place. */
static struct {
	pid_t pid;
	int pidfd, channel;
} running[ACTORS_MAX];
static bool in_actor;

#ifdef __SANITIZE_ADDRESS__
int __lsan_do_recoverable_leak_check(void);
#else
static int __lsan_do_recoverable_leak_check(void)
{
	return 0;
}
#endif

bool actor_is_me(void)
{
	return in_actor;
}

static void become(const struct identity *identity)
{
	int n = 0;

	if (identity->uid != SELF.uid) {
		while (n < 2 && identity->groups[n])
			n++;
		SYS(setgroups((size_t)n, identity->groups));
		SYS(setresgid(identity->gid, identity->gid, identity->gid));
		SYS(setresuid(identity->uid, identity->uid, identity->uid));
	}
	/* Both are lost with the old uid: /proc/self belongs to the process again, and it must not
	 * outlive the test. */
	SYS(prctl(PR_SET_DUMPABLE, 1));
	SYS(prctl(PR_SET_PDEATHSIG, SIGKILL));
}

/* cmocka's handlers would end the case in here, and the daemon with it. */
static void default_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS };
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
}

static void remember(const struct actor *actor)
{
	size_t i;

	for (i = 0; i < ACTORS_MAX; i++) {
		if (running[i].pid)
			continue;
		running[i].pid = actor->pid;
		running[i].pidfd = actor->pidfd;
		running[i].channel = actor->channel;
		return;
	}
	FAIL("too many processes");
}

static void forget(struct actor *actor)
{
	size_t i;

	for (i = 0; i < ACTORS_MAX; i++)
		if (running[i].pid == actor->pid)
			running[i].pid = 0;
	if (actor->pidfd >= 0)
		close(actor->pidfd);
	close(actor->channel);
	actor->pid = 0;
}

void actors_kill(void)
{
	size_t i;

	for (i = 0; i < ACTORS_MAX; i++) {
		if (!running[i].pid)
			continue;
		kill(running[i].pid, SIGCONT);
		kill(running[i].pid, SIGKILL);
		waitpid(running[i].pid, NULL, 0);
		if (running[i].pidfd >= 0)
			close(running[i].pidfd);
		close(running[i].channel);
		running[i].pid = 0;
	}
}

struct actor actor_start(struct broker *broker, const struct identity *identity, actor_fn *function,
			 void *argument)
{
	struct actor actor;
	int pair[2];

	SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	fflush(NULL);
	actor.pid = SYS(fork());
	if (actor.pid == 0) {
		in_actor = true;
		default_signals();
		dup2(pair[1], CHANNEL);
		close_range(CHANNEL + 1, ~0U, 0);
		become(identity);
		function(broker, argument);
		if (__lsan_do_recoverable_leak_check())
			FAIL("leaked memory");
		_exit(0);
	}
	close(pair[1]);
	actor.channel = pair[0];
	actor.pidfd = process_fd(actor.pid);
	remember(&actor);
	return actor;
}

void actor_run(struct broker *broker, const struct identity *identity, actor_fn *function,
	       void *argument)
{
	struct actor actor = actor_start(broker, identity, function, argument);

	actor_end(&actor);
}

static uint64_t hear_from(int channel, const char *who)
{
	struct pollfd poll_fd = { .fd = channel, .events = POLLIN };
	uint64_t value;
	int n;

	do
		n = poll(&poll_fd, 1, STEP_MS * (int)harness_slow());
	while (n < 0 && errno == EINTR);
	if (n == 0)
		FAIL("%s says nothing", who);
	if (recv(channel, &value, sizeof(value), MSG_DONTWAIT) != sizeof(value))
		FAIL("%s is gone", who);
	return value;
}

void actor_say(struct actor *actor, uint64_t value)
{
	SYS(send(actor->channel, &value, sizeof(value), MSG_NOSIGNAL));
}

uint64_t actor_hear(struct actor *actor)
{
	return hear_from(actor->channel, "the client process");
}

void say(uint64_t value)
{
	SYS(send(CHANNEL, &value, sizeof(value), MSG_NOSIGNAL));
}

uint64_t hear(void)
{
	return hear_from(CHANNEL, "the test");
}

int actor_await(struct actor *actor)
{
	int status = wait_for_exit(actor->pid, actor->pidfd);

	if (status < 0)
		FAIL("a client process does not end");
	forget(actor);
	return status;
}

void actor_end(struct actor *actor)
{
	CHECK_INT(actor_await(actor), 0);
}

void actor_kill(struct actor *actor)
{
	int status;

	kill(actor->pid, SIGKILL);
	status = actor_await(actor);
	if (status != 0 && status != 1000 + SIGKILL)
		FAIL("a client process had ended with %d before it was killed", status);
}

/*
 * A client of the test itself is known to its frame alone, perhaps to a register of it; a forked
 * process, which never gets back there, would report it as leaked.
 */
__attribute__((used)) static void *volatile kept[256];

void keep_reachable(void *handle)
{
	static unsigned next;

	if (!in_actor)
		kept[next++ % 256] = handle;
}

struct shmb_client *connect_to(const struct broker *broker)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;

	options.timeout_ms = 10000 * (int)harness_slow();
	CHECK_OK(shmb_client_connect(broker->socket, &options, &client));
	keep_reachable(client);
	return client;
}

struct shmb_region *create(struct shmb_client *client, const char *name, uint64_t size,
			   const struct shmb_region_options *options)
{
	struct shmb_region *region = NULL;

	CHECK_OK(shmb_region_create(client, name, size, options, &region));
	keep_reachable(region);
	return region;
}

struct shmb_region *open_region(struct shmb_client *client, const char *name, unsigned access)
{
	struct shmb_region *region = NULL;

	CHECK_OK(shmb_region_open(client, name, access, NULL, &region));
	keep_reachable(region);
	return region;
}
