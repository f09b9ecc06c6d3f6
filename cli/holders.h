/* SPDX-License-Identifier: MIT */
#ifndef CLI_HOLDERS_H
#define CLI_HOLDERS_H

/* Who holds locks and semaphores: how processes are spelt, and the list of all who hold or wait. */

#include "cli.h"
#include "json.h"
#include "table.h"

enum { HOLDER_TEXT = 160 };

/* holder_format() - "make (pid 12, root)". Return: @buffer. */
const char *holder_format(const struct shmb_process *process, char buffer[HOLDER_TEXT]);

/* holder_cells() - three cells: pid, user and command; @process NULL: nobody */
#define HOLDER_COLUMNS                                          \
	{ .title = "PID", .right = true }, { .title = "USER" }, \
	{                                                       \
		.title = "COMMAND"                              \
	}
void holder_cells(struct table *table, const struct shmb_process *process);

/* holder_json() - holder_pid, holder_uid and holder_command */
void holder_json(struct json *json, const struct shmb_process *process);

/*
 * holders_print() - all who hold something of @name or wait for it, on standard output
 * @semaphore: it must be one; else it must be a lock, or a region with its lock
 *
 * Return: CLI_OK, or an exit status, told.
 */
int holders_print(struct cli *cli, const char *name, bool semaphore);

#endif
