/* SPDX-License-Identifier: MIT */
/*
 * Playing scenarios while daemons die: the client's process, one that sees that nothing is left,
 * and the start of the next daemon.
 */
#include "daemon_play.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STEPS_MAX = 4000 };

/* ---- What is in a region ---- */

void play_fill(struct shmb_region *region, uint64_t size, unsigned seed)
{
	unsigned char *data = shmb_region_data(region);

	for (uint64_t i = 0; i < size; i += 64)
		data[i] = (unsigned char)(i / 64 * 7 + seed);
	CHECK_OK(shmb_region_publish(region, 0, 0));
}

void play_check(struct shmb_region *region, uint64_t size, unsigned seed)
{
	const unsigned char *data = shmb_region_data(region);

	CHECK_INT(shmb_region_size(region), size);
	for (uint64_t i = 0; i < size; i += 64)
		CHECK_INT(data[i], (unsigned char)(i / 64 * 7 + seed));
}

struct shmb_region *play_make(struct part *part, const char *name, uint64_t size, uint64_t capacity,
			      enum shmb_lifetime lifetime)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.capacity = capacity;
	options.lifetime = lifetime;
	options.backing = part->backing;
	return create(part->client, name, size, &options);
}

/* ---- What is left ---- */

struct left {
	uint64_t connections, regions, attachments, watches, bytes, semaphores, locks, slots, away,
		stored_fds;
};

static int note_figure(const char *name, uint64_t value, void *userdata)
{
	struct left *figures = userdata;
	const struct {
		const char *name;
		uint64_t *value;
	} all[] = {
		{ "connections", &figures->connections },
		{ "regions", &figures->regions },
		{ "attachments", &figures->attachments },
		{ "watches", &figures->watches },
		{ "bytes", &figures->bytes },
		{ "semaphores", &figures->semaphores },
		{ "locks", &figures->locks },
		{ "slots", &figures->slots },
		{ "away", &figures->away },
		{ "stored_fds", &figures->stored_fds },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(name, all[i].name) == 0)
			*all[i].value = value;
	return 0;
}

static struct left look(struct shmb_client *client)
{
	struct left figures = { 0 };

	CHECK_OK(shmb_client_stats(client, note_figure, &figures));
	return figures;
}

static void fail_with(const struct left *left)
{
	FAIL("left: %d connections, %d regions, %d attachments, %d watches, %d bytes, %d "
	     "semaphores, %d locks, %d slots, %d away, %d stored",
	     (int)left->connections, (int)left->regions, (int)left->attachments, (int)left->watches,
	     (int)left->bytes, (int)left->semaphores, (int)left->locks, (int)left->slots,
	     (int)left->away, (int)left->stored_fds);
}

/* The daemon hears of ends without answering, and does long work meanwhile. */
static void await_nothing_left(struct broker *broker, struct shmb_client *watcher)
{
	const struct left nothing = { .connections = 1 };
	int64_t end = harness_now_ms() + 10000 * harness_slow();
	struct left left = look(watcher);

	while (memcmp(&left, &nothing, sizeof(left)) != 0) {
		if (harness_now_ms() > end)
			fail_with(&left);
		left = look(watcher);
	}
	/* Memory goes after the manifest has been told. */
	while (broker_shm_count(broker) > 0) {
		if (harness_now_ms() > end)
			FAIL("%u objects are left in /dev/shm", broker_shm_count(broker));
		look(watcher);
	}
}

/* ---- One scenario, one step ---- */

struct play {
	const struct scenario *scenario;
	struct crash_page *page;
	unsigned step, then;
	enum shmb_backing backing;
};

static void arm(const struct play *play)
{
	atomic_store(&play->page->deaths, 0);
	atomic_store(&play->page->done, 0);
	atomic_store(&play->page->then, play->then);
	atomic_store(&play->page->chosen, play->step);
	atomic_store(&play->page->armed, true);
}

static void be_the_client(struct broker *broker, void *argument)
{
	const struct play *play = argument;
	struct part part = { .page = play->page, .backing = play->backing };

	if (play->scenario->prepare) {
		part.client = connect_to(broker);
		play->scenario->prepare(broker, &part);
	}
	arm(play);
	if (!part.client)
		part.client = connect_to(broker);
	play->scenario->run(broker, &part);
	shmb_client_free(part.client);
}

/* In a process of its own: that the client's has ended belongs to the scenario. */
static void be_the_watcher(struct broker *broker, void *argument)
{
	struct crash_page *page = argument;
	struct shmb_client *watcher = connect_to(broker);

	say(1);
	hear();
	await_nothing_left(broker, watcher);
	atomic_store(&page->armed, false);
	shmb_client_free(watcher);
}

