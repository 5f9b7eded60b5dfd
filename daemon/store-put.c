/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <inttypes.h>
#include <string.h>

int store_check_use(StoreConnection *connection, const StoreUse *use, const StoreUse *more, Error *error) {
        const StoreLimits *limits = &connection->limits;

        if (more->licenses > 0 && use->licenses + more->licenses > limits->licenses_per_user)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "These would be more licenses than a user can have, %" PRIu64 " (LicensesPerUser=). Remove "
                        "some first.",
                        limits->licenses_per_user);
        if (more->remembered > 0 && use->remembered + more->remembered > limits->remembered_per_user)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "These would be more ids than are remembered of a user, %" PRIu64 " (RememberedPerUser=). Ask "
                        "the administrator.",
                        limits->remembered_per_user);
        if (more->bytes > 0 && use->bytes + more->bytes > limits->bytes_per_user)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "Your licenses would take more than %" PRIu64 " bytes (BytesPerUser=). Remove some first.",
                        limits->bytes_per_user);
        return 0;
}

static int check_space(StoreConnection *connection, bool is_full, Error *error) {
        const StoreLimits *limits = &connection->limits;

        if (connection->no_space)
                return error_set(error, ERROR_STORE_FULL,
                        "Less than %u %% of the store's disk is free (MinimumFreePercent=). Make room, then try "
                        "again.",
                        limits->minimum_free_percent);
        if (is_full)
                return error_set(error, ERROR_STORE_FULL,
                        "The license store has reached its %" PRIu64 " bytes (StoreBytes=). Ask the administrator.",
                        limits->store_bytes);
        return 0;
}

int store_check_space(StoreConnection *connection, Error *error) {
        return check_space(connection, connection->store_full, error);
}

int store_check_staging(StoreConnection *connection, Error *error) {
        return check_space(connection, connection->staging_full, error);
}

int store_check_merged(StoreConnection *connection, Error *error) {
        int64_t bytes;
        int r;

        /*
         * Not by pages alone: what was staged is still there, and goes. Nor by the sum alone: one owner's may have
         * rotted, and is not to refuse the restores of all.
         */
        if (!connection->store_full)
                return check_space(connection, false, error);
        r = store_connection_integer(connection, "SELECT sum(bytes) FROM owners", &bytes, error);
        return r != 0 ? r : check_space(connection, (uint64_t)bytes > connection->limits.store_bytes, error);
}

int store_check_document(StoreConnection *connection, const License *license, Error *error) {
        if (license->size <= connection->limits.document_bytes)
                return 0;
        return error_set(error, ERROR_LIMIT_EXCEEDED,
                "The document is larger than %" PRIu64 " bytes (DocumentBytes=).", connection->limits.document_bytes);
}

/* Whether one more license, or one in place of another, stays within the limits. */
static int check_limits(StoreConnection *connection, int64_t owner, const StoreRow *row, uint64_t charge,
                Error *error) {
        const StoreUse more = {
                .licenses = !row->present,
                .remembered = row->key == 0,
                .bytes = charge > row->charge ? charge - row->charge : 0,
        };
        g_auto(Error) ignored = {};
        StoreUse use = {};
        bool changed;
        int r;

        if ((r = store_check_space(connection, error)) != 0 ||
            (r = store_owner_use(connection, owner, &use, error)) != 0)
                return r;
        if (store_check_use(connection, &use, &more, &ignored) == 0)
                return 0;
        r = store_owner_recount(connection, owner, &use, &changed, error);
        return r != 0 ? r : store_check_use(connection, &use, &more, error);
}

int store_key_check(int64_t owner, int64_t key, Error *error) {
        if (key <= store_key_last(owner))
                return 0;
        return error_set(error, ERROR_LIMIT_EXCEEDED,
                "You have stored as many ids as can be counted. Ask the administrator.");
}

int store_next_key(StoreConnection *connection, int64_t owner, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(connection,
                "SELECT max(coalesce((SELECT max(key) FROM licenses WHERE key BETWEEN ?1 AND ?2), ?1 - 1), "
                "coalesce((SELECT max(key) FROM staged_ids WHERE key BETWEEN ?1 AND ?2), ?1 - 1))", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, store_key_first(owner));
        sqlite3_bind_int64(statement, 2, store_key_last(owner));
        if (statement_row(connection, statement, error) < 0)
                return (int)error->code;

        *ret = sqlite3_column_int64(statement, 0) + 1;
        return store_key_check(owner, *ret, error);
}

