/* SPDX-License-Identifier: MIT */
/* Forked children: refused everywhere, harmless to the parent, free to connect anew. */

#include "fake_broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/io.h>

struct state {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *region;
	struct shmb_window window;
	struct shmb_cursor cursor;
};

static int setup(void **state)
{
	struct state *all = calloc(1, sizeof(*all));
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	assert_non_null(all);
	all->fake = fake_start();
	all->client = fake_connect(all->fake, 5000);
	options.flags = SHMB_KEEP_FD;
	assert_code(shmb_region_create(all->client, "a", 100, &options, &all->region), 0);
	*state = all;
	return 0;
}

static int teardown(void **state)
{
	struct state *all = *state;

	shmb_region_free(all->region);
	shmb_client_free(all->client);
	fake_stop(all->fake);
	free(all);
	return 0;
}

/* In a child; a number of its own tells which call was wrong. */
#define REFUSED(call)                       \
	do {                                \
		n_++;                       \
		if ((call) != SHMB_EFORKED) \
			return n_;          \
	} while (0)

static int list_none(const struct shmb_region_info *info, void *userdata)
{
	return 0;
}

static int stats_none(const char *name, uint64_t value, void *userdata)
{
	return 0;
}

static void no_region(int status, struct shmb_region *region, void *userdata)
{
}

static void no_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
}

static int try_client(void *argument)
{
	struct state *all = argument;
	struct shmb_client *client = all->client;
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *region;
	int n_ = 0;

	REFUSED(shmb_client_ping(client));
	REFUSED(shmb_client_process(client));
	REFUSED(shmb_client_get_fd(client));
	REFUSED(shmb_client_get_events(client));
	REFUSED(shmb_client_set_timeout(client, 5));
	REFUSED(shmb_client_last_error(client, &error));
	REFUSED(shmb_client_stats(client, stats_none, NULL));
	REFUSED(shmb_region_create(client, "b", 1, NULL, &region));
	REFUSED(shmb_region_open(client, "a", SHMB_READ, NULL, &region));
	REFUSED(shmb_region_open_or_create(client, "a", 1, NULL, &region));
	REFUSED(shmb_region_create_async(client, "b", 1, NULL, no_region, NULL));
	REFUSED(shmb_region_open_async(client, "a", SHMB_READ, NULL, no_region, NULL));
	REFUSED(shmb_region_stat(client, "a", &info));
	REFUSED(shmb_region_list(client, NULL, list_none, NULL));
	REFUSED(shmb_region_remove(client, "a"));
	REFUSED(shmb_region_chmod(client, "a", 0));
	REFUSED(shmb_region_chown(client, "a", 0, 0));
	return 0;
}

static int try_region(void *argument)
{
	struct state *all = argument;
	struct shmb_region *region = all->region;
	struct shmb_error error = { .struct_size = sizeof(error) };
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_view view;
	uint64_t value;
	char text[8];
	int n_ = 0;

	REFUSED(shmb_region_read(region, 0, text, 1, 0));
	REFUSED(shmb_region_write(region, 0, text, 1, 0));
	REFUSED(shmb_region_read_u64(region, 0, &value));
	REFUSED(shmb_region_write_u64(region, 0, 1));
	REFUSED(shmb_region_read_string(region, 0, text, 8));
	REFUSED(shmb_region_write_string(region, 0, "a"));
	REFUSED(shmb_region_view(region, 0, 1, 0, SHMB_READ, &view));
	REFUSED(shmb_region_flush(region, 0, 0, 0));
	REFUSED(shmb_region_publish(region, 0, 0));
	REFUSED(shmb_region_wait(region, 0, -1, NULL));
	REFUSED(shmb_region_watch(region, 1, 0, no_event, NULL));
	REFUSED(shmb_region_resize(region, 1));
	REFUSED(shmb_region_info(region, &info));
	REFUSED(shmb_region_fd(region));
	REFUSED(shmb_region_last_error(region, &error));
	REFUSED(shmb_region_close(region));
	if (shmb_region_data(region) || shmb_region_name(region) || shmb_region_size(region) ||
	    shmb_region_capacity(region) || shmb_region_access(region) ||
	    shmb_region_sequence(region))
		return 100;
	return 0;
}

