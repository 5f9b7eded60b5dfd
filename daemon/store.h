/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include "license.h"

/*
 * The store: one SQLite database that the service owns (design, section 5).
 *
 * A Store has one thread with the only connection that writes, and a few with connections that read.
 * Work is handed to them as a StoreTask and comes back through its done(). The writer takes what has
 * queued up since its last commit as one transaction, each task a savepoint of its own, and calls
 * done() once the commit is on disk: group commit. Jobs that read for long open a connection of their
 * own and read from a snapshot.
 *
 * Functions that take a StoreConnection belong to the thread that has it. They return 0 or the code
 * that they left in error; any of them can be ERROR_STORE_READ, ERROR_STORE_WRITE,
 * ERROR_STORE_CORRUPT or ERROR_NO_MEMORY, and one that adds to the store ERROR_STORE_FULL.
 */

typedef struct Store Store;
typedef struct StoreConnection StoreConnection;
typedef struct StoreTask StoreTask;

typedef struct StoreLimits {
        uint64_t document_bytes;       /* one document */
        uint64_t licenses_per_user;
        uint64_t remembered_per_user;  /* ids ever stored: licenses, and what deletion leaves of them */
        uint64_t bytes_per_user;       /* documents with their properties, and what deletion leaves */
        uint64_t store_bytes;          /* the database file */
        unsigned minimum_free_percent; /* of the state directory's file system */
} StoreLimits;

/*
 * Whose licenses: a uid, and the user's name beside it ("" where the machine knows none). Another
 * name with the same uid is another owner, so that who gets a deleted user's number does not get the
 * licenses with it.
 */
typedef struct StoreOwner {
        uid_t uid;
        const char *name;
} StoreOwner;

struct StoreTask {
        /*
         * Does the work, on the thread that has the connection. May be called again when the
         * transaction that it was part of failed for another's sake, and starts afresh then.
         */
        int (*run)(StoreTask *task, StoreConnection *connection, Error *error);
        /* Takes the task back, on the same thread. For a write: it is on disk, or error says why not. */
        void (*done)(StoreTask *task);
        Error error;
        bool alone; /* a transaction of its own: for what is large. A write that fails takes nobody along. */
        bool for_backup; /* see store_enter_backup(); alone */
};

/*
 * Takes the lock of the state directory, so that one daemon works on it. The descriptor holds the
 * lock. ERROR_STORE_LOCKED: another one has it.
 */
int store_lock(const char *folder, int *ret_fd, Error *error);

/*
 * Opens the store in folder, or makes it where there is none yet. Never replaces what is there:
 * ERROR_STORE_CORRUPT for what is no store or damaged, ERROR_STORE_READ for one of a newer version.
 */
int store_open(const char *folder, const StoreLimits *limits, Store **ret, Error *error);

/*
 * Finishes what is queued, checkpoints the WAL and closes; what is submitted later never ends. For a
 * process that is to leave threads behind which may still have the store in their hands.
 */
void store_stop(Store *store);

/* The same, and frees it. */
Store *store_free(Store *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Store, store_free)

/* Replaces the limits, for what is written from now on. Any thread. */
void store_set_limits(Store *store, const StoreLimits *limits);
StoreLimits store_limits(Store *store);

/* How many licenses there are, of all owners, as of the last commit. Any thread, never waits. */
uint64_t store_count(Store *store);

/* Whether store_open() made it: there was none. */
bool store_is_new(const Store *store);

/* The folder that the store is in. */
const char *store_folder(const Store *store);

/* Hands over a task. Any thread, never waits. Who submits bounds how many there are. */
void store_submit_write(Store *store, StoreTask *task);
void store_submit_read(Store *store, StoreTask *task);
/* A read that looks at all licenses of an owner, which may take long: no other read waits behind it. */
void store_submit_search(Store *store, StoreTask *task);
/* Has what was submitted to read be begun. To wake a thread takes as long as a read: once for several. Any thread. */
void store_wake_readers(Store *store);

