/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup.h"

#include <string.h>

#include "number.h"

/* Lines of state.jsonl. There is one for each license, so that a library that first makes a tree of it shows. */

static void append_string(GString *line, const char *text) {
        static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";

        g_string_append_c(line, '"');
        for (const char *p = text; *p; p++) {
                const char *found = strchr(escaped, *p);

                if (found) {
                        g_string_append_c(line, '\\');
                        g_string_append_c(line, letters[found - escaped]);
                } else if ((unsigned char)*p < ' ')
                        g_string_append_printf(line, "\\u%04X", (unsigned)*p);
                else
                        g_string_append_c(line, *p);
        }
        g_string_append_c(line, '"');
}

static void append_number(GString *line, const char *before, int64_t number) {
        char text[NUMBER_SIZE];

        g_string_append(line, before);
        g_string_append(line, number_to_text(number, text));
}

void backup_state_line(const char *owner, const StoreCursorRow *row, GString *line) {
        const GArray *counters = row->license.counters;

        g_string_assign(line, "{");
        if (owner) {
                g_string_append(line, "\"owner\":");
                append_string(line, owner);
                g_string_append_c(line, ',');
        }
        g_string_append(line, "\"id\":");
        append_string(line, row->license.id);
        append_number(line, ",\"generation\":", (int64_t)row->license.generation);
        g_string_append(line, ",\"counters\":{");
        for (unsigned i = 0; i < counters->len; i++) {
                const Counter *counter = &g_array_index(counters, Counter, i);

                if (i > 0)
                        g_string_append_c(line, ',');
                append_string(line, counter->right);
                append_number(line, ":", (int64_t)counter->remaining);
        }
        g_string_append_c(line, '}');
        if (!row->license.allow_backup)
                g_string_append(line, ",\"restricted\":true");
        if (row->revoked != LICENSE_NO_TIME)
                append_number(line, ",\"revoked\":", row->revoked);
        g_string_append(line, "}\n");
}
