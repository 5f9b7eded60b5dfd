/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include <glib.h>

#include "terminal.h"

/*
 * Rows on stdout. On a terminal they are a table with a header that fits its width; elsewhere each
 * row is a line of cells with a tab between them, complete and without a header, for programs.
 */

typedef struct Column {
        const char *title;
        size_t minimum; /* cells that a narrow terminal leaves it */
        size_t last;    /* what a still narrower one leaves it, once all are at their minimum; 0: no less */
} Column;

typedef struct Table Table;

/* columns live as long as the table. */
Table *table_new(const Column *columns, size_t n);
Table *table_free(Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Table, table_free)

/* Adds the next cell of the row; after the last column begins the next row. Any text will do. */
void table_add(Table *table, const char *cell);
/* The same in a color, on a terminal that has them. */
void table_add_tone(Table *table, Tone tone, const char *cell);

/* Prints the rows so far and forgets them. The first ones decide how wide the columns are. */
void table_print(Table *table);