/*
 * A task of a thread that may wait, which is not the bus thread: submitted, then waited for.
 * store_call_wait() returns what run() left in the task's error, and moves it.
 */
typedef struct StoreCall {
        StoreTask task; /* run, and alone, are set by who submits */
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        bool finished;
} StoreCall;

void store_call_write(Store *store, StoreCall *call);
/* May do it at once, on the calling thread. */
void store_call_read(Store *store, StoreCall *call);
int store_call_wait(StoreCall *call, Error *error);

/*
 * Reads a property for a thread that may wait, which is not the bus thread: *ret_value is NULL where it is not set
 * (g_free).
 */
int store_find_property(Store *store, const StoreOwner *owner, const char *name, char **ret_value, Error *error);
/* The same where it was read before and did not change since; returns whether. Any thread, never waits. */
bool store_knows_property(Store *store, const StoreOwner *owner, const char *name, char **ret_value);

/* A connection of one's own, to read all that there is once. */
int store_connect(Store *store, StoreConnection **ret, Error *error);
StoreConnection *store_connection_free(StoreConnection *connection);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreConnection, store_connection_free)

/*
 * Reads all of the store in folder and tells what is wrong with it, for --check; works beside a running daemon,
 * and never in one: the kernel drops the locks of a process that closes the file. *ret_licenses counts the licenses of
 * all owners. ERROR_STORE_LOCKED: too much was written to it meanwhile.
 */
int store_check(const char *folder, uint64_t *ret_licenses, Error *error);

/* Whether there is a store in folder, of any kind: store_check() finds nothing wrong with none. */
bool store_exists(const char *folder);

/* Licenses. */

/*
 * Stores a license. It has an id, a digest and a size, and counters as the document and the caller
 * want them: where the store knows lower ones, those stay, and license->generation and
 * license->counters tell what became of it. Besides the limits (ERROR_LIMIT_EXCEEDED):
 * ERROR_LICENSE_REVOKED.
 */
int store_license_put(StoreConnection *connection, const StoreOwner *owner, License *license,
        const void *document, Error *error);

/*
 * Reads a license and its document, which is checked against its digest. A document of more than
 * document_max bytes is ERROR_LIMIT_EXCEEDED. *ret_document is the caller's (g_free), never NULL.
 * ERROR_LICENSE_UNAVAILABLE.
 */
int store_license_get(StoreConnection *connection, const StoreOwner *owner, const char *id,
        uint64_t document_max, License *ret_license, void **ret_document, Error *error);

typedef struct StoreFilter {
        const char *key_id; /* NULL: any */
        const char *issuer;
        const char *media_type;
        int64_t valid_at;   /* LICENSE_NO_TIME: any */
        int allow_backup;   /* -1: any */
} StoreFilter;

/* Whether all licenses match. */
bool store_filter_is_empty(const StoreFilter *filter);

/*
 * A page of an owner's licenses that match, by id, after an id ("" for the start): at most max of
 * them, and bytes_max bytes as license_wire_size() counts. ret_licenses gets License *, and frees
 * them. *ret_next is the id to go on after, "" at the end (g_free). A page may be short or empty where
 * little matches.
 */
int store_license_enumerate(StoreConnection *connection, const StoreOwner *owner, const StoreFilter *filter,
        const char *after, unsigned max, uint64_t bytes_max, GPtrArray *ret_licenses, char **ret_next,
        Error *error);

/* An upper bound of the bytes that a license's properties and id take in a D-Bus message. */
uint64_t license_wire_size(const License *license);

/*
 * Takes amount uses of a right, if that many are left and the license is valid now (Unix seconds).
 * *ret_remaining is UINT64_MAX for a right without a counter. ERROR_NO_RIGHTS,
 * ERROR_LICENSE_UNAVAILABLE; ERROR_STORE_CORRUPT: the counter cannot be trusted.
 */
int store_license_consume(StoreConnection *connection, const StoreOwner *owner, const char *id,
        const char *right, uint64_t amount, int64_t now, uint64_t *ret_remaining, Error *error);

