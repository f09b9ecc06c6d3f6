/* SPDX-License-Identifier: MIT */
/* Named semaphores: what each call answers, who holds what, and when a segment is mapped. */

#include "fake_broker.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "client.h"
#include "region.h"
#include "semaphore.h"

struct state {
	struct fake *fake;
	struct shmb_client *client, *other;
	uint32_t slot, other_slot;
};

static struct shmb_client *connect_spinning(struct fake *fake, int spin_us)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client;
	unsigned before = fake_count(fake, WIRE_HELLO);

	options.spin_us = spin_us;
	assert_code(shmb_client_connect(fake->path, &options, &client), 0);
	fake_wait(fake, WIRE_HELLO, before + 1);
	return client;
}

static int setup_spinning(void **state, int spin_us)
{
	struct state *all = calloc(1, sizeof(*all));

	assert_non_null(all);
	all->fake = fake_start();
	all->client = connect_spinning(all->fake, spin_us);
	all->slot = fake_slot(all->fake);
	all->other = connect_spinning(all->fake, spin_us);
	all->other_slot = fake_slot(all->fake);
	*state = all;
	return 0;
}

static int setup(void **state)
{
	return setup_spinning(state, -1);
}

static int setup_sleeping(void **state)
{
	return setup_spinning(state, 0);
}

static int teardown(void **state)
{
	struct state *all = *state;

	shmb_client_free(all->client);
	shmb_client_free(all->other);
	fake_stop(all->fake);
	free(all);
	return 0;
}

static struct shmb_semaphore *make(struct shmb_client *client, const char *name,
				   enum shmb_semaphore_kind kind, uint32_t initial,
				   uint32_t maximum)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_semaphore *semaphore = NULL;
	int result;

	options.kind = kind;
	options.initial = initial;
	options.maximum = maximum;
	result = shmb_semaphore_open_or_create(client, name, &options, &semaphore);
	assert_true(result == 0 || result == 1);
	return semaphore;
}

static struct shmb_semaphore *open_it(struct shmb_client *client, const char *name)
{
	struct shmb_semaphore *semaphore = NULL;

	assert_code(shmb_semaphore_open(client, name, &semaphore), 0);
	return semaphore;
}

/* ---- Counting ---- */

static void a_count_goes_up_and_down(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *semaphore = make(all->client, "s", SHMB_COUNTING, 2, 5);

	assert_int_equal(shmb_semaphore_value(semaphore), 2);
	assert_code(shmb_semaphore_wait(semaphore, 0), 0);
	assert_code(shmb_semaphore_wait(semaphore, -1), 0);
	assert_code(shmb_semaphore_wait(semaphore, 0), SHMB_ETIMEDOUT);
	assert_code(shmb_semaphore_post(semaphore, 3), 0);
	assert_int_equal(shmb_semaphore_value(semaphore), 3);
	assert_code(shmb_semaphore_post(semaphore, 3), SHMB_EOVERFLOW);
	assert_code(shmb_semaphore_post(semaphore, UINT32_MAX), SHMB_EOVERFLOW);
	assert_code(shmb_semaphore_post(semaphore, 0), SHMB_EINVAL);
	assert_int_equal(shmb_semaphore_value(semaphore), 3);
	assert_code(shmb_semaphore_post(semaphore, 2), 0);
	assert_code(shmb_semaphore_post(semaphore, 1), SHMB_EOVERFLOW);
	assert_int_equal(shmb_semaphore_value(semaphore), 5);
	shmb_semaphore_free(semaphore);
}

/* What a handle has seen last may be anything by now. */
static void a_count_that_others_change_is_what_it_is(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *one = make(all->client, "s", SHMB_COUNTING, 0, 2);
	struct shmb_semaphore *two = open_it(all->other, "s");

	assert_code(shmb_semaphore_post(one, 2), 0);
	assert_code(shmb_semaphore_wait(two, 0), 0);
	assert_code(shmb_semaphore_wait(two, 0), 0);
	assert_code(shmb_semaphore_wait(one, 0), SHMB_ETIMEDOUT); /* it has seen 2 */
	assert_code(shmb_semaphore_post(one, 1), 0);
	assert_code(shmb_semaphore_wait(two, 0), 0); /* it has seen 0 */
	assert_code(shmb_semaphore_post(two, 2), 0);
	assert_code(shmb_semaphore_post(one, 1), SHMB_EOVERFLOW);
	assert_code(shmb_semaphore_wait(two, 0), 0);
	assert_code(shmb_semaphore_wait(two, 0), 0);
	assert_code(shmb_semaphore_post(one, 2), 0); /* it has seen 2 */
	assert_int_equal(shmb_semaphore_value(two), 2);
	shmb_semaphore_free(one);
	shmb_semaphore_free(two);
}

