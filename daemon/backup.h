/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "api.h"
#include "archive-manifest.h"
#include "io.h"
#include "proved-file.h"
#include "restricted.h"
#include "store.h"
#include "work.h"

/*
 * A backup: built from one snapshot of the store, read back and verified, delivered (design, section
 * 4). It runs on a worker thread of its own, in two steps: backup_check() before the client is
 * answered, backup_run() after.
 */

/* Where backups come from and may go. */
typedef struct BackupPlan {
        Store *store;
        uid_t uid;               /* who asks; whose BackupPath it is */
        char *name;
        bool all_users;          /* whose licenses, if not the asking user's: to a descriptor only */
        uid_t owner;
        int fd;                  /* the client's descriptor; -1: the BackupPath */
        bool overwrite;
        bool skip_damaged;       /* leave out what is damaged in the store, and name it; else it is an error */
        char **roots;            /* that the administrator configured, NULL-terminated */
        char *host;
        char *machine;           /* an application-specific id, never the machine id itself */
        int stall_msec;
} BackupPlan;

/* Frees what a plan holds, and closes its descriptor. */
void backup_plan_clear(BackupPlan *plan);

typedef struct Backup Backup;

/* Takes over the plan with its strings and its descriptor, also when it fails. Returns 0 or a negative errno. */
int backup_new(BackupPlan *plan, Cancel *cancel, Backup **ret);
Backup *backup_free(Backup *backup);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Backup, backup_free)

/*
 * Whether the backup may be made: ERROR_BACKUP_EXISTS, ERROR_ACCESS_DENIED, ERROR_INVALID_ARGUMENTS,
 * ERROR_MEDIUM. Touches nothing.
 */
int backup_check(Backup *backup, Error *error);

/*
 * Whether it is known at once that the client need not be refused: its BackupPath is the service's own folder, and what
 * is there may be replaced, or nothing is there. Then the backup goes there, and backup_check() is not called; should
 * that folder be broken, the backup fails. Never waits: neither the store nor a disk is asked.
 */
bool backup_check_at_once(Backup *backup);

/* Makes it. Besides the codes of backup_check(): ERROR_CANCELED, those of the store. */
int backup_run(Backup *backup, const WorkEvents *events, WorkResult *ret, Error *error);

/* What was skipped, complete once backup_run() has ended. The caller refs what it keeps. */
RestrictedList *backup_restricted(Backup *backup);

/* The same as the body of a job; work is a Backup. */
extern const WorkClass backup_class;

/* backup-place.c: where backups are, and whose. */

/*
 * Where the backup of a user goes, or comes from: the folder path (NULL: the default one), as *ret_root and
 * what lies below <root>/<uid>. *ret_root and *ret_path are the caller's (g_free), and *ret_below points into
 * the latter. ERROR_ACCESS_DENIED where the folder is not (or no longer) in an allowed one.
 */
int backup_place(const char *state_folder, char *const *roots, uid_t uid, const char *path, char **ret_root,
        char **ret_path, const char **ret_below, Error *error);

/* Of a backup of all users: a restore takes no more, for it remembers them. */
#define BACKUP_USERS_MAX 10000U

/* Puts into words why a folder of backup_place() could not be opened: folder_open()'s r. */
int backup_folder_failed(const char *path, int r, const char *property, Error *error);

typedef enum BackupFile {
        BACKUP_FILE_NONE,
        BACKUP_FILE_OWN,
        BACKUP_FILE_FOREIGN, /* of a user of another name, who had this number before */
        BACKUP_FILE_STRANGE, /* not a plain file of its own */
        BACKUP_FILE_DAMAGED, /* it does not say whose it is */
} BackupFile;

/*
 * What a file in a folder, licenses.tar as a rule, is to the user of a name; opened for reading if it is that user's.
 * ret_store, which may be NULL, gets what it says of the store that it is of.
 * Returns a BackupFile, or a negative errno where it cannot be found out.
 */
int backup_find(int folder, const char *file, const char *name, int *ret_fd, ArchiveStore *ret_store);

/* Whether the service alone may make files in a folder. */
bool backup_folder_is_ours(int folder);

/* Whether a backup is whole and says nothing of any license. Returns 1, 0, also where it is damaged, or -ENOMEM. */
int backup_is_empty(int fd);

/*
 * Opens the backup in a user's BackupPath, or RestorePath, for reading. ERROR_BACKUP_MISSING, ERROR_BACKUP_CORRUPT.
 * May wait for a disk. To a client both errors have one name: that of the former begins with BACKUP_MISSING_WORDS.
 * ret_is_ours, which may be NULL, gets what backup_folder_is_ours() says of the folder.
 */
#define BACKUP_MISSING_WORDS "There is no backup of yours in "
int backup_open(Store *store, char *const *roots, const StoreOwner *owner, const char *property, int *ret_fd,
        bool *ret_is_ours, Error *error);

/* backup-archive.c: what stands in a backup. */

typedef struct BackupArchive {
        StoreConnection *connection; /* in a snapshot */
        const BackupPlan *plan;
        GPtrArray *owners;           /* of StoreOwnerRow * */
        const char *owner_name;      /* of the one owner; NULL for all users */
        const char *store_id;
        RestrictedList *restricted;
        const WorkEvents *events;
        const Cancel *cancel;
        ProvedFile *file;            /* that it goes to */
        int fd;                      /* the same */
        unsigned reserve_percent;    /* that must stay free there; 0: no care */
        unsigned percent_end;        /* of the whole work, when the archive is written */
        StoreMemory memory;          /* what the store knows of these owners */
        const char *epochs;          /* and its epochs */
        uint64_t total;              /* licenses to do, restricted ones included */
} BackupArchive;

/* Writes the whole archive, up to proved_file_end(). *ret gets all but verified. */
int backup_archive_write(const BackupArchive *archive, WorkResult *ret, Error *error);

/* backup-state.c: a line of state.jsonl, with its LF, in place of what line holds. owner is NULL in a backup of one. */
void backup_state_line(const char *owner, const StoreCursorRow *row, GString *line);
