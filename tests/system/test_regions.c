/* SPDX-License-Identifier: MIT */
/*
 * Names and lives of regions: making, opening, listing, removing, and when one goes away by itself.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static struct shmb_region_options options_of(enum shmb_lifetime lifetime)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.lifetime = lifetime;
	return options;
}

static int stat_of(struct shmb_client *client, const char *name, struct shmb_region_info *ret_info)
{
	*ret_info = (struct shmb_region_info){ .struct_size = sizeof(*ret_info) };
	return shmb_region_stat(client, name, ret_info);
}

CASE(F01_create_only_open_only_and_either, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *made, *other = NULL, *either = NULL;

	CHECK_CODE(shmb_region_open(client, "a/b", SHMB_READ, NULL, &other), SHMB_ENOENT);
	made = create(client, "a/b", 5000, NULL);
	CHECK_CODE(shmb_region_create(client, "a/b", 5000, NULL, &other), SHMB_EEXIST);
	CHECK(!other);
	CHECK_CODE(shmb_region_open_or_create(client, "a/b", 99999, NULL, &either), 0);
	CHECK_INT(shmb_region_size(either), 5000);
	either = shmb_region_free(either);
	CHECK_CODE(shmb_region_open_or_create(client, "a/c", 99999, NULL, &either), 1);
	CHECK_INT(shmb_region_size(either), 99999);

	CHECK_OK(shmb_region_write_u32(made, 4996, 0xfeedbeef));
	other = open_region(client, "a/b", SHMB_READ);
	CHECK_INT(*(uint32_t *)((char *)shmb_region_data(other) + 4996), 0xfeedbeef);
	shmb_region_free(other);
	shmb_region_free(either);
	shmb_region_free(made);
	shmb_client_free(client);
}

static void race_for_the_name(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;
	int r;

	say(1);
	hear();
	r = shmb_region_open_or_create(client, "race", 4096, NULL, &region);
	CHECK(r == 0 || r == 1);
	say((uint64_t)r);
	hear();
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F01_of_eight_that_race_exactly_one_creates, PRIVATE)
{
	struct actor actors[8];
	uint64_t created = 0;
	int i, round;

	for (round = 0; round < 4; round++) {
		for (i = 0; i < 8; i++)
			actors[i] = actor_start(broker, &SELF, race_for_the_name, NULL);
		for (i = 0; i < 8; i++)
			actor_hear(&actors[i]);
		for (i = 0; i < 8; i++)
			actor_say(&actors[i], 1);
		for (i = 0, created = 0; i < 8; i++)
			created += actor_hear(&actors[i]);
		CHECK_INT(created, 1);
		CHECK_INT(broker_stat(broker, "attachments"), 8);
		for (i = 0; i < 8; i++)
			actor_say(&actors[i], 1);
		for (i = 0; i < 8; i++)
			actor_end(&actors[i]);
		UNTIL(broker, broker_stat(broker, "regions") == 0);
	}
}

CASE(F01_names_are_checked, PRIVATE)
{
	static const char *const bad[] = { "",    "/",    "a//b", "/a",  "a/", ".",   "..",
					   "a/.", "../a", "a b",  "a\n", "ä",  "a:b", "~/x" };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;
	char longest[SHMB_NAME_MAX + 2];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (shmb_region_create(client, bad[i], 64, NULL, &region) != SHMB_EINVAL)
			FAIL("\"%s\" is taken for a name", bad[i]);
		CHECK_CODE(shmb_region_open(client, bad[i], SHMB_READ, NULL, &region), SHMB_EINVAL);
	}
	memset(longest, 'x', sizeof(longest));
	longest[SHMB_NAME_MAX + 1] = '\0';
	CHECK_CODE(shmb_region_create(client, longest, 64, NULL, &region), SHMB_EINVAL);
	longest[SHMB_NAME_MAX] = '\0';
	region = create(client, longest, 64, NULL);
	CHECK_STRING(shmb_region_name(region), longest);
	shmb_region_free(region);
	shmb_region_free(create(client, "...", 64, NULL));
	shmb_region_free(create(client, "a.b/-_/C9", 64, NULL));
	shmb_client_free(client);
}

CASE(F11_a_handle_and_the_broker_say_the_same, PRIVATE)
{
	struct shmb_region_options options = options_of(SHMB_PERSISTENT);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *region, *reader, *none = NULL;

	options.mode = 0640;
	options.capacity = 10 << 20;
	region = create(client, "about", 3 << 20, &options);
	reader = open_region(client, "about", SHMB_READ);
	CHECK_INT(shmb_region_size(region), 3 << 20);
	CHECK_INT(shmb_region_capacity(region), 10 << 20);
	CHECK_INT(shmb_region_access(region), SHMB_READ | SHMB_WRITE | SHMB_LOCK);
	CHECK_INT(shmb_region_access(reader), SHMB_READ);
	CHECK_OK(shmb_region_publish(region, 0, 0));
	CHECK_OK(shmb_region_info(reader, &info));
	CHECK_STRING(info.name, "about");
	CHECK_INT(info.size, 3 << 20);
	CHECK_INT(info.capacity, 10 << 20);
	CHECK_INT(info.sequence, 1);
	CHECK_INT(info.uid, geteuid());
	CHECK_INT(info.gid, getegid());
	CHECK_INT(info.mode, 0640);
	CHECK_INT(info.attachments, 2);
	CHECK_INT(info.backing, SHMB_BACKING_SHM);
	CHECK_INT(info.lifetime, SHMB_PERSISTENT);
	CHECK_INT(info.removed, 0);
	CHECK(info.created > 1500000000);
	CHECK_OK(shmb_region_chmod(client, "about", 0444));
	CHECK_OK(shmb_region_remove(client, "about"));
	CHECK_OK(shmb_region_info(reader, &info));
	CHECK_INT(info.mode, 0444);
	CHECK_INT(info.removed, 1);
	CHECK_CODE(shmb_region_create(client, "zero", 0, NULL, &none), SHMB_EINVAL);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F11_of_a_closed_handle_nothing_is_known, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 5000, NULL);
	int status;
	pid_t pid;

	CHECK_INT(shmb_region_is_valid(region), 1);
	CHECK_STRING(shmb_region_name(region), "r");
	CHECK_STRING(shmb_region_path(region), "");
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_SHM);
	pid = SYS(fork()); /* the parent's */
	if (pid == 0)
		_exit(shmb_region_is_valid(region) || shmb_region_name(region) ||
		      shmb_region_access(region) || shmb_region_size(region));
	CHECK_INT(SYS(waitpid(pid, &status, 0)), pid);
	CHECK_INT(status, 0);

	CHECK_OK(shmb_region_write_u8(region, 0, 1));
	CHECK_OK(shmb_region_close(region));
	CHECK_INT(shmb_region_is_valid(region), 0);
	CHECK(!shmb_region_name(region));
	CHECK(!shmb_region_path(region));
	CHECK(!shmb_region_data(region));
	CHECK_INT(shmb_region_size(region), 0);
	CHECK_INT(shmb_region_capacity(region), 0);
	CHECK_INT(shmb_region_access(region), 0);
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_DEFAULT);
	CHECK_INT(shmb_region_last_write(region), 0);
	CHECK_CODE(shmb_region_last_flush(region), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_fd(region), SHMB_ECLOSED);
	shmb_region_free(region);
	shmb_client_free(client);
}

