/* SPDX-License-Identifier: MIT */
/*
 * Which broker a program means. Each word names exactly one socket, and nothing falls back to
 * another, so that two programs cannot miss each other. May read the environment; opens nothing.
 */

#include "address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shmbroker/errors.h>

static const char system_socket[] = "/run/shmbroker/broker.sock";

static int copy_path(const char *directory, const char *path, char *ret_path, size_t capacity)
{
	int length = snprintf(ret_path, capacity, "%s%s", directory, path);

	return length >= 0 && (size_t)length < capacity ? 0 : SHMB_EINVAL;
}

static int resolve_user(char *ret_path, size_t capacity)
{
	/* Set-user-ID programs must not be led to a broker of their caller's choice. */
	const char *directory = secure_getenv("XDG_RUNTIME_DIR");

	if (!directory || directory[0] != '/')
		return SHMB_ENOENT;
	return copy_path(directory, "/shmbroker/broker.sock", ret_path, capacity);
}

int address_resolve(const char *address, char *ret_path, size_t capacity)
{
	if (!address)
		address = secure_getenv("SHMB_ADDRESS");
	if (!address || strcmp(address, "user") == 0)
		return resolve_user(ret_path, capacity);
	if (strcmp(address, "system") == 0)
		return copy_path("", system_socket, ret_path, capacity);
	if (strchr(address, '/'))
		return copy_path("", address, ret_path, capacity);
	return SHMB_EINVAL;
}
