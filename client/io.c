/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing in place: a few checks and a copy. Locks where it is told to, and takes
 * nothing that another process can write for more than a number to be bounded.
 */

#include <endian.h>
#include <string.h>

#include <shmbroker/io.h>

#include "touch.h"

/* How far beyond the caller's buffer a string is looked for: reading a sparse region makes pages.
 */
enum { STRING_SCAN = 65536 };

/* Up to here it is copied word by word. To measure the copy of a longer one instead costs some
 * nanoseconds: the processor waits for its bytes to be stored before they can be loaded again. */
enum { STRING_SHORT = 256 };

/* ---- Copies ---- */

/*
 * The fast way is one piece that nothing comes in between; the slow one does it again from the
 * beginning, which nobody can tell from having come a moment later.
 */

static int copy_pieces_out(struct shmb_region *region, uint64_t offset, unsigned char *buffer,
			   uint64_t length, const struct region_place *place)
{
	struct region_place part = *place;
	uint64_t done = 0;
	int result;

	do {
		uint64_t piece = length - done < REGION_PIECE ? length - done : REGION_PIECE;

		if (piece > 0)
			memcpy(buffer + done, place->data + done, (size_t)piece);
		part.data = place->data + done;
		result = region_after_read(region, offset + done, piece, &part);
		done += piece;
	} while (result == 0 && done < length);
	return result;
}

static int copy_pieces_in(struct shmb_region *region, uint64_t offset, const unsigned char *buffer,
			  uint64_t length, const struct region_place *place)
{
	struct region_place part = *place;
	uint64_t done = 0;
	int result;

	do {
		uint64_t piece = length - done < REGION_PIECE ? length - done : REGION_PIECE;

		if (piece > 0)
			memcpy(place->data + done, buffer + done, (size_t)piece);
		part.data = place->data + done;
		/* It is one write for those who count, at the end. */
		result = region_after(region, REGION_LOST, offset + done, piece, &part);
		done += piece;
	} while (result == 0 && done < length);
	return result == 0 ? region_after_write(region, offset, length, place) : result;
}

static out_of_line int copy_out_slowly(struct shmb_region *region, uint64_t offset, void *buffer,
				       size_t length)
{
	struct region_place place;
	int result;

	do {
		result = region_check_read(region, offset, length, &place);
		if (result == 0)
			result = copy_pieces_out(region, offset, buffer, length, &place);
	} while (result > 0);
	return result;
}

static out_of_line int copy_in_slowly(struct shmb_region *region, uint64_t offset,
				      const void *buffer, size_t length)
{
	struct region_place place;
	int result;

	do {
		result = region_check_write(region, offset, length, &place);
		if (result == 0)
			result = copy_pieces_in(region, offset, buffer, length, &place);
	} while (result > 0);
	return result == 0 ? 0 : region_write_failed(region, result);
}

static always_inline int copy_out(struct shmb_region *region, uint64_t offset, void *buffer,
				  size_t length)
{
	struct region_place place;

	if (likely(length <= REGION_PIECE) &&
	    likely(region_check_fast(region, REGION_BARS_READ, offset, length, &place))) {
		if (likely(length > 0))
			memcpy(buffer, place.data + offset, length);
		if (likely(region_after_fast(region, &place)))
			return 0;
	}
	return copy_out_slowly(region, offset, buffer, length);
}

static always_inline int copy_in(struct shmb_region *region, uint64_t offset, const void *buffer,
				 size_t length)
{
	struct region_place place;

	if (likely(length <= REGION_PIECE) &&
	    likely(region_check_fast(region, REGION_BARS_WRITE_FAST, offset, length, &place))) {
		if (likely(length > 0))
			memcpy(place.data + offset, buffer, length);
		region_set_last_write(region, length);
		if (likely(region_after_fast(region, &place)))
			return 0;
	}
	return copy_in_slowly(region, offset, buffer, length);
}

int region_copy_out(struct shmb_region *region, uint64_t offset, void *buffer, size_t length)
{
	return copy_out(region, offset, buffer, length);
}

int region_copy_in(struct shmb_region *region, uint64_t offset, const void *buffer, size_t length)
{
	return copy_in(region, offset, buffer, length);
}

