/* SPDX-License-Identifier: MIT */
/*
 * A table that several processes write and read, and what to do about writers that die half-way.
 *
 *   writers      move amounts between cells, under the exclusive lock; some of them are killed
 *                between the two halves of a move
 *   readers      look at the table in place, under the shared lock
 *   an onlooker  has read access alone, so it cannot lock: it takes snapshots
 *
 * The rule of the table is that its cells add up to its total. Under the lock it holds, always. If
 * a writer dies with the lock held, the next one is given the lock together with SHMB_EOWNERDEAD:
 * it puts the table right and says so. Until then nobody reads a broken table, because shared
 * lockers and snapshots get the error instead.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

enum {
	CELLS = 64,
	MOVES = 2000,
	WRITERS = 4, /* the odd ones die */
	READERS = 2,
	PROCESSES = WRITERS + READERS + 1,
	PATIENCE_MS = 10000,
};

struct table {
	uint64_t total;
	uint64_t cells[CELLS];
	_Atomic uint32_t repairs; /* not of the table proper: anybody may count at any time */
	_Atomic uint32_t done;    /* readers and onlooker are to end */
};

static const char table_name[] = "scratch/table";

static uint64_t sum_of(const struct table *table)
{
	uint64_t sum = 0;

	for (int i = 0; i < CELLS; i++)
		sum += table->cells[i];
	return sum;
}

/* ---- Writers ---- */

/* For a table of any kind: look at what is there, make it right again, and only then say so. */
static int repair(struct shmb_region *region)
{
	struct table *table = shmb_region_data(region);

	table->cells[0] += table->total - sum_of(table);
	atomic_fetch_add(&table->repairs, 1);
	return shmb_region_mark_consistent(region);
}

static int lock_for_writing(struct shmb_region *region)
{
	int r = shmb_region_lock(region, SHMB_EXCLUSIVE, PATIENCE_MS);

	/* Locked, but the one before us died: whatever it was doing is half done. */
	return r == SHMB_EOWNERDEAD ? repair(region) : r;
}

static int write_table(struct shmb_region *region, unsigned number)
{
	struct table *table = shmb_region_data(region);

	for (unsigned i = 0; i < MOVES; i++) {
		int r = lock_for_writing(region);

		if (r < 0)
			return r;
		table->cells[(i + number) % CELLS] -= i;
		if (number % 2 && i == MOVES / 2)
			(void)raise(SIGKILL);
		table->cells[i * 7 % CELLS] += i;
		r = shmb_region_unlock(region);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- Readers ---- */

static int read_table(struct shmb_region *region, unsigned number)
{
	struct table *table = shmb_region_data(region);

	(void)number;
	while (!atomic_load(&table->done)) {
		int r = shmb_region_lock(region, SHMB_SHARED, PATIENCE_MS);

		if (r == SHMB_EOWNERDEAD)
			continue; /* a writer will put it right */
		if (r < 0)
			return r;
		r = sum_of(table) == table->total ? 0 : SHMB_EPROTO;
		(void)shmb_region_unlock(region);
		if (r < 0)
			return r;
	}
	return 0;
}

static int watch_table(struct shmb_region *region, unsigned number)
{
	struct table *table = shmb_region_data(region), copy;

	(void)number;
	while (!atomic_load(&table->done)) {
		int r = shmb_region_snapshot(region, 0, &copy, sizeof(copy));

		if (r == SHMB_EBUSY || r == SHMB_EOWNERDEAD)
			continue;
		if (r < 0)
			return r;
		if (sum_of(&copy) != copy.total)
			return SHMB_EPROTO;
	}
	return 0;
}

/* ---- The processes ---- */

static int be(unsigned access, int (*work)(struct shmb_region *region, unsigned number),
	      unsigned number)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_open(client, table_name, access, NULL, &region);
	if (r >= 0)
		r = work(region, number);
	if (r < 0)
		fprintf(stderr, "scratch_table: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int role(const char *name, unsigned number)
{
	if (strcmp(name, "writer") == 0)
		return be(SHMB_READ | SHMB_WRITE, write_table, number);
	if (strcmp(name, "reader") == 0)
		return be(SHMB_READ | SHMB_LOCK, read_table, number);
	return be(SHMB_READ, watch_table, number);
}

/* A program of its own: a client does not survive a fork. */
static pid_t start(const char *name, int number)
{
	char text[8];
	pid_t pid;

	(void)snprintf(text, sizeof(text), "%d", number);
	pid = fork();
	if (pid == 0) {
		(void)execl("/proc/self/exe", "scratch_table", name, text, (char *)NULL);
		_exit(127);
	}
	return pid;
}

/* Return: true if it ended as it should. */
static bool end(pid_t pid, bool dies)
{
	int status = 0;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	return dies ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : status == 0;
}

static int run(struct shmb_region *region)
{
	struct table *table = shmb_region_data(region);
	pid_t pids[PROCESSES];
	bool good = true;
	int n = 0, r;

	/* Nobody else knows of it yet. */
	table->total = table->cells[0] = 1000;
	while (n < WRITERS) {
		pids[n] = start("writer", n);
		n++;
	}
	while (n < WRITERS + READERS)
		pids[n++] = start("reader", 0);
	pids[n++] = start("onlooker", 0);
	for (int i = 0; i < WRITERS; i++)
		good = end(pids[i], i % 2) && good;
	/* The last writer may be one of those who died. */
	r = lock_for_writing(region);
	if (r == 0) {
		good = good && sum_of(table) == table->total;
		r = shmb_region_unlock(region);
	}
	atomic_store(&table->done, 1);
	for (int i = WRITERS; i < n; i++)
		good = end(pids[i], false) && good;
	printf("%d writers, %d of which died half-way: the table was put right %u times\n", WRITERS,
	       WRITERS / 2, atomic_load(&table->repairs));
	return r < 0 || (good && atomic_load(&table->repairs) == WRITERS / 2) ? r : SHMB_EPROTO;
}

int main(int argc, char **argv)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r;

	if (argc == 3)
		return role(argv[1], (unsigned)strtoul(argv[2], NULL, 10));
	r = shmb_client_connect(NULL, NULL, &client);
	if (r >= 0)
		r = shmb_region_create(client, table_name, sizeof(struct table), NULL, &region);
	if (r >= 0)
		r = run(region);
	if (r < 0)
		fprintf(stderr, "scratch_table: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
