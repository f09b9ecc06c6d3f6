/* SPDX-License-Identifier: MIT */
/*
 * Per-user accounting. Pure bookkeeping: must not know what the charges are for.
 */
#include "account.h"

#include "table.h"

#include <assert.h>
#include <stdlib.h>

struct account {
	uid_t uid;
	unsigned references;
	struct accounts *accounts;
	uint64_t used[CHARGE_COUNT];
	UT_hash_handle hh;
};

struct account *account_get(struct accounts *accounts, uid_t uid)
{
	struct account *account;

	HASH_FIND(hh, accounts->table, &uid, sizeof(uid), account);
	if (!account) {
		account = calloc(1, sizeof(*account));
		if (!account)
			return NULL;
		account->uid = uid;
		account->accounts = accounts;
		HASH_ADD(hh, accounts->table, uid, sizeof(uid), account);
		if (!TABLE_HAS(account)) {
			free(account);
			return NULL;
		}
	}
	account->references++;
	return account;
}

void account_put(struct account *account)
{
	if (!account || --account->references > 0)
		return;
	HASH_DELETE(hh, account->accounts->table, account);
	free(account);
}

bool account_charge(struct account *account, enum charge charge, uint64_t amount, uint64_t limit)
{
	uint64_t used = account->used[charge];

	if (amount > limit || used > limit - amount)
		return false;
	account->used[charge] = used + amount;
	account->accounts->total[charge] += amount;
	return true;
}

void account_uncharge(struct account *account, enum charge charge, uint64_t amount)
{
	assert(account->used[charge] >= amount);
	account->used[charge] -= amount;
	account->accounts->total[charge] -= amount;
}

uint64_t account_used(const struct account *account, enum charge charge)
{
	return account->used[charge];
}

uid_t account_uid(const struct account *account)
{
	return account->uid;
}
