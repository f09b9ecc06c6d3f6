/* SPDX-License-Identifier: MIT */
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

/*
 * A command that shmbctl runs, and waits for: signals that are sent to shmbctl alone are passed on
 * to it, and its end becomes shmbctl's.
 */

#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include "cli.h"

struct child {
	bool bound;    /* set by the caller: it is killed when shmbctl dies */
	int signals;   /* signalfd: SIGCHLD and those that are passed on */
	sigset_t mask; /* what shmbctl was started with, and the command is */
	pid_t pid;
};

/* child_take_signals() - block signals and receive them through child->signals instead. Return:
 * CLI_OK, or an exit status, told. */
int child_take_signals(struct cli *cli, struct child *child);

/* child_next_signal() - Return: whether there was one; does not wait */
bool child_next_signal(const struct child *child, struct signalfd_siginfo *ret_info);

/* child_start() - after child_take_signals(). Return: CLI_OK, CLI_CANNOT_EXECUTE, CLI_NO_COMMAND,
 * or another exit status, told. */
int child_start(struct cli *cli, struct child *child, char **argv);

/* child_wait() - pass signals on until it ends. Return: its status as waitpid() gives it. */
int child_wait(const struct child *child);

/* child_exit_status() - what to exit with: its own, or 128 plus the signal that killed it */
int child_exit_status(int wait_status);

/* child_exec_result() - read from the pipe whether an exec succeeded, and close it. Return: 0, or
 * the errno of the exec. */
int child_exec_result(int fd);

#endif
