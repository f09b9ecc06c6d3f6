/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_MANIFEST_H
#define DAEMON_MANIFEST_H

/*
 * The file that outlives the daemon: a log of records (records.h), appended to and now and then
 * written anew.
 *
 * It is mapped, so that remembering costs a copy and no system call. Whoever is killed leaves what
 * it had stored; what lies behind the last commit is not there for the next daemon, so a commit
 * makes all that was appended since the one before remembered at once. Knows nothing of what the
 * records mean.
 */

#include "records.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct manifest_header;

struct manifest {
	char *path, *new_path; /* owned; NULL: not open, appending does nothing */
	int fd;
	unsigned char *data;
	uint64_t length;      /* of the file and the mapping */
	uint64_t used;        /* behind the last record; more than is committed until it is */
	uint64_t owed;        /* room that is set aside, see manifest_owe() */
	uint64_t after_write; /* used when it was last written anew */
	bool behind;          /* something did not fit: it has to be written anew */
};

/* What a daemon says of itself in its manifest. */
struct manifest_origin {
	uint64_t instance, next_id, next_session, recoveries;
};

/* An old manifest, being read. */
struct manifest_view {
	const unsigned char *data;
	uint64_t length, end; /* of the file; of what is committed */
	uint64_t torn;        /* bytes that are committed and not there */
	uint32_t version;
	struct manifest_origin origin;
};

enum manifest_state {
	MANIFEST_NONE,    /* there is none, or of another boot */
	MANIFEST_GOOD,    /* it can be read */
	MANIFEST_NEWER,   /* .version is later than ours */
	MANIFEST_GARBLED, /* its beginning makes no sense */
};

/*
 * manifest_look() - open what a daemon left in @directory
 *
 * Return: enum manifest_state, or a negative errno. manifest_view_close() in any case.
 */
int manifest_look(struct manifest_view *view, const char *directory);
void manifest_view_close(struct manifest_view *view);

/* One record; @fixed is valid for sizeof(its struct), zeros beyond what the file has. */
struct record {
	enum record_type type;
	const void *fixed;
	const char *text; /* not NUL-terminated */
	size_t text_length;
};

/*
 * manifest_read() - the record at *@at, which moves on; begin with 0
 * @room: memory for the struct of any record, aligned
 *
 * Return: 1, 0: that was all, or -EBADMSG: what is left of it makes no sense.
 */
int manifest_read(const struct manifest_view *view, uint64_t *at, void *room, size_t room_size,
		  struct record *ret_record);

/* manifest_remove() - remove the files, of whatever version */
void manifest_remove(const char *directory);

/*
 * manifest_write() - write all anew and go on with that file
 * @directory: where; NULL: where it is
 * @write_all: appends all that there is to remember
 *
 * The old file stays in force until the new one is complete. Return: 0, or a negative errno; the
 * old one is then still in use.
 */
int manifest_write(struct manifest *manifest, const char *directory,
		   const struct manifest_origin *origin,
		   void (*write_all)(struct manifest *manifest, void *userdata), void *userdata);

/*
 * manifest_continue() - go on with the file as it is, where there is no room to write it anew
 *
 * For one that was read to its end, and is of our version. It is due to be written anew.
 *
 * Return: 0, or a negative errno.
 */
int manifest_continue(struct manifest *manifest, const char *directory);

/* manifest_is_due() - has it grown so much that writing it anew is worth it? */
bool manifest_is_due(const struct manifest *manifest);

/* manifest_close() - nothing is remembered from now on; the file stays. */
void manifest_close(struct manifest *manifest);

/* manifest_reserve() - is there room for @bytes more? Return: 0, or -ENOSPC and the like. */
int manifest_reserve(struct manifest *manifest, uint64_t bytes);

/*
 * manifest_owe() - set room aside, or give it back: what exists will end, and that has to be
 * appended however little space is left then
 */
static inline void manifest_owe(struct manifest *manifest, int64_t bytes)
{
	manifest->owed += (uint64_t)bytes;
}

/* manifest_append() - @fixed and @text are copied */
void manifest_append(struct manifest *manifest, enum record_type type, const void *fixed,
		     size_t fixed_size, const char *text, size_t text_length);

/* manifest_record_bytes() - what a record takes */
size_t manifest_record_bytes(size_t fixed_size, size_t text_length);

/* manifest_commit() - all that was appended is remembered */
void manifest_commit(struct manifest *manifest);

#endif
