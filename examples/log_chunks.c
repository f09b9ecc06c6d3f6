/* SPDX-License-Identifier: MIT */
/*
 * A log in a region: written through a cursor, searched in chunks, in place.
 *
 * The writer appends lines as to a stream. The reader is another process with read access alone,
 * and walks through what is there in chunks of a page; a line that goes on in the next chunk is put
 * together in a small buffer, everything else is never copied.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/io.h>
#include <shmbroker/shmbroker.h>

static const char *program; /* to be started again */

enum { LINES = 20000, EVERY = 7, SIZE = 2 << 20, LINE_MAX_BYTES = 128 };

static const char region_name[] = "log";

/* ---- The reader ---- */

struct search {
	char rest[LINE_MAX_BYTES]; /* of a line that goes on in the next chunk */
	size_t length;
	unsigned lines, errors;
};

static void take_line(struct search *search, const char *line, size_t length)
{
	search->lines++;
	search->errors += length >= 6 && memcmp(line, "ERROR ", 6) == 0;
}

static bool keep(struct search *search, const char *text, size_t length)
{
	if (length > sizeof(search->rest) - search->length)
		return false;
	memcpy(search->rest + search->length, text, length);
	search->length += length;
	return true;
}

/* Return: false: a line is too long. */
static bool take_chunk(struct search *search, const char *chunk, size_t length)
{
	const char *newline;

	while ((newline = memchr(chunk, '\n', length)) != NULL) {
		size_t line = (size_t)(newline - chunk);

		if (search->length == 0) {
			take_line(search, chunk, line);
		} else {
			if (!keep(search, chunk, line))
				return false;
			take_line(search, search->rest, search->length);
			search->length = 0;
		}
		chunk += line + 1;
		length -= line + 1;
	}
	return keep(search, chunk, length);
}

static int search_log(struct shmb_region *region, uint64_t length)
{
	struct search search = { .length = 0 };
	struct shmb_walk walk;
	bool good = true;
	int closed, r;

	r = shmb_walk_open(region, sizeof(length), length, shmb_page_size(), SHMB_READ, &walk);
	if (r < 0)
		return r;
	while (good && shmb_walk_next(&walk))
		good = take_chunk(&search, (const char *)walk.data, walk.length);
	closed = shmb_walk_close(&walk);
	printf("%u lines, %u of them errors\n", search.lines, search.errors);
	if (closed < 0)
		return closed;
	return good && search.lines == LINES && search.errors == (LINES + EVERY - 1) / EVERY
		       ? 0
		       : SHMB_EPROTO;
}

static int reader(void)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	uint64_t length = 0;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_open(client, region_name, SHMB_READ, NULL, &region);
	if (r >= 0)
		r = shmb_region_read_u64(region, 0, &length);
	if (r >= 0)
		r = search_log(region, length);
	if (r < 0)
		fprintf(stderr, "log_chunks: reader: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}

/* ---- The writer ---- */

/* The bytes of the log begin behind the number of them, which is written last. */
static int write_log(struct shmb_region *region)
{
	struct shmb_window behind;
	struct shmb_cursor cursor;
	int64_t n = shmb_window_open(region, sizeof(uint64_t), 0, &behind);

	if (n < 0)
		return (int)n;
	n = shmb_cursor_open_window(&behind, &cursor);
	shmb_window_close(&behind); /* the cursor has its own */
	if (n < 0)
		return (int)n;
	for (int i = 0; n >= 0 && i < LINES; i++) {
		char line[LINE_MAX_BYTES];
		int length = snprintf(line, sizeof(line), "%s %d: what happened%.*s\n",
				      i % EVERY == 0 ? "ERROR" : "INFO", i, i % 40,
				      ", and then, and then, and then, and then");

		n = shmb_cursor_write(&cursor, line, (size_t)length);
		if (n >= 0 && n < length)
			n = SHMB_ENOSPC; /* the region is full */
	}
	if (n >= 0)
		n = shmb_region_write_u64(region, 0, cursor.position);
	shmb_cursor_close(&cursor);
	return (int)n;
}

static int run_reader(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		(void)execlp(program, "log_chunks", "reader", (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : SHMB_EIO;
}

int main(int argc, char **argv)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r;

	program = argv[0];
	if (argc == 2 && strcmp(argv[1], "reader") == 0)
		return reader();
	r = shmb_client_connect(NULL, NULL, &client);
	if (r >= 0)
		r = shmb_region_create(client, region_name, SIZE, NULL, &region);
	if (r >= 0)
		r = write_log(region);
	if (r >= 0)
		r = run_reader();
	if (r < 0)
		fprintf(stderr, "log_chunks: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}
