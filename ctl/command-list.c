/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "bus.h"
#include "json.h"
#include "pager.h"
#include "row.h"
#include "text.h"

static char *list_key_id, *list_issuer, *list_media_type, *list_valid_at, *list_allow_backup, *list_after;
static int list_max = G_MININT; /* not given */

const GOptionEntry list_options[] = {
        { "key-id", 0, 0, G_OPTION_ARG_FILENAME, &list_key_id, "Only those that give this key", "ID" },
        { "issuer", 0, 0, G_OPTION_ARG_FILENAME, &list_issuer, "Only those of this issuer", "ISSUER" },
        { "media-type", 0, 0, G_OPTION_ARG_FILENAME, &list_media_type, "Only documents of this type", "TYPE" },
        { "valid-at", 0, 0, G_OPTION_ARG_STRING, &list_valid_at,
                "Only those that are valid then: now, a date, ISO 8601, or Unix seconds", "TIME" },
        { "allow-backup", 0, 0, G_OPTION_ARG_STRING, &list_allow_backup, "Only those that may be backed up, or may not",
                "yes|no" },
        { "after", 0, 0, G_OPTION_ARG_FILENAME, &list_after, "Begin behind this license id", "ID" },
        { "max", 0, 0, G_OPTION_ARG_INT, &list_max, "List so many at most", "N" },
        {},
};

/* The options, understood. */
typedef struct Filter {
        bool by_time, by_backup, allow_backup;
        uint64_t valid_at;
} Filter;

static Status read_filter(Ctl *ctl, Filter *ret) {
        const char *after = list_after && *list_after ? list_after : NULL; /* "" is the start */
        Status status;

        if ((status = bus_check_string(ctl, "The key id", list_key_id)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The issuer", list_issuer)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The media type", list_media_type)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The license id after --after", after)) != STATUS_OK)
                return status;
        if (list_max != G_MININT && list_max < 1)
                return ctl_fail(ctl, STATUS_USAGE, "--max is a number of licenses from 1 on.");
        if (list_valid_at) {
                ret->by_time = true;
                ret->valid_at = (uint64_t)(g_get_real_time() / G_USEC_PER_SEC);
                if (strcmp(list_valid_at, "now") != 0 && !text_read_time(list_valid_at, &ret->valid_at))
                        return ctl_fail(ctl, STATUS_USAGE,
                                "'%s' is not a time. Write it as 'now', 2031-05-06, 2031-05-06T12:00:00Z, or in Unix "
                                "seconds.", list_valid_at);
        }
        if (list_allow_backup) {
                ret->by_backup = true;
                ret->allow_backup = strcmp(list_allow_backup, "yes") == 0;
                if (!ret->allow_backup && strcmp(list_allow_backup, "no") != 0)
                        return ctl_fail(ctl, STATUS_USAGE, "--allow-backup is yes or no, not '%s'.", list_allow_backup);
        }
        return STATUS_OK;
}

static int append_string(sd_bus_message *call, const char *name, const char *value) {
        return value ? sd_bus_message_append(call, "{sv}", name, "s", value) : 0;
}

static int append_filter(sd_bus_message *call, const Filter *filter) {
        int r;

        if ((r = sd_bus_message_open_container(call, 'a', "{sv}")) < 0 ||
            (r = append_string(call, "KeyId", list_key_id)) < 0 ||
            (r = append_string(call, "Issuer", list_issuer)) < 0 ||
            (r = append_string(call, "MediaType", list_media_type)) < 0 ||
            (filter->by_time && (r = sd_bus_message_append(call, "{sv}", "ValidAt", "t", filter->valid_at)) < 0) ||
            (filter->by_backup &&
                    (r = sd_bus_message_append(call, "{sv}", "AllowBackup", "b", (int)filter->allow_backup)) < 0))
                return r;
        return sd_bus_message_close_container(call);
}

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
static Status list_page(Ctl *ctl, const Filter *filter, char **after, Table *table, uint64_t *count) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        /* 0 is as many as fit. */
        uint32_t max = list_max > 0 ? (uint32_t)list_max - (uint32_t)*count : 0;
        const char *next;
        Status status;
        int r;

        status = bus_call_new(ctl, BUS_STORE, "EnumerateLicenses", &call, NULL);
        if (status != STATUS_OK)
                return status;

        r = append_filter(call, filter);
        if (r >= 0)
                r = sd_bus_message_append(call, "su", *after, max);
        if (r < 0)
                return bus_fail_build(ctl, r);
        status = bus_call(ctl, call, NULL, &reply);
        if (status != STATUS_OK)
                return status;

        if (read_page(ctl, reply, table, count) < 0 || sd_bus_message_read(reply, "s", &next) < 0)
                return bus_fail_parse(ctl);

        g_free(*after);
        *after = g_strdup(list_max > 0 && *count >= (uint64_t)list_max ? "" : next);
        pager_open(ctl);
        table_print(table);
        return ctl_flush(ctl);
}

Status command_list(Ctl *ctl, char **arguments) {
        g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));
        g_autofree char *after = g_strdup(list_after ?: "");
        uint64_t count = 0;
        Filter filter = {};
        Status status;

        status = read_filter(ctl, &filter);
        if (status != STATUS_OK)
                return status;
        do
                status = list_page(ctl, &filter, &after, table, &count);
        while (status == STATUS_OK && *after);

        if (status == STATUS_OK && count == 0)
                ctl_note(ctl, list_key_id || list_issuer || list_media_type || filter.by_time || filter.by_backup ||
                        list_after ? "There are no such licenses." :
                        "There are no licenses. Store one with: licensevaultctl add FILE");
        return status;
}
