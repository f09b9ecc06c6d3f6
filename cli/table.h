/* SPDX-License-Identifier: MIT */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

/* A table for people: cells are kept until the widths of all columns are known. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct table_column {
	const char *title;
	bool right; /* numbers are aligned to the right */
};

struct table {
	const struct table_column *columns; /* borrowed */
	size_t n_columns;
	char *text; /* all cells, each with its NUL */
	size_t length, capacity;
	size_t n_cells;
	bool no_memory;
};

void table_init(struct table *table, const struct table_column *columns, size_t n_columns);

/* table_add() - the next cell, rows filled from left to right; "" is shown as "-" */
void table_add(struct table *table, const char *cell);

/* table_print() - titles and rows, or nothing if there are no rows. Return: 0 or SHMB_ENOMEM. */
int table_print(struct table *table, FILE *stream);

void table_deinit(struct table *table);

#endif
