/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_COPY_H
#define CLIENT_COPY_H

#include <stddef.h>
#include <string.h>

#include "sanitize.h"

/*
 * copy_racing() - copy what others may be writing meanwhile; whether they did is found out after
 *
 * ThreadSanitizer would report just that, so it gets a loop that it does not look into.
 */
#ifdef CLIENT_TSAN
__attribute__((no_sanitize("thread"), noinline)) static void copy_racing(void *to, const void *from,
									 size_t length)
{
	volatile unsigned char *target = to;
	const volatile unsigned char *source = from;

	for (size_t i = 0; i < length; i++)
		target[i] = source[i];
}
#else
static inline void copy_racing(void *to, const void *from, size_t length)
{
	if (length > 0)
		memcpy(to, from, length);
}
#endif

#endif
