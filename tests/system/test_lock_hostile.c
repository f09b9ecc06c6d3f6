/* SPDX-License-Identifier: MIT */
/*
 * Clients that may lock and abuse it: any bytes in lock segments and arenas, changing while the
 * broker looks, or gone; requests for what is not theirs. The broker lives, answers everybody else,
 * and what they have is as they left it. With them, the broker running out while it makes, hands
 * out, or undoes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"

static struct raw *said_hello(struct broker *broker)
{
	struct raw *raw = raw_connect(broker);

	raw_hello(raw);
	return raw;
}

/* ---- Requests ---- */

CASE(stale_and_foreign_handles_get_no_slot, SYSTEM)
{
	static const uint64_t handles[] = { 1, 2, 3, 7, 1000, UINT32_MAX };
	struct raw *raw = said_hello(broker), *other = said_hello(broker);
	struct wire_region_lock_result result;
	struct wire_region_attached attached;
	int fds[2], fd;
	size_t i;

	for (i = 0; i < 6; i++)
		CHECK_CODE(raw_region_lock(raw, handles[i], &result, &fd), SHMB_ENOENT);
	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_PERSISTENT, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	CHECK_CODE(raw_region_lock(other, attached.handle, &result, &fd), SHMB_ENOENT);
	CHECK_OK(raw_region_lock(raw, attached.handle, &result, &fd));
	close(fd);
	CHECK_INT(result.slot, 1);
	CHECK_OK(raw_region_lock(raw, attached.handle, &result, &fd)); /* the same again */
	close(fd);
	CHECK_INT(result.slot, 1);
	CHECK_INT(broker_stat(broker, "slots"), 1);
	CHECK_OK(raw_close(raw, attached.handle));
	CHECK_CODE(raw_region_lock(raw, attached.handle, &result, &fd), SHMB_ENOENT);
	CHECK_CODE(raw_close(raw, attached.handle), SHMB_ENOENT);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	raw_free(raw);
	raw_free(other);
}

/* Handles of locks and semaphores are of no use to what is for regions. */
CASE(handles_of_another_kind_are_refused, PRIVATE)
{
	struct raw *raw = said_hello(broker);
	struct wire_semaphore_attached semaphore;
	struct wire_lock_attached lock;
	struct layout_locker locker;
	uint64_t handles[2];
	size_t i;

	CHECK_OK(raw_lock_create(raw, "l", 0700, SHMB_ATTACHED, 4, &lock, &locker));
	CHECK_OK(raw_semaphore_create(raw, "s", SHMB_OWNED, 4, SHMB_ATTACHED, &semaphore));
	handles[0] = lock.handle;
	handles[1] = semaphore.handle;
	for (i = 0; i < 2; i++) {
		struct wire_region_handle handle = { .handle = handles[i] };
		struct wire_region_resize_params resize = { .handle = handles[i], .size = 1 };
		struct wire_region_watch_params watch = { .handle = handles[i], .types = 7 };
		struct wire_region_ref ref = { .has = WIRE_HAS(region_ref, handle),
					       .handle = handles[i] };

		CHECK_CODE(raw_call(raw, WIRE_REGION_LOCK, &handle, NULL), SHMB_EKIND);
		CHECK_CODE(raw_call(raw, WIRE_REGION_RESIZE, &resize, NULL), SHMB_EKIND);
		CHECK_CODE(raw_call(raw, WIRE_REGION_WATCH, &watch, NULL), SHMB_EKIND);
		CHECK_CODE(raw_call(raw, WIRE_REGION_STAT, &ref, NULL), SHMB_EKIND);
		CHECK_CODE(raw_call(raw, WIRE_REGION_PUBLISHED, &handle, NULL), SHMB_EKIND);
	}
	/* Nor their names: semaphores of one mode share memory, so it cannot change. */
	for (i = 0; i < 2; i++) {
		struct wire_bytes name = wire_string(i ? "s" : "l");
		struct wire_region_chmod_params chmod = { .name = name, .mode = 0777 };
		struct wire_region_chown_params chown = { .has = WIRE_HAS(region_chown_params, gid),
							  .name = name };

		CHECK_CODE(raw_call(raw, WIRE_REGION_CHMOD, &chmod, NULL), SHMB_EKIND);
		CHECK_CODE(raw_call(raw, WIRE_REGION_CHOWN, &chown, NULL), SHMB_EKIND);
	}
	raw_locker_unmap(&locker);
	raw_free(raw);
}

