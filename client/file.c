/* SPDX-License-Identifier: MIT */
/*
 * Files for regions. The broker opens no path that it is told, so the client does, with its own
 * rights; what it passes on is opened anew, so that nobody shares a position, flags or locks with
 * the program's own descriptor.
 */

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "error.h"
#include "output.h"

enum {
	FILE_FLAGS = SHMB_FILE_CREATE | SHMB_FILE_EXCLUSIVE | SHMB_FILE_TRUNCATE,
	FILE_MODE = 07777,
	CLAIM_LEAST_NS = 100000,
	CLAIM_MOST_NS = 20000000,
};

/* ---- What was asked for ---- */

/* A private mapping writes nothing back. */
static bool is_writable(const struct shmb_region_options *options)
{
	return options->access & SHMB_WRITE && !(options->flags & SHMB_PRIVATE);
}

static int refuse(const char **ret_what, int code, const char *what)
{
	*ret_what = what;
	return code;
}

static int check_path(const struct shmb_region_options *options, const char **ret_what)
{
	if (options->fd >= 0)
		return refuse(ret_what, SHMB_EINVAL, "fd");
	if (options->file_flags & ~(unsigned)FILE_FLAGS)
		return refuse(ret_what, SHMB_EINVAL, "file_flags");
	if (options->file_flags & SHMB_FILE_EXCLUSIVE && !(options->file_flags & SHMB_FILE_CREATE))
		return refuse(ret_what, SHMB_EINVAL, "file_flags");
	if (options->file_mode & ~(uint32_t)FILE_MODE)
		return refuse(ret_what, SHMB_EINVAL, "file_mode");
	if (options->file_flags != 0 && !is_writable(options))
		return refuse(ret_what, SHMB_EMODE, "file_flags");
	return 0;
}

int file_check(const struct shmb_region_options *options, const char **ret_what)
{
	if (options->backing != SHMB_BACKING_FILE)
		return options->path ? refuse(ret_what, SHMB_EINVAL, "path") : 0;
	if (options->path)
		return check_path(options, ret_what);
	if (options->fd < 0)
		return refuse(ret_what, SHMB_EINVAL, "path");
	return options->file_flags != 0 ? refuse(ret_what, SHMB_EINVAL, "file_flags") : 0;
}

/* ---- Opening ---- */

static int file_error(int number)
{
	switch (number) {
	case EAGAIN:  /* a lease of somebody's */
	case ETXTBSY: /* it is being executed, or swapped to */
		return SHMB_EBUSY;
	case ENXIO:
	case ENODEV:
	case EISDIR:
		return SHMB_ENOTSUP;
	default:
		return error_from_errno(number);
	}
}

static int check_regular(int fd)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return file_error(errno);
	return S_ISREG(status.st_mode) ? 0 : SHMB_ENOTSUP;
}

static int open_flags(const struct shmb_region_options *options)
{
	int flags = is_writable(options) ? O_RDWR : O_RDONLY;

	if (options->file_flags & SHMB_FILE_CREATE)
		flags |= O_CREAT;
	if (options->file_flags & SHMB_FILE_EXCLUSIVE)
		flags |= O_EXCL;
	return flags;
}

static int open_path(const struct shmb_region_options *options)
{
	struct stat status;
	int fd;

	/* To open a device can do something; O_NONBLOCK is for what takes its place after this. */
	if (stat(options->path, &status) == 0 && !S_ISREG(status.st_mode))
		return SHMB_ENOTSUP;
	fd = open(options->path, open_flags(options) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		  (mode_t)options->file_mode);
	if (fd < 0)
		return file_error(errno);
	fcntl(fd, F_SETFL, 0);
	return fd;
}

static int check_adoptable(int fd, bool writable)
{
	int flags = fcntl(fd, F_GETFL), mode = flags & O_ACCMODE, result;

	if (flags < 0)
		return SHMB_EINVAL;
	result = check_regular(fd);
	if (result < 0)
		return result;
	if (flags & O_PATH || mode == O_WRONLY || (writable && mode != O_RDWR))
		return SHMB_EMODE;
	return writable && file_sealed(fd) ? SHMB_EMODE : 0;
}

static int adopt(int fd, bool writable)
{
	int result = check_adoptable(fd, writable), other;

	if (result < 0)
		return result;
	other = file_reopen(fd, writable ? O_RDWR : O_RDONLY, NULL);
	/* What was given to us may be more than we may open by ourselves. */
	if (other < 0 && (writable || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY))
		other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	else if (other < 0)
		return file_error(-other);
	return other >= 0 ? other : file_error(errno);
}

int file_open(const struct shmb_region_options *options, struct file *ret_file)
{
	bool writable = is_writable(options);
	int fd = options->path ? open_path(options) : adopt(options->fd, writable);
	int result;

	if (fd < 0)
		return fd;
	result = check_regular(fd);
	if (result < 0) {
		close(fd);
		return result;
	}
	*ret_file = (struct file){
		.fd = fd,
		.claim = -1,
		.writable = writable,
		.path = options->path,
	};
	return 0;
}

