/* SPDX-License-Identifier: MIT */
/*
 * chmod, chown: commands that change whose regions are, and who may use them.
 */

#include "cli.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "size.h"

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
		status = cli_first_failure(status, chmod_one(cli, argv[0], argv[i]));
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
		status = cli_first_failure(status, chown_one(cli, argv[i], uid, gid));
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
