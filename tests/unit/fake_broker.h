/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_BROKER_H
#define TESTS_FAKE_BROKER_H

/*
 * A broker in a thread of the test, which does as it is told: well enough by itself for a client to
 * connect and attach, and as badly as a test wants where it puts a handler of its own.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include <shmbroker/shmbroker.h>

#include "layout/lock.h"
#include "layout/publish.h"
#include "layout/semaphore.h"
#include "wire/packet.h"
#include "wire/wire.h"

enum {
	FAKE_PEERS = 16,
	FAKE_REGIONS = 8,
	FAKE_LOCKS = 8,
	FAKE_SEMAPHORES = 64,
	FAKE_HANDLES = 65536,
	FAKE_LOG = 256,
	FAKE_SLOTS = 8, /* of a lock, unless asked for more */
	FAKE_DONE = 64, /* creates that are remembered */
};

struct fake;

/* What came, in order, for tests to look at. */
struct fake_seen {
	enum wire_kind kind;
	uint32_t msgid;
	enum wire_method_id method;
	int peer;
	union {
		struct wire_hello_params hello;
		struct wire_region_create_params create;
		struct wire_region_open_params open;
		struct wire_region_adopt_params adopt;
		struct wire_region_ticket_params ticket;
		struct wire_region_redeem_params redeem;
		struct wire_region_handle handle;
		struct wire_region_watch_params watch;
		struct wire_region_resize_params resize;
		struct wire_region_grown_params grown;
		struct wire_region_chown_params chown;
		struct wire_region_list_params list;
		struct wire_remove_params remove;
		struct wire_lock_create_params lock_create;
		struct wire_semaphore_create_params semaphore_create;
		struct wire_arena_params arena;
		struct wire_holders_params holders;
	} params;
	char text[256]; /* the name, or the client's name, or the cursor */
	char path[256]; /* adopt: cut off */
	int fds[2];     /* borrowed; valid in handlers alone */
	unsigned n_fds;
	bool resumes; /* hello: with the token that was given */
	bool again;   /* one of the requests that were sent before, as hello told */
};

/* How it ends, see fake_end(). */
enum fake_ending {
	FAKE_CRASH = 1, /* and begins again at once, with a listener of its own */
	FAKE_DIE,       /* and takes the listener with it */
	FAKE_SLEEP,     /* the listener stays, and takes connections until somebody accepts them */
};

/* A create that was answered, or would have been. */
struct fake_done {
	uint32_t msgid;
	const struct fake_region *region;
	struct wire_region_attached attached;
};

/* Runs in the fake's thread. Return: true if it dealt with the message. */
typedef bool fake_handler(struct fake *fake, const struct fake_seen *seen);

/* A lock segment, and how many slots were given out. */
struct fake_lock {
	char name[256]; /* of a named one */
	int fd;
	uint32_t n_slots, n_given;
	struct layout_lock *words; /* NULL: none yet */
};

struct fake_semaphore {
	char name[256];
	uint64_t kind, maximum;
	uint32_t unit;
};

struct fake_region {
	char name[SHMB_NAME_MAX + 1];
	struct fake_lock lock;
	uint64_t size, capacity;
	int data, page; /* descriptors */
	bool file;      /* data was adopted; bytes are not its */
	struct layout_publish *words;
	unsigned char *bytes;
};

struct fake {
	char directory[64];
	char path[96];
	int listener;
	int stop[2];
	pthread_t thread;
	struct wire_decoder decoder;
	uint8_t input[WIRE_PACKET_MAX + 1];
	uint64_t max_requests;
	uint64_t features; /* without WIRE_FEATURE_RESUME, unless a test sets it */
	size_t fds_before;
	bool begun;    /* adopt.begin came, or hello said so */
	void *context; /* for handlers */
	fake_handler *handlers[WIRE_METHOD_COUNT];

	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t cond;
	bool paused;             /* reads nothing */
	bool deaf;               /* accepts nobody */
	enum fake_ending ending; /* 0: not now */
	unsigned n_endings;
	unsigned n_accepted;
	const char *refusal; /* what a hello with a token is answered, the next n_refusals times */
	unsigned n_refusals;
	uint64_t again; /* requests to come that were sent before */
	struct fake_done done[FAKE_DONE];
	unsigned n_done;
	int peers[FAKE_PEERS];
	int last_peer;
	unsigned n_ended; /* peers that hung up */
	unsigned n_silent_ends;
	unsigned received[WIRE_METHOD_COUNT]; /* before the answer */
	unsigned count[WIRE_METHOD_COUNT];    /* after it */
	struct fake_seen log[FAKE_LOG];
	unsigned n_log;
	struct fake_region regions[FAKE_REGIONS];
	unsigned n_regions;
	uint32_t next_handle;
	struct fake_lock locks[FAKE_LOCKS];
	unsigned n_locks;
	struct fake_lock *locks_of_handles[FAKE_HANDLES];

	/* All semaphores lie in one arena; a peer's slot there is its place among the peers, plus
	 * one. */
	int arena_fd;
	struct layout_arena *arena; /* NULL: none yet */
	uint32_t next_unit;
	struct fake_semaphore semaphores[FAKE_SEMAPHORES];
	unsigned n_semaphores;
};

