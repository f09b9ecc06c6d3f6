/* SPDX-License-Identifier: MIT */
/* attach, rtt, create_remove, resize: what goes through the broker, against a bare epoll server of
 * the same packets. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

#include "wire/wire.h"

#include "bench.h"
#include "broker.h"
#include "server.h"

enum { ATTACH_BYTES = 65536, PAGE_BYTES = 4096, MSGID = 100000 };

static const char region_name[] = "bench/attach";

struct exchange {
	struct shmb_client *client;
	int socket; /* to the bare server */
	size_t request_length;
	size_t close_length; /* of what tells the server that the mappings are gone; 0: nothing */
};

/* ---- Ours ---- */

static int run_ping(void *context, uint64_t count, double *ret_ns)
{
	const struct exchange *exchange = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = shmb_client_ping(exchange->client);

		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_attach(void *context, uint64_t count, double *ret_ns)
{
	const struct exchange *exchange = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		struct shmb_region *region;
		int r = shmb_region_open(exchange->client, region_name, SHMB_READ | SHMB_WRITE,
					 NULL, &region);

		if (r < 0)
			return r;
		*(volatile char *)shmb_region_data(region) = 1;
		(void)shmb_region_sequence(region);
		shmb_region_free(region);
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int run_create_remove(void *context, uint64_t count, double *ret_ns)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	const struct exchange *exchange = context;
	double begin = bench_now();

	options.lifetime = SHMB_PERSISTENT;
	options.backing = SHMB_BACKING_SHM;
	for (uint64_t i = 0; i < count; i++) {
		struct shmb_region *region;
		int r = shmb_region_create(exchange->client, region_name, ATTACH_BYTES, &options,
					   &region);

		if (r < 0)
			return r;
		*(volatile char *)shmb_region_data(region) = 1;
		(void)shmb_region_sequence(region);
		shmb_region_free(region);
		r = shmb_region_remove(exchange->client, region_name);
		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

/* Half of it goes, and comes back; something was there each time. */
static int shrink_and_grow(struct shmb_region *region)
{
	int r = shmb_region_write_u8(region, ATTACH_BYTES - 1, 1);

	if (r >= 0)
		r = shmb_region_resize(region, ATTACH_BYTES / 2);
	return r < 0 ? r : shmb_region_resize(region, ATTACH_BYTES);
}

static int run_resize(void *context, uint64_t count, double *ret_ns)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	const struct exchange *exchange = context;
	struct shmb_region *region;
	double begin;
	int r;

	options.backing = SHMB_BACKING_SHM;
	r = shmb_region_create(exchange->client, region_name, ATTACH_BYTES, &options, &region);
	if (r < 0)
		return r;
	begin = bench_now();
	for (uint64_t i = 0; i < count && r >= 0; i++)
		r = shrink_and_grow(region);
	*ret_ns = bench_now() - begin;
	shmb_region_free(region);
	return r;
}

/* ---- The floors ---- */

static int punch_and_ask(const struct exchange *exchange, int fd)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ATTACH_BYTES / 2,
		      ATTACH_BYTES / 2) < 0)
		return -errno;
	return server_ask(exchange->socket, exchange->request_length, 0, NULL);
}

