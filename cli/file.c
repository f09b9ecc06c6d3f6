/* SPDX-License-Identifier: MIT */
/*
 * What export and import have in common.
 */

#include "file.h"

#include <string.h>

#include "progress.h"

bool file_is_stream(const char *path)
{
	return strcmp(path, "-") == 0;
}

int file_on_progress(uint64_t done, uint64_t total, void *userdata)
{
	progress_update(userdata, done);
	return 0;
}

int file_fail(struct cli *cli, struct shmb_region *region, const char *path, int64_t result)
{
	int code = (int)result;

	return code <= SHMB_ECLOSED ? cli_fail_region(cli, region, code)
				    : cli_fail_errno(cli, path, -code);
}
