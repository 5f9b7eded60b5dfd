/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"
#include "json.h"
#include "table.h"
#include "text.h"

static const Column columns[] = {
        { "ID", 36, 10 }, /* a UUID, for people copy it */
        { "TITLE", 8, 0 },
        { "ISSUER", 8, 0 },
        { "VALID UNTIL", 11, 0 },
        { "COUNTERS", 8, 0 },
};

static void add_row(Table *table, const json_t *license) {
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

/* Reads one a(sa{sv}); a page at a time, so that memory does not grow with the store. */
static int read_page(const Ctl *ctl, sd_bus_message *reply, Table *table, uint64_t *count) {
        const char *id;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(sa{sv})");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(reply, 'r', "sa{sv}")) > 0) {
                json_auto_t *license = NULL;

                if ((r = sd_bus_message_read(reply, "s", &id)) < 0 ||
                    (r = json_read_dictionary(reply, &license)) < 0 ||
                    (r = sd_bus_message_exit_container(reply)) < 0)
                        return r;

                (void)json_object_set_new(license, "LicenseId", json_string(id));
                if (ctl->json)
                        ctl_print_json(license);
                else
                        add_row(table, license);
                (*count)++;
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

/* Prints the page behind *after and moves *after on; it becomes empty at the end. */
static Status list_page(Ctl *ctl, char **after, Table *table, uint64_t *count) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        const char *next;
        Status status;
        int r;

        status = bus_call_new(ctl, BUS_STORE, "EnumerateLicenses", &call);
        if (status != STATUS_OK)
                return status;

        r = sd_bus_message_append(call, "a{sv}su", 0, *after, 0);
        if (r < 0)
                return bus_fail_build(ctl, r);
        status = bus_call(ctl, call, NULL, &reply);
        if (status != STATUS_OK)
                return status;

        if (read_page(ctl, reply, table, count) < 0 || sd_bus_message_read(reply, "s", &next) < 0)
                return bus_fail_parse(ctl);

        g_free(*after);
        *after = g_strdup(next);
        table_print(table);
        return ctl_flush(ctl);
}

Status command_list(Ctl *ctl, char **arguments) {
        g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));
        g_autofree char *after = g_strdup("");
        uint64_t count = 0;
        Status status;

        do
                status = list_page(ctl, &after, table, &count);
        while (status == STATUS_OK && *after);

        if (status == STATUS_OK && count == 0)
                ctl_note(ctl, "There are no licenses.");
        return status;
}
