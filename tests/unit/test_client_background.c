/* SPDX-License-Identifier: MIT */
/* The client's threads: that they end when there has been nothing to do for a while. */

#include "fake_broker.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include <shmbroker/io.h>

#include "background.h"

struct state {
	struct fake *fake;
	struct shmb_client *client;
	struct shmb_region *region;
	int n_done;
};

static void *do_nothing(void *argument)
{
	return argument;
}

static int setup(void **state)
{
	struct state *all = calloc(1, sizeof(*all));
	pthread_t thread;

	assert_non_null(all);
	/* A sanitizer adds one of its own to a program's first. */
	assert_int_equal(pthread_create(&thread, NULL, do_nothing, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	all->fake = fake_start();
	fake_make(all->fake, "a", 1000, 4096);
	all->client = fake_connect(all->fake, 5000);
	assert_code(shmb_region_open(all->client, "a", SHMB_READ | SHMB_WRITE, NULL, &all->region),
		    0);
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

static unsigned count_threads(void)
{
	DIR *directory = opendir("/proc/self/task");
	unsigned n = 0;

	assert_non_null(directory);
	for (struct dirent *entry; (entry = readdir(directory));)
		n += entry->d_name[0] != '.';
	closedir(directory);
	return n;
}

static void on_done(int status, void *userdata)
{
	struct state *all = userdata;

	assert_code(status, 0);
	all->n_done++;
}

static void write_one(struct state *all)
{
	struct pollfd pollfd = { .fd = shmb_client_get_fd(all->client), .events = POLLIN };
	int before = all->n_done;

	assert_code(shmb_region_write_async(all->region, 0, "x", 1, on_done, all), 0);
	while (all->n_done == before) {
		assert_int_equal(poll(&pollfd, 1, 10000), 1);
		assert_true(shmb_client_process(all->client) >= 0);
	}
}

static void F32_idle_threads_end_and_others_begin(void **state)
{
	struct state *all = *state;
	unsigned before = count_threads();

	background_set_idle(1000000);
	for (int i = 0; i < 5; i++) {
		write_one(all);
		while (count_threads() > before)
			sched_yield();
	}
}

static void F31_a_timed_policy_keeps_one_thread(void **state)
{
	struct state *all = *state;
	struct shmb_flush_policy policy = SHMB_FLUSH_POLICY_INIT;
	unsigned before = count_threads();

	background_set_idle(1000000);
	policy.every_ms = 3600000;
	assert_code(shmb_region_set_flush_policy(all->region, &policy), 0);
	for (int i = 0; i < 5; i++) {
		write_one(all);
		/* A second one may have begun, and ends. */
		while (count_threads() > before + 1)
			sched_yield();
		assert_int_equal(count_threads(), before + 1);
	}
	policy.every_ms = 0;
	assert_code(shmb_region_set_flush_policy(all->region, &policy), 0);
	while (count_threads() > before)
		sched_yield();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(F32_idle_threads_end_and_others_begin),
		TEST(F31_a_timed_policy_keeps_one_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
