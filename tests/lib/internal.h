/* SPDX-License-Identifier: MIT */
#ifndef TESTS_INTERNAL_H
#define TESTS_INTERNAL_H

/* Between the files of the harness. */

#include <stdbool.h>
#include <sys/types.h>

struct broker;

bool actor_is_me(void);
void broker_print_log(const struct broker *broker);

/* can_mount_shm() - may we do what .shm_mount asks for? Root in a container often may not. */
bool can_mount_shm(void);

/* can_make_pid_namespace() - may we do what .pid_namespace asks for? */
bool can_make_pid_namespace(void);

/* wait_for_exit() - within 20 s. Return: exit code, 1000 + signal, or -1 (still there). */
int wait_for_exit(pid_t pid, int pidfd);

#endif
