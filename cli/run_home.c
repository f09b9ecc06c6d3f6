/* SPDX-License-Identifier: MIT */
/*
 * The directory of a private broker, and the sockets in it. Knows nothing of processes.
 */

#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_ROOM = 24 }; /* the longest name below the directory, with '/' and NUL */

static int bind_socket(const struct run_home *home, const char *name, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int on = 1, fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	run_home_path(home, name, address.sun_path);
	/* nobody can connect before listen(), and nobody else comes into the directory anyway */
	if ((type == SOCK_DGRAM && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    chmod(address.sun_path, 0600) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

const char *run_home_path(const struct run_home *home, const char *name,
			  char buffer[sizeof(((struct sockaddr_un *)0)->sun_path)])
{
	snprintf(buffer, sizeof(home->path), "%.*s/%s", (int)sizeof(home->path) - NAME_ROOM,
		 home->path, name);
	return buffer;
}

static int make_listener(const struct run_home *home)
{
	int fd = bind_socket(home, "broker.sock", SOCK_SEQPACKET);

	if (fd >= 0 && listen(fd, SOMAXCONN) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

/* Return: whether there is a directory now. */
static bool make_below(struct run_home *home, const char *parent)
{
	int length;

	if (parent == NULL || parent[0] != '/')
		return false;
	length = snprintf(home->path, sizeof(home->path), "%s/shmbctl-XXXXXX", parent);
	if (length < 0 || length > (int)sizeof(home->path) - NAME_ROOM) {
		errno = ENAMETOOLONG; /* for a socket's address */
		return false;
	}
	return mkdtemp(home->path) != NULL;
}

int run_home_make(struct cli *cli, struct run_home *home)
{
	*home = (struct run_home){ .fd = -1, .listener = -1, .notifier = -1 };
	if (!make_below(home, secure_getenv("XDG_RUNTIME_DIR")) &&
	    !make_below(home, secure_getenv("TMPDIR")) && !make_below(home, "/tmp"))
		return cli_fail_errno(cli, home->path, errno);
	home->fd = open(home->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (home->fd >= 0)
		home->listener = make_listener(home);
	if (home->listener >= 0)
		home->notifier = bind_socket(home, "notify.sock", SOCK_DGRAM);
	if (home->notifier < 0) {
		int status = cli_fail_errno(cli, home->path, errno);

		run_home_remove(home);
		return status;
	}
	return CLI_OK;
}

static int remove_files(int fd)
{
	int result = 0, copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;

	if (directory == NULL) {
		if (copy >= 0)
			close(copy);
		return -1;
	}
	rewinddir(directory);
	while ((entry = readdir(directory)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, entry->d_name, 0) < 0 && errno != ENOENT)
			result = -1;
	}
	closedir(directory);
	return result;
}

bool run_home_has(const struct run_home *home, const char *name)
{
	return faccessat(home->fd, name, F_OK, 0) == 0;
}

bool run_home_is_taken(const struct run_home *home)
{
	int fd = openat(home->fd, "broker.lock", O_RDONLY | O_CLOEXEC);
	bool taken;

	if (fd < 0)
		return false;
	taken = flock(fd, LOCK_SH | LOCK_NB) < 0;
	close(fd);
	return taken;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void run_home_unlisten(struct run_home *home)
{
	close_fd(&home->listener);
}

int run_home_remove(struct run_home *home)
{
	close_fd(&home->listener);
	close_fd(&home->notifier);
	if (home->fd >= 0)
		remove_files(home->fd); /* if it fails, so does rmdir(), and says why */
	close_fd(&home->fd);
	return rmdir(home->path) < 0 && errno != ENOENT ? -1 : 0;
}