static void permits_are_for_owned_ones(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *semaphore = make(all->client, "s", SHMB_COUNTING, 1, 0);
	struct shmb_permit permit = { 7, 7 };

	assert_code(shmb_semaphore_take(semaphore, 0, &permit), SHMB_EKIND);
	assert_code(shmb_semaphore_give(semaphore, &permit), SHMB_EKIND);
	assert_code(shmb_semaphore_adopt(semaphore, &permit), SHMB_EKIND);
	assert_int_equal(permit.index, 7);
	assert_int_equal(shmb_semaphore_value(semaphore), 1);
	shmb_semaphore_free(semaphore);
}

static void waiting_ends_at_the_timeout(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *counting = make(all->client, "s", SHMB_COUNTING, 0, 0);
	struct shmb_semaphore *owned = make(all->client, "o", SHMB_OWNED, 0, 1);
	struct shmb_permit permit;
	int64_t start = now_ms();

	assert_code(shmb_semaphore_take(owned, 0, &permit), 0);
	assert_code(shmb_semaphore_wait(counting, 30), SHMB_ETIMEDOUT);
	assert_code(shmb_semaphore_wait(owned, 30), SHMB_ETIMEDOUT);
	assert_code(shmb_semaphore_take(owned, 30, &permit), SHMB_ETIMEDOUT);
	assert_true(now_ms() - start >= 90);
	for (int i = 0; i < LAYOUT_ARENA_WAITS; i++)
		assert_int_equal(all->fake->arena->slots[all->slot - 1].waits[i], 0);
	shmb_semaphore_free(counting);
	shmb_semaphore_free(owned);
}

/* ---- Waiting and waking ---- */

struct waiter {
	struct shmb_semaphore *semaphore;
	int result;
};

static void *wait_for_it(void *argument)
{
	struct waiter *waiter = argument;

	waiter->result = shmb_semaphore_wait(waiter->semaphore, -1);
	return NULL;
}

static unsigned n_waits(struct state *all, uint32_t slot, uint32_t unit)
{
	unsigned n = 0;

	for (int i = 0; i < LAYOUT_ARENA_WAITS; i++)
		n += all->fake->arena->slots[slot - 1].waits[i] == unit;
	return n;
}

enum { WAITERS = 4 };

static void who_sleeps_is_seen_and_woken(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *semaphore = make(all->client, "s", SHMB_COUNTING, 0, 0);
	uint32_t unit = semaphore->shared->unit;
	struct waiter waiters[WAITERS];
	pthread_t threads[WAITERS];

	for (int i = 0; i < WAITERS; i++) {
		waiters[i] = (struct waiter){ semaphore, 1 };
		assert_int_equal(pthread_create(&threads[i], NULL, wait_for_it, &waiters[i]), 0);
	}
	while (n_waits(all, all->slot, unit) < WAITERS)
		sched_yield();
	assert_code(shmb_semaphore_post(semaphore, WAITERS), 0);
	for (int i = 0; i < WAITERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_code(waiters[i].result, 0);
	}
	assert_int_equal(n_waits(all, all->slot, unit), 0);
	assert_int_equal(shmb_semaphore_value(semaphore), 0);
	shmb_semaphore_free(semaphore);
}

static void a_permit_that_comes_back_wakes(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *mine = make(all->client, "o", SHMB_OWNED, 0, 1);
	struct waiter waiter = { open_it(all->other, "o"), 1 };
	uint32_t unit = mine->shared->unit;
	pthread_t thread;

	assert_code(shmb_semaphore_wait(mine, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_it, &waiter), 0);
	while (n_waits(all, all->other_slot, unit) < 1)
		sched_yield();
	/* By freeing the handle, which gives back what it held. */
	shmb_semaphore_free(mine);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_code(waiter.result, 0);
	assert_code(shmb_semaphore_post(waiter.semaphore, 1), 0);
	shmb_semaphore_free(waiter.semaphore);
}

enum { ROUNDS = 3000, BUFFERS = 4 };

struct party {
	struct shmb_semaphore *mine, *theirs;
	int failures;
};