int store_row_write(StoreConnection *connection, int64_t key, int64_t owner, const License *license,
        uint64_t charge, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        uint8_t proof[LICENSE_PROOF_SIZE];

        statement = store_statement(connection,
                "INSERT OR REPLACE INTO licenses (key, owner, id, generation, present, allow_backup, key_id, "
                "title, issuer, media_type, not_before, not_after, extension, document_date, digest, size, charge) "
                "VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", error);
        if (!statement)
                return (int)error->code;

        sqlite3_bind_int64(statement, 1, key);
        sqlite3_bind_int64(statement, 2, owner);
        statement_bind_text(statement, 3, license->id);
        sqlite3_bind_int64(statement, 4, (int64_t)license->generation);
        sqlite3_bind_int(statement, 5, license->allow_backup);
        statement_bind_text(statement, 6, license->key_id);
        statement_bind_text(statement, 7, license->title);
        statement_bind_text(statement, 8, license->issuer);
        statement_bind_text(statement, 9, license->media_type);
        statement_bind_time(statement, 10, license->not_before);
        statement_bind_time(statement, 11, license->not_after);
        statement_bind_text(statement, 12, license->extension);
        if (license->document_date != LICENSE_NO_DATE)
                sqlite3_bind_int64(statement, 13, license->document_date);
        sqlite3_bind_blob64(statement, 14, proof, license_proof(license, proof), SQLITE_STATIC);
        sqlite3_bind_int64(statement, 15, (int64_t)license->size);
        sqlite3_bind_int64(statement, 16, (int64_t)charge);
        return statement_write(connection, statement, error);
}

int store_row_write_counters(StoreConnection *connection, int64_t key, const License *license, Error *error) {
        int r = 0;

        for (unsigned i = 0; r == 0 && i < license->counters->len; i++) {
                _cleanup_statement_ sqlite3_stmt *statement = NULL;
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                statement = store_statement(connection,
                        "INSERT INTO counters (key, name, remaining) VALUES (?, ?, ?) "
                        "ON CONFLICT DO UPDATE SET remaining = min(remaining, excluded.remaining)", error);
                if (!statement)
                        return (int)error->code;
                sqlite3_bind_int64(statement, 1, key);
                statement_bind_text(statement, 2, counter->right);
                sqlite3_bind_int64(statement, 3, (int64_t)counter->remaining);
                r = statement_write(connection, statement, error);
        }
        return r;
}

/*
 * Lays the counters that the store knows under those of the license: a counter never rises, and none goes but what is
 * damaged and cannot be one.
 */
static int keep_low_counters(StoreConnection *connection, const StoreRow *row, License *license, Error *error) {
        g_auto(License) known = {};
        bool rotten = false;
        int r;

        license_init(&known);
        r = store_row_load_counters(connection, row->key, &known, error);
        if (r != 0)
                return r;

        for (unsigned i = 0; i < known.counters->len; i++) {
                const Counter *counter = &g_array_index(known.counters, Counter, i);

                if (!license_counter_is_valid(counter))
                        rotten = true;
                else if (license_limit_counter(license, counter->right, counter->remaining) == LICENSE_COUNTERS_FULL)
                        return error_set(error, ERROR_LIMIT_EXCEEDED,
                                "License '%s' would have more than %u counters, those from before included. "
                                "Store it with the same rights as before.", license->id, LICENSE_COUNTERS_MAX);
        }
        return rotten ? store_run_for_key(connection, "DELETE FROM counters WHERE key = ?", row->key, error) : 0;
}

int store_license_put(StoreConnection *connection, const StoreOwner *owner, License *license,
        const void *document, Error *error) {
        int64_t number = 0, key = 0;
        uint64_t charge;
        StoreRow row = {};
        int r;

        if ((r = store_check_document(connection, license, error)) != 0 ||
            (r = store_owner_ensure(connection, owner, &number, error)) != 0 ||
            (r = store_row_find(connection, number, license->id, &row, error)) != 0)
                return r;
        if (row.revoked)
                return error_set(error, ERROR_LICENSE_REVOKED,
                        "License '%s' was revoked and cannot be stored again.", license->id);
        if (row.key > 0 && (r = keep_low_counters(connection, &row, license, error)) != 0)
                return r;

        /* A restored one may be as large as can be. */
        license->generation = MIN(row.generation, (uint64_t)INT64_MAX - 1) + 1;
        charge = store_charge_license(license);
        key = row.key;
        if ((r = check_limits(connection, number, &row, charge, error)) != 0 ||
            (key == 0 && (r = store_next_key(connection, number, &key, error)) != 0))
                return r;

        if ((r = store_row_write(connection, key, number, license, charge, error)) != 0 ||
            (r = store_document_write(connection, key, document, license->size, error)) != 0 ||
            (r = store_row_write_counters(connection, key, license, error)) != 0)
                return r;
        return store_owner_add(connection, number, !row.present, row.key == 0,
                (int64_t)charge - (int64_t)row.charge, error);
}
