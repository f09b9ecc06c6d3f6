/* SPDX-License-Identifier: MIT */
/* The parts that need no broker: addresses, structs of different age, errors, the fork word. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <shmbroker/shmbroker.h>

#include "address.h"
#include "error.h"
#include "fake_broker.h"
#include "fork.h"
#include "sized.h"

/* ---- Addresses ---- */

static void assert_address(const char *address, int code, const char *path)
{
	char got[128] = "untouched";

	assert_code(address_resolve(address, got, sizeof(got)), code);
	if (path)
		assert_string_equal(got, path);
}

static void an_address_names_one_socket(void **state)
{
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	unsetenv("SHMB_ADDRESS");
	assert_address("system", 0, "/run/shmbroker/broker.sock");
	assert_address("user", 0, "/run/user/7/shmbroker/broker.sock");
	assert_address(NULL, 0, "/run/user/7/shmbroker/broker.sock");
	assert_address("/a/b", 0, "/a/b");
	assert_address("./b", 0, "./b");
	assert_address("users", SHMB_EINVAL, NULL);
	assert_address("", SHMB_EINVAL, NULL);
}

static void the_environment_chooses_for_null_only(void **state)
{
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	setenv("SHMB_ADDRESS", "/tmp/x", 1);
	assert_address(NULL, 0, "/tmp/x");
	assert_address("user", 0, "/run/user/7/shmbroker/broker.sock");
	setenv("SHMB_ADDRESS", "system", 1);
	assert_address(NULL, 0, "/run/shmbroker/broker.sock");
	setenv("SHMB_ADDRESS", "nonsense", 1);
	assert_address(NULL, SHMB_EINVAL, NULL);
	setenv("SHMB_ADDRESS", "", 1);
	assert_address(NULL, SHMB_EINVAL, NULL);
	unsetenv("SHMB_ADDRESS");
}

static void without_a_runtime_directory_there_is_no_user_broker(void **state)
{
	unsetenv("SHMB_ADDRESS");
	unsetenv("XDG_RUNTIME_DIR");
	assert_address("user", SHMB_ENOENT, NULL);
	assert_address(NULL, SHMB_ENOENT, NULL);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	assert_address("user", SHMB_ENOENT, NULL);
}

static void a_path_that_does_not_fit_is_refused(void **state)
{
	char path[64];

	assert_code(address_resolve("/0123456", path, 8), SHMB_EINVAL);
	assert_code(address_resolve("/012345", path, 8), 0);
}

/* ---- Structs of different age ---- */

struct today {
	size_t struct_size;
	uint32_t a, b;
};

struct tomorrow {
	size_t struct_size;
	uint32_t a, b;
	uint64_t c;
};

static void an_older_struct_keeps_our_defaults(void **state)
{
	struct today ours = { sizeof(ours), 1, 2 };
	struct today theirs = { offsetof(struct today, b), 7, 8 };

	assert_code(sized_read(&ours, sizeof(ours), &theirs), 0);
	assert_int_equal(ours.a, 7);
	assert_int_equal(ours.b, 2);
	assert_code(sized_read(&ours, sizeof(ours), NULL), 0);
	theirs.struct_size = sizeof(size_t) - 1;
	assert_code(sized_read(&ours, sizeof(ours), &theirs), SHMB_EINVAL);
}

static void a_newer_struct_may_not_ask_for_what_we_do_not_know(void **state)
{
	struct today ours = { sizeof(ours), 1, 2 };
	struct tomorrow theirs = { sizeof(theirs), 7, 8, 0 };

	assert_code(sized_read(&ours, sizeof(ours), &theirs), 0);
	assert_int_equal(ours.a, 7);
	assert_int_equal(ours.b, 8);
	theirs.c = UINT64_C(1) << 40;
	assert_code(sized_read(&ours, sizeof(ours), &theirs), SHMB_EINVAL);
}

static void outputs_are_filled_as_far_as_the_caller_knows(void **state)
{
	struct today ours = { sizeof(ours), 1, 2 };
	struct today older = { offsetof(struct today, b), 77, 88 };
	struct tomorrow newer = { sizeof(newer), 77, 88, 99 };

	sized_write(&older, &ours, sizeof(ours));
	assert_int_equal(older.struct_size, offsetof(struct today, b));
	assert_int_equal(older.a, 1);
	assert_int_equal(older.b, 88);
	sized_write(&newer, &ours, sizeof(ours));
	assert_int_equal(newer.struct_size, sizeof(newer));
	assert_int_equal(newer.b, 2);
	assert_int_equal(newer.c, 0);
}

/* ---- Errors ---- */

