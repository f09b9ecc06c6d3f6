/* SPDX-License-Identifier: MIT */
/* Asking about regions and administering them. */

#include "fake_broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wire_region_info truth(const char *name)
{
	return (struct wire_region_info){
		.name = wire_string(name),
		.id = 7,
		.size = 100,
		.capacity = 200,
		.sequence = 9,
		.created = 1700000000,
		.uid = 1001,
		.gid = 1002,
		.mode = 0740,
		.attachments = 3,
		.backing = SHMB_BACKING_SHM,
		.lifetime = SHMB_SESSION,
		.removed = true,
	};
}

static bool answer_stat(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_region_info info = truth(fake->context ? fake->context : "a/b");

	fake_result(fake, seen, &info, NULL, 0);
	return true;
}

static void assert_truth(const struct shmb_region_info *info)
{
	assert_string_equal(info->name, "a/b");
	assert_int_equal(info->id, 7);
	assert_int_equal(info->size, 100);
	assert_int_equal(info->capacity, 200);
	assert_int_equal(info->sequence, 9);
	assert_int_equal(info->created, 1700000000);
	assert_int_equal(info->uid, 1001);
	assert_int_equal(info->gid, 1002);
	assert_int_equal(info->mode, 0740);
	assert_int_equal(info->attachments, 3);
	assert_int_equal(info->backing, SHMB_BACKING_SHM);
	assert_int_equal(info->lifetime, SHMB_SESSION);
	assert_int_equal(info->removed, 1);
}

