/* SPDX-License-Identifier: MIT */
/*
 * What can be done about an error, by what was being tried. Sentences alone: prints nothing.
 */

#include "hint.h"

#include <stdlib.h>
#include <string.h>

struct hint {
	const struct cli_command *command; /* NULL: whichever */
	int code;
	const char *what; /* of struct shmb_error; NULL: whatever it says */
	const char *sentence;
};

/* Of each table the first that fits. */

static const struct hint semaphore_hints[] = {
	{ NULL, SHMB_ENOENT, NULL, "`shmbctl sem` lists the semaphores you may know of" },
	{ NULL, SHMB_EEXIST, NULL, "`shmbctl rm` removes it" },
	{ NULL, SHMB_EACCES, NULL,
	  "names below ~UID belong to that user; using a semaphore takes the lock right, "
	  "`shmbctl --json sem` tells the mode" },
	{ NULL, SHMB_EKIND, NULL,
	  "`shmbctl ls`, `shmbctl locks` and `shmbctl sem` tell what it is" },
	{ NULL, SHMB_EOVERFLOW, NULL, "`shmbctl sem` tells the maximum" },
	{ NULL, SHMB_EDQUOT, NULL, "limits are set in shmbroker.conf(5)" },
};

static const struct hint lock_hints[] = {
	{ &command_lock, SHMB_ENOENT, NULL,
	  "`shmbctl ls` and `shmbctl locks` list what you may know of" },
	{ NULL, SHMB_ENOENT, NULL, "`shmbctl locks` lists the locks you may know of" },
	{ NULL, SHMB_EEXIST, NULL, "`shmbctl rm` removes it" },
	{ NULL, SHMB_EACCES, NULL,
	  "names below ~UID belong to that user; locking takes the lock or write right, and "
	  "--recover for a region the write right" },
	{ NULL, SHMB_EKIND, NULL,
	  "`shmbctl ls`, `shmbctl locks` and `shmbctl sem` tell what it is" },
	{ NULL, SHMB_EDQUOT, NULL, "limits are set in shmbroker.conf(5)" },
};

/* Of the file of a region that was to be made. */
static const struct hint file_hints[] = {
	{ NULL, SHMB_ENOENT, NULL, "it is made if a SIZE is given; its directory is not" },
	{ NULL, SHMB_EACCES, NULL, "--read-only needs no right to write it" },
	{ NULL, SHMB_EEXIST, NULL, "--new-file wants one that is not there" },
	{ NULL, SHMB_EMODE, NULL, "with --read-only it is not made longer" },
	{ NULL, SHMB_ETIMEDOUT, NULL, "somebody has locked all of it, see lslocks(8)" },
	{ NULL, SHMB_ENOTSUP, NULL, "it has to be a regular file of a local file system" },
};

