/* SPDX-License-Identifier: MIT */
/* The steps of the lock, one by one: every state of the word, and words that somebody has spoilt.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layout/lock.h"

enum { SLOTS = LAYOUT_LOCK_SLOTS_MAX };

static const uint32_t FLAGS =
	LAYOUT_LOCK_LOST | LAYOUT_LOCK_DIED | LAYOUT_LOCK_DRAINING | LAYOUT_LOCK_SLEEPERS;

static struct layout_lock *lock;

static int make(void **state)
{
	size_t bytes = layout_lock_bytes(SLOTS);

	lock = aligned_alloc(64, bytes);
	assert_non_null(lock);
	memset(lock, 0, bytes);
	return 0;
}

static int end(void **state)
{
	free(lock);
	return 0;
}

static struct layout_locker locker(uint32_t slot)
{
	return (struct layout_locker){ lock, &lock->slots[slot - 1], slot, SLOTS };
}

static struct layout_locker published(uint32_t slot)
{
	struct layout_locker self = locker(slot);

	layout_lock_publish_slot(&self);
	return self;
}

static uint32_t word(void)
{
	return atomic_load(&lock->word);
}

static void set_word(uint32_t value)
{
	atomic_store(&lock->word, value);
}

static void slots_fit(void **state)
{
	assert_int_equal(layout_lock_bytes(LAYOUT_LOCK_SLOTS_DEFAULT), 4096);
	assert_int_equal(layout_lock_bytes(1), 192);
	assert_true((int)LAYOUT_LOCK_SLOTS_MAX <= (int)LAYOUT_LOCK_SLOT);
	assert_int_equal(LAYOUT_LOCK_SLOT & (LAYOUT_LOCK_LOST | LAYOUT_LOCK_DIED |
					     LAYOUT_LOCK_DRAINING | LAYOUT_LOCK_SLEEPERS),
			 0);
}

static void publishing_only_raises(void **state)
{
	published(5);
	assert_int_equal(atomic_load(&lock->published), 5);
	published(1);
	assert_int_equal(atomic_load(&lock->published), 5);
	published(SLOTS);
	assert_int_equal(atomic_load(&lock->published), SLOTS);
}

/* ---- Shared ---- */

static void shared_enters_only_zero(void **state)
{
	static const uint32_t words[] = { 1,
					  SLOTS,
					  LAYOUT_LOCK_DIED,
					  LAYOUT_LOCK_LOST,
					  LAYOUT_LOCK_DIED | 7,
					  LAYOUT_LOCK_SLEEPERS | 7,
					  UINT32_MAX };
	struct layout_locker self = published(1);
	bool wake = true;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		set_word(words[i]);
		assert_false(layout_lock_enter(&self, &wake));
		assert_false(wake);
		assert_int_equal(atomic_load(&self.own->readers), 0);
		assert_int_equal(word(), words[i]);
	}
	set_word(0);
	assert_true(layout_lock_enter(&self, &wake));
	assert_true(layout_lock_enter(&self, &wake));
	assert_int_equal(atomic_load(&self.own->readers), 2);
}

static void the_last_to_leave_wakes_who_drains(void **state)
{
	struct layout_locker self = published(1), other = published(SLOTS);
	bool wake;

	assert_true(layout_lock_enter(&self, &wake) && layout_lock_enter(&self, &wake));
	assert_int_equal(layout_lock_claim(&other), LAYOUT_LOCK_GOT);
	assert_false(layout_lock_leave(&self));
	assert_true(layout_lock_announce_drain(&other));
	assert_true(layout_lock_leave(&self));
	atomic_store(&self.own->readers, 2);
	assert_false(layout_lock_leave(&self));
	assert_true(layout_lock_leave(&self));
}