static void ask_for_arenas(struct broker *broker, void *argument)
{
	uint64_t theirs = *(uint64_t *)argument;
	struct raw *raw = said_hello(broker);
	struct wire_arena_result result;
	uint64_t arena;
	int fd;

	for (arena = 1; arena < 100; arena++)
		CHECK_CODE(raw_arena_fd(raw, arena, &result, &fd), SHMB_ENOENT);
	CHECK_CODE(raw_arena_fd(raw, theirs, &result, &fd), SHMB_ENOENT);
	CHECK_CODE(raw_arena_fd(raw, UINT64_MAX, &result, &fd), SHMB_ENOENT);
	raw_free(raw);
}

CASE(arenas_are_for_those_with_a_semaphore_in_them, SYSTEM)
{
	struct raw *raw = said_hello(broker);
	struct wire_semaphore_attached attached;
	struct wire_arena_result result;
	int fd;

	CHECK_OK(raw_semaphore_create(raw, "s", SHMB_COUNTING, 1, SHMB_PERSISTENT, &attached));
	actor_run(broker, &ALICE, ask_for_arenas, &attached.arena);
	CHECK_OK(raw_arena_fd(raw, attached.arena, &result, &fd));
	CHECK_INT(raw->packet.n_fds, 1);
	close(fd);
	CHECK_OK(raw_close(raw, attached.handle));
	CHECK_CODE(raw_arena_fd(raw, attached.arena, &result, &fd), SHMB_ENOENT);
	raw_free(raw);
}

/* What hands out a slot or a descriptor has to be a request: nobody would know of it. */
CASE(notifications_leave_nothing_behind, PRIVATE)
{
	struct wire_semaphore_create_params semaphore = { .name = wire_string("s"),
							  .kind = SHMB_COUNTING,
							  .maximum = 1 };
	struct wire_lock_create_params lock = { .name = wire_string("l") };
	struct wire_lock_name name = { .name = wire_string("x") };
	struct raw *raw = said_hello(broker);
	struct wire_lock_attached attached;
	struct layout_locker locker;
	struct wire_buffer buffer;

	CHECK_OK(raw_lock_create(raw, "x", 0700, SHMB_PERSISTENT, 4, &attached, &locker));
	raw_locker_unmap(&locker);
	CHECK_OK(wire_encode_notification(&buffer, WIRE_LOCK_CREATE, &lock));
	CHECK_OK(raw_send(raw, buffer.data, buffer.length, NULL, 0));
	CHECK_OK(wire_encode_notification(&buffer, WIRE_SEMAPHORE_CREATE, &semaphore));
	CHECK_OK(raw_send(raw, buffer.data, buffer.length, NULL, 0));
	CHECK_OK(wire_encode_notification(&buffer, WIRE_LOCK_OPEN, &name));
	CHECK_OK(raw_send(raw, buffer.data, buffer.length, NULL, 0));
	CHECK_OK(raw_call(raw, WIRE_PING, NULL, NULL));
	CHECK_INT(broker_stat(broker, "locks"), 1);
	CHECK_INT(broker_stat(broker, "semaphores"), 0);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	CHECK_INT(broker_stat(broker, "slots"), 1);
	raw_free(raw);
}

CASE(values_that_make_no_semaphore_are_refused, PRIVATE)
{
	struct raw *raw = said_hello(broker);
	struct wire_semaphore_create_params params = { .name = wire_string("s"),
						       .kind = SHMB_OWNED,
						       .maximum = 1025 };

	CHECK_CODE(raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, NULL), SHMB_EINVAL);
	CHECK_INT(raw->error.limit, 1024);
	params.maximum = INT32_MAX;
	CHECK_CODE(raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, NULL), SHMB_EINVAL);
	params.maximum = 8;
	params.initial = 8;
	params.has = WIRE_HAS(semaphore_create_params, initial);
	CHECK_CODE(raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, NULL), SHMB_EINVAL);
	params.kind = SHMB_COUNTING;
	params.initial = 9;
	CHECK_CODE(raw_call(raw, WIRE_SEMAPHORE_CREATE, &params, NULL), SHMB_EINVAL);
	CHECK_INT(broker_stat(broker, "semaphores"), 0);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
	raw_free(raw);
}

/* ---- Places in arenas ---- */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

enum { PLACES = 300 };

struct place {
	uint64_t handle, arena; /* handle 0: none */
	uint32_t unit, end;
};

static void check_place(const struct place *places, const struct place *added)
{
	CHECK(added->unit >= LAYOUT_ARENA_FIRST && added->end <= LAYOUT_ARENA_UNITS);
	for (const struct place *other = places; other < places + PLACES; other++)
		if (other != added && other->handle && other->arena == added->arena)
			CHECK(other->end <= added->unit || added->end <= other->unit);
}

