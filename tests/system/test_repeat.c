/* SPDX-License-Identifier: MIT */
/*
 * Requests whose answer was lost with the daemon, or with the connection, and that are sent again
 * to the next: each is done once, and answered as it was.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

static struct wire_region_info stat_name(struct raw *raw, const char *name)
{
	const struct wire_region_ref ref = { .has = WIRE_HAS(region_ref, name),
					     .name = wire_string(name) };
	struct wire_region_info info;

	CHECK_OK(raw_call(raw, WIRE_REGION_STAT, &ref, &info));
	return info;
}

/* ---- Requests whose answer was lost ---- */

union result {
	struct wire_region_attached region;
	struct wire_lock_attached lock;
	struct wire_semaphore_attached semaphore;
	struct wire_region_lock_result slot;
};

/* Each changes something, once. */
struct changes {
	struct wire_region_create_params create;
	struct wire_region_create_params create_or_open;
	struct wire_region_open_params open;
	struct wire_region_handle lock_of_region;
	struct wire_region_resize_params resize, grow;
	struct wire_region_chmod_params chmod;
	struct wire_region_chown_params chown;
	struct wire_lock_create_params lock_create;
	struct wire_lock_name lock_open;
	struct wire_semaphore_create_params semaphore_create;
	struct wire_semaphore_name semaphore_open;
	struct wire_remove_params remove;
	struct wire_region_handle close;
	struct {
		enum wire_method_id method;
		const void *params;
		unsigned n_fds;
		bool answers; /* with more than "done" */
	} all[16];
	size_t n;
};

static void add_change(struct changes *changes, enum wire_method_id method, const void *params,
		       unsigned n_fds, bool answers)
{
	changes->all[changes->n].method = method;
	changes->all[changes->n].params = params;
	changes->all[changes->n].n_fds = n_fds;
	changes->all[changes->n++].answers = answers;
}

static void list_changes(struct changes *c, uint64_t handle, uint64_t closing)
{
	c->n = 0;
	c->create = (struct wire_region_create_params){ .name = wire_string("new"), .size = 5000 };
	add_change(c, WIRE_REGION_CREATE, &c->create, 2, true);
	c->create_or_open = c->create;
	c->create_or_open.has = WIRE_HAS(region_create_params, open_existing);
	c->create_or_open.open_existing = true;
	add_change(c, WIRE_REGION_CREATE, &c->create_or_open, 2, true);
	c->open = (struct wire_region_open_params){ .name = wire_string("r"), .access = SHMB_READ };
	add_change(c, WIRE_REGION_OPEN, &c->open, 2, true);
	c->lock_of_region.handle = handle;
	add_change(c, WIRE_REGION_LOCK, &c->lock_of_region, 1, true);
	c->resize = (struct wire_region_resize_params){ .handle = handle, .size = 100 };
	add_change(c, WIRE_REGION_RESIZE, &c->resize, 0, false);
	c->grow = (struct wire_region_resize_params){ .handle = handle, .size = 60000 };
	add_change(c, WIRE_REGION_RESIZE, &c->grow, 0, false);
	c->chmod = (struct wire_region_chmod_params){ .name = wire_string("r"), .mode = 0755 };
	add_change(c, WIRE_REGION_CHMOD, &c->chmod, 0, false);
	c->chown = (struct wire_region_chown_params){ .has = WIRE_HAS(region_chown_params, gid),
						      .name = wire_string("r"),
						      .gid = getegid() };
	add_change(c, WIRE_REGION_CHOWN, &c->chown, 0, false);
	c->lock_create = (struct wire_lock_create_params){ .name = wire_string("lock") };
	add_change(c, WIRE_LOCK_CREATE, &c->lock_create, 1, true);
	c->lock_open.name = wire_string("lock");
	add_change(c, WIRE_LOCK_OPEN, &c->lock_open, 1, true);
	c->semaphore_create = (struct wire_semaphore_create_params){ .name = wire_string("sem"),
								     .kind = SHMB_OWNED,
								     .maximum = 3 };
	add_change(c, WIRE_SEMAPHORE_CREATE, &c->semaphore_create, 0, true);
	c->semaphore_open.name = wire_string("sem");
	add_change(c, WIRE_SEMAPHORE_OPEN, &c->semaphore_open, 0, true);
	c->remove = (struct wire_remove_params){ .name = wire_string("going") };
	add_change(c, WIRE_REGION_REMOVE, &c->remove, 0, false);
	c->close.handle = closing;
	add_change(c, WIRE_REGION_CLOSE, &c->close, 0, false);
}

