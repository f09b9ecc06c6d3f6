/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PAGES_LINUX_H
#define CLIENT_PAGES_LINUX_H

/* What /proc says of pages; for map_linux.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* pages_number() - the first number of a small file, or the one behind the word @name; 0: none */
uint64_t pages_number(const char *path, const char *name);

/* pages_can_tell() - is there any of the two ways below? */
bool pages_can_tell(void);

/*
 * pages_huge_by_scan() - is what is present of a range of this process of huge pages? Looks at the
 * range alone; Linux 6.7
 * pages_huge_by_smaps() - the same by the text that every kernel has, and looks at all of the
 * process
 *
 * Return: enum shmb_answer; the first also -1: this kernel has no such call.
 */
int pages_huge_by_scan(const void *data, size_t length);
int pages_huge_by_smaps(const void *data, size_t length);

#endif