/* With SHMB_LOCKED. What is wrong with the call shows before waiting; the size may change
 * meanwhile.
 */
static out_of_line int read_locked(struct shmb_region *region, uint64_t offset, void *buffer,
				   size_t length, unsigned flags)
{
	struct region_place place;
	int result = region_check_read(region, offset, length, &place);

	if (result == 0 && flags != SHMB_LOCKED)
		result = region_refuse(region, SHMB_EINVAL, "flags");
	if (result == 0)
		result = region_lock(region, SHMB_SHARED);
	if (result < 0)
		return result;
	result = region_copy_out(region, offset, buffer, length);
	region_unlock(region);
	return result;
}

static out_of_line int write_locked(struct shmb_region *region, uint64_t offset, const void *buffer,
				    size_t length, unsigned flags)
{
	struct region_place place;
	int result = region_check_write(region, offset, length, &place);

	if (result == 0 && flags != SHMB_LOCKED)
		result = region_refuse(region, SHMB_EINVAL, "flags");
	if (result == 0)
		result = region_lock(region, SHMB_EXCLUSIVE);
	if (result < 0)
		return region_write_failed(region, result);
	result = region_copy_in(region, offset, buffer, length);
	region_unlock(region);
	return result;
}

int shmb_region_read(struct shmb_region *region, uint64_t offset, void *buffer, size_t length,
		     unsigned flags)
{
	if (unlikely(flags != 0))
		return read_locked(region, offset, buffer, length, flags);
	return copy_out(region, offset, buffer, length);
}

int shmb_region_write(struct shmb_region *region, uint64_t offset, const void *buffer,
		      size_t length, unsigned flags)
{
	if (unlikely(flags != 0))
		return write_locked(region, offset, buffer, length, flags);
	return copy_in(region, offset, buffer, length);
}

/* ---- Integers ---- */

#define READ_INTEGER(name, type, convert)                                                         \
	static out_of_line int read_slowly_##name(struct shmb_region *region, uint64_t offset,    \
						  type *ret_value)                                \
	{                                                                                         \
		type value = 0;                                                                   \
		int result = copy_out_slowly(region, offset, &value, sizeof(value));              \
                                                                                                  \
		if (result == 0)                                                                  \
			*ret_value = convert(value);                                              \
		return result;                                                                    \
	}                                                                                         \
                                                                                                  \
	int shmb_region_read_##name(struct shmb_region *region, uint64_t offset, type *ret_value) \
	{                                                                                         \
		struct region_place place;                                                        \
		type value;                                                                       \
                                                                                                  \
		if (likely(region_check_fast(region, REGION_BARS_READ, offset, sizeof(type),      \
					     &place))) {                                          \
			memcpy(&value, place.data + offset, sizeof(value));                       \
			if (likely(region_after_fast(region, &place))) {                          \
				*ret_value = convert(value);                                      \
				return 0;                                                         \
			}                                                                         \
		}                                                                                 \
		return read_slowly_##name(region, offset, ret_value);                             \
	}

