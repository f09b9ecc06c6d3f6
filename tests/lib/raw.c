/* SPDX-License-Identifier: MIT */
/*
 * Peers that speak the protocol by hand, and may break it: any bytes, any descriptors, any order.
 *
 * Uses proto/wire and no client library.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

enum { REPLY_MS = 10000 };

struct raw *raw_connect(const struct broker *broker)
{
	struct raw *raw = calloc(1, sizeof(*raw));

	CHECK(raw);
	raw->socket = SYS(packet_socket());
	CHECK_OK(wire_decoder_init(&raw->decoder));
	CHECK_OK(packet_connect(raw->socket, broker->socket, REPLY_MS * (int)harness_slow()));
	return raw;
}

struct raw *raw_free(struct raw *raw)
{
	if (!raw)
		return NULL;
	packet_close_fds(&raw->packet);
	wire_decoder_deinit(&raw->decoder);
	if (raw->socket >= 0)
		close(raw->socket);
	free(raw);
	return NULL;
}

bool raw_ready(struct raw *raw, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = raw->socket, .events = POLLIN };

	return poll(&poll_fd, 1, timeout_ms) > 0;
}

int raw_send(struct raw *raw, const void *data, size_t length, const int *fds, unsigned n_fds)
{
	return packet_send(raw->socket, data, length, fds, n_fds);
}

int raw_request(struct raw *raw, enum wire_method_id method, const void *params)
{
	static const struct wire_empty empty;
	struct wire_buffer buffer;

	CHECK_OK(wire_encode_request(&buffer, ++raw->msgid, method, params ? params : &empty, 0));
	return raw_send(raw, buffer.data, buffer.length, NULL, 0);
}

/* The daemon may have to be waited for, but a peer that was dropped is no failure of the harness.
 */
static bool is_end(int error)
{
	return error == 0 || error == -ECONNRESET || error == -EPIPE;
}

int raw_receive(struct raw *raw)
{
	const char *field;
	int r;

	packet_close_fds(&raw->packet);
	memset(&raw->packet, 0, sizeof(raw->packet));
	if (!raw_ready(raw, REPLY_MS * (int)harness_slow()))
		FAIL("the daemon says nothing");
	r = packet_receive(raw->socket, raw->buffer, sizeof(raw->buffer), &raw->packet);
	if (is_end(r))
		return 0;
	CHECK_INT(r, 1);
	CHECK_OK(wire_decode(&raw->decoder, raw->buffer, raw->packet.length, &raw->message));
	CHECK(!raw->packet.fds_lost);
	CHECK_INT(raw->message.n_fds, raw->packet.n_fds);
	if (raw->message.failed ||
	    (raw->message.kind == WIRE_NOTIFICATION && raw->message.method_id == WIRE_GOODBYE))
		CHECK_OK(wire_decode_body(&raw->message, &wire_message_types[WIRE_MESSAGE_error],
					  &raw->error, &field));
	return 1;
}

static int error_code(const struct raw *raw)
{
	return wire_error_code(raw->error.code.data, raw->error.code.length);
}

int raw_answer(struct raw *raw, enum wire_method_id method, void *ret_result)
{
	const char *field;

	do {
		if (raw_receive(raw) == 0)
			return SHMB_EDISCONNECTED;
	} while (raw->message.kind != WIRE_RESPONSE);
	CHECK_INT(raw->message.msgid, raw->msgid);
	if (raw->message.failed)
		return error_code(raw);
	if (ret_result)
		CHECK_OK(wire_decode_body(&raw->message, wire_methods[method].result, ret_result,
					  &field));
	return 0;
}

int raw_call(struct raw *raw, enum wire_method_id method, const void *params, void *ret_result)
{
	int r = raw_request(raw, method, params);

	if (is_end(r) && r != 0)
		return SHMB_EDISCONNECTED;
	CHECK_OK(r);
	return raw_answer(raw, method, ret_result);
}

int raw_repeat(struct raw *raw, uint32_t msgid, enum wire_method_id method, const void *params,
	       void *ret_result)
{
	uint32_t last = raw->msgid;
	int r;

	raw->msgid = msgid - 1;
	r = raw_call(raw, method, params, ret_result);
	if (last > raw->msgid)
		raw->msgid = last;
	return r;
}

