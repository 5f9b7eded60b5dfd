/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault-reads.h"

#include <inttypes.h>

static void tell_license(GString *told, const License *license) {
        g_string_append_printf(told, "%s %s %s %s %s %s %" PRIi64 " %" PRIi64 " %i %" PRIu64 " %" PRIu64, license->id,
                license->key_id, license->title, license->issuer, license->media_type, license->extension,
                license->not_before, license->not_after, license->allow_backup, license->size, license->generation);
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                g_string_append_printf(told, " %s=%" PRIu64, counter->right, counter->remaining);
        }
        g_string_append_c(told, '\n');
}

static int read_page(StoreConnection *connection, const StoreOwner *owner, const char *after, char **ret_next,
        GPtrArray *licenses, GString *told, Error *error) {
        const StoreFilter any = { .valid_at = LICENSE_NO_TIME, .allow_backup = -1 };
        int r;

        r = store_license_enumerate(connection, owner, &any, after, 2, UINT64_MAX, licenses, ret_next, error);
        for (unsigned i = 0; r == 0 && i < licenses->len; i++)
                tell_license(told, licenses->pdata[i]);
        return r;
}

static int read_one(StoreConnection *connection, const StoreOwner *owner, const char *id, GString *told, Error *error) {
        g_auto(License) license = {};
        g_autofree void *document = NULL;
        int r;

        license_init(&license);
        r = store_license_get(connection, owner, id, UINT64_MAX, &license, &document, error);
        if (r == 0) {
                tell_license(told, &license);
                g_string_append_len(told, document, (gssize)license.size);
        }
        return r;
}

int read_licenses(StoreConnection *connection, const StoreOwner *owner, GString *told, Error *error) {
        g_autofree char *after = g_strdup(""), *value = NULL;
        g_autoptr(GPtrArray) properties = g_ptr_array_new();
        int r;

        do {
                g_autoptr(GPtrArray) licenses = g_ptr_array_new();
                g_autofree char *next = NULL;

                r = read_page(connection, owner, after, &next, licenses, told, error);
                for (unsigned i = 0; r == 0 && i < licenses->len; i++)
                        r = read_one(connection, owner, ((License *)licenses->pdata[i])->id, told, error);
                if (r != 0)
                        return r;
                g_free(after);
                after = g_steal_pointer(&next);
        } while (*after);

        r = store_property_list(connection, owner, properties, error);
        for (unsigned i = 0; r == 0 && i < properties->len; i++)
                g_string_append_printf(told, "%s\n", (char *)properties->pdata[i]);
        if (r == 0)
                r = store_property_get(connection, owner, "RestorePath", &value, error);
        if (r == 0)
                g_string_append_printf(told, "%s\n", value);
        return r;
}

static void tell_owners(GString *told, const GPtrArray *owners) {
        for (unsigned i = 0; i < owners->len; i++) {
                const StoreOwnerRow *row = owners->pdata[i];

                g_string_append_printf(told, "%s %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", row->name,
                        (uint32_t)row->uid, row->licenses, row->restricted, row->bytes);
        }
}

int read_owners(StoreConnection *connection, GString *told, Error *error) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        int r;

        r = store_owner_list(connection, 0, 10, owners, error);
        tell_owners(told, owners);
        /* There is nobody of that number; somebody without a name may come in. */
        return r == 0 ? store_owner_check_nameless(connection, 4711, error) : r;
}

static int read_rows(StoreConnection *connection, const StoreOwnerRow *owner, bool with_documents, GString *told,
        Error *error) {
        g_autoptr(StoreCursor) cursor = NULL;
        const StoreCursorRow *row = NULL;
        int r;

        r = store_cursor_new(connection, owner->owner, with_documents, &cursor, error);
        while (r == 0 && (r = store_cursor_next(cursor, &row, error)) == 0 && row) {
                tell_license(told, &row->license);
                g_string_append_printf(told, "%i %" PRIi64 " %i ", row->present, row->revoked, row->damage);
                if (row->document)
                        g_string_append_len(told, row->document, (gssize)row->license.size);
        }
        return r;
}

int read_snapshot(StoreConnection *connection, GString *told, Error *error) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        char id[STORE_ID_SIZE] = "";
        int r;

        r = store_snapshot_begin(connection, error);
        if (r != 0)
                return r;
        r = store_snapshot_id(connection, id, error);
        if (r == 0) {
                g_string_append_printf(told, "%s ", id);
                r = store_snapshot_owners(connection, (uid_t)-1, NULL, owners, error);
        }
        if (r == 0)
                tell_owners(told, owners);
        for (unsigned i = 0; r == 0 && i < 2 * owners->len; i++)
                r = read_rows(connection, owners->pdata[i / 2], i % 2 > 0, told, error);
        store_snapshot_end(connection);
        return r;
}
