/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <errno.h>
#include <string.h>

/*
 * What a restore has read, written beside the licenses. A staged id has a row in staged_ids with the key that
 * its license gets, should there be none of that id yet; its document lies under that key where documents lie.
 */

static void set_use(StoreStage *stage, const StoreUse *use) {
        stage->has_licenses = use->licenses;
        stage->has_remembered = use->remembered;
        stage->has_bytes = use->bytes;
}

int store_stage_owner(StoreConnection *connection, const StoreOwner *owner, StoreStage *stage, Error *error) {
        StoreUse use = {};
        int r;

        if ((r = store_owner_ensure(connection, owner, &stage->owner, error)) != 0 ||
            (r = store_owner_use(connection, stage->owner, &use, error)) != 0 ||
            (r = store_next_key(connection, stage->owner, &stage->next_key, error)) != 0)
                return r;

        set_use(stage, &use);
        return 0;
}

static int check_use(StoreConnection *connection, const StoreStage *stage, const StoreUse *more, Error *error) {
        const StoreUse use = {
                .licenses = stage->has_licenses + stage->licenses,
                .remembered = stage->has_remembered + stage->remembered,
                .bytes = stage->has_bytes + stage->bytes,
        };

        return store_check_use(connection, &use, more, error);
}

/* Counts more against the owner's limits. */
static int charge(StoreConnection *connection, StoreStage *stage, const StoreUse *more, Error *error) {
        g_auto(Error) ignored = {};
        StoreUse use = {};
        bool changed = false;
        int r;

        r = store_check_staging(connection, error);
        if (r == 0 && check_use(connection, stage, more, &ignored) != 0) {
                r = store_owner_recount(connection, stage->owner, &use, &changed, error);
                if (changed)
                        set_use(stage, &use);
                if (r == 0)
                        r = check_use(connection, stage, more, error);
        }
        if (r != 0)
                return r;
        stage->licenses += more->licenses;
        stage->remembered += more->remembered;
        stage->bytes += more->bytes;
        return 0;
}

/* An id that was staged for this restore. */
typedef struct StagedRow {
        int64_t key; /* 0: there is none */
        uint64_t generation;
        bool revoked;
        bool allow_backup;
        uint64_t charge;
        bool has_document;
} StagedRow;

static int read_staged(StoreConnection *connection, sqlite3_stmt *statement, StagedRow *ret, Error *error) {
        int r;

        r = statement_row(connection, statement, error);
        if (r < 0)
                return (int)error->code;
        *ret = (StagedRow) {};
        if (r > 0)
                *ret = (StagedRow) {
                        .key = sqlite3_column_int64(statement, 0),
                        .generation = (uint64_t)sqlite3_column_int64(statement, 1),
                        .revoked = sqlite3_column_int(statement, 2),
                        .allow_backup = sqlite3_column_int(statement, 3),
                        .charge = (uint64_t)sqlite3_column_int64(statement, 4),
                        .has_document = sqlite3_column_int(statement, 5),
                };
        return 0;
}

#define STAGED_COLUMNS \
        "SELECT s.key, s.generation, s.revoked IS NOT NULL, s.allow_backup, s.charge, " \
        "EXISTS (SELECT 1 FROM staged_licenses AS l WHERE l.key = s.key) FROM staged_ids AS s "

/*
 * A backup has its documents in the order of their states, most of them one after the other: the next row is
 * looked at before all are searched.
 */
