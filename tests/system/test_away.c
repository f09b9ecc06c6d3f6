/* SPDX-License-Identifier: MIT */
/*
 * Sessions whose process does not come back at once: it was stopped, or died, before there was a
 * daemon to see it; and what is kept for those who only take their time.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

/* ---- Listings ---- */

static size_t list_page(struct raw *raw, char cursor[SHMB_NAME_MAX + 1], bool *ret_more)
{
	const struct wire_region_list_params params = {
		.has = WIRE_HAS(region_list_params, limit) |
		       (*cursor ? WIRE_HAS(region_list_params, cursor) : 0),
		.cursor = wire_string(cursor),
		.limit = 8,
	};
	struct wire_region_list_result page;

	CHECK_OK(raw_call(raw, WIRE_REGION_LIST, &params, &page));
	*ret_more = page.has & WIRE_HAS(region_list_result, cursor);
	if (*ret_more)
		snprintf(cursor, SHMB_NAME_MAX + 1, "%.*s", (int)page.cursor.length,
			 page.cursor.data);
	return page.n_regions;
}

CASE(a_listing_goes_on_where_it_was, PRIVATE)
{
	char cursor[SHMB_NAME_MAX + 1] = "", name[16];
	struct raw *raw = raw_greet(broker);
	bool more = true;
	size_t n = 0;
	unsigned i;

	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "r%02u", i);
		raw_make(raw, name, SHMB_ATTACHED);
	}
	while (more) {
		n += list_page(raw, cursor, &more);
		raw = raw_survive(broker, raw, 0);
	}
	CHECK_INT(n, 20);
	raw_free(raw);
}

/* A page on which nothing is to be seen keeps its place in the session. */
static void list_what_is_hidden(struct broker *broker, void *argument)
{
	char cursor[SHMB_NAME_MAX + 1] = "";
	struct raw *raw = raw_greet(broker);
	bool more;

	CHECK_INT(list_page(raw, cursor, &more), 0);
	CHECK(more);
	say(1);
	hear();
	raw = raw_return(broker, raw, 0);
	CHECK_INT(list_page(raw, cursor, &more), 1);
	raw_free(raw);
}

CASE(a_listing_of_hidden_names_goes_on_where_it_was, SYSTEM, .arguments = { "--allow-shm=h" })
{
	struct wire_region_create_params params = {
		.has = WIRE_HAS(region_create_params, mode) |
		       WIRE_HAS(region_create_params, backing),
		.size = 1,
		.backing = SHMB_BACKING_SHM,
	};
	struct raw *raw = raw_greet(broker);
	struct actor bob;
	char name[16];
	unsigned i;

	/* The broker looks at 1,024 for each page. */
	for (i = 0; i < 1100; i++) {
		snprintf(name, sizeof(name), "h%04u", i);
		params.name = wire_string(name);
		params.mode = i == 1099 ? 0777 : 0700;
		CHECK_OK(raw_call(raw, WIRE_REGION_CREATE, &params, NULL));
	}
	bob = actor_start(broker, &BOB, list_what_is_hidden, NULL);
	actor_hear(&bob);
	raw = raw_survive(broker, raw, 0);
	actor_say(&bob, 1);
	actor_end(&bob);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* ---- Who does not return ---- */

/* Holds one of everything; the library does it as well as anybody. */
static void hold_everything(struct broker *broker, void *argument)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *pool;
	struct shmb_permit permit;

	create(client, "attached", 4096, NULL);
	options.lifetime = SHMB_SESSION;
	create(client, "session", 4096, &options);
	CHECK_OK(shmb_lock_acquire(open_lock(client, "lock"), SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_lock(open_region(client, "shared", SHMB_READ | SHMB_LOCK), SHMB_SHARED,
				  0));
	pool = open_semaphore(client, "pool");
	CHECK_OK(shmb_semaphore_take(pool, 0, &permit));
	CHECK_OK(shmb_semaphore_take(pool, 0, &permit));
	say(1);
	hear();
	_exit(0);
}

struct world {
	struct raw *raw;
	struct actor holder;
};

static struct world make_world(struct broker *broker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct world world;

	options.lifetime = SHMB_PERSISTENT;
	options.mode = 0777;
	shmb_region_free(create(client, "shared", 4096, &options));
	shmb_lock_free(create_lock(client, "lock", 0777, SHMB_PERSISTENT));
	world.raw = raw_greet(broker);
	CHECK_OK(raw_semaphore_create(world.raw, "pool", SHMB_OWNED, 3, SHMB_PERSISTENT,
				      &(struct wire_semaphore_attached){ 0 }));
	shmb_client_free(client);
	world.holder = actor_start(broker, &SELF, hold_everything, NULL);
	actor_hear(&world.holder);
	return world;
}

static void check_all_is_held(struct shmb_client *client)
{
	CHECK_INT(look_at_semaphore(client, "pool").value, 1);
	CHECK(look_at_lock(client, "lock").held);
	CHECK_INT(look_at_lock(client, "shared").readers, 1);
}

static void check_all_is_undone(struct broker *broker, struct shmb_client *client)
{
	struct shmb_lock *lock = open_lock(client, "lock");
	struct shmb_region *shared = open_region(client, "shared", SHMB_READ | SHMB_WRITE);

	UNTIL(broker, look_at_semaphore(client, "pool").value == 3);
	UNTIL(broker, look_at_lock(client, "shared").readers == 0);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 10000), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_lock_mark_consistent(lock));
	CHECK_OK(shmb_lock_release(lock));
	CHECK_OK(shmb_region_lock(shared, SHMB_EXCLUSIVE, 10000));
	CHECK_OK(shmb_region_unlock(shared));
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	shmb_lock_free(lock);
	shmb_region_free(shared);
}