static void *hand_over(void *argument)
{
	struct party *party = argument;

	for (int i = 0; i < ROUNDS; i++) {
		party->failures += shmb_semaphore_wait(party->mine, 10000) < 0;
		party->failures += shmb_semaphore_post(party->theirs, 1) < 0;
	}
	return NULL;
}

static void nothing_is_lost_or_doubled_between_threads(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *empty = make(all->client, "e", SHMB_COUNTING, BUFFERS, BUFFERS);
	struct shmb_semaphore *full = make(all->client, "f", SHMB_COUNTING, 0, BUFFERS);
	struct shmb_semaphore *empty_too = open_it(all->other, "e"),
			      *full_too = open_it(all->other, "f");
	struct party parties[] = {
		{ empty, full, 0 },
		{ full, empty, 0 },
		{ empty_too, full_too, 0 },
		{ full_too, empty_too, 0 },
	};
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hand_over, &parties[i]), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(parties[i].failures, 0);
	}
	assert_int_equal(shmb_semaphore_value(empty), BUFFERS);
	assert_int_equal(shmb_semaphore_value(full), 0);
	shmb_semaphore_free(empty);
	shmb_semaphore_free(full);
	shmb_semaphore_free(empty_too);
	shmb_semaphore_free(full_too);
}

/* ---- Owned ---- */

static void a_permit_knows_its_holder(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *semaphore = make(all->client, "o", SHMB_OWNED, 0, 3);
	const struct layout_owned *words = fake_words(all->fake, "o");
	struct shmb_permit permits[3], old;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(shmb_semaphore_value(semaphore), 3 - i);
		assert_code(shmb_semaphore_take(semaphore, 0, &permits[i]), 0);
		assert_int_equal(layout_owned_holder(words, permits[i].index), all->slot);
	}
	assert_true(permits[0].index != permits[1].index && permits[1].index != permits[2].index);
	assert_code(shmb_semaphore_wait(semaphore, 0), SHMB_ETIMEDOUT);
	old = permits[1];
	assert_code(shmb_semaphore_give(semaphore, &old), 0);
	assert_code(shmb_semaphore_give(semaphore, &old), SHMB_EINVAL);
	assert_code(shmb_semaphore_take(semaphore, 0, &permits[1]), 0);
	assert_int_equal(permits[1].index, old.index);
	assert_code(shmb_semaphore_give(semaphore, &old), SHMB_EINVAL); /* of an earlier taking */
	assert_code(shmb_semaphore_give(semaphore, &(struct shmb_permit){ 3, 0 }), SHMB_EINVAL);
	assert_int_equal(shmb_semaphore_value(semaphore), 0);
	shmb_semaphore_free(semaphore);
}

static void posting_gives_the_lowest_back(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *semaphore = make(all->client, "o", SHMB_OWNED, 0, 4);
	const struct layout_owned *words = fake_words(all->fake, "o");

	for (int i = 0; i < 3; i++)
		assert_code(shmb_semaphore_wait(semaphore, 0), 0);
	assert_code(shmb_semaphore_post(semaphore, 4), SHMB_EOVERFLOW);
	assert_int_equal(shmb_semaphore_value(semaphore), 1); /* nothing was given */
	assert_code(shmb_semaphore_post(semaphore, 2), 0);
	assert_int_equal(layout_owned_holder(words, 0), 0);
	assert_int_equal(layout_owned_holder(words, 1), 0);
	assert_int_equal(layout_owned_holder(words, 2), all->slot);
	assert_code(shmb_semaphore_post(semaphore, 1), 0);
	assert_code(shmb_semaphore_post(semaphore, 1), SHMB_EOVERFLOW);
	shmb_semaphore_free(semaphore);
}

static void a_mutex_of_one_permit_goes_from_hand_to_hand(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *one = make(all->client, "o", SHMB_OWNED, 0, 0);
	struct shmb_semaphore *two = open_it(all->other, "o");

	for (int i = 0; i < 10; i++) {
		assert_code(shmb_semaphore_wait(one, 0), 0);
		assert_code(shmb_semaphore_wait(one, 0), SHMB_ETIMEDOUT);
		assert_code(shmb_semaphore_wait(two, 0), SHMB_ETIMEDOUT);
		assert_code(shmb_semaphore_post(two, 1), SHMB_EOVERFLOW);
		assert_code(shmb_semaphore_post(one, 1), 0);
		assert_code(shmb_semaphore_wait(two, 0), 0);
		assert_code(shmb_semaphore_post(one, 1), SHMB_EOVERFLOW);
		assert_code(shmb_semaphore_post(two, 1), 0);
	}
	/* Serial numbers wrap. */
	((struct layout_owned *)fake_words(all->fake, "o"))->permits[0] = UINT32_MAX
									  << LAYOUT_HOLDER_BITS;
	for (int i = 0; i < 3; i++) {
		assert_code(shmb_semaphore_wait(one, 0), 0);
		assert_code(shmb_semaphore_post(one, 1), 0);
	}
	shmb_semaphore_free(one);
	shmb_semaphore_free(two);
}

