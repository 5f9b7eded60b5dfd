/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

int store_document_write(StoreConnection *connection, int64_t key, const void *document, uint64_t size,
        Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "INSERT OR REPLACE INTO documents (key, document) VALUES (?, ?)", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, key);
        /* An empty document is a blob of no bytes, not NULL. */
        sqlite3_bind_blob64(statement, 2, size > 0 ? document : "", size, SQLITE_STATIC);
        return statement_write(connection, statement, error);
}

int store_document_check(StoreConnection *connection, int64_t key, const License *license, bool *ret_whole,
        Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection, "SELECT document FROM documents WHERE key = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, key);
        if (statement_row(connection, statement, error) < 0)
                return (int)error->code;
        const void *document = sqlite3_column_blob(statement, 0);
        size_t size = (size_t)sqlite3_column_bytes(statement, 0);
        if (sqlite3_errcode(connection->db) == SQLITE_NOMEM)
                return error_set_no_memory(error);
        *ret_whole = license_document_is_whole(license, document ?: "", size);
        return 0;
}

int store_documents_differ(StoreConnection *connection, int64_t key, int64_t other, bool *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection,
                "SELECT 1 FROM documents WHERE key = ?1 "
                "AND document IS NOT (SELECT document FROM documents WHERE key = ?2)", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, key);
        sqlite3_bind_int64(statement, 2, other);
        r = statement_row(connection, statement, error);
        *ret = r > 0;
        return r < 0 ? (int)error->code : 0;
}

int store_document_move(StoreConnection *connection, int64_t from, int64_t to, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        r = store_run_for_key(connection, "DELETE FROM documents WHERE key = ?", to, error);
        if (r != 0)
                return r;
        statement = store_statement(connection, "UPDATE documents SET key = ? WHERE key = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, to);
        sqlite3_bind_int64(statement, 2, from);
        return statement_write(connection, statement, error);
}
