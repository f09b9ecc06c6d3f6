/* SPDX-License-Identifier: MIT */
/*
 * The runner: which figures, each in a process of its own (so that none sees the memory,
 * descriptors or CPU of another), a deadline for each, and cleaning up whatever happens. Knows
 * nothing of what a figure measures.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ftw.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

#include "bench.h"
#include "output.h"

enum {
	FIGURE_TIMEOUT_MS = 300000,
	ORPHANS_TIMEOUT_MS = 120000,
	EXIT_USAGE = 2,
};

static const struct bench_figure *const groups[] = {
	bench_broker_figures, bench_copy_figures,      bench_guard_figures, bench_handoff_figures,
	bench_lock_figures,   bench_semaphore_figures, bench_wait_figures,  bench_death_figures,
	bench_scale_figures,  bench_recovery_figures,  bench_io_figures,    bench_memory_figures,
	bench_flush_figures,
};

enum { N_GROUPS = sizeof(groups) / sizeof(groups[0]) };

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = number;
}

/* The system's own text for its errors that have no meaning of shmbroker's. */
static const char *sentence(int error)
{
	return strcmp(shmb_error_name(error), "unknown") == 0 ? strerror(-error)
							      : shmb_strerror(error);
}

/* ---- One measurement in a process of its own ---- */

struct answer {
	int status;
	struct bench_result result;
};

static void be_worker(const struct bench *bench, const struct bench_figure *figure,
		      enum bench_placement placement, int pipe_end)
{
	struct answer answer = { 0 };

	(void)signal(SIGINT, SIG_DFL);
	(void)signal(SIGTERM, SIG_DFL);
	answer.status = figure->measure(bench, figure, placement, &answer.result);
	if (write(pipe_end, &answer, sizeof(answer)) != (ssize_t)sizeof(answer))
		_exit(1);
	_exit(0);
}

/* Waits for what the worker left behind: a broker shuts down by itself when its lifeline is gone.
 */
static void reap_orphans(void)
{
	const struct timespec second = { .tv_sec = 1 };
	double end = bench_now() + ORPHANS_TIMEOUT_MS * 1e6;
	sigset_t child;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid > 0)
			continue;
		if (pid < 0 && errno != EINTR)
			return;
		if (bench_now() > end) {
			fprintf(stderr, "shmb_bench: a process of the figure does not end\n");
			return;
		}
		(void)sigtimedwait(&child, NULL, &second);
	}
}

static int collect(int pipe_end, pid_t worker, struct bench_result *ret_result)
{
	struct pollfd ready = { .fd = pipe_end, .events = POLLIN };
	const struct timespec limit = { .tv_sec = FIGURE_TIMEOUT_MS / 1000 };
	struct answer answer;
	sigset_t none;
	int n;

	(void)sigemptyset(&none);
	n = ppoll(&ready, 1, &limit, &none);
	if (n == 1 && read(pipe_end, &answer, sizeof(answer)) == (ssize_t)sizeof(answer)) {
		if (answer.status < 0)
			return answer.status;
		/* Nothing costs nothing: then something was not measured. */
		if (!(answer.result.ours > 0 && answer.result.floor > 0))
			return SHMB_EIO;
		*ret_result = answer.result;
		return 0;
	}
	(void)kill(worker, SIGKILL);
	if (interrupted)
		return SHMB_ECANCELED;
	return n == 0 ? SHMB_ETIMEDOUT : SHMB_EIO;
}

static int run_worker(const struct bench *bench, const struct bench_figure *figure,
		      enum bench_placement placement, struct bench_result *ret_result)
{
	int ends[2], r;
	pid_t worker;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	(void)fflush(NULL);
	worker = bench_fork();
	if (worker == 0)
		be_worker(bench, figure, placement, ends[1]);
	(void)close(ends[1]);
	r = worker < 0 ? (int)worker : collect(ends[0], worker, ret_result);
	(void)close(ends[0]);
	reap_orphans();
	return r;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)remove(path);
	return 0;
}

static int measure(const struct bench *bench, const struct bench_figure *figure,
		   enum bench_placement placement, struct bench_result *ret_result)
{
	const char *parent = getenv("TMPDIR");
	struct bench own = *bench;
	char directory[80];
	int r;

