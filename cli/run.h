/* SPDX-License-Identifier: MIT */
#ifndef CLI_RUN_H
#define CLI_RUN_H

/*
 * A private broker for a command tree. Three processes of ours: shmbctl itself, which the user sees
 * and which runs the command; the keeper, which owns the broker and outlives even a SIGKILL of
 * shmbctl; the broker, which ends when the lifeline's writing end, held by shmbctl alone, closes.
 */

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "child.h"
#include "cli.h"

/* ---- The directory: run_home.c ---- */

/* A directory of our own, with the sockets in it. */
struct run_home {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;       /* the directory, -1: none */
	int listener; /* where the broker listens; -1: given away */
	int notifier; /* where it says READY=1; -1: closed */
};

/* run_home_make() - make it. Return: CLI_OK, or an exit status, told. */
int run_home_make(struct cli *cli, struct run_home *home);

/* run_home_listen() - a listening socket @name in it, mode 0600. Return: the descriptor, owned by
 * the caller, or -1 with errno. */
int run_home_listen(const struct run_home *home, const char *name);

/* run_home_path() - the path of @name in it, always fits. Return: @buffer. */
const char *run_home_path(const struct run_home *home, const char *name,
			  char buffer[sizeof(((struct sockaddr_un *)0)->sun_path)]);

/* run_home_remove() - remove it and all files in it. Return: 0, or -1 with errno. */
int run_home_remove(struct run_home *home);

/* ---- The broker: run_broker.c ---- */

struct run_broker {
	char path[PATH_MAX];   /* of the daemon */
	const char *log_level; /* borrowed */
	struct cli_list extra; /* KEY=VALUE, borrowed */
	sigset_t signals;      /* the mask that shmbctl was started with */
};

/* run_broker_find() - find the daemon. Return: CLI_OK, or an exit status, told. */
int run_broker_find(struct cli *cli, struct run_broker *broker);

/*
 * run_broker_start() - start the daemon on a socket
 * @listener, @lifeline: borrowed
 * @notify:              it says READY=1 to the home's notifier
 *
 * Return: its process id, or -1 with errno.
 */
pid_t run_broker_start(const struct run_broker *broker, const struct run_home *home, int listener,
		       int lifeline, bool notify);

/* ---- The keeper: run_keeper.c ---- */

struct run_keeper {
	struct cli *cli;
	const struct run_broker *broker;
	struct run_home *home;
	int lifeline; /* reading end: end-of-file when shmbctl is done, or dead */
	int report;   /* one byte is written to it when the broker is ready */
	int64_t start_ms;
};

/* run_keeper_main() - be the keeper, in a child. Does not return. */
__attribute__((noreturn)) void run_keeper_main(struct run_keeper *keeper);

#endif
