/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "table.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

#define GAP 2U

struct Table {
        const Column *columns;
        size_t n;
        size_t *widths; /* NULL until the first rows are printed */
        bool terminal;
        GPtrArray *cells; /* of char *, safe to print */
        GArray *tones;    /* of Tone, one for each cell */
};

Table *table_new(const Column *columns, size_t n) {
        Table *table = g_new(Table, 1);

        *table = (Table) {
                .columns = columns,
                .n = n,
                .terminal = terminal_is_stdout(),
                .cells = g_ptr_array_new_with_free_func(g_free),
                .tones = g_array_new(FALSE, FALSE, sizeof(Tone)),
        };
        return table;
}

Table *table_free(Table *table) {
        if (!table)
                return NULL;

        g_ptr_array_unref(table->cells);
        g_array_unref(table->tones);
        g_free(table->widths);
        g_free(table);
        return NULL;
}

void table_add_tone(Table *table, Tone tone, const char *cell) {
        g_ptr_array_add(table->cells, text_safe_for(table->terminal, cell));
        g_array_append_val(table->tones, tone);
}

void table_add(Table *table, const char *cell) {
        table_add_tone(table, TONE_PLAIN, cell);
}

/* The column that can give the most, n where none can. */
static size_t find_widest(const Table *table, bool at_last) {
        size_t widest = table->n, most = 0;

        for (size_t i = 0; i < table->n; i++) {
                const Column *column = &table->columns[i];
                size_t width = table->widths[i];
                size_t minimum = at_last && column->last > 0 ? column->last : column->minimum;

                if (width > minimum && width - minimum > most) {
                        widest = i;
                        most = width - minimum;
                }
        }
        return widest;
}

static void choose_widths(Table *table) {
        size_t room = terminal_width(STDOUT_FILENO), total = GAP * (table->n - 1);

        table->widths = g_new(size_t, table->n);
        for (size_t i = 0; i < table->n; i++)
                table->widths[i] = strlen(table->columns[i].title);
        for (size_t i = 0; i < table->cells->len; i++)
                table->widths[i % table->n] =
                        MAX(table->widths[i % table->n], text_width(g_ptr_array_index(table->cells, i)));
        for (size_t i = 0; i < table->n; i++)
                total += table->widths[i];

        for (; total > room; total--) {
                size_t widest = find_widest(table, false);
                if (widest == table->n)
                        widest = find_widest(table, true);
                if (widest == table->n)
                        break;
                table->widths[widest]--;
        }
}

/* tones may be NULL: all are titles. */
static void print_fitted(const Table *table, const char *const *cells, const Tone *tones) {
        g_autoptr(GString) line = g_string_new(NULL);

        for (size_t i = 0; i < table->n; i++) {
                if (i > 0)
                        g_string_append_printf(line, "%*s", (int)GAP, "");
                Tone tone = tones ? tones[i] : TONE_TITLE;
                g_string_append(line, terminal_begin(STDOUT_FILENO, tone));
                text_append_fit(line, cells[i], table->widths[i]);
                if (i + 1 == table->n)
                        g_strchomp(line->str);
                line->len = strlen(line->str);
                g_string_append(line, terminal_end(STDOUT_FILENO, tone));
        }
        puts(g_strchomp(line->str));
}

static void print_header(const Table *table) {
        g_autofree const char **titles = g_new(const char *, table->n);

        for (size_t i = 0; i < table->n; i++)
                titles[i] = table->columns[i].title;
        print_fitted(table, titles, NULL);
}

void table_print(Table *table) {
        const char *const *cells = (const char *const *)table->cells->pdata;

        if (table->cells->len == 0)
                return;

        if (table->terminal && !table->widths) {
                choose_widths(table);
                print_header(table);
        }

        for (size_t i = 0; i < table->cells->len; i += table->n)
                if (table->terminal)
                        print_fitted(table, cells + i, &g_array_index(table->tones, Tone, i));
                else
                        for (size_t j = 0; j < table->n; j++)
                                printf("%s%c", cells[i + j], j + 1 < table->n ? '\t' : '\n');

        g_ptr_array_set_size(table->cells, 0);
        g_array_set_size(table->tones, 0);
}