struct walk {
	char last[SHMB_NAME_MAX + 1];
	unsigned seen;
	int sorted;
};

static int step(const struct shmb_region_info *info, void *userdata)
{
	struct walk *walk = userdata;

	walk->sorted &= walk->seen == 0 || strcmp(walk->last, info->name) < 0;
	snprintf(walk->last, sizeof(walk->last), "%s", info->name);
	walk->seen++;
	return 0;
}

static int stop_at_three(const struct shmb_region_info *info, void *userdata)
{
	unsigned *seen = userdata;

	return ++*seen == 3 ? 77 : 0;
}

static unsigned list(struct shmb_client *client, const char *prefix)
{
	struct walk walk = { .sorted = 1 };

	CHECK_OK(shmb_region_list(client, prefix, step, &walk));
	CHECK(walk.sorted);
	return walk.seen;
}

CASE(F11_lists_come_in_pages_in_order_with_a_prefix, PRIVATE)
{
	struct shmb_region_options options = options_of(SHMB_PERSISTENT);
	struct shmb_client *client = connect_to(broker);
	char name[64];
	unsigned i, seen = 0;

	for (i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "%s/%u", i % 2 ? "odd" : "even", i);
		shmb_region_free(create(client, name, 1, &options));
	}
	CHECK_INT(list(client, NULL), 2000);
	CHECK_INT(list(client, ""), 2000);
	CHECK_INT(list(client, "odd/"), 1000);
	CHECK_INT(list(client, "even/19"), 55); /* 190-198, 1900-1998; 19 itself is odd */
	CHECK_INT(list(client, "o"), 1000);
	CHECK_INT(list(client, "p"), 0);
	CHECK_CODE(shmb_region_list(client, "a b", step, &seen), SHMB_EINVAL);
	CHECK_INT(shmb_region_list(client, NULL, stop_at_three, &seen), 77);
	CHECK_INT(seen, 3);
	for (i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "%s/%u", i % 2 ? "odd" : "even", i);
		CHECK_OK(shmb_region_remove(client, name));
	}
	CHECK_INT(list(client, NULL), 0);
	shmb_client_free(client);
}

