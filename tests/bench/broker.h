/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BROKER_H
#define BENCH_BROKER_H

/* A private broker of the benchmark's own. */

#include <sys/types.h>
#include <sys/un.h>

struct bench;

struct bench_broker {
	pid_t pid;
	int lifeline;               /* the broker shuts down when this is closed */
	int listener, lifeline_end; /* what it inherits; kept for the next one */
	const char *const *options;
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char address[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* bench_listen() - a listening SEQPACKET socket at @path. Return: the descriptor or -errno. */
int bench_listen(const char *path);

/*
 * bench_broker_start() - start a broker; clients can connect at once
 * @name:    of its directory, different for each broker of a figure
 * @options: for its command line, ending with NULL; or NULL; borrowed until it is stopped
 */
int bench_broker_start(const struct bench *bench, const char *name, const char *const *options,
		       struct bench_broker *ret_broker);

/*
 * bench_broker_crash() - SIGKILL and wait; clients that connect wait for the next one
 * bench_broker_restart() - the next one, with the same directory, socket and options
 */
int bench_broker_crash(struct bench_broker *broker);
int bench_broker_restart(struct bench_broker *broker);

/* bench_broker_stop() - shut it down in order and wait for that. Return: 0, or SHMB_EIO if it
 * failed, SHMB_ETIMEDOUT if it had to be killed. */
int bench_broker_stop(struct bench_broker *broker);

#endif
