/* SPDX-License-Identifier: MIT */
/*
 * A daemon that is killed at each of its steps in turn: in every write of its manifest, before and
 * after every commit, in repairs, and while it recovers from having been killed. A client of the
 * real library goes through a scenario meanwhile and must not notice; when it has given everything
 * back, nothing may be left.
 *
 * The client's process says when; the test itself only starts the next daemon when one has died.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash_page.h"
#include "harness.h"

enum { PAGE = 4096, LONG_MS = 20000, STEPS_MAX = 4000, DUE = 1 << 20 };

/* What a scenario has; some of it made before the steps begin. */
struct part {
	struct shmb_client *client;
	struct crash_page *page;
	enum shmb_backing backing;
	struct shmb_region *region;
	struct shmb_semaphore *semaphore;
	pid_t victim;
};

struct scenario {
	const char *name;
	void (*prepare)(struct broker *broker, struct part *part); /* without steps; may be NULL */
	void (*run)(struct broker *broker, struct part *part);
	unsigned least; /* steps */
};

/* ---- What is in a region ---- */

static void fill(struct shmb_region *region, uint64_t size, unsigned seed)
{
	unsigned char *data = shmb_region_data(region);

	for (uint64_t i = 0; i < size; i += 64)
		data[i] = (unsigned char)(i / 64 * 7 + seed);
	CHECK_OK(shmb_region_publish(region, 0, 0));
}

static void check(struct shmb_region *region, uint64_t size, unsigned seed)
{
	const unsigned char *data = shmb_region_data(region);

	CHECK_INT(shmb_region_size(region), size);
	for (uint64_t i = 0; i < size; i += 64)
		CHECK_INT(data[i], (unsigned char)(i / 64 * 7 + seed));
}

static struct shmb_region *make(struct part *part, const char *name, uint64_t size,
				uint64_t capacity, enum shmb_lifetime lifetime)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.capacity = capacity;
	options.lifetime = lifetime;
	options.backing = part->backing;
	return create(part->client, name, size, &options);
}

/* ---- Scenarios ---- */

static void run_attach(struct broker *broker, struct part *part)
{
	struct shmb_region *made = make(part, "r", 3 * PAGE, 0, SHMB_PERSISTENT), *opened;
	struct shmb_region_info info = { .struct_size = sizeof(info) };

	fill(made, 3 * PAGE, 1);
	opened = open_region(part->client, "r", SHMB_READ);
	check(opened, 3 * PAGE, 1);
	CHECK_OK(shmb_region_stat(part->client, "r", &info));
	CHECK_INT(info.attachments, 2);
	CHECK_INT(info.sequence, 1);
	shmb_region_free(made);
	shmb_region_free(opened);
	opened = open_region(part->client, "r", SHMB_READ | SHMB_WRITE);
	check(opened, 3 * PAGE, 1);
	shmb_region_free(opened);
	CHECK_OK(shmb_region_remove(part->client, "r"));
	CHECK_CODE(shmb_region_stat(part->client, "r", &info), SHMB_ENOENT);
}

/* Requests that cannot be done twice. */
static void run_once_each(struct broker *broker, struct part *part)
{
	struct shmb_region *region = make(part, "r", PAGE, 0, SHMB_PERSISTENT);

	shmb_region_free(region);
	CHECK_OK(shmb_region_remove(part->client, "r"));
}

static void run_lifetimes(struct broker *broker, struct part *part)
{
	struct shmb_region *attached = make(part, "a", PAGE, 0, SHMB_ATTACHED);
	struct shmb_region *session = make(part, "s", PAGE, 0, SHMB_SESSION);
	struct shmb_region_info info = { .struct_size = sizeof(info) };

	shmb_region_free(attached);
	shmb_region_free(session);
	CHECK_CODE(shmb_region_stat(part->client, "a", &info), SHMB_ENOENT);
	CHECK_OK(shmb_region_stat(part->client, "s", &info));
	CHECK_INT(info.attachments, 0);
}

