/* SPDX-License-Identifier: MIT */
#ifndef DEMO_DEMO_H
#define DEMO_DEMO_H

/*
 * The demo's vocabulary.
 *
 * A driver starts three processes of the same program: a publisher, which reads a file into the
 * region "demo/frames", and two receivers, which look at each frame in place. The driver gives
 * orders over a socket to each and gets one report for each order.
 *
 * demo/frames    header (struct demo_header), then DEMO_SLOTS frames
 * demo/free1, 2  counting semaphores: places that this receiver is done with
 * demo/full1, 2  counting semaphores: frames that it has not looked at yet
 *
 * The publisher makes them all. It fills a place only when both receivers are done with what was in
 * it: that is all the flow control there is.
 *
 * At last an accident: a process locks the region demo/accident, another waits for that lock, and
 * the driver kills the first.
 *
 * Functions return 0 or a negative SHMB_E... (or -errno, which is the same where both exist).
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shmbroker/shmbroker.h>

enum {
	DEMO_RECEIVERS = 2,
	DEMO_SLOTS = 8, /* frames in flight */
	DEMO_FRAME_BYTES = 256 * 1024,
	DEMO_HEADER_BYTES = 4096,
	DEMO_REGION_BYTES = DEMO_HEADER_BYTES + DEMO_SLOTS * DEMO_FRAME_BYTES,
	DEMO_PATIENCE_MS = 10000, /* of every wait for another process */
	DEMO_DIGEST_BYTES = 32,
};

#define DEMO_FRAMES_NAME   "demo/frames"
#define DEMO_FREE_NAME     "demo/free%d"
#define DEMO_FULL_NAME     "demo/full%d"
#define DEMO_ACCIDENT_NAME "demo/accident"

/* What lies in a slot; written before the frame is posted, untouched until it is taken. */
struct demo_slot {
	uint64_t number; /* of the frame, counted from 0 through all runs */
	uint64_t length; /* bytes */
	uint64_t last;   /* not 0: the file ends here */
};

struct demo_header {
	_Atomic uint64_t progress; /* bytes passed on in this run; only for the driver's display */
	struct demo_slot slots[DEMO_SLOTS];
};

/* ---- Orders and reports ---- */

enum demo_task {
	DEMO_MAKE, /* publisher: make the region and the semaphores; receiver: open them */
	DEMO_MOVE, /* pass the file on, or receive it */
	DEMO_QUIT,
};

enum demo_way { DEMO_MEMORY, DEMO_SOCKET, DEMO_WAYS };
enum demo_check { DEMO_SHA256, DEMO_SUM, DEMO_CHECKS };

struct demo_order {
	enum demo_task task;
	enum demo_way way;
	enum demo_check check;
};

struct demo_report {
	int status;
	uint64_t bytes;
	double begin, end; /* seconds on the system's monotonic clock */
	unsigned char digest[DEMO_DIGEST_BYTES];
};

/* ---- The roles: publisher.c, receiver.c ---- */

/* The descriptors that every role finds open. */
enum {
	DEMO_ORDERS_FD = 3,
	DEMO_STREAM_FD = 4 /* publisher: one for each receiver, from here on */
};

struct publisher {
	struct shmb_client *client;
	struct shmb_region *frames;
	struct shmb_semaphore *free[DEMO_RECEIVERS], *full[DEMO_RECEIVERS];
	struct demo_header *header;
	uint64_t published; /* frames so far, through all runs */
	int file;
	uint64_t size;
	void *buffer; /* for the way through sockets */
};

struct receiver {
	struct shmb_client *client;
	struct shmb_region *frames;
	struct shmb_semaphore *free, *full;
	const struct demo_header *header;
	uint64_t taken; /* frames so far, through all runs */
	uint64_t size;  /* of the file: sockets do not tell where it ends */
	void *buffer;   /* for the way through sockets */
	unsigned access;
	int number; /* 1 or 2 */
};

int publisher_do(struct publisher *publisher, const struct demo_order *order,
		 struct demo_report *report);
int receiver_do(struct receiver *receiver, const struct demo_order *order,
		struct demo_report *report);

/* ---- accident.c ---- */

struct accidents {
	int n;
	double median, slowest; /* seconds from the kill until the next one held the lock */
};

/* accidents_happen() - have the lock's holder killed, again and again. On a lock that is held, and
 * waited for, @show is called once. */
int accidents_happen(struct shmb_client *client, void (*show)(void),
		     struct accidents *ret_accidents);

/* accident_role() - be the one that is killed, or the one that waits */
int accident_role(const char *role);

/* role_main() - be what `demo role ...` says. Return: the exit status. */
int role_main(int argc, char **argv);

/* demo_now() - seconds on the monotonic clock, the same in all processes */
double demo_now(void);

/* ---- digest.c ---- */

struct digest;

/* digest_new() - start a checksum. Return: NULL if there is no memory. */
struct digest *digest_new(enum demo_check check);
int digest_add(struct digest *digest, const void *data, size_t length);

/* digest_finish() - the result, DEMO_DIGEST_BYTES at @ret_value. Frees @digest in any case. */
int digest_finish(struct digest *digest, unsigned char *ret_value);
struct digest *digest_free(struct digest *digest);

#endif
