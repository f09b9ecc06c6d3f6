/* SPDX-License-Identifier: MIT */
/*
 * shmbctl: finds the command, parses its line, runs it, and makes sure that what it printed was
 * really written. What commands do is in command_*.c and run.c.
 */

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct cli_command *const commands[] = {
	&command_create,   &command_resize,     &command_rm,       &command_chmod,
	&command_chown,    &command_ls,         &command_stat,     &command_stats,
	&command_ping,     &command_features,   &command_read,     &command_write,
	&command_cp,       &command_export,     &command_import,   &command_dump,
	&command_flush,    &command_advise,     &command_publish,  &command_wait,
	&command_watch,    &command_run,        &command_locks,    &command_lock,
	&command_sem,      &command_sem_create, &command_sem_wait, &command_sem_take,
	&command_sem_post, &command_sem_value,
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const struct cli_command *find_name(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

/* The command that the first word names, or the first two. *@ret_last: the last word of it. */
static const struct cli_command *find_command(int argc, char **argv, int *ret_last)
{
	const struct cli_command *command = NULL;
	char name[32];
	int length;

	*ret_last = 1;
	if (argc > 1) {
		length = snprintf(name, sizeof(name), "%s %s", argv[0], argv[1]);
		if (length < (int)sizeof(name))
			command = find_name(name);
	}
	if (command != NULL)
		return command;
	*ret_last = 0;
	return find_name(argv[0]);
}

/* A descriptor below 3 that is closed would be taken by the first socket, and error messages would
 * go to the broker. */
static bool open_standard_fds(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		/* the lowest closed one is what open() returns */
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

/* Gives every list option room for as many items as there are arguments. */
static bool make_lists(const struct cli_command *command, void *values, int argc)
{
	for (size_t i = 0; i < command->n_options; i++) {
		const struct cli_option *option = &command->options[i];
		struct cli_list *list = (void *)((char *)values + option->offset);

		if (option->type != CLI_LIST)
			continue;
		list->items = calloc((size_t)argc, sizeof(*list->items));
		if (list->items == NULL)
			return false;
	}
	return true;
}

static void free_values(const struct cli_command *command, void *values)
{
	for (size_t i = 0; values != NULL && i < command->n_options; i++) {
		const struct cli_option *option = &command->options[i];

		if (option->type == CLI_LIST)
			free(((struct cli_list *)(void *)((char *)values + option->offset))->items);
	}
	free(values);
}

static int run_parsed(struct cli *cli, const void *values, int argc, char **argv)
{
	const struct cli_command *command = cli->command;

	if (cli->help) {
		cli_command_help(command);
		return CLI_OK;
	}
	if (cli->version) {
		printf("shmbctl %s\n", SHMB_VERSION);
		return CLI_OK;
	}
	if (argc < command->min_operands)
		return cli_usage(cli, "%s: usage: shmbctl %s %s",
				 argc == 0 ? "an argument is missing" : "too few arguments",
				 command->name, command->synopsis);
	if (command->max_operands >= 0 && argc > command->max_operands)
		return cli_usage(cli, "too many arguments, from '%s' on",
				 argv[command->max_operands]);
	return command->run(cli, values, argc, argv);
}

static int run_command(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *command = cli->command;
	void *values = calloc(1, command->values_size + 1);
	int status, operands = 0;

	if (values == NULL || !make_lists(command, values, argc))
		status = cli_fail_errno(cli, NULL, ENOMEM);
	else
		status = cli_parse(cli, command, argc, argv, values, &operands);
	if (status == CLI_OK)
		status = run_parsed(cli, values, argc - operands, argv + operands);
	free_values(command, values);
	cli->client = shmb_client_free(cli->client);
	return status;
}

static int run_help(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *command;
	int last;

	if (argc < 2) {
		cli_help(commands, N_COMMANDS);
		return CLI_OK;
	}
	command = find_command(argc - 1, argv + 1, &last);
	if (command == NULL)
		return cli_usage(cli, "there is no command '%s'", argv[1]);
	cli_command_help(command);
	return CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	int first, last, status;

	status = cli_parse(cli, NULL, argc, argv, NULL, &first);
	if (status != CLI_OK)
		return status;
	if (cli->version) {
		printf("shmbctl %s\n", SHMB_VERSION);
		return CLI_OK;
	}
	argc -= first;
	argv += first;
	if (argc == 0 && !cli->help)
		return cli_usage(cli, "a command is missing");
	if (argc == 0 || strcmp(argv[0], "help") == 0)
		return run_help(cli, argc, argv);
	cli->command = find_command(argc, argv, &last);
	if (cli->command == NULL)
		return cli_usage(cli, "there is no command '%s'", argv[0]);
	return run_command(cli, argc - last, argv + last);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	int status;

	if (!open_standard_fds())
		return CLI_FAILED;
	status = run(&cli, argc, argv);
	/* a full disk must not look like success */
	if ((fflush(stdout) != 0 || ferror(stdout) != 0) && status == CLI_OK)
		status = cli_fail_errno(&cli, "standard output", errno);
	return status;
}
