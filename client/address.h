/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_ADDRESS_H
#define CLIENT_ADDRESS_H

/* Which broker a program means. */

#include <stddef.h>

/*
 * address_resolve() - the socket path behind an address
 * @address: "system", "user", a path (anything with a '/'), or NULL: $SHMB_ADDRESS, else "user"
 *
 * Return: 0, SHMB_EINVAL, or SHMB_ENOENT (the user's runtime directory is not known).
 */
int address_resolve(const char *address, char *ret_path, size_t capacity);

#endif
