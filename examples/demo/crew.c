/* SPDX-License-Identifier: MIT */
/* Starting, ordering and ending the demo's processes. Knows nothing of what they do. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crew.h"

enum {
	STANDSTILL_MS = 15000, /* more than a member's own patience, so that it can say why */
	TICK_MS = 50,
	QUIT_MS = 5000,
	FIRST_FREE_FD = 16, /* above the numbers that roles expect */
};

int crew_wait(pid_t pid, int timeout_ms)
{
	struct pollfd ended = { .events = POLLIN };
	int status = -1, n = 0;

	ended.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (ended.fd >= 0) {
		n = poll(&ended, 1, timeout_ms);
		(void)close(ended.fd);
	}
	if (n != 1)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

/* ---- Starting ---- */

/* In the child: puts @fds at DEMO_ORDERS_FD and up, and becomes the role. */
static void become(char *const *argv, const int *fds, int n_fds)
{
	int high[1 + DEMO_RECEIVERS];

	for (int i = 0; i < n_fds; i++) {
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
		if (high[i] < 0)
			_exit(127);
	}
	for (int i = 0; i < n_fds; i++)
		if (dup2(high[i], DEMO_ORDERS_FD + i) < 0)
			_exit(127);
	(void)execv("/proc/self/exe", argv);
	_exit(127);
}

static int start_member(struct member *member, char *const *argv, const int *streams, int n_streams)
{
	int orders[2], fds[1 + DEMO_RECEIVERS];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, orders) < 0)
		return -errno;
	fds[0] = orders[1];
	memcpy(fds + 1, streams, (size_t)n_streams * sizeof(*fds));
	member->pid = fork();
	if (member->pid == 0)
		become(argv, fds, 1 + n_streams);
	(void)close(orders[1]);
	member->orders = orders[0];
	return member->pid < 0 ? -errno : 0;
}

