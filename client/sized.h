/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SIZED_H
#define CLIENT_SIZED_H

/*
 * Public structs begin with struct_size, set by the caller to what its compiler knew, so that a
 * program and a library of different age understand each other (as copy_struct_from_user() does in
 * Linux).
 */

#include <stddef.h>

/*
 * sized_read() - take a caller's options over our defaults
 * @ours, @size: holds the defaults; a field the caller does not know keeps its own
 * @theirs:      begins with its struct_size; NULL: all defaults
 *
 * Return: 0, or SHMB_EINVAL (no plausible size, or a field that we do not know is set).
 */
int sized_read(void *ours, size_t size, const void *theirs);

/* sized_read_prefix() - the same, ignoring what we do not know; for what only gets described */
void sized_read_prefix(void *ours, size_t size, const void *theirs);

/* sized_write() - fill a caller's struct up to its struct_size, which stays; what we do not know is
 * zeroed */
void sized_write(void *theirs, const void *ours, size_t size);

#endif