static void a_permit_can_be_adopted(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *one = make(all->client, "o", SHMB_OWNED, 0, 2);
	struct shmb_semaphore *two = open_it(all->other, "o");
	struct shmb_permit permit;

	assert_code(shmb_semaphore_take(one, 0, &permit), 0);
	assert_code(shmb_semaphore_adopt(two, &permit), 0);
	assert_code(shmb_semaphore_give(one, &permit), SHMB_EINVAL);
	assert_int_equal(shmb_semaphore_value(one), 1);
	assert_code(shmb_semaphore_give(two, &permit), 0);
	assert_code(shmb_semaphore_adopt(one, &permit), SHMB_ENOENT);
	permit.index = 2;
	assert_code(shmb_semaphore_adopt(one, &permit), SHMB_EINVAL);
	shmb_semaphore_free(one);
	shmb_semaphore_free(two);
}

static void handles_of_one_client_are_one_holder(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *one = make(all->client, "o", SHMB_OWNED, 0, 2);
	struct shmb_semaphore *two = open_it(all->client, "o");
	struct shmb_semaphore *foreign = open_it(all->other, "o");
	struct shmb_permit permit;

	assert_ptr_equal(one->shared, two->shared);
	assert_code(shmb_semaphore_take(one, 0, &permit), 0);
	assert_code(shmb_semaphore_give(two, &permit), 0);
	assert_code(shmb_semaphore_take(one, 0, &permit), 0);
	assert_code(shmb_semaphore_wait(two, 0), 0);
	shmb_semaphore_free(one);
	assert_int_equal(shmb_semaphore_value(foreign), 0);
	shmb_semaphore_free(two);
	assert_int_equal(shmb_semaphore_value(foreign), 2);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 2);
	shmb_semaphore_free(foreign);
}

/* ---- Arenas ---- */

static void a_segment_is_mapped_while_it_is_needed(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *one = make(all->client, "a", SHMB_COUNTING, 0, 0);
	struct shmb_semaphore *two = make(all->client, "b", SHMB_OWNED, 0, 100);
	struct shmb_semaphore *three = open_it(all->client, "a");

	assert_int_equal(fake_count(all->fake, WIRE_SEMAPHORE_ARENA), 1);
	shmb_semaphore_free(one);
	shmb_semaphore_free(two);
	one = open_it(all->client, "b");
	assert_int_equal(fake_count(all->fake, WIRE_SEMAPHORE_ARENA), 1);
	shmb_semaphore_free(one);
	shmb_semaphore_free(three);
	one = open_it(all->client, "a");
	assert_int_equal(fake_count(all->fake, WIRE_SEMAPHORE_ARENA), 2);
	shmb_semaphore_free(one);
}

struct churn {
	struct shmb_client *client;
	int failures;
};

static void *open_and_free(void *argument)
{
	struct churn *churn = argument;

	for (int i = 0; i < 300; i++) {
		struct shmb_semaphore *semaphore;
		struct shmb_permit permit;

		if (shmb_semaphore_open(churn->client, i % 3 ? "o" : "p", &semaphore) < 0) {
			churn->failures++;
			continue;
		}
		churn->failures += shmb_semaphore_take(semaphore, 10000, &permit) < 0;
		if (i % 2)
			churn->failures += shmb_semaphore_give(semaphore, &permit) < 0;
		shmb_semaphore_free(semaphore);
	}
	return NULL;
}

