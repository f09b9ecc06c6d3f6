/* SPDX-License-Identifier: MIT */
/*
 * A library for LD_PRELOAD that makes system calls fail when a test says so, in a process that is
 * already running. It stands before libc and knows nothing of the project but fault.h.
 *
 * The rules lie in a file that the test maps too; without the file every call goes through. It
 * allocates nothing itself, because malloc is one of the calls that it fails.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

static struct fault_control *control;

__attribute__((constructor)) static void load(void)
{
	const char *path = getenv(FAULT_ENVIRONMENT);
	void *page;
	int fd;

	if (!path)
		return;
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	page = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	if (page != MAP_FAILED)
		control = page;
}

/* Is this call to fail? Sets errno if so. */
static int strikes(enum fault fault)
{
	struct fault_rule *rule;
	int error;

	if (!control)
		return 0;
	rule = &control->rules[fault];
	error = atomic_load(&rule->error);
	if (!error)
		return 0;
	if (atomic_load(&rule->skip) > 0) {
		atomic_fetch_sub(&rule->skip, 1);
		return 0;
	}
	if (atomic_load(&rule->times) == 0)
		return 0;
	if (atomic_load(&rule->times) > 0)
		atomic_fetch_sub(&rule->times, 1);
	atomic_fetch_add(&rule->hits, 1);
	errno = error;
	return 1;
}

/* The next definition of a function, looked up once; the cast is what POSIX says for dlsym(). */
#define NEXT(name)                                                         \
	static __typeof__(&name) next;                                     \
	do {                                                               \
		if (!next)                                                 \
			*(void **)(void *)&next = dlsym(RTLD_NEXT, #name); \
	} while (0)

#ifndef SHMB_FAULTS_NO_MALLOC
/* glibc's own names, because dlsym() may allocate. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size)
{
	return strikes(FAULT_ALLOC) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return strikes(FAULT_ALLOC) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	return strikes(FAULT_ALLOC) ? NULL : __libc_realloc(memory, size);
}
#endif

int accept4(int socket, struct sockaddr *restrict address, socklen_t *restrict length, int flags)
{
	NEXT(accept4);
	return strikes(FAULT_ACCEPT) ? -1 : next(socket, address, length, flags);
}

static int carries_fds(const struct msghdr *message)
{
	const struct cmsghdr *head;

	if (!message->msg_control || message->msg_controllen < sizeof(*head))
		return 0;
	head = message->msg_control;
	return head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS;
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
	NEXT(sendmsg);
	if (message->msg_name && strikes(FAULT_NOTIFY))
		return -1;
	if (carries_fds(message) && strikes(FAULT_SEND_FDS))
		return -1;
	return strikes(FAULT_SEND) ? -1 : next(socket, message, flags);
}

ssize_t recvmsg(int socket, struct msghdr *message, int flags)
{
	NEXT(recvmsg);
	return strikes(FAULT_RECEIVE) ? -1 : next(socket, message, flags);
}

int setsockopt(int socket, int level, int option, const void *value, socklen_t length)
{
	NEXT(setsockopt);
	if (level == SOL_SOCKET && option == SO_PASSRIGHTS && strikes(FAULT_PASSRIGHTS))
		return -1;
	return next(socket, level, option, value, length);
}

int getsockopt(int socket, int level, int option, void *restrict value, socklen_t *restrict length)
{
	NEXT(getsockopt);
	if (level == SOL_SOCKET && option == SO_PEERPIDFD && strikes(FAULT_PEERPIDFD))
		return -1;
	return next(socket, level, option, value, length);
}

int memfd_create(const char *name, unsigned flags)
{
	NEXT(memfd_create);
	if ((flags & MFD_NOEXEC_SEAL) && strikes(FAULT_MEMFD_NOEXEC))
		return -1;
	return strikes(FAULT_MEMFD) ? -1 : next(name, flags);
}

int shm_open(const char *name, int flags, mode_t mode)
{
	NEXT(shm_open);
	return strikes(FAULT_SHM_OPEN) ? -1 : next(name, flags, mode);
}

int rename(const char *from, const char *to)
{
	NEXT(rename);
	return strikes(FAULT_SHM_RENAME) ? -1 : next(from, to);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
	NEXT(renameat);
	return strikes(FAULT_SHM_RENAME) ? -1 : next(from_directory, from, to_directory, to);
}

int open(const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	NEXT(open);
	va_start(arguments, flags);
	mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return strikes(FAULT_OPEN) ? -1 : next(path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	NEXT(openat);
	va_start(arguments, flags);
	mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return strikes(FAULT_OPEN) ? -1 : next(directory, path, flags, mode);
}

int ftruncate(int fd, off_t length)
{
	NEXT(ftruncate);
	return strikes(FAULT_FTRUNCATE) ? -1 : next(fd, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	NEXT(fallocate);
	return strikes(FAULT_FALLOCATE) ? -1 : next(fd, mode, offset, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	NEXT(pwrite);
	return strikes(FAULT_PWRITE) ? -1 : next(fd, data, length, offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	NEXT(mmap);
	if (fd >= 0 && (flags & MAP_SHARED) && strikes(FAULT_MMAP))
		return MAP_FAILED;
	return next(address, length, protection, flags, fd, offset);
}

void *mremap(void *address, size_t old_length, size_t length, int flags, ...)
{
	va_list arguments;
	void *target;

	NEXT(mremap);
	va_start(arguments, flags);
	target = (flags & MREMAP_FIXED) ? va_arg(arguments, void *) : NULL;
	va_end(arguments);
	if (strikes(FAULT_MREMAP))
		return MAP_FAILED;
	return next(address, old_length, length, flags, target);
}

pid_t fork(void)
{
	NEXT(fork);
	return strikes(FAULT_FORK) ? -1 : next();
}

int pidfd_open(pid_t pid, unsigned flags)
{
	if (strikes(FAULT_PIDFD_OPEN))
		return -1;
	return (int)syscall(SYS_pidfd_open, pid, flags);
}
