/* SPDX-License-Identifier: MIT */
#ifndef TESTS_INTERNAL_H
#define TESTS_INTERNAL_H

/* Between the files of the harness. */

#include <stdbool.h>
#include <sys/types.h>

struct broker;
struct fd_store;

bool actor_is_me(void);
void broker_print_log(const struct broker *broker);

/* can_mount_shm() - may we do what .shm_mount and .runtime_mount ask for? Root in a container often
 * may not. */
bool can_mount_shm(void);

/* can_make_pid_namespace() - may we do what .pid_namespace asks for? */
bool can_make_pid_namespace(void);

/* launch_with_options() - run it as its options say, with what is kept for it, and do not wait */
void launch_with_options(struct broker *broker);

/* process_fd() - a pidfd; -1 where there is no such thing, as under valgrind */
int process_fd(pid_t pid);

/* wait_for_exit() - within 20 s. Return: exit code, 1000 + signal, or -1 (still there). */
int wait_for_exit(pid_t pid, int pidfd);

/*
 * The store of descriptors: served on a datagram socket at @path, for at most @max; what is said
 * goes into a file. store_settle() waits until all that was sent has been taken.
 */
struct fd_store *store_open(const char *path, const char *said_path, unsigned max);
struct fd_store *store_free(struct fd_store *store);
void store_settle(struct fd_store *store);

/* Between these nothing comes or goes: store_get() the @i-th, the last one to come first, borrowed
 */
unsigned store_lock(struct fd_store *store);
int store_get(const struct fd_store *store, unsigned i, const char **ret_name);
void store_unlock(struct fd_store *store);

#endif
