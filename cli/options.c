/* SPDX-License-Identifier: MIT */
/*
 * Options: one table each for the global ones and for every command, from which parsing and --help
 * (help.c) come. Knows nothing of what commands do.
 */

#include "cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "info.h"
#include "size.h"

enum { OPTIONS_MAX = 32 };

const struct cli_option cli_global_options[] = {
	{ 'a', "address", CLI_TEXT, offsetof(struct cli, address), "ADDRESS",
	  "\"system\", \"user\" or a socket's path; default: $SHMB_ADDRESS, else user" },
	{ 0, "json", CLI_FLAG, offsetof(struct cli, json), NULL,
	  "one JSON object for each result and error" },
	{ 't', "timeout", CLI_SECONDS, offsetof(struct cli, timeout), "SECONDS",
	  "how long to wait for each answer of the broker (default 5); for wait, watch, lock, sem "
	  "wait and sem take: for what they wait for (default: for ever), and for resize also for "
	  "the lock (default: for ever); for run: for the broker's start (default 30)" },
	{ 'h', "help", CLI_FLAG, offsetof(struct cli, help), NULL, "print this and exit" },
	{ 'V', "version", CLI_FLAG, offsetof(struct cli, version), NULL,
	  "print the version and exit" },
};

const size_t cli_n_global_options = sizeof(cli_global_options) / sizeof(cli_global_options[0]);

/* ---- Parsing ---- */

/* Both tables in the shape that getopt_long() wants. */
struct merged {
	const struct cli_option *options[OPTIONS_MAX];
	void *values[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1];
	char letters[3 * OPTIONS_MAX + 3];
	int count;
	size_t n_letters;
};

enum { LONG_BASE = 256 }; /* getopt_long() returns this plus the index */

static void merge(struct merged *merged, const struct cli_option *options, size_t n, void *values)
{
	for (size_t i = 0; i < n && merged->count < OPTIONS_MAX; i++) {
		const struct cli_option *option = &options[i];
		int index = merged->count++;
		int has_argument = option->type == CLI_FLAG       ? no_argument
				   : option->type == CLI_OPTIONAL ? optional_argument
								  : required_argument;

		merged->options[index] = option;
		merged->values[index] = values;
		merged->longs[index] = (struct option){
			.name = option->name,
			.has_arg = has_argument,
			.val = LONG_BASE + index,
		};
		if (option->letter == 0)
			continue;
		merged->letters[merged->n_letters++] = option->letter;
		for (int j = 0; j < has_argument; j++) /* ':', or "::" if it may be left out */
			merged->letters[merged->n_letters++] = ':';
	}
}

static int find_index(const struct merged *merged, int result)
{
	if (result >= LONG_BASE)
		return result - LONG_BASE;
	for (int i = 0; i < merged->count; i++)
		if (merged->options[i]->letter == result)
			return i;
	return -1;
}

static bool store_number(const struct cli_option *option, void *target, const char *text)
{
	struct cli_number *number = target;

	switch (option->type) {
	case CLI_SIZE:
		number->given = size_parse(text, &number->value);
		break;
	case CLI_SECONDS:
		number->given = seconds_parse(text, &number->value);
		break;
	default:
		number->given = number_parse(text, &number->value);
	}
	return number->given;
}

static int store(struct cli *cli, const struct cli_option *option, void *values, const char *text)
{
	void *target = (char *)values + option->offset;
	struct cli_list *list = target;

	switch (option->type) {
	case CLI_FLAG:
		*(bool *)target = true;
		return CLI_OK;
	case CLI_TEXT:
		*(const char **)target = text;
		return CLI_OK;
	case CLI_OPTIONAL:
		*(const char **)target = text != NULL ? text : "";
		return CLI_OK;
	case CLI_LIST: /* items has room for as many as there are arguments, see main.c */
		list->items[list->count++] = text;
		return CLI_OK;
	default:
		if (store_number(option, target, text))
			return CLI_OK;
		return cli_usage(cli, "--%s: '%s' is no %s", option->name, text,
				 option->type == CLI_SIZE      ? "size"
				 : option->type == CLI_SECONDS ? "time in seconds"
							       : "number");
	}
}

