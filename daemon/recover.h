/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RECOVER_H
#define DAEMON_RECOVER_H

/* What the daemon before has left: all that its manifest remembers is taken over as it is, what
 * nobody remembers is removed. */

struct activation;
struct broker;

/*
 * recover() - take over, or begin anew; names the instance and opens the manifest
 * @directory:  runtime directory, of which the instance lock is held
 * @activation: stored descriptors are taken from it, the rest is closed
 *
 * Return: 0, an exit code (EXIT_CODE_NEWER, EXIT_CODE_FAILURE; why was logged).
 */
int recover(struct broker *broker, const char *directory, struct activation *activation);

/* recover_purge() - remove all that a dead daemon has left, of whatever version. Return: exit code.
 */
int recover_purge(struct broker *broker, const char *directory);

#endif