/* Semaphores of all sizes come and go: no two have a word in common, and room is used again. */
CASE(no_two_semaphores_share_a_place, PRIVATE)
{
	static const uint32_t sizes[] = { 1, 12, 13, 60, 61, 500, 1020, 1024 };
	static struct place places[PLACES];
	uint64_t seed = 88172645463325252, most = 0, arenas;
	struct raw *raw = said_hello(broker);
	struct wire_semaphore_attached attached;
	char name[32];
	int i;

	for (i = 0; i < 5000; i++) {
		struct place *place = &places[next_random(&seed) % PLACES];
		uint32_t size = sizes[next_random(&seed) % 8];

		if (place->handle) {
			CHECK_OK(raw_close(raw, place->handle));
			place->handle = 0;
			continue;
		}
		snprintf(name, sizeof(name), "s/%td", place - places);
		CHECK_OK(raw_semaphore_create(raw, name, SHMB_OWNED, size, SHMB_ATTACHED,
					      &attached));
		*place = (struct place){ attached.handle, attached.arena, (uint32_t)attached.unit,
					 (uint32_t)attached.unit + layout_owned_units(size) };
		check_place(places, place);
		arenas = broker_stat(broker, "bytes") / LAYOUT_ARENA_BYTES;
		most = arenas > most ? arenas : most;
	}
	/* On average 150 of 22 units: two arenas. They may be half empty. */
	CHECK(most <= 6);
	for (i = 0; i < PLACES; i++)
		if (places[i].handle)
			CHECK_OK(raw_close(raw, places[i].handle));
	CHECK_INT(broker_stat(broker, "bytes"), 0);
	raw_free(raw);
}

/* ---- Any bytes, changing all the time ---- */

struct scribble {
	void *memory;
	size_t bytes;
	uint64_t seed;
	_Atomic bool stop;
};

static void *scribble(void *argument)
{
	struct scribble *job = argument;
	_Atomic uint32_t *words = job->memory;
	size_t n = job->bytes / sizeof(*words);

	while (!atomic_load(&job->stop)) {
		uint64_t value = next_random(&job->seed);
		/* Not only noise: zeros, small numbers, bits of the word. */
		uint32_t word = value & 3 ? (uint32_t)(value >> 8) & 0x3c0007ff : (uint32_t)value;

		atomic_store_explicit(&words[(value >> 32) % n], value & 4 ? 0 : word,
				      memory_order_relaxed);
	}
	return NULL;
}

static void scribble_everything(struct scribble *job)
{
	uint64_t *words = job->memory;
	size_t i;

	for (i = 0; i < job->bytes / sizeof(*words); i++)
		words[i] = next_random(&job->seed);
}

enum { SLOTS = 32, HANDLES = 20 };

/* A lock and an arena of its own, full of noise, changed by a thread for ever; until it is killed.
 */
static void abuse(struct broker *broker, void *argument)
{
	struct raw *raw = said_hello(broker);
	struct wire_semaphore_attached semaphore;
	struct wire_lock_attached attached;
	struct layout_locker locker, another;
	struct layout_arena *arena;
	struct scribble jobs[2] = { { .seed = 88172645463325252u + (uint64_t)getpid() },
				    { .seed = 1181783497276652981u } };
	pthread_t threads[2];
	uint64_t i, turn;

	CHECK_OK(raw_lock_create(raw, "evil/l", 0777, SHMB_PERSISTENT, SLOTS, &attached, &locker));
	CHECK_OK(
		raw_semaphore_create(raw, "evil/s", SHMB_OWNED, 1000, SHMB_PERSISTENT, &semaphore));
	CHECK_OK(raw_arena(raw, semaphore.arena, &arena));
	jobs[0].memory = locker.lock;
	jobs[0].bytes = layout_lock_bytes(SLOTS);
	jobs[1].memory = arena;
	jobs[1].bytes = LAYOUT_ARENA_BYTES;
	say(1);
	hear();
	for (i = 0; i < 2; i++) {
		scribble_everything(&jobs[i]);
		CHECK_INT(pthread_create(&threads[i], NULL, scribble, &jobs[i]), 0);
	}
	say(1);
	for (turn = 0;; turn++) { /* slots and permits that have to be undone, again and again */
		CHECK_OK(raw_lock_open(raw, "evil/l", &attached, &another));
		raw_locker_unmap(&another);
		CHECK_OK(raw_close(raw, attached.handle));
		CHECK_OK(raw_semaphore_open(raw, "evil/s", &semaphore));
		CHECK_OK(raw_close(raw, semaphore.handle));
	}
}

static void let_loose(struct actor *evil)
{
	actor_hear(evil);
	actor_say(evil, 1);
	actor_hear(evil);
}

/* Somebody else's lock and semaphore, in use all the while. */
static void go_on(struct broker *broker, struct shmb_lock *lock, struct shmb_semaphore *semaphore)
{
	struct shmb_permit permit;

	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_release(lock));
	CHECK_OK(shmb_semaphore_take(semaphore, 0, &permit));
	CHECK_OK(shmb_semaphore_give(semaphore, &permit));
}

