/* SPDX-License-Identifier: MIT */
/*
 * Programs that use the library while the daemon is killed and another follows: what they hold,
 * what they wait for, and what they have just asked for goes on.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

static void replace(struct broker *broker)
{
	broker_crash(broker);
	broker_restart(broker);
}

static int process(struct shmb_client *client, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = SYS(shmb_client_get_fd(client)),
				  .events = (short)shmb_client_get_events(client) };

	SYS(poll(&poll_fd, 1, timeout_ms));
	return shmb_client_process(client);
}

/* ---- What is mapped ---- */

CASE(mappings_and_views_live_on, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other;
	struct shmb_region *region = create(client, "r", 8192, NULL), *same;
	struct shmb_view view;
	uint32_t value;

	CHECK_OK(shmb_region_view(region, 4096, 16, 8, SHMB_READ | SHMB_WRITE, &view));
	memcpy(view.data, "before", 7);
	broker_crash(broker);
	CHECK_STRING(view.data, "before");
	CHECK_OK(shmb_region_write_u32(region, 0, 42));
	CHECK_OK(shmb_region_publish(region, 0, 4));
	broker_restart(broker);
	CHECK_OK(shmb_client_ping(client));
	memcpy(view.data, "after", 6);
	other = connect_to(broker);
	same = open_region(other, "r", SHMB_READ);
	CHECK_OK(shmb_region_read_u32(same, 0, &value));
	CHECK_INT(value, 42);
	CHECK_INT(shmb_region_sequence(same), 1);
	CHECK_STRING((const char *)shmb_region_data(same) + 4096, "after");
	shmb_view_release(&view);
	shmb_region_free(same);
	shmb_region_free(region);
	shmb_client_free(other);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(a_handle_does_all_that_it_did, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	options.capacity = 65536;
	region = create(client, "r", 4096, &options);
	replace(broker);
	CHECK_OK(shmb_region_resize(region, 60000));
	replace(broker);
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.size, 60000);
	CHECK_INT(shmb_region_size(region), 60000);
	CHECK_OK(shmb_region_write_u8(region, 59999, 1));
	replace(broker);
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 10000));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(shmb_region_close(region));
	shmb_region_free(region);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	shmb_client_free(client);
}

/* ---- Locks and permits ---- */

struct job {
	struct shmb_lock *lock;
	struct shmb_region *region;
	struct shmb_semaphore *semaphore;
	enum shmb_lock_kind kind;
	uint64_t seen;
	int result;
	pthread_t thread;
};

static void *lock_it(void *argument)
{
	struct job *job = argument;

	job->result = shmb_lock_acquire(job->lock, job->kind, -1);
	if (job->result == 0)
		job->result = shmb_lock_release(job->lock);
	return NULL;
}

static void *take_it(void *argument)
{
	struct job *job = argument;
	struct shmb_permit permit;

	job->result = shmb_semaphore_take(job->semaphore, -1, &permit);
	return NULL;
}

static void *wait_for_it(void *argument)
{
	struct job *job = argument;

	job->result = shmb_region_wait(job->region, job->seen, -1, NULL);
	return NULL;
}

static void begin(struct job *job, void *(*function)(void *))
{
	job->result = 1;
	CHECK_INT(pthread_create(&job->thread, NULL, function, job), 0);
}

static int end(struct job *job)
{
	CHECK_INT(pthread_join(job->thread, NULL), 0);
	return job->result;
}

CASE(locks_that_are_held_stay_held, PRIVATE)
{
	struct shmb_client *holder = connect_to(broker), *other = connect_to(broker);
	struct shmb_lock *lock = create_lock(holder, "l", 0700, SHMB_ATTACHED), *theirs;
	struct shmb_region *region = create(holder, "r", 4096, NULL), *read;

	theirs = open_lock(other, "l");
	read = open_region(other, "r", SHMB_READ | SHMB_LOCK);
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_lock(read, SHMB_SHARED, 0));
	replace(broker);
	CHECK(look_at_lock(other, "l").held);
	CHECK_INT(look_at_lock(other, "r").readers, 1);
	CHECK_CODE(shmb_lock_acquire(theirs, SHMB_SHARED, 0), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(shmb_lock_release(lock));
	CHECK_OK(shmb_lock_acquire(theirs, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_release(theirs));
	CHECK_OK(shmb_region_unlock(read));
	shmb_lock_free(theirs);
	shmb_lock_free(lock);
	shmb_region_free(read);
	shmb_region_free(region);
	shmb_client_free(other);
	shmb_client_free(holder);
	UNTIL(broker, broker_stat(broker, "locks") == 0);
}

/* Lets the daemon tell when they sleep; then kills it. */
CASE(who_waits_for_a_lock_gets_it, PRIVATE)
{
	struct shmb_client *holder = connect_to(broker), *other = connect_to(broker);
	struct shmb_lock *lock = create_lock(holder, "l", 0700, SHMB_ATTACHED);
	struct job jobs[2] = { { .kind = SHMB_EXCLUSIVE }, { .kind = SHMB_SHARED } };
	size_t i;

	for (i = 0; i < 2; i++) {
		CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0));
		jobs[i].lock = open_lock(other, "l");
		begin(&jobs[i], lock_it);
		UNTIL(broker, look_at_lock(holder, "l").waiting_exclusive +
				      look_at_lock(holder, "l").waiting_shared);
		broker_crash(broker);
		if (i == 0) /* with nobody there, or when there is somebody again */
			CHECK_OK(shmb_lock_release(lock));
		broker_restart(broker);
		if (i == 1)
			CHECK_OK(shmb_lock_release(lock));
		CHECK_OK(end(&jobs[i]));
		shmb_lock_free(jobs[i].lock);
	}
	shmb_lock_free(lock);
	shmb_client_free(other);
	shmb_client_free(holder);
}

