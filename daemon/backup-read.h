/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "archive.h"
#include "store.h"

/*
 * What a backup says, as licenses: archive.c proves the bytes, this gives them their meaning, for a
 * restore, for a check, and for people who want to see what is inside. One pass, constant memory.
 *
 * Everything is held to what our writer can have written, and to the limits of StoreLicense: each
 * license's attributes are of the right type and within limits, its document is what the recogniser takes,
 * and no attribute widens what the document says of itself. What is not so is ERROR_BACKUP_CORRUPT,
 * and the message names the entry. Whether an id comes twice, and whether state.jsonl has a line for each
 * document, only those can say who keep the ids (store-stage.c).
 */

/* Where a backup comes from: manifest.json. Texts are never NULL, and fit for the bus. */
typedef struct BackupOrigin {
        char *software; /* "licensevault 0.1.0" */
        char *created;  /* "2026-11-22T20:15:00Z" */
        char *host;     /* "" where it is not known */
        char *machine;  /* an application-specific id; "" where the machine had none */
        char store[STORE_ID_SIZE]; /* "" where it does not say */
        bool all_users;
        uid_t uid;      /* of the one owner */
        char *name;     /* of the one owner; NULL for all users */
        uint64_t licenses;
        uint64_t restricted;
        /*
         * What the store knew of its users, at least: it knows no less later, unless an administrator purged or
         * reassigned them, or put an old copy of it back.
         */
        StoreMemory memory;
        char *epochs;     /* those that the store knew, as store_snapshot_epochs(); "" where it does not say */
        uint64_t damaged; /* left out, for their documents were damaged in the store */
} BackupOrigin;

void backup_origin_clear(BackupOrigin *origin);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(BackupOrigin, backup_origin_clear)

/*
 * Reads what a backup says of itself at its beginning, and no more: nothing of it is proved. Returns 0 or a code; *ret,
 * which was empty, is to be cleared in both cases.
 */
int backup_read_origin(int fd, BackupOrigin *ret, Error *error);

/* "anna on laptop", "all users on laptop", "anna" without a host (g_free). */
char *backup_origin_describe(const BackupOrigin *origin);

/* A line of state.jsonl: an id that was ever stored. */
typedef struct BackupState {
        const char *owner; /* the user's name; NULL in a backup of one user */
        License license;   /* id, generation, counters, and allow_backup: false for one that may not be backed up */
        int64_t revoked;   /* when, in Unix seconds; LICENSE_NO_TIME if not */
        uint64_t line;     /* from 1 */
} BackupState;

/* A document, with what its attributes and its recogniser say together. */
typedef struct BackupLicense {
        const char *path;  /* of its entry */
        const char *owner; /* as in BackupState */
        License license;   /* all of it, digest and size included */
        const void *document;
} BackupLicense;

/*
 * Called in the order of the backup: origin once, state for each line, license for each document. What
 * they are given lives until they return; a License in it may be taken (and is then set to
 * (License) {}). Each may be NULL, and returns 0 or a code, which ends the reading.
 */
typedef struct BackupVisitor {
        int (*origin)(const BackupOrigin *origin, void *userdata, Error *error);
        int (*state)(BackupState *state, void *userdata, Error *error);
        int (*license)(BackupLicense *license, void *userdata, Error *error);
        void *userdata;
        ArchiveWatch watch;
} BackupVisitor;

/*
 * Reads all of a backup and proves it; fd, document_max, stall_msec and cancel are as in
 * archive_reader_new(). Only when this returns 0 was what the visitor saw the truth. Returns 0 or a code:
 * those of archive_reader_next(), and of the visitor.
 */
int backup_read(int fd, uint64_t document_max, int stall_msec, const Cancel *cancel, const BackupVisitor *visitor,
        ArchiveCounts *ret, Error *error);

/*
 * Whether backup_read() takes a license with its document, which is whole, as they are now. For who writes them into a
 * backup. One that is sound was made of its document, which is not read again. Returns 0, ERROR_BACKUP_CORRUPT with
 * the reason, or ERROR_NO_MEMORY.
 */
int backup_license_check(const License *license, const void *document, Error *error);

/* The same for a line of state.jsonl: of id, generation and counters. */
bool backup_state_is_valid(const License *license, int64_t revoked);
