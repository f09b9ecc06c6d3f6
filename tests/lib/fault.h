/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

/*
 * Faults on demand in a running daemon: a page shared between the test, which writes the rules, and
 * the preloaded faults.c, which obeys them.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

enum fault {
	FAULT_ALLOC,        /* malloc, calloc, realloc; not under sanitizers */
	FAULT_ACCEPT,       /* accept4 */
	FAULT_SEND,         /* sendmsg, any */
	FAULT_SEND_FDS,     /* sendmsg with descriptors */
	FAULT_NOTIFY,       /* sendmsg to the service manager */
	FAULT_RECEIVE,      /* recvmsg */
	FAULT_PASSRIGHTS,   /* setsockopt(SO_PASSRIGHTS): an old kernel */
	FAULT_PEERPIDFD,    /* getsockopt(SO_PEERPIDFD): an old kernel */
	FAULT_PIDFD_OPEN,   /* pidfd_open */
	FAULT_MEMFD,        /* memfd_create */
	FAULT_MEMFD_NOEXEC, /* memfd_create with MFD_NOEXEC_SEAL: an old kernel */
	FAULT_SHM_OPEN,     /* shm_open */
	FAULT_SHM_RENAME,   /* rename */
	FAULT_OPEN,         /* open, openat */
	FAULT_FTRUNCATE,    /* ftruncate */
	FAULT_FALLOCATE,    /* fallocate */
	FAULT_PWRITE,       /* pwrite */
	FAULT_MMAP,         /* mmap of a descriptor, shared */
	FAULT_MREMAP,       /* mremap */
	FAULT_FORK,         /* fork */
	FAULT_COUNT,
};

enum { FAULT_FOREVER = -1 };

/* What to do with calls of one kind: let @skip through, then fail @times with @error. */
struct fault_rule {
	_Atomic int error; /* an errno; 0: no fault */
	_Atomic int skip;
	_Atomic int times; /* FAULT_FOREVER: all */
	_Atomic int hits;  /* failed so far */
};

struct fault_control {
	struct fault_rule rules[FAULT_COUNT];
};

#define FAULT_ENVIRONMENT "SHMB_TEST_FAULT_CONTROL"

#endif
