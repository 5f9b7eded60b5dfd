/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sqlite3.h>

#include "store.h"

/* Inside the store: a connection, its statements, and the place where SQLite's codes end. */

struct StoreConnection {
        sqlite3 *db;
        GHashTable *statements; /* SQL text, by address -> sqlite3_stmt * */
        StoreLimits limits;     /* the writer's: as of this transaction */
        bool no_space;          /* the writer's: the file system has less free than it must have */
        bool store_full;        /* the writer's: the database is as large as it may be, */
        bool staging_full;      /* or with what restores may stage beside it */
        bool properties_changed; /* the writer's: by this transaction, if it is committed */
        bool epoch_begun;       /* the writer's: one has, since the start */
        int64_t epoch_changes;  /* the writer's: how many there were at its last step */
        GHashTable *counted;    /* the writer's: numbers of owners whose sums were seen to be right; NULL: none */
};

/*
 * What one transaction removes ends with the document that reaches this. Where SQLite overwrites what it deletes
 * (SECURE_DELETE, as Debian builds it), as much goes into the WAL, and a disk that is full to its reserve has no more.
 */
#define STORE_SLICE_BYTES (1024U * 1024U)

typedef enum StoreAccess {
        STORE_READ,  /* in the process that has it open to write */
        STORE_WRITE, /* for this process alone; the file is made where there is none */
        STORE_LOOK,  /* beside another process, which may write, by a path without links: see store-check.c */
} StoreAccess;

/*
 * Opens the database file of a store. Schema and identity are not looked at. With STORE_WRITE, to close it leaves what
 * is in the WAL there, until store_connection_trust() says that file and WAL are a store.
 */
int store_connection_open(const char *path, StoreAccess access, StoreConnection **ret, Error *error);
void store_connection_trust(StoreConnection *connection);

/*
 * Puts an SQLite result code into words: ERROR_NO_MEMORY, ERROR_STORE_CORRUPT, ERROR_STORE_LOCKED for what another
 * process has open, else ERROR_STORE_READ or _WRITE. errno is the reason, and was 0 before the call that failed.
 */
int store_connection_failed(StoreConnection *connection, int rc, bool write, Error *error);

/* Runs SQL without parameters and results. Returns SQLite's code. */
int store_connection_exec(StoreConnection *connection, const char *sql);

/*
 * A statement, prepared once a connection; sql is a constant that lives at one address. Reset and
 * unbound by statement_done(), which the cleanup attribute calls. NULL: error is set.
 */
sqlite3_stmt *store_statement(StoreConnection *connection, const char *sql, Error *error);
void statement_donep(sqlite3_stmt **statement);
#define _cleanup_statement_ __attribute__((cleanup(statement_donep)))

void statement_bind_text(sqlite3_stmt *statement, int i, const char *text); /* NULL binds NULL; borrowed */
void statement_bind_time(sqlite3_stmt *statement, int i, int64_t time);     /* LICENSE_NO_TIME binds NULL */
int64_t statement_time(sqlite3_stmt *statement, int column);                /* and is what NULL reads as */

/* Steps a statement that gives one row or none. Returns 1 for a row, 0 for none, or -1 with error set. */
int statement_row(StoreConnection *connection, sqlite3_stmt *statement, Error *error);
/* Steps a statement that writes. Returns 0 or a code. */
int statement_write(StoreConnection *connection, sqlite3_stmt *statement, Error *error);

/*
 * Begins a transaction that writes, and gives up what of it is left, if it was not committed. The latter always can: it
 * needs no memory that was not had before the transaction began, for one that stays open keeps all others from
 * beginning.
 */
int store_write_begin(StoreConnection *connection, Error *error);
void store_write_abandon(StoreConnection *connection);

/* Runs SQL that writes and has a key, or an owner's number, as its one parameter. */
int store_run_for_key(StoreConnection *connection, const char *sql, int64_t key, Error *error);

/* A single integer that SQL without parameters gives; for pragmas. */
int store_connection_integer(StoreConnection *connection, const char *sql, int64_t *ret, Error *error);

/* store-schema.c: makes a store's tables; checks that an open database is a store of a version that we know. */
int store_schema_create(StoreConnection *connection, Error *error);
int store_schema_check(StoreConnection *connection, Error *error);
/* Brings an older store to the present version, keeping all that is in it. */
int store_schema_upgrade(StoreConnection *connection, Error *error);

/*
 * store-epoch.c: before something is changed, or for a backup, begins an epoch or a step of it where there is to be
 * one, in a transaction of its own.
 */
void store_epoch_enter(StoreConnection *connection, bool for_backup);

/* store-owner.c */
/* The number of an owner, 0 where the store does not know it. */
int store_owner_find(StoreConnection *connection, const StoreOwner *owner, int64_t *ret, Error *error);
int store_owner_ensure(StoreConnection *connection, const StoreOwner *owner, int64_t *ret, Error *error);
/* Changes what an owner is charged with; the limits are checked before. */
int store_owner_add(StoreConnection *connection, int64_t owner, int64_t licenses, int64_t remembered, int64_t bytes,
        Error *error);

