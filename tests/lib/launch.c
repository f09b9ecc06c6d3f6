/* SPDX-License-Identifier: MIT */
/*
 * Starting a daemon: its arguments, its environment, what it may do, and its descriptors, as a
 * service manager would pass them.
 *
 * Knows nothing of what becomes of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

enum { FIRST_PASSED = 3 };

/* ---- In the child, between fork and exec: no allocation failures to care for, no return ---- */

static void child_die(const char *what)
{
	dprintf(STDERR_FILENO, "cannot start the daemon: %s: %s\n", what, strerror(errno));
	_exit(127);
}

/* What a daemon is started with, beside its arguments. */
struct passed {
	int *fds; /* the listener, then what is in the store; n + 1 places, for the pipe */
	unsigned n;
	int pipe_end;
	char *names; /* of the descriptors, with colons between */
};

static void child_passes(const struct passed *passed)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%u", passed->n);
	setenv("LISTEN_FDS", text, 1);
	setenv("LISTEN_FDNAMES", passed->names, 1);
}

static void child_environment(const struct broker *broker, const struct passed *passed)
{
	const char *sanitizer = getenv("ASAN_OPTIONS");
	char text[256];

	unsetenv("JOURNAL_STREAM");
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_FDNAMES");
	unsetenv("SHMB_ADDRESS");
	unsetenv("FDSTORE");
	if (passed->n > 0)
		child_passes(passed);
	if (broker->store) {
		snprintf(text, sizeof(text), "%u", broker->options->fd_store);
		setenv("FDSTORE", text, 1);
		setenv("NOTIFY_SOCKET", broker_path(broker, "notify"), 1);
	}
	if (broker->options->notify_socket)
		setenv("NOTIFY_SOCKET", broker_path(broker, broker->options->notify_socket), 1);
	if (broker->faults) {
		setenv(FAULT_ENVIRONMENT, broker_path(broker, "faults"), 1);
		setenv("LD_PRELOAD", SHMB_TEST_FAULTS, 1);
		snprintf(text, sizeof(text), "%s%sverify_asan_link_order=0",
			 sanitizer ? sanitizer : "", sanitizer ? ":" : "");
		setenv("ASAN_OPTIONS", text, 1);
	}
}

/* A tmpfs of the process's own on /dev/shm, which others do not see. */
static bool mount_shm(const char *mount_options, unsigned long flags)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | flags, mount_options) ==
		       0;
}

