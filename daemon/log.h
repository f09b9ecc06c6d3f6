/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

/* The daemon's one place that logs: lines on stderr, with <N> priorities when that is the journal.
 */

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* Conditions that may last: logged when they begin and when they end, not each time they bite. */
enum log_condition {
	LOG_OUT_OF_FDS,
	LOG_OUT_OF_MEMORY,
	LOG_OUT_OF_SPACE,
	LOG_TOO_MANY_IN_FLIGHT,
	LOG_ACCEPT_FAILS,
	LOG_DISCARD_FAILS,
	LOG_MANIFEST,
	LOG_GIVING_BACK,
	LOG_CONDITION_COUNT
};

/* log_open() - find out whether stderr is the journal */
void log_open(void);
void log_set_level(enum log_level level);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* log_begin() - the condition holds: says so once. log_end() - it is over: says how often it bit.
 */
void log_begin(enum log_condition condition, const char *detail);
void log_end(enum log_condition condition);

#endif
