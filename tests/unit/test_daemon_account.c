/* SPDX-License-Identifier: MIT */
/* Charges: nothing is lost, nothing is doubled, no limit is passed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "account.h"

static void one_account_for_each_user(void **state)
{
	struct accounts accounts = { 0 };
	struct account *a = account_get(&accounts, 1), *b = account_get(&accounts, 2);

	assert_non_null(a);
	assert_ptr_not_equal(a, b);
	assert_ptr_equal(account_get(&accounts, 1), a);
	assert_int_equal(account_uid(a), 1);
	account_put(a);
	account_put(a);
	account_put(b);
	assert_null(accounts.table);
	account_put(NULL);
}

static void charges_up_to_the_limit(void **state)
{
	struct accounts accounts = { 0 };
	struct account *a = account_get(&accounts, 1), *b = account_get(&accounts, 2);

	assert_true(account_charge(a, CHARGE_BYTES, 60, 100));
	assert_false(account_charge(a, CHARGE_BYTES, 41, 100));
	assert_true(account_charge(a, CHARGE_BYTES, 40, 100));
	assert_true(account_charge(b, CHARGE_BYTES, 100, 100));
	assert_int_equal(account_used(a, CHARGE_BYTES), 100);
	assert_int_equal(account_used(a, CHARGE_REGIONS), 0);
	assert_int_equal(accounts.total[CHARGE_BYTES], 200);
	account_uncharge(a, CHARGE_BYTES, 100);
	account_uncharge(b, CHARGE_BYTES, 100);
	assert_int_equal(accounts.total[CHARGE_BYTES], 0);
	account_put(a);
	account_put(b);
}

/* A limit that a reload has lowered below what is used refuses, and does not wrap. */
static void no_overflow(void **state)
{
	struct accounts accounts = { 0 };
	struct account *a = account_get(&accounts, 1);

	assert_true(account_charge(a, CHARGE_BYTES, UINT64_MAX, UINT64_MAX));
	assert_false(account_charge(a, CHARGE_BYTES, 1, UINT64_MAX));
	assert_false(account_charge(a, CHARGE_BYTES, 1, 10));
	assert_true(account_charge(a, CHARGE_BYTES, 0, UINT64_MAX));
	account_uncharge(a, CHARGE_BYTES, UINT64_MAX);
	account_put(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_account_for_each_user),
		cmocka_unit_test(charges_up_to_the_limit),
		cmocka_unit_test(no_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
