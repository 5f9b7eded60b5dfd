/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <inttypes.h>

/*
 * Owners, (uid, name) each: what they have, and what becomes of the licenses of one whose account is gone.
 */

/* Rows of licenses that a purge takes at once: others want to write. */
#define PURGE_ROWS 1000

int store_owner_find(StoreConnection *connection, const StoreOwner *owner, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection, "SELECT owner FROM owners WHERE uid = ? AND name = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, owner->uid);
        statement_bind_text(statement, 2, owner->name);

        r = statement_row(connection, statement, error);
        if (r < 0)
                return (int)error->code;
        *ret = r > 0 ? sqlite3_column_int64(statement, 0) : 0;
        return 0;
}

int store_owner_check_nameless(StoreConnection *connection, uid_t uid, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection, "SELECT 1 FROM owners WHERE uid = ? AND name <> '' LIMIT 1", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, uid);
        r = statement_row(connection, statement, error);
        if (r > 0)
                return error_set(error, ERROR_ACCESS_DENIED,
                        "The account of user %" PRIu32 ", who has licenses here, cannot be looked up now. Try again "
                        "when the directory of users answers; if the account was removed, root says what becomes of "
                        "them (licensevaultctl owners).",
                        (uint32_t)uid);
        return r < 0 ? (int)error->code : 0;
}

int store_owner_ensure(StoreConnection *connection, const StoreOwner *owner, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        r = store_owner_find(connection, owner, ret, error);
        if (r != 0 || *ret > 0)
                return r;

        statement = store_statement(connection, "INSERT INTO owners (uid, name) VALUES (?, ?)", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, owner->uid);
        statement_bind_text(statement, 2, owner->name);

        r = statement_write(connection, statement, error);
        if (r == 0)
                *ret = sqlite3_last_insert_rowid(connection->db);
        return r;
}

int store_owner_add(StoreConnection *connection, int64_t owner, int64_t licenses, int64_t remembered, int64_t bytes,
                Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "UPDATE owners SET licenses = licenses + ?, remembered = remembered + ?, bytes = bytes + ? "
                "WHERE owner = ?",
                error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, licenses);
        sqlite3_bind_int64(statement, 2, remembered);
        sqlite3_bind_int64(statement, 3, bytes);
        sqlite3_bind_int64(statement, 4, owner);
        return statement_write(connection, statement, error);
}

static StoreUse use_of_row(sqlite3_stmt *statement) {
        return (StoreUse) {
                .licenses = (uint64_t)sqlite3_column_int64(statement, 0),
                .remembered = (uint64_t)sqlite3_column_int64(statement, 1),
                .bytes = (uint64_t)sqlite3_column_int64(statement, 2),
        };
}

int store_owner_use(StoreConnection *connection, int64_t owner, StoreUse *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection,
                "SELECT licenses, remembered, bytes FROM owners WHERE owner = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, owner);
        r = statement_row(connection, statement, error);
        if (r < 0)
                return (int)error->code;

        *ret = use_of_row(statement);
        return 0;
}

static int count_use(StoreConnection *connection, int64_t owner, StoreUse *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "SELECT count(iif(present, 1, NULL)), count(*), ifnull(sum(charge), 0) FROM licenses "
                "WHERE key BETWEEN ? AND ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, store_key_first(owner));
        sqlite3_bind_int64(statement, 2, store_key_last(owner));
        if (statement_row(connection, statement, error) < 0)
                return (int)error->code;

        *ret = use_of_row(statement);
        return 0;
}

/* Not by adding, which overflows where the highest bit is the one that has rotted. */
static int write_use(StoreConnection *connection, int64_t owner, const StoreUse *use, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "UPDATE owners SET licenses = ?, remembered = ?, bytes = ? WHERE owner = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, (int64_t)use->licenses);
        sqlite3_bind_int64(statement, 2, (int64_t)use->remembered);
        sqlite3_bind_int64(statement, 3, (int64_t)use->bytes);
        sqlite3_bind_int64(statement, 4, owner);
        return statement_write(connection, statement, error);
}

