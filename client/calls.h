/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CALLS_H
#define CLIENT_CALLS_H

/*
 * Requests and their answers. The client's mutex is held, except where told.
 */

#include <stdbool.h>
#include <stdint.h>

#include <shmbroker/io.h>

#include "error.h"
#include "loop.h"
#include "output.h"
#include "wire/packet.h"
#include "wire/wire.h"

enum { REQUESTS_MAX = 1024 }; /* in flight, whatever more the broker would allow */

/* What a name can be of, as region.remove spells it. */
enum object_kind { OBJECT_REGION = 1, OBJECT_LOCK = 2, OBJECT_SEMAPHORE = 3 };

struct request;
struct shmb_region;

/* What a create or open, of a region, lock or semaphore, will need once it is answered. */
struct attach {
	char name[SHMB_NAME_MAX + 1];
	unsigned access; /* region: what the handle is to be good for */
	unsigned flags;
	enum shmb_huge huge;
	void *address;             /* where to map; NULL: anywhere */
	uint64_t size;             /* to reserve */
	struct output *close_room; /* so that giving the attachment back needs no memory */
	char *path;                /* of the file that is passed; owned; NULL: none */
	struct request *instead;   /* what to ask for if this cannot be had; owned; NULL: nothing */
};

/* A request and what becomes of it. */
struct call {
	struct call *next; /* of its bucket, while it is in flight */
	uint32_t msgid;
	enum wire_method_id method;
	int64_t deadline; /* nanoseconds, clock_now() */
	bool in_flight;
	bool abandoned;        /* nobody waits any more: whoever takes the answer frees it */
	bool rearming;         /* region.watch after the connection broke; nobody waits for it */
	struct passed *passed; /* until it is started; owned */
	struct output *output; /* its packet, while it is in flight */

	struct shmb_error error; /* .code: how it ended */
	union {
		struct wire_hello_result hello; /* its strings are not valid */
		struct wire_stats_result stats;
		struct wire_region_attached attached;
		struct wire_region_grow_result grow;
		struct wire_region_data_result data;
		struct wire_region_watch_result watch;
		struct wire_region_lock_result region_lock;
		struct wire_lock_attached lock_attached;
		struct wire_semaphore_attached semaphore_attached;
		struct wire_arena_result arena;
	} result;
	int fds[WIRE_FDS_MAX]; /* owned; -1 beyond n_fds and where taken */
	unsigned n_fds;

	/* Takes a result whose strings live only as long as the packet; runs under the mutex. */
	int (*take)(struct call *call, const void *result);
	void *context;

	struct shmb_region *watching; /* region.watch: whose watch it arms */
	struct attach *attach;        /* those that make an attachment */

	/* Asynchronous: the rest of it. */
	shmb_region_fn callback;
	shmb_done_fn done; /* or this */
	void *userdata;
	struct work work;
};

static inline bool call_is_asynchronous(const struct call *call)
{
	return call->callback || call->done;
}

/* call_new() - Return: a call that call_free() frees, or NULL if out of memory. No mutex. */
struct call *call_new(enum wire_method_id method);

/* call_new_attach() - the same for one that makes an attachment to what is called @name */
struct call *call_new_attach(enum wire_method_id method, const char *name);
struct call *call_free(struct call *call);

/*
 * call_start() - number the call, send it, put it among those in flight
 *
 * Return: 0, SHMB_EBUSY (too many in flight), SHMB_EDISCONNECTED, SHMB_ENOMEM, SHMB_EINVAL.
 */
int call_start(struct shmb_client *client, struct call *call, const void *params, int64_t deadline);

/* call_start_anyway() - the same, also with too many in flight: then it is sent when there are less
 */
int call_start_anyway(struct shmb_client *client, struct call *call, const void *params,
		      int64_t deadline);

/*
 * call_run() - start it and wait for its answer, at most until the client's timeout; no mutex held
 *
 * Return: 0 (it ended; call->error.code says how), or SHMB_ETIMEDOUT: then the call is no longer
 * the caller's but of those in flight.
 */
int call_run(struct shmb_client *client, struct call *call, const void *params);

/*
 * call_answer() - call_run(), with why it failed kept in @slot
 * @call: NULL: there was no memory for it, which is kept, too
 *
 * Return: 0: answered well, the result is the caller's to take before call_free(); or an error: the
 * call is not the caller's any more.
 */
int call_answer(struct shmb_client *client, struct error_slot *slot, struct call *call,
		const void *params);

/*
 * call_ask() - all of it, for requests whose result is not needed or is taken by @take
 * @slot: where the particulars of a failure are kept
 */
int call_ask(struct shmb_client *client, struct error_slot *slot, enum wire_method_id method,
	     const void *params, int (*take)(struct call *call, const void *result), void *context);

/* calls_sleep() - until something is answered, at most until @deadline, without the mutex */
void calls_sleep(struct shmb_client *client, int64_t deadline);

/* calls_poll() - poll a socket without the mutex. Return: what poll(2) saw there. */
int calls_poll(struct shmb_client *client, int socket, short events, int64_t deadline);

/* calls_expire() - end the asynchronous calls whose time has passed */
void calls_expire(struct shmb_client *client);

/* calls_next_deadline() - of the asynchronous ones; 0: there are none */
int64_t calls_next_deadline(const struct shmb_client *client);

/* calls_disconnect() - end all with @error */
void calls_disconnect(struct shmb_client *client, const struct shmb_error *error);

/* calls_cancel() - the client is being freed: forget the asynchronous ones, finished or not */
void calls_cancel(struct shmb_client *client);

/* calls_forget_region() - a region that requests in flight point to is closing */
void calls_forget_region(struct shmb_client *client, const struct shmb_region *region);

/* calls_clear() - free all; the connection is over */
void calls_clear(struct shmb_client *client);

/*
 * call_give_back() - end the attachment that a call has made; the mutex is held
 * @failed: we could not make anything of it: if the call has also made the object, remove that
 */
void call_give_back(struct shmb_client *client, struct call *call, bool failed);

/* call_remove() - take a name away; nobody waits for the answer */
void call_remove(struct shmb_client *client, const char *name, enum object_kind kind);

/* call_unsent() - its descriptors cannot be sent; its output is the caller's */
void call_unsent(struct shmb_client *client, uint32_t msgid, int code);

/* call_answered() - a response came; takes descriptors out of @packet */
void call_answered(struct shmb_client *client, const struct wire_incoming *message,
		   struct packet *packet);

#endif
