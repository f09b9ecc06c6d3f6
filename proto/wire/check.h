/* SPDX-License-Identifier: MIT */
#ifndef WIRE_CHECK_H
#define WIRE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * wire_check() - is this exactly one MessagePack object
 *
 * Follows the structure without allocating: every announced length and count fits into the input,
 * containers nest at most WIRE_DEPTH_MAX deep, and nothing stands behind the object.
 */
bool wire_check(const uint8_t *data, size_t length);

#endif
