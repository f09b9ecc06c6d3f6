/* SPDX-License-Identifier: MIT */
/*
 * The accident: a holder of a lock is killed, and the heir, who waits for it, is timed. Knows
 * nothing of the file and its frames.
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crew.h"
#include "demo.h"

enum { ACCIDENTS = 20 };

struct scene {
	uint64_t half, other_half; /* equal, unless somebody is writing, or died of it */
	double died, inherited;    /* seconds, monotonic */
};

/* ---- The two ---- */

/* Writes the first half, and never comes to the second. */
static int hold(struct shmb_region *region)
{
	struct scene *scene = shmb_region_data(region);
	int r = shmb_region_lock(region, SHMB_EXCLUSIVE, DEMO_PATIENCE_MS);

	if (r < 0)
		return r;
	scene->half++;
	for (;;)
		(void)pause();
}

static int inherit(struct shmb_region *region)
{
	struct scene *scene = shmb_region_data(region);
	int r = shmb_region_lock(region, SHMB_EXCLUSIVE, DEMO_PATIENCE_MS);

	scene->inherited = demo_now();
	if (r != SHMB_EOWNERDEAD)
		return r < 0 ? r : SHMB_EPROTO;
	scene->other_half = scene->half;
	r = shmb_region_mark_consistent(region);
	return r < 0 ? r : shmb_region_unlock(region);
}

int accident_role(const char *role)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_open(client, DEMO_ACCIDENT_NAME, SHMB_READ | SHMB_WRITE | SHMB_LOCK,
				     NULL, &region);
	if (r >= 0)
		r = strcmp(role, "holder") == 0 ? hold(region) : inherit(region);
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- The driver ---- */

static pid_t start(const char *role)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)execl("/proc/self/exe", "demo", "role", role, (char *)NULL);
		_exit(127);
	}
	return pid;
}

/* Until somebody holds the lock, and that many wait for it. */
static int wait_for_scene(struct shmb_client *client, uint32_t waiting)
{
	double deadline = demo_now() + DEMO_PATIENCE_MS / 1000.0;
	struct shmb_lock_info info = { .struct_size = sizeof(info) };

	while (demo_now() < deadline) {
		int r = shmb_lock_stat(client, DEMO_ACCIDENT_NAME, &info);

		if (r < 0 || (info.held && info.waiting_exclusive == waiting))
			return r;
	}
	return SHMB_ETIMEDOUT;
}

static int happen(struct shmb_client *client, struct scene *scene, void (*show)(void),
		  double *ret_seconds)
{
	pid_t holder = start("holder"), heir = -1;
	int r = holder < 0 ? -errno : wait_for_scene(client, 0);

	if (r >= 0) {
		heir = start("heir");
		r = heir < 0 ? -errno : wait_for_scene(client, 1);
	}
	if (r >= 0 && show)
		show();
	scene->died = demo_now();
	if (holder > 0)
		(void)crew_wait(holder, 0); /* with the patience of 0 ms: kills it */
	if (heir > 0 && crew_wait(heir, DEMO_PATIENCE_MS) != 0 && r >= 0)
		r = SHMB_EIO;
	*ret_seconds = scene->inherited - scene->died;
	return r >= 0 && scene->half != scene->other_half ? SHMB_EPROTO : r;
}

static int compare_doubles(const void *left, const void *right)
{
	double l = *(const double *)left, r = *(const double *)right;

	return (l > r) - (l < r);
}

int accidents_happen(struct shmb_client *client, void (*show)(void),
		     struct accidents *ret_accidents)
{
	struct shmb_region *region = NULL;
	double seconds[ACCIDENTS];
	int r = shmb_region_create(client, DEMO_ACCIDENT_NAME, sizeof(struct scene), NULL, &region);

	for (int i = 0; r >= 0 && i < ACCIDENTS; i++)
		r = happen(client, shmb_region_data(region), i == 0 ? show : NULL, &seconds[i]);
	shmb_region_free(region);
	if (r < 0)
		return r;
	qsort(seconds, ACCIDENTS, sizeof(double), compare_doubles);
	*ret_accidents =
		(struct accidents){ ACCIDENTS, seconds[ACCIDENTS / 2], seconds[ACCIDENTS - 1] };
	return 0;
}