CASE(F37_noise_in_locks_and_arenas_hurts_nobody_else, SYSTEM, .timeout_s = 60)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = create_lock(client, "good/l", 0700, SHMB_ATTACHED);
	struct shmb_semaphore *semaphore =
		create_semaphore(client, "good/s", SHMB_OWNED, 0, 4, 0700);
	int64_t start, worst = 0;
	int round, i;

	for (round = 0; round < 4; round++) {
		struct actor evil = actor_start(broker, &ALICE, abuse, NULL);

		let_loose(&evil);
		for (i = 0; i < 200; i++) {
			start = broker_cpu_us(broker);
			look_at_lock(client, "evil/l");
			look_at_semaphore(client, "evil/s");
			look_at_holders(client, "evil/l");
			look_at_holders(client, "evil/s");
			if (broker_cpu_us(broker) - start > worst)
				worst = broker_cpu_us(broker) - start;
			go_on(broker, lock, semaphore);
		}
		actor_kill(&evil);
		UNTIL(broker, broker_stat(broker, "slots") == 2);
		CHECK_OK(shmb_lock_remove(client, "evil/l"));
		CHECK_OK(shmb_semaphore_remove(client, "evil/s"));
	}
	print_message("four looks took %lld us at worst\n", (long long)worst);
	/* What the daemon did for the hostile one while we waited for a processor is in it. */
	CHECK(worst < 1000000 * harness_slow());
	CHECK_INT(look_at_lock(client, "good/l").slots_used, 1);
	CHECK_INT(look_at_semaphore(client, "good/s").value, 4);
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

/* ---- Those who share it with the hostile ---- */

/* Whatever comes of it: never longer than it was told to wait, and alive. */
static void use_noise(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = open_lock(client, "evil/l");
	struct shmb_semaphore *semaphore = open_semaphore(client, "evil/s");
	struct shmb_permit permit = { 3, 3 };
	int64_t start, worst = 0;
	int i;

	say(1);
	hear();
	for (i = 0; i < 200; i++) {
		start = harness_now_ms();
		shmb_lock_acquire(lock, i % 2 ? SHMB_SHARED : SHMB_EXCLUSIVE, 5);
		shmb_lock_downgrade(lock);
		shmb_lock_mark_consistent(lock);
		shmb_lock_release(lock);
		shmb_lock_reset(lock);
		shmb_semaphore_take(semaphore, 5, &permit);
		shmb_semaphore_adopt(semaphore, &permit);
		shmb_semaphore_give(semaphore, &permit);
		shmb_semaphore_wait(semaphore, 5);
		shmb_semaphore_post(semaphore, 3);
		CHECK(shmb_semaphore_value(semaphore) <= 1000);
		if (harness_now_ms() - start > worst)
			worst = harness_now_ms() - start;
	}
	CHECK(worst < 1000 * harness_slow());
	shmb_semaphore_free(semaphore);
	shmb_lock_free(lock);
	shmb_client_free(client);
}

CASE(noise_keeps_nobody_longer_than_it_waits, SYSTEM, .timeout_s = 60)
{
	struct actor evil = actor_start(broker, &ALICE, abuse, NULL), users[2];
	size_t i;

	actor_hear(&evil);
	for (i = 0; i < 2; i++) { /* which open it while it still looks like one */
		users[i] = actor_start(broker, i ? &ALICE : &SELF, use_noise, NULL);
		actor_hear(&users[i]);
	}
	actor_say(&evil, 1);
	actor_hear(&evil);
	for (i = 0; i < 2; i++)
		actor_say(&users[i], 1);
	for (i = 0; i < 2; i++)
		actor_end(&users[i]);
	actor_kill(&evil);
	CHECK_OK(raw_remove(broker->probe, "evil/l", RAW_LOCK));
	CHECK_OK(raw_remove(broker->probe, "evil/s", RAW_SEMAPHORE));
}

/* ---- What the broker says of it ---- */

/* Numbers that are as large as they can be still make an answer that everybody can read. */
CASE(the_largest_numbers_in_a_lock_can_be_looked_at, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct raw *raw = said_hello(broker);
	struct wire_lock_attached attached;
	struct layout_locker lockers[3];
	struct holders holders;
	int i;

	CHECK_OK(raw_lock_create(raw, "l", 0700, SHMB_ATTACHED, 4, &attached, &lockers[0]));
	for (i = 1; i < 3; i++)
		CHECK_OK(raw_lock_open(raw, "l", &attached, &lockers[i]));
	for (i = 0; i < 3; i++)
		memset(lockers[i].own, 0xff, sizeof(*lockers[i].own));
	atomic_store(&lockers[0].lock->word, UINT32_MAX);
	look_at_lock(client, "l");
	holders = look_at_holders(client, "l");
	CHECK_INT(holders.n, 3);
	for (i = 0; i < 3; i++) {
		CHECK_INT(holders.all[i].shared, UINT32_MAX);
		raw_locker_unmap(&lockers[i]);
	}
	raw_free(raw);
	shmb_client_free(client);
}

