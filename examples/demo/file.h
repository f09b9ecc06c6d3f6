/* SPDX-License-Identifier: MIT */
#ifndef DEMO_FILE_H
#define DEMO_FILE_H

/* The file that is moved. */

#include "demo.h"

struct file {
	char path[4096];
	uint64_t size;
	unsigned char digests[DEMO_CHECKS][DEMO_DIGEST_BYTES]; /* as read from the file itself */
};

/* file_choose() - @path, or if NULL a large file that every system has */
int file_choose(const char *path, struct file *ret_file);

/* file_digest() - compute the digests; also brings the file into the page cache */
int file_digest(struct file *file);

#endif