static int say_hello(struct raw *raw, const struct wire_hello_params *params)
{
	struct wire_hello_result result;
	int r = raw_call(raw, WIRE_HELLO, params, &result);

	if (r)
		return r;
	memcpy(raw->token, result.session.data, sizeof(raw->token));
	raw->resumed = result.resumed;
	return 0;
}

void raw_hello(struct raw *raw)
{
	const struct wire_hello_params params = { .version_min = WIRE_VERSION,
						  .version_max = WIRE_VERSION };

	CHECK_OK(say_hello(raw, &params));
}

int raw_resume(struct raw *raw, const uint8_t token[WIRE_TOKEN_BYTES], uint32_t again)
{
	const struct wire_hello_params params = {
		.has = WIRE_HAS(hello_params, session) | WIRE_HAS(hello_params, again),
		.version_min = WIRE_VERSION,
		.version_max = WIRE_VERSION,
		.session = { (const char *)token, WIRE_TOKEN_BYTES },
		.again = again,
	};

	return say_hello(raw, &params);
}

int raw_goodbye(struct raw *raw)
{
	int code = 0;

	while (raw_receive(raw))
		if (raw->message.kind == WIRE_NOTIFICATION &&
		    raw->message.method_id == WIRE_GOODBYE)
			code = error_code(raw);
	return code;
}

static int take_fds(struct raw *raw, int result, int n, int *ret_fds)
{
	int i;

	if (result)
		return result;
	CHECK_INT(raw->packet.n_fds, n);
	for (i = 0; i < n; i++) {
		ret_fds[i] = raw->packet.fds[i];
		raw->packet.fds[i] = -1;
	}
	return 0;
}

int raw_create(struct raw *raw, const char *name, uint64_t size, uint32_t mode, uint64_t lifetime,
	       struct wire_region_attached *ret_attached, int ret_fds[2])
{
	struct wire_region_create_params params = {
		.has = WIRE_HAS(region_create_params, mode) |
		       WIRE_HAS(region_create_params, lifetime),
		.name = wire_string(name),
		.size = size,
		.mode = mode,
		.lifetime = lifetime,
	};

	return take_fds(raw, raw_call(raw, WIRE_REGION_CREATE, &params, ret_attached), 2, ret_fds);
}

int raw_open(struct raw *raw, const char *name, unsigned access,
	     struct wire_region_attached *ret_attached, int ret_fds[2])
{
	struct wire_region_open_params params = { .name = wire_string(name), .access = access };

	return take_fds(raw, raw_call(raw, WIRE_REGION_OPEN, &params, ret_attached), 2, ret_fds);
}

/* ---- Descriptors of the client's ---- */

int raw_begin_adopt(struct raw *raw)
{
	return raw_call(raw, WIRE_ADOPT_BEGIN, NULL, NULL);
}

int raw_send_adopt(struct raw *raw, const char *name, uint64_t size, unsigned access,
		   const int *fds, unsigned n_fds, unsigned n_stated)
{
	const struct wire_region_adopt_params params = {
		.has = WIRE_HAS(region_adopt_params, access),
		.name = wire_string(name),
		.size = size,
		.access = access,
	};
	struct wire_buffer buffer;

	CHECK_OK(wire_encode_request(&buffer, ++raw->msgid, WIRE_REGION_ADOPT, &params, n_stated));
	return raw_send(raw, buffer.data, buffer.length, fds, n_fds);
}

int raw_adopt(struct raw *raw, const char *name, uint64_t size, unsigned access, const int *fds,
	      unsigned n_fds, unsigned n_stated, struct wire_region_attached *ret_attached,
	      int ret_fds[2])
{
	CHECK_OK(raw_send_adopt(raw, name, size, access, fds, n_fds, n_stated));
	return take_fds(raw, raw_answer(raw, WIRE_REGION_ADOPT, ret_attached), 2, ret_fds);
}

/* ---- Sessions that go on ---- */

struct raw *raw_greet(const struct broker *broker)
{
	struct raw *raw = raw_connect(broker);

	raw_hello(raw);
	return raw;
}

