/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

/* The process around the broker. */

struct options;

enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_FAILURE = 1,
	EXIT_CODE_USAGE = 2,
	EXIT_CODE_CONFIG = 3,
	EXIT_CODE_RUNNING = 4, /* another broker holds the instance */
	EXIT_CODE_NEWER = 5,   /* the manifest is of a newer version */
};

/* daemon_run() - run until told to stop. Return: enum exit_code. */
int daemon_run(const struct options *options);

#endif
