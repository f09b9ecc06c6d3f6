/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_ERROR_H
#define CLIENT_ERROR_H

/* Numbers, and the particulars that a handle keeps of its last error. */

#include <pthread.h>
#include <stddef.h>

#include <shmbroker/shmbroker.h>

struct error_slot {
	pthread_mutex_t mutex; /* taken on the error path only */
	struct shmb_error last;
};

/* Return: 0 or SHMB_ENOMEM. */
int error_slot_init(struct error_slot *slot);
void error_slot_deinit(struct error_slot *slot);

/* error_keep() - keep @error; error_keep_code() - with nothing but @what, which may be NULL */
void error_keep(struct error_slot *slot, const struct shmb_error *error);
void error_keep_code(struct error_slot *slot, int code, const char *what);

/* error_set(), error_note() - the same. Return: the code, so that callers can return it in turn. */
static inline int error_set(struct error_slot *slot, const struct shmb_error *error)
{
	error_keep(slot, error);
	return error->code;
}

static inline int error_note(struct error_slot *slot, int code, const char *what)
{
	error_keep_code(slot, code, what);
	return code;
}

/* error_get() - a copy for the caller, as long as its struct_size says. Return: 0 or SHMB_EINVAL.
 */
int error_get(struct error_slot *slot, struct shmb_error *ret_error);

/* error_from_errno() - the SHMB_E... for a positive errno of a system call */
int error_from_errno(int number);

/* error_what() - copy a possibly unterminated string into @error->what, cutting it if need be */
void error_what(struct shmb_error *error, const char *what, size_t length);

#endif
