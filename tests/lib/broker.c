/* SPDX-License-Identifier: MIT */
/*
 * The daemon under test: a directory, a listening socket handed over as systemd does, its log, its
 * descriptors, its end.
 *
 * Knows how shmbrokerd is started; knows nothing of what a test does with it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

enum { FIRST_LISTENER = 3, EOF_PIPE = 4, EXIT_WAIT_MS = 20000 };

const char *broker_path(const struct broker *broker, const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/%s", broker->directory, name);
	return path;
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	if (!file || fputs(text, file) < 0 || fclose(file) != 0)
		FAIL("%s: %s", path, strerror(errno));
}

static void map_faults(struct broker *broker)
{
	int fd = SYS(open(broker_path(broker, "faults"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	void *page;

	SYS(ftruncate(fd, sizeof(*broker->faults)));
	page = mmap(NULL, sizeof(*broker->faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	CHECK(page != MAP_FAILED);
	broker->faults = page;
}

void broker_prepare(struct broker *broker, const struct broker_options *options)
{
	memset(broker, 0, sizeof(*broker));
	broker->options = options;
	broker->pidfd = broker->eof = -1;
	snprintf(broker->directory, sizeof(broker->directory), "/tmp/shmb-test.XXXXXX");
	if (!mkdtemp(broker->directory))
		FAIL("%s: %s", broker->directory, strerror(errno));
	SYS(chmod(broker->directory, 0755));
	snprintf(broker->socket, sizeof(broker->socket), "%s/socket", broker->directory);
	snprintf(broker->log, sizeof(broker->log), "%s/log", broker->directory);
	write_file(broker_path(broker, "config"), options->config ? options->config : "");
	if (options->faults)
		map_faults(broker);
}

static int make_listener(const struct broker *broker)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = SYS(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", broker->socket);
	unlink(broker->socket);
	SYS(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	SYS(chmod(broker->socket, 0666));
	SYS(listen(fd, 4096));
	return fd;
}

/* ---- In the child, between fork and exec: no allocation failures to care for, no return ---- */

static void child_die(const char *what)
{
	dprintf(STDERR_FILENO, "cannot start the daemon: %s: %s\n", what, strerror(errno));
	_exit(127);
}

static void child_environment(const struct broker *broker, bool activated)
{
	const char *sanitizer = getenv("ASAN_OPTIONS");
	char text[256];

	unsetenv("JOURNAL_STREAM");
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_FDNAMES");
	unsetenv("SHMB_ADDRESS");
	if (activated) {
		snprintf(text, sizeof(text), "%d", (int)getpid());
		setenv("LISTEN_PID", text, 1);
		setenv("LISTEN_FDS", "1", 1);
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
static bool mount_shm(const char *mount_options)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, mount_options) == 0;
}

