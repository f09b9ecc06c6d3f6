/* SPDX-License-Identifier: MIT */
#ifndef WIRE_PACKET_H
#define WIRE_PACKET_H

/*
 * One packet with its descriptors over a local socket: the only place that knows what carries
 * messages. Never blocks.
 */

#include <stdbool.h>
#include <stddef.h>

#include "wire/wire.h"

struct packet {
	size_t length; /* bytes received */
	unsigned n_fds;
	int fds[WIRE_FDS_MAX]; /* owned by whoever received; CLOEXEC */
	bool fds_lost;         /* more descriptors were sent than arrived */
};

/* packet_socket() - a new unconnected socket, CLOEXEC. Return: the descriptor or a negative errno.
 */
int packet_socket(void);

/*
 * packet_connect() - connect @socket to the listener at @path within @timeout_ms
 *
 * Return: 0, or SHMB_EINVAL (path too long), SHMB_ENOENT, SHMB_ECONNREFUSED, SHMB_EACCES,
 * SHMB_ETIMEDOUT, or another negative errno.
 */
int packet_connect(int socket, const char *path, int timeout_ms);

/*
 * packet_connect_now() - the same without waiting
 *
 * Return: as packet_connect(); -EAGAIN if the listener's backlog is full.
 */
int packet_connect_now(int socket, const char *path);

/*
 * packet_send() - send one packet
 * @fds: borrowed
 *
 * Return: 0, or -EAGAIN (would block), -EPIPE or -ECONNRESET (nobody there), -ETOOMANYREFS,
 * -ENOBUFS, -EMSGSIZE, ...
 */
int packet_send(int socket, const void *data, size_t length, const int *fds, unsigned n_fds);

/*
 * packet_receive() - receive one packet
 * @capacity: bytes at @buffer; WIRE_PACKET_MAX + 1 tells a packet that is too long
 *
 * Return: 1 (a packet; *ret_packet is set and the caller owns its descriptors), 0 (end of the
 * connection, or an empty packet), or -EAGAIN, -ECONNRESET, -ENOMEM, ...; a packet cut short is
 * -EMSGSIZE.
 */
int packet_receive(int socket, void *buffer, size_t capacity, struct packet *ret_packet);

/*
 * packet_receive_wait() - the same, but wait for a packet for at most what packet_limit_wait() said
 *
 * For the one thread that has nothing else to wait for: one system call instead of two. Also
 * returns -EAGAIN early, after a signal. @timeout_ms: milliseconds, at least 1.
 */
int packet_receive_wait(int socket, void *buffer, size_t capacity, struct packet *ret_packet);
int packet_limit_wait(int socket, int timeout_ms);

/* packet_close_fds() - close what arrived and was not taken (a taken one is set to -1) */
void packet_close_fds(struct packet *packet);

/*
 * packet_refuse_fds() - ask the kernel to refuse descriptors sent to this socket, or to those
 * accepted from it
 *
 * Return: 0, or SHMB_ENOTSUP (before Linux 6.16).
 */
int packet_refuse_fds(int socket);

/* packet_accept_fds() - let the kernel take them again. Return: 0, SHMB_ENOTSUP (it always does),
 * or another negative errno. */
int packet_accept_fds(int socket);

/*
 * packet_peek_fds() - would the next packet bring descriptors? Looks without receiving them.
 *
 * Return: 1 yes, 0 no (or the end), or a negative errno: -EAGAIN (nothing there), -ECONNRESET (told
 * once; look again), ...
 */
int packet_peek_fds(int socket);

#endif