/* A region of some room, and what the changes take away. */
static uint64_t prepare_changes(struct raw *raw, uint64_t *ret_closing)
{
	const struct wire_region_create_params params = {
		.has = WIRE_HAS(region_create_params, capacity),
		.name = wire_string("r"),
		.size = 4096,
		.capacity = 65536,
	};
	struct wire_region_attached attached;

	CHECK_OK(raw_call(raw, WIRE_REGION_CREATE, &params, &attached));
	raw_make(raw, "going", SHMB_PERSISTENT);
	*ret_closing = raw_make(raw, "closing", SHMB_ATTACHED);
	return attached.handle;
}

static void check_changes(struct raw *raw, uint64_t closing)
{
	struct wire_remove_params gone = { .name = wire_string("going") };
	struct wire_region_info info = stat_name(raw, "r");

	CHECK_INT(info.size, 60000);
	CHECK_INT(info.mode, 0755);
	CHECK_INT(info.attachments, 2);
	info = stat_name(raw, "new");
	CHECK_INT(info.size, 5000);
	CHECK_INT(info.attachments, 2);
	CHECK_CODE(raw_call(raw, WIRE_REGION_REMOVE, &gone, NULL), SHMB_ENOENT);
	CHECK_CODE(raw_stat_handle(raw, closing), SHMB_ENOENT);
}

CASE(what_was_done_is_answered_the_same_and_not_done_twice, PRIVATE, .timeout_s = 60)
{
	struct raw *raw = raw_greet(broker);
	uint64_t closing, handle = prepare_changes(raw, &closing);
	struct figures before, now;
	union result first, second;
	struct changes changes;
	uint32_t msgid;
	size_t i;

	list_changes(&changes, handle, closing);
	for (i = 0; i < changes.n; i++) {
		memset(&first, 0, sizeof(first));
		memset(&second, 0, sizeof(second));
		CHECK_OK(raw_call(raw, changes.all[i].method, changes.all[i].params, &first));
		msgid = raw->msgid;
		before = figures_read(broker);
		raw = raw_survive(broker, raw, 1);
		CHECK_OK(raw_repeat(raw, msgid, changes.all[i].method, changes.all[i].params,
				    &second));
		CHECK_INT(raw->packet.n_fds, changes.all[i].n_fds);
		if (changes.all[i].answers && memcmp(&first, &second, sizeof(first)) != 0)
			FAIL("%s is answered differently",
			     wire_methods[changes.all[i].method].name);
		now = figures_read(broker);
		figures_check(&now, &before);
	}
	check_changes(raw, closing);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
}

/* The daemon is stopped when the request comes, and dies so. */
CASE(what_was_not_done_is_done, PRIVATE, .timeout_s = 60)
{
	struct raw *raw = raw_greet(broker);
	uint64_t closing, handle = prepare_changes(raw, &closing);
	struct changes changes;
	union result result;
	uint32_t msgid;
	size_t i;

	list_changes(&changes, handle, closing);
	for (i = 0; i < changes.n; i++) {
		SYS(kill(broker->pid, SIGSTOP));
		CHECK_OK(raw_request(raw, changes.all[i].method, changes.all[i].params));
		msgid = raw->msgid;
		raw = raw_survive(broker, raw, 1);
		CHECK_OK(raw_repeat(raw, msgid, changes.all[i].method, changes.all[i].params,
				    &result));
		CHECK_INT(raw->packet.n_fds, changes.all[i].n_fds);
	}
	check_changes(raw, closing);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
}

