/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

/*
 * What the figures of shmb_bench share: the table that names them, the comparison of contenders,
 * and where processes run.
 *
 * Functions return 0 or a negative SHMB_E... (or -errno, which is the same where both exist).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Where the two processes of a figure run. */
enum bench_placement { BENCH_ONE_CPU, BENCH_TWO_CPUS };

enum { BENCH_SIDES_MAX = 3 };

struct bench {
	bool quick;            /* smaller counts: only that everything works */
	const char *directory; /* of this figure, for sockets; removed with all that is in it */
	int cpus[2];           /* of different cores, where the machine has them */
	unsigned n_cpus;       /* 1 or 2 */
};

struct bench_result {
	double ours, floor;
	double beside;              /* the same by figure->beside; 0: does not apply */
	double ours_p99, floor_p99; /* where single operations are timed; 0: does not apply */
	uint64_t n;                 /* samples behind each median, or objects that were counted */
};

struct bench_figure {
	const char *name;
	const char *unit;
	const char *floor;  /* what the floor is, for people */
	const char *beside; /* a third way to compare with, one word for JSON; NULL: none */
	uint64_t size;      /* bytes moved by one operation, or objects to make */
	bool placed;        /* measured on one CPU and on two; the plain name is the worse */
	bool two_cpus;      /* meaningless on one CPU */
	double aim_ratio;   /* aims, 0: none: ours / floor at most */
	double aim_more;    /* ours - floor at most */
	double aim_most;    /* ours at most */
	int (*measure)(const struct bench *bench, const struct bench_figure *figure,
		       enum bench_placement placement, struct bench_result *ret_result);
};

/* The figures of each group; the last one's name is NULL. */
extern const struct bench_figure bench_broker_figures[];
extern const struct bench_figure bench_copy_figures[];
extern const struct bench_figure bench_flush_figures[];
extern const struct bench_figure bench_handoff_figures[];
extern const struct bench_figure bench_lock_figures[];
extern const struct bench_figure bench_semaphore_figures[];
extern const struct bench_figure bench_wait_figures[];
extern const struct bench_figure bench_death_figures[];
extern const struct bench_figure bench_scale_figures[];
extern const struct bench_figure bench_recovery_figures[];
extern const struct bench_figure bench_memory_figures[];
extern const struct bench_figure bench_io_figures[];
extern const struct bench_figure bench_guard_figures[];

/* ---- compare.c ---- */

/* One contender: does its operation @count times and tells how long all of them took. */
struct bench_side {
	int (*run)(void *context, uint64_t count, double *ret_ns);
	void *context;
};

/*
 * bench_compare() - measure contenders in turns, so that whatever else the machine does hits all
 * @ret_medians: nanoseconds per operation, one for each side
 * @ret_n:       samples behind each median
 */
int bench_compare(const struct bench *bench, const struct bench_side *sides, size_t n_sides,
		  double *ret_medians, uint64_t *ret_n);

/* bench_compare_brief() - the same in batches of 50 us, for operations of nanoseconds that involve
 * one process alone */
int bench_compare_brief(const struct bench *bench, const struct bench_side *sides, size_t n_sides,
			double *ret_medians, uint64_t *ret_n);

/* bench_share() - what a share (0.5: the median) of the samples is not above; sorts them */
double bench_share(double *samples, size_t n, double share);

/* bench_now() - monotonic nanoseconds */
double bench_now(void);

/* The compiler must take @pointer's bytes as read and changed here: no loop is thrown away. */
static inline void bench_use(void *pointer)
{
	__asm__ volatile("" : : "g"(pointer) : "memory");
}

/* One turn of a floor's spin loop. */
static inline void bench_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

/* ---- process.c ---- */

/* bench_fork() - fork; the child dies with its parent. Return: as fork(), or -errno. */
pid_t bench_fork(void);

/* bench_end() - end a child of bench_fork() and wait for it; a pid below 1 is ignored */
void bench_end(pid_t pid);

/* bench_pin() - bind all threads of a process (0: the caller) to one CPU */
int bench_pin(pid_t pid, int cpu);

/* bench_place() - the caller on the first CPU, @other on the first or the second */
int bench_place(const struct bench *bench, enum bench_placement placement, pid_t other);

/* bench_await_sleep() - until the only thread of a process sleeps in the kernel */
int bench_await_sleep(pid_t pid);

/* bench_find_cpus() - choose bench->cpus among those this process may use */
int bench_find_cpus(struct bench *bench);

/* bench_anonymous_bytes() - user-space memory that a process really has (not shared objects) */
int bench_anonymous_bytes(pid_t pid, uint64_t *ret_bytes);

/* bench_need_fds() - refuse, with a sentence on stderr, if the hard limit is below @needed */
int bench_need_fds(const char *figure, uint64_t needed);

#endif
