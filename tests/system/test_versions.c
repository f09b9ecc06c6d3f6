/* SPDX-License-Identifier: MIT */
/*
 * Upgrades and downgrades of a running broker: the daemon, and the same built as its next version,
 * follow each other while clients of this version are at work.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

static void upgrade(struct broker *broker)
{
	broker->program = SHMB_TEST_DAEMON_NEXT;
	CHECK_INT(broker_leave(broker), 0);
	broker_restart(broker);
}

/* One of each, held as far as it can be. */
struct world {
	struct shmb_client *client;
	struct shmb_region *region;
	struct shmb_lock *lock;
	struct shmb_semaphore *pool;
	struct shmb_permit permit;
	struct figures figures;
};

static struct world make_world(struct broker *broker)
{
	struct world world = { .client = connect_to(broker) };

	world.region = create(world.client, "r", 4096, NULL);
	world.lock = create_lock(world.client, "l", 0700, SHMB_SESSION);
	world.pool = create_semaphore(world.client, "p", SHMB_OWNED, 0, 3, 0700);
	CHECK_OK(shmb_region_write_u32(world.region, 0, 42));
	CHECK_OK(shmb_lock_acquire(world.lock, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_semaphore_take(world.pool, 0, &world.permit));
	world.figures = figures_read(broker);
	return world;
}

static void check_world(struct broker *broker, struct world *world)
{
	struct shmb_client *other = connect_to(broker);
	struct shmb_region *region = open_region(other, "r", SHMB_READ);
	struct figures figures;
	uint32_t value;

	CHECK_OK(shmb_region_read_u32(region, 0, &value));
	CHECK_INT(value, 42);
	CHECK(look_at_lock(other, "l").held);
	CHECK_INT(look_at_semaphore(other, "p").value, 2);
	shmb_region_free(region);
	shmb_client_free(other);
	CHECK_OK(shmb_client_ping(world->client));
	UNTIL(broker, broker_stat(broker, "attachments") == world->figures.attachments);
	figures = figures_read(broker);
	figures_check(&figures, &world->figures);
}

static void free_world(struct broker *broker, struct world *world)
{
	CHECK_OK(shmb_semaphore_give(world->pool, &world->permit));
	CHECK_OK(shmb_lock_release(world->lock));
	shmb_semaphore_free(world->pool);
	shmb_lock_free(world->lock);
	shmb_region_free(world->region);
	shmb_client_free(world->client);
	UNTIL(broker, broker_stat(broker, "regions") + broker_stat(broker, "locks") == 0);
}

/* The highest version that the broker speaks with somebody who knows many. */
static uint64_t spoken(struct broker *broker, uint64_t lowest, uint64_t highest)
{
	const struct wire_hello_params params = { .version_min = lowest, .version_max = highest };
	struct wire_hello_result result = { .version = 0 };
	struct raw *raw = raw_connect(broker);
	int r = raw_call(raw, WIRE_HELLO, &params, &result);

	raw_free(raw);
	return r == SHMB_EVERSION ? 0 : result.version;
}

CASE(a_newer_daemon_goes_on_where_an_older_one_was, SYSTEM, .fd_store = 256, .on_stop = "keep")
{
	struct world world = make_world(broker);

	CHECK_INT(spoken(broker, 1, 9), 1);
	CHECK_INT(spoken(broker, 2, 9), 0);
	upgrade(broker);
	CHECK_INT(spoken(broker, 1, 9), 2);
	CHECK_INT(spoken(broker, 1, 1), 1);
	CHECK_INT(spoken(broker, 3, 9), 0);
	check_world(broker, &world);
	/* What the newer one wrote it reads itself. */
	broker_crash(broker);
	broker_restart(broker);
	check_world(broker, &world);
	free_world(broker, &world);
}

CASE(a_newer_daemon_goes_on_after_a_crash_of_an_older_one, PRIVATE)
{
	struct world world = make_world(broker);

	broker->program = SHMB_TEST_DAEMON_NEXT;
	broker_crash(broker);
	broker_restart(broker);
	check_world(broker, &world);
	free_world(broker, &world);
}

static size_t read_manifest(const struct broker *broker, char *buffer, size_t size)
{
	FILE *file = fopen(runtime_path(broker, "manifest"), "re");
	size_t n;

	CHECK(file);
	n = fread(buffer, 1, size, file);
	CHECK_OK(fclose(file));
	return n;
}

enum { MANIFEST_MAX = 2 << 20 };

/* The older one refuses, touches nothing, and the newer one has everything. */
static void downgrade_and_think_better_of_it(struct broker *broker)
{
	char *before = malloc(MANIFEST_MAX), *after = malloc(MANIFEST_MAX);
	struct world world = make_world(broker);
	unsigned objects, stored = 0;
	size_t n;

	CHECK(before && after);
	upgrade(broker);
	check_world(broker, &world);
	broker_crash(broker);
	n = read_manifest(broker, before, MANIFEST_MAX);
	objects = broker_shm_count(broker);
	if (broker->store)
		stored = store_count(broker->store);

	broker->program = NULL;
	broker_launch(broker);
	CHECK_INT(broker_await(broker), 5);
	CHECK_INT(broker_log_count(broker, "the manifest is of version 2"), 1);
	CHECK_INT(read_manifest(broker, after, MANIFEST_MAX), n);
	CHECK(memcmp(before, after, n) == 0);
	CHECK_INT(broker_shm_count(broker), objects);
	if (broker->store)
		CHECK_INT(store_count(broker->store), stored);

	broker->program = SHMB_TEST_DAEMON_NEXT;
	broker_restart(broker);
	check_world(broker, &world);
	free_world(broker, &world);
	free(before);
	free(after);
}

CASE(an_older_daemon_refuses_what_it_cannot_read, PRIVATE, .on_stop = "keep")
{
	downgrade_and_think_better_of_it(broker);
}

/* Slowly, so that the service manager does not give up, and the store with it. */
CASE(an_older_daemon_refuses_and_the_store_is_kept, SYSTEM, .fd_store = 256, .on_stop = "keep",
     .timeout_s = 60)
{
	int64_t start = harness_now_ms();

	downgrade_and_think_better_of_it(broker);
	CHECK(harness_now_ms() - start > 9000);
}

CASE(an_older_daemon_purges_what_it_cannot_read, PRIVATE, .on_stop = "keep")
{
	struct world world = make_world(broker);
	char directory[128];

	upgrade(broker);
	broker_crash(broker);
	broker->program = NULL;
	CHECK(broker_shm_count(broker) > 0);
	snprintf(directory, sizeof(directory), "--runtime-directory=%s", broker->runtime);
	CHECK_INT(
		broker_beside(broker, (const char *[]){ "--private", directory, "--purge", NULL }),
		0);
	CHECK_INT(broker_shm_count(broker), 0);
	broker_restart(broker);
	CHECK_CODE(shmb_client_ping(world.client), SHMB_EDISCONNECTED);
	shmb_semaphore_free(world.pool);
	shmb_lock_free(world.lock);
	shmb_region_free(world.region);
	shmb_client_free(world.client);
}

/* ---- Upgraded under load ---- */

static void work(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *counter = open_region(client, "counter", SHMB_READ | SHMB_WRITE), *own;
	uint64_t value;
	char name[32];
	unsigned i;

	(void)argument;
	snprintf(name, sizeof(name), "own/%d", (int)getpid());
	say(1);
	for (i = 0; i < 300; i++) {
		own = create(client, name, 4096, NULL);
		CHECK_OK(shmb_region_lock(counter, SHMB_EXCLUSIVE, -1));
		CHECK_OK(shmb_region_read_u64(counter, 0, &value));
		CHECK_OK(shmb_region_write_u64(counter, 0, value + 1));
		CHECK_OK(shmb_region_unlock(counter));
		shmb_region_free(own);
	}
	shmb_region_free(counter);
	shmb_client_free(client);
}

CASE(no_client_notices_an_upgrade, SYSTEM, .fd_store = 256, .on_stop = "keep", .timeout_s = 60)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *counter;
	struct actor actors[2];
	uint64_t value;
	unsigned i;

	options.mode = 0777;
	counter = create(client, "counter", 4096, &options);
	for (i = 0; i < 2; i++)
		actors[i] = actor_start(broker, i ? &BOB : &ALICE, work, NULL);
	for (i = 0; i < 2; i++)
		CHECK_INT(actor_hear(&actors[i]), 1);
	upgrade(broker);
	CHECK_OK(shmb_client_ping(client));
	upgrade(broker); /* to itself: a restart */
	for (i = 0; i < 2; i++)
		actor_end(&actors[i]);
	CHECK_OK(shmb_region_read_u64(counter, 0, &value));
	CHECK_INT(value, 600);
	CHECK_OK(shmb_client_ping(client));
	UNTIL(broker, broker_stat(broker, "away") == 0);
	shmb_region_free(counter);
	shmb_client_free(client);
}