CASE(permits_stay_with_their_holder, PRIVATE)
{
	struct shmb_client *holder = connect_to(broker), *other = connect_to(broker);
	struct shmb_semaphore *pool = create_semaphore(holder, "p", SHMB_OWNED, 0, 2, 0700);
	struct shmb_semaphore *theirs = open_semaphore(other, "p");
	struct shmb_permit permits[2], none;
	struct job job = { .semaphore = theirs };

	CHECK_OK(shmb_semaphore_take(pool, 0, &permits[0]));
	CHECK_OK(shmb_semaphore_take(pool, 0, &permits[1]));
	begin(&job, take_it);
	UNTIL(broker, look_at_semaphore(holder, "p").waiting == 1);
	replace(broker);
	CHECK_INT(look_at_semaphore(other, "p").value, 0);
	CHECK_CODE(shmb_semaphore_take(pool, 0, &none), SHMB_ETIMEDOUT);
	broker_crash(broker);
	CHECK_OK(shmb_semaphore_give(pool, &permits[1]));
	CHECK_OK(end(&job));
	broker_restart(broker);
	CHECK_INT(look_at_semaphore(other, "p").value, 0);
	CHECK_OK(shmb_semaphore_give(pool, &permits[0]));
	CHECK_INT(look_at_semaphore(other, "p").value, 1);
	/* The other's permit comes back with its handle, as ever. */
	shmb_semaphore_free(theirs);
	UNTIL(broker, look_at_semaphore(holder, "p").value == 2);
	shmb_semaphore_free(pool);
	shmb_client_free(other);
	shmb_client_free(holder);
}

CASE(a_count_stays_what_it_is, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *count = create_semaphore(client, "c", SHMB_COUNTING, 3, 10, 0700);

	CHECK_OK(shmb_semaphore_wait(count, 0));
	broker_crash(broker);
	CHECK_OK(shmb_semaphore_post(count, 4));
	broker_restart(broker);
	CHECK_INT(look_at_semaphore(client, "c").value, 6);
	CHECK_INT(look_at_semaphore(client, "c").maximum, 10);
	shmb_semaphore_free(count);
	shmb_client_free(client);
}

/* ---- Waiting and watching ---- */

CASE(who_waits_for_a_publication_gets_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct job job = { .region = open_region(other, "r", SHMB_READ) };
	unsigned i;

	for (i = 0; i < 2; i++) {
		job.seen = i;
		begin(&job, wait_for_it);
		broker_crash(broker);
		if (i == 0)
			CHECK_OK(shmb_region_publish(region, 0, 0));
		broker_restart(broker);
		if (i == 1)
			CHECK_OK(shmb_region_publish(region, 0, 0));
		CHECK_OK(end(&job));
	}
	shmb_region_free(job.region);
	shmb_region_free(region);
	shmb_client_free(other);
	shmb_client_free(client);
}

struct heard {
	unsigned calls, types;
	struct shmb_event last;
};

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct heard *heard = userdata;

	(void)region;
	heard->calls++;
	heard->types |= event->types;
	heard->last = *event;
}

static void process_until(struct shmb_client *client, struct heard *heard, unsigned types)
{
	int64_t until = harness_now_ms() + 10000 * harness_slow();

	while ((heard->types & types) != types) {
		CHECK(harness_now_ms() < until);
		CHECK(process(client, 100) >= 0);
	}
	CHECK(!(heard->types & SHMB_EVENT_DISCONNECTED));
	heard->types = 0;
}

