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
	pthread_mutex_lock(&fake->mutex);
	fake->n_regions++;
	pthread_mutex_unlock(&fake->mutex);
	return region;
}

struct fake_region *fake_region(struct fake *fake, const char *name)
{
	struct fake_region *found = NULL;

	pthread_mutex_lock(&fake->mutex);
	for (unsigned i = 0; i < fake->n_regions; i++)
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
	return (struct wire_region_attached){
		.handle = ++fake->next_handle,
		.id = (uint64_t)(region - fake->regions) + 1,
		.size = region->size,
		.capacity = region->capacity,
		.access = access,
		.backing = SHMB_BACKING_MEMFD,
		.created = created,
	};
}

/* ---- What it does by itself ---- */

static void answer_attached(struct fake *fake, const struct fake_seen *seen,
			    struct fake_region *region, uint64_t access, bool created)
{
	struct wire_region_attached attached = fake_attached(fake, region, access, created);
	int fds[2] = { region->data, region->page };

	fake_result(fake, seen, &attached, fds, 2);
}

static void answer_create(struct fake *fake, const struct fake_seen *seen)
{
	const struct wire_region_create_params *params = &seen->params.create;
	struct fake_region *region = fake_region(fake, seen->text);
	bool created = !region;
	uint64_t capacity = params->has & WIRE_HAS(region_create_params, capacity)
				    ? params->capacity
				    : params->size;

	if (region && !params->open_existing) {
		struct wire_error error = { .code = wire_string("exists") };
		fake_error(seen, &error);
		return;
	}
	if (created)
		region = fake_make(fake, seen->text, params->size, capacity);
	answer_attached(fake, seen, region, params->access, created);
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
		.session = { "0123456789abcdef", 16 },
		.features = WIRE_FEATURE_PUBLISH,
		.page_size = PAGE,
		.max_region = UINT64_C(1) << 40,
		.max_requests = fake->max_requests,
	};

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
	case WIRE_REGION_REMOVE:
		remove_region(fake, seen->text);
		/* fallthrough */
	default:
		if (seen->kind == WIRE_REQUEST)
			fake_result(fake, seen, &empty, NULL, 0);
	}
}

/* ---- What comes ---- */

static void copy_text(struct fake_seen *seen, const struct wire_bytes *bytes)
{
	if (bytes->length > 0 && bytes->length < sizeof(seen->text))
		memcpy(seen->text, bytes->data, bytes->length);
}

static void read_params(struct fake_seen *seen, const struct wire_incoming *message)
{
	union {
		struct wire_empty empty;
		struct wire_hello_params hello;
		struct wire_region_create_params create;
		struct wire_region_open_params open;
		struct wire_region_handle handle;
		struct wire_remove_params remove;
		struct wire_region_ref ref;
		struct wire_region_watch_params watch;
		struct wire_region_resize_params resize;
		struct wire_region_chmod_params chmod;
		struct wire_region_chown_params chown;
		struct wire_region_list_params list;
	} body;
	const char *field;
	size_t size = message->method->params->size;

	MUST(wire_decode_body(message, message->method->params, &body, &field) == 0);
	memcpy(&seen->params, &body, size < sizeof(seen->params) ? size : sizeof(seen->params));
	switch (seen->method) {
	case WIRE_HELLO:
		copy_text(seen, &body.hello.client);
		break;
	case WIRE_REGION_CREATE:
		copy_text(seen, &body.create.name);
		break;
	case WIRE_REGION_OPEN:
		copy_text(seen, &body.open.name);
		break;
	case WIRE_REGION_REMOVE:
		copy_text(seen, &body.remove.name);
		break;
	case WIRE_REGION_STAT:
		copy_text(seen, &body.ref.name);
		break;
	case WIRE_REGION_CHMOD:
		copy_text(seen, &body.chmod.name);
		break;
	case WIRE_REGION_CHOWN:
		copy_text(seen, &body.chown.name);
		break;
	case WIRE_REGION_LIST:
		copy_text(seen, &body.list.cursor);
		break;
	default:
		break;
	}
}

static void record(struct fake *fake, const struct fake_seen *seen)
{
	pthread_mutex_lock(&fake->mutex);
	if (seen->method == WIRE_HELLO)
		fake->last_peer = seen->peer;
	fake->log[fake->n_log++ % FAKE_LOG] = *seen;
	fake->count[seen->method]++;
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

/* Whoever has the answer finds its request counted. */
static void count_received(struct fake *fake, enum wire_method_id method)
{
	pthread_mutex_lock(&fake->mutex);
	fake->received[method]++;
	pthread_mutex_unlock(&fake->mutex);
}

static void take_packet(struct fake *fake, int peer, const struct packet *packet)
{
	struct fake_seen seen = { .peer = peer };
	struct wire_incoming message;
	fake_handler *handler;

	MUST(wire_decode(&fake->decoder, fake->input, packet->length, &message) == 0);
	MUST(message.kind != WIRE_RESPONSE && message.method && packet->n_fds == 0);
	seen.kind = message.kind;
	seen.msgid = message.msgid;
	seen.method = message.method_id;
	count_received(fake, seen.method);
	read_params(&seen, &message);
	handler = handler_of(fake, seen.method);
	if (!handler || !handler(fake, &seen))
		answer(fake, &seen);
	record(fake, &seen);
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

static void serve(struct fake *fake, int *peer)
{
	struct packet packet;
	int result = packet_receive(*peer, fake->input, sizeof(fake->input), &packet);

	if (result == 1)
		take_packet(fake, *peer, &packet);
	else if (result != -EAGAIN)
		drop(fake, peer);
}

static void accept_peer(struct fake *fake)
{
	int peer = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);

	MUST(peer >= 0);
	pthread_mutex_lock(&fake->mutex);
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

static void *run(void *argument)
{
	struct fake *fake = argument;

	for (;;) {
		struct pollfd fds[FAKE_PEERS + 2] = {
			{ .fd = fake->stop[0], .events = POLLIN },
			{ .fd = fake->listener, .events = POLLIN },
		};
		bool paused = is_paused(fake);
		char byte;

		pthread_mutex_lock(&fake->mutex);
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
			if (fds[i + 2].revents && !is_paused(fake))
				serve(fake, &fake->peers[i]);
	}
}

/* ---- Beginning and end ---- */

static void listen_in(struct fake *fake)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(fake->directory, sizeof(fake->directory), "/tmp/shmb-fake-XXXXXX");
	MUST(mkdtemp(fake->directory));
	snprintf(fake->path, sizeof(fake->path), "%s/broker.sock", fake->directory);
	memcpy(address.sun_path, fake->path, strlen(fake->path));
	fake->listener = packet_socket();
	MUST(fake->listener >= 0);
	MUST(bind(fake->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	MUST(listen(fake->listener, FAKE_PEERS) == 0);
}

struct fake *fake_start(void)
{
	struct fake *fake = calloc(1, sizeof(*fake));

	MUST(fake);
	fake->fds_before = count_fds();
	fake->max_requests = 256;
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
	}
}

void fake_stop(struct fake *fake)
{
	size_t fds_before = fake->fds_before;

	close(fake->stop[1]);
	pthread_join(fake->thread, NULL);
	close(fake->stop[0]);
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
