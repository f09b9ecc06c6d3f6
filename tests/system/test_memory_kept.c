/* SPDX-License-Identifier: MIT */
/*
 * Memory over the death of the daemon: what the next one finds of each region, lock and semaphore,
 * under a name in /dev/shm or in the store of descriptors; what is charged for it; and what a
 * daemon that ends in order keeps or removes.
 */
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

static void replace(struct broker *broker)
{
	broker_crash(broker);
	broker_restart(broker);
}

static struct shmb_region_info look_at_region(struct shmb_client *client, const char *name)
{
	struct shmb_region_info info;

	memset(&info, 0, sizeof(info));
	info.struct_size = sizeof(info);
	CHECK_OK(shmb_region_stat(client, name, &info));
	return info;
}

/* Nothing is there at all, not even an empty file. */
static void check_clean(const struct broker *broker)
{
	CHECK(access(runtime_path(broker, "manifest"), F_OK) < 0);
	CHECK(access(runtime_path(broker, "manifest.new"), F_OK) < 0);
	CHECK(access(runtime_path(broker, "broker.lock"), F_OK) < 0);
	CHECK_INT(broker_shm_count(broker), 0);
}

/* ---- What is kept ---- */

/* A region of each lifetime and backing, with something in it; made by the same client. */
enum { LIFETIMES = 3, BACKINGS = 2, EACH = LIFETIMES * BACKINGS };

struct zoo {
	struct shmb_region *regions[EACH];
	struct shmb_region_info infos[EACH];
};

static void zoo_name(unsigned i, char name[16])
{
	snprintf(name, 16, "z/%u", i);
}

static void zoo_make(struct shmb_client *client, struct zoo *zoo)
{
	static const enum shmb_backing backings[] = { SHMB_BACKING_SHM, SHMB_BACKING_MEMFD };
	static const enum shmb_lifetime lifetimes[] = { SHMB_ATTACHED, SHMB_SESSION,
							SHMB_PERSISTENT };
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	char name[16];
	unsigned i;

	for (i = 0; i < EACH; i++) {
		options.backing = backings[i % BACKINGS];
		options.lifetime = lifetimes[i / BACKINGS];
		options.mode = 0700 + i;
		options.capacity = 65536 + 4096 * i;
		zoo_name(i, name);
		zoo->regions[i] = create(client, name, 4096, &options);
		CHECK_OK(shmb_region_write_u64(zoo->regions[i], 8, i));
		CHECK_OK(shmb_region_resize(zoo->regions[i], 8000 + i));
		CHECK_OK(shmb_region_publish(zoo->regions[i], 0, 0));
		zoo->infos[i] = look_at_region(client, name);
	}
}

static void check_same(const struct shmb_region_info *now, const struct shmb_region_info *before)
{
	CHECK(strcmp(now->name, before->name) == 0);
	CHECK_INT(now->id, before->id);
	CHECK_INT(now->size, before->size);
	CHECK_INT(now->capacity, before->capacity);
	CHECK_INT(now->sequence, before->sequence);
	CHECK_INT(now->created, before->created);
	CHECK_INT(now->uid, before->uid);
	CHECK_INT(now->gid, before->gid);
	CHECK_INT(now->mode, before->mode);
	CHECK_INT(now->attachments, before->attachments);
	CHECK_INT(now->backing, before->backing);
	CHECK_INT(now->lifetime, before->lifetime);
	CHECK_INT(now->removed, before->removed);
}

static void zoo_check(struct shmb_client *client, const struct zoo *zoo, unsigned first)
{
	struct shmb_region_info now;
	struct shmb_region *region;
	uint64_t value;
	char name[16];
	unsigned i;

	for (i = first; i < EACH; i++) {
		zoo_name(i, name);
		now = look_at_region(client, name);
		check_same(&now, &zoo->infos[i]);
		region = open_region(client, name, SHMB_READ);
		CHECK_OK(shmb_region_read_u64(region, 8, &value));
		CHECK_INT(value, i);
		shmb_region_free(region);
	}
}

static void zoo_free(struct zoo *zoo)
{
	unsigned i;

	for (i = 0; i < EACH; i++)
		zoo->regions[i] = shmb_region_free(zoo->regions[i]);
}

