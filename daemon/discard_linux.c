/* SPDX-License-Identifier: MIT */
/*
 * The throwaway process: fork, keep nothing but the connection, wait until the parent has closed
 * its copy, exit. What hangs then hangs there. Its pidfd tells when it is over, so that the user
 * who caused it stays charged until then.
 */
#include "discard.h"

#include "account.h"
#include "layout/futex.h"
#include "log.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16; the same on every architecture that uses asm-generic */
#endif

enum { LOOK_MS = 50 };

struct discard_child {
	union {
		uv_handle_t handle;
		uv_poll_t watch;
		uv_timer_t look; /* if there is no pidfd */
	};
	pid_t pid;
	int pidfd; /* -1: none */
	struct discard *discard;
	struct account *account;
	enum charge what; /* that it is charged for */
	struct discard_child *previous, *next;
};

/*
 * With the sending side shut nothing can be added; what holds no descriptors is read away. An empty
 * packet, which could hide others, reads like the end, but only a packet brings credentials; there
 * is room for them and nothing else.
 */
static bool queue_is_harmless(int socket)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
	char byte;
	int on = 1;

	shutdown(socket, SHUT_RD);
	if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return false;
	for (;;) {
		struct msghdr message = { .msg_control = control,
					  .msg_controllen = sizeof(control) };

		if (recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT) < 0) {
			if (errno == EINTR || errno == ECONNRESET) /* a reset is told once */
				continue;
			return errno == EAGAIN;
		}
		if (message.msg_flags & MSG_CTRUNC)
			return false;
		if (message.msg_controllen == 0)
			return true;
		recv(socket, &byte, 1, MSG_DONTWAIT | MSG_TRUNC);
	}
}

static void settle(struct account *account, enum charge what)
{
	if (account)
		account_uncharge(account, what, 1);
	account_put(account);
}

static void on_child_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void forget_child(struct discard_child *child)
{
	child->discard->n_children--;
	DL_DELETE2(child->discard->children, child, previous, next);
	uv_close(&child->handle, on_child_closed);
	if (child->pidfd >= 0)
		close(child->pidfd);
	settle(child->account, child->what);
}

static void on_child_ended(uv_poll_t *watch, int status, int events)
{
	struct discard_child *child = watch->data;
	siginfo_t info;

	waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG);
	forget_child(child);
}

static void look_after_child(uv_timer_t *look)
{
	struct discard_child *child = look->data;

	if (waitpid(child->pid, NULL, WNOHANG) != 0)
		forget_child(child);
}

void discard_stop(struct discard *discard)
{
	while (discard->children)
		forget_child(discard->children);
}

/* Runs in the child: async-signal-safe calls only. */
static _Noreturn void hold_and_exit(pid_t parent, int socket, const uint32_t *released)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a parent that dies has let go as well */
	if (getppid() != parent)          /* and one that died before that */
		_exit(0);
	if (socket > 0)
		close_range(0, (unsigned)socket - 1, 0);
	close_range((unsigned)socket + 1, UINT_MAX, 0);
	while (__atomic_load_n(released, __ATOMIC_SEQ_CST) == 0)
		futex_wait(released, 0, 1000000000);
	_exit(0);
}

static pid_t fork_holder(int socket)
{
	uint32_t *released = mmap(NULL, sizeof(*released), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t parent = getpid(), pid;

	if (released == MAP_FAILED)
		return -1;
	pid = fork();
	if (pid == 0)
		hold_and_exit(parent, socket, released);
	if (pid > 0) {
		close(socket);
		__atomic_store_n(released, 1, __ATOMIC_SEQ_CST);
		futex_wake_all(released);
	}
	munmap(released, sizeof(*released));
	return pid;
}

/* Without a pidfd (descriptors have run out, or there is no such thing) it is looked at now and
 * then.
 */
static void start_watch(struct discard_child *child)
{
	uv_loop_t *loop = child->discard->loop;

	if (child->pidfd >= 0 && uv_poll_init(loop, &child->watch, child->pidfd) == 0) {
		uv_poll_start(&child->watch, UV_READABLE, on_child_ended);
		return;
	}
	uv_timer_init(loop, &child->look);
	uv_timer_start(&child->look, look_after_child, LOOK_MS, LOOK_MS);
}

static bool watch_child(struct discard *discard, pid_t pid, struct account *account,
			enum charge what)
{
	struct discard_child *child = calloc(1, sizeof(*child));

	if (!child)
		return false;
	child->discard = discard;
	child->account = account;
	child->what = what;
	child->pid = pid;
	child->pidfd = pidfd_open(pid, 0);
	start_watch(child);
	child->handle.data = child;
	uv_unref(&child->handle);
	discard->n_children++;
	DL_APPEND2(discard->children, child, previous, next);
	return true;
}

/* Unwatched it is charged for ever, which is the safe side, and reaped by whoever reaps us. */
void discard_watch(struct discard *discard, pid_t pid, struct account *account, enum charge what)
{
	if (!watch_child(discard, pid, account, what))
		account_put(account);
}

bool discard_trusts(int socket)
{
	int passes = 1;
	socklen_t size = sizeof(passes);

	return getsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &passes, &size) == 0 && passes == 0;
}

void discard_socket(struct discard *discard, int socket, bool trusted, struct account *account)
{
	pid_t pid;

	if (trusted || queue_is_harmless(socket)) {
		close(socket);
		settle(account, CHARGE_CONNECTIONS);
		return;
	}
	pid = fork_holder(socket);
	if (pid < 0) {
		/* Neither closing it nor keeping it is good; keeping it leaves one descriptor, and
		 * the charge. */
		log_begin(LOG_DISCARD_FAILS, strerror(errno));
		account_put(account);
		return;
	}
	log_end(LOG_DISCARD_FAILS);
	discard_watch(discard, pid, account, CHARGE_CONNECTIONS);
}