static int find_staged(StoreConnection *connection, const StoreStage *stage, const char *id, StagedRow *ret,
                Error *error) {
        _cleanup_statement_ sqlite3_stmt *next = NULL;
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        next = store_statement(connection,
                STAGED_COLUMNS "WHERE s.key = ? AND s.restore = ? AND s.owner = ? AND s.id = ?", error);
        if (!next)
                return (int)error->code;
        sqlite3_bind_int64(next, 1, stage->last_document + 1);
        sqlite3_bind_int64(next, 2, stage->restore);
        sqlite3_bind_int64(next, 3, stage->owner);
        statement_bind_text(next, 4, id);
        r = read_staged(connection, next, ret, error);
        if (r != 0 || ret->key != 0)
                return r;

        statement = store_statement(connection,
                STAGED_COLUMNS "WHERE s.restore = ? AND s.owner = ? AND s.id = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, stage->restore);
        sqlite3_bind_int64(statement, 2, stage->owner);
        statement_bind_text(statement, 3, id);
        return read_staged(connection, statement, ret, error);
}

/* What the store has of an id; for an owner without any that need not be looked up. */
static int find_known(StoreConnection *connection, const StoreStage *stage, const char *id, StoreRow *ret,
                Error *error) {
        *ret = (StoreRow) {};
        return stage->has_remembered == 0 ? 0 : store_row_find(connection, stage->owner, id, ret, error);
}

static int write_id(StoreConnection *connection, const StoreStage *stage, const License *license, int64_t revoked,
                StageResult *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int rc;

        statement = store_statement(connection,
                "INSERT INTO staged_ids (key, restore, owner, id, generation, revoked, allow_backup, charge) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, stage->next_key);
        sqlite3_bind_int64(statement, 2, stage->restore);
        sqlite3_bind_int64(statement, 3, stage->owner);
        statement_bind_text(statement, 4, license->id);
        sqlite3_bind_int64(statement, 5, (int64_t)license->generation);
        statement_bind_time(statement, 6, revoked);
        sqlite3_bind_int(statement, 7, license->allow_backup);
        sqlite3_bind_int64(statement, 8, (int64_t)store_charge_remembered(license->id, license->counters));

        /* That it is there already is told by the index that has to be written anyway. */
        errno = 0;
        rc = sqlite3_step(statement);
        *ret = rc == SQLITE_CONSTRAINT_UNIQUE ? STAGE_TWICE : STAGE_GOOD;
        return rc == SQLITE_DONE || rc == SQLITE_CONSTRAINT_UNIQUE ?
                0 : store_connection_failed(connection, rc, true, error);
}

int store_stage_state(StoreConnection *connection, StoreStage *stage, const License *license, int64_t revoked,
        StageResult *ret, Error *error) {
        StoreUse more = {};
        uint64_t bytes;
        StoreRow row;
        int r;

        r = find_known(connection, stage, license->id, &row, error);
        if (r != 0)
                return r;
        bytes = store_charge_remembered(license->id, license->counters);
        more.remembered = row.key == 0;
        more.bytes = bytes > row.charge ? bytes - row.charge : 0;

        if ((r = store_key_check(stage->owner, stage->next_key, error)) != 0 ||
            (r = write_id(connection, stage, license, revoked, ret, error)) != 0 ||
            *ret != STAGE_GOOD ||
            (r = charge(connection, stage, &more, error)) != 0)
                return r;
        return store_row_write_counters(connection, stage->next_key++, license, error);
}

/* Whether a document's license says what the state of its id said: a backup is of one moment. */
static int compare(StoreConnection *connection, const StagedRow *staged, const License *license, StageResult *ret,
                Error *error) {
        g_auto(License) state = {};
        int r;

        license_init(&state);
        r = store_row_load_counters(connection, staged->key, &state, error);
        if (r != 0)
                return r;

        *ret = !staged->revoked && staged->allow_backup && staged->generation == license->generation &&
                license_counters_equal(&state, license) ? STAGE_GOOD : STAGE_CONTRADICTS;
        return 0;
}

static int write_license(StoreConnection *connection, int64_t key, const License *license, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        uint8_t proof[LICENSE_PROOF_SIZE];

        statement = store_statement(connection,
                "INSERT INTO staged_licenses (key, key_id, title, issuer, media_type, not_before, not_after, "
                "extension, document_date, digest, size, charge) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, key);
        statement_bind_text(statement, 2, license->key_id);
        statement_bind_text(statement, 3, license->title);
        statement_bind_text(statement, 4, license->issuer);
        statement_bind_text(statement, 5, license->media_type);
        statement_bind_time(statement, 6, license->not_before);
        statement_bind_time(statement, 7, license->not_after);
        statement_bind_text(statement, 8, license->extension);
        if (license->document_date != LICENSE_NO_DATE)
                sqlite3_bind_int64(statement, 9, license->document_date);
        sqlite3_bind_blob64(statement, 10, proof, license_proof(license, proof), SQLITE_STATIC);
        sqlite3_bind_int64(statement, 11, (int64_t)license->size);
        sqlite3_bind_int64(statement, 12, (int64_t)store_charge_license(license));
        return statement_write(connection, statement, error);
}

/* Looks for damage to a license that is here and has the document of the backup, or says that it has. */
static int check_known(StoreConnection *connection, int64_t key, const License *license, const void *document,
                StageResult *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        g_auto(License) known = {};
        bool says_so, has_it;
        int r;

        statement = store_statement(connection,
                "SELECT " LICENSE_COLUMNS ", l.revoked IS NOT NULL, d.document IS ? FROM licenses AS l "
                "LEFT JOIN documents AS d ON d.key = l.key WHERE l.key = ? AND l.present", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_blob64(statement, 1, license->size > 0 ? document : "", license->size, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, key);
        r = statement_row(connection, statement, error);
        if (r <= 0)
                return r < 0 ? (int)error->code : 0;

        license_init(&known);
        if ((r = license_from_row(statement, 0, &known, error)) != 0 ||
            (r = store_row_load_counters(connection, key, &known, error)) != 0)
                return r;
        store_row_judge(&known, sqlite3_column_int(statement, N_LICENSE_COLUMNS));
        says_so = license_has_document(&known, license);
        has_it = sqlite3_column_int(statement, N_LICENSE_COLUMNS + 1);
        if (says_so != has_it || (has_it && known.soundness == LICENSE_ROTTEN))
                *ret = STAGE_REPAIRS;
        return 0;
}

int store_stage_license(StoreConnection *connection, StoreStage *stage, const License *license,
        const void *document, StageResult *ret, Error *error) {
        uint64_t bytes = store_charge_license(license), counted;
        StoreUse more = {};
        StagedRow staged = {};
        StoreRow row;
        int r;

        if ((r = store_check_document(connection, license, error)) != 0 ||
            (r = find_staged(connection, stage, license->id, &staged, error)) != 0)
                return r;
        if (staged.key == 0 || staged.has_document) {
                *ret = staged.key == 0 ? STAGE_UNKNOWN : STAGE_TWICE;
                return 0;
        }
        r = compare(connection, &staged, license, ret, error);
        if (r != 0 || *ret != STAGE_GOOD)
                return r;

        /* Of an id that is here, only what it would grow by; the state is counted already. */
        r = find_known(connection, stage, license->id, &row, error);
        if (r != 0)
                return r;
        counted = MAX(row.charge, staged.charge);
        more.licenses = !row.present;
        more.bytes = bytes > counted ? bytes - counted : 0;

        if ((row.present && (r = check_known(connection, row.key, license, document, ret, error)) != 0) ||
            (r = charge(connection, stage, &more, error)) != 0 ||
            (r = write_license(connection, staged.key, license, error)) != 0)
                return r;
        stage->last_document = staged.key;
        return store_document_write(connection, staged.key, document, license->size, error);
}
