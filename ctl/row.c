/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "row.h"

#include "json.h"
#include "text.h"

void row_add(Table *table, const json_t *license) {
        const json_t *not_after = json_object_get(license, "NotAfter");
        json_t *counters = json_object_get(license, "Counters"), *remaining;
        g_autofree char *date = not_after ? text_date(json_integer_value(not_after)) : g_strdup("-");
        g_autoptr(GString) uses = g_string_new(NULL);
        const char *right;

        json_object_foreach(counters, right, remaining)
                g_string_append_printf(uses, "%s%s %" JSON_INTEGER_FORMAT, uses->len > 0 ? ", " : "", right,
                        json_integer_value(remaining));

        table_add(table, json_get_string(license, "LicenseId"));
        table_add(table, json_get_string(license, "Title"));
        table_add(table, json_get_string(license, "Issuer"));
        table_add(table, date);
        table_add(table, uses->str);
}