CASE(each_lifetime_and_backing_survives_a_crash, SYSTEM, .fd_store = 256,
     .arguments = { "--allow-shm=z/" })
{
	struct shmb_client *client = connect_to(broker);
	struct figures before, now;
	unsigned objects;
	struct zoo zoo;

	zoo_make(client, &zoo);
	objects = broker_shm_count(broker);
	CHECK_INT(objects, EACH); /* two segments for each region that is there */
	before = figures_read(broker);
	replace(broker);
	zoo_check(client, &zoo, 0);
	replace(broker);
	zoo_check(client, &zoo, 0);
	now = figures_read(broker);
	figures_check(&now, &before);
	CHECK_INT(broker_shm_count(broker), objects);
	CHECK_INT(broker_stat(broker, "stored_fds"), EACH);
	CHECK_INT(store_count(broker->store), EACH);
	zoo_free(&zoo);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == BACKINGS);
	UNTIL(broker, broker_shm_count(broker) == 2);
	UNTIL(broker, store_count(broker->store) == 2);
}

/* Those of the last two lifetimes have nobody attached. */
CASE(what_nobody_holds_survives_if_it_is_persistent, SYSTEM, .fd_store = 256,
     .arguments = { "--allow-shm=z/" })
{
	struct shmb_client *client = connect_to(broker);
	struct zoo zoo;
	unsigned i;

	zoo_make(client, &zoo);
	zoo_free(&zoo);
	UNTIL(broker, broker_stat(broker, "regions") == 2 * BACKINGS);
	for (i = BACKINGS; i < EACH; i++)
		zoo.infos[i].attachments = 0;
	replace(broker);
	zoo_check(client, &zoo, BACKINGS);
	broker_crash(broker);
	shmb_client_free(client); /* whose session ends so, as the daemon will see */
	broker_restart(broker);
	client = connect_to(broker);
	zoo_check(client, &zoo, 2 * BACKINGS);
	shmb_client_free(client);
}

CASE(removed_regions_stay_with_those_who_hold_them, SYSTEM, .fd_store = 256,
     .arguments = { "--allow-shm=z/" })
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_client *client = connect_to(broker);
	struct zoo zoo, others;
	char name[16];
	unsigned i;

	zoo_make(client, &zoo);
	for (i = 0; i < EACH; i++) {
		zoo_name(i, name);
		CHECK_OK(shmb_region_remove(client, name));
	}
	replace(broker);
	zoo_make(client, &others); /* the names are free */
	replace(broker);
	for (i = 0; i < EACH; i++) {
		CHECK_OK(shmb_region_info(zoo.regions[i], &info));
		CHECK(info.removed);
		CHECK(info.id != others.infos[i].id);
		CHECK_INT(info.size, 8000 + i);
		CHECK_OK(shmb_region_resize(zoo.regions[i], 100));
	}
	CHECK_INT(broker_stat(broker, "regions"), 2 * EACH);
	zoo_free(&zoo);
	UNTIL(broker, broker_stat(broker, "regions") == EACH);
	zoo_check(client, &others, 0);
	UNTIL(broker, broker_shm_count(broker) == EACH);
	UNTIL(broker, store_count(broker->store) == EACH);
	zoo_free(&others);
	shmb_client_free(client);
}

CASE(modes_and_owners_are_the_last_ones, SYSTEM, .fd_store = 256)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_region_info info;

	CHECK_OK(shmb_region_chmod(client, "r", 0640));
	CHECK_OK(shmb_region_chown(client, "r", BOB.uid, SHARED_GROUP));
	replace(broker);
	info = look_at_region(client, "r");
	CHECK_INT(info.mode, 0640);
	CHECK_INT(info.uid, BOB.uid);
	CHECK_INT(info.gid, SHARED_GROUP);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Locks and semaphores of all lifetimes; the slots of those who hold them. */
CASE(locks_and_semaphores_survive, SYSTEM, .fd_store = 256)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = create_lock(client, "l", 0750, SHMB_SESSION);
	struct shmb_semaphore *count = create_semaphore(client, "c", SHMB_COUNTING, 7, 9, 0711);
	struct shmb_semaphore *pool = create_semaphore(client, "p", SHMB_OWNED, 0, 3, 0711);
	struct shmb_lock_info lock_before = look_at_lock(client, "l"), lock_now;
	struct shmb_semaphore_info count_before = look_at_semaphore(client, "c"), count_now;
	struct figures before = figures_read(broker), now;

	replace(broker);
	lock_now = look_at_lock(client, "l");
	count_now = look_at_semaphore(client, "c");
	now = figures_read(broker);
	figures_check(&now, &before);
	CHECK_INT(lock_now.id, lock_before.id);
	CHECK_INT(lock_now.mode, 0750);
	CHECK_INT(lock_now.slots_used, lock_before.slots_used);
	CHECK_INT(lock_now.lifetime, SHMB_SESSION);
	CHECK_INT(count_now.id, count_before.id);
	CHECK_INT(count_now.value, 7);
	CHECK_INT(count_now.mode, 0711);
	shmb_semaphore_free(pool);
	shmb_semaphore_free(count);
	shmb_lock_free(lock);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "locks") + broker_stat(broker, "semaphores") == 0);
	UNTIL(broker, store_count(broker->store) == 0);
}

