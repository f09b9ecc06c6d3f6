/* SPDX-License-Identifier: MIT */
/*
 * Publishing, waiting, and being told: across processes, from read-only mappings, through event
 * loops, and when somebody dies on the way.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "layout/futex.h"
#include "layout/publish.h"

struct wait_job {
	int spin_us;
	unsigned access;
};

static struct shmb_client *connect_spinning(struct broker *broker, int spin_us)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;

	options.spin_us = spin_us;
	options.timeout_ms = 10000 * (int)harness_slow();
	CHECK_OK(shmb_client_connect(broker->socket, &options, &client));
	return client;
}

/* ---- Waiting ---- */

/* Sees each number it waits for, and the bytes that were written before it. */
static void wait_for_each(struct broker *broker, void *argument)
{
	const struct wait_job *job = argument;
	struct shmb_client *client = connect_spinning(broker, job->spin_us);
	struct shmb_region *region = open_region(client, "r", job->access);
	struct shmb_publication publication = { .sequence = shmb_region_sequence(region) };
	uint64_t value;

	CHECK_CODE(shmb_region_wait(region, publication.sequence, 0, NULL), SHMB_ETIMEDOUT);
	say(1);
	while (publication.sequence < 200) {
		uint64_t seen = publication.sequence;

		CHECK_OK(shmb_region_wait(region, seen, 20000, &publication));
		CHECK(publication.sequence > seen);
		CHECK_OK(shmb_region_read_u64(region, 0, &value));
		CHECK(value >= publication.sequence);
		say(publication.sequence);
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static void publish_in_step(struct broker *broker, const struct identity *who, struct wait_job job)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct actor waiter;
	uint64_t i;

	options.mode = 0766;
	region = create(client, "r", 4096, &options);
	waiter = actor_start(broker, who, wait_for_each, &job);
	actor_hear(&waiter);
	for (i = 1; i <= 200; i++) {
		CHECK_OK(shmb_region_write_u64(region, 0, i));
		CHECK_OK(shmb_region_publish(region, 0, 8));
		CHECK_INT(actor_hear(&waiter), i); /* woken, every time, before the next */
	}
	actor_end(&waiter);
	CHECK_INT(shmb_region_sequence(region), 200);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_wait_sleeping_with_write_access, PRIVATE)
{
	publish_in_step(broker, &SELF, (struct wait_job){ 0, SHMB_READ | SHMB_WRITE });
}

CASE(F38_wait_sleeping_with_read_access_alone, PRIVATE)
{
	publish_in_step(broker, &SELF, (struct wait_job){ 0, SHMB_READ });
}

CASE(F38_wait_spinning, PRIVATE)
{
	publish_in_step(broker, &SELF, (struct wait_job){ 100000, SHMB_READ });
}

CASE(F38_wait_as_measured_by_another_user, SYSTEM)
{
	publish_in_step(broker, &BOB, (struct wait_job){ -1, SHMB_READ });
}

static int64_t ms_of_wait(struct shmb_region *region, int timeout_ms, int expected)
{
	int64_t start = harness_now_ms();

	CHECK_CODE(shmb_region_wait(region, shmb_region_sequence(region), timeout_ms, NULL),
		   expected);
	return harness_now_ms() - start;
}

CASE(F38_wait_ends_in_time, PRIVATE)
{
	struct shmb_client *client = connect_spinning(broker, 0);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	int64_t took = ms_of_wait(region, 150, SHMB_ETIMEDOUT);

	CHECK(took >= 149 && took < 1000 * harness_slow());
	CHECK(ms_of_wait(region, 0, SHMB_ETIMEDOUT) < 100 * harness_slow());
	shmb_region_free(region);
	shmb_client_free(client);
}

static void wait_for_ever(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_spinning(broker, 0);
	struct shmb_region *region = open_region(client, "r", SHMB_READ);

	say(1);
	CHECK_OK(shmb_region_wait(region, 0, -1, NULL));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* The publisher is killed between its exchange and its wake-up: here, never wakes at all. */
CASE(F38_a_lost_wake_up_costs_a_second_at_most, PRIVATE)
{
	struct wire_region_attached attached;
	struct layout_publish *page;
	struct raw *raw = raw_connect(broker);
	struct actor waiter;
	int64_t start;
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_ATTACHED, &attached, fds));
	page = mmap(NULL, LAYOUT_PUBLISH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	CHECK(page != MAP_FAILED);
	waiter = actor_start(broker, &SELF, wait_for_ever, NULL);
	actor_hear(&waiter);
	start = harness_now_ms();
	atomic_fetch_add(&page->sequence, 1);
	actor_end(&waiter);
	CHECK(harness_now_ms() - start < 3000 * harness_slow());
	munmap(page, LAYOUT_PUBLISH_BYTES);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}

CASE(F38_ranges_are_told_and_joined, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 65536, NULL);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	struct shmb_publication news;
	int i;

	CHECK_OK(shmb_region_publish(region, 100, 50));
	CHECK_OK(shmb_region_wait(reader, 0, 0, &news));
	CHECK_INT(news.sequence, 1);
	CHECK_INT(news.offset, 100);
	CHECK_INT(news.length, 50);
	CHECK_OK(shmb_region_publish(region, 4000, 96));
	CHECK_OK(shmb_region_wait(reader, 1, 0, &news));
	CHECK_INT(news.offset, 4000);
	CHECK_INT(news.length, 96);
	CHECK_OK(shmb_region_wait(reader, 0, 0, &news)); /* both */
	CHECK_INT(news.offset, 100);
	CHECK_INT(news.length, 3996);
	CHECK_OK(shmb_region_publish(region, 0, 0)); /* anything */
	CHECK_OK(shmb_region_wait(reader, 1, 0, &news));
	CHECK_INT(news.offset, 0);
	CHECK_INT(news.length, 65536);
	for (i = 0; i < 100; i++)
		CHECK_OK(shmb_region_publish(region, 8, 8));
	CHECK_OK(shmb_region_wait(reader, 3, 0, &news)); /* too many ago to know */
	CHECK_INT(news.sequence, 103);
	CHECK_INT(news.offset, 0);
	CHECK_INT(news.length, 65536);
	CHECK_OK(shmb_region_wait(reader, 102, 0, &news));
	CHECK_INT(news.offset, 8);
	CHECK_INT(news.length, 8);
	CHECK_CODE(shmb_region_publish(region, 65530, 7), SHMB_EBOUNDS);
	CHECK_INT(shmb_region_sequence(region), 103);
	CHECK_OK(shmb_region_publish(region, 60000, 100)); /* which is cut off before it is told */
	CHECK_OK(shmb_region_resize(region, 50000));
	CHECK_OK(shmb_region_wait(reader, 103, 0, &news));
	CHECK_INT(news.offset, 0);
	CHECK_INT(news.length, 50000);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void publish_a_lot(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	unsigned i;

	say(1);
	hear();
	for (i = 0; i < 20000; i++)
		CHECK_OK(shmb_region_publish(region, i % 100, 1));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_no_publish_is_lost_among_three_publishers, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_publication news = { 0 };
	struct actor actors[3];
	int i;

	for (i = 0; i < 3; i++) {
		actors[i] = actor_start(broker, &SELF, publish_a_lot, NULL);
		actor_hear(&actors[i]);
	}
	for (i = 0; i < 3; i++)
		actor_say(&actors[i], 1);
	while (news.sequence < 60000) {
		CHECK_OK(shmb_region_wait(region, news.sequence, 20000, &news));
		CHECK(news.length == 4096 || news.offset + news.length <= 100);
	}
	CHECK_INT(news.sequence, 60000);
	for (i = 0; i < 3; i++)
		actor_end(&actors[i]);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Watching ---- */

struct heard {
	unsigned calls, types;
	struct shmb_event last;
};

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct heard *told = userdata;

	told->calls++;
	told->types |= event->types;
	told->last = *event;
}

/* Lets callbacks run as an event loop does, until one was called or @timeout_ms passed. */
static int process(struct shmb_client *client, int timeout_ms)
{
	int64_t end = harness_now_ms() + timeout_ms;
	struct pollfd poll_fd;
	int n;

	do {
		int64_t left = end - harness_now_ms();

		poll_fd = (struct pollfd){ .fd = SYS(shmb_client_get_fd(client)),
					   .events = (short)shmb_client_get_events(client) };
		if (poll(&poll_fd, 1, left > 0 ? (int)left : 0) <= 0)
			return 0;
		n = shmb_client_process(client);
	} while (n == 0);
	return n;
}

/* Processes until told->types has all of @types. */
static void process_until(struct shmb_client *client, struct heard *told, unsigned types)
{
	int64_t end = harness_now_ms() + 10000 * harness_slow();

	while ((told->types & types) != types) {
		if (harness_now_ms() > end)
			FAIL("told of %#x, not of %#x", told->types, types);
		CHECK(process(client, 1000) >= 0);
	}
}

/* Nothing more is on its way: whatever the daemon had to say came before the answer to a ping. */
static void process_rest(struct shmb_client *client)
{
	CHECK_OK(shmb_client_ping(client));
	while (process(client, 0) > 0)
		;
	CHECK_OK(shmb_client_ping(client));
	while (process(client, 0) > 0)
		;
}

CASE(F38_watch_tells_published_resized_removed, PRIVATE)
{
	struct shmb_client *watcher = connect_to(broker), *other = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region, *watched;
	struct heard told = { 0 };

	options.capacity = 8192;
	options.lifetime = SHMB_PERSISTENT;
	region = create(other, "r", 4096, &options);
	watched = open_region(watcher, "r", SHMB_READ);
	CHECK_OK(shmb_region_watch(watched,
				   SHMB_EVENT_PUBLISHED | SHMB_EVENT_RESIZED | SHMB_EVENT_REMOVED,
				   0, on_event, &told));
	process_rest(watcher);
	CHECK_INT(told.calls, 0);
	CHECK_OK(shmb_region_publish(region, 10, 20));
	process_until(watcher, &told, SHMB_EVENT_PUBLISHED);
	CHECK_INT(told.types, SHMB_EVENT_PUBLISHED);
	CHECK_INT(told.last.sequence, 1);
	CHECK_INT(told.last.offset, 10);
	CHECK_INT(told.last.length, 20);
	CHECK_OK(shmb_region_resize(region, 5000));
	process_until(watcher, &told, SHMB_EVENT_RESIZED);
	CHECK_INT(told.last.size, 5000);
	CHECK_INT(shmb_region_size(watched), 5000);
	CHECK_OK(shmb_region_publish(region, 0, 0));
	told.types = 0;
	process_until(watcher, &told, SHMB_EVENT_PUBLISHED);
	CHECK_INT(told.last.sequence, 2);
	CHECK_OK(shmb_region_remove(other, "r"));
	process_until(watcher, &told, SHMB_EVENT_REMOVED);
	told = (struct heard){ 0 };
	process_rest(watcher);
	CHECK_INT(told.calls, 0); /* once */
	CHECK_OK(shmb_region_publish(region, 0, 0));
	process_until(watcher, &told, SHMB_EVENT_PUBLISHED); /* it goes on without a name */
	process_rest(watcher);
	CHECK_INT(told.types, SHMB_EVENT_PUBLISHED);
	CHECK_INT(told.calls, 1);
	shmb_region_free(watched);
	shmb_region_free(region);
	shmb_client_free(watcher);
	shmb_client_free(other);
}

CASE(F38_watch_tells_what_happened_before_it_began, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct heard told = { 0 };

	CHECK_OK(shmb_region_publish(region, 0, 0));
	CHECK_OK(shmb_region_publish(region, 0, 0));
	CHECK_OK(shmb_region_watch(region, SHMB_EVENT_PUBLISHED, 1, on_event, &told));
	process_until(client, &told, SHMB_EVENT_PUBLISHED);
	CHECK_INT(told.last.sequence, 2);
	process_rest(client);
	CHECK_INT(told.calls, 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_watch_ends_when_asked_and_with_its_handle, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_region *watched = open_region(client, "r", SHMB_READ);
	struct heard told = { 0 };

	CHECK_OK(shmb_region_watch(watched, SHMB_EVENT_PUBLISHED, 0, on_event, &told));
	CHECK_INT(broker_stat(broker, "watches"), 1);
	CHECK_OK(shmb_region_watch(watched, 0, 0, NULL, NULL));
	UNTIL(broker, broker_stat(broker, "watches") == 0); /* nor does the broker go on */
	CHECK_OK(shmb_region_publish(region, 0, 0));
	process_rest(client);
	CHECK_INT(told.calls, 0);
	CHECK_OK(shmb_region_watch(watched, SHMB_EVENT_PUBLISHED, 1, on_event, &told));
	shmb_region_free(watched);
	CHECK_OK(shmb_region_publish(region, 0, 0));
	process_rest(client);
	CHECK_INT(told.calls, 0);
	UNTIL(broker, broker_stat(broker, "watches") == 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_a_busy_watcher_is_told_the_last_state_not_every_step, PRIVATE)
{
	struct shmb_client *watcher = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *region = create(other, "r", 4096, NULL), *watched;
	struct heard told = { 0 };
	int i;

	watched = open_region(watcher, "r", SHMB_READ);
	CHECK_OK(shmb_region_watch(watched, SHMB_EVENT_PUBLISHED | SHMB_EVENT_RESIZED, 0, on_event,
				   &told));
	CHECK_OK(shmb_client_ping(watcher));
	for (i = 0; i < 10000; i++) {
		CHECK_OK(shmb_region_publish(region, 0, 0));
		if (i % 100 == 0)
			CHECK_OK(shmb_region_resize(region, 1000 + (uint64_t)i % 3000));
	}
	CHECK_INT(broker_stat(broker, "queued_bytes"), 0);
	while (told.last.sequence != 10000)
		CHECK(process(watcher, 10000) > 0);
	process_rest(watcher);
	CHECK_INT(told.last.sequence, 10000);
	CHECK_INT(told.last.size, 1900);
	CHECK(told.calls <= 4); /* one that was on its way, one for what came after; not 10,000 */
	shmb_region_free(watched);
	shmb_region_free(region);
	shmb_client_free(watcher);
	shmb_client_free(other);
}

CASE(F38_watch_tells_when_the_broker_is_gone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct heard told = { 0 };
	uint8_t byte;

	CHECK_OK(shmb_region_write_u8(region, 0, 7));
	CHECK_OK(shmb_region_watch(region, SHMB_EVENT_REMOVED, 0, on_event, &told));
	CHECK_INT(broker_stop(broker), 0);
	while (!(told.types & SHMB_EVENT_DISCONNECTED))
		process(client, 1000);
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	CHECK_CODE(shmb_region_resize(region, 100), SHMB_EDISCONNECTED);
	CHECK_OK(shmb_region_read_u8(region, 0, &byte)); /* the mapping lives on */
	CHECK_INT(byte, 7);
	CHECK_OK(shmb_region_publish(region, 0, 0));
	CHECK_INT(shmb_region_sequence(region), 1);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void watch_and_report(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ);
	struct heard told = { 0 };

	CHECK_OK(shmb_region_watch(region, SHMB_EVENT_PUBLISHED, 0, on_event, &told));
	CHECK_OK(shmb_client_ping(client));
	say(1);
	process_until(client, &told, SHMB_EVENT_PUBLISHED);
	say(told.last.sequence);
	hear();
	shmb_region_free(region);
	shmb_client_free(client);
}

static void publish_and_not_tell(struct broker *broker, void *argument)
{
	struct wire_region_attached attached;
	struct layout_publish *page;
	struct raw *raw = raw_connect(broker);
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_open(raw, "r", SHMB_READ | SHMB_WRITE, &attached, fds));
	page = mmap(NULL, LAYOUT_PUBLISH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	CHECK(page != MAP_FAILED);
	CHECK(layout_publish(page, 0, 0) & LAYOUT_DUTY_TELL); /* takes the duty */
	CHECK_INT(atomic_load(&page->armed), 0);
	if (argument)
		hear();          /* and keeps it */
	kill(getpid(), SIGKILL); /* or dies with it */
}

static void check_told_all_the_same(struct broker *broker, bool publisher_lives)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct actor watcher, publisher;

	options.mode = 0766;
	region = create(client, "r", 4096, &options);
	watcher = actor_start(broker, &ALICE, watch_and_report, NULL);
	actor_hear(&watcher);
	publisher =
		actor_start(broker, &BOB, publish_and_not_tell, publisher_lives ? broker : NULL);
	CHECK_INT(actor_hear(&watcher), 1);
	actor_say(&watcher, 1);
	actor_end(&watcher);
	actor_kill(&publisher);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F38_a_publisher_killed_before_it_told_is_told_for, SYSTEM)
{
	check_told_all_the_same(broker, false);
}

/* Stopped, hindered or hostile: the broker looks again within a second. */
CASE(F38_a_publisher_that_does_not_tell_is_told_for, SYSTEM)
{
	check_told_all_the_same(broker, true);
}

/* One event loop, many regions: the library's one descriptor is enough. */
CASE(F38_one_descriptor_for_many_watches, PRIVATE)
{
	struct shmb_client *watcher = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *regions[32], *watched[32];
	struct heard told[32] = { { 0 } };
	char name[16];
	int i;

	for (i = 0; i < 32; i++) {
		snprintf(name, sizeof(name), "r/%d", i);
		regions[i] = create(other, name, 4096, NULL);
		watched[i] = open_region(watcher, name, SHMB_READ);
		CHECK_OK(
			shmb_region_watch(watched[i], SHMB_EVENT_PUBLISHED, 0, on_event, &told[i]));
	}
	for (i = 31; i >= 0; i--)
		CHECK_OK(shmb_region_publish(regions[i], 0, 0));
	for (i = 0; i < 32; i++)
		process_until(watcher, &told[i], SHMB_EVENT_PUBLISHED);
	for (i = 0; i < 32; i++) {
		CHECK_INT(told[i].calls, 1);
		shmb_region_free(regions[i]);
		shmb_region_free(watched[i]);
	}
	shmb_client_free(watcher);
	shmb_client_free(other);
}

/* ---- A writer that fills the publish page with nonsense ---- */

CASE(a_spoilt_publish_page_hurts_nobody, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL), *reader;
	struct wire_region_attached attached;
	struct shmb_publication news;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct layout_publish *page;
	struct raw *raw = raw_connect(broker);
	unsigned char byte;
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_open(raw, "r", SHMB_READ | SHMB_WRITE, &attached, fds));
	page = mmap(NULL, LAYOUT_PUBLISH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	CHECK(page != MAP_FAILED);
	reader = open_region(client, "r", SHMB_READ);
	memset(page, 0xff, LAYOUT_PUBLISH_BYTES);
	CHECK(shmb_region_size(reader) <= 4096); /* clamped to the capacity */
	CHECK_CODE(shmb_region_read(reader, 4096, &byte, 1, 0), SHMB_EBOUNDS);
	if (shmb_region_wait(reader, 0, 10, &news) == 0)
		CHECK(news.offset <= 4096 && news.length <= 4096 - news.offset);
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.size, 4096); /* the broker believes its own figure */
	CHECK_OK(shmb_region_resize(region, 1000));
	memset(page, 0, LAYOUT_PUBLISH_BYTES);
	CHECK_OK(shmb_region_resize(region, 2000));
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.size, 2000);
	munmap(page, LAYOUT_PUBLISH_BYTES);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}