CASE(descriptors_of_a_repeated_answer_are_of_the_same_memory, PRIVATE)
{
	struct wire_region_create_params params = { .name = wire_string("r"), .size = 4096 };
	struct raw *raw = raw_greet(broker);
	struct stat first[2], second[2];
	uint32_t msgid;

	CHECK_OK(raw_call(raw, WIRE_REGION_CREATE, &params, NULL));
	SYS(fstat(raw->packet.fds[0], &first[0]));
	SYS(fstat(raw->packet.fds[1], &first[1]));
	msgid = raw->msgid;
	raw = raw_survive(broker, raw, 1);
	CHECK_OK(raw_repeat(raw, msgid, WIRE_REGION_CREATE, &params, NULL));
	SYS(fstat(raw->packet.fds[0], &second[0]));
	SYS(fstat(raw->packet.fds[1], &second[1]));
	CHECK_INT(second[0].st_ino, first[0].st_ino);
	CHECK_INT(second[1].st_ino, first[1].st_ino);
	raw_free(raw);
}

CASE(what_failed_is_done_again, PRIVATE)
{
	struct wire_region_create_params params = { .name = wire_string("r"), .size = 4096 };
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached attached;
	uint32_t msgid;

	raw_make(raw, "r", SHMB_PERSISTENT);
	CHECK_CODE(raw_call(raw, WIRE_REGION_CREATE, &params, NULL), SHMB_EEXIST);
	msgid = raw->msgid;
	broker_crash(broker);
	broker_restart(broker);
	CHECK_OK(raw_remove(broker->probe, "r", RAW_REGION));
	raw = raw_return(broker, raw, 1);
	CHECK_OK(raw_repeat(raw, msgid, WIRE_REGION_CREATE, &params, &attached));
	CHECK(attached.created);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* The same over a connection that was dropped, with the daemon alive. */
CASE(who_was_dropped_repeats_what_was_not_answered, PRIVATE)
{
	struct wire_region_create_params params = { .name = wire_string("r"), .size = 4096 };
	struct wire_region_attached first, second;
	struct raw *raw = raw_greet(broker);
	uint32_t msgid;

	CHECK_OK(raw_call(raw, WIRE_REGION_CREATE, &params, &first));
	msgid = raw->msgid;
	raw_be_condemned(broker, raw);
	raw = raw_return(broker, raw, 1);
	CHECK_OK(raw_repeat(raw, msgid, WIRE_REGION_CREATE, &params, &second));
	CHECK_INT(second.handle, first.handle);
	CHECK_INT(second.id, first.id);
	CHECK(second.created);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	raw_free(raw);
}

/* ---- Resizes, which take their time ---- */

enum { LARGE = 64 << 20, SMALL = 4096 };

/* A region of much memory, all of it touched; its data's descriptor. */
static uint64_t make_large(struct raw *raw, const char *name, int *ret_fd)
{
	struct wire_region_attached attached;
	int fds[2];

	CHECK_OK(raw_create(raw, name, LARGE, 0700, SHMB_ATTACHED, &attached, fds));
	SYS(posix_fallocate(fds[0], 0, LARGE) == 0 ? 0 : -1);
	close(fds[1]);
	*ret_fd = fds[0];
	return attached.handle;
}

static bool is_small(int fd)
{
	struct stat st;

	SYS(fstat(fd, &st));
	return st.st_blocks * 512 <= 65536;
}

/* The memory goes in its own time, which a repeated answer does not wait for. */
static void check_shrunk(struct broker *broker, struct raw *raw, uint64_t handle, int fd)
{
	const struct wire_region_ref ref = { .has = WIRE_HAS(region_ref, handle),
					     .handle = handle };
	struct wire_region_info info;

	CHECK_OK(raw_call(raw, WIRE_REGION_STAT, &ref, &info));
	CHECK_INT(info.size, SMALL);
	UNTIL(broker, is_small(fd));
}

CASE(a_resize_that_was_cut_short_is_finished, PRIVATE, .timeout_s = 60)
{
	struct wire_region_resize_params params = { .size = SMALL };
	struct raw *raw = raw_greet(broker);
	unsigned i;
	uint32_t msgid;
	int fd;

	for (i = 0; i < 12; i++) {
		int64_t start = broker_cpu_us(broker), until = harness_now_ms() + 1000;

		params.handle = make_large(raw, "r", &fd);
		CHECK_OK(raw_request(raw, WIRE_REGION_RESIZE, &params));
		msgid = raw->msgid;
		while (broker_cpu_us(broker) < start + 300 * i && harness_now_ms() < until)
			;
		raw = raw_survive(broker, raw, 1);
		CHECK_OK(raw_repeat(raw, msgid, WIRE_REGION_RESIZE, &params, NULL));
		check_shrunk(broker, raw, params.handle, fd);
		close(fd);
		CHECK_OK(raw_close(raw, params.handle));
	}
	raw_free(raw);
}

/* Nobody repeats it: it is finished even so, or was never begun. */
CASE(a_resize_that_was_cut_short_leaves_one_of_both_sizes, PRIVATE, .timeout_s = 60)
{
	struct wire_region_resize_params params = { .size = SMALL };
	struct raw *raw = raw_greet(broker);
	struct wire_region_info info;
	unsigned i;
	int fd;

	for (i = 0; i < 12; i++) {
		int64_t start = broker_cpu_us(broker), until = harness_now_ms() + 1000;

		params.handle = make_large(raw, "r", &fd);
		CHECK_OK(raw_request(raw, WIRE_REGION_RESIZE, &params));
		while (broker_cpu_us(broker) < start + 300 * i && harness_now_ms() < until)
			;
		raw = raw_survive(broker, raw, 0);
		info = stat_name(raw, "r");
		if (info.size == SMALL)
			UNTIL(broker, is_small(fd));
		else
			CHECK_INT(info.size, LARGE);
		close(fd);
		CHECK_OK(raw_close(raw, params.handle));
	}
	raw_free(raw);
}

/* The daemon lives and is at it when the request is repeated: it is answered once. */
CASE(a_resize_that_is_under_way_is_answered_once, PRIVATE, .timeout_s = 60)
{
	struct wire_region_resize_params params = { .size = SMALL };
	struct raw *raw = raw_greet(broker);
	unsigned i;
	uint32_t msgid;
	int fd;

	for (i = 0; i < 8; i++) {
		params.handle = make_large(raw, "r", &fd);
		CHECK_OK(raw_request(raw, WIRE_REGION_RESIZE, &params));
		msgid = raw->msgid;
		CHECK_OK(raw_send(raw, "nonsense", 8, NULL, 0));
		raw_goodbye(raw);
		raw = raw_return(broker, raw, 1);
		CHECK_OK(raw_repeat(raw, msgid, WIRE_REGION_RESIZE, &params, NULL));
		check_shrunk(broker, raw, params.handle, fd);
		CHECK_OK(raw_call(raw, WIRE_PING, NULL, NULL)); /* and not a second answer first */
		CHECK(!raw_ready(raw, 0));
		close(fd);
		CHECK_OK(raw_close(raw, params.handle));
	}
	raw_free(raw);
}

/* ---- As many as there may be ---- */

enum { UNANSWERED = 64 };

static struct wire_semaphore_create_params semaphore_named(unsigned i, char name[16])
{
	snprintf(name, 16, "s%u", i);
	return (struct wire_semaphore_create_params){ .name = wire_string(name),
						      .kind = SHMB_COUNTING,
						      .maximum = 1 };
}

/* Creates semaphores, which must not be there yet; and remembers what handles they got. */
static void create_semaphores(struct raw *raw, unsigned n, uint64_t *ret_handles)
{
	struct wire_semaphore_create_params params;
	struct wire_semaphore_attached attached;
	char name[16];
	unsigned i;

	for (i = 0; i < n; i++) {
		params = semaphore_named(i, name);
		CHECK_OK(raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, &attached));
		ret_handles[i] = attached.handle;
	}
}

