/* SPDX-License-Identifier: MIT */
/*
 * The whole peer state machine over any bytes and descriptors: two clients and a real broker in one
 * process, through socket pairs.
 *
 * An input is a script: steps that send packets (raw, or well-formed requests with parameters from
 * the input), send descriptors, let the daemon turn, read, write anything into the memory that came
 * with an answer, truncate it, hang up, go on with a session over another connection. A byte that
 * is no step makes the rest one raw packet, so that the corpus of packets is a corpus of scripts.
 * At the end the broker must come apart to nothing: no memory, no descriptor, nothing charged.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"
#include "log.h"
#include "peer.h"
#include "session.h"
#include "wire/packet.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

enum { CLIENTS = 2, FDS_MAX = 4, KEPT_MAX = 4, STEPS_MAX = 200 };

enum step {
	STEP_PACKET,     /* length (2 bytes), bytes */
	STEP_FDS,        /* number, length (2), bytes */
	STEP_REQUEST,    /* method, parameters */
	STEP_NOTIFY,     /* the same as a notification */
	STEP_TURN,       /* let the broker's loop run */
	STEP_READ,       /* receive all that is there, drop it */
	STEP_SWITCH,     /* go on as the other client */
	STEP_HANG_UP,    /* close, connect again, say hello */
	STEP_SILENT,     /* close, connect again, say nothing */
	STEP_HALF_CLOSE, /* shut down one direction */
	STEP_SCRIBBLE,   /* which memory, where (2), length, bytes */
	STEP_TRUNCATE,   /* which memory, how many pages */
	STEP_RESUME,     /* whose session, how many again, how far message ids go back */
	STEP_COUNT
};

struct input {
	const uint8_t *at, *end;
};

static struct broker broker;
static const struct {
	struct settings settings;
} defaults = { .settings = {
		       .per_user = { [CHARGE_REGIONS] = 8,
				     [CHARGE_BYTES] = 1 << 22,
				     [CHARGE_CONNECTIONS] = 8,
				     [CHARGE_ATTACHMENTS] = 12,
				     [CHARGE_LOCKS] = 6,
				     [CHARGE_SEMAPHORES] = 6,
				     [CHARGE_SLOTS] = 8,
				     [CHARGE_WATCHES] = 4,
				     [CHARGE_QUEUE] = 64 << 10,
				     [CHARGE_FDS] = 16 },
		       .fds_per_connection = 8,
		       .max_region = 1 << 21,
		       .slow_timeout_ms = 1000,
		       .log_level = LOG_LEVEL_ERROR,
		       .socket_mode = UINT64_MAX,
	       } };
static int clients[CLIENTS];
static unsigned current;
static uint32_t msgid;
static bool refuse_fds;
static int kept[KEPT_MAX]; /* the last descriptors that came with answers; -1: none */
static unsigned next_kept;

static uint64_t take(struct input *input, unsigned bytes)
{
	uint64_t value = 0;

	while (bytes-- && input->at < input->end)
		value = value << 8 | *input->at++;
	return value;
}

/* ---- A client's side ---- */

static void turn(void)
{
	uv_run(&broker.loop, UV_RUN_NOWAIT);
}

