/* SPDX-License-Identifier: MIT */
/*
 * Holders and waiters in worlds of their own: other namespaces, forked children, stopped processes,
 * connections that the broker has dropped, large core dumps.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

enum { SIZE = 8192, WRITER = SHMB_READ | SHMB_WRITE, SOON_MS = 500 };

static const struct told as_writer = { .name = "r", .access = WRITER };

static struct actor start(struct broker *broker, const struct identity *identity)
{
	return actor_start(broker, identity, lock_as_told, (void *)(uintptr_t)&as_writer);
}

static struct shmb_region *create_open(struct shmb_client *client, const char *name)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.mode = 0777;
	return create(client, name, SIZE, &options);
}

/* The next after a dead owner: told, and soon. */
static void check_inherited(struct shmb_region *region, int64_t died_ms)
{
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 10000), SHMB_EOWNERDEAD);
	CHECK(harness_now_ms() - died_ms < SOON_MS * harness_slow());
	CHECK_OK(shmb_region_mark_consistent(region));
	CHECK_OK(shmb_region_unlock(region));
}

/* ---- Namespaces ---- */

/* The first process of a namespace of its own holds the lock; 0: that cannot be had here. */
static void hold_in_a_namespace(struct broker *broker, void *argument)
{
	struct shmb_client *client;
	struct shmb_region *region;
	pid_t pid;

	if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0 || (pid = fork()) < 0) {
		say(0);
		return;
	}
	if (pid == 0) {
		CHECK_INT(getpid(), 1);
		client = connect_to(broker);
		region = open_region(client, "r", WRITER);
		CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
		say(1);
		hear();
		_exit(0);
	}
	say((uint64_t)pid);
	waitpid(pid, NULL, 0);
	_exit(0); /* no leak check: it does not work in this namespace */
}

CASE(F37_a_holder_in_user_and_pid_namespaces_of_its_own, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct actor alice = actor_start(broker, &ALICE, hold_in_a_namespace, NULL);
	pid_t holder = (pid_t)actor_hear(&alice);
	struct holders holders;
	int64_t died;

	if (holder == 0) {
		actor_end(&alice);
		shmb_region_free(region);
		shmb_client_free(client);
		SKIP("no user namespaces for ordinary users here");
	}
	actor_hear(&alice);
	holders = look_at_holders(client, "r");
	CHECK_INT(holders.n, 1);
	CHECK_INT(holders.all[0].process.pid, holder); /* as we see it, not as it sees itself */
	CHECK_INT(holders.all[0].process.uid, ALICE.uid);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 20), SHMB_ETIMEDOUT);
	died = harness_now_ms();
	SYS(kill(holder, SIGKILL));
	check_inherited(region, died);
	actor_end(&alice);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_a_holder_that_the_broker_cannot_see_has_no_pid, SYSTEM, .pid_namespace = true)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct actor alice = start(broker, &ALICE), bob = start(broker, &BOB);
	struct holders holders;
	int64_t died;
	size_t i;

	CHECK_OK(tell(&alice, ORDER_EXCLUSIVE));
	actor_say(&bob, ORDER_SHARED | ORDER_WAITING);
	UNTIL(broker, look_at_lock(client, "r").waiting_shared == 1);
	holders = look_at_holders(client, "r");
	CHECK_INT(holders.n, 2);
	for (i = 0; i < 2; i++) {
		CHECK_INT(holders.all[i].process.pid, 0);
		CHECK_INT(holders.all[i].process.uid,
			  holders.all[i].exclusive ? ALICE.uid : BOB.uid);
		CHECK_INT(holders.all[i].waiting, !holders.all[i].exclusive);
	}
	CHECK_INT(look_at_lock(client, "r").holder.pid, 0);
	CHECK_INT(look_at_lock(client, "r").holder.uid, ALICE.uid);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 20), SHMB_ETIMEDOUT);
	died = harness_now_ms();
	actor_kill(&alice);
	CHECK_CODE(answer(&bob), SHMB_EOWNERDEAD);
	check_inherited(region, died);
	dismiss(&bob);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Forked children ---- */