CASE(sixty_four_lost_answers_are_given_again, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	struct wire_semaphore_create_params params;
	struct wire_semaphore_attached attached;
	uint64_t handles[UNANSWERED];
	uint32_t first = raw->msgid + 1;
	char name[16];
	unsigned i;

	create_semaphores(raw, UNANSWERED, handles);
	raw = raw_survive(broker, raw, UNANSWERED);
	for (i = 0; i < UNANSWERED; i++) {
		params = semaphore_named(i, name);
		CHECK_OK(raw_repeat(raw, first + i, WIRE_SEMAPHORE_CREATE, &params, &attached));
		CHECK_INT(attached.handle, handles[i]);
		CHECK(attached.created);
	}
	CHECK_INT(broker_stat(broker, "semaphores"), UNANSWERED);
	CHECK_INT(broker_stat(broker, "attachments"), UNANSWERED);
	/* What follows is not repeated, whatever its number. */
	CHECK_CODE(raw_repeat(raw, first, WIRE_SEMAPHORE_CREATE, &params, &attached), SHMB_EEXIST);
	raw_free(raw);
}

CASE(more_than_sixty_four_are_not_remembered, PRIVATE)
{
	enum { TOO_MANY = UNANSWERED + 6 };
	struct raw *raw = raw_greet(broker);
	struct wire_semaphore_create_params params;
	struct wire_semaphore_attached attached;
	uint64_t handles[TOO_MANY];
	uint32_t first = raw->msgid + 1;
	char name[16];
	unsigned i;
	int r;

	create_semaphores(raw, TOO_MANY, handles);
	raw = raw_survive(broker, raw, TOO_MANY);
	for (i = 0; i < TOO_MANY; i++) {
		params = semaphore_named(i, name);
		r = raw_repeat(raw, first + i, WIRE_SEMAPHORE_CREATE, &params, &attached);
		CHECK_CODE(r, i < TOO_MANY - UNANSWERED ? SHMB_EEXIST : 0);
		if (r == 0)
			CHECK_INT(attached.handle, handles[i]);
	}
	CHECK_INT(broker_stat(broker, "semaphores"), TOO_MANY);
	raw_free(raw);
}

