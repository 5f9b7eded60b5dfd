/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "error.h"

/*
 * What the body of a job (backup.c, restore.c, verify.c) and whoever runs it agree on. The body knows
 * no bus: it checks whether it may begin, does its work on one thread, and tells how it goes.
 */

typedef enum WorkOrigin {
        WORK_ORIGIN_CHECKING, /* where a backup is from is being looked at */
        WORK_ORIGIN_ACCEPTED,
        WORK_ORIGIN_REFUSED,  /* another machine's or owner's, without the user's consent */
} WorkOrigin;

/* All are called on the worker's thread, but settling(). */
typedef struct WorkEvents {
        /* How many licenses there are to do; comes before origin(), restricted() and progress(). */
        void (*begin)(uint64_t total, void *userdata);
        /* A restore: where the backup is from, such as "anna on laptop"; the callee's. */
        void (*origin)(WorkOrigin origin, char *from, void *userdata);
        /* At most 100 skipped licenses: id, key id, title, id …; the callee's. At most ten times. */
        void (*restricted)(GPtrArray *licenses, void *userdata);
        /*
         * Whether it works on a client's descriptor, or a disk, which may hang whoever does: something has to move
         * then.
         */
        void (*watched)(bool watched, void *userdata);
        /* Whether it does nothing but wait for a client's descriptor. */
        void (*outside)(bool outside, void *userdata);
        /* The descriptor gave something. */
        void (*moved)(void *userdata);
        /* Whether it waits for the store, which is no hang, however long it takes. */
        void (*in_store)(bool in_store, void *userdata);
        /* Licenses done, and percent of the whole work; both never fall. That is a move, too. */
        void (*progress)(uint64_t completed, unsigned percent, void *userdata);
        /*
         * All is done but the last step: a restore's commit, and then it is on the store's thread, or the rename of a
         * backup. To cancel after this comes too late.
         */
        void (*settling)(void *userdata);
        void *userdata;
} WorkEvents;

/* What came out: of a backup, and of a check that one is whole, the first part; of a restore the second. */
typedef struct WorkResult {
        uint64_t licenses;
        uint64_t restricted;
        uint64_t bytes;
        bool verified;
        uint64_t damaged;        /* left out of a backup: their documents are damaged in the store */
        char *set_aside;         /* the name that a backup has now which must not be replaced; NULL: there was none */
        bool aside_is_own;       /* it is the user's, who may know */
        char **damaged_licenses; /* so many of them as fit, "NAME (UID): ID", NULL-terminated; NULL without any */

        uint64_t restored;
        uint64_t unchanged;
        uint64_t newer_kept;  /* the store's document is the newer one */
        uint64_t conflicts;   /* another document, and nothing says which is newer: the store's stayed */
        uint64_t revoked;
        uint64_t skipped;     /* licenses of skipped users */
        char **skipped_users; /* who have no account here, NULL-terminated; NULL where it is no restore */
} WorkResult;

void work_result_clear(WorkResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(WorkResult, work_result_clear)

typedef struct WorkClass {
        /* Whether it may begin; touches nothing. May be called twice. Returns 0 or a code. */
        int (*check)(void *work, Error *error);
        /* Does it. Returns 0 or a code; ret is set on success alone. */
        int (*run)(void *work, const WorkEvents *events, WorkResult *ret, Error *error);
        void (*free)(void *work);
} WorkClass;