static void check_forked(struct shmb_region *region, struct shmb_lock *lock,
			 struct shmb_semaphore *semaphore)
{
	struct shmb_permit permit = { 0, 1 };
	char byte;

	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, -1), SHMB_EFORKED);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), SHMB_EFORKED);
	CHECK_CODE(shmb_region_unlock(region), SHMB_EFORKED);
	CHECK_CODE(shmb_region_downgrade(region), SHMB_EFORKED);
	CHECK_CODE(shmb_region_mark_consistent(region), SHMB_EFORKED);
	CHECK_CODE(shmb_region_read(region, 0, &byte, 1, SHMB_LOCKED), SHMB_EFORKED);
	CHECK_CODE(shmb_region_snapshot(region, 0, &byte, 1), SHMB_EFORKED);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_SHARED, -1), SHMB_EFORKED);
	CHECK_CODE(shmb_lock_release(lock), SHMB_EFORKED);
	CHECK_CODE(shmb_semaphore_wait(semaphore, -1), SHMB_EFORKED);
	CHECK_CODE(shmb_semaphore_post(semaphore, 1), SHMB_EFORKED);
	CHECK_CODE(shmb_semaphore_take(semaphore, -1, &permit), SHMB_EFORKED);
	CHECK_CODE(shmb_semaphore_give(semaphore, &permit), SHMB_EFORKED);
	CHECK_CODE(shmb_semaphore_adopt(semaphore, &permit), SHMB_EFORKED);
}

/* Holds everything; its child may use nothing of it, frees its copies, and lives on. */
static void hold_and_fork(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", WRITER);
	struct shmb_lock *lock = open_lock(client, "l");
	struct shmb_semaphore *semaphore = open_semaphore(client, "s");
	pid_t pid;

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_acquire(lock, SHMB_SHARED, 0));
	CHECK_OK(shmb_semaphore_wait(semaphore, 0));
	pid = SYS(fork());
	if (pid == 0) {
		check_forked(region, lock, semaphore);
		if (argument) {
			shmb_semaphore_free(semaphore);
			shmb_lock_free(lock);
			shmb_region_free(region);
			shmb_client_free(client);
		}
		say((uint64_t)getpid());
		hear();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void parent_dies(struct broker *broker, void *child_frees)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct shmb_lock *lock = create_lock(client, "l", 0777, SHMB_ATTACHED);
	struct shmb_semaphore *semaphore = create_semaphore(client, "s", SHMB_OWNED, 0, 1, 0777);
	struct actor alice = actor_start(broker, &ALICE, hold_and_fork, child_frees);
	pid_t child = (pid_t)actor_hear(&alice);
	int64_t died;

	/* Whatever the child does with its copies, the parent has what it had. */
	CHECK(look_at_lock(client, "r").held);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 20), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 20), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_semaphore_wait(semaphore, 0), SHMB_ETIMEDOUT);
	died = harness_now_ms();
	kill(alice.pid, SIGKILL);
	check_inherited(region, died);
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 10000));
	CHECK_OK(shmb_lock_release(lock));
	CHECK_OK(shmb_semaphore_wait(semaphore, 10000));
	CHECK_OK(kill(child, 0)); /* it lives, and holds the connection */
	kill(child, SIGKILL);
	actor_kill(&alice);
	shmb_semaphore_free(semaphore);
	shmb_lock_free(lock);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F37_locks_go_with_the_process_though_a_child_holds_the_connection, SYSTEM)
{
	parent_dies(broker, NULL);
}

CASE(a_child_that_frees_its_copies_gives_back_nothing_of_its_parent_s, SYSTEM)
{
	static char yes;

	parent_dies(broker, &yes);
}

/* ---- Stopped ---- */

