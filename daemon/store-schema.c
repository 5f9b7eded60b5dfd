/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <inttypes.h>
#include <stdio.h>

#define APPLICATION_ID 0x4C564C54 /* "LVLT" */
#define SCHEMA_VERSION 5
#define VERSION_OF_STAGING 2
#define VERSION_OF_IDENTITY 4
#define VERSION_OF_EPOCHS 5

/*
 * Owners are (uid, name), so that a number that goes to another person does not take the licenses with
 * it. Everything that grows with licenses is keyed by owner << 31 | n: an owner's rows lie together,
 * in the order in which they were stored, and a backup reads them so.
 *
 * A row of licenses is an id that was stored once. Deleting takes the document and the properties, and
 * leaves id, generation, counters and tombstone; present tells the two apart. Documents are rows of
 * their own, so that merging and listing do not move them. A counter only ever falls.
 *
 * digest is what license_proof() gives. Before version 3 it was the document's digest alone, and stays so until the
 * license is stored again. (To add a column, newer SQLite checks all rows: one that is damaged would keep the store of
 * all users closed.)
 */
static const char tables[] =
        "CREATE TABLE owners ("
        "  owner INTEGER PRIMARY KEY,"
        "  uid INTEGER NOT NULL,"
        "  name TEXT NOT NULL,"
        "  licenses INTEGER NOT NULL DEFAULT 0,"
        "  remembered INTEGER NOT NULL DEFAULT 0,"
        "  bytes INTEGER NOT NULL DEFAULT 0,"
        "  UNIQUE (uid, name)"
        ") STRICT;"
        "CREATE TABLE licenses ("
        "  key INTEGER PRIMARY KEY,"
        "  owner INTEGER NOT NULL REFERENCES owners,"
        "  id TEXT NOT NULL,"
        "  generation INTEGER NOT NULL,"
        "  present INTEGER NOT NULL,"
        "  revoked INTEGER,"
        "  allow_backup INTEGER NOT NULL,"
        "  key_id TEXT,"
        "  title TEXT,"
        "  issuer TEXT,"
        "  media_type TEXT,"
        "  not_before INTEGER,"
        "  not_after INTEGER,"
        "  extension TEXT,"
        "  document_date INTEGER,"
        "  digest BLOB,"
        "  size INTEGER,"
        "  charge INTEGER NOT NULL,"
        "  UNIQUE (owner, id)"
        ") STRICT;"
        "CREATE TABLE documents ("
        "  key INTEGER PRIMARY KEY REFERENCES licenses,"
        "  document BLOB NOT NULL"
        ") STRICT;"
        "CREATE TABLE counters ("
        "  key INTEGER NOT NULL REFERENCES licenses,"
        "  name TEXT NOT NULL,"
        "  remaining INTEGER NOT NULL,"
        "  PRIMARY KEY (key, name)"
        ") STRICT, WITHOUT ROWID;"
        "CREATE TABLE properties ("
        "  owner INTEGER NOT NULL REFERENCES owners,"
        "  name TEXT NOT NULL,"
        "  value TEXT NOT NULL,"
        "  PRIMARY KEY (owner, name)"
        ") STRICT, WITHOUT ROWID;";

/*
 * Since version 2: what restores have read and not merged yet. Nothing here is a license. Keys are of the
 * owner's own range, and documents and counters lie in their tables already under them, so that the merge only
 * has to name them in licenses: whoever hands out a key looks into both tables. The writer removes what
 * belongs to no restore any more.
 */
static const char staged_tables[] =
        "CREATE TABLE staged_ids ("
        "  key INTEGER PRIMARY KEY,"
        "  restore INTEGER NOT NULL,"
        "  owner INTEGER NOT NULL REFERENCES owners,"
        "  id TEXT NOT NULL,"
        "  generation INTEGER NOT NULL,"
        "  revoked INTEGER,"
        "  allow_backup INTEGER NOT NULL,"
        "  charge INTEGER NOT NULL,"
        "  UNIQUE (restore, owner, id)"
        ") STRICT;"
        "CREATE TABLE staged_licenses ("
        "  key INTEGER PRIMARY KEY REFERENCES staged_ids,"
        "  key_id TEXT,"
        "  title TEXT,"
        "  issuer TEXT,"
        "  media_type TEXT,"
        "  not_before INTEGER,"
        "  not_after INTEGER,"
        "  extension TEXT,"
        "  document_date INTEGER,"
        "  digest BLOB NOT NULL,"
        "  size INTEGER NOT NULL,"
        "  charge INTEGER NOT NULL"
        ") STRICT;";

