/* SPDX-License-Identifier: MIT */
/*
 * Processes: that none outlives the benchmark, where they run, what memory they have. Knows
 * nothing of shmbroker.
 */

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/errors.h>

#include "bench.h"

pid_t bench_fork(void)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	return 0;
}

void bench_end(pid_t pid)
{
	if (pid < 1)
		return;
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int bench_pin(pid_t pid, int cpu)
{
	char path[64];
	struct dirent *entry;
	cpu_set_t set;
	DIR *tasks;
	int r = 0;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	(void)snprintf(path, sizeof(path), "/proc/%ld/task", (long)(pid ? pid : getpid()));
	tasks = opendir(path);
	if (!tasks)
		return -errno;
	while ((entry = readdir(tasks)) != NULL) {
		long task = strtol(entry->d_name, NULL, 10);

		if (task > 0 && sched_setaffinity((pid_t)task, sizeof(set), &set) < 0)
			r = -errno;
	}
	(void)closedir(tasks);
	return r;
}

int bench_place(const struct bench *bench, enum bench_placement placement, pid_t other)
{
	int r = bench_pin(0, bench->cpus[0]);

	if (r < 0)
		return r;
	return bench_pin(other, bench->cpus[placement == BENCH_TWO_CPUS]);
}

/* The letter of /proc/PID/stat: behind the name, which may contain anything but ends the last ')'.
 */
static int process_state(pid_t pid, char *ret_state)
{
	char path[64], line[512];
	const char *end;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	(void)fclose(file);
	if (!end || end[1] != ' ')
		return SHMB_EIO;
	*ret_state = end[2];
	return 0;
}

int bench_await_sleep(pid_t pid)
{
	char state = 'R';

	while (state != 'S') {
		int r = process_state(pid, &state);

		if (r < 0)
			return r;
		if (state == 'Z' || state == 'X')
			return SHMB_EIO;
		/* It may have nowhere else to run. */
		(void)sched_yield();
	}
	return 0;
}

/* The number of the core that a CPU is a thread of, or the CPU itself where the system is silent.
 */
static int core_of(int cpu)
{
	int core = -1, package = 0;
	char path[96];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/core_id", cpu);
	file = fopen(path, "re");
	if (!file)
		return cpu;
	if (fscanf(file, "%d", &core) != 1)
		core = cpu;
	(void)fclose(file);
	(void)snprintf(path, sizeof(path),
		       "/sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
	file = fopen(path, "re");
	if (file) {
		if (fscanf(file, "%d", &package) != 1)
			package = 0;
		(void)fclose(file);
	}
	return package * 65536 + core;
}

int bench_find_cpus(struct bench *bench)
{
	cpu_set_t set;
	int siblings = -1;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return -errno;
	bench->n_cpus = 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && bench->n_cpus < 2; cpu++) {
		if (!CPU_ISSET((unsigned)cpu, &set))
			continue;
		if (bench->n_cpus == 1 && core_of(cpu) == core_of(bench->cpus[0])) {
			if (siblings < 0)
				siblings = cpu;
			continue;
		}
		bench->cpus[bench->n_cpus++] = cpu;
	}
	if (bench->n_cpus == 1 && siblings >= 0)
		bench->cpus[bench->n_cpus++] = siblings;
	return bench->n_cpus > 0 ? 0 : SHMB_ENOTSUP;
}

int bench_anonymous_bytes(pid_t pid, uint64_t *ret_bytes)
{
	unsigned long long kib;
	char path[64], line[256];
	int r = SHMB_ENOTSUP;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%ld/smaps_rollup", (long)pid);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Anonymous: %llu kB", &kib) == 1) {
			*ret_bytes = (uint64_t)kib * 1024;
			r = 0;
		}
	}
	(void)fclose(file);
	return r;
}

int bench_need_fds(const char *figure, uint64_t needed)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	if (limit.rlim_max >= needed)
		return 0;
	fprintf(stderr,
		"shmb_bench: %s needs RLIMIT_NOFILE of %llu, the hard limit is %llu (ulimit -Hn)\n",
		figure, (unsigned long long)needed, (unsigned long long)limit.rlim_max);
	return SHMB_EMFILE;
}
