/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

/*
 * The library's inside: what a client and a region are made of, and who may touch which part.
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

#include <shmbroker/io.h>

#include "background.h"
#include "error.h"
#include "flush.h"
#include "fork.h"
#include "map.h"
#include "mapped.h"
#include "layout/publish.h"
#include "layout/semaphore.h"
#include "lock.h"
#include "predict.h"
#include "wait.h"
#include "wire/packet.h"
#include "wire/wire.h"

enum {
	CALL_BUCKETS = 64,
	WATCH_BUCKETS = 64,
	ARENA_BUCKETS = 64,
	SEMAPHORE_BUCKETS = 1024,
	REQUESTS_MAX = 1024,      /* in flight, whatever more the broker would allow */
	PACKETS_PER_PROCESS = 64, /* so that a busy broker cannot keep shmb_client_process() */
	RESUME_PATH_BYTES = 256,
	RESUME_NAME_BYTES = 64,
	RESUME_TOKEN_BYTES = 16,
};

/* ---- What waits for something ---- */

/* Descriptors of a request; all are kept until it is answered, as it may have to be sent again. */
struct passed {
	unsigned n; /* to send */
	int fds[WIRE_FDS_MAX];
	int claim; /* kept alone, see file.h; -1: none */
};

/*
 * A packet, until it cannot be lost any more: a request until it is answered, the end of an
 * attachment until a later request is (packets are read in order). The broker may die in between.
 */
struct output {
	TAILQ_ENTRY(output) link;
	uint32_t msgid; /* of a request; 0: a notification */
	uint32_t length;
	bool repeat;           /* over the next connection, if this one breaks */
	bool sent;             /* over this connection or one before: it may have been done */
	bool queued;           /* in client->output, else in client->sent */
	struct passed *passed; /* owned; NULL: no descriptors travel with it */
	uint8_t data[]; /* room for OUTPUT_CLOSE_BYTES at least, where made by output_new_close() */
};

/* Work for shmb_client_process(), in the order in which it came up. */
struct work {
	TAILQ_ENTRY(work) link;
	enum { WORK_CALL, WORK_REGION, WORK_OPERATION } kind;
	bool queued;
};

TAILQ_HEAD(output_queue, output);
TAILQ_HEAD(work_queue, work);

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

struct request;

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

/* ---- Client ---- */

enum connection {
	CONNECTION_UP,
	CONNECTION_AWAY,     /* broken: connected again later */
	CONNECTION_GREETING, /* connected again: whether the session goes on is not known yet */
};

