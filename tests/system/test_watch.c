/* SPDX-License-Identifier: MIT */
/*
 * Events that no state of a region shows: changes of its metadata, lock holders that died, changes
 * to the file behind it. What is published, resized and removed is in test_publish.c.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

enum { SIZE = 4096 };

struct heard {
	unsigned calls, types;
	struct shmb_event last;
	void (*then)(void *context); /* run by the callback, once */
	void *context;
};

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct heard *heard = userdata;
	void (*then)(void *context) = heard->then;

	heard->calls++;
	heard->types |= event->types;
	heard->last = *event;
	heard->then = NULL;
	if (then)
		then(heard->context);
}

static void watch(struct shmb_region *region, unsigned types, struct heard *heard)
{
	*heard = (struct heard){ .calls = 0 };
	CHECK_OK(shmb_region_watch(region, types, shmb_region_sequence(region), on_event, heard));
}

static void process_once(struct shmb_client *client, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = SYS(shmb_client_get_fd(client)),
				  .events = (short)shmb_client_get_events(client) };

	SYS(poll(&poll_fd, 1, timeout_ms));
	SYS(shmb_client_process(client));
}

static void process_until(struct shmb_client *client, struct heard *heard, unsigned types)
{
	int64_t end = harness_now_ms() + 10000 * harness_slow();

	while ((heard->types & types) != types) {
		if (harness_now_ms() > end)
			FAIL("told of %#x, not of %#x", heard->types, types);
		process_once(client, 1000);
	}
}

/* Whatever the daemon had to say came before the answer to a ping; what a callback causes, after.
 */
static void process_rest(struct shmb_client *client)
{
	for (int i = 0; i < 3; i++) {
		CHECK_OK(shmb_client_ping(client));
		while (SYS(shmb_client_process(client)) > 0)
			;
	}
}

static struct shmb_region *create_for_all(struct shmb_client *client, const char *name)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.mode = 0777;
	options.lifetime = SHMB_PERSISTENT;
	return create(client, name, SIZE, &options);
}

/* ---- Metadata ---- */

CASE(F38_watch_tells_mode_and_owner_changed, SYSTEM)
{
	struct shmb_client *watcher = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *region = create_for_all(other, "r");
	struct shmb_region *watched = open_region(watcher, "r", SHMB_READ);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct heard heard;

	watch(watched, SHMB_EVENT_METADATA | SHMB_EVENT_PUBLISHED, &heard);
	process_rest(watcher);
	CHECK_INT(heard.calls, 0);
	CHECK_OK(shmb_region_chmod(other, "r", 0740));
	process_until(watcher, &heard, SHMB_EVENT_METADATA);
	CHECK_INT(heard.types, SHMB_EVENT_METADATA);
	CHECK_INT(heard.last.size, SIZE);
	CHECK_OK(shmb_region_info(watched, &info));
	CHECK_INT(info.mode, 0740);
	CHECK_OK(shmb_region_chmod(other, "r", 0740)); /* which changes nothing */
	process_rest(watcher);
	CHECK_INT(heard.calls, 1);
	CHECK_OK(shmb_region_chown(other, "r", (uint32_t)-1, BOB.gid));
	process_rest(watcher);
	CHECK_INT(heard.calls, 2);
	CHECK_OK(shmb_region_chown(other, "r", BOB.uid, (uint32_t)-1));
	process_rest(watcher);
	CHECK_INT(heard.calls, 3);
	CHECK_OK(shmb_region_chown(other, "r", BOB.uid, BOB.gid)); /* which changes nothing */
	process_rest(watcher);
	CHECK_INT(heard.calls, 3);
	CHECK_INT(heard.types, SHMB_EVENT_METADATA);
	CHECK_OK(shmb_region_remove(other, "r"));
	shmb_region_free(watched);
	shmb_region_free(region);
	shmb_client_free(watcher);
	shmb_client_free(other);
}

CASE(F38_metadata_is_told_to_those_who_asked_for_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *one = create_for_all(client, "r");
	struct shmb_region *two = open_region(client, "r", SHMB_READ);
	struct heard heard[2];

	watch(one, SHMB_EVENT_PUBLISHED | SHMB_EVENT_REMOVED, &heard[0]);
	watch(two, SHMB_EVENT_METADATA, &heard[1]);
	CHECK_OK(shmb_region_chmod(client, "r", 0700));
	process_until(client, &heard[1], SHMB_EVENT_METADATA);
	process_rest(client);
	CHECK_INT(heard[0].calls, 0);
	/* A watch that begins now has nothing to tell of what was before. */
	watch(one, SHMB_EVENT_METADATA, &heard[0]);
	process_rest(client);
	CHECK_INT(heard[0].calls, 0);
	CHECK_OK(shmb_region_publish(one, 0, 0));
	process_rest(client);
	CHECK_INT(heard[0].calls, 0);
	CHECK_INT(heard[1].calls, 1);
	CHECK_OK(shmb_region_remove(client, "r"));
	shmb_region_free(one);
	shmb_region_free(two);
	shmb_client_free(client);
}

