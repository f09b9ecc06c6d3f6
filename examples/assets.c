/* SPDX-License-Identifier: MIT */
/*
 * Assets: one process opens a file of them and gives it a name; others use them in place, and can
 * only read.
 *
 * They need no rights to the file, and cannot change a byte of it: their descriptors are read-only.
 * Before an asset is used it is asked for ahead, so that the disk works while the program does.
 *
 *	assets        makes a file, serves it, and starts itself as "user"
 */
#define _POSIX_C_SOURCE 200809L /* for -std=c11, which hides what is not of C alone */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

static const char *program; /* to be started again */

enum { ASSETS = 4, ALIGNMENT = 4096 };

/* At the beginning of the file. */
struct entry {
	char name[16];
	uint64_t offset, length;
	uint64_t sum; /* of its bytes */
};

static const char region_name[] = "game/assets";

static uint64_t sum_of(const unsigned char *bytes, size_t length)
{
	uint64_t sum = 0;

	while (length-- > 0)
		sum = sum * 31 + *bytes++;
	return sum;
}

/* ---- Whoever uses them ---- */

static int use_asset(struct shmb_region *region, const struct entry *entry)
{
	struct shmb_view view;
	bool good;
	int r = shmb_region_view(region, entry->offset, entry->length, ALIGNMENT, SHMB_READ, &view);

	if (r < 0)
		return r;
	good = sum_of(view.data, view.length) == entry->sum;
	r = shmb_view_release(&view); /* SHMB_EBUS: the file was cut off meanwhile */
	printf("%-8s %7" PRIu64 " bytes: %s\n", entry->name, entry->length,
	       good ? "good" : "damaged");
	return r < 0 || good ? r : SHMB_EPROTO;
}

static int use_all(struct shmb_region *region)
{
	struct entry entries[ASSETS];
	int r = shmb_region_read(region, 0, entries, sizeof(entries), 0);

	for (int i = 0; r >= 0 && i < ASSETS; i++)
		r = shmb_region_advise(region, entries[i].offset, entries[i].length,
				       SHMB_ADVICE_PREFETCH);
	for (int i = 0; r >= 0 && i < ASSETS; i++)
		r = use_asset(region, &entries[i]);
	if (r >= 0 && shmb_region_write_u8(region, 0, 0) != SHMB_EMODE)
		r = SHMB_EPROTO;
	return r;
}

static int user(void)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_open(client, region_name, SHMB_READ, NULL, &region);
	if (r >= 0)
		r = use_all(region);
	if (r < 0)
		fprintf(stderr, "assets: user: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}

/* ---- Whoever has the file ---- */

static bool make_file(FILE *file)
{
	struct entry entries[ASSETS] = { { "mesh", 0, 100000, 0 },
					 { "texture", 0, 262144, 0 },
					 { "sound", 0, 5000, 0 },
					 { "level", 0, 77777, 0 } };
	uint64_t offset = ALIGNMENT;
	bool good = true;

	for (int i = 0; i < ASSETS; i++) {
		unsigned char *bytes = malloc(entries[i].length);

		if (!bytes)
			return false;
		for (uint64_t at = 0; at < entries[i].length; at++)
			bytes[at] = (unsigned char)(at * at + (uint64_t)i);
		entries[i].offset = offset;
		entries[i].sum = sum_of(bytes, entries[i].length);
		good = good && fseek(file, (long)offset, SEEK_SET) == 0 &&
		       fwrite(bytes, entries[i].length, 1, file) == 1;
		offset = shmb_align_up(offset + entries[i].length, ALIGNMENT);
		free(bytes);
	}
	return good && fseek(file, 0, SEEK_SET) == 0 &&
	       fwrite(entries, sizeof(entries), 1, file) == 1 && fflush(file) == 0;
}

static int run_user(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		(void)execlp(program, "assets", "user", (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : SHMB_EIO;
}

static int serve(const char *path)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.access = SHMB_READ; /* opened read-only, so nobody can write through it */
	options.mode = 0444;
	if (r >= 0)
		r = shmb_region_create(client, region_name, 0, &options, &region);
	if (r >= 0)
		r = run_user();
	if (r < 0)
		fprintf(stderr, "assets: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r;
}

int main(int argc, char **argv)
{
	char path[] = "/tmp/assets.XXXXXX";
	FILE *file;
	int fd, r = SHMB_EIO;

	program = argv[0];
	if (argc == 2 && strcmp(argv[1], "user") == 0)
		return user();
	fd = mkstemp(path);
	if (fd < 0)
		return EXIT_FAILURE;
	file = fdopen(fd, "w");
	if (file && make_file(file))
		r = serve(path);
	if (file)
		(void)fclose(file);
	(void)unlink(path);
	return r < 0;
}
