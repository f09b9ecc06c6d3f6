/* SPDX-License-Identifier: MIT */
/*
 * create, resize, rm, chmod, chown: commands that change which regions there are and whose.
 */

#include "cli.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "info.h"
#include "size.h"

/* Of several names, the first failure is the status, and the rest is done all the same. */
static int first_failure(int status, int next)
{
	return status == CLI_OK ? next : status;
}

/* ---- create ---- */

struct create_values {
	struct cli_number capacity, slots;
	const char *mode, *backing, *lifetime;
	bool reserve, or_open, exclusive, hold;
};

#define OFFSET(member) offsetof(struct create_values, member)
static const struct cli_option create_options[] = {
	{ 'c', "capacity", CLI_SIZE, OFFSET(capacity), "SIZE",
	  "what it can grow to; default: its size" },
	{ 'm', "mode", CLI_TEXT, OFFSET(mode), "MODE",
	  "octal, or such as u=rwl,g=r; default 0700" },
	{ 'b', "backing", CLI_TEXT, OFFSET(backing), "shm|memfd",
	  "what it is made of; default: the broker chooses" },
	{ 'l', "lifetime", CLI_TEXT, OFFSET(lifetime), "persistent|session|attached",
	  "when it goes by itself; default: never (persistent), with --hold: attached" },
	{ 0, "slots", CLI_NUMBER, OFFSET(slots), "NUMBER",
	  "how many can use its lock at a time; default 62" },
	{ 'r', "reserve", CLI_FLAG, OFFSET(reserve), NULL, "take the memory now" },
	{ 'o', "or-open", CLI_FLAG, OFFSET(or_open), NULL, "no error if it is there already" },
	{ 'x', "exclusive", CLI_FLAG, OFFSET(exclusive), NULL,
	  "an error if it is there already (default)" },
	{ 'H', "hold", CLI_FLAG, OFFSET(hold), NULL, "stay attached until signalled" },
};
#undef OFFSET

static int parse_lifetime(struct cli *cli, const struct create_values *values,
			  enum shmb_lifetime *ret_lifetime)
{
	int status;

	*ret_lifetime = values->hold ? SHMB_ATTACHED : SHMB_PERSISTENT;
	status = cli_parse_lifetime(cli, values->lifetime, ret_lifetime);
	if (status == CLI_OK && *ret_lifetime != SHMB_PERSISTENT && !values->hold)
		return cli_usage(cli,
				 "with --lifetime=%s the region would go with this command: add "
				 "--hold",
				 values->lifetime);
	return status;
}

static int parse_create(struct cli *cli, const struct create_values *values, const char *size_text,
			struct shmb_region_options *options, uint64_t *ret_size)
{
	if (!size_parse(size_text, ret_size))
		return cli_usage(cli, "'%s' is no size", size_text);
	if (values->or_open && values->exclusive)
		return cli_usage(cli, "--or-open and --exclusive exclude each other");
	if (cli_parse_mode(cli, values->mode, &options->mode) != CLI_OK ||
	    cli_parse_range(cli, "slots", &values->slots, 1, 1024, &options->slots) != CLI_OK)
		return CLI_USAGE;
	if (values->backing == NULL)
		options->backing = SHMB_BACKING_DEFAULT;
	else if (strcmp(values->backing, "shm") == 0)
		options->backing = SHMB_BACKING_SHM;
	else if (strcmp(values->backing, "memfd") == 0)
		options->backing = SHMB_BACKING_MEMFD;
	else
		return cli_usage(cli, "--backing: '%s' is neither shm nor memfd", values->backing);
	options->flags = values->reserve ? SHMB_RESERVE : 0;
	options->capacity = values->capacity.given ? values->capacity.value : 0;
	return parse_lifetime(cli, values, &options->lifetime);
}

static int print_created(struct cli *cli, struct shmb_region *region, bool opened, bool hold)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct json json;
	int result;

	if (!cli->json) {
		if (hold)
			printf("holding %s\n", shmb_region_name(region));
		return CLI_OK;
	}
	result = shmb_region_info(region, &info);
	if (result < 0)
		return cli_fail_region(cli, region, result);
	json = json_begin(stdout);
	info_json(&json, &info);
	json_bool(&json, "opened", opened);
	json_end(&json);
	return CLI_OK;
}

