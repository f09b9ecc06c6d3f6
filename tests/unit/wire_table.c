/* SPDX-License-Identifier: MIT */
/* Makes and compares message bodies by walking the table; knows no message by name. */

#include <stdlib.h>
#include <string.h>

#include "wire_table.h"

static void *allocate(size_t n, size_t size)
{
	void *memory = calloc(n ? n : 1, size);
	if (!memory)
		abort();
	return memory;
}

static void put_list(const struct wire_field *field, char *body, bool highest,
		     struct table_memory *memory)
{
	const struct wire_message_type *type = field->element;
	size_t n = (size_t)(highest ? field->max : field->min);
	char *elements = allocate(n, type->size);

	for (size_t i = 0; i < n; i++) {
		struct table_memory unused = { 0 };
		void *element = table_make(type, highest, true, &unused);
		memcpy(elements + i * type->size, element, type->size);
		/* Strings of the elements are the constant filler, so only the struct is freed. */
		free(element);
	}
	memory->elements = elements;
	memcpy(body + field->offset, &elements, sizeof(elements));
	memcpy(body + field->count_offset, &n, sizeof(n));
}

#define FILLER_64  "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._"
#define FILLER_256 FILLER_64 FILLER_64 FILLER_64 FILLER_64

static void put_field(const struct wire_field *field, char *body, bool highest,
		      struct table_memory *memory)
{
	static const char filler[] = FILLER_256 FILLER_256 FILLER_256 FILLER_256;
	uint64_t value = highest ? field->max : field->min;

	switch (field->type) {
	case WIRE_TYPE_UINT:
		memcpy(body + field->offset, &value, sizeof(value));
		break;
	case WIRE_TYPE_BOOL:
		*(bool *)(void *)(body + field->offset) = highest;
		break;
	case WIRE_TYPE_STR:
	case WIRE_TYPE_BIN:
		if (value >= sizeof(filler))
			abort(); /* make the filler longer */
		*(struct wire_bytes *)(void *)(body + field->offset) =
			(struct wire_bytes){ .data = filler, .length = (size_t)value };
		break;
	case WIRE_TYPE_LIST:
		put_list(field, body, highest, memory);
		break;
	}
}

void *table_make(const struct wire_message_type *type, bool highest, bool optional,
		 struct table_memory *memory)
{
	char *body = allocate(1, type->size);
	uint64_t has = 0;

	memset(memory, 0, sizeof(*memory));
	for (size_t i = 0; i < type->n_fields; i++) {
		if (!type->fields[i].required) {
			if (!optional)
				continue;
			has |= UINT64_C(1) << i;
		}
		put_field(&type->fields[i], body, highest, memory);
	}
	memcpy(body, &has, sizeof(has));
	return body;
}

void table_free(void *body, struct table_memory *memory)
{
	free(memory->elements);
	free(body);
}

static bool equal_bytes(const void *a, const void *b)
{
	const struct wire_bytes *x = a, *y = b;
	return x->length == y->length &&
	       (x->length == 0 || memcmp(x->data, y->data, x->length) == 0);
}

static bool equal_list(const struct wire_field *field, const char *a, const char *b)
{
	const char *x, *y;
	size_t n, m;

	memcpy(&x, a + field->offset, sizeof(x));
	memcpy(&y, b + field->offset, sizeof(y));
	memcpy(&n, a + field->count_offset, sizeof(n));
	memcpy(&m, b + field->count_offset, sizeof(m));
	if (n != m)
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t at = i * field->element->size;
		if (!table_equal(field->element, x + at, y + at))
			return false;
	}
	return true;
}

static bool equal_field(const struct wire_field *field, const char *a, const char *b)
{
	switch (field->type) {
	case WIRE_TYPE_UINT:
		return memcmp(a + field->offset, b + field->offset, sizeof(uint64_t)) == 0;
	case WIRE_TYPE_BOOL:
		return *(const bool *)(a + field->offset) == *(const bool *)(b + field->offset);
	case WIRE_TYPE_STR:
	case WIRE_TYPE_BIN:
		return equal_bytes(a + field->offset, b + field->offset);
	case WIRE_TYPE_LIST:
		return equal_list(field, a, b);
	}
	return false;
}

bool table_equal(const struct wire_message_type *type, const void *a, const void *b)
{
	uint64_t has_a, has_b;

	memcpy(&has_a, a, sizeof(has_a));
	memcpy(&has_b, b, sizeof(has_b));
	if (has_a != has_b)
		return false;
	for (size_t i = 0; i < type->n_fields; i++) {
		if (!equal_field(&type->fields[i], a, b))
			return false;
	}
	return true;
}
