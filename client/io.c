/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing in place: a few checks and a copy. Locks where it is told to, and takes
 * nothing that another process can write for more than a number to be bounded.
 */

#include "client.h"

#include <endian.h>
#include <string.h>

/* How far beyond the caller's buffer a string is looked for: reading a sparse region makes pages.
 */
enum { STRING_SCAN = 65536 };

static inline int check_read(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	int result = region_usable(region);

	if (unlikely(result < 0))
		return region_refuse(region, result, NULL);
	if (unlikely(!region_within(offset, length, region_bytes(region))))
		return region_refuse_bounds(region, offset, length);
	return 0;
}

static inline int check_write(struct shmb_region *region, uint64_t offset, uint64_t length)
{
	int result = region_usable(region);

	if (unlikely(result < 0))
		return region_refuse(region, result, NULL);
	if (unlikely(!(region->access & SHMB_WRITE)))
		return region_refuse(region, SHMB_EMODE, "write");
	if (unlikely(!region_within(offset, length, region_bytes(region))))
		return region_refuse_bounds(region, offset, length);
	return 0;
}

/* With SHMB_LOCKED. What is wrong with the call shows before waiting; the size may change
 * meanwhile.
 */
static int read_locked(struct shmb_region *region, uint64_t offset, void *buffer, size_t length,
		       unsigned flags)
{
	int result = check_read(region, offset, length);

	if (result == 0 && flags != SHMB_LOCKED)
		result = region_refuse(region, SHMB_EINVAL, "flags");
	if (result == 0)
		result = region_lock(region, SHMB_SHARED);
	if (result < 0)
		return result;
	result = check_read(region, offset, length);
	if (result == 0 && length > 0)
		memcpy(buffer, region->data + offset, length);
	region_unlock(region);
	return result;
}

static int write_locked(struct shmb_region *region, uint64_t offset, const void *buffer,
			size_t length, unsigned flags)
{
	int result = check_write(region, offset, length);

	if (result == 0 && flags != SHMB_LOCKED)
		result = region_refuse(region, SHMB_EINVAL, "flags");
	if (result == 0)
		result = region_lock(region, SHMB_EXCLUSIVE);
	if (result < 0)
		return result;
	result = check_write(region, offset, length);
	if (result == 0 && length > 0)
		memcpy(region->data + offset, buffer, length);
	region_unlock(region);
	return result;
}

int shmb_region_read(struct shmb_region *region, uint64_t offset, void *buffer, size_t length,
		     unsigned flags)
{
	int result;

	if (unlikely(flags != 0))
		return read_locked(region, offset, buffer, length, flags);
	result = check_read(region, offset, length);
	if (likely(result == 0 && length > 0))
		memcpy(buffer, region->data + offset, length);
	return result;
}

int shmb_region_write(struct shmb_region *region, uint64_t offset, const void *buffer,
		      size_t length, unsigned flags)
{
	int result;

	if (unlikely(flags != 0))
		return write_locked(region, offset, buffer, length, flags);
	result = check_write(region, offset, length);
	if (likely(result == 0 && length > 0))
		memcpy(region->data + offset, buffer, length);
	return result;
}

/* ---- Integers ---- */

#define READ_INTEGER(name, type, convert)                                                         \
	int shmb_region_read_##name(struct shmb_region *region, uint64_t offset, type *ret_value) \
	{                                                                                         \
		int result = check_read(region, offset, sizeof(type));                            \
		type value;                                                                       \
                                                                                                  \
		if (unlikely(result < 0))                                                         \
			return result;                                                            \
		memcpy(&value, region->data + offset, sizeof(value));                             \
		*ret_value = convert(value);                                                      \
		return 0;                                                                         \
	}

#define WRITE_INTEGER(name, type, convert)                                                    \
	int shmb_region_write_##name(struct shmb_region *region, uint64_t offset, type value) \
	{                                                                                     \
		int result = check_write(region, offset, sizeof(type));                       \
                                                                                              \
		if (unlikely(result < 0))                                                     \
			return result;                                                        \
		value = convert(value);                                                       \
		memcpy(region->data + offset, &value, sizeof(value));                         \
		return 0;                                                                     \
	}

#define AS_IT_IS(value) (value)

READ_INTEGER(u8, uint8_t, AS_IT_IS)
READ_INTEGER(u16, uint16_t, AS_IT_IS)
READ_INTEGER(u32, uint32_t, AS_IT_IS)
READ_INTEGER(u64, uint64_t, AS_IT_IS)
READ_INTEGER(u16_le, uint16_t, le16toh)
READ_INTEGER(u32_le, uint32_t, le32toh)
READ_INTEGER(u64_le, uint64_t, le64toh)
WRITE_INTEGER(u8, uint8_t, AS_IT_IS)
WRITE_INTEGER(u16, uint16_t, AS_IT_IS)
WRITE_INTEGER(u32, uint32_t, AS_IT_IS)
WRITE_INTEGER(u64, uint64_t, AS_IT_IS)
WRITE_INTEGER(u16_le, uint16_t, htole16)
WRITE_INTEGER(u32_le, uint32_t, htole32)
WRITE_INTEGER(u64_le, uint64_t, htole64)