CASE(F37_nobody_breaks_the_lock_of_a_stopped_holder, SYSTEM,
     .arguments = { "--slow-timeout=100ms" })
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct actor alice = start(broker, &ALICE), bob = start(broker, &BOB);
	struct holders holders;

	CHECK_OK(tell(&alice, ORDER_EXCLUSIVE));
	SYS(kill(alice.pid, SIGSTOP));
	actor_say(&bob, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(client, "r").waiting_exclusive == 1);
	/* Longer than any sleeper sleeps, and than the broker waits for the slow. */
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 1500), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), SHMB_ETIMEDOUT);
	holders = look_at_holders(client, "r");
	CHECK_INT(holders.n, 2);
	CHECK(find_holder(&holders, alice.pid)->exclusive);
	CHECK_INT(find_holder(&holders, alice.pid)->waiting, 0);
	CHECK_INT(find_holder(&holders, alice.pid)->condemned, 0);
	CHECK_INT(find_holder(&holders, alice.pid)->process.uid, ALICE.uid);
	CHECK(find_holder(&holders, alice.pid)->process.command[0] != '\0');
	CHECK_INT(find_holder(&holders, bob.pid)->waiting, 1);
	CHECK(!find_holder(&holders, bob.pid)->exclusive);
	CHECK_INT(look_at_lock(client, "r").holder.pid, alice.pid);
	SYS(kill(alice.pid, SIGCONT));
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	CHECK_OK(answer(&bob));
	CHECK_OK(tell(&bob, ORDER_UNLOCK));
	dismiss(&alice);
	dismiss(&bob);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(a_stopped_waiter_whose_turn_it_is_keeps_nobody, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct actor alice = start(broker, &ALICE), bob = start(broker, &BOB);
	struct actor carol = start(broker, &CAROL);
	int64_t start_ms;
	int i;

	CHECK_OK(tell(&carol, ORDER_EXCLUSIVE));
	actor_say(&alice, ORDER_EXCLUSIVE | ORDER_WAITING);
	UNTIL(broker, look_at_lock(client, "r").waiting_exclusive == 1);
	actor_say(&bob, ORDER_SHARED | ORDER_WAITING);
	UNTIL(broker, look_at_lock(client, "r").waiting_shared == 1);
	SYS(kill(alice.pid, SIGSTOP));
	SYS(kill(bob.pid, SIGSTOP));
	CHECK_OK(tell(&carol, ORDER_UNLOCK)); /* they are named, and do not come */
	start_ms = harness_now_ms();
	for (i = 0; i < 100; i++) {
		CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 10000));
		CHECK_OK(shmb_region_unlock(region));
		CHECK_OK(tell(&carol, ORDER_EXCLUSIVE | ORDER_WAITING));
		CHECK_OK(tell(&carol, ORDER_UNLOCK));
	}
	/* A millisecond for each turn that was asked for, not for each time. */
	CHECK(harness_now_ms() - start_ms < SOON_MS * harness_slow());
	SYS(kill(alice.pid, SIGCONT));
	CHECK_OK(answer(&alice));
	CHECK_OK(tell(&alice, ORDER_UNLOCK));
	SYS(kill(bob.pid, SIGCONT));
	CHECK_OK(answer(&bob));
	CHECK_OK(tell(&bob, ORDER_UNLOCK));
	dismiss(&alice);
	dismiss(&bob);
	dismiss(&carol);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* A reader between taking the lock and giving it back, stopped: writers wait, readers do not. */
CASE(a_stopped_reader_keeps_writers_out_and_readers_in, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct actor alice = start(broker, &ALICE);

	CHECK_OK(tell(&alice, ORDER_SHARED));
	SYS(kill(alice.pid, SIGSTOP));
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 100), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_INT(look_at_lock(client, "r").holder.pid, alice.pid);
	actor_kill(&alice); /* stopped processes can be killed */
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 10000));
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Condemned ---- */

