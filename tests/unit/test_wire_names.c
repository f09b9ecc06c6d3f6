/* SPDX-License-Identifier: MIT */
/* Region names and error names: small vocabularies that both sides must read alike. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "wire/wire.h"

static bool is_name(const char *name)
{
	return wire_name_check(name, strlen(name), false);
}

static bool is_prefix(const char *name)
{
	return wire_name_check(name, strlen(name), true);
}

static void names_that_are(void **state)
{
	static const char *const names[] = {
		"a",    "video/cam0", "A-Z_09.x",        "...",       ".a", "a/.../b", "..a/b..",
		"~0/a", "~1000/a",    "~4294967294/x/y", "a/0/b/c/d", "-",  "_",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!is_name(names[i]))
			fail_msg("refused: %s", names[i]);
		/* Every beginning of a name is a prefix. */
		for (size_t n = 0; n <= strlen(names[i]); n++) {
			if (!wire_name_check(names[i], n, true))
				fail_msg("refused as prefix: %.*s", (int)n, names[i]);
		}
	}
}

static void names_that_are_not(void **state)
{
	static const char *const names[] = {
		"",
		"/",
		"/a",
		"a/",
		"a//b",
		".",
		"..",
		"a/.",
		"a/..",
		"./a",
		"../a",
		"a/../b",
		"a b",
		"a\n",
		"a\\b",
		"\xc3\xa4",
		"a~",
		"a/~1/b",
		"~",
		"~/a",
		"~1000",
		"~1000/",
		"~x/a",
		"~01/a",
		"~00/a",
		"~4294967295/a",
		"~4294967296/a",
		"~99999999999/a",
		"~-1/a",
		"~+1/a",
		"~ 1/a",
		"~1.0/a",
		"*",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (is_name(names[i]))
			fail_msg("taken: %s", names[i]);
	}
	assert_false(wire_name_check("a\0b", 3, false));
	assert_false(wire_name_check("a\0", 2, true));
}

static void prefixes_that_are_not(void **state)
{
	static const char *const prefixes[] = {
		"/",  "a//", "./",  "../x",        "a/../", "~/",
		"~x", "~1x", "~01", "~4294967295", "a b",   "a/~",
	};
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (is_prefix(prefixes[i]))
			fail_msg("taken: %s", prefixes[i]);
	}
	assert_true(is_prefix(""));
}

static void names_have_a_greatest_length(void **state)
{
	char name[201];

	memset(name, 'n', sizeof(name));
	assert_true(wire_name_check(name, 200, false));
	assert_false(wire_name_check(name, 201, false));
	assert_false(wire_name_check(name, 201, true));
}

static void errors_keep_their_number_over_the_wire(void **state)
{
#define ROUND_TRIP(identifier, number, name, sentence)                                \
	assert_int_equal(wire_error_code(wire_error_name(SHMB_##identifier),          \
					 strlen(wire_error_name(SHMB_##identifier))), \
			 SHMB_##identifier);                                          \
	assert_string_equal(wire_error_sentence(SHMB_##identifier), sentence);        \
	/* It must fit into error.code. */                                            \
	assert_true(strlen(name) <= 32);
	SHMB_ERROR_MAP(ROUND_TRIP)
}

static void other_errors_are_unknown(void **state)
{
	assert_string_equal(wire_error_name(0), "unknown");
	assert_string_equal(wire_error_name(12345), "unknown");
	assert_string_equal(wire_error_sentence(-99999), wire_error_sentence(SHMB_EUNKNOWN));
	assert_int_equal(wire_error_code("not-foun", 8), SHMB_EUNKNOWN);
	assert_int_equal(wire_error_code("not-founds", 10), SHMB_EUNKNOWN);
	assert_int_equal(wire_error_code("", 0), SHMB_EUNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_are),
		cmocka_unit_test(names_that_are_not),
		cmocka_unit_test(prefixes_that_are_not),
		cmocka_unit_test(names_have_a_greatest_length),
		cmocka_unit_test(errors_keep_their_number_over_the_wire),
		cmocka_unit_test(other_errors_are_unknown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