static void one_thread_counts_by_itself(void **state)
{
	struct layout_locker self = published(2), other = published(3);
	_Atomic uint32_t count = 0;
	uint32_t readers = 0;
	bool wake = true;

	set_word(3);
	assert_false(layout_lock_enter_solo(&self, &count, &wake));
	assert_false(wake);
	assert_int_equal(atomic_load(&count), 0);
	set_word(0);
	assert_true(layout_lock_enter_solo(&self, &count, &wake));
	assert_true(layout_lock_enter_solo(&self, &count, &wake));
	assert_int_equal(atomic_load(&self.own->solo), 2);
	assert_int_equal(layout_lock_claim(&other), LAYOUT_LOCK_GOT);
	assert_ptr_equal(layout_lock_first_reader(&other, &readers), &self.own->solo);
	assert_int_equal(readers, 2);
	assert_true(layout_lock_announce_drain(&other));
	assert_false(layout_lock_leave_solo(&self, &count));
	assert_true(layout_lock_leave_solo(&self, &count));
	assert_null(layout_lock_first_reader(&other, &readers));
	assert_int_equal(atomic_load(&self.own->solo), 0);
	/* Both counts of a slot together, and what somebody may have written there. */
	atomic_store(&self.own->readers, 4);
	atomic_store(&self.own->solo, 5);
	assert_int_equal(layout_lock_shared(self.own), 9);
	assert_ptr_equal(layout_lock_first_reader(&other, &readers), &self.own->readers);
	atomic_store(&self.own->solo, UINT32_MAX);
	assert_int_equal(layout_lock_shared(self.own), UINT32_MAX);
}

static void looking_tells_why(void **state)
{
	static const struct {
		uint32_t word;
		enum layout_lock_result result;
	} looks[] = {
		{ 0, LAYOUT_LOCK_GOT },
		{ 3, LAYOUT_LOCK_BUSY },
		{ LAYOUT_LOCK_DIED, LAYOUT_LOCK_OWNER_DIED },
		{ LAYOUT_LOCK_LOST, LAYOUT_LOCK_UNUSABLE },
		{ LAYOUT_LOCK_LOST | LAYOUT_LOCK_DIED, LAYOUT_LOCK_UNUSABLE },
		{ LAYOUT_LOCK_LOST | 1, LAYOUT_LOCK_BUSY },
		{ LAYOUT_LOCK_SLEEPERS, LAYOUT_LOCK_GOT },
		{ UINT32_MAX, LAYOUT_LOCK_BUSY },
	};

	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
		set_word(looks[i].word);
		assert_int_equal(layout_lock_look(lock), looks[i].result);
	}
}

/* ---- Exclusive ---- */

static void claiming_keeps_the_past(void **state)
{
	struct layout_locker self = published(SLOTS);

	assert_int_equal(layout_lock_claim(&self), LAYOUT_LOCK_GOT);
	assert_int_equal(word(), SLOTS);
	assert_int_equal(layout_lock_claim(&self), LAYOUT_LOCK_BUSY);
	set_word(LAYOUT_LOCK_DIED);
	assert_false(layout_lock_claim_fast(&self));
	assert_int_equal(layout_lock_claim(&self), LAYOUT_LOCK_GOT_DIED);
	assert_int_equal(word(), LAYOUT_LOCK_DIED | SLOTS);
	set_word(LAYOUT_LOCK_LOST);
	assert_int_equal(layout_lock_claim(&self), LAYOUT_LOCK_UNUSABLE);
	assert_int_equal(word(), LAYOUT_LOCK_LOST);
}

static void fast_claims_wait_for_turns(void **state)
{
	struct layout_locker self = published(1);

	atomic_store(&lock->next, 2);
	assert_false(layout_lock_claim_fast(&self));
	assert_int_equal(word(), 0);
	atomic_store(&lock->next, 0);
	assert_true(layout_lock_claim_fast(&self));
	assert_false(layout_lock_claim_fast(&self));
}

static void draining_sees_every_slot_in_use(void **state)
{
	struct layout_locker self = published(1);
	uint32_t readers = 7;

	assert_null(layout_lock_first_reader(&self, &readers));
	published(SLOTS);
	atomic_store(&lock->slots[SLOTS - 1].readers, 3);
	assert_ptr_equal(layout_lock_first_reader(&self, &readers), &lock->slots[SLOTS - 1]);
	assert_int_equal(readers, 3);
	atomic_store(&lock->slots[0].readers, 1); /* the own one, too */
	assert_ptr_equal(layout_lock_first_reader(&self, &readers), &lock->slots[0]);
	/* More published than there is: somebody plays with it. */
	atomic_store(&lock->slots[0].readers, 0);
	atomic_store(&lock->slots[SLOTS - 1].readers, 0);
	atomic_store(&lock->published, UINT32_MAX);
	assert_null(layout_lock_first_reader(&self, &readers));
}

static void a_small_table_has_an_end(void **state)
{
	struct layout_locker self = locker(1);
	uint32_t readers;

	self.n_slots = 2;
	atomic_store(&lock->published, UINT32_MAX);
	atomic_store(&lock->slots[2].readers, 1);
	atomic_store(&lock->slots[2].ticket, 1);
	assert_null(layout_lock_first_reader(&self, &readers));
	layout_lock_ask(&self);
	assert_int_equal(atomic_load(&lock->next), 1);
}

