/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <inttypes.h>
#include <string.h>

/* What an id, a counter and a row cost beside their text, for the limit of bytes a user. */
#define CHARGE_ROW 64U
#define CHARGE_COUNTER 64U

/*
 * Rows that a page of EnumerateLicenses looks at before it is given out as it is; of deleted licenses, too, of which an
 * owner may have millions. Other reads wait behind one without a filter.
 */
#define ENUMERATE_ROWS_MAX 2000U
#define SEARCH_ROWS_MAX 20000U

int store_row_find(StoreConnection *connection, int64_t owner, const char *id, StoreRow *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        *ret = (StoreRow) {};
        if (owner == 0)
                return 0;

        statement = store_statement(connection,
                "SELECT key, generation, present, revoked IS NOT NULL, charge FROM licenses WHERE owner = ? AND "
                "id = ?",
                error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, owner);
        statement_bind_text(statement, 2, id);

        r = statement_row(connection, statement, error);
        if (r < 0)
                return (int)error->code;
        if (r > 0)
                *ret = (StoreRow) {
                        .key = sqlite3_column_int64(statement, 0),
                        .generation = (uint64_t)sqlite3_column_int64(statement, 1),
                        .present = sqlite3_column_int(statement, 2),
                        .revoked = sqlite3_column_int(statement, 3),
                        .charge = (uint64_t)sqlite3_column_int64(statement, 4),
                };
        return 0;
}

static int unavailable(const char *id, Error *error) {
        return error_set(error, ERROR_LICENSE_UNAVAILABLE,
                "There is no license '%s'. EnumerateLicenses lists those that there are.", id);
}

int store_license_rotten(const char *id, StoreDamage damage, Error *error) {
        return error_set(error, ERROR_STORE_CORRUPT, "%s license '%s' is damaged in the store. Store it again, or "
                "restore a backup that has it.",
                damage == STORE_DAMAGE_DOCUMENT ? "The document of" : "What is known beside the document of", id);
}

int store_row_load_counters(StoreConnection *connection, int64_t key, License *license, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection, "SELECT name, remaining FROM counters WHERE key = ? ORDER BY name",
                error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, key);

        while ((r = statement_row(connection, statement, error)) > 0) {
                const char *right = (const char *)sqlite3_column_text(statement, 0);

                if (!right)
                        return error_set_no_memory(error);
                (void)license_limit_counter(license, right, (uint64_t)sqlite3_column_int64(statement, 1));
        }
        return r < 0 ? (int)error->code : 0;
}

static uint64_t text_bytes(const char *string) {
        return string ? strlen(string) : 0;
}

uint64_t store_charge_remembered(const char *id, const GArray *counters) {
        uint64_t charge = CHARGE_ROW + strlen(id);

        for (unsigned i = 0; i < counters->len; i++)
                charge += CHARGE_COUNTER + strlen(g_array_index(counters, Counter, i).right);
        return charge;
}

uint64_t store_charge_license(const License *license) {
        return store_charge_remembered(license->id, license->counters) + license->size +
               text_bytes(license->key_id) + text_bytes(license->title) +
               text_bytes(license->issuer) + text_bytes(license->media_type);
}

void store_row_judge(License *license, bool revoked) {
        license_judge(license);
        /* One of the two is damaged, and a document goes before the other. */
        if (revoked)
                license->soundness = LICENSE_ROTTEN;
}

/* Copies a text column that may be NULL. */
static int text_column(sqlite3_stmt *statement, int column, char **ret) {
        const char *text;

        if (sqlite3_column_type(statement, column) == SQLITE_NULL)
                return 0;
        text = (const char *)sqlite3_column_text(statement, column);
        return text ? license_set_string(ret, text) : -ENOMEM;
}

int license_from_row(sqlite3_stmt *statement, int first, License *ret, Error *error) {
        g_auto(License) license = {};
        const char *extension;

        license_init(&license);
        extension = (const char *)sqlite3_column_text(statement, first + 8);
        if ((!extension && sqlite3_column_type(statement, first + 8) != SQLITE_NULL) ||
            text_column(statement, first, &license.id) < 0 ||
            text_column(statement, first + 1, &license.key_id) < 0 ||
            text_column(statement, first + 2, &license.title) < 0 ||
            text_column(statement, first + 3, &license.issuer) < 0 ||
            text_column(statement, first + 4, &license.media_type) < 0)
                return error_set_no_memory(error);

        license.not_before = statement_time(statement, first + 5);
        license.not_after = statement_time(statement, first + 6);
        license.allow_backup = sqlite3_column_int(statement, first + 7);
        license.extension = license_extension(extension);
        if (sqlite3_column_type(statement, first + 9) != SQLITE_NULL)
                license.document_date = sqlite3_column_int64(statement, first + 9);
        license_take_proof(&license, sqlite3_column_blob(statement, first + LICENSE_COLUMN_DIGEST),
                (size_t)sqlite3_column_bytes(statement, first + LICENSE_COLUMN_DIGEST));
        license.size = (uint64_t)sqlite3_column_int64(statement, first + 11);
        license.generation = (uint64_t)sqlite3_column_int64(statement, first + 12);

        license_clear(ret);
        *ret = license;
        license = (License) {};
        return 0;
}

