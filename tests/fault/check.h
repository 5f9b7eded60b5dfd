/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/* What must be true after a fault and after a kill; whatever is not is a complaint. */

/* The daemon runs still, or again: it answers, and the store shows this many steps, or at most so many more. */
void check_answers(World *world, unsigned steps, unsigned more);

/* An error is of the table, and its sentence fit to be read and true. error: the errno that was injected. */
void check_error(World *world, const Outcome *outcome, int error);

typedef enum BackupState {
        BACKUP_NONE = 1,
        BACKUP_OLD = 2,
        BACKUP_NEW = 4, /* another one, which licensevaultctl verifies and which has all licenses */
} BackupState;

/* The backups are one of those (a set), whole. outcome NULL: the daemon was killed. */
void check_backup(World *world, const Outcome *outcome);

/*
 * No file is there but the service's and backups. The daemon's own look at its folders may take a moment; where it was
 * stopped just then, what is left in a root itself goes at the next start.
 */
void check_folders(World *world, bool stopped);

/* The database by itself: whole, and its books right. No daemon runs. */
void check_database(World *world);
