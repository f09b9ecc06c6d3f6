/* SPDX-License-Identifier: MIT */
/*
 * Named locks and semaphores as objects beside regions: names, kinds, modes, owners, lifetimes,
 * lists, quotas.
 */
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

static struct shmb_semaphore *counting(struct shmb_client *client, const char *name,
				       uint32_t initial, uint32_t maximum)
{
	return create_semaphore(client, name, SHMB_COUNTING, initial, maximum, 0777);
}

/* ---- Names and kinds ---- */

CASE(F37_one_name_is_one_object_of_one_kind, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "a/region", 4096, NULL), *no_region = NULL;
	struct shmb_lock *lock = create_lock(client, "a/lock", 0700, SHMB_ATTACHED);
	struct shmb_lock *no_lock = NULL;
	struct shmb_semaphore *semaphore = counting(client, "a/semaphore", 0, 0);
	struct shmb_semaphore *none = NULL;
	struct shmb_region_info region_info = { .struct_size = sizeof(region_info) };
	struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
	struct shmb_lock_info lock_info = { .struct_size = sizeof(lock_info) };

	/* Taken is taken, whatever by. */
	CHECK_CODE(shmb_region_create(client, "a/lock", 1, NULL, &no_region), SHMB_EEXIST);
	CHECK_CODE(shmb_region_create(client, "a/semaphore", 1, NULL, &no_region), SHMB_EEXIST);
	CHECK_CODE(shmb_lock_create(client, "a/region", NULL, &no_lock), SHMB_EEXIST);
	CHECK_CODE(shmb_lock_create(client, "a/lock", NULL, &no_lock), SHMB_EEXIST);
	CHECK_CODE(shmb_semaphore_create(client, "a/lock", NULL, &none), SHMB_EEXIST);
	CHECK_CODE(shmb_semaphore_create(client, "a/semaphore", NULL, &none), SHMB_EEXIST);

	CHECK_CODE(shmb_region_open(client, "a/lock", SHMB_READ, NULL, &no_region), SHMB_EKIND);
	CHECK_CODE(shmb_region_open_or_create(client, "a/semaphore", 1, NULL, &no_region),
		   SHMB_EKIND);
	CHECK_CODE(shmb_lock_open(client, "a/region", &no_lock), SHMB_EKIND);
	CHECK_CODE(shmb_lock_open_or_create(client, "a/semaphore", NULL, &no_lock), SHMB_EKIND);
	CHECK_CODE(shmb_semaphore_open(client, "a/region", &none), SHMB_EKIND);
	CHECK_CODE(shmb_semaphore_open_or_create(client, "a/lock", NULL, &none), SHMB_EKIND);
	CHECK(!no_region && !no_lock && !none);

	CHECK_CODE(shmb_region_stat(client, "a/lock", &region_info), SHMB_EKIND);
	CHECK_CODE(shmb_lock_stat(client, "a/semaphore", &lock_info), SHMB_EKIND);
	CHECK_CODE(shmb_semaphore_stat(client, "a/region", &info), SHMB_EKIND);
	CHECK_INT(look_at_lock(client, "a/region").is_region, 1);
	CHECK_INT(look_at_lock(client, "a/lock").is_region, 0);

	CHECK_CODE(shmb_region_remove(client, "a/lock"), SHMB_EKIND);
	CHECK_CODE(shmb_lock_remove(client, "a/semaphore"), SHMB_EKIND);
	CHECK_CODE(shmb_lock_remove(client, "a/region"), SHMB_EKIND);
	CHECK_CODE(shmb_semaphore_remove(client, "a/lock"), SHMB_EKIND);
	CHECK_OK(shmb_lock_remove(client, "a/lock"));
	CHECK_OK(shmb_semaphore_remove(client, "a/semaphore"));
	CHECK_CODE(shmb_semaphore_remove(client, "a/semaphore"), SHMB_ENOENT);
	CHECK_CODE(shmb_lock_open(client, "a/lock", &no_lock), SHMB_ENOENT);

	/* The names are free; those who have the objects open keep them. */
	no_lock = create_lock(client, "a/semaphore", 0700, SHMB_ATTACHED);
	CHECK_OK(shmb_semaphore_post(semaphore, 1));
	CHECK_INT(shmb_semaphore_value(semaphore), 1);
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_acquire(no_lock, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_lock_release(no_lock));
	CHECK_OK(shmb_lock_release(lock));
	shmb_lock_free(no_lock);
	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_region_free(region);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	CHECK_INT(broker_stat(broker, "locks"), 0);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
	CHECK_INT(broker_stat(broker, "slots"), 0);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
	shmb_client_free(client);
}