static void a_description_arrives_whole(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *region;

	fake_handle(fake, WIRE_REGION_STAT, answer_stat);
	assert_code(shmb_region_stat(client, "a/b", &info), 0);
	assert_truth(&info);
	assert_code(shmb_region_create(client, "a/b", 100, NULL, &region), 0);
	memset(&info.name, 0, sizeof(info) - offsetof(struct shmb_region_info, name));
	assert_code(shmb_region_info(region, &info), 0);
	assert_truth(&info);

	memset(&info.name, 'x', sizeof(info) - offsetof(struct shmb_region_info, name));
	info.struct_size = offsetof(struct shmb_region_info, size); /* of an older program */
	assert_code(shmb_region_stat(client, "a/b", &info), 0);
	assert_int_equal(info.id, 7);
	assert_int_equal(info.size, UINT64_C(0x7878787878787878));
	info.struct_size = 8;
	assert_code(shmb_region_stat(client, "a/b", &info), SHMB_EINVAL);
	assert_code(shmb_region_stat(client, "a//b", &info), SHMB_EINVAL);
	assert_code(shmb_region_stat(client, NULL, &info), SHMB_EINVAL);

	fake->context = "no name at all";
	info.struct_size = sizeof(info);
	assert_code(shmb_region_stat(client, "a/b", &info), SHMB_EPROTO);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Lists ---- */

/* Three pages: two entries, none, one; the cursor counts. */
static bool answer_list(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_region_info infos[2] = { truth("a/b"), truth("a/c") };
	struct wire_region_list_result result = { .regions = infos };

	if (seen->text[0] == '\0') {
		result.n_regions = 2;
		result.cursor = wire_string("1");
	} else if (strcmp(seen->text, "1") == 0) {
		result.cursor = wire_string("2");
	} else {
		infos[0] = truth("a/d");
		result.n_regions = 1;
	}
	if (result.cursor.length > 0)
		result.has = WIRE_HAS(region_list_result, cursor);
	fake_result(fake, seen, &result, NULL, 0);
	return true;
}

static bool answer_list_for_ever(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_region_list_result result = {
		.has = WIRE_HAS(region_list_result, cursor),
		.cursor = wire_string("same"),
	};

	fake_result(fake, seen, &result, NULL, 0);
	return true;
}

struct walk {
	struct shmb_client *client;
	char names[64];
	int stop_after;
};

static int note_name(const struct shmb_region_info *info, void *userdata)
{
	struct walk *walk = userdata;

	strcat(strcat(walk->names, info->name), " ");
	if (shmb_client_ping(walk->client) != 0) /* no lock is held */
		return -1;
	return --walk->stop_after == 0 ? 42 : 0;
}

static void a_list_is_walked_page_by_page(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct walk walk = { .client = client, .stop_after = -1 };

	fake_handle(fake, WIRE_REGION_LIST, answer_list);
	assert_code(shmb_region_list(client, "a/", note_name, &walk), 0);
	assert_string_equal(walk.names, "a/b a/c a/d ");
	fake_wait(fake, WIRE_REGION_LIST, 3);
	walk = (struct walk){ .client = client, .stop_after = 2 };
	assert_code(shmb_region_list(client, NULL, note_name, &walk), 42);
	assert_string_equal(walk.names, "a/b a/c ");
	fake_wait(fake, WIRE_REGION_LIST, 4);
	assert_false(fake_last(fake, WIRE_REGION_LIST).params.list.has &
		     WIRE_HAS(region_list_params, prefix));
	assert_code(shmb_region_list(client, "a//", note_name, &walk), SHMB_EINVAL);
	assert_code(shmb_region_list(client, "", NULL, &walk), SHMB_EINVAL);

	fake_handle(fake, WIRE_REGION_LIST, answer_list_for_ever);
	assert_code(shmb_region_list(client, NULL, note_name, &walk), SHMB_EPROTO);
	shmb_client_free(client);
}

/* ---- Figures ---- */

static bool answer_stats(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_stats_result stats = { .regions = 12, .refused_total = 5 };

	fake_result(fake, seen, &stats, NULL, 0);
	return true;
}

struct figures {
	uint64_t regions, refused;
	unsigned n;
};

static int note_figure(const char *name, uint64_t value, void *userdata)
{
	struct figures *figures = userdata;

	if (strcmp(name, "regions") == 0)
		figures->regions = value;
	if (strcmp(name, "refused_total") == 0)
		figures->refused = value;
	return ++figures->n == 100 ? -7 : 0;
}

static void figures_are_told_by_name(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	const struct wire_message_type *type = &wire_message_types[WIRE_MESSAGE_stats_result];
	struct figures figures = { 0 };

	fake_handle(fake, WIRE_STATS, answer_stats);
	assert_code(shmb_client_stats(client, note_figure, &figures), 0);
	assert_int_equal(figures.regions, 12);
	assert_int_equal(figures.refused, 5);
	assert_int_equal(figures.n, type->n_fields);
	figures.n = 99;
	assert_code(shmb_client_stats(client, note_figure, &figures), -7);
	assert_int_equal(figures.n, 100);
	shmb_client_free(client);
}

/* ---- Changing ---- */

static void a_resize_is_checked_here_as_far_as_it_goes(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region *region;

	options.capacity = 5000;
	assert_code(shmb_region_create(client, "a", 100, &options, &region), 0);
	assert_code(shmb_region_resize(region, 0), SHMB_EINVAL);
	assert_code(shmb_region_resize(region, UINT64_MAX), SHMB_EFBIG);
	/* Beyond the capacity under the lock alone. */
	assert_code(shmb_region_resize(region, 5001), SHMB_EDEADLK);
	assert_code(shmb_region_last_error(region, &error), 0);
	assert_string_equal(error.what, "the region's lock is not held");
	assert_int_equal(fake_count(fake, WIRE_REGION_GROW), 0);
	assert_int_equal(fake_count(fake, WIRE_REGION_RESIZE), 0);
	assert_code(shmb_region_resize(region, 5000), 0);
	fake_wait(fake, WIRE_REGION_RESIZE, 1);
	assert_int_equal(fake_last(fake, WIRE_REGION_RESIZE).params.resize.size, 5000);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void owner_and_mode_are_sent_as_given(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct wire_region_chown_params sent;

	assert_code(shmb_region_chmod(client, "a", 01000), SHMB_EINVAL);
	assert_code(shmb_region_chmod(client, "", 0700), SHMB_EINVAL);
	assert_code(shmb_region_chmod(client, "a", 0777), 0);
	assert_code(shmb_region_chown(client, "a", (uint32_t)-1, 5), 0);
	fake_wait(fake, WIRE_REGION_CHOWN, 1);
	sent = fake_last(fake, WIRE_REGION_CHOWN).params.chown;
	assert_int_equal(sent.has, WIRE_HAS(region_chown_params, gid));
	assert_int_equal(sent.gid, 5);
	assert_code(shmb_region_chown(client, "a", 0, (uint32_t)-1), 0);
	fake_wait(fake, WIRE_REGION_CHOWN, 2);
	sent = fake_last(fake, WIRE_REGION_CHOWN).params.chown;
	assert_int_equal(sent.has, WIRE_HAS(region_chown_params, uid));
	assert_int_equal(sent.uid, 0);
	assert_code(shmb_region_chown(client, ".", 0, 0), SHMB_EINVAL);
	assert_code(shmb_region_remove(client, "a/"), SHMB_EINVAL);
	assert_code(shmb_region_remove(client, "a"), 0);
	shmb_client_free(client);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_description_arrives_whole),
		TEST(a_list_is_walked_page_by_page),
		TEST(figures_are_told_by_name),
		TEST(a_resize_is_checked_here_as_far_as_it_goes),
		TEST(owner_and_mode_are_sent_as_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
