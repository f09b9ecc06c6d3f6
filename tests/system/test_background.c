/* SPDX-License-Identifier: MIT */
/*
 * Operations in the background: that the caller does not wait, that what became of them is told,
 * once and in order, and that closing, freeing and forking leave nothing behind.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>

#include <shmbroker/io.h>

#include "slow_disk.h"

enum { SIZE = 65536, IN_FLIGHT_MAX = 1024, WORKERS = 2, WAITING = 1 };

/* What has taken for so long keeps others waiting no longer. */
enum { PATIENCE_MS = 5000 };

/* ---- Faults ---- */

static _Atomic int thread_failures; /* of the next pthread_create() */

#ifndef SHMB_TEST_NO_FAULTS
typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

BEFORE_LIBC int pthread_create(pthread_t *restrict thread,
			       const pthread_attr_t *restrict attributes, void *(*run)(void *),
			       void *restrict argument)
{
	static _Atomic(create_fn *) next;

	if (atomic_load(&thread_failures) > 0) {
		atomic_fetch_sub(&thread_failures, 1);
		return EAGAIN;
	}
	if (!next) {
		create_fn *found;

		*(void **)(void *)&found = dlsym(RTLD_NEXT, "pthread_create");
		atomic_store(&next, found);
	}
	return next(thread, attributes, run, argument);
}

#endif

#ifndef SHMB_TEST_SANITIZED
static _Thread_local int memory_failures;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);

BEFORE_LIBC void *malloc(size_t size)
{
	return memory_failures > 0 && memory_failures-- > 0 ? NULL : __libc_malloc(size);
}

BEFORE_LIBC void *calloc(size_t count, size_t size)
{
	return memory_failures > 0 && memory_failures-- > 0 ? NULL : __libc_calloc(count, size);
}
#endif

/* ---- What is told ---- */

struct told_operation {
	int calls, status;
	unsigned order; /* among all that were told */
	void (*then)(void *context);
	void *context;
};

static unsigned n_told;

static void on_done(int status, void *userdata)
{
	struct told_operation *told = userdata;

	told->calls++;
	told->status = status;
	told->order = ++n_told;
	if (told->then)
		told->then(told->context);
}

static void process_once(struct shmb_client *client, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = SYS(shmb_client_get_fd(client)),
				  .events = (short)shmb_client_get_events(client) };

	SYS(poll(&poll_fd, 1, timeout_ms));
	SYS(shmb_client_process(client));
}

/* Until @n more have been told, by the descriptor alone. */
static void process_until(struct shmb_client *client, unsigned n)
{
	int64_t end = harness_now_ms() + 10000 * harness_slow();

	while (n_told < n) {
		if (harness_now_ms() > end)
			FAIL("%u were told, not %u", n_told, n);
		process_once(client, 1000);
	}
	CHECK_INT(n_told, n);
}

/* One has ended, and was not told yet. */
static void await_end(struct shmb_client *client)
{
	struct pollfd poll_fd = { .fd = SYS(shmb_client_get_fd(client)), .events = POLLIN };

	CHECK_INT(SYS(poll(&poll_fd, 1, 10000 * (int)harness_slow())), 1);
}

static void begin(void)
{
	n_told = 0;
	disk_go_on();
	disk_fail(0, 0);
}

/* ---- Doing ---- */

