/* SPDX-License-Identifier: MIT */
#ifndef CLI_H
#define CLI_H

/*
 * What the commands of shmbctl share: the invocation, tables of options, errors. The command knows
 * the broker through the public header alone.
 */

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shmbroker/shmbroker.h>

/* Exit statuses, as in shmbctl(1). */
enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_NOT_FOUND = 3,
	CLI_TIMED_OUT = 4,
	CLI_NO_BROKER = 5,
	CLI_RUN_FAILED = 125, /* of what runs a command, whose other statuses are the command's */
	CLI_CANNOT_EXECUTE = 126,
	CLI_NO_COMMAND = 127,
};

/* ---- Options ---- */

/* What an option's argument is, and what lies at its offset in the command's struct of values. */
enum cli_option_type {
	CLI_FLAG,     /* none; bool */
	CLI_TEXT,     /* anything; const char * */
	CLI_SIZE,     /* bytes; struct cli_number */
	CLI_NUMBER,   /* plain number; struct cli_number */
	CLI_SECONDS,  /* with a fraction; struct cli_number in milliseconds */
	CLI_LIST,     /* anything, several times; struct cli_list */
	CLI_OPTIONAL, /* anything or nothing; const char *, "" if there is none */
};

struct cli_number {
	bool given;
	uint64_t value;
};

struct cli_list {
	const char **items; /* borrowed from argv */
	size_t count;
};

struct cli_option {
	char letter; /* 0: none */
	const char *name;
	enum cli_option_type type;
	size_t offset;
	const char *argument; /* for people; NULL for CLI_FLAG */
	const char *help;
};

/* Those of every command; their values are in struct cli. */
extern const struct cli_option cli_global_options[];
extern const size_t cli_n_global_options;

/* ---- Commands ---- */

struct cli;

/* Runs a command on its parsed options and operands. Return: an exit status. */
typedef int (*cli_command_fn)(struct cli *cli, const void *values, int argc, char **argv);

struct cli_command {
	const char *name;     /* one word, or two: "sem create" */
	const char *synopsis; /* what follows the name */
	const char *summary;  /* one line */
	const struct cli_option *options;
	size_t n_options;
	size_t values_size;             /* of the struct that the options' offsets are in */
	int min_operands, max_operands; /* max -1: any number */
	int stop_at_operand; /* from which operand on the line is not ours to parse; 0: none */
	bool runs_command;   /* its status is another program's */
	cli_command_fn run;
};

extern const struct cli_command command_create, command_resize, command_rm, command_chmod,
	command_chown, command_cp, command_export, command_import, command_flush, command_advise,
	command_features, command_ls, command_stat, command_stats, command_ping, command_read,
	command_write, command_dump, command_publish, command_wait, command_watch, command_run,
	command_locks, command_lock, command_sem, command_sem_create, command_sem_wait,
	command_sem_take, command_sem_post, command_sem_value;

/* One invocation of shmbctl. */
struct cli {
	const char *address;       /* NULL: as the library decides */
	struct cli_number timeout; /* milliseconds */
	bool json, help, version;
	const struct cli_command *command; /* NULL until known */
	bool runs_command;                 /* this line does, though not every one of its command */
	const char *client_name;           /* NULL: "shmbctl" */
	struct shmb_client *client;        /* NULL until cli_connect() */
};

/*
 * cli_parse() - take options from argv, and leave the operands
 * @values:       zeroed struct of the command, NULL if there are no options but the global ones
 * @ret_operands: index of the first operand
 *
 * Return: CLI_OK, or an exit status, with the error told.
 */
int cli_parse(struct cli *cli, const struct cli_command *command, int argc, char **argv,
	      void *values, int *ret_operands);

/* What several commands take. Each leaves its result as it is if the option was not given. Return:
 * CLI_OK, or an exit status, told. */
int cli_parse_lifetime(struct cli *cli, const char *text, enum shmb_lifetime *ret_lifetime);
int cli_parse_mode(struct cli *cli, const char *text, uint32_t *ret_mode);
int cli_parse_range(struct cli *cli, const char *option, const struct cli_number *number,
		    uint32_t min, uint32_t max, uint32_t *ret_value);

/* cli_help(), cli_command_help() - print what --help prints */
void cli_help(const struct cli_command *const *commands, size_t n_commands);
void cli_command_help(const struct cli_command *command);

