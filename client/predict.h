/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PREDICT_H
#define CLIENT_PREDICT_H

/* What the compiler cannot know: which way a branch most often goes, and what is worth its size. */

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* Keeps its frame out of the caller's. */
#define out_of_line __attribute__((noinline, cold))

#define always_inline inline __attribute__((always_inline))

#endif