static int run_bare_resize(void *context, uint64_t count, double *ret_ns)
{
	const struct exchange *exchange = context;
	int fd = memfd_create("bench", MFD_CLOEXEC), r = 0;
	volatile char *data = MAP_FAILED;
	double begin;

	if (fd >= 0 && ftruncate(fd, ATTACH_BYTES) == 0)
		data = mmap(NULL, ATTACH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	begin = bench_now();
	for (uint64_t i = 0; i < count && r >= 0; i++) {
		data[ATTACH_BYTES - 1] = 1;
		r = punch_and_ask(exchange, fd);
		if (r >= 0)
			r = punch_and_ask(exchange, fd);
	}
	*ret_ns = bench_now() - begin;
	munmap((void *)(uintptr_t)data, ATTACH_BYTES);
	close(fd);
	return r;
}

static int run_echo(void *context, uint64_t count, double *ret_ns)
{
	const struct exchange *exchange = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int r = server_ask(exchange->socket, exchange->request_length, 0, NULL);

		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int map_touch_unmap(int fd, size_t length)
{
	char *data = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)close(fd);
	if (data == MAP_FAILED)
		return -errno;
	*(volatile char *)data = 1;
	return munmap(data, length) < 0 ? -errno : 0;
}

static int run_bare_attach(void *context, uint64_t count, double *ret_ns)
{
	const struct exchange *exchange = context;
	double begin = bench_now();

	for (uint64_t i = 0; i < count; i++) {
		int fds[SERVER_FDS_MAX];
		int r = server_ask(exchange->socket, exchange->request_length, 2, fds);

		if (r < 0)
			return r;
		r = map_touch_unmap(fds[0], ATTACH_BYTES);
		if (r >= 0)
			r = map_touch_unmap(fds[1], PAGE_BYTES);
		if (r >= 0 && exchange->close_length > 0)
			r = server_tell(exchange->socket, exchange->close_length);
		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

static int make_object(const char *name, size_t length)
{
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)length) < 0) {
		int error = errno;

		(void)close(fd);
		return -error;
	}
	return map_touch_unmap(fd, length);
}

static int run_bare_create_remove(void *context, uint64_t count, double *ret_ns)
{
	const struct exchange *exchange = context;
	double begin = bench_now();
	char data[64], page[64];

	(void)snprintf(data, sizeof(data), "/shmb_bench.%ld.d", (long)getpid());
	(void)snprintf(page, sizeof(page), "/shmb_bench.%ld.p", (long)getpid());
	for (uint64_t i = 0; i < count; i++) {
		int r = server_ask(exchange->socket, exchange->request_length, 0, NULL);

		if (r >= 0)
			r = make_object(data, ATTACH_BYTES);
		if (r >= 0)
			r = make_object(page, PAGE_BYTES);
		if (r >= 0)
			r = server_ask(exchange->socket, exchange->request_length, 0, NULL);
		(void)shm_unlink(data);
		(void)shm_unlink(page);
		if (r < 0)
			return r;
	}
	*ret_ns = bench_now() - begin;
	return 0;
}

/* ---- As long as ours ---- */

static int ping_lengths(size_t *ret_request, size_t *ret_reply)
{
	static const struct wire_empty nothing;
	static struct wire_buffer buffer;
	int r = wire_encode_request(&buffer, MSGID, WIRE_PING, &nothing, 0);

	if (r < 0)
		return r;
	*ret_request = buffer.length;
	r = wire_encode_result(&buffer, MSGID, WIRE_PING, &nothing, 0);
	*ret_reply = buffer.length;
	return r;
}

static int close_length(size_t *ret_length)
{
	const struct wire_region_handle params = { .handle = MSGID };
	static struct wire_buffer buffer;
	int r = wire_encode_notification(&buffer, WIRE_REGION_CLOSE, &params);

	*ret_length = buffer.length;
	return r;
}

static int open_lengths(size_t *ret_request, size_t *ret_reply)
{
	const struct wire_region_open_params params = { .name = wire_string(region_name),
							.access = SHMB_READ | SHMB_WRITE };
	const struct wire_region_attached result = { .handle = MSGID,
						     .id = 1,
						     .size = ATTACH_BYTES,
						     .capacity = ATTACH_BYTES,
						     .access = SHMB_READ | SHMB_WRITE,
						     .backing = SHMB_BACKING_SHM };
	static struct wire_buffer buffer;
	int r = wire_encode_request(&buffer, MSGID, WIRE_REGION_OPEN, &params, 0);

	if (r < 0)
		return r;
	*ret_request = buffer.length;
	r = wire_encode_result(&buffer, MSGID, WIRE_REGION_OPEN, &result, 2);
	*ret_reply = buffer.length;
	return r;
}

