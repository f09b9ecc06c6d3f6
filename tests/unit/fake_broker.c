/* SPDX-License-Identifier: MIT */
/*
 * The fake broker: one thread, one poll loop, the protocol library. Knows nothing of the client's
 * inside, and nothing of the real daemon.
 */

#include "fake_broker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Not a test's failure but the test's own trouble; may happen in the fake's thread. */
#define MUST(condition)                                                                          \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			fprintf(stderr, "%s:%d: not: %s (%s)\n", __FILE__, __LINE__, #condition, \
				strerror(errno));                                                \
			abort();                                                                 \
		}                                                                                \
	} while (0)

enum { PAGE = 4096, PATIENCE_S = 10 };

static const char token[] = "0123456789abcdef";

size_t count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t n = 0;

	MUST(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Saying things ---- */

void fake_bytes(int peer, const void *bytes, size_t length, const int *fds, unsigned n_fds)
{
	struct pollfd writable = { .fd = peer, .events = POLLOUT };

	while (packet_send(peer, bytes, length, fds, n_fds) == -EAGAIN)
		poll(&writable, 1, -1);
}

void fake_result(struct fake *fake, const struct fake_seen *to, const void *result, const int *fds,
		 unsigned n_fds)
{
	struct wire_buffer buffer;

	MUST(wire_encode_result(&buffer, to->msgid, to->method, result, n_fds) == 0);
	fake_bytes(to->peer, buffer.data, buffer.length, fds, n_fds);
}

void fake_error(const struct fake_seen *to, const struct wire_error *error)
{
	struct wire_buffer buffer;

	MUST(wire_encode_error(&buffer, to->msgid, error) == 0);
	fake_bytes(to->peer, buffer.data, buffer.length, NULL, 0);
}

static void notify(int peer, enum wire_method_id method, const void *params)
{
	struct wire_buffer buffer;

	MUST(wire_encode_notification(&buffer, method, params) == 0);
	fake_bytes(peer, buffer.data, buffer.length, NULL, 0);
}

void fake_event(int peer, uint32_t handle, unsigned types, uint64_t sequence, uint64_t size)
{
	struct wire_region_event event = {
		.handle = handle, .types = types, .sequence = sequence, .size = size
	};

	notify(peer, WIRE_REGION_EVENT, &event);
}

void fake_goodbye(int peer, const char *code, const char *what, uint64_t limit)
{
	struct wire_error error = { .code = wire_string(code) };

	if (what) {
		error.has |= WIRE_HAS(error, what);
		error.what = wire_string(what);
	}
	if (limit) {
		error.has |= WIRE_HAS(error, limit);
		error.limit = limit;
	}
	notify(peer, WIRE_GOODBYE, &error);
}

/* The thread closes it, as it may be about to read from it. */
void fake_hang_up(struct fake *fake, int peer)
{
	shutdown(peer, SHUT_RDWR);
}

/* ---- Regions ---- */

static int make_segment(uint64_t bytes)
{
	int fd = memfd_create("fake", MFD_CLOEXEC);

	MUST(fd >= 0);
	MUST(ftruncate(fd, (off_t)((bytes + PAGE - 1) / PAGE * PAGE)) == 0);
	return fd;
}

static void *map(int fd, size_t length)
{
	void *data = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	MUST(data != MAP_FAILED);
	return data;
}

struct fake_region *fake_make(struct fake *fake, const char *name, uint64_t size, uint64_t capacity)
{
	struct fake_region *region = &fake->regions[fake->n_regions];

	MUST(fake->n_regions < FAKE_REGIONS);
	snprintf(region->name, sizeof(region->name), "%s", name);
	region->size = size;
	region->capacity = capacity;
	region->data = make_segment(capacity);
	region->page = make_segment(LAYOUT_PUBLISH_BYTES);
	region->bytes = map(region->data, capacity);
	region->words = map(region->page, LAYOUT_PUBLISH_BYTES);
	region->words->magic = LAYOUT_PUBLISH_MAGIC;
	region->words->version = LAYOUT_PUBLISH_VERSION;
	region->words->size = size;
	region->lock = (struct fake_lock){ .fd = -1, .n_slots = FAKE_SLOTS };
	pthread_mutex_lock(&fake->mutex);
	fake->n_regions++;
	pthread_mutex_unlock(&fake->mutex);
	return region;
}

struct fake_region *fake_region(struct fake *fake, const char *name)
{
	struct fake_region *found = NULL;

	pthread_mutex_lock(&fake->mutex);
	for (unsigned i = 0; i < fake->n_regions && *name != '\0'; i++)
		if (strcmp(fake->regions[i].name, name) == 0)
			found = &fake->regions[i];
	pthread_mutex_unlock(&fake->mutex);
	return found;
}

static void remove_region(struct fake *fake, const char *name)
{
	struct fake_region *region = fake_region(fake, name);

	if (region)
		region->name[0] = '\0';
}

struct wire_region_attached fake_attached(struct fake *fake, const struct fake_region *region,
					  uint64_t access, bool created)
{
	uint32_t handle = ++fake->next_handle;

	MUST(handle < FAKE_HANDLES);
	fake->locks_of_handles[handle] = &fake->regions[region - fake->regions].lock;
	return (struct wire_region_attached){
		.handle = handle,
		.id = (uint64_t)(region - fake->regions) + 1,
		.size = region->size,
		.capacity = region->capacity,
		.access = access,
		.backing = region->file ? SHMB_BACKING_FILE : SHMB_BACKING_MEMFD,
		.created = created,
	};
}

/* ---- Locks and semaphores ---- */

static void make_lock(struct fake_lock *lock)
{
	size_t bytes = layout_lock_bytes(lock->n_slots);

	lock->fd = make_segment(bytes);
	lock->words = map(lock->fd, bytes);
	lock->words->magic = LAYOUT_LOCK_MAGIC;
	lock->words->version = LAYOUT_LOCK_VERSION;
	lock->words->n_slots = lock->n_slots;
}

static void free_lock(struct fake_lock *lock)
{
	if (!lock->words)
		return;
	munmap(lock->words, layout_lock_bytes(lock->n_slots));
	close(lock->fd);
}

struct fake_lock *fake_lock_of(struct fake *fake, struct fake_region *region)
{
	pthread_mutex_lock(&fake->mutex);
	if (!region->lock.words)
		make_lock(&region->lock);
	pthread_mutex_unlock(&fake->mutex);
	return &region->lock;
}

struct fake_lock *fake_named_lock(struct fake *fake, const char *name)
{
	struct fake_lock *found = NULL;

	pthread_mutex_lock(&fake->mutex);
	for (unsigned i = 0; i < fake->n_locks; i++)
		if (strcmp(fake->locks[i].name, name) == 0)
			found = &fake->locks[i];
	pthread_mutex_unlock(&fake->mutex);
	return found;
}

struct layout_locker fake_locker(const struct fake_lock *lock, uint32_t slot)
{
	return (struct layout_locker){
		.lock = lock->words,
		.own = &lock->words->slots[slot - 1],
		.slot = slot,
		.n_slots = lock->n_slots,
	};
}

static struct fake_semaphore *find_semaphore(struct fake *fake, const char *name)
{
	for (unsigned i = 0; i < fake->n_semaphores; i++)
		if (strcmp(fake->semaphores[i].name, name) == 0)
			return &fake->semaphores[i];
	return NULL;
}

static void make_arena(struct fake *fake)
{
	fake->arena_fd = make_segment(LAYOUT_ARENA_BYTES);
	fake->arena = map(fake->arena_fd, LAYOUT_ARENA_BYTES);
	fake->arena->magic = LAYOUT_ARENA_MAGIC;
	fake->arena->version = LAYOUT_ARENA_VERSION;
	fake->next_unit = LAYOUT_ARENA_FIRST;
}

static void *words_at(const struct fake *fake, uint32_t unit)
{
	return (char *)fake->arena + (size_t)unit * LAYOUT_ARENA_UNIT;
}

static struct fake_semaphore *make_semaphore(struct fake *fake, const char *name,
					     const struct wire_semaphore_create_params *params)
{
	struct fake_semaphore *semaphore = &fake->semaphores[fake->n_semaphores];

	MUST(fake->n_semaphores < FAKE_SEMAPHORES);
	if (!fake->arena)
		make_arena(fake);
	snprintf(semaphore->name, sizeof(semaphore->name), "%s", name);
	semaphore->kind = params->kind;
	semaphore->maximum = params->maximum;
	semaphore->unit = fake->next_unit;
	fake->next_unit +=
		params->kind == SHMB_OWNED ? layout_owned_units((uint32_t)params->maximum) : 1;
	if (params->kind == SHMB_COUNTING) {
		struct layout_counting *words = words_at(fake, semaphore->unit);

		words->value = (uint32_t)(params->has & WIRE_HAS(semaphore_create_params, initial)
						  ? 2 * params->initial
						  : 0);
	}
	fake->n_semaphores++;
	return semaphore;
}

void *fake_words(struct fake *fake, const char *name)
{
	struct fake_semaphore *semaphore;

	pthread_mutex_lock(&fake->mutex);
	semaphore = find_semaphore(fake, name);
	MUST(semaphore);
	pthread_mutex_unlock(&fake->mutex);
	return words_at(fake, semaphore->unit);
}

static uint32_t slot_of(struct fake *fake, int peer)
{
	uint32_t slot = 0;

	pthread_mutex_lock(&fake->mutex);
	for (uint32_t i = 0; i < FAKE_PEERS; i++)
		if (fake->peers[i] == peer)
			slot = i + 1;
	pthread_mutex_unlock(&fake->mutex);
	MUST(slot != 0);
	return slot;
}

uint32_t fake_slot(struct fake *fake)
{
	return slot_of(fake, fake_peer(fake));
}

/* ---- What it does by itself ---- */

static void answer_error(const struct fake_seen *seen, const char *code)
{
	struct wire_error error = { .code = wire_string(code) };

	fake_error(seen, &error);
}

static void answer_region_lock(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_lock *lock = fake->locks_of_handles[seen->params.handle.handle];
	struct wire_region_lock_result result = { .slot = 0 };

	MUST(lock);
	pthread_mutex_lock(&fake->mutex);
	if (!lock->words)
		make_lock(lock);
	if (lock->n_given < lock->n_slots)
		result.slot = ++lock->n_given;
	pthread_mutex_unlock(&fake->mutex);
	result.slots = lock->n_slots;
	if (result.slot == 0)
		answer_error(seen, "no-slots");
	else
		fake_result(fake, seen, &result, &lock->fd, 1);
}

static void attach_lock(struct fake *fake, const struct fake_seen *seen, struct fake_lock *lock,
			bool created)
{
	struct wire_lock_attached result = {
		.handle = ++fake->next_handle,
		.id = 1000 + (uint64_t)(lock - fake->locks),
		.slot = ++lock->n_given,
		.slots = lock->n_slots,
		.created = created,
	};

	fake_result(fake, seen, &result, &lock->fd, 1);
}

static void answer_lock_create(struct fake *fake, const struct fake_seen *seen)
{
	const struct wire_lock_create_params *params = &seen->params.lock_create;
	struct fake_lock *lock = fake_named_lock(fake, seen->text);
	bool created = !lock;

	if (lock && !params->open_existing) {
		answer_error(seen, "exists");
		return;
	}
	if (created) {
		pthread_mutex_lock(&fake->mutex);
		MUST(fake->n_locks < FAKE_LOCKS);
		lock = &fake->locks[fake->n_locks++];
		snprintf(lock->name, sizeof(lock->name), "%s", seen->text);
		lock->n_slots = params->has & WIRE_HAS(lock_create_params, slots)
					? (uint32_t)params->slots
					: FAKE_SLOTS;
		make_lock(lock);
		pthread_mutex_unlock(&fake->mutex);
	}
	attach_lock(fake, seen, lock, created);
}

static void answer_lock_open(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_lock *lock = fake_named_lock(fake, seen->text);

	if (lock)
		attach_lock(fake, seen, lock, false);
	else
		answer_error(seen, "not-found");
}

static void attach_semaphore(struct fake *fake, const struct fake_seen *seen,
			     const struct fake_semaphore *semaphore, bool created)
{
	struct wire_semaphore_attached result = {
		.handle = ++fake->next_handle,
		.id = 2000 + (uint64_t)(semaphore - fake->semaphores),
		.kind = semaphore->kind,
		.maximum = semaphore->maximum,
		.arena = 7,
		.unit = semaphore->unit,
		.slot = slot_of(fake, seen->peer),
		.created = created,
	};

	fake_result(fake, seen, &result, NULL, 0);
}

static void answer_semaphore_create(struct fake *fake, const struct fake_seen *seen)
{
	const struct wire_semaphore_create_params *params = &seen->params.semaphore_create;
	struct fake_semaphore *semaphore;
	bool created;

	pthread_mutex_lock(&fake->mutex);
	semaphore = find_semaphore(fake, seen->text);
	created = !semaphore;
	if (created)
		semaphore = make_semaphore(fake, seen->text, params);
	pthread_mutex_unlock(&fake->mutex);
	if (created || params->open_existing)
		attach_semaphore(fake, seen, semaphore, created);
	else
		answer_error(seen, "exists");
}

static void answer_semaphore_open(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_semaphore *semaphore;

	pthread_mutex_lock(&fake->mutex);
	semaphore = find_semaphore(fake, seen->text);
	pthread_mutex_unlock(&fake->mutex);
	if (semaphore)
		attach_semaphore(fake, seen, semaphore, false);
	else
		answer_error(seen, "not-found");
}

static void answer_arena(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_arena_result result = { .bytes = LAYOUT_ARENA_BYTES };

	fake_result(fake, seen, &result, &fake->arena_fd, 1);
}

static void answer_attached(struct fake *fake, const struct fake_seen *seen,
			    struct fake_region *region, uint64_t access, bool created)
{
	struct wire_region_attached attached = fake_attached(fake, region, access, created);
	int fds[2] = { region->data, region->page };

	fake_result(fake, seen, &attached, fds, 2);
}

/* An answer that may have been lost, if this request was sent before. */
static const struct fake_done *find_done(struct fake *fake, const struct fake_seen *seen)
{
	for (unsigned i = 0; seen->again && i < FAKE_DONE; i++)
		if (fake->done[i].region && fake->done[i].msgid == seen->msgid)
			return &fake->done[i];
	return NULL;
}

static const struct fake_done *perform_create(struct fake *fake, const struct fake_seen *seen,
					      struct fake_region *region)
{
	const struct wire_region_create_params *params = &seen->params.create;
	struct fake_done *done = &fake->done[fake->n_done++ % FAKE_DONE];
	bool created = !region;
	uint64_t capacity = params->has & WIRE_HAS(region_create_params, capacity)
				    ? params->capacity
				    : params->size;

	if (created)
		region = fake_make(fake, seen->text, params->size, capacity);
	*done = (struct fake_done){
		.msgid = seen->msgid,
		.region = region,
		.attached = fake_attached(fake, region, params->access, created),
	};
	return done;
}

void fake_perform_create(struct fake *fake, const struct fake_seen *seen)
{
	perform_create(fake, seen, fake_region(fake, seen->text));
}

static void answer_create(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_region *region = fake_region(fake, seen->text);
	const struct fake_done *done = find_done(fake, seen);
	int fds[2];

	if (!done && region && !seen->params.create.open_existing) {
		struct wire_error error = { .code = wire_string("exists") };
		fake_error(seen, &error);
		return;
	}
	if (!done)
		done = perform_create(fake, seen, region);
	fds[0] = done->region->data;
	fds[1] = done->region->page;
	fake_result(fake, seen, &done->attached, fds, 2);
}

static const struct fake_done *perform_adopt(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_done *done = &fake->done[fake->n_done++ % FAKE_DONE];
	struct fake_region *region =
		fake_make(fake, seen->text, seen->params.adopt.size, seen->params.adopt.size);

	MUST(seen->n_fds == 2);
	MUST(dup3(seen->fds[0], region->data, O_CLOEXEC) >= 0);
	region->file = true;
	*done = (struct fake_done){
		.msgid = seen->msgid,
		.region = region,
		.attached = fake_attached(fake, region, seen->params.adopt.access, true),
	};
	return done;
}

void fake_perform_adopt(struct fake *fake, const struct fake_seen *seen)
{
	perform_adopt(fake, seen);
}

static void answer_adopt(struct fake *fake, const struct fake_seen *seen)
{
	const struct fake_done *done = find_done(fake, seen);
	int fds[2];

	MUST(fake->begun);
	if (!done && fake_region(fake, seen->text)) {
		struct wire_error error = { .code = wire_string("exists") };
		fake_error(seen, &error);
		return;
	}
	if (!done)
		done = perform_adopt(fake, seen);
	fds[0] = done->region->data;
	fds[1] = done->region->page;
	fake_result(fake, seen, &done->attached, fds, 2);
}

static void answer_begin(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_empty empty = { 0 };

	fake->begun = true;
	fake_result(fake, seen, &empty, NULL, 0);
}

static void answer_stat(struct fake *fake, const struct fake_seen *seen)
{
	const struct fake_region *region = fake_region(fake, seen->text);
	struct wire_error error = { .code = wire_string("not-found") };
	struct wire_region_info info = { .name = wire_string(seen->text) };

	if (!region) {
		fake_error(seen, &error);
		return;
	}
	info.id = 1;
	info.size = region->size;
	info.capacity = region->capacity;
	info.backing = SHMB_BACKING_MEMFD;
	fake_result(fake, seen, &info, NULL, 0);
}

static void answer_open(struct fake *fake, const struct fake_seen *seen)
{
	struct fake_region *region = fake_region(fake, seen->text);
	struct wire_error error = { .code = wire_string("not-found") };

	if (region)
		answer_attached(fake, seen, region, seen->params.open.access, false);
	else
		fake_error(seen, &error);
}

static void answer_hello(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_hello_result result = {
		.version = WIRE_VERSION,
		.broker = wire_string("fake"),
		.session = { token, 16 },
		.resumed = seen->resumes,
		.features = fake->features,
		.page_size = PAGE,
		.max_region = UINT64_C(1) << 40,
		.max_requests = fake->max_requests,
	};
	const char *refusal = NULL;

	pthread_mutex_lock(&fake->mutex);
	fake->again = seen->params.hello.again;
	if (seen->resumes && fake->n_refusals > 0) {
		fake->n_refusals--;
		refusal = fake->refusal;
	}
	pthread_mutex_unlock(&fake->mutex);
	if (refusal) {
		answer_error(seen, refusal);
		return;
	}
	fake_result(fake, seen, &result, NULL, 0);
}

static void answer(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_empty empty = { 0 };

	switch (seen->method) {
	case WIRE_HELLO:
		answer_hello(fake, seen);
		break;
	case WIRE_REGION_CREATE:
		answer_create(fake, seen);
		break;
	case WIRE_REGION_OPEN:
		answer_open(fake, seen);
		break;
	case WIRE_REGION_STAT:
		answer_stat(fake, seen);
		break;
	case WIRE_ADOPT_BEGIN:
		answer_begin(fake, seen);
		break;
	case WIRE_REGION_ADOPT:
		answer_adopt(fake, seen);
		break;
	case WIRE_REGION_LOCK:
		answer_region_lock(fake, seen);
		break;
	case WIRE_LOCK_CREATE:
		answer_lock_create(fake, seen);
		break;
	case WIRE_LOCK_OPEN:
		answer_lock_open(fake, seen);
		break;
	case WIRE_SEMAPHORE_CREATE:
		answer_semaphore_create(fake, seen);
		break;
	case WIRE_SEMAPHORE_OPEN:
		answer_semaphore_open(fake, seen);
		break;
	case WIRE_SEMAPHORE_ARENA:
		answer_arena(fake, seen);
		break;
	case WIRE_REGION_REMOVE:
		remove_region(fake, seen->text);
		/* fallthrough */
	default:
		if (seen->kind == WIRE_REQUEST)
			fake_result(fake, seen, &empty, NULL, 0);
	}
}

/* ---- What comes ---- */

union params {
	struct wire_empty empty;
	struct wire_hello_params hello;
	struct wire_region_create_params create;
	struct wire_region_open_params open;
	struct wire_region_adopt_params adopt;
	struct wire_region_ticket_params ticket;
	struct wire_region_redeem_params redeem;
	struct wire_region_handle handle;
	struct wire_remove_params remove;
	struct wire_region_ref ref;
	struct wire_region_watch_params watch;
	struct wire_region_resize_params resize;
	struct wire_region_chmod_params chmod;
	struct wire_region_chown_params chown;
	struct wire_region_list_params list;
	struct wire_lock_create_params lock_create;
	struct wire_lock_name lock_name;
	struct wire_semaphore_create_params semaphore_create;
	struct wire_semaphore_name semaphore_name;
	struct wire_arena_params arena;
	struct wire_holders_params holders;
};

/* The one string of a request that tests ask for; NULL: it has none. */
static const struct wire_bytes *text_of(enum wire_method_id method, const union params *params)
{
	switch (method) {
	case WIRE_HELLO:
		return &params->hello.client;
	case WIRE_REGION_CREATE:
		return &params->create.name;
	case WIRE_REGION_OPEN:
		return &params->open.name;
	case WIRE_REGION_ADOPT:
		return &params->adopt.name;
	case WIRE_REGION_REDEEM:
		return &params->redeem.ticket;
	case WIRE_REGION_REMOVE:
		return &params->remove.name;
	case WIRE_LOCK_CREATE:
		return &params->lock_create.name;
	case WIRE_LOCK_OPEN:
	case WIRE_LOCK_STAT:
		return &params->lock_name.name;
	case WIRE_SEMAPHORE_CREATE:
		return &params->semaphore_create.name;
	case WIRE_SEMAPHORE_OPEN:
	case WIRE_SEMAPHORE_STAT:
		return &params->semaphore_name.name;
	case WIRE_HOLDERS:
		return &params->holders.name;
	case WIRE_REGION_STAT:
		return &params->ref.name;
	case WIRE_REGION_CHMOD:
		return &params->chmod.name;
	case WIRE_REGION_CHOWN:
		return &params->chown.name;
	case WIRE_REGION_LIST:
	case WIRE_LOCK_LIST:
	case WIRE_SEMAPHORE_LIST:
		return &params->list.cursor;
	default:
		return NULL;
	}
}

static void read_params(struct fake_seen *seen, const struct wire_incoming *message)
{
	size_t size = message->method->params->size;
	const struct wire_bytes *text;
	union params params;
	const char *field;

	MUST(wire_decode_body(message, message->method->params, &params, &field) == 0);
	memcpy(&seen->params, &params, size < sizeof(seen->params) ? size : sizeof(seen->params));
	if (seen->method == WIRE_HELLO)
		seen->resumes = params.hello.has & WIRE_HAS(hello_params, session) &&
				memcmp(params.hello.session.data, token, 16) == 0;
	text = text_of(seen->method, &params);
	if (text && text->length > 0 && text->length < sizeof(seen->text))
		memcpy(seen->text, text->data, text->length);
	if (seen->method == WIRE_REGION_ADOPT && params.adopt.path.length > 0 &&
	    params.adopt.path.length < sizeof(seen->path))
		memcpy(seen->path, params.adopt.path.data, params.adopt.path.length);
}

/* Whoever has the answer finds its request counted and logged. */
static void record_received(struct fake *fake, const struct fake_seen *seen)
{
	pthread_mutex_lock(&fake->mutex);
	if (seen->method == WIRE_HELLO)
		fake->last_peer = seen->peer;
	fake->log[fake->n_log++ % FAKE_LOG] = *seen;
	fake->received[seen->method]++;
	pthread_mutex_unlock(&fake->mutex);
}

static void record_served(struct fake *fake, enum wire_method_id method)
{
	pthread_mutex_lock(&fake->mutex);
	fake->count[method]++;
	pthread_cond_broadcast(&fake->cond);
	pthread_mutex_unlock(&fake->mutex);
}

static fake_handler *handler_of(struct fake *fake, enum wire_method_id method)
{
	fake_handler *handler;

	pthread_mutex_lock(&fake->mutex);
	handler = fake->handlers[method];
	pthread_mutex_unlock(&fake->mutex);
	return handler;
}

static void take_packet(struct fake *fake, int peer, const struct packet *packet)
{
	struct fake_seen seen = { .peer = peer };
	struct wire_incoming message;
	fake_handler *handler;

	MUST(wire_decode(&fake->decoder, fake->input, packet->length, &message) == 0);
	MUST(message.kind != WIRE_RESPONSE && message.method);
	MUST(packet->n_fds == message.n_fds && message.n_fds == message.method->fds_in);
	memcpy(seen.fds, packet->fds, sizeof(seen.fds));
	seen.n_fds = packet->n_fds;
	seen.kind = message.kind;
	seen.msgid = message.msgid;
	seen.method = message.method_id;
	read_params(&seen, &message);
	if (seen.method == WIRE_HELLO)
		fake->begun = seen.params.hello.has & WIRE_HAS(hello_params, adopt) &&
			      seen.params.hello.adopt;
	if (seen.kind == WIRE_REQUEST && seen.method != WIRE_HELLO && fake->again > 0) {
		fake->again--;
		seen.again = true;
	}
	record_received(fake, &seen);
	handler = handler_of(fake, seen.method);
	if (!handler || !handler(fake, &seen))
		answer(fake, &seen);
	record_served(fake, seen.method);
}

static void drop(struct fake *fake, int *peer)
{
	pthread_mutex_lock(&fake->mutex);
	close(*peer);
	*peer = -1;
	fake->n_ended++;
	pthread_cond_broadcast(&fake->cond);
	pthread_mutex_unlock(&fake->mutex);
}

/* As a broker that has seen a session's end, or one that dies just then. */
static void confirm_end(struct fake *fake, int peer)
{
	bool silent;

	pthread_mutex_lock(&fake->mutex);
	silent = fake->n_silent_ends > 0;
	if (silent)
		fake->n_silent_ends--;
	pthread_mutex_unlock(&fake->mutex);
	if (!silent)
		fake_goodbye(peer, "closed", NULL, 0);
}

void fake_end_silently(struct fake *fake, unsigned n)
{
	pthread_mutex_lock(&fake->mutex);
	fake->n_silent_ends = n;
	pthread_mutex_unlock(&fake->mutex);
}

static void serve(struct fake *fake, int *peer)
{
	struct packet packet;
	int result = packet_receive(*peer, fake->input, sizeof(fake->input), &packet);

	if (result == 1) {
		take_packet(fake, *peer, &packet);
		packet_close_fds(&packet);
	} else if (result != -EAGAIN) {
		if (result == 0)
			confirm_end(fake, *peer);
		drop(fake, peer);
	}
}

static void accept_peer(struct fake *fake)
{
	int peer = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);

	if (peer < 0 && errno == ECONNABORTED)
		return;
	MUST(peer >= 0);
	pthread_mutex_lock(&fake->mutex);
	fake->n_accepted++;
	for (int i = 0; i < FAKE_PEERS; i++) {
		if (fake->peers[i] < 0) {
			fake->peers[i] = peer;
			peer = -1;
			break;
		}
	}
	pthread_mutex_unlock(&fake->mutex);
	MUST(peer < 0);
}

