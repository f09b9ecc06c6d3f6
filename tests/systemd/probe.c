/* SPDX-License-Identifier: MIT */
/*
 * Stands in for the broker in a copy of its unit, and tries what the sandbox is there to prevent,
 * and what it must allow. Prints a line for each attempt that went otherwise; exits with how many.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int closed(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd;
}

/* ---- What must fail: each returns a negative number or 0 ---- */

static int try_internet(void)
{
	return closed(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_netlink(void)
{
	return closed(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int try_packet(void)
{
	return closed(socket(AF_PACKET, SOCK_RAW, 0));
}

static int try_write_and_execute(void)
{
	void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? -1 : 0;
}

/* Return: 0 if a program that is put at @path could be executed from there. */
static int execute_at(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0700);
	int result;

	if (fd < 0)
		return 0; /* it should be writable */
	result = access(path, X_OK);
	close(fd);
	unlink(path);
	return result;
}

static int try_execute_from_shm(void)
{
	return execute_at("/dev/shm/shmb.probe");
}

static int try_execute_from_tmp(void)
{
	return execute_at("/tmp/probe");
}

static int try_execute_from_runtime_directory(void)
{
	return execute_at("/run/shmbroker/probe");
}

static int try_user_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

static int try_mount_namespace(void)
{
	return unshare(CLONE_NEWNS);
}

static int try_mount(void)
{
	return mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
}

static int try_ptrace(void)
{
	return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static int try_personality(void)
{
	return personality(PER_LINUX32);
}

static int try_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return clock_settime(CLOCK_REALTIME, &now);
}

static int try_reboot(void)
{
	return reboot(RB_DISABLE_CAD);
}

static int try_hostname(void)
{
	return sethostname("probe", 5);
}

static int try_realtime(void)
{
	struct sched_param param = { .sched_priority = 1 };

	return sched_setscheduler(0, SCHED_FIFO, &param);
}

static int try_keyring(void)
{
	return (int)syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1);
}

static int try_module(void)
{
	return (int)syscall(SYS_init_module, "", 0, "");
}

static int try_become_root(void)
{
	return setuid(0);
}

static int try_signal_others(void)
{
	return kill(1, 0);
}

static int try_set_uid_file(void)
{
	int fd = open("/tmp/suid", O_RDWR | O_CREAT, 0700);
	int result = fd < 0 ? -1 : fchmod(fd, 04755);

	if (fd >= 0)
		unlink("/tmp/suid");
	closed(fd);
	return result;
}

static int try_kernel_log(void)
{
	return closed(open("/dev/kmsg", O_RDONLY));
}

static int try_memory_device(void)
{
	return closed(open("/dev/mem", O_RDONLY));
}

static int try_kernel_tunable(void)
{
	return closed(open("/proc/sys/kernel/core_pattern", O_WRONLY));
}

static int try_cgroup(void)
{
	return mkdir("/sys/fs/cgroup/probe", 0755);
}

static int try_home(void)
{
	return closed(open("/home/ann", O_RDONLY | O_DIRECTORY));
}

static int try_root_home(void)
{
	return closed(open("/root", O_RDONLY | O_DIRECTORY));
}

/* ---- What must work ---- */

static int want_shm(void)
{
	int fd = shm_open("/shmb.probe", O_RDWR | O_CREAT | O_EXCL, 0600);
	int result = fd < 0 ? -1 : ftruncate(fd, 4096);

	if (fd >= 0)
		shm_unlink("/shmb.probe");
	closed(fd);
	return result;
}

static int want_memfd(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int result = fd < 0 ? -1 : ftruncate(fd, 4096);

	closed(fd);
	return result;
}

static int want_runtime_directory(void)
{
	int fd = open("/run/shmbroker/probe", O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd >= 0)
		unlink("/run/shmbroker/probe");
	return closed(fd);
}

/* Whether a client lives is told by what /proc says of it, whoever it belongs to. */
static int want_others_in_proc(void)
{
	return closed(open("/proc/1/stat", O_RDONLY));
}

static int want_boot_id(void)
{
	return closed(open("/proc/sys/kernel/random/boot_id", O_RDONLY));
}

static int want_pidfd(void)
{
	return closed((int)syscall(SYS_pidfd_open, 1, 0));
}

static int want_descriptors(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? -1 : setrlimit(RLIMIT_NOFILE, &limit);
}

static int want_unix_socket(void)
{
	return closed(socket(AF_UNIX, SOCK_SEQPACKET, 0));
}

struct attempt {
	const char *what;
	int (*make)(void);
	bool allowed;
};

#define NO(name)                         \
	{                                \
#name, try_##name, false \
	}
#define YES(name)                        \
	{                                \
#name, want_##name, true \
	}

static const struct attempt attempts[] = {
	NO(internet),
	NO(netlink),
	NO(packet),
	NO(write_and_execute),
	NO(execute_from_shm),
	NO(execute_from_tmp),
	NO(execute_from_runtime_directory),
	NO(user_namespace),
	NO(mount_namespace),
	NO(mount),
	NO(ptrace),
	NO(personality),
	NO(clock),
	NO(reboot),
	NO(hostname),
	NO(realtime),
	NO(keyring),
	NO(module),
	NO(become_root),
	NO(signal_others),
	NO(set_uid_file),
	NO(kernel_log),
	NO(memory_device),
	NO(kernel_tunable),
	NO(cgroup),
	NO(home),
	NO(root_home),
	YES(shm),
	YES(memfd),
	YES(runtime_directory),
	YES(others_in_proc),
	YES(boot_id),
	YES(pidfd),
	YES(descriptors),
	YES(unix_socket),
};

/* ---- Where it could write: mounts that are not read-only, whatever their permissions ---- */

static const char *const writable[] = {
	/* Its own: the objects that it makes, and where they are written down. */
	"/dev/shm",
	"/run/shmbroker",
	/* Made for it alone, and gone with it. */
	"/tmp",
	"/var/tmp",
	"/dev",
	"/dev/mqueue",
	/* What the kernel guards itself. */
	"/proc",
	"/dev/pts",
};

static bool may_be_writable(const char *place)
{
	for (size_t i = 0; i < sizeof(writable) / sizeof(writable[0]); i++)
		if (strcmp(place, writable[i]) == 0)
			return true;
	return false;
}

static int check_mounts(void)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[4096], place[1024];
	struct statvfs status;
	int wrong = 0, seen = 0;

	while (mounts && fgets(line, sizeof(line), mounts)) {
		if (sscanf(line, "%*s %*s %*s %*s %1023s", place) != 1 ||
		    statvfs(place, &status) < 0)
			continue;
		seen++;
		if (status.f_flag & ST_RDONLY || may_be_writable(place))
			continue;
		printf("%s: is writable\n", place);
		wrong++;
	}
	if (mounts)
		fclose(mounts);
	printf("%d mounts\n", seen);
	return seen ? wrong : 1;
}

int main(void)
{
	int wrong = check_mounts();

	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		int result = attempts[i].make();

		if ((result >= 0) == attempts[i].allowed)
			continue;
		printf("%s: %s\n", attempts[i].what, result < 0 ? strerror(errno) : "is possible");
		wrong++;
	}
	printf("%zu attempts, %d otherwise than meant\n", sizeof(attempts) / sizeof(attempts[0]),
	       wrong);
	return wrong;
}