CASE(malformed_names_and_values_are_refused, PRIVATE)
{
	static const char *const names[] = { "", "/", "a//b", "..", "a b", "~0" };
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_lock_options lock_options = SHMB_LOCK_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_lock *lock = NULL;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CHECK_CODE(shmb_lock_create(client, names[i], NULL, &lock), SHMB_EINVAL);
		CHECK_CODE(shmb_lock_open(client, names[i], &lock), SHMB_EINVAL);
		CHECK_CODE(shmb_semaphore_create(client, names[i], NULL, &semaphore), SHMB_EINVAL);
		CHECK_CODE(shmb_semaphore_open(client, names[i], &semaphore), SHMB_EINVAL);
	}
	options.initial = 5;
	options.maximum = 4;
	CHECK_CODE(shmb_semaphore_create(client, "s", &options, &semaphore), SHMB_EINVAL);
	options.maximum = 0x80000000u;
	CHECK_CODE(shmb_semaphore_create(client, "s", &options, &semaphore), SHMB_EINVAL);
	options.kind = SHMB_OWNED;
	options.maximum = 8; /* permits begin free: there is no initial */
	CHECK_CODE(shmb_semaphore_create(client, "s", &options, &semaphore), SHMB_EINVAL);
	options.initial = 0;
	options.maximum = 1025;
	CHECK_CODE(shmb_semaphore_create(client, "s", &options, &semaphore), SHMB_EINVAL);
	options.kind = (enum shmb_semaphore_kind)3;
	options.maximum = 1;
	CHECK_CODE(shmb_semaphore_create(client, "s", &options, &semaphore), SHMB_EINVAL);
	lock_options.slots = 1025;
	CHECK_CODE(shmb_lock_create(client, "l", &lock_options, &lock), SHMB_EINVAL);
	lock_options.slots = 0;
	lock_options.mode = 01000;
	CHECK_CODE(shmb_lock_create(client, "l", &lock_options, &lock), SHMB_EINVAL);
	CHECK(!semaphore && !lock);
	CHECK_INT(broker_stat(broker, "semaphores"), 0);
	shmb_client_free(client);
}

CASE(F37_of_several_that_open_or_create_one_creates, PRIVATE)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker), *other = connect_to(broker);
	struct shmb_semaphore *a = NULL, *b = NULL;
	struct shmb_lock *lock = NULL, *again = NULL;

	options.initial = 3;
	CHECK_INT(shmb_semaphore_open_or_create(client, "s", &options, &a), 1);
	options.initial = 7;
	CHECK_INT(shmb_semaphore_open_or_create(other, "s", &options, &b), 0);
	CHECK_INT(shmb_semaphore_value(b), 3);
	CHECK_INT(look_at_semaphore(client, "s").value, 3);
	CHECK_INT(look_at_semaphore(client, "s").maximum, 0x7fffffff);
	CHECK_INT(shmb_lock_open_or_create(client, "l", NULL, &lock), 1);
	CHECK_INT(shmb_lock_open_or_create(other, "l", NULL, &again), 0);
	CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0));
	CHECK_CODE(shmb_lock_acquire(again, SHMB_SHARED, 0), SHMB_ETIMEDOUT);
	CHECK_OK(shmb_lock_release(lock));
	shmb_semaphore_free(a);
	shmb_semaphore_free(b);
	shmb_lock_free(lock);
	shmb_lock_free(again);
	shmb_client_free(other);
	shmb_client_free(client);
}

enum { RACERS = 8, RACES = 50 };