/* A word that names a slot that is nobody's: everybody is kept out of *that* lock, and the broker
 * tells no one of it a lie that it could not tell. */
CASE(a_claim_of_nobody_s_slot_has_no_holder, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct raw *raw = said_hello(broker);
	struct wire_lock_attached attached;
	struct shmb_lock_info info;
	struct layout_locker locker;

	CHECK_OK(raw_lock_create(raw, "l", 0700, SHMB_ATTACHED, 4, &attached, &locker));
	atomic_store(&locker.lock->word, 2047);
	info = look_at_lock(client, "l");
	CHECK_INT(info.holder.pid, 0);
	CHECK_INT(look_at_holders(client, "l").n, 0);
	raw_locker_unmap(&locker);
	raw_free(raw);
	shmb_client_free(client);
}

/* ---- Memory that goes away ---- */

static void check_others(struct broker *broker)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *lock = create_lock(client, "good/l", 0700, SHMB_ATTACHED);
	struct shmb_semaphore *semaphore =
		create_semaphore(client, "good/s", SHMB_OWNED, 0, 4, 0701);

	go_on(broker, lock, semaphore);
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

/* Whoever serves one user uses shm, and whoever has it writable can truncate it. */
static void truncate_everything(struct broker *broker, void *argument)
{
	struct raw *raw = said_hello(broker);
	struct wire_region_attached region;
	struct wire_region_lock_result lock;
	struct wire_semaphore_attached semaphore;
	struct wire_arena_result arena;
	int fds[2], lock_fd, arena_fd;

	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_PERSISTENT, &region, fds));
	CHECK_OK(raw_region_lock(raw, region.handle, &lock, &lock_fd));
	CHECK_OK(raw_semaphore_create(raw, "s", SHMB_OWNED, 1000, SHMB_PERSISTENT, &semaphore));
	CHECK_OK(raw_arena_fd(raw, semaphore.arena, &arena, &arena_fd));
	SYS(ftruncate(lock_fd, 0));
	SYS(ftruncate(arena_fd, 0));
	SYS(ftruncate(fds[1], 0));
	say(1);
	hear();
	_exit(0);
}

CASE(F37_truncated_locks_and_arenas_do_not_end_the_broker, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	struct shmb_lock_info lock_info = { .struct_size = sizeof(lock_info) };
	struct actor evil = actor_start(broker, &SELF, truncate_everything, NULL);
	struct shmb_semaphore *semaphore = NULL, *another = NULL;

	actor_hear(&evil);
	/* Something is said of them, or an error; both will do. */
	shmb_lock_stat(client, "r", &lock_info);
	shmb_semaphore_stat(client, "s", &info);
	look_at_holders(client, "r");
	check_others(broker);
	/* A new one in the same arena cannot be prepared: refused, and nothing of it is left. */
	if (shmb_semaphore_create(client, "t", NULL, &semaphore) == 0)
		shmb_semaphore_free(semaphore);
	CHECK_CODE(shmb_semaphore_open(client, "t", &another), SHMB_ENOENT);
	actor_kill(&evil);
	UNTIL(broker, broker_stat(broker, "attachments") == 0);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	check_others(broker);
	shmb_client_free(client);
}

