/* SPDX-License-Identifier: MIT */
/*
 * Concurrent counters: processes that know nothing of each other but a name count up the same
 * words, without a lock. None is lost, and who dies leaves what it had counted.
 *
 *	counter              starts itself PROCESSES times as "counter one"
 *	counter one [TIMES]  whoever comes first makes the region
 */
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

enum { PROCESSES = 4, TIMES = 100000 };
enum { HITS, MISSES, VISITORS, COUNTERS };

static const char region_name[] = "counters";

/* Words are zero in a new region, so there is nothing to begin with. */
static int open_counters(struct shmb_client **ret_client, struct shmb_region **ret_region,
			 struct shmb_atomics64 *ret_counters)
{
	int r = shmb_client_connect(NULL, NULL, ret_client);

	if (r >= 0)
		r = shmb_region_open_or_create(*ret_client, region_name,
					       COUNTERS * sizeof(uint64_t), NULL, ret_region);
	if (r >= 0)
		r = shmb_region_atomics64(*ret_region, 0, COUNTERS, ret_counters);
	return r;
}

static void count(const struct shmb_atomics64 *counters, long times)
{
	atomic_fetch_add(&counters->words[VISITORS], 1);
	for (long i = 0; i < times; i++)
		atomic_fetch_add(&counters->words[i % 3 == 0 ? MISSES : HITS], 1);
}

/* Return: true if all of them ended well. */
static int run_others(void)
{
	int good = 1, status;

	for (int i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			(void)execlp(program, "counter", "one", (char *)NULL);
			_exit(127);
		}
	}
	for (int i = 0; i < PROCESSES; i++)
		good = wait(&status) > 0 && status == 0 && good;
	return good;
}

static int check(const struct shmb_atomics64 *counters)
{
	uint64_t hits = atomic_load(&counters->words[HITS]);
	uint64_t misses = atomic_load(&counters->words[MISSES]);

	printf("%" PRIu64 " hits and %" PRIu64 " misses, counted by %" PRIu64 " processes\n", hits,
	       misses, atomic_load(&counters->words[VISITORS]));
	return hits + misses == (uint64_t)PROCESSES * TIMES ? 0 : SHMB_EPROTO;
}

int main(int argc, char **argv)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	struct shmb_atomics64 counters = { 0 };
	int r = open_counters(&client, &region, &counters);

	program = argv[0];
	if (r >= 0 && argc > 1 && strcmp(argv[1], "one") == 0)
		count(&counters, argc > 2 ? strtol(argv[2], NULL, 10) : TIMES);
	else if (r >= 0)
		r = run_others() ? check(&counters) : SHMB_EIO;
	if (r < 0)
		fprintf(stderr, "counter: %s\n", shmb_strerror(r));
	(void)shmb_atomics64_release(&counters);
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}
