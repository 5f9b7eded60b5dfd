/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backup-read.h"
#include "store.h"
#include "work.h"

/*
 * The way of a restore from the backup into the store: what is read is gathered, and handed to the store's writer
 * in batches, each a transaction of at most 50 ms; while one is written, the next is read. All of it
 * belongs to the thread of the restore.
 */

/* A user whose licenses are staged. */
typedef struct RestoreTarget {
        char *name;
        uid_t uid;        /* -1: who has no account here; nothing may be added for it */
        bool is_one_of_all; /* all users are restored: an error has to say whose licenses it is about */
        StoreStage stage; /* as of the last batch that was written */
} RestoreTarget;

/* NULL without memory. */
RestoreTarget *restore_target_new(const char *name, uid_t uid);
void restore_target_free(void *target);

typedef struct RestoreBatches RestoreBatches;

/*
 * number is the restore's, from store_restore_begin(). events, which is told of waits, outlives the batches, and so
 * does repairs: a set of int64_t *, which gets the keys of what was staged for documents that are damaged in the
 * store.
 */
int restore_batches_new(Store *store, int64_t number, const WorkEvents *events, GHashTable *repairs,
        RestoreBatches **ret, Error *error);

/* Waits for what is on its way, whatever becomes of it: the store has our memory. */
RestoreBatches *restore_batches_free(RestoreBatches *batches);

/*
 * Takes what a backup says for a target, which must outlive the batches. May wait for the store, and then tell what
 * became of an earlier batch: ERROR_BACKUP_CORRUPT (an id that comes twice, a document that contradicts its state),
 * ERROR_LIMIT_EXCEEDED, those of the store. The License in it is taken over.
 */
int restore_batches_add_state(RestoreBatches *batches, RestoreTarget *target, BackupState *state, Error *error);
int restore_batches_add_license(RestoreBatches *batches, RestoreTarget *target, BackupLicense *license, Error *error);

/* Writes what is left, and waits for it. */
int restore_batches_flush(RestoreBatches *batches, Error *error);