static void releasing_tells_of_sleepers(void **state)
{
	struct layout_locker self = published(9);
	static const uint32_t left[] = { 0, LAYOUT_LOCK_DIED, LAYOUT_LOCK_LOST };

	for (size_t i = 0; i < 3; i++) {
		set_word(9);
		layout_lock_hold(&self);
		assert_int_equal(atomic_load(&self.own->held), 1);
		assert_false(layout_lock_release(&self, left[i]));
		assert_int_equal(atomic_load(&self.own->held), 0);
		assert_int_equal(word(), left[i]);
		set_word(9 | LAYOUT_LOCK_SLEEPERS | LAYOUT_LOCK_DRAINING);
		assert_true(layout_lock_release(&self, left[i]));
		assert_int_equal(word(), left[i]);
	}
}

static void giving_up_a_claim_leaves_the_past(void **state)
{
	struct layout_locker self = published(9);

	set_word(9 | FLAGS);
	assert_true(layout_lock_unclaim(&self));
	assert_int_equal(word(), LAYOUT_LOCK_DIED | LAYOUT_LOCK_LOST);
	set_word(9 | LAYOUT_LOCK_DRAINING);
	assert_false(layout_lock_unclaim(&self));
	assert_int_equal(word(), 0);
	/* Another's is left alone. */
	set_word(8 | FLAGS);
	assert_false(layout_lock_unclaim(&self));
	assert_false(layout_lock_announce_drain(&self));
	layout_lock_forgive(&self);
	assert_int_equal(word(), 8 | FLAGS);
	set_word(9 | LAYOUT_LOCK_DIED | LAYOUT_LOCK_SLEEPERS);
	layout_lock_forgive(&self);
	assert_int_equal(word(), 9 | LAYOUT_LOCK_SLEEPERS);
}

static void downgrading_leaves_a_reader(void **state)
{
	struct layout_locker self = published(1), other = published(2);
	uint32_t readers;

	set_word(1 | LAYOUT_LOCK_SLEEPERS);
	layout_lock_hold(&self);
	assert_true(layout_lock_downgrade(&self));
	assert_int_equal(word(), 0);
	assert_int_equal(atomic_load(&self.own->held), 0);
	assert_int_equal(layout_lock_claim(&other), LAYOUT_LOCK_GOT);
	assert_ptr_equal(layout_lock_first_reader(&other, &readers), self.own);
}

static void only_a_lost_lock_is_reset(void **state)
{
	static const uint32_t others[] = { 0, 1, LAYOUT_LOCK_DIED, LAYOUT_LOCK_LOST | 1 };

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		set_word(others[i]);
		assert_false(layout_lock_reset(lock));
		assert_int_equal(word(), others[i]);
	}
	set_word(LAYOUT_LOCK_LOST);
	assert_true(layout_lock_reset(lock));
	assert_int_equal(word(), LAYOUT_LOCK_DIED);
}

static void announcing_needs_a_claim(void **state)
{
	uint32_t expected = 0;

	assert_false(layout_lock_announce(lock, &expected));
	set_word(LAYOUT_LOCK_DIED);
	assert_false(layout_lock_announce(lock, &expected));
	assert_int_equal(word(), LAYOUT_LOCK_DIED);
	for (int i = 0; i < 2; i++) {
		set_word(4 | LAYOUT_LOCK_DRAINING | (i ? LAYOUT_LOCK_SLEEPERS : 0));
		assert_true(layout_lock_announce(lock, &expected));
		assert_int_equal(expected, 4 | LAYOUT_LOCK_DRAINING | LAYOUT_LOCK_SLEEPERS);
		assert_int_equal(word(), expected);
	}
}

/* ---- Turns ---- */

static void turns_come_in_the_order_of_asking(void **state)
{
	struct layout_locker first = published(SLOTS), second = published(1), third = published(7);

	/* Also where tickets wrap. */
	for (uint32_t start = 0; start < 2; start++) {
		atomic_store(&lock->tickets, start ? UINT32_MAX - 1 : 0);
		layout_lock_ask(&first);
		layout_lock_ask(&second);
		layout_lock_ask(&third);
		layout_lock_ask(&second); /* does not lose its place */
		assert_int_equal(layout_lock_elsewhere(&first), 0);
		assert_int_equal(layout_lock_elsewhere(&second), SLOTS);
		assert_false(layout_lock_served(&third)); /* gave up, out of turn */
		assert_true(layout_lock_served(&first));
		assert_int_equal(layout_lock_elsewhere(&second), 0);
		assert_true(layout_lock_served(&second));
		assert_int_equal(atomic_load(&lock->next), 0);
	}
}

