/* SPDX-License-Identifier: MIT */
/*
 * A daemon that is killed in every write of its manifest, before and after every commit, in
 * repairs, and while it recovers from having been killed: regions, locks, semaphores. See
 * daemon_play.h.
 */
#include "daemon_play.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DUE = 1 << 20 };

/* ---- Scenarios ---- */

static void run_attach(struct broker *broker, struct part *part)
{
	struct shmb_region *made = play_make(part, "r", 3 * PAGE, 0, SHMB_PERSISTENT), *opened;
	struct shmb_region_info info = { .struct_size = sizeof(info) };

	play_fill(made, 3 * PAGE, 1);
	opened = open_region(part->client, "r", SHMB_READ);
	play_check(opened, 3 * PAGE, 1);
	CHECK_OK(shmb_region_stat(part->client, "r", &info));
	CHECK_INT(info.attachments, 2);
	CHECK_INT(info.sequence, 1);
	shmb_region_free(made);
	shmb_region_free(opened);
	opened = open_region(part->client, "r", SHMB_READ | SHMB_WRITE);
	play_check(opened, 3 * PAGE, 1);
	shmb_region_free(opened);
	CHECK_OK(shmb_region_remove(part->client, "r"));
	CHECK_CODE(shmb_region_stat(part->client, "r", &info), SHMB_ENOENT);
}

/* Requests that cannot be done twice. */
static void run_once_each(struct broker *broker, struct part *part)
{
	struct shmb_region *region = play_make(part, "r", PAGE, 0, SHMB_PERSISTENT);

	shmb_region_free(region);
	CHECK_OK(shmb_region_remove(part->client, "r"));
}

static void run_lifetimes(struct broker *broker, struct part *part)
{
	struct shmb_region *attached = play_make(part, "a", PAGE, 0, SHMB_ATTACHED);
	struct shmb_region *session = play_make(part, "s", PAGE, 0, SHMB_SESSION);
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
	struct shmb_region *old = play_make(part, "r", 2 * PAGE, 0, SHMB_PERSISTENT), *young;
	struct shmb_region *again;

	play_fill(old, 2 * PAGE, 1);
	CHECK_OK(shmb_region_remove(part->client, "r"));
	CHECK_CODE(shmb_region_remove(part->client, "r"), SHMB_ENOENT);
	young = play_make(part, "r", PAGE, 0, SHMB_ATTACHED);
	play_fill(young, PAGE, 2);
	again = open_region(part->client, "r", SHMB_READ);
	play_check(again, PAGE, 2);
	play_check(old, 2 * PAGE, 1);
	CHECK_OK(shmb_region_resize(old, PAGE));
	play_check(old, PAGE, 1);
	shmb_region_free(old);
	shmb_region_free(young);
	play_check(again, PAGE, 2);
	shmb_region_free(again);
}

static void run_resize(struct broker *broker, struct part *part)
{
	struct shmb_region *region = play_make(part, "r", 2 * PAGE, 16 * PAGE, SHMB_ATTACHED);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	unsigned char byte = 1;

	play_fill(region, 2 * PAGE, 1);
	CHECK_OK(shmb_region_resize(region, 16 * PAGE));
	CHECK_OK(shmb_region_read_u8(region, 2 * PAGE, &byte));
	CHECK_INT(byte, 0);
	play_fill(region, 16 * PAGE, 2);
	CHECK_OK(shmb_region_resize(region, 3 * PAGE));
	play_check(region, 3 * PAGE, 2);
	CHECK_OK(shmb_region_resize(region, 8 * PAGE));
	CHECK_OK(shmb_region_read_u8(region, 3 * PAGE, &byte));
	CHECK_INT(byte, 0);
	CHECK_OK(shmb_region_stat(part->client, "r", &info));
	CHECK_INT(info.size, 8 * PAGE);
	shmb_region_free(region);
}

static void run_modes(struct broker *broker, struct part *part)
{
	struct shmb_region *region = play_make(part, "r", PAGE, 0, SHMB_ATTACHED);
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
	struct shmb_region *one = play_make(part, "r", PAGE, 0, SHMB_ATTACHED);
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

	part->region = play_make(part, "r", PAGE, 0, SHMB_ATTACHED);
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
	struct shmb_region *region = play_make(part, "r", 2 * PAGE, 16 * PAGE, SHMB_ATTACHED);
	struct shmb_region *removed = play_make(part, "gone", PAGE, 0, SHMB_PERSISTENT);
	struct shmb_region *kept = play_make(part, "kept", PAGE, 0, SHMB_PERSISTENT);
	struct shmb_semaphore *owned = create_semaphore(part->client, "o", SHMB_OWNED, 0, 3, 0700);
	struct shmb_permit permit;

	play_fill(region, 2 * PAGE, 1);
	play_fill(removed, PAGE, 2);
	play_fill(kept, PAGE, 3);
	shmb_region_free(kept);
	CHECK_OK(shmb_region_remove(part->client, "gone"));
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_OK(shmb_semaphore_take(owned, LONG_MS, &permit));
	kill(atomic_load(&part->page->pid), SIGKILL);
	play_check(region, 2 * PAGE, 1);
	CHECK_OK(shmb_region_resize(region, 4 * PAGE));
	CHECK_INT(look_at_lock(part->client, "r").held, 1);
	CHECK_INT(look_at_semaphore(part->client, "o").value, 2);
	play_check(removed, PAGE, 2);
	kept = open_region(part->client, "kept", SHMB_READ);
	play_check(kept, PAGE, 3);
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
	part->region = play_make(part, name, 2 * PAGE, 0, SHMB_ATTACHED);
	play_fill(part->region, 2 * PAGE, 1);
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
	play_check(part->region, 2 * PAGE, 1);
	shmb_region_free(part->region);
}

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

	play_pairs(broker, &scenario, SHMB_BACKING_SHM);
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
