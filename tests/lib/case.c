/* SPDX-License-Identifier: MIT */
/*
 * Runs cases: registers them, gives each a daemon, and looks afterwards at what was left behind.
 *
 * Knows cmocka and the rest of the harness; knows nothing of any particular test.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

static struct harness_case *cases;
static unsigned n_cases;

static struct {
	struct broker broker;
	const struct harness_case *entry;
	unsigned fds; /* of this process before the case */
	bool passed;
} current;

void harness_register(struct harness_case *entry)
{
	struct harness_case **end = &cases;

	while (*end)
		end = &(*end)->next;
	*end = entry;
	n_cases++;
}

unsigned harness_slow(void)
{
	/* How much slower whatever runs this makes it; see tests/tools/valgrind. */
	const char *told = getenv("SHMB_TEST_SLOW");

	if (told)
		return (unsigned)strtoul(told, NULL, 10);
#ifdef SHMB_TEST_SANITIZED
	return 6;
#else
	return 1;
#endif
}

int64_t harness_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void harness_fail(const char *file, int line, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (actor_is_me()) {
		fprintf(stderr, "%s:%d: process of uid %d: %s\n", file, line, (int)geteuid(), text);
		_exit(1);
	}
	print_error("%s:%d: %s\n", file, line, text);
	_fail(file, line);
	abort(); /* _fail() does not return */
}

int harness_sys(const char *file, int line, const char *what, long result)
{
	if (result < 0)
		harness_fail(file, line, "%s: %s", what, strerror(errno));
	return (int)result;
}

unsigned fd_count(pid_t pid)
{
	char path[32];
	unsigned n = 0;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	directory = opendir(path);
	if (!directory)
		FAIL("%s: %s", path, strerror(errno));
	while (readdir(directory))
		n++;
	closedir(directory);
	return n - 2 - (pid == getpid());
}

/* A case that hangs ends its process; the daemon follows, because its pipe closes. */
static void on_alarm(int signal_number)
{
	static const char text[] = "the case takes too long, giving up\n";
	ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

	_exit(n < 0 ? 98 : 99);
}

static const char *reason_to_skip(const struct broker_options *options)
{
	if ((options->system || options->shm_mount || options->runtime_mount ||
	     options->pid_namespace) &&
	    geteuid() != 0)
		return "needs root: processes of several users, a mount, or a namespace";
	if (options->shm_mount && !can_mount_shm())
		return "may not mount a /dev/shm of its own here";
	if (options->runtime_mount && !can_mount_shm())
		return "may not mount a runtime directory here";
	if (options->pid_namespace && !can_make_pid_namespace())
		return "may not make a namespace here";
#ifdef SHMB_TEST_NO_FAULTS
	if (options->faults)
		return "clang's sanitizers stand before every preloaded library";
#endif
	return NULL;
}

static void run_case(void **state)
{
	const struct harness_case *entry = *state;
	const struct broker_options *options = &entry->options;
	const char *reason = reason_to_skip(options);

	current.entry = entry;
	current.passed = false;
	memset(&current.broker, 0, sizeof(current.broker));
	if (reason) {
		current.entry = NULL;
		SKIP(reason);
	}
	alarm((options->timeout_s ? options->timeout_s : 30) * harness_slow());
	current.fds = fd_count(getpid());
	broker_prepare(&current.broker, options);
	if (!options->bare)
		broker_start(&current.broker);
	entry->function(&current.broker);
	current.passed = true;
}

static const char *look_behind(struct broker *broker)
{
	static char text[128];
	int status;

	if (broker->pid && broker->probe && current.passed && !broker->options->keeps_fds &&
	    !broker_settles(broker)) {
		snprintf(text, sizeof(text),
			 "the daemon has %u descriptors, without clients it had %u",
			 fd_count(broker->pid), broker->fds);
		return text;
	}
	if (broker->pid) {
		status = broker_stop(broker);
		if (status && !broker->options->exit_unclean) {
			snprintf(text, sizeof(text), "the daemon ended with %d", status);
			return text;
		}
	}
	if (!broker->options->shm_mount && broker_shm_count(broker))
		return "the daemon left memory in /dev/shm";
	if (broker->options->own_socket && access(broker->socket, F_OK) == 0)
		return "the daemon left its socket";
	return NULL;
}

static int end_case(void **state)
{
	struct broker *broker = &current.broker;
	const char *problem;

	if (!current.entry)
		return 0;
	actors_kill();
	problem = look_behind(broker);
	if (!current.passed || problem)
		broker_print_log(broker);
	broker_remove(broker);
	alarm(0);
	if (problem)
		FAIL("%s", problem);
	if (current.passed && fd_count(getpid()) != current.fds)
		FAIL("this process has %u descriptors, before it had %u", fd_count(getpid()),
		     current.fds);
	return 0;
}

int main(int argc, char *argv[])
{
	struct CMUnitTest *tests = calloc(n_cases + 1, sizeof(*tests));
	struct harness_case *entry;
	size_t n = 0;
	int failed;

	if (!tests)
		return 1;
	setvbuf(stdout, NULL, _IONBF, 0);
	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	for (entry = cases; entry; entry = entry->next) {
		if (argc > 1 && strcmp(argv[1], entry->name) != 0)
			continue;
		tests[n++] = (struct CMUnitTest){ .name = entry->name,
						  .test_func = run_case,
						  .teardown_func = end_case,
						  .initial_state = entry };
	}
	if (n == 0) {
		fprintf(stderr, "no case of that name\n");
		free(tests);
		return 2;
	}
	failed = _cmocka_run_group_tests("cases", tests, n, NULL, NULL);
	free(tests);
	return failed != 0;
}
