/* SPDX-License-Identifier: MIT */
/*
 * The handler for SIGBUS beside those of the program: faults that are not the library's go where
 * they would have gone without it, with the same consequences, however the handlers were installed.
 * Each scene is played in a child, whose end tells.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

enum { PAGE = 4096 };

/* What the handlers saw. */
static volatile sig_atomic_t n_called, n_second, usr1_blocked, bus_blocked, on_own_stack;
static void *volatile fault_address;
static sigjmp_buf back;
static struct sigaction ours; /* the library's, as a program finds it when it installs its own */
static char own_stack[65536];

/* A file of one page that was cut off: touching it is a SIGBUS, and nobody's but the program's. */
static volatile char *foreign_page(void)
{
	int fd = SYS(memfd_create("foreign", MFD_CLOEXEC));
	void *page;

	SYS(ftruncate(fd, PAGE));
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(page != MAP_FAILED);
	SYS(ftruncate(fd, 0));
	close(fd);
	return page;
}

/* And one of the library's. */
static struct shmb_region *own_page(struct broker *broker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	options.backing = SHMB_BACKING_SHM;
	options.flags = SHMB_KEEP_FD;
	region = create(client, "r", PAGE, &options);
	SYS(ftruncate(shmb_region_fd(region), 0));
	return region;
}

static void look_at_own(struct shmb_region *region)
{
	int before = n_called;
	uint8_t byte;

	CHECK_CODE(shmb_region_read_u8(region, 0, &byte), SHMB_EBUS);
	CHECK_INT(n_called, before);
}

static void install(void (*handler)(int, siginfo_t *, void *), int flags, struct sigaction *ret_old)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGUSR1);
	SYS(sigaction(SIGBUS, &action, ret_old));
}

static bool is_blocked(int number)
{
	sigset_t set;

	sigprocmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, number);
}

static void map_over(void)
{
	/* So that the access goes on. */
	mmap((void *)((uintptr_t)fault_address & ~(uintptr_t)(PAGE - 1)), PAGE,
	     PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void note(int number, siginfo_t *info, void *context)
{
	char *here = __builtin_frame_address(0);

	(void)number;
	(void)context;
	n_called++;
	usr1_blocked = is_blocked(SIGUSR1);
	bus_blocked = is_blocked(SIGBUS);
	on_own_stack = here >= own_stack && here < own_stack + sizeof(own_stack);
	fault_address = info->si_addr;
	if (info->si_code > 0)
		map_over();
}

static void note_plainly(int number)
{
	n_called += number == SIGBUS;
	siglongjmp(back, 1);
}

static void jump(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	(void)context;
	n_called++;
	siglongjmp(back, 1);
}

/* A program's handler that passes on what it does not know to the one before it. */
static void pass_to_ours(int number, siginfo_t *info, void *context)
{
	n_called++;
	ours.sa_sigaction(number, info, context);
	n_second++;
}

/* Return: wait status of a child that plays the scene. */
static int play(struct broker *broker, void (*scene)(struct broker *broker))
{
	const struct rlimit no_core = { 0, 0 };
	int status;
	pid_t pid = SYS(fork());

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGBUS, SIG_DFL); /* a sanitizer may have one */
		scene(broker);
		_exit(0);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	return status;
}

static void check_goes_on(struct broker *broker, void (*scene)(struct broker *broker))
{
	CHECK_INT(play(broker, scene), 0);
}

static void check_dies(struct broker *broker, void (*scene)(struct broker *broker))
{
	int status = play(broker, scene);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGBUS)
		FAIL("ended with status %x, not by SIGBUS", (unsigned)status);
}

/* ---- Nobody was there before ---- */

static void fault_by_default(struct broker *broker)
{
	look_at_own(own_page(broker));
	*foreign_page() = 1;
}

static void killed_by_default(struct broker *broker)
{
	look_at_own(own_page(broker));
	kill(getpid(), SIGBUS);
}

static void queued_by_default(struct broker *broker)
{
	/* As if it were a fault in a page of ours: only the kernel is believed. */
	struct shmb_region *region = own_page(broker);
	union sigval value = { .sival_ptr = shmb_region_data(region) };

	sigqueue(getpid(), SIGBUS, value);
}

static void fault_ignored(struct broker *broker)
{
	signal(SIGBUS, SIG_IGN);
	look_at_own(own_page(broker));
	kill(getpid(), SIGBUS); /* is ignored */
	*foreign_page() = 1;
}

static void kill_ignored(struct broker *broker)
{
	signal(SIGBUS, SIG_IGN);
	look_at_own(own_page(broker));
	kill(getpid(), SIGBUS);
}

