/* SPDX-License-Identifier: MIT */
/*
 * A receiver: looks at each frame where it lies, computes a checksum over it, and says that it is
 * done with it. Knows the file's size and nothing else of it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "demo.h"

static int open_semaphore(const struct receiver *receiver, const char *format,
			  struct shmb_semaphore **ret_semaphore)
{
	char name[32];

	(void)snprintf(name, sizeof(name), format, receiver->number);
	return shmb_semaphore_open(receiver->client, name, ret_semaphore);
}

static int make(struct receiver *receiver)
{
	int r = shmb_region_open(receiver->client, DEMO_FRAMES_NAME, receiver->access, NULL,
				 &receiver->frames);

	if (r >= 0)
		r = open_semaphore(receiver, DEMO_FREE_NAME, &receiver->free);
	if (r >= 0)
		r = open_semaphore(receiver, DEMO_FULL_NAME, &receiver->full);
	if (r < 0)
		return r;
	receiver->header = shmb_region_data(receiver->frames);
	receiver->buffer = malloc(DEMO_FRAME_BYTES);
	return receiver->buffer ? 0 : SHMB_ENOMEM;
}

/* ---- Through shared memory ---- */

static int take_frame(const struct receiver *receiver, uint64_t number, struct digest *digest,
		      struct demo_slot *ret_slot)
{
	struct demo_slot slot = receiver->header->slots[number % DEMO_SLOTS];
	uint64_t offset = DEMO_HEADER_BYTES + number % DEMO_SLOTS * DEMO_FRAME_BYTES;
	struct shmb_view view;
	int r;

	if (slot.number != number || slot.length > DEMO_FRAME_BYTES)
		return SHMB_EPROTO;
	/* No copy: the checksum reads the very pages that the publisher filled. */
	r = shmb_region_view(receiver->frames, offset, (size_t)slot.length, 4096, SHMB_READ, &view);
	if (r < 0)
		return r;
	r = digest_add(digest, view.data, view.length);
	shmb_view_release(&view);
	if (r < 0)
		return r;
	*ret_slot = slot;
	return shmb_semaphore_post(receiver->free, 1);
}

static int receive_memory(struct receiver *receiver, struct digest *digest,
			  struct demo_report *report)
{
	struct demo_slot slot = { 0 };

	while (!slot.last) {
		int r = shmb_semaphore_wait(receiver->full, DEMO_PATIENCE_MS);

		if (r >= 0)
			r = take_frame(receiver, receiver->taken++, digest, &slot);
		if (r < 0)
			return r;
		report->bytes += slot.length;
	}
	return 0;
}

/* ---- Through a socket ---- */

static int receive_socket(const struct receiver *receiver, struct digest *digest,
			  struct demo_report *report)
{
	while (report->bytes < receiver->size) {
		uint64_t left = receiver->size - report->bytes;
		size_t length = left < DEMO_FRAME_BYTES ? (size_t)left : DEMO_FRAME_BYTES;
		ssize_t n = recv(DEMO_STREAM_FD, receiver->buffer, length, MSG_WAITALL);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? SHMB_ETIMEDOUT : -errno;
		if ((size_t)n != length)
			return SHMB_EDISCONNECTED;
		r = digest_add(digest, receiver->buffer, length);
		if (r < 0)
			return r;
		report->bytes += length;
	}
	return 0;
}

/* ---- The file ---- */

static int receive(struct receiver *receiver, const struct demo_order *order,
		   struct demo_report *report)
{
	struct digest *digest = digest_new(order->check);
	int r;

	if (!digest)
		return SHMB_ENOMEM;
	report->begin = demo_now();
	r = order->way == DEMO_MEMORY ? receive_memory(receiver, digest, report)
				      : receive_socket(receiver, digest, report);
	if (r < 0) {
		digest_free(digest);
		return r;
	}
	r = digest_finish(digest, report->digest);
	report->end = demo_now();
	return r;
}

int receiver_do(struct receiver *receiver, const struct demo_order *order,
		struct demo_report *report)
{
	switch (order->task) {
	case DEMO_MAKE:
		return make(receiver);
	case DEMO_MOVE:
		return receive(receiver, order, report);
	default:
		return SHMB_EINVAL;
	}
}