/* An event loop that does nothing but watch: it has to find out by itself. */
CASE(who_watches_is_told, PRIVATE)
{
	struct shmb_client *watcher = connect_to(broker), *other = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region, *watched;
	struct heard heard = { 0 };

	options.capacity = 8192;
	options.lifetime = SHMB_PERSISTENT;
	region = create(other, "r", 4096, &options);
	watched = open_region(watcher, "r", SHMB_READ);
	CHECK_OK(shmb_region_watch(watched,
				   SHMB_EVENT_PUBLISHED | SHMB_EVENT_RESIZED | SHMB_EVENT_REMOVED,
				   0, on_event, &heard));
	/* What happens while nobody is there to tell it. */
	broker_crash(broker);
	CHECK_OK(shmb_region_publish(region, 1, 2));
	broker_restart(broker);
	process_until(watcher, &heard, SHMB_EVENT_PUBLISHED);
	CHECK_INT(heard.last.sequence, 1);
	CHECK_INT(heard.calls, 1);
	/* And what happens later, before the watcher is back or after. */
	replace(broker);
	CHECK_OK(shmb_region_resize(region, 5000));
	process_until(watcher, &heard, SHMB_EVENT_RESIZED);
	CHECK_INT(heard.last.size, 5000);
	CHECK_OK(shmb_region_publish(region, 0, 0));
	process_until(watcher, &heard, SHMB_EVENT_PUBLISHED);
	CHECK_INT(heard.last.sequence, 2);
	replace(broker);
	CHECK_OK(shmb_region_remove(other, "r"));
	process_until(watcher, &heard, SHMB_EVENT_REMOVED);
	shmb_region_free(watched);
	shmb_region_free(region);
	shmb_client_free(watcher);
	shmb_client_free(other);
	UNTIL(broker, broker_stat(broker, "watches") == 0);
}

CASE(a_snapshot_needs_no_daemon, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_region *read = open_region(client, "r", SHMB_READ);
	char copy[16];

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_write(region, 0, "complete", 9, 0));
	replace(broker);
	CHECK_CODE(shmb_region_snapshot(read, 0, copy, 16), SHMB_EBUSY);
	CHECK_OK(shmb_region_unlock(region));
	broker_crash(broker);
	CHECK_OK(shmb_region_snapshot(read, 0, copy, 16));
	CHECK_STRING(copy, "complete");
	broker_restart(broker);
	shmb_region_free(read);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Requests on their way ---- */

struct answer {
	int calls, status;
	struct shmb_region *region;
};

static void on_region(int status, struct shmb_region *region, void *userdata)
{
	struct answer *answer = userdata;

	answer->calls++;
	answer->status = status;
	answer->region = region;
}

enum { MANY = 60 }; /* not more than may be unanswered */

CASE(asynchronous_requests_are_each_answered_once, PRIVATE, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct answer answers[MANY] = { 0 };
	int64_t until = harness_now_ms() + 30000 * harness_slow();
	char name[16];
	unsigned i, n = 0;

	for (i = 0; i < MANY; i++) {
		if (i == MANY / 2) /* some are done, some are not even read */
			SYS(kill(broker->pid, SIGSTOP));
		snprintf(name, sizeof(name), "r%u", i);
		CHECK_OK(
			shmb_region_create_async(client, name, 4096, NULL, on_region, &answers[i]));
	}
	replace(broker);
	while (n < MANY) {
		CHECK(harness_now_ms() < until);
		CHECK(process(client, 100) >= 0);
		for (n = 0; n < MANY && answers[n].calls; n++)
			;
	}
	for (i = 0; i < MANY; i++) {
		CHECK_INT(answers[i].calls, 1);
		CHECK_INT(answers[i].status, 1);
		CHECK_OK(shmb_region_write_u32(answers[i].region, 0, i));
	}
	CHECK_INT(broker_stat(broker, "regions"), MANY);
	CHECK_INT(broker_stat(broker, "attachments"), MANY);
	for (i = 0; i < MANY; i++)
		shmb_region_free(answers[i].region);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	shmb_client_free(client);
}

/* Each call is asked of a daemon that is killed before it answers, or that is not there. */
static void ask_for_everything(struct broker *broker, void *argument)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore;
	struct shmb_region *region;
	struct shmb_lock *lock;

	(void)argument;
	say(1), hear();
	region = create(client, "r", 4096, NULL);
	say(1), hear();
	lock = create_lock(client, "l", 0700, SHMB_ATTACHED);
	say(1), hear();
	semaphore = create_semaphore(client, "s", SHMB_COUNTING, 0, 1, 0700);
	say(1), hear();
	CHECK_OK(shmb_region_resize(region, 100));
	say(1), hear();
	CHECK_OK(shmb_region_chmod(client, "r", 0755));
	say(1), hear();
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 10000));
	CHECK_OK(shmb_region_unlock(region));
	say(1), hear();
	CHECK_OK(shmb_semaphore_post(semaphore, 1));
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.size, 100);
	CHECK_INT(info.mode, 0755);
	say(1), hear();
	CHECK_OK(shmb_region_remove(client, "r"));
	say(1), hear();
	CHECK_OK(shmb_region_close(region));
	shmb_region_free(region);
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
	say(2);
}

