/* SPDX-License-Identifier: MIT */
/*
 * What can be done about an error, by what was being tried. Sentences alone: prints nothing.
 */

#include "hint.h"

#include <stdlib.h>
#include <string.h>

static bool is_about_semaphores(const struct cli *cli)
{
	return cli->command != NULL && strncmp(cli->command->name, "sem", 3) == 0;
}

/* Of locks and semaphores; what is said of regions does not hold for them. */
static const char *hint_for_coordination(const struct cli *cli, int code)
{
	bool sem = is_about_semaphores(cli);

	switch (code) {
	case SHMB_ENOENT:
		return sem ? "`shmbctl sem` lists the semaphores you may know of"
		       : cli->command == &command_lock
			       ? "`shmbctl ls` and `shmbctl locks` list what you may know of"
			       : "`shmbctl locks` lists the locks you may know of";
	case SHMB_EEXIST:
		return "`shmbctl rm` removes it";
	case SHMB_EACCES:
		return sem ? "names below ~UID belong to that user; using a semaphore takes the "
			     "lock right, `shmbctl --json sem` tells the mode"
			   : "names below ~UID belong to that user; locking takes the lock or "
			     "write right, and --recover for a region the write right";
	case SHMB_EKIND:
		return "`shmbctl ls`, `shmbctl locks` and `shmbctl sem` tell what it is";
	case SHMB_EOVERFLOW:
		return "`shmbctl sem` tells the maximum";
	case SHMB_EDQUOT:
		return "limits are set in shmbroker.conf(5)";
	default:
		return NULL;
	}
}

/* Of the step or limit that failed. */
static const char *hint_for_what(int code, const char *what)
{
	if (strcmp(what, "RLIMIT_MEMLOCK") == 0)
		return "`ulimit -l` tells how much may be pinned; limits.conf(5) and LimitMEMLOCK= "
		       "of systemd.exec(5) change it";
	if (strcmp(what, "file") != 0)
		return NULL;
	switch (code) {
	case SHMB_ENOENT:
		return "it is made if a SIZE is given";
	case SHMB_EACCES:
		return "--read-only needs no right to write it; whose files the broker takes is "
		       "allow-adopt in shmbroker.conf(5)";
	case SHMB_EEXIST:
		return "--new-file wants one that is not there";
	case SHMB_EMODE:
		return "with --read-only it is not made longer";
	case SHMB_ETIMEDOUT:
		return "somebody has locked all of it, see lslocks(8)";
	case SHMB_ENOTSUP:
		return "it has to be a regular file of a local file system";
	default:
		return NULL;
	}
}

const char *hint_for(const struct cli *cli, int code, const char *what)
{
	bool create = cli->command == &command_create, rm = cli->command == &command_rm;
	const char *hint = NULL;

	if (is_about_semaphores(cli) || cli->command == &command_lock ||
	    cli->command == &command_locks)
		hint = hint_for_coordination(cli, code);
	if (hint == NULL)
		hint = hint_for_what(code, what);
	if (hint != NULL || strcmp(what, "file") == 0) /* what is said of regions is not for it */
		return hint;
	switch (code) {
	case SHMB_EINVAL:
		return cli->command == &command_advise
			       ? "it is not for this kind of memory, or none of it is there yet"
			       : NULL;
	case SHMB_ENOTSUP:
		return "`shmbctl features` tells what this system can do";
	case SHMB_ENOENT:
		return rm ? "`shmbctl ls`, `shmbctl locks` and `shmbctl sem` list what you may "
			    "know "
			    "of"
			  : "`shmbctl ls` lists the regions you may know of";
	case SHMB_EKIND:
		return "it is no region: `shmbctl locks` and `shmbctl sem` tell about it, and its "
		       "mode and owner are for good";
	case SHMB_ESLOTS:
		return "as many use it already as it was made for";
	case SHMB_EOWNERDEAD:
		return "what it guards may be half done; when that has been put right: "
		       "`shmbctl lock --recover NAME -- COMMAND`";
	case SHMB_ENOTRECOVERABLE:
		return "somebody unlocked it without putting things right; `shmbctl lock --reset` "
		       "gives it another chance";
	case SHMB_EEXIST:
		return create ? "--or-open takes it if it is a region; `shmbctl rm` removes it"
			      : NULL;
	case SHMB_EACCES:
		return create ? "names below ~UID belong to that user; --backing is the broker's "
				"decision, see shmbroker.conf(5)"
		       : rm   ? "only its owner or root may remove it"
			      : "the owner or root may change this with `shmbctl chmod` or "
				"`chown`; "
				"`shmbctl stat` tells the mode";
	case SHMB_EMODE:
		return "this needs write access to the region";
	case SHMB_EFBIG:
		return "the broker's limit is max-region, see shmbroker.conf(5)";
	case SHMB_EDQUOT:
		return "limits are set in shmbroker.conf(5); `shmbctl ls -l` tells what is in use";
	case SHMB_ENOSPC:
		return "see `df /dev/shm` for shm, or make the region with --backing=memfd";
	case SHMB_EDISCONNECTED:
		return "the broker ended or dropped this connection; its log says why";
	case SHMB_ETIMEDOUT:
		return "the broker is slow or stopped; --timeout=SECONDS waits longer";
	case SHMB_ENOMEM:
	case SHMB_EMFILE:
	case SHMB_ENFILE:
		return "here or in the broker; its log says which";
	default:
		return NULL;
	}
}

const char *hint_for_connect(const char *address, int code)
{
	bool is_system = strcmp(address, "system") == 0;
	bool is_user = strcmp(address, "user") == 0;

	switch (code) {
	case SHMB_ENOENT:
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