/* The ways through a region's bytes, those that were opened before the fork included. */
static int try_io(void *argument)
{
	struct state *all = argument;
	struct shmb_region *region = all->region;
	struct shmb_buffer buffer = { &buffer, 1 };
	struct shmb_atomics32 atomics32;
	struct shmb_atomics64 atomics64;
	struct shmb_window window;
	struct shmb_cursor cursor;
	struct shmb_walk walk;
	struct shmb_view view;
	char byte = 0;
	size_t done;
	int n_ = 0;

	REFUSED(shmb_region_readv(region, 0, &buffer, 1, 0));
	REFUSED(shmb_region_writev(region, 0, &buffer, 1, SHMB_LOCKED));
	REFUSED(shmb_region_writev(region, 0, &buffer, SHMB_BUFFERS_MAX + 1, 0));
	REFUSED(shmb_window_open(region, 0, 1, &window));
	REFUSED(shmb_window_open_within(&all->window, 0, 1, &window));
	REFUSED(shmb_window_read(&all->window, 0, &byte, 1, 0));
	REFUSED(shmb_window_read(&all->window, 0, &byte, 1000, 0));
	REFUSED(shmb_window_write(&all->window, 0, &byte, 1, 0));
	REFUSED(shmb_window_view(&all->window, 0, 1, 0, SHMB_READ, &view));
	REFUSED(shmb_cursor_open(region, &cursor));
	REFUSED(shmb_cursor_open_window(&all->window, &cursor));
	REFUSED(shmb_cursor_read_checked(&all->cursor, &byte, 1));
	REFUSED(shmb_cursor_write(&all->cursor, &byte, 1));
	REFUSED(shmb_cursor_seek(&all->cursor, 0, SHMB_SEEK_SET));
	REFUSED(shmb_cursor_read_at(&all->cursor, 0, &byte, 1, &done));
	REFUSED(shmb_cursor_write_at(&all->cursor, 0, &byte, 1, &done));
	REFUSED(shmb_walk_open(region, 0, 0, 1, SHMB_READ, &walk));
	REFUSED(shmb_walk_open(region, 0, 0, 0, SHMB_READ, &walk));
	REFUSED(shmb_region_atomics32(region, 0, 1, &atomics32));
	REFUSED(shmb_region_atomics64(region, 0, 0, &atomics64));
	REFUSED(shmb_region_copy(region, 0, region, 1, 2));
	REFUSED(shmb_region_copy(region, 0, region, 2, 1));
	REFUSED(shmb_region_export(region, 0, 0, 1, NULL, NULL));
	REFUSED(shmb_region_import(region, 0, 0, 0, NULL, NULL));
	if (shmb_window_size(&all->window) != 0)
		return 100;
	shmb_cursor_close(&all->cursor);
	shmb_window_close(&all->window);
	return 0;
}

static void a_child_is_refused_everywhere(void **state)
{
	struct state *all = *state;

	assert_code(shmb_window_open(all->region, 0, 10, &all->window), 0);
	assert_code(shmb_cursor_open(all->region, &all->cursor), 0);
	assert_int_equal(fake_in_child(try_io, all), 0);
	shmb_cursor_close(&all->cursor);
	shmb_window_close(&all->window);

	assert_int_equal(fake_in_child(try_client, all), 0);
	assert_int_equal(fake_in_child(try_region, all), 0);
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(shmb_region_sequence(all->region), 0);
}

static int free_all(void *argument)
{
	struct state *all = argument;
	size_t before = count_fds();

	shmb_client_free(all->client); /* first, with its region still there */
	shmb_region_free(all->region);
	return count_fds() == before - 2 ? 0 : 1; /* socket and kept descriptor */
}

static void freeing_in_a_child_leaves_the_parents_session(void **state)
{
	struct state *all = *state;

	assert_int_equal(fake_in_child(free_all, all), 0);
	assert_code(shmb_client_ping(all->client), 0);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_CLOSE), 0);
	assert_int_equal(fake_ended(all->fake), 0);
	assert_code(shmb_region_write_u8(all->region, 0, 1), 0);
}

static int free_loop(void *argument)
{
	struct state *all = argument;
	size_t before = count_fds();

	shmb_region_free(all->region);
	shmb_client_free(all->client);
	return count_fds() == before - 5 ? 0 : 1; /* and the loop's three */
}

