/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "io.h"
#include "restricted.h"
#include "store.h"
#include "work.h"

/*
 * A restore: staged, proved, merged (design, section 4). What is read goes into the store beside the
 * licenses, where nobody sees it, in short transactions; only when END.json has proved all of it does one
 * transaction merge. Until then the licenses are as they were, and after any failure they stay so.
 */

typedef struct RestorePlan {
        Store *store;
        uid_t uid;          /* who asks; whose RestorePath it is */
        char *name;
        bool all_users;     /* the backup is one of all users, and goes to them by name */
        char *from;         /* it is one of all users, and he of that name in it is restored alone; NULL: neither */
        uid_t owner;        /* without all_users: to whom the licenses go */
        int fd;             /* the client's descriptor; -1: the RestorePath */
        bool individualize; /* the user agrees that it is from another machine or owner */
        char **roots;       /* that the administrator configured, NULL-terminated */
        char *machine;      /* this machine's application-specific id; "" where it has none */
        int stall_msec;
} RestorePlan;

/* Frees what a plan holds, and closes its descriptor. */
void restore_plan_clear(RestorePlan *plan);

typedef struct Restore Restore;

/* Takes over the plan with its strings and its descriptor, also when it fails. Returns 0 or a negative errno. */
int restore_new(RestorePlan *plan, Cancel *cancel, Restore **ret);
Restore *restore_free(Restore *restore);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Restore, restore_free)

/*
 * Whether there is something to restore from: ERROR_BACKUP_MISSING, ERROR_BACKUP_CORRUPT,
 * ERROR_ACCESS_DENIED, ERROR_INVALID_ARGUMENTS (a descriptor that cannot be read), ERROR_MEDIUM. Reads
 * nothing of a descriptor.
 */
int restore_check(Restore *restore, Error *error);

/*
 * Makes it. ERROR_BACKUP_CORRUPT, ERROR_NEEDS_INDIVIDUALIZATION, ERROR_ACCESS_DENIED and
 * ERROR_INVALID_ARGUMENTS (a backup of all users without all_users or from, or the reverse; nobody in it is called as
 * from says), ERROR_LIMIT_EXCEEDED, ERROR_CANCELED, ERROR_MEDIUM, those of the store. On success the result's part for
 * a restore is set.
 */
int restore_run(Restore *restore, const WorkEvents *events, WorkResult *ret, Error *error);

/* The licenses that are counted as conflicts, complete once restore_run() has ended. The caller refs what it keeps. */
RestrictedList *restore_conflicts(Restore *restore);

/* The same as the body of a job; work is a Restore. */
extern const WorkClass restore_class;
