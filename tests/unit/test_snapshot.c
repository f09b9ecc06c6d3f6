/* SPDX-License-Identifier: MIT */
/* Snapshots: what each step does to the sequence, and that beside a writing thread no copy is torn.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layout/snapshot.h"

static void a_quiet_page_is_snapped(void **state)
{
	struct layout_publish page = { 0 };
	uint64_t sequence = 1;

	assert_true(layout_snapshot_begin(&page, &sequence));
	assert_int_equal(sequence, 0);
	assert_true(layout_snapshot_end(&page, sequence));
	layout_snapshot_write(&page);
	assert_false(layout_snapshot_end(&page, sequence));
	assert_false(layout_snapshot_begin(&page, &sequence));
	layout_snapshot_written(&page);
	assert_false(layout_snapshot_end(&page, 0));
	assert_true(layout_snapshot_begin(&page, &sequence));
	assert_true(layout_snapshot_end(&page, sequence));
}

static void a_dead_writer_leaves_it_odd(void **state)
{
	struct layout_publish page = { 0 };
	uint64_t sequence;

	layout_snapshot_write(&page);
	layout_snapshot_write(&page); /* the next holder */
	assert_false(layout_snapshot_begin(&page, &sequence));
	layout_snapshot_written(&page);
	assert_true(layout_snapshot_begin(&page, &sequence));
	assert_int_equal(sequence, 2);
	/* Given back without a bracket of its own. */
	layout_snapshot_written(&page);
	assert_true(layout_snapshot_begin(&page, &sequence));
	assert_int_equal(sequence, 4);
}

static void the_sequence_wraps(void **state)
{
	struct layout_publish page = { 0 };
	uint64_t sequence;

	atomic_store(&page.writing, UINT64_MAX - 1);
	assert_true(layout_snapshot_begin(&page, &sequence));
	layout_snapshot_write(&page);
	layout_snapshot_written(&page);
	assert_int_equal(atomic_load(&page.writing), 0);
	assert_false(layout_snapshot_end(&page, sequence));
}

enum { WORDS = 64, ROUNDS = 20000 };

struct shared {
	struct layout_publish page;
	_Atomic uint64_t data[WORDS];
};

static void *write_rounds(void *argument)
{
	struct shared *shared = argument;

	for (uint64_t round = 1; round <= ROUNDS; round++) {
		layout_snapshot_write(&shared->page);
		for (int i = 0; i < WORDS; i++)
			atomic_store_explicit(&shared->data[i], round, memory_order_relaxed);
		layout_snapshot_written(&shared->page);
	}
	return NULL;
}

static void no_copy_is_torn(void **state)
{
	static struct shared shared;
	pthread_t writer;
	uint64_t last = 0;
	int good = 0;

	assert_int_equal(pthread_create(&writer, NULL, write_rounds, &shared), 0);
	while (last < ROUNDS) {
		uint64_t copy[WORDS], sequence;

		if (!layout_snapshot_begin(&shared.page, &sequence))
			continue;
		for (int i = 0; i < WORDS; i++)
			copy[i] = atomic_load_explicit(&shared.data[i], memory_order_relaxed);
		if (!layout_snapshot_end(&shared.page, sequence))
			continue;
		for (int i = 1; i < WORDS; i++)
			assert_true(copy[i] == copy[0]);
		assert_true(copy[0] >= last && copy[0] == sequence / 2);
		last = copy[0];
		good++;
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_true(good > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_quiet_page_is_snapped),
		cmocka_unit_test(a_dead_writer_leaves_it_odd),
		cmocka_unit_test(the_sequence_wraps),
		cmocka_unit_test(no_copy_is_torn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