struct raw *raw_return(struct broker *broker, struct raw *raw, uint32_t again)
{
	struct raw *back = raw_connect(broker);

	CHECK_OK(raw_resume(back, raw->token, again));
	CHECK(back->resumed);
	CHECK(memcmp(back->token, raw->token, sizeof(raw->token)) == 0);
	back->msgid = raw->msgid;
	raw_free(raw);
	return back;
}

struct raw *raw_survive(struct broker *broker, struct raw *raw, uint32_t again)
{
	broker_crash(broker);
	broker_restart(broker);
	return raw_return(broker, raw, again);
}

uint64_t raw_make(struct raw *raw, const char *name, uint64_t lifetime)
{
	struct wire_region_attached attached;
	int fds[2];

	CHECK_OK(raw_create(raw, name, 4096, 0700, lifetime, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	return attached.handle;
}

int raw_stat_handle(struct raw *raw, uint64_t handle)
{
	const struct wire_region_ref ref = { .has = WIRE_HAS(region_ref, handle),
					     .handle = handle };
	struct wire_region_info info;

	return raw_call(raw, WIRE_REGION_STAT, &ref, &info);
}

void raw_be_condemned(struct broker *broker, struct raw *raw)
{
	CHECK_OK(raw_send(raw, "nonsense", 8, NULL, 0));
	CHECK_CODE(raw_goodbye(raw), SHMB_EPROTO);
	UNTIL(broker, broker_stat(broker, "condemned") == 1);
}

struct figures figures_read(struct broker *broker)
{
	return (struct figures){
		.regions = broker_stat(broker, "regions"),
		.attachments = broker_stat(broker, "attachments"),
		.locks = broker_stat(broker, "locks"),
		.semaphores = broker_stat(broker, "semaphores"),
		.slots = broker_stat(broker, "slots"),
		.bytes = broker_stat(broker, "bytes"),
		.away = broker_stat(broker, "away"),
	};
}

void figures_check(const struct figures *now, const struct figures *before)
{
	CHECK_INT(now->regions, before->regions);
	CHECK_INT(now->attachments, before->attachments);
	CHECK_INT(now->locks, before->locks);
	CHECK_INT(now->semaphores, before->semaphores);
	CHECK_INT(now->slots, before->slots);
	CHECK_INT(now->bytes, before->bytes);
	CHECK_INT(now->away, before->away);
}

/* ---- Locks and semaphores ---- */

static void *map_shared(int fd, size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	if (memory == MAP_FAILED)
		FAIL("mmap: %s", strerror(errno));
	return memory;
}

static struct layout_locker map_lock(int fd, uint64_t slot, uint64_t slots)
{
	struct layout_lock *lock = map_shared(fd, layout_lock_bytes((uint32_t)slots));
	struct layout_locker locker = { .lock = lock,
					.own = &lock->slots[slot - 1],
					.slot = (uint32_t)slot,
					.n_slots = (uint32_t)slots };

	layout_lock_publish_slot(&locker);
	return locker;
}

int raw_region_lock(struct raw *raw, uint64_t handle, struct wire_region_lock_result *ret_result,
		    int *ret_fd)
{
	struct wire_region_handle params = { .handle = handle };

	return take_fds(raw, raw_call(raw, WIRE_REGION_LOCK, &params, ret_result), 1, ret_fd);
}

int raw_lock_create(struct raw *raw, const char *name, uint32_t mode, uint64_t lifetime,
		    uint32_t slots, struct wire_lock_attached *ret_attached,
		    struct layout_locker *ret_locker)
{
	struct wire_lock_create_params params = { .has = WIRE_HAS(lock_create_params, mode) |
							 WIRE_HAS(lock_create_params, lifetime) |
							 WIRE_HAS(lock_create_params, slots),
						  .name = wire_string(name),
						  .mode = mode,
						  .lifetime = lifetime,
						  .slots = slots };
	int fd, r;

	r = take_fds(raw, raw_call(raw, WIRE_LOCK_CREATE, &params, ret_attached), 1, &fd);
	if (r == 0)
		*ret_locker = map_lock(fd, ret_attached->slot, ret_attached->slots);
	return r;
}

int raw_lock_open(struct raw *raw, const char *name, struct wire_lock_attached *ret_attached,
		  struct layout_locker *ret_locker)
{
	struct wire_lock_name params = { .name = wire_string(name) };
	int fd, r;

	r = take_fds(raw, raw_call(raw, WIRE_LOCK_OPEN, &params, ret_attached), 1, &fd);
	if (r == 0)
		*ret_locker = map_lock(fd, ret_attached->slot, ret_attached->slots);
	return r;
}

void raw_locker_unmap(const struct layout_locker *locker)
{
	munmap(locker->lock, layout_lock_bytes(locker->n_slots));
}

int raw_semaphore_create(struct raw *raw, const char *name, uint64_t kind, uint64_t maximum,
			 uint64_t lifetime, struct wire_semaphore_attached *ret_attached)
{
	struct wire_semaphore_create_params params = { .has = WIRE_HAS(semaphore_create_params,
								       lifetime),
						       .name = wire_string(name),
						       .kind = kind,
						       .maximum = maximum,
						       .lifetime = lifetime };

	return raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, ret_attached);
}

int raw_semaphore_open(struct raw *raw, const char *name,
		       struct wire_semaphore_attached *ret_attached)
{
	struct wire_semaphore_name params = { .name = wire_string(name) };

	return raw_call(raw, WIRE_SEMAPHORE_OPEN, &params, ret_attached);
}

int raw_arena_fd(struct raw *raw, uint64_t arena, struct wire_arena_result *ret_result, int *ret_fd)
{
	struct wire_arena_params params = { .arena = arena };

	return take_fds(raw, raw_call(raw, WIRE_SEMAPHORE_ARENA, &params, ret_result), 1, ret_fd);
}

int raw_arena(struct raw *raw, uint64_t arena, struct layout_arena **ret_arena)
{
	struct wire_arena_result result;
	int fd, r;

	r = raw_arena_fd(raw, arena, &result, &fd);
	if (r)
		return r;
	CHECK_INT(result.bytes, LAYOUT_ARENA_BYTES);
	*ret_arena = map_shared(fd, LAYOUT_ARENA_BYTES);
	return 0;
}

int raw_close(struct raw *raw, uint64_t handle)
{
	struct wire_region_handle params = { .handle = handle };

	return raw_call(raw, WIRE_REGION_CLOSE, &params, NULL);
}

int raw_remove(struct raw *raw, const char *name, enum raw_kind kind)
{
	struct wire_remove_params params = { .has = WIRE_HAS(remove_params, kind),
					     .name = wire_string(name),
					     .kind = kind };

	return raw_call(raw, WIRE_REGION_REMOVE, &params, NULL);
}

/* ---- Lists ---- */

static void copy_name(char names[][SHMB_NAME_MAX + 1], size_t *n, struct wire_bytes name)
{
	snprintf(names[(*n)++], SHMB_NAME_MAX + 1, "%.*s", (int)name.length, name.data);
}

size_t raw_names(struct raw *raw, enum raw_kind kind,
		 char ret_names[RAW_PAGE_MAX][SHMB_NAME_MAX + 1])
{
	const struct wire_region_list_params all = { 0 };
	union {
		struct wire_region_list_result regions;
		struct wire_lock_list_result locks;
		struct wire_semaphore_list_result semaphores;
	} page;
	static const enum wire_method_id lists[] = { [RAW_REGION] = WIRE_REGION_LIST,
						     [RAW_LOCK] = WIRE_LOCK_LIST,
						     [RAW_SEMAPHORE] = WIRE_SEMAPHORE_LIST };
	size_t n = 0, i;

	if (raw_call(raw, lists[kind], &all, &page) != 0)
		return 0;
	if (kind == RAW_REGION)
		for (i = 0; i < page.regions.n_regions; i++)
			copy_name(ret_names, &n, page.regions.regions[i].name);
	if (kind == RAW_LOCK)
		for (i = 0; i < page.locks.n_locks; i++)
			if (!page.locks.locks[i].is_region)
				copy_name(ret_names, &n, page.locks.locks[i].name);
	if (kind == RAW_SEMAPHORE)
		for (i = 0; i < page.semaphores.n_semaphores; i++)
			copy_name(ret_names, &n, page.semaphores.semaphores[i].name);
	return n;
}