static void ask_everything_of(struct broker *broker, void (*disturb)(struct broker *broker))
{
	struct actor alice = actor_start(broker, &ALICE, ask_for_everything, NULL);

	while (actor_hear(&alice) == 1) {
		actor_say(&alice, 1);
		disturb(broker);
	}
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_stat(broker, "away") == 0);
}

CASE(no_call_notices_a_daemon_that_is_killed, SYSTEM, .fd_store = 256)
{
	ask_everything_of(broker, replace);
}

static void leave(struct broker *broker)
{
	CHECK_INT(broker_leave(broker), 0);
	broker_restart(broker);
}

CASE(no_call_notices_a_daemon_that_is_replaced, SYSTEM, .fd_store = 256, .on_stop = "keep")
{
	ask_everything_of(broker, leave);
}

static void stop_and_continue(struct broker *broker)
{
	SYS(kill(broker->pid, SIGSTOP));
	SYS(kill(broker->pid, SIGCONT));
}

CASE(no_call_notices_a_daemon_that_is_stopped_for_a_while, SYSTEM)
{
	ask_everything_of(broker, stop_and_continue);
}

CASE(a_call_waits_for_no_longer_than_its_time, PRIVATE)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;

	options.timeout_ms = 200;
	CHECK_OK(shmb_client_connect(broker->socket, &options, &client));
	broker_crash(broker);
	CHECK_CODE(shmb_client_ping(client), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_region_create(client, "r", 4096, NULL, &region), SHMB_ETIMEDOUT);
	broker_restart(broker);
	CHECK_OK(shmb_client_set_timeout(client, 10000));
	CHECK_OK(shmb_client_ping(client));
	/* What nobody waited for leaves nothing behind, done or not. */
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
	shmb_client_free(client);
}

static void give_up_at_once(struct broker *broker, void *argument)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;

	(void)argument;
	options.away_ms = 0;
	CHECK_OK(shmb_client_connect(broker->socket, &options, &client));
	say(1);
	hear();
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	shmb_client_free(client);
	say(2);
	hear();
}

/* And what it had ends with its client, not with its process. */
CASE(who_does_not_want_to_wait_is_told_at_once, PRIVATE)
{
	struct actor actor = actor_start(broker, &SELF, give_up_at_once, NULL);

	actor_hear(&actor);
	replace(broker);
	actor_say(&actor, 1);
	CHECK_INT(actor_hear(&actor), 2);
	CHECK_INT(broker_stat(broker, "away"), 0);
	CHECK_INT(broker_stat(broker, "connections"), 1);
	actor_say(&actor, 1);
	actor_end(&actor);
}

/* ---- Several users, again and again ---- */

/* Counts in shared memory, under a lock, and asks the daemon for something each time. */
static void count(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "counter", SHMB_READ | SHMB_WRITE);
	struct shmb_region *own;
	uint64_t value;
	char name[32];
	unsigned i;

	(void)argument;
	snprintf(name, sizeof(name), "own/%d", (int)getpid());
	say(1);
	for (i = 0; i < 200; i++) {
		CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, -1));
		CHECK_OK(shmb_region_read_u64(region, 0, &value));
		own = create(client, name, 4096, NULL);
		CHECK_OK(shmb_region_write_u64(region, 0, value + 1));
		CHECK_OK(shmb_region_unlock(region));
		shmb_region_free(own);
	}
	shmb_region_free(region);
	shmb_client_free(client);
	say(2);
}

CASE(users_count_together_over_many_daemons, SYSTEM, .fd_store = 256, .timeout_s = 90)
{
	static const struct identity *const who[3] = { &ALICE, &BOB, &CAROL };
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *counter;
	struct actor actors[3];
	uint64_t value;
	unsigned i;

	options.mode = 0777;
	counter = create(client, "counter", 4096, &options);
	for (i = 0; i < 3; i++)
		actors[i] = actor_start(broker, who[i], count, NULL);
	for (i = 0; i < 3; i++)
		CHECK_INT(actor_hear(&actors[i]), 1);
	for (i = 0; i < 20; i++) {
		CHECK_OK(shmb_client_ping(client));
		replace(broker);
	}
	for (i = 0; i < 3; i++) {
		CHECK_INT(actor_hear(&actors[i]), 2);
		actor_end(&actors[i]);
	}
	CHECK_OK(shmb_client_ping(client));
	CHECK_OK(shmb_region_read_u64(counter, 0, &value));
	CHECK_INT(value, 600);
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	CHECK_INT(broker_stat(broker, "away"), 0);
	CHECK_INT(broker_stat(broker, "recoveries"), 20);
	shmb_region_free(counter);
	shmb_client_free(client);
}
