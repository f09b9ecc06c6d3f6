/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_OUTPUT_H
#define DAEMON_OUTPUT_H

/* What could not be sent yet: packets with their descriptors, first in first out, charged to the
 * user. */

#include "wire/wire.h"

struct account;
struct queued;

/*
 * output_push() - queue a copy
 * @fds: borrowed; duplicated
 *
 * Return: 0, -EDQUOT (over @limit bytes), -ENOMEM, -EMFILE.
 */
int output_push(struct queued **queue, struct account *account, uint64_t limit,
		const struct wire_buffer *packet, const int *fds, unsigned n_fds);

/* output_send() - send the first one. Return: 0, or a negative errno (it stays queued). */
int output_send(int socket, const struct queued *queue);
unsigned output_n_fds(const struct queued *queue);

/* output_pop() - drop the first one. @ret_fds: what came with it, the caller's to close. Return:
 * how many. */
unsigned output_pop(struct queued **queue, struct account *account, int ret_fds[WIRE_FDS_MAX]);

#endif
