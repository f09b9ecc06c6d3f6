/* SPDX-License-Identifier: MIT */
/*
 * What a failing system call of the broker means for the client that asked.
 */
#include "answer.h"

#include "log.h"

#include <shmbroker/errors.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TOLD_MAX = 64 };

static const struct {
	int error, code;
	enum log_condition condition; /* LOG_CONDITION_COUNT: not worth a line */
} causes[] = {
	{ EMFILE, SHMB_EMFILE, LOG_OUT_OF_FDS },
	{ ENFILE, SHMB_ENFILE, LOG_OUT_OF_FDS },
	{ ENOMEM, SHMB_ENOMEM, LOG_OUT_OF_MEMORY },
	{ ENOBUFS, SHMB_ENOMEM, LOG_OUT_OF_MEMORY },
	{ ENOSPC, SHMB_ENOSPC, LOG_OUT_OF_SPACE },
	{ EDQUOT, SHMB_ENOSPC, LOG_OUT_OF_SPACE },
	{ EFBIG, SHMB_EFBIG, LOG_OUT_OF_SPACE }, /* RLIMIT_FSIZE, or the file system's limit */
	{ EOPNOTSUPP, SHMB_ENOTSUP, LOG_CONDITION_COUNT },
	{ ETOOMANYREFS, SHMB_ETOOMANYREFS, LOG_TOO_MANY_IN_FLIGHT },
};

/* A client can ask again and again for what cannot be. @what is a literal, so that these are few.
 */
static bool is_news(int error, const char *what)
{
	static struct {
		int error;
		const char *what;
	} told[TOLD_MAX];

	for (size_t i = 0; i < TOLD_MAX; i++) {
		if (!told[i].what) {
			told[i].error = error;
			told[i].what = what;
			return true;
		}
		if (told[i].error == error && strcmp(told[i].what, what) == 0)
			return false;
	}
	return false;
}

int answer_fail_system(struct failure *failure, int error, const char *what)
{
	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		if (causes[i].error == abs(error)) {
			if (causes[i].condition != LOG_CONDITION_COUNT)
				log_begin(causes[i].condition, what);
			return answer_fail(failure, causes[i].code, what);
		}
	}
	if (is_news(abs(error), what))
		log_error("%s: %s (told once)", what, strerror(abs(error)));
	return answer_fail(failure, SHMB_EIO, what);
}
