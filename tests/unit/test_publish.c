/* SPDX-License-Identifier: MIT */
/*
 * The publish page: what each call does by itself, that hostile contents break nothing, and that in
 * a storm of threads no publish is lost, no range torn and no sleeper forgotten.
 */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "layout/futex.h"
#include "layout/publish.h"

static const int64_t SECOND = 1000000000;

/* A reader's and a writer's mapping of one page. */
struct pages {
	struct layout_publish *page;
	const struct layout_publish *view;
};

static int open_pages(void **state)
{
	static struct pages pages;
	int fd = memfd_create("publish", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(*pages.page)), 0);
	pages.page = mmap(NULL, sizeof(*pages.page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	pages.view = mmap(NULL, sizeof(*pages.view), PROT_READ, MAP_SHARED, fd, 0);
	assert_true(pages.page != MAP_FAILED && pages.view != MAP_FAILED);
	close(fd);
	*state = &pages;
	return 0;
}

static int close_pages(void **state)
{
	struct pages *pages = *state;

	munmap(pages->page, sizeof(*pages->page));
	munmap((void *)(uintptr_t)pages->view, sizeof(*pages->view));
	return 0;
}

/* ---- Duties ---- */

static void publishing_counts_and_asks_for_nothing(void **state)
{
	struct pages *pages = *state;

	for (uint64_t i = 1; i <= 20; i++) {
		assert_int_equal(layout_publish(pages->page, 0, 0), 0);
		assert_int_equal(layout_publish_sequence(pages->view), i);
	}
}

static void readers_are_always_woken(void **state)
{
	struct pages *pages = *state;

	atomic_store(&pages->page->readers, 1);
	assert_int_equal(layout_publish(pages->page, 0, 0), LAYOUT_DUTY_WAKE);
	assert_int_equal(layout_publish(pages->page, 0, 0), LAYOUT_DUTY_WAKE);
	atomic_store(&pages->page->readers, 0);
	assert_int_equal(layout_publish(pages->page, 0, 0), 0);
}

static void sleepers_are_woken_once(void **state)
{
	struct pages *pages = *state;
	/* Also where the announcement, of 31 bits, wraps around. */
	static const uint64_t starts[] = { 0,          1,          0x3fffffff, 0x40000000,
					   0x7ffffffe, 0x7fffffff, 0x80000000, 0xfffffffe,
					   0xffffffff, 0x100000000 };

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		atomic_store(&pages->page->sequence, starts[i]);
		layout_publish_announce(pages->page);
		layout_publish_announce(pages->page);
		assert_int_equal(layout_publish(pages->page, 0, 0), LAYOUT_DUTY_WAKE);
		assert_int_equal(layout_publish(pages->page, 0, 0), 0);
		/* One left behind by a sleeper that died long ago is cleared as well. */
		layout_publish_announce(pages->page);
		atomic_fetch_add(&pages->page->sequence, 1000000);
		assert_int_equal(layout_publish(pages->page, 0, 0), LAYOUT_DUTY_WAKE);
		assert_int_equal(layout_publish(pages->page, 0, 0), 0);
	}
}

static void a_slow_publisher_leaves_later_announcements(void **state)
{
	struct pages *pages = *state;

	/* Publisher of 5 has added, not yet looked; a waiter that has seen 5 announces. */
	atomic_store(&pages->page->sequence, 5);
	layout_publish_announce(pages->page);
	atomic_store(&pages->page->sequence, 4);
	assert_int_equal(layout_publish(pages->page, 0, 0),
			 LAYOUT_DUTY_WAKE); /* this is 5, looking */
	assert_int_not_equal(atomic_load(&pages->page->sleepers), 0);
	/* An earlier waiter does not take the announcement back. */
	atomic_store(&pages->page->sequence, 3);
	layout_publish_announce(pages->page);
	atomic_store(&pages->page->sequence, 4);
	assert_int_equal(layout_publish(pages->page, 0, 0), LAYOUT_DUTY_WAKE);
	/* 6 wakes and clears, 7 is free. */
	assert_int_equal(layout_publish(pages->page, 0, 0), LAYOUT_DUTY_WAKE);
	assert_int_equal(layout_publish(pages->page, 0, 0), 0);
}

