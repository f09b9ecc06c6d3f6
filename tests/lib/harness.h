/* SPDX-License-Identifier: MIT */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

/*
 * What every test against a running daemon needs: the daemon itself, started by socket activation
 * in a directory of its own, client processes under other uids, raw peers that may break the
 * protocol, and the promise that nothing is left behind. Nothing here sleeps to wait for something.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <cmocka.h>

#include <shmbroker/shmbroker.h>

#include "fault.h"
#include "layout/lock.h"
#include "layout/semaphore.h"
#include "wire/packet.h"
#include "wire/wire.h"

/* ---- Checks ---- */

/*
 * They work in the test and in its client processes alike: in the test they end the case, in a
 * client process they print and end the process, which actor_end() then reports.
 */
void harness_fail(const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

#define FAIL(...) harness_fail(__FILE__, __LINE__, __VA_ARGS__)

#define CHECK(condition)                             \
	do {                                         \
		if (!(condition))                    \
			FAIL("not: %s", #condition); \
	} while (0)

#define CHECK_INT(actual, expected)                                                                \
	do {                                                                                       \
		long long actual_ = (long long)(actual), expected_ = (long long)(expected);        \
		if (actual_ != expected_)                                                          \
			FAIL("%s is %lld, not %s (%lld)", #actual, actual_, #expected, expected_); \
	} while (0)

#define CHECK_CODE(actual, expected)                                                              \
	do {                                                                                      \
		int actual_ = (actual), expected_ = (expected);                                   \
		if (actual_ != expected_)                                                         \
			FAIL("%s is %d (%s), not %s", #actual, actual_, shmb_error_name(actual_), \
			     #expected);                                                          \
	} while (0)

#define CHECK_OK(call) CHECK_CODE(call, 0)

#define CHECK_STRING(actual, expected)                                                 \
	do {                                                                           \
		const char *actual_ = (actual), *expected_ = (expected);               \
		if (strcmp(actual_, expected_) != 0)                                   \
			FAIL("%s is \"%s\", not \"%s\"", #actual, actual_, expected_); \
	} while (0)

/* A system call that must succeed; its result is the value. */
#define SYS(call) harness_sys(__FILE__, __LINE__, #call, (long)(call))
int harness_sys(const char *file, int line, const char *what, long result);

/* Ends the case as skipped; say why. */
#define SKIP(reason)                                    \
	do {                                            \
		print_message("skipped: %s\n", reason); \
		skip();                                 \
	} while (0)

/* ---- The daemon ---- */

struct raw;
struct fd_store;

enum { WIRE_TOKEN_BYTES = 16 };

struct broker_options {
	bool system;     /* --system: serves every uid; needs root, the case is skipped elsewhere */
	bool bare;       /* the case starts its daemons by itself */
	bool faults;     /* load faults.c; the case is skipped where that cannot be */
	bool no_probe;   /* keep no connection of the harness's own */
	bool own_socket; /* --socket instead of activation */
	const char *on_stop;   /* "keep" or "remove", which leaves nothing; NULL: "remove" */
	bool keeps_fds;        /* the daemon is expected to end with more descriptors than it had */
	bool exit_unclean;     /* the case kills the daemon: do not check how it ended */
	bool pid_namespace;    /* the daemon is the first of one, and sees no client; needs root */
	rlim_t nofile;         /* RLIMIT_NOFILE of the daemon; 0: leave it */
	const char *shm_mount; /* options of a tmpfs of its own on /dev/shm; needs root */
	bool shm_noexec;       /* and nothing on it may be executed */
	const char *runtime_mount; /* options of a tmpfs for what the daemon keeps; needs root */
	const char *notify_socket; /* NOTIFY_SOCKET */
	unsigned fd_store;  /* serve NOTIFY_SOCKET and keep that many descriptors; 0: do not */
	const char *config; /* text of its configuration file */
	const char *arguments[8]; /* more arguments, NULL-terminated */
	unsigned timeout_s;       /* of the whole case; 0: 30, several times that if sanitized */
};

struct broker {
	const struct broker_options *options;
	char directory[64];
	char socket[80];     /* what clients connect to */
	char runtime[80];    /* where it keeps its files: the directory, but for .runtime_mount */
	char log[80];        /* its stderr */
	const char *program; /* another build of the daemon, from the next start on; NULL: ours */
	pid_t pid;           /* 0: does not run */
	int pidfd;
	int eof;      /* closing it ends the daemon */
	int listener; /* kept for the next daemon; -1: none */
	struct fd_store *store;
	struct fault_control *faults;
	struct raw *probe;
	bool has_token; /* of the probe's session */
	uint8_t token[WIRE_TOKEN_BYTES];
	char instance[64]; /* its objects in /dev/shm begin with shmb.INSTANCE. */
	unsigned fds;      /* of the first daemon, with no client but the probe */
};

/* broker_prepare() - a directory for a daemon that does not run yet */
void broker_prepare(struct broker *broker, const struct broker_options *options);

/* broker_start() - run the daemon in its directory; with a probe, returns when it serves */
void broker_start(struct broker *broker);

/* broker_spawn() - run it with these arguments alone, no activation. Return: its pid. */
pid_t broker_spawn(struct broker *broker, const char *const arguments[]);

/* broker_wait() - wait for the end of the daemon. Return: exit code, or 1000 + signal. */
int broker_wait(struct broker *broker);

/* broker_stop() - SIGTERM and wait. Return: as broker_wait(). */
int broker_stop(struct broker *broker);

/* broker_kill() - SIGKILL and wait: for good, nobody listens any more */
void broker_kill(struct broker *broker);

/* broker_crash() - SIGKILL and wait. Whoever connects from now on waits for the next daemon. */
void broker_crash(struct broker *broker);

/* broker_leave() - SIGTERM and wait, for a successor to go on. Return: as broker_wait(). */
int broker_leave(struct broker *broker);

/* broker_await() - wait for an end that the case brought about by itself, for a successor to go on.
 * Return: as broker_wait(). */
int broker_await(struct broker *broker);

/* broker_restart() - another daemon in its place: same directory, socket and options, and what is
 * in the store of descriptors; with a probe, returns when it serves */
void broker_restart(struct broker *broker);

/* broker_launch() - the same, and do not wait for it: it may not get far */
void broker_launch(struct broker *broker);

/* broker_beside() - run another one with these arguments, whether or not ours runs. Return: exit
 * code, or 1000 + signal. */
int broker_beside(const struct broker *broker, const char *const arguments[]);

/* ---- Its store of descriptors (.fd_store) ---- */

/* store_count() - how many it holds, after all that was sent to it has come */
unsigned store_count(struct fd_store *store);

/* store_put() - as if the daemon had stored it: consumed. store_remove(): all of that name.
 * store_clear(): all. store_take(): a duplicate of the first one of a name, -1: none. */
void store_put(struct fd_store *store, const char *name, int fd);
void store_remove(struct fd_store *store, const char *name);
void store_clear(struct fd_store *store);
int store_take(struct fd_store *store, const char *name);

/* broker_notified_count() - how often a text occurs in what the daemon told its service manager */
unsigned broker_notified_count(const struct broker *broker, const char *text);

/* broker_remove() - end it if need be, remove its directory */
void broker_remove(struct broker *broker);

/* broker_settles() - removes all objects; does it then come to hold as many descriptors as before
 * there were clients? */
bool broker_settles(struct broker *broker);

/* broker_stat() - one of the daemon's figures, such as "regions" */
uint64_t broker_stat(struct broker *broker, const char *name);

/* broker_cpu_us() - processor time that the daemon has used so far, microseconds: what it does,
 * however busy the machine is with something else */
int64_t broker_cpu_us(const struct broker *broker);

/* broker_log_count() - how often a text occurs in what the daemon said */
unsigned broker_log_count(const struct broker *broker, const char *text);

/* broker_shm_count() - objects in /dev/shm that belong to the daemon's instance, the last one's if
 * it ended */
unsigned broker_shm_count(const struct broker *broker);

/* broker_lock_read() - pid and instance id of the lock file. Return: false if there is none. */
bool broker_lock_read(const struct broker *broker, long *ret_pid, char ret_instance[64]);

/* broker_fault() - from now on: let @skip calls through, fail @times with @error; 0: no more */
void broker_fault(struct broker *broker, enum fault fault, int error, int skip, int times);
int broker_fault_hits(const struct broker *broker, enum fault fault);

/* broker_path() - a path in the broker's directory; a static buffer */
const char *broker_path(const struct broker *broker, const char *name);

/* runtime_path() - the same where the daemon keeps its files */
const char *runtime_path(const struct broker *broker, const char *name);

/* fd_count() - open descriptors of a process */
unsigned fd_count(pid_t pid);

/* harness_slow() - how many times slower than an ordinary build things may be */
unsigned harness_slow(void);

/*
 * UNTIL() - let the daemon turn until a condition holds; fails after 10 s. The probe's round trip
 * is what lets time pass.
 */
#define UNTIL(broker, condition)                                            \
	do {                                                                \
		int64_t until_ = harness_now_ms() + 10000 * harness_slow(); \
		while (!(condition)) {                                      \
			if (harness_now_ms() > until_)                      \
				FAIL("never: %s", #condition);              \
			broker_turn(broker);                                \
		}                                                           \
	} while (0)
int64_t harness_now_ms(void);
void broker_turn(struct broker *broker);

/* ---- Client processes ---- */

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[2]; /* supplementary; 0 ends them */
};

enum { SHARED_GROUP = 2001 };
extern const struct identity SELF;  /* as the test itself */
extern const struct identity ALICE; /* 1001, in the shared group */
extern const struct identity BOB;   /* 1002, in the shared group */
extern const struct identity CAROL; /* 1003, in no group of theirs */

struct actor {
	pid_t pid;
	int pidfd;
	int channel;
};

typedef void actor_fn(struct broker *broker, void *argument);

/* actor_start() - fork a process that becomes @identity and runs @function */
struct actor actor_start(struct broker *broker, const struct identity *identity, actor_fn *function,
			 void *argument);

/* actor_run() - the same, and wait for its success */
void actor_run(struct broker *broker, const struct identity *identity, actor_fn *function,
	       void *argument);

/* Between the test and the actor: a number each way, in order. Bounded; fails if the other died. */
void actor_say(struct actor *actor, uint64_t value);
uint64_t actor_hear(struct actor *actor);
void say(uint64_t value); /* in the actor */
uint64_t hear(void);      /* in the actor */

/* actor_await() - wait until it has ended. Return: exit code, or 1000 + signal. */
int actor_await(struct actor *actor);

/* actor_end() - wait until it has ended, and with success */
void actor_end(struct actor *actor);

/* actor_kill() - SIGKILL, and wait until it is gone; fails if it had failed before */
void actor_kill(struct actor *actor);

/* actors_kill() - all that are left, with SIGKILL, however they ended */
void actors_kill(void);

/*
 * pulse_begin(), pulse_end() - what the daemon works between a question of a bystander and its
 * answer, at worst, microseconds; 0 where that cannot be told
 */
struct pulse_words;
struct pulse {
	struct pulse_words *words;
	struct actor bystander;
};
void pulse_begin(struct broker *broker, struct pulse *pulse);
int64_t pulse_end(struct pulse *pulse);

/* connect_to() - a client of the real library that must connect */
struct shmb_client *connect_to(const struct broker *broker);

/* create(), open_region() - must succeed */
struct shmb_region *create(struct shmb_client *client, const char *name, uint64_t size,
			   const struct shmb_region_options *options);
struct shmb_region *open_region(struct shmb_client *client, const char *name, unsigned access);

/* ---- Locks and semaphores, and what they look like ---- */

/* create_lock(), open_lock(), ... - must succeed */
struct shmb_lock *create_lock(struct shmb_client *client, const char *name, uint32_t mode,
			      enum shmb_lifetime lifetime);
struct shmb_lock *open_lock(struct shmb_client *client, const char *name);
struct shmb_semaphore *create_semaphore(struct shmb_client *client, const char *name,
					enum shmb_semaphore_kind kind, uint32_t initial,
					uint32_t maximum, uint32_t mode);
struct shmb_semaphore *open_semaphore(struct shmb_client *client, const char *name);

/* await_asleep() - until a thread of this process waits in the kernel, or has ended */
void await_asleep(pid_t task);

/* look_at_...() - through the broker; must succeed */
struct shmb_lock_info look_at_lock(struct shmb_client *client, const char *name);
struct shmb_semaphore_info look_at_semaphore(struct shmb_client *client, const char *name);

enum { HOLDERS_MAX = 16 };
struct holders {
	size_t n; /* of all, those that did not fit included */
	struct shmb_holder all[HOLDERS_MAX];
};
struct holders look_at_holders(struct shmb_client *client, const char *name);

/* find_holder() - the one of that process, or NULL */
const struct shmb_holder *find_holder(const struct holders *holders, pid_t pid);

/* A client process that locks as it is told; see told.c. */
enum order {
	ORDER_UNLOCK,
	ORDER_SHARED,
	ORDER_EXCLUSIVE,
	ORDER_DOWNGRADE,
	ORDER_MARK,
	ORDER_RESET,
	ORDER_CLOSE, /* the handle; of a named lock there is nothing left to tell afterwards */
	ORDER_EXIT,  /* no answer */
	ORDER_EXEC,  /* another program, that lives; no answer */
	ORDER_END,   /* no answer; see dismiss() */
	ORDER_WAITING = 16, /* with SHARED, EXCLUSIVE: wait without a limit instead of trying */
};

struct told {
	const char *name;
	bool lock;       /* a named lock, else a region */
	unsigned access; /* region */
};

actor_fn lock_as_told; /* argument: struct told, to live as long as the process */

/* tell() - an order; returns its result. answer(): of an order that was given by actor_say(). */
int tell(struct actor *actor, uint64_t order);
int answer(struct actor *actor);
void dismiss(struct actor *actor);

/* keep_reachable() - a handle that the test itself holds, for the leak check of forked processes */
void keep_reachable(void *handle);

/* ---- Raw peers ---- */

struct raw {
	int socket;
	uint32_t msgid;                  /* of the last request */
	uint8_t token[WIRE_TOKEN_BYTES]; /* of the session, from the answer to hello */
	bool resumed;                    /* the session is the one that was asked for */
	struct wire_decoder decoder;
	struct packet packet; /* the last one received; its descriptors are closed by the next */
	struct wire_incoming message;
	struct wire_error error; /* of the last failed response or goodbye */
	char buffer[WIRE_PACKET_MAX + 1];
};

/* raw_connect() - connected, no hello said; raw_hello() says it and takes the answer */
struct raw *raw_connect(const struct broker *broker);
void raw_hello(struct raw *raw);

/*
 * raw_resume() - hello for a session that has lost its connection; sets raw->resumed
 * @token: of the session; may lie in @raw
 * @again: how many of the next requests were sent before
 *
 * Return: 0, or the error's code; the connection may say hello again then.
 */
int raw_resume(struct raw *raw, const uint8_t token[WIRE_TOKEN_BYTES], uint32_t again);

/* raw_repeat() - raw_call() with a message id of another time */
int raw_repeat(struct raw *raw, uint32_t msgid, enum wire_method_id method, const void *params,
	       void *ret_result);
struct raw *raw_free(struct raw *raw);

/* raw_send() - any bytes, with any descriptors. Return: 0 or a negative errno. */
int raw_send(struct raw *raw, const void *data, size_t length, const int *fds, unsigned n_fds);

/* raw_request() - a well-formed request, not waited for. Return: as raw_send(). */
int raw_request(struct raw *raw, enum wire_method_id method, const void *params);

/*
 * raw_receive() - the next message, in raw->message; waits at most 10 s
 *
 * Return: 1, 0 (the daemon closed the connection), or fails.
 */
int raw_receive(struct raw *raw);

/* raw_ready() - is there something to receive within @timeout_ms */
bool raw_ready(struct raw *raw, int timeout_ms);

/*
 * raw_call() - a request and its answer; events that come before it are passed over
 * @ret_result: the struct of the method's result, may be NULL
 *
 * Return: 0, the error's code, or SHMB_EDISCONNECTED.
 */
int raw_call(struct raw *raw, enum wire_method_id method, const void *params, void *ret_result);

/* raw_goodbye() - receives until the daemon closes. Return: the code of its goodbye, 0: none came
 */
int raw_goodbye(struct raw *raw);

/* raw_create(), raw_open() - regions by hand; @ret_fds gets data and publish page, caller closes */
int raw_create(struct raw *raw, const char *name, uint64_t size, uint32_t mode, uint64_t lifetime,
	       struct wire_region_attached *ret_attached, int ret_fds[2]);
int raw_open(struct raw *raw, const char *name, unsigned access,
	     struct wire_region_attached *ret_attached, int ret_fds[2]);

/* raw_adopt() - region.adopt with @n_fds descriptors, saying that they are @n_stated; the caller
 * closes *ret_fds, too. Not before adopt.begin, raw_begin_adopt(). */
int raw_begin_adopt(struct raw *raw);
int raw_adopt(struct raw *raw, const char *name, uint64_t size, unsigned access, const int *fds,
	      unsigned n_fds, unsigned n_stated, struct wire_region_attached *ret_attached,
	      int ret_fds[2]);

/* raw_send_adopt() - the same, not waited for. Return: as raw_send(). */
int raw_send_adopt(struct raw *raw, const char *name, uint64_t size, unsigned access,
		   const int *fds, unsigned n_fds, unsigned n_stated);

/* raw_answer() - the answer to the last request. Return: as raw_call(). */
int raw_answer(struct raw *raw, enum wire_method_id method, void *ret_result);

/* raw_close() - region.close of any handle. raw_remove(): region.remove, if it is of that kind. */
enum raw_kind { RAW_REGION = 1, RAW_LOCK = 2, RAW_SEMAPHORE = 3 };
int raw_close(struct raw *raw, uint64_t handle);
int raw_remove(struct raw *raw, const char *name, enum raw_kind kind);

/* raw_greet() - connected, hello said */
struct raw *raw_greet(const struct broker *broker);

/* raw_return() - the session goes on over a new connection; the old one is given back */
struct raw *raw_return(struct broker *broker, struct raw *raw, uint32_t again);

/* raw_survive() - the same after a crash of the daemon */
struct raw *raw_survive(struct broker *broker, struct raw *raw, uint32_t again);

/* raw_make() - a region of 4096 bytes and mode 0700, whose memory is of no interest. Return:
 * handle. raw_stat_handle(): 0 or the error's code. */
uint64_t raw_make(struct raw *raw, const char *name, uint64_t lifetime);
int raw_stat_handle(struct raw *raw, uint64_t handle);

/* raw_be_condemned() - break the protocol, and take the goodbye */
void raw_be_condemned(struct broker *broker, struct raw *raw);

/* What must be as before, after what must not have changed anything. */
struct figures {
	uint64_t regions, attachments, locks, semaphores, slots, bytes, away;
};
struct figures figures_read(struct broker *broker);
void figures_check(const struct figures *now, const struct figures *before);

/* raw_names() - the first page of what there is of a kind, locks without those of regions. Return:
 * how many. */
enum { RAW_PAGE_MAX = 64 };
size_t raw_names(struct raw *raw, enum raw_kind kind,
		 char ret_names[RAW_PAGE_MAX][SHMB_NAME_MAX + 1]);

/* raw_region_lock() - a slot in a region's lock; the caller closes *@ret_fd */
int raw_region_lock(struct raw *raw, uint64_t handle, struct wire_region_lock_result *ret_result,
		    int *ret_fd);

/* Locks by hand, mapped and with the slot published; give them back with raw_locker_unmap(). */
int raw_lock_create(struct raw *raw, const char *name, uint32_t mode, uint64_t lifetime,
		    uint32_t slots, struct wire_lock_attached *ret_attached,
		    struct layout_locker *ret_locker);
int raw_lock_open(struct raw *raw, const char *name, struct wire_lock_attached *ret_attached,
		  struct layout_locker *ret_locker);
void raw_locker_unmap(const struct layout_locker *locker);

/* Semaphores by hand: raw_arena() maps LAYOUT_ARENA_BYTES, to be unmapped by the caller. */
int raw_semaphore_create(struct raw *raw, const char *name, uint64_t kind, uint64_t maximum,
			 uint64_t lifetime, struct wire_semaphore_attached *ret_attached);
int raw_semaphore_open(struct raw *raw, const char *name,
		       struct wire_semaphore_attached *ret_attached);
int raw_arena_fd(struct raw *raw, uint64_t arena, struct wire_arena_result *ret_result,
		 int *ret_fd);
int raw_arena(struct raw *raw, uint64_t arena, struct layout_arena **ret_arena);

/* ---- A file system that does not answer; see fuse.c ---- */

struct stubborn;
enum stubborn_hang { STUBBORN_STAT = 1, STUBBORN_CLOSE = 2 };

/* stubborn_mount() - with a "file" of 8192 bytes, in a mount namespace of the caller's own, which
 * is an actor with root's rights. Return: NULL where there is no FUSE. */
struct stubborn *stubborn_mount(const char *directory);

/* stubborn_hang() - what is not answered from now on. stubborn_waiting(): how often so far. */
void stubborn_hang(struct stubborn *stubborn, unsigned how);
unsigned stubborn_waiting(const struct stubborn *stubborn);

/* stubborn_end() - whoever waits for it gets an error */
void stubborn_end(struct stubborn *stubborn);

/* ---- Cases ---- */

struct harness_case {
	const char *name;
	void (*function)(struct broker *broker);
	struct broker_options options;
	struct harness_case *next;
};

void harness_register(struct harness_case *entry);

/*
 * CASE(name, options...) { ... } - one test, with a daemon of its own in `broker`
 *
 * Name and options begin at the start of a line: CMake finds them there. main() is in the harness.
 */
#define CASE(case_name, ...)                                                          \
	static void case_name(struct broker *broker);                                 \
	static struct harness_case case_name##_case = { .name = #case_name,           \
							.function = case_name,        \
							.options = { __VA_ARGS__ } }; \
	__attribute__((constructor)) static void case_name##_register(void)           \
	{                                                                             \
		harness_register(&case_name##_case);                                  \
	}                                                                             \
	static void case_name(struct broker *broker)

#define PRIVATE .system = false
#define SYSTEM  .system = true

#endif
