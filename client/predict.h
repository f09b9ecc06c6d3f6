/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PREDICT_H
#define CLIENT_PREDICT_H

/* Which way a branch most often goes. */

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

#endif