static void who_does_not_come_is_passed_over(void **state)
{
	struct layout_locker first = published(1), second = published(2);

	layout_lock_ask(&first);
	layout_lock_ask(&second);
	layout_lock_pass_over(&second, 1);
	assert_int_equal(atomic_load(&lock->next), 2);
	assert_int_equal(atomic_load(&first.own->ticket), 0);
	/* Too late, and numbers that there are not. */
	layout_lock_pass_over(&first, 1);
	assert_int_equal(atomic_load(&lock->next), 2);
	atomic_store(&lock->next, UINT32_MAX);
	layout_lock_pass_over(&second, UINT32_MAX);
	assert_int_equal(atomic_load(&lock->next), 2);
	atomic_store(&lock->next, SLOTS + 1);
	layout_lock_pass_over(&second, SLOTS + 1);
	assert_int_equal(atomic_load(&lock->next), 2);
}

/* ---- Repair ---- */

static void repair_undoes_a_slot(void **state)
{
	static const uint32_t slots[] = { 1, 2, SLOTS };
	static const uint32_t pasts[] = { 0, LAYOUT_LOCK_DIED, LAYOUT_LOCK_LOST };

	for (size_t i = 0; i < 9 * 2; i++) {
		struct layout_locker dead = published(slots[i % 3]);
		uint32_t past = pasts[i / 3 % 3], held = i >= 9;

		memset(dead.own, 0xff, sizeof(*dead.own));
		atomic_store(&dead.own->held, held);
		atomic_store(&lock->next, dead.slot);
		set_word(dead.slot | past | LAYOUT_LOCK_DRAINING | LAYOUT_LOCK_SLEEPERS);
		assert_int_equal(layout_lock_died_holding(&dead), held);
		for (int again = 0; again < 2; again++) {
			layout_lock_repair(&dead);
			assert_int_equal(word(), past | (held ? LAYOUT_LOCK_DIED : 0));
			assert_int_equal(atomic_load(&lock->next), 0);
			assert_int_equal(atomic_load(&dead.own->readers), 0);
			assert_int_equal(atomic_load(&dead.own->solo), 0);
			assert_int_equal(atomic_load(&dead.own->held), 0);
			assert_int_equal(atomic_load(&dead.own->waiting_shared), 0);
			assert_int_equal(atomic_load(&dead.own->waiting_exclusive), 0);
			assert_int_equal(atomic_load(&dead.own->ticket), 0);
			assert_false(layout_lock_died_holding(&dead));
		}
	}
}

static void repair_leaves_others_alone(void **state)
{
	struct layout_locker dead = published(3);
	static const uint32_t words[] = {
		0, 4, 4 | LAYOUT_LOCK_SLEEPERS, LAYOUT_LOCK_DIED, LAYOUT_LOCK_LOST, SLOTS
	};

	atomic_store(&lock->slots[3].readers, 5);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		set_word(words[i]);
		atomic_store(&lock->next, 4);
		atomic_store(&dead.own->held, 1); /* a lie, or an earlier repair's */
		assert_false(layout_lock_died_holding(&dead));
		layout_lock_repair(&dead);
		assert_int_equal(word(), words[i]);
		assert_int_equal(atomic_load(&lock->next), 4);
		assert_int_equal(atomic_load(&lock->slots[3].readers), 5);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(slots_fit),
		TEST(publishing_only_raises),
		TEST(shared_enters_only_zero),
		TEST(the_last_to_leave_wakes_who_drains),
		TEST(one_thread_counts_by_itself),
		TEST(looking_tells_why),
		TEST(claiming_keeps_the_past),
		TEST(fast_claims_wait_for_turns),
		TEST(draining_sees_every_slot_in_use),
		TEST(a_small_table_has_an_end),
		TEST(releasing_tells_of_sleepers),
		TEST(giving_up_a_claim_leaves_the_past),
		TEST(downgrading_leaves_a_reader),
		TEST(only_a_lost_lock_is_reset),
		TEST(announcing_needs_a_claim),
		TEST(turns_come_in_the_order_of_asking),
		TEST(who_does_not_come_is_passed_over),
		TEST(repair_undoes_a_slot),
		TEST(repair_leaves_others_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