/* fake_start() - listens in a directory of its own when it returns; fake_stop() ends and removes
 * it, and checks that the process has as many descriptors as before fake_start() */
struct fake *fake_start(void);
void fake_stop(struct fake *fake);

/* cmocka's setup and teardown: *state is the fake */
int fake_setup(void **state);
int fake_teardown(void **state);

/* fake_handle() - from now on @handler is asked first */
void fake_handle(struct fake *fake, enum wire_method_id method, fake_handler *handler);

/* fake_wait() - until @method has come @n times in all; fails after 10 s */
void fake_wait(struct fake *fake, enum wire_method_id method, unsigned n);
unsigned fake_count(struct fake *fake, enum wire_method_id method);

/* fake_ended() - how many peers have hung up so far; fake_wait_ended() - until it is @n */
unsigned fake_ended(struct fake *fake);
void fake_wait_ended(struct fake *fake, unsigned n);

/* fake_last() - the last message of that method */
struct fake_seen fake_last(struct fake *fake, enum wire_method_id method);

/*
 * fake_end() - end as a broker does that is killed: its memory and what it remembers stay. Also for
 * handlers; fake_wait_endings() - until it has ended @n times in all.
 */
void fake_end(struct fake *fake, enum fake_ending ending);
void fake_wait_endings(struct fake *fake, unsigned n);

/* fake_live() - again, after it died or slept */
void fake_live(struct fake *fake);

/* fake_refuse() - answer hello with a token so, @n times */
void fake_refuse(struct fake *fake, const char *code, unsigned n);

/* fake_condemn() - say goodbye and shut our end; only its hang-up is seen any more */
void fake_condemn(struct fake *fake, int peer, const char *code);

/* fake_accepted() - connections so far */
unsigned fake_accepted(struct fake *fake);

/* fake_log() - the messages from @first on, at most @most. Return: how many. */
unsigned fake_log(struct fake *fake, unsigned first, struct fake_seen *ret_seen, unsigned most);

/* fake_perform_create() - make the region of a create and remember the answer, but do not say it */
void fake_perform_create(struct fake *fake, const struct fake_seen *seen);

/* fake_perform_adopt() - the same for region.adopt; begins to hold a duplicate of a descriptor */
void fake_perform_adopt(struct fake *fake, const struct fake_seen *seen);

/* fake_pause() - read nothing from now on, or again */
void fake_pause(struct fake *fake, bool paused);

/* fake_end_silently() - the next @n connections that clients end are not confirmed */
void fake_end_silently(struct fake *fake, unsigned n);

/* ---- Saying things; from any thread ---- */

void fake_result(struct fake *fake, const struct fake_seen *to, const void *result, const int *fds,
		 unsigned n_fds);
void fake_error(const struct fake_seen *to, const struct wire_error *error);
void fake_event(int peer, uint32_t handle, unsigned types, uint64_t sequence, uint64_t size);
void fake_goodbye(int peer, const char *code, const char *what, uint64_t limit);
void fake_bytes(int peer, const void *bytes, size_t length, const int *fds, unsigned n_fds);
void fake_hang_up(struct fake *fake, int peer);

/* fake_peer() - the peer that said hello last */
int fake_peer(struct fake *fake);

/* ---- Regions ---- */

/* fake_region() - an existing region */
struct fake_region *fake_region(struct fake *fake, const char *name);

/* fake_attached() - a truthful result for a region, with a new handle */
struct wire_region_attached fake_attached(struct fake *fake, const struct fake_region *region,
					  uint64_t access, bool created);

/* fake_make() - a region that a client can open */
struct fake_region *fake_make(struct fake *fake, const char *name, uint64_t size,
			      uint64_t capacity);

/* ---- Locks and semaphores ---- */

/* fake_lock() - the lock of a region; made if need be */
struct fake_lock *fake_lock_of(struct fake *fake, struct fake_region *region);

/* fake_named_lock() - an existing one, or NULL */
struct fake_lock *fake_named_lock(struct fake *fake, const char *name);

/* fake_locker() - what a slot of a lock is made of, as the broker needs it for a repair */
struct layout_locker fake_locker(const struct fake_lock *lock, uint32_t slot);

/* fake_words() - where a semaphore is */
void *fake_words(struct fake *fake, const char *name);

/* fake_slot() - the slot of the peer that said hello last */
uint32_t fake_slot(struct fake *fake);

/* ---- For the tests ---- */

size_t count_fds(void);
int64_t now_ms(void);

/* fake_connect() - a client with that timeout */
struct shmb_client *fake_connect(struct fake *fake, int timeout_ms);

/* fake_in_child() - run @function in a forked child. Return: its exit status; 128 + n: signal n. */
int fake_in_child(int (*function)(void *argument), void *argument);

#define assert_code(actual, expected)                                       \
	do {                                                                \
		int actual_ = (int)(actual);                                \
		if (actual_ != (expected))                                  \
			fail_msg("%s is %d (%s), not %s", #actual, actual_, \
				 shmb_strerror(actual_), #expected);        \
	} while (0)

#endif