/* Locks by hand, then breaks the protocol: the connection is gone, the process is not. */
static void lock_and_be_dropped(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	struct wire_lock_attached attached;
	struct wire_semaphore_attached semaphore;
	struct layout_permit permit;
	struct layout_arena *arena;
	struct layout_locker locker;

	raw_hello(raw);
	CHECK_OK(raw_lock_open(raw, "l", &attached, &locker));
	CHECK_OK(raw_semaphore_open(raw, "s", &semaphore));
	CHECK_OK(raw_arena(raw, semaphore.arena, &arena));
	CHECK_INT(layout_lock_claim(&locker), LAYOUT_LOCK_GOT);
	layout_lock_hold(&locker);
	CHECK(layout_owned_take(
		(struct layout_owned *)(void *)((char *)arena + semaphore.unit * LAYOUT_ARENA_UNIT),
		4, (uint32_t)semaphore.slot, &permit));
	CHECK_OK(raw_send(raw, "\xc1", 1, NULL, 0));
	CHECK_CODE(raw_goodbye(raw), SHMB_EPROTO);
	say(attached.slot);
	if (hear())
		layout_lock_release(&locker, 0);
	say(1);
	hear();
	_exit(0);
}

CASE(F37_a_condemned_holder_keeps_its_lock_and_slot_until_its_process_ends, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = create_lock(client, "l", 0777, SHMB_ATTACHED);
	struct shmb_semaphore *semaphore = create_semaphore(client, "s", SHMB_OWNED, 0, 4, 0777);
	struct actor alice = actor_start(broker, &ALICE, lock_and_be_dropped, NULL);
	uint64_t slot = actor_hear(&alice);
	struct raw *raw = raw_connect(broker);
	struct wire_lock_attached attached;
	struct layout_locker locker;
	struct holders holders;
	int64_t died;

	UNTIL(broker, broker_stat(broker, "condemned") == 1);
	holders = look_at_holders(client, "l");
	CHECK_INT(holders.n, 1);
	CHECK_INT(holders.all[0].process.pid, alice.pid);
	CHECK(holders.all[0].exclusive);
	CHECK(holders.all[0].condemned);
	holders = look_at_holders(client, "s");
	CHECK_INT(holders.n, 1);
	CHECK_INT(holders.all[0].permits, 1);
	CHECK(holders.all[0].condemned);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_SHARED, 50), SHMB_ETIMEDOUT);
	CHECK_INT(shmb_semaphore_value(semaphore), 3);
	raw_hello(raw);
	CHECK_OK(raw_lock_open(raw, "l", &attached, &locker));
	CHECK(attached.slot != slot);
	raw_locker_unmap(&locker);
	raw_free(raw);

	/* It can still give it back; that is why nobody may. */
	actor_say(&alice, 1);
	actor_hear(&alice);
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 2000));
	CHECK_OK(shmb_lock_release(lock));
	CHECK_INT(look_at_lock(client, "l").slots_used, 2);
	actor_kill(&alice);
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
	UNTIL(broker, shmb_semaphore_value(semaphore) == 4);
	UNTIL(broker, look_at_lock(client, "l").slots_used == 1);

	/* And one that dies with it. */
	alice = actor_start(broker, &ALICE, lock_and_be_dropped, NULL);
	actor_hear(&alice);
	UNTIL(broker, broker_stat(broker, "condemned") == 1);
	actor_say(&alice, 0);
	actor_hear(&alice);
	died = harness_now_ms();
	actor_kill(&alice);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 10000), SHMB_EOWNERDEAD);
	CHECK(harness_now_ms() - died < SOON_MS * harness_slow());
	CHECK_OK(shmb_lock_mark_consistent(lock));
	CHECK_OK(shmb_lock_release(lock));
	shmb_semaphore_free(semaphore);
	shmb_lock_free(lock);
	shmb_client_free(client);
}

/* The library keeps its socket to itself: the newest connection of this process is its. */
static int library_socket(void)
{
	int found = -1, type;
	socklen_t length = sizeof(type);

	for (int fd = 0; fd < 1024; fd++)
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
		    type == SOCK_SEQPACKET)
			found = fd;
	CHECK(found >= 0);
	return found;
}

