/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "common.h"

/* Licenses in a few words, and what restores do with them; for tests of staging and merging. */

/* What is 0 or NULL is not set. */
typedef struct Sketch {
        const char *id;
        const char *document;  /* NULL: only what is remembered of the id */
        int64_t date;          /* of the document */
        uint64_t generation;   /* 0: 1 */
        const char *counters;  /* "copy=2 print=7" */
        bool restricted;       /* in a backup: a state without a document */
        int64_t revoked;       /* when; without a document */
        const char *key_id, *title, *issuer, *media_type;
        int64_t not_before, not_after;
} Sketch;

void sketch_license(const Sketch *sketch, License *ret);

/* Makes a store have it, as apps would: stored as often as its generation says, then deleted or revoked. */
void sketch_put(Store *store, const StoreOwner *owner, const Sketch *sketch);

/* Calls work() on the store's writing thread, in a transaction of its own, and waits. Returns its code. */
typedef int (*Work)(StoreConnection *connection, void *userdata, Error *error);
int do_write(Store *store, Work work, void *userdata, Error *error);

/* The same in a transaction that others might share, and that fails once: work() is called twice. */
int do_write_twice(Store *store, Work work, void *userdata, Error *error);
/* do_write() where the commit fails. */
int do_write_refused(Store *store, Work work, void *userdata, Error *error);

/*
 * Stages sketches in one transaction: their states, then the documents of those that have one and may be
 * backed up. *ret is the first result that is not STAGE_GOOD, and what comes after it is not staged. stage
 * changes only when the transaction is on disk.
 */
enum { SKETCH_STATES = 1, SKETCH_DOCUMENTS = 2, SKETCH_ALL = 3 };
int sketch_stage(Store *store, StoreStage *stage, const StoreOwner *owner, unsigned what, const Sketch *sketches,
        size_t n, StageResult *ret, Error *error);
/* Fails the test where not all are good. */
void sketch_stage_good(Store *store, StoreStage *stage, const StoreOwner *owner, const Sketch *sketches, size_t n);
/* sketch_stage() with do_write_twice(). */
int sketch_stage_twice(Store *store, StoreStage *stage, const StoreOwner *owner, const Sketch *sketches, size_t n,
        StageResult *ret, Error *error);

/* Merges. conflicts, which may be NULL, gets "id/key id/title " of each, sorted: their order is not promised. */
int merge(Store *store, int64_t restore, StoreMerge *ret, GString *conflicts, Error *error);
/* The same where the commit fails. */
int merge_refused(Store *store, int64_t restore, StoreMerge *ret, Error *error);
StoreMerge merge_good(Store *store, int64_t restore);
/* For StoreMergeEvents: nobody wants it to end. */
bool never_unwanted(void *userdata);
/* The counts as text (g_free). */
char *describe_merge(const StoreMerge *merge);
void assert_merge(const StoreMerge *found, const StoreMerge *expected);

/*
 * All that an owner has and had, a line an id: 'document' or - for deleted or !time for revoked, then
 * g<generation>, the counters, and what else is set (g_free).
 */
char *describe_owner(StoreConnection *reader, const StoreOwner *owner);
void assert_owner(StoreConnection *reader, const StoreOwner *owner, const char *expected);

/* Sorts words with a space behind each. */
void sort_words(GString *text);

/* An integer that SQL gives. */
int64_t ask(StoreConnection *reader, const char *sql);

/* Rows that are no licenses: staged ones, and documents that no license has. */
int64_t count_staged(StoreConnection *reader);
/* Waits until the store has removed what belongs to no restore; fails the test after 30 s. */
void wait_swept(StoreConnection *reader);

/* How many licenses there are whose seal says this of them. */
unsigned count_judged(StoreConnection *reader, LicenseSoundness soundness);

/* What owners are charged with is what their rows say, and each row's charge is that of a stored license. */
void assert_sums(StoreConnection *reader);
/* The same, and all licenses are under whole seals. */
void assert_books(StoreConnection *reader);
