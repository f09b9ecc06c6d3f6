/* SPDX-License-Identifier: MIT */
/*
 * Who holds what, for people and in JSON. What a process calls itself is its own text: it gets to a
 * terminal only with what a terminal could obey taken out.
 */

#include "holders.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "info.h"

enum { COMMAND_TEXT = 72, PID_TEXT = 16 };

static const char *printable(const char *command, char buffer[COMMAND_TEXT])
{
	size_t length = strnlen(command, COMMAND_TEXT - 1);

	for (size_t i = 0; i < length; i++)
		buffer[i] = command[i] < 0x20 || command[i] > 0x7e ? '?' : command[i];
	buffer[length] = '\0';
	return buffer;
}

static const char *pid_format(uint32_t pid, char buffer[PID_TEXT])
{
	if (pid == 0)
		return "";
	snprintf(buffer, PID_TEXT, "%" PRIu32, pid);
	return buffer;
}

const char *holder_format(const struct shmb_process *process, char buffer[HOLDER_TEXT])
{
	char command[COMMAND_TEXT], user[OWNER_TEXT], pid[PID_TEXT];

	printable(process->command, command);
	info_user(process->uid, user);
	if (process->pid == 0)
		snprintf(buffer, HOLDER_TEXT, "%s (of another pid namespace, %s)", command, user);
	else
		snprintf(buffer, HOLDER_TEXT, "%s (pid %s, %s)", command,
			 pid_format(process->pid, pid), user);
	return buffer;
}

void holder_cells(struct table *table, const struct shmb_process *process)
{
	char command[COMMAND_TEXT], user[OWNER_TEXT], pid[PID_TEXT];

	table_add(table, process == NULL ? "" : pid_format(process->pid, pid));
	table_add(table, process == NULL ? "" : info_user(process->uid, user));
	table_add(table, process == NULL ? "" : printable(process->command, command));
}

void holder_json(struct json *json, const struct shmb_process *process)
{
	json_uint(json, "holder_pid", process->pid);
	json_uint(json, "holder_uid", process->uid);
	json_string(json, "holder_command", process->command);
}

/* ---- The list ---- */

static const struct table_column columns[] = {
	{ .title = "HOLDS" },
	{ .title = "WAITING", .right = true },
	HOLDER_COLUMNS,
};

struct holders_walk {
	const struct cli *cli;
	struct table table;
};

static void print_json(const struct shmb_holder *holder)
{
	struct json json = json_begin(stdout);

	json_uint(&json, "pid", holder->process.pid);
	json_uint(&json, "uid", holder->process.uid);
	json_string(&json, "command", holder->process.command);
	json_bool(&json, "exclusive", holder->exclusive != 0);
	json_uint(&json, "shared", holder->shared);
	json_uint(&json, "permits", holder->permits);
	json_uint(&json, "waiting", holder->waiting);
	json_bool(&json, "condemned", holder->condemned != 0);
	json_end(&json);
}

static void add_row(struct table *table, const struct shmb_holder *holder)
{
	char holds[64] = "", waiting[PID_TEXT];

	if (holder->exclusive != 0)
		snprintf(holds, sizeof(holds), "exclusive");
	else if (holder->shared > 0)
		snprintf(holds, sizeof(holds), "shared %" PRIu32, holder->shared);
	else if (holder->permits > 0)
		snprintf(holds, sizeof(holds), "%" PRIu32 " permit%s", holder->permits,
			 holder->permits > 1 ? "s" : "");
	if (holder->condemned != 0)
		strcat(holds, holds[0] != '\0' ? ", dropped" : "dropped"); /* fits */
	table_add(table, holds);
	snprintf(waiting, sizeof(waiting), "%" PRIu32, holder->waiting);
	table_add(table, waiting);
	holder_cells(table, &holder->process);
}

static int each_holder(const struct shmb_holder *holder, void *userdata)
{
	struct holders_walk *walk = userdata;

	if (walk->cli->json) {
		print_json(holder);
		return ferror(stdout) != 0 ? 1 : 0; /* nobody reads any more; main() tells */
	}
	add_row(&walk->table, holder);
	return walk->table.no_memory ? SHMB_ENOMEM : 0;
}

/* The broker tells of any kind; who asks for one does not want to hear of another. */
static int check_kind(struct cli *cli, const char *name, bool semaphore)
{
	struct shmb_semaphore_info sem = { .struct_size = sizeof(sem) };
	struct shmb_lock_info lock = { .struct_size = sizeof(lock) };

	return semaphore ? shmb_semaphore_stat(cli->client, name, &sem)
			 : shmb_lock_stat(cli->client, name, &lock);
}

int holders_print(struct cli *cli, const char *name, bool semaphore)
{
	struct holders_walk walk = { .cli = cli };
	int result, status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	table_init(&walk.table, columns, sizeof(columns) / sizeof(columns[0]));
	result = check_kind(cli, name, semaphore);
	if (result == 0)
		result = shmb_client_holders(cli->client, name, each_holder, &walk);
	if (result == 0)
		result = table_print(&walk.table, stdout);
	table_deinit(&walk.table);
	return result < 0 ? cli_fail_client(cli, name, result) : CLI_OK;
}
