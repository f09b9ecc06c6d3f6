/* SPDX-License-Identifier: MIT */
/*
 * What went wrong, for programs and for people: the names and sentences of the codes, and the
 * particulars of a handle's last error. Knows no connection and no mapping.
 */

#include "error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sized.h"
#include "wire/wire.h"

const char *shmb_strerror(int code)
{
	return code == 0 ? "no error" : wire_error_sentence(code);
}

const char *shmb_error_name(int code)
{
	return code == 0 ? "ok" : wire_error_name(code);
}

int error_slot_init(struct error_slot *slot)
{
	memset(&slot->last, 0, sizeof(slot->last));
	return pthread_mutex_init(&slot->mutex, NULL) == 0 ? 0 : SHMB_ENOMEM;
}

void error_slot_deinit(struct error_slot *slot)
{
	pthread_mutex_destroy(&slot->mutex);
}

void error_keep(struct error_slot *slot, const struct shmb_error *error)
{
	pthread_mutex_lock(&slot->mutex);
	slot->last = *error;
	pthread_mutex_unlock(&slot->mutex);
}

void error_keep_code(struct error_slot *slot, int code, const char *what)
{
	struct shmb_error error = { .code = code };

	if (what)
		error_what(&error, what, strlen(what));
	error_keep(slot, &error);
}

int error_get(struct error_slot *slot, struct shmb_error *ret_error)
{
	struct shmb_error copy;

	if (!ret_error ||
	    ret_error->struct_size < offsetof(struct shmb_error, code) + sizeof(ret_error->code))
		return SHMB_EINVAL;
	pthread_mutex_lock(&slot->mutex);
	copy = slot->last;
	pthread_mutex_unlock(&slot->mutex);
	sized_write(ret_error, &copy, sizeof(copy));
	return 0;
}

void error_what(struct shmb_error *error, const char *what, size_t length)
{
	if (length >= sizeof(error->what))
		length = sizeof(error->what) - 1;
	memcpy(error->what, what, length);
	error->what[length] = '\0';
}

int error_from_errno(int number)
{
	switch (-number) {
#define ERROR_CASE(identifier, code, name, sentence) case (code):
		SHMB_ERROR_MAP(ERROR_CASE)
#undef ERROR_CASE
		return -number;
	case -EPERM:
	case -EROFS:
		return SHMB_EACCES;
	case -ENOTDIR:
		return SHMB_ENOENT;
	case -EPROTOTYPE: /* a socket of another kind: no broker of ours is behind it */
		return SHMB_ECONNREFUSED;
	case -ELOOP:
	case -ENAMETOOLONG:
		return SHMB_EINVAL;
	case -EAGAIN:
	case -ENOBUFS:
		return SHMB_ENOMEM;
	case -EPIPE:
	case -ECONNRESET:
	case -ENOTCONN:
		return SHMB_EDISCONNECTED;
	default:
		return SHMB_EUNKNOWN;
	}
}

/* ---- The sentence ---- */

static int format_bounds(const struct shmb_error *e, char *buffer, size_t size)
{
	return snprintf(buffer, size,
			"%s: %" PRIu64 " bytes at offset %" PRIu64 " of a region of %" PRIu64
			" bytes",
			shmb_strerror(e->code), e->length, e->offset, e->size);
}

static int format_align(const struct shmb_error *e, char *buffer, size_t size)
{
	return snprintf(buffer, size, "%s: %" PRIu64 " is not a multiple of %" PRIu64,
			shmb_strerror(e->code), e->offset, e->alignment);
}

static int format_overflow(const struct shmb_error *e, char *buffer, size_t size)
{
	return snprintf(buffer, size, "%s: %" PRIu64 " bytes do not fit into %" PRIu64,
			shmb_strerror(e->code), e->length, e->limit);
}

static int format_plain(const struct shmb_error *e, char *buffer, size_t size)
{
	char length[40] = "", limit[40] = "";

	if (e->length > 0)
		snprintf(length, sizeof(length), " (%" PRIu64 " asked for)", e->length);
	if (e->limit > 0)
		snprintf(limit, sizeof(limit), " (limit %" PRIu64 ")", e->limit);
	return snprintf(buffer, size, "%s%s%s%s%s", shmb_strerror(e->code), e->what[0] ? ": " : "",
			e->what, length, limit);
}

int shmb_error_format(const struct shmb_error *error, char *buffer, size_t size)
{
	struct shmb_error copy = { 0 };

	sized_read_prefix(&copy, sizeof(copy), error);
	copy.what[sizeof(copy.what) - 1] = '\0';
	if (copy.code == 0)
		return snprintf(buffer, size, "no error");
	if (copy.code == SHMB_EBOUNDS || (copy.code == SHMB_EBUS && copy.length > 0))
		return format_bounds(&copy, buffer, size);
	if (copy.code == SHMB_EALIGN)
		return format_align(&copy, buffer, size);
	if (copy.code == SHMB_EOVERFLOW && copy.limit > 0)
		return format_overflow(&copy, buffer, size);
	return format_plain(&copy, buffer, size);
}
