/* SPDX-License-Identifier: MIT */
/*
 * Locking: how the steps of proto/layout/lock.h are put together, when to spin, when to sleep and
 * whom to wake. Knows a lock segment and a slot in it; whether they belong to a region or to a
 * named lock is its callers' business.
 */

#include "lock.h"

#include "calls.h"
#include "client.h"
#include "layout/step.h"
#include "region.h"
#include "wait.h"

enum {
	/* How long a claimant holds back for one whose turn it is: more than waking up takes. */
	COURTESY_NS = 1000000,
	/* Most turns of rest between two looks at a lock that others have. Resting twice as long
	 * each time (Anderson, "The performance of spin lock alternatives", 1990) leaves the cache
	 * line to the holder, who often wants it again at once: half the time for each operation
	 * where two processes contend, for some hundred nanoseconds of delay. */
	REST_MAX = 31,
};

/* ---- Getting a slot, and letting go of it ---- */

int locker_init(struct locker *locker, const struct shmb_client *client)
{
	locker->spin_most = client->spin_ns;
	atomic_init(&locker->spin_ns, client->spin_ns);
	return pthread_mutex_init(&locker->attaching, NULL) == 0 ? 0 : SHMB_ENOMEM;
}

void locker_deinit(struct locker *locker, bool forked)
{
	guard_remove(&locker->guarded);
	map_release(&locker->mapping);
	if (!forked)
		pthread_mutex_destroy(&locker->attaching);
}

/* The broker says what there is; touching more would be a SIGBUS. One thread at a time is here. */
static int map_lock(struct locker *locker, int fd, uint64_t slot, uint64_t slots,
		    struct mapping *ret_mapping)
{
	const struct layout_lock *lock;
	int result;

	if (slot < 1 || slot > slots || slots > LAYOUT_LOCK_SLOTS_MAX)
		return SHMB_EPROTO;
	result = map_segment(fd, layout_lock_bytes((uint32_t)slots), true, true, ret_mapping);
	if (result == 0 && !locker->unguarded)
		result = guard_add(&locker->guarded, ret_mapping, &locker->state, LOCKER_LOST);
	if (result < 0)
		return result;
	lock = ret_mapping->data;
	if (lock->magic == LAYOUT_LOCK_MAGIC && lock->version == LAYOUT_LOCK_VERSION)
		return 0;
	return locker_lost(locker) ? SHMB_EBUS : SHMB_EPROTO;
}

/* Return: SHMB_ECLOSED: meanwhile. */
static int begin(struct locker *locker, struct shmb_client *client, const struct mapping *mapping,
		 uint64_t slot, uint64_t slots)
{
	struct layout_lock *lock = mapping->data;
	uint32_t state = 0;

	/* Closing takes the mutex before it tells the broker: either it sees the mapping and
	 * detaches it, or we see that it was closed and touch nothing in a slot that may be
	 * another's by now. */
	pthread_mutex_lock(&client->mutex);
	if (!(locker->state & LOCKER_CLOSED)) {
		locker->mapping = *mapping;
		locker->words = (struct layout_locker){
			.lock = lock,
			.own = &lock->slots[slot - 1],
			.slot = (uint32_t)slot,
			.n_slots = (uint32_t)slots,
		};
		layout_lock_publish_slot(&locker->words);
		atomic_fetch_or(&locker->state, LOCKER_READY);
		state = LOCKER_READY;
	}
	pthread_mutex_unlock(&client->mutex);
	return state ? 0 : SHMB_ECLOSED;
}

int locker_map(struct locker *locker, struct shmb_client *client, int fd, uint64_t slot,
	       uint64_t slots)
{
	struct mapping mapping = { 0 };
	int result = map_lock(locker, fd, slot, slots, &mapping);

	if (result == 0)
		result = begin(locker, client, &mapping, slot, slots);
	if (result == 0)
		return 0;
	guard_remove(&locker->guarded);
	map_release(&mapping);
	/* It may be there the next time. */
	atomic_fetch_and(&locker->state, ~(uint32_t)LOCKER_LOST);
	return result;
}

static int ask(struct locker *locker, struct shmb_client *client, uint32_t handle,
	       struct error_slot *error)
{
	struct wire_region_handle params = { .handle = handle };
	struct call *call = call_new(WIRE_REGION_LOCK);
	const struct wire_region_lock_result *given;
	int result = call_answer(client, error, call, &params);

	if (result < 0)
		return result;
	given = &call->result.region_lock;
	result = locker_map(locker, client, call->fds[0], given->slot, given->slots);
	if (result < 0)
		error_note(error, result, "map");
	call_free(call);
	return result;
}