/* In a sealed memfd, pages can be taken away, but come back as zeros. */
static void punch_for_ever(struct broker *broker, void *argument)
{
	struct raw *raw = said_hello(broker);
	struct wire_region_attached region;
	struct wire_region_lock_result lock;
	struct wire_semaphore_attached semaphore;
	struct wire_arena_result arena;
	int fds[2], lock_fd, arena_fd;

	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_PERSISTENT, &region, fds));
	CHECK_OK(raw_region_lock(raw, region.handle, &lock, &lock_fd));
	CHECK_OK(raw_semaphore_create(raw, "s", SHMB_OWNED, 1000, SHMB_PERSISTENT, &semaphore));
	CHECK_OK(raw_arena_fd(raw, semaphore.arena, &arena, &arena_fd));
	CHECK(ftruncate(lock_fd, 0) < 0);
	CHECK(ftruncate(lock_fd, 1 << 30) < 0);
	CHECK(ftruncate(arena_fd, 0) < 0);
	CHECK(fcntl(arena_fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
	say(1);
	for (;;) {
		fallocate(lock_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
		fallocate(arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
	}
}

CASE(F37_punched_locks_and_arenas_do_not_end_the_broker, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	int round, i;

	for (round = 0; round < 5; round++) {
		struct actor evil = actor_start(broker, &ALICE, punch_for_ever, NULL);

		actor_hear(&evil);
		for (i = 0; i < 50; i++) {
			look_at_lock(client, "r");
			look_at_semaphore(client, "s");
		}
		check_others(broker);
		actor_kill(&evil);
		UNTIL(broker, broker_stat(broker, "slots") == 0);
		CHECK_OK(shmb_region_remove(client, "r"));
		CHECK_OK(shmb_semaphore_remove(client, "s"));
	}
	shmb_client_free(client);
}

/* ---- Running out ---- */

enum { LOCKED_SESSIONS = 8 };

static void hold_permits(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = open_semaphore(client, "s");
	struct shmb_lock *lock = open_lock(client, "l");

	CHECK_OK(shmb_semaphore_wait(semaphore, 0));
	CHECK_OK(shmb_lock_acquire(lock, SHMB_SHARED, 0));
	say(1);
	hear();
	_exit(0);
}

/* The error that a client gets while calls of this kind fail in the daemon, and what it costs. */
static void try_all(struct broker *broker, struct shmb_client *client, enum fault fault, int error,
		    int expected)
{
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_lock *lock = NULL;
	uint64_t bytes = broker_stat(broker, "bytes");
	int skip, r;

	/* The first such call fails, then the second, and so on until none of them is needed. */
	for (skip = 0; skip < 20; skip++) {
		broker_fault(broker, fault, error, skip, FAULT_FOREVER);
		r = shmb_lock_create(client, "x/l", NULL, &lock);
		broker_fault(broker, fault, 0, 0, 0);
		if (r == 0)
			break;
		CHECK_CODE(r, expected);
		CHECK(!lock);
		CHECK_INT(broker_stat(broker, "locks"), 1);
		CHECK_INT(broker_stat(broker, "bytes"), bytes);
	}
	CHECK(skip < 20);
	lock = shmb_lock_free(lock);
	for (skip = 0; skip < 20; skip++) {
		broker_fault(broker, fault, error, skip, FAULT_FOREVER);
		r = shmb_semaphore_create(client, "x/s", NULL, &semaphore);
		broker_fault(broker, fault, 0, 0, 0);
		if (r == 0)
			break;
		CHECK_CODE(r, expected);
		CHECK(!semaphore);
		CHECK_INT(broker_stat(broker, "semaphores"), 1);
		CHECK_INT(broker_stat(broker, "bytes"), bytes);
	}
	CHECK(skip < 20);
	shmb_semaphore_free(semaphore);
	for (skip = 0; skip < 20; skip++) {
		broker_fault(broker, fault, error, skip, FAULT_FOREVER);
		r = shmb_region_lock(region, SHMB_SHARED, 0);
		broker_fault(broker, fault, 0, 0, 0);
		if (r == 0)
			break;
		CHECK_CODE(r, expected);
	}
	CHECK(skip < 20);
	CHECK_OK(shmb_region_unlock(region));
	shmb_region_free(region);
	UNTIL(broker, broker_stat(broker, "bytes") == bytes - 8192);
	UNTIL(broker, broker_stat(broker, "slots") == 2);
}

static void run_out(struct broker *broker, enum fault fault, int error, int expected)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = create_semaphore(client, "s", SHMB_OWNED, 0, 8, 0777);
	struct shmb_lock *lock = create_lock(client, "l", 0777, SHMB_ATTACHED);

	try_all(broker, client, fault, error, expected);
	go_on(broker, lock, semaphore);
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

CASE(memfd_failure_while_making_locks_and_semaphores, SYSTEM, .faults = true)
{
	run_out(broker, FAULT_MEMFD, EMFILE, SHMB_EMFILE);
}

CASE(shm_failure_while_making_locks_and_semaphores, PRIVATE, .faults = true)
{
	run_out(broker, FAULT_SHM_OPEN, ENOSPC, SHMB_ENOSPC);
}

CASE(no_space_while_making_locks_and_semaphores, SYSTEM, .faults = true)
{
	run_out(broker, FAULT_FTRUNCATE, ENOSPC, SHMB_ENOSPC);
}

CASE(no_memory_while_making_locks_and_semaphores, SYSTEM, .faults = true)
{
#ifdef SHMB_TEST_SANITIZED
	SKIP("the sanitizer has malloc() to itself");
#endif
	run_out(broker, FAULT_ALLOC, ENOMEM, SHMB_ENOMEM);
}

CASE(mmap_failure_while_making_locks_and_semaphores, SYSTEM, .faults = true)
{
	run_out(broker, FAULT_MMAP, ENOMEM, SHMB_ENOMEM);
}

/* An answer whose descriptor cannot be sent is an error, and leaves nothing taken. */
CASE(a_segment_that_cannot_be_sent_is_not_attached, SYSTEM, .faults = true)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_lock *lock = NULL;

	broker_fault(broker, FAULT_SEND_FDS, ETOOMANYREFS, 0, FAULT_FOREVER);
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 0), SHMB_ETOOMANYREFS);
	CHECK_CODE(shmb_lock_create(client, "l", NULL, &lock), SHMB_ETOOMANYREFS);
	CHECK_CODE(shmb_semaphore_create(client, "s", NULL, &semaphore), SHMB_ETOOMANYREFS);
	CHECK(!lock && !semaphore);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, -1), SHMB_ETOOMANYREFS);
	broker_fault(broker, FAULT_SEND_FDS, 0, 0, 0);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	CHECK_INT(broker_stat(broker, "locks"), 0);
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(shmb_lock_create(client, "l", NULL, &lock));
	CHECK_OK(shmb_semaphore_create(client, "s", NULL, &semaphore));
	CHECK_OK(shmb_semaphore_post(semaphore, 1));
	shmb_semaphore_free(semaphore);
	shmb_lock_free(lock);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void lock_without_room(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);
	struct rlimit limit = { 16, 16 };
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_lock *lock = NULL;
	int fds[16], n = 0, i;

	SYS(setrlimit(RLIMIT_NOFILE, &limit));
	while ((fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	for (i = 0; i < 3; i++) { /* each time the same error, and nothing used up */
		CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, -1), SHMB_EMFILE);
		CHECK_CODE(shmb_lock_create(client, "l", NULL, &lock), SHMB_EMFILE);
		CHECK_CODE(shmb_semaphore_create(client, "s", NULL, &semaphore), SHMB_EMFILE);
	}
	CHECK(!lock && !semaphore);
	close(fds[--n]);
	CHECK_OK(shmb_lock_create(client, "l", NULL, &lock));
	CHECK_OK(shmb_semaphore_create(client, "s", NULL, &semaphore));
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_INT(look_at_lock(client, "r").slots_used, 1);
	CHECK_INT(look_at_lock(client, "l").slots_used, 1);
	CHECK((fds[n++] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0); /* none was kept */
	shmb_semaphore_free(semaphore);
	shmb_lock_free(lock);
	shmb_region_free(region);
	for (i = 0; i < n; i++)
		close(fds[i]);
	shmb_client_free(client);
}

