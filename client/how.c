/* SPDX-License-Identifier: MIT */
/*
 * What options say of a handle's mapping: what fits together, what it takes at the broker, and what
 * is done with the pages once they are mapped. Asks nobody; map_*.c does what the system has to do.
 */

#include "how.h"

#include <string.h>

#include "calls.h"
#include "client.h"
#include "map.h"

/* ---- What fits together ---- */

struct pair {
	unsigned flag, other;
	const char *what;
};

static int refuse(struct shmb_client *client, const char *what)
{
	return error_note(&client->error, SHMB_EINVAL, what);
}

static int check_pairs(struct shmb_client *client, unsigned flags)
{
	static const struct pair pairs[] = {
		{ SHMB_PRIVATE, SHMB_RESERVE, "SHMB_PRIVATE with SHMB_RESERVE" },
		{ SHMB_PRIVATE, SHMB_SYNC, "SHMB_PRIVATE with SHMB_SYNC" },
		{ SHMB_NO_ACCESS, SHMB_POPULATE, "SHMB_NO_ACCESS with SHMB_POPULATE" },
		{ SHMB_NO_ACCESS, SHMB_PIN, "SHMB_NO_ACCESS with SHMB_PIN" },
		{ SHMB_NO_ACCESS, SHMB_EXEC, "SHMB_NO_ACCESS with SHMB_EXEC" },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (flags & pairs[i].flag && flags & pairs[i].other)
			return refuse(client, pairs[i].what);
	return 0;
}

static int check_address(struct shmb_client *client, const struct shmb_region_options *options)
{
	bool fixed = options->flags & SHMB_FIXED;

	if (fixed != (options->address != NULL) ||
	    ((uintptr_t)options->address & (map_page_size() - 1)) != 0)
		return refuse(client, "address");
	return 0;
}

int how_check(struct shmb_client *client, unsigned access,
	      const struct shmb_region_options *options)
{
	int result;

	if (options->flags & ~(unsigned)(HOW_FLAGS | SHMB_RESERVE))
		return refuse(client, "flags");
	if ((unsigned)options->huge > SHMB_HUGE_REQUIRE)
		return refuse(client, "huge");
	if (options->flags & SHMB_PRIVATE && access & SHMB_LOCK)
		return refuse(client, "SHMB_PRIVATE with SHMB_LOCK");
	if (options->flags & SHMB_NO_ACCESS && options->huge == SHMB_HUGE_REQUIRE)
		return refuse(client, "SHMB_NO_ACCESS with SHMB_HUGE_REQUIRE");
	result = check_pairs(client, options->flags);
	if (result == 0)
		result = check_address(client, options);
	if (result == 0 && options->flags & SHMB_NO_CACHE && !map_supports(SHMB_FEATURE_NO_CACHE))
		return error_note(&client->error, SHMB_ENOTSUP, "SHMB_NO_CACHE");
	return result;
}

/* ---- Access ---- */

unsigned how_asked(unsigned access, unsigned flags)
{
	if (flags & SHMB_PRIVATE)
		return SHMB_READ;
	/* No system maps memory for writing alone. */
	return access & SHMB_WRITE ? access | SHMB_READ : access;
}

unsigned how_granted(unsigned access, unsigned flags, unsigned granted)
{
	unsigned asked = how_asked(access, flags);

	if ((granted & asked) != asked)
		return 0;
	if (flags & SHMB_PRIVATE)
		return access;
	return granted & (access & SHMB_WRITE ? access | SHMB_LOCK : access);
}

/* ---- Mapping ---- */

struct map_how how_to_map(const struct attach *attach, unsigned access)
{
	unsigned flags = attach->flags;

	return (struct map_how){
		.writable = access & SHMB_WRITE,
		.dump = flags & SHMB_DUMP,
		.private = flags & SHMB_PRIVATE,
		.no_access = flags & SHMB_NO_ACCESS,
		.executable = flags & SHMB_EXEC,
		.sync = flags & SHMB_SYNC,
		.huge = attach->huge != SHMB_HUGE_DEFAULT,
		.address = attach->address,
	};
}

static int failed(struct shmb_error *error, int code, const char *what)
{
	*error = (struct shmb_error){ .code = code };
	error_what(error, what, strlen(what));
	return code;
}

int how_apply(const struct attach *attach, const struct mapping *mapping, uint64_t bytes, bool file,
	      struct shmb_error *ret_error)
{
	bool write = mapping->writable && (!file || mapping->private);
	uint64_t limit = 0;
	int result = 0;

	if (attach->huge == SHMB_HUGE_REQUIRE)
		result = map_make_huge(mapping);
	if (result < 0)
		return failed(ret_error, result, "huge");
	if (attach->flags & SHMB_POPULATE) {
		error_what(ret_error, "SHMB_POPULATE", strlen("SHMB_POPULATE"));
		result = map_touch(mapping, 0, bytes, write);
	}
	if (result < 0)
		return failed(ret_error, result, "SHMB_POPULATE");
	/* What is there by now can become huge even where the system makes none by itself. */
	if (attach->flags & SHMB_POPULATE && attach->huge == SHMB_HUGE_TRY)
		(void)map_advise(mapping, 0, mapping->length, SHMB_ADVICE_COLLAPSE);
	if (attach->flags & SHMB_PIN)
		result = map_pin(mapping, 0, bytes, &limit);
	if (result < 0) {
		failed(ret_error, result, result == SHMB_EDQUOT ? "RLIMIT_MEMLOCK" : "SHMB_PIN");
		ret_error->length = bytes;
		ret_error->limit = limit;
	}
	return result;
}

/* ---- Huge pages ---- */

bool how_pool_first(const struct shmb_region_options *options)
{
	return options->huge != SHMB_HUGE_DEFAULT && options->backing == SHMB_BACKING_DEFAULT &&
	       map_supports(SHMB_FEATURE_HUGETLB);
}

bool how_without_pool(int code)
{
	switch (code) {
	case SHMB_ENOTSUP:
	case SHMB_ENOMEM:
	case SHMB_ENOSPC:
	case SHMB_EDQUOT:
	case SHMB_EFBIG:
	case SHMB_EACCES:
	case SHMB_EINVAL: /* an address that suits ordinary pages only */
		return true;
	default:
		return false;
	}
}

uint64_t how_capacity(const struct shmb_region_options *options, uint64_t size)
{
	uint64_t huge = options->huge != SHMB_HUGE_DEFAULT ? map_huge_unit() : 0;

	if (options->capacity != 0 || huge == 0 || size > INT64_MAX - huge ||
	    (size < huge && options->huge == SHMB_HUGE_TRY))
		return options->capacity;
	if (options->backing == SHMB_BACKING_FILE || options->backing == SHMB_BACKING_HUGETLB)
		return options->capacity;
	return (size + huge - 1) & ~(huge - 1);
}