/* Two segments such as the broker's of that backing, every page there. */
static int make_segments(const struct bench *bench, enum shmb_backing backing, int *ret_fds)
{
	static const size_t lengths[] = { ATTACH_BYTES, PAGE_BYTES };
	static char zeros[ATTACH_BYTES];
	char name[64];

	for (int i = 0; i < 2; i++) {
		if (backing == SHMB_BACKING_SHM) {
			(void)snprintf(name, sizeof(name), "/shmb_bench.%ld.%d", (long)getpid(), i);
			ret_fds[i] = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
			if (ret_fds[i] >= 0)
				(void)shm_unlink(name);
		} else {
			ret_fds[i] = memfd_create("bench", MFD_CLOEXEC);
		}
		if (ret_fds[i] < 0)
			return -errno;
		if (write(ret_fds[i], zeros, lengths[i]) != (ssize_t)lengths[i])
			return -errno;
	}
	return 0;
}

/* ---- The comparison ---- */

static int connect_both(const struct bench_broker *broker, const char *path,
			struct exchange *exchange)
{
	int r = shmb_client_connect(broker->address, NULL, &exchange->client);

	if (r < 0)
		return r;
	exchange->socket = server_connect(path);
	return exchange->socket < 0 ? exchange->socket : 0;
}

static int make_region(struct shmb_client *client, enum shmb_backing backing)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;
	int r;

	options.lifetime = SHMB_PERSISTENT;
	options.backing = backing;
	r = shmb_region_create(client, region_name, ATTACH_BYTES, &options, &region);
	if (r < 0)
		return r;
	memset(shmb_region_data(region), 1, ATTACH_BYTES);
	shmb_region_free(region);
	return 0;
}

struct subject {
	int (*ours)(void *context, uint64_t count, double *ret_ns);
	int (*floor)(void *context, uint64_t count, double *ret_ns);
	enum shmb_backing backing; /* of the region that is attached; DEFAULT: there is none */
};

static int compare_at(const struct bench *bench, enum bench_placement placement,
		      const struct subject *subject, const struct server_plan *plan,
		      struct exchange *exchange, struct bench_result *ret_result)
{
	struct bench_side sides[2] = { { subject->ours, exchange }, { subject->floor, exchange } };
	struct bench_broker broker;
	double medians[2];
	char path[128];
	pid_t server;
	int r, stopped;

	(void)snprintf(path, sizeof(path), "%s/floor.sock", bench->directory);
	server = server_start(path, plan);
	if (server < 0)
		return (int)server;
	r = bench_broker_start(bench, "broker", NULL, &broker);
	if (r < 0) {
		bench_end(server);
		return r;
	}
	r = connect_both(&broker, path, exchange);
	if (r >= 0 && subject->backing != SHMB_BACKING_DEFAULT)
		r = make_region(exchange->client, subject->backing);
	/* Only now has the broker answered, so all of its threads are there to be bound. */
	if (r >= 0)
		r = bench_place(bench, placement, broker.pid);
	if (r >= 0)
		r = bench_place(bench, placement, server);
	if (r >= 0)
		r = bench_compare(bench, sides, 2, medians, &ret_result->n);
	shmb_client_free(exchange->client);
	bench_end(server);
	(void)unlink(path);
	stopped = bench_broker_stop(&broker);
	if (r < 0 || stopped < 0)
		return r < 0 ? r : stopped;
	ret_result->ours = medians[0] / 1000;
	ret_result->floor = medians[1] / 1000;
	return 0;
}

static int measure_attach_of(const struct bench *bench, enum bench_placement placement,
			     enum shmb_backing backing, bool told, struct bench_result *ret_result)
{
	const struct subject subject = { run_attach, run_bare_attach, backing };
	struct server_plan plan = { .n_fds = 2 };
	struct exchange exchange = { 0 };
	int r = open_lengths(&exchange.request_length, &plan.reply_length);

