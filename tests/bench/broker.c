/* SPDX-License-Identifier: MIT */
/*
 * Starting the broker by socket activation, as a service manager would, so that there is nothing
 * to wait for. Knows of shmbrokerd no more than its command line.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/errors.h>

#include "bench.h"
#include "broker.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

enum {
	LISTEN_FD = 3,
	OPTIONS_MAX = 16,
	STOP_TIMEOUT_MS = 120000, /* 200,000 objects to unlink */
};

int bench_listen(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	(void)strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0) {
		int error = errno;

		(void)close(fd);
		return -error;
	}
	return fd;
}

/* In the child: becomes the broker, or ends with 127. */
static void become_broker(const char *directory, const char *const *options, int listener,
			  int lifeline)
{
	const char *program = getenv("SHMBROKERD");
	const char *argv[OPTIONS_MAX + 8];
	char runtime[160], eof[40], pid[24];
	size_t n = 0;

	if (!program)
		program = SHMBROKERD_PATH;
	/* Out of the way of descriptor 3 first; dup2() then clears CLOEXEC. */
	listener = fcntl(listener, F_DUPFD_CLOEXEC, 16);
	lifeline = fcntl(lifeline, F_DUPFD, 16);
	if (listener < 0 || lifeline < 0 || dup2(listener, LISTEN_FD) < 0)
		_exit(127);
	(void)snprintf(runtime, sizeof(runtime), "--runtime-directory=%s", directory);
	(void)snprintf(eof, sizeof(eof), "--exit-on-eof=%d", lifeline);
	(void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	argv[n++] = program;
	argv[n++] = "--private";
	argv[n++] = "--log-level=error";
	argv[n++] = runtime;
	argv[n++] = eof;
	for (size_t i = 0; options && options[i] && i < OPTIONS_MAX; i++)
		argv[n++] = options[i];
	argv[n] = NULL;
	if (setenv("LISTEN_PID", pid, 1) == 0 && setenv("LISTEN_FDS", "1", 1) == 0)
		(void)execv(program, (char *const *)argv);
	fprintf(stderr, "shmb_bench: cannot run %s: %s\n", program, strerror(errno));
	_exit(127);
}

int bench_broker_restart(struct bench_broker *broker)
{
	broker->pid = fork();
	if (broker->pid == 0)
		become_broker(broker->directory, broker->options, broker->listener,
			      broker->lifeline_end);
	return broker->pid < 0 ? -errno : 0;
}

static void close_ends(const struct bench_broker *broker)
{
	(void)close(broker->lifeline);
	(void)close(broker->lifeline_end);
	(void)close(broker->listener);
}

int bench_broker_start(const struct bench *bench, const char *name, const char *const *options,
		       struct bench_broker *ret_broker)
{
	struct bench_broker broker = { .options = options };
	int ends[2], no = 0, r;

	if ((size_t)snprintf(broker.directory, sizeof(broker.directory), "%s/%s", bench->directory,
			     name) >= sizeof(broker.directory) ||
	    (size_t)snprintf(broker.address, sizeof(broker.address), "%s/%s.sock", bench->directory,
			     name) >= sizeof(broker.address))
		return -ENAMETOOLONG;
	if (mkdir(broker.directory, 0700) < 0)
		return -errno;
	broker.listener = bench_listen(broker.address);
	if (broker.listener < 0)
		return broker.listener;
	/* Connections inherit it, so that the first client is like all later ones to the broker. */
	(void)setsockopt(broker.listener, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
	if (pipe2(ends, O_CLOEXEC) < 0) {
		int error = errno;

		(void)close(broker.listener);
		return -error;
	}
	broker.lifeline_end = ends[0];
	broker.lifeline = ends[1];
	r = bench_broker_restart(&broker);
	if (r < 0) {
		close_ends(&broker);
		return r;
	}
	*ret_broker = broker;
	return 0;
}

int bench_broker_crash(struct bench_broker *broker)
{
	if (kill(broker->pid, SIGKILL) < 0)
		return -errno;
	while (waitpid(broker->pid, NULL, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int bench_broker_stop(struct bench_broker *broker)
{
	struct pollfd ended = { .events = POLLIN };
	int status, n = 0;

	close_ends(broker);
	ended.fd = (int)syscall(SYS_pidfd_open, broker->pid, 0);
	if (ended.fd >= 0) {
		do
			n = poll(&ended, 1, STOP_TIMEOUT_MS);
		while (n < 0 && errno == EINTR);
		(void)close(ended.fd);
	}
	if (n != 1)
		(void)kill(broker->pid, SIGKILL);
	while (waitpid(broker->pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	(void)unlink(broker->address);
	if (n != 1)
		return SHMB_ETIMEDOUT;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : SHMB_EIO;
}