static bool is_paused(struct fake *fake)
{
	bool paused;

	pthread_mutex_lock(&fake->mutex);
	paused = fake->paused;
	pthread_mutex_unlock(&fake->mutex);
	return paused;
}

static bool is_ending(struct fake *fake)
{
	bool is;

	pthread_mutex_lock(&fake->mutex);
	is = fake->ending != 0;
	pthread_mutex_unlock(&fake->mutex);
	return is;
}

static void listen_at(struct fake *fake)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = packet_socket();

	memcpy(address.sun_path, fake->path, strlen(fake->path));
	MUST(listener >= 0);
	unlink(fake->path);
	MUST(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	MUST(listen(listener, FAKE_PEERS) == 0);
	fake->listener = listener;
}

/* Return: false: it goes on. */
static bool end_if_told(struct fake *fake)
{
	enum fake_ending ending;

	pthread_mutex_lock(&fake->mutex);
	ending = fake->ending;
	fake->ending = 0;
	if (ending != 0) {
		for (int i = 0; i < FAKE_PEERS; i++) {
			if (fake->peers[i] >= 0)
				close(fake->peers[i]);
			fake->peers[i] = -1;
		}
		fake->deaf = ending == FAKE_SLEEP;
		if (ending != FAKE_SLEEP) {
			close(fake->listener);
			fake->listener = -1;
			unlink(fake->path);
		}
		if (ending == FAKE_CRASH)
			listen_at(fake);
		fake->n_endings++;
		pthread_cond_broadcast(&fake->cond);
	}
	pthread_mutex_unlock(&fake->mutex);
	return ending != 0;
}