CASE(F32_write_flush_copy_and_remove_are_done_and_told, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct shmb_region *memory = create(client, "m", SIZE, NULL);
	struct told_operation told[4] = { { 0 } };
	char text[] = "in the background", seen[sizeof(text)];
	const char *data = shmb_region_data(file);
	int fd = SYS(open(broker_path(broker, "f"), O_RDONLY | O_CLOEXEC));
	unsigned calls;

	begin();
	calls = disk_calls();
	CHECK_OK(shmb_region_write_async(file, 5000, text, sizeof(text), on_done, &told[0]));
	process_until(client, 1);
	CHECK_OK(told[0].status);
	CHECK_INT(disk_calls(), calls + 1); /* and flushed */
	CHECK(disk.address <= data + 5000 &&
	      disk.address + disk.length >= data + 5000 + sizeof(text));
	CHECK_INT(SYS(pread(fd, seen, sizeof(seen), 5000)), sizeof(seen));
	CHECK_STRING(seen, text);
	CHECK_INT(shmb_region_last_write(file), sizeof(text));

	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told[1]));
	process_until(client, 2);
	CHECK_OK(told[1].status);
	CHECK_INT(disk_calls(), calls + 2);

	CHECK_OK(shmb_region_write(memory, 0, text, sizeof(text), 0));
	CHECK_OK(shmb_region_copy_async(memory, 0, file, 20000, sizeof(text), on_done, &told[2]));
	process_until(client, 3);
	CHECK_OK(told[2].status);
	CHECK_INT(disk_calls(), calls + 3); /* and flushed, where it is */
	CHECK(disk.address <= data + 20000 &&
	      disk.address + disk.length >= data + 20000 + sizeof(text));
	CHECK_INT(SYS(pread(fd, seen, sizeof(seen), 20000)), sizeof(seen));
	CHECK_STRING(seen, text);

	CHECK_OK(shmb_region_remove_async(client, "m", on_done, &told[3]));
	process_until(client, 4);
	CHECK_OK(told[3].status);
	CHECK_CODE(shmb_region_remove(client, "m"), SHMB_ENOENT);
	for (int i = 0; i < 4; i++)
		CHECK_INT(told[i].calls, 1);
	close(fd);
	shmb_region_free(file);
	shmb_region_free(memory);
	shmb_client_free(client);
}

CASE(F32_the_caller_does_not_wait_and_many_are_in_flight, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct told_operation told = { 0 };
	unsigned n = 0;

	begin();
	disk_get_stuck();
	while (shmb_region_flush_async(file, 0, 0, on_done, &told) == 0 && n <= IN_FLIGHT_MAX)
		n++;
	CHECK_INT(n, IN_FLIGHT_MAX);
	CHECK_CODE(shmb_region_flush_async(file, 0, 0, on_done, &told), SHMB_EBUSY);
	disk_await_waiting(WORKERS);
	CHECK_INT(SYS(shmb_client_process(client)), 0);
	disk_go_on();
	process_until(client, n);
	CHECK_INT(told.calls, n);
	CHECK_OK(told.status);
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told)); /* there is room again */
	process_until(client, n + 1);
	shmb_region_free(file);
	shmb_client_free(client);
}

CASE(F32_callbacks_come_in_the_order_in_which_the_operations_ended, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct shmb_region *memory = create(client, "m", SIZE, NULL);
	struct told_operation told[4] = { { 0 } };

	begin();
	disk_get_stuck();
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told[0]));
	disk_await_waiting(1);
	for (int i = 1; i < 4; i++)
		CHECK_OK(shmb_region_write_async(memory, 0, "x", 1, on_done, &told[i]));
	process_until(client, 3); /* the other thread does them */
	disk_go_on();
	process_until(client, 4);
	for (unsigned i = 1; i < 4; i++)
		CHECK_INT(told[i].order, i);
	CHECK_INT(told[0].order, 4);
	shmb_region_free(file);
	shmb_region_free(memory);
	shmb_client_free(client);
}

/* As many as may be under way hang for good. */
CASE(F32_a_disk_that_does_not_answer_stops_what_is_on_it_alone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *dead = create_file(broker, client, "f", SIZE);
	struct shmb_region *other = open_region(client, "f", SHMB_READ | SHMB_WRITE);
	struct shmb_region *alive = create_file(broker, client, "g", SIZE);
	struct told_operation hang = { 0 }, done[3] = { { 0 } };
	int64_t start_ms = harness_now_ms();

	begin();
	disk_die_for(dead);
	for (int i = 0; i < 20; i++)
		CHECK_OK(shmb_region_flush_async(dead, 0, 0, on_done, &hang));
	disk_await_waiting(WORKERS);
	/* One of the region, if through another handle, waits for those. */
	CHECK_OK(shmb_region_flush_async(other, 0, 0, on_done, &hang));
	CHECK_OK(shmb_region_flush_async(alive, 0, 0, on_done, &done[0]));
	process_until(client, 1);
	CHECK_INT(done[0].calls, 1);
	CHECK_OK(done[0].status);
	CHECK(harness_now_ms() - start_ms >= PATIENCE_MS);
	/* From now on nothing waits any more. */
	start_ms = harness_now_ms();
	for (int i = 1; i < 3; i++) {
		CHECK_OK(shmb_region_write_async(alive, 0, "x", 1, on_done, &done[i]));
		process_until(client, 1 + (unsigned)i);
		CHECK_OK(done[i].status);
	}
	CHECK(harness_now_ms() - start_ms < PATIENCE_MS * harness_slow() / 2);
	CHECK_INT(hang.calls, 0);
	disk_await_waiting(WORKERS);
	shmb_region_free(alive); /* it waits for nobody else's */
	disk_go_on();
	process_until(client, 3 + 21);
	CHECK_INT(hang.calls, 21);
	CHECK_OK(hang.status);
	shmb_region_free(other);
	shmb_region_free(dead);
	shmb_client_free(client);
}

