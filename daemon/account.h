/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ACCOUNT_H
#define DAEMON_ACCOUNT_H

/* What each user's clients have caused: charged before it is made, given back when it is gone. */

#include "options.h"

#include <sys/types.h>

struct account;

struct accounts {
	struct account *table;
	uint64_t total[CHARGE_COUNT];
};

/* account_get() - the account of a user, made if need be, with a reference; NULL: out of memory */
struct account *account_get(struct accounts *accounts, uid_t uid);

/* account_put() - let a reference go; takes NULL */
void account_put(struct account *account);

/* account_charge() - Return: true, or false: @limit would be passed (nothing is charged) */
bool account_charge(struct account *account, enum charge charge, uint64_t amount, uint64_t limit);

void account_uncharge(struct account *account, enum charge charge, uint64_t amount);

uint64_t account_used(const struct account *account, enum charge charge);
uid_t account_uid(const struct account *account);

#endif
