/* SPDX-License-Identifier: MIT */
/*
 * The output queue of a peer. Must not know peers.
 */
#include "output.h"

#include "account.h"
#include "wire/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

struct queued {
	struct queued *previous, *next;
	unsigned n_fds;
	int fds[WIRE_FDS_MAX];
	size_t length;
	uint8_t data[];
};

static size_t cost(size_t length)
{
	return sizeof(struct queued) + length;
}

static void queued_free(struct queued *queued)
{
	for (unsigned i = 0; i < queued->n_fds; i++)
		close(queued->fds[i]);
	free(queued);
}

static int copy_fds(struct queued *queued, const int *fds, unsigned n_fds)
{
	for (; queued->n_fds < n_fds; queued->n_fds++) {
		queued->fds[queued->n_fds] = fcntl(fds[queued->n_fds], F_DUPFD_CLOEXEC, 0);
		if (queued->fds[queued->n_fds] < 0)
			return -errno;
	}
	return 0;
}

int output_push(struct queued **queue, struct account *account, uint64_t limit,
		const struct wire_buffer *packet, const int *fds, unsigned n_fds)
{
	struct queued *queued;
	int result = -ENOMEM;

	if (!account_charge(account, CHARGE_QUEUE, cost(packet->length), limit))
		return -EDQUOT;
	queued = malloc(cost(packet->length));
	if (queued) {
		queued->n_fds = 0;
		queued->length = packet->length;
		memcpy(queued->data, packet->data, packet->length);
		result = copy_fds(queued, fds, n_fds);
	}
	if (result < 0) {
		if (queued)
			queued_free(queued);
		account_uncharge(account, CHARGE_QUEUE, cost(packet->length));
		return result;
	}
	DL_APPEND2(*queue, queued, previous, next);
	return 0;
}

int output_send(int socket, const struct queued *queue)
{
	return packet_send(socket, queue->data, queue->length, queue->fds, queue->n_fds);
}

unsigned output_n_fds(const struct queued *queue)
{
	return queue->n_fds;
}

unsigned output_pop(struct queued **queue, struct account *account, int ret_fds[WIRE_FDS_MAX])
{
	struct queued *first = *queue;
	unsigned n_fds = first->n_fds;

	DL_DELETE2(*queue, first, previous, next);
	account_uncharge(account, CHARGE_QUEUE, cost(first->length));
	memcpy(ret_fds, first->fds, n_fds * sizeof(*ret_fds));
	free(first);
	return n_fds;
}
