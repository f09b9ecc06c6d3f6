/* SPDX-License-Identifier: MIT */
/*
 * Those who would make use of a restart: of what is remembered, and of what lies about while there
 * is no daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

static void replace(struct broker *broker)
{
	broker_crash(broker);
	broker_restart(broker);
}

/* ---- What was done, and done again ---- */

static void give_away_and_repeat(struct broker *broker, void *argument)
{
	const struct wire_region_create_params create = {
		.has = WIRE_HAS(region_create_params, lifetime),
		.name = wire_string("given"),
		.size = 4096,
		.lifetime = SHMB_PERSISTENT,
	};
	struct wire_region_attached attached;
	struct raw *raw = raw_greet(broker);
	uint32_t msgid = raw->msgid + 1;

	CHECK_OK(raw_call(raw, WIRE_REGION_CREATE, &create, &attached));
	say(1);
	hear();
	raw = raw_return(broker, raw, 1);
	broker_fault(broker, FAULT_SEND_FDS, ETOOMANYREFS, 0, 1);
	CHECK_CODE(raw_repeat(raw, msgid, WIRE_REGION_CREATE, &create, &attached),
		   SHMB_ETOOMANYREFS);
	CHECK_CODE(raw_stat_handle(raw, attached.handle), SHMB_ENOENT);
	raw_free(raw);
}

/* A repeated create that fails is undone, but only its maker's is there to be undone. */
CASE(what_was_given_away_is_not_unmade, SYSTEM, .faults = true, .fd_store = 256)
{
	const struct wire_region_chown_params chown = {
		.has = WIRE_HAS(region_chown_params, uid),
		.name = wire_string("given"),
		.uid = BOB.uid,
	};
	struct actor alice = actor_start(broker, &ALICE, give_away_and_repeat, NULL);
	struct raw *root = raw_greet(broker);

	actor_hear(&alice);
	CHECK_OK(raw_call(root, WIRE_REGION_CHOWN, &chown, NULL));
	root = raw_survive(broker, root, 0);
	actor_say(&alice, 1);
	actor_end(&alice);
	CHECK_INT(broker_stat(broker, "regions"), 1);
	CHECK_OK(raw_remove(root, "given", RAW_REGION));
	raw_free(root);
}

/* ---- Sessions without end ---- */

/* Two sessions each time, that are never gone on with. */
static void pile_up_sessions(struct broker *broker, void *argument)
{
	struct raw *first = raw_greet(broker), *second = raw_greet(broker), *third;

	say(1);
	hear();
	third = raw_connect(broker);
	CHECK_CODE(raw_resume(third, (const uint8_t[WIRE_TOKEN_BYTES]){ 1 }, 0), SHMB_ESESSION);
	CHECK_CODE(raw_call(third, WIRE_HELLO,
			    &(struct wire_hello_params){ .version_min = WIRE_VERSION,
							 .version_max = WIRE_VERSION },
			    NULL),
		   SHMB_EDQUOT);
	raw_free(third);
	first = raw_return(broker, first, 0); /* which is what there is room for */
	second = raw_return(broker, second, 0);
	raw_free(second);
	second = raw_greet(broker);
	raw_free(second);
	raw_free(first);
}

CASE(restarts_do_not_multiply_sessions, SYSTEM, .fd_store = 256,
     .arguments = { "--connections-per-user=2" })
{
	struct actor alice = actor_start(broker, &ALICE, pile_up_sessions, NULL);

	actor_hear(&alice);
	replace(broker);
	CHECK_INT(broker_stat(broker, "away"), 2);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "away") == 0);
}

/* ---- Files under our names ---- */

/* The one segment of its kind is removed, and another user's file put in its place. */
static void foist(const struct broker *broker, const char *format, unsigned long id)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/shmb.%s.%lx.d", broker->instance, id);
	SYS(unlink(path));
	snprintf(path, sizeof(path), format, broker->instance, id);
	fd = SYS(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
	SYS(ftruncate(fd, 4096));
	SYS(fchown(fd, ALICE.uid, ALICE.gid));
	SYS(fchmod(fd, 0666));
	close(fd);
}

static void unfoist(const struct broker *broker, const char *format, unsigned long id)
{
	char path[96];

	snprintf(path, sizeof(path), format, broker->instance, id);
	unlink(path); /* the daemon has, if it may */
}

static void check_foisted(struct broker *broker, const char *format)
{
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached attached;
	int fds[2];

	if (geteuid() != 0)
		SKIP("needs root");
	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_PERSISTENT, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	broker_crash(broker);
	foist(broker, format, (unsigned long)attached.id);
	broker_restart(broker);
	CHECK_INT(broker_log_count(broker, "memory of 1 objects is gone"), 1);
	raw = raw_return(broker, raw, 0);
	CHECK_CODE(raw_open(raw, "r", SHMB_READ, NULL, NULL), SHMB_ENOENT);
	CHECK_OK(raw_close(raw, attached.handle));
	raw_free(raw);
	unfoist(broker, format, (unsigned long)attached.id);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

CASE(another_users_file_does_not_become_a_regions_memory, PRIVATE)
{
	check_foisted(broker, "/dev/shm/shmb.%s.%lx.d");
}

CASE(another_spelling_of_a_number_names_nothing, PRIVATE)
{
	check_foisted(broker, "/dev/shm/shmb.%s.0%lx.d");
}

/* The same while the daemon runs. */
CASE(another_users_file_is_not_handed_out, PRIVATE)
{
	static const char format[] = "/dev/shm/shmb.%s.%lx.d";
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached attached;
	int fds[2];

	if (geteuid() != 0)
		SKIP("needs root");
	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_PERSISTENT, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	foist(broker, format, (unsigned long)attached.id);
	CHECK_CODE(raw_open(raw, "r", SHMB_READ, &attached, fds), SHMB_EIO);
	CHECK_OK(raw_remove(raw, "r", RAW_REGION));
	CHECK_OK(raw_close(raw, attached.handle));
	raw_free(raw);
	unfoist(broker, format, (unsigned long)attached.id);
}
