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

static int make(struct receiver *receiver)
{
	char name[32];
	int r;

	r = shmb_region_open(receiver->client, DEMO_FRAMES_NAME, receiver->access, NULL,
			     &receiver->frames);
	if (r < 0)
		return r;
	(void)snprintf(name, sizeof(name), DEMO_ACK_NAME, receiver->number);
	r = shmb_region_create(receiver->client, name, sizeof(struct demo_ack), NULL,
			       &receiver->ack);
	if (r < 0)
		return r;
	receiver->header = shmb_region_data(receiver->frames);
	receiver->taken = shmb_region_data(receiver->ack);
	receiver->buffer = malloc(DEMO_FRAME_BYTES);
	return receiver->buffer ? 0 : SHMB_ENOMEM;
}

/* ---- Through shared memory ---- */

static int wait_for_frame(const struct receiver *receiver, uint64_t number)
{
	for (;;) {
		uint64_t seen = shmb_region_sequence(receiver->frames);
		int r;

		if (atomic_load_explicit(&receiver->header->published, memory_order_acquire) >
		    number)
			return 0;
		r = shmb_region_wait(receiver->frames, seen, DEMO_PATIENCE_MS, NULL);
		if (r < 0)
			return r;
	}
}

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
	atomic_store_explicit(&receiver->taken->taken, number + 1, memory_order_release);
	*ret_slot = slot;
	return shmb_region_publish(receiver->ack, 0, 0);
}

static int receive_memory(const struct receiver *receiver, struct digest *digest,
			  struct demo_report *report)
{
	uint64_t number = atomic_load_explicit(&receiver->taken->taken, memory_order_relaxed);
	struct demo_slot slot = { 0 };

	while (!slot.last) {
		int r = wait_for_frame(receiver, number);

		if (r >= 0)
			r = take_frame(receiver, number++, digest, &slot);
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

static int receive(const struct receiver *receiver, const struct demo_order *order,
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
