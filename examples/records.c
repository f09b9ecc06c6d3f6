/* SPDX-License-Identifier: MIT */
/*
 * Records in a file, with an atomic count: several processes append, anybody reads at any time.
 *
 * The region is the file. It begins with the count; everything below it is whole. Who appends holds
 * the lock, writes the record behind the last one, and then counts it; so readers need no lock, and
 * if a writer is killed half-way its record was not counted and is written over by the next one.
 * When the file is full it is made longer, and the next run goes on behind what it has.
 *
 *	records [FILE]
 */
#define _POSIX_C_SOURCE 200809L /* for -std=c11, which hides what is not of C alone */

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/io.h>
#include <shmbroker/shmbroker.h>

static const char *program; /* to be started again */

enum { WRITERS = 3, EACH = 500, ALL = WRITERS * EACH, HEADER = 64, MORE = 16 * 1024 };

struct record {
	uint64_t writer;
	uint64_t number;
	uint64_t sum; /* of the two: a torn one would show */
};

static const char region_name[] = "records";

static uint64_t place_of(uint64_t index)
{
	return HEADER + index * sizeof(struct record);
}

/* ---- Writers ---- */

/* With the lock held: nobody else appends, or makes the file longer. */
static int append(struct shmb_region *region, _Atomic(uint64_t) *count, const struct record *record)
{
	uint64_t index = atomic_load(count);
	int r = shmb_region_write(region, place_of(index), record, sizeof(*record), 0);

	if (r == SHMB_EBOUNDS) {
		r = shmb_region_resize(region, shmb_region_size(region) + MORE);
		if (r >= 0)
			r = shmb_region_write(region, place_of(index), record, sizeof(*record), 0);
	}
	if (r >= 0)
		atomic_store(count, index + 1);
	return r;
}

static int append_locked(struct shmb_region *region, _Atomic(uint64_t) *count,
			 const struct record *record)
{
	int r = shmb_region_lock(region, SHMB_EXCLUSIVE, -1);

	if (r == SHMB_EOWNERDEAD) /* what it left is not counted: nothing to put right */
		r = shmb_region_mark_consistent(region);
	if (r < 0)
		return r;
	r = append(region, count, record);
	(void)shmb_region_unlock(region);
	return r;
}

static int write_records(struct shmb_region *region, uint64_t writer)
{
	struct shmb_atomics64 count;
	int r = shmb_region_atomics64(region, 0, 1, &count);

	if (r < 0)
		return r;
	for (uint64_t i = 0; r >= 0 && i < EACH; i++) {
		struct record record = { writer, i, writer + i };

		r = append_locked(region, &count.words[0], &record);
	}
	(void)shmb_atomics64_release(&count);
	return r < 0 ? r : shmb_region_flush(region, 0, 0, 0); /* now they are on the disk */
}

/* ---- Readers ---- */

static int look(struct shmb_region *region, uint64_t *ret_count)
{
	uint64_t count;
	int r = shmb_region_read_u64(region, 0, &count);

	for (uint64_t i = 0; r >= 0 && i < count; i++) {
		struct record record;

		r = shmb_region_read(region, place_of(i), &record, sizeof(record), 0);
		if (r >= 0 && record.sum != record.writer + record.number)
			r = SHMB_EPROTO;
	}
	if (r >= 0)
		*ret_count = count;
	return r;
}

/* ---- The processes ---- */

static int writer(uint64_t number)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_open(client, region_name, SHMB_READ | SHMB_WRITE, NULL, &region);
	if (r >= 0)
		r = write_records(region, number);
	if (r < 0)
		fprintf(stderr, "records: writer: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}

static pid_t start_writer(int number)
{
	char text[8];
	pid_t pid;

	(void)snprintf(text, sizeof(text), "%d", number);
	pid = fork();
	if (pid == 0) {
		(void)execlp(program, "records", "writer", text, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static int run(struct shmb_region *region)
{
	int running = WRITERS, r, status;
	unsigned looks = 0;
	uint64_t before = 0, count = 0;

	r = look(region, &before);
	for (int i = 1; r >= 0 && i <= WRITERS; i++)
		(void)start_writer(i);
	while (r >= 0 && running > 0) {
		r = look(region, &count);
		looks++;
		while (running > 0 && waitpid(-1, &status, WNOHANG) > 0) {
			running--;
			if (status != 0)
				r = SHMB_EIO;
		}
	}
	if (r >= 0)
		r = look(region, &count);
	printf("%" PRIu64 " records by %d processes, looked through %u times meanwhile\n",
	       count - before, WRITERS, looks);
	return r < 0 || count - before == ALL ? r : SHMB_EPROTO;
}

/* The file as it is, whole; if there is none, or nothing in it, one with room for the first. */
static int open_records(struct shmb_client *client, const char *path,
			struct shmb_region **ret_region)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	int r;

	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	r = shmb_region_create(client, region_name, 0, &options, ret_region);
	if (r != SHMB_ENOENT && r != SHMB_EINVAL)
		return r;
	options.file_flags = SHMB_FILE_CREATE;
	return shmb_region_create(client, region_name, MORE, &options, ret_region);
}

static int with_file(const char *path)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = open_records(client, path, &region);
	if (r >= 0)
		r = run(region);
	if (r < 0)
		fprintf(stderr, "records: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}

int main(int argc, char **argv)
{
	char scratch[] = "/tmp/records.XXXXXX";
	int fd, failed;

	program = argv[0];
	if (argc == 3 && strcmp(argv[1], "writer") == 0)
		return writer(strtoul(argv[2], NULL, 10));
	if (argc == 2)
		return with_file(argv[1]);
	fd = mkstemp(scratch);
	if (fd < 0)
		return EXIT_FAILURE;
	(void)close(fd);
	failed = with_file(scratch);
	(void)unlink(scratch);
	return failed;
}
