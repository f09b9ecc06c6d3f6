/* SPDX-License-Identifier: MIT */
/*
 * Logging. May use stdio. Must not know what is logged; must not allocate, because it reports
 * running out.
 */
#include "log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool to_journal;
static enum log_level threshold = LOG_LEVEL_NOTICE;
static uint64_t bites[LOG_CONDITION_COUNT];

static const char *const condition_names[LOG_CONDITION_COUNT] = {
	[LOG_OUT_OF_FDS] = "out of descriptors",
	[LOG_OUT_OF_MEMORY] = "out of memory",
	[LOG_OUT_OF_SPACE] = "out of space for regions",
	[LOG_TOO_MANY_IN_FLIGHT] = "too many descriptors in flight",
	[LOG_ACCEPT_FAILS] = "cannot accept connections",
	[LOG_DISCARD_FAILS] = "cannot hand a connection to a throwaway process",
	[LOG_MANIFEST] = "cannot write the manifest",
	[LOG_GIVING_BACK] = "cannot give memory back",
};

/* systemd names the device and inode of the stream it connected to the journal. */
void log_open(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uint64_t device, inode;
	struct stat st;

	to_journal = stream && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
		     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_set_level(enum log_level level)
{
	threshold = level;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[1024];
	va_list arguments;

	if (level > threshold)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (to_journal)
		fprintf(stderr, "<%d>%s\n", (int)level, line);
	else
		fprintf(stderr, "shmbrokerd: %s\n", line);
}

void log_begin(enum log_condition condition, const char *detail)
{
	if (bites[condition]++ == 0)
		log_warning("%s: %s (further ones are counted, not logged)",
			    condition_names[condition], detail);
}

void log_end(enum log_condition condition)
{
	if (!bites[condition])
		return;
	log_notice("no longer %s, after %" PRIu64 " times", condition_names[condition],
		   bites[condition]);
	bites[condition] = 0;
}