/* Removes and makes regions behind and before the walk while it goes on. */
static int change_the_world(const struct shmb_region_info *info, void *userdata)
{
	struct shmb_client *client = *(struct shmb_client **)userdata;
	struct shmb_region_options options = options_of(SHMB_PERSISTENT);
	char name[SHMB_NAME_MAX + 1];

	if (strncmp(info->name, "stay/", 5) == 0) {
		snprintf(name, sizeof(name), "gone/%s", info->name + 5);
		CHECK_OK(shmb_region_remove(client, name));
		snprintf(name, sizeof(name), "new/%s", info->name + 5);
		shmb_region_free(create(client, name, 1, &options));
	}
	((unsigned *)((struct shmb_client **)userdata + 1))[0] += info->name[0] == 's';
	return 0;
}

CASE(F11_what_is_there_all_the_time_is_listed_exactly_once, PRIVATE)
{
	struct {
		struct shmb_client *client;
		unsigned stayed;
	} state = { connect_to(broker), 0 };
	struct shmb_region_options options = options_of(SHMB_PERSISTENT);
	char name[32];
	unsigned i;

	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "stay/%u", i);
		shmb_region_free(create(state.client, name, 1, &options));
		snprintf(name, sizeof(name), "gone/%u", i);
		shmb_region_free(create(state.client, name, 1, &options));
	}
	CHECK_OK(shmb_region_list(state.client, NULL, change_the_world, &state));
	CHECK_INT(state.stayed, 300);
	CHECK_INT(list(state.client, "gone/"), 0);
	CHECK_INT(list(state.client, "new/"), 300);
	shmb_client_free(state.client);
}

CASE(remove_frees_the_name_at_once_and_keeps_the_memory, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = options_of(SHMB_PERSISTENT);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *old = create(client, "twice", 4096, &options), *new;
	uint64_t id;
	uint32_t value;

	CHECK_OK(shmb_region_write_u32(old, 0, 1));
	CHECK_OK(shmb_region_info(old, &info));
	id = info.id;
	CHECK_OK(shmb_region_remove(client, "twice"));
	CHECK_CODE(stat_of(client, "twice", &info), SHMB_ENOENT);
	CHECK_CODE(shmb_region_remove(client, "twice"), SHMB_ENOENT);
	CHECK_INT(list(client, NULL), 0);

	new = create(client, "twice", 8192, NULL);
	CHECK_OK(shmb_region_info(new, &info));
	CHECK(info.id != id);
	CHECK_OK(shmb_region_write_u32(new, 0, 2));
	CHECK_OK(shmb_region_read_u32(old, 0, &value));
	CHECK_INT(value, 1);
	CHECK_OK(shmb_region_info(old, &info));
	CHECK_INT(info.removed, 1);
	CHECK_INT(info.id, id);
	CHECK_INT(broker_stat(broker, "regions"), 2);
	CHECK_INT(broker_shm_count(broker), 4);
	shmb_region_free(old);
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	CHECK_INT(broker_shm_count(broker), 2);
	shmb_region_free(new);
	shmb_client_free(client);
}

