/* SPDX-License-Identifier: MIT */
/*
 * Recovery from any manifest: a file of any bytes, one whose header is right, or a log of records
 * that are well-formed and say anything. What comes of it is a broker like any other: a client can
 * ask it for everything, and it comes apart to nothing: no memory, no descriptor, nothing charged.
 * Objects of another instance are not touched.
 *
 * There is real memory for some of what a manifest may claim, smaller than it may say.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "activation.h"
#include "broker.h"
#include "layout/lock.h"
#include "layout/semaphore.h"
#include "log.h"
#include "manifest.h"
#include "peer.h"
#include "recover.h"
#include "session.h"
#include "wire/packet.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

enum {
	RECORDS_MAX = 64,
	OBJECTS = 4, /* ids with memory */
	MEMORY = 2 * 4096,
	HEADER_BYTES = 72,
	KEPT_HEADER = 40, /* magic, version, where records begin, instance, boot */
};

struct input {
	const uint8_t *at, *end;
};

static struct broker broker;
static char directory[64], path[80];
static uint64_t instance; /* of the manifests */
static struct identity self;

static uint64_t take(struct input *input, unsigned bytes)
{
	uint64_t value = 0;

	while (bytes-- && input->at < input->end)
		value = value << 8 | *input->at++;
	return value;
}

/* ---- Memory that is there ---- */

static void object_name(char name[64], uint64_t of, uint64_t id, char which)
{
	snprintf(name, 64, "/shmb.%016llx.%llx.%c", (unsigned long long)of, (unsigned long long)id,
		 which);
}

static void make_object(uint64_t of, uint64_t id, char which)
{
	char name[64];
	int fd;

	object_name(name, of, id, which);
	fd = shm_open(name, O_RDWR | O_CREAT, 0600);
	REQUIRE(fd >= 0 && ftruncate(fd, MEMORY) == 0);
	close(fd);
}

/* One of them has no publish page, one no lock, one an arena's size. */
static void make_objects(void)
{
	for (uint64_t id = 1; id <= OBJECTS; id++) {
		make_object(instance, id, 'd');
		if (id != 2)
			make_object(instance, id, 'p');
		if (id != 3)
			make_object(instance, id, 'l');
	}
}

static unsigned count_objects(uint64_t of)
{
	char prefix[64];
	struct dirent *entry;
	DIR *objects = opendir("/dev/shm");
	unsigned n = 0;

	REQUIRE(objects);
	snprintf(prefix, sizeof(prefix), "shmb.%016llx.", (unsigned long long)of);
	while ((entry = readdir(objects)))
		n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	closedir(objects);
	return n;
}

/* ---- Records ---- */

static uint64_t number(struct input *input)
{
	static const uint64_t numbers[] = { 0,          1,
					    2,          3,
					    4,          5,
					    62,         63,
					    64,         1024,
					    4096,       8192,
					    INT64_MAX,  UINT64_C(1) << 63,
					    UINT64_MAX, UINT64_C(1) << 40,
					    UINT32_MAX };
	uint8_t choice = (uint8_t)take(input, 1);

	return choice < sizeof(numbers) / sizeof(numbers[0]) ? numbers[choice] : choice & 7;
}

static struct record_segment segment(struct input *input)
{
	uint8_t bits = (uint8_t)take(input, 1);

	return (struct record_segment){ .inode = bits >> 4,
					.store = bits >> 2 & 3,
					.made = bits & 1 };
}

static void add_arena(struct manifest *manifest, struct input *input)
{
	const struct record_arena record = { .id = number(input),
					     .segment = segment(input),
					     .uid = (uint32_t)take(input, 1),
					     .gid = (uint32_t)take(input, 1),
					     .mode = (uint32_t)take(input, 2),
					     .backing = (uint32_t)take(input, 1) };

	manifest_append(manifest, RECORD_ARENA, &record, sizeof(record), NULL, 0);
}

static void add_object(struct manifest *manifest, struct input *input)
{
	static const char *const names[] = { "a", "b", "a/b", "~0/x", "", "..", "\xff", "a//b" };
	struct record_object record = { .id = number(input),
					.size = number(input),
					.capacity = number(input),
					.creator = number(input),
					.arena = number(input),
					.uid = (uint32_t)take(input, 1),
					.unit = (uint32_t)number(input),
					.maximum = (uint32_t)number(input),
					.mode = (uint16_t)take(input, 2) };
	const char *name = names[take(input, 1) % 8];
	uint8_t bits = (uint8_t)take(input, 1);

	record.n_slots = (uint16_t)number(input);
	record.kind = bits & 3;
	record.lifetime = bits >> 2 & 3;
	record.backing = bits >> 4 & 3;
	record.removed = bits >> 6 & 1;
	record.resizing = bits >> 7;
	record.semaphore_kind = (uint8_t)take(input, 1) & 3;
	for (int i = 0; i < 3; i++)
		record.segments[i] = segment(input);
	manifest_append(manifest, RECORD_OBJECT, &record, sizeof(record), name, strlen(name));
}