int store_owner_recount(StoreConnection *connection, int64_t owner, StoreUse *ret, bool *ret_changed, Error *error) {
        StoreUse said = {}, found = {};
        int r;

        *ret_changed = false;
        if (connection->counted && g_hash_table_contains(connection->counted, &owner))
                return 0;
        if ((r = store_owner_use(connection, owner, &said, error)) != 0 ||
            (r = count_use(connection, owner, &found, error)) != 0)
                return r;

        if (said.licenses == found.licenses && said.remembered == found.remembered && said.bytes == found.bytes) {
                if (!connection->counted)
                        connection->counted = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
                g_hash_table_add(connection->counted, g_memdup2(&owner, sizeof owner));
                return 0;
        }
        *ret = found;
        *ret_changed = true;
        return write_use(connection, owner, &found, error);
}

/* What lies under an owner's keys. */
static int run_for_range(StoreConnection *connection, const char *sql, int64_t first, int64_t last, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = store_statement(connection, sql, error);

        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, first);
        sqlite3_bind_int64(statement, 2, last);
        return statement_write(connection, statement, error);
}

/* The number of an owner that must be there, and that no restore is under way for. */
static int find_settled(StoreConnection *connection, const StoreOwner *owner, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        r = store_owner_find(connection, owner, ret, error);
        if (r != 0)
                return r;
        if (*ret == 0)
                return error_set(error, ERROR_LICENSE_UNAVAILABLE,
                        "The store has nothing of user '%s' (%" PRIu32 "). ListOwners tells of whom it has.",
                        owner->name, (uint32_t)owner->uid);

        statement = store_statement(connection, "SELECT 1 FROM staged_ids WHERE key BETWEEN ? AND ? LIMIT 1", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, store_key_first(*ret));
        sqlite3_bind_int64(statement, 2, store_key_last(*ret));
        r = statement_row(connection, statement, error);
        if (r > 0)
                return error_set(error, ERROR_BACKUP_BUSY,
                        "A restore to that user is under way, or has just ended. Try again in a moment.");
        return r < 0 ? (int)error->code : 0;
}

int store_owner_rows(StoreConnection *connection, sqlite3_stmt *statement, GPtrArray *ret, Error *error) {
        int r;

        g_ptr_array_set_free_func(ret, (GDestroyNotify)store_owner_row_free);
        while ((r = statement_row(connection, statement, error)) > 0) {
                const char *text = (const char *)sqlite3_column_text(statement, 2);
                StoreOwnerRow *row = g_try_new0(StoreOwnerRow, 1);

                if (!text || !row || license_set_string(&row->name, text) < 0) {
                        store_owner_row_free(row);
                        return error_set_no_memory(error);
                }
                row->owner = sqlite3_column_int64(statement, 0);
                row->uid = (uid_t)sqlite3_column_int64(statement, 1);
                row->licenses = (uint64_t)sqlite3_column_int64(statement, 3);
                row->bytes = (uint64_t)sqlite3_column_int64(statement, 4);
                g_ptr_array_add(ret, row);
        }
        return r < 0 ? (int)error->code : 0;
}

int store_owner_list(StoreConnection *connection, unsigned offset, unsigned max, GPtrArray *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "SELECT " OWNER_COLUMNS " FROM owners ORDER BY name, uid LIMIT ?2 OFFSET ?1", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, offset);
        sqlite3_bind_int64(statement, 2, max);
        return store_owner_rows(connection, statement, ret, error);
}

/* Reassigning */

/* To somebody whom the store does not know yet: all stays where it is, and gets another name. */
static int rename_owner(StoreConnection *connection, int64_t from, const StoreOwner *to, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection, "UPDATE owners SET uid = ?, name = ? WHERE owner = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, to->uid);
        statement_bind_text(statement, 2, to->name);
        sqlite3_bind_int64(statement, 3, from);
        r = statement_write(connection, statement, error);

        /* The paths in them have the old number. */
        return r != 0 ? r : store_property_remove_all(connection, from, error);
}