static void *run(void *argument)
{
	struct fake *fake = argument;

	for (;;) {
		struct pollfd fds[FAKE_PEERS + 2] = {
			{ .fd = fake->stop[0], .events = POLLIN },
			{ .fd = -1, .events = POLLIN },
		};
		bool paused = is_paused(fake);
		char byte;

		if (end_if_told(fake))
			continue;
		pthread_mutex_lock(&fake->mutex);
		fds[1].fd = fake->deaf ? -1 : fake->listener;
		for (int i = 0; i < FAKE_PEERS; i++)
			fds[i + 2] = (struct pollfd){ .fd = paused ? -1 : fake->peers[i],
						      .events = POLLIN };
		pthread_mutex_unlock(&fake->mutex);
		if (poll(fds, FAKE_PEERS + 2, -1) < 0)
			continue;
		if (fds[0].revents && read(fake->stop[0], &byte, 1) != 1)
			return NULL;
		if (fds[1].revents)
			accept_peer(fake);
		for (int i = 0; i < FAKE_PEERS; i++)
			if (fds[i + 2].revents && !is_paused(fake) && !is_ending(fake))
				serve(fake, &fake->peers[i]);
	}
}

/* ---- Beginning and end ---- */

static void listen_in(struct fake *fake)
{
	snprintf(fake->directory, sizeof(fake->directory), "/tmp/shmb-fake-XXXXXX");
	MUST(mkdtemp(fake->directory));
	snprintf(fake->path, sizeof(fake->path), "%s/broker.sock", fake->directory);
	listen_at(fake);
}