CASE(F34_foreign_faults_kill_as_they_would_have, PRIVATE)
{
	check_dies(broker, fault_by_default);
	check_dies(broker, killed_by_default);
	check_dies(broker, queued_by_default);
	check_dies(broker, fault_ignored);
	check_goes_on(broker, kill_ignored);
}

static void fault_while_traced(struct broker *broker)
{
	look_at_own(own_page(broker));
	SYS(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
	raise(SIGSTOP);
	*foreign_page() = 1;
}

/* What a debugger and a core dump show of the end: the kernel's own signal, with the address. */
CASE(F34_the_end_of_a_process_shows_where, PRIVATE)
{
	pid_t pid = SYS(fork());
	unsigned n_bus = 0;
	siginfo_t info;
	int status;

	if (pid == 0) {
		signal(SIGBUS, SIG_DFL);
		fault_while_traced(broker);
		_exit(0);
	}
	for (;;) {
		long pass = 0;

		CHECK_INT(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			break;
		if (WSTOPSIG(status) == SIGBUS) {
			SYS(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info));
			CHECK_INT(info.si_code, BUS_ADRERR);
			CHECK(info.si_addr != NULL);
			pass = SIGBUS;
			n_bus++;
		} else if (WSTOPSIG(status) != SIGSTOP) {
			pass = WSTOPSIG(status);
		}
		SYS(ptrace(PTRACE_CONT, pid, NULL, pass));
	}
	CHECK(WIFSIGNALED(status));
	CHECK_INT(WTERMSIG(status), SIGBUS);
	CHECK(n_bus >= 2); /* ours, and the end */
}

/* ---- The program's was there before ---- */

static void earlier_takes(struct broker *broker)
{
	volatile char *page;

	install(note, 0, NULL);
	look_at_own(own_page(broker));
	CHECK_INT(n_called, 0);
	page = foreign_page();
	page[100] = 7;
	CHECK_INT(n_called, 1);
	CHECK(fault_address == page + 100);
	CHECK(usr1_blocked && bus_blocked);
	CHECK(!is_blocked(SIGUSR1) && !is_blocked(SIGBUS));
	CHECK_INT(page[100], 7);
	kill(getpid(), SIGBUS);
	CHECK_INT(n_called, 2);
	CHECK(!is_blocked(SIGUSR1) && !is_blocked(SIGBUS));
}

static void earlier_with_flags(struct broker *broker)
{
	stack_t stack = { .ss_sp = own_stack, .ss_size = sizeof(own_stack) };

	SYS(sigaltstack(&stack, NULL));
	install(note, SA_NODEFER | SA_ONSTACK, NULL);
	look_at_own(own_page(broker));
	*foreign_page() = 1;
	CHECK_INT(n_called, 1);
	CHECK(!bus_blocked && usr1_blocked && on_own_stack);
}

static void earlier_only_once(struct broker *broker)
{
	install(note, (int)SA_RESETHAND, NULL);
	look_at_own(own_page(broker));
	*foreign_page() = 1;
	if (n_called != 1)
		_exit(3);
	*foreign_page() = 1;
}

static void earlier_is_plain(struct broker *broker)
{
	struct shmb_region *region;

	signal(SIGBUS, note_plainly);
	region = own_page(broker);
	look_at_own(region);
	for (int i = 0; i < 10; i++)
		if (sigsetjmp(back, 1) == 0)
			*foreign_page() = 1;
	CHECK_INT(n_called, 10);
	look_at_own(region);
}

/* Out of the handler without returning, again and again: nothing of it is left behind. */
static void earlier_jumps(struct broker *broker)
{
	struct shmb_region *region;

	install(jump, 0, NULL);
	region = own_page(broker);
	for (int i = 0; i < 100; i++) {
		if (sigsetjmp(back, 1) == 0)
			*foreign_page() = 1;
		look_at_own(region);
	}
	CHECK_INT(n_called, 100);
}

CASE(F34_foreign_faults_go_to_the_handler_before, PRIVATE)
{
	check_goes_on(broker, earlier_takes);
	check_goes_on(broker, earlier_with_flags);
	check_dies(broker, earlier_only_once);
	check_goes_on(broker, earlier_is_plain);
	check_goes_on(broker, earlier_jumps);
}

/* ---- The program's came later ---- */

static void later_passes_on(struct broker *broker)
{
	struct shmb_region *region = own_page(broker);
	uint8_t byte;

	install(pass_to_ours, 0, &ours);
	CHECK_CODE(shmb_region_read_u8(region, 0, &byte), SHMB_EBUS);
	CHECK_INT(n_called, 1);
	CHECK_INT(n_second, 1);
	*foreign_page() = 1; /* nobody's */
}

/* Ours again over one that passes on to ours: each once, and then the one before both. */
static void installed_over_one_that_passes_on(struct broker *broker)
{
	struct shmb_region *region;

	install(note, 0, NULL);
	region = own_page(broker);
	install(pass_to_ours, 0, &ours);
	CHECK_OK(shmb_guard_install());
	CHECK_OK(shmb_guard_install());
	look_at_own(region); /* without asking the program's */
	for (int i = 1; i <= 20; i++) {
		*foreign_page() = 1;
		CHECK_INT(n_called, 2 * i); /* pass_to_ours(), then note() */
		CHECK_INT(n_second, i);
	}
	look_at_own(region);
}

static void installed_over_one_and_nobody(struct broker *broker)
{
	struct shmb_region *region = own_page(broker);

	install(pass_to_ours, 0, &ours);
	CHECK_OK(shmb_guard_install());
	look_at_own(region);
	*foreign_page() = 1;
}

static void installed_over_one_that_jumps(struct broker *broker)
{
	struct shmb_region *region;

	install(note, 0, NULL);
	region = own_page(broker);
	install(jump, 0, NULL);
	CHECK_OK(shmb_guard_install());
	for (int i = 0; i < 20; i++) {
		if (sigsetjmp(back, 1) == 0)
			*foreign_page() = 1;
		look_at_own(region);
	}
	CHECK_INT(n_called, 20);
	/* The one before it is not asked. */
	CHECK(!fault_address);
}

/* A program that sets its handler each time before it does something, and asks for ours after. */
static void installed_again_and_again(struct broker *broker)
{
	struct shmb_region *region = own_page(broker);

	for (int i = 1; i <= 1000; i++) {
		install(note, 0, NULL);
		CHECK_OK(shmb_guard_install());
		if (i % 100 == 0) {
			*foreign_page() = 1;
			CHECK_INT(n_called, i / 100);
			look_at_own(region);
		}
	}
}

static void *install_too(void *argument)
{
	(void)argument;
	for (int i = 0; i < 1000; i++)
		CHECK_OK(shmb_guard_install());
	return NULL;
}

static void installed_by_threads(struct broker *broker)
{
	pthread_t threads[4];

	install(note, 0, NULL);
	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, install_too, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	look_at_own(own_page(broker));
	*foreign_page() = 1;
	CHECK_INT(n_called, 1);
}

CASE(F34_handlers_of_the_program_that_come_later, PRIVATE)
{
	check_dies(broker, later_passes_on);
	check_goes_on(broker, installed_over_one_that_passes_on);
	check_dies(broker, installed_over_one_and_nobody);
	check_goes_on(broker, installed_over_one_that_jumps);
	check_goes_on(broker, installed_again_and_again);
	check_goes_on(broker, installed_by_threads);
}

static void nothing_is_installed(struct broker *broker)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct sigaction action;

	options.flags = SHMB_UNGUARDED;
	create(client, "u", PAGE, &options);
	create_lock(client, "l", 0700, SHMB_ATTACHED);
	SYS(sigaction(SIGBUS, NULL, &action));
	CHECK(!(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_DFL);
	create(client, "g", PAGE, NULL);
	SYS(sigaction(SIGBUS, NULL, &action));
	CHECK(action.sa_flags & SA_SIGINFO);
	/* Once: what the program sets after that stays. */
	install(note, 0, NULL);
	create(client, "h", PAGE, NULL);
	SYS(sigaction(SIGBUS, NULL, &action));
	CHECK(action.sa_sigaction == note);
}

static void installed_in_the_parent(struct broker *broker)
{
	int status;
	pid_t pid;

	look_at_own(own_page(broker));
	pid = SYS(fork());
	if (pid == 0) {
		struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
		struct shmb_client *client = connect_to(broker);
		struct shmb_region *region;
		uint8_t byte;

		signal(SIGBUS, SIG_DFL); /* as children do */
		options.backing = SHMB_BACKING_SHM;
		options.flags = SHMB_KEEP_FD;
		region = create(client, "child", PAGE, &options);
		SYS(ftruncate(shmb_region_fd(region), 0));
		_exit(shmb_region_read_u8(region, 0, &byte) == SHMB_EBUS ? 0 : 1);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
}

CASE(F34_the_handler_comes_with_the_first_guarded_region, PRIVATE)
{
	check_goes_on(broker, installed_in_the_parent);
	check_goes_on(broker, nothing_is_installed);
}