	if (r >= 0 && told)
		r = close_length(&exchange.close_length);
	plan.quiet_length = exchange.close_length;
	if (r >= 0)
		r = make_segments(bench, backing, plan.fds);
	return r < 0 ? r : compare_at(bench, placement, &subject, &plan, &exchange, ret_result);
}

static int measure_attach(const struct bench *bench, const struct bench_figure *figure,
			  enum bench_placement placement, struct bench_result *ret_result)
{
	return measure_attach_of(bench, placement, SHMB_BACKING_SHM, false, ret_result);
}

static int measure_attach_told(const struct bench *bench, const struct bench_figure *figure,
			       enum bench_placement placement, struct bench_result *ret_result)
{
	return measure_attach_of(bench, placement, SHMB_BACKING_SHM, true, ret_result);
}

static int measure_attach_memfd(const struct bench *bench, const struct bench_figure *figure,
				enum bench_placement placement, struct bench_result *ret_result)
{
	return measure_attach_of(bench, placement, SHMB_BACKING_MEMFD, false, ret_result);
}

static int measure_create_remove(const struct bench *bench, const struct bench_figure *figure,
				 enum bench_placement placement, struct bench_result *ret_result)
{
	const struct subject subject = { run_create_remove, run_bare_create_remove,
					 SHMB_BACKING_DEFAULT };
	struct server_plan plan = { 0 };
	struct exchange exchange = { 0 };
	int r = open_lengths(&exchange.request_length, &plan.reply_length);

	return r < 0 ? r : compare_at(bench, placement, &subject, &plan, &exchange, ret_result);
}

static int measure_resize(const struct bench *bench, const struct bench_figure *figure,
			  enum bench_placement placement, struct bench_result *ret_result)
{
	const struct subject subject = { run_resize, run_bare_resize, SHMB_BACKING_DEFAULT };
	struct server_plan plan = { 0 };
	struct exchange exchange = { 0 };
	int r = ping_lengths(&exchange.request_length, &plan.reply_length);

	return r < 0 ? r : compare_at(bench, placement, &subject, &plan, &exchange, ret_result);
}

static int measure_rtt(const struct bench *bench, const struct bench_figure *figure,
		       enum bench_placement placement, struct bench_result *ret_result)
{
	const struct subject subject = { run_ping, run_echo, SHMB_BACKING_DEFAULT };
	struct server_plan plan = { 0 };
	struct exchange exchange = { 0 };
	int r = ping_lengths(&exchange.request_length, &plan.reply_length);

	return r < 0 ? r : compare_at(bench, placement, &subject, &plan, &exchange, ret_result);
}

const struct bench_figure bench_broker_figures[] = {
	{ .name = "attach",
	  .unit = "us",
	  .floor = "bare epoll server passing two fds, same mappings (shm)",
	  .placed = true,
	  .aim_ratio = 1.4,
	  .measure = measure_attach },
	{ .name = "attach_told",
	  .unit = "us",
	  .floor = "the same, and the server is told of each close, as the broker is",
	  .placed = true,
	  .measure = measure_attach_told },
	{ .name = "attach_memfd",
	  .unit = "us",
	  .floor = "bare epoll server passing two fds, same mappings (memfd)",
	  .placed = true,
	  .aim_ratio = 1.4,
	  .measure = measure_attach_memfd },
	{ .name = "create_remove",
	  .unit = "us",
	  .floor = "two objects made, mapped and unlinked, and two echoes of an epoll server",
	  .placed = true,
	  .measure = measure_create_remove },
	{ .name = "resize",
	  .unit = "us",
	  .floor = "two punches of as much, and two echoes of an epoll server",
	  .placed = true,
	  .aim_ratio = 1.5,
	  .measure = measure_resize },
	{ .name = "rtt",
	  .unit = "us",
	  .floor = "bare SEQPACKET echo of the same bytes through epoll",
	  .placed = true,
	  .aim_ratio = 1.3,
	  .measure = measure_rtt },
	{ .name = NULL },
};