bool can_mount_shm(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(mount_shm("size=1m") ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void child_confine(const struct broker_options *options)
{
	struct rlimit limit = { options->nofile, options->nofile };

	if (options->nofile && setrlimit(RLIMIT_NOFILE, &limit) < 0)
		child_die("setrlimit");
	if (options->shm_mount && !mount_shm(options->shm_mount))
		child_die("mount");
}

/* Descriptors 0-2 as a daemon has them, 3 the listener, 4 the pipe, and nothing else. */
static void child_descriptors(const struct broker *broker, int listener, int pipe_end)
{
	int null = open("/dev/null", O_RDWR);
	int log = open(broker->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int first = fcntl(listener >= 0 ? listener : null, F_DUPFD, 10);
	int second = fcntl(pipe_end >= 0 ? pipe_end : null, F_DUPFD, 10);

	if (null < 0 || log < 0 || first < 0 || second < 0)
		child_die("descriptors");
	if (dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 ||
	    dup2(first, FIRST_LISTENER) < 0 || dup2(second, EOF_PIPE) < 0)
		child_die("dup2");
	close_range(listener >= 0 ? EOF_PIPE + 1 : FIRST_LISTENER, ~0U, 0);
}

static const char *daemon_program(void)
{
	const char *program = getenv("SHMBROKERD");

	return program ? program : SHMB_TEST_DAEMON;
}

static void child_exec(const struct broker *broker, const char *const arguments[])
{
	char *vector[32];
	size_t n = 0;

	vector[n++] = strdup(daemon_program());
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

static pid_t launch(struct broker *broker, const char *const arguments[], int listener,
		    int pipe_end)
{
	pid_t pid = SYS(fork_daemon(broker->options));

	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		alarm(0);
		child_environment(broker, listener >= 0);
		child_confine(broker->options);
		child_descriptors(broker, listener, pipe_end);
		child_exec(broker, arguments);
	}
	broker->pid = pid;
	broker->pidfd = SYS(pidfd_open(pid, 0));
	return pid;
}

pid_t broker_spawn(struct broker *broker, const char *const arguments[])
{
	return launch(broker, arguments, -1, -1);
}

/* The lock file goes away with the daemon, so the instance is noted while it is there. */
static void start_probe(struct broker *broker)
{
	long pid;

	broker->probe = raw_connect(broker);
	raw_hello(broker->probe);
	CHECK(broker_lock_read(broker, &pid, broker->instance));
	CHECK_INT(pid, broker->options->pid_namespace ? 1 : broker->pid);
	broker->fds = fd_count(broker->pid);
}

void broker_start(struct broker *broker)
{
	const struct broker_options *options = broker->options;
	char directory[128], config[128], socket_argument[128];
	const char *arguments[32];
	size_t n = 0, i;
	int listener = -1, ends[2];

	snprintf(directory, sizeof(directory), "--runtime-directory=%s", broker->directory);
	snprintf(config, sizeof(config), "--config=%s/config", broker->directory);
	snprintf(socket_argument, sizeof(socket_argument), "--socket=%s", broker->socket);
	arguments[n++] = options->system ? "--system" : "--private";
	arguments[n++] = directory;
	arguments[n++] = config;
	if (options->own_socket)
		arguments[n++] = socket_argument;
	else
		arguments[n++] = "--exit-on-eof=4";
	for (i = 0; i < 8 && options->arguments[i]; i++)
		arguments[n++] = options->arguments[i];
	arguments[n] = NULL;

	SYS(pipe2(ends, O_CLOEXEC));
	if (!options->own_socket)
		listener = make_listener(broker);
	launch(broker, arguments, listener, ends[0]);
	close(ends[0]);
	if (listener >= 0)
		close(listener);
	broker->eof = ends[1];
	if (!options->no_probe && !options->own_socket)
		start_probe(broker);
}

int wait_for_exit(pid_t pid, int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	int status, n;

	do
		n = poll(&poll_fd, 1, EXIT_WAIT_MS * (int)harness_slow());
	while (n < 0 && errno == EINTR);
	if (n <= 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int broker_wait(struct broker *broker)
{
	int status = wait_for_exit(broker->pid, broker->pidfd);

	if (status < 0) {
		kill(broker->pid, SIGKILL);
		waitpid(broker->pid, NULL, 0);
	}
	broker->probe = raw_free(broker->probe);
	close(broker->pidfd);
	if (broker->eof >= 0)
		close(broker->eof);
	broker->pidfd = broker->eof = -1;
	broker->pid = 0;
	return status;
}

int broker_stop(struct broker *broker)
{
	kill(broker->pid, SIGTERM);
	return broker_wait(broker);
}

void broker_kill(struct broker *broker)
{
	kill(broker->pid, SIGKILL);
	broker_wait(broker);
}

static void remove_tree(const char *path)
{
	char entry_path[512];
	struct dirent *entry;
	DIR *directory = opendir(path);

	while (directory && (entry = readdir(directory))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(entry_path, sizeof(entry_path), "%s/%s", path, entry->d_name);
		if (unlink(entry_path) < 0)
			remove_tree(entry_path);
	}
	if (directory)
		closedir(directory);
	rmdir(path);
}

void broker_remove(struct broker *broker)
{
	if (broker->pid)
		broker_kill(broker);
	if (broker->faults)
		munmap(broker->faults, sizeof(*broker->faults));
	broker->faults = NULL;
	if (broker->directory[0])
		remove_tree(broker->directory);
}

void broker_turn(struct broker *broker)
{
	struct pollfd poll_fd = { .fd = broker->pidfd, .events = POLLIN };

	if (broker->probe)
		CHECK_OK(raw_call(broker->probe, WIRE_PING, NULL, NULL));
	if (poll(&poll_fd, 1, 1) > 0)
		FAIL("the daemon ended");
}

/* What a case left behind on purpose or by failing: objects of one kind that nobody holds. */
static bool remove_a_page(struct broker *broker, enum raw_kind kind)
{
	char names[RAW_PAGE_MAX][SHMB_NAME_MAX + 1];
	size_t n = raw_names(broker->probe, kind, names), i;

	for (i = 0; i < n; i++)
		raw_remove(broker->probe, names[i], kind);
	return n > 0;
}

static bool remove_a_page_of_each(struct broker *broker)
{
	bool regions = remove_a_page(broker, RAW_REGION);
	bool locks = remove_a_page(broker, RAW_LOCK);

	return remove_a_page(broker, RAW_SEMAPHORE) || locks || regions;
}

bool broker_settles(struct broker *broker)
{
	int64_t end = harness_now_ms() + 10000 * harness_slow();

	while (remove_a_page_of_each(broker))
		;
	while (fd_count(broker->pid) != broker->fds) {
		if (harness_now_ms() > end)
			return false;
		broker_turn(broker);
	}
	return true;
}

uint64_t broker_stat(struct broker *broker, const char *name)
{
	const struct wire_message_type *type = wire_methods[WIRE_STATS].result;
	struct wire_stats_result stats;
	size_t i;

	CHECK_OK(raw_call(broker->probe, WIRE_STATS, NULL, &stats));
	for (i = 0; i < type->n_fields; i++)
		if (strcmp(type->fields[i].name, name) == 0)
			return *(const uint64_t *)(const void *)((const char *)&stats +
								 type->fields[i].offset);
	FAIL("no figure %s", name);
}

int64_t broker_cpu_us(const struct broker *broker)
{
	struct timespec used;
	clockid_t clock;

	CHECK_INT(clock_getcpuclockid(broker->pid, &clock), 0);
	SYS(clock_gettime(clock, &used));
	return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

/* ---- What it leaves in files ---- */

static char *read_all(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = calloc(1, 1 << 20);
	size_t n = 0;

	if (file && text)
		n = fread(text, 1, (1 << 20) - 1, file);
	if (text)
		text[n] = '\0';
	if (file)
		fclose(file);
	return text;
}

unsigned broker_log_count(const struct broker *broker, const char *text)
{
	char *log = read_all(broker->log);
	const char *at = log;
	unsigned n = 0;

	while (at && (at = strstr(at, text))) {
		at += strlen(text);
		n++;
	}
	free(log);
	return n;
}

void broker_print_log(const struct broker *broker)
{
	char *log = read_all(broker->log);

	if (log && *log)
		fprintf(stderr, "---- the daemon said:\n%s----\n", log);
	free(log);
}

bool broker_lock_read(const struct broker *broker, long *ret_pid, char ret_instance[64])
{
	char *text = read_all(broker_path(broker, "broker.lock"));
	bool found = text && sscanf(text, "%ld %63s", ret_pid, ret_instance) == 2;

	free(text);
	return found;
}

unsigned broker_shm_count(const struct broker *broker)
{
	char prefix[80];
	struct dirent *entry;
	unsigned n = 0;
	DIR *directory;

	if (!broker->instance[0])
		return 0;
	snprintf(prefix, sizeof(prefix), "shmb.%s.", broker->instance);
	directory = opendir("/dev/shm");
	while (directory && (entry = readdir(directory)))
		n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	if (directory)
		closedir(directory);
	return n;
}

/* ---- Faults ---- */

void broker_fault(struct broker *broker, enum fault fault, int error, int skip, int times)
{
	struct fault_rule *rule = &broker->faults->rules[fault];

	atomic_store(&rule->error, 0);
	atomic_store(&rule->skip, skip);
	atomic_store(&rule->times, times);
	atomic_store(&rule->hits, 0);
	atomic_store(&rule->error, error);
}

int broker_fault_hits(const struct broker *broker, enum fault fault)
{
	return atomic_load(&broker->faults->rules[fault].hits);
}
