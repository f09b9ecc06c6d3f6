/* SPDX-License-Identifier: MIT */
/*
 * The warden's life: one loop over the daemon's notifications, its end, and the time for the next
 * act. Knows how the daemon is started and killed; knows nothing of clients.
 */

#include "warden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "depot.h"
#include "storm.h"

enum {
	FIRST_FD = 3,
	STORE_MAX = 2048,
	LOG_MAX = 1 << 15,
	EARLY_IN_A_ROW = 3, /* so that it comes to serve now and then */
	PATIENCE_US = 20000000,
};

enum act { ACT_NOTHING, ACT_KILL, ACT_STOP, ACT_CONTINUE, ACT_END };

struct keep {
	struct warden_page *page;
	const struct broker *broker;
	struct player chance; /* for its random numbers alone */
	struct depot *depot;  /* NULL: there is none */
	int listener, notify, eof, eof_end;
	pid_t daemon; /* 0: none runs */
	int pidfd;
	int64_t started;
	int64_t usual; /* how long a start takes, microseconds */
	bool ready, stopped, ended;
	unsigned early_in_a_row;
	bool system;
	enum act next;
	int64_t when; /* of the next act, or the next start */
};

__attribute__((noreturn, format(printf, 2, 3))) static void fault(struct keep *keep,
								  const char *format, ...)
{
	va_list arguments;

	atomic_store(&keep->page->faulted, 1);
	va_start(arguments, format);
	(void)vsnprintf(keep->page->fault, sizeof(keep->page->fault), format, arguments);
	va_end(arguments);
	atomic_store(&keep->page->faulted, 2);
	_exit(1);
}

/* ---- Starting the daemon ---- */