int locker_attach(struct locker *locker, struct shmb_client *client, uint32_t handle,
		  struct error_slot *error)
{
	int result = 0;

	pthread_mutex_lock(&locker->attaching);
	if (locker->state & LOCKER_CLOSED)
		result = error_note(error, SHMB_ECLOSED, NULL);
	else if (locker_lost(locker))
		result = error_note(error, SHMB_EBUS, "lock");
	else if (locker->state == 0)
		result = ask(locker, client, handle, error);
	pthread_mutex_unlock(&locker->attaching);
	return result;
}

void locker_close(struct locker *locker)
{
	const _Atomic uint32_t *drained;

	if (!(atomic_exchange(&locker->state, LOCKER_CLOSED) & LOCKER_READY))
		return;
	/* Who goes to sleep counts itself and then looks whether it is closed. */
	if (atomic_load(&locker->n_sleeping) == 0)
		return;
	wait_wake_all(&locker->words.lock->word);
	wait_wake_all(&locker->words.lock->next);
	drained = atomic_load(&locker->drained);
	if (drained)
		wait_wake_all(drained);
}

bool locker_detach(struct locker *locker)
{
	return !locker->mapping.data || map_detach(&locker->mapping);
}

/* ---- Waking ---- */

static void wake_claimant(struct locker *locker)
{
	wait_wake_all(&locker->words.own->readers);
}

static void wake_claimant_of_solo(struct locker *locker)
{
	wait_wake_all(&locker->words.own->solo);
}

static void wake_all(struct locker *locker)
{
	wait_wake_all(&locker->words.lock->word);
}

/* ---- The slow way ---- */

/* One call that has to wait. */
struct attempt {
	struct locker *locker;
	const struct layout_locker *words;
	enum shmb_lock_kind kind;
	struct waiting waiting;
	bool expired;           /* whatever can be done now may still be done; no more waiting */
	bool counted;           /* among those who wait, for people */
	bool asked;             /* for our turn */
	int64_t courtesy_until; /* 0: not holding back */
	bool courtesy_over;
	unsigned rest;    /* turns since the look before */
	int64_t drain_ns; /* how long it slept last on readers; 0: not yet */
};

/* Or has vanished: nothing that can be had. */
static bool is_closed(const struct attempt *attempt)
{
	return atomic_load(&attempt->locker->state) & (LOCKER_CLOSED | LOCKER_LOST);
}

static _Atomic uint32_t *counter(const struct attempt *attempt)
{
	struct layout_lock_slot *own = attempt->words->own;

	return attempt->kind == SHMB_SHARED ? &own->waiting_shared : &own->waiting_exclusive;
}

static void count(struct attempt *attempt)
{
	if (!attempt->counted)
		atomic_fetch_add(counter(attempt), 1);
	attempt->counted = true;
	STEP();
}

static void ask_for_turn(struct attempt *attempt)
{
	count(attempt);
	attempt->asked = true;
	layout_lock_ask(attempt->words);
}

static void sleep_on(struct attempt *attempt, const _Atomic uint32_t *word, uint32_t expected,
		     int64_t limit_ns)
{
	atomic_fetch_add(&attempt->locker->n_sleeping, 1);
	if (!is_closed(attempt) && !wait_sleep_for(&attempt->waiting, word, expected, limit_ns))
		attempt->expired = true;
	atomic_fetch_sub(&attempt->locker->n_sleeping, 1);
}

static void rest(struct attempt *attempt)
{
	if (attempt->rest < REST_MAX)
		attempt->rest = 2 * attempt->rest + 1;
	for (unsigned i = 0; i < attempt->rest; i++)
		cpu_relax();
}

/*
 * Somebody has claimed it: wait until that may have changed.
 *
 * Return: true: try again; false: the time is over.
 */
static bool wait_for_word(struct attempt *attempt)
{
	struct layout_lock *lock = attempt->words->lock;
	uint32_t expected;

	if (attempt->expired)
		return false;
	attempt->courtesy_until = 0;
	attempt->courtesy_over = false;
	if (wait_spin(&attempt->waiting)) {
		rest(attempt);
		return true;
	}
	/* The first time try on a little: a holder that runs hands it over at once now. */
	if (!attempt->asked) {
		ask_for_turn(attempt);
		return true;
	}
	ask_for_turn(attempt);
	if (layout_lock_announce(lock, &expected))
		sleep_on(attempt, &lock->word, expected, WAIT_FOR_EVER);
	return true;
}