CASE(emfile_in_the_client_uses_up_no_slot, PRIVATE)
{
	actor_run(broker, &SELF, lock_without_room, NULL);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	CHECK_INT(broker_stat(broker, "dropped_total"), 0);
}

/* A repair that cannot map its segment is made later, as soon as it can. */
static void repair_later(struct broker *broker, enum fault fault, int error)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = create_semaphore(client, "s", SHMB_OWNED, 0, 8, 0777);
	struct shmb_lock *lock = create_lock(client, "l", 0777, SHMB_ATTACHED);
	struct actor actors[LOCKED_SESSIONS];
	int i;

	for (i = 0; i < LOCKED_SESSIONS; i++) {
		actors[i] = actor_start(broker, &SELF, hold_permits, NULL);
		actor_hear(&actors[i]);
	}
	CHECK_INT(shmb_semaphore_value(semaphore), 0);
	broker_fault(broker, fault, error, 0, FAULT_FOREVER);
	for (i = 0; i < LOCKED_SESSIONS; i++)
		actor_kill(&actors[i]);
	UNTIL(broker, broker_stat(broker, "connections") == 2);
	UNTIL(broker, broker_fault_hits(broker, fault) > 3); /* it tries again and again */
	CHECK_INT(broker_stat(broker, "repairs_total"), 0);
	CHECK_CODE(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0), SHMB_ETIMEDOUT);
	CHECK_CODE(shmb_semaphore_wait(semaphore, 0), SHMB_ETIMEDOUT);
	broker_fault(broker, fault, 0, 0, 0);
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 10000));
	CHECK_OK(shmb_lock_release(lock));
	UNTIL(broker, shmb_semaphore_value(semaphore) == 8);
	CHECK_INT(broker_stat(broker, "repairs_total"), 2 * LOCKED_SESSIONS);
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

CASE(F37_a_repair_that_cannot_map_is_made_later, SYSTEM, .faults = true)
{
	repair_later(broker, FAULT_MMAP, ENOMEM);
}

CASE(F37_a_repair_without_descriptors_is_made_later, PRIVATE, .faults = true)
{
	repair_later(broker, FAULT_MMAP, EMFILE);
}

static void die_with_the_region_s_lock(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ | SHMB_WRITE);

	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, 0));
	say(1);
	hear();
	_exit(0);
}