/*
 * Since version 4: what tells this store from any other. A backup says of which it is, so that one of a store that was
 * lost is not taken for an old one of this.
 */
static const char identity_table[] =
        "CREATE TABLE identity (id TEXT NOT NULL) STRICT;"
        "INSERT INTO identity VALUES (lower(hex(randomblob(16))));";

/* Since version 5: see store-epoch.c. */
static const char epochs_table[] =
        "CREATE TABLE epochs (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;";

static int set_version(StoreConnection *connection) {
        char version[128];

        snprintf(version, sizeof version, "PRAGMA application_id = %d; PRAGMA user_version = %d",
                APPLICATION_ID, SCHEMA_VERSION);
        return store_connection_exec(connection, version);
}

int store_schema_create(StoreConnection *connection, Error *error) {
        int rc;

        /* One transaction, and the file gets its name only afterwards: a store has all tables or none. */
        if ((rc = store_connection_exec(connection, "PRAGMA page_size = 8192")) != SQLITE_OK ||
            (rc = store_connection_exec(connection, "BEGIN IMMEDIATE")) != SQLITE_OK ||
            (rc = store_connection_exec(connection, tables)) != SQLITE_OK ||
            (rc = store_connection_exec(connection, staged_tables)) != SQLITE_OK ||
            (rc = store_connection_exec(connection, identity_table)) != SQLITE_OK ||
            (rc = store_connection_exec(connection, epochs_table)) != SQLITE_OK ||
            (rc = set_version(connection)) != SQLITE_OK ||
            (rc = store_connection_exec(connection, "COMMIT")) != SQLITE_OK)
                return store_connection_failed(connection, rc, true, error);
        return 0;
}

int store_schema_check(StoreConnection *connection, Error *error) {
        int64_t id, version;
        int r;

        if ((r = store_connection_integer(connection, "PRAGMA application_id", &id, error)) != 0 ||
            (r = store_connection_integer(connection, "PRAGMA user_version", &version, error)) != 0)
                return r;

        if (id != APPLICATION_ID)
                return error_set(error, ERROR_STORE_CORRUPT,
                        "licenses.db is not a license store. The file was left as it is; move it away to start anew, "
                        "or put the right one back, then restart licensevaultd.");
        if (version > SCHEMA_VERSION)
                return error_set(error, ERROR_STORE_READ,
                        "licenses.db was written by a newer licensevaultd (format %" PRIi64
                        ", this one knows %d). It was left as it is; install that version again.",
                        version, SCHEMA_VERSION);
        if (version < 1)
                return error_set(error, ERROR_STORE_CORRUPT,
                        "licenses.db has format %" PRIi64 ", which there never was. The file was left as it is; "
                        "move it away, restart licensevaultd, and put the licenses back from a backup.", version);
        return 0;
}

int store_schema_upgrade(StoreConnection *connection, Error *error) {
        int64_t version;
        int r, rc;

        r = store_connection_integer(connection, "PRAGMA user_version", &version, error);
        if (r != 0 || version == SCHEMA_VERSION)
                return r;

        /* All or nothing: a store is of one version or of the other. */
        if ((rc = store_connection_exec(connection, "BEGIN IMMEDIATE")) != SQLITE_OK ||
            (version < VERSION_OF_STAGING && (rc = store_connection_exec(connection, staged_tables)) != SQLITE_OK) ||
            (version < VERSION_OF_IDENTITY && (rc = store_connection_exec(connection, identity_table)) != SQLITE_OK) ||
            (version < VERSION_OF_EPOCHS && (rc = store_connection_exec(connection, epochs_table)) != SQLITE_OK) ||
            (rc = set_version(connection)) != SQLITE_OK ||
            (rc = store_connection_exec(connection, "COMMIT")) != SQLITE_OK) {
                r = store_connection_failed(connection, rc, true, error);
                (void)store_connection_exec(connection, "ROLLBACK");
                return r;
        }
        return 0;
}
