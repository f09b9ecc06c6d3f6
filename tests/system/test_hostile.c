/* SPDX-License-Identifier: MIT */
/*
 * Peers that break the protocol, each in its way: answered or dropped as the protocol says, alone,
 * and without costing the daemon anything.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness.h"

/* The daemon ends this connection with this error, and serves others. */
static void check_dropped(struct broker *broker, struct raw *raw, int code)
{
	CHECK_CODE(raw_goodbye(raw), code);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
	CHECK_INT(broker_stat(broker, "dropped_total"), 1);
}

static struct raw *said_hello(struct broker *broker)
{
	struct raw *raw = raw_connect(broker);

	raw_hello(raw);
	return raw;
}

static void send_bytes(struct raw *raw, const void *bytes, size_t length)
{
	CHECK_OK(raw_send(raw, bytes, length, NULL, 0));
}

CASE(no_hello, PRIVATE)
{
	struct raw *raw = raw_connect(broker);

	CHECK_OK(raw_request(raw, WIRE_PING, NULL));
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(hello_twice, PRIVATE)
{
	struct wire_hello_params params = { .version_min = 1, .version_max = 1 };
	struct raw *raw = said_hello(broker);

	CHECK_OK(raw_request(raw, WIRE_HELLO, &params));
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(hello_as_a_notification, PRIVATE)
{
	struct wire_hello_params params = { .version_min = 1, .version_max = 1 };
	struct raw *raw = raw_connect(broker);
	struct wire_buffer buffer;

	CHECK_OK(wire_encode_notification(&buffer, WIRE_HELLO, &params));
	send_bytes(raw, buffer.data, buffer.length);
	check_dropped(broker, raw, SHMB_EPROTO);
}

/* Nobody answers it, but it would begin the session a second time. */
CASE(hello_again_as_a_notification, PRIVATE)
{
	struct wire_hello_params params = { .version_min = 1, .version_max = 1 };
	struct raw *raw = said_hello(broker);
	struct wire_buffer buffer;

	CHECK_OK(wire_encode_notification(&buffer, WIRE_HELLO, &params));
	send_bytes(raw, buffer.data, buffer.length);
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(versions_are_negotiated, PRIVATE)
{
	static const struct {
		uint64_t min, max;
		int code;
	} offers[] = { { 2, 9, SHMB_EVERSION },
		       { UINT32_MAX, UINT32_MAX, SHMB_EVERSION },
		       { 0, 1, SHMB_EINVAL },
		       { 1, 9, 0 } };
	struct wire_hello_result result;
	struct raw *raw;
	size_t i;

	for (i = 0; i < 4; i++) {
		struct wire_hello_params params = { .version_min = offers[i].min,
						    .version_max = offers[i].max };

		if (offers[i].min == 0)
			continue; /* our own encoder would refuse; see the corpus */
		raw = raw_connect(broker);
		CHECK_CODE(raw_call(raw, WIRE_HELLO, &params, &result), offers[i].code);
		raw_free(raw);
	}
	CHECK_INT(result.version, 1);
	CHECK_INT(result.page_size, sysconf(_SC_PAGESIZE));
	CHECK_INT(result.session.length, 16);
	/* A refused offer is an answer: the next one may fit. */
	raw = raw_connect(broker);
	CHECK_CODE(raw_call(raw, WIRE_HELLO,
			    &(struct wire_hello_params){ .version_min = 5, .version_max = 6 },
			    NULL),
		   SHMB_EVERSION);
	raw_hello(raw);
	raw_free(raw);
}

CASE(sessions_have_tokens_of_their_own, PRIVATE)
{
	struct wire_hello_params params = { .version_min = 1, .version_max = 1 };
	struct wire_hello_result result;
	char tokens[2][16];
	int i;

	for (i = 0; i < 2; i++) {
		struct raw *raw = raw_connect(broker);

		CHECK_OK(raw_call(raw, WIRE_HELLO, &params, &result));
		memcpy(tokens[i], result.session.data, 16);
		raw_free(raw);
	}
	CHECK(memcmp(tokens[0], tokens[1], 16) != 0);
}

CASE(garbage, PRIVATE)
{
	struct raw *raw = said_hello(broker);

	send_bytes(raw, "\xde\xad\xbe\xef", 4);
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(garbage_instead_of_hello, PRIVATE)
{
	struct raw *raw = raw_connect(broker);

	send_bytes(raw, "GET / HTTP/1.1\r\n\r\n", 18);
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(an_empty_packet, PRIVATE)
{
	struct raw *raw = said_hello(broker);

	CHECK_INT(send(raw->socket, "", 0, 0), 0);
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(an_oversize_packet, PRIVATE)
{
	static char bytes[WIRE_PACKET_MAX + 1];
	struct raw *raw = said_hello(broker);

	memset(bytes, 0xc0, sizeof(bytes));
	send_bytes(raw, bytes, sizeof(bytes));
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(two_messages_in_one_packet, PRIVATE)
{
	static const struct wire_empty empty;
	struct raw *raw = said_hello(broker);
	struct wire_buffer buffer;
	char twice[256];

	CHECK_OK(wire_encode_request(&buffer, 9, WIRE_PING, &empty, 0));
	memcpy(twice, buffer.data, buffer.length);
	memcpy(twice + buffer.length, buffer.data, buffer.length);
	send_bytes(raw, twice, 2 * buffer.length);
	check_dropped(broker, raw, SHMB_EPROTO);
}

/* [0, 5, "ping", {}] and its like, by hand: what our encoder would not write. */
#define BYTES(literal) literal, sizeof(literal) - 1

static int answer_to(struct raw *raw, const void *bytes, size_t length, uint32_t msgid)
{
	send_bytes(raw, bytes, length);
	CHECK_INT(raw_receive(raw), 1);
	CHECK_INT(raw->message.kind, WIRE_RESPONSE);
	CHECK_INT(raw->message.msgid, msgid);
	return raw->message.failed ? wire_error_code(raw->error.code.data, raw->error.code.length)
				   : 0;
}

CASE(unknown_methods_are_answered, PRIVATE)
{
	struct raw *raw = said_hello(broker);

	CHECK_CODE(answer_to(raw, BYTES("\x94\x00\x05\xa5zzzzz\x80"), 5), SHMB_ENOSYS);
	CHECK_CODE(answer_to(raw, BYTES("\x94\x00\x06\xa0\x80"), 6), SHMB_ENOSYS);
	/* What only the broker says is no method of a client. */
	CHECK_CODE(answer_to(raw, BYTES("\x94\x00\x07\xacregion.event\x80"), 7), SHMB_ENOSYS);
	CHECK_CODE(answer_to(raw, BYTES("\x94\x00\x08\xa7goodbye\x80"), 8), SHMB_ENOSYS);
	CHECK_OK(raw_call(raw, WIRE_PING, NULL, NULL));
	raw_free(raw);
}

CASE(unknown_fields_are_ignored, PRIVATE)
{
	struct raw *raw = said_hello(broker);

	CHECK_OK(answer_to(raw,
			   BYTES("\x94\x00\x05\xa4ping\x82\xa3new\x93\x01\x02\x81\xa1x\xc0\xa5other"
				 "\xc3"),
			   5));
	raw_free(raw);
}

CASE(bad_params_are_answered_and_survived, PRIVATE)
{
	struct raw *raw = said_hello(broker);

	/* missing, of the wrong type, out of range, doubled */
	CHECK_CODE(answer_to(raw, BYTES("\x94\x00\x01\xabregion.open\x80"), 1), SHMB_EINVAL);
	CHECK_CODE(answer_to(raw,
			     BYTES("\x94\x00\x02\xabregion.open\x82\xa4name\x05\xa6"
				   "access\x04"),
			     2),
		   SHMB_EINVAL);
	CHECK_CODE(answer_to(raw,
			     BYTES("\x94\x00\x03\xabregion.open\x82\xa4name\xa1x\xa6"
				   "access\x08"),
			     3),
		   SHMB_EINVAL);
	CHECK_CODE(answer_to(raw,
			     BYTES("\x94\x00\x04\xabregion.open\x83\xa4name\xa1x\xa4name\xa1y\xa6"
				   "access\x04"),
			     4),
		   SHMB_EINVAL);
	CHECK_CODE(answer_to(raw,
			     BYTES("\x94\x00\x05\xabregion.open\x82\xa4name\xa3/\0/\xa6"
				   "access\x04"),
			     5),
		   SHMB_EINVAL);
	CHECK_OK(raw_call(raw, WIRE_PING, NULL, NULL));
	raw_free(raw);
}

CASE(a_stated_descriptor_that_did_not_come, PRIVATE)
{
	struct raw *raw = said_hello(broker);

	CHECK_CODE(answer_to(raw,
			     BYTES("\x94\x00\x05\xa4ping\x81\xa3"
				   "fds\x01"),
			     5),
		   SHMB_EPROTO);
	CHECK_OK(raw_call(raw, WIRE_PING, NULL, NULL));
	raw_free(raw);
}

CASE(a_response_sent_to_the_daemon, PRIVATE)
{
	struct raw *raw = said_hello(broker);

	send_bytes(raw, BYTES("\x94\x01\x05\xc0\x80"));
	check_dropped(broker, raw, SHMB_EPROTO);
}

CASE(requests_as_notifications_get_no_answer, PRIVATE)
{
	struct wire_region_create_params params = { .name = wire_string("quiet"), .size = 4096 };
	struct raw *raw = said_hello(broker);
	struct wire_buffer buffer;

	CHECK_OK(wire_encode_notification(&buffer, WIRE_PING, &(struct wire_empty){ 0 }));
	send_bytes(raw, buffer.data, buffer.length);
	CHECK_OK(wire_encode_notification(&buffer, WIRE_STATS, &(struct wire_empty){ 0 }));
	send_bytes(raw, buffer.data, buffer.length);
	/* Nor does what fails, and nothing leaks of what nobody can be handed. */
	CHECK_OK(wire_encode_notification(&buffer, WIRE_REGION_CREATE, &params));
	send_bytes(raw, buffer.data, buffer.length);
	send_bytes(raw, BYTES("\x93\x02\xa5zzzzz\x80"));
	send_bytes(raw, BYTES("\x93\x02\xabregion.open\x80"));
	CHECK_OK(raw_request(raw, WIRE_PING, NULL));
	CHECK_INT(raw_receive(raw), 1);
	CHECK_INT(raw->message.kind, WIRE_RESPONSE); /* the first and only thing that comes */
	CHECK_INT(raw->message.msgid, raw->msgid);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(handles_of_others_and_of_yesterday, PRIVATE)
{
	struct wire_region_attached mine;
	struct raw *raw = said_hello(broker), *other = said_hello(broker);
	struct wire_region_handle close_params = { 0 };
	struct wire_region_resize_params resize = { .size = 1 };
	struct wire_region_watch_params watch = { .types = 7, .size = 4096 };
	int fds[2];

	CHECK_OK(raw_create(raw, "mine", 4096, 0700, SHMB_ATTACHED, &mine, fds));
	close(fds[0]);
	close(fds[1]);
	close_params.handle = resize.handle = watch.handle = mine.handle;
	CHECK_CODE(raw_call(other, WIRE_REGION_RESIZE, &resize, NULL), SHMB_ENOENT);
	CHECK_CODE(raw_call(other, WIRE_REGION_WATCH, &watch, NULL), SHMB_ENOENT);
	CHECK_CODE(raw_call(other, WIRE_REGION_CLOSE, &close_params, NULL), SHMB_ENOENT);
	CHECK_CODE(raw_call(other, WIRE_REGION_PUBLISHED, &close_params, NULL), SHMB_ENOENT);
	CHECK_OK(raw_call(raw, WIRE_REGION_CLOSE, &close_params, NULL));
	CHECK_CODE(raw_call(raw, WIRE_REGION_CLOSE, &close_params, NULL), SHMB_ENOENT);
	close_params.handle = UINT32_MAX;
	CHECK_CODE(raw_call(raw, WIRE_REGION_CLOSE, &close_params, NULL), SHMB_ENOENT);
	raw_free(raw);
	raw_free(other);
}

CASE(stat_wants_a_name_or_a_handle, PRIVATE)
{
	struct wire_region_ref both = { .has = WIRE_HAS(region_ref, name) |
					       WIRE_HAS(region_ref, handle),
					.name = wire_string("x"),
					.handle = 1 };
	struct wire_region_ref none = { 0 };
	struct raw *raw = said_hello(broker);

	CHECK_CODE(raw_call(raw, WIRE_REGION_STAT, &both, NULL), SHMB_EINVAL);
	CHECK_CODE(raw_call(raw, WIRE_REGION_STAT, &none, NULL), SHMB_EINVAL);
	raw_free(raw);
}

CASE(a_reader_cannot_resize_or_tell, PRIVATE)
{
	struct wire_region_attached attached;
	struct raw *raw = said_hello(broker);
	struct wire_region_resize_params resize = { .size = 1 };
	int fds[4];

	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_ATTACHED, &attached, fds));
	CHECK_OK(raw_open(raw, "r", SHMB_READ, &attached, fds + 2));
	resize.handle = attached.handle;
	CHECK_CODE(raw_call(raw, WIRE_REGION_RESIZE, &resize, NULL), SHMB_EMODE);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	raw_free(raw);
}

CASE(cursors_are_checked, PRIVATE)
{
	struct wire_region_list_params params = { .has = WIRE_HAS(region_list_params, cursor),
						  .cursor = wire_string("../../etc") };
	struct wire_region_list_result result;
	struct raw *raw = said_hello(broker);
	int r = raw_call(raw, WIRE_REGION_LIST, &params, &result);

	CHECK(r == SHMB_EINVAL || (r == 0 && result.n_regions == 0));
	params.cursor = wire_string("no/such/region");
	CHECK_OK(raw_call(raw, WIRE_REGION_LIST, &params, &result));
	CHECK_INT(result.n_regions, 0);
	raw_free(raw);
}

/* The worst a page of a list can be: 64 of the longest names still fit into one packet. */
CASE(a_page_of_the_longest_names, PRIVATE)
{
	struct wire_region_list_params params = { 0 };
	struct wire_region_list_result result;
	struct wire_region_attached attached;
	struct raw *raw = said_hello(broker);
	char name[SHMB_NAME_MAX + 1];
	size_t seen = 0;
	int i, fds[2];

	memset(name, 'n', SHMB_NAME_MAX);
	name[SHMB_NAME_MAX] = '\0';
	for (i = 0; i < 70; i++) {
		name[SHMB_NAME_MAX - 2] = (char)('a' + i / 26);
		name[SHMB_NAME_MAX - 1] = (char)('a' + i % 26);
		CHECK_OK(raw_create(raw, name, 1 << 29, 0777, SHMB_ATTACHED, &attached, fds));
		close(fds[0]);
		close(fds[1]);
	}
	do {
		char cursor[201] = "";

		CHECK_OK(raw_call(raw, WIRE_REGION_LIST, &params, &result));
		seen += result.n_regions;
		if (!(result.has & WIRE_HAS(region_list_result, cursor)))
			break;
		memcpy(cursor, result.cursor.data, result.cursor.length);
		memcpy(name, cursor, sizeof(name));
		params.has = WIRE_HAS(region_list_params, cursor);
		params.cursor = wire_string(name);
	} while (1);
	CHECK_INT(seen, 70);
	raw_free(raw);
}

/* Every file of the corpus, as a first packet and as a later one. */
static void send_corpus_file(struct broker *broker, const char *path, bool hello)
{
	char bytes[WIRE_PACKET_MAX + 2];
	int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
	ssize_t n = SYS(read(fd, bytes, sizeof(bytes)));
	struct raw *raw = raw_connect(broker);

	close(fd);
	if (hello)
		raw_hello(raw);
	raw_send(raw, bytes, (size_t)n, NULL, 0);
	shutdown(raw->socket, SHUT_WR);
	while (raw_ready(raw, 10000) && recv(raw->socket, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	raw_free(raw);
}

CASE(the_whole_corpus_does_no_harm, PRIVATE, .timeout_s = 60)
{
	char path[512];
	struct dirent *entry;
	DIR *directory = opendir(SHMB_TEST_CORPUS);
	unsigned n = 0;

	if (!directory)
		SKIP("no corpus");
	while ((entry = readdir(directory))) {
		if (strncmp(entry->d_name, "ok_", 3) != 0 && strncmp(entry->d_name, "bad_", 4) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", SHMB_TEST_CORPUS, entry->d_name);
		send_corpus_file(broker, path, false);
		send_corpus_file(broker, path, true);
		n++;
	}
	closedir(directory);
	CHECK(n > 0);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
}

/* Connections that come and go in the middle of everything, without a word. */
CASE(hit_and_run, PRIVATE)
{
	struct wire_region_create_params params = { .name = wire_string("run"), .size = 4096 };
	int i;

	for (i = 0; i < 500; i++) {
		struct raw *raw = raw_connect(broker);

		if (i % 3)
			CHECK_OK(raw_request(
				raw, WIRE_HELLO,
				&(struct wire_hello_params){ .version_min = 1, .version_max = 1 }));
		if (i % 3 == 2)
			CHECK_OK(raw_request(raw, WIRE_REGION_CREATE, &params));
		raw_free(raw);
	}
	UNTIL(broker, broker_stat(broker, "accepted_total") == 501);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* A client that shuts its sending side has said all, and still gets its answers. */
CASE(half_closed, PRIVATE)
{
	struct raw *raw = said_hello(broker);
	int i;

	for (i = 0; i < 3; i++)
		CHECK_OK(raw_request(raw, WIRE_PING, NULL));
	SYS(shutdown(raw->socket, SHUT_WR));
	for (i = 0; i < 3; i++)
		CHECK_INT(raw_receive(raw), 1);
	CHECK_CODE(raw_goodbye(raw), SHMB_ECLOSED); /* what it had is undone by now, for good */
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
}

/* A page that ends with the region whose name is the prefix itself. */
CASE(a_list_goes_on_behind_the_name_that_is_its_prefix, PRIVATE)
{
	struct wire_region_list_params params = {
		.has = WIRE_HAS(region_list_params, prefix) | WIRE_HAS(region_list_params, limit),
		.prefix = wire_string("foo"),
		.limit = 1,
	};
	struct wire_region_list_result result;
	struct raw *raw = raw_connect(broker);
	struct wire_region_attached attached;
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_create(raw, "foo", 1, 0700, SHMB_SESSION, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	CHECK_OK(raw_create(raw, "foobar", 1, 0700, SHMB_SESSION, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	CHECK_OK(raw_call(raw, WIRE_REGION_LIST, &params, &result));
	CHECK_INT(result.n_regions, 1);
	CHECK(result.has & WIRE_HAS(region_list_result, cursor));
	params.has |= WIRE_HAS(region_list_params, cursor);
	params.cursor = wire_string("foo");
	CHECK_OK(raw_call(raw, WIRE_REGION_LIST, &params, &result));
	CHECK_INT(result.n_regions, 1);
	CHECK_INT(result.regions[0].name.length, strlen("foobar"));
	CHECK(!(result.has & WIRE_HAS(region_list_result, cursor)));
	raw_free(raw);
}

/* ---- Locks that the kernel takes ---- */

enum { DATA, PAGE, DATA_ALONE }; /* the last: of a region that it is not attached to any more */

/*
 * A write(2) that never ends, with the lock of the file held: its page fault is served by nobody.
 * A user without privileges has FUSE for it.
 */
static void write_for_ever(struct broker *broker, void *argument)
{
	struct uffdio_register whole = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	size_t length = (size_t)SYS(sysconf(_SC_PAGESIZE));
	void *page = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct raw *raw = raw_connect(broker);
	struct wire_region_attached attached;
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_open(raw, "held", SHMB_READ | SHMB_WRITE, &attached, fds));
	CHECK(page != MAP_FAILED);
	whole.range = (struct uffdio_range){ (uintptr_t)page, length };
	if (faults < 0 || ioctl(faults, UFFDIO_API, &api) < 0 ||
	    ioctl(faults, UFFDIO_REGISTER, &whole) < 0) {
		say(0);
		raw_free(raw);
		return;
	}
	if (fork() == 0) { /* tells that the fault has been taken */
		struct uffd_msg message;

		CHECK(read(faults, &message, sizeof(message)) == sizeof(message));
		say(1);
		_exit(0);
	}
	if (*(int *)argument == DATA_ALONE)
		CHECK_OK(raw_close(raw, attached.handle));
	CHECK(pwrite(fds[*(int *)argument == PAGE], page, 8, 0) == 8);
}

/* A region one of whose segments is locked for ever by another process. */
struct held {
	struct raw *raw; /* attached to it, too */
	uint32_t handle;
	struct actor writer;
	int fds[2];
};

static void make_held(struct held *held, const char *name, uint64_t backing)
{
	const struct wire_region_create_params params = {
		.name = wire_string(name),
		.size = 4096,
		.has = WIRE_HAS(region_create_params, backing),
		.backing = backing,
	};
	struct wire_region_attached attached;

	CHECK_OK(raw_call(held->raw, WIRE_REGION_CREATE, &params, &attached));
	held->handle = (uint32_t)attached.handle;
	for (int i = 0; i < 2; i++) {
		held->fds[i] = held->raw->packet.fds[i];
		held->raw->packet.fds[i] = -1;
	}
}

static struct held hold_lock(struct broker *broker, int which, uint64_t backing)
{
	struct held held = { .raw = raw_connect(broker) };

	raw_hello(held.raw);
	make_held(&held, "held", backing);
	held.writer = actor_start(broker, &SELF, write_for_ever, &which);
	if (actor_hear(&held.writer) != 1) {
		actor_end(&held.writer);
		SKIP("userfaultfd is not to be had");
	}
	return held;
}

static void held_free(struct held *held)
{
	close(held->fds[0]);
	close(held->fds[1]);
	raw_free(held->raw);
}

CASE(a_writer_that_holds_the_lock_of_the_publish_page, SYSTEM)
{
	struct wire_region_watch_params watch = { .types = SHMB_EVENT_PUBLISHED, .size = 4096 };
	struct held held = hold_lock(broker, PAGE, SHMB_BACKING_MEMFD);

	watch.handle = held.handle;
	CHECK_OK(raw_call(held.raw, WIRE_REGION_WATCH, &watch, NULL));
	broker_turn(broker);
	actor_kill(&held.writer);
	held_free(&held);
}

CASE(a_writer_that_holds_the_lock_of_the_data, SYSTEM)
{
	struct held held = hold_lock(broker, DATA, SHMB_BACKING_MEMFD);
	struct wire_region_resize_params resize = { .handle = held.handle, .size = 1 };

	CHECK_OK(raw_request(held.raw, WIRE_REGION_RESIZE, &resize));
	broker_turn(broker); /* others are served while it waits */
	CHECK(!raw_ready(held.raw, 0));
	actor_kill(&held.writer);
	CHECK_INT(raw_receive(held.raw), 1);
	CHECK(!held.raw->message.failed);
	held_free(&held);
}

/* Whoever waits for such a lock outlives SIGKILL. The daemon does not: connections end, and the
 * next one can begin. */
CASE(a_daemon_that_is_killed_while_memory_is_waited_for_dies, SYSTEM, .fd_store = 64)
{
	struct held held = hold_lock(broker, DATA, SHMB_BACKING_MEMFD);
	struct wire_region_resize_params resize = { .handle = held.handle, .size = 1 };

	CHECK_OK(raw_request(held.raw, WIRE_REGION_RESIZE, &resize));
	broker_turn(broker);
	SYS(kill(broker->pid, SIGKILL));
	CHECK_CODE(raw_goodbye(held.raw), 0);
	CHECK_INT(broker_await(broker), 1000 + SIGKILL);
	broker_restart(broker);
	held.raw = raw_return(broker, held.raw, 0);
	CHECK_OK(raw_call(held.raw, WIRE_PING, NULL, NULL));
	actor_kill(&held.writer);
	CHECK_OK(raw_call(held.raw, WIRE_REGION_RESIZE, &resize, NULL)); /* behind what was begun */
	held_free(&held);
}

/* The same if it is told to end: what is to stay is there, and the rest is not waited for. */
CASE(a_daemon_that_leaves_while_memory_is_waited_for_ends, SYSTEM, .fd_store = 64,
     .on_stop = "keep")
{
	struct held held = hold_lock(broker, DATA, SHMB_BACKING_MEMFD);
	struct wire_region_resize_params resize = { .handle = held.handle, .size = 1 };

	CHECK_OK(raw_request(held.raw, WIRE_REGION_RESIZE, &resize));
	broker_turn(broker);
	CHECK_INT(broker_leave(broker), 0);
	broker_restart(broker);
	held.raw = raw_return(broker, held.raw, 0);
	actor_kill(&held.writer);
	CHECK_OK(raw_call(held.raw, WIRE_REGION_RESIZE, &resize, NULL));
	held_free(&held);
}

/* Nothing ends a thread that waits for such a lock; the next daemon must not wait with it. */
CASE(a_daemon_that_cannot_end_lets_go_of_its_instance, SYSTEM)
{
	struct held held = hold_lock(broker, DATA, SHMB_BACKING_MEMFD);
	struct wire_region_resize_params resize = { .handle = held.handle, .size = 1 };
	char instance[64];
	long pid;

	CHECK_OK(raw_request(held.raw, WIRE_REGION_RESIZE, &resize));
	broker_turn(broker);
	SYS(kill(broker->pid, SIGTERM));
	while (broker_lock_read(broker, &pid, instance)) {
		struct pollfd ended = { .fd = broker->pidfd, .events = POLLIN };

		CHECK_INT(poll(&ended, 1, 50), 0); /* it goes on waiting */
	}
	actor_kill(&held.writer);
	CHECK_INT(broker_wait(broker), 0);
	held_free(&held);
}

/* To remove a file its lock is taken, and its directory's: whoever holds one up holds up all it
 * has, and nobody else. */
CASE(a_user_whose_memory_cannot_be_removed_has_one_thread_of_the_pool, SYSTEM,
     .shm_mount = "size=64m", .config = "[broker]\nallow-shm = held\n")
{
	struct held more[80], held;
	char name[16];
	struct raw *raw;

	held = hold_lock(broker, DATA_ALONE, SHMB_BACKING_SHM);
	for (int i = 0; i < 80; i++) { /* more than the pool has threads */
		more[i].raw = held.raw;
		snprintf(name, sizeof(name), "held%d", i);
		make_held(&more[i], name, SHMB_BACKING_SHM);
		close(more[i].fds[0]);
		close(more[i].fds[1]);
	}
	CHECK_OK(raw_close(held.raw, held.handle));
	for (int i = 0; i < 80; i++)
		CHECK_OK(raw_close(held.raw, more[i].handle));
	raw = raw_greet(broker);
	{
		struct wire_region_resize_params resize = {
			.handle = raw_make(raw, "other", SHMB_ATTACHED), .size = 1
		};

		CHECK_OK(raw_call(raw, WIRE_REGION_RESIZE, &resize, NULL));
	}
	raw_free(raw);
	actor_kill(&held.writer);
	held_free(&held);
}