struct fake *fake_start(void)
{
	struct fake *fake = calloc(1, sizeof(*fake));

	MUST(fake);
	fake->fds_before = count_fds();
	fake->max_requests = 256;
	fake->features = WIRE_FEATURE_PUBLISH;
	fake->last_peer = -1;
	for (int i = 0; i < FAKE_PEERS; i++)
		fake->peers[i] = -1;
	MUST(pthread_mutex_init(&fake->mutex, NULL) == 0);
	MUST(pthread_cond_init(&fake->cond, NULL) == 0);
	MUST(wire_decoder_init(&fake->decoder) == 0);
	MUST(pipe2(fake->stop, O_CLOEXEC) == 0);
	listen_in(fake);
	MUST(pthread_create(&fake->thread, NULL, run, fake) == 0);
	return fake;
}

static void free_regions(struct fake *fake)
{
	for (unsigned i = 0; i < fake->n_regions; i++) {
		struct fake_region *region = &fake->regions[i];
		munmap(region->bytes, region->capacity);
		munmap(region->words, LAYOUT_PUBLISH_BYTES);
		close(region->data);
		close(region->page);
		free_lock(&region->lock);
	}
	for (unsigned i = 0; i < fake->n_locks; i++)
		free_lock(&fake->locks[i]);
	if (fake->arena) {
		munmap(fake->arena, LAYOUT_ARENA_BYTES);
		close(fake->arena_fd);
	}
}

