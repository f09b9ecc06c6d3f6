/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_FILE_H
#define CLIENT_FILE_H

/* The file, or memfd, of a region that is about to be made: opened with this process's own rights,
 * examined, and brought to its size. Knows neither client nor broker. */

#include <stdbool.h>
#include <stdint.h>

#include <shmbroker/shmbroker.h>

struct passed;

struct file {
	int fd;    /* an open file description of its own, if one could be had */
	int claim; /* another, which holds the claim; -1: not claimed */
	bool writable;
	const char *path; /* borrowed; NULL: it was adopted */
};

/* file_check() - can a region be made so? Return: 0, or SHMB_EINVAL or SHMB_EMODE about *ret_what.
 */
int file_check(const struct shmb_region_options *options, const char **ret_what);

/*
 * file_open() - what options->path or options->fd says; never blocks on what is no file
 *
 * Makes it if need be, and changes nothing of what is there.
 *
 * Return: 0 (give it back with file_close()), or SHMB_ENOTSUP (no regular file), SHMB_EMODE (a
 * descriptor that is not open for it), SHMB_EINVAL (no descriptor), SHMB_ENOENT, SHMB_EACCES, ...
 */
int file_open(const struct shmb_region_options *options, struct file *ret_file);

/* file_close() - what file_pass() has not taken */
void file_close(struct file *file);

/*
 * file_claim() - be the only one of those who mean to empty the file, until the claim is closed
 * @deadline: nanoseconds, clock_now()
 *
 * Not seen by those who lock parts of the file, only by those who lock all of it.
 *
 * Return: 0, SHMB_ETIMEDOUT, or why it cannot be.
 */
int file_claim(struct file *file, int64_t deadline);

/*
 * file_keep_name() - see that the name under which it was made, or found, survives whatever happens
 * to the host
 *
 * @file: that has a path. Nothing is done where the directory cannot be opened, or its system does
 * not know of such a thing.
 *
 * Return: 0, SHMB_EIO, SHMB_ENOSPC, SHMB_EMFILE, ...
 */
int file_keep_name(const struct file *file);

/* file_empty() - cut all of it off. Return: 0, SHMB_EACCES, SHMB_EIO, ... */
int file_empty(struct file *file);

/*
 * file_extend() - see that it has @size bytes at least; 0: find out how many it has
 *
 * Never makes it shorter, whoever else is changing it.
 *
 * Return: 0, or SHMB_EINVAL (it has none), SHMB_EMODE (too short, and may not be written),
 * SHMB_EFBIG, SHMB_ENOSPC, ...
 */
int file_extend(struct file *file, uint64_t size, uint64_t *ret_size);

/*
 * file_pass() - the descriptors for the broker: for writers, or readers if there are none; and for
 * readers
 *
 * Return: 0 (*file is empty, *ret_passed the caller's), or SHMB_EACCES (this process may not open
 * it for reading, or others could write what they are given to read), SHMB_ENOMEM, ...
 */
int file_pass(struct file *file, struct passed **ret_passed);

/*
 * file_own() - a description of our own for what @fd is open for, so that position and locks are
 * not shared with others that got theirs from the broker
 *
 * Return: a descriptor, @fd being closed; or @fd: this process has no right to open the file.
 */
int file_own(int fd);

/* ---- file_linux.c, file_generic.c ---- */

/* file_reopen() - open what @fd is open for once more, O_CLOEXEC; @path is another way to it, if
 * any. Return: a descriptor, or a negative errno. */
int file_reopen(int fd, int flags, const char *path);

/* file_lock_claim() - try it. Return: 0, -EAGAIN (another has it), or another negative errno. */
int file_lock_claim(int fd);

/* file_grow() - to @size, if it is smaller, and never less. Return: 0 or a negative errno. */
int file_grow(int fd, uint64_t size);

/* file_is_memfd() - memory that any user could open for writing who has it open for reading */
bool file_is_memfd(int fd);

/* file_sealed() - may it no longer be written? */
bool file_sealed(int fd);

#endif