/* The daemon dies somewhere in the middle of them. */
CASE(each_of_many_is_done_once_whenever_the_daemon_dies, PRIVATE, .timeout_s = 90)
{
	struct wire_semaphore_create_params params;
	struct wire_semaphore_attached attached;
	uint64_t handles[UNANSWERED];
	unsigned round, i, k;
	struct raw *raw;
	char name[16];
	uint32_t first;

	for (round = 0; round < 20; round++) {
		raw = raw_greet(broker);
		first = raw->msgid + 1;
		for (i = 0; i < UNANSWERED; i++) {
			params = semaphore_named(i, name);
			CHECK_OK(raw_request(raw, WIRE_SEMAPHORE_CREATE, &params));
		}
		for (i = 0; i < round; i++) /* about so many answers arrive */
			raw_receive(raw);
		raw = raw_survive(broker, raw, UNANSWERED);
		for (i = 0; i < UNANSWERED; i++) {
			params = semaphore_named(i, name);
			CHECK_OK(raw_repeat(raw, first + i, WIRE_SEMAPHORE_CREATE, &params,
					    &attached));
			CHECK(attached.created);
			handles[i] = attached.handle;
			for (k = 0; k < i; k++)
				CHECK(handles[k] != handles[i]);
		}
		CHECK_INT(broker_stat(broker, "semaphores"), UNANSWERED);
		CHECK_INT(broker_stat(broker, "attachments"), UNANSWERED);
		raw_free(raw);
		UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	}
}

/* ---- Odd repetitions ---- */

CASE(more_announced_than_sent_is_harmless, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	raw = raw_survive(broker, raw, UINT32_MAX);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_make(raw, "new", SHMB_ATTACHED);
	CHECK_INT(broker_stat(broker, "regions"), 2);
	raw = raw_survive(broker, raw, 1000);
	CHECK_OK(raw_close(raw, handle));
	CHECK_INT(broker_stat(broker, "regions"), 1);
	raw_free(raw);
}

CASE(a_close_that_is_repeated_closes_nothing_else, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);
	struct wire_region_handle params = { .handle = handle };
	uint64_t other = raw_make(raw, "other", SHMB_ATTACHED);
	uint32_t msgid;

	CHECK_OK(raw_close(raw, handle));
	msgid = raw->msgid;
	raw = raw_survive(broker, raw, 1);
	CHECK_OK(raw_repeat(raw, msgid, WIRE_REGION_CLOSE, &params, NULL));
	CHECK_CODE(raw_close(raw, handle), SHMB_ENOENT);
	CHECK_OK(raw_stat_handle(raw, other));
	/* As a notification, too, which may come any number of times. */
	raw_free(raw);
}