/* ---- Errors ---- */

CASE(F32_what_is_wrong_with_a_call_shows_at_once, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "m", SIZE, NULL);
	struct shmb_region *reader = open_region(client, "m", SHMB_READ);
	struct told_operation told = { 0 };
	char byte = 0;

	begin();
	CHECK_CODE(shmb_region_write_async(region, SIZE, &byte, 1, on_done, &told), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_write_async(region, 0, &byte, 1, NULL, NULL), SHMB_EINVAL);
	CHECK_CODE(shmb_region_write_async(reader, 0, &byte, 1, on_done, &told), SHMB_EMODE);
	CHECK_CODE(shmb_region_flush_async(region, 0, SIZE + 1, on_done, &told), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_flush_async(region, 0, 0, NULL, NULL), SHMB_EINVAL);
	CHECK_CODE(shmb_region_copy_async(region, 1, region, 0, SIZE, on_done, &told),
		   SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_copy_async(region, 0, region, 1, SIZE, on_done, &told),
		   SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_copy_async(region, 0, reader, 0, 1, on_done, &told), SHMB_EMODE);
	CHECK_CODE(shmb_region_copy_async(region, 0, region, 0, 1, NULL, NULL), SHMB_EINVAL);
	CHECK_CODE(shmb_region_remove_async(client, "m", NULL, NULL), SHMB_EINVAL);
	CHECK_CODE(shmb_region_remove_async(client, "..", on_done, &told), SHMB_EINVAL);
	CHECK_OK(shmb_region_close(reader));
	CHECK_CODE(shmb_region_flush_async(reader, 0, 0, on_done, &told), SHMB_ECLOSED);
	CHECK_CODE(shmb_region_copy_async(reader, 0, region, 0, 1, on_done, &told), SHMB_ECLOSED);
	CHECK_OK(shmb_client_ping(client));
	CHECK_INT(SYS(shmb_client_process(client)), 0);
	CHECK_INT(told.calls, 0);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F32_errors_arrive, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct shmb_region *memory = create(client, "m", SIZE, NULL);
	struct told_operation told[5] = { { 0 } }, stuck[WORKERS] = { { 0 } };

	begin();
	disk_fail(EIO, 1);
	CHECK_OK(shmb_region_write_async(file, 0, "x", 1, on_done, &told[0]));
	process_until(client, 1);
	CHECK_CODE(told[0].status, SHMB_EIO);
	CHECK_CODE(shmb_region_last_flush(file), SHMB_EIO);
	disk_fail(ENOSPC, 1);
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told[1]));
	process_until(client, 2);
	CHECK_CODE(told[1].status, SHMB_ENOSPC);
	CHECK_OK(shmb_region_remove_async(client, "no-such-region", on_done, &told[2]));
	process_until(client, 3);
	CHECK_CODE(told[2].status, SHMB_ENOENT);

	/* What is wrong by the time it is its turn. */
	disk_get_stuck();
	for (int i = 0; i < WORKERS; i++)
		CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &stuck[i]));
	disk_await_waiting(WORKERS);
	CHECK_OK(shmb_region_write_async(memory, SIZE - 1, "x", 1, on_done, &told[3]));
	CHECK_OK(shmb_region_resize(memory, SIZE / 2));
	disk_go_on();
	process_until(client, 6);
	CHECK_CODE(told[3].status, SHMB_EBOUNDS);
	for (int i = 0; i < WORKERS; i++)
		CHECK_OK(stuck[i].status);
	shmb_region_free(file);
	shmb_region_free(memory);
	shmb_client_free(client);
}