CASE(who_died_while_the_daemon_was_away_is_undone, SYSTEM, .fd_store = 256)
{
	struct world world = make_world(broker);
	struct shmb_client *client;

	broker_crash(broker);
	actor_kill(&world.holder);
	broker_restart(broker);
	world.raw = raw_return(broker, world.raw, 0);
	client = connect_to(broker);
	check_all_is_undone(broker, client);
	CHECK_INT(broker_stat(broker, "away"), 0);
	shmb_client_free(client);
	raw_free(world.raw);
}

CASE(who_was_stopped_while_the_daemon_was_away_is_alive, SYSTEM, .fd_store = 256)
{
	struct world world = make_world(broker);
	struct shmb_client *client;
	int64_t end;

	SYS(kill(world.holder.pid, SIGSTOP));
	broker_crash(broker);
	broker_restart(broker);
	world.raw = raw_return(broker, world.raw, 0);
	client = connect_to(broker);
	for (end = harness_now_ms() + 300; harness_now_ms() < end;)
		broker_turn(broker);
	CHECK_INT(broker_stat(broker, "away"), 1);
	CHECK_INT(broker_stat(broker, "regions"), 3);
	check_all_is_held(client);
	/* And when it dies without ever having come back, that is seen, too. */
	actor_kill(&world.holder);
	check_all_is_undone(broker, client);
	CHECK_INT(broker_stat(broker, "away"), 0);
	shmb_client_free(client);
	raw_free(world.raw);
}

CASE(who_is_away_over_several_daemons_is_alive_until_it_dies, SYSTEM, .fd_store = 256)
{
	struct world world = make_world(broker);
	struct shmb_client *client;
	unsigned i;

	SYS(kill(world.holder.pid, SIGSTOP));
	for (i = 0; i < 5; i++)
		world.raw = raw_survive(broker, world.raw, 0);
	CHECK_INT(broker_stat(broker, "away"), 1);
	broker_crash(broker);
	actor_kill(&world.holder);
	broker_restart(broker);
	world.raw = raw_return(broker, world.raw, 0);
	client = connect_to(broker);
	check_all_is_undone(broker, client);
	CHECK_INT(broker_stat(broker, "away"), 0);
	shmb_client_free(client);
	raw_free(world.raw);
}

/* ---- What cannot be told ---- */

/* The client has a name for the process in no kernel: it lives until it hangs up. */
CASE(who_lives_is_not_dead_for_want_of_pidfds, SYSTEM, .bare = true, .faults = true,
     .fd_store = 256)
{
	uint64_t handle;
	struct raw *raw;

	broker_fault(broker, FAULT_PEERPIDFD, ENOPROTOOPT, 0, FAULT_FOREVER);
	broker_fault(broker, FAULT_PIDFD_OPEN, ENOSYS, 0, FAULT_FOREVER);
	broker_start(broker);
	raw = raw_greet(broker);
	handle = raw_make(raw, "r", SHMB_ATTACHED);
	raw = raw_survive(broker, raw, 0);
	CHECK(broker_fault_hits(broker, FAULT_PIDFD_OPEN) > 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(who_lives_is_not_dead_for_want_of_descriptors, SYSTEM, .faults = true, .fd_store = 256)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	broker_crash(broker);
	broker_fault(broker, FAULT_PIDFD_OPEN, EMFILE, 0, FAULT_FOREVER);
	broker_restart(broker);
	CHECK(broker_fault_hits(broker, FAULT_PIDFD_OPEN) > 0);
	broker_fault(broker, FAULT_PIDFD_OPEN, 0, 0, 0);
	CHECK_INT(broker_stat(broker, "away"), 1);
	raw = raw_return(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

static void fail_to_return(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);

	CHECK_CODE(raw_resume(raw, argument, 0), SHMB_ESESSION);
	raw_free(raw);
}

/* In another namespace of processes they have no numbers: only the user and the token tell. */
CASE(who_cannot_be_seen_comes_back, SYSTEM, .pid_namespace = true, .fd_store = 256)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	broker_crash(broker);
	broker_restart(broker);
	CHECK_INT(broker_stat(broker, "away"), 1);
	actor_run(broker, &ALICE, fail_to_return, raw->token);
	raw = raw_return(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}