static void every_code_has_name_and_sentence(void **state)
{
#define CHECK_ERROR(identifier, number, name, sentence)                \
	assert_string_equal(shmb_error_name(SHMB_##identifier), name); \
	assert_string_equal(shmb_strerror(SHMB_##identifier), sentence);
	SHMB_ERROR_MAP(CHECK_ERROR)
	assert_string_equal(shmb_error_name(12345), "unknown");
	assert_string_equal(shmb_strerror(-4242), "unknown error");
	assert_string_equal(shmb_error_name(0), "ok"); /* for who prints before looking */
	assert_string_equal(shmb_strerror(0), "no error");
	assert_string_equal(shmb_version(), "0.1.0");
}

static void assert_sentence(struct shmb_error error, const char *expected)
{
	char text[256], little[8];

	error.struct_size = sizeof(error);
	assert_int_equal(shmb_error_format(&error, text, sizeof(text)), strlen(expected));
	assert_string_equal(text, expected);
	assert_int_equal(shmb_error_format(&error, little, sizeof(little)), strlen(expected));
	assert_int_equal(little[7], '\0');
	assert_int_equal(shmb_error_format(&error, NULL, 0), strlen(expected));
}

static void the_sentence_has_the_particulars(void **state)
{
	assert_sentence(
		(struct shmb_error){
			.code = SHMB_EBOUNDS, .offset = 4092, .length = 8, .size = 4096 },
		"out of bounds: 8 bytes at offset 4092 of a region of 4096 bytes");
	assert_sentence((struct shmb_error){ .code = SHMB_EALIGN, .offset = 6, .alignment = 4 },
			"misaligned offset: 6 is not a multiple of 4");
	assert_sentence((struct shmb_error){ .code = SHMB_EDQUOT,
					     .limit = 65536,
					     .what = "regions-per-user" },
			"a limit for this user is reached: regions-per-user "
			"(limit 65536)");
	assert_sentence(
		(struct shmb_error){
			.code = SHMB_EFBIG, .length = 9, .limit = 8, .what = "capacity" },
		"too large: capacity (9 asked for) (limit 8)");
	assert_sentence((struct shmb_error){ .code = SHMB_EOVERFLOW, .length = 9, .limit = 8 },
			"value too large: 9 bytes do not fit into 8");
	assert_sentence((struct shmb_error){ .code = SHMB_ENOENT }, "nothing of that name");
	assert_sentence((struct shmb_error){ .code = 0 }, "no error");
}

static void an_older_error_struct_still_gives_a_sentence(void **state)
{
	struct shmb_error error = { .struct_size = offsetof(struct shmb_error, what),
				    .code = SHMB_EDQUOT,
				    .limit = 5 };
	char text[256];

	memset(error.what, 'x', sizeof(error.what)); /* not the caller's to have */
	shmb_error_format(&error, text, sizeof(text));
	assert_string_equal(text, "a limit for this user is reached (limit 5)");
}

static void system_errors_become_ours(void **state)
{
	assert_int_equal(error_from_errno(ENOSPC), SHMB_ENOSPC);
	assert_int_equal(error_from_errno(EMFILE), SHMB_EMFILE);
	assert_int_equal(error_from_errno(EPERM), SHMB_EACCES);
	assert_int_equal(error_from_errno(EPIPE), SHMB_EDISCONNECTED);
	assert_int_equal(error_from_errno(ENOBUFS), SHMB_ENOMEM);
	assert_int_equal(error_from_errno(ENOTTY), SHMB_EUNKNOWN);
}

/* ---- The fork word ---- */

static int is_foreign(void *argument)
{
	return fork_crossed(*(uint32_t *)argument) ? 0 : 5;
}

static int child_differs(void *argument)
{
	uint32_t theirs = *(uint32_t *)argument, mine, again;

	if (!fork_crossed(theirs))
		return 1;
	if (fork_generation(&mine) < 0 || mine == theirs || mine == 0 || fork_crossed(mine))
		return 2;
	if (fork_generation(&again) < 0 || again != mine)
		return 3;
	if (!fork_crossed(theirs)) /* still, with a generation of our own */
		return 4;
	return fake_in_child(is_foreign, &mine);
}

static void a_child_is_told_from_its_parent(void **state)
{
	uint32_t generation;

	assert_code(fork_generation(&generation), 0);
	assert_false(fork_crossed(generation));
	assert_int_equal(fake_in_child(child_differs, &generation), 0);
	assert_false(fork_crossed(generation));
}

static int use_fallback(void *argument)
{
	uint32_t generation;

	fork_force_fallback();
	if (fork_generation(&generation) < 0 || fork_crossed(generation))
		return 10;
	return fake_in_child(child_differs, &generation);
}

/* In a process of its own, before the word has been set up: main() runs it first. */
static int fallback_result;

static void without_wipe_on_fork_too(void **state)
{
	assert_int_equal(fallback_result, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_names_one_socket),
		cmocka_unit_test(the_environment_chooses_for_null_only),
		cmocka_unit_test(without_a_runtime_directory_there_is_no_user_broker),
		cmocka_unit_test(a_path_that_does_not_fit_is_refused),
		cmocka_unit_test(an_older_struct_keeps_our_defaults),
		cmocka_unit_test(a_newer_struct_may_not_ask_for_what_we_do_not_know),
		cmocka_unit_test(outputs_are_filled_as_far_as_the_caller_knows),
		cmocka_unit_test(every_code_has_name_and_sentence),
		cmocka_unit_test(the_sentence_has_the_particulars),
		cmocka_unit_test(an_older_error_struct_still_gives_a_sentence),
		cmocka_unit_test(system_errors_become_ours),
		cmocka_unit_test(a_child_is_told_from_its_parent),
		cmocka_unit_test(without_wipe_on_fork_too),
	};

	fallback_result = fake_in_child(use_fallback, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
