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

int answer_fail_system(struct failure *failure, int error, const char *what)
{
	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		if (causes[i].error == abs(error)) {
			if (causes[i].condition != LOG_CONDITION_COUNT)
				log_begin(causes[i].condition, what);
			return answer_fail(failure, causes[i].code, what);
		}
	}
	log_error("%s: %s", what, strerror(abs(error)));
	return answer_fail(failure, SHMB_EIO, what);
}