void fake_stop(struct fake *fake)
{
	size_t fds_before = fake->fds_before;

	close(fake->stop[1]);
	pthread_join(fake->thread, NULL);
	close(fake->stop[0]);
	if (fake->listener >= 0)
		close(fake->listener);
	for (int i = 0; i < FAKE_PEERS; i++)
		if (fake->peers[i] >= 0)
			close(fake->peers[i]);
	free_regions(fake);
	unlink(fake->path);
	rmdir(fake->directory);
	wire_decoder_deinit(&fake->decoder);
	pthread_cond_destroy(&fake->cond);
	pthread_mutex_destroy(&fake->mutex);
	free(fake);
	assert_int_equal(count_fds(), fds_before);
}

int fake_setup(void **state)
{
	*state = fake_start();
	return 0;
}

int fake_teardown(void **state)
{
	fake_stop(*state);
	return 0;
}

/* ---- For the tests ---- */

void fake_handle(struct fake *fake, enum wire_method_id method, fake_handler *handler)
{
	pthread_mutex_lock(&fake->mutex);
	fake->handlers[method] = handler;
	pthread_mutex_unlock(&fake->mutex);
}

static struct timespec patience(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	return until;
}

static void wait_for(struct fake *fake, const unsigned *counter, unsigned n, const char *what)
{
	struct timespec until = patience();
	unsigned seen;
	int result = 0;

	pthread_mutex_lock(&fake->mutex);
	while (*counter < n && result == 0)
		result = pthread_cond_timedwait(&fake->cond, &fake->mutex, &until);
	seen = *counter;
	pthread_mutex_unlock(&fake->mutex);
	if (seen < n)
		fail_msg("%s came %u times, not %u", what, seen, n);
}