/* The name is given anew while the old region is still attached. */
static void run_remove(struct broker *broker, struct part *part)
{
	struct shmb_region *old = make(part, "r", 2 * PAGE, 0, SHMB_PERSISTENT), *young;
	struct shmb_region *again;

	fill(old, 2 * PAGE, 1);
	CHECK_OK(shmb_region_remove(part->client, "r"));
	CHECK_CODE(shmb_region_remove(part->client, "r"), SHMB_ENOENT);
	young = make(part, "r", PAGE, 0, SHMB_ATTACHED);
	fill(young, PAGE, 2);
	again = open_region(part->client, "r", SHMB_READ);
	check(again, PAGE, 2);
	check(old, 2 * PAGE, 1);
	CHECK_OK(shmb_region_resize(old, PAGE));
	check(old, PAGE, 1);
	shmb_region_free(old);
	shmb_region_free(young);
	check(again, PAGE, 2);
	shmb_region_free(again);
}

static void run_resize(struct broker *broker, struct part *part)
{
	struct shmb_region *region = make(part, "r", 2 * PAGE, 16 * PAGE, SHMB_ATTACHED);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	unsigned char byte = 1;

	fill(region, 2 * PAGE, 1);
	CHECK_OK(shmb_region_resize(region, 16 * PAGE));
	CHECK_OK(shmb_region_read_u8(region, 2 * PAGE, &byte));
	CHECK_INT(byte, 0);
	fill(region, 16 * PAGE, 2);
	CHECK_OK(shmb_region_resize(region, 3 * PAGE));
	check(region, 3 * PAGE, 2);
	CHECK_OK(shmb_region_resize(region, 8 * PAGE));
	CHECK_OK(shmb_region_read_u8(region, 3 * PAGE, &byte));
	CHECK_INT(byte, 0);
	CHECK_OK(shmb_region_stat(part->client, "r", &info));
	CHECK_INT(info.size, 8 * PAGE);
	shmb_region_free(region);
}

static void run_modes(struct broker *broker, struct part *part)
{
	struct shmb_region *region = make(part, "r", PAGE, 0, SHMB_ATTACHED);
	struct shmb_region_info info = { .struct_size = sizeof(info) };

	CHECK_OK(shmb_region_chmod(part->client, "r", 0640));
	CHECK_OK(shmb_region_stat(part->client, "r", &info));
	CHECK_INT(info.mode, 0640);
	CHECK_OK(shmb_region_chmod(part->client, "r", 0600));
	CHECK_OK(shmb_region_chown(part->client, "r", geteuid(), getegid()));
	CHECK_OK(shmb_region_stat(part->client, "r", &info));
	CHECK_INT(info.mode, 0600);
	CHECK_INT(info.uid, geteuid());
	shmb_region_free(region);
}