/* An owner's license of an id, if it is there: parameters are uid, name and id. */
#define FROM_OWNER "FROM owners AS o JOIN licenses AS l ON l.owner = o.owner "
#define WHERE_OWNER "WHERE o.uid = ? AND o.name = ? AND l.id = ? AND l.present"

/*
 * Finds a license that is there, by SQL whose first columns are LICENSE_COLUMNS and l.key and which goes by FROM_OWNER
 * and WHERE_OWNER: one statement, for each takes a lock. *ret_statement stands on the row, for the columns after those.
 */
static int find_license(StoreConnection *connection, const StoreOwner *owner, const char *id, const char *sql,
        sqlite3_stmt **ret_statement, License *ret, Error *error) {
        sqlite3_stmt *statement;
        int r;

        statement = *ret_statement = store_statement(connection, sql, error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, owner->uid);
        statement_bind_text(statement, 2, owner->name);
        statement_bind_text(statement, 3, id);
        r = statement_row(connection, statement, error);
        if (r < 0)
                return (int)error->code;
        if (r == 0)
                return unavailable(id, error);

        r = license_from_row(statement, 0, ret, error);
        if (r != 0)
                return r;
        return store_row_load_counters(connection, sqlite3_column_int64(statement, N_LICENSE_COLUMNS), ret, error);
}

int store_license_get(StoreConnection *connection, const StoreOwner *owner, const char *id,
        uint64_t document_max, License *ret_license, void **ret_document, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        g_autofree void *document = NULL;
        int r;

        r = find_license(connection, owner, id,
                "SELECT " LICENSE_COLUMNS ", l.key, d.document " FROM_OWNER
                "LEFT JOIN documents AS d ON d.key = l.key " WHERE_OWNER,
                &statement, ret_license, error);
        if (r != 0)
                return r;

        if (ret_license->size > document_max)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "The document of license '%s' does not fit into a reply. Use OpenLicense.", id);

        const void *blob = sqlite3_column_blob(statement, N_LICENSE_COLUMNS + 1);
        size_t size = (size_t)sqlite3_column_bytes(statement, N_LICENSE_COLUMNS + 1);
        if (sqlite3_errcode(connection->db) == SQLITE_NOMEM)
                return error_set_no_memory(error);
        if (!license_document_is_whole(ret_license, blob ?: "", size))
                return store_license_rotten(id, STORE_DAMAGE_DOCUMENT, error);

        document = g_try_malloc(size + 1);
        if (!document)
                return error_set_no_memory(error);
        memcpy(document, blob ?: "", size);

        *ret_document = g_steal_pointer(&document);
        return 0;
}

uint64_t license_wire_size(const License *license) {
        /* 64 bytes hold the alignment, the key, and the lengths of any one entry of the dictionary. */
        uint64_t size = 2 * (64 + strlen(license->id)) + 8 * 64;

        size += text_bytes(license->key_id) + text_bytes(license->title) +
                text_bytes(license->issuer) + text_bytes(license->media_type);
        for (unsigned i = 0; i < license->counters->len; i++)
                size += 32 + strlen(g_array_index(license->counters, Counter, i).right);
        return size;
}

bool store_filter_is_empty(const StoreFilter *filter) {
        return !filter->key_id && !filter->issuer && !filter->media_type && filter->valid_at == LICENSE_NO_TIME &&
                filter->allow_backup < 0;
}

static bool filter_matches(const StoreFilter *filter, const License *license) {
        if ((filter->key_id && g_strcmp0(filter->key_id, license->key_id) != 0) ||
            (filter->issuer && g_strcmp0(filter->issuer, license->issuer) != 0) ||
            (filter->media_type && g_strcmp0(filter->media_type, license->media_type) != 0))
                return false;
        if (filter->allow_backup >= 0 && (bool)filter->allow_backup != license->allow_backup)
                return false;
        if (filter->valid_at != LICENSE_NO_TIME) {
                if (license->not_before != LICENSE_NO_TIME && filter->valid_at < license->not_before)
                        return false;
                if (license->not_after != LICENSE_NO_TIME && filter->valid_at > license->not_after)
                        return false;
        }
        return true;
}