/* Copies all of an owner's as if a restore had staged it for another: the key's distance is the same for all. */
static int stage_all(StoreConnection *connection, int64_t from, int64_t to, int64_t restore, Error *error) {
        static const char *const copies[] = {
                "INSERT INTO staged_ids (key, restore, owner, id, generation, revoked, allow_backup, charge) "
                "SELECT key + ?3, ?4, ?5, id, generation, revoked, allow_backup, charge FROM licenses "
                "WHERE key BETWEEN ?1 AND ?2",
                "INSERT INTO staged_licenses (key, key_id, title, issuer, media_type, not_before, not_after, "
                "extension, document_date, digest, size, charge) "
                "SELECT key + ?3, key_id, title, issuer, media_type, not_before, not_after, extension, document_date, "
                "digest, size, charge FROM licenses WHERE key BETWEEN ?1 AND ?2 AND present",
                "INSERT INTO documents (key, document) SELECT d.key + ?3, d.document FROM documents AS d "
                "WHERE d.key BETWEEN ?1 AND ?2",
                "INSERT INTO counters (key, name, remaining) SELECT key + ?3, name, remaining FROM counters "
                "WHERE key BETWEEN ?1 AND ?2",
        };
        _cleanup_statement_ sqlite3_stmt *last = NULL;
        int64_t next = 0;
        int r;

        r = store_next_key(connection, to, &next, error);
        if (r != 0)
                return r;
        last = store_statement(connection,
                "SELECT coalesce(max(key), ?1) FROM licenses WHERE key BETWEEN ?1 AND ?2", error);
        if (!last)
                return (int)error->code;
        sqlite3_bind_int64(last, 1, store_key_first(from));
        sqlite3_bind_int64(last, 2, store_key_last(from));
        if (statement_row(connection, last, error) < 0 ||
            store_key_check(to, sqlite3_column_int64(last, 0) - store_key_first(from) + next, error) != 0)
                return (int)error->code;

        for (size_t i = 0; i < G_N_ELEMENTS(copies); i++) {
                _cleanup_statement_ sqlite3_stmt *statement = store_statement(connection, copies[i], error);

                if (!statement)
                        return (int)error->code;
                sqlite3_bind_int64(statement, 1, store_key_first(from));
                sqlite3_bind_int64(statement, 2, store_key_last(from));
                sqlite3_bind_int64(statement, 3, next - store_key_first(from));
                if (sqlite3_bind_parameter_count(statement) > 3) {
                        sqlite3_bind_int64(statement, 4, restore);
                        sqlite3_bind_int64(statement, 5, to);
                }
                r = statement_write(connection, statement, error);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int refuse_conflict(const char *id, const char *key_id, const char *title, void *userdata, Error *error) {
        return error_set(error, ERROR_INVALID_ARGUMENTS,
                "Both have a license '%s', and nothing says which is the newer, or that is damaged, or one of them has "
                "revoked it. Nothing was reassigned: let the user save and remove that license first, and store it "
                "again afterwards; or back up the licenses of the one, and restore them for the other.", id);
}

/* Nobody waits for it, and what is damaged with one of the two must not be what stays. */
static bool look_at_all(int64_t key, void *userdata) {
        return true;
}

static int forget_owner(StoreConnection *connection, int64_t owner, Error *error) {
        int r;

        r = store_property_remove_all(connection, owner, error);
        return r != 0 ? r : store_run_for_key(connection, "DELETE FROM owners WHERE owner = ?", owner, error);
}

static int forget_keys(StoreConnection *connection, int64_t first, int64_t last, Error *error) {
        static const char *const deletes[] = {
                "DELETE FROM counters WHERE key BETWEEN ? AND ?",
                "DELETE FROM documents WHERE key BETWEEN ? AND ?",
                "DELETE FROM licenses WHERE key BETWEEN ? AND ?",
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < G_N_ELEMENTS(deletes); i++)
                r = run_for_range(connection, deletes[i], first, last, error);
        return r;
}

int store_owner_reassign(StoreConnection *connection, const StoreOwner *from, const StoreOwner *to, int64_t restore,
                uint64_t *ret_licenses, Error *error) {
        static const StoreMergeEvents events = {
                .conflict = refuse_conflict,
                .may_repair = look_at_all,
                .of_another = true,
                .only_copy = true,
        };
        int64_t source = 0, target = 0;
        StoreMerge merged = {};
        StoreUse use = {};
        int r;

        if ((r = find_settled(connection, from, &source, error)) != 0 ||
            (r = store_owner_use(connection, source, &use, error)) != 0 ||
            (r = store_owner_find(connection, to, &target, error)) != 0)
                return r;
        *ret_licenses = use.licenses;
        if (target == 0)
                return rename_owner(connection, source, to, error);
        /* What follows removes what the source has: a directory that was down for a moment makes the two one. */
        if (target == source)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "'%s' (%" PRIu32 ") has these licenses already. Nothing was changed.", to->name,
                        (uint32_t)to->uid);

        if ((r = store_check_space(connection, error)) != 0 ||
            (r = stage_all(connection, source, target, restore, error)) != 0 ||
            (r = store_merge(connection, restore, &events, &merged, error)) != 0 ||
            (r = forget_keys(connection, store_key_first(source), store_key_last(source), error)) != 0)
                return r;
        return forget_owner(connection, source, error);
}

/* The key that ends a slice of an owner's, 0 where there is nothing left. */
static int find_slice(StoreConnection *connection, int64_t owner, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        uint64_t bytes = 0;
        int r = 1;

        *ret = 0;
        statement = store_statement(connection,
                "SELECT key, charge FROM licenses WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, store_key_first(owner));
        sqlite3_bind_int64(statement, 2, store_key_last(owner));
        sqlite3_bind_int64(statement, 3, PURGE_ROWS);
        while (bytes < STORE_SLICE_BYTES && (r = statement_row(connection, statement, error)) > 0) {
                *ret = sqlite3_column_int64(statement, 0);
                bytes += (uint64_t)sqlite3_column_int64(statement, 1);
        }
        return r < 0 ? (int)error->code : 0;
}

/* Takes what lies below a key off the owner's books. */
static int discharge(StoreConnection *connection, int64_t owner, int64_t last, uint64_t *ret_licenses, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "SELECT sum(present), count(*), sum(charge) FROM licenses WHERE key BETWEEN ? AND ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, store_key_first(owner));
        sqlite3_bind_int64(statement, 2, last);
        if (statement_row(connection, statement, error) < 0)
                return (int)error->code;
        *ret_licenses = (uint64_t)sqlite3_column_int64(statement, 0);
        return store_owner_add(connection, owner, -sqlite3_column_int64(statement, 0),
                -sqlite3_column_int64(statement, 1), -sqlite3_column_int64(statement, 2), error);
}

int store_owner_purge(StoreConnection *connection, const StoreOwner *owner, uint64_t *ret_licenses, bool *ret_more,
                Error *error) {
        int64_t number = 0, last = 0, rest = 0;
        int r;

        *ret_licenses = 0;
        if ((r = find_settled(connection, owner, &number, error)) != 0 ||
            (r = find_slice(connection, number, &last, error)) != 0)
                return r;
        if (last != 0 &&
            ((r = discharge(connection, number, last, ret_licenses, error)) != 0 ||
             (r = forget_keys(connection, store_key_first(number), last, error)) != 0 ||
             (r = find_slice(connection, number, &rest, error)) != 0))
                return r;

        /* With the last of what is theirs, so that few licenses go all at once, or stay. */
        *ret_more = rest != 0;
        return *ret_more ? 0 : forget_owner(connection, number, error);
}

void store_owner_name_error(StoreConnection *connection, int64_t owner, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        g_auto(Error) ignored = {};

        statement = store_statement(connection, "SELECT name, uid FROM owners WHERE owner = ?", &ignored);
        if (!statement)
                return;
        sqlite3_bind_int64(statement, 1, owner);
        if (statement_row(connection, statement, &ignored) > 0)
                error_prefix(error, "User %s (%lld)", (const char *)sqlite3_column_text(statement, 0),
                        sqlite3_column_int64(statement, 1));
}
