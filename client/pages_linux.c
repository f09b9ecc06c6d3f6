/* SPDX-License-Identifier: MIT */
/*
 * What /proc says of pages: are they huge? Reads only, and knows nothing of mappings but addresses.
 */

#include "pages_linux.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <shmbroker/memory.h>

uint64_t pages_number(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	uint64_t number = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		if (name && strncmp(line, name, strlen(name)) != 0)
			continue;
		number = strtoull(line + (name ? strlen(name) : 0), NULL, 10);
		break;
	}
	if (file)
		(void)fclose(file);
	return number;
}

/* ---- By scanning: ioctl(2) on /proc/self/pagemap, see PAGEMAP_SCAN in linux/fs.h of 6.7 ---- */

enum {
	CATEGORY_PRESENT = 1 << 3,
	CATEGORY_HUGE = 1 << 6,
	STRETCHES = 32,
};

struct stretch {
	uint64_t start, end, categories;
};

struct scan {
	uint64_t size, flags;
	uint64_t start, end, walk_end;
	uint64_t vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN _IOWR('f', 16, struct scan)

/* Looks on from scan->start. Return: stretches that are present, 0: no more, -1: it cannot be told.
 */
static int scan_on(int pagemap, struct scan *scan, struct stretch stretches[STRETCHES])
{
	int n;

	if (scan->start >= scan->end)
		return 0;
	scan->vec = (uint64_t)(uintptr_t)stretches;
	n = ioctl(pagemap, SCAN, scan);
	scan->start = scan->walk_end;
	return n;
}

static int scan_all(int pagemap, struct scan *scan)
{
	struct stretch stretches[STRETCHES] = { 0 }; /* valgrind does not know who fills it */
	int answer = SHMB_UNKNOWN, n;

	while ((n = scan_on(pagemap, scan, stretches)) > 0) {
		for (int i = 0; i < n; i++)
			if (!(stretches[i].categories & CATEGORY_HUGE))
				return SHMB_NO;
		answer = SHMB_YES;
	}
	return n < 0 ? -1 : answer;
}

int pages_huge_by_scan(const void *data, size_t length)
{
	uint64_t start = (uint64_t)(uintptr_t)data;
	struct scan scan = {
		.size = sizeof(scan),
		.start = start,
		.end = start + length,
		.vec_len = STRETCHES,
		.category_mask = CATEGORY_PRESENT,
		.return_mask = CATEGORY_PRESENT | CATEGORY_HUGE,
	};
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), answer;

	if (pagemap < 0)
		return -1;
	answer = scan_all(pagemap, &scan);
	close(pagemap);
	return answer;
}

/* ---- By reading: /proc/self/smaps ---- */

struct tally {
	uint64_t present, huge; /* KiB */
};

static void count_line(struct tally *tally, const char *line)
{
	static const char *const huge[] = { "AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:",
					    "Shared_Hugetlb:", "Private_Hugetlb:" };
	uint64_t kib;
	char name[32];

	if (sscanf(line, "%31s %" SCNu64, name, &kib) != 2)
		return;
	if (strcmp(name, "Rss:") == 0)
		tally->present += kib;
	for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++)
		if (strcmp(name, huge[i]) == 0)
			tally->huge += kib;
	/* Pages of the pool are no part of Rss. */
	if (strstr(name, "_Hugetlb:"))
		tally->present += kib;
}

/* Adds up the mappings that lie in the range: ours, in as many parts as it has been split into. */
static bool tally_smaps(uint64_t start, uint64_t end, struct tally *ret_tally)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	struct tally tally = { 0 };
	bool within = false;
	char line[512];

	if (!smaps)
		return false;
	while (fgets(line, sizeof(line), smaps)) {
		uint64_t first, last;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &first, &last) == 2)
			within = first < end && last > start;
		else if (within)
			count_line(&tally, line);
	}
	(void)fclose(smaps);
	*ret_tally = tally;
	return true;
}

int pages_huge_by_smaps(const void *data, size_t length)
{
	uint64_t start = (uint64_t)(uintptr_t)data;
	struct tally tally;

	if (!tally_smaps(start, start + length, &tally) || tally.present == 0)
		return SHMB_UNKNOWN;
	return tally.huge == tally.present ? SHMB_YES : SHMB_NO;
}

bool pages_can_tell(void)
{
	return access("/proc/self/pagemap", R_OK) == 0 || access("/proc/self/smaps", R_OK) == 0;
}
