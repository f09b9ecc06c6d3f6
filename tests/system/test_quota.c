/* SPDX-License-Identifier: MIT */
/*
 * Limits per user: each is reached, named with its number, hurts nobody else, and is given back.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

static void check_quota(struct shmb_client *client, int result, const char *what, uint64_t limit)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_CODE(result, SHMB_EDQUOT);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_CODE(error.code, SHMB_EDQUOT);
	CHECK_STRING(error.what, what);
	CHECK_INT(error.limit, limit);
}

static void make_one(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	char name[32];

	snprintf(name, sizeof(name), "u%d/one", (int)geteuid());
	shmb_region_free(create(client, name, 4096, NULL));
	shmb_client_free(client);
}

static void exceed_regions(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[4], *none = NULL;
	char name[16];
	int i;

	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "n/%d", i);
		regions[i] = create(client, name, 4096, NULL);
	}
	check_quota(client, shmb_region_create(client, "n/4", 4096, NULL, &none),
		    "regions-per-user", 4);
	CHECK(!none);
	/* A removed region counts as long as its memory does. */
	CHECK_OK(shmb_region_remove(client, "n/0"));
	check_quota(client, shmb_region_create(client, "n/0", 4096, NULL, &none),
		    "regions-per-user", 4);
	say(1);
	hear();
	shmb_region_free(regions[0]);
	CHECK_OK(shmb_client_ping(client));
	regions[0] = create(client, "n/5", 4096, NULL);
	for (i = 0; i < 4; i++)
		shmb_region_free(regions[i]);
	shmb_client_free(client);
}

static void run_beside_another(struct broker *broker, actor_fn *function)
{
	struct actor alice = actor_start(broker, &ALICE, function, NULL);

	actor_hear(&alice);
	actor_run(broker, &BOB, make_one, NULL);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
}

CASE(regions_per_user, SYSTEM, .arguments = { "--regions-per-user=4" })
{
	run_beside_another(broker, exceed_regions);
}

/* Whole pages are charged, the publish page with them. */
enum { HALF = (512 << 10) - 4096 };

static void exceed_bytes(struct broker *broker, void *argument)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *half = create(client, "half", HALF, NULL), *rest, *none = NULL;

	check_quota(client, shmb_region_create(client, "more", HALF + 1, NULL, &none),
		    "bytes-per-user", 1 << 20);
	/* The capacity is what is charged, touched or not. */
	options.capacity = 600 << 10;
	check_quota(client, shmb_region_create(client, "more", 1, &options, &none),
		    "bytes-per-user", 1 << 20);
	rest = create(client, "rest", HALF, NULL);
	check_quota(client, shmb_region_create(client, "more", 1, NULL, &none), "bytes-per-user",
		    1 << 20);
	say(1);
	hear();
	shmb_region_free(half);
	CHECK_OK(shmb_client_ping(client));
	half = create(client, "half", HALF, NULL);
	shmb_region_free(half);
	shmb_region_free(rest);
	shmb_client_free(client);
}

CASE(bytes_per_user, SYSTEM, .arguments = { "--bytes-per-user=1M" })
{
	run_beside_another(broker, exceed_bytes);
}

static void exceed_max_region(struct broker *broker, void *argument)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *none = NULL;

	CHECK_CODE(shmb_region_create(client, "big", (64 << 10) + 1, NULL, &none), SHMB_EFBIG);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_INT(error.limit, 64 << 10);
	options.capacity = (64 << 10) + 1;
	CHECK_CODE(shmb_region_create(client, "big", 1, &options, &none), SHMB_EFBIG);
	CHECK_CODE(shmb_region_create(client, "big", INT64_MAX, NULL, &none), SHMB_EFBIG);
	shmb_region_free(create(client, "big", 64 << 10, NULL));
	shmb_client_free(client);
}

CASE(max_region, SYSTEM, .arguments = { "--max-region=64K" })
{
	actor_run(broker, &ALICE, exceed_max_region, NULL);
}

static void exceed_connections(struct broker *broker, void *argument)
{
	struct shmb_client *clients[3], *none = NULL;
	int i;

	for (i = 0; i < 3; i++)
		clients[i] = connect_to(broker);
	CHECK_CODE(shmb_client_connect(broker->socket, NULL, &none), SHMB_EDQUOT);
	CHECK(!none);
	say(1);
	hear();
	shmb_client_free(clients[1]);
	/* The daemon sees the hang-up before the next connection that comes after it. */
	CHECK_OK(shmb_client_ping(clients[0]));
	clients[1] = connect_to(broker);
	for (i = 0; i < 3; i++)
		shmb_client_free(clients[i]);
}

CASE(connections_per_user, SYSTEM, .arguments = { "--connections-per-user=3" })
{
	run_beside_another(broker, exceed_connections);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	CHECK_INT(broker_stat(broker, "refused_total"), 1);
}

