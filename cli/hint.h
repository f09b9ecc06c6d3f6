/* SPDX-License-Identifier: MIT */
#ifndef CLI_HINT_H
#define CLI_HINT_H

/* What can be done about an error. */

#include "cli.h"

/* hint_for() - about what the library said to the command; @what: of struct shmb_error, "" if it
 * said nothing. Return: a sentence, or NULL. */
const char *hint_for(const struct cli *cli, int code, const char *what);

/* hint_for_connect() - about a connection that was not to be had. Return: a sentence, or NULL. */
const char *hint_for_connect(const char *address, int code);

#endif