/* Says how many it created; goes when all are ready. */
static void race(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphores[RACES];
	struct shmb_lock *locks[RACES];
	uint64_t created = 0;
	char name[32];
	int i, r;

	say(1);
	hear();
	for (i = 0; i < RACES; i++) {
		snprintf(name, sizeof(name), "race/s/%d", i);
		r = shmb_semaphore_open_or_create(client, name, NULL, &semaphores[i]);
		CHECK(r == 0 || r == 1);
		created += (uint64_t)r;
		snprintf(name, sizeof(name), "race/l/%d", i);
		r = shmb_lock_open_or_create(client, name, NULL, &locks[i]);
		CHECK(r == 0 || r == 1);
		created += (uint64_t)r;
	}
	say(created);
	hear();
	for (i = 0; i < RACES; i++) {
		shmb_semaphore_free(semaphores[i]);
		shmb_lock_free(locks[i]);
	}
	shmb_client_free(client);
}

CASE(F37_of_many_processes_that_race_one_creates_each, PRIVATE)
{
	struct actor actors[RACERS];
	uint64_t created = 0;
	size_t i;

	for (i = 0; i < RACERS; i++) {
		actors[i] = actor_start(broker, &SELF, race, NULL);
		actor_hear(&actors[i]);
	}
	for (i = 0; i < RACERS; i++)
		actor_say(&actors[i], 1);
	for (i = 0; i < RACERS; i++)
		created += actor_hear(&actors[i]);
	CHECK_INT(created, 2 * RACES);
	CHECK_INT(broker_stat(broker, "attachments"), 2 * RACES * RACERS);
	for (i = 0; i < RACERS; i++)
		actor_say(&actors[i], 1);
	for (i = 0; i < RACERS; i++)
		actor_end(&actors[i]);
	UNTIL(broker, broker_stat(broker, "locks") == 0);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
}

/* ---- Modes and owners ---- */

static const struct {
	uint32_t mode;
	int opens; /* by somebody who is neither owner nor in the group */
} modes[] = { { 0700, SHMB_ENOENT }, { 0701, 0 },           { 0702, 0 },
	      { 0706, 0 },           { 0704, SHMB_EACCES }, { 0070, SHMB_ENOENT } };
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

static const char *mode_name(char kind, size_t i)
{
	static char name[16];

	snprintf(name, sizeof(name), "%c/%o", kind, (unsigned)modes[i].mode);
	return name;
}

static void make_every_mode(struct broker *broker, void *argument)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore;
	size_t i;

	options.lifetime = SHMB_PERSISTENT;
	for (i = 0; i < MODES; i++) {
		options.mode = modes[i].mode;
		semaphore = NULL;
		CHECK_OK(shmb_semaphore_create(client, mode_name('s', i), &options, &semaphore));
		shmb_semaphore_free(semaphore);
		shmb_lock_free(
			create_lock(client, mode_name('l', i), modes[i].mode, SHMB_PERSISTENT));
	}
	shmb_client_free(client);
}

static int count_locks(const struct shmb_lock_info *info, void *userdata)
{
	++*(size_t *)userdata;
	return 0;
}

static int count_semaphores(const struct shmb_semaphore_info *info, void *userdata)
{
	++*(size_t *)userdata;
	return 0;
}

static void try_every_mode(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	size_t i, visible = 0, locks = 0, semaphores = 0;

	for (i = 0; i < MODES; i++) {
		struct shmb_semaphore_info info = { .struct_size = sizeof(info) };
		struct shmb_semaphore *semaphore = NULL;
		struct shmb_lock *lock = NULL;
		bool known = modes[i].opens != SHMB_ENOENT;

		visible += known;
		CHECK_CODE(shmb_semaphore_open(client, mode_name('s', i), &semaphore),
			   modes[i].opens);
		CHECK_CODE(shmb_lock_open(client, mode_name('l', i), &lock), modes[i].opens);
		CHECK_CODE(shmb_semaphore_stat(client, mode_name('s', i), &info),
			   known ? 0 : SHMB_ENOENT);
		CHECK_CODE(shmb_semaphore_remove(client, mode_name('s', i)),
			   known ? SHMB_EACCES : SHMB_ENOENT);
		CHECK_CODE(shmb_lock_remove(client, mode_name('l', i)),
			   known ? SHMB_EACCES : SHMB_ENOENT);
		if (semaphore)
			CHECK_OK(shmb_semaphore_post(semaphore, 1));
		if (lock)
			CHECK_OK(shmb_lock_acquire(lock, SHMB_EXCLUSIVE, 0));
		if (lock)
			CHECK_OK(shmb_lock_release(lock));
		shmb_semaphore_free(semaphore);
		shmb_lock_free(lock);
	}
	CHECK_OK(shmb_lock_list(client, "l/", count_locks, &locks));
	CHECK_OK(shmb_semaphore_list(client, NULL, count_semaphores, &semaphores));
	CHECK_INT(locks, visible);
	CHECK_INT(semaphores, visible);
	shmb_client_free(client);
}

