/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <string.h>

/*
 * What tells the present of a store from that of a copy of it: with the first change after each start, and once a day,
 * an epoch begins, which has a name at random. A backup says in which it was made. Where the store does not know that
 * epoch, the backup is of a later time: an old copy of licenses.db was put back.
 */

#define NAME_LENGTH 16U
#define EPOCH_USEC (INT64_C(24) * 60 * 60 * G_USEC_PER_SEC)

/* A backup of an older epoch counts as one of a later time, which is set aside: nothing is lost by that. */
static const char prune[] = "DELETE FROM epochs WHERE number <= (SELECT max(number) FROM epochs) - 1000";

static int write_epoch(StoreConnection *connection, Error *error) {
        static const char *const steps[] = {
                "INSERT INTO epochs (name) VALUES (lower(hex(randomblob(8))))",
                prune,
                "COMMIT",
        };
        int r;

        r = store_write_begin(connection, error);
        for (unsigned i = 0; i < G_N_ELEMENTS(steps) && r == 0; i++) {
                _cleanup_statement_ sqlite3_stmt *statement = store_statement(connection, steps[i], error);

                r = statement ? statement_write(connection, statement, error) : (int)error->code;
        }
        store_write_abandon(connection);
        return r;
}

void store_epoch_enter(StoreConnection *connection) {
        int64_t now = g_get_monotonic_time();
        g_auto(Error) error = {};

        /* Without one, an old copy is told by numbers alone. That is no reason to change nothing any more. */
        if (now >= connection->epoch_until) {
                int r = write_epoch(connection, &error);

                if (r == 0 || r == ERROR_STORE_CORRUPT)
                        connection->epoch_until = now + EPOCH_USEC;
        }
}

/* One name, and whatever follows it. */
static bool is_name(const char *text) {
        return strspn(text, "0123456789abcdef") == NAME_LENGTH;
}

bool store_epochs_are_valid(const char *text) {
        while (is_name(text) && text[NAME_LENGTH] == ' ')
                text += NAME_LENGTH + 1;
        return is_name(text) && text[NAME_LENGTH] == '\0';
}

int store_snapshot_epochs(StoreConnection *connection, GString *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = -1;

        statement = store_statement(connection, "SELECT name FROM epochs ORDER BY number", error);
        while (statement && (r = statement_row(connection, statement, error)) > 0) {
                const char *name = (const char *)sqlite3_column_text(statement, 0);

                if (name && is_name(name) && name[NAME_LENGTH] == '\0')
                        g_string_append_printf(ret, "%s%s", ret->len > 0 ? " " : "", name);
        }
        /* As of the store's id: damage to them, be it of their page, is no reason to make no backup. */
        if (r < 0 && error->code == ERROR_STORE_CORRUPT)
                error_clear(error);
        return (int)error->code;
}

bool store_epochs_include(const char *these, const char *those) {
        size_t n = strlen(those);

        return !*these || n < NAME_LENGTH || strstr(these, those + n - NAME_LENGTH);
}