void fake_wait(struct fake *fake, enum wire_method_id method, unsigned n)
{
	wait_for(fake, &fake->count[method], n, wire_methods[method].name);
}

void fake_wait_ended(struct fake *fake, unsigned n)
{
	wait_for(fake, &fake->n_ended, n, "hang-up");
}

unsigned fake_count(struct fake *fake, enum wire_method_id method)
{
	unsigned n;

	pthread_mutex_lock(&fake->mutex);
	n = fake->received[method];
	pthread_mutex_unlock(&fake->mutex);
	return n;
}

unsigned fake_ended(struct fake *fake)
{
	unsigned n;

	pthread_mutex_lock(&fake->mutex);
	n = fake->n_ended;
	pthread_mutex_unlock(&fake->mutex);
	return n;
}

struct fake_seen fake_last(struct fake *fake, enum wire_method_id method)
{
	struct fake_seen seen = { .peer = -1 };

	pthread_mutex_lock(&fake->mutex);
	for (unsigned i = fake->n_log; i-- > 0 && fake->n_log - i <= FAKE_LOG;)
		if (fake->log[i % FAKE_LOG].method == method) {
			seen = fake->log[i % FAKE_LOG];
			break;
		}
	pthread_mutex_unlock(&fake->mutex);
	assert_true(seen.peer >= 0);
	return seen;
}

