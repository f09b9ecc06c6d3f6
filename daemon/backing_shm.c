/* SPDX-License-Identifier: MIT */
/*
 * POSIX shared memory: found by name, so that no descriptor is kept open and hundreds of thousands
 * are possible. Named by instance and number, never by the region's name: names come and go while
 * the memory stays.
 *
 * Nothing can be sealed here. Whoever has one writable can truncate or enlarge it, which is why a
 * broker that serves several users does not use it unless the administrator allows it.
 */
#include "backing.h"

#include "layout/step.h"

#include <shmbroker/shmbroker.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHM_DIRECTORY "/dev/shm" /* where glibc and musl put them */

enum { SHM_NAME_MAX = 64 };

static const char segment_letters[] = "dpl"; /* by enum segment */

/* Of the data segments that a region has had each has its name: d, d1, d2, ... */
static void object_name(char name[SHM_NAME_MAX], uint64_t instance, uint64_t id, enum segment which,
			uint32_t generation)
{
	int length = snprintf(name, SHM_NAME_MAX, "/shmb.%016" PRIx64 ".%" PRIx64 ".%c", instance,
			      id, segment_letters[which]);

	if (which == SEGMENT_DATA && generation > 0)
		snprintf(name + length, SHM_NAME_MAX - (size_t)length, "%" PRIx32, generation);
}

static void segment_name(char name[SHM_NAME_MAX], uint64_t instance,
			 const struct segments *segments, enum segment which)
{
	object_name(name, instance, segments->id, which, segments->generation);
}

static int shm_backing_create(uint64_t instance, struct segments *segments, enum segment which,
			      uint64_t bytes)
{
	char name[SHM_NAME_MAX];
	int error = 0;
	int fd;

	segment_name(name, instance, segments, which);
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0) {
		error = errno;
		shm_unlink(name);
	}
	close(fd);
	STEP();
	return -error;
}

/*
 * Everybody may put files into that directory. A name of ours that was removed behind our back (at
 * the end of a login, say) must not become somebody else's memory.
 */
static bool is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid();
}

static int shm_backing_open(uint64_t instance, const struct segments *segments, enum segment which,
			    bool writable)
{
	char name[SHM_NAME_MAX];
	struct stat st;
	int fd;

	segment_name(name, instance, segments, which);
	/* O_NONBLOCK: an owner's lease (fcntl(2)) would otherwise make us wait for its holder. */
	fd = shm_open(name, (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && is_ours(&st))
		return fd;
	close(fd);
	return -ENOENT;
}

static void shm_backing_destroy(uint64_t instance, struct segments *segments, enum segment which)
{
	char name[SHM_NAME_MAX];

	segment_name(name, instance, segments, which);
	shm_unlink(name);
}

const struct backing backing_shm = {
	.name = "shm",
	.number = SHMB_BACKING_SHM,
	.create = shm_backing_create,
	.open = shm_backing_open,
	.destroy = shm_backing_destroy,
};

/* Return: false if it is no object of ours. */
static bool parse_name(const char *name, const char *prefix, uint64_t *ret_id,
		       enum segment *ret_which, uint32_t *ret_generation)
{
	size_t length = strlen(prefix);
	const char *which;
	char *end;

	if (strncmp(name, prefix, length) != 0)
		return false;
	*ret_id = strtoull(name + length, &end, 16);
	which = *end == '.' && end[1] ? strchr(segment_letters, end[1]) : NULL;
	if (!which)
		return false;
	*ret_which = (enum segment)(which - segment_letters);
	*ret_generation = (uint32_t)strtoul(end + 2, &end, 16);
	return *end == '\0';
}

/* No other spelling of the number, and nobody else's file: either could not be opened as ours. */
static bool can_be_claimed(int directory, const char *name, uint64_t instance, uint64_t id,
			   enum segment which, uint32_t generation)
{
	char exactly[SHM_NAME_MAX];
	struct stat st;

	object_name(exactly, instance, id, which, generation);
	return strcmp(exactly + 1, name) == 0 &&
	       fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_ours(&st);
}

int backing_shm_sweep(uint64_t instance,
		      bool (*claim)(void *userdata, uint64_t id, enum segment which,
				    uint32_t generation),
		      void *userdata)
{
	char prefix[SHM_NAME_MAX];
	struct dirent *entry;
	enum segment which;
	uint32_t generation;
	int removed = 0;
	uint64_t id;
	DIR *directory = opendir(SHM_DIRECTORY);

	if (!directory)
		return -errno;
	snprintf(prefix, sizeof(prefix), "shmb.%016" PRIx64 ".", instance);
	while ((entry = readdir(directory)))
		if (parse_name(entry->d_name, prefix, &id, &which, &generation) &&
		    !(claim &&
		      can_be_claimed(dirfd(directory), entry->d_name, instance, id, which,
				     generation) &&
		      claim(userdata, id, which, generation)) &&
		    unlinkat(dirfd(directory), entry->d_name, 0) == 0)
			removed++;
	closedir(directory);
	return removed;
}