static void send_packet(const void *data, size_t length, const int *fds, unsigned n_fds)
{
	/* Not packet_send(): it refuses what a hostile client would not mind. */
	union {
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr head;
	} control = { { 0 } };
	struct iovec part = { (void *)(uintptr_t)data, length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (n_fds) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, n_fds * sizeof(int));
	}
	sendmsg(clients[current], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void say_hello(void)
{
	struct wire_hello_params params = { .version_min = 1, .version_max = 1 };
	struct wire_buffer buffer;

	REQUIRE(wire_encode_request(&buffer, ++msgid, WIRE_HELLO, &params, 0) == 0);
	send_packet(buffer.data, buffer.length, NULL, 0);
	turn();
}

static void connect_client(unsigned which)
{
	int pair[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	if (refuse_fds)
		packet_refuse_fds(pair[1]);
	clients[which] = pair[0];
	peer_accept(&broker, pair[1]);
}

static void keep(int fd)
{
	if (kept[next_kept] >= 0)
		close(kept[next_kept]);
	kept[next_kept] = fd;
	next_kept = (next_kept + 1) % KEPT_MAX;
}

static void receive_all(void)
{
	static char buffer[WIRE_PACKET_MAX + 1];
	struct packet packet;

	while (packet_receive(clients[current], buffer, sizeof(buffer), &packet) == 1)
		for (unsigned i = 0; i < packet.n_fds; i++)
			keep(packet.fds[i]);
}

static void reconnect(bool hello)
{
	close(clients[current]);
	connect_client(current);
	if (hello)
		say_hello();
}

/* ---- Requests with parameters out of the input ---- */

/* Few names, few numbers: so that requests meet. */
static uint64_t small_number(struct input *input, const struct wire_field *field)
{
	static const uint64_t numbers[] = { 0,       1,       2,          3,        4,    5,
					    6,       7,       4096,       8192,     0700, 1 << 20,
					    1 << 21, 1 << 22, UINT32_MAX, INT64_MAX };
	uint8_t choice = (uint8_t)take(input, 1);
	uint64_t value = choice < 128 ? numbers[choice % 16] : choice - 128;

	if (value < field->min)
		value = field->min;
	return value > field->max ? field->max : value;
}

static struct wire_bytes some_name(struct input *input)
{
	static const char *const names[] = { "a",    "b",    "a/b", "~0/x", "~1/x", "..",
					     "a//b", "a/b/", "",    "\xff", "~0",   "long" };
	static char longest[201];
	uint8_t choice = (uint8_t)take(input, 1) % 13;

	if (choice < 12)
		return wire_string(names[choice]);
	memset(longest, 'n', 200);
	return wire_string(longest);
}

static void fill(struct input *input, const struct wire_message_type *type, char *params)
{
	uint64_t has = take(input, 1), bit = 1;

	for (size_t i = 0; i < type->n_fields; i++, bit <<= 1) {
		const struct wire_field *field = &type->fields[i];
		char *member = params + field->offset;
		struct wire_bytes text;
		uint64_t number;
		bool flag;

		if (!field->required && !(has & (UINT64_C(1) << (i % 8))))
			continue;
		if (!field->required)
			*(uint64_t *)(void *)params |= bit;
		if (field->type == WIRE_TYPE_STR) {
			text = some_name(input);
			memcpy(member, &text, sizeof(text));
		} else if (field->type == WIRE_TYPE_BOOL) {
			flag = take(input, 1) & 1;
			memcpy(member, &flag, sizeof(flag));
		} else {
			number = small_number(input, field);
			memcpy(member, &number, sizeof(number));
		}
	}
}

static void request(struct input *input, bool notify)
{
	enum wire_method_id method = (enum wire_method_id)(take(input, 1) % WIRE_METHOD_COUNT);
	_Alignas(uint64_t) char params[512] = { 0 };
	struct wire_buffer buffer;

	REQUIRE(wire_methods[method].params->size <= sizeof(params));
	fill(input, wire_methods[method].params, params);
	if ((notify ? wire_encode_notification(&buffer, method, params)
		    : wire_encode_request(&buffer, ++msgid, method, params, 0)) == 0)
		send_packet(buffer.data, buffer.length, NULL, 0);
}

static void raw_packet(struct input *input, unsigned n_fds)
{
	size_t length = take(input, 2), left;
	int fds[FDS_MAX] = { -1, -1, -1, -1 };

	left = (size_t)(input->end - input->at);
	if (length > left)
		length = left;
	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = i % 2 ? memfd_create("fuzz", MFD_CLOEXEC)
			       : open("/dev/null", O_RDONLY | O_CLOEXEC);
	send_packet(input->at, length, fds, n_fds);
	for (unsigned i = 0; i < n_fds; i++)
		close(fds[i]);
	input->at += length;
}

/* Memory that was given read-only, or not at all, refuses; that is as good. */
static void scribble(struct input *input)
{
	int fd = kept[take(input, 1) % KEPT_MAX];
	off_t offset = (off_t)(take(input, 2) * 4);
	size_t length = take(input, 1), left = (size_t)(input->end - input->at);

	if (length > left)
		length = left;
	if (fd >= 0 && pwrite(fd, input->at, length, offset) < 0)
		turn();
	input->at += length;
}

static void truncate_memory(struct input *input)
{
	int fd = kept[take(input, 1) % KEPT_MAX];
	off_t pages = (off_t)take(input, 1);

	if (fd >= 0 && ftruncate(fd, pages * 4096) < 0)
		turn();
}

/*
 * A new connection for a session, before the old one is closed: it may be granted if the broker has
 * dropped that. What follows may have been asked before.
 */
static void resume(struct input *input)
{
	uint8_t whose = (uint8_t)take(input, 1), token[SESSION_TOKEN_BYTES] = { 0 };
	struct wire_hello_params params = { .has = WIRE_HAS(hello_params, session) |
						   WIRE_HAS(hello_params, again),
					    .version_min = 1,
					    .version_max = WIRE_VERSION };
	struct session *session = broker.sessions;
	struct wire_buffer buffer;
	int old = clients[current];

	while (session && whose-- % 8 > 0)
		session = session->hh.next;
	if (session)
		memcpy(token, session->token, sizeof(token));
	params.session = (struct wire_bytes){ (const char *)token, sizeof(token) };
	params.again = take(input, 1);
	connect_client(current);
	REQUIRE(wire_encode_request(&buffer, ++msgid, WIRE_HELLO, &params, 0) == 0);
	send_packet(buffer.data, buffer.length, NULL, 0);
	turn();
	close(old);
	msgid -= (uint32_t)take(input, 1);
}

static void take_step(struct input *input)
{
	uint8_t step = *input->at;

	if (step >= STEP_COUNT) { /* no step: a packet of the corpus */
		send_packet(input->at, (size_t)(input->end - input->at), NULL, 0);
		input->at = input->end;
		return;
	}
	input->at++;
	switch ((enum step)step) {
	case STEP_PACKET:
		raw_packet(input, 0);
		break;
	case STEP_FDS:
		raw_packet(input, (unsigned)take(input, 1) % FDS_MAX + 1);
		break;
	case STEP_REQUEST:
	case STEP_NOTIFY:
		request(input, step == STEP_NOTIFY);
		break;
	case STEP_TURN:
		turn();
		break;
	case STEP_READ:
		receive_all();
		break;
	case STEP_SWITCH:
		current = (current + 1) % CLIENTS;
		break;
	case STEP_HANG_UP:
	case STEP_SILENT:
		reconnect(step == STEP_HANG_UP);
		break;
	case STEP_HALF_CLOSE:
		shutdown(clients[current], take(input, 1) & 1 ? SHUT_WR : SHUT_RD);
		break;
	case STEP_SCRIBBLE:
		scribble(input);
		break;
	case STEP_TRUNCATE:
		truncate_memory(input);
		break;
	case STEP_RESUME:
		resume(input);
		break;
	case STEP_COUNT:
		break;
	}
}

/* ---- Before and after ---- */

static unsigned count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned n = 0;

	REQUIRE(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

static unsigned count_objects(void)
{
	char prefix[64];
	struct dirent *entry;
	DIR *directory = opendir("/dev/shm");
	unsigned n = 0;

	REQUIRE(directory);
	snprintf(prefix, sizeof(prefix), "shmb.%016llx.", (unsigned long long)broker.instance.id);
	while ((entry = readdir(directory)))
		n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	closedir(directory);
	return n;
}

static void start(bool system)
{
	struct options options = { .scope = system ? SCOPE_SYSTEM : SCOPE_PRIVATE, .eof_fd = -1 };

	REQUIRE(broker_init(&broker, &options, &defaults.settings) == 0);
	broker.instance.id = 0xf0220000 + (uint64_t)getpid();
	broker.listen_fd = -1;
	msgid = 0;
	current = 0;
	memset(kept, 0xff, sizeof(kept));
	for (unsigned i = 0; i < CLIENTS; i++)
		connect_client(i);
}

static void stop(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		close(clients[i]);
	for (unsigned i = 0; i < KEPT_MAX; i++)
		keep(-1);
	for (int i = 0; i < 4; i++)
		turn();
	broker_stop(&broker);
	uv_run(&broker.loop, UV_RUN_DEFAULT);
	for (int i = 0; i < CHARGE_COUNT; i++)
		REQUIRE(broker.accounts.total[i] == 0);
	REQUIRE(!broker.peers && !broker.blocked && !broker.arenas && !broker.repairs.due);
	for (int i = 0; i < OBJECT_KINDS; i++)
		REQUIRE(broker.regions.counts[i] == 0);
	REQUIRE(broker.regions.n_attachments == 0 && broker.regions.n_watches == 0);
	REQUIRE(uv_loop_alive(&broker.loop) == 0);
	REQUIRE(count_objects() == 0);
	broker_deinit(&broker);
	while (waitpid(-1, NULL, WNOHANG) > 0) /* throwaway processes that nobody waited for */
		;
}

/* libuv keeps a table as large as the highest descriptor may be: a small limit keeps inputs fast.
 */
static void prepare_process(void)
{
	static bool done;
	struct rlimit limit = { 256, 256 };

	if (done)
		return;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	start(false);
	stop();
	done = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	unsigned before, steps = 0;
	uint8_t flags;

	prepare_process();
	if (size == 0)
		return 0;
	before = count_fds();
	/* The corpus begins with a MessagePack array: those get the defaults, and hello. */
	flags = data[0] < 0x80 ? (uint8_t)take(&input, 1) : 0;
	refuse_fds = flags & 1;
	start(flags & 2);
	if (!(flags & 4))
		say_hello();
	while (input.at < input.end && steps++ < STEPS_MAX)
		take_step(&input);
	turn();
	receive_all();
	stop();
	REQUIRE(count_fds() == before);
	return 0;
}
