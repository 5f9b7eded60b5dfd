/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

/* Rows that are found at once, and how long a slice may take: others want to write. */
#define SWEEP_ROWS 64U
#define SWEEP_USEC (20 * 1000)

typedef struct StagedKey {
        int64_t key;
        uint64_t bytes; /* roughly */
} StagedKey;

int store_staged_last(StoreConnection *connection, int64_t *ret, Error *error) {
        return store_connection_integer(connection, "SELECT max(restore) FROM staged_ids", ret, error);
}

int store_staged_after(StoreConnection *connection, int64_t restore, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection, "SELECT min(restore) FROM staged_ids WHERE restore > ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, restore);
        if (statement_row(connection, statement, error) < 0)
                return (int)error->code;
        *ret = sqlite3_column_int64(statement, 0);
        return 0;
}

/* Some keys of what is left, in keys; *ret_n of them. */
static int find_some(StoreConnection *connection, int64_t restore, StagedKey keys[SWEEP_ROWS], unsigned *ret_n,
                Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        *ret_n = 0;
        statement = store_statement(connection,
                "SELECT s.key, coalesce(d.charge, s.charge) FROM staged_ids AS s "
                "LEFT JOIN staged_licenses AS d ON d.key = s.key WHERE s.restore = ? LIMIT ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, restore);
        sqlite3_bind_int64(statement, 2, SWEEP_ROWS);
        while ((r = statement_row(connection, statement, error)) > 0)
                keys[(*ret_n)++] = (StagedKey) { sqlite3_column_int64(statement, 0),
                        (uint64_t)sqlite3_column_int64(statement, 1) };
        return r < 0 ? (int)error->code : 0;
}

/* Adds what was removed of documents to *ret_bytes. */
static int sweep_key(StoreConnection *connection, const StagedKey *key, uint64_t *ret_bytes, Error *error) {
        static const char *const deletes[] = {
                /* What was merged is a license's now. */
                "DELETE FROM documents WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM licenses WHERE key = ?1)",
                "DELETE FROM counters WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM licenses WHERE key = ?1)",
                "DELETE FROM staged_licenses WHERE key = ?",
                "DELETE FROM staged_ids WHERE key = ?",
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < G_N_ELEMENTS(deletes); i++) {
                _cleanup_statement_ sqlite3_stmt *statement = store_statement(connection, deletes[i], error);

                if (!statement)
                        return (int)error->code;
                sqlite3_bind_int64(statement, 1, key->key);
                r = statement_write(connection, statement, error);
                if (i == 0 && sqlite3_changes(connection->db) > 0)
                        *ret_bytes += key->bytes;
        }
        return r;
}

static int sweep_slice(StoreConnection *connection, int64_t restore, bool *ret_more, Error *error) {
        int64_t start = g_get_monotonic_time();
        StagedKey keys[SWEEP_ROWS];
        bool goes_on = true;
        uint64_t bytes = 0;
        unsigned n;
        int r;

        do {
                r = find_some(connection, restore, keys, &n, error);
                for (unsigned i = 0; r == 0 && i < n && goes_on; i++) {
                        r = sweep_key(connection, &keys[i], &bytes, error);
                        goes_on = bytes < STORE_SLICE_BYTES && g_get_monotonic_time() - start < SWEEP_USEC;
                }
        } while (r == 0 && n == SWEEP_ROWS && goes_on);

        *ret_more = n == SWEEP_ROWS || !goes_on;
        return r;
}

int store_sweep(StoreConnection *connection, int64_t restore, bool *ret_more, Error *error) {
        int r, rc;

        r = store_write_begin(connection, error);
        if (r != 0)
                return r;

        r = sweep_slice(connection, restore, ret_more, error);
        if (r == 0) {
                rc = store_connection_exec(connection, "COMMIT");
                if (rc != SQLITE_OK)
                        r = store_connection_failed(connection, rc, true, error);
        }
        store_write_abandon(connection);
        return r;
}