static int bad_option(struct cli *cli, const struct merged *merged, int result, char **argv)
{
	int index = optopt == 0 ? -1 : find_index(merged, optopt);
	const char *word = argv[optind - 1];

	if (result == ':' && index >= 0)
		return cli_usage(cli, "--%s needs %s", merged->options[index]->name,
				 merged->options[index]->argument);
	if (index >= 0 && optopt >= LONG_BASE)
		return cli_usage(cli, "--%s takes no argument", merged->options[index]->name);
	if (optopt != 0 && optopt < LONG_BASE)
		return cli_usage(cli, "unknown option -%c", optopt);
	return cli_usage(cli, "unknown or ambiguous option %s", word);
}

/* Puts operands that were passed by back in front of the rest of the line, whose options have been
 * dealt with. Return: where it begins now. */
static int put_back(char **argv, char *const *passed, int n)
{
	int first = optind;

	while (n > 0)
		argv[--first] = passed[--n];
	return first;
}

enum { PASSED_MAX = 2, AN_OPERAND = 1 /* what getopt_long() returns for one after a '-' */ };

int cli_parse(struct cli *cli, const struct cli_command *command, int argc, char **argv,
	      void *values, int *ret_operands)
{
	struct merged merged = { 0 };
	int stop = command != NULL ? command->stop_at_operand : 1;
	char *passed[PASSED_MAX];
	int result, n_passed = 0;

	if (stop > 0)
		merged.letters[merged.n_letters++] = stop == 1 ? '+' : '-';
	merged.letters[merged.n_letters++] = ':';
	merge(&merged, cli_global_options, cli_n_global_options, cli);
	if (command != NULL)
		merge(&merged, command->options, command->n_options, values);
	opterr = 0;
	optind = 0; /* glibc: begin anew, with other options */
	while ((result = getopt_long(argc, argv, merged.letters, merged.longs, NULL)) != -1) {
		int index, status;

		if (result == AN_OPERAND && n_passed + 1 == stop) {
			optind--;
			break;
		}
		if (result == AN_OPERAND) {
			passed[n_passed++] = optarg;
			continue;
		}
		if (result == '?' || result == ':')
			return bad_option(cli, &merged, result, argv);
		index = find_index(&merged, result);
		status = store(cli, merged.options[index], merged.values[index], optarg);
		if (status != CLI_OK)
			return status;
	}
	*ret_operands = put_back(argv, passed, n_passed);
	return CLI_OK;
}

/* ---- What several commands take ---- */

int cli_parse_lifetime(struct cli *cli, const char *text, enum shmb_lifetime *ret_lifetime)
{
	static const enum shmb_lifetime lifetimes[] = { SHMB_ATTACHED, SHMB_SESSION,
							SHMB_PERSISTENT };

	if (text == NULL)
		return CLI_OK;
	for (size_t i = 0; i < sizeof(lifetimes) / sizeof(lifetimes[0]); i++) {
		if (strcmp(text, info_lifetime(lifetimes[i])) != 0)
			continue;
		*ret_lifetime = lifetimes[i];
		return CLI_OK;
	}
	return cli_usage(cli, "--lifetime: '%s' is none of persistent, session, attached", text);
}

int cli_parse_mode(struct cli *cli, const char *text, uint32_t *ret_mode)
{
	if (text != NULL && !mode_parse(text, *ret_mode, ret_mode))
		return cli_usage(cli, "--mode: '%s' is no mode", text);
	return CLI_OK;
}

int cli_parse_range(struct cli *cli, const char *option, const struct cli_number *number,
		    uint32_t min, uint32_t max, uint32_t *ret_value)
{
	if (!number->given)
		return CLI_OK;
	if (number->value < min || number->value > max)
		return cli_usage(cli, "--%s is %" PRIu32 " to %" PRIu32, option, min, max);
	*ret_value = (uint32_t)number->value;
	return CLI_OK;
}