static void the_parents_loop_goes_on_after_the_childs_free(void **state)
{
	struct state *all = *state;

	assert_true(shmb_client_get_fd(all->client) >= 0);
	assert_code(shmb_region_watch(all->region, 1, 0, no_event, NULL), 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_event(fake_peer(all->fake), 1, 1, 1, 100);
	assert_code(shmb_client_ping(all->client), 0); /* an event waits, holding its region */
	assert_int_equal(fake_in_child(free_loop, all), 0);
	assert_code(shmb_client_process(all->client), 1);
}

/* ---- While threads of the parent are busy ---- */

struct busy {
	struct state *all;
	_Atomic bool stop;
};

static void *ping_on(void *argument)
{
	struct busy *busy = argument;

	while (!busy->stop)
		if (shmb_client_ping(busy->all->client) < 0)
			return busy;
	return NULL;
}

static int free_and_refuse(void *argument)
{
	struct state *all = argument;

	alarm(10); /* a mutex that was held would hang us */
	if (shmb_client_ping(all->client) != SHMB_EFORKED)
		return 1;
	if (shmb_region_resize(all->region, 1) != SHMB_EFORKED)
		return 2;
	shmb_region_free(all->region);
	shmb_client_free(all->client);
	return 0;
}

static void a_child_does_not_hang_on_the_parents_mutex(void **state)
{
	struct busy busy = { .all = *state };
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ping_on, &busy), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(fake_in_child(free_and_refuse, busy.all), 0);
	busy.stop = true;
	for (int i = 0; i < 2; i++) {
		void *failed;
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

/* ---- Connecting anew ---- */

static int connect_anew(void *argument)
{
	struct state *all = argument;
	struct shmb_client *client;
	struct shmb_region *region;

	alarm(10);
	if (shmb_client_connect(all->fake->path, NULL, &client) < 0)
		return 1;
	if (shmb_client_ping(all->client) != SHMB_EFORKED) /* still the parent's */
		return 2;
	if (shmb_client_ping(client) < 0)
		return 3;
	if (shmb_region_open(client, "a", SHMB_READ | SHMB_WRITE, NULL, &region) < 0)
		return 4;
	if (shmb_region_write_u8(region, 5, 5) < 0)
		return 5;
	shmb_region_free(region);
	shmb_client_free(client);
	return fake_in_child(free_and_refuse, all); /* a grandchild */
}

static void a_child_may_have_its_own_client(void **state)
{
	struct state *all = *state;
	uint8_t byte = 0;

	assert_int_equal(fake_in_child(connect_anew, all), 0);
	assert_code(shmb_region_read_u8(all->region, 5, &byte), 0);
	assert_int_equal(byte, 5);
}

/* ---- Forks within callbacks ---- */

struct forker {
	struct state *all;
	pid_t pid;
};

static void fork_in_event(struct shmb_region *region, const struct shmb_event *event,
			  void *userdata)
{
	struct forker *forker = userdata;

	forker->pid = fork();
	if (forker->pid == 0) {
		alarm(10);
		shmb_region_free(region);
		shmb_client_free(forker->all->client);
	}
}

static void a_callback_may_fork(void **state)
{
	struct state *all = *state;
	struct forker forker = { .all = all };
	int status, result;

	assert_code(shmb_region_watch(all->region, 1, 0, fork_in_event, &forker), 0);
	assert_code(shmb_region_publish(all->region, 0, 0), 0);
	fake_event(fake_peer(all->fake), 1, 1, 1, 100);
	assert_code(shmb_client_ping(all->client), 0);
	result = shmb_client_process(all->client);
	if (forker.pid == 0)
		_exit(result == SHMB_EFORKED ? 0 : 1);
	assert_code(result, 1);
	assert_int_equal(waitpid(forker.pid, &status, 0), forker.pid);
	assert_int_equal(status, 0);
	assert_code(shmb_client_ping(all->client), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_child_is_refused_everywhere),
		TEST(freeing_in_a_child_leaves_the_parents_session),
		TEST(the_parents_loop_goes_on_after_the_childs_free),
		TEST(a_child_does_not_hang_on_the_parents_mutex),
		TEST(a_child_may_have_its_own_client),
		TEST(a_callback_may_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
