/* SPDX-License-Identifier: MIT */
/*
 * Writes JSON as it comes. Uses a stdio stream and nothing else; knows nothing of what it writes.
 */

#include "json.h"

#include <inttypes.h>

/* The length of the well-formed UTF-8 sequence at @s, or 0. */
static int utf8_length(const unsigned char *s)
{
	int length;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		length = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		length = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		length = 4;
	else
		return 0;
	for (int i = 1; i < length; i++) /* stops at the NUL, too */
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, and beyond U+10FFFF */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return length;
}

static void write_quoted(FILE *stream, const char *value)
{
	const unsigned char *s = (const unsigned char *)value;

	fputc('"', stream);
	while (*s != '\0') {
		int length = utf8_length(s);

		if (length == 0) { /* not UTF-8: a replacement character keeps the JSON valid */
			fputs("\\ufffd", stream);
			length = 1;
		} else if (*s == '"' || *s == '\\') {
			fprintf(stream, "\\%c", *s);
		} else if (*s == '\n') {
			fputs("\\n", stream);
		} else if (*s < 0x20 || *s == 0x7f) {
			fprintf(stream, "\\u%04x", *s);
		} else {
			fwrite(s, 1, (size_t)length, stream);
		}
		s += length;
	}
	fputc('"', stream);
}

struct json json_begin(FILE *stream)
{
	fputc('{', stream);
	return (struct json){ .stream = stream };
}

void json_end(struct json *json)
{
	fputs("}\n", json->stream);
}

void json_key(struct json *json, const char *key)
{
	if (json->comma)
		fputc(',', json->stream);
	json->comma = true;
	if (key != NULL) {
		write_quoted(json->stream, key);
		fputc(':', json->stream);
	}
}

void json_string(struct json *json, const char *key, const char *value)
{
	json_key(json, key);
	write_quoted(json->stream, value);
}

void json_uint(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	fprintf(json->stream, "%" PRIu64, value);
}

void json_int(struct json *json, const char *key, int64_t value)
{
	json_key(json, key);
	fprintf(json->stream, "%" PRId64, value);
}

void json_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	fputs(value ? "true" : "false", json->stream);
}

void json_double(struct json *json, const char *key, double value)
{
	json_key(json, key);
	fprintf(json->stream, "%.3f", value);
}

void json_array(struct json *json, const char *key)
{
	json_key(json, key);
	fputc('[', json->stream);
	json->comma = false;
}

void json_array_end(struct json *json)
{
	fputc(']', json->stream);
	json->comma = true;
}