CASE(F32_memory_that_vanishes_is_an_error_there_too, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct told_operation told = { 0 };

	begin();
	SYS(truncate(broker_path(broker, "f"), 0));
	CHECK_OK(shmb_region_write_async(file, SIZE / 2, "x", 1, on_done, &told));
	process_until(client, 1);
	CHECK_CODE(told.status, SHMB_EBUS);
	shmb_region_free(file);
	shmb_client_free(client);
}

CASE(F32_without_a_thread_or_memory_nothing_is_begun, PRIVATE)
{
	struct shmb_client *client;
	struct shmb_region *file;
	struct told_operation told[3] = { { 0 } };

#ifdef SHMB_TEST_NO_FAULTS
	SKIP("the sanitizer's own functions cannot be made to fail");
#endif
	client = connect_to(broker);
	file = create_file(broker, client, "f", SIZE);
	begin();
	atomic_store(&thread_failures, 1);
	CHECK_CODE(shmb_region_flush_async(file, 0, 0, on_done, &told[0]), SHMB_ENOMEM);
#ifndef SHMB_TEST_SANITIZED
	memory_failures = 1;
	CHECK_CODE(shmb_region_flush_async(file, 0, 0, on_done, &told[0]), SHMB_ENOMEM);
	memory_failures = 1;
	CHECK_CODE(shmb_region_remove_async(client, "f", on_done, &told[0]), SHMB_ENOMEM);
#endif
	disk_get_stuck();
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told[1]));
	disk_await_waiting(1);
	atomic_store(&thread_failures, 1); /* then it has to wait for the only one */
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told[2]));
	CHECK_INT(atomic_load(&thread_failures), 0);
	disk_go_on();
	process_until(client, 2);
	CHECK_INT(told[0].calls, 0);
	CHECK_OK(told[1].status);
	CHECK_OK(told[2].status);
	shmb_region_free(file);
	shmb_client_free(client);
}

/* The one that there is, which sees to what is due by and by, gets on with it. */
CASE(F32_where_there_are_no_more_threads_the_one_that_rests_does_it, PRIVATE)
{
	struct shmb_flush_policy policy = SHMB_FLUSH_POLICY_INIT;
	struct shmb_client *client;
	struct shmb_region *file;
	struct told_operation told = { 0 };

#ifdef SHMB_TEST_NO_FAULTS
	SKIP("the sanitizer's own functions cannot be made to fail");
#endif
	client = connect_to(broker);
	file = create_file(broker, client, "f", SIZE);
	begin();
	policy.every_ms = 3600000;
	CHECK_OK(shmb_region_set_flush_policy(file, &policy));
	CHECK_OK(shmb_region_write(file, 0, "x", 1, 0)); /* due in an hour */
	atomic_store(&thread_failures, INT_MAX);
	/* By the second one at the latest it has nothing else to do. */
	for (int i = 1; i <= 3; i++) {
		CHECK_OK(shmb_region_flush_async(file, 0, 1, on_done, &told));
		process_until(client, (unsigned)i);
		CHECK_OK(told.status);
	}
	CHECK(atomic_load(&thread_failures) < INT_MAX);
	atomic_store(&thread_failures, 0);
	shmb_region_free(file);
	shmb_client_free(client);
}

/* ---- Closing and freeing ---- */

struct closer {
	struct shmb_region *region;
	struct shmb_client *client;
	_Atomic bool done;
};

static void *close_region(void *argument)
{
	struct closer *closer = argument;

	CHECK_OK(shmb_region_close(closer->region));
	atomic_store(&closer->done, true);
	return NULL;
}

