/* SPDX-License-Identifier: MIT */
/*
 * Starting a command and waiting for it. Knows processes and signals, and nothing of brokers.
 */

#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Signals ---- */

static const int forwarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };

enum { N_FORWARDED = sizeof(forwarded) / sizeof(forwarded[0]) };

int child_take_signals(struct cli *cli, struct child *child)
{
	sigset_t signals;

	child->signals = -1;
	/* ignored, children would vanish without a status */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	for (int i = 0; i < N_FORWARDED; i++)
		sigaddset(&signals, forwarded[i]);
	if (sigprocmask(SIG_BLOCK, &signals, &child->mask) == 0)
		child->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return child->signals < 0 ? cli_fail_errno(cli, "signalfd", errno) : CLI_OK;
}

bool child_next_signal(const struct child *child, struct signalfd_siginfo *ret_info)
{
	return read(child->signals, ret_info, sizeof(*ret_info)) == (ssize_t)sizeof(*ret_info);
}

/* ---- Starting ---- */

int child_exec_result(int fd)
{
	int error = 0;
	ssize_t n;

	do
		n = read(fd, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	close(fd);
	return n == (ssize_t)sizeof(error) ? error : 0;
}

/* What holds a lock for the command is its parent: without that it must not go on. */
static bool bind_to_parent(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return false;
	if (getppid() != parent) /* it died before that could be said */
		_exit(CLI_RUN_FAILED);
	return true;
}

__attribute__((noreturn)) static void become(const struct child *child, pid_t parent, int exec_fd,
					     char **argv)
{
	int error;

	if (!child->bound || bind_to_parent(parent)) {
		sigprocmask(SIG_SETMASK, &child->mask, NULL);
		execvp(argv[0], argv);
	}
	error = errno;
	(void)!write(exec_fd, &error, sizeof(error));
	_exit(CLI_CANNOT_EXECUTE);
}

int child_start(struct cli *cli, struct child *child, char **argv)
{
	pid_t parent = getpid();
	int fds[2], error;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return cli_fail_errno(cli, "pipe", errno);
	child->pid = fork();
	if (child->pid == 0)
		become(child, parent, fds[1], argv);
	error = errno;
	close(fds[1]);
	if (child->pid < 0) {
		close(fds[0]);
		return cli_fail_errno(cli, "fork", error);
	}
	error = child_exec_result(fds[0]);
	if (error == 0)
		return CLI_OK;
	waitpid(child->pid, NULL, 0);
	return cli_fail_execute(cli, argv[0], error);
}

/* ---- Waiting ---- */

/* What the terminal sends goes to the whole foreground group, the command included. */
static void pass_on(const struct child *child, const struct signalfd_siginfo *info)
{
	if (info->ssi_code != SI_KERNEL)
		kill(child->pid, (int)info->ssi_signo);
}

int child_wait(const struct child *child)
{
	struct pollfd fd = { .fd = child->signals, .events = POLLIN };
	struct signalfd_siginfo info;
	int status;

	while (waitpid(child->pid, &status, WNOHANG) == 0) {
		poll(&fd, 1, -1);
		while (child_next_signal(child, &info))
			if (info.ssi_signo != SIGCHLD)
				pass_on(child, &info);
	}
	return status;
}

int child_exit_status(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