static void own_every_mode(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = NULL;
	size_t n = 0;

	/* The owner knows of all its objects, even those whose mode grants it nothing. */
	CHECK_OK(shmb_semaphore_list(client, "s/", count_semaphores, &n));
	CHECK_INT(n, MODES);
	CHECK_CODE(shmb_semaphore_open(client, "s/70", &semaphore), SHMB_EACCES);
	CHECK_INT(look_at_semaphore(client, "s/702").uid, ALICE.uid);
	CHECK_INT(look_at_semaphore(client, "s/702").mode, 0702);
	CHECK_INT(look_at_semaphore(client, "s/702").value, 1);
	CHECK_OK(shmb_semaphore_remove(client, "s/70"));
	CHECK_OK(shmb_lock_remove(client, "l/70"));
	shmb_client_free(client);
}

CASE(F37_modes_decide_who_may_use_and_who_may_know, SYSTEM)
{
	actor_run(broker, &ALICE, make_every_mode, NULL);
	actor_run(broker, &CAROL, try_every_mode, NULL);
	actor_run(broker, &ALICE, own_every_mode, NULL);
}

/* Two semaphores of one owner share memory only if whoever may use one may use the other. */
CASE(arenas_are_shared_by_those_of_one_mode_only, SYSTEM)
{
	struct wire_semaphore_attached private, open, same;
	struct raw *raw = raw_connect(broker);

	raw_hello(raw);
	CHECK_OK(raw_semaphore_create(raw, "p", SHMB_COUNTING, 1, SHMB_ATTACHED, &private));
	CHECK_OK(raw_semaphore_create(raw, "q", SHMB_OWNED, 8, SHMB_ATTACHED, &same));
	CHECK_OK(raw_call(raw, WIRE_SEMAPHORE_CREATE,
			  &(struct wire_semaphore_create_params){
				  .has = WIRE_HAS(semaphore_create_params, mode),
				  .name = wire_string("o"),
				  .kind = SHMB_COUNTING,
				  .maximum = 1,
				  .mode = 0701 },
			  &open));
	CHECK_INT(private.arena, same.arena);
	CHECK_INT(private.slot, same.slot);
	CHECK(private.unit != same.unit);
	CHECK(private.arena != open.arena);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
	CHECK_INT(broker_stat(broker, "semaphores"), 0);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
}

/* ---- Lifetimes ---- */

static void make_of_every_lifetime(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	static const char *const semaphores[] = { "s/attached", "s/session", "s/persistent" };
	static const char *const locks[] = { "l/attached", "l/session", "l/persistent" };
	struct shmb_semaphore *held[3];
	struct shmb_lock *taken[3];
	int i;

	for (i = 0; i < 3; i++) {
		struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;

		options.lifetime = (enum shmb_lifetime)i;
		options.initial = 5;
		CHECK_OK(shmb_semaphore_create(client, semaphores[i], &options, &held[i]));
		taken[i] = create_lock(client, locks[i], 0700, (enum shmb_lifetime)i);
	}
	for (i = 0; i < 3; i++) {
		shmb_semaphore_free(held[i]);
		shmb_lock_free(taken[i]);
	}
	CHECK_OK(shmb_client_ping(client));
	say(1);
	hear();
	shmb_client_free(client);
}