static void notify_close(struct raw *raw, uint64_t handle)
{
	const struct wire_region_handle params = { .handle = handle };
	struct wire_buffer buffer;

	CHECK_OK(wire_encode_notification(&buffer, WIRE_REGION_CLOSE, &params));
	CHECK_OK(raw_send(raw, buffer.data, buffer.length, NULL, 0));
}

CASE(notifications_between_repeated_requests_are_harmless, PRIVATE)
{
	struct wire_region_create_params params = { .name = wire_string("new"), .size = 1 };
	struct wire_region_attached first, second;
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);
	uint32_t msgid;

	notify_close(raw, handle);
	CHECK_OK(raw_call(raw, WIRE_REGION_CREATE, &params, &first));
	msgid = raw->msgid;
	raw = raw_survive(broker, raw, 1);
	notify_close(raw, handle);
	notify_close(raw, handle);
	CHECK_OK(raw_repeat(raw, msgid, WIRE_REGION_CREATE, &params, &second));
	CHECK_INT(second.handle, first.handle);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	raw_free(raw);
}

/* Who repeats what it never asked for confuses itself alone. */
CASE(lies_about_what_was_sent_before_harm_nobody_else, PRIVATE)
{
	struct raw *raw = raw_greet(broker), *other = raw_greet(broker);
	struct wire_remove_params remove = { .name = wire_string("theirs") };
	struct wire_region_handle close_it = { .handle = 1 };
	struct wire_region_open_params open_it = { .name = wire_string("theirs"),
						   .access = SHMB_READ };
	struct wire_lock_name lock = { .name = wire_string("r") };
	struct wire_semaphore_name semaphore = { .name = wire_string("r") };
	uint64_t theirs = raw_make(other, "theirs", SHMB_ATTACHED);
	uint32_t msgid;

	raw_make(raw, "r", SHMB_ATTACHED);
	msgid = raw->msgid;
	CHECK_OK(raw_close(raw, 1));
	broker_crash(broker);
	broker_restart(broker);
	other = raw_return(broker, other, 0);
	raw = raw_return(broker, raw, 64);
	/* Neither the method nor the arguments are those of then; the handle is closed. */
	raw_repeat(raw, msgid, WIRE_REGION_OPEN, &open_it, NULL);
	raw_repeat(raw, msgid, WIRE_REGION_REMOVE, &remove, NULL);
	raw_repeat(raw, msgid, WIRE_REGION_CLOSE, &close_it, NULL);
	raw_repeat(raw, msgid, WIRE_LOCK_OPEN, &lock, NULL);
	raw_repeat(raw, msgid, WIRE_SEMAPHORE_OPEN, &semaphore, NULL);
	raw_repeat(raw, msgid, WIRE_REGION_LOCK, &close_it, NULL);
	raw_repeat(raw, msgid, WIRE_STATS, NULL, NULL);
	CHECK_OK(raw_stat_handle(other, theirs));
	raw_free(raw);
	raw_free(other);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
}

/* A handle is of one kind for ever: a repeated answer of another is none. */
CASE(a_repeated_request_of_another_kind_gets_no_slot, PRIVATE)
{
	struct wire_semaphore_create_params params;
	struct wire_lock_name lock = { .name = wire_string("s0") };
	struct wire_region_open_params region = { .name = wire_string("s0"), .access = SHMB_READ };
	struct raw *raw = raw_greet(broker);
	uint32_t msgid;
	char name[16];

	params = semaphore_named(0, name);
	CHECK_OK(raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, NULL));
	msgid = raw->msgid;
	raw = raw_survive(broker, raw, 3);
	CHECK(raw_repeat(raw, msgid, WIRE_LOCK_OPEN, &lock, NULL) != 0);
	CHECK(raw_repeat(raw, msgid, WIRE_REGION_OPEN, &region, NULL) != 0);
	CHECK_OK(raw_repeat(raw, msgid, WIRE_SEMAPHORE_CREATE, &params, NULL));
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	raw_free(raw);
}
