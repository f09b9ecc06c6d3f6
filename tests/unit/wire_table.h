/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_WIRE_TABLE_H
#define TESTS_UNIT_WIRE_TABLE_H

/* Messages made from the table alone, for tests that hold for every message there is or will be. */

#include <stdbool.h>

#include "wire/wire.h"

/* Memory that a body needs beside its struct. */
struct table_memory {
	void *elements;
};

/*
 * table_make() - a body with every field at its lowest (or, with @highest, its highest) value
 * @optional: with the optional fields
 *
 * Return: the struct, to be given back with table_free(); aborts when out of memory.
 */
void *table_make(const struct wire_message_type *type, bool highest, bool optional,
		 struct table_memory *memory);
void table_free(void *body, struct table_memory *memory);

/* table_equal() - same fields present, same values */
bool table_equal(const struct wire_message_type *type, const void *a, const void *b);

#endif