/*
 * Somebody was quicker at a lock that was free. Return: as wait_for_word().
 *
 * If the word then still says something that it never says of a free lock, somebody plays with it:
 * look at it now and then, as it may be the next claimant's release that puts it right.
 */
static bool wait_a_moment(struct attempt *attempt)
{
	uint32_t word = atomic_load(&attempt->words->lock->word);

	if (attempt->expired)
		return false;
	if (wait_spin(&attempt->waiting))
		return true;
	if (word != 0 && !(word & LAYOUT_LOCK_SLOT))
		sleep_on(attempt, &attempt->words->lock->word, word, COURTESY_NS);
	else if (attempt->waiting.timeout_ms >= 0 &&
		 wait_look(&attempt->waiting) >= attempt->waiting.deadline)
		attempt->expired = true;
	return true;
}

/* Return: true: it is held. */
static bool try_to_enter(struct attempt *attempt)
{
	struct locker *locker = attempt->locker;
	bool entered, wake;

	if (locker_is_solo(locker)) {
		entered = layout_lock_enter_solo(attempt->words, &locker->solo_count, &wake);
		if (wake)
			wake_claimant_of_solo(locker);
	} else {
		entered = layout_lock_enter(attempt->words, &wake);
		if (wake)
			wake_claimant(locker);
	}
	return entered;
}

static int enter(struct attempt *attempt)
{
	bool go_on;

	do {
		if (is_closed(attempt))
			return SHMB_ECLOSED;
		if (try_to_enter(attempt))
			return 0;
		switch (layout_lock_look(attempt->words->lock)) {
		case LAYOUT_LOCK_OWNER_DIED:
			return SHMB_EOWNERDEAD;
		case LAYOUT_LOCK_UNUSABLE:
			return SHMB_ENOTRECOVERABLE;
		case LAYOUT_LOCK_BUSY:
			go_on = wait_for_word(attempt);
			break;
		default:
			go_on = wait_a_moment(attempt);
			break;
		}
	} while (go_on);
	return SHMB_ETIMEDOUT;
}

/* It is free, but the turn of @slot. */
static void hold_back(struct attempt *attempt, uint32_t slot)
{
	_Atomic uint32_t *next = &attempt->words->lock->next;
	int64_t now;

	if (attempt->courtesy_until == 0)
		attempt->courtesy_until = wait_look(&attempt->waiting) + COURTESY_NS;
	if (wait_spin(&attempt->waiting))
		return;
	now = wait_look(&attempt->waiting);
	if (now < attempt->courtesy_until) {
		ask_for_turn(attempt);
		sleep_on(attempt, next, slot, attempt->courtesy_until - now);
		return;
	}
	attempt->courtesy_over = true;
	layout_lock_pass_over(attempt->words, slot);
	/* Perhaps it is now the turn of one that was holding back, too. */
	wait_wake_all(next);
}

/*
 * Who has no time left does not hold back: to tell of a free lock that it is taken would be wrong
 * for a try, and of no use to anybody at a deadline.
 */
static bool may_claim(struct attempt *attempt)
{
	uint32_t slot = layout_lock_elsewhere(attempt->words);

	if (slot == 0 || attempt->expired || attempt->courtesy_over ||
	    atomic_load(&attempt->words->lock->word) & LAYOUT_LOCK_SLOT)
		return true;
	hold_back(attempt, slot);
	return false;
}

/* Return: 0 with the lock claimed, or an error. */
static int claim(struct attempt *attempt, bool *ret_died)
{
	for (;;) {
		enum layout_lock_result result;

		if (is_closed(attempt))
			return SHMB_ECLOSED;
		if (!may_claim(attempt))
			continue;
		result = layout_lock_claim(attempt->words);
		*ret_died = result == LAYOUT_LOCK_GOT_DIED;
		if (result == LAYOUT_LOCK_GOT || result == LAYOUT_LOCK_GOT_DIED)
			return 0;
		if (result == LAYOUT_LOCK_UNUSABLE)
			return SHMB_ENOTRECOVERABLE;
		if (!wait_for_word(attempt))
			return SHMB_ETIMEDOUT;
	}
}

static int give_up_claim(struct attempt *attempt, int code)
{
	if (layout_lock_unclaim(attempt->words))
		wake_all(attempt->locker);
	return code;
}

static void sleep_on_readers(struct attempt *attempt, const _Atomic uint32_t *word)
{
	uint32_t readers = atomic_load(word);

	if (readers == 0)
		return;
	attempt->drain_ns = attempt->drain_ns == 0 ? LAYOUT_LOCK_DRAIN_NS : 2 * attempt->drain_ns;
	count(attempt);
	/* There is one claimant at a time, so one of our threads at most is here. */
	atomic_store(&attempt->locker->drained, word);
	sleep_on(attempt, word, readers, attempt->drain_ns);
	atomic_store(&attempt->locker->drained, NULL);
}

