/* SPDX-License-Identifier: MIT */
/*
 * Numbers, sizes and modes, between text and value. Pure: no I/O, no locale, knows nothing of
 * brokers.
 */

#include "size.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* Reads digits up to the first other character. Written out because strtoull() takes signs, spaces
 * and octal, and because a size with a leading 0 is decimal to everyone. */
static bool parse_digits(const char *text, unsigned base, const char **ret_end, uint64_t *ret_value)
{
	uint64_t value = 0;
	const char *p = text;

	for (; (unsigned)digit_value(*p) < base; p++) {
		if (__builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, (unsigned)digit_value(*p), &value))
			return false;
	}
	if (p == text)
		return false;
	*ret_end = p;
	*ret_value = value;
	return true;
}

static bool parse_number(const char *text, const char **ret_end, uint64_t *ret_value)
{
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return parse_digits(text + 2, 16, ret_end, ret_value);
	return parse_digits(text, 10, ret_end, ret_value);
}

bool number_parse(const char *text, uint64_t *ret_number)
{
	const char *end;
	uint64_t value;

	if (!parse_number(text, &end, &value) || *end != '\0')
		return false;
	*ret_number = value;
	return true;
}

static const char size_suffixes[] = "KMGTP";

bool size_parse(const char *text, uint64_t *ret_bytes)
{
	const char *end, *suffix = NULL;
	uint64_t value;

	if (!parse_number(text, &end, &value))
		return false;
	if (*end != '\0')
		suffix = strchr(size_suffixes, *end >= 'a' ? *end - 'a' + 'A' : *end);
	if (suffix != NULL) {
		uint64_t factor = UINT64_C(1024) << (10 * (suffix - size_suffixes));

		if (__builtin_mul_overflow(value, factor, &value))
			return false;
		end++;
		if (strcmp(end, "i") == 0 || strcmp(end, "iB") == 0)
			end += strlen(end);
	}
	if (*end != '\0')
		return false;
	*ret_bytes = value;
	return true;
}

bool seconds_parse(const char *text, uint64_t *ret_milliseconds)
{
	const char *end;
	uint64_t value, fraction = 0, weight = 100;

	if (!parse_digits(text, 10, &end, &value) || value > INT_MAX / 1000)
		return false;
	if (*end == '.') {
		for (end++; digit_value(*end) < 10; end++, weight /= 10)
			fraction += weight * (unsigned)digit_value(*end);
	}
	value = value * 1000 + fraction;
	if (*end != '\0' || value > INT_MAX)
		return false;
	*ret_milliseconds = value;
	return true;
}

/* ---- Modes ---- */

bool mode_is_change(const char *text)
{
	return strpbrk(text, "=+-") != NULL;
}

/* The digits of "ugoa", as a factor that puts one octal digit in each of their places. */
static bool parse_who(const char **text, uint32_t *ret_places)
{
	uint32_t places = 0;

	for (;; (*text)++) {
		if (**text == 'u')
			places |= 0100;
		else if (**text == 'g')
			places |= 010;
		else if (**text == 'o')
			places |= 01;
		else if (**text == 'a')
			places |= 0111;
		else
			break;
	}
	*ret_places = places == 0 ? 0111 : places;
	return strchr("=+-", **text) != NULL && **text != '\0';
}

static uint32_t parse_what(const char **text)
{
	uint32_t digit = 0;

	for (;; (*text)++) {
		if (**text == 'r')
			digit |= 4;
		else if (**text == 'w')
			digit |= 2;
		else if (**text == 'l')
			digit |= 1;
		else
			return digit;
	}
}

static bool parse_changes(const char *text, uint32_t mode, uint32_t *ret_mode)
{
	for (;;) {
		uint32_t places, bits;
		char operation;

		if (!parse_who(&text, &places))
			return false;
		operation = *text++;
		bits = places * parse_what(&text);
		if (operation == '=')
			mode &= ~(places * 7);
		mode = operation == '-' ? mode & ~bits : mode | bits;
		if (*text == '\0')
			break;
		if (*text++ != ',')
			return false;
	}
	*ret_mode = mode;
	return true;
}

bool mode_parse(const char *text, uint32_t mode, uint32_t *ret_mode)
{
	const char *end;
	uint64_t value;

	if (mode_is_change(text))
		return parse_changes(text, mode, ret_mode);
	if (!parse_digits(text, 8, &end, &value) || *end != '\0' || value > 0777)
		return false;
	*ret_mode = (uint32_t)value;
	return true;
}

/* ---- For people ---- */

const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT])
{
	int unit = -1;
	double value = (double)bytes;

	if (bytes < 1024) {
		snprintf(buffer, SIZE_TEXT, "%" PRIu64, bytes);
		return buffer;
	}
	/* not 1024: 1023.95K would be printed as 1024.0K */
	do {
		value /= 1024;
		unit++;
	} while (value >= 1023.95 && unit + 1 < (int)strlen(size_suffixes));
	snprintf(buffer, SIZE_TEXT, "%.1f%c", value, size_suffixes[unit]);
	return buffer;
}

const char *mode_format(uint32_t mode, char buffer[MODE_TEXT])
{
	static const char letters[] = "rwl";
	int length = snprintf(buffer, MODE_TEXT, "%04o ", (unsigned)(mode & 0777));

	for (int bit = 8; bit >= 0; bit--)
		buffer[length++] = (char)((mode >> bit & 1) != 0 ? letters[(8 - bit) % 3] : '-');
	buffer[length] = '\0';
	return buffer;
}