CASE(F32_closing_cancels_what_has_not_begun_and_waits_for_what_has, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct shmb_region *memory = create(client, "m", SIZE, NULL);
	struct told_operation under_way[WORKERS] = { { 0 } }, waiting[4] = { { 0 } }, other = { 0 };
	struct closer closer = { .region = file };
	char *buffer = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;

	begin();
	CHECK(buffer != MAP_FAILED);
	disk_get_stuck();
	for (int i = 0; i < WORKERS; i++)
		CHECK_OK(shmb_region_write_async(file, (uint64_t)i * SIZE / 2, buffer, SIZE / 2,
						 on_done, &under_way[i]));
	disk_await_waiting(WORKERS);
	CHECK_OK(shmb_region_write_async(file, 0, buffer, SIZE, on_done, &waiting[0]));
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &waiting[1]));
	CHECK_OK(shmb_region_copy_async(file, 0, memory, 0, 1, on_done, &waiting[2]));
	CHECK_OK(shmb_region_copy_async(memory, 0, file, 0, 1, on_done, &waiting[3]));
	CHECK_OK(shmb_region_write_async(memory, 0, "x", 1, on_done, &other));
	CHECK_INT(pthread_create(&thread, NULL, close_region, &closer), 0);
	process_until(client, 4);
	for (int i = 0; i < 4; i++)
		CHECK_CODE(waiting[i].status, SHMB_ECANCELED);
	CHECK(!atomic_load(&closer.done));
	CHECK_INT(other.calls, 0);
	disk_go_on();
	CHECK_INT(pthread_join(thread, NULL), 0);
	SYS(munmap(buffer, SIZE)); /* nobody touches it any more */
	process_until(client, 7);
	for (int i = 0; i < WORKERS; i++)
		CHECK_OK(under_way[i].status);
	CHECK_OK(other.status);
	shmb_region_free(file);
	shmb_region_free(memory);
	shmb_client_free(client);
}

static void *free_client(void *argument)
{
	struct closer *closer = argument;

	shmb_client_free(closer->client);
	atomic_store(&closer->done, true);
	return NULL;
}

CASE(F32_freeing_the_client_waits_and_tells_nothing_and_leaves_no_thread, PRIVATE)
{
	unsigned before = tasks_before().n;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct told_operation told = { 0 };
	struct closer closer = { .client = client };
	unsigned calls;
	pthread_t thread;

	begin();
	calls = disk_calls();
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told));
	await_end(client);
	disk_get_stuck();
	for (int i = 0; i < 10; i++)
		CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told));
	disk_await_waiting(WORKERS);
	CHECK(count_threads() <= before + WORKERS + WAITING);
	CHECK_INT(pthread_create(&thread, NULL, free_client, &closer), 0);
	/* It waits: a request is refused as soon as it is being freed, so it has begun. */
	while (shmb_region_flush_async(file, 0, 0, on_done, &told) != SHMB_ECLOSED)
		;
	CHECK(!atomic_load(&closer.done));
	disk_go_on();
	CHECK_INT(pthread_join(thread, NULL), 0);
	CHECK_INT(count_threads(), before);
	CHECK_INT(told.calls, 0);
	CHECK(disk_calls() <= calls + 1 + WORKERS + 8); /* and most were not begun */
	CHECK_CODE(shmb_region_flush_async(file, 0, 0, on_done, &told), SHMB_ECLOSED);
	CHECK_OK(shmb_region_flush(file, 0, 0, 0));
	shmb_region_free(file);
}

static void free_region(void *region)
{
	shmb_region_free(region);
}

static void free_the_client(void *client)
{
	shmb_client_free(client);
}

CASE(F32_a_callback_may_free_its_region_and_its_client, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *one = create(client, "m", SIZE, NULL);
	struct shmb_region *two = create(client, "n", SIZE, NULL);
	struct told_operation told[3] = { { .then = free_region, .context = one },
					  { .then = free_the_client, .context = client },
					  { .calls = 0 } };

	begin();
	CHECK_OK(shmb_region_write_async(one, 0, "x", 1, on_done, &told[0]));
	process_until(client, 1);
	CHECK_OK(shmb_region_write_async(two, 0, "x", 1, on_done, &told[1]));
	await_end(client);
	CHECK_OK(shmb_region_write_async(two, 1, "x", 1, on_done, &told[2]));
	process_until(client, 2);
	CHECK_INT(told[2].calls, 0);
	shmb_region_free(two);
}

/* ---- Threads ---- */

static uint64_t blocked_signals(const char *task)
{
	char path[64], line[128];
	unsigned long long mask = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", task);
	file = fopen(path, "re");
	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "SigBlk:", 7) == 0)
			mask = strtoull(line + 7, NULL, 16);
	fclose(file);
	return mask;
}

static bool is_blocked(uint64_t mask, int signal)
{
	return mask >> (signal - 1) & 1;
}