	if (interrupted)
		return SHMB_ECANCELED;
	if (bench->n_cpus < 2 && (figure->two_cpus || placement == BENCH_TWO_CPUS))
		return SHMB_ENOTSUP;
	if ((size_t)snprintf(directory, sizeof(directory), "%s/shmb_bench.XXXXXX",
			     parent ? parent : "/tmp") >= sizeof(directory))
		return -ENAMETOOLONG;
	if (!mkdtemp(directory))
		return -errno;
	own.directory = directory;
	r = run_worker(&own, figure, placement, ret_result);
	(void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	return r;
}

/* ---- Choosing ---- */

static bool chosen(const char *name, char *const *names, int n_names)
{
	for (int i = 0; i < n_names; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return n_names == 0;
}

struct run {
	const struct bench *bench;
	const struct output *output;
	char *const *names;
	int n_names;
	int failures;
};

static int run_one(struct run *run, const struct bench_figure *figure, const char *name,
		   enum bench_placement placement, struct bench_result *ret_result)
{
	int r = measure(run->bench, figure, placement, ret_result);

	if (r < 0) {
		fprintf(stderr, "shmb_bench: %s: %s\n", name, sentence(r));
		run->failures++;
	}
	return r;
}

/* Both placements; the plain name is the worse of the two. */
static void run_placed(struct run *run, const struct bench_figure *figure)
{
	static const char *const suffixes[] = { "_1cpu", "_2cpu" };
	bool plain = chosen(figure->name, run->names, run->n_names);
	struct bench_result worse = { 0 };
	bool have = false;

	for (int i = 0; i < 2; i++) {
		struct bench_result result;
		char name[64];

		(void)snprintf(name, sizeof(name), "%s%s", figure->name, suffixes[i]);
		if (!plain && !chosen(name, run->names, run->n_names))
			continue;
		if (run_one(run, figure, name, (enum bench_placement)i, &result) < 0)
			continue;
		output_figure(run->output, name, figure, &result);
		if (!have || result.ours / result.floor > worse.ours / worse.floor)
			worse = result;
		have = true;
	}
	if (plain && have)
		output_figure(run->output, figure->name, figure, &worse);
}

static void run_figure(struct run *run, const struct bench_figure *figure)
{
	struct bench_result result;

	if (figure->placed) {
		run_placed(run, figure);
		return;
	}
	if (!chosen(figure->name, run->names, run->n_names))
		return;
	if (run_one(run, figure, figure->name, BENCH_TWO_CPUS, &result) == 0)
		output_figure(run->output, figure->name, figure, &result);
}

static bool is_figure(const char *name)
{
	for (size_t g = 0; g < N_GROUPS; g++) {
		for (const struct bench_figure *figure = groups[g]; figure->name; figure++) {
			size_t length = strlen(figure->name);

			if (strncmp(name, figure->name, length) != 0)
				continue;
			if (name[length] == '\0' ||
			    (figure->placed && (strcmp(name + length, "_1cpu") == 0 ||
						strcmp(name + length, "_2cpu") == 0)))
				return true;
		}
	}
	return false;
}

static void list_figures(void)
{
	for (size_t g = 0; g < N_GROUPS; g++)
		for (const struct bench_figure *figure = groups[g]; figure->name; figure++)
			printf("%-20s against %s\n", figure->name, figure->floor);
}

/* ---- The whole run ---- */

static int prepare(struct bench *bench)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct rlimit limit;
	sigset_t blocked;
	int r;

	r = bench_find_cpus(bench);
	if (r < 0)
		return r;
	/* As far up as is allowed, for those figures that hold thousands of connections. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	(void)sigemptyset(&blocked);
	(void)sigaddset(&blocked, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &blocked, NULL);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

static int run_all(struct run *run)
{
	output_begin(run->output);
	for (size_t g = 0; g < N_GROUPS; g++)
		for (const struct bench_figure *figure = groups[g]; figure->name; figure++)
			if (!interrupted)
				run_figure(run, figure);
	if (interrupted) {
		(void)signal(interrupted, SIG_DFL);
		(void)raise(interrupted);
	}
	return run->failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void usage(FILE *stream)
{
	fputs("Usage: shmb_bench [OPTION]... [NAME]...\n"
	      "Measures shmbroker, each figure beside its floor in the same run.\n\n"
	      "  --json   one JSON object per line instead of a table\n"
	      "  --quick  small counts: shows that everything works, the times mean little\n"
	      "  --list   the figures and what each is compared with\n"
	      "  --help   this text\n\n"
	      "NAME is a figure (default: all); those with two processes also as NAME_1cpu and\n"
	      "NAME_2cpu, the plain name being the worse of the two. A line NAME_p99 is the 99th\n"
	      "percentile of what NAME is the median of. The broker is $SHMBROKERD, else that of\n"
	      "the build tree.\n",
	      stream);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "quick", no_argument, NULL, 'q' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct output output = { 0 };
	struct bench bench = { 0 };
	struct run run = { .bench = &bench, .output = &output };
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			output.json = true;
			break;
		case 'q':
			bench.quick = true;
			break;
		case 'l':
			list_figures();
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	run.names = argv + optind;
	run.n_names = argc - optind;
	for (int i = 0; i < run.n_names; i++) {
		if (!is_figure(run.names[i])) {
			fprintf(stderr, "shmb_bench: no figure is called \"%s\", see --list\n",
				run.names[i]);
			return EXIT_USAGE;
		}
	}
	r = prepare(&bench);
	if (r < 0) {
		fprintf(stderr, "shmb_bench: %s\n", sentence(r));
		return EXIT_FAILURE;
	}
	return run_all(&run);
}
