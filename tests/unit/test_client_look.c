/* SPDX-License-Identifier: MIT */
/* Asking about locks and semaphores, and who holds them. */

#include "fake_broker.h"

#include <stdio.h>
#include <string.h>

static struct wire_lock_info lock_truth(const char *name)
{
	return (struct wire_lock_info){
		.has = WIRE_HAS(lock_info, holder_pid) | WIRE_HAS(lock_info, holder_uid) |
		       WIRE_HAS(lock_info, holder_command),
		.name = wire_string(name),
		.id = 7,
		.is_region = true,
		.uid = 1001,
		.gid = 1002,
		.mode = 0740,
		.lifetime = SHMB_SESSION,
		.attachments = 3,
		.slots = 62,
		.slots_used = 4,
		.state = 2,
		.readers = 5,
		.waiting_shared = 6,
		.waiting_exclusive = 8,
		.owner_died = true,
		.not_recoverable = true,
		.holder_pid = 99,
		.holder_uid = 1003,
		.holder_command = wire_string("writer"),
	};
}

static bool answer_lock(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_lock_info info = lock_truth(fake->context ? fake->context : "a/b");

	fake_result(fake, seen, &info, NULL, 0);
	return true;
}

static bool answer_idle_lock(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_lock_info info = { .name = wire_string("l"), .id = 1, .state = 1 };

	fake_result(fake, seen, &info, NULL, 0);
	return true;
}

static void a_lock_is_described(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_lock_info info = { .struct_size = sizeof(info) };

	fake_handle(fake, WIRE_LOCK_STAT, answer_lock);
	assert_code(shmb_lock_stat(client, "a/b", &info), 0);
	assert_string_equal(info.name, "a/b");
	assert_int_equal(info.id, 7);
	assert_int_equal(info.is_region, 1);
	assert_int_equal(info.uid, 1001);
	assert_int_equal(info.gid, 1002);
	assert_int_equal(info.mode, 0740);
	assert_int_equal(info.lifetime, SHMB_SESSION);
	assert_int_equal(info.attachments, 3);
	assert_int_equal(info.slots, 62);
	assert_int_equal(info.slots_used, 4);
	assert_int_equal(info.held, 1);
	assert_int_equal(info.pending, 0);
	assert_int_equal(info.readers, 5);
	assert_int_equal(info.waiting_shared, 6);
	assert_int_equal(info.waiting_exclusive, 8);
	assert_int_equal(info.owner_died, 1);
	assert_int_equal(info.not_recoverable, 1);
	assert_int_equal(info.holder.pid, 99);
	assert_int_equal(info.holder.uid, 1003);
	assert_string_equal(info.holder.command, "writer");

	fake_handle(fake, WIRE_LOCK_STAT, answer_idle_lock);
	assert_code(shmb_lock_stat(client, "l", &info), 0);
	assert_int_equal(info.held, 0);
	assert_int_equal(info.pending, 1);
	assert_int_equal(info.owner_died, 0);
	assert_int_equal(info.holder.pid, 0);
	assert_string_equal(info.holder.command, "");

	info.struct_size = 8;
	assert_code(shmb_lock_stat(client, "l", &info), SHMB_EINVAL);
	info.struct_size = sizeof(info);
	assert_code(shmb_lock_stat(client, "l//", &info), SHMB_EINVAL);
	assert_code(shmb_lock_stat(client, "l", NULL), SHMB_EINVAL);
	fake_handle(fake, WIRE_LOCK_STAT, answer_lock);
	fake->context = "no name at all";
	assert_code(shmb_lock_stat(client, "l", &info), SHMB_EPROTO);
	shmb_client_free(client);
}

static struct wire_semaphore_info semaphore_truth(const char *name)
{
	return (struct wire_semaphore_info){
		.has = WIRE_HAS(semaphore_info, holder_pid) | WIRE_HAS(semaphore_info, holder_uid) |
		       WIRE_HAS(semaphore_info, holder_command),
		.name = wire_string(name),
		.id = 7,
		.kind = SHMB_OWNED,
		.uid = 1001,
		.gid = 1002,
		.mode = 0740,
		.lifetime = SHMB_PERSISTENT,
		.attachments = 3,
		.value = 4,
		.maximum = 5,
		.waiting = 6,
		.holder_pid = 99,
		.holder_uid = 1003,
		.holder_command = wire_string("taker"),
	};
}

