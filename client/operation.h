/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_OPERATION_H
#define CLIENT_OPERATION_H

/* Between what is asked for in the background and the threads that do it. */

#include <shmbroker/io.h>

#include "background.h"
#include "loop.h"

struct operation {
	TAILQ_ENTRY(operation) link; /* while it has not begun */
	enum { OPERATION_WRITE, OPERATION_FLUSH, OPERATION_COPY } kind;
	struct shmb_region *region, *to; /* to: of a copy, else NULL */
	uint64_t offset, to_offset, length;
	const void *buffer;
	int status;
	shmb_done_fn callback;
	void *userdata;
	struct work work; /* when it has ended */
};

/* operation_perform() - do it, in the calling thread; no mutex. Return: how it ended. */
int operation_perform(const struct operation *operation);

/*
 * background_submit() - let a thread do it
 * @wanted: copied
 *
 * Return: 0 (its callback will run), SHMB_ECLOSED, SHMB_EBUSY or SHMB_ENOMEM.
 */
int background_submit(const struct operation *wanted);

#endif
