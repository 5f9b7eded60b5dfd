/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <errno.h>
#include <string.h>

/*
 * Rows and their counters are read side by side, both in the order of their keys: one lookup a license
 * less, and every page is read once.
 */
struct StoreCursor {
        StoreConnection *connection;
        sqlite3_stmt *rows;
        sqlite3_stmt *counters;
        bool counters_left; /* the statement stands on a row */
        bool with_documents, leave_digests;
        StoreCursorRow row;
};

void store_owner_row_free(StoreOwnerRow *row) {
        if (row) {
                g_free(row->name);
                g_free(row);
        }
}

int store_snapshot_begin(StoreConnection *connection, Error *error) {
        int64_t any;
        int rc;

        rc = store_connection_exec(connection, "BEGIN");
        if (rc != SQLITE_OK)
                return store_connection_failed(connection, rc, false, error);

        /* The snapshot is taken by the first read, not by BEGIN. */
        int r = store_connection_integer(connection, "SELECT count(*) FROM owners", &any, error);
        if (r != 0)
                store_snapshot_end(connection);
        return r;
}

bool store_id_is_valid(const char *id) {
        return strlen(id) == STORE_ID_SIZE - 1 && strspn(id, "0123456789abcdef") == STORE_ID_SIZE - 1;
}

int store_snapshot_id(StoreConnection *connection, char ret[STORE_ID_SIZE], Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        const char *id = NULL;
        int r;

        statement = store_statement(connection, "SELECT id FROM identity", error);
        r = statement ? statement_row(connection, statement, error) : -1;
        /* Damage to it, be it of its page, is no reason to make no backup. */
        if (r < 0 && error->code == ERROR_STORE_CORRUPT)
                error_clear(error);
        else if (r < 0)
                return (int)error->code;
        if (r > 0)
                id = (const char *)sqlite3_column_text(statement, 0);
        g_strlcpy(ret, id && store_id_is_valid(id) ? id : "", STORE_ID_SIZE);
        return 0;
}

void store_snapshot_end(StoreConnection *connection) {
        (void)store_connection_exec(connection, "ROLLBACK");
}

/* A restore may have brought one as large as can be, and all are added up. */
#define GENERATION_COUNTED_MAX 1000000

/* What owners say of themselves is a sum, and no proof: a backup says in its manifest what will be in it. */
static int count_licenses(StoreConnection *connection, StoreOwnerRow *row, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "SELECT count(iif(present, 1, NULL)), count(iif(present AND NOT allow_backup, 1, NULL)), count(*), "
                "sum(max(1, min(generation, " G_STRINGIFY(GENERATION_COUNTED_MAX) "))) "
                "FROM licenses WHERE key BETWEEN ? AND ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, store_key_first(row->owner));
        sqlite3_bind_int64(statement, 2, store_key_last(row->owner));
        if (statement_row(connection, statement, error) < 0)
                return (int)error->code;
        row->licenses = (uint64_t)sqlite3_column_int64(statement, 0);
        row->restricted = (uint64_t)sqlite3_column_int64(statement, 1);
        row->memory.ids = (uint64_t)sqlite3_column_int64(statement, 2);
        row->memory.stored = (uint64_t)sqlite3_column_int64(statement, 3);
        return 0;
}