/* Streams from the publisher to each receiver; no end of them waits for ever. */
static int make_stream(int *ret_ends)
{
	const struct timeval patience = { .tv_sec = DEMO_PATIENCE_MS / 1000 };

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_ends) < 0)
		return -errno;
	if (setsockopt(ret_ends[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(ret_ends[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	return 0;
}

static int start_all(struct crew *crew, const char *file, uint64_t size, int (*streams)[2])
{
	static const char *const titles[] = { "receiver 1", "receiver 2" };
	/* The second may only look: it could not disturb the data if it wanted to. */
	static const unsigned accesses[] = { SHMB_READ | SHMB_WRITE, SHMB_READ };
	char size_text[24], number[8], access[8];
	int sources[DEMO_RECEIVERS];
	int r;

	(void)snprintf(size_text, sizeof(size_text), "%llu", (unsigned long long)size);
	for (int i = 0; i < DEMO_RECEIVERS; i++) {
		char *argv[] = { "demo", "role", "receiver", number, access, size_text, NULL };

		(void)snprintf(number, sizeof(number), "%d", i + 1);
		(void)snprintf(access, sizeof(access), "%u", accesses[i]);
		crew->members[CREW_RECEIVER + i].title = titles[i];
		r = start_member(&crew->members[CREW_RECEIVER + i], argv, &streams[i][1], 1);
		if (r < 0)
			return r;
		sources[i] = streams[i][0];
	}
	char *argv[] = { "demo", "role", "publisher", (char *)file, size_text, NULL };

	crew->members[CREW_PUBLISHER].title = "publisher";
	return start_member(&crew->members[CREW_PUBLISHER], argv, sources, DEMO_RECEIVERS);
}

int crew_start(struct crew *crew, const char *file, uint64_t size)
{
	int streams[DEMO_RECEIVERS][2];
	int n, r = 0;

	for (int i = 0; i < CREW_SIZE; i++)
		crew->members[i] = (struct member){ .title = "?", .pid = -1, .orders = -1 };
	for (n = 0; r >= 0 && n < DEMO_RECEIVERS; n++) {
		streams[n][0] = streams[n][1] = -1;
		r = make_stream(streams[n]);
	}
	if (r >= 0)
		r = start_all(crew, file, size, streams);
	/* Only the members hold them from now on, so that each sees the other's end. */
	while (n-- > 0) {
		(void)close(streams[n][0]);
		(void)close(streams[n][1]);
	}
	return r;
}

/* ---- Orders and reports ---- */

int crew_order(struct crew *crew, int index, const struct demo_order *order)
{
	struct member *member = &crew->members[index];

	if (send(member->orders, order, sizeof(*order), MSG_NOSIGNAL) < 0)
		return -errno;
	member->busy = true;
	return 0;
}

static int complain_of_death(struct member *member)
{
	int status = crew_wait(member->pid, QUIT_MS);

	if (WIFSIGNALED(status))
		fprintf(stderr, "demo: %s (process %ld) was killed by signal %d\n", member->title,
			(long)member->pid, WTERMSIG(status));
	else
		fprintf(stderr, "demo: %s (process %ld) ended with status %d\n", member->title,
			(long)member->pid, WEXITSTATUS(status));
	member->pid = -1;
	return SHMB_EIO;
}

static int take_report(struct member *member, struct demo_report *ret_report)
{
	if (recv(member->orders, ret_report, sizeof(*ret_report), 0) !=
	    (ssize_t)sizeof(*ret_report))
		return complain_of_death(member);
	member->busy = false;
	if (ret_report->status < 0)
		fprintf(stderr, "demo: %s (process %ld): %s\n", member->title, (long)member->pid,
			shmb_strerror(ret_report->status));
	return ret_report->status;
}

static void complain_of_standstill(const struct crew *crew)
{
	for (int i = 0; i < CREW_SIZE; i++)
		if (crew->members[i].busy)
			fprintf(stderr, "demo: %s (process %ld) does not answer\n",
				crew->members[i].title, (long)crew->members[i].pid);
}

/* Return: the number of members whose report is due; those are in @polls. */
static int watch_busy(const struct crew *crew, struct pollfd *polls)
{
	int busy = 0;

	for (int i = 0; i < CREW_SIZE; i++) {
		polls[i] =
			(struct pollfd){ .fd = crew->members[i].busy ? crew->members[i].orders : -1,
					 .events = POLLIN };
		busy += crew->members[i].busy;
	}
	return busy;
}

int crew_collect(struct crew *crew, crew_progress_fn progress, void *userdata,
		 struct demo_report *ret_reports)
{
	double deadline = demo_now() + STANDSTILL_MS / 1000.0;
	struct pollfd polls[CREW_SIZE];
	uint64_t before = 0;

	while (watch_busy(crew, polls) > 0) {
		int n = poll(polls, CREW_SIZE, TICK_MS);
		uint64_t now = progress ? progress(userdata) : 0;

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; n > 0 && i < CREW_SIZE; i++) {
			int r = polls[i].revents ? take_report(&crew->members[i], &ret_reports[i])
						 : 0;

			if (r < 0)
				return r;
		}
		if (now != before || n > 0)
			deadline = demo_now() + STANDSTILL_MS / 1000.0;
		before = now;
		if (demo_now() > deadline) {
			complain_of_standstill(crew);
			return SHMB_ETIMEDOUT;
		}
	}
	return 0;
}

void crew_end(struct crew *crew, bool kill_them)
{
	static const struct demo_order quit = { .task = DEMO_QUIT };

	for (int i = 0; i < CREW_SIZE; i++) {
		struct member *member = &crew->members[i];

		if (member->pid > 0 && !kill_them)
			(void)send(member->orders, &quit, sizeof(quit), MSG_NOSIGNAL);
		if (member->pid > 0 && kill_them)
			(void)kill(member->pid, SIGKILL);
	}
	for (int i = 0; i < CREW_SIZE; i++) {
		if (crew->members[i].pid > 0)
			(void)crew_wait(crew->members[i].pid, QUIT_MS);
		if (crew->members[i].orders >= 0)
			(void)close(crew->members[i].orders);
	}
}