#define WRITE_INTEGER(name, type, convert)                                                         \
	static out_of_line int write_slowly_##name(struct shmb_region *region, uint64_t offset,    \
						   type value)                                     \
	{                                                                                          \
		return copy_in_slowly(region, offset, &value, sizeof(value));                      \
	}                                                                                          \
                                                                                                   \
	int shmb_region_write_##name(struct shmb_region *region, uint64_t offset, type value)      \
	{                                                                                          \
		struct region_place place;                                                         \
                                                                                                   \
		value = convert(value);                                                            \
		if (likely(region_check_fast(region, REGION_BARS_WRITE_FAST, offset, sizeof(type), \
					     &place))) {                                           \
			memcpy(place.data + offset, &value, sizeof(value));                        \
			region_set_last_write(region, sizeof(type));                               \
			if (likely(region_after_fast(region, &place)))                             \
				return 0;                                                          \
		}                                                                                  \
		return write_slowly_##name(region, offset, value);                                 \
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
 * How many bytes the string at @data takes, its NUL included.
 *
 * Return: 0, SHMB_EBOUNDS or SHMB_EOVERFLOW.
 */
static int measure_string(struct shmb_region *region, uint64_t offset, const unsigned char *data,
			  uint64_t left, size_t capacity, size_t *ret_bytes)
{
	uint64_t scan = left;
	const unsigned char *nul;

	if (scan > STRING_SCAN && scan - STRING_SCAN > capacity)
		scan = (uint64_t)capacity + STRING_SCAN;
	nul = memchr(data, '\0', (size_t)scan);
	if (!nul && scan == left)
		return region_refuse_bounds(region, offset, left + 1);
	if (!nul)
		return refuse_string(region, offset, scan, capacity);
	*ret_bytes = (size_t)(nul - data) + 1;
	return *ret_bytes <= capacity ? 0 : refuse_string(region, offset, *ret_bytes, capacity);
}

/* Return: 0; 1: again; or an error. */
static int read_string(struct shmb_region *region, uint64_t offset, char *buffer, size_t capacity,
		       size_t *ret_bytes)
{
	uint64_t size = region_bytes(region), left = offset < size ? size - offset : 1;
	struct region_place place;
	int result = region_check_read(region, offset, left, &place), found;

	if (result < 0) /* also if it is smaller since we looked */
		return result;
	found = measure_string(region, offset, place.data, left, capacity, ret_bytes);
	if (found == 0)
		memcpy(buffer, place.data, *ret_bytes);
	/* Zeros that should not be there end a string, too. */
	result = region_after_read(region, offset, found == 0 ? *ret_bytes : left, &place);
	return result == 0 ? found : result;
}

/* Where a word's first NUL is: one bit of that byte, and maybe some of those after it; 0: it has
 * none. */
static always_inline uint64_t find_nul(uint64_t word)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);

	word = le64toh(word);
	return (word - ones) & ~word & ones << 7;
}

/*
 * Up to the NUL. What is copied is what was looked at, however others write meanwhile.
 *
 * Return: bytes with the NUL; 0: there is none in @length bytes.
 */
static always_inline size_t copy_string(char *buffer, const unsigned char *data, size_t length)
{
	size_t done;

	for (done = 0; length - done >= sizeof(uint64_t); done += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, data + done, sizeof(word));
		memcpy(buffer + done, &word, sizeof(word));
		word = find_nul(word);
		if (word)
			return done + (size_t)__builtin_ctzll(word) / 8 + 1;
	}
	for (; done < length; done++) {
		char byte = (char)data[done];

		buffer[done] = byte;
		if (byte == '\0')
			return done + 1;
	}
	return 0;
}

/* A short one that fits and lies there undisturbed. Return: bytes with the NUL; 0: it is not known.
 */
static always_inline size_t read_short_string(struct shmb_region *region, uint64_t offset,
					      char *buffer, size_t capacity)
{
	uint64_t size = region_bytes(region), scan = offset < size ? size - offset : 0;
	struct region_place place;
	const unsigned char *data;
	size_t bytes;

	if (scan > capacity)
		scan = capacity;
	if (scan > STRING_SHORT)
		scan = STRING_SHORT;
	if (unlikely(!region_check_fast(region, REGION_BARS_READ, offset, scan, &place)))
		return 0;
	data = place.data + offset;
	/* A string that is refused is not copied. */
	if (unlikely(!memchr(data, '\0', (size_t)scan)))
		return 0;
	bytes = copy_string(buffer, data, (size_t)scan);
	return likely(region_after_fast(region, &place)) ? bytes : 0;
}

int64_t shmb_region_read_string(struct shmb_region *region, uint64_t offset, char *buffer,
				size_t capacity)
{
	size_t bytes = read_short_string(region, offset, buffer, capacity);
	int result;

	if (likely(bytes > 0))
		return (int64_t)bytes - 1;
	do {
		result = read_string(region, offset, buffer, capacity, &bytes);
	} while (result > 0);
	if (result < 0)
		return result;
	/* Another process may have written meanwhile: what was copied is what counts. */
	buffer[bytes - 1] = '\0';
	return (int64_t)strlen(buffer);
}

int shmb_region_write_string(struct shmb_region *region, uint64_t offset, const char *string)
{
	return copy_in(region, offset, string, strlen(string) + 1);
}

/* ---- Views ---- */

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

