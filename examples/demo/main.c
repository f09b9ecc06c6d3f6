/* SPDX-License-Identifier: MIT */
/*
 * The demo's driver: starts the processes, has the file moved both ways, verifies every run. The
 * exit status is 0 only if every checksum was right.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crew.h"
#include "demo.h"
#include "file.h"
#include "show.h"

enum { RUNS = 5, LARGE_BYTES = 512 * 1024 * 1024 };

struct driver {
	struct file file;
	struct crew crew;
	struct shmb_client *client;
	struct shmb_region *frames; /* read-only, for the progress bar */
	struct bar bar;
	int n_runs; /* of each kind */
};

static uint64_t on_progress(void *userdata)
{
	const struct driver *driver = userdata;
	struct demo_header *header = shmb_region_data(driver->frames);
	uint64_t now = atomic_load_explicit(&header->progress, memory_order_relaxed);

	/* What a process wrote is not believed, not even for a bar. */
	if (now > driver->file.size)
		now = driver->file.size;
	show_bar(&driver->bar, now);
	return now;
}

/* ---- Meeting ---- */

static int order_and_collect(struct driver *driver, int index, enum demo_task task)
{
	const struct demo_order order = { .task = task };
	struct demo_report reports[CREW_SIZE];
	int r = crew_order(&driver->crew, index, &order);

	return r < 0 ? r : crew_collect(&driver->crew, NULL, NULL, reports);
}

/* The publisher makes region and semaphores, the receivers open them. */
static int introduce(struct driver *driver)
{
	int r = order_and_collect(driver, CREW_PUBLISHER, DEMO_MAKE);

	for (int i = CREW_RECEIVER; r >= 0 && i < CREW_SIZE; i++)
		r = order_and_collect(driver, i, DEMO_MAKE);
	if (r >= 0)
		r = shmb_region_open(driver->client, DEMO_FRAMES_NAME, SHMB_READ, NULL,
				     &driver->frames);
	return r;
}

/* ---- Moving the file once ---- */

static int verify(const struct driver *driver, enum demo_check check,
		  const struct demo_report *reports)
{
	for (int i = CREW_RECEIVER; i < CREW_SIZE; i++) {
		if (reports[i].bytes == driver->file.size &&
		    memcmp(reports[i].digest, driver->file.digests[check], DEMO_DIGEST_BYTES) == 0)
			continue;
		fprintf(stderr, "demo: %s got something else than the file\n",
			driver->crew.members[i].title);
		return SHMB_EIO;
	}
	return 0;
}

/* From the publisher's first byte to the last receiver's checksum. */
static double seconds_of(const struct demo_report *reports)
{
	double end = reports[CREW_PUBLISHER].end;

	for (int i = CREW_RECEIVER; i < CREW_SIZE; i++)
		if (reports[i].end > end)
			end = reports[i].end;
	return end - reports[CREW_PUBLISHER].begin;
}

static int move_once(struct driver *driver, enum demo_way way, enum demo_check check,
		     struct demo_report *ret_reports, double *ret_seconds)
{
	static const char *const texts[DEMO_WAYS] = { "through shared memory",
						      "through Unix sockets" };
	const struct demo_order order = { DEMO_MOVE, way, check };
	int r = 0;

	driver->bar.text = texts[way];
	for (int i = CREW_SIZE - 1; r >= 0 && i >= 0; i--)
		r = crew_order(&driver->crew, i, &order);
	if (r >= 0)
		r = crew_collect(&driver->crew, on_progress, driver, ret_reports);
	if (r >= 0)
		r = verify(driver, check, ret_reports);
	if (r < 0)
		return r;
	driver->bar.done += driver->file.size;
	*ret_seconds = seconds_of(ret_reports);
	return 0;
}

/* ---- All of it ---- */

static int compare_doubles(const void *left, const void *right)
{
	double l = *(const double *)left, r = *(const double *)right;

	return (l > r) - (l < r);
}

/* Both ways in turns, so that whatever else the machine does hits both. */
static int measure(struct driver *driver, enum demo_check check, struct speeds *speeds)
{
	double seconds[DEMO_WAYS][RUNS];

	for (int run = 0; run < driver->n_runs; run++) {
		for (int way = 0; way < DEMO_WAYS; way++) {
			struct demo_report reports[CREW_SIZE];
			int r = move_once(driver, (enum demo_way)way, check, reports,
					  &seconds[way][run]);

			if (r < 0)
				return r;
		}
	}
	for (int way = 0; way < DEMO_WAYS; way++) {
		qsort(seconds[way], (size_t)driver->n_runs, sizeof(double), compare_doubles);
		speeds->values[check][way] =
			(double)driver->file.size / seconds[way][driver->n_runs / 2] / 1e9;
	}
	return 0;
}

static int perform(struct driver *driver)
{
	struct demo_report reports[CREW_SIZE];
	struct accidents accidents;
	struct speeds speeds;
	double seconds;
	int r = introduce(driver);

	if (r < 0)
		return r;
	show_crew(&driver->crew);
	r = move_once(driver, DEMO_MEMORY, DEMO_SHA256, reports, &seconds);
	clear_bar(&driver->bar);
	if (r < 0)
		return r;
	printf("The file went through shared memory for the first time, in %.1f ms:\n\n",
	       seconds * 1e3);
	show_verified(&driver->crew, &driver->file, reports);
	show_regions();
	for (int check = 0; r >= 0 && check < DEMO_CHECKS; check++)
		r = measure(driver, (enum demo_check)check, &speeds);
	clear_bar(&driver->bar);
	if (r < 0)
		return r;
	show_speeds(&driver->file, &speeds, driver->n_runs);
	show_accident_opening();
	r = accidents_happen(driver->client, show_locks, &accidents);
	if (r >= 0)
		show_accidents(&accidents);
	return r;
}

static int driver_run(struct driver *driver)
{
	int r = crew_start(&driver->crew, driver->file.path, driver->file.size);

	if (r >= 0)
		r = perform(driver);
	crew_end(&driver->crew, r < 0);
	shmb_region_free(driver->frames);
	return r;
}

static int fail(const char *what, int error)
{
	fprintf(stderr, "demo: %s: %s\n", what, shmb_strerror(error));
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static struct driver driver;
	int r;

	if (argc > 1 && strcmp(argv[1], "role") == 0)
		return role_main(argc, argv);
	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		fprintf(stderr, "Usage: shmbctl run -- %s [FILE]\n", argv[0]);
		return 2;
	}
	r = file_choose(argc > 1 ? argv[1] : NULL, &driver.file);
	if (r >= 0)
		r = file_digest(&driver.file);
	if (r < 0)
		return fail(argc > 1 ? argv[1] : "no large file found", r);
	r = shmb_client_connect(NULL, NULL, &driver.client);
	if (r < 0)
		return fail("no broker (start this with `shmbctl run -- demo`)", r);
	driver.n_runs = driver.file.size < LARGE_BYTES ? RUNS : 1;
	driver.bar.terminal = isatty(STDOUT_FILENO);
	driver.bar.total =
		driver.file.size * (1 + (uint64_t)driver.n_runs * DEMO_WAYS * DEMO_CHECKS);
	show_opening(&driver.file);
	r = driver_run(&driver);
	shmb_client_free(driver.client);
	if (r < 0)
		return fail("stopped", r);
	show_closing();
	return EXIT_SUCCESS;
}