void file_close(struct file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	if (file->claim >= 0)
		close(file->claim);
	file->fd = file->claim = -1;
}

/* ---- Its size ---- */

/*
 * The claim has a description of its own: the other one goes to the broker, and a lock on it would
 * stay as long as the region.
 */
int file_claim(struct file *file, int64_t deadline)
{
	int64_t pause = CLAIM_LEAST_NS;
	int result;

	file->claim = file_reopen(file->fd, O_RDWR, file->path);
	if (file->claim < 0) {
		result = file_error(-file->claim);
		file->claim = -1;
		return result;
	}
	while ((result = file_lock_claim(file->claim)) == -EAGAIN) {
		if (clock_now() >= deadline)
			return SHMB_ETIMEDOUT;
		clock_sleep(pause);
		pause = pause < CLAIM_MOST_NS ? pause * 2 : pause;
	}
	return result < 0 ? file_error(-result) : 0;
}

/* Of the directory that the name is in, once all links have been followed. */
static char *directory_of(const char *path)
{
	char *name = realpath(path, NULL);
	char *slash = name ? strrchr(name, '/') : NULL;

	if (slash)
		slash[slash == name ? 1 : 0] = '\0';
	return name;
}

static int sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

	/* One may be allowed to make files in it and not to read it. */
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? file_error(errno)
									     : 0;
	do
		error = fsync(fd) == 0 ? 0 : errno;
	while (error == EINTR);
	close(fd);
	return error == EIO || error == ENOSPC || error == EDQUOT ? file_error(error) : 0;
}

int file_keep_name(const struct file *file)
{
	char *directory = directory_of(file->path);
	int result;

	if (!directory) /* else the name is gone, or its way there */
		return errno == ENOMEM ? SHMB_ENOMEM : 0;
	result = sync_directory(directory);
	free(directory);
	return result;
}

int file_empty(struct file *file)
{
	return ftruncate(file->fd, 0) == 0 ? 0 : file_error(errno);
}

/* Beyond the limit the system would send SIGXFSZ. */
static int check_limit(uint64_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return 0;
	return size > limit.rlim_cur ? SHMB_EFBIG : 0;
}

static int extend(struct file *file, uint64_t size)
{
	int result;

	if (!file->writable)
		return SHMB_EMODE;
	result = check_limit(size);
	if (result < 0)
		return result;
	result = file_grow(file->fd, size);
	return result < 0 ? file_error(-result) : 0;
}

int file_extend(struct file *file, uint64_t size, uint64_t *ret_size)
{
	struct stat status;
	int result = 0;

	if (fstat(file->fd, &status) < 0)
		return file_error(errno);
	if (size == 0)
		size = (uint64_t)status.st_size;
	if (size == 0)
		return SHMB_EINVAL;
	if (size > (uint64_t)status.st_size)
		result = extend(file, size);
	if (result == 0)
		*ret_size = size;
	return result;
}

/* ---- Passing it on ---- */

/*
 * A memfd is born for everybody to open: whoever has one open for reading could open it for
 * writing, through /proc.
 */
static int guard_memfd(int fd)
{
	struct stat status;

	if (!file_is_memfd(fd))
		return 0;
	if (fstat(fd, &status) < 0)
		return file_error(errno);
	if ((status.st_mode & 0077) == 0 || fchmod(fd, status.st_mode & 0600) == 0)
		return 0;
	/* With F_SEAL_EXEC those bits cannot change. */
	if (fchmod(fd, status.st_mode & 07711) == 0)
		return 0;
	return status.st_mode & 0022 ? SHMB_EACCES : 0;
}

/* The second one. Where nobody may write it may be the first once more. */
static int open_for_readers(const struct file *file)
{
	int fd = file_reopen(file->fd, O_RDONLY, file->path), error;

	if (fd >= 0)
		return fd;
	error = -fd;
	if (!file->writable && (fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		return fd;
	return file_error(error);
}

int file_pass(struct file *file, struct passed **ret_passed)
{
	struct passed *passed;
	int fd, result = guard_memfd(file->fd);

	if (result < 0)
		return result;
	fd = open_for_readers(file);
	if (fd < 0)
		return fd;
	passed = malloc(sizeof(*passed));
	if (!passed) {
		close(fd);
		return SHMB_ENOMEM;
	}
	*passed = (struct passed){ .n = 2, .fds = { file->fd, fd }, .claim = file->claim };
	file->fd = file->claim = -1;
	*ret_passed = passed;
	return 0;
}

int file_own(int fd)
{
	int other = file_reopen(fd, fcntl(fd, F_GETFL) & O_ACCMODE, NULL);

	if (other < 0)
		return fd;
	close(fd);
	return other;
}