static void the_broker_is_told_once(void **state)
{
	struct pages *pages = *state;

	atomic_store(&pages->page->armed, 1);
	assert_int_equal(layout_publish(pages->page, 0, 0), LAYOUT_DUTY_TELL);
	assert_int_equal(layout_publish(pages->page, 0, 0), 0);
	layout_publish_rearm(pages->page);
	layout_publish_announce(pages->page);
	assert_int_equal(layout_publish(pages->page, 1, 1), LAYOUT_DUTY_WAKE | LAYOUT_DUTY_TELL);
	assert_int_equal(layout_publish(pages->page, 1, 1), 0);
}

/* ---- Ranges ---- */

static void expect_range(const struct layout_publish *page, uint64_t seen, uint64_t now,
			 uint64_t offset, uint64_t length)
{
	uint64_t got_offset = 0, got_length = 0;

	assert_true(layout_publish_range(page, seen, now, &got_offset, &got_length));
	assert_int_equal(got_offset, offset);
	assert_int_equal(got_length, length);
}

static void expect_no_range(const struct layout_publish *page, uint64_t seen, uint64_t now)
{
	uint64_t offset = 7, length = 7;

	assert_false(layout_publish_range(page, seen, now, &offset, &length));
	assert_true(offset == 7 && length == 7);
}

static void ranges_are_united(void **state)
{
	struct pages *pages = *state;

	expect_no_range(pages->view, 0, 0);
	layout_publish(pages->page, 100, 10);
	layout_publish(pages->page, 300, 1);
	layout_publish(pages->page, 90, 15);
	layout_publish(pages->page, UINT64_MAX - 5, 5);
	expect_range(pages->view, 0, 1, 100, 10);
	expect_range(pages->view, 1, 2, 300, 1);
	expect_range(pages->view, 0, 3, 90, 211);
	expect_range(pages->view, 1, 3, 90, 211);
	expect_range(pages->view, 2, 4, 90, UINT64_MAX - 90);
	expect_no_range(pages->view, 4, 4);
	expect_no_range(pages->view, 4, 5); /* not yet there */
	expect_no_range(pages->view, 4, 3); /* backwards */
	expect_no_range(pages->view, 0, UINT64_MAX);
}

static void only_the_last_eight_are_known(void **state)
{
	struct pages *pages = *state;

	for (uint64_t i = 1; i <= 20; i++)
		layout_publish(pages->page, i * 10, 10);
	expect_range(pages->view, 12, 20, 130, 80);
	expect_range(pages->view, 19, 20, 200, 10);
	expect_no_range(pages->view, 11, 20); /* nine */
	expect_no_range(pages->view, 11, 12); /* its slot has been taken */
}

static void a_publish_without_a_range_covers_all(void **state)
{
	struct pages *pages = *state;

	layout_publish(pages->page, 0, 0);
	assert_int_equal(atomic_load(&pages->page->ranged), 0);
	expect_no_range(pages->view, 0, 1);
	layout_publish(pages->page, 10, 10);
	layout_publish(pages->page, 0, 0);
	layout_publish(pages->page, 20, 10);
	expect_range(pages->view, 1, 2, 10, 10);
	expect_no_range(pages->view, 1, 3);
	expect_no_range(pages->view, 1, 4);
	expect_range(pages->view, 3, 4, 20, 10);
}

static void hostile_ranges_break_nothing(void **state)
{
	static const uint64_t values[] = { 0,
					   1,
					   7,
					   8,
					   9,
					   UINT64_MAX,
					   UINT64_MAX - 1,
					   LAYOUT_RANGE_WRITING,
					   LAYOUT_RANGE_WRITING | 8,
					   LAYOUT_RANGE_WRITING - 1 };
	enum { N = sizeof(values) / sizeof(values[0]) };
	struct pages *pages = *state;
	struct layout_publish *page = pages->page;

	atomic_store(&page->ranged, 1);
	for (size_t i = 0; i < N * N * N * N; i++) {
		uint64_t offset = 0, length = 0, now = values[i / N / N / N];
		struct layout_range *range = &page->ranges[now % LAYOUT_PUBLISH_RANGES];

		atomic_store(&range->stamp, values[i % N]);
		atomic_store(&range->offset, values[i / N % N]);
		atomic_store(&range->length, values[i / N / N % N]);
		if (layout_publish_range(pages->view, now - 1, now, &offset, &length)) {
			assert_true(length > 0);
			assert_true(offset <= UINT64_MAX - length);
		}
		/* Publishing goes on from any sequence and any stamp. */
		atomic_store(&page->sequence, now);
		layout_publish(page, 3, 4);
		assert_int_equal(layout_publish_sequence(page), now + 1);
	}
}

