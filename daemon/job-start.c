/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-start.h"

#include "verify.h"

/* Threads of a user: one that works, and those of ended jobs that still close a client's descriptor. */
#define USER_WORKERS_MAX 4U

static int check_slot(Manager *manager, const User *user, Error *error) {
        if (user->job)
                return error_set(error, ERROR_BACKUP_BUSY,
                        "A %s of yours is running. Wait for its end, or cancel it: licensevaultctl jobs lists it.",
                        job_noun(user->job->kind));
        if (user->n_stuck > 0 || user->n_workers >= USER_WORKERS_MAX)
                return error_set(error, ERROR_BACKUP_BUSY,
                        "An earlier job of yours still hangs in the system. Try again when its medium answers.");
        if (manager->n_unfinished >= manager->config.jobs_on_machine)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u backups and restores are under way on this machine (JobsOnMachine=). Try again later.",
                        manager->n_unfinished);
        if (manager->n_abandoned >= JOB_ABANDONED_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u canceled jobs hang in the system. Try again when their media answer.",
                        manager->n_abandoned);
        return 0;
}

int job_new_backup(Manager *manager, Caller *caller, sd_bus_message *message, BackupPlan *plan, Error *error) {
        g_autoptr(Cancel) cancel = NULL;
        bool in_folder = plan->fd < 0;
        Backup *backup;
        int r;

        r = check_slot(manager, caller->user, error);
        if (r == 0 && (r = cancel_new(&cancel)) < 0)
                job_not_started(JOB_BACKUP, r, error);
        if (r != 0) {
                backup_plan_clear(plan);
                return (int)error->code;
        }

        r = backup_new(plan, cancel, &backup);
        if (r < 0)
                return job_not_started(JOB_BACKUP, r, error);
        return job_start(manager, caller, message,
                &(JobTask) {
                        .kind = JOB_BACKUP,
                        .cancel = cancel,
                        .restricted = backup_restricted(backup),
                        .class = &backup_class,
                        .work = backup,
                        .in_folder = in_folder,
                        .is_sure = backup_check_at_once(backup),
                },
                error);
}

int job_new_restore(Manager *manager, Caller *caller, sd_bus_message *message, RestorePlan *plan, Error *error) {
        g_autoptr(Cancel) cancel = NULL;
        bool in_folder = plan->fd < 0;
        Restore *restore;
        int r;

        r = check_slot(manager, caller->user, error);
        if (r == 0 && (r = cancel_new(&cancel)) < 0)
                job_not_started(JOB_RESTORE, r, error);
        if (r != 0) {
                restore_plan_clear(plan);
                return (int)error->code;
        }

        r = restore_new(plan, cancel, &restore);
        if (r < 0)
                return job_not_started(JOB_RESTORE, r, error);
        return job_start(manager, caller, message,
                &(JobTask) {
                        .kind = JOB_RESTORE,
                        .cancel = cancel,
                        .restricted = restore_conflicts(restore),
                        .class = &restore_class,
                        .work = restore,
                        .in_folder = in_folder,
                },
                error);
}

int job_new_verify(Manager *manager, Caller *caller, sd_bus_message *message, int fd, Error *error) {
        g_autoptr(RestrictedList) none = NULL;
        g_autoptr(Cancel) cancel = NULL;
        _cleanup_fd_ int owned = fd;
        Verify *verify;
        int r;

        r = check_slot(manager, caller->user, error);
        if (r != 0)
                return r;

        if ((r = cancel_new(&cancel)) < 0 ||
            (r = restricted_new(manager->state_folder, &none)) < 0 ||
            (r = verify_new(fd_steal(&owned), manager->config.limits.document_bytes,
                 (int)manager->config.stall_seconds * 1000, cancel, &verify)) < 0)
                return job_not_started(JOB_VERIFY, r, error);
        return job_start(manager, caller, message,
                &(JobTask) {
                        .kind = JOB_VERIFY,
                        .cancel = cancel,
                        .restricted = none,
                        .class = &verify_class,
                        .work = verify,
                },
                error);
}