/* Breaks the protocol behind the library's back, and lets the library find out that it was dropped.
 */
static void lock_and_find_out(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	int socket = library_socket();
	struct shmb_region *region = open_region(client, "r", WRITER);

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
	CHECK_INT(send(socket, "\xc1", 1, MSG_NOSIGNAL), 1);
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	say(1);
	hear();
	CHECK_OK(shmb_region_unlock(region));
	say(1);
	hear();
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
	shmb_region_free(region);
	shmb_client_free(client);
	say(1);
	hear();
}

CASE(F37_a_client_that_was_dropped_holds_what_it_holds_until_it_lets_go, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct actor alice = actor_start(broker, &ALICE, lock_and_find_out, NULL);

	actor_hear(&alice);
	CHECK_INT(broker_stat(broker, "condemned"), 1);
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 50), SHMB_ETIMEDOUT);
	actor_say(&alice, 1);
	actor_hear(&alice);
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 2000));
	CHECK_OK(shmb_region_unlock(region));
	/* Freed with the lock held, it hangs up, alive as it is. */
	actor_say(&alice, 1);
	actor_hear(&alice);
	check_inherited(region, harness_now_ms());
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
	actor_say(&alice, 1);
	actor_end(&alice);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Large ---- */

#define LARGE    (UINT64_C(2) << 30)
#define RESIDENT (UINT64_C(256) << 20)

/* Dumps core with two gigabytes mapped, much of it really there. */
static void hold_and_dump(struct broker *broker, void *argument)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", WRITER);

	SYS(setrlimit(RLIMIT_CORE, &limit));
	SYS(chdir(broker->directory)); /* which goes away with all that is in it */
	memset(shmb_region_data(region), 1, RESIDENT);
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	say(1);
	hear();
	signal(SIGABRT, SIG_DFL);
	abort();
}

CASE(F37_a_holder_that_dumps_core_is_missed_at_once, SYSTEM)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct actor dumper;
	int64_t died;

#ifdef SHMB_TEST_SANITIZED
	shmb_client_free(client);
	SKIP("sanitized programs map terabytes and do not dump them");
#endif
	options.capacity = LARGE;
	region = create(client, "r", LARGE, &options);
	dumper = actor_start(broker, &SELF, hold_and_dump, NULL);
	actor_hear(&dumper);
	actor_say(&dumper, 1);
	died = harness_now_ms();
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 15000), SHMB_EOWNERDEAD);
	print_message("core dumped and lock inherited in %lld ms\n",
		      (long long)(harness_now_ms() - died));
	CHECK(harness_now_ms() - died < 2 * SOON_MS);
	CHECK_OK(shmb_region_mark_consistent(region));
	CHECK_OK(shmb_region_unlock(region));
	kill(dumper.pid, SIGKILL); /* it may still be at it */
	actor_await(&dumper);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Threads that end ---- */

static void *lock_and_return(void *argument)
{
	CHECK_OK(shmb_region_lock(argument, SHMB_EXCLUSIVE, 0));
	return NULL;
}

static void end_the_thread_that_holds(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", WRITER);
	pthread_t thread;

	CHECK_INT(pthread_create(&thread, NULL, lock_and_return, region), 0);
	pthread_join(thread, NULL);
	say(1);
	hear();
	_exit(0);
}

/* The lock belongs to the handle: it is held for as long as the process has it. */
CASE(a_thread_that_ends_takes_no_lock_with_it, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_open(client, "r");
	struct actor alice = actor_start(broker, &ALICE, end_the_thread_that_holds, NULL);
	int64_t died;

	actor_hear(&alice);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 50), SHMB_ETIMEDOUT);
	CHECK_INT(look_at_lock(client, "r").holder.pid, alice.pid);
	died = harness_now_ms();
	actor_say(&alice, 1);
	check_inherited(region, died);
	actor_end(&alice);
	shmb_region_free(region);
	shmb_client_free(client);
}
