/* SPDX-License-Identifier: MIT */
#ifndef CLI_LOCK_INFO_H
#define CLI_LOCK_INFO_H

/* How a lock is spelt, for the commands about locks. */

#include <shmbroker/shmbroker.h>

/* lock_print_json() - all of it as one object on standard output */
void lock_print_json(const struct shmb_lock_info *info);

/* lock_holder() - one who has it, or NULL: nobody has */
const struct shmb_process *lock_holder(const struct shmb_lock_info *info);

#endif
