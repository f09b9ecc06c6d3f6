/* SPDX-License-Identifier: MIT */
/* What the kernel says of this process's mappings, without the library's help. */
#include "smaps.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

struct line {
	char text[512];
	uint64_t start, end; /* of the mapping it belongs to */
	char protection[8];
};

/* The next line that tells of a mapping that overlaps the range. */
static bool next_line(FILE *smaps, uint64_t start, uint64_t end, struct line *line)
{
	while (fgets(line->text, sizeof(line->text), smaps)) {
		struct line head;

		if (sscanf(line->text, "%" SCNx64 "-%" SCNx64 " %7s", &head.start, &head.end,
			   head.protection) == 3) {
			line->start = head.start;
			line->end = head.end;
			memcpy(line->protection, head.protection, sizeof(head.protection));
		}
		if (line->start < end && line->end > start)
			return true;
	}
	return false;
}

static FILE *open_smaps(void)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");

	CHECK(smaps);
	return smaps;
}

uint64_t smaps_bytes(const void *data, size_t length, const char *field)
{
	uint64_t start = (uint64_t)(uintptr_t)data, kib = 0, number;
	FILE *smaps = open_smaps();
	struct line line = { .start = 0 };
	char name[64];

	while (next_line(smaps, start, start + length, &line))
		if (sscanf(line.text, "%63[^:]: %" SCNu64, name, &number) == 2 &&
		    strcmp(name, field) == 0)
			kib += number;
	fclose(smaps);
	return kib << 10;
}

bool smaps_flag(const void *data, size_t length, const char *flag)
{
	uint64_t start = (uint64_t)(uintptr_t)data;
	FILE *smaps = open_smaps();
	struct line line = { .start = 0 };
	unsigned seen = 0, has = 0;
	char padded[8];

	snprintf(padded, sizeof(padded), " %s ", flag);
	while (next_line(smaps, start, start + length, &line))
		if (strncmp(line.text, "VmFlags:", strlen("VmFlags:")) == 0) {
			seen++;
			has += strstr(line.text, padded) != NULL;
		}
	fclose(smaps);
	CHECK(seen > 0);
	return seen == has;
}

const char *smaps_protection(const void *address)
{
	uint64_t start = (uint64_t)(uintptr_t)address;
	FILE *smaps = open_smaps();
	struct line line = { .start = 0 };
	static char protection[8];

	protection[0] = '\0';
	if (next_line(smaps, start, start + 1, &line))
		snprintf(protection, sizeof(protection), "%s", line.protection);
	fclose(smaps);
	return protection;
}

size_t resident(void *data, size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (length + page - 1) / page, n = 0;
	unsigned char *present = calloc(pages, 1);

	CHECK(present);
	CHECK_OK(mincore(data, length, present));
	for (size_t i = 0; i < pages; i++)
		n += present[i] & 1;
	free(present);
	return n;
}

static uint64_t meminfo(const char *field)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t number = 0, value;
	char name[64], text[128];

	CHECK(file);
	while (fgets(text, sizeof(text), file))
		if (sscanf(text, "%63[^:]: %" SCNu64, name, &value) == 2 &&
		    strcmp(name, field) == 0)
			number = value;
	fclose(file);
	return number;
}

uint64_t pool_free(uint64_t *ret_bytes)
{
	uint64_t free_pages = meminfo("HugePages_Free"), reserved = meminfo("HugePages_Rsvd");

	*ret_bytes = meminfo("Hugepagesize") << 10;
	return free_pages > reserved ? free_pages - reserved : 0;
}