/* ---- Strings ---- */

static int refuse_string(struct shmb_region *region, uint64_t offset, uint64_t length,
			 size_t capacity)
{
	struct shmb_error error = {
		.code = SHMB_EOVERFLOW,
		.offset = offset,
		.length = length,
		.size = region_bytes(region),
		.limit = capacity,
	};

	return error_set(&region->error, &error);
}

/*
 * How many bytes the string takes, its NUL included.
 *
 * Return: 0, SHMB_EBOUNDS or SHMB_EOVERFLOW.
 */
static int measure_string(struct shmb_region *region, uint64_t offset, size_t capacity,
			  size_t *ret_bytes)
{
	uint64_t size = region_bytes(region), left = size - offset, scan = left;
	const unsigned char *start = region->data + offset, *nul;

	if (offset >= size) /* smaller since the caller looked */
		return region_refuse_bounds(region, offset, 1);
	if (scan > STRING_SCAN && scan - STRING_SCAN > capacity)
		scan = (uint64_t)capacity + STRING_SCAN;
	nul = memchr(start, '\0', (size_t)scan);
	if (!nul && scan == left)
		return region_refuse_bounds(region, offset, left + 1);
	if (!nul)
		return refuse_string(region, offset, scan, capacity);
	*ret_bytes = (size_t)(nul - start) + 1;
	return *ret_bytes <= capacity ? 0 : refuse_string(region, offset, *ret_bytes, capacity);
}

int64_t shmb_region_read_string(struct shmb_region *region, uint64_t offset, char *buffer,
				size_t capacity)
{
	int result = check_read(region, offset, 1);
	size_t bytes = 0;

	if (result == 0)
		result = measure_string(region, offset, capacity, &bytes);
	if (result < 0)
		return result;
	memcpy(buffer, region->data + offset, bytes);
	/* Another process may have written meanwhile: what was copied is what counts. */
	buffer[bytes - 1] = '\0';
	return (int64_t)strlen(buffer);
}

int shmb_region_write_string(struct shmb_region *region, uint64_t offset, const char *string)
{
	return shmb_region_write(region, offset, string, strlen(string) + 1, 0);
}

/* ---- Views and flush ---- */

static int refuse_alignment(struct shmb_region *region, uint64_t offset, size_t length,
			    size_t alignment)
{
	struct shmb_error error = {
		.code = SHMB_EALIGN,
		.offset = offset,
		.length = length,
		.size = region_bytes(region),
		.alignment = alignment,
	};

	return error_set(&region->error, &error);
}

int shmb_region_view(struct shmb_region *region, uint64_t offset, size_t length, size_t alignment,
		     unsigned access, struct shmb_view *ret_view)
{
	int result;

	if (alignment == 0)
		alignment = 1;
	result = access & SHMB_WRITE ? check_write(region, offset, length)
				     : check_read(region, offset, length);
	if (result < 0)
		return result;
	if (access != SHMB_READ && access != (SHMB_READ | SHMB_WRITE))
		return region_refuse(region, SHMB_EINVAL, "access");
	if (length == 0)
		return region_refuse(region, SHMB_EINVAL, "length");
	if ((alignment & (alignment - 1)) != 0 || alignment > map_page_size())
		return region_refuse(region, SHMB_EINVAL, "alignment");
	if ((offset & (alignment - 1)) != 0)
		return refuse_alignment(region, offset, length, alignment);
	*ret_view = (struct shmb_view){
		.data = region->data + offset,
		.length = length,
		.region = region,
	};
	return 0;
}

int shmb_view_release(struct shmb_view *view)
{
	if (view)
		*view = (struct shmb_view){ .data = NULL };
	return 0;
}

int shmb_region_flush(struct shmb_region *region, uint64_t offset, uint64_t length, unsigned flags)
{
	int result = check_read(region, offset, length);
	uint64_t size;

	if (result < 0)
		return result;
	if (flags & ~(unsigned)SHMB_FLUSH_START)
		return region_refuse(region, SHMB_EINVAL, "flags");
	size = region_bytes(region);
	if (length == 0)
		length = offset < size ? size - offset : 0;
	result = map_flush(&region->data_mapping, offset, length);
	return result < 0 ? region_refuse(region, result, "flush") : 0;
}
