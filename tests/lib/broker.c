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

enum { EXIT_WAIT_MS = 20000 };

const char *broker_path(const struct broker *broker, const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/%s", broker->directory, name);
	return path;
}

const char *runtime_path(const struct broker *broker, const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/%s", broker->runtime, name);
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

/* What the daemon keeps its files in: the directory, or a file system of its own below it. */
static void make_runtime(struct broker *broker)
{
	const char *mount_options = broker->options->runtime_mount;

	snprintf(broker->runtime, sizeof(broker->runtime), "%s%s", broker->directory,
		 mount_options ? "/run" : "");
	if (!mount_options)
		return;
	SYS(mkdir(broker->runtime, 0755));
	SYS(unshare(CLONE_NEWNS));
	SYS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	SYS(mount("tmpfs", broker->runtime, "tmpfs", MS_NOSUID | MS_NODEV, mount_options));
}

static void open_store(struct broker *broker)
{
	char path[160];

	snprintf(path, sizeof(path), "%s", broker_path(broker, "notify"));
	broker->store =
		store_open(path, broker_path(broker, "notified"), broker->options->fd_store);
}

void broker_prepare(struct broker *broker, const struct broker_options *options)
{
	memset(broker, 0, sizeof(*broker));
	broker->options = options;
	broker->pidfd = broker->eof = broker->listener = -1;
	snprintf(broker->directory, sizeof(broker->directory), "/tmp/shmb-test.XXXXXX");
	if (!mkdtemp(broker->directory))
		FAIL("%s: %s", broker->directory, strerror(errno));
	SYS(chmod(broker->directory, 0755));
	snprintf(broker->socket, sizeof(broker->socket), "%s/socket", broker->directory);
	snprintf(broker->log, sizeof(broker->log), "%s/log", broker->directory);
	make_runtime(broker);
	write_file(broker_path(broker, "config"), options->config ? options->config : "");
	if (options->faults)
		map_faults(broker);
	if (options->fd_store)
		open_store(broker);
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

/* The probe is one session for as long as the case lasts; one that is forgotten is a new one. */
static void greet(struct broker *broker)
{
	int r = SHMB_ESESSION;

	broker->probe = raw_connect(broker);
	if (broker->has_token)
		r = raw_resume(broker->probe, broker->token, 0);
	if (r == SHMB_ESESSION)
		raw_hello(broker->probe);
	else
		CHECK_OK(r);
	memcpy(broker->token, broker->probe->token, sizeof(broker->token));
	broker->has_token = true;
}

/* The lock file goes away with the daemon, so the instance is noted while it is there. How many
 * descriptors a daemon has is what the first one had: its successors get no more. */
static void start_probe(struct broker *broker)
{
	long pid;

	greet(broker);
	CHECK(broker_lock_read(broker, &pid, broker->instance));
	CHECK_INT(pid, broker->options->pid_namespace ? 1 : broker->pid);
	if (broker->fds == 0)
		broker->fds = fd_count(broker->pid);
}

static void start(struct broker *broker)
{
	launch_with_options(broker);
	if (!broker->options->no_probe && !broker->options->own_socket)
		start_probe(broker);
}

void broker_start(struct broker *broker)
{
	if (!broker->options->own_socket)
		broker->listener = make_listener(broker);
	start(broker);
}

void broker_restart(struct broker *broker)
{
	CHECK_INT(broker->pid, 0);
	start(broker);
}

void broker_launch(struct broker *broker)
{
	CHECK_INT(broker->pid, 0);
	launch_with_options(broker);
}

int broker_beside(const struct broker *broker, const char *const arguments[])
{
	struct broker other = *broker;

	other.listener = other.eof = other.pidfd = -1;
	other.store = NULL;
	other.probe = NULL;
	other.pid = 0;
	broker_spawn(&other, arguments);
	return broker_wait(&other);
}

int process_fd(pid_t pid)
{
	int fd = pidfd_open(pid, 0);

	return fd < 0 && errno == ENOSYS ? -1 : SYS(fd);
}

static int look_for_exit(pid_t pid)
{
	int64_t end = harness_now_ms() + EXIT_WAIT_MS * harness_slow();
	int status;
	pid_t ended;

	while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && harness_now_ms() < end)
		poll(NULL, 0, 1);
	if (ended != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int wait_for_exit(pid_t pid, int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	int status, n;

	if (pidfd < 0)
		return look_for_exit(pid);
	do
		n = poll(&poll_fd, 1, EXIT_WAIT_MS * (int)harness_slow());
	while (n < 0 && errno == EINTR);
	if (n <= 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* The end of the process; what a successor needs is kept. */
static int await_end(struct broker *broker)
{
	int status = wait_for_exit(broker->pid, broker->pidfd);

	if (status < 0) {
		kill(broker->pid, SIGKILL);
		waitpid(broker->pid, NULL, 0);
	}
	broker->probe = raw_free(broker->probe);
	if (broker->pidfd >= 0)
		close(broker->pidfd);
	if (broker->eof >= 0)
		close(broker->eof);
	broker->pidfd = broker->eof = -1;
	broker->pid = 0;
	if (broker->store)
		store_settle(broker->store);
	return status;
}

int broker_wait(struct broker *broker)
{
	int status = await_end(broker);

	if (broker->listener >= 0)
		close(broker->listener);
	broker->listener = -1;
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

void broker_crash(struct broker *broker)
{
	kill(broker->pid, SIGKILL);
	CHECK_INT(await_end(broker), 1000 + SIGKILL);
}

int broker_await(struct broker *broker)
{
	return await_end(broker);
}

int broker_leave(struct broker *broker)
{
	kill(broker->pid, SIGTERM);
	return await_end(broker);
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

/* What is left when a case has failed. */
static void remove_memory(const struct broker *broker)
{
	char prefix[80], path[300];
	struct dirent *entry;
	DIR *directory = broker->instance[0] ? opendir("/dev/shm") : NULL;

	snprintf(prefix, sizeof(prefix), "shmb.%s.", broker->instance);
	while (directory && (entry = readdir(directory))) {
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
			unlink(path);
	}
	if (directory)
		closedir(directory);
}

void broker_remove(struct broker *broker)
{
	if (broker->pid)
		broker_kill(broker);
	if (broker->listener >= 0)
		close(broker->listener);
	broker->listener = -1;
	broker->store = store_free(broker->store);
	if (broker->options->runtime_mount)
		umount2(broker->runtime, MNT_DETACH);
	if (broker->faults)
		munmap(broker->faults, sizeof(*broker->faults));
	broker->faults = NULL;
	remove_memory(broker);
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

static unsigned count_in(const char *path, const char *text)
{
	char *all = read_all(path);
	const char *at = all;
	unsigned n = 0;

	while (at && (at = strstr(at, text))) {
		at += strlen(text);
		n++;
	}
	free(all);
	return n;
}

unsigned broker_log_count(const struct broker *broker, const char *text)
{
	return count_in(broker->log, text);
}

unsigned broker_notified_count(const struct broker *broker, const char *text)
{
	store_settle(broker->store);
	return count_in(broker_path(broker, "notified"), text);
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
	char *text = read_all(runtime_path(broker, "broker.lock"));
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