static const struct hint hints[] = {
	{ NULL, SHMB_EDQUOT, "RLIMIT_MEMLOCK",
	  "`ulimit -l` tells how much may be pinned; limits.conf(5) and LimitMEMLOCK= of "
	  "systemd.exec(5) change it" },
	{ &command_flush, SHMB_EDQUOT, NULL, "it is the quota of the disk with its file" },
	{ NULL, SHMB_EDQUOT, NULL,
	  "limits are set in shmbroker.conf(5); `shmbctl ls -l` tells what is in use" },
	{ NULL, SHMB_EINVAL, "name",
	  "a name is such as video/cam0: letters, digits, '.', '_' and '-', and '/' between" },
	{ &command_create, SHMB_EINVAL, "size",
	  "a region has at least one byte; for a file that is empty, give a SIZE" },
	{ &command_advise, SHMB_EINVAL, NULL,
	  "it is not for this kind of memory, or none of it is there yet" },
	{ NULL, SHMB_ENOTSUP, NULL, "`shmbctl features` tells what this system can do" },
	{ &command_rm, SHMB_ENOENT, NULL,
	  "`shmbctl ls`, `shmbctl locks` and `shmbctl sem` list what you may know of" },
	{ NULL, SHMB_ENOENT, NULL, "`shmbctl ls` lists the regions you may know of" },
	{ NULL, SHMB_EKIND, NULL,
	  "it is no region: `shmbctl locks` and `shmbctl sem` tell about it, and its mode and "
	  "owner are for good" },
	{ NULL, SHMB_ESLOTS, NULL, "as many use it already as it was made for" },
	{ NULL, SHMB_EOWNERDEAD, NULL,
	  "what it guards may be half done; when that has been put right: "
	  "`shmbctl lock --recover NAME -- COMMAND`" },
	{ NULL, SHMB_ENOTRECOVERABLE, NULL,
	  "somebody unlocked it without putting things right; `shmbctl lock --reset` gives it "
	  "another chance" },
	{ &command_create, SHMB_EEXIST, NULL,
	  "--or-open takes it if it is a region; `shmbctl rm` removes it" },
	{ NULL, SHMB_EACCES, "name", "names below ~UID belong to that user" },
	{ NULL, SHMB_EACCES, "owner", "only its owner or root may do that" },
	{ NULL, SHMB_EACCES, "backing",
	  "--backing is the broker's decision, see shmbroker.conf(5)" },
	{ NULL, SHMB_EACCES, "allow-adopt",
	  "the broker takes files of its own user and of those that allow-adopt in "
	  "shmbroker.conf(5) names" },
	{ NULL, SHMB_EACCES, "file opened read-only",
	  "it was made with --read-only: nobody can write through it" },
	{ NULL, SHMB_EACCES, NULL,
	  "the owner or root may change this with `shmbctl chmod` or `chown`; `shmbctl stat` "
	  "tells the mode" },
	{ NULL, SHMB_EMODE, NULL, "this needs write access to the region" },
	{ NULL, SHMB_EFBIG, "max-region",
	  "the broker's limit is max-region, see shmbroker.conf(5)" },
	{ &command_flush, SHMB_ENOSPC, NULL, "the disk with its file is full" },
	{ NULL, SHMB_ENOSPC, NULL,
	  "see `df /dev/shm` for shm, or make the region with --backing=memfd" },
	{ NULL, SHMB_EBUS, NULL,
	  "somebody has shortened its file, or there was no memory, see `df /dev/shm`" },
	{ NULL, SHMB_EDISCONNECTED, NULL,
	  "the broker ended or dropped this connection; its log says why" },
	{ NULL, SHMB_ETIMEDOUT, NULL,
	  "the broker is slow or stopped; --timeout=SECONDS waits longer" },
	{ NULL, SHMB_ENOMEM, "huge pages",
	  "the system's pool has too few, see HugePages_Free in /proc/meminfo; --hugepages does "
	  "with others where there are none" },
	{ NULL, SHMB_ENOMEM, NULL, "here or in the broker; its log says which" },
	{ NULL, SHMB_EMFILE, NULL, "here or in the broker; its log says which" },
	{ NULL, SHMB_ENFILE, NULL, "here or in the broker; its log says which" },
};

static const char *find(const struct hint *table, size_t n, const struct cli *cli, int code,
			const char *what)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].code == code &&
		    (table[i].command == NULL || table[i].command == cli->command) &&
		    (table[i].what == NULL || strcmp(table[i].what, what) == 0))
			return table[i].sentence;
	return NULL;
}

#define FIND(table) find(table, sizeof(table) / sizeof((table)[0]), cli, code, what)

const char *hint_for(const struct cli *cli, int code, const char *what)
{
	const char *hint = NULL;

	if (strcmp(what, "file") == 0) /* what is said of regions is not for it */
		return FIND(file_hints);
	if (cli->command == &command_lock || cli->command == &command_locks)
		hint = FIND(lock_hints);
	else if (cli->command != NULL && strncmp(cli->command->name, "sem", 3) == 0)
		hint = FIND(semaphore_hints);
	return hint != NULL ? hint : FIND(hints);
}

const char *hint_for_connect(const char *address, int code)
{
	bool is_system = strcmp(address, "system") == 0;
	bool is_user = strcmp(address, "user") == 0;

	switch (code) {
	case SHMB_ECONNREFUSED:
		if (is_system)
			return "start it: systemctl start shmbrokerd.socket";
		if (is_user && getenv("XDG_RUNTIME_DIR") == NULL)
			return "XDG_RUNTIME_DIR is not set, so there is no place for a user's "
			       "broker; run the command under a private one: shmbctl run -- "
			       "COMMAND, or name another with --address";
		if (is_user)
			return "start one: shmbrokerd --user, or run the command under a private "
			       "one: shmbctl run -- COMMAND";
		return "start one there: shmbrokerd --private --socket=PATH, or run the command "
		       "under a private one: shmbctl run -- COMMAND";
	case SHMB_EINVAL:
		return "an address is \"system\", \"user\" or a path with a '/'";
	case SHMB_EACCES:
		return "the broker at this address does not serve this user";
	case SHMB_ETIMEDOUT:
		return "something listens but does not answer; --timeout=SECONDS waits longer";
	case SHMB_EDQUOT:
		return "too many connections of this user; see connections-per-user in "
		       "shmbroker.conf(5)";
	default:
		return NULL;
	}
}
