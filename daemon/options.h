/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

/*
 * What an administrator can set: one table of keys serves the configuration file, the command line
 * and --help.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What is counted for each user; the first entries have a limit that is a key of [limits]. */
enum charge {
	CHARGE_REGIONS,
	CHARGE_BYTES,
	CHARGE_HUGE_BYTES, /* limit UINT64_MAX: by scope */
	CHARGE_CONNECTIONS,
	CHARGE_ATTACHMENTS,
	CHARGE_LOCKS,
	CHARGE_SEMAPHORES,
	CHARGE_SLOTS,
	CHARGE_WATCHES,
	CHARGE_QUEUE,
	CHARGE_FDS,
	CHARGE_HELD_FDS,   /* limit 0: by scope and RLIMIT_NOFILE, see broker_apply() */
	CHARGE_STORED_FDS, /* limit 0: by scope and the size of the store */
	CHARGE_PUNCHES,    /* on the thread pool; not to be set, see resize.c */
	CHARGE_ADOPTIONS, /* processes that look at descriptors; not to be set, see adopt_linux.c */
	CHARGE_AWAY,      /* sessions without a connection; not to be set, see session.c */
	CHARGE_COUNT
};

/* What a stop signal does with regions and sessions; by default it depends on the scope. */
enum on_stop { ON_STOP_BY_SCOPE, ON_STOP_KEEP, ON_STOP_REMOVE };

enum scope { SCOPE_USER, SCOPE_SYSTEM, SCOPE_PRIVATE };

/* Reloadable: --option beats file beats default. */
struct settings {
	uint64_t per_user[CHARGE_COUNT];
	uint64_t fds_per_connection;
	uint64_t max_region;
	uint64_t slow_timeout_ms;
	uint64_t log_level;
	uint64_t socket_mode;   /* UINT64_MAX: by scope */
	char allow_shm[1024];   /* comma-separated prefixes */
	char allow_adopt[1024]; /* comma-separated users */
};

struct options {
	enum scope scope;
	const char *socket;            /* NULL: by scope */
	const char *runtime_directory; /* NULL: by scope */
	const char *config;            /* NULL: by scope */
	int eof_fd;                    /* -1: none */
	bool check_config;
	bool purge;
	enum on_stop on_stop;
	int argc; /* kept, to apply the command line again after a reload */
	char **argv;
};

enum options_verdict { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_USAGE };

/* options_parse() - read the command line; prints --help and --version itself */
enum options_verdict options_parse(int argc, char **argv, struct options *ret_options);

/*
 * settings_load() - defaults, then the configuration file, then the command line
 *
 * Every mistake is logged with file and line. Return: 0, or -EINVAL (*ret_settings is untouched).
 */
int settings_load(const struct options *options, struct settings *ret_settings);

/* options_keeps() - shall a stop signal leave everything to the next daemon? */
bool options_keeps(const struct options *options);

/* settings_charge_name() - the key that limits a charge, such as "regions-per-user" */
const char *settings_charge_name(enum charge charge);

/* settings_allows_adopt() - is this user one of allow-adopt */
bool settings_allows_adopt(const struct settings *settings, uid_t uid);

/* settings_allows_shm() - is this name under one of the prefixes of allow-shm */
bool settings_allows_shm(const struct settings *settings, const char *name);

#endif