/* ---- What is charged ---- */

static void reach_the_limits(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker), *none = NULL;
	struct shmb_region *first = create(client, "a", 4096, NULL), *second, *too_much = NULL;
	struct shmb_lock *lock = create_lock(client, "l", 0700, SHMB_ATTACHED), *another = NULL;
	unsigned i;

	(void)argument;
	second = create(client, "b", 4096, NULL);
	for (i = 0; i < 2; i++) {
		CHECK_CODE(shmb_region_create(client, "c", 4096, NULL, &too_much), SHMB_EDQUOT);
		CHECK_CODE(shmb_lock_create(client, "m", NULL, &another), SHMB_EDQUOT);
		CHECK_CODE(shmb_lock_open(client, "l", &another), SHMB_EDQUOT);
		CHECK_CODE(shmb_client_connect(broker->socket, NULL, &none), SHMB_EDQUOT);
		say(1);
		hear();
	}
	shmb_region_free(second);
	second = create(client, "c", 4096, NULL);
	shmb_lock_free(lock);
	lock = create_lock(client, "m", 0700, SHMB_ATTACHED);
	shmb_region_free(first);
	shmb_region_free(second);
	shmb_lock_free(lock);
	shmb_client_free(client);
}

CASE(limits_hold_as_before, SYSTEM, .fd_store = 256,
     .arguments = { "--regions-per-user=2", "--locks-per-user=1", "--slots-per-user=1",
		    "--connections-per-user=1" })
{
	struct actor alice = actor_start(broker, &ALICE, reach_the_limits, NULL);

	actor_hear(&alice);
	replace(broker);
	actor_say(&alice, 1);
	actor_hear(&alice);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_stat(broker, "bytes") == 0);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
}

static int make_memfd(struct shmb_client *client, const char *kind)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region = NULL;
	char name[32];
	int r;

	if (strcmp(kind, "shm") == 0)
		options.backing = SHMB_BACKING_SHM;
	snprintf(name, sizeof(name), "%s/%d", kind, (int)getuid());
	r = shmb_region_create(client, name, 4096, &options, &region);
	keep_reachable(region);
	return r < 0 ? r : 0;
}

/* The whole store is full when the last one's part is: that is another error. */
static void fill_own_part(struct broker *broker, void *argument)
{
	const int expected = *(bool *)argument ? SHMB_EMFILE : SHMB_EDQUOT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = NULL;

	CHECK_OK(make_memfd(client, "a"));
	CHECK_OK(make_memfd(client, "b"));
	CHECK_CODE(make_memfd(client, "c"), expected);
	CHECK_CODE(shmb_lock_create(client, "l", NULL, &lock), expected);
	CHECK_OK(make_memfd(client, "shm")); /* what has a name needs no store */
	say(1);
	hear();
	CHECK(make_memfd(client, "c") == SHMB_EDQUOT || make_memfd(client, "c") == SHMB_EMFILE);
	say(1);
	hear();
	_exit(0);
}

static void find_it_full(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);

	(void)argument;
	CHECK_CODE(make_memfd(client, "full"), SHMB_EMFILE);
	CHECK_OK(shmb_client_ping(client));
	shmb_client_free(client);
}

CASE(the_store_is_never_asked_to_take_more_than_it_does, SYSTEM, .fd_store = 8,
     .arguments = { "--stored-fds-per-user=4", "--allow-shm=shm/" })
{
	static bool is_last[2] = { false, true };
	struct actor actors[2];
	unsigned i, k;

	CHECK_INT(broker_stat(broker, "stored_fds_max"), 8);
	for (i = 0; i < 2; i++) {
		actors[i] = actor_start(broker, i ? &BOB : &ALICE, fill_own_part, &is_last[i]);
		actor_hear(&actors[i]);
	}
	for (k = 0; k < 2; k++) {
		actor_run(broker, &CAROL, find_it_full, NULL);
		CHECK_INT(broker_stat(broker, "stored_fds"), 8);
		CHECK_INT(store_count(broker->store), 8);
		if (k > 0)
			break;
		replace(broker);
		for (i = 0; i < 2; i++) {
			actor_say(&actors[i], 1);
			actor_hear(&actors[i]);
		}
	}
	for (i = 0; i < 2; i++) {
		actor_say(&actors[i], 1);
		actor_end(&actors[i]);
	}
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_stat(broker, "stored_fds") == 0);
	UNTIL(broker, store_count(broker->store) == 0);
}