/* Return: 0: all readers are out; 1: the claim is no longer ours; or an error, and it is given up.
 */
static int drain(struct attempt *attempt)
{
	const _Atomic uint32_t *word;
	uint32_t readers;

	while ((word = layout_lock_first_reader(attempt->words, &readers))) {
		if (is_closed(attempt))
			return give_up_claim(attempt, SHMB_ECLOSED);
		if (attempt->expired)
			return give_up_claim(attempt, SHMB_ETIMEDOUT);
		if (wait_spin(&attempt->waiting))
			continue;
		if (!layout_lock_announce_drain(attempt->words))
			return 1;
		sleep_on_readers(attempt, word);
	}
	return 0;
}

/*
 * Claim, drain, hold. Dying between the first and the last leaves a claim that the broker releases,
 * with all that the word said before it; from `held` on it leaves "owner died", see locker_hold().
 */
static int take(struct attempt *attempt, unsigned flags)
{
	struct layout_publish *page = attempt->locker->page;
	bool died = false, claimed = flags & LOCKER_CLAIMED;
	int result;

	do {
		result = claimed ? 0 : claim(attempt, &died);
		if (result < 0)
			return result;
		if (died && flags & LOCKER_SOUND)
			return give_up_claim(attempt, SHMB_EOWNERDEAD);
		result = drain(attempt);
		claimed = false;
	} while (result > 0);
	if (result < 0)
		return result;
	locker_hold(attempt->locker, attempt->words);
	attempt->locker->died = died;
	/* One that gave it back as lost may have died between what it said here and what it was to
	 * say in the word. */
	if (died && page && atomic_load(&page->consistency) != LAYOUT_OWNER_DIED)
		atomic_store(&page->consistency, LAYOUT_OWNER_DIED);
	STEP();
	return died ? SHMB_EOWNERDEAD : 0;
}

static void end(struct attempt *attempt)
{
	if (attempt->counted)
		atomic_fetch_sub(counter(attempt), 1);
	STEP();
	if (attempt->asked && layout_lock_served(attempt->words))
		wait_wake_all(&attempt->words->lock->next);
	wait_end(&attempt->waiting);
}

static bool is_held_by_this_thread(const struct locker *locker)
{
	/* relaxed: this thread's own stores, or another's, which are not its number. */
	return locker_holds(&locker->words) &&
	       atomic_load_explicit(&locker->owner, memory_order_relaxed) == locker_self();
}

bool locker_is_mine(const struct locker *locker)
{
	return locker_ready(locker) && is_held_by_this_thread(locker) && locker_still_ready(locker);
}

/* What was got of a lock that has been closed is nothing. If the holder before died, the next one
 * is to hear of it as if we had not been. */
static void drop(struct locker *locker, bool died)
{
	enum locker_rest rest;

	/* Of one that has vanished nothing was got, unless it did so after that. */
	if (locker_lost(locker) && atomic_load(&locker->owner) != locker_self())
		return;
	if (died) {
		locker->died = false;
		if (locker_release(locker, &locker->words, LAYOUT_LOCK_DIED))
			wake_all(locker);
		return;
	}
	rest = locker_unlock_fast(locker);
	if (rest != 0)
		locker_unlock_slowly(locker, rest);
}

static int end_of_lock(const struct locker *locker)
{
	return atomic_load(&locker->state) & LOCKER_CLOSED ? SHMB_ECLOSED : SHMB_EBUS;
}

int locker_lock_slowly(struct locker *locker, enum shmb_lock_kind kind, int timeout_ms,
		       unsigned flags)
{
	struct attempt attempt = {
		.locker = locker,
		.words = &locker->words,
		.kind = kind,
		.expired = timeout_ms == 0,
	};
	int result;

	if (flags & LOCKER_GOT) {
		drop(locker, false);
		return end_of_lock(locker);
	}
	if (flags & LOCKER_WAKE)
		wake_claimant(locker);
	if (flags & LOCKER_WAKE_SOLO)
		wake_claimant_of_solo(locker);
	if (is_held_by_this_thread(locker))
		return SHMB_EDEADLK;
	wait_begin(&attempt.waiting, &locker->spin_ns, locker->spin_most, timeout_ms);
	result = kind == SHMB_SHARED ? enter(&attempt) : take(&attempt, flags);
	end(&attempt);
	if (!is_closed(&attempt))
		return result;
	if (result == 0 ||
	    (result == SHMB_EOWNERDEAD && kind == SHMB_EXCLUSIVE && !(flags & LOCKER_SOUND)))
		drop(locker, result == SHMB_EOWNERDEAD);
	return end_of_lock(locker);
}

