/* SPDX-License-Identifier: MIT */
/*
 * What --help prints, from the tables of options.
 */

#include "cli.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 32, COMMAND_COLUMN = 14, HELP_WIDTH = 100, OPTION_TEXT = 128 };

/* Prints words from @column on, broken at HELP_WIDTH. */
static void print_wrapped(const char *text, int column)
{
	int at = column;

	while (*text != '\0') {
		int length = (int)strcspn(text, " ");

		if (at > column && at + 1 + length > HELP_WIDTH) {
			printf("\n%*s", column, "");
			at = column;
		} else if (at > column) {
			putchar(' ');
			at++;
		}
		printf("%.*s", length, text);
		at += length;
		text += length;
		text += strspn(text, " ");
	}
	putchar('\n');
}

/* "--name", "--name=ARGUMENT" or "--name[=ARGUMENT]". Return: @buffer. */
static const char *spell(const struct cli_option *option, char buffer[OPTION_TEXT])
{
	if (option->argument == NULL)
		snprintf(buffer, OPTION_TEXT, "--%s", option->name);
	else
		snprintf(buffer, OPTION_TEXT,
			 option->type == CLI_OPTIONAL ? "--%s[=%s]" : "--%s=%s", option->name,
			 option->argument);
	return buffer;
}

static void print_options(const struct cli_option *options, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct cli_option *option = &options[i];
		char text[OPTION_TEXT];
		int width;

		width = option->letter != 0 ? printf("  -%c, ", option->letter) : printf("      ");
		width += printf("%s", spell(option, text));
		if (width + 2 > HELP_COLUMN) {
			putchar('\n');
			width = 0;
		}
		printf("%*s", HELP_COLUMN - width, "");
		print_wrapped(option->help, HELP_COLUMN);
	}
}

void cli_command_help(const struct cli_command *command)
{
	printf("Usage: shmbctl %s %s\n\n%s\n", command->name, command->synopsis, command->summary);
	if (command->n_options > 0) {
		printf("\nOptions:\n");
		print_options(command->options, command->n_options);
	}
	printf("\nOptions of every command:\n");
	print_options(cli_global_options, cli_n_global_options);
	printf("\nMore in shmbctl(1).\n");
}

/* The options of a command at a glance; what they mean is in its own help. */
static void print_option_names(const struct cli_command *command)
{
	char names[1024] = "", text[OPTION_TEXT];
	size_t length = 0;

	for (size_t i = 0; i < command->n_options && length < sizeof(names); i++)
		length += (size_t)snprintf(names + length, sizeof(names) - length, "%s ",
					   spell(&command->options[i], text));
	if (length == 0)
		return;
	printf("%*s", COMMAND_COLUMN, "");
	print_wrapped(names, COMMAND_COLUMN);
}

void cli_help(const struct cli_command *const *commands, size_t n_commands)
{
	printf("Usage: shmbctl [OPTION...] COMMAND [OPTION...] [ARGUMENT...]\n\n"
	       "Look at, make, fill, share and lock memory regions of shmbrokerd.\n\nCommands:\n");
	for (size_t i = 0; i < n_commands; i++) {
		printf("  %-*s", COMMAND_COLUMN - 2, commands[i]->name);
		print_wrapped(commands[i]->summary, COMMAND_COLUMN);
		print_option_names(commands[i]);
	}
	printf("  %-*s", COMMAND_COLUMN - 2, "help");
	print_wrapped("Tell about a command: shmbctl help COMMAND.", COMMAND_COLUMN);
	printf("\nOptions, before or after the command:\n");
	print_options(cli_global_options, cli_n_global_options);
	printf("\nMore in shmbctl(1).\n");
}