/* What is asked for, before where it is. */
static int check_view(struct shmb_region *region, uint64_t offset, size_t length, size_t alignment,
		      unsigned access)
{
	if (access != SHMB_READ && access != (SHMB_READ | SHMB_WRITE))
		return region_refuse(region, SHMB_EINVAL, "access");
	if (length == 0)
		return region_refuse(region, SHMB_EINVAL, "length");
	if ((alignment & (alignment - 1)) != 0 || alignment > map_page_size())
		return region_refuse(region, SHMB_EINVAL, "alignment");
	if ((offset & (alignment - 1)) != 0)
		return refuse_alignment(region, offset, length, alignment);
	return 0;
}

/*
 * Is what was found out about a range still so, now that its mapping is held? Else a page may be
 * lost and mended without being remembered for us, as nobody seemed to hold it.
 */
static bool is_undisturbed(const struct shmb_region *region, const struct mapped *mapped,
			   uint64_t offset, uint64_t length, const struct region_place *place)
{
	/* seq_cst: we hold it and then look; who mends has seen what is lost, and said so, and then
	 * looks for holders. One of the two sees the other. */
	uint32_t state = atomic_load(&region->state);
	uint64_t start, n;

	return (const unsigned char *)mapped->mapping.data + offset == place->data &&
	       state == place->state &&
	       !(state & REGION_FAULTED &&
		 guard_find_lost(&mapped->guarded, offset, length, &start, &n));
}

int region_keep(struct shmb_region *region, uint64_t offset, uint64_t length,
		const struct region_place *place, struct mapped **ret_mapped, uint64_t *ret_since)
{
	struct mapped *mapped = mapped_hold(region);

	*ret_since = atomic_load(&mapped->n_mended);
	*ret_mapped = mapped;
	if (likely(is_undisturbed(region, mapped, offset, length, place)))
		return 0;
	mapped_release(mapped);
	return 1;
}

int region_check_and_keep(struct shmb_region *region, uint32_t bars, uint64_t offset,
			  uint64_t length, struct region_place *ret_place,
			  struct mapped **ret_mapped, uint64_t *ret_since)
{
	int result;

	do {
		result = region_check(region, bars, offset, length, ret_place);
		if (likely(result == 0))
			result = region_keep(region, offset, length, ret_place, ret_mapped,
					     ret_since);
	} while (unlikely(result > 0));
	return result;
}

int shmb_region_view(struct shmb_region *region, uint64_t offset, size_t length, size_t alignment,
		     unsigned access, struct shmb_view *ret_view)
{
	uint32_t bars =
		access & SHMB_WRITE ? REGION_BARS_READ | REGION_BARS_WRITE : REGION_BARS_READ;
	struct region_place place;
	struct mapped *mapped;
	uint64_t since;
	int result;

	result = region_check_and_keep(region, bars, offset, length, &place, &mapped, &since);
	if (unlikely(result < 0))
		return result;
	result = check_view(region, offset, length, alignment ? alignment : 1, access);
	if (result == 0)
		result = region_hold(region);
	if (unlikely(result < 0)) {
		mapped_release(mapped);
		return result;
	}
	*ret_view = (struct shmb_view){
		.data = place.data,
		.length = length,
		.region = region,
		.hold = mapped,
		.since = since,
	};
	return 0;
}

static out_of_line bool view_was_lost(const struct shmb_view *view)
{
	struct mapped *mapped = view->hold;
	uint64_t offset = (uint64_t)((char *)view->data - (char *)mapped->mapping.data);

	return mapped_was_lost(mapped, offset, view->length, view->since);
}

int shmb_view_release(struct shmb_view *view)
{
	struct mapped *mapped;
	bool lost = false;

	if (!view || !view->hold)
		return 0;
	mapped = view->hold;
	/* What was touched was touched before we look. */
	atomic_thread_fence(memory_order_acquire);
	/* The handler makes it with the first page that is lost. */
	if (unlikely(atomic_load_explicit(&mapped->guarded.lost, memory_order_relaxed)))
		lost = view_was_lost(view);
	mapped_release(mapped);
	region_release(view->region);
	*view = (struct shmb_view){ .data = NULL };
	return lost ? SHMB_EBUS : 0;
}
