/* SPDX-License-Identifier: MIT */
/*
 * Copies between structs of different age. Knows nothing of what is in them but their first field.
 */

#include "sized.h"

#include <string.h>

#include <shmbroker/errors.h>

static size_t stated_size(const void *theirs)
{
	size_t stated;

	memcpy(&stated, theirs, sizeof(stated));
	return stated;
}

static void copy_fields(void *to, const void *from, size_t size)
{
	if (size > sizeof(size_t))
		memcpy((char *)to + sizeof(size_t), (const char *)from + sizeof(size_t),
		       size - sizeof(size_t));
}

int sized_read(void *ours, size_t size, const void *theirs)
{
	const unsigned char *bytes = theirs;
	size_t stated;

	if (!theirs)
		return 0;
	stated = stated_size(theirs);
	if (stated < sizeof(size_t))
		return SHMB_EINVAL;
	for (size_t i = size; i < stated; i++)
		if (bytes[i] != 0)
			return SHMB_EINVAL;
	copy_fields(ours, theirs, stated < size ? stated : size);
	return 0;
}

void sized_read_prefix(void *ours, size_t size, const void *theirs)
{
	size_t stated = stated_size(theirs);

	copy_fields(ours, theirs, stated < size ? stated : size);
}

void sized_write(void *theirs, const void *ours, size_t size)
{
	size_t stated = stated_size(theirs);

	copy_fields(theirs, ours, stated < size ? stated : size);
	if (stated > size)
		memset((char *)theirs + size, 0, stated - size);
}
