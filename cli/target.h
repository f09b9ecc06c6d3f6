/* SPDX-License-Identifier: MIT */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

/* The region that cp and import copy to, and make if there is none. */

#include "cli.h"

/* Options of both. */
struct target_values {
	const char *mode;
	bool exclusive, publish, no_progress;
};

/* Entries of a command's table, whose struct of values has a member @target. */
#define TARGET_OPTIONS(type)                                                          \
	{ 'm',      "mode",                                                           \
	  CLI_TEXT, offsetof(type, target.mode),                                      \
	  "MODE",   "if the region is made: who may open it; default 0700" },         \
		{ 'p',      "publish",                                                \
		  CLI_FLAG, offsetof(type, target.publish),                           \
		  NULL,     "publish the range that was written" },                   \
		{ 'x',      "exclusive",                                              \
		  CLI_FLAG, offsetof(type, target.exclusive),                         \
		  NULL,     "an error if the region is there already" },              \
	{                                                                             \
		0, "no-progress", CLI_FLAG, offsetof(type, target.no_progress), NULL, \
			"show no progress on the terminal"                            \
	}

struct target {
	struct cli *cli;
	const char *name;
	struct shmb_region *region;
	bool created;
	uint64_t sequence; /* of the publish; 0: there was none */
};

/*
 * target_open() - open the region of @target->name, or make it
 * @size:     bytes; 0: it is not known, so that it has to be there
 * @capacity: bytes; 0: the size
 *
 * Return: CLI_OK, or an exit status, told.
 */
int target_open(struct target *target, const struct target_values *values, uint64_t size,
		uint64_t capacity);

/* target_publish() - if @values say so, and there is something. Return: as target_open(). */
int target_publish(struct target *target, const struct target_values *values, uint64_t offset,
		   uint64_t length);

/* target_close() - let go of it, and remove it if it was made for what has failed. Return:
 * @status. */
int target_close(struct target *target, int status);

#endif