CASE(F37_locks_and_semaphores_live_as_long_as_they_are_told_to, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = NULL;
	struct actor alice = actor_start(broker, &ALICE, make_of_every_lifetime, NULL);

	actor_hear(&alice);
	CHECK_INT(broker_stat(broker, "semaphores"), 2);
	CHECK_INT(broker_stat(broker, "locks"), 2);
	CHECK_INT(broker_stat(broker, "attachments"), 0);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "semaphores") == 1);
	UNTIL(broker, broker_stat(broker, "locks") == 1);
	CHECK_INT(look_at_semaphore(client, "s/persistent").lifetime, SHMB_PERSISTENT);
	CHECK_OK(shmb_semaphore_open(client, "s/persistent", &semaphore));
	CHECK_INT(shmb_semaphore_value(semaphore), 5); /* kept, though nobody had it open */
	CHECK_OK(shmb_semaphore_remove(client, "s/persistent"));
	shmb_semaphore_free(semaphore);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	CHECK_OK(shmb_lock_remove(client, "l/persistent"));
	UNTIL(broker, broker_stat(broker, "locks") == 0);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
	shmb_client_free(client);
}

/* ---- Lists ---- */

enum { MANY = 150 };

static int in_order(const char *name, void *userdata, const char *format)
{
	char expected[SHMB_NAME_MAX + 1];
	unsigned *n = userdata;

	snprintf(expected, sizeof(expected), format, *n);
	CHECK_STRING(name, expected);
	++*n;
	return 0;
}

static int next_lock(const struct shmb_lock_info *info, void *userdata)
{
	return in_order(info->name, userdata, "m/lock/%03u");
}

static int next_semaphore(const struct shmb_semaphore_info *info, void *userdata)
{
	return in_order(info->name, userdata, "m/semaphore/%03u");
}

static int next_region(const struct shmb_region_info *info, void *userdata)
{
	return in_order(info->name, userdata, "m/region/%03u");
}

static int stop_at_once(const struct shmb_semaphore_info *info, void *userdata)
{
	++*(unsigned *)userdata;
	return 42;
}

CASE(F37_lists_are_in_order_page_by_page_and_of_one_kind, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphores[MANY];
	struct shmb_region *regions[MANY];
	struct shmb_lock *locks[MANY];
	unsigned i, k, n;
	char name[32];

	for (k = 0; k < MANY; k++) { /* not in the order of the names */
		i = (k * 7) % MANY;
		snprintf(name, sizeof(name), "m/semaphore/%03u", i);
		semaphores[i] = counting(client, name, 0, 0);
		snprintf(name, sizeof(name), "m/lock/%03u", i);
		locks[i] = create_lock(client, name, 0700, SHMB_ATTACHED);
		snprintf(name, sizeof(name), "m/region/%03u", i);
		regions[i] = create(client, name, 1, NULL);
	}
	n = 0;
	CHECK_OK(shmb_lock_list(client, "m/", next_lock, &n)); /* unused regions have no lock */
	CHECK_INT(n, MANY);
	n = 0;
	CHECK_OK(shmb_semaphore_list(client, NULL, next_semaphore, &n));
	CHECK_INT(n, MANY);
	n = 0;
	CHECK_OK(shmb_region_list(client, NULL, next_region, &n));
	CHECK_INT(n, MANY);
	n = 140;
	CHECK_OK(shmb_semaphore_list(client, "m/semaphore/14", next_semaphore, &n));
	CHECK_INT(n, 150);
	n = 0;
	CHECK_INT(shmb_semaphore_list(client, "", stop_at_once, &n), 42);
	CHECK_INT(n, 1);
	CHECK_OK(shmb_semaphore_list(client, "m/x", stop_at_once, &n));
	CHECK_INT(n, 1);
	CHECK_CODE(shmb_lock_list(client, "m//", next_lock, &n), SHMB_EINVAL);
	for (i = 0; i < MANY; i++) {
		shmb_semaphore_free(semaphores[i]);
		shmb_lock_free(locks[i]);
		shmb_region_free(regions[i]);
	}
	shmb_client_free(client);
}

static int count_region_locks(const struct shmb_lock_info *info, void *userdata)
{
	*(size_t *)userdata += info->is_region != 0;
	return 0;
}