static bool answer_semaphore(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_semaphore_info info = semaphore_truth("a/b");

	fake_result(fake, seen, &info, NULL, 0);
	return true;
}

static void a_semaphore_is_described(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };

	fake_handle(fake, WIRE_SEMAPHORE_STAT, answer_semaphore);
	assert_code(shmb_semaphore_stat(client, "a/b", &info), 0);
	assert_string_equal(info.name, "a/b");
	assert_int_equal(info.id, 7);
	assert_int_equal(info.kind, SHMB_OWNED);
	assert_int_equal(info.uid, 1001);
	assert_int_equal(info.gid, 1002);
	assert_int_equal(info.mode, 0740);
	assert_int_equal(info.lifetime, SHMB_PERSISTENT);
	assert_int_equal(info.attachments, 3);
	assert_int_equal(info.value, 4);
	assert_int_equal(info.maximum, 5);
	assert_int_equal(info.waiting, 6);
	assert_int_equal(info.holder.pid, 99);
	assert_int_equal(info.holder.uid, 1003);
	assert_string_equal(info.holder.command, "taker");
	info.struct_size = 8;
	assert_code(shmb_semaphore_stat(client, "a", &info), SHMB_EINVAL);
	shmb_client_free(client);
}

/* ---- Lists: two pages, with one name each ---- */

static bool is_second(const struct fake_seen *seen)
{
	return seen->params.list.has & WIRE_HAS(region_list_params, cursor);
}

static bool answer_locks(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_lock_info info = lock_truth(is_second(seen) ? "b" : "a");
	struct wire_lock_list_result page = { .locks = &info, .n_locks = 1 };

	if (!is_second(seen) || fake->context) { /* or again and again the same */
		page.has = WIRE_HAS(lock_list_result, cursor);
		page.cursor = wire_string("a");
	}
	fake_result(fake, seen, &page, NULL, 0);
	return true;
}

static bool answer_semaphores(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_semaphore_info info = semaphore_truth(is_second(seen) ? "b" : "a");
	struct wire_semaphore_list_result page = { .semaphores = &info, .n_semaphores = 1 };

	if (!is_second(seen)) {
		page.has = WIRE_HAS(semaphore_list_result, cursor);
		page.cursor = wire_string("a");
	}
	fake_result(fake, seen, &page, NULL, 0);
	return true;
}

struct walk {
	char names[64];
	int result;
};

static int note(struct walk *walk, const char *name)
{
	strcat(walk->names, name);
	return walk->result;
}

static int take_lock(const struct shmb_lock_info *info, void *userdata)
{
	return note(userdata, info->name);
}

static int take_semaphore(const struct shmb_semaphore_info *info, void *userdata)
{
	return note(userdata, info->name);
}

static void lists_are_walked_page_by_page(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	struct walk walk = { "", 0 };

	fake_handle(fake, WIRE_LOCK_LIST, answer_locks);
	fake_handle(fake, WIRE_SEMAPHORE_LIST, answer_semaphores);
	assert_code(shmb_lock_list(client, NULL, take_lock, &walk), 0);
	assert_string_equal(walk.names, "ab");
	assert_code(shmb_semaphore_list(client, "", take_semaphore, &walk), 0);
	assert_string_equal(walk.names, "abab");
	walk.result = 42;
	assert_int_equal(shmb_lock_list(client, "x/", take_lock, &walk), 42);
	assert_int_equal(shmb_semaphore_list(client, "x/", take_semaphore, &walk), 42);
	assert_string_equal(walk.names, "ababaa");
	assert_code(shmb_lock_list(client, "//", take_lock, &walk), SHMB_EINVAL);
	assert_code(shmb_lock_list(client, NULL, NULL, &walk), SHMB_EINVAL);
	assert_code(shmb_semaphore_list(client, NULL, NULL, &walk), SHMB_EINVAL);
	walk.result = 0;
	fake->context = "";
	assert_code(shmb_lock_list(client, NULL, take_lock, &walk), SHMB_EPROTO);
	shmb_client_free(client);
}

/* ---- Holders ---- */

