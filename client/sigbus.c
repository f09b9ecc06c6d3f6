/* SPDX-License-Identifier: MIT */
/*
 * The process-wide handler for SIGBUS, and those that were there before it. A fault in one of the
 * library's mappings is handled by guard.c; anything else goes to where it would have gone without
 * us, with the same arguments, mask and consequences. Async-signal-safe throughout.
 *
 * A program may install a handler of its own over ours, which passes on to ours what it does not
 * know; and ours may be installed over that again, to pass on to it. So that the two do not call
 * each other for ever, a handler that calls us is taken for one of those that we have called: then
 * it is the turn of the one before it.
 */

#include "sigbus.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <shmbroker/memory.h>

#include "guard.h"
#include "map_system.h"

/* What was installed before us, newest first. Never freed, as a thread may be in it. */
struct earlier {
	struct sigaction action;
	_Atomic bool used; /* SA_RESETHAND: it was called once */
	struct earlier *before;
};

static _Atomic(struct earlier *) newest;
static _Atomic uint32_t installed; /* in which generation, see fork.h; 0: in none */

/*
 * What this thread is passing on. A handler need not return: it may jump out of the signal. So what
 * stands here may be of a signal that is over, and where it stands on the stack tells: a handler
 * that calls us does so from deeper down than where we have called it.
 *
 * initial-exec: the other kinds may allocate at the first use.
 */
static _Thread_local struct passing {
	const void *context;
	const char *frame;
	struct earlier *to;
} passing __attribute__((tls_model("initial-exec")));

/* ---- Passing on ---- */

/* The kernel would have raised it again and again, whatever the program says of ignoring it. */
static bool is_synchronous(const siginfo_t *info)
{
#ifdef BUS_MCEERR_AO
	if (info->si_code == BUS_MCEERR_AO)
		return false;
#endif
	return info->si_code > 0;
}

/*
 * Nobody wants it. The signal itself once more, with all that it said, so that a core dump shows
 * what it would have shown; it comes when this handler returns to where it happened. If it cannot
 * be sent, a fault happens again by itself.
 */
static void die(const siginfo_t *info)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
	system_raise_again(info);
}

static void call(struct earlier *to, int number, siginfo_t *info, void *context)
{
	const struct sigaction *action = &to->action;
	sigset_t before;

	if (action->sa_flags & (int)SA_RESETHAND && atomic_exchange(&to->used, true)) {
		die(info);
		return;
	}
	pthread_sigmask(SIG_BLOCK, &action->sa_mask, &before);
	if (action->sa_flags & SA_NODEFER) {
		sigset_t bus;

		sigemptyset(&bus);
		sigaddset(&bus, SIGBUS);
		pthread_sigmask(SIG_UNBLOCK, &bus, NULL);
	}
	if (action->sa_flags & SA_SIGINFO)
		action->sa_sigaction(number, info, context);
	else
		action->sa_handler(number);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static bool takes_it(const struct earlier *to)
{
	return to && (to->action.sa_flags & SA_SIGINFO ||
		      (to->action.sa_handler != SIG_DFL && to->action.sa_handler != SIG_IGN));
}

static bool ignores_it(const struct earlier *to)
{
	return to && !(to->action.sa_flags & SA_SIGINFO) && to->action.sa_handler == SIG_IGN;
}

static void pass_on(int number, siginfo_t *info, void *context)
{
	struct passing outer = passing;
	struct passing inner = { context, __builtin_frame_address(0), atomic_load(&newest) };
	struct earlier *to = inner.to;

	if (outer.context == context && inner.frame < outer.frame)
		to = inner.to = outer.to ? outer.to->before : NULL;
	passing = inner;
	if (takes_it(to))
		call(to, number, info, context);
	else if (!ignores_it(to) || is_synchronous(info))
		die(info);
	passing = outer;
}

static bool is_ours(const siginfo_t *info)
{
	/* Positive: said by the kernel, not by another process. */
	switch (info->si_code) {
	case BUS_ADRERR:
		return guard_handle(info->si_addr, 0);
#ifdef BUS_MCEERR_AR
	case BUS_MCEERR_AR:
	case BUS_MCEERR_AO:
		return guard_handle(info->si_addr, (size_t)1 << info->si_addr_lsb);
#endif
	default:
		return false;
	}
}

static void handle(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	if (!is_ours(info))
		pass_on(number, info, context);
	errno = saved;
}

/* ---- Installing ---- */

static bool is_handle(const struct sigaction *action)
{
	return action->sa_flags & SA_SIGINFO && action->sa_sigaction == handle;
}

static bool same(const struct sigaction *a, const struct sigaction *b)
{
	if ((a->sa_flags & SA_SIGINFO) != (b->sa_flags & SA_SIGINFO))
		return false;
	return a->sa_flags & SA_SIGINFO ? a->sa_sigaction == b->sa_sigaction
					: a->sa_handler == b->sa_handler;
}

/* Of several threads that do this at once one adds it. */
static int add_earlier(const struct sigaction *action)
{
	struct earlier *made = calloc(1, sizeof(*made)), *head = atomic_load(&newest);

	if (!made)
		return SHMB_ENOMEM;
	made->action = *action;
	do {
		if (head && !atomic_load(&head->used) && same(&head->action, action)) {
			free(made);
			return 0;
		}
		made->before = head;
	} while (!atomic_compare_exchange_weak(&newest, &head, made));
	return 0;
}

static int install(void)
{
	struct sigaction ours = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction before;
	int result;

	sigemptyset(&ours.sa_mask);
	if (sigaction(SIGBUS, NULL, &before) != 0)
		return SHMB_ENOTSUP;
	if (is_handle(&before))
		return 0;
	/* First: from the moment on in which ours is there it needs somebody to pass on to. */
	result = add_earlier(&before);
	if (result < 0)
		return result;
	if (sigaction(SIGBUS, &ours, &before) != 0)
		return SHMB_ENOTSUP;
	/* Another thread may have changed it in between. */
	return is_handle(&before) ? 0 : add_earlier(&before);
}

int shmb_guard_install(void)
{
	return install();
}

int guard_install_once(uint32_t generation)
{
	int result;

	if (atomic_load(&installed) == generation)
		return 0;
	result = install();
	if (result == 0)
		atomic_store(&installed, generation);
	return result;
}
