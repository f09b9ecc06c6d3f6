/* SPDX-License-Identifier: MIT */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

/* The floor of everything that goes through the broker: the least a server over epoll can do. */

#include <stddef.h>
#include <sys/types.h>

enum { SERVER_FDS_MAX = 2 };

struct server_plan {
	size_t reply_length; /* bytes of each answer, whatever was asked */
	size_t quiet_length; /* packets of this many bytes are taken and not answered; 0: none */
	unsigned n_fds;      /* descriptors with each answer */
	int fds[SERVER_FDS_MAX];
};

/* server_start() - fork a server that listens at @path. Return: its pid (end it with bench_end())
 * or a negative error. */
pid_t server_start(const char *path, const struct server_plan *plan);

/* server_connect() - Return: the connected socket or -errno */
int server_connect(const char *path);

/* server_ask() - one round trip; received descriptors are CLOEXEC and the caller's */
int server_ask(int socket, size_t request_length, unsigned n_fds, int *ret_fds);

/* server_tell() - send a packet that is not answered */
int server_tell(int socket, size_t length);

#endif