void fake_pause(struct fake *fake, bool paused)
{
	pthread_mutex_lock(&fake->mutex);
	fake->paused = paused;
	pthread_mutex_unlock(&fake->mutex);
	MUST(write(fake->stop[1], "", 1) == 1);
}

void fake_end(struct fake *fake, enum fake_ending ending)
{
	pthread_mutex_lock(&fake->mutex);
	fake->ending = ending;
	pthread_mutex_unlock(&fake->mutex);
	MUST(write(fake->stop[1], "", 1) == 1);
}

void fake_wait_endings(struct fake *fake, unsigned n)
{
	wait_for(fake, &fake->n_endings, n, "end");
}

void fake_live(struct fake *fake)
{
	pthread_mutex_lock(&fake->mutex);
	if (fake->listener < 0)
		listen_at(fake);
	fake->deaf = false;
	pthread_mutex_unlock(&fake->mutex);
	MUST(write(fake->stop[1], "", 1) == 1);
}

void fake_refuse(struct fake *fake, const char *code, unsigned n)
{
	pthread_mutex_lock(&fake->mutex);
	fake->refusal = code;
	fake->n_refusals = n;
	pthread_mutex_unlock(&fake->mutex);
}

void fake_condemn(struct fake *fake, int peer, const char *code)
{
	fake_goodbye(peer, code, NULL, 0);
	shutdown(peer, SHUT_WR);
}

