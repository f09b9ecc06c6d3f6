/* SPDX-License-Identifier: MIT */
#ifndef CLI_UNDER_H
#define CLI_UNDER_H

/* What lock, sem wait and sem take have in common: waiting for something to run a command under. */

#include "cli.h"

struct under {
	bool nonblock; /* set by the caller */
	int conflict;  /* exit status if it was not had in time; set to the default by the caller */
	int timeout_ms; /* -1: for ever */
};

/* under_parse() - @wait: a second spelling of --timeout, or NULL. Return: CLI_OK, or an exit
 * status, told. */
int under_parse(struct cli *cli, struct under *under, const struct cli_number *wait,
		const struct cli_number *conflict);

enum { CLIENT_NAME = 65 };

/* under_client_name() - what holders are shown as: "shmbctl: make". Return: @buffer. */
const char *under_client_name(const char *command, char buffer[CLIENT_NAME]);

#endif
