/* SPDX-License-Identifier: MIT */
#ifndef CLI_INFO_H
#define CLI_INFO_H

/* How a description is spelt, for people and in JSON. */

#include <stdbool.h>
#include <stdint.h>

#include <shmbroker/shmbroker.h>

#include "json.h"

enum { OWNER_TEXT = 40, TIME_TEXT = 32 };

/* info_json() - the fields of a region, into an object that is open */
void info_json(struct json *json, const struct shmb_region_info *info);

/* info_mode_json() - "mode", a string of four octal digits */
void info_mode_json(struct json *json, uint32_t mode);

/* info_print_name() - a name, as a line or as an object, on standard output */
void info_print_name(bool as_json, const char *name);

/* Names of the small vocabularies; "unknown" for a value from a newer broker. */
const char *info_backing(enum shmb_backing backing);
const char *info_lifetime(enum shmb_lifetime lifetime);
const char *info_answer(int answer);

/* User and group by name, or by number if they have none. Return: @buffer. */
const char *info_user(uint32_t uid, char buffer[OWNER_TEXT]);
const char *info_group(uint32_t gid, char buffer[OWNER_TEXT]);

/* "2026-11-20 21:02:16", local time. Return: @buffer. */
const char *info_time(uint64_t seconds, char buffer[TIME_TEXT]);

#endif
