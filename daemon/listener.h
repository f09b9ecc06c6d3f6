/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

/* The socket that clients connect to. */

struct activation;
struct broker;

/*
 * listener_open() - listen on what socket activation passed, else on a path
 * @path: used without activation; a dead daemon's socket there is replaced
 *
 * Mistakes are logged. Return: 0, -EEXIST (another daemon listens there), or a negative errno.
 */
int listener_open(struct broker *broker, const char *path, const struct activation *activation);

/* listener_close() - stop listening; removes the socket file if we made it */
void listener_close(struct broker *broker);

#endif