static void run_locks(struct broker *broker, struct part *part)
{
	struct shmb_region *one = make(part, "r", PAGE, 0, SHMB_ATTACHED);
	struct shmb_region *two = open_region(part->client, "r", SHMB_READ | SHMB_LOCK);
	struct shmb_lock *named = create_lock(part->client, "l", 0700, SHMB_ATTACHED), *again;

	CHECK_OK(shmb_region_lock(one, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_CODE(shmb_region_lock(two, SHMB_SHARED, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_lock_acquire(named, SHMB_SHARED, LONG_MS));
	again = open_lock(part->client, "l");
	CHECK_INT(look_at_lock(part->client, "l").readers, 1);
	CHECK_INT(look_at_lock(part->client, "r").held, 1);
	CHECK_INT(look_at_lock(part->client, "r").slots_used, 2);
	CHECK_OK(shmb_region_unlock(one));
	CHECK_OK(shmb_region_lock(two, SHMB_SHARED, LONG_MS));
	CHECK_OK(shmb_region_unlock(two));
	CHECK_OK(shmb_lock_release(named));
	shmb_lock_free(named);
	shmb_region_free(two);
	CHECK_OK(shmb_lock_acquire(again, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_OK(shmb_lock_release(again));
	shmb_lock_free(again);
	shmb_region_free(one);
}

static void run_semaphores(struct broker *broker, struct part *part)
{
	struct shmb_semaphore *counting =
		create_semaphore(part->client, "c", SHMB_COUNTING, 2, 9, 0700);
	struct shmb_semaphore *owned = create_semaphore(part->client, "o", SHMB_OWNED, 0, 3, 0700);
	struct shmb_semaphore *again = open_semaphore(part->client, "o");
	struct shmb_permit permit;

	CHECK_OK(shmb_semaphore_wait(counting, LONG_MS));
	CHECK_OK(shmb_semaphore_take(owned, LONG_MS, &permit));
	CHECK_INT(look_at_semaphore(part->client, "c").value, 1);
	CHECK_INT(look_at_semaphore(part->client, "o").value, 2);
	CHECK_OK(shmb_semaphore_post(counting, 3));
	shmb_semaphore_free(owned);
	/* The permit is the client's, not the handle's. */
	CHECK_INT(look_at_semaphore(part->client, "o").value, 2);
	CHECK_INT(look_at_semaphore(part->client, "c").value, 4);
	CHECK_OK(shmb_semaphore_give(again, &permit));
	CHECK_INT(look_at_semaphore(part->client, "o").value, 3);
	CHECK_OK(shmb_semaphore_remove(part->client, "o"));
	shmb_semaphore_free(again);
	shmb_semaphore_free(counting);
}

/* ---- A death, repaired ---- */

static void be_the_victim(struct broker *broker, int end)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);
	struct shmb_semaphore *owned = open_semaphore(client, "o");
	struct shmb_lock *lock = open_lock(client, "l");

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_OK(shmb_lock_acquire(lock, SHMB_SHARED, LONG_MS));
	CHECK_OK(shmb_semaphore_wait(owned, LONG_MS));
	CHECK_OK(shmb_semaphore_wait(owned, LONG_MS));
	create(client, "victims", PAGE, NULL);
	CHECK_INT(write(end, "", 1), 1);
	for (;;)
		pause();
}

static void prepare_victim(struct broker *broker, struct part *part)
{
	pid_t parent = getpid();
	int ends[2];
	char byte;

	part->region = make(part, "r", PAGE, 0, SHMB_ATTACHED);
	part->semaphore = create_semaphore(part->client, "o", SHMB_OWNED, 0, 3, 0700);
	SYS(pipe2(ends, O_CLOEXEC));
	/* Not of this process's client's: it is a copy of it. */
	part->victim = SYS(fork());
	if (part->victim == 0) {
		SYS(prctl(PR_SET_PDEATHSIG, SIGKILL));
		if (getppid() == parent)
			be_the_victim(broker, ends[1]);
		_exit(1);
	}
	close(ends[1]);
	CHECK_INT(read(ends[0], &byte, 1), 1);
	close(ends[0]);
}

/* The lock has to be there before the victim wants it. */
static void prepare_death(struct broker *broker, struct part *part)
{
	struct shmb_lock *lock = create_lock(part->client, "l", 0700, SHMB_PERSISTENT);

	shmb_lock_free(lock);
	prepare_victim(broker, part);
	/* Our slot is asked for now. */
	CHECK_CODE(shmb_region_lock(part->region, SHMB_SHARED, 0), SHMB_ETIMEDOUT);
}

/* Nobody waits for what a dead process holds longer than the daemon is away. */
static void await_permits(struct part *part)
{
	struct shmb_permit permits[3];

	for (int i = 0; i < 3; i++)
		CHECK_OK(shmb_semaphore_take(part->semaphore, LONG_MS, &permits[i]));
	CHECK_CODE(shmb_semaphore_wait(part->semaphore, 0), SHMB_ETIMEDOUT);
	for (int i = 0; i < 3; i++)
		CHECK_OK(shmb_semaphore_give(part->semaphore, &permits[i]));
}

static void await_locks(struct part *part)
{
	struct shmb_lock *lock = open_lock(part->client, "l");

	CHECK_CODE(shmb_region_lock(part->region, SHMB_EXCLUSIVE, LONG_MS), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_region_mark_consistent(part->region));
	CHECK_OK(shmb_region_unlock(part->region));
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_OK(shmb_lock_release(lock));
	shmb_lock_free(lock);
}

static void run_death(struct broker *broker, struct part *part)
{
	struct shmb_region *region = NULL;

	kill(part->victim, SIGKILL);
	SYS(waitpid(part->victim, NULL, 0));
	await_permits(part);
	await_locks(part);
	CHECK_CODE(shmb_region_open(part->client, "victims", SHMB_READ, NULL, &region),
		   SHMB_ENOENT);
	CHECK_OK(shmb_lock_remove(part->client, "l"));
	shmb_region_free(part->region);
	shmb_semaphore_free(part->semaphore);
}

/* It dies while there is no daemon: nobody sees it die. */
static void run_death_away(struct broker *broker, struct part *part)
{
	kill(atomic_load(&part->page->pid), SIGKILL);
	run_death(broker, part);
}

/* ---- Recovery ---- */

/* Something of everything, and the daemon is killed. What it does next are the steps. */
static void run_recovery(struct broker *broker, struct part *part)
{
	struct shmb_region *region = make(part, "r", 2 * PAGE, 16 * PAGE, SHMB_ATTACHED);
	struct shmb_region *removed = make(part, "gone", PAGE, 0, SHMB_PERSISTENT);
	struct shmb_region *kept = make(part, "kept", PAGE, 0, SHMB_PERSISTENT);
	struct shmb_semaphore *owned = create_semaphore(part->client, "o", SHMB_OWNED, 0, 3, 0700);
	struct shmb_permit permit;

	fill(region, 2 * PAGE, 1);
	fill(removed, PAGE, 2);
	fill(kept, PAGE, 3);
	shmb_region_free(kept);
	CHECK_OK(shmb_region_remove(part->client, "gone"));
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_OK(shmb_semaphore_take(owned, LONG_MS, &permit));
	kill(atomic_load(&part->page->pid), SIGKILL);
	check(region, 2 * PAGE, 1);
	CHECK_OK(shmb_region_resize(region, 4 * PAGE));
	CHECK_INT(look_at_lock(part->client, "r").held, 1);
	CHECK_INT(look_at_semaphore(part->client, "o").value, 2);
	check(removed, PAGE, 2);
	kept = open_region(part->client, "kept", SHMB_READ);
	check(kept, PAGE, 3);
	CHECK_OK(shmb_semaphore_give(owned, &permit));
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(kept);
	CHECK_OK(shmb_region_remove(part->client, "kept"));
	shmb_region_free(removed);
	shmb_region_free(region);
	shmb_semaphore_free(owned);
}

/* ---- The manifest is written anew ---- */

static int find_manifest(const char *name, uint64_t value, void *userdata)
{
	if (strcmp(name, "manifest_bytes") == 0)
		*(uint64_t *)userdata = value;
	return 0;
}

static uint64_t manifest_bytes(struct shmb_client *client)
{
	uint64_t bytes = 0;

	CHECK_OK(shmb_client_stats(client, find_manifest, &bytes));
	return bytes;
}

static void change(struct part *part, const char *name, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		CHECK_OK(shmb_region_chmod(part->client, name, 0600 | (i & 077)));
}

/* Short of what makes it due: twice what it was when it was last written, and 1 MiB. */
static void prepare_rewrite(struct broker *broker, struct part *part)
{
	uint64_t before, now;
	char name[SHMB_NAME_MAX + 1];

	memset(name, 'n', SHMB_NAME_MAX);
	name[SHMB_NAME_MAX] = '\0';
	part->region = make(part, name, 2 * PAGE, 0, SHMB_ATTACHED);
	fill(part->region, 2 * PAGE, 1);
	before = manifest_bytes(part->client);
	change(part, name, 16);
	now = manifest_bytes(part->client);
	change(part, name, (unsigned)((DUE - now) * 16 / (now - before)));
	CHECK(manifest_bytes(part->client) > DUE / 2);
}

static void run_rewrite(struct broker *broker, struct part *part)
{
	const char *name = shmb_region_name(part->region);
	struct shmb_region_info info = { .struct_size = sizeof(info) };

	while (manifest_bytes(part->client) > DUE / 2)
		change(part, name, 1);
	CHECK_OK(shmb_region_chmod(part->client, name, 0642));
	CHECK_OK(shmb_region_stat(part->client, name, &info));
	CHECK_INT(info.mode, 0642);
	CHECK_INT(info.attachments, 1);
	check(part->region, 2 * PAGE, 1);
	shmb_region_free(part->region);
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

/* At each step, and each of its successor's that comes before the client is content. */
static void play_pairs(struct broker *broker, struct play *play)
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

static void play_scenarios(struct broker *broker, const struct scenario *scenarios, size_t n,
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

#define PLAY(scenarios, backing, then) \
	play_scenarios(broker, scenarios, sizeof(scenarios) / sizeof((scenarios)[0]), backing, then)

static const struct scenario on_regions[] = {
	{ "attach", NULL, run_attach, 40 },      { "lifetimes", NULL, run_lifetimes, 20 },
	{ "remove", NULL, run_remove, 40 },      { "resize", NULL, run_resize, 30 },
	{ "chmod, chown", NULL, run_modes, 20 },
};

static const struct scenario on_locks[] = {
	{ "locks", NULL, run_locks, 40 },
	{ "semaphores", NULL, run_semaphores, 40 },
};

static const struct scenario on_deaths[] = {
	{ "a death", prepare_death, run_death, 40 },
	{ "a death unseen", prepare_death, run_death_away, 40 },
};

static const struct scenario on_recovery[] = {
	{ "recovery", NULL, run_recovery, 60 },
};

static const struct scenario on_rewrite[] = {
	{ "written anew", prepare_rewrite, run_rewrite, 10 },
};

#define STEPS .bare = true, .no_probe = true, .timeout_s = 110

CASE(regions_at_every_step, STEPS)
{
	PLAY(on_regions, SHMB_BACKING_SHM, 0);
}

CASE(locks_at_every_step, STEPS)
{
	PLAY(on_locks, SHMB_BACKING_SHM, 0);
}

CASE(deaths_at_every_step, STEPS)
{
	PLAY(on_deaths, SHMB_BACKING_SHM, 0);
}

CASE(recovery_at_every_step, STEPS)
{
	PLAY(on_recovery, SHMB_BACKING_SHM, 0);
}

CASE(manifest_written_anew_at_every_step, STEPS)
{
	PLAY(on_rewrite, SHMB_BACKING_SHM, 0);
}

CASE(stored_memory_at_every_step, STEPS, .fd_store = 64)
{
	PLAY(on_regions, SHMB_BACKING_MEMFD, 0);
}

CASE(stored_memory_recovers_at_every_step, STEPS, .fd_store = 64)
{
	PLAY(on_recovery, SHMB_BACKING_MEMFD, 0);
}

/* The daemon dies, and the one that recovers from it dies too. */
CASE(pairs_of_steps, STEPS)
{
	static const struct scenario scenario = { "once each", NULL, run_once_each, 15 };
	struct play play;

	begin(broker, &play, SHMB_BACKING_SHM);
	play.scenario = &scenario;
	play_pairs(broker, &play);
	end(broker, &play);
}

CASE(twice_in_a_row, STEPS)
{
	PLAY(on_regions, SHMB_BACKING_SHM, 37);
}

CASE(twice_in_a_row_with_locks, STEPS)
{
	PLAY(on_locks, SHMB_BACKING_SHM, 41);
}

CASE(twice_in_a_row_with_deaths, STEPS)
{
	PLAY(on_deaths, SHMB_BACKING_SHM, 43);
}
