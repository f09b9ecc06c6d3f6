/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_ANSWER_H
#define DAEMON_ANSWER_H

/*
 * Outcomes of what a client asks. Functions that serve a request return 0 (done), ANSWER_FAILED
 * (the request failed for the reason in the failure, which is told to the client) or a negative
 * errno, which is fatal to that peer alone.
 */

#include <stdint.h>

enum { ANSWER_FAILED = 1 };

/* Why a request failed, with the particulars that the protocol's error carries. */
struct failure {
	int code;         /* SHMB_E... */
	const char *what; /* static; NULL: nothing to add */
	uint64_t limit;   /* the one that was reached; 0: none */
};

/* answer_fail() - fill in a failure. Return: ANSWER_FAILED. */
static inline int answer_fail(struct failure *failure, int code, const char *what)
{
	*failure = (struct failure){ .code = code, .what = what };
	return ANSWER_FAILED;
}

static inline int answer_fail_limit(struct failure *failure, int code, const char *what,
				    uint64_t limit)
{
	*failure = (struct failure){ .code = code, .what = what, .limit = limit };
	return ANSWER_FAILED;
}

/* answer_fail_system() - the same for an errno of the broker's own; logs running out, once */
int answer_fail_system(struct failure *failure, int error, const char *what);

#endif