CASE(what_is_closed_leaves_the_store, SYSTEM, .fd_store = 64,
     .arguments = { "--stored-fds-per-user=64" })
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[32];
	char name[16];
	unsigned i, round;

	for (round = 0; round < 5; round++) {
		for (i = 0; i < 32; i++) {
			snprintf(name, sizeof(name), "r%u", i);
			regions[i] = create(client, name, 4096, NULL);
		}
		CHECK_INT(store_count(broker->store), 64);
		if (round % 2)
			replace(broker);
		for (i = 0; i < 32; i++)
			shmb_region_free(regions[i]);
		CHECK_OK(shmb_client_ping(client)); /* who asks for nothing does not come back */
		UNTIL(broker, broker_stat(broker, "regions") == 0);
		UNTIL(broker, store_count(broker->store) == 0);
	}
	shmb_client_free(client);
}

/* The daemon's own bound is lower than the store's: all that it took comes back to it. */
CASE(as_many_descriptors_come_back_as_it_could_hold, SYSTEM, .fd_store = 256, .nofile = 96,
     .arguments = { "--stored-fds-per-user=256", "--held-fds-per-user=256" })
{
	struct shmb_client *client = connect_to(broker), *another;
	struct shmb_region *regions[100];
	unsigned n = 0;
	char name[16];
	int r;

	do {
		CHECK(n < 100);
		snprintf(name, sizeof(name), "r%u", n);
		r = shmb_region_create(client, name, 4096, NULL, &regions[n]);
		n += r >= 0;
	} while (r >= 0);
	CHECK_CODE(r, SHMB_EMFILE);
	CHECK(n > 10);
	replace(broker);
	CHECK_OK(shmb_client_ping(client));
	CHECK_INT(broker_stat(broker, "regions"), n);
	CHECK_INT(broker_stat(broker, "attachments"), n);
	another = connect_to(broker);
	shmb_client_free(another);
	while (n > 0)
		shmb_region_free(regions[--n]);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* ---- Ending ---- */

CASE(a_daemon_that_keeps_leaves_all_to_the_next, SYSTEM, .fd_store = 256, .on_stop = "keep",
     .arguments = { "--allow-shm=z/" })
{
	struct shmb_client *client = connect_to(broker);
	struct figures before, now;
	struct zoo zoo;

	zoo_make(client, &zoo);
	before = figures_read(broker);
	CHECK_INT(broker_leave(broker), 0);
	broker_restart(broker);
	zoo_check(client, &zoo, 0);
	now = figures_read(broker);
	figures_check(&now, &before);
	zoo_free(&zoo);
	shmb_client_free(client);
}

CASE(a_daemon_that_removes_leaves_nothing, SYSTEM, .fd_store = 256, .on_stop = "remove",
     .arguments = { "--allow-shm=z/" })
{
	struct shmb_client *client = connect_to(broker);
	struct zoo zoo;

	zoo_make(client, &zoo);
	CHECK_INT(broker_leave(broker), 0);
	check_clean(broker);
	CHECK_INT(store_count(broker->store), 0);
	broker_restart(broker);
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	CHECK_INT(broker_stat(broker, "regions"), 0);
	CHECK_INT(broker_stat(broker, "recoveries"), 0);
	zoo_free(&zoo);
	shmb_client_free(client);
}

/* The end of what it was told to live as long as removes all, whatever a signal would do. */
CASE(the_end_of_a_private_daemons_purpose_removes_all, SYSTEM, .fd_store = 256, .on_stop = "keep")
{
	struct raw *raw = raw_greet(broker);

	raw_make(raw, "r", SHMB_PERSISTENT);
	close(broker->eof);
	broker->eof = -1;
	CHECK_INT(broker_await(broker), 0);
	check_clean(broker);
	CHECK_INT(store_count(broker->store), 0);
	raw_free(raw);
	broker_restart(broker);
}

static void create_persistent(struct broker *broker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	int64_t until = harness_now_ms() + 10000 * harness_slow();
	struct shmb_client *client = NULL;

	while (shmb_client_connect(broker->socket, NULL, &client) != 0)
		CHECK(harness_now_ms() < until);
	options.lifetime = SHMB_PERSISTENT;
	options.backing = SHMB_BACKING_SHM;
	shmb_region_free(create(client, "z/r", 4096, &options));
	shmb_client_free(client);
}

static bool leaves_a_manifest(struct broker *broker, const char *scope)
{
	char directory[128], socket[128];
	const char *const arguments[] = { scope, directory, socket, "--allow-shm=z/", NULL };
	long pid;

	snprintf(directory, sizeof(directory), "--runtime-directory=%s", broker->runtime);
	snprintf(socket, sizeof(socket), "--socket=%s", broker->socket);
	broker_spawn(broker, arguments);
	create_persistent(broker);
	CHECK(broker_lock_read(broker, &pid, broker->instance));
	CHECK_INT(broker_stop(broker), 0);
	return access(runtime_path(broker, "manifest"), F_OK) == 0;
}

static int purge(const struct broker *broker)
{
	char directory[128];

	snprintf(directory, sizeof(directory), "--runtime-directory=%s", broker->runtime);
	return broker_beside(broker, (const char *[]){ "--private", directory, "--purge", NULL });
}

CASE(what_a_signal_does_depends_on_whom_it_serves, SYSTEM, .bare = true)
{
	CHECK(!leaves_a_manifest(broker, "--private"));
	check_clean(broker);
	CHECK(leaves_a_manifest(broker, "--system"));
	CHECK_INT(broker_shm_count(broker), 2);
	CHECK_INT(purge(broker), 0);
	check_clean(broker);
}

CASE(purging_removes_what_a_dead_daemon_left, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);

	CHECK_INT(purge(broker), 4);
	CHECK_OK(shmb_client_ping(client));
	CHECK_INT(broker_shm_count(broker), 2);
	broker_crash(broker);
	CHECK_INT(broker_shm_count(broker), 2);
	CHECK_INT(purge(broker), 0);
	check_clean(broker);
	CHECK_INT(purge(broker), 0); /* there is nothing any more */
	check_clean(broker);
	broker_restart(broker);
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	CHECK_INT(broker_stat(broker, "recoveries"), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Daemons that die on the way ---- */

CASE(a_daemon_that_is_killed_while_it_recovers_loses_nothing, PRIVATE, .timeout_s = 90)
{
	enum { MANY = 1000 };
	struct wire_region_create_params params = { .size = 4096 };
	struct raw *raw = raw_greet(broker);
	struct figures before, now;
	int64_t until;
	char name[16];
	unsigned i;

	for (i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		params.name = wire_string(name);
		CHECK_OK(raw_call(raw, WIRE_REGION_CREATE, &params, NULL));
	}
	before = figures_read(broker);
	broker_crash(broker);
	for (i = 0; i < 60; i++) {
		broker_launch(broker);
		until = harness_now_ms() + 1000;
		while (broker_cpu_us(broker) < 150 * i && harness_now_ms() < until)
			;
		broker_crash(broker);
	}
	broker_restart(broker);
	raw = raw_return(broker, raw, 0);
	now = figures_read(broker);
	figures_check(&now, &before);
	CHECK_INT(broker_shm_count(broker), 2 * MANY);
	raw_free(raw);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

/* Nothing piles up: neither descriptors, nor memory, nor what is written of it. */
CASE(a_hundred_daemons_leave_as_much_as_one, SYSTEM, .fd_store = 256, .timeout_s = 90,
     .arguments = { "--allow-shm=z/" })
{
	struct shmb_client *client = connect_to(broker);
	unsigned fds, objects, stored, own, i;
	uint64_t bytes;
	struct zoo zoo;

	zoo_make(client, &zoo);
	replace(broker);
	CHECK_OK(shmb_client_ping(client));
	fds = fd_count(broker->pid);
	own = fd_count(getpid());
	objects = broker_shm_count(broker);
	stored = store_count(broker->store);
	bytes = broker_stat(broker, "manifest_bytes");
	for (i = 0; i < 100; i++)
		replace(broker);
	CHECK_OK(shmb_client_ping(client));
	CHECK_INT(fd_count(broker->pid), fds);
	CHECK_INT(fd_count(getpid()), own);
	CHECK_INT(broker_shm_count(broker), objects);
	CHECK_INT(store_count(broker->store), stored);
	CHECK(broker_stat(broker, "manifest_bytes") < bytes + 16384);
	zoo_check(client, &zoo, 0);
	zoo_free(&zoo);
	shmb_client_free(client);
}
