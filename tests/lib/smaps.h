/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SMAPS_H
#define TESTS_SMAPS_H

/* What the kernel says of this process's mappings, without the library's help. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* smaps_bytes() - a field of /proc/self/smaps such as "Locked", added up over the mappings that lie
 * in a range */
uint64_t smaps_bytes(const void *data, size_t length, const char *field);

/* smaps_flag() - do all of them have a flag of VmFlags, such as "dc"? */
bool smaps_flag(const void *data, size_t length, const char *flag);

/* smaps_protection() - "rw-s" and the like, of the mapping that an address lies in; "": there is
 * none. A static buffer. */
const char *smaps_protection(const void *address);

/* resident() - pages of a range that are in memory, by mincore(2) */
size_t resident(void *data, size_t length);

/* pool_free() - pages that the system's pool of huge pages can still promise; *ret_bytes: of each
 */
uint64_t pool_free(uint64_t *ret_bytes);

#endif
