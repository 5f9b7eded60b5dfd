/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <gio/gio.h>

/*
 * The file of a backup, as the service wants it: a descriptor that we opened. Files may be on a disk that is slow, or
 * gone; whatever touches them is done in a thread.
 */

typedef struct BackupFile {
        char *name;    /* for people */
        int fd;
        /* Of a file that is written: */
        char *path;    /* where it goes, links followed */
        char *draft;   /* where it is until it is whole; NULL where nothing could be put beside it */
        bool replace;  /* an older one is there, and the user agreed to lose it */
        bool keep;     /* what backup_file_end() was told */
} BackupFile;

void backup_file_free(BackupFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BackupFile, backup_file_free)

/* Opens a backup to be read. */
void backup_file_open(GFile *file, GAsyncReadyCallback callback, gpointer data);

/*
 * Makes a new, empty file for a backup. It is beside the one that was chosen, so that an older backup stays whole until
 * the new one is: may_replace says that the user agrees to lose it then. Where nothing can be put beside it, as with
 * a portal that passes one file alone, a file that is new is written at its place, and an older one is not replaced.
 */
void backup_file_create(GFile *file, bool may_replace, GAsyncReadyCallback callback, gpointer data);

/* The file, or NULL and a sentence. */
BackupFile *backup_file_finish(GAsyncResult *result, GError **error);

/*
 * Good: gives the file its name, and makes that durable; not good: removes it. The file must stay until the callback,
 * which asks backup_file_end_finish() whether it worked.
 */
void backup_file_end(BackupFile *file, bool good, GAsyncReadyCallback callback, gpointer data);
bool backup_file_end_finish(GAsyncResult *result, GError **error);