static void change_mode(void *context)
{
	CHECK_OK(shmb_region_chmod(context, "r", 0700));
	CHECK_OK(shmb_region_chmod(context, "r", 0500));
}

CASE(F38_what_happens_while_the_callback_runs_is_told_after_it, PRIVATE)
{
	struct shmb_client *watcher = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *region = create_for_all(other, "r");
	struct shmb_region *watched = open_region(watcher, "r", SHMB_READ);
	struct heard heard;

	watch(watched, SHMB_EVENT_METADATA, &heard);
	heard.then = change_mode; /* the watch is not armed then */
	heard.context = other;
	CHECK_OK(shmb_region_chmod(other, "r", 0770));
	process_until(watcher, &heard, SHMB_EVENT_METADATA);
	process_rest(watcher);
	CHECK_INT(heard.calls, 2);
	CHECK_OK(shmb_region_remove(other, "r"));
	shmb_region_free(watched);
	shmb_region_free(region);
	shmb_client_free(watcher);
	shmb_client_free(other);
}

/* ---- Deaths ---- */

static const struct told as_writer = { .name = "r", .access = SHMB_READ | SHMB_WRITE };

static struct actor start_locker(struct broker *broker, enum order order)
{
	struct actor actor =
		actor_start(broker, &SELF, lock_as_told, (void *)(uintptr_t)&as_writer);

	CHECK_OK(tell(&actor, order));
	return actor;
}

static void see_death(struct shmb_client *client, struct shmb_region *region, struct heard *heard)
{
	process_until(client, heard, SHMB_EVENT_OWNER_DIED);
	CHECK_INT(heard->types, SHMB_EVENT_OWNER_DIED);
	/* It is repaired already: the lock can be had. */
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_region_mark_consistent(region));
	CHECK_OK(shmb_region_unlock(region));
}

CASE(F38_watch_tells_that_a_lock_holder_died, PRIVATE)
{
	struct shmb_client *watcher = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *region = create_for_all(other, "r");
	struct shmb_region *watched = open_region(watcher, "r", SHMB_READ);
	struct actor owner;
	struct heard heard;

	watch(watched, SHMB_EVENT_OWNER_DIED | SHMB_EVENT_METADATA, &heard);
	for (unsigned i = 1; i <= 2; i++) {
		owner = start_locker(broker, ORDER_EXCLUSIVE);
		heard.types = 0;
		process_rest(watcher);
		CHECK_INT(heard.calls, i - 1);
		actor_kill(&owner);
		see_death(watcher, region, &heard);
		process_rest(watcher);
		CHECK_INT(heard.calls, i);
	}
	/* Neither a reader's death nor one without a lock is one. */
	owner = start_locker(broker, ORDER_SHARED);
	actor_kill(&owner);
	owner = start_locker(broker, ORDER_EXCLUSIVE);
	CHECK_OK(tell(&owner, ORDER_UNLOCK));
	actor_kill(&owner);
	UNTIL(broker, broker_stat(broker, "repairs_total") >= 4);
	process_rest(watcher);
	CHECK_INT(heard.calls, 2);
	CHECK_OK(shmb_region_remove(other, "r"));
	shmb_region_free(watched);
	shmb_region_free(region);
	shmb_client_free(watcher);
	shmb_client_free(other);
}

