/* SPDX-License-Identifier: MIT */
/*
 * Command line and configuration file. May use inih and getopt. Must not know what the values do.
 */
#include "options.h"

#include "log.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum kind { KIND_COUNT, KIND_SIZE, KIND_DURATION, KIND_MODE, KIND_LEVEL, KIND_TEXT, KIND_USERS };

struct key {
	const char *section, *name;
	enum kind kind;
	size_t offset;
	uint64_t fallback, min, max;
	const char *help;
};

#define PER_USER(charge) (offsetof(struct settings, per_user) + (charge) * sizeof(uint64_t))
#define KIB              UINT64_C(1024)
#define MIB              (KIB * KIB)
#define GIB              (MIB * KIB)
#define TIB              (GIB * KIB)

static const struct key keys[] = {
	{ "limits", "regions-per-user", KIND_COUNT, PER_USER(CHARGE_REGIONS), 65536, 0, UINT32_MAX,
	  "regions that one user may own" },
	{ "limits", "bytes-per-user", KIND_SIZE, PER_USER(CHARGE_BYTES), 64 * GIB, 0, INT64_MAX,
	  "capacity of all regions of one user, locks and arenas of semaphores included" },
	{ "limits", "huge-bytes-per-user", KIND_SIZE, PER_USER(CHARGE_HUGE_BYTES), UINT64_MAX, 0,
	  INT64_MAX,
	  "of them, of the system's pool of huge pages, which is everybody's (default: with\n"
	  "        --system none, else all)" },
	{ "limits", "connections-per-user", KIND_COUNT, PER_USER(CHARGE_CONNECTIONS), 1024, 1,
	  UINT32_MAX, "connections of one user" },
	{ "limits", "attachments-per-user", KIND_COUNT, PER_USER(CHARGE_ATTACHMENTS), 65536, 0,
	  UINT32_MAX, "open regions, locks and semaphores of one user, all processes" },
	{ "limits", "locks-per-user", KIND_COUNT, PER_USER(CHARGE_LOCKS), 65536, 0, UINT32_MAX,
	  "named locks that one user may own" },
	{ "limits", "semaphores-per-user", KIND_COUNT, PER_USER(CHARGE_SEMAPHORES), 65536, 0,
	  UINT32_MAX, "semaphores that one user may own" },
	{ "limits", "slots-per-user", KIND_COUNT, PER_USER(CHARGE_SLOTS), 65536, 0, UINT32_MAX,
	  "slots in locks and arenas of semaphores that one user's clients may have" },
	{ "limits", "watches-per-user", KIND_COUNT, PER_USER(CHARGE_WATCHES), 4096, 0, UINT32_MAX,
	  "watches of one user, armed or just fired" },
	{ "limits", "queue-per-user", KIND_SIZE, PER_USER(CHARGE_QUEUE), 4 * MIB, 64 * KIB,
	  INT64_MAX, "output waiting for the slow clients of one user" },
	{ "limits", "fds-in-flight-per-user", KIND_COUNT, PER_USER(CHARGE_FDS), 256, 4, 65536,
	  "descriptors sent to one user and not yet read" },
	{ "limits", "held-fds-per-user", KIND_COUNT, PER_USER(CHARGE_HELD_FDS), 0, 4, 1048576,
	  "descriptors the broker holds for one user: two for each connection and each memfd\n"
	  "        region, one for each memfd lock or arena of semaphores (default: with\n"
	  "        --system a quarter of its RLIMIT_NOFILE, else nearly all)" },
	{ "limits", "stored-fds-per-user", KIND_COUNT, PER_USER(CHARGE_STORED_FDS), 0, 3, 1048576,
	  "of them, those in the service manager's store, which keeps memfds while no daemon\n"
	  "        runs (default: with --system a quarter of the store, else all of it)" },
	{ "limits", "fds-in-flight-per-connection", KIND_COUNT,
	  offsetof(struct settings, fds_per_connection), 64, 4, 65536,
	  "the same for one connection" },
	{ "limits", "max-region", KIND_SIZE, offsetof(struct settings, max_region), TIB, 4096,
	  INT64_MAX / 2, "largest capacity of one region" },
	{ "broker", "slow-timeout", KIND_DURATION, offsetof(struct settings, slow_timeout_ms),
	  30000, 10, 86400000, "a client that reads nothing for so long is dropped" },
	{ "broker", "log-level", KIND_LEVEL, offsetof(struct settings, log_level), LOG_LEVEL_NOTICE,
	  LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG, "error, warning, notice, info or debug" },
	{ "broker", "socket-mode", KIND_MODE, offsetof(struct settings, socket_mode), UINT64_MAX, 0,
	  0777, "octal mode of the socket (default: 0666 with --system, else 0600)" },
	{ "broker", "allow-shm", KIND_TEXT, offsetof(struct settings, allow_shm), 0, 0, 0,
	  "with --system: comma-separated name prefixes that may use shm" },
	{ "broker", "allow-adopt", KIND_USERS, offsetof(struct settings, allow_adopt), 0, 0, 0,
	  "comma-separated users, by number or name, who may make regions of files of their\n"
	  "        own, besides root and the broker's own; * for all" },
};