int store_snapshot_owners(StoreConnection *connection, uid_t uid, const char *name, GPtrArray *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection,
                "SELECT " OWNER_COLUMNS " FROM owners WHERE (?1 IS NULL OR uid = ?1) AND (?2 IS NULL OR name = ?2) "
                "ORDER BY name, uid", error);
        if (!statement)
                return (int)error->code;
        if (uid != (uid_t)-1)
                sqlite3_bind_int64(statement, 1, uid);
        statement_bind_text(statement, 2, name);

        r = store_owner_rows(connection, statement, ret, error);
        if (r != 0)
                return r;

        for (unsigned i = 0; i < ret->len; i++) {
                r = count_licenses(connection, ret->pdata[i], error);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Statements of a cursor are its own: two cursors may walk at once. */
static int cursor_prepare(StoreConnection *connection, const char *sql, int64_t owner, sqlite3_stmt **ret,
                Error *error) {
        int rc;

        errno = 0;
        rc = sqlite3_prepare_v2(connection->db, sql, -1, ret, NULL);
        if (rc != SQLITE_OK)
                return store_connection_failed(connection, rc, false, error);
        sqlite3_bind_int64(*ret, 1, store_key_first(owner));
        sqlite3_bind_int64(*ret, 2, store_key_last(owner));
        return 0;
}

static int step_counters(StoreCursor *cursor, Error *error) {
        int r = statement_row(cursor->connection, cursor->counters, error);

        cursor->counters_left = r > 0;
        return r < 0 ? (int)error->code : 0;
}

/* LICENSE_COLUMNS, but of what a deleted one has, too, and no more: copying the others takes half of the time. */
#define STATE_COLUMNS \
        "l.id, NULL, NULL, NULL, NULL, NULL, NULL, l.allow_backup, NULL, NULL, l.digest, NULL, l.generation"

int store_cursor_new(StoreConnection *connection, int64_t owner, bool with_documents, StoreCursor **ret,
        Error *error) {
        g_autoptr(StoreCursor) cursor = NULL;
        int r;

        cursor = g_try_new0(StoreCursor, 1);
        if (!cursor)
                return error_set_no_memory(error);
        cursor->connection = connection;
        cursor->with_documents = with_documents;

        r = cursor_prepare(connection, with_documents ?
                "SELECT " LICENSE_COLUMNS ", l.key, l.present, l.revoked, d.document FROM licenses AS l "
                "LEFT JOIN documents AS d ON d.key = l.key WHERE l.key BETWEEN ? AND ? ORDER BY l.key" :
                "SELECT " STATE_COLUMNS ", l.key, l.present, l.revoked, NULL FROM licenses AS l "
                "WHERE l.key BETWEEN ? AND ? ORDER BY l.key", owner, &cursor->rows, error);
        if (r != 0)
                return r;

        r = cursor_prepare(connection,
                "SELECT key, name, remaining FROM counters WHERE key BETWEEN ? AND ? ORDER BY key, name",
                owner, &cursor->counters, error);
        if (r != 0)
                return r;
        r = step_counters(cursor, error);
        if (r != 0)
                return r;

        *ret = g_steal_pointer(&cursor);
        return 0;
}

void store_cursor_leave_digests(StoreCursor *cursor) {
        cursor->leave_digests = true;
}

StoreCursor *store_cursor_free(StoreCursor *cursor) {
        if (cursor) {
                sqlite3_finalize(cursor->rows);
                sqlite3_finalize(cursor->counters);
                license_clear(&cursor->row.license);
                g_free(cursor);
        }
        return NULL;
}

/* Takes the counters of one key; those of smaller keys are of rows that were passed. */
static int take_counters(StoreCursor *cursor, int64_t key, Error *error) {
        int r = 0;

        while (r == 0 && cursor->counters_left) {
                int64_t at = sqlite3_column_int64(cursor->counters, 0);
                const char *right;

                if (at > key)
                        break;
                if (at == key) {
                        right = (const char *)sqlite3_column_text(cursor->counters, 1);
                        if (!right)
                                return error_set_no_memory(error);
                        (void)license_limit_counter(&cursor->row.license, right,
                                (uint64_t)sqlite3_column_int64(cursor->counters, 2));
                }
                r = step_counters(cursor, error);
        }
        return r;
}

/* Columns after LICENSE_COLUMNS. */
enum {
        COLUMN_KEY = N_LICENSE_COLUMNS,
        COLUMN_PRESENT,
        COLUMN_REVOKED,
        COLUMN_DOCUMENT,
};

/* Sets row.document and row.damage. That of the document comes first: who reads it must not be misled. */
static int look_for_damage(StoreCursor *cursor, Error *error) {
        License *license = &cursor->row.license;
        const void *document = sqlite3_column_blob(cursor->rows, COLUMN_DOCUMENT) ?: "";
        size_t size = (size_t)sqlite3_column_bytes(cursor->rows, COLUMN_DOCUMENT);

        if (sqlite3_errcode(cursor->connection->db) == SQLITE_NOMEM)
                return error_set_no_memory(error);

        license_judge(license);
        if (cursor->leave_digests ? size != license->size : !license_document_is_whole(license, document, size)) {
                cursor->row.damage = STORE_DAMAGE_DOCUMENT;
                return 0;
        }
        cursor->row.document = document;
        if (license->soundness == LICENSE_ROTTEN)
                cursor->row.damage = STORE_DAMAGE_ROW;
        return 0;
}

/* Of a license that is there and revoked, or not there and has a digest, the row is damaged. */
static bool contradicts_itself(StoreCursor *cursor) {
        return cursor->row.present ? cursor->row.revoked != LICENSE_NO_TIME :
                sqlite3_column_type(cursor->rows, LICENSE_COLUMN_DIGEST) != SQLITE_NULL;
}

int store_cursor_next(StoreCursor *cursor, const StoreCursorRow **ret, Error *error) {
        int r;

        r = statement_row(cursor->connection, cursor->rows, error);
        if (r < 0)
                return (int)error->code;
        if (r == 0) {
                *ret = NULL;
                return 0;
        }

        if ((r = license_from_row(cursor->rows, 0, &cursor->row.license, error)) != 0 ||
            (r = take_counters(cursor, sqlite3_column_int64(cursor->rows, COLUMN_KEY), error)) != 0)
                return r;

        cursor->row.present = sqlite3_column_int(cursor->rows, COLUMN_PRESENT);
        cursor->row.revoked = statement_time(cursor->rows, COLUMN_REVOKED);
        cursor->row.document = NULL;
        cursor->row.key = sqlite3_column_int64(cursor->rows, COLUMN_KEY);
        cursor->row.damage = contradicts_itself(cursor) ? STORE_DAMAGE_ROW : STORE_DAMAGE_NONE;

        if (cursor->with_documents && cursor->row.present && (r = look_for_damage(cursor, error)) != 0)
                return r;

        *ret = &cursor->row;
        return 0;
}