CASE(F38_a_death_while_the_broker_is_away_is_told_by_the_next_one, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_for_all(client, "r");
	struct actor owner = start_locker(broker, ORDER_EXCLUSIVE);
	struct heard heard;

	watch(region, SHMB_EVENT_OWNER_DIED | SHMB_EVENT_METADATA, &heard);
	process_rest(client);
	broker_crash(broker);
	actor_kill(&owner);
	broker_restart(broker);
	see_death(client, region, &heard);
	CHECK_OK(shmb_region_remove(client, "r"));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_what_was_told_before_a_restart_is_not_told_again, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_for_all(client, "r");
	struct actor owner = start_locker(broker, ORDER_EXCLUSIVE);
	struct heard heard;

	watch(region, SHMB_EVENT_OWNER_DIED | SHMB_EVENT_METADATA, &heard);
	CHECK_OK(shmb_region_chmod(client, "r", 0700));
	process_until(client, &heard, SHMB_EVENT_METADATA);
	heard.types = 0;
	actor_kill(&owner);
	see_death(client, region, &heard);
	process_rest(client);
	CHECK_INT(heard.calls, 2);
	for (int i = 0; i < 2; i++) { /* the second one reads what the first one wrote anew */
		broker_crash(broker);
		broker_restart(broker);
		process_rest(client);
	}
	CHECK_INT(heard.calls, 2);
	CHECK_OK(shmb_region_chmod(client, "r", 0770));
	process_rest(client);
	CHECK_INT(heard.calls, 3);
	CHECK_OK(shmb_region_remove(client, "r"));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- By hand ---- */

static struct wire_region_event receive_event(struct raw *raw)
{
	struct wire_region_event event;
	const char *field;

	CHECK_INT(raw_receive(raw), 1);
	CHECK_INT(raw->message.kind, WIRE_NOTIFICATION);
	CHECK_OK(wire_decode_body(&raw->message, &wire_message_types[WIRE_MESSAGE_region_event],
				  &event, &field));
	return event;
}

/* A watch says what its client has seen, and is told whatever differs from it, or is new to one
 * that does not say. */
CASE(F38_a_watch_compares_counters, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_PERSISTENT);
	struct wire_region_watch_params wanted = { .handle = handle, .types = 55, .size = SIZE };
	struct wire_region_watch_result seen;
	struct wire_region_event event;

	CHECK_OK(shmb_region_chmod(client, "r", 0740));
	CHECK_OK(raw_call(raw, WIRE_REGION_WATCH, &wanted, &seen)); /* as an older client does */
	CHECK(seen.has & WIRE_HAS(region_watch_result, metadata));
	CHECK(seen.has & WIRE_HAS(region_watch_result, deaths));
	CHECK_INT(seen.metadata, 1);
	CHECK_INT(seen.deaths, 0);
	CHECK_OK(raw_call(raw, WIRE_PING, &(struct wire_empty){ 0 }, NULL));
	CHECK(!raw_ready(raw, 0));
	CHECK_OK(shmb_region_chmod(client, "r", 0750));
	event = receive_event(raw);
	CHECK_INT(event.types, SHMB_EVENT_METADATA);
	CHECK_INT(event.metadata, 2);
	CHECK_OK(shmb_region_chmod(client, "r", 0700)); /* not armed */

	wanted.has =
		WIRE_HAS(region_watch_params, metadata) | WIRE_HAS(region_watch_params, deaths);
	wanted.metadata = event.metadata;
	CHECK_OK(raw_call(raw, WIRE_REGION_WATCH, &wanted, &seen));
	CHECK_INT(seen.metadata, 3);
	event = receive_event(raw);
	CHECK_INT(event.types, SHMB_EVENT_METADATA);
	CHECK_INT(event.metadata, 3);
	wanted.metadata = 3;
	wanted.types = SHMB_EVENT_METADATA; /* a death that was not asked for */
	wanted.deaths = 1;
	CHECK_OK(raw_call(raw, WIRE_REGION_WATCH, &wanted, &seen));
	CHECK_OK(raw_call(raw, WIRE_PING, &(struct wire_empty){ 0 }, NULL));
	CHECK(!raw_ready(raw, 0));
	CHECK_OK(shmb_region_remove(client, "r"));
	raw_free(raw);
	shmb_client_free(client);
}

/* ---- Files ---- */

/* Some memory with a descriptor; it is the same to the system. */
static struct shmb_region *create_with_fd(struct shmb_client *client, const char *name)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.flags = SHMB_KEEP_FD;
	options.capacity = 2 * SIZE;
	return create(client, name, SIZE, &options);
}

static int open_anew(struct shmb_region *region)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", SYS(shmb_region_fd(region)));
	return SYS(open(path, O_RDWR | O_CLOEXEC));
}