enum { KEY_COUNT = sizeof(keys) / sizeof(keys[0]) };

static const char *const levels[] = { "error", "warning", "notice", "info", "debug" };

/* A number with a unit out of @units, each @step times the one before; no sign, no space, no
 * overflow. */
static bool parse_scaled(const char *text, const char *units, uint64_t step, uint64_t *ret_value)
{
	char *end;
	uint64_t value;
	const char *unit;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return false;
		for (const char *u = units; u <= unit; u++)
			if (__builtin_mul_overflow(value, step, &value))
				return false;
	}
	*ret_value = value;
	return true;
}

/* Durations are kept in milliseconds: 500ms, 30s, 2m; a bare number means seconds. */
static bool parse_duration(const char *text, uint64_t *ret_ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "", 1000 }, { "m", 60000 }, { "h", 3600000 } };
	size_t digits = strspn(text, "0123456789");
	uint64_t value;

	if (digits == 0 || digits > 12)
		return false;
	value = strtoull(text, NULL, 10);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(text + digits, units[i].unit) == 0)
			return !__builtin_mul_overflow(value, units[i].ms, ret_ms);
	return false;
}

static bool parse_octal(const char *text, uint64_t *ret_value)
{
	char *end;

	if (*text < '0' || *text > '7')
		return false;
	*ret_value = strtoull(text, &end, 8);
	return *end == '\0';
}

static bool parse_level(const char *text, uint64_t *ret_value)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(text, levels[i]) == 0) {
			*ret_value = LOG_LEVEL_ERROR + i;
			return true;
		}
	}
	return false;
}

static bool parse_number(const struct key *key, const char *text, uint64_t *ret_value)
{
	switch (key->kind) {
	case KIND_COUNT:
		return parse_scaled(text, "", 1, ret_value);
	case KIND_SIZE:
		return parse_scaled(text, "KMGT", 1024, ret_value);
	case KIND_DURATION:
		return parse_duration(text, ret_value);
	case KIND_MODE:
		return parse_octal(text, ret_value);
	case KIND_LEVEL:
		return parse_level(text, ret_value);
	case KIND_TEXT:
	case KIND_USERS:
		break;
	}
	return false;
}

/* Names become numbers here, once: looking one up may ask the network. */
static bool user_number(const char *name, uid_t *ret_uid)
{
	const struct passwd *user;
	char *end;
	unsigned long number = strtoul(name, &end, 10);

	*ret_uid = (uid_t)number;
	if (*name >= '0' && *name <= '9')
		return *end == '\0' && number < UINT32_MAX;
	user = getpwnam(name);
	if (user)
		*ret_uid = user->pw_uid;
	return user;
}

/* Keeps them as ",1000,1001,". Return: NULL, or what is wrong. */
static const char *set_users(const char *text, char *ret_users)
{
	size_t length = 1, size = sizeof(((struct settings *)NULL)->allow_adopt);
	char names[1024], *rest = names, *name;
	uid_t uid;

	if (strlen(text) >= sizeof(names))
		return "too long";
	memcpy(names, text, strlen(text) + 1);
	strcpy(ret_users, ",");
	while ((name = strtok_r(rest, ", \t", &rest))) {
		if (strcmp(name, "*") == 0)
			length += (size_t)snprintf(ret_users + length, size - length, "*,");
		else if (user_number(name, &uid))
			length += (size_t)snprintf(ret_users + length, size - length, "%u,",
						   (unsigned)uid);
		else
			return "no such user";
		if (length >= size)
			return "too long";
	}
	return NULL;
}

/* Return: NULL, or what is wrong with the value. */
static const char *key_set(const struct key *key, const char *text, struct settings *settings)
{
	char *member = (char *)settings + key->offset;
	uint64_t value;

	if (key->kind == KIND_USERS)
		return set_users(text, member);
	if (key->kind == KIND_TEXT) {
		if (strlen(text) >= sizeof(settings->allow_shm))
			return "too long";
		memcpy(member, text, strlen(text) + 1);
		return NULL;
	}
	if (!parse_number(key, text, &value))
		return "not understood";
	if (value < key->min || value > key->max)
		return "out of range";
	memcpy(member, &value, sizeof(value));
	return NULL;
}

struct file_state {
	struct settings *settings;
	const char *path;
	bool failed;
};