static void exceed_attachments(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL), *more[2], *none = NULL;

	more[0] = open_region(client, "r", SHMB_READ);
	more[1] = open_region(client, "r", SHMB_READ);
	check_quota(client, shmb_region_open(client, "r", SHMB_READ, NULL, &none),
		    "attachments-per-user", 3);
	check_quota(client, shmb_region_create(client, "s", 4096, NULL, &none),
		    "attachments-per-user", 3);
	say(1);
	hear();
	shmb_region_free(more[0]);
	more[0] = open_region(client, "r", SHMB_READ);
	shmb_region_free(more[0]);
	shmb_region_free(more[1]);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(attachments_per_user, SYSTEM, .arguments = { "--attachments-per-user=3" })
{
	run_beside_another(broker, exceed_attachments);
}

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	++*(int *)userdata;
}

static void exceed_watches(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL), *more[2];
	int calls = 0, i, r;

	for (i = 0; i < 2; i++)
		more[i] = open_region(client, "r", SHMB_READ);
	CHECK_OK(shmb_region_watch(region, SHMB_EVENT_PUBLISHED, 0, on_event, &calls));
	CHECK_OK(shmb_region_watch(more[0], SHMB_EVENT_PUBLISHED, 0, on_event, &calls));
	r = shmb_region_watch(more[1], SHMB_EVENT_PUBLISHED, 0, on_event, &calls);
	CHECK_CODE(r, SHMB_EDQUOT);
	say(1);
	hear();
	CHECK_OK(shmb_region_watch(more[0], 0, 0, NULL, NULL));
	CHECK_OK(shmb_region_watch(more[1], SHMB_EVENT_PUBLISHED, 0, on_event, &calls));
	for (i = 0; i < 2; i++)
		shmb_region_free(more[i]);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(watches_per_user, SYSTEM, .arguments = { "--watches-per-user=2" })
{
	run_beside_another(broker, exceed_watches);
	CHECK_INT(broker_stat(broker, "watches"), 0);
}

/* A client that deals with an event finds its place when it arms the watch again. */
CASE(a_watch_that_fired_keeps_its_place, SYSTEM, .arguments = { "--watches-per-user=1" })
{
	struct raw *first = raw_connect(broker), *second = raw_connect(broker);
	struct wire_region_watch_params watch = { .types = SHMB_EVENT_PUBLISHED, .size = 4096 };
	struct wire_region_attached a, b;
	int fds[2], more[2];

	raw_hello(first);
	raw_hello(second);
	CHECK_OK(raw_create(first, "r", 4096, 0700, SHMB_ATTACHED, &a, fds));
	CHECK_OK(raw_open(second, "r", SHMB_READ, &b, more));
	watch.handle = a.handle;
	watch.sequence = 5; /* fires at once */
	CHECK_OK(raw_call(first, WIRE_REGION_WATCH, &watch, NULL));
	CHECK_INT(raw_receive(first), 1);
	CHECK_INT(first->message.method_id, WIRE_REGION_EVENT);
	watch.handle = b.handle;
	CHECK_CODE(raw_call(second, WIRE_REGION_WATCH, &watch, NULL), SHMB_EDQUOT);
	watch.handle = a.handle;
	watch.sequence = 0;
	CHECK_OK(raw_call(first, WIRE_REGION_WATCH, &watch, NULL));
	watch.types = 0;
	CHECK_OK(raw_call(first, WIRE_REGION_WATCH, &watch, NULL));
	watch.types = SHMB_EVENT_PUBLISHED;
	watch.handle = b.handle;
	CHECK_OK(raw_call(second, WIRE_REGION_WATCH, &watch, NULL));
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(more[i]);
	}
	raw_free(first);
	raw_free(second);
}

static void make_for_bob(struct broker *broker, void *argument)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	int i;

	options.lifetime = SHMB_PERSISTENT;
	for (i = 0; i < 3; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%s/%d", (const char *)argument, i);
		shmb_region_free(create(client, name, 4096, &options));
	}
	shmb_client_free(client);
}

CASE(chown_charges_the_new_owner, SYSTEM, .arguments = { "--regions-per-user=4" })
{
	struct shmb_client *client = connect_to(broker);

	actor_run(broker, &ALICE, make_for_bob, (void *)(uintptr_t) "a");
	actor_run(broker, &BOB, make_for_bob, (void *)(uintptr_t) "b");
	CHECK_OK(shmb_region_chown(client, "a/0", BOB.uid, (uint32_t)-1));
	check_quota(client, shmb_region_chown(client, "a/1", BOB.uid, (uint32_t)-1),
		    "regions-per-user", 4);
	actor_run(broker, &ALICE, make_one, NULL); /* one is free again */
	CHECK_OK(shmb_region_remove(client, "b/0"));
	CHECK_OK(shmb_region_chown(client, "a/1", BOB.uid, (uint32_t)-1));
	shmb_client_free(client);
}

/* What a condemned or dead peer held is given back with it, not before and not never. */
static void die_at_the_limit(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	int i;

	for (i = 0; i < 4; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n/%d", i);
		create(client, name, 4096, NULL);
	}
	say(1);
	hear();
}

CASE(limits_are_given_back_by_the_dead, SYSTEM,
     .arguments = { "--regions-per-user=4", "--attachments-per-user=4",
		    "--connections-per-user=1" })
{
	struct actor actor;
	int round;

	for (round = 0; round < 5; round++) {
		actor = actor_start(broker, &ALICE, die_at_the_limit, NULL);
		actor_hear(&actor);
		actor_kill(&actor);
		UNTIL(broker, broker_stat(broker, "connections") == 1);
	}
}
