/* SPDX-License-Identifier: MIT */
/*
 * A file system that does not answer: the smallest FUSE server that lets a file be opened, and
 * then hangs where it is told to. For an actor that runs as root, in a mount namespace of its own,
 * so that nothing is left behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

enum { ROOT = FUSE_ROOT_ID, FILE_NODE = 2, FILE_BYTES = 8192, LIFE_S = 25 };

struct stubborn {
	char directory[128];
	pid_t server;
	struct words {
		_Atomic unsigned hangs; /* enum stubborn_hang */
		_Atomic unsigned n_hanging;
	} * words;
};

/* ---- The server ---- */

static void answer_with(int device, const struct fuse_in_header *in, int error, const void *body,
			size_t length)
{
	char buffer[4096];
	struct fuse_out_header *out = (struct fuse_out_header *)buffer;
	ssize_t written;

	*out = (struct fuse_out_header){ .error = error, .unique = in->unique };
	if (error)
		length = 0;
	out->len = (uint32_t)(sizeof(*out) + length);
	if (length > 0)
		memcpy(out + 1, body, length);
	written = write(device, buffer, out->len);
	(void)written; /* whoever asked may be gone */
}

static struct fuse_attr attributes(uint64_t node)
{
	return (struct fuse_attr){
		.ino = node,
		.size = node == ROOT ? 0 : FILE_BYTES,
		.mode = node == ROOT ? S_IFDIR | 0755 : S_IFREG | 0666,
		.nlink = 1,
		.blksize = 4096,
	};
}

static void look_up(int device, const struct fuse_in_header *in)
{
	struct fuse_entry_out entry = { .nodeid = FILE_NODE, .attr = attributes(FILE_NODE) };
	bool found = strcmp((const char *)(in + 1), "file") == 0;

	answer_with(device, in, found ? 0 : -ENOENT, &entry, sizeof(entry));
}

static void serve_one(int device, const struct fuse_in_header *in)
{
	const struct fuse_init_in *init = (const struct fuse_init_in *)(in + 1);
	struct fuse_init_out began = {
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096, .max_readahead = 4096
	};
	struct fuse_attr_out attr = { .attr = attributes(in->nodeid) };
	struct fuse_open_out opened = { .fh = 1 };
	struct fuse_statfs_out fs = { .st = { .bsize = 4096, .namelen = 255 } };

	switch (in->opcode) {
	case FUSE_INIT:
		if (init->minor < began.minor)
			began.minor = init->minor;
		answer_with(device, in, 0, &began, sizeof(began));
		break;
	case FUSE_LOOKUP:
		look_up(device, in);
		break;
	case FUSE_GETATTR:
		answer_with(device, in, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		answer_with(device, in, 0, &opened, sizeof(opened));
		break;
	case FUSE_STATFS:
		answer_with(device, in, 0, &fs, sizeof(fs));
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		answer_with(device, in, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer_with(device, in, -ENOSYS, NULL, 0);
	}
}

static bool hangs(const struct stubborn *stubborn, uint32_t opcode)
{
	unsigned hangs = atomic_load(&stubborn->words->hangs);

	return (opcode == FUSE_FLUSH && hangs & STUBBORN_CLOSE) ||
	       (opcode == FUSE_GETATTR && hangs & STUBBORN_STAT);
}

static _Noreturn void serve(const struct stubborn *stubborn, int device)
{
	static char buffer[FUSE_MIN_READ_BUFFER + 65536];
	const struct fuse_in_header *in = (const struct fuse_in_header *)buffer;

	/* Nobody waits for ever for it: whoever forgets to end it hangs in its own exit. */
	alarm(LIFE_S * harness_slow());
	for (;;) {
		ssize_t n = read(device, buffer, sizeof(buffer));

		if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
			continue;
		if (n < (ssize_t)sizeof(*in))
			_exit(0); /* unmounted */
		if (hangs(stubborn, in->opcode))
			atomic_fetch_add(&stubborn->words->n_hanging, 1);
		else
			serve_one(device, in);
	}
}

/* ---- The test's side ---- */

static void mount_at(const char *directory, int device)
{
	char options[128];

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 device);
	SYS(mount("stubborn", directory, "fuse", MS_NOSUID | MS_NODEV, options));
}

struct stubborn *stubborn_mount(const char *directory)
{
	int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	struct stubborn *stubborn;

	if (device < 0)
		return NULL;
	stubborn = calloc(1, sizeof(*stubborn));
	CHECK(stubborn);
	stubborn->words = mmap(NULL, sizeof(*stubborn->words), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(stubborn->words != MAP_FAILED);
	snprintf(stubborn->directory, sizeof(stubborn->directory), "%s", directory);
	SYS(unshare(CLONE_NEWNS));
	SYS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	mount_at(directory, device);
	stubborn->server = SYS(fork());
	if (stubborn->server == 0)
		serve(stubborn, device);
	close(device); /* so that the server's end is that of all who wait for it */
	return stubborn;
}

void stubborn_hang(struct stubborn *stubborn, unsigned how)
{
	atomic_store(&stubborn->words->hangs, how);
}

unsigned stubborn_waiting(const struct stubborn *stubborn)
{
	return atomic_load(&stubborn->words->n_hanging);
}

void stubborn_end(struct stubborn *stubborn)
{
	kill(stubborn->server, SIGKILL);
	SYS(waitpid(stubborn->server, NULL, 0));
	umount2(stubborn->directory, MNT_DETACH);
	munmap(stubborn->words, sizeof(*stubborn->words));
	free(stubborn);
}