/* ---- What a holder may do ---- */

/*
 * First the page, then the word: a locker that finds the word lost finds the page saying so, too.
 * Dying in between leaves "owner died" in the word, and in the page if `held` was still set;
 * otherwise the next exclusive holder puts the page right, see take().
 */
static bool release_died(struct locker *locker)
{
	locker->died = false;
	/* Who may not write cannot have been expected to put anything right. */
	if (!locker->may_mark)
		return locker_release(locker, &locker->words, LAYOUT_LOCK_DIED);
	if (locker->page)
		atomic_store(&locker->page->consistency, LAYOUT_NOT_RECOVERABLE);
	STEP();
	return locker_release(locker, &locker->words, LAYOUT_LOCK_LOST);
}

/*
 * The lock has vanished. Who held it exclusively has nothing to release but what the publish page
 * says: nobody could take snapshots any more.
 */
static void end_lost(struct locker *locker)
{
	if (!locker_lost(locker) || atomic_load(&locker->owner) != locker_self())
		return;
	atomic_store(&locker->owner, 0);
	if (locker->page)
		layout_snapshot_written(locker->page);
}

/*
 * As the broker would, and will once more, but without waiting for it, and where there is none any
 * more, too: the same repair. Who holds a region exclusively and may not write it cannot tell those
 * who take snapshots; that is left to the broker.
 */
void locker_abandon(struct locker *locker)
{
	bool held;

	if (!locker_ready(locker)) {
		end_lost(locker);
		return;
	}
	held = layout_lock_died_holding(&locker->words);
	if ((!held && layout_lock_shared(locker->words.own) == 0) || (held && !locker->may_mark))
		return;
	if (held && locker->page)
		atomic_store(&locker->page->consistency, LAYOUT_OWNER_DIED);
	STEP();
	layout_lock_repair(&locker->words);
	wake_all(locker);
	wait_wake_all(&locker->words.lock->next);
	wake_claimant(locker);
	wake_claimant_of_solo(locker);
}

int locker_unlock_slowly(struct locker *locker, enum locker_rest rest)
{
	if (locker_lost(locker)) {
		end_lost(locker);
		return SHMB_EBUS;
	}
	if (rest == 0)
		return 0;
	if (rest == LOCKER_REST_NOT_HELD)
		return SHMB_EINVAL;
	if (rest == LOCKER_REST_WAKE_CLAIMANT)
		wake_claimant(locker);
	else if (rest == LOCKER_REST_WAKE_SOLO)
		wake_claimant_of_solo(locker);
	else if (rest == LOCKER_REST_WAKE_ALL || release_died(locker))
		wake_all(locker);
	return 0;
}

/* Dying in the middle leaves `held`, and so "owner died". */
int locker_downgrade(struct locker *locker)
{
	if (!locker_holds(&locker->words))
		return SHMB_EINVAL;
	if (locker->died)
		return SHMB_EOWNERDEAD;
	atomic_store_explicit(&locker->owner, 0, memory_order_relaxed);
	if (locker->page)
		layout_snapshot_written(locker->page);
	if (layout_lock_downgrade(&locker->words))
		wake_all(locker);
	return 0;
}

/* Dying anywhere in it leaves `held`, and the broker says "owner died" again in both places. */
int locker_mark_consistent(struct locker *locker)
{
	if (!locker_holds(&locker->words))
		return SHMB_EINVAL;
	if (!locker->died)
		return 0;
	if (locker->page)
		atomic_store(&locker->page->consistency, LAYOUT_CONSISTENT);
	STEP();
	layout_lock_forgive(&locker->words);
	locker->died = false;
	return 0;
}

/*
 * First the page, and only if it says "lost": after the word somebody may have put the data right
 * already. Dying in between leaves snapshots with "owner died" and lockers with "lost"; resetting
 * it again makes them agree.
 */
int locker_reset(struct locker *locker)
{
	unsigned lost = LAYOUT_NOT_RECOVERABLE;

	if (layout_lock_look(locker->words.lock) != LAYOUT_LOCK_UNUSABLE)
		return SHMB_EINVAL;
	if (locker->page)
		atomic_compare_exchange_strong(&locker->page->consistency, &lost,
					       LAYOUT_OWNER_DIED);
	STEP();
	return layout_lock_reset(locker->words.lock) ? 0 : SHMB_EINVAL;
}
