/* SPDX-License-Identifier: MIT */
/*
 * What the guard and those who look after it do when they meet, one step at a time. How it works as
 * a whole is in tests/system/test_guard.c.
 */

#include "fake_broker.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "region.h"
#include "touch.h"

enum { PAGE = 4096, PAGES = 200 };

/* ---- The registry ---- */

static struct mapping map_file(int *ret_fd, unsigned pages)
{
	int fd = memfd_create("guarded", MFD_CLOEXEC);
	struct mapping mapping;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)pages * PAGE), 0);
	assert_int_equal(map_segment(fd, (uint64_t)pages * PAGE, true, true, &mapping), 0);
	*ret_fd = fd;
	return mapping;
}

static void what_is_lost_is_found_whatever_is_asked(void **state)
{
	int fd;
	struct mapping mapping = map_file(&fd, PAGES);
	struct guarded guarded = { .entry = 0 };
	volatile char *data = mapping.data;
	_Atomic uint32_t word = 0;
	uint64_t offset, length;

	assert_code(shmb_guard_install(), 0);
	assert_code(guard_add(&guarded, &mapping, &word, 4), 0);
	assert_false(guard_find_lost(&guarded, 0, PAGES * PAGE, &offset, &length));
	assert_int_equal(ftruncate(fd, 0), 0);
	for (unsigned i = 70; i < 135; i++)
		assert_int_equal(data[i * PAGE + 5], 0);
	assert_int_equal(data[(PAGES - 1) * PAGE], 0);
	assert_int_equal(word, 4);
	assert_true(guard_find_lost(&guarded, 0, PAGES * PAGE, &offset, &length));
	assert_int_equal(offset, 70 * PAGE);
	assert_int_equal(length, 65 * PAGE);
	assert_true(guard_find_lost(&guarded, 100 * PAGE + 1, 1, &offset, &length));
	assert_int_equal(offset, 100 * PAGE);
	assert_int_equal(length, PAGE);
	assert_true(guard_find_lost(&guarded, 70 * PAGE - 1, 2, &offset, &length));
	assert_int_equal(offset, 70 * PAGE);
	assert_false(guard_find_lost(&guarded, 0, 70 * PAGE, &offset, &length));
	assert_false(guard_find_lost(&guarded, 135 * PAGE, 64 * PAGE, &offset, &length));
	assert_false(guard_find_lost(&guarded, 100 * PAGE, 0, &offset, &length));
	assert_true(guard_find_lost(&guarded, 135 * PAGE, 65 * PAGE, &offset, &length));
	assert_int_equal(offset, (PAGES - 1) * PAGE);
	guard_remove(&guarded);
	guard_remove(&guarded);
	map_release(&mapping);
	close(fd);
}

/* More than a chunk of entries, given back and taken again in another order. */
static void many_mappings_are_told_apart(void **state)
{
	enum { N = 600 };
	static struct guarded all[N];
	static struct mapping mappings[N];
	_Atomic uint32_t words[N];
	int fds[N];

	assert_code(shmb_guard_install(), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < N; i++) {
			mappings[i] = map_file(&fds[i], 1);
			words[i] = 0;
			assert_code(guard_add(&all[i], &mappings[i], &words[i], 1), 0);
		}
		for (unsigned i = 0; i < N; i += 7) {
			assert_int_equal(ftruncate(fds[i], 0), 0);
			assert_int_equal(*(volatile char *)mappings[i].data, 0);
		}
		for (unsigned i = 0; i < N; i++) {
			unsigned j = (i * 7 + round) % N;

			assert_int_equal(words[j], j % 7 == 0);
			guard_remove(&all[j]);
			map_release(&mappings[j]);
			close(fds[j]);
		}
	}
}

struct toucher {
	volatile char *page;
	_Atomic bool done;
};

static void *touch(void *argument)
{
	struct toucher *toucher = argument;

	assert_int_equal(*toucher->page, 0);
	atomic_store(&toucher->done, true);
	return NULL;
}