/* Those who take snapshots learn of the death from another segment than those who lock. */
CASE(F37_readers_are_told_of_a_dead_owner_though_memory_had_run_out, PRIVATE, .faults = true)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL), *reader;
	struct actor owner = actor_start(broker, &SELF, die_with_the_region_s_lock, NULL);
	char byte;

	actor_hear(&owner);
	broker_fault(broker, FAULT_MMAP, ENOMEM, 1, 1); /* the lock can be mapped, the page not */
	actor_kill(&owner);
	UNTIL(broker, broker_stat(broker, "repairs_total") == 1);
	CHECK_INT(broker_fault_hits(broker, FAULT_MMAP), 1);
	reader = open_region(client, "r", SHMB_READ);
	CHECK_CODE(shmb_region_snapshot(reader, 0, &byte, 1), SHMB_EOWNERDEAD);
	CHECK_CODE(shmb_region_lock(region, SHMB_EXCLUSIVE, 0), SHMB_EOWNERDEAD);
	CHECK_CODE(shmb_region_snapshot(reader, 0, &byte, 1), SHMB_EOWNERDEAD);
	CHECK_OK(shmb_region_mark_consistent(region));
	CHECK_OK(shmb_region_unlock(region));
	CHECK_OK(shmb_region_snapshot(reader, 0, &byte, 1));
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(descriptors_that_run_out_while_making_locks_come_back, SYSTEM, .nofile = 64)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *locks[64], *more = NULL;
	unsigned n = 0;
	char name[16];
	int r = 0;

	while (n < 64) {
		snprintf(name, sizeof(name), "l/%u", n);
		locks[n] = NULL;
		r = shmb_lock_create(client, name, NULL, &locks[n]);
		if (r)
			break;
		n++;
	}
	CHECK(r == SHMB_EMFILE || r == SHMB_EDQUOT); /* of held descriptors */
	CHECK(n > 3);
	CHECK_INT(broker_stat(broker, "locks"), n);
	shmb_lock_free(locks[--n]);
	UNTIL(broker, broker_stat(broker, "locks") == n);
	CHECK_OK(shmb_lock_create(client, "again", NULL, &more));
	CHECK_OK(shmb_lock_acquire(more, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_release(more));
	shmb_lock_free(more);
	while (n > 0)
		shmb_lock_free(locks[--n]);
	shmb_client_free(client);
}

enum { LATE_SLOT = 70 }; /* in a page that nothing has been written to yet */

static void wait_where_there_is_no_room(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_lock *lock = NULL;
	int r = shmb_semaphore_open(client, "s", &semaphore);

	CHECK(r == 0 || r == SHMB_ENOSPC);
	if (r == 0)
		CHECK_CODE(shmb_semaphore_wait(semaphore, 10), SHMB_ETIMEDOUT);
	r = shmb_lock_open(client, "l", &lock);
	CHECK(r == 0 || r == SHMB_ENOSPC);
	if (r == 0)
		CHECK_OK(shmb_lock_acquire(lock, SHMB_SHARED, 0));
	if (r == 0)
		CHECK_OK(shmb_lock_release(lock));
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

/* A full /dev/shm is an error of the call that needs more of it, and no signal in the middle of
 * waiting. */
CASE(a_full_shm_is_told_to_whoever_opens, PRIVATE, .shm_mount = "size=512k")
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_lock_options lock_options = SHMB_LOCK_OPTIONS_INIT;
	struct wire_semaphore_attached attached;
	struct wire_lock_attached lock_attached;
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = create_semaphore(client, "s", SHMB_COUNTING, 0, 0, 0700);
	struct shmb_region *fill[256];
	struct raw *peers[LATE_SLOT];
	struct layout_locker locker;
	struct shmb_lock *lock = NULL;
	size_t i, n, n_filled = 0;
	char name[16];

	lock_options.slots = 200;
	CHECK_OK(shmb_lock_create(client, "l", &lock_options, &lock));
	options.flags = SHMB_RESERVE;
	for (; n_filled < 256; n_filled++) {
		snprintf(name, sizeof(name), "fill/%zu", n_filled);
		if (shmb_region_create(client, name, 4096, &options, &fill[n_filled]) != 0)
			break;
	}
	CHECK(n_filled > 0 && n_filled < 256);
	for (i = 0; i < LATE_SLOT; i++) {
		peers[i] = said_hello(broker);
		if (raw_semaphore_open(peers[i], "s", &attached) != 0)
			break;
		if (raw_lock_open(peers[i], "l", &lock_attached, &locker) != 0)
			break;
		raw_locker_unmap(&locker);
	}
	n = i < LATE_SLOT ? i + 1 : i;
	CHECK(n > 60);
	actor_run(broker, &SELF, wait_where_there_is_no_room, NULL);
	for (i = 0; i < n; i++)
		raw_free(peers[i]);
	for (i = 0; i < n_filled; i++)
		shmb_region_free(fill[i]);
	CHECK_OK(shmb_semaphore_post(semaphore, 1));
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}
