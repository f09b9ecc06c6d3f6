/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

/*
 * What a client is made of, and who may touch which part.
 *
 * One mutex per client guards the connection: requests in flight, output that waits, watches, work
 * for shmb_client_process(). It is never held across anything that blocks. Reading, writing,
 * publishing and waiting do not take it.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <shmbroker/errors.h>

#include "calls.h"
#include "error.h"
#include "fork.h"
#include "loop.h"
#include "output.h"
#include "resume.h"
#include "wire/wire.h"

enum {
	CALL_BUCKETS = 64,
	WATCH_BUCKETS = 64,
	ARENA_BUCKETS = 64,
	SEMAPHORE_BUCKETS = 1024,
};

struct arena;
struct background;
struct semaphore;
struct shmb_region;

enum connection {
	CONNECTION_UP,
	CONNECTION_AWAY,     /* broken: connected again later */
	CONNECTION_GREETING, /* connected again: whether the session goes on is not known yet */
};

struct shmb_client {
	int socket;          /* this number is the connection until the last reference goes */
	uint32_t generation; /* see fork.h */
	_Atomic unsigned refs;
	_Atomic int timeout_ms;
	int wait_limit_ms; /* of receiving on the socket; only ever lowered, see client.c */
	_Atomic bool gone; /* there is no way back to the broker; never reset */
	int64_t spin_ns;   /* most that a wait may spin */
	struct error_slot error;

	pthread_mutex_t mutex; /* guards everything below */
	pthread_cond_t cond;   /* something was answered, or the reader's place is free */
	bool reading;          /* a thread polls the socket for all who wait */
	unsigned n_waiting;    /* threads in the condition */
	bool freed;            /* shmb_client_free() was called; regions may still be there */
	bool greeted;          /* hello was answered */
	bool may_pass;         /* descriptors: the broker was asked, see pass_begin() */
	uint32_t next_msgid;
	uint32_t max_requests;
	uint32_t n_in_flight;
	struct call *calls[CALL_BUCKETS];
	struct output_queue output; /* has not been sent over this connection */
	struct output_queue sent;   /* has, and would be sent again; comes before the others */
	uint32_t n_unanswered;      /* requests in `sent` */
	enum connection connection;
	struct resume resume;
	struct shmb_region *watched[WATCH_BUCKETS];
	uint32_t n_unarmed; /* watches that the broker does not know of since it came back */
	int64_t rearm_at;   /* when to try again to arm them; 0: with the next answer */
	struct arena *arenas[ARENA_BUCKETS];
	struct semaphore *semaphores[SEMAPHORE_BUCKETS];
	struct shmb_error goodbye; /* .code 0: none came */

	struct background *background; /* NULL until there is something to do in it */
	struct work_queue work;
	bool processing;         /* shmb_client_process() is running */
	bool collecting;         /* and finds out what is due */
	int epoll, event, timer; /* -1 until shmb_client_get_fd() */
	int files;               /* what tells of changes to files; -1 until one is watched */
	LIST_HEAD(, shmb_region) file_watchers;
	bool event_set;
	bool output_polled;
	bool socket_polled;     /* the connection is in the epoll */
	int64_t timer_deadline; /* what the timer is set to; 0: not set */
	uint32_t n_async;       /* asynchronous calls in flight */

	struct wire_decoder decoder;
	uint8_t input[WIRE_PACKET_MAX + 1];
	struct wire_buffer scratch; /* for encoding */
};

/* client_check_name() - before anything is asked about a name: 0, SHMB_EFORKED or SHMB_EINVAL */
int client_check_name(struct shmb_client *client, const char *name);

/* client_remove() - take a name away, if it is of that kind */
int client_remove(struct shmb_client *client, const char *name, enum object_kind kind);

struct shmb_client *client_ref(struct shmb_client *client);
void client_unref(struct shmb_client *client);

static inline bool client_forked(const struct shmb_client *client)
{
	return fork_crossed(client->generation);
}

/* client_timed_out() - what failed: the method, and whether the broker is away; no mutex held */
void client_timed_out(struct shmb_client *client, enum wire_method_id method,
		      struct shmb_error *ret_error);

/* client_deadline() - until when a request that is made now may take */
int64_t client_deadline(const struct shmb_client *client);

#endif