/* While somebody mends nothing is replaced; then it goes on. */
static void who_faults_waits_for_who_mends(void **state)
{
	int fd;
	struct mapping mapping = map_file(&fd, 1);
	struct guarded guarded = { .entry = 0 };
	struct toucher toucher = { .page = mapping.data };
	_Atomic uint32_t word = 0;
	uint64_t offset, length;
	pthread_t thread;

	assert_code(shmb_guard_install(), 0);
	assert_code(guard_add(&guarded, &mapping, &word, 1), 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	guard_pause(&guarded);
	assert_int_equal(pthread_create(&thread, NULL, touch, &toucher), 0);
	for (unsigned i = 0; i < 1000; i++) {
		assert_false(atomic_load(&toucher.done));
		assert_false(guard_find_lost(&guarded, 0, PAGE, &offset, &length));
		sched_yield();
	}
	guard_resume(&guarded);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(guard_find_lost(&guarded, 0, PAGE, &offset, &length));
	guard_remove(&guarded);
	map_release(&mapping);
	close(fd);
}

/* ---- Between two looks ---- */

/* A thread has copied the handler's zeros, and before it looks again another has mended the page:
 * nothing is wrong any more but what was copied. */
static void what_came_back_in_between_is_read_again(void **state)
{
	struct fake *fake = fake_start();
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	struct region_place place;
	uint8_t byte;

	options.flags = SHMB_KEEP_FD;
	assert_code(shmb_region_create(client, "a", PAGE, &options, &region), 0);
	assert_code(shmb_guard_install(), 0); /* cmocka has set its own for each test */
	assert_code(shmb_region_write_u8(region, 0, 7), 0);
	assert_code(region_check_read(region, 0, 1, &place), 0);
	assert_int_equal(ftruncate(shmb_region_fd(region), 0), 0);
	assert_int_equal(*(volatile unsigned char *)place.data, 0);
	assert_code(region_after_read(region, 0, 1, &place), SHMB_EBUS);
	assert_int_equal(ftruncate(shmb_region_fd(region), PAGE), 0);
	assert_code(shmb_region_read_u8(region, 0, &byte), 0);
	assert_int_equal(atomic_load(&region->state) & REGION_FAULTED, 0);
	assert_int_equal(region_after_read(region, 0, 1, &place), 1);
	assert_code(region_check_read(region, 0, 1, &place), 0);
	assert_code(region_after_read(region, 0, 1, &place), 0);
	shmb_region_free(region);
	shmb_client_free(client);
	fake_stop(fake);
}

/* Somebody mends just when another looks for what is lost: the list of that is shut, and whoever
 * looks into it waits for the mender. */
static struct meeting {
	struct shmb_region *region;
	void *list;
	_Atomic bool looking, mended;
} meeting;

static void on_look(int number)
{
	(void)number;
	mprotect(meeting.list, PAGE, PROT_READ | PROT_WRITE);
	atomic_store(&meeting.looking, true);
	while (!atomic_load(&meeting.mended))
		sched_yield();
}

static void *mend_when_looked_for(void *argument)
{
	uint8_t byte;

	while (!atomic_load(&meeting.looking))
		sched_yield();
	assert_code(shmb_region_read_u8(meeting.region, PAGE, &byte), 0);
	atomic_store(&meeting.mended, true);
	return argument;
}

static void what_comes_back_during_the_look_is_read_again(void **state)
{
	const struct sigaction look = { .sa_handler = on_look };
	struct fake *fake = fake_start();
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct sigaction before;
	struct region_place place;
	pthread_t thread;
	uint8_t byte;

	options.flags = SHMB_KEEP_FD;
	assert_code(shmb_region_create(client, "a", 4 * PAGE, &options, &meeting.region), 0);
	assert_code(shmb_guard_install(), 0); /* cmocka has set its own for each test */
	assert_int_equal(ftruncate(shmb_region_fd(meeting.region), 2 * PAGE), 0);
	assert_code(shmb_region_read_u8(meeting.region, 3 * PAGE, &byte), SHMB_EBUS);
	assert_code(region_check_read(meeting.region, PAGE, 1, &place), 0);
	assert_int_equal(ftruncate(shmb_region_fd(meeting.region), 0), 0);
	assert_int_equal(*(volatile unsigned char *)place.data, 0);
	assert_int_equal(ftruncate(shmb_region_fd(meeting.region), 2 * PAGE), 0);

	meeting.list = (void *)atomic_load(&meeting.region->mapped)->guarded.lost;
	assert_int_equal(sigaction(SIGSEGV, &look, &before), 0);
	assert_int_equal(pthread_create(&thread, NULL, mend_when_looked_for, NULL), 0);
	assert_int_equal(mprotect(meeting.list, PAGE, PROT_NONE), 0);
	assert_int_equal(region_after_read(meeting.region, PAGE, 1, &place), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
	shmb_region_free(meeting.region);
	shmb_client_free(client);
	fake_stop(fake);
}

/* The mapping is kept, or not: then so is nothing else. */
static int keep(struct shmb_region *region, const struct region_place *place, uint64_t offset)
{
	struct mapped *mapped;
	uint64_t since;
	int result = region_keep(region, offset, PAGE, place, &mapped, &since);

	if (result == 0)
		mapped_release(mapped);
	assert_int_equal(atomic_load(&atomic_load(&region->mapped)->holds), 0);
	return result;
}

/* As long as nobody holds the mapping, it is not remembered what came back: so what is held is
 * looked at once more. */
static void what_vanishes_before_it_is_held_is_looked_at_again(void **state)
{
	struct fake *fake = fake_start();
	struct shmb_client *client = fake_connect(fake, 5000);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	struct region_place place;
	uint8_t byte;

	options.flags = SHMB_KEEP_FD;
	assert_code(shmb_region_create(client, "a", 4 * PAGE, &options, &region), 0);
	assert_code(shmb_guard_install(), 0); /* cmocka has set its own for each test */
	assert_code(region_check_read(region, PAGE, PAGE, &place), 0);
	assert_int_equal(keep(region, &place, PAGE), 0);

	/* Lost; and also if it is there again. */
	assert_int_equal(ftruncate(shmb_region_fd(region), 0), 0);
	assert_int_equal(*(volatile unsigned char *)place.data, 0);
	assert_int_equal(keep(region, &place, PAGE), 1);
	assert_int_equal(ftruncate(shmb_region_fd(region), 2 * PAGE), 0);
	assert_code(shmb_region_read_u8(region, PAGE, &byte), 0);
	assert_int_equal(keep(region, &place, PAGE), 1);

	/* The same where something else is lost anyway. */
	assert_code(shmb_region_read_u8(region, 3 * PAGE, &byte), SHMB_EBUS);
	assert_code(region_check_read(region, PAGE, PAGE, &place), 0);
	assert_int_equal(keep(region, &place, PAGE), 0);
	assert_int_equal(ftruncate(shmb_region_fd(region), 0), 0);
	assert_int_equal(*(volatile unsigned char *)place.data, 0);
	assert_int_equal(keep(region, &place, PAGE), 1);
	shmb_region_free(region);
	shmb_client_free(client);
	fake_stop(fake);
}

/* In a forked child nobody mends, and nobody who faults waits for it. What it has replaced must not
 * be taken for mended. */
static void who_does_not_wait_is_noticed(void **state)
{
	int fd, status;
	struct mapping mapping = map_file(&fd, 2);
	struct guarded guarded = { .entry = 0 };
	_Atomic uint32_t word = 0;
	uint64_t offset, length;
	pid_t pid;

	assert_code(shmb_guard_install(), 0);
	assert_code(guard_add(&guarded, &mapping, &word, 1), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	guard_pause(&guarded);
	pid = fork();
	if (pid == 0) {
		bool fine = ((volatile char *)mapping.data)[PAGE] == 0 &&
			    !guard_forget(&guarded, PAGE, PAGE) &&
			    guard_find_lost(&guarded, 0, 2 * PAGE, &offset, &length);

		guard_resume(&guarded);
		guard_pause(&guarded);
		fine = fine && guard_forget(&guarded, PAGE, PAGE) &&
		       !guard_find_lost(&guarded, 0, 2 * PAGE, &offset, &length);
		_exit(fine ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	guard_resume(&guarded);
	guard_remove(&guarded);
	map_release(&mapping);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_lost_is_found_whatever_is_asked),
		cmocka_unit_test(many_mappings_are_told_apart),
		cmocka_unit_test(who_faults_waits_for_who_mends),
		cmocka_unit_test(what_came_back_in_between_is_read_again),
		cmocka_unit_test(what_comes_back_during_the_look_is_read_again),
		cmocka_unit_test(what_vanishes_before_it_is_held_is_looked_at_again),
		cmocka_unit_test(who_does_not_wait_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
