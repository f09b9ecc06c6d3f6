/* SPDX-License-Identifier: MIT */
/*
 * The grammar of region names:
 *
 *   name      = [ "~" uid "/" ] component *( "/" component )      1 to 200 bytes
 *   component = 1*( A-Z a-z 0-9 . _ - ), but not "." and not ".."
 *   uid       = a user's number, decimal, without leading zeros
 *
 * A user's number has one spelling, so that nobody can own what looks like another's.
 */

#include <string.h>

#include "wire/wire.h"

enum { NAME_MAX_BYTES = 200 };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_component_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '.' ||
	       c == '_' || c == '-';
}

/* @whole: the component ends here, nothing may follow that would change it. */
static bool check_component(const char *component, size_t length, bool whole)
{
	for (size_t i = 0; i < length; i++) {
		if (!is_component_byte(component[i]))
			return false;
	}
	if (!whole)
		return true;
	return !(length == 0 || (length == 1 && component[0] == '.') ||
		 (length == 2 && component[0] == '.' && component[1] == '.'));
}

/* The bytes after "~". No user is 2^32 - 1: the system uses it for "none". */
static bool check_uid(const char *digits, size_t length, bool whole)
{
	uint64_t uid = 0;

	if (length > 10 || (length > 1 && digits[0] == '0') || (whole && length == 0))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!is_digit(digits[i]))
			return false;
		uid = uid * 10 + (uint64_t)(digits[i] - '0');
	}
	return uid < UINT32_MAX;
}

bool wire_name_check(const char *name, size_t length, bool prefix)
{
	const char *end;
	bool first = true;

	if (length > NAME_MAX_BYTES)
		return false;
	if (length == 0) /* @name may be NULL: a field that is absent */
		return prefix;
	end = name + length;

	for (;;) {
		const char *slash = memchr(name, '/', (size_t)(end - name));
		size_t n = (size_t)((slash ? slash : end) - name);
		bool whole = slash || !prefix;

		if (first && n > 0 && name[0] == '~') {
			/* The last component is not a uid: "~1000" alone names nothing. */
			if (!check_uid(name + 1, n - 1, whole) || (!slash && !prefix))
				return false;
		} else if (!check_component(name, n, whole)) {
			return false;
		}
		if (!slash)
			return true;
		name = slash + 1;
		first = false;
	}
}