static int on_file_entry(void *userdata, const char *section, const char *name, const char *value)
{
	struct file_state *state = userdata;
	const char *wrong = "unknown key";

	for (size_t i = 0; i < KEY_COUNT; i++)
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
			wrong = key_set(&keys[i], value, state->settings);
	if (!wrong)
		return 1;
	log_error("%s: [%s] %s = %s: %s", state->path, section, name, value, wrong);
	state->failed = true;
	return 1;
}

static int load_file(const struct options *options, struct settings *settings)
{
	struct file_state state = { .settings = settings, .path = options->config };
	int line;

	if (!state.path && options->scope == SCOPE_SYSTEM)
		state.path = SHMB_SYSCONFDIR "/shmbroker.conf";
	if (!state.path)
		return 0;
	line = ini_parse(state.path, on_file_entry, &state);
	if (line < 0 && !options->config && errno == ENOENT)
		return 0;
	if (line < 0)
		log_error("%s: %s", state.path, line == -2 ? "out of memory" : strerror(errno));
	else if (line > 0)
		log_error("%s:%d: not understood", state.path, line);
	return line == 0 && !state.failed ? 0 : -EINVAL;
}

enum {
	OPTION_SYSTEM = 256,
	OPTION_USER,
	OPTION_PRIVATE,
	OPTION_SOCKET,
	OPTION_RUNTIME,
	OPTION_CONFIG,
	OPTION_CHECK,
	OPTION_EOF,
	OPTION_ON_STOP,
	OPTION_PURGE,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_KEY /* + index in keys */
};

static const struct option fixed_options[] = {
	{ "system", no_argument, NULL, OPTION_SYSTEM },
	{ "user", no_argument, NULL, OPTION_USER },
	{ "private", no_argument, NULL, OPTION_PRIVATE },
	{ "socket", required_argument, NULL, OPTION_SOCKET },
	{ "runtime-directory", required_argument, NULL, OPTION_RUNTIME },
	{ "config", required_argument, NULL, OPTION_CONFIG },
	{ "check-config", no_argument, NULL, OPTION_CHECK },
	{ "exit-on-eof", required_argument, NULL, OPTION_EOF },
	{ "on-stop", required_argument, NULL, OPTION_ON_STOP },
	{ "purge", no_argument, NULL, OPTION_PURGE },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
};

enum { FIXED_COUNT = sizeof(fixed_options) / sizeof(fixed_options[0]) };

static void make_long_options(struct option *table)
{
	memcpy(table, fixed_options, sizeof(fixed_options));
	for (int i = 0; i < KEY_COUNT; i++)
		table[FIXED_COUNT + i] =
			(struct option){ keys[i].name, required_argument, NULL, OPTION_KEY + i };
	table[FIXED_COUNT + KEY_COUNT] = (struct option){ NULL, 0, NULL, 0 };
}

int settings_load(const struct options *options, struct settings *ret_settings)
{
	struct option table[FIXED_COUNT + KEY_COUNT + 1];
	struct settings settings = { 0 };
	const char *wrong;
	int option;

	for (size_t i = 0; i < KEY_COUNT; i++)
		if (keys[i].kind != KIND_TEXT)
			memcpy((char *)&settings + keys[i].offset, &keys[i].fallback,
			       sizeof(uint64_t));
	if (load_file(options, &settings) < 0)
		return -EINVAL;
	make_long_options(table);
	optind = 0;
	while ((option = getopt_long(options->argc, options->argv, "", table, NULL)) != -1) {
		if (option < OPTION_KEY)
			continue;
		wrong = key_set(&keys[option - OPTION_KEY], optarg, &settings);
		if (wrong) {
			log_error("--%s=%s: %s", keys[option - OPTION_KEY].name, optarg, wrong);
			return -EINVAL;
		}
	}
	*ret_settings = settings;
	return 0;
}

const char *settings_charge_name(enum charge charge)
{
	return keys[charge].name;
}

bool settings_allows_adopt(const struct settings *settings, uid_t uid)
{
	char number[16];

	snprintf(number, sizeof(number), ",%u,", (unsigned)uid);
	return strstr(settings->allow_adopt, ",*,") || strstr(settings->allow_adopt, number);
}

bool settings_allows_shm(const struct settings *settings, const char *name)
{
	const char *prefix = settings->allow_shm;

	while (*prefix) {
		size_t length = strcspn(prefix, ",");

		if (length && strncmp(name, prefix, length) == 0)
			return true;
		prefix += length + (prefix[length] == ',');
	}
	return false;
}