static void a_publisher_that_died_costs_its_slot_alone(void **state)
{
	struct pages *pages = *state;

	layout_publish(pages->page, 1, 1);
	atomic_store(&pages->page->ranges[2].stamp, 2 | LAYOUT_RANGE_WRITING);
	atomic_store(&pages->page->sequence, 2);
	for (int i = 3; i <= 12; i++)
		layout_publish(pages->page, 1, 1);
	expect_no_range(pages->view, 1, 2);
	expect_no_range(pages->view, 9, 10);
	expect_range(pages->view, 10, 12, 1, 1);
}

/* ---- Futex ---- */

static void a_futex_sleeps_only_on_the_expected_word(void **state)
{
	struct pages *pages = *state;
	const uint32_t *word = layout_publish_futex(pages->view);

	atomic_store(&pages->page->sequence, UINT64_C(0x700000001));
	assert_int_equal(futex_wait(word, 2, 60 * SECOND), 0);
	assert_int_equal(futex_wait(word, 1, SECOND / 1000), -ETIMEDOUT);
	assert_int_equal(futex_wait(word, 1, 0), -ETIMEDOUT);
	assert_int_equal(futex_wait(word, 1, -1), -ETIMEDOUT);
	assert_int_equal(futex_wait(NULL, 1, 60 * SECOND), -EFAULT);
	futex_wake_all(word);
}

/* ---- Storms ---- */

enum { THREADS = 4, ROUNDS = 20000 };

/* Publishes are told apart by their range: the length follows from the offset. */
static uint64_t length_for(uint64_t offset)
{
	return offset * 3 + 1;
}

struct storm {
	struct pages *pages;
	atomic_bool over;
	atomic_ullong published;
};

static void *publish_many(void *userdata)
{
	struct storm *storm = userdata;
	uint64_t i;

	for (i = 0; !atomic_load(&storm->over); i++) {
		uint64_t offset = i * THREADS + 1;
		if (layout_publish(storm->pages->page, offset, length_for(offset)) &
		    LAYOUT_DUTY_WAKE)
			futex_wake_all(layout_publish_futex(storm->pages->page));
	}
	atomic_fetch_add(&storm->published, i);
	return NULL;
}

static void no_publish_is_lost_and_no_range_torn(void **state)
{
	enum { ENOUGH = 1000, TOO_MANY = 1 << 28 };
	struct storm storm = { .pages = *state };
	const struct layout_publish *view = storm.pages->view;
	pthread_t threads[THREADS];
	uint64_t known = 0, torn = 0, now = 0, before = 0;

	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, publish_many, &storm), 0);
	/* How many ranges can be had depends on the scheduler: go on until some were. */
	while (known < ENOUGH && now >= before && now < TOO_MANY) {
		uint64_t offset, length;

		before = now;
		now = layout_publish_sequence(view);
		if (now > 0 && layout_publish_range(view, now - 1, now, &offset, &length)) {
			torn += length != length_for(offset);
			known++;
		}
	}
	atomic_store(&storm.over, true);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(now >= before);
	assert_int_equal(torn, 0);
	assert_int_equal(known, ENOUGH);
	assert_int_equal(layout_publish_sequence(view), atomic_load(&storm.published));
}

/* Every publish into one and the same slot, as fast as it goes. */
static void *overwrite_one_slot(void *userdata)
{
	struct storm *storm = userdata;
	struct layout_publish *page = storm->pages->page;

	for (uint64_t i = 1; !atomic_load(&storm->over); i++) {
		atomic_store(&page->sequence, i * LAYOUT_PUBLISH_RANGES - 1);
		layout_publish(page, i, length_for(i));
	}
	return NULL;
}

