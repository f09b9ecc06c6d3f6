/* SPDX-License-Identifier: MIT */
/*
 * Guarded looks: memory that vanishes under them, one inside another, and a SIGBUS that is not
 * theirs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"

enum { BYTES = 8192 };

static int segment(void)
{
	int fd = memfd_create("guard", MFD_CLOEXEC);

	guard_init(); /* cmocka takes the signal for itself at the begin of each test */
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	return fd;
}

static volatile unsigned char *bytes_of(const struct guard *guard)
{
	return guard->data;
}

static void what_is_there_is_seen_and_changed(void **state)
{
	int fd = segment();
	struct guard guard;
	unsigned char byte;

	assert_int_equal(guard_open(&guard, fd, BYTES - 100), 0);
	bytes_of(&guard)[BYTES - 1] = 7;
	assert_true(guard_close(&guard));
	assert_int_equal(guard_read(fd, &byte, 1, BYTES - 1), 0);
	assert_int_equal(byte, 7);
	close(fd);
}

static void what_vanishes_is_zeros_from_then_on(void **state)
{
	int fd = segment();
	struct guard guard;

	assert_int_equal(guard_open(&guard, fd, BYTES), 0);
	bytes_of(&guard)[0] = 7;
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(bytes_of(&guard)[0], 0);
	bytes_of(&guard)[BYTES - 1] = 1;
	assert_int_equal(bytes_of(&guard)[BYTES - 1], 1);
	assert_false(guard_close(&guard));
	assert_int_equal(guard_error(fd, BYTES), -EIO);
	close(fd);
}

static void looks_inside_looks_are_told_apart(void **state)
{
	int gone = segment(), there = segment();
	struct guard outer, inner;

	assert_int_equal(guard_open(&outer, gone, BYTES), 0);
	assert_int_equal(guard_open(&inner, there, BYTES), 0);
	assert_int_equal(ftruncate(gone, 0), 0);
	bytes_of(&inner)[0] = 7;
	assert_int_equal(bytes_of(&outer)[0], 0);
	assert_true(guard_close(&inner));
	assert_int_equal(bytes_of(&outer)[BYTES - 1], 0);
	assert_false(guard_close(&outer));
	/* Nothing of it is left for the next. */
	assert_int_equal(guard_open(&outer, there, BYTES), 0);
	assert_int_equal(bytes_of(&outer)[0], 7);
	assert_true(guard_close(&outer));
	close(gone);
	close(there);
}

static void a_mapping_that_stays_is_good_again_and_again(void **state)
{
	int fd = segment();
	unsigned char *data = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct guard guard;
	unsigned char byte;

	assert_ptr_not_equal(data, MAP_FAILED);
	for (int i = 1; i < 3; i++) {
		guard_enter(&guard, data, BYTES);
		data[0] = (unsigned char)i;
		assert_true(guard_leave(&guard));
		assert_int_equal(guard_read(fd, &byte, 1, 0), 0);
		assert_int_equal(byte, i);
	}
	assert_int_equal(ftruncate(fd, 0), 0);
	guard_enter(&guard, data, BYTES);
	data[0] = 7;
	assert_false(guard_leave(&guard));
	assert_int_equal(munmap(data, BYTES), 0);
	close(fd);
}

static void a_word_that_was_not_there_is_there_after_a_touch(void **state)
{
	int fd = segment();

	assert_int_equal(guard_touch(fd, BYTES, 4096), 0);
	assert_int_equal(lseek(fd, 0, SEEK_DATA), 4096);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(guard_touch(fd, BYTES, 4096), -EIO);
	close(fd);
}

static void a_bus_error_elsewhere_ends_the_process(void **state)
{
	int fd = segment(), status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct guard guard;
		volatile unsigned char *other = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);

		if (guard_open(&guard, segment(), BYTES) < 0 || ftruncate(fd, 0) < 0)
			_exit(1);
		_exit(other[0] + 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_there_is_seen_and_changed),
		cmocka_unit_test(what_vanishes_is_zeros_from_then_on),
		cmocka_unit_test(looks_inside_looks_are_told_apart),
		cmocka_unit_test(a_mapping_that_stays_is_good_again_and_again),
		cmocka_unit_test(a_word_that_was_not_there_is_there_after_a_touch),
		cmocka_unit_test(a_bus_error_elsewhere_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
