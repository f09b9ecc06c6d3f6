/* SPDX-License-Identifier: MIT */
/*
 * Access decisions. Must not know regions, peers or I/O: everything it needs is an argument.
 */
#include "policy.h"

#include <shmbroker/shmbroker.h>

#include <stdlib.h>

unsigned policy_rights(const struct identity *who, uid_t owner, gid_t group, uint32_t mode)
{
	unsigned bits;

	if (who->uid == 0)
		return SHMB_READ | SHMB_WRITE | SHMB_LOCK;
	if (who->uid == owner)
		bits = (mode >> 6) & 7;
	else if (identity_in_group(who, group))
		bits = (mode >> 3) & 7;
	else
		bits = mode & 7;
	if (bits & SHMB_WRITE)
		bits |= SHMB_LOCK;
	return bits;
}

bool policy_owns(const struct identity *who, uid_t owner)
{
	return who->uid == 0 || who->uid == owner;
}

bool policy_visible(const struct identity *who, uid_t owner, gid_t group, uint32_t mode)
{
	return policy_owns(who, owner) || policy_rights(who, owner, group, mode) != 0;
}

bool policy_may_create(const struct identity *who, const char *name)
{
	if (name[0] != '~' || who->uid == 0)
		return true;
	return strtoull(name + 1, NULL, 10) == who->uid;
}

bool policy_may_chown(const struct identity *who, uid_t owner, gid_t group, uid_t new_owner,
		      gid_t new_group)
{
	if (who->uid == 0)
		return true;
	return who->uid == owner && new_owner == owner &&
	       (new_group == group || identity_in_group(who, new_group));
}