/* Of a process that lives, if the input says so. */
static void add_session(struct manifest *manifest, struct input *input)
{
	uint8_t who = (uint8_t)take(input, 1);
	struct record_session record = { .number = number(input),
					 .uid = self.uid,
					 .gid = self.gid,
					 .last_handle = (uint32_t)number(input) };

	if (who & 1) {
		record.pid = (uint32_t)self.pid;
		record.start = self.start;
		record.process = self.process;
	} else {
		record.pid = (uint32_t)number(input);
		record.start = number(input);
	}
	record.token[0] = who & 3;
	manifest_append(manifest, RECORD_SESSION, &record, sizeof(record), "fuzz",
			(size_t)(who >> 6));
}

static void add_attachment(struct manifest *manifest, struct input *input)
{
	const struct record_attachment record = { .session = number(input),
						  .object = number(input),
						  .handle = (uint32_t)number(input),
						  .slot = (uint16_t)number(input),
						  .access = (uint8_t)take(input, 1) & 15 };

	manifest_append(manifest, RECORD_ATTACHMENT, &record, sizeof(record), NULL, 0);
}

static void add_late(struct manifest *manifest, struct input *input, enum record_type type)
{
	const struct record_done done = { .session = number(input),
					  .msgid = (uint32_t)number(input),
					  .handle = (uint32_t)number(input),
					  .created = (uint8_t)take(input, 1) & 1 };
	const struct record_position position = { .session = done.session, .serial = done.msgid };

	if (type == RECORD_DONE)
		manifest_append(manifest, type, &done, sizeof(done), NULL, 0);
	else
		manifest_append(manifest, type, &position, sizeof(position), "a/b",
				done.handle % 4);
}

/* Ends, sizes, and types that there are not: the same three numbers, or fewer. */
static void add_any(struct manifest *manifest, struct input *input, enum record_type type)
{
	const uint64_t record[3] = { number(input), number(input), number(input) };

	manifest_append(manifest, type, record, 8 * (take(input, 1) % 4), NULL, 0);
}

static void add_record(struct manifest *manifest, struct input *input)
{
	enum record_type type = (enum record_type)(take(input, 1) % (RECORD_POSITION + 2));

	switch (type) {
	case RECORD_ARENA:
		add_arena(manifest, input);
		break;
	case RECORD_OBJECT:
		add_object(manifest, input);
		break;
	case RECORD_SESSION:
		add_session(manifest, input);
		break;
	case RECORD_ATTACHMENT:
		add_attachment(manifest, input);
		break;
	case RECORD_DONE:
	case RECORD_POSITION:
		add_late(manifest, input, type);
		break;
	default:
		add_any(manifest, input, type);
	}
}

/* ---- The file ---- */

static void write_nothing(struct manifest *manifest, void *userdata)
{
}

static void write_records(struct input *input, bool any_records)
{
	const struct manifest_origin origin = { .instance = instance,
						.next_id = take(input, 1),
						.next_session = take(input, 1) };
	struct manifest manifest = { .fd = -1 };

	REQUIRE(manifest_write(&manifest, directory, &origin, write_nothing, NULL) == 0);
	for (unsigned i = 0; any_records && i < RECORDS_MAX && input->at < input->end; i++)
		add_record(&manifest, input);
	manifest_commit(&manifest);
	manifest_close(&manifest);
}

/* What is left of the input becomes the file, from that byte on. */
static void write_rest(struct input *input, off_t offset)
{
	size_t length = (size_t)(input->end - input->at);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	REQUIRE(fd >= 0 && ftruncate(fd, offset + (off_t)length) == 0 &&
		pwrite(fd, input->at, length, offset) == (ssize_t)length);
	close(fd);
}

/* The rest as records: whatever it is, all of it is committed. */
static void write_garbage(struct input *input)
{
	uint64_t committed = HEADER_BYTES + (uint64_t)(input->end - input->at);
	int fd;

	write_records(input, false);
	write_rest(input, HEADER_BYTES);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 &&
		pwrite(fd, &committed, sizeof(committed), KEPT_HEADER) == sizeof(committed));
	close(fd);
}