/* What it takes to go on with the session over another connection; see resume.c. */
struct resume {
	bool known; /* to the broker, which can go on with it */
	char token[RESUME_TOKEN_BYTES];
	char path[RESUME_PATH_BYTES];
	char name[RESUME_NAME_BYTES]; /* as shown by the broker; not NUL-terminated */
	size_t name_length;
	int away_ms;     /* -1: for ever */
	int socket;      /* of the new connection, until the session goes on over it; else -1 */
	int64_t began;   /* nanoseconds, as all that follows: when this connection was made */
	int64_t give_up; /* 0: never */
	int64_t next;    /* when to try again */
	int64_t backoff; /* what was waited last; 0: nothing yet */
	uint32_t random; /* so that not all clients of a broker come at once */
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

/* ---- Region ---- */

struct watch {
	struct shmb_region *next; /* of its bucket, while registered */
	bool registered;
	bool unarmed; /* counted by client->n_unarmed */
	unsigned types;
	shmb_event_fn callback;
	void *userdata;
	uint64_t sequence; /* last told */
	uint64_t size;     /* last told */
	uint64_t serial;   /* changes with each shmb_region_watch() */
	unsigned n_arming; /* unanswered region.watch: an event that comes now may be of an older
			      watch */
	unsigned events;   /* enum shmb_event_type that came and have not been told */
	uint64_t event_size;
	/* The broker's counters: last told, last heard. It may be too old to have any. */
	bool counted;
	uint32_t metadata, deaths;
	uint32_t event_metadata, event_deaths;
	/* Of SHMB_EVENT_FILE. */
	LIST_ENTRY(shmb_region) file_link;
	int file_watch; /* number, among client->files; -1: none */
	uint64_t file_links;
};

/* Bits of shmb_region.state: what a fast path must not pass by. See touch.h. */
enum region_state {
	REGION_CLOSED = 1 << 0,
	REGION_FAULTED = 1 << 1,   /* memory of the data has vanished in a mapping of this handle */
	REGION_PAGE_LOST = 1 << 2, /* the publish page has */
	REGION_NO_READ = 1 << 3,   /* opened without SHMB_READ */
	REGION_NO_WRITE = 1 << 4,  /* or without SHMB_WRITE */
	REGION_COUNTED = 1 << 5,   /* a flush policy counts what is written */
	REGION_UNSETTLED = 1 << 6, /* whether a growth of ours took place is not known yet */
	REGION_UNMAPPING = 1 << 7, /* nothing is handed out any more, see region_hold() */
	REGION_MENDED = 1 << 16,   /* from here on a number: how often vanished memory came back */
};

struct shmb_region {
	/*
	 * What reading and writing touch: one cache line.
	 *
	 * `data`, `capacity` and `generation_seen` change when the region moves to another segment,
	 * stored in this order and to be loaded in the opposite one, as region_check() in touch.h
	 * does: what is behind `data` is never shorter than a capacity that was loaded before.
	 */
	_Atomic(unsigned char *) data;
	struct layout_publish *page;
	_Atomic uint64_t capacity;
	_Atomic uint32_t state;           /* enum region_state, ored */
	_Atomic uint32_t generation_seen; /* of the data segment, as the page says it */
	_Atomic uint64_t last_write;      /* bytes */
	uint32_t generation;              /* see fork.h */
	unsigned access;
	_Atomic int64_t spin_ns;     /* what shmb_region_wait() has learnt */
	_Atomic uint32_t n_sleeping; /* threads of this process in shmb_region_wait() */

	/* And locking: begins another. */
	struct locker locker;

	struct shmb_client *client;
	_Atomic unsigned refs;
	uint32_t handle;
	uint64_t id;
	unsigned flags;     /* enum shmb_region_flags that it was made with */
	struct map_how how; /* its data is mapped */
	enum shmb_backing backing;
	int fd;                          /* -1: not kept */
	char *path;                      /* of the file, as it was opened here; owned; NULL: none */
	_Atomic(struct mapped *) mapped; /* what `data` is in, and those before it; see mapped.h */
	pthread_mutex_t remapping;       /* see mapped.h */
	pthread_mutex_t following;       /* held by the thread that asks for a new segment */
	_Atomic uint32_t n_unanswered;   /* times that it was not answered */
	_Atomic uint32_t n_holds;        /* see region_hold() */
	struct mapping page_mapping;
	struct guarded page_guarded;
	_Atomic int last_flush; /* 0 or an error */
	struct flush flush;
	struct error_slot error;

	/* Guarded by the client's mutex. */
	struct output *close_room;
	struct watch watch;
	struct work work;
	struct background_part background;