/* Removes the document; generation and counters stay. ERROR_LICENSE_UNAVAILABLE. */
int store_license_delete(StoreConnection *connection, const StoreOwner *owner, const char *id, Error *error);

/* Deletes a license and leaves a tombstone of the time now. ERROR_LICENSE_UNAVAILABLE for an id never stored. */
int store_license_revoke(StoreConnection *connection, const StoreOwner *owner, const char *id, int64_t now,
        Error *error);

/* Properties of the backup restorer: names and values are checked by who calls. */

int store_property_set(StoreConnection *connection, const StoreOwner *owner, const char *name,
        const char *value, Error *error);
/* *ret_value is NULL where it is not set (g_free). */
int store_property_get(StoreConnection *connection, const StoreOwner *owner, const char *name,
        char **ret_value, Error *error);
/* The set properties by name: name, value, name, value … in ret (of char *, freed by it). */
int store_property_list(StoreConnection *connection, const StoreOwner *owner, GPtrArray *ret, Error *error);
/* name NULL: all. */
int store_property_remove(StoreConnection *connection, const StoreOwner *owner, const char *name, Error *error);

/* Snapshots, for jobs: what is read between begin and end is the store of one moment. */

/* What a backup says something of, deleted licenses, too: neither falls but where an owner is purged or reassigned. */
typedef struct StoreMemory {
        uint64_t ids;
        uint64_t stored; /* how often: their generations, added up */
} StoreMemory;

static inline bool store_memory_exceeds(const StoreMemory *one, const StoreMemory *other) {
        return one->ids > other->ids || one->stored > other->stored;
}

typedef struct StoreOwnerRow {
        int64_t owner; /* the store's own number */
        uid_t uid;
        char *name;
        uint64_t licenses;   /* of store_snapshot_owners() those that there are, not those that were counted */
        uint64_t restricted; /* of store_snapshot_owners() alone */
        StoreMemory memory;  /* the same */
        uint64_t bytes;      /* what counts against BytesPerUser= */
} StoreOwnerRow;

void store_owner_row_free(StoreOwnerRow *row);

int store_snapshot_begin(StoreConnection *connection, Error *error);
/* What no other store has: 32 hex digits; "" where it cannot be told. Returns 0 or a code. */
#define STORE_ID_SIZE 33U
int store_snapshot_id(StoreConnection *connection, char ret[STORE_ID_SIZE], Error *error);

/*
 * The epochs of a store (store-epoch.c), the oldest first, with a space between; "" where it has none, or they are
 * damaged. A store and a copy of it have in common what came before the copy was made.
 *
 * After the snapshot of a backup has begun: those in the last of which, and at the last step of which, the backup is
 * made. Who knows that has all that is in the snapshot. Waits for the store's writer.
 */
int store_enter_backup(Store *store, GString *ret, Error *error);
/* As they are. Where there can be no other step: so that backup is told from one of a later time by numbers alone. */
int store_read_epochs(StoreConnection *connection, GString *ret, Error *error);
/* Whether a text is as the above, and not empty. */
bool store_epochs_are_valid(const char *text);
/* Whether a store with these epochs knows of the last step of those; false only where both say so much. */
bool store_epochs_include(const char *these, const char *those);
bool store_id_is_valid(const char *id);
void store_snapshot_end(StoreConnection *connection);

/*
 * The owners in the snapshot, with what they have, in ret (of StoreOwnerRow *, freed by it). uid and
 * name choose one owner where name is not NULL, all of a uid where it is; uid -1: all of all.
 */
int store_snapshot_owners(StoreConnection *connection, uid_t uid, const char *name, GPtrArray *ret, Error *error);

typedef struct StoreCursor StoreCursor;

/* What the store has of a license and is not what was stored. */
typedef enum StoreDamage {
        STORE_DAMAGE_NONE,
        STORE_DAMAGE_DOCUMENT,
        STORE_DAMAGE_ROW, /* what it knows beside the document */
} StoreDamage;