static void write_manifest(struct input *input)
{
	switch (take(input, 1) & 3) {
	case 0:
		write_rest(input, 0);
		break;
	case 1: /* the daemon's own header up to what it says of the records */
		write_records(input, false);
		write_rest(input, KEPT_HEADER);
		break;
	case 2:
		write_garbage(input);
		break;
	default:
		write_records(input, true);
	}
}

/* ---- The broker ---- */

static const struct settings settings = { .per_user = { [CHARGE_REGIONS] = 8,
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
					  .socket_mode = UINT64_MAX };

static void turn(void)
{
	uv_run(&broker.loop, UV_RUN_NOWAIT);
}

static void ask(int socket, enum wire_method_id method, const void *params)
{
	static char buffer[WIRE_PACKET_MAX + 1];
	static uint32_t msgid;
	struct wire_buffer request;
	struct packet packet;

	REQUIRE(wire_encode_request(&request, ++msgid, method, params, 0) == 0);
	if (packet_send(socket, request.data, request.length, NULL, 0) < 0)
		return;
	turn();
	while (packet_receive(socket, buffer, sizeof(buffer), &packet) == 1)
		packet_close_fds(&packet);
}

static void hello(int socket, uint8_t token)
{
	const uint8_t bytes[16] = { token };
	struct wire_hello_params params = { .version_min = 1, .version_max = WIRE_VERSION };

	if (token) {
		params.has = WIRE_HAS(hello_params, session) | WIRE_HAS(hello_params, again);
		params.session = (struct wire_bytes){ (const char *)bytes, sizeof(bytes) };
		params.again = 4;
	}
	ask(socket, WIRE_HELLO, &params);
}

/* All that looks at what was recovered. */
static void ask_everything(int socket)
{
	static const char *const names[] = { "a", "b", "a/b", "~0/x" };
	const struct wire_region_list_params list = { 0 };

	ask(socket, WIRE_STATS, &(struct wire_empty){ 0 });
	ask(socket, WIRE_REGION_LIST, &list);
	ask(socket, WIRE_LOCK_LIST, &list);
	ask(socket, WIRE_SEMAPHORE_LIST, &list);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct wire_region_open_params region = { .name = wire_string(names[i]),
								.access = 6 };
		const struct wire_lock_name lock = { .name = wire_string(names[i]) };
		const struct wire_semaphore_name semaphore = { .name = wire_string(names[i]) };

		ask(socket, WIRE_REGION_OPEN, &region);
		ask(socket, WIRE_LOCK_OPEN, &lock);
		ask(socket, WIRE_SEMAPHORE_OPEN, &semaphore);
	}
	for (uint64_t handle = 1; handle < 8; handle++) {
		const struct wire_region_handle by_handle = { .handle = handle };
		const struct wire_region_resize_params resize = { .handle = handle, .size = 4096 };

		ask(socket, WIRE_REGION_LOCK, &by_handle);
		ask(socket, WIRE_REGION_RESIZE, &resize);
		if (handle & 1)
			ask(socket, WIRE_REGION_CLOSE, &by_handle);
	}
}

