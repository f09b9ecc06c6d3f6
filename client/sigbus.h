/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SIGBUS_H
#define CLIENT_SIGBUS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * guard_handle() - the handler asks: is that memory ours? Then it is replaced by private zeros
 * @bytes: how much of it is bad
 *
 * Return: false: it is not, or there is no memory for zeros.
 */
bool guard_handle(const void *address, size_t bytes);

#endif