unsigned fake_accepted(struct fake *fake)
{
	unsigned n;

	pthread_mutex_lock(&fake->mutex);
	n = fake->n_accepted;
	pthread_mutex_unlock(&fake->mutex);
	return n;
}

unsigned fake_log(struct fake *fake, unsigned first, struct fake_seen *ret_seen, unsigned most)
{
	unsigned n = 0;

	pthread_mutex_lock(&fake->mutex);
	assert_true(fake->n_log - first <= FAKE_LOG);
	for (; first + n < fake->n_log && n < most; n++)
		ret_seen[n] = fake->log[(first + n) % FAKE_LOG];
	pthread_mutex_unlock(&fake->mutex);
	return n;
}

int fake_peer(struct fake *fake)
{
	int peer;

	pthread_mutex_lock(&fake->mutex);
	peer = fake->last_peer;
	pthread_mutex_unlock(&fake->mutex);
	assert_true(peer >= 0);
	return peer;
}

struct shmb_client *fake_connect(struct fake *fake, int timeout_ms)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;
	unsigned before = fake_count(fake, WIRE_HELLO);

	options.timeout_ms = timeout_ms;
	assert_code(shmb_client_connect(fake->path, &options, &client), 0);
	fake_wait(fake, WIRE_HELLO, before + 1);
	return client;
}

int fake_in_child(int (*function)(void *argument), void *argument)
{
	pid_t pid = fork();
	int status;

	MUST(pid >= 0);
	if (pid == 0)
		_exit(function(argument));
	while (waitpid(pid, &status, 0) < 0)
		MUST(errno == EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
