/* SPDX-License-Identifier: MIT */
/* Who may do what: every class of caller against every mode. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "policy.h"

#include <shmbroker/shmbroker.h>

static gid_t groups[] = { 50, 60 };

static struct identity who(uid_t uid, gid_t gid)
{
	return (struct identity){
		.uid = uid, .gid = gid, .pidfd = -1, .groups = groups, .n_groups = 2
	};
}

static unsigned with_lock(unsigned bits)
{
	return bits & SHMB_WRITE ? bits | SHMB_LOCK : bits;
}

static void rights_by_class(void **state)
{
	const struct identity owner = who(1000, 1000), member = who(1001, 100),
			      supplementary = who(1002, 7), other = who(1003, 8), root = who(0, 0);

	for (uint32_t mode = 0; mode <= 0777; mode++) {
		assert_int_equal(policy_rights(&owner, 1000, 100, mode), with_lock(mode >> 6));
		assert_int_equal(policy_rights(&member, 1000, 100, mode),
				 with_lock((mode >> 3) & 7));
		assert_int_equal(policy_rights(&supplementary, 1000, 60, mode),
				 with_lock((mode >> 3) & 7));
		assert_int_equal(policy_rights(&other, 1000, 100, mode), with_lock(mode & 7));
		assert_int_equal(policy_rights(&root, 1000, 100, mode), 7);
	}
}

/* As in the file system: the first class that fits decides, even if a later one would give more. */
static void first_class_decides(void **state)
{
	const struct identity owner = who(1000, 100);

	assert_int_equal(policy_rights(&owner, 1000, 100, 0077), 0);
	assert_int_equal(policy_rights(&owner, 1001, 100, 0707), 0);
}

static void visibility(void **state)
{
	const struct identity owner = who(1000, 1000), other = who(1001, 1001), root = who(0, 0);

	assert_true(policy_visible(&owner, 1000, 1000, 0));
	assert_true(policy_visible(&root, 1000, 1000, 0));
	assert_false(policy_visible(&other, 1000, 1000, 0770));
	assert_true(policy_visible(&other, 1000, 1000, 0771));
}

static void owned_names(void **state)
{
	const struct identity user = who(1000, 1000), root = who(0, 0);

	assert_true(policy_may_create(&user, "a/b"));
	assert_true(policy_may_create(&user, "~1000/a"));
	assert_false(policy_may_create(&user, "~1001/a"));
	assert_false(policy_may_create(&user, "~0/a"));
	assert_true(policy_may_create(&root, "~1001/a"));
}

static void changing_owners(void **state)
{
	const struct identity owner = who(1000, 1000), other = who(1001, 1001), root = who(0, 0);

	assert_true(policy_may_chown(&root, 1000, 1000, 5, 6));
	assert_false(policy_may_chown(&owner, 1000, 1000, 1001, 1000));
	assert_true(policy_may_chown(&owner, 1000, 1000, 1000, 60));
	assert_true(policy_may_chown(&owner, 1000, 77, 1000, 77));
	assert_false(policy_may_chown(&owner, 1000, 1000, 1000, 77));
	assert_false(policy_may_chown(&other, 1000, 1000, 1000, 50));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rights_by_class), cmocka_unit_test(first_class_decides),
		cmocka_unit_test(visibility),      cmocka_unit_test(owned_names),
		cmocka_unit_test(changing_owners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
