/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_SYSTEM_H
#define CLIENT_MAP_SYSTEM_H

/*
 * What differs between Unix systems, for map_unix.c and the guard: map_linux.c has it, and
 * map_generic.c says of each thing that it is not there. Ranges are whole units of the mapping.
 * Functions that return an int return 0 or an SHMB_E..., except where told.
 */

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "map.h"

#ifndef MAP_NORESERVE /* FreeBSD: it never sets any aside */
#define MAP_NORESERVE 0
#endif

/* system_unit() - bytes of a page of this segment, of which fstat() said @status */
size_t system_unit(int fd, const struct stat *status);

/* system_fixed_flag(), system_sync_flags() - for mmap(): what makes it refuse an address that is
 * taken, 0: nothing does; what to say instead of MAP_SHARED for MAP_SYNC, 0: there is none */
int system_fixed_flag(void);
int system_sync_flags(void);

/* system_no_dump() - leave it out of core dumps, where that can be said */
int system_no_dump(void *data, size_t length);

/* system_allocate() - as fallocate(2). Return: 0 or an errno. */
int system_allocate(int fd, uint64_t offset, uint64_t length);

/* system_populate() - Return: 0, SHMB_ENOMEM, SHMB_EBUS, SHMB_EACCES, or SHMB_ENOTSUP: touch them.
 */
int system_populate(void *data, size_t length, bool write);

/* system_flush_start() - begin to write back a range of a shared mapping of the file @fd (-1: not
 * known). Return: 0 or an errno. */
int system_flush_start(int fd, void *data, uint64_t offset, size_t length);

/* system_flush_end() - what msync(2) leaves to be done before the bytes are on the disk. Return: 0
 * or an errno. */
int system_flush_end(int fd);

/*
 * system_pin(), system_unpin() - mlock(2), munlock(2)
 * system_pin_on_fault() - the first without making anything present
 *
 * Return: 0 or an errno.
 */
int system_pin(void *data, size_t length);
int system_pin_on_fault(void *data, size_t length);
int system_unpin(void *data, size_t length);

/* system_advice() - for madvise(2). Return: the system's number, -1: it has none. */
int system_advice(enum shmb_advice advice);

/* system_prefetch() - read a range of a file ahead; where nothing does that it is done without.
 * Return: 0 or an errno. */
int system_prefetch(int fd, uint64_t offset, uint64_t length);

/* system_has_advice() - does this kernel know it? */
bool system_has_advice(int number);

/* system_huge() - Return: enum shmb_answer. */
int system_huge(const void *data, size_t length);

/* system_huge_unit() - as map_huge_unit() */
size_t system_huge_unit(void);

/* system_raise_again() - a signal that this thread is handling comes once more, with all that it
 * said. Callable from signal handlers. */
void system_raise_again(const siginfo_t *info);

/* system_supports() - what map_unix.c cannot tell by itself. Return: 1 or 0. */
int system_supports(enum shmb_feature feature);

#endif