static bool answer_holders(struct fake *fake, const struct fake_seen *seen)
{
	bool second = seen->params.holders.has & WIRE_HAS(holders_params, after);
	struct wire_holder holders[] = {
		{ .pid = 10, .uid = 20, .command = wire_string("one"), .exclusive = true },
		{ .pid = 0,
		  .uid = 21,
		  .command = wire_string(""),
		  .shared = 2,
		  .permits = 3,
		  .waiting = 4,
		  .condemned = true },
	};
	struct wire_holders_result page = { .holders = &holders[second], .n_holders = 1 };

	if (!second || fake->context) {
		page.has = WIRE_HAS(holders_result, after);
		page.after = 5;
	}
	fake_result(fake, seen, &page, NULL, 0);
	return true;
}

static int take_holder(const struct shmb_holder *holder, void *userdata)
{
	char *names = userdata;

	assert_int_equal(holder->struct_size, sizeof(*holder));
	if (holder->process.pid == 10) {
		assert_int_equal(holder->process.uid, 20);
		assert_string_equal(holder->process.command, "one");
		assert_int_equal(holder->exclusive, 1);
		assert_int_equal(holder->condemned, 0);
		strcat(names, "1");
	} else {
		assert_int_equal(holder->process.uid, 21);
		assert_string_equal(holder->process.command, "");
		assert_int_equal(holder->exclusive, 0);
		assert_int_equal(holder->shared, 2);
		assert_int_equal(holder->permits, 3);
		assert_int_equal(holder->waiting, 4);
		assert_int_equal(holder->condemned, 1);
		strcat(names, "2");
	}
	return 0;
}

static void holders_are_walked_page_by_page(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	char names[16] = "";

	fake_handle(fake, WIRE_HOLDERS, answer_holders);
	assert_code(shmb_client_holders(client, "a", take_holder, names), 0);
	assert_string_equal(names, "12");
	assert_string_equal(fake_last(fake, WIRE_HOLDERS).text, "a");
	assert_code(shmb_client_holders(client, "a", NULL, names), SHMB_EINVAL);
	assert_code(shmb_client_holders(client, "/", take_holder, names), SHMB_EINVAL);
	fake->context = ""; /* one that does not come forward */
	assert_code(shmb_client_holders(client, "a", take_holder, names), SHMB_EPROTO);
	shmb_client_free(client);
}

/* ---- Removing ---- */

static void removing_says_what_is_meant(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);
	int (*const functions[])(struct shmb_client *, const char *) = { shmb_region_remove,
									 shmb_lock_remove,
									 shmb_semaphore_remove };

	for (unsigned i = 0; i < 3; i++) {
		struct fake_seen seen;

		assert_code(functions[i](client, "a//b"), SHMB_EINVAL);
		assert_code(functions[i](client, "a"), 0);
		fake_wait(fake, WIRE_REGION_REMOVE, i + 1);
		seen = fake_last(fake, WIRE_REGION_REMOVE);
		assert_string_equal(seen.text, "a");
		assert_true((seen.params.remove.has & WIRE_HAS(remove_params, kind)) != 0);
		assert_int_equal(seen.params.remove.kind, i + 1);
	}
	shmb_client_free(client);
}

static int child(void *argument)
{
	struct shmb_client *client = argument;
	struct shmb_lock_info lock = { .struct_size = sizeof(lock) };
	struct shmb_semaphore_info semaphore = { .struct_size = sizeof(semaphore) };
	bool right = shmb_lock_stat(client, "a", &lock) == SHMB_EFORKED &&
		     shmb_lock_list(client, NULL, take_lock, NULL) == SHMB_EFORKED &&
		     shmb_lock_remove(client, "a") == SHMB_EFORKED &&
		     shmb_semaphore_stat(client, "a", &semaphore) == SHMB_EFORKED &&
		     shmb_semaphore_list(client, NULL, take_semaphore, NULL) == SHMB_EFORKED &&
		     shmb_semaphore_remove(client, "a") == SHMB_EFORKED &&
		     shmb_client_holders(client, "a", take_holder, NULL) == SHMB_EFORKED;

	return right ? 0 : 1;
}

static void a_child_asks_nothing(void **state)
{
	struct fake *fake = *state;
	struct shmb_client *client = fake_connect(fake, 5000);

	assert_int_equal(fake_in_child(child, client), 0);
	shmb_client_free(client);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_lock_is_described),           CASE(a_semaphore_is_described),
		CASE(lists_are_walked_page_by_page), CASE(holders_are_walked_page_by_page),
		CASE(removing_says_what_is_meant),   CASE(a_child_asks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