typedef struct StoreCursorRow {
        int64_t key;          /* of the row; no two have the same */
        /* Of a deleted one, and of all where not with_documents, it has id, generation, counters and allow_backup. */
        License license;
        bool present;         /* there is a document */
        int64_t revoked;      /* when, LICENSE_NO_TIME if not */
        const void *document; /* where with_documents and present; the cursor's, until its next step */
        StoreDamage damage;   /* of a document, which is NULL then, and by a seal only where with_documents */
} StoreCursorRow;

/* Walks all ids of an owner in the order in which they were first stored. */
int store_cursor_new(StoreConnection *connection, int64_t owner, bool with_documents, StoreCursor **ret,
        Error *error);
StoreCursor *store_cursor_free(StoreCursor *cursor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreCursor, store_cursor_free)

/* For who takes the digests of documents anyway, where they go: only their sizes are checked from now on. */
void store_cursor_leave_digests(StoreCursor *cursor);

/* The next row, NULL at the end; it is the cursor's. With documents, these and the seals are checked. */
int store_cursor_next(StoreCursor *cursor, const StoreCursorRow **ret, Error *error);

/* ERROR_STORE_CORRUPT, for a license that is damaged. */
int store_license_rotten(const char *id, StoreDamage damage, Error *error);

/* Puts whose licenses an error is about before its message; leaves it where that cannot be read. */
void store_owner_name_error(StoreConnection *connection, int64_t owner, Error *error);

/*
 * Whether the store has something of a user of this number who has a name. Then who has the number and no name is that
 * user, whose directory is down, or nobody who may be let in: to take the name "" would hide what is there, and what
 * is stored under it would not be seen again. ERROR_ACCESS_DENIED, which tells the user to try again.
 */
int store_owner_check_nameless(StoreConnection *connection, uid_t uid, Error *error);

/* Owners whose account may be gone. That it is, is for who calls to find out. */

/* At most max owners, by name and uid, from the one at offset on, in ret (of StoreOwnerRow *, freed by it). */
int store_owner_list(StoreConnection *connection, unsigned offset, unsigned max, GPtrArray *ret, Error *error);

/*
 * Gives all that an owner has to another, after the rules of store_merge() where that one has something, too; nothing
 * where there is a conflict: ERROR_INVALID_ARGUMENTS names the license. For a task of its own (alone): anything
 * but 0 leaves the transaction to be rolled back. restore is a number of store_restore_begin(). *ret_licenses: how many
 * the first one had. Properties go. ERROR_LICENSE_UNAVAILABLE: there is no such owner; ERROR_BACKUP_BUSY: a
 * restore to it is under way; ERROR_LIMIT_EXCEEDED.
 */
int store_owner_reassign(StoreConnection *connection, const StoreOwner *from, const StoreOwner *to, int64_t restore,
        uint64_t *ret_licenses, Error *error);

/*
 * Removes some of what the store has of an owner, low marks and tombstones included, and in the end the owner:
 * *ret_more says whether to call again, in a transaction of its own. *ret_licenses: how many licenses went this
 * time. ERROR_LICENSE_UNAVAILABLE, ERROR_BACKUP_BUSY.
 */
int store_owner_purge(StoreConnection *connection, const StoreOwner *owner, uint64_t *ret_licenses, bool *ret_more,
        Error *error);

/*
 * Restores. What a backup says is staged: written beside the licenses, where nobody sees it, in as many
 * transactions as it takes. One more merges it, moving no document; or it is dropped, and the licenses never
 * knew. What is staged and belongs to no restore any more is removed by the writer, a slice at a time between
 * other writes; so is what a killed daemon left.
 */

/* A number for a restore that begins; store_restore_end() when it has ended, merged or not. Any thread. */
int64_t store_restore_begin(Store *store);
void store_restore_end(Store *store, int64_t restore);

