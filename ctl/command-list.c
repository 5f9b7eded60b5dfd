/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"
#include "json.h"
#include "row.h"

static const Column columns[] = { ROW_COLUMNS };

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
                        row_add(table, license);
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