static void a_range_overwritten_while_it_is_read_is_not_used(void **state)
{
	enum { TRIES = 3000000 };
	struct storm storm = { .pages = *state };
	const struct layout_publish *view = storm.pages->view;
	uint64_t torn = 0, offset, length;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, overwrite_one_slot, &storm), 0);
	for (int i = 0; i < TRIES; i++) {
		uint64_t now = layout_publish_sequence(view);
		if (now == 0 || now % LAYOUT_PUBLISH_RANGES != 0)
			continue;
		if (layout_publish_range(view, now - 1, now, &offset, &length))
			torn += length != length_for(offset);
	}
	atomic_store(&storm.over, true);
	pthread_join(thread, NULL);
	assert_int_equal(torn, 0);
}

/* Several take turns on one page, and each sleeps until its turn has come. */
struct turns {
	struct pages *pages;
	uint64_t *plain; /* not atomic: publishing is what orders it */
	uint64_t number;
	bool by_reader; /* waits through the read-only mapping, unannounced */
	bool failed;
};

static bool await_turn(struct turns *turns, uint64_t turn)
{
	const struct layout_publish *view =
		turns->by_reader ? turns->pages->view : turns->pages->page;
	uint64_t now;

	while ((now = layout_publish_sequence(view)) < turn) {
		if (!turns->by_reader)
			layout_publish_announce(turns->pages->page);
		if (layout_publish_sequence(view) != now)
			continue;
		/* Far beyond any scheduling delay: to time out is to have been forgotten. */
		if (futex_wait(layout_publish_futex(view), (uint32_t)now, 30 * SECOND) < 0)
			return false;
	}
	/* The thread sanitizer goes by address and does not know that both mappings are one memory:
	 * for it, look at the writers' one, too. */
	return layout_publish_sequence(turns->pages->page) >= turn;
}

static void *take_turns(void *userdata)
{
	struct turns *turns = userdata;

	for (uint64_t turn = turns->number; turn < ROUNDS; turn += THREADS) {
		if (!await_turn(turns, turn) || *turns->plain != turn) {
			turns->failed = true;
			return NULL;
		}
		*turns->plain = turn + 1;
		if (layout_publish(turns->pages->page, 0, 0) & LAYOUT_DUTY_WAKE)
			futex_wake_all(layout_publish_futex(turns->pages->page));
	}
	return NULL;
}

static void run_turns(struct pages *pages, bool by_readers)
{
	struct turns turns[THREADS];
	pthread_t threads[THREADS];
	uint64_t plain = 0;

	atomic_store(&pages->page->readers, by_readers);
	for (size_t i = 0; i < THREADS; i++) {
		turns[i] = (struct turns){
			.pages = pages, .plain = &plain, .number = i, .by_reader = by_readers
		};
		assert_int_equal(pthread_create(&threads[i], NULL, take_turns, &turns[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_false(turns[i].failed);
	}
	assert_int_equal(plain, ROUNDS);
	assert_int_equal(layout_publish_sequence(pages->view), ROUNDS);
}

static void no_sleeping_writer_is_forgotten(void **state)
{
	run_turns(*state, false);
}

static void no_sleeping_reader_is_forgotten(void **state)
{
	run_turns(*state, true);
}

#define WITH_PAGES(test) cmocka_unit_test_setup_teardown(test, open_pages, close_pages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PAGES(publishing_counts_and_asks_for_nothing),
		WITH_PAGES(readers_are_always_woken),
		WITH_PAGES(sleepers_are_woken_once),
		WITH_PAGES(a_slow_publisher_leaves_later_announcements),
		WITH_PAGES(the_broker_is_told_once),
		WITH_PAGES(ranges_are_united),
		WITH_PAGES(only_the_last_eight_are_known),
		WITH_PAGES(a_publish_without_a_range_covers_all),
		WITH_PAGES(hostile_ranges_break_nothing),
		WITH_PAGES(a_publisher_that_died_costs_its_slot_alone),
		WITH_PAGES(a_futex_sleeps_only_on_the_expected_word),
		WITH_PAGES(no_publish_is_lost_and_no_range_torn),
		WITH_PAGES(a_range_overwritten_while_it_is_read_is_not_used),
		WITH_PAGES(no_sleeping_writer_is_forgotten),
		WITH_PAGES(no_sleeping_reader_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