static int make_socket(const char *path, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = SYS(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	SYS(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return fd;
}

static void limit_log(const struct keep *keep)
{
	struct stat status;

	if (stat(keep->broker->log, &status) == 0 && status.st_size > LOG_MAX)
		(void)truncate(keep->broker->log, 0);
}

/* In the child. The store's descriptors and the listener, in any order, at 3 and on; behind them
 * the pipe. */
static void place_descriptors(const struct keep *keep, unsigned n_stored, unsigned n_before)
{
	int log = open(keep->broker->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fds[FIRST_FD + STORE_MAX + 2] = { null, log, log };
	int n = FIRST_FD;

	for (unsigned i = 0; i <= n_stored; i++)
		fds[n++] = i == n_before  ? keep->listener
			   : i < n_before ? depot_fd(keep->depot, i)
					  : depot_fd(keep->depot, i - 1);
	fds[n++] = keep->eof_end;
	/* Out of the way first: one's old place may be another's new one. */
	for (int i = 0; i < n; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FD + STORE_MAX + 16);
	for (int i = 0; i < n; i++)
		if (fds[i] < 0 || dup2(fds[i], i) < 0)
			_exit(126);
	(void)close_range((unsigned)n, ~0U, 0);
}

static void set_environment(const struct keep *keep, unsigned n_stored, unsigned n_before)
{
	static char names[STORE_MAX * 8];
	size_t at = 0;
	char text[64];

	for (unsigned i = 0; i <= n_stored; i++)
		at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i ? ":" : "",
				       i == n_before  ? "shmbrokerd.socket"
				       : i < n_before ? depot_name(keep->depot, i)
						      : depot_name(keep->depot, i - 1));
	setenv("LISTEN_FDNAMES", names, 1);
	(void)snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	(void)snprintf(text, sizeof(text), "%u", n_stored + 1);
	setenv("LISTEN_FDS", text, 1);
	setenv("NOTIFY_SOCKET", broker_path(keep->broker, "notify"), 1);
	unsetenv("JOURNAL_STREAM");
	unsetenv("SHMB_ADDRESS");
	unsetenv("FDSTORE");
	if (keep->depot) {
		(void)snprintf(text, sizeof(text), "%d", STORE_MAX);
		setenv("FDSTORE", text, 1);
	}
}

static void become_daemon(const struct keep *keep)
{
	const char *program = getenv("SHMBROKERD");
	unsigned n_stored = keep->depot ? depot_count(keep->depot) : 0;
	unsigned n_before = (unsigned)(keep->started % (n_stored + 1));
	char runtime[128], config[128], eof[64];

	set_environment(keep, n_stored, n_before);
	place_descriptors(keep, n_stored, n_before);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)snprintf(runtime, sizeof(runtime), "--runtime-directory=%s", keep->broker->directory);
	(void)snprintf(config, sizeof(config), "--config=%s/config", keep->broker->directory);
	(void)snprintf(eof, sizeof(eof), "--exit-on-eof=%u", FIRST_FD + n_stored + 1);
	program = program ? program : SHMB_TEST_DAEMON;
	execl(program, program, keep->system ? "--system" : "--private", runtime, config, eof,
	      "--on-stop=keep", (char *)NULL);
	_exit(127);
}

static void set_next(struct keep *keep, enum act act, int64_t in_us)
{
	keep->next = act;
	keep->when = storm_now_us() + in_us;
}

static bool rages(const struct keep *keep)
{
	return atomic_load(&keep->page->order) == WARDEN_RAGE;
}

static void start_daemon(struct keep *keep)
{
	limit_log(keep);
	keep->started = storm_now_us();
	keep->ready = keep->stopped = keep->ended = false;
	keep->daemon = fork();
	if (keep->daemon == 0)
		become_daemon(keep);
	if (keep->daemon < 0 || (keep->pidfd = pidfd_open(keep->daemon, 0)) < 0)
		fault(keep, "cannot start the daemon: %s", strerror(errno));
	atomic_store(&keep->page->pid, keep->daemon);
	set_next(keep, ACT_NOTHING, 0);
	/* Sometimes it dies before it serves. */
	if (rages(keep) && keep->early_in_a_row < EARLY_IN_A_ROW && player_chance(&keep->chance, 4))
		set_next(keep, ACT_KILL,
			 (int64_t)player_random(&keep->chance, (uint32_t)keep->usual + 1));
}

/* ---- What it says ---- */

static void daemon_ready(struct keep *keep)
{
	int64_t took = storm_now_us() - keep->started;

	keep->ready = true;
	keep->usual = took;
	keep->early_in_a_row = 0;
	if (took > atomic_load(&keep->page->longest_us))
		atomic_store(&keep->page->longest_us, took);
}

static bool take_notice(struct keep *keep)
{
	struct depot_notice notice;
	const char *complaint;

	if (!depot_receive(keep->notify, &notice))
		return false;
	if (strstr(notice.text, "READY=1\n") && !keep->ready && notice.pid == keep->daemon)
		daemon_ready(keep);
	complaint = depot_take(keep->depot, &notice);
	if (complaint)
		fault(keep, "%s: %s", complaint, notice.text);
	atomic_store(&keep->page->kept, keep->depot ? depot_total(keep->depot) : 0);
	atomic_store(&keep->page->stored, keep->depot ? depot_count(keep->depot) : 0);
	return true;
}

/* ---- What happens to it ---- */

static void act(struct keep *keep)
{
	enum act what = keep->next;

	set_next(keep, ACT_NOTHING, 0);
	switch (what) {
	case ACT_KILL:
		atomic_fetch_add(&keep->page->kills, 1);
		if (!keep->ready)
			atomic_fetch_add(&keep->page->early, 1);
		if (keep->stopped)
			atomic_fetch_add(&keep->page->frozen, 1);
		keep->early_in_a_row = keep->ready ? 0 : keep->early_in_a_row + 1;
		keep->ended = true;
		(void)kill(keep->daemon, SIGKILL);
		break;
	case ACT_STOP:
		atomic_fetch_add(&keep->page->stops, 1);
		keep->stopped = true;
		(void)kill(keep->daemon, SIGSTOP);
		set_next(keep, player_chance(&keep->chance, 2) ? ACT_KILL : ACT_CONTINUE,
			 player_random(&keep->chance, 50000));
		break;
	case ACT_CONTINUE:
		keep->stopped = false;
		(void)kill(keep->daemon, SIGCONT);
		break;
	case ACT_END:
		atomic_fetch_add(&keep->page->ends, 1);
		keep->ended = true;
		(void)kill(keep->daemon, SIGTERM);
		break;
	case ACT_NOTHING:
		break;
	}
}

/* When nothing is planned and the daemon serves. */
static void plan(struct keep *keep)
{
	static const uint32_t delays[] = { 1000, 15000, 15000, 60000 };
	uint32_t delay = delays[player_random(&keep->chance, 4)];
	enum act what = ACT_KILL;

	if (player_chance(&keep->chance, 8))
		what = ACT_STOP;
	else if (player_chance(&keep->chance, 10))
		what = ACT_END;
	set_next(keep, what, player_random(&keep->chance, delay));
}

static void daemon_gone(struct keep *keep)
{
	int status;

	if (waitpid(keep->daemon, &status, 0) != keep->daemon)
		fault(keep, "waitpid: %s", strerror(errno));
	(void)close(keep->pidfd);
	keep->pidfd = -1;
	keep->daemon = 0;
	atomic_store(&keep->page->pid, 0);
	/* Killed, or told to end, and then also with success. */
	if (!keep->ended || (WIFEXITED(status) && WEXITSTATUS(status) != 0) ||
	    (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL))
		fault(keep, "the daemon ended by itself, with status %x", (unsigned)status);
	/* What it had sent counts, whatever became of it. */
	while (take_notice(keep))
		;
	set_next(keep, ACT_NOTHING,
		 rages(keep) && player_chance(&keep->chance, 4)
			 ? player_random(&keep->chance, 20000)
			 : 0);
}

/* Return: may the warden go? */
static bool obey(struct keep *keep)
{
	uint32_t order = atomic_load(&keep->page->order);

	if (order == WARDEN_RAGE) {
		if (keep->ready && !keep->ended && keep->next == ACT_NOTHING)
			plan(keep);
		atomic_store(&keep->page->obeyed, order);
		return false;
	}
	if (keep->stopped && !keep->ended)
		set_next(keep, ACT_CONTINUE, 0);
	else if (!keep->ended && keep->next != ACT_CONTINUE)
		set_next(keep, ACT_NOTHING, 0);
	if (order == WARDEN_REST && keep->daemon && keep->ready && !keep->ended && !keep->stopped)
		atomic_store(&keep->page->obeyed, order);
	if (order != WARDEN_END)
		return false;
	/* It has to live to clear up. */
	if (keep->eof >= 0 && keep->daemon && keep->ready && !keep->ended && !keep->stopped) {
		(void)close(keep->eof);
		keep->eof = -1;
		keep->ended = true;
	}
	return keep->daemon == 0 && keep->eof < 0;
}

static void look_for_hangs(struct keep *keep)
{
	int64_t since = storm_now_us() - keep->started;

	if (keep->daemon && !keep->ready && !keep->stopped &&
	    since > (int64_t)PATIENCE_US * harness_slow())
		fault(keep, "the daemon, process %d, has not become ready", (int)keep->daemon);
}

static void turn(struct keep *keep)
{
	struct pollfd fds[2] = { { .fd = keep->notify, .events = POLLIN },
				 { .fd = keep->pidfd, .events = POLLIN } };
	int64_t left = keep->when - storm_now_us();
	struct timespec wait = { .tv_nsec = 2000000 };

	if (left < 0)
		left = 0;
	if ((keep->next != ACT_NOTHING || !keep->daemon) && left < 2000)
		wait.tv_nsec = left * 1000;
	(void)ppoll(fds, 2, &wait, NULL);
	while (take_notice(keep))
		;
	if (keep->daemon && fds[1].revents)
		daemon_gone(keep);
	if (!keep->daemon && keep->eof >= 0 && storm_now_us() >= keep->when)
		start_daemon(keep);
	if (keep->next != ACT_NOTHING && storm_now_us() >= keep->when && !keep->ended)
		act(keep);
	look_for_hangs(keep);
}

static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static struct warden_page *page_of_warden;

/* As a test that failed ends what it has started. */
static void on_term(int signal_number)
{
	atomic_store(&page_of_warden->order, WARDEN_END);
}

__attribute__((noreturn)) static void be_warden(struct keep *keep)
{
	alarm(0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	page_of_warden = keep->page;
	(void)signal(SIGTERM, on_term);
	raise_limit();
	keep->depot = keep->system ? depot_new(STORE_MAX) : NULL;
	start_daemon(keep);
	while (!obey(keep))
		turn(keep);
	if (keep->depot && depot_count(keep->depot) > 0)
		fault(keep, "%u descriptors are left in the store, the first is %s",
		      depot_count(keep->depot), depot_name(keep->depot, 0));
	keep->depot = depot_free(keep->depot);
	atomic_store(&keep->page->obeyed, WARDEN_END);
	_exit(0);
}

/* ---- The master's side ---- */

void warden_check(const struct warden *warden)
{
	if (atomic_load(&warden->page->faulted) == 2)
		FAIL("%s (daemon kill %llu)", warden->page->fault,
		     (unsigned long long)atomic_load(&warden->page->kills));
}

static void wait_for(const struct warden *warden, enum warden_order order)
{
	int64_t patience = storm_now_us() + (int64_t)2 * PATIENCE_US * harness_slow();
	const struct timespec pause = { .tv_nsec = 1000000 };

	while (atomic_load(&warden->page->obeyed) != order) {
		warden_check(warden);
		(void)nanosleep(&pause, NULL);
		if (storm_now_us() > patience)
			FAIL("the warden does not obey");
	}
}

void warden_order(struct warden *warden, enum warden_order order)
{
	atomic_store(&warden->page->order, order);
	wait_for(warden, order);
}

void warden_begin(struct warden *warden, struct broker *broker, bool system, uint64_t seed)
{
	struct keep keep = { .broker = broker, .pidfd = -1, .system = system, .usual = 20000 };
	int ends[2];

	warden->page = mmap(NULL, sizeof(*warden->page), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(warden->page != MAP_FAILED);
	atomic_store(&warden->page->obeyed, WARDEN_END);
	keep.page = warden->page;
	keep.chance.random = seed | 1;
	keep.listener = make_socket(broker->socket, SOCK_SEQPACKET);
	SYS(chmod(broker->socket, 0666));
	SYS(listen(keep.listener, 4096));
	keep.notify = make_socket(broker_path(broker, "notify"), SOCK_DGRAM);
	depot_watch_senders(keep.notify);
	SYS(pipe2(ends, O_CLOEXEC));
	keep.eof_end = ends[0];
	keep.eof = ends[1];
	fflush(NULL);
	broker->pid = SYS(fork());
	if (broker->pid == 0)
		be_warden(&keep);
	broker->pidfd = SYS(pidfd_open(broker->pid, 0));
	(void)close(keep.listener);
	(void)close(keep.notify);
	(void)close(ends[0]);
	(void)close(ends[1]);
	wait_for(warden, WARDEN_REST);
}

void warden_end(struct warden *warden, struct broker *broker)
{
	warden_order(warden, WARDEN_END);
	CHECK_INT(broker_wait(broker), 0);
	SYS(munmap(warden->page, sizeof(*warden->page)));
}