/* The last handle of an arena goes while the next comes. */
static void closing_and_opening_at_once_loses_nothing(void **state)
{
	struct state *all = *state;
	struct churn churns[] = {
		{ all->client, 0 }, { all->client, 0 }, { all->client, 0 }, { all->other, 0 }
	};
	pthread_t threads[4];
	struct shmb_semaphore *semaphore;

	shmb_semaphore_free(make(all->client, "o", SHMB_OWNED, 0, 1000));
	shmb_semaphore_free(make(all->client, "p", SHMB_OWNED, 0, 1000));
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, open_and_free, &churns[i]), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(churns[i].failures, 0);
	}
	semaphore = open_it(all->client, "o");
	assert_int_equal(shmb_semaphore_value(semaphore), 1000);
	shmb_semaphore_free(semaphore);
	semaphore = open_it(all->client, "p");
	assert_int_equal(shmb_semaphore_value(semaphore), 1000);
	shmb_semaphore_free(semaphore);
	for (int i = 0; i < ARENA_BUCKETS; i++)
		assert_null(all->client->arenas[i]);
}

static bool lie(struct fake *fake, const struct fake_seen *seen)
{
	struct wire_semaphore_attached attached = *(struct wire_semaphore_attached *)fake->context;

	fake_result(fake, seen, &attached, NULL, 0);
	return true;
}

static void what_the_broker_says_is_checked(void **state)
{
	struct state *all = *state;
	struct wire_semaphore_attached lies[] = {
		{ .kind = SHMB_OWNED, .maximum = 1025, .unit = 1024 },
		{ .kind = SHMB_OWNED, .maximum = 1000, .unit = 4090 },
		{ .kind = SHMB_COUNTING, .maximum = 1, .unit = 1024 }, /* asked for an owned one */
	};
	struct shmb_semaphore *semaphore = NULL;
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;

	options.kind = SHMB_OWNED;
	fake_handle(all->fake, WIRE_SEMAPHORE_CREATE, lie);
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		lies[i].handle = 90 + i;
		lies[i].id = lies[i].arena = 5;
		lies[i].slot = 1;
		lies[i].created = true;
		all->fake->context = &lies[i];
		assert_code(shmb_semaphore_create(all->client, "o", &options, &semaphore),
			    i == 2 ? SHMB_EKIND : SHMB_EPROTO);
		assert_null(semaphore);
		fake_wait(all->fake, WIRE_REGION_CLOSE, i + 1);
		assert_int_equal(fake_last(all->fake, WIRE_REGION_CLOSE).params.handle.handle,
				 90 + i);
		assert_int_equal(fake_last(all->fake, WIRE_REGION_REMOVE).params.remove.kind,
				 OBJECT_SEMAPHORE);
	}
	assert_int_equal(fake_count(all->fake, WIRE_SEMAPHORE_ARENA), 0);
}

static void a_segment_is_looked_at_before_it_is_used(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *semaphore = make(all->client, "a", SHMB_COUNTING, 0, 0);

	shmb_semaphore_free(semaphore);
	semaphore = NULL;
	all->fake->arena->magic++;
	assert_code(shmb_semaphore_open(all->client, "a", &semaphore), SHMB_EPROTO);
	assert_null(semaphore);
	fake_wait(all->fake, WIRE_REGION_CLOSE, 2);
	all->fake->arena->magic--;
	shmb_semaphore_free(open_it(all->client, "a"));
}

/* ---- Making ---- */

static void options_travel(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_semaphore *semaphore;
	struct fake_seen seen;

	options.initial = 3;
	options.maximum = 9;
	options.mode = 0711;
	options.lifetime = SHMB_SESSION;
	assert_code(shmb_semaphore_create(all->client, "s", &options, &semaphore), 0);
	fake_wait(all->fake, WIRE_SEMAPHORE_CREATE, 1);
	seen = fake_last(all->fake, WIRE_SEMAPHORE_CREATE);
	assert_int_equal(seen.params.semaphore_create.kind, SHMB_COUNTING);
	assert_int_equal(seen.params.semaphore_create.initial, 3);
	assert_int_equal(seen.params.semaphore_create.maximum, 9);
	assert_int_equal(seen.params.semaphore_create.mode, 0711);
	assert_int_equal(seen.params.semaphore_create.lifetime, SHMB_SESSION);
	shmb_semaphore_free(semaphore);
	assert_code(shmb_semaphore_create(all->client, "s", NULL, &semaphore), SHMB_EEXIST);
	assert_code(shmb_semaphore_open(all->client, "none", &semaphore), SHMB_ENOENT);
	assert_code(shmb_semaphore_create(all->client, "t", NULL, &semaphore), 0);
	fake_wait(all->fake, WIRE_SEMAPHORE_CREATE, 3);
	seen = fake_last(all->fake, WIRE_SEMAPHORE_CREATE);
	assert_int_equal(seen.params.semaphore_create.maximum, LAYOUT_SEMAPHORE_MAX);
	assert_null(shmb_semaphore_free(semaphore));
	assert_null(shmb_semaphore_free(NULL));
}