static int create_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct create_values *values = parsed;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	sigset_t signals;
	uint64_t size;
	int result, status;

	status = parse_create(cli, values, argv[1], &options, &size);
	if (status != CLI_OK)
		return status;
	if (values->hold) /* before "holding" is printed: it invites a signal */
		signals = cli_hold_signals();
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	if (values->or_open)
		result = shmb_region_open_or_create(cli->client, argv[0], size, &options, &region);
	else
		result = shmb_region_create(cli->client, argv[0], size, &options, &region);
	if (result < 0)
		return cli_fail_client(cli, argv[0], result);
	status = print_created(cli, region, values->or_open && result == 0, values->hold);
	if (status == CLI_OK && values->hold) {
		fflush(stdout);
		status = cli_hold(cli, argv[0], &signals);
	}
	shmb_region_free(region);
	return status;
}

const struct cli_command command_create = {
	.name = "create",
	.synopsis = "[OPTION...] NAME SIZE",
	.summary = "Make a region.",
	.options = create_options,
	.n_options = sizeof(create_options) / sizeof(create_options[0]),
	.values_size = sizeof(struct create_values),
	.min_operands = 2,
	.max_operands = 2,
	.run = create_run,
};

/* ---- resize ---- */

static int resize_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct shmb_region *region;
	struct json json;
	uint64_t size;
	int result, status;

	if (!size_parse(argv[1], &size))
		return cli_usage(cli, "'%s' is no size", argv[1]);
	status = cli_open(cli, argv[0], SHMB_READ | SHMB_WRITE, &region);
	if (status != CLI_OK)
		return status;
	result = shmb_region_resize(region, size);
	if (result < 0) {
		status = cli_fail_region(cli, region, result);
	} else if (cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", argv[0]);
		json_uint(&json, "size", size);
		json_end(&json);
	}
	shmb_region_free(region);
	return status;
}

const struct cli_command command_resize = {
	.name = "resize",
	.synopsis = "[OPTION...] NAME SIZE",
	.summary = "Change how many bytes of a region are in use, within its capacity.",
	.min_operands = 2,
	.max_operands = 2,
	.run = resize_run,
};

/* ---- rm ---- */

struct rm_values {
	bool force;
};

static const struct cli_option rm_options[] = {
	{ 'f', "force", CLI_FLAG, offsetof(struct rm_values, force), NULL,
	  "no error if there is nothing of that name" },
};

static int remove_any(struct shmb_client *client, const char *name)
{
	int result = shmb_region_remove(client, name);

	if (result == SHMB_EKIND)
		result = shmb_lock_remove(client, name);
	if (result == SHMB_EKIND)
		result = shmb_semaphore_remove(client, name);
	return result;
}

static int rm_one(struct cli *cli, const struct rm_values *values, const char *name)
{
	int result = remove_any(cli->client, name);
	struct json json;

	if (result < 0 && !(result == SHMB_ENOENT && values->force))
		return cli_fail_client(cli, name, result);
	if (cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", name);
		json_bool(&json, "removed", result == 0);
		json_end(&json);
	}
	return CLI_OK;
}

static int rm_run(struct cli *cli, const void *values, int argc, char **argv)
{
	int status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	for (int i = 0; i < argc && status != CLI_NO_BROKER; i++)
		status = first_failure(status, rm_one(cli, values, argv[i]));
	return status;
}

const struct cli_command command_rm = {
	.name = "rm",
	.synopsis = "[-f] NAME...",
	.summary = "Take names of regions, locks and semaphores away; programs that are attached "
		   "keep what they have.",
	.options = rm_options,
	.n_options = sizeof(rm_options) / sizeof(rm_options[0]),
	.values_size = sizeof(struct rm_values),
	.min_operands = 1,
	.max_operands = -1,
	.run = rm_run,
};

/* ---- chmod ---- */

static int chmod_one(struct cli *cli, const char *text, const char *name)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	uint32_t mode = 0;
	char octal[16];
	struct json json;
	int result;

	if (mode_is_change(text)) {
		result = shmb_region_stat(cli->client, name, &info);
		if (result < 0)
			return cli_fail_client(cli, name, result);
	}
	mode_parse(text, info.mode, &mode); /* checked before */
	result = shmb_region_chmod(cli->client, name, mode);
	if (result < 0)
		return cli_fail_client(cli, name, result);
	if (cli->json) {
		snprintf(octal, sizeof(octal), "%04o", (unsigned)mode);
		json = json_begin(stdout);
		json_string(&json, "name", name);
		json_string(&json, "mode", octal);
		json_end(&json);
	}
	return CLI_OK;
}