CASE(F38_watch_tells_that_the_file_was_changed_from_outside, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_fd(client, "r");
	int fd = open_anew(region);
	struct heard heard;

	CHECK_INT(SYS(pwrite(fd, "before", 6, 0)), 6);
	watch(region, SHMB_EVENT_FILE, &heard);
	process_rest(client);
	CHECK_INT(heard.calls, 0);
	CHECK_OK(shmb_region_write(region, 0, "mapped", 6, 0)); /* which is not from outside */
	CHECK_OK(shmb_region_publish(region, 0, 6));
	SYS(fchmod(fd, 0600));
	process_rest(client);
	CHECK_INT(heard.calls, 0);
	CHECK_INT(SYS(pwrite(fd, "outside", 7, 0)), 7);
	process_until(client, &heard, SHMB_EVENT_FILE); /* through the descriptor */
	CHECK_INT(heard.types, SHMB_EVENT_FILE);
	CHECK_INT(heard.last.size, SIZE);
	process_rest(client);
	CHECK_INT(heard.calls, 1);
	SYS(ftruncate(fd, 2 * SIZE)); /* as long as it was */
	process_rest(client);
	CHECK_INT(heard.calls, 2);
	CHECK_OK(shmb_region_watch(region, 0, 0, NULL, NULL));
	CHECK_INT(SYS(pwrite(fd, "outside", 7, 0)), 7);
	process_rest(client);
	CHECK_INT(heard.calls, 2);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_watch_tells_that_the_file_was_renamed_or_deleted, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_with_fd(client, "r");
	char path[80], name[80], other[96];
	ssize_t length;
	struct heard heard;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", SYS(shmb_region_fd(region)));
	length = SYS(readlink(path, name, sizeof(name) - 1));
	name[length] = '\0';
	if (strncmp(name, "/dev/shm/", 9) != 0)
		SKIP("its memory has no name");
	snprintf(other, sizeof(other), "%s.renamed", name);
	watch(region, SHMB_EVENT_FILE, &heard);
	SYS(rename(name, other));
	process_rest(client);
	CHECK_INT(heard.calls, 1);
	SYS(unlink(other));
	process_rest(client);
	CHECK_INT(heard.calls, 2);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_watches_of_one_file_are_told_and_end_each_by_itself, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *one = create_with_fd(client, "r"), *two = NULL;
	struct shmb_region *stranger = create_with_fd(client, "s");
	int fd = open_anew(one);
	struct heard heard[3];

	options.flags = SHMB_KEEP_FD;
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ, &options, &two));
	watch(one, SHMB_EVENT_FILE, &heard[0]);
	CHECK_INT(SYS(pwrite(fd, "x", 1, 0)), 1); /* before that is told another one begins, */
	watch(two, SHMB_EVENT_FILE | SHMB_EVENT_PUBLISHED, &heard[1]);
	watch(one, SHMB_EVENT_FILE, &heard[0]); /* and this one anew */
	process_rest(client);
	CHECK_INT(heard[0].calls, 0);
	CHECK_INT(heard[1].calls, 0);
	watch(stranger, SHMB_EVENT_FILE, &heard[2]);
	CHECK_INT(SYS(pwrite(fd, "x", 1, 0)), 1);
	process_rest(client);
	CHECK_INT(heard[0].calls, 1);
	CHECK_INT(heard[1].calls, 1);
	shmb_region_free(one);
	CHECK_INT(SYS(pwrite(fd, "x", 1, 0)), 1);
	CHECK_INT(SYS(pwrite(fd, "x", 1, 0)), 1);
	process_rest(client);
	CHECK_INT(heard[1].calls, 2); /* merged */
	CHECK_OK(shmb_region_close(two));
	CHECK_INT(SYS(pwrite(fd, "x", 1, 0)), 1);
	process_rest(client);
	CHECK_INT(heard[1].calls, 2);
	CHECK_INT(heard[0].calls, 1);
	CHECK_INT(heard[2].calls, 0);
	shmb_region_free(two);
	shmb_region_free(stranger);
	close(fd);
	shmb_client_free(client);
}

/* More happens than the system keeps: whoever watches a file has to look. */
CASE(F38_file_events_that_were_lost_are_told_to_everybody, PRIVATE)
{
	enum { MOST = 200000 };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[3];
	struct heard heard[3];
	int fds[3];
	FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
	unsigned long most = MOST;

	if (limit && fscanf(limit, "%lu", &most) != 1)
		most = MOST;
	if (limit)
		fclose(limit);
	if (most >= MOST)
		SKIP("it takes too much");
	for (unsigned i = 0; i < 3; i++) {
		char name[2] = { (char)('a' + i), '\0' };

		regions[i] = create_with_fd(client, name);
		fds[i] = open_anew(regions[i]);
		watch(regions[i], SHMB_EVENT_FILE, &heard[i]);
	}
	for (unsigned long i = 0; i <= most; i++) /* in turns: equal ones are merged */
		CHECK_INT(pwrite(fds[i % 2], "x", 1, 0), 1);
	CHECK_INT(SYS(pwrite(fds[2], "x", 1, 0)), 1);
	process_until(client, &heard[2], SHMB_EVENT_FILE);
	CHECK(heard[0].calls > 0 && heard[1].calls > 0);
	for (unsigned i = 0; i < 3; i++) {
		close(fds[i]);
		shmb_region_free(regions[i]);
	}
	shmb_client_free(client);
}

CASE(F38_file_events_need_a_descriptor, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", SIZE, NULL);
	struct heard heard;

	CHECK_CODE(shmb_region_watch(region, SHMB_EVENT_FILE, 0, on_event, &heard), SHMB_ENOTSUP);
	CHECK_CODE(shmb_region_watch(region, 128, 0, on_event, &heard), SHMB_EINVAL);
	shmb_region_free(region);
	shmb_client_free(client);
}
