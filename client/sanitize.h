/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SANITIZE_H
#define CLIENT_SANITIZE_H

/* CLIENT_TSAN is defined where ThreadSanitizer watches. */

#ifdef __SANITIZE_THREAD__ /* gcc */
#define CLIENT_TSAN
#elif defined(__has_feature) /* clang */
#if __has_feature(thread_sanitizer)
#define CLIENT_TSAN
#endif
#endif

#endif