/* Starts daemons until the process has ended, and with success. */
static void keep_serving(struct broker *broker, const struct play *play, struct actor *actor)
{
	struct pollfd ends[2] = { { .events = POLLIN }, { .events = POLLIN } };

	while (!ends[1].revents) {
		ends[0].fd = broker->pidfd;
		ends[1].fd = actor->pidfd;
		if (poll(ends, 2, -1) < 0 || !ends[0].revents)
			continue;
		CHECK_INT(broker_await(broker), 1000 + SIGKILL);
		broker_restart(broker);
		atomic_store(&play->page->pid, broker->pid);
	}
	actor_end(actor);
}

/* Return: how often it died. */
static unsigned play_once(struct broker *broker, struct play *play)
{
	struct actor watcher = actor_start(broker, &SELF, be_the_watcher, play->page);
	struct actor client;

	actor_hear(&watcher);
	client = actor_start(broker, &SELF, be_the_client, play);
	keep_serving(broker, play, &client);
	actor_say(&watcher, 1);
	keep_serving(broker, play, &watcher);
	return atomic_load(&play->page->deaths);
}

/* At each step, until the scenario has fewer; where all is slow, at every third. */
static void play_all(struct broker *broker, struct play *play, unsigned then)
{
	unsigned stride = harness_slow() > 1 ? 3 : 1, n = 0;

	for (play->step = 1; play->step < STEPS_MAX; play->step += stride, n++) {
		play->then = then ? 1 + n % then : 0;
		if (play_once(broker, play) == 0)
			break;
	}
	print_message("%-24s %u steps, died at %u\n", play->scenario->name, play->step, n);
	CHECK(play->step < STEPS_MAX);
	CHECK(play->step > play->scenario->least);
}

static void play_each_pair(struct broker *broker, struct play *play)
{
	unsigned stride = harness_slow() > 1 ? 3 : 1, deaths = 1, n = 0;

	for (play->step = 1; play->step < STEPS_MAX && deaths > 0; play->step += stride) {
		deaths = 2;
		for (play->then = 1; play->then < STEPS_MAX && deaths == 2;
		     play->then += stride, n++)
			deaths = play_once(broker, play);
	}
	print_message("%-24s %u steps, died at %u pairs\n", play->scenario->name, play->step, n);
	CHECK_INT(deaths, 0);
	CHECK(play->step > play->scenario->least);
}

static struct crash_page *map_page(struct broker *broker)
{
	int fd = SYS(open(broker_path(broker, "crash"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	void *page;

	SYS(ftruncate(fd, sizeof(struct crash_page)));
	page = mmap(NULL, sizeof(struct crash_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	CHECK(page != MAP_FAILED);
	SYS(setenv(CRASH_PAGE_ENVIRONMENT, broker_path(broker, "crash"), 1));
	return page;
}

static void await_instance(struct broker *broker)
{
	struct shmb_client *client = connect_to(broker);
	long pid;

	CHECK(broker_lock_read(broker, &pid, broker->instance));
	shmb_client_free(client);
}

static void begin(struct broker *broker, struct play *play, enum shmb_backing backing)
{
	*play = (struct play){ .page = map_page(broker), .backing = backing };
	broker->program = CRASH_DAEMON;
	broker_start(broker);
	atomic_store(&play->page->pid, broker->pid);
	await_instance(broker);
}

/*
 * As it ends in order, nothing may be left of it either. The first daemon's instance is the last
 * one's.
 */
static void end(struct broker *broker, struct play *play)
{
	char first[sizeof(broker->instance)];
	long pid;

	strcpy(first, broker->instance);
	CHECK(broker_lock_read(broker, &pid, broker->instance));
	CHECK_STRING(broker->instance, first);
	CHECK_INT(broker_stop(broker), 0);
	CHECK_INT(broker_shm_count(broker), 0);
	munmap(play->page, sizeof(*play->page));
	unsetenv(CRASH_PAGE_ENVIRONMENT);
}

void play_scenarios(struct broker *broker, const struct scenario *scenarios, size_t n,
		    enum shmb_backing backing, unsigned then)
{
	struct play play;

	begin(broker, &play, backing);
	for (size_t i = 0; i < n; i++) {
		play.scenario = &scenarios[i];
		play_all(broker, &play, then);
	}
	end(broker, &play);
}

void play_pairs(struct broker *broker, const struct scenario *scenario, enum shmb_backing backing)
{
	struct play play;

	begin(broker, &play, backing);
	play.scenario = scenario;
	play_each_pair(broker, &play);
	end(broker, &play);
}
