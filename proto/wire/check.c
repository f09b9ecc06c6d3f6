/* SPDX-License-Identifier: MIT */
/*
 * The structural scan of a packet. msgpack-c allocates what a header announces before it has seen
 * the bytes, so that five bytes can ask for gigabytes; this scan runs first and lets only such
 * input through as was sent in full. It knows MessagePack's layout and nothing of our messages.
 */

#include "wire/check.h"
#include "wire/wire.h"

struct head {
	bool valid;
	unsigned length_bytes; /* big-endian length or count behind the first byte */
	size_t fixed;          /* payload bytes known from the first byte */
	uint64_t count;        /* length or count known from the first byte */
	bool container;
	unsigned objects_per_count; /* 2: map */
};

/* The first bytes 0xc0 to 0xdf; the ranges around them are in read_head(). */
static const struct head heads[32] = {
	[0x00] = { .valid = true },                    /* nil */
	[0x02] = { .valid = true },                    /* false */
	[0x03] = { .valid = true },                    /* true */
	[0x04] = { .valid = true, .length_bytes = 1 }, /* bin 8 */
	[0x05] = { .valid = true, .length_bytes = 2 },
	[0x06] = { .valid = true, .length_bytes = 4 },
	[0x07] = { .valid = true, .length_bytes = 1, .fixed = 1 }, /* ext 8: length, type */
	[0x08] = { .valid = true, .length_bytes = 2, .fixed = 1 },
	[0x09] = { .valid = true, .length_bytes = 4, .fixed = 1 },
	[0x0a] = { .valid = true, .fixed = 4 }, /* float 32 */
	[0x0b] = { .valid = true, .fixed = 8 },
	[0x0c] = { .valid = true, .fixed = 1 }, /* uint 8 */
	[0x0d] = { .valid = true, .fixed = 2 },
	[0x0e] = { .valid = true, .fixed = 4 },
	[0x0f] = { .valid = true, .fixed = 8 },
	[0x10] = { .valid = true, .fixed = 1 }, /* int 8 */
	[0x11] = { .valid = true, .fixed = 2 },
	[0x12] = { .valid = true, .fixed = 4 },
	[0x13] = { .valid = true, .fixed = 8 },
	[0x14] = { .valid = true, .fixed = 2 }, /* fixext 1: type, one byte */
	[0x15] = { .valid = true, .fixed = 3 },
	[0x16] = { .valid = true, .fixed = 5 },
	[0x17] = { .valid = true, .fixed = 9 },
	[0x18] = { .valid = true, .fixed = 17 },
	[0x19] = { .valid = true, .length_bytes = 1 }, /* str 8 */
	[0x1a] = { .valid = true, .length_bytes = 2 },
	[0x1b] = { .valid = true, .length_bytes = 4 },
	[0x1c] = { .valid = true, .length_bytes = 2, .container = true, .objects_per_count = 1 },
	[0x1d] = { .valid = true, .length_bytes = 4, .container = true, .objects_per_count = 1 },
	[0x1e] = { .valid = true, .length_bytes = 2, .container = true, .objects_per_count = 2 },
	[0x1f] = { .valid = true, .length_bytes = 4, .container = true, .objects_per_count = 2 },
};

static struct head read_head(uint8_t byte)
{
	if (byte >= 0xc0 && byte <= 0xdf)
		return heads[byte - 0xc0];
	if (byte >= 0x80 && byte <= 0x8f)
		return (struct head){ .valid = true,
				      .count = byte & 0xf,
				      .container = true,
				      .objects_per_count = 2 };
	if (byte >= 0x90 && byte <= 0x9f)
		return (struct head){ .valid = true,
				      .count = byte & 0xf,
				      .container = true,
				      .objects_per_count = 1 };
	if (byte >= 0xa0 && byte <= 0xbf)
		return (struct head){ .valid = true, .count = byte & 0x1f };
	return (struct head){ .valid = true }; /* small integers */
}

/*
 * One object's head, and its bytes if it is not a container. *ret_objects: how many objects follow
 * inside of it. Return: bytes taken, or 0 if it does not fit.
 */
static size_t take_object(const uint8_t *data, size_t length, bool *ret_container,
			  uint64_t *ret_objects)
{
	struct head head = read_head(data[0]);
	size_t taken = 1;
	uint64_t count = head.count;

	if (!head.valid || length - taken < head.length_bytes + head.fixed)
		return 0;
	for (unsigned i = 0; i < head.length_bytes; i++)
		count = count << 8 | data[taken++];
	taken += head.fixed;

	/* Every object inside takes a byte at least, as does every byte of a string. */
	if (head.container)
		count *= head.objects_per_count;
	if (count > length - taken)
		return 0;
	if (!head.container)
		taken += (size_t)count;
	*ret_container = head.container;
	*ret_objects = head.container ? count : 0;
	return taken;
}

bool wire_check(const uint8_t *data, size_t length)
{
	uint64_t left[WIRE_DEPTH_MAX + 1] = { 1 }; /* objects still to come, at each depth */
	size_t depth = 0, at = 0;

	for (;;) {
		uint64_t objects;
		bool container;
		size_t taken;

		while (left[depth] == 0) {
			if (depth-- == 0)
				return at == length;
		}
		if (at == length)
			return false;
		taken = take_object(data + at, length - at, &container, &objects);
		if (taken == 0)
			return false;
		at += taken;
		left[depth]--;
		if (container) {
			if (depth == WIRE_DEPTH_MAX)
				return false;
			left[++depth] = objects;
		}
	}
}
