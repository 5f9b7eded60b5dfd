/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <stdlib.h>
#include <string.h>

/*
 * What tells the present of a store from that of a copy of it. With the first change, or backup, after each start an
 * epoch begins, which has a name at random; in it, each backup that has what was changed since the last is a step. A
 * backup says in which epoch, and at which step, it was made. Where the store does not know of that, the backup is of a
 * later time: an old copy of licenses.db was put back.
 *
 * In the table, and in backups, an epoch is its name, a dot, and how many steps it had.
 */

#define NAME_LENGTH 16U
/* More than there can be. */
#define STEPS_LENGTH 15U

static const char begin[] = "INSERT INTO epochs (name) VALUES (lower(hex(randomblob(8))) || '.0')";
static const char step[] = "UPDATE epochs SET name = substr(name, 1, 17) || (substr(name, 18) + 1) "
        "WHERE number = (SELECT max(number) FROM epochs)";
/* A backup of an older epoch counts as one of a later time, which is set aside: nothing is lost by that. */
static const char prune[] = "DELETE FROM epochs WHERE number <= (SELECT max(number) FROM epochs) - 1000";

static int write_epoch(StoreConnection *connection, const char *change, Error *error) {
        const char *const steps[] = { change, prune, "COMMIT" };
        int r;

        r = store_write_begin(connection, error);
        for (unsigned i = 0; i < G_N_ELEMENTS(steps) && r == 0; i++) {
                _cleanup_statement_ sqlite3_stmt *statement = store_statement(connection, steps[i], error);

                r = statement ? statement_write(connection, statement, error) : (int)error->code;
        }
        store_write_abandon(connection);
        return r;
}

void store_epoch_enter(StoreConnection *connection, bool for_backup) {
        bool begins = !connection->epoch_begun;
        g_auto(Error) error = {};
        int r;

        /* What was rolled back counts, too: a step more does no harm. */
        if (!begins && (!for_backup || sqlite3_total_changes64(connection->db) == connection->epoch_changes))
                return;

        /* Without, an old copy is told by numbers alone. That is no reason to change nothing any more. */
        r = write_epoch(connection, begins ? begin : step, &error);
        if (r == 0 || r == ERROR_STORE_CORRUPT) {
                connection->epoch_begun = true;
                connection->epoch_changes = sqlite3_total_changes64(connection->db);
        }
}

/* How long the epoch is with which a text begins; 0: it begins with none. */
static size_t epoch_length(const char *text) {
        size_t n;

        if (strspn(text, "0123456789abcdef") != NAME_LENGTH || text[NAME_LENGTH] != '.')
                return 0;
        n = strspn(text + NAME_LENGTH + 1, "0123456789");
        return n > 0 && n <= STEPS_LENGTH ? NAME_LENGTH + 1 + n : 0;
}

bool store_epochs_are_valid(const char *text) {
        size_t n;

        while ((n = epoch_length(text)) > 0 && text[n] == ' ')
                text += n + 1;
        return n > 0 && text[n] == '\0';
}

int store_read_epochs(StoreConnection *connection, GString *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = -1;

        g_string_truncate(ret, 0);
        statement = store_statement(connection, "SELECT name FROM epochs ORDER BY number", error);
        while (statement && (r = statement_row(connection, statement, error)) > 0) {
                const char *epoch = (const char *)sqlite3_column_text(statement, 0);
                size_t n = epoch ? epoch_length(epoch) : 0;

                if (n > 0 && epoch[n] == '\0')
                        g_string_append_printf(ret, "%s%s", ret->len > 0 ? " " : "", epoch);
        }
        /* As of the store's id: damage to them, be it of their page, is no reason to make no backup. */
        if (r < 0 && error->code == ERROR_STORE_CORRUPT) {
                error_clear(error);
                g_string_truncate(ret, 0);
        }
        return (int)error->code;
}

bool store_epochs_include(const char *these, const char *those) {
        const char *last = strrchr(those, ' ') ? strrchr(those, ' ') + 1 : those, *found;
        char name[NAME_LENGTH + 2];

        if (!*these || !*last)
                return true;
        g_strlcpy(name, last, sizeof name);
        found = strstr(these, name);
        return found && strtoull(found + NAME_LENGTH + 1, NULL, 10) >= strtoull(last + NAME_LENGTH + 1, NULL, 10);
}
