/* SPDX-License-Identifier: MIT */
/* The demo's text. Decides nothing. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "show.h"

static void hex(const unsigned char *digest, char *text)
{
	for (size_t i = 0; i < DEMO_DIGEST_BYTES; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

void show_opening(const struct file *file)
{
	const char *address = getenv("SHMB_ADDRESS");
	char sha[2 * DEMO_DIGEST_BYTES + 1];

	hex(file->digests[DEMO_SHA256], sha);
	printf("One file, three processes, one piece of memory.\n\n"
	       "  file     %s, %.1f MB\n"
	       "  SHA-256  %s\n"
	       "  broker   %s\n\n",
	       file->path, (double)file->size / 1e6, sha, address ? address : "this user's");
}

void show_crew(const struct crew *crew)
{
	static const char *const does[] = {
		"made the region demo/frames and reads the file into it, frame by frame",
		"opened demo/frames for reading and writing",
		"opened demo/frames for reading only",
	};

	printf("Processes:\n\n");
	for (int i = 0; i < CREW_SIZE; i++)
		printf("  %7ld  %-10s  %s\n", (long)crew->members[i].pid, crew->members[i].title,
		       does[i]);
	printf("\n%d frames of %d KiB are in flight at most. A receiver computes its checksum over "
	       "a "
	       "frame\nwhere it lies. Two semaphores between the publisher and each receiver count "
	       "frames to look at\nand places that are free again.\n\n",
	       DEMO_SLOTS, DEMO_FRAME_BYTES / 1024);
}

/* The command of the same build, else the one that is installed. */
static void become_shmbctl(const char *word)
{
	char path[4096 + 32];
	ssize_t length = readlink("/proc/self/exe", path, 4096);

	if (length > 0) {
		char *slash;

		path[length] = '\0';
		slash = strrchr(path, '/');
		if (slash) {
			(void)strcpy(slash, "/../cli/shmbctl");
			(void)execl(path, "shmbctl", word, (char *)NULL);
		}
	}
	(void)execlp("shmbctl", "shmbctl", word, (char *)NULL);
	_exit(127);
}

static void show_broker(const char *word)
{
	pid_t pid;

	printf("What the broker knows at this moment (shmbctl %s):\n\n", word);
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0)
		become_shmbctl(word);
	if (pid < 0 || crew_wait(pid, DEMO_PATIENCE_MS) != 0)
		printf("  (shmbctl could not be run)\n");
	printf("\n");
}

void show_regions(void)
{
	show_broker("ls");
}

void show_bar(const struct bar *bar, uint64_t now)
{
	enum { WIDTH = 40 };
	char cells[WIDTH + 1];
	double part = (double)(bar->done + now) / (double)bar->total;
	int full = (int)(part * WIDTH);

	if (!bar->terminal)
		return;
	memset(cells, '.', WIDTH);
	memset(cells, '#', (size_t)(full < WIDTH ? full : WIDTH));
	cells[WIDTH] = '\0';
	printf("\r[%s] %3.0f %%  %-40s", cells, part * 100, bar->text);
	(void)fflush(stdout);
}

void clear_bar(const struct bar *bar)
{
	if (bar->terminal)
		printf("\r%*s\r", 92, "");
}

void show_verified(const struct crew *crew, const struct file *file,
		   const struct demo_report *reports)
{
	for (int i = CREW_RECEIVER; i < CREW_SIZE; i++) {
		char sha[2 * DEMO_DIGEST_BYTES + 1];

		hex(reports[i].digest, sha);
		printf("  %s  %.1f MB in place  SHA-256 %.16s...  the same as the file's\n",
		       crew->members[i].title, (double)reports[i].bytes / 1e6, sha);
	}
	printf("\n");
}

void show_speeds(const struct file *file, const struct speeds *speeds, int n_runs)
{
	static const char *const rows[] = { "shared memory", "Unix socket" };

	printf("%.1f MB to each of %d receivers, median of %d runs each, taken in turns; GB/s:\n\n"
	       "                   with SHA-256   with a cheap checksum\n",
	       (double)file->size / 1e6, DEMO_RECEIVERS, n_runs);
	for (int way = 0; way < DEMO_WAYS; way++)
		printf("  %-15s  %12.2f   %21.2f\n", rows[way], speeds->values[DEMO_SHA256][way],
		       speeds->values[DEMO_SUM][way]);
	printf("  %-15s  %11.1fx   %20.1fx\n\n", "ratio",
	       speeds->values[DEMO_SHA256][DEMO_MEMORY] / speeds->values[DEMO_SHA256][DEMO_SOCKET],
	       speeds->values[DEMO_SUM][DEMO_MEMORY] / speeds->values[DEMO_SUM][DEMO_SOCKET]);
	printf("With SHA-256 the processors mostly compute; with the cheap checksum mostly the "
	       "transfer shows.\nThrough the socket each receiver gets a copy of its own; in "
	       "shared "
	       "memory both look at the same bytes.\n\n");
}

void show_accident_opening(void)
{
	printf("Now an accident. One process locks a region to write it, another waits for that "
	       "lock, and the\nfirst is killed (kill -9) half-way.\n\n");
}

void show_locks(void)
{
	show_broker("locks");
}

void show_accidents(const struct accidents *accidents)
{
	printf("Killed %d times: the next one had the lock %.2f ms later (median; slowest %.2f "
	       "ms), and each time\nit was told that the owner had died and the data may be "
	       "half-written.\n\n",
	       accidents->n, accidents->median * 1e3, accidents->slowest * 1e3);
}

void show_closing(void)
{
	printf("Every run was verified. The processes are gone, and their regions with them: "
	       "nobody "
	       "removed\nanything. Under `shmbctl run` the broker goes now, too.\n");
}
