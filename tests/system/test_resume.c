/* SPDX-License-Identifier: MIT */
/*
 * Sessions that lost their connection, as the protocol has them: who may go on with one, and who
 * may not. What becomes of their requests is in test_repeat.c, what of those who stay away in
 * test_away.c, and the library's part in test_restart.c.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

/* How resuming ends for somebody who just tries. */
static int try_token(struct broker *broker, const uint8_t *token)
{
	struct raw *raw = raw_connect(broker);
	int r = raw_resume(raw, token, 0);

	raw_free(raw);
	return r;
}

/* ---- Who may go on ---- */

CASE(a_session_goes_on_with_the_next_daemon, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	CHECK(!raw->resumed);
	broker_crash(broker);
	broker_restart(broker);
	CHECK_INT(broker_stat(broker, "away"), 1);
	CHECK_INT(broker_stat(broker, "recoveries"), 1);
	raw = raw_return(broker, raw, 0);
	CHECK_INT(broker_stat(broker, "away"), 0);
	CHECK_INT(broker_stat(broker, "resumed_total"), 2); /* the probe, too */
	CHECK_OK(raw_stat_handle(raw, handle));
	CHECK_INT(broker_stat(broker, "attachments"), 1);
	CHECK(raw_make(raw, "another", SHMB_ATTACHED) > handle);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(handles_that_were_closed_are_not_given_out_again, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	CHECK_OK(raw_close(raw, handle));
	raw = raw_survive(broker, raw, 0);
	CHECK(raw_make(raw, "r", SHMB_ATTACHED) > handle);
	CHECK_CODE(raw_stat_handle(raw, handle), SHMB_ENOENT);
	raw_free(raw);
}

static uint64_t make_and_close(struct raw *raw)
{
	struct wire_region_attached attached;
	int fds[2];

	CHECK_OK(raw_create(raw, "r", 4096, 0700, SHMB_ATTACHED, &attached, fds));
	close(fds[0]);
	close(fds[1]);
	CHECK_OK(raw_close(raw, attached.handle));
	return attached.id;
}

CASE(a_name_that_is_made_anew_has_a_new_id, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint64_t id = make_and_close(raw);

	CHECK_INT(broker_stat(broker, "regions"), 0);
	raw = raw_survive(broker, raw, 0);
	CHECK(make_and_close(raw) > id);
	raw_free(raw);
}

CASE(sessions_go_on_as_often_as_need_be, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_SESSION);
	unsigned i;

	for (i = 0; i < 20; i++) {
		raw = raw_survive(broker, raw, 0);
		CHECK_OK(raw_stat_handle(raw, handle));
		CHECK_INT(broker_stat(broker, "regions"), 1);
		CHECK_INT(broker_stat(broker, "recoveries"), i + 1);
	}
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(all_come_back_at_once, PRIVATE, .timeout_s = 60)
{
	enum { MANY = 300 };
	struct raw *raws[MANY];
	uint64_t handles[MANY];
	char name[16];
	unsigned i;

	for (i = 0; i < MANY; i++) {
		raws[i] = raw_greet(broker);
		snprintf(name, sizeof(name), "r%u", i);
		handles[i] = raw_make(raws[i], name, SHMB_ATTACHED);
	}
	broker_crash(broker);
	broker_restart(broker);
	CHECK_INT(broker_stat(broker, "away"), MANY);
	for (i = 0; i < MANY; i++) {
		raws[i] = raw_return(broker, raws[i], 0);
		CHECK_OK(raw_stat_handle(raws[i], handles[i]));
	}
	CHECK_INT(broker_stat(broker, "away"), 0);
	for (i = 0; i < MANY; i++)
		raw_free(raws[i]);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(a_session_whose_connection_lives_is_busy, PRIVATE)
{
	struct raw *raw = raw_greet(broker), *other = raw_connect(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	CHECK_CODE(raw_resume(other, raw->token, 0), SHMB_EBUSY);
	CHECK_CODE(raw_resume(other, raw->token, 0), SHMB_EBUSY);
	CHECK_OK(raw_stat_handle(raw, handle));
	/* Whoever hangs up has ended it. */
	raw = raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	raw_free(other);
}

CASE(a_session_that_ended_does_not_go_on, PRIVATE)
{
	struct raw *raw = raw_greet(broker), *other;
	uint8_t token[WIRE_TOKEN_BYTES];

	memcpy(token, raw->token, sizeof(token));
	raw_make(raw, "r", SHMB_ATTACHED);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_CODE(try_token(broker, token), SHMB_ESESSION);
	broker_crash(broker);
	broker_restart(broker);
	CHECK_CODE(try_token(broker, token), SHMB_ESESSION);
	memset(token, 0, sizeof(token));
	CHECK_CODE(try_token(broker, token), SHMB_ESESSION);
	/* A connection without a session has nothing to go on with. */
	other = raw_connect(broker);
	CHECK_CODE(try_token(broker, other->token), SHMB_ESESSION);
	raw_free(other);
}

CASE(who_is_refused_may_begin_anew, PRIVATE)
{
	static const uint8_t unknown[WIRE_TOKEN_BYTES] = { 1, 2, 3 };
	struct raw *raw = raw_connect(broker);

	CHECK_CODE(raw_resume(raw, unknown, 5), SHMB_ESESSION);
	CHECK_CODE(raw_resume(raw, unknown, 0), SHMB_ESESSION);
	CHECK_CODE(raw_call(raw, WIRE_PING, NULL, NULL), SHMB_EDISCONNECTED);
	raw_free(raw);
	raw = raw_connect(broker);
	CHECK_CODE(raw_resume(raw, unknown, 5), SHMB_ESESSION);
	raw_hello(raw);
	CHECK(!raw->resumed);
	CHECK(memcmp(raw->token, unknown, sizeof(unknown)) != 0);
	raw_make(raw, "r", SHMB_ATTACHED);
	/* Once is enough. */
	CHECK_CODE(raw_resume(raw, raw->token, 0), SHMB_EDISCONNECTED);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* ---- Thieves ---- */

struct loot {
	uint8_t token[WIRE_TOKEN_BYTES];
	int expected;
};

static void steal(struct broker *broker, void *argument)
{
	const struct loot *loot = argument;
	struct raw *raw = raw_connect(broker);

	CHECK_CODE(raw_resume(raw, loot->token, 0), loot->expected);
	CHECK_CODE(raw_resume(raw, loot->token, UINT32_MAX), loot->expected);
	raw_hello(raw);
	CHECK(memcmp(raw->token, loot->token, sizeof(loot->token)) != 0);
	CHECK_CODE(raw_stat_handle(raw, 1), SHMB_ENOENT);
	raw_free(raw);
}

static void say_token(const struct raw *raw)
{
	uint64_t words[2];

	memcpy(words, raw->token, sizeof(words));
	say(words[0]);
	say(words[1]);
}

static void hear_token(struct actor *actor, uint8_t ret_token[WIRE_TOKEN_BYTES])
{
	uint64_t words[2];

	words[0] = actor_hear(actor);
	words[1] = actor_hear(actor);
	memcpy(ret_token, words, sizeof(words));
}

static void own_and_come_back(struct broker *broker, void *argument)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	say_token(raw);
	hear();
	raw = raw_return(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	say(1);
	hear();
	raw_free(raw);
}

CASE(nobody_else_takes_over_a_session, SYSTEM, .fd_store = 256)
{
	struct actor alice = actor_start(broker, &ALICE, own_and_come_back, NULL);
	struct figures before;
	struct figures now;
	struct loot loot;

	hear_token(&alice, loot.token);
	/* While she is connected there is nothing to tell even the same user apart by. */
	loot.expected = SHMB_ESESSION;
	actor_run(broker, &BOB, steal, &loot);
	actor_run(broker, &ALICE, steal, &loot);
	CHECK_CODE(try_token(broker, loot.token), SHMB_ESESSION); /* root is nobody special */

	broker_crash(broker);
	broker_restart(broker);
	before = figures_read(broker);
	CHECK_INT(before.away, 1);
	CHECK_INT(before.attachments, 1);
	actor_run(broker, &BOB, steal, &loot);
	actor_run(broker, &CAROL, steal, &loot);
	actor_run(broker, &ALICE, steal, &loot);
	CHECK_CODE(try_token(broker, loot.token), SHMB_ESESSION);
	now = figures_read(broker);
	figures_check(&now, &before);

	actor_say(&alice, 1);
	actor_hear(&alice);
	CHECK_INT(broker_stat(broker, "away"), 0);
	actor_run(broker, &BOB, steal, &loot);
	actor_run(broker, &ALICE, steal, &loot);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* The child has the token, the connection, the memory: all but the identity. */
static void fork_a_thief(struct broker *broker, void *argument)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);
	struct loot loot = { .expected = SHMB_ESESSION };
	pid_t pid;
	int status;

	memcpy(loot.token, raw->token, sizeof(loot.token));
	pid = SYS(fork());
	if (pid == 0) {
		steal(broker, &loot);
		_exit(0);
	}
	SYS(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
	CHECK_CODE(try_token(broker, raw->token), SHMB_EBUSY);
	say(1);
	hear();
	pid = SYS(fork());
	if (pid == 0) {
		steal(broker, &loot);
		_exit(0);
	}
	SYS(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
	raw = raw_return(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_free(raw);
}

CASE(a_forked_child_does_not_take_over_its_parents_session, SYSTEM, .fd_store = 256)
{
	struct actor alice = actor_start(broker, &ALICE, fork_a_thief, NULL);

	actor_hear(&alice);
	broker_crash(broker);
	broker_restart(broker);
	actor_say(&alice, 1);
	actor_end(&alice);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "away"), 0);
}

/* The parent dies while there is no daemon, its child lives on with all that it had. */
static void leave_an_heir(struct broker *broker, void *argument)
{
	struct raw *raw = raw_greet(broker);
	pid_t pid;

	raw_make(raw, "r", SHMB_SESSION);
	pid = SYS(fork());
	if (pid == 0) {
		struct loot loot = { .expected = SHMB_ESESSION };

		memcpy(loot.token, raw->token, sizeof(loot.token));
		say(1);
		hear();
		steal(broker, &loot);
		say(2);
		_exit(0);
	}
	hear(); /* nobody says anything: it is killed here, or the child hears first */
	_exit(1);
}

CASE(who_died_meanwhile_has_no_heir, SYSTEM, .fd_store = 256)
{
	struct actor alice = actor_start(broker, &ALICE, leave_an_heir, NULL);

	actor_hear(&alice);
	broker_crash(broker);
	kill(alice.pid, SIGKILL);
	SYS(waitid(P_PID, (id_t)alice.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT));
	broker_restart(broker);
	CHECK_INT(broker_stat(broker, "away"), 0);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	actor_say(&alice, 1);
	CHECK_INT(actor_hear(&alice), 2);
	actor_kill(&alice);
}

/* ---- Condemned ---- */

CASE(who_was_dropped_comes_back_to_what_it_had, PRIVATE)
{
	struct raw *raw = raw_greet(broker), *back, *other = raw_greet(broker);
	struct wire_lock_attached own, theirs;
	struct layout_locker locker, others;
	struct wire_region_attached again;
	uint64_t handle;
	int fds[2];

	handle = raw_make(raw, "r", SHMB_ATTACHED);
	CHECK_OK(raw_lock_create(raw, "l", 0700, SHMB_ATTACHED, 4, &own, &locker));
	CHECK(layout_lock_claim_fast(&locker));
	layout_lock_hold(&locker);
	raw_be_condemned(broker, raw);
	CHECK_OK(raw_lock_open(other, "l", &theirs, &others));
	CHECK(!layout_lock_claim_fast(&others));

	back = raw_connect(broker);
	CHECK_OK(raw_resume(back, raw->token, 0));
	CHECK(back->resumed);
	CHECK_OK(raw_stat_handle(back, handle));
	raw_free(raw); /* the old connection means nothing any more */
	UNTIL(broker, broker_stat(broker, "condemned") == 0);
	CHECK_INT(broker_stat(broker, "connections"), 3);
	CHECK_OK(raw_stat_handle(back, handle));
	CHECK(!layout_lock_claim_fast(&others));
	CHECK_OK(raw_open(back, "r", SHMB_READ | SHMB_WRITE, &again, fds));
	close(fds[0]);
	close(fds[1]);
	CHECK(again.handle > own.handle);
	layout_lock_release(&locker, 0);
	CHECK(layout_lock_claim_fast(&others));
	layout_lock_release(&others, 0);
	CHECK_CODE(try_token(broker, back->token), SHMB_EBUSY);
	raw_locker_unmap(&locker);
	raw_locker_unmap(&others);
	raw_free(back);
	raw_free(other);
	UNTIL(broker, broker_stat(broker, "regions") + broker_stat(broker, "locks") == 0);
}

CASE(who_was_dropped_and_hung_up_is_forgotten, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint8_t token[WIRE_TOKEN_BYTES];

	memcpy(token, raw->token, sizeof(token));
	raw_make(raw, "r", SHMB_ATTACHED);
	raw_be_condemned(broker, raw);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_CODE(try_token(broker, token), SHMB_ESESSION);
}

CASE(who_was_dropped_by_a_daemon_that_died_comes_back, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);

	raw_be_condemned(broker, raw);
	raw = raw_survive(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	CHECK_INT(broker_stat(broker, "condemned"), 0);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(a_condemned_session_is_nobody_elses, SYSTEM, .fd_store = 256)
{
	struct raw *raw = raw_greet(broker);
	uint64_t handle = raw_make(raw, "r", SHMB_ATTACHED);
	struct loot loot = { .expected = SHMB_ESESSION };

	memcpy(loot.token, raw->token, sizeof(loot.token));
	raw_be_condemned(broker, raw);
	actor_run(broker, &SELF, steal, &loot);
	actor_run(broker, &BOB, steal, &loot);
	raw = raw_return(broker, raw, 0);
	CHECK_OK(raw_stat_handle(raw, handle));
	raw_free(raw);
}