bool can_mount_shm(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(mount_shm("size=1m", 0) ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void child_confine(const struct broker_options *options)
{
	struct rlimit limit = { options->nofile, options->nofile };

	if (options->nofile && setrlimit(RLIMIT_NOFILE, &limit) < 0)
		child_die("setrlimit");
	if (options->shm_mount &&
	    !mount_shm(options->shm_mount, options->shm_noexec ? MS_NOEXEC : 0))
		child_die("mount");
}

/*
 * Descriptors 0-2 as a daemon has them, those that are passed from 3 on, the pipe after them, and
 * nothing else. They are first moved out of each other's way.
 */
static void child_descriptors(const struct broker *broker, struct passed *passed)
{
	int null = open("/dev/null", O_RDWR);
	int log = open(broker->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int end = FIRST_PASSED + (int)passed->n + 1, i;

	if (null < 0 || log < 0)
		child_die("descriptors");
	passed->fds[passed->n] = passed->pipe_end >= 0 ? passed->pipe_end : null;
	for (i = FIRST_PASSED; i < end; i++) {
		passed->fds[i - FIRST_PASSED] =
			fcntl(passed->fds[i - FIRST_PASSED], F_DUPFD, end + 2);
		if (passed->fds[i - FIRST_PASSED] < 0)
			child_die("fcntl");
	}
	if (dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		child_die("dup2");
	for (i = FIRST_PASSED; i < end; i++)
		if (dup2(passed->fds[i - FIRST_PASSED], i) < 0)
			child_die("dup2");
	close_range((unsigned)(passed->pipe_end >= 0 ? end : end - 1), ~0U, 0);
}

static const char *daemon_program(const struct broker *broker)
{
	const char *program = getenv("SHMBROKERD");

	if (broker->program)
		return broker->program;
	return program ? program : SHMB_TEST_DAEMON;
}

static void child_exec(const struct broker *broker, const char *const arguments[])
{
	char *vector[32];
	size_t n = 0;

	vector[n++] = strdup(daemon_program(broker));
	while (*arguments && n < 31)
		vector[n++] = strdup(*arguments++);
	vector[n] = NULL;
	execv(vector[0], vector);
	child_die(vector[0]);
}

/* As fork(); in a namespace of its own the daemon is nobody's parent but sees only its children. */
static pid_t fork_daemon(const struct broker_options *options)
{
	if (!options->pid_namespace)
		return fork();
	return (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
}

bool can_make_pid_namespace(void)
{
	pid_t pid = fork_daemon(&(struct broker_options){ .pid_namespace = true });
	int status;

	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* The listener, and what the store holds, in the order in which systemd passes it. */
static struct passed pass(const struct broker *broker, int pipe_end, unsigned n_stored)
{
	struct passed passed = { .pipe_end = pipe_end };
	const char *name;
	unsigned i;

	passed.fds = calloc(n_stored + 2, sizeof(*passed.fds));
	passed.names = calloc(n_stored + 2, 64);
	CHECK(passed.fds && passed.names);
	if (broker->listener >= 0) {
		passed.fds[passed.n++] = broker->listener;
		strcpy(passed.names, "listener");
	}
	for (i = 0; i < n_stored; i++) {
		passed.fds[passed.n++] = store_get(broker->store, i, &name);
		sprintf(passed.names + strlen(passed.names), "%s%s", *passed.names ? ":" : "",
			name);
	}
	return passed;
}

static pid_t launch(struct broker *broker, const char *const arguments[], int pipe_end)
{
	unsigned n_stored = broker->store ? store_lock(broker->store) : 0;
	struct passed passed = pass(broker, pipe_end, n_stored);
	pid_t pid = SYS(fork_daemon(broker->options));

	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		alarm(0);
		child_environment(broker, &passed);
		child_descriptors(broker, &passed);
		child_confine(broker->options);
		child_exec(broker, arguments);
	}
	if (broker->store)
		store_unlock(broker->store);
	free(passed.fds);
	free(passed.names);
	broker->pid = pid;
	broker->pidfd = process_fd(pid);
	return pid;
}

pid_t broker_spawn(struct broker *broker, const char *const arguments[])
{
	return launch(broker, arguments, -1);
}

/* Arguments of a daemon; those that are made up live as long as the struct. */
struct arguments {
	char directory[128], config[128], socket[128], eof[32], on_stop[32];
	const char *all[32];
};

static void make_arguments(const struct broker *broker, unsigned n_stored,
			   struct arguments *arguments)
{
	const struct broker_options *options = broker->options;
	size_t n = 0, i;

	snprintf(arguments->directory, sizeof(arguments->directory), "--runtime-directory=%s",
		 broker->runtime);
	snprintf(arguments->config, sizeof(arguments->config), "--config=%s/config",
		 broker->directory);
	snprintf(arguments->socket, sizeof(arguments->socket), "--socket=%s", broker->socket);
	snprintf(arguments->eof, sizeof(arguments->eof), "--exit-on-eof=%u",
		 FIRST_PASSED + 1 + n_stored);
	snprintf(arguments->on_stop, sizeof(arguments->on_stop), "--on-stop=%s",
		 options->on_stop ? options->on_stop : "remove");
	arguments->all[n++] = options->system ? "--system" : "--private";
	arguments->all[n++] = arguments->on_stop;
	arguments->all[n++] = arguments->directory;
	arguments->all[n++] = arguments->config;
	arguments->all[n++] = options->own_socket ? arguments->socket : arguments->eof;
	for (i = 0; i < 8 && options->arguments[i]; i++)
		arguments->all[n++] = options->arguments[i];
	arguments->all[n] = NULL;
}

void launch_with_options(struct broker *broker)
{
	const struct broker_options *options = broker->options;
	struct arguments arguments;
	int ends[2];

	make_arguments(broker, broker->store ? store_count(broker->store) : 0, &arguments);
	SYS(pipe2(ends, O_CLOEXEC));
	launch(broker, arguments.all, options->own_socket ? -1 : ends[0]);
	close(ends[0]);
	broker->eof = ends[1];
}