/* ---- The broker ---- */

/* cli_connect() - connect to the broker of this invocation. Return: CLI_OK, or a status, told. */
int cli_connect(struct cli *cli);

/* cli_open() - connect if need be, and open a region. Return: CLI_OK, or an exit status, told. */
int cli_open(struct cli *cli, const char *name, unsigned access, struct shmb_region **ret_region);

/* cli_range() - the range of a region that --offset and --length mean. Return: CLI_OK, or an exit
 * status, told. */
int cli_range(struct cli *cli, struct shmb_region *region, const struct cli_number *offset,
	      const struct cli_number *length, uint64_t *ret_offset, uint64_t *ret_length);

/*
 * cli_wait_client() - wait until the client has something for shmb_client_process(), and do that
 * @other_fd:    also wait for this to be readable; -1: none
 * @deadline_ms: of cli_now_ms(); -1: none
 *
 * Return: 1 (processed), 2 (@other_fd is readable), 0 (deadline), or a negative SHMB_E... or errno.
 */
int cli_wait_client(struct cli *cli, int other_fd, int64_t deadline_ms);

/* cli_now_ms() - monotonic milliseconds; cli_deadline() - now plus the timeout given, or -1 */
int64_t cli_now_ms(void);
int64_t cli_deadline(const struct cli *cli);

/* cli_hold_signals() - from now on SIGINT, SIGTERM and SIGHUP are for cli_hold(). Return: they. */
sigset_t cli_hold_signals(void);

/* cli_note_removal() - from now on *@removed becomes true, during cli_wait_client() or
 * shmb_client_process(), when the region's name is taken away. Return: 0 or what the library says.
 */
int cli_note_removal(struct cli *cli, struct shmb_region *region, bool *removed);

/* cli_hold() - stay until one of @signals, or until the broker is gone; @name: for errors;
 * @removed: or until it becomes true, which is an error, too; may be NULL */
int cli_hold(struct cli *cli, const char *name, const sigset_t *signals, const bool *removed);

/* ---- Errors: told on stderr, as text or JSON; each returns the exit status ---- */

/* cli_usage() - the command line is wrong */
__attribute__((format(printf, 2, 3))) int cli_usage(struct cli *cli, const char *format, ...);

/* cli_fail() - something failed that the library did not say; @code: the SHMB_E... that is meant,
 * or 0 for none in particular; @name: the region, or NULL */
__attribute__((format(printf, 4, 5))) int cli_fail(struct cli *cli, int code, const char *name,
						   const char *format, ...);

/* cli_fail_bounds() - a range of the command line does not lie in the region */
int cli_fail_bounds(struct cli *cli, const char *name, uint64_t offset, uint64_t length,
		    uint64_t size);

/* cli_fail_conflict() - it was not to be had in time; @status: to exit with */
__attribute__((format(printf, 4, 5))) int cli_fail_conflict(struct cli *cli, int status,
							    const char *name, const char *format,
							    ...);

/* cli_warn() - something that is no failure; @code: the SHMB_E... that is meant; @name: of what, or
 * NULL */
__attribute__((format(printf, 4, 5))) void cli_warn(const struct cli *cli, int code,
						    const char *name, const char *format, ...);

/* cli_first_failure() - of several names, the first failure is the status, and the rest is done all
 * the same */
static inline int cli_first_failure(int status, int next)
{
	return status == CLI_OK ? next : status;
}

/* cli_fail_errno() - a system call failed on @what */
int cli_fail_errno(struct cli *cli, const char *what, int error);

/* cli_fail_file() - the library said @code of the file of a region that was to be made */
int cli_fail_file(struct cli *cli, const char *path, int code);

/* cli_fail_execute() - the command that was to be run could not be executed */
int cli_fail_execute(struct cli *cli, const char *command, int error);

/* cli_fail_connect() - shmb_client_connect() returned @code */
int cli_fail_connect(struct cli *cli, int code);

/* cli_fail_client(), cli_fail_region() - @code came from the library; the particulars of the last
 * error are told if they belong to it. @name: the region, or NULL */
int cli_fail_client(struct cli *cli, const char *name, int code);
int cli_fail_region(struct cli *cli, struct shmb_region *region, int code);

#endif
