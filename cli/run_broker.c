/* SPDX-License-Identifier: MIT */
/*
 * Finding the daemon and starting it on a socket, by the socket activation protocol of
 * sd_listen_fds(3).
 */

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Finding it ---- */

static bool try_path(char path[PATH_MAX], const char *directory, size_t length, const char *name)
{
	int n = snprintf(path, PATH_MAX, "%.*s/%s", (int)length, directory, name);

	return n > 0 && n < PATH_MAX && access(path, X_OK) == 0;
}

/* Beside our own executable: the same installation or the same build, not whichever is on PATH. */
static bool find_beside(char path[PATH_MAX])
{
	static const char *const places[] = { "shmbrokerd", "../daemon/shmbrokerd",
					      "../sbin/shmbrokerd" };
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self));
	const char *slash;

	if (length <= 0 || length >= (ssize_t)sizeof(self))
		return false;
	self[length] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (try_path(path, self, (size_t)(slash - self), places[i]))
			return true;
	return false;
}

static bool find_on_path(char path[PATH_MAX])
{
	const char *directory = secure_getenv("PATH");

	while (directory != NULL && *directory != '\0') {
		size_t length = strcspn(directory, ":");

		if (length > 0 && try_path(path, directory, length, "shmbrokerd"))
			return true;
		directory += length;
		directory += *directory == ':';
	}
	return false;
}

int run_broker_find(struct cli *cli, struct run_broker *broker)
{
	const char *given = secure_getenv("SHMBROKERD");

	if (given != NULL && *given != '\0') {
		if (strlen(given) >= sizeof(broker->path))
			return cli_fail(cli, 0, NULL, "SHMBROKERD is too long for a path");
		strcpy(broker->path, given);
		if (access(given, X_OK) < 0)
			return cli_fail(cli, 0, NULL, "SHMBROKERD=%s: %s", given, strerror(errno));
		return CLI_OK;
	}
	if (find_beside(broker->path) ||
	    try_path(broker->path, SHMB_SBINDIR, strlen(SHMB_SBINDIR), "shmbrokerd") ||
	    find_on_path(broker->path))
		return CLI_OK;
	return cli_fail(
		cli, 0, NULL,
		"shmbrokerd was not found beside shmbctl, in %s, or on PATH; set SHMBROKERD",
		SHMB_SBINDIR);
}

/* ---- Starting it ---- */

/* Behind the standard ones come those of the store, then these. */
enum { LISTENER, LIFELINE, EXEC, N_OTHERS };

enum { FIRST_FD = 3 }; /* of those that socket activation passes */

/* Where the others begin. */
static int first_other(const struct run_store *store)
{
	return FIRST_FD + (int)store->count;
}

/* Puts the descriptors where the daemon expects them, and closes every other one. */
static bool arrange_fds(const struct run_store *store, int listener, int lifeline, int *exec_fd)
{
	const int wanted[N_OTHERS] = { listener, lifeline, *exec_fd };
	int copies[N_OTHERS], first = first_other(store);

	/* out of the way first: one may lie where another has to go */
	for (int i = 0; i < N_OTHERS; i++) {
		copies[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, first + N_OTHERS);
		if (copies[i] < 0)
			return false;
	}
	*exec_fd = copies[EXEC];
	if (!run_store_arrange(store, FIRST_FD))
		return false;
	for (int i = 0; i < N_OTHERS; i++)
		if (dup2(copies[i], first + i) < 0)
			return false;
	*exec_fd = first + EXEC;
	if (fcntl(*exec_fd, F_SETFD, FD_CLOEXEC) < 0)
		return false;
	closefrom(first + N_OTHERS);
	return true;
}

static bool set_number(const char *name, size_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%zu", number);
	return setenv(name, text, 1) == 0;
}

/* What is from a service manager that shmbctl itself may be running under. */
static void clear_environment(void)
{
	static const char *const theirs[] = { "LISTEN_PID",     "LISTEN_FDS",   "LISTEN_FDNAMES",
					      "LISTEN_PIDFDID", "FDSTORE",      "NOTIFY_SOCKET",
					      "WATCHDOG_PID",   "WATCHDOG_USEC" };

	for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
		unsetenv(theirs[i]);
}