	char name[SHMB_NAME_MAX + 1];
};

/* ---- client.c ---- */

/* What a name can be of, as region.remove spells it. */
enum object_kind { OBJECT_REGION = 1, OBJECT_LOCK = 2, OBJECT_SEMAPHORE = 3 };

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

/* ---- clock.c ---- */

/* clock_now() - nanoseconds of CLOCK_MONOTONIC */
int64_t clock_now(void);

/* clock_sleep() - for so many nanoseconds, less than a second; signals may make it less */
void clock_sleep(int64_t duration);

/* clock_poll_ms() - milliseconds from now to @deadline for poll(2), rounded up, not negative */
int clock_poll_ms(int64_t deadline);

/* client_timed_out() - what failed: the method, and whether the broker is away; no mutex held */
void client_timed_out(struct shmb_client *client, enum wire_method_id method,
		      struct shmb_error *ret_error);

/* client_deadline() - until when a request that is made now may take */
int64_t client_deadline(const struct shmb_client *client);

/* ---- output.c: packets on their way out; the mutex is held ---- */

/* output_new_close() - room for one region.close. Return: NULL if out of memory. */
struct output *output_new_close(void);

/* output_new_request() - a copy of @packet. Return: NULL if out of memory. */
struct output *output_new_request(uint32_t msgid, const struct wire_buffer *packet);

/* passed_free() - close all. Return: NULL. */
struct passed *passed_free(struct passed *passed);

/*
 * output_push() - send it, or keep it until the socket takes it; consumes it
 *
 * A broker that is gone shows when reading.
 */
void output_push(struct shmb_client *client, struct output *output);

/* output_close() - give attachment @handle back; @room is consumed, and makes that this cannot fail
 */
void output_close(struct shmb_client *client, struct output *room, uint32_t handle);

/* output_notify() - a notification on best effort, forgotten if the connection breaks. Return: 0 or
 * SHMB_ENOMEM. */
int output_notify(struct shmb_client *client, enum wire_method_id method, const void *params);

/* output_flush() - send what waits, as far as the socket takes it */
void output_flush(struct shmb_client *client);

/* output_blocked() - is it the socket that output waits for? */
bool output_blocked(const struct shmb_client *client);

/* output_withdraw() - take a request back, and free it. Return: false if it may have been done. */
bool output_withdraw(struct shmb_client *client, struct output *output);

/* output_answered() - of a request that was sent: neither it nor what was sent before it can be
 * lost any more */
void output_answered(struct shmb_client *client, struct output *output);

/* output_lost() - the connection broke: all that may be lost waits again, in its old order */
void output_lost(struct shmb_client *client);

/* output_again() - how many requests wait that were sent before; they come before the others */
uint32_t output_again(const struct shmb_client *client);

void output_clear(struct shmb_client *client);

/* ---- calls.c: requests and their answers; the mutex is held, except where told ---- */

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

/* ---- receive.c: what comes in; the mutex is held ---- */

/* receive_packets() - take up to @most packets that have arrived. Return: how many. */
unsigned receive_packets(struct shmb_client *client, unsigned most);

/* receive_wait() - wait for one packet without the mutex, for at most wait_limit_ms, and take it */
void receive_wait(struct shmb_client *client);

/* receive_disconnect() - the connection has ended, or is ended by us: code and what tell why. It
 * may come back. */
void receive_disconnect(struct shmb_client *client, int code, const char *what);

/* receive_give_up() - there is no way back */
void receive_give_up(struct shmb_client *client, const struct shmb_error *why);

/* ---- resume.c: going on over another connection; the mutex is held ---- */

/* resume_keep() - what is needed for it, before the first hello: the broker's path, our name */
void resume_keep(struct shmb_client *client, const char *path, const char *name);

/* resume_hello() - the first hello, or one that asks for our session */
struct wire_hello_params resume_hello(const struct shmb_client *client, bool again);

/* resume_check() - the broker's answer to hello: what we keep of it. Return: 0 or SHMB_EVERSION. */
int resume_check(struct shmb_client *client, const struct wire_hello_result *hello);

/*
 * resume_begin() - the connection broke
 * @hung_up: the broker died, as far as one can tell
 *
 * Return: false: there is no way back.
 */
bool resume_begin(struct shmb_client *client, bool hung_up);

/* resume_advance() - do what can be done now, without blocking; of those who may read, one does it
 */
void resume_advance(struct shmb_client *client);

/* resume_wait() - the same after waiting for something to do; for the reader; lets go of the mutex
 */
void resume_wait(struct shmb_client *client, int64_t deadline);

/* resume_deadline() - when an event loop has to advance; 0: it need not */
int64_t resume_deadline(const struct shmb_client *client);

enum { RESUME_MSGID = 0 }; /* of the hello; no call has it */

/* resume_say_hello() - over a new connection. Return: 0, or a negative errno. */
int resume_say_hello(struct shmb_client *client, int socket);

/* ---- parting.c ---- */

/*
 * parting() - the last reference goes: see that the broker knows, for at most a tenth of a second;
 * no mutex, no other thread
 */
void parting(struct shmb_client *client);

/* ---- loop.c; the mutex is held ---- */

/* loop_queue(), loop_unqueue() - work for shmb_client_process() */
void loop_queue(struct shmb_client *client, struct work *work);
void loop_unqueue(struct shmb_client *client, struct work *work);

/* loop_output_changed() - output began or ceased to wait */
void loop_output_changed(struct shmb_client *client);

/*
 * loop_start_call() - start a call that shmb_client_process() ends; no mutex held
 *
 * Return: as call_start(); the call stays the caller's if it fails.
 */
int loop_start_call(struct shmb_client *client, struct call *call, const void *params);

/* loop_deadline_changed() - an asynchronous call came or went, or when to connect again */
void loop_deadline_changed(struct shmb_client *client);

/* loop_watch(), loop_unwatch() - look at a connection's socket, or no longer. Return: 0, or -1: it
 * cannot be looked at now. */
int loop_watch(struct shmb_client *client, int socket);
void loop_unwatch(struct shmb_client *client, int socket);

/* loop_watch_connection() - look at the connection; if that fails it is tried again */
void loop_watch_connection(struct shmb_client *client);

/* loop_disconnected() - stop looking at the socket, wake the loop */
void loop_disconnected(struct shmb_client *client);
void loop_close(struct shmb_client *client);

/* ---- region.c ---- */

/*
 * region_attach() - make the region of an answered create or open; no mutex held
 *
 * On failure the attachment has been given back, and a region that was created is removed.
 *
 * Return: 0 (opened), 1 (created), or an error, which the client keeps.
 */
int region_attach(struct shmb_client *client, struct call *call, struct shmb_region **ret_region);

struct shmb_region *region_ref(struct shmb_region *region);

/* region_unref() - no mutex held */
void region_unref(struct shmb_region *region);

static inline bool region_closed(const struct shmb_region *region)
{
	return atomic_load_explicit(&region->state, memory_order_relaxed) & REGION_CLOSED;
}

/* region_usable() - 0, SHMB_ECLOSED or SHMB_EFORKED */
static inline int region_usable(const struct shmb_region *region)
{
	if (unlikely(fork_crossed(region->generation)))
		return SHMB_EFORKED;
	if (unlikely(region_closed(region)))
		return SHMB_ECLOSED;
	return 0;
}

/* region_is_public() - may the handle change what others see? */
static inline bool region_is_public(const struct shmb_region *region)
{
	return region->access & SHMB_WRITE && !(region->flags & SHMB_PRIVATE);
}

/* region_bytes() - bytes in use; the page may say anything, the mapping ends at the capacity */
static inline uint64_t region_bytes(const struct shmb_region *region)
{
	uint64_t size = atomic_load_explicit(&region->page->size, memory_order_relaxed);
	uint64_t capacity = atomic_load_explicit(&region->capacity, memory_order_relaxed);

	return size < capacity ? size : capacity;
}

/* region_within() - does the range lie within @size bytes? */
static inline bool region_within(uint64_t offset, uint64_t length, uint64_t size)
{
	return length <= size && offset <= size - length;
}

/* region_mapping() - of the data, as of now */
static inline struct mapping *region_mapping(const struct shmb_region *region)
{
	return &atomic_load(&region->mapped)->mapping;
}

/* region_hold_slowly() - the rest of region_hold() */
int region_hold_slowly(struct shmb_region *region);

/*
 * region_hold(), region_release() - what is handed out and refers to the region (views, windows,
 * cursors, walks): as long as there is any, shmb_region_unmap() refuses
 *
 * A view also keeps the mapping it is in, see mapped.h.
 *
 * Return: 0, or SHMB_ECLOSED: it is being unmapped, and not held.
 */
static inline int region_hold(struct shmb_region *region)
{
	/* seq_cst: we hold it and then look whether it is being unmapped; who unmaps it says so and
	 * then looks for holders. One of the two sees the other. */
	atomic_fetch_add(&region->n_holds, 1);
	if (likely(!(atomic_load(&region->state) & REGION_UNMAPPING)))
		return 0;
	return region_hold_slowly(region);
}

static inline void region_release(struct shmb_region *region)
{
	atomic_fetch_sub_explicit(&region->n_holds, 1, memory_order_release);
}

/* region_refuse_bounds() - keep the particulars. Return: SHMB_EBOUNDS (or why there are no bounds
 * any more). */
int region_refuse_bounds(struct shmb_region *region, uint64_t offset, uint64_t length);

/* region_refuse() - keep @code. Return: @code, or SHMB_EFORKED as it is. */
int region_refuse(struct shmb_region *region, int code, const char *what);

/* region_check_page() - has the publish page vanished? Return: 0 or SHMB_EBUS, which is kept. */
static inline int region_check_page(struct shmb_region *region)
{
	/* The handler runs in this thread, if it is this thread that touched it. */
	atomic_signal_fence(memory_order_seq_cst);
	if (likely(!(atomic_load_explicit(&region->state, memory_order_relaxed) &
		     REGION_PAGE_LOST)))
		return 0;
	return region_refuse(region, SHMB_EBUS, "publish page");
}

/* ---- region_lock.c ---- */

/*
 * region_lock() - for the copying functions: take the lock for at most the client's timeout
 *
 * Return: as shmb_region_lock(), but not held after SHMB_EOWNERDEAD.
 */
int region_lock(struct shmb_region *region, enum shmb_lock_kind kind);
void region_unlock(struct shmb_region *region);

/* ---- publish.c ---- */

/* publish_range() - what changed after @seen, bounded by the region's size */
void publish_range(const struct shmb_region *region, uint64_t seen, uint64_t now,
		   uint64_t *ret_offset, uint64_t *ret_length);

/* ---- watch.c; the mutex is held ---- */

/* watch_event() - the broker says that something happened */
void watch_event(struct shmb_client *client, const struct wire_region_event *event);

/* watch_armed() - a region.watch was answered; @seen: with what the broker counts, NULL if it
 * failed */
void watch_armed(struct shmb_region *region, const struct wire_region_watch_result *seen);

/* watch_rearmed() - the same, for one of watch_arm_lost(); @code: 0 or why not */
void watch_rearmed(struct shmb_region *region, int code,
		   const struct wire_region_watch_result *seen);

/* watch_files() - take what has happened to watched files */
void watch_files(struct shmb_client *client);

/* watch_lose_all() - the connection broke, and the broker's watches with it */
void watch_lose_all(struct shmb_client *client);

/* watch_arm_lost() - arm them again, as many as may be asked for now */
void watch_arm_lost(struct shmb_client *client);

/* watch_deadline() - when to call it again; 0: with the next answer, or never */
int64_t watch_deadline(const struct shmb_client *client);

void watch_end(struct shmb_region *region);
void watch_end_all(struct shmb_client *client);
void watch_disconnect_all(struct shmb_client *client);

/*
 * watch_run() - tell a region's events, if there is something to tell
 *
 * Lets go of the mutex while the callback runs.
 *
 * Return: 1 (told), 0, or SHMB_EFORKED (the callback forked, this is the child: the mutex is not
 * held).
 */
int watch_run(struct shmb_region *region);

/* ---- mend.c ---- */

/* region_mend() - is what has vanished of a range there again? Return: 0, or SHMB_EBUS with the
 * particulars. */
int region_mend(struct shmb_region *region, uint64_t offset, uint64_t length);

/* region_find_lost() - the same without looking for it */
int region_find_lost(struct shmb_region *region, uint64_t offset, uint64_t length);

/* ---- follow.c ---- */

/* region_has_moved() - or may have: is there a reason to ask for its segment? */
static inline bool region_has_moved(const struct shmb_region *region)
{
	return atomic_load(&region->page->generation) != atomic_load(&region->generation_seen) ||
	       atomic_load(&region->state) & REGION_UNSETTLED;
}

/* region_follow() - if so, map the data segment that the broker says the region has now. Return: 0,
 * or an error, which is kept. */
int region_follow(struct shmb_region *region);

/* region_move() - to a segment that is mapped already, the publish page's generation being @seen;
 * `following` is held. @mapped, @fd: consumed. Return: false: it is closed. */
bool region_move(struct shmb_region *region, struct mapped *mapped, uint64_t capacity,
		 uint32_t seen, int fd);

/* region_apply_flags() - to the pages of a new mapping, where it works */
void region_apply_flags(struct shmb_region *region, const struct mapped *mapped);

/* ---- grow.c ---- */

/* region_grow() - beyond the capacity. Return: 0, or an error, which is kept. */
int region_grow(struct shmb_region *region, uint64_t size);

#include "touch.h"

#endif