static void print_default(const struct key *key)
{
	if (key->kind == KIND_TEXT || key->fallback == UINT64_MAX || key->fallback == 0)
		printf("\n");
	else if (key->kind == KIND_LEVEL)
		printf(" (%s)\n", levels[key->fallback - LOG_LEVEL_ERROR]);
	else if (key->kind == KIND_DURATION)
		printf(" (%" PRIu64 "s)\n", key->fallback / 1000);
	else if (key->kind == KIND_SIZE && key->fallback >= GIB)
		printf(" (%" PRIu64 "G)\n", key->fallback / GIB);
	else if (key->kind == KIND_SIZE)
		printf(" (%" PRIu64 "M)\n", key->fallback / MIB);
	else
		printf(" (%" PRIu64 ")\n", key->fallback);
}

static void print_help(void)
{
	puts("Usage: shmbrokerd [--system | --user | --private] [OPTION...]\n"
	     "Create named shared memory and hand it to clients.\n"
	     "\n"
	     "  --system                 serve every user of this host\n"
	     "  --user                   serve the user that runs it (default)\n"
	     "  --private                the same on a socket of its own, see shmbctl run\n"
	     "  --socket=PATH            where to listen; default by scope, none for --private\n"
	     "  --runtime-directory=DIR  where lock file and manifest lie; default by scope\n"
	     "  --config=FILE            configuration file, see shmbroker.conf(5)\n"
	     "  --check-config           check configuration and command line, then exit\n"
	     "  --exit-on-eof=FD         shut down when this descriptor reads end-of-file, and\n"
	     "                           remove all regions\n"
	     "  --on-stop=keep|remove    what SIGTERM and SIGINT do with regions and sessions: "
	     "keep\n"
	     "                           them for the next daemon, or remove them (default: keep,\n"
	     "                           with --private remove)\n"
	     "  --purge                  remove what a dead daemon left here, then exit\n"
	     "  --help, --version        print this text or the version, then exit\n"
	     "\n"
	     "Each key of the configuration file is an option, too (default in parentheses):");
	for (size_t i = 0; i < KEY_COUNT; i++) {
		printf("  --%s=VALUE\n        %s", keys[i].name, keys[i].help);
		print_default(&keys[i]);
	}
	puts("\nExit status: 0 success, 1 failure, 2 usage, 3 bad configuration, 4 another broker\n"
	     "holds this instance, 5 the manifest is of a newer version.");
}

static bool parse_fd(const char *text, int *ret_fd)
{
	uint64_t value;

	if (!parse_scaled(text, "", 1, &value) || value > INT_MAX)
		return false;
	*ret_fd = (int)value;
	return true;
}

static bool parse_on_stop(const char *text, enum on_stop *ret_on_stop)
{
	if (strcmp(text, "keep") == 0)
		*ret_on_stop = ON_STOP_KEEP;
	else if (strcmp(text, "remove") == 0)
		*ret_on_stop = ON_STOP_REMOVE;
	else
		return false;
	return true;
}

bool options_keeps(const struct options *options)
{
	if (options->on_stop == ON_STOP_BY_SCOPE)
		return options->scope != SCOPE_PRIVATE;
	return options->on_stop == ON_STOP_KEEP;
}

enum options_verdict options_parse(int argc, char **argv, struct options *ret_options)
{
	struct options o = { .scope = SCOPE_USER, .eof_fd = -1, .argc = argc, .argv = argv };
	struct option table[FIXED_COUNT + KEY_COUNT + 1];
	bool bad = false;
	int option;

	make_long_options(table);
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case OPTION_SYSTEM:
			o.scope = SCOPE_SYSTEM;
			break;
		case OPTION_USER:
			o.scope = SCOPE_USER;
			break;
		case OPTION_PRIVATE:
			o.scope = SCOPE_PRIVATE;
			break;
		case OPTION_SOCKET:
			o.socket = optarg;
			break;
		case OPTION_RUNTIME:
			o.runtime_directory = optarg;
			break;
		case OPTION_CONFIG:
			o.config = optarg;
			break;
		case OPTION_CHECK:
			o.check_config = true;
			break;
		case OPTION_EOF:
			bad |= !parse_fd(optarg, &o.eof_fd);
			break;
		case OPTION_ON_STOP:
			bad |= !parse_on_stop(optarg, &o.on_stop);
			break;
		case OPTION_PURGE:
			o.purge = true;
			break;
		case OPTION_HELP:
			print_help();
			return OPTIONS_DONE;
		case OPTION_VERSION:
			puts("shmbrokerd " SHMB_VERSION);
			return OPTIONS_DONE;
		case '?':
			bad = true;
			break;
		}
	}
	if (bad || optind < argc) {
		fprintf(stderr, "shmbrokerd: see shmbrokerd --help\n");
		return OPTIONS_USAGE;
	}
	*ret_options = o;
	return OPTIONS_RUN;
}