static void bad_options_are_refused(void **state)
{
	struct state *all = *state;
	const struct shmb_semaphore_options good = SHMB_SEMAPHORE_OPTIONS_INIT;
	struct shmb_semaphore_options bad[] = { good, good, good, good, good, good, good, good };
	struct shmb_semaphore *semaphore = NULL;

	bad[0].kind = (enum shmb_semaphore_kind)3;
	bad[1].mode = 01000;
	bad[2].lifetime = (enum shmb_lifetime)3;
	bad[3].maximum = (uint32_t)INT32_MAX + 1;
	bad[4].initial = 2;
	bad[4].maximum = 1;
	bad[5].kind = SHMB_OWNED;
	bad[5].maximum = 1025;
	bad[6].kind = SHMB_OWNED;
	bad[6].initial = 1;
	bad[7].struct_size = 1;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_code(shmb_semaphore_create(all->client, "s", &bad[i], &semaphore),
			    SHMB_EINVAL);
	assert_code(shmb_semaphore_create(all->client, "s//s", NULL, &semaphore), SHMB_EINVAL);
	assert_code(shmb_semaphore_open(all->client, "", &semaphore), SHMB_EINVAL);
	assert_null(semaphore);
	assert_int_equal(fake_count(all->fake, WIRE_SEMAPHORE_CREATE), 0);
}

/* ---- Forking ---- */

static int child(void *argument)
{
	struct shmb_semaphore *semaphore = argument;
	struct shmb_permit permit = { 0, 1 };
	bool right = shmb_semaphore_wait(semaphore, -1) == SHMB_EFORKED &&
		     shmb_semaphore_post(semaphore, 1) == SHMB_EFORKED &&
		     shmb_semaphore_take(semaphore, -1, &permit) == SHMB_EFORKED &&
		     shmb_semaphore_give(semaphore, &permit) == SHMB_EFORKED &&
		     shmb_semaphore_adopt(semaphore, &permit) == SHMB_EFORKED &&
		     shmb_semaphore_value(semaphore) == SHMB_EFORKED &&
		     shmb_semaphore_open(semaphore->client, "o", &semaphore) == SHMB_EFORKED;

	shmb_semaphore_free(semaphore);
	return right ? 0 : 1;
}

static void a_child_holds_nothing(void **state)
{
	struct state *all = *state;
	struct shmb_semaphore *semaphore = make(all->client, "o", SHMB_OWNED, 0, 2);

	assert_code(shmb_semaphore_wait(semaphore, 0), 0);
	assert_int_equal(fake_in_child(child, semaphore), 0);
	assert_int_equal(shmb_semaphore_value(semaphore), 1);
	assert_int_equal(fake_count(all->fake, WIRE_REGION_CLOSE), 0);
	assert_code(shmb_semaphore_post(semaphore, 1), 0);
	shmb_semaphore_free(semaphore);
}

#define CASE(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SLEEPING(name) cmocka_unit_test_setup_teardown(name, setup_sleeping, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_count_goes_up_and_down),
		CASE(a_count_that_others_change_is_what_it_is),
		CASE(permits_are_for_owned_ones),
		CASE(waiting_ends_at_the_timeout),
		SLEEPING(waiting_ends_at_the_timeout),
		CASE(who_sleeps_is_seen_and_woken),
		SLEEPING(who_sleeps_is_seen_and_woken),
		CASE(a_permit_that_comes_back_wakes),
		SLEEPING(a_permit_that_comes_back_wakes),
		CASE(nothing_is_lost_or_doubled_between_threads),
		SLEEPING(nothing_is_lost_or_doubled_between_threads),
		CASE(a_permit_knows_its_holder),
		CASE(posting_gives_the_lowest_back),
		CASE(a_mutex_of_one_permit_goes_from_hand_to_hand),
		CASE(a_permit_can_be_adopted),
		CASE(handles_of_one_client_are_one_holder),
		CASE(a_segment_is_mapped_while_it_is_needed),
		CASE(closing_and_opening_at_once_loses_nothing),
		CASE(what_the_broker_says_is_checked),
		CASE(a_segment_is_looked_at_before_it_is_used),
		CASE(options_travel),
		CASE(bad_options_are_refused),
		CASE(a_child_holds_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
