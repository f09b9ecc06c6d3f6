/* SPDX-License-Identifier: MIT */
#ifndef CLI_FILE_H
#define CLI_FILE_H

/* What export and import have in common. */

#include "cli.h"

/* file_is_stream() - does "-" stand for standard output or input? */
bool file_is_stream(const char *path);

/* file_on_progress() - for the library; @userdata: struct progress */
int file_on_progress(uint64_t done, uint64_t total, void *userdata);

/* file_fail() - a copy failed: an error with a number of the system's is the file's, the others are
 * the region's. Return: an exit status, told. */
int file_fail(struct cli *cli, struct shmb_region *region, const char *path, int64_t result);

#endif