static void hold_three_lifetimes(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options;
	int i;

	for (i = SHMB_ATTACHED; i <= SHMB_PERSISTENT; i++) {
		char name[16];

		options = options_of((enum shmb_lifetime)i);
		snprintf(name, sizeof(name), "life/%d", i);
		create(client, name, 4096, &options);
	}
	say(1);
	hear();
	_exit(0); /* without letting go of anything, as a crash does */
}

static void check_what_remains(struct broker *broker)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info;

	UNTIL(broker, broker_stat(broker, "regions") == 1);
	CHECK_CODE(stat_of(client, "life/0", &info), SHMB_ENOENT);
	CHECK_CODE(stat_of(client, "life/1", &info), SHMB_ENOENT);
	CHECK_OK(stat_of(client, "life/2", &info));
	CHECK_INT(info.attachments, 0);
	CHECK_OK(shmb_region_remove(client, "life/2"));
	UNTIL(broker,
	      broker_shm_count(broker) == 0); /* what the dead held is destroyed off the loop */
	shmb_client_free(client);
}

CASE(lifetimes_when_the_creator_exits, PRIVATE)
{
	struct actor actor = actor_start(broker, &SELF, hold_three_lifetimes, NULL);

	actor_hear(&actor);
	CHECK_INT(broker_stat(broker, "regions"), 3);
	actor_say(&actor, 1);
	actor_end(&actor);
	check_what_remains(broker);
}

CASE(lifetimes_when_the_creator_is_killed, PRIVATE)
{
	struct actor actor = actor_start(broker, &SELF, hold_three_lifetimes, NULL);

	actor_hear(&actor);
	actor_kill(&actor);
	check_what_remains(broker);
}

CASE(lifetimes_are_held_by_others_that_are_attached, PRIVATE)
{
	struct actor actor = actor_start(broker, &SELF, hold_three_lifetimes, NULL);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *attached, *session;

	actor_hear(&actor);
	attached = open_region(client, "life/0", SHMB_READ | SHMB_WRITE);
	session = open_region(client, "life/1", SHMB_READ);
	actor_kill(&actor);
	/* The session's region loses its name with the session, like a removed one. */
	UNTIL(broker, stat_of(client, "life/1", &info) == SHMB_ENOENT);
	CHECK_OK(stat_of(client, "life/0", &info));
	CHECK_INT(info.attachments, 1);
	info.struct_size = sizeof(info);
	CHECK_OK(shmb_region_info(session, &info));
	CHECK_INT(info.removed, 1);
	CHECK_OK(shmb_region_write_u32(attached, 0, 9));
	shmb_region_free(session);
	shmb_region_free(attached);
	check_what_remains(broker);
	shmb_client_free(client);
}

CASE(session_regions_outlive_their_handles, PRIVATE)
{
	struct shmb_region_options options = options_of(SHMB_SESSION);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "s", 4096, &options);

	CHECK_OK(shmb_region_write_u32(region, 0, 5));
	shmb_region_free(region);
	region = open_region(client, "s", SHMB_READ);
	CHECK_INT(*(uint32_t *)shmb_region_data(region), 5);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(memfd_on_request_in_private_scope, PRIVATE)
{
	struct shmb_region_options options = options_of(SHMB_PERSISTENT);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info;

	options.backing = SHMB_BACKING_MEMFD;
	shmb_region_free(create(client, "sealed", 4096, &options));
	CHECK_OK(stat_of(client, "sealed", &info));
	CHECK_INT(info.backing, SHMB_BACKING_MEMFD);
	CHECK_INT(broker_shm_count(broker), 0);
	CHECK_OK(shmb_region_remove(client, "sealed"));
	shmb_client_free(client);
}

CASE(reserve_takes_the_memory_at_once, PRIVATE)
{
	struct shmb_region_options options = options_of(SHMB_ATTACHED);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct stat st;

	options.flags = SHMB_KEEP_FD;
	region = create(client, "lazy", 4 << 20, &options);
	CHECK_OK(fstat(shmb_region_fd(region), &st));
	CHECK_INT(st.st_blocks, 0);
	shmb_region_free(region);
	options.flags = SHMB_KEEP_FD | SHMB_RESERVE;
	region = create(client, "eager", 4 << 20, &options);
	CHECK_OK(fstat(shmb_region_fd(region), &st));
	CHECK(st.st_blocks * 512 >= 4 << 20);
	shmb_region_free(region);
	shmb_client_free(client);
}
