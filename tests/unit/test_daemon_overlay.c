/* SPDX-License-Identifier: MIT */
/* Overlays that are among our own mounts, and those that are not. */

#include "overlay.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEEN = 1, NOT_SEEN = 2, NO_OVERLAY = 3 };

/* In a mount namespace of its own: an overlay, and what its mounter says of it. */
static int look_inside(const char *directory, int device_to)
{
	char options[256], path[128];
	struct stat status;
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("t", directory, "tmpfs", 0, NULL) < 0)
		return NO_OVERLAY;
	for (const char *const *name = (const char *const[]){ "one", "two", "at", NULL }; *name;
	     name++) {
		snprintf(path, sizeof(path), "%s/%s", directory, *name);
		if (mkdir(path, 0700) < 0)
			return NO_OVERLAY;
	}
	snprintf(path, sizeof(path), "%s/one/file", directory);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	snprintf(options, sizeof(options), "lowerdir=%s/one:%s/two", directory, directory);
	snprintf(path, sizeof(path), "%s/at", directory);
	if (fd < 0 || mount("o", path, "overlay", MS_RDONLY, options) < 0)
		return NO_OVERLAY;
	close(fd);
	snprintf(path, sizeof(path), "%s/at/file", directory);
	if (stat(path, &status) < 0 || write(device_to, &status.st_dev, sizeof(status.st_dev)) < 0)
		return NO_OVERLAY;
	return overlay_is_mounted(status.st_dev) ? SEEN : NOT_SEEN;
}

static void overlays_are_told_by_whose_mounts_they_are(void **state)
{
	char directory[] = "/tmp/shmb-overlay.XXXXXX";
	int pipes[2], status;
	dev_t device;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		_exit(look_inside(directory, pipes[1]));
	close(pipes[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	rmdir(directory);
	if (WEXITSTATUS(status) != NO_OVERLAY) {
		assert_int_equal(WEXITSTATUS(status), SEEN);
		assert_int_equal(read(pipes[0], &device, sizeof(device)), sizeof(device));
		assert_false(overlay_is_mounted(device)); /* not in this namespace */
	}
	close(pipes[0]);
	if (WEXITSTATUS(status) == NO_OVERLAY)
		skip(); /* needs root */
}

static void other_mounts_are_no_overlays(void **state)
{
	struct stat status;

	(void)state;
	assert_int_equal(stat("/dev/shm", &status), 0);
	assert_false(overlay_is_mounted(status.st_dev));
	assert_int_equal(stat("/proc", &status), 0);
	assert_false(overlay_is_mounted(status.st_dev));
	assert_false(overlay_is_mounted(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overlays_are_told_by_whose_mounts_they_are),
		cmocka_unit_test(other_mounts_are_no_overlays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