static void license_free(License *license) {
        if (license) {
                license_clear(license);
                g_free(license);
        }
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(License, license_free)

/* Reads the license of the row that the statement stands on, with its counters, if it matches; else NULL. */
static int read_match(StoreConnection *connection, sqlite3_stmt *statement, const StoreFilter *filter,
        License **ret, Error *error) {
        g_autoptr(License) license = NULL;
        int r;

        /* Deleted ones are rows, too: an owner may have millions of them. */
        *ret = NULL;
        if (!sqlite3_column_int(statement, N_LICENSE_COLUMNS + 1))
                return 0;

        license = g_try_new0(License, 1);
        if (!license)
                return error_set_no_memory(error);
        r = license_from_row(statement, 0, license, error);
        if (r != 0)
                return r;
        if (!filter_matches(filter, license))
                return 0;

        r = store_row_load_counters(connection, sqlite3_column_int64(statement, N_LICENSE_COLUMNS), license, error);
        if (r == 0)
                *ret = g_steal_pointer(&license);
        return r;
}

int store_license_enumerate(StoreConnection *connection, const StoreOwner *owner, const StoreFilter *filter,
        const char *after, unsigned max, uint64_t bytes_max, GPtrArray *ret_licenses, char **ret_next,
        Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        g_autofree char *last = NULL;
        uint64_t bytes = 0;
        const unsigned rows_max = store_filter_is_empty(filter) ? ENUMERATE_ROWS_MAX : SEARCH_ROWS_MAX;
        unsigned n_rows = 0;
        int64_t number = 0;
        bool more = false;
        int r;

        g_ptr_array_set_free_func(ret_licenses, (GDestroyNotify)license_free);
        r = store_owner_find(connection, owner, &number, error);
        if (r != 0)
                return r;

        statement = store_statement(connection,
                "SELECT " LICENSE_COLUMNS ", l.key, l.present FROM licenses AS l "
                "WHERE l.owner = ? AND l.id > ? ORDER BY l.id", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, number);
        statement_bind_text(statement, 2, after);

        while ((r = statement_row(connection, statement, error)) > 0) {
                g_autoptr(License) license = NULL;
                const char *id;

                if (ret_licenses->len >= max || n_rows++ >= rows_max) {
                        more = true;
                        break;
                }
                r = read_match(connection, statement, filter, &license, error);
                if (r != 0)
                        return r;
                if (license && (bytes += license_wire_size(license)) > bytes_max && ret_licenses->len > 0) {
                        more = true;
                        break;
                }

                id = (const char *)sqlite3_column_text(statement, 0);
                if (!id || license_set_string(&last, id) < 0)
                        return error_set_no_memory(error);
                if (license)
                        g_ptr_array_add(ret_licenses, g_steal_pointer(&license));
        }
        if (r < 0)
                return (int)error->code;

        if (!more && license_set_string(&last, "") < 0)
                return error_set_no_memory(error);
        *ret_next = g_steal_pointer(&last);
        return 0;
}

/* "2026-11-22 20:15 UTC", for messages. */
static void format_time(int64_t time, char ret[32]) {
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_utc(time);
        g_autofree char *text = date ? g_date_time_format(date, "%F %R UTC") : NULL;

        g_strlcpy(ret, text ?: "a time far away", 32);
}

static int check_times(const License *license, int64_t now, Error *error) {
        char text[32];

        if (license->not_before != LICENSE_NO_TIME && now < license->not_before) {
                format_time(license->not_before, text);
                return error_set(error, ERROR_NO_RIGHTS, "License '%s' is not valid before %s.", license->id, text);
        }
        if (license->not_after != LICENSE_NO_TIME && now > license->not_after) {
                format_time(license->not_after, text);
                return error_set(error, ERROR_NO_RIGHTS, "License '%s' was valid until %s. Renew it.", license->id,
                        text);
        }
        return 0;
}

/* After a change of what the seal is over. */
static int write_proof(StoreConnection *connection, int64_t key, const License *license, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        uint8_t proof[LICENSE_PROOF_SIZE];

        statement = store_statement(connection, "UPDATE licenses SET digest = ? WHERE key = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_blob64(statement, 1, proof, license_proof(license, proof), SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, key);
        return statement_write(connection, statement, error);
}

int store_license_consume(StoreConnection *connection, const StoreOwner *owner, const char *id,
        const char *right, uint64_t amount, int64_t now, uint64_t *ret_remaining, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        _cleanup_statement_ sqlite3_stmt *update = NULL;
        g_auto(License) license = {};
        const Counter *counter;
        uint64_t remaining;
        int64_t key;
        int r;

        license_init(&license);
        r = find_license(connection, owner, id,
                "SELECT " LICENSE_COLUMNS ", l.key " FROM_OWNER WHERE_OWNER,
                &statement, &license, error);
        if (r != 0)
                return r;
        license_judge(&license);
        counter = license_find_counter(&license, right);
        if (license.soundness == LICENSE_ROTTEN || (counter && !license_counter_is_valid(counter)))
                return store_license_rotten(id, STORE_DAMAGE_ROW, error);
        r = check_times(&license, now, error);
        if (r != 0)
                return r;
        key = sqlite3_column_int64(statement, N_LICENSE_COLUMNS);

        if (!counter) {
                *ret_remaining = UINT64_MAX;
                return 0;
        }
        if (counter->remaining < amount)
                return error_set(error, ERROR_NO_RIGHTS,
                        "License '%s' has %" PRIu64 " use%s of '%s' left, fewer than the %" PRIu64 " asked for.", id,
                        counter->remaining, counter->remaining == 1 ? "" : "s", right, amount);

        remaining = counter->remaining - amount;
        (void)license_limit_counter(&license, right, remaining);
        update = store_statement(connection, "UPDATE counters SET remaining = ? WHERE key = ? AND name = ?", error);
        if (!update)
                return (int)error->code;
        sqlite3_bind_int64(update, 1, (int64_t)remaining);
        sqlite3_bind_int64(update, 2, key);
        statement_bind_text(update, 3, right);
        if ((r = statement_write(connection, update, error)) != 0 ||
            (r = write_proof(connection, key, &license, error)) != 0)
                return r;
        *ret_remaining = remaining;
        return 0;
}

int store_row_forget(StoreConnection *connection, int64_t owner, const StoreRow *row, const char *id, Error *error) {
        _cleanup_statement_ sqlite3_stmt *update = NULL;
        _cleanup_statement_ sqlite3_stmt *document = NULL;
        g_auto(License) known = {};
        uint64_t charge;
        int r;

        license_init(&known);
        r = store_row_load_counters(connection, row->key, &known, error);
        if (r != 0)
                return r;
        charge = store_charge_remembered(id, known.counters);

        update = store_statement(connection,
                "UPDATE licenses SET present = 0, key_id = NULL, title = NULL, issuer = NULL, media_type = NULL, "
                "not_before = NULL, not_after = NULL, extension = NULL, document_date = NULL, digest = NULL, "
                "size = NULL, "
                "charge = ? WHERE key = ?", error);
        document = update ? store_statement(connection, "DELETE FROM documents WHERE key = ?", error) : NULL;
        if (!document)
                return (int)error->code;
        sqlite3_bind_int64(update, 1, (int64_t)charge);
        sqlite3_bind_int64(update, 2, row->key);
        sqlite3_bind_int64(document, 1, row->key);

        if ((r = statement_write(connection, update, error)) != 0 ||
            (r = statement_write(connection, document, error)) != 0)
                return r;
        return store_owner_add(connection, owner, -1, 0, (int64_t)charge - (int64_t)row->charge, error);
}

int store_license_delete(StoreConnection *connection, const StoreOwner *owner, const char *id, Error *error) {
        int64_t number = 0;
        StoreRow row = {};
        int r;

        if ((r = store_owner_find(connection, owner, &number, error)) != 0 ||
            (r = store_row_find(connection, number, id, &row, error)) != 0)
                return r;
        if (!row.present)
                return unavailable(id, error);
        return store_row_forget(connection, number, &row, id, error);
}

int store_license_revoke(StoreConnection *connection, const StoreOwner *owner, const char *id, int64_t now,
        Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t number = 0;
        StoreRow row = {};
        int r;

        if ((r = store_owner_find(connection, owner, &number, error)) != 0 ||
            (r = store_row_find(connection, number, id, &row, error)) != 0)
                return r;
        if (row.key == 0)
                return unavailable(id, error);
        if (row.present && (r = store_row_forget(connection, number, &row, id, error)) != 0)
                return r;

        statement = store_statement(connection,
                "UPDATE licenses SET revoked = coalesce(revoked, ?) WHERE key = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, now);
        sqlite3_bind_int64(statement, 2, row.key);
        return statement_write(connection, statement, error);
}
