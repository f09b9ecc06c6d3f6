/* SPDX-License-Identifier: MIT */
/*
 * The publisher: reads the file into the region, frame by frame, and never fills a slot that a
 * receiver still looks at. Knows nothing of checksums.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "demo.h"

static int make_semaphore(const struct publisher *publisher, const char *format, int receiver,
			  uint32_t initial, struct shmb_semaphore **ret_semaphore)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	char name[32];

	options.initial = initial;
	options.maximum = DEMO_SLOTS;
	(void)snprintf(name, sizeof(name), format, receiver);
	return shmb_semaphore_create(publisher->client, name, &options, ret_semaphore);
}

static int make(struct publisher *publisher)
{
	int r = shmb_region_create(publisher->client, DEMO_FRAMES_NAME, DEMO_REGION_BYTES, NULL,
				   &publisher->frames);

	for (int i = 0; r >= 0 && i < DEMO_RECEIVERS; i++) {
		r = make_semaphore(publisher, DEMO_FREE_NAME, i + 1, DEMO_SLOTS,
				   &publisher->free[i]);
		if (r >= 0)
			r = make_semaphore(publisher, DEMO_FULL_NAME, i + 1, 0,
					   &publisher->full[i]);
	}
	if (r < 0)
		return r;
	publisher->header = shmb_region_data(publisher->frames);
	publisher->buffer = malloc(DEMO_FRAME_BYTES);
	return publisher->buffer ? 0 : SHMB_ENOMEM;
}

static int read_file(const struct publisher *publisher, uint64_t offset, void *data, size_t length)
{
	char *bytes = data;

	while (length > 0) {
		ssize_t n = pread(publisher->file, bytes, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : SHMB_EIO;
		bytes += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

static size_t frame_length(const struct publisher *publisher, uint64_t offset)
{
	uint64_t left = publisher->size - offset;

	return left < DEMO_FRAME_BYTES ? (size_t)left : DEMO_FRAME_BYTES;
}

/* ---- Through shared memory ---- */

/* Back-pressure: waits until every receiver is done with a place, which is the oldest one. */
static int wait_for_slot(const struct publisher *publisher)
{
	int r = 0;

	for (int i = 0; r >= 0 && i < DEMO_RECEIVERS; i++)
		r = shmb_semaphore_wait(publisher->free[i], DEMO_PATIENCE_MS);
	return r;
}

static int publish_frame(struct publisher *publisher, uint64_t file_offset)
{
	uint64_t number = publisher->published++, slot = number % DEMO_SLOTS;
	uint64_t offset = DEMO_HEADER_BYTES + slot * DEMO_FRAME_BYTES;
	size_t length = frame_length(publisher, file_offset);
	struct shmb_view view;
	int r = wait_for_slot(publisher);

	if (r < 0)
		return r;
	r = shmb_region_view(publisher->frames, offset, length, 4096, SHMB_READ | SHMB_WRITE,
			     &view);
	if (r < 0)
		return r;
	r = read_file(publisher, file_offset, view.data, length);
	shmb_view_release(&view);
	if (r < 0)
		return r;
	publisher->header->slots[slot] =
		(struct demo_slot){ number, length, file_offset + length == publisher->size };
	for (int i = 0; r >= 0 && i < DEMO_RECEIVERS; i++)
		r = shmb_semaphore_post(publisher->full[i], 1);
	return r;
}

/* ---- Through sockets ---- */

static int send_all(int socket, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = send(socket, data, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? SHMB_ETIMEDOUT : -errno;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

static int send_frame(const struct publisher *publisher, uint64_t file_offset)
{
	size_t length = frame_length(publisher, file_offset);
	int r = read_file(publisher, file_offset, publisher->buffer, length);

	for (int i = 0; r >= 0 && i < DEMO_RECEIVERS; i++)
		r = send_all(DEMO_STREAM_FD + i, publisher->buffer, length);
	return r;
}

/* ---- The file ---- */

static int move(struct publisher *publisher, enum demo_way way, struct demo_report *report)
{
	struct demo_header *header = publisher->header;

	report->begin = demo_now();
	for (uint64_t offset = 0; offset < publisher->size;) {
		int r = way == DEMO_MEMORY ? publish_frame(publisher, offset)
					   : send_frame(publisher, offset);

		if (r < 0)
			return r;
		offset += frame_length(publisher, offset);
		atomic_store_explicit(&header->progress, offset, memory_order_relaxed);
		report->bytes = offset;
	}
	report->end = demo_now();
	return 0;
}

int publisher_do(struct publisher *publisher, const struct demo_order *order,
		 struct demo_report *report)
{
	switch (order->task) {
	case DEMO_MAKE:
		return make(publisher);
	case DEMO_MOVE:
		return move(publisher, order->way, report);
	default:
		return SHMB_EINVAL;
	}
}
