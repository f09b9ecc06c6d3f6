/* SPDX-License-Identifier: MIT */
/*
 * A table for people. All cells lie in one growing string, so that a list of 100,000 regions costs
 * its characters and no more.
 */

#include "table.h"

#include <stdlib.h>
#include <string.h>

#include <shmbroker/errors.h>

void table_init(struct table *table, const struct table_column *columns, size_t n_columns)
{
	*table = (struct table){ .columns = columns, .n_columns = n_columns };
}

void table_add(struct table *table, const char *cell)
{
	size_t length;

	if (*cell == '\0')
		cell = "-";
	length = strlen(cell) + 1;
	if (table->capacity - table->length < length) {
		size_t capacity = table->capacity * 2 + length + 4096;
		char *text = realloc(table->text, capacity);

		if (text == NULL) {
			table->no_memory = true;
			return;
		}
		table->text = text;
		table->capacity = capacity;
	}
	memcpy(table->text + table->length, cell, length);
	table->length += length;
	table->n_cells++;
}

static void print_cell(const struct table *table, FILE *stream, size_t column, int width,
		       const char *text)
{
	bool last = column + 1 == table->n_columns;

	if (table->columns[column].right)
		fprintf(stream, "%*s", width, text);
	else if (last) /* no trailing blanks */
		fputs(text, stream);
	else
		fprintf(stream, "%-*s", width, text);
	fputs(last ? "\n" : "  ", stream);
}

static void measure(const struct table *table, int *widths)
{
	const char *cell = table->text;

	for (size_t i = 0; i < table->n_columns; i++)
		widths[i] = (int)strlen(table->columns[i].title);
	for (size_t i = 0; i < table->n_cells; i++, cell += strlen(cell) + 1) {
		int length = (int)strlen(cell);

		if (widths[i % table->n_columns] < length)
			widths[i % table->n_columns] = length;
	}
}

int table_print(struct table *table, FILE *stream)
{
	const char *cell = table->text;
	int *widths;

	if (table->no_memory)
		return SHMB_ENOMEM;
	if (table->n_cells == 0)
		return 0;
	widths = calloc(table->n_columns, sizeof(*widths));
	if (widths == NULL)
		return SHMB_ENOMEM;
	measure(table, widths);
	for (size_t i = 0; i < table->n_columns; i++)
		print_cell(table, stream, i, widths[i], table->columns[i].title);
	for (size_t i = 0; i < table->n_cells; i++, cell += strlen(cell) + 1) {
		size_t column = i % table->n_columns;

		print_cell(table, stream, column, widths[column], cell);
	}
	free(widths);
	return 0;
}

void table_deinit(struct table *table)
{
	free(table->text);
	*table = (struct table){ 0 };
}
