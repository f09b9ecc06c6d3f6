/* SPDX-License-Identifier: MIT */
/*
 * Who a process is, from one daemon to the next: its number alone does not tell, because numbers
 * are given out again.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "identity.h"

/* A child that waits to be killed, as the broker knows its peer. */
static struct identity known(pid_t *ret_pid)
{
	struct identity identity;
	int pair[2];
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	/* The pair has the credentials of who made it. */
	assert_int_equal(identity_read(pair[0], &identity), 0);
	assert_int_equal(identity.pid, getpid());
	identity_deinit(&identity);
	*ret_pid = fork();
	assert_true(*ret_pid >= 0);
	if (*ret_pid == 0) {
		int own[2];

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* however the test ends */
		if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, own) < 0 ||
		    identity_read(own[0], &identity) < 0 ||
		    send(pair[1], &identity, sizeof(identity), 0) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	close(pair[1]);
	assert_int_equal(recv(pair[0], &identity, sizeof(identity), 0), sizeof(identity));
	assert_int_equal(recv(pair[0], &byte, 1, MSG_DONTWAIT), -1);
	close(pair[0]);
	identity.pidfd = -1; /* those were the child's */
	identity.groups = NULL;
	identity.n_groups = 0;
	assert_int_equal(identity.pid, *ret_pid);
	return identity;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int find(const struct identity *identity)
{
	struct identity copy = *identity;
	int result = identity_find(&copy);

	if (result == 1)
		assert_true(copy.pidfd >= 0);
	identity_deinit(&copy);
	return result;
}

static void who_lives_is_found(void **state)
{
	struct identity identity;
	pid_t pid;

	(void)state;
	identity = known(&pid);
	assert_true(identity.start > 0);
	assert_int_equal(find(&identity), 1);
	kill(pid, SIGSTOP);
	assert_int_equal(find(&identity), 1);
	end(pid);
}

static void who_died_is_not(void **state)
{
	struct identity identity;
	siginfo_t info;
	pid_t pid;

	(void)state;
	identity = known(&pid);
	kill(pid, SIGKILL);
	/* It is there still, and dead; then its number is free. */
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(find(&identity), 0);
	waitpid(pid, NULL, 0);
	assert_int_equal(find(&identity), 0);
}

/* As if the number had been given out again. */
static void another_of_the_same_number_is_not(void **state)
{
	struct identity identity, other;
	pid_t pid;

	(void)state;
	identity = known(&pid);
	other = identity;
	other.process = 0; /* where the system does not tell */
	assert_int_equal(find(&other), 1);
	other.start--;
	assert_int_equal(find(&other), 0);
	assert_false(identity_is_same(&identity, &other));
	other = identity;
	if (other.process) { /* of the same clock tick, where the system tells */
		other.process++;
		assert_int_equal(find(&other), 0);
		assert_false(identity_is_same(&identity, &other));
	}
	other = identity;
	other.uid++;
	assert_false(identity_is_same(&identity, &other));
	other = identity;
	other.pid++;
	assert_false(identity_is_same(&identity, &other));
	other = identity;
	assert_true(identity_is_same(&identity, &other));
	end(pid);
}

/* Nothing can be known of it: better a lock that stays than one that is broken. */
static void who_cannot_be_seen_lives(void **state)
{
	struct identity identity = { .uid = 1001, .pidfd = -1 };

	(void)state;
	assert_int_equal(identity_find(&identity), 1);
	assert_int_equal(identity.pidfd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_lives_is_found),
		cmocka_unit_test(who_died_is_not),
		cmocka_unit_test(another_of_the_same_number_is_not),
		cmocka_unit_test(who_cannot_be_seen_lives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