CASE(F32_its_threads_take_no_signals_but_those_of_their_own_faults, PRIVATE)
{
	struct tasks before = tasks_before(), after;
	unsigned n_new = 0;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct told_operation told = { 0 };

	begin();
	disk_get_stuck();
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told));
	CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told));
	disk_await_waiting(WORKERS);
	after = look_at_tasks();
	CHECK_INT(after.n, before.n + WORKERS);
	for (unsigned i = 0; i < after.n; i++) {
		bool is_new = true;
		uint64_t mask;

		for (unsigned j = 0; j < before.n; j++)
			is_new = is_new && strcmp(after.ids[i], before.ids[j]) != 0;
		if (!is_new)
			continue;
		n_new++;
		mask = blocked_signals(after.ids[i]);
		CHECK(is_blocked(mask, SIGUSR1) && is_blocked(mask, SIGTERM) &&
		      is_blocked(mask, SIGCHLD) && is_blocked(mask, SIGALRM));
		CHECK(!is_blocked(mask, SIGBUS) && !is_blocked(mask, SIGSEGV));
	}
	CHECK_INT(n_new, WORKERS);
	disk_go_on();
	process_until(client, 2);
	shmb_region_free(file);
	shmb_client_free(client);
}

CASE(F32_a_forked_child_has_no_part_in_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *file = create_file(broker, client, "f", SIZE);
	struct told_operation told[4] = { { 0 } };
	int status;
	pid_t pid;

	begin();
	disk_get_stuck();
	for (int i = 0; i < 4; i++) /* two under way, two waiting */
		CHECK_OK(shmb_region_flush_async(file, 0, 0, on_done, &told[i]));
	disk_await_waiting(WORKERS);
	pid = SYS(fork());
	if (pid == 0) {
		int r = shmb_region_flush_async(file, 0, 0, on_done, &told[0]);

		alarm(20 * harness_slow()); /* whatever it might wait for */
		if (r != SHMB_EFORKED ||
		    shmb_region_write_async(file, 0, "x", 1, on_done, &told[0]) != SHMB_EFORKED ||
		    shmb_region_remove_async(client, "f", on_done, &told[0]) != SHMB_EFORKED)
			_exit(1);
		shmb_region_free(file);
		shmb_client_free(client);
		_exit(0);
	}
	SYS(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
	CHECK_INT(n_told, 0);
	disk_go_on();
	process_until(client, 4);
	shmb_region_free(file);
	shmb_client_free(client);
}

/* ---- All at once ---- */

enum { ROUNDS = 40, BURST = 8 };

struct crowd {
	struct broker *broker;
	struct shmb_client *client;
	_Atomic unsigned begun, ended, ends_left;
};

static void on_crowd_done(int status, void *userdata)
{
	struct crowd *crowd = userdata;

	CHECK(status == 0 || status == SHMB_ECANCELED);
	atomic_fetch_add(&crowd->ended, 1);
}

static void *come_and_go(void *argument)
{
	struct crowd *crowd = argument;

	for (int i = 0; i < ROUNDS; i++) {
		struct shmb_region *region = NULL;
		char buffer[4096] = { 0 };

		CHECK_OK(shmb_region_create(crowd->client, NULL, SIZE, NULL, &region));
		for (int j = 0; j < BURST; j++) {
			int r = shmb_region_write_async(region, (uint64_t)j * sizeof(buffer),
							buffer, sizeof(buffer), on_crowd_done,
							crowd);

			CHECK(r == 0 || r == SHMB_EBUSY);
			if (r == 0)
				atomic_fetch_add(&crowd->begun, 1);
		}
		shmb_region_free(region); /* and the buffer is gone, too */
	}
	atomic_fetch_sub(&crowd->ends_left, 1);
	return NULL;
}

CASE(F32_handles_come_and_go_in_the_middle_of_it, PRIVATE)
{
	struct crowd crowd = { .broker = broker, .client = connect_to(broker), .ends_left = 3 };
	pthread_t threads[3];

	begin();
	for (int i = 0; i < 3; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, come_and_go, &crowd), 0);
	while (atomic_load(&crowd.ends_left) > 0 ||
	       atomic_load(&crowd.ended) < atomic_load(&crowd.begun))
		process_once(crowd.client, 10);
	for (int i = 0; i < 3; i++)
		CHECK_INT(pthread_join(threads[i], NULL), 0);
	CHECK_INT(atomic_load(&crowd.ended), atomic_load(&crowd.begun));
	CHECK(atomic_load(&crowd.begun) > 0);
	shmb_client_free(crowd.client);
}