CASE(a_region_s_lock_is_listed_once_somebody_has_used_it, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 1, NULL), *locked;
	struct shmb_lock_info info;
	size_t n = 0;

	info = look_at_lock(client, "r"); /* but looked at always */
	CHECK(info.is_region && !info.held && info.attachments == 1 && info.slots_used == 0);
	locked = create(client, "q", 1, NULL);
	CHECK_OK(shmb_region_lock(locked, SHMB_SHARED, 0));
	CHECK_OK(shmb_lock_list(client, NULL, count_region_locks, &n));
	CHECK_INT(n, 1);
	CHECK_OK(shmb_region_unlock(locked));
	shmb_region_free(locked);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Quotas ---- */

static void check_quota(struct shmb_client *client, int result, const char *what, uint64_t limit)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_CODE(result, SHMB_EDQUOT);
	CHECK_OK(shmb_client_last_error(client, &error));
	CHECK_STRING(error.what, what);
	CHECK_INT(error.limit, limit);
}

static void make_one_of_each(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphore = counting(client, "bob/s", 0, 0);
	struct shmb_lock *lock = create_lock(client, "bob/l", 0700, SHMB_ATTACHED);

	shmb_lock_free(lock);
	shmb_semaphore_free(semaphore);
	shmb_client_free(client);
}

static void exceed_limits(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_semaphore *semaphores[3], *none = NULL;
	struct shmb_lock *locks[2], *no_lock = NULL;
	char name[16];
	int i;

	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "s/%d", i);
		semaphores[i] = counting(client, name, 0, 0);
	}
	check_quota(client, shmb_semaphore_create(client, "s/3", NULL, &none),
		    "semaphores-per-user", 3);
	for (i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "l/%d", i);
		locks[i] = create_lock(client, name, 0700, SHMB_ATTACHED);
	}
	check_quota(client, shmb_lock_create(client, "l/2", NULL, &no_lock), "locks-per-user", 2);
	CHECK(!none && !no_lock);
	say(1);
	hear();
	shmb_semaphore_free(semaphores[0]);
	shmb_lock_free(locks[0]);
	CHECK_OK(shmb_client_ping(client));
	semaphores[0] = counting(client, "s/3", 0, 0);
	locks[0] = create_lock(client, "l/2", 0700, SHMB_ATTACHED);
	for (i = 0; i < 3; i++)
		shmb_semaphore_free(semaphores[i]);
	for (i = 0; i < 2; i++)
		shmb_lock_free(locks[i]);
	shmb_client_free(client);
}

CASE(F37_locks_and_semaphores_per_user, SYSTEM,
     .arguments = { "--semaphores-per-user=3", "--locks-per-user=2" })
{
	struct actor alice = actor_start(broker, &ALICE, exceed_limits, NULL);

	actor_hear(&alice);
	actor_run(broker, &BOB, make_one_of_each, NULL);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "semaphores") == 0);
	UNTIL(broker, broker_stat(broker, "locks") == 0);
}

CASE(slots_per_user, SYSTEM, .arguments = { "--slots-per-user=3" })
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_lock *a = create_lock(client, "a", 0700, SHMB_ATTACHED);
	struct shmb_lock *b = create_lock(client, "b", 0700, SHMB_ATTACHED), *none = NULL;
	struct shmb_semaphore *s = counting(client, "s", 0, 0), *t, *u = NULL;
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_region *region = create(client, "r", 1, NULL);

	t = counting(client, "t", 0, 0); /* in the same arena */
	check_quota(client, shmb_lock_create(client, "c", NULL, &none), "slots-per-user", 3);
	check_quota(client, shmb_semaphore_create(client, "u", &options, &u), "slots-per-user", 3);
	CHECK_CODE(shmb_region_lock(region, SHMB_SHARED, 0), SHMB_EDQUOT);
	CHECK_INT(broker_stat(broker, "locks"), 2);
	CHECK_INT(broker_stat(broker, "semaphores"), 2);
	shmb_lock_free(b);
	CHECK_OK(shmb_client_ping(client));
	UNTIL(broker, broker_stat(broker, "slots") == 2);
	CHECK_OK(shmb_region_lock(region, SHMB_SHARED, 0));
	shmb_region_free(region);
	shmb_semaphore_free(s);
	shmb_semaphore_free(t);
	shmb_lock_free(a);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "slots") == 0);
}