static int chmod_run(struct cli *cli, const void *values, int argc, char **argv)
{
	uint32_t mode;
	int status;

	if (!mode_parse(argv[0], 0, &mode))
		return cli_usage(cli, "'%s' is no mode, such as 0640 or g+r", argv[0]);
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	for (int i = 1; i < argc && status != CLI_NO_BROKER; i++)
		status = first_failure(status, chmod_one(cli, argv[0], argv[i]));
	return status;
}

const struct cli_command command_chmod = {
	.name = "chmod",
	.synopsis = "[OPTION...] MODE NAME...",
	.summary = "Change who may open regions from now on.",
	.min_operands = 2,
	.max_operands = -1,
	.run = chmod_run,
};

/* ---- chown ---- */

static bool parse_user(const char *text, uint32_t *ret_uid, uint32_t *ret_gid)
{
	const struct passwd *entry = getpwnam(text);
	uint64_t number;

	if (entry == NULL) {
		if (!number_parse(text, &number) || number >= UINT32_MAX)
			return false;
		*ret_uid = (uint32_t)number;
		entry = getpwuid(*ret_uid);
		*ret_gid = entry != NULL ? entry->pw_gid : UINT32_MAX;
		return true;
	}
	*ret_uid = entry->pw_uid;
	*ret_gid = entry->pw_gid;
	return true;
}

static bool parse_group(const char *text, uint32_t *ret_gid)
{
	const struct group *entry = getgrnam(text);
	uint64_t number;

	if (entry != NULL) {
		*ret_gid = entry->gr_gid;
		return true;
	}
	if (!number_parse(text, &number) || number >= UINT32_MAX)
		return false;
	*ret_gid = (uint32_t)number;
	return true;
}

/* USER, USER:GROUP, :GROUP, and USER: for the user's login group, as chown(1). */
static int parse_owner(struct cli *cli, const char *text, uint32_t *ret_uid, uint32_t *ret_gid)
{
	const char *colon = strchr(text, ':');
	uint32_t uid = UINT32_MAX, gid = UINT32_MAX, login_gid = UINT32_MAX;
	char user[256];
	int length = colon != NULL ? (int)(colon - text) : (int)strlen(text);

	if (length >= (int)sizeof(user) || (length == 0 && (colon == NULL || colon[1] == '\0')))
		return cli_usage(cli, "'%s' is no owner", text);
	snprintf(user, sizeof(user), "%.*s", length, text);
	if (length > 0 && !parse_user(user, &uid, &login_gid))
		return cli_usage(cli, "there is no user '%s'", user);
	if (colon != NULL && colon[1] == '\0') {
		gid = login_gid;
		if (gid == UINT32_MAX)
			return cli_usage(cli, "user '%s' has no login group", user);
	} else if (colon != NULL && !parse_group(colon + 1, &gid)) {
		return cli_usage(cli, "there is no group '%s'", colon + 1);
	}
	*ret_uid = uid;
	*ret_gid = gid;
	return CLI_OK;
}

static int chown_one(struct cli *cli, const char *name, uint32_t uid, uint32_t gid)
{
	int result = shmb_region_chown(cli->client, name, uid, gid);
	struct json json;

	if (result < 0)
		return cli_fail_client(cli, name, result);
	if (cli->json) {
		json = json_begin(stdout);
		json_string(&json, "name", name);
		if (uid != UINT32_MAX)
			json_uint(&json, "uid", uid);
		if (gid != UINT32_MAX)
			json_uint(&json, "gid", gid);
		json_end(&json);
	}
	return CLI_OK;
}

static int chown_run(struct cli *cli, const void *values, int argc, char **argv)
{
	uint32_t uid = UINT32_MAX, gid = UINT32_MAX;
	int status = parse_owner(cli, argv[0], &uid, &gid);

	if (status == CLI_OK)
		status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	for (int i = 1; i < argc && status != CLI_NO_BROKER; i++)
		status = first_failure(status, chown_one(cli, argv[i], uid, gid));
	return status;
}

const struct cli_command command_chown = {
	.name = "chown",
	.synopsis = "[OPTION...] OWNER[:GROUP]|:GROUP NAME...",
	.summary = "Give regions to another user or group.",
	.min_operands = 2,
	.max_operands = -1,
	.run = chown_run,
};
