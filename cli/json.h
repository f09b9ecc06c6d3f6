/* SPDX-License-Identifier: MIT */
#ifndef CLI_JSON_H
#define CLI_JSON_H

/* Writes JSON (RFC 8259) as it comes: one object on one line. Write errors stay in the stream. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *stream;
	bool comma; /* the next value needs one before it */
};

/* json_begin(), json_end() - an object; the end also ends the line */
struct json json_begin(FILE *stream);
void json_end(struct json *json);

/* json_key() - the key of the next value */
void json_key(struct json *json, const char *key);

void json_string(struct json *json, const char *key, const char *value);
void json_uint(struct json *json, const char *key, uint64_t value);
void json_int(struct json *json, const char *key, int64_t value);
void json_bool(struct json *json, const char *key, bool value);
void json_double(struct json *json, const char *key, double value); /* three decimals */

/* json_array() ... json_array_end() - an array of strings, added with key NULL */
void json_array(struct json *json, const char *key);
void json_array_end(struct json *json);

#endif
