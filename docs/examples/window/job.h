/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <gio/gio.h>

/*
 * A backup or a restore that runs in the service, from the call that starts it to its end. The signal "progress" says
 * that something below has changed, "ended" that nothing will any more; it comes once, whatever happens.
 */

#define JOB_TYPE job_get_type()
G_DECLARE_FINAL_TYPE(Job, job, LICENSE, JOB, GObject)

/* Errors that the window answers with something else than their message. */
#define ERROR_CANCELED "org.licensevault1.Error.NS_E_DRM_OPERATION_CANCELED"
#define ERROR_NEEDS_CONSENT "org.licensevault1.Error.NS_E_DRM_NEEDS_INDIVIDUALIZATION"
/* Not the service's: it went while it worked. */
#define ERROR_LOST "org.licensevault1.Window.Error.Lost"

/* The flag of a restore: the user agrees to bring licenses over from another machine or another owner. */
#define RESTORE_AGREED 2U

/* So many licenses are named at most; the backup itself names them all. */
#define NAMED_MAX 500U

struct _Job {
        GObject parent;

        /* Where it stands. */
        bool begun;                /* it waits for its turn until then */
        guint64 completed, total;  /* licenses; total 0: not known yet */
        char *origin;              /* "anna on laptop": whose backup is restored; NULL until it is known */

        /* How it ended. */
        bool ended;
        char *error;               /* its name; NULL: good */
        char *message;             /* a sentence for people, where there is an error */
        GVariant *result;          /* a{sv} */
        GPtrArray *named;          /* titles: what a backup left out, or a restore's conflicts */

        /* Of job.c alone. */
        GDBusConnection *bus;
        guint subscription, watch;
        GQueue early;
        char *service, *path;      /* who answered, and with which job; NULL before */
        bool cancel_wanted;
};

/* Starts BackupLicensesToFile or RestoreLicensesFromFile on a descriptor, which stays the caller's. */
Job *job_new_backup(GDBusConnection *bus, int fd);
Job *job_new_restore(GDBusConnection *bus, int fd, guint32 flags);

/* Asks it to end; it then does with ERROR_CANCELED, or as it would have where it was too late. */
void job_cancel(Job *job);

/* A count of the result; 0 where it has none of that name. */
guint64 job_count(const Job *job, const char *name);
