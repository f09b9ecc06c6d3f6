/* SPDX-License-Identifier: MIT */
#ifndef CLI_RUN_H
#define CLI_RUN_H

/*
 * A private broker for a command tree. Three processes of ours: shmbctl itself, which the user sees
 * and which runs the command; the keeper, which owns the broker and outlives even a SIGKILL of
 * shmbctl; the broker, which ends when the lifeline's writing end, held by shmbctl alone, closes.
 * If it ends before that, the keeper starts it again, with the same listening socket and with the
 * descriptors that it gave away to be kept.
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
	int listener; /* where the broker listens; -1: closed */
	int notifier; /* where it says READY=1, with the sender's credentials; -1: closed */
};

/* run_home_make() - make it. Return: CLI_OK, or an exit status, told. */
int run_home_make(struct cli *cli, struct run_home *home);

/* run_home_path() - the path of @name in it, always fits. Return: @buffer. */
const char *run_home_path(const struct run_home *home, const char *name,
			  char buffer[sizeof(((struct sockaddr_un *)0)->sun_path)]);

/* run_home_remove() - remove it and all files in it. Return: 0, or -1 with errno. */
int run_home_remove(struct run_home *home);

/* run_home_unlisten() - give the listening socket up: with the broker's, it dies */
void run_home_unlisten(struct run_home *home);

/* run_home_has() - Return: whether there is a file @name in it */
bool run_home_has(const struct run_home *home, const char *name);

/* run_home_is_taken() - Return: whether a broker has its place there; one that was killed has until
 * the system is done with it */
bool run_home_is_taken(const struct run_home *home);

/* ---- What the broker keeps with us: run_store.c ---- */

enum { RUN_STORE_NAME = 5 }; /* with NUL */

struct run_store_entry {
	char name[RUN_STORE_NAME]; /* hexadecimal digits; several can have the same */
	int fd;                    /* owned */
};

struct run_store {
	struct run_store_entry *entries;
	size_t count, room; /* room 0: there can be none */
};

/* run_store_make() - an empty one, with as much room as RLIMIT_NOFILE, which is raised, leaves.
 * Return: whether there was memory for it. */
bool run_store_make(struct run_store *store);

/* run_store_free() - close all that is in it */
void run_store_free(struct run_store *store);

/* run_store_add() - keep @fd, which is consumed; dropped in silence if there is no more room, or if
 * the name is not 1 to 4 hexadecimal digits */
void run_store_add(struct run_store *store, const char *name, int fd);

/* run_store_remove() - close all that have this name */
void run_store_remove(struct run_store *store, const char *name);

/* run_store_arrange() - in a child about to exec: move them to @first and the numbers behind it,
 * where nothing else may be that is still needed. Return: whether it could be done. */
bool run_store_arrange(const struct run_store *store, int first);

/* run_store_names() - their names in order, as LISTEN_FDNAMES has it, and one more behind them.
 * Return: malloc'd, or NULL. */
char *run_store_names(const struct run_store *store, const char *last);

/*
 * run_notify_serve() - take what has been sent to the notifier, and do it: run_notify.c
 * @broker: the process that is listened to; 0: none
 *
 * Return: whether the broker said that it is ready.
 */
bool run_notify_serve(int notifier, pid_t broker, struct run_store *store);

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
 * @store:               what is in it goes to the daemon, which says READY=1 and the like to the
 *                       home's notifier
 *
 * Return: its process id, or -1 with errno.
 */
pid_t run_broker_start(const struct run_broker *broker, const struct run_home *home, int listener,
		       int lifeline, const struct run_store *store);

/* run_broker_purge() - start the daemon to remove what a dead one left. Return: its process id, or
 * -1 with errno. */
pid_t run_broker_purge(const struct run_broker *broker, const struct run_home *home);

/* ---- Watching it: run_watch.c ---- */

struct run_watch {
	struct run_home *home;
	struct run_store *store; /* what the broker keeps with us */
	int lifeline;            /* end-of-file when shmbctl is done, or dead */
	int signals;             /* signalfd for SIGCHLD */
	pid_t pid;               /* of the broker; 0: none runs */
	int status;              /* of waitpid(), once it has ended */
	bool done;               /* the lifeline was cut */
};

enum run_start { RUN_READY, RUN_ENDED, RUN_LATE, RUN_DONE };

/* run_watch_start() - wait until the broker is ready, or has ended, or the deadline (cli_now_ms()),
 * or until shmbctl is done */
enum run_start run_watch_start(struct run_watch *watch, int64_t deadline_ms);

/* run_watch_end() - wait until it has ended. @leaving: it is about to; that it may take long, and
 * is killed in the end. As long as it is not, wait without limit for shmbctl to be done. */
void run_watch_end(struct run_watch *watch, bool leaving);

/* run_watch_pause() - do what else there is to do, until shmbctl is done, or the deadline; -1: none
 */
void run_watch_pause(struct run_watch *watch, int64_t deadline_ms);

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
