/* SPDX-License-Identifier: MIT */
#ifndef CLI_SIZE_H
#define CLI_SIZE_H

/* Numbers, sizes and modes, between text and value. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* size_parse() - "4096", "0x1000", "4K", "1GiB". Return: whether it is one that fits. */
bool size_parse(const char *text, uint64_t *ret_bytes);

/* number_parse() - decimal, or hexadecimal after 0x. Return: whether it is one that fits. */
bool number_parse(const char *text, uint64_t *ret_number);

/* seconds_parse() - "5", "0.25". Return: whether it is one; at most INT_MAX milliseconds. */
bool seconds_parse(const char *text, uint64_t *ret_milliseconds);

/* mode_parse() - octal, or changes such as "u=rwl,g+r" of @mode. Return: whether it is one. */
bool mode_parse(const char *text, uint32_t mode, uint32_t *ret_mode);

/* mode_is_change() - does the text need the mode of before? */
bool mode_is_change(const char *text);

enum { SIZE_TEXT = 32, MODE_TEXT = 16 };

/* size_format() - "512", "4.0K", "1.5G". Return: @buffer. */
const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT]);

/* mode_format() - "0740 rwlr-----". Return: @buffer. */
const char *mode_format(uint32_t mode, char buffer[MODE_TEXT]);

#endif