static void visit(uint8_t token)
{
	int pair[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	peer_accept(&broker, pair[1]);
	hello(pair[0], token);
	ask_everything(pair[0]);
	close(pair[0]);
	turn();
}

static int start(bool system)
{
	struct options options = { .scope = system ? SCOPE_SYSTEM : SCOPE_PRIVATE, .eof_fd = -1 };
	struct activation activation = { .listener = -1 };
	pid_t holder;

	REQUIRE(broker_init(&broker, &options, &settings) == 0);
	broker.listen_fd = -1;
	REQUIRE(instance_acquire(&broker.instance, directory, 0700, &holder) == 0);
	return recover(&broker, directory, &activation);
}

static void check_nothing_left(void)
{
	for (int i = 0; i < CHARGE_COUNT; i++)
		REQUIRE(broker.accounts.total[i] == 0);
	REQUIRE(!broker.peers && !broker.arenas && !broker.repairs.due && !broker.sessions);
	for (int i = 0; i < OBJECT_KINDS; i++)
		REQUIRE(broker.regions.counts[i] == 0);
	REQUIRE(broker.regions.n_attachments == 0 && uv_loop_alive(&broker.loop) == 0);
}

/* What it has, as a client could tell. */
struct figures {
	uint64_t counts[OBJECT_KINDS], attachments, away;
	uint64_t charged[CHARGE_SLOTS + 1]; /* what follows is of connections and of work */
};

static struct figures look(void)
{
	struct figures figures = { .attachments = broker.regions.n_attachments,
				   .away = broker.accounts.total[CHARGE_AWAY] };

	memcpy(figures.counts, broker.regions.counts, sizeof(figures.counts));
	memcpy(figures.charged, broker.accounts.total, sizeof(figures.charged));
	figures.charged[CHARGE_CONNECTIONS] = 0;
	return figures;
}

/* As a crash, but for the memory of this process. */
static void leave(void)
{
	broker_leave(&broker);
	uv_run(&broker.loop, UV_RUN_DEFAULT);
	check_nothing_left();
	instance_leave(&broker.instance);
	broker_deinit(&broker);
}

/* As one that removes everything. */
static void stop(void)
{
	uint64_t own = broker.instance.id;

	broker_stop(&broker);
	uv_run(&broker.loop, UV_RUN_DEFAULT);
	check_nothing_left();
	manifest_remove(directory);
	instance_release(&broker.instance);
	broker_deinit(&broker);
	REQUIRE(count_objects(own) == 0);
}

/* ---- Before and after ---- */

static unsigned count_fds(void)
{
	DIR *fds = opendir("/proc/self/fd");
	unsigned n = 0;

	REQUIRE(fds);
	while (readdir(fds))
		n++;
	closedir(fds);
	return n;
}

static void clean_up(void)
{
	char name[64];

	for (uint64_t id = 1; id <= OBJECTS; id++)
		for (const char *which = "dpl"; *which; which++) {
			object_name(name, instance, id, *which);
			shm_unlink(name);
		}
	object_name(name, instance + 1, 1, 'd');
	shm_unlink(name);
	manifest_remove(directory);
	rmdir(directory);
}

/* libuv keeps a table as large as the highest descriptor may be: a small limit keeps inputs fast.
 */
static void prepare_process(void)
{
	struct rlimit limit = { 256, 256 };
	int pair[2];

	if (instance)
		return;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	log_set_level((enum log_level)(LOG_LEVEL_ERROR - 1)); /* it has much to say */
	strcpy(directory, "/tmp/shmb-fuzz.XXXXXX");
	REQUIRE(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/manifest", directory);
	instance = 0xf0230000ull << 32 | (uint64_t)getpid() << 1;
	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0 &&
		identity_read(pair[0], &self) == 0);
	close(pair[0]);
	close(pair[1]);
	/* Another's: nobody may touch it. */
	make_object(instance + 1, 1, 'd');
	atexit(clean_up);
	start(false);
	stop();
}

static void require_same(const struct figures *before, const struct figures *after)
{
	uint64_t a[sizeof(*before) / sizeof(uint64_t)], b[sizeof(*after) / sizeof(uint64_t)];

	memcpy(a, before, sizeof(a));
	memcpy(b, after, sizeof(b));
	for (size_t i = 0; i < sizeof(a) / sizeof(a[0]); i++) {
		if (a[i] == b[i])
			continue;
		fprintf(stderr, "figure %zu is %llu, after a restart %llu\n", i,
			(unsigned long long)a[i], (unsigned long long)b[i]);
		abort();
	}
}

/* Clients whose hang-up was not seen, work that is done elsewhere, after which more is given up. */
static bool is_busy(void)
{
	const struct region *region;

	if (broker.peers)
		return true;
	DL_FOREACH2(broker.regions.all, region, next)
		if (region->resizing || region->resizes)
			return true;
	return broker.repairs.due != NULL;
}

/* Clients come, and another daemon, which takes over all that this one has. */
static void go_on(uint8_t flags)
{
	struct figures before, after;

	REQUIRE(broker.manifest.path);
	for (uint8_t token = 0; token < 4 && flags & 2; token++)
		visit(token);
	turn();
	while (is_busy())
		uv_run(&broker.loop, UV_RUN_ONCE);
	before = look();
	leave();
	REQUIRE(start(flags & 1) == 0);
	after = look();
	require_same(&before, &after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	unsigned before;
	uint8_t flags;

	prepare_process();
	if (size < 2)
		return 0;
	before = count_fds();
	flags = (uint8_t)take(&input, 1);
	make_objects();
	write_manifest(&input);
	if (start(flags & 1) == 0)
		go_on(flags);
	else
		REQUIRE(false);
	stop();
	REQUIRE(count_fds() == before && count_objects(instance + 1) == 1);
	return 0;
}
