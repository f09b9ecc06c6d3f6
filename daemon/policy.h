/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_POLICY_H
#define DAEMON_POLICY_H

/* Who may do what. Pure functions of an identity and what the broker itself keeps about a region.
 */

#include "identity.h"

#include <stdint.h>

/* policy_rights() - the enum shmb_access bits that a region's mode gives; write implies lock */
unsigned policy_rights(const struct identity *who, uid_t owner, gid_t group, uint32_t mode);

/* policy_owns() - may administer (remove, chmod): the owner, or root */
bool policy_owns(const struct identity *who, uid_t owner);

/* policy_visible() - may know that the region exists */
bool policy_visible(const struct identity *who, uid_t owner, gid_t group, uint32_t mode);

/* policy_may_create() - does the name belong to nobody else */
bool policy_may_create(const struct identity *who, const char *name);

/* policy_may_chown() - root anything; the owner only the group, to one of its own */
bool policy_may_chown(const struct identity *who, uid_t owner, gid_t group, uid_t new_owner,
		      gid_t new_group);

#endif
