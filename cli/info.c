/* SPDX-License-Identifier: MIT */
/*
 * How a region's description is spelt. Asks the system for the names of users and groups; prints
 * nothing by itself.
 */

#include "info.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdbool.h>
#include <time.h>

const char *info_backing(enum shmb_backing backing)
{
	switch (backing) {
	case SHMB_BACKING_DEFAULT:
		return "default";
	case SHMB_BACKING_SHM:
		return "shm";
	case SHMB_BACKING_MEMFD:
		return "memfd";
	case SHMB_BACKING_FILE:
		return "file";
	case SHMB_BACKING_HUGETLB:
		return "hugetlb";
	}
	return "unknown";
}

const char *info_lifetime(enum shmb_lifetime lifetime)
{
	switch (lifetime) {
	case SHMB_ATTACHED:
		return "attached";
	case SHMB_SESSION:
		return "session";
	case SHMB_PERSISTENT:
		return "persistent";
	}
	return "unknown";
}

const char *info_answer(int answer)
{
	return answer == SHMB_YES ? "yes" : answer == SHMB_NO ? "no" : "unknown";
}

/* A list asks for the same owner again and again: remember the last, since a lookup may open files
 * and ask servers. */
struct remembered {
	bool valid;
	uint32_t id;
	char text[OWNER_TEXT];
};

static const char *recall(struct remembered *last, uint32_t id, const char *name,
			  char buffer[OWNER_TEXT])
{
	if (name != NULL)
		snprintf(last->text, sizeof(last->text), "%s", name);
	else
		snprintf(last->text, sizeof(last->text), "%" PRIu32, id);
	last->valid = true;
	last->id = id;
	snprintf(buffer, OWNER_TEXT, "%s", last->text);
	return buffer;
}

const char *info_user(uint32_t uid, char buffer[OWNER_TEXT])
{
	static struct remembered last;
	const struct passwd *entry;

	if (last.valid && last.id == uid) {
		snprintf(buffer, OWNER_TEXT, "%s", last.text);
		return buffer;
	}
	entry = getpwuid(uid);
	return recall(&last, uid, entry != NULL ? entry->pw_name : NULL, buffer);
}

const char *info_group(uint32_t gid, char buffer[OWNER_TEXT])
{
	static struct remembered last;
	const struct group *entry;

	if (last.valid && last.id == gid) {
		snprintf(buffer, OWNER_TEXT, "%s", last.text);
		return buffer;
	}
	entry = getgrgid(gid);
	return recall(&last, gid, entry != NULL ? entry->gr_name : NULL, buffer);
}

const char *info_time(uint64_t seconds, char buffer[TIME_TEXT])
{
	time_t time = (time_t)seconds;
	struct tm local;

	if (localtime_r(&time, &local) == NULL ||
	    strftime(buffer, TIME_TEXT, "%Y-%m-%d %H:%M:%S", &local) == 0)
		snprintf(buffer, TIME_TEXT, "%" PRIu64, seconds);
	return buffer;
}

void info_print_name(bool as_json, const char *name)
{
	struct json json;

	if (!as_json) {
		puts(name);
		return;
	}
	json = json_begin(stdout);
	json_string(&json, "name", name);
	json_end(&json);
}

void info_mode_json(struct json *json, uint32_t mode)
{
	char text[8];

	snprintf(text, sizeof(text), "%04o", (unsigned)(mode & 07777));
	json_string(json, "mode", text);
}

void info_json(struct json *json, const struct shmb_region_info *info)
{
	json_string(json, "name", info->name);
	json_uint(json, "id", info->id);
	json_uint(json, "size", info->size);
	json_uint(json, "capacity", info->capacity);
	info_mode_json(json, info->mode);
	json_uint(json, "uid", info->uid);
	json_uint(json, "gid", info->gid);
	json_string(json, "backing", info_backing(info->backing));
	json_string(json, "lifetime", info_lifetime(info->lifetime));
	json_uint(json, "attachments", info->attachments);
	json_uint(json, "sequence", info->sequence);
	json_uint(json, "created", info->created);
	json_bool(json, "removed", info->removed != 0);
	if (info->path[0] != '\0')
		json_string(json, "path", info->path);
}
