/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "io.h"
#include "store.h"
#include "work.h"

/* What must not be replaced by a backup is set aside: it gets another name in the same folder. */

typedef struct NewBackup {
        const char *user;
        const char *store;   /* the id of the store that it is of */
        const char *machine; /* and that of the machine */
        StoreMemory memory;  /* what that knows of the user */
        const char *epochs;  /* and its epochs */
        bool beside_store;   /* in a folder of the service's own */
        bool overwrite;      /* it replaces what lies there */
        const WorkEvents *events;
        const Cancel *cancel;
} NewBackup;

#define ASIDE_SIZE sizeof "licenses-of-former-store-01234567.tar"

typedef struct Aside {
        char name[ASIDE_SIZE]; /* "" where nothing was to be kept */
        int former;            /* what was there, where it is the user's, and is to be replaced; else -1 */
        bool was_there;        /* it, or whatever had the name */
        bool linked;           /* what was there still has its own name, too, until it is replaced */
        bool is_own;           /* the user's; of any other the user is told nothing */
        bool takes_place;      /* of an older one of that name, which knows no more */
} Aside;

#define ASIDE_NONE ((Aside) { .former = -1 })

void aside_clear(Aside *aside);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Aside, aside_clear)

/*
 * Sets aside what a new backup in the folder would take away for good. Returns 0, or a negative errno, after which
 * aside_undo() is to be called as after a new backup that failed; -ESTALE: another has come meanwhile. *ret was
 * ASIDE_NONE, and is to be cleared.
 */
int aside_set(int folder, const NewBackup *backup, Aside *ret);

/* Undoes that. Returns 0, or a negative errno: what was set aside keeps its new name. */
int aside_undo(int folder, const Aside *aside);
