/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

/* Whatever changes a property is here, and says so: others may know them already (known-properties.h). */

int store_property_set(StoreConnection *connection, const StoreOwner *owner, const char *name,
        const char *value, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t number = 0;
        int r;

        r = store_owner_ensure(connection, owner, &number, error);
        if (r != 0)
                return r;

        connection->properties_changed = true;
        statement = store_statement(connection,
                "INSERT OR REPLACE INTO properties (owner, name, value) VALUES (?, ?, ?)", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, number);
        statement_bind_text(statement, 2, name);
        statement_bind_text(statement, 3, value);
        return statement_write(connection, statement, error);
}

int store_property_list(StoreConnection *connection, const StoreOwner *owner, GPtrArray *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t number = 0;
        int r;

        g_ptr_array_set_free_func(ret, g_free);
        r = store_owner_find(connection, owner, &number, error);
        if (r != 0)
                return r;

        statement = store_statement(connection, "SELECT name, value FROM properties WHERE owner = ? ORDER BY name",
                error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, number);

        while ((r = statement_row(connection, statement, error)) > 0)
                for (int column = 0; column < 2; column++) {
                        const char *text = (const char *)sqlite3_column_text(statement, column);
                        char *copy = NULL;

                        if (!text || license_set_string(&copy, text) < 0)
                                return error_set_no_memory(error);
                        g_ptr_array_add(ret, copy);
                }
        return r < 0 ? (int)error->code : 0;
}

int store_property_get(StoreConnection *connection, const StoreOwner *owner, const char *name,
        char **ret_value, Error *error) {
        g_autoptr(GPtrArray) list = g_ptr_array_new();
        int r;

        /* There are two names: looking through the list is as fast as asking for one. */
        r = store_property_list(connection, owner, list, error);
        if (r != 0)
                return r;

        *ret_value = NULL;
        for (unsigned i = 0; i < list->len; i += 2)
                if (g_str_equal(list->pdata[i], name))
                        *ret_value = g_steal_pointer(&list->pdata[i + 1]);
        return 0;
}

int store_property_remove(StoreConnection *connection, const StoreOwner *owner, const char *name, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t number = 0;
        int r;

        r = store_owner_find(connection, owner, &number, error);
        if (r != 0)
                return r;

        statement = store_statement(connection,
                "DELETE FROM properties WHERE owner = ?1 AND (?2 IS NULL OR name = ?2)",
                error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, number);
        statement_bind_text(statement, 2, name);
        r = statement_write(connection, statement, error);
        /* Who removes what is not there, again and again, is not to have all others' looked up anew. */
        if (r != 0 || sqlite3_changes(connection->db) > 0)
                connection->properties_changed = true;
        return r;
}

int store_property_remove_all(StoreConnection *connection, int64_t owner, Error *error) {
        connection->properties_changed = true;
        return store_run_for_key(connection, "DELETE FROM properties WHERE owner = ?", owner, error);
}