/* After the descriptors: the names are in their order. */
static bool arrange_environment(const struct run_home *home, const struct run_store *store)
{
	char path[sizeof(home->path)], *names;

	if (!set_number("LISTEN_PID", (size_t)getpid()) ||
	    !set_number("LISTEN_FDS", (size_t)first_other(store) - FIRST_FD + 1))
		return false;
	names = run_store_names(store, "listener");
	return names != NULL && setenv("LISTEN_FDNAMES", names, 1) == 0 &&
	       setenv("NOTIFY_SOCKET", run_home_path(home, "notify.sock", path), 1) == 0 &&
	       (store->room == 0 || set_number("FDSTORE", store->room));
}

/* @lifeline: its number in the broker; -1: this one only removes what a dead one left. */
static char **make_arguments(const struct run_broker *broker, const struct run_home *home,
			     int lifeline)
{
	char **argv = calloc(broker->extra.count + 8, sizeof(*argv));
	size_t n = 0;
	bool ok = argv != NULL;

	if (!ok)
		return NULL;
	argv[n++] = strdup(broker->path);
	argv[n++] = strdup("--private");
	ok = asprintf(&argv[n++], "--runtime-directory=%s", home->path) >= 0 && ok;
	ok = asprintf(&argv[n++], "--log-level=%s", broker->log_level) >= 0 && ok;
	if (lifeline < 0) {
		argv[n++] = strdup("--purge");
	} else {
		ok = asprintf(&argv[n++], "--exit-on-eof=%d", lifeline) >= 0 && ok;
		/* who stops this broker alone, gets another one, and that goes on */
		argv[n++] = strdup("--on-stop=keep");
		for (size_t i = 0; i < broker->extra.count; i++)
			ok = asprintf(&argv[n++], "--%s", broker->extra.items[i]) >= 0 && ok;
	}
	while (n > 0) /* the child ends anyway, if there was no memory */
		ok = argv[--n] != NULL && ok;
	return ok ? argv : NULL;
}

/* What a child is to become. */
struct task {
	const struct run_broker *broker;
	const struct run_home *home;
	const struct run_store *store; /* NULL: it is to purge, and the rest is not needed */
	int listener, lifeline;
};

/* In the child. Returns only if something failed, with errno. */
static void become(const struct task *task, int *exec_fd)
{
	const struct run_store *store = task->store;
	char **argv = make_arguments(task->broker, task->home,
				     store != NULL ? first_other(store) + LIFELINE : -1);

	if (argv == NULL)
		return;
	clear_environment();
	if (store != NULL && (!arrange_fds(store, task->listener, task->lifeline, exec_fd) ||
			      !arrange_environment(task->home, store)))
		return;
	sigprocmask(SIG_SETMASK, &task->broker->signals, NULL);
	execv(task->broker->path, argv);
}

static pid_t start(const struct task *task)
{
	int fds[2], error;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		become(task, &fds[1]);
		error = errno;
		(void)!write(fds[1], &error, sizeof(error));
		_exit(CLI_CANNOT_EXECUTE);
	}
	error = errno;
	close(fds[1]);
	if (pid < 0)
		close(fds[0]);
	else
		error = child_exec_result(fds[0]);
	if (pid > 0 && error != 0) {
		waitpid(pid, NULL, 0); /* it is at its end */
		pid = -1;
	}
	errno = error;
	return pid;
}

pid_t run_broker_start(const struct run_broker *broker, const struct run_home *home, int listener,
		       int lifeline, const struct run_store *store)
{
	const struct task task = { broker, home, store, listener, lifeline };

	return start(&task);
}

pid_t run_broker_purge(const struct run_broker *broker, const struct run_home *home)
{
	const struct task task = { broker, home, NULL, -1, -1 };

	return start(&task);
}
