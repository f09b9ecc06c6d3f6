/* SPDX-License-Identifier: MIT */
/*
 * What lock, sem wait and sem take have in common. Pure, but for telling what is wrong with the
 * line.
 */

#include "under.h"

#include <stdio.h>
#include <string.h>

int under_parse(struct cli *cli, struct under *under, const struct cli_number *wait,
		const struct cli_number *conflict)
{
	const struct cli_number *limit = wait != NULL && wait->given ? wait : &cli->timeout;
	uint32_t status = (uint32_t)under->conflict;
	int result;

	if (under->nonblock && limit->given)
		return cli_usage(cli, "--nonblock and a time to wait exclude each other");
	if (limit != &cli->timeout && cli->timeout.given)
		return cli_usage(cli, "--wait and --timeout are the same");
	under->timeout_ms = under->nonblock ? 0 : limit->given ? (int)limit->value : -1;
	result = cli_parse_range(cli, "conflict-exit-code", conflict, 0, 255, &status);
	under->conflict = (int)status;
	return result;
}

const char *under_client_name(const char *command, char buffer[CLIENT_NAME])
{
	const char *slash = strrchr(command, '/');

	snprintf(buffer, CLIENT_NAME, "shmbctl: %s", slash != NULL ? slash + 1 : command);
	for (char *c = buffer; *c != '\0'; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	return buffer;
}
