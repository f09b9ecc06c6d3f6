/* SPDX-License-Identifier: MIT */
/*
 * Two ways to ask whether memory is of huge pages: they agree, and each says no more than it knows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <shmbroker/memory.h>

#include "map.h"

#ifdef SHMB_TEST_GENERIC

static void huge_pages_are_unknown_here(void **state)
{
	assert_int_equal(map_huge_unit(), 0);
	assert_int_equal(map_supports(SHMB_FEATURE_HUGETLB), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(huge_pages_are_unknown_here) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include "pages_linux.h"

enum { LENGTH = 8 << 20 };

/* Not beside others of its kind: the kernel would make one mapping of them. */
static char *map_private(void)
{
	size_t huge = map_huge_unit();
	char *room = mmap(NULL, 3 * LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *data;

	assert_true(room != MAP_FAILED);
	data = room + LENGTH;
	data += huge > 0 ? -(uintptr_t)data & (huge - 1) : 0;
	assert_int_equal(mprotect(data, LENGTH, PROT_READ | PROT_WRITE), 0);
	return data;
}

static void check_both(const char *data, size_t length, int expected)
{
	int scanned = pages_huge_by_scan(data, length);

	assert_int_equal(pages_huge_by_smaps(data, length), expected);
	if (scanned >= 0) /* -1: a kernel before 6.7 */
		assert_int_equal(scanned, expected);
}

static void nothing_present_is_unknown(void **state)
{
	check_both(map_private(), LENGTH, SHMB_UNKNOWN);
}

static void ordinary_pages_are_no(void **state)
{
	char *data = map_private();

	(void)madvise(data, LENGTH, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < LENGTH; i += 8192) /* each a stretch of its own: many looks */
		data[i] = 1;
	check_both(data, LENGTH, SHMB_NO);
}

static void huge_pages_are_yes_and_one_other_makes_it_no(void **state)
{
	char *data = map_private();
	size_t huge = map_huge_unit();

	if (huge == 0 || huge > LENGTH / 2 || madvise(data, LENGTH, MADV_HUGEPAGE) != 0)
		skip();
	data[0] = data[huge] = 1;
	if (pages_huge_by_smaps(data, LENGTH) != SHMB_YES)
		skip(); /* none to be had */
	check_both(data, LENGTH, SHMB_YES);
	assert_int_equal(madvise(data + huge, huge, MADV_NOHUGEPAGE), 0);
	assert_int_equal(madvise(data + huge, huge, MADV_DONTNEED), 0);
	data[huge] = 1;
	check_both(data, LENGTH, SHMB_NO);
}

static void numbers_are_read(void **state)
{
	assert_true(pages_number("/proc/meminfo", "MemTotal:") > 0);
	assert_int_equal(pages_number("/proc/meminfo", "NoSuchThing:"), 0);
	assert_int_equal(pages_number("/no/such/file", NULL), 0);
	assert_int_equal(pages_number("/proc/self/stat", NULL), getpid());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_present_is_unknown),
		cmocka_unit_test(ordinary_pages_are_no),
		cmocka_unit_test(huge_pages_are_yes_and_one_other_makes_it_no),
		cmocka_unit_test(numbers_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