/* What an owner has, or would have more. */
typedef struct StoreUse {
        uint64_t licenses;
        uint64_t remembered;
        uint64_t bytes;
} StoreUse;

/* Reads the rows of a statement that selects OWNER_COLUMNS into ret (of StoreOwnerRow *, freed by it). */
#define OWNER_COLUMNS "owner, uid, name, licenses, bytes"
int store_owner_rows(StoreConnection *connection, sqlite3_stmt *statement, GPtrArray *ret, Error *error);

int store_owner_use(StoreConnection *connection, int64_t owner, StoreUse *ret, Error *error);
/*
 * The same for an owner that is about to be refused something: is counted from what there is of its licenses, and set
 * right where it was wrong, for a bit of it may have rotted. *ret_changed: *ret is another than it was. Long, and so
 * done again only for an owner that was wrong.
 */
int store_owner_recount(StoreConnection *connection, int64_t owner, StoreUse *ret, bool *ret_changed, Error *error);

/* store-property.c: of an owner that goes, or becomes another. */
int store_property_remove_all(StoreConnection *connection, int64_t owner, Error *error);

/* store-license.c */
/* What the store knows of an id, its license apart. */
typedef struct StoreRow {
        int64_t key; /* 0: there is none */
        uint64_t generation;
        bool present;
        bool revoked;
        uint64_t charge;
} StoreRow;

int store_row_find(StoreConnection *connection, int64_t owner, const char *id, StoreRow *ret, Error *error);
int store_row_load_counters(StoreConnection *connection, int64_t key, License *license, Error *error);

/* Bytes that are charged: for what is left of a license that was deleted, and for a license. */
uint64_t store_charge_remembered(const char *id, const GArray *counters);
uint64_t store_charge_license(const License *license);

/* Judges a license that is there; its counters are loaded. One that is there and revoked cannot be. */
void store_row_judge(License *license, bool revoked);

/* Takes the document and the properties of a row that has them, and leaves what must be remembered. */
int store_row_forget(StoreConnection *connection, int64_t owner, const StoreRow *row, const char *id, Error *error);

/* store-put.c */
/* Whether an owner may have more of something; each limit is named with its setting. ERROR_LIMIT_EXCEEDED. */
int store_check_use(StoreConnection *connection, const StoreUse *use, const StoreUse *more, Error *error);
/* Whether anything may be written, as far as the disk and the store as a whole go. ERROR_STORE_FULL. */
int store_check_space(StoreConnection *connection, Error *error);
/* The same for what is staged; and for all licenses of the store once it was merged. */
int store_check_staging(StoreConnection *connection, Error *error);
int store_check_merged(StoreConnection *connection, Error *error);
int store_check_document(StoreConnection *connection, const License *license, Error *error);

/* The key of an owner's next row: after all that it has and all that is staged for it. */
int store_next_key(StoreConnection *connection, int64_t owner, int64_t *ret, Error *error);
int store_key_check(int64_t owner, int64_t key, Error *error);

/*
 * Writes the row of a license that is there, and its counters, which only ever fall. The row has the seal: the
 * license's counters are those that the store will have.
 */
int store_row_write(StoreConnection *connection, int64_t key, int64_t owner, const License *license,
        uint64_t charge, Error *error);
int store_row_write_counters(StoreConnection *connection, int64_t key, const License *license, Error *error);

/* store-document.c: documents, which are rows of their own under the keys of their licenses. */
int store_document_write(StoreConnection *connection, int64_t key, const void *document, uint64_t size,
        Error *error);
/* Whether the document of a key is that of a license; one that is not there is not. */
int store_document_check(StoreConnection *connection, int64_t key, const License *license, bool *ret_whole,
        Error *error);
/* Whether key has a document, and other another one or none. */
int store_documents_differ(StoreConnection *connection, int64_t key, int64_t other, bool *ret, Error *error);
/* Puts a document in the place of another, or of none. */
int store_document_move(StoreConnection *connection, int64_t from, int64_t to, Error *error);

/* store-sweep.c */
/* The largest number that a staged row has, and the smallest above one; 0 where there is none. */
int store_staged_last(StoreConnection *connection, int64_t *ret, Error *error);
int store_staged_after(StoreConnection *connection, int64_t restore, int64_t *ret, Error *error);
/* Removes some of what was staged for a restore, in a transaction of its own. *ret_more: there is more. */
int store_sweep(StoreConnection *connection, int64_t restore, bool *ret_more, Error *error);

/* Reads columns as LICENSE_COLUMNS lists them, from column first on. */
int license_from_row(sqlite3_stmt *statement, int first, License *ret, Error *error);

#define LICENSE_COLUMNS \
        "l.id, l.key_id, l.title, l.issuer, l.media_type, l.not_before, l.not_after, l.allow_backup, " \
        "l.extension, l.document_date, l.digest, l.size, l.generation"
#define N_LICENSE_COLUMNS 13
#define LICENSE_COLUMN_DIGEST 10

/* Keys hold an owner's rows together: (owner << 31) + n. */
static inline int64_t store_key_first(int64_t owner) {
        return owner << 31;
}

static inline int64_t store_key_last(int64_t owner) {
        return store_key_first(owner + 1) - 1;
}