/* One owner's part of a restore. */
typedef struct StoreStage {
        int64_t restore;

        /* Set by store_stage_owner(), once in each transaction: the owner's number, what it has, a free key. */
        int64_t owner;
        uint64_t has_licenses, has_remembered, has_bytes;
        int64_t next_key;
        int64_t last_document; /* the key of the last one that was staged */

        /* What the merge would add, at most; it counts against the owner's limits while it is staged. */
        uint64_t licenses;
        uint64_t remembered;
        uint64_t bytes;
} StoreStage;

typedef enum StageResult {
        STAGE_GOOD,
        STAGE_REPAIRS,     /* good, and the document or the row that the store has of it is not what was stored */
        STAGE_TWICE,       /* that id was staged already */
        STAGE_UNKNOWN,     /* a document of an id that no state was staged for */
        STAGE_CONTRADICTS, /* a document of an id that is revoked, restricted, or of another generation or other
                            * counters by its state */
} StageResult;

/* Finds the owner that stage is for, or makes it. */
int store_stage_owner(StoreConnection *connection, const StoreOwner *owner, StoreStage *stage, Error *error);

/*
 * Stages what a backup says of an id: license has id, generation, counters and allow_backup; revoked is
 * LICENSE_NO_TIME for one that is not. Comes before the document of that id. ERROR_LIMIT_EXCEEDED.
 */
int store_stage_state(StoreConnection *connection, StoreStage *stage, const License *license, int64_t revoked,
        StageResult *ret, Error *error);

/* Stages a document with its license, which has all fields, under stage->last_document. ERROR_LIMIT_EXCEEDED. */
int store_stage_license(StoreConnection *connection, StoreStage *stage, const License *license,
        const void *document, StageResult *ret, Error *error);

/* By license id, what became of the documents and tombstones of the backup. */
typedef struct StoreMerge {
        uint64_t restored;
        uint64_t unchanged;
        uint64_t newer_kept;
        uint64_t conflicts;
        uint64_t revoked;
} StoreMerge;

typedef struct StoreMergeEvents {
        /* Told each conflict; texts may be NULL but for id. Returns 0 or a code, which ends the merge. */
        int (*conflict)(const char *id, const char *key_id, const char *title, void *userdata, Error *error);
        /* Asked now and then; ends the merge with any code where it says so. NULL: nothing does. */
        bool (*is_unwanted)(void *userdata);
        /*
         * Whether what the store has of an id that was staged under key may be damaged: then it is looked at, which
         * takes too long for all of them in one transaction. NULL: none is.
         */
        bool (*may_repair)(int64_t key, void *userdata);
        void *userdata;
        /* What was staged was another owner's, who may have revoked what is still good here. */
        bool of_another;
        /* What was staged is in no backup: what is not taken is lost. */
        bool only_copy;
} StoreMergeEvents;

/*
 * Merges what was staged for a restore, for all its owners, after the rules of section 4 of the design:
 *
 *  - a tombstone here or there stays, the earlier one of two: the license is gone, and counts as revoked. But one of
 *    another owner's for what is here, and one here for the only copy, are conflicts, and what is here stays;
 *  - the generation becomes the larger of the two, each counter the smaller (absent is unlimited); a
 *    restriction (allow_backup) stays;
 *  - an id without a document here gets that of the backup, restored;
 *  - of the same document, unchanged, the narrower times stay, and a text that is missing here is taken; one
 *    that differs is a conflict, and stays as it is here;
 *  - of two documents, the one with the later date of its own stays, with its texts and times: restored, or
 *    newer_kept; where a date is missing or both are equal, or what is known beside one of the two is damaged, the
 *    store's stays, a conflict; of the only copy, also where the newer document is damaged and the other is not;
 *  - a document that is damaged here, of which the backup has what was stored once, is repaired: restored; so is
 *    what is known beside it, which then is what the backup says, and the low marks of both, but for a restriction.
 *
 * For a task of its own (alone): anything but 0 leaves the transaction to be rolled back.
 * ERROR_LIMIT_EXCEEDED where an owner would have more than is allowed.
 */
int store_merge(StoreConnection *connection, int64_t restore, const StoreMergeEvents *events, StoreMerge *ret,
        Error *error);
