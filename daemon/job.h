/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backup.h"
#include "caller.h"
#include "restore.h"
#include "worker.h"

/*
 * A job: from the call that asks for it to the end of its result's time. It tells what happens in
 * signals to those who may know (design, section 3), and ends in one place, job_finish(), whatever
 * happened. Bus thread only.
 */

typedef enum JobState {
        JOB_CHECKING, /* the call is not answered yet, and nobody knows of the job */
        JOB_QUEUED,
        JOB_RUNNING,
        JOB_DONE,
        JOB_FAILED,
        JOB_CANCELED,
} JobState;

typedef enum JobKind {
        JOB_BACKUP,
        JOB_RESTORE,
        JOB_VERIFY,
} JobKind;

struct Job {
        Manager *manager;
        uint64_t id;          /* random */
        uint64_t number;      /* counts the jobs of this daemon */
        char path[sizeof(JOB_PATH) + 1 + 16];
        JobKind kind;
        bool in_folder;       /* it goes to, or comes from, a folder of the service, not a client's descriptor */
        User *user;           /* who asked */
        JobState state;
        sd_bus_message *call; /* while JOB_CHECKING: not answered yet */
        char *requester;      /* unique name; NULL once that connection has gone */

        const WorkClass *class;
        void *work;           /* until there is a worker, whose it is then */
        Worker *worker;       /* NULL before it is its turn, and once it has finished or was abandoned */
        struct Slot *slot;    /* the worker's; only valid as long as worker is there */
        bool checked;         /* that the job may be is known; the worker, if there is one yet, waits to go on */
        Cancel *cancel;
        RestrictedList *restricted; /* what ListRestricted() gives */
        GPtrArray *waiters;   /* of sd_bus_message *: answers to Wait(), still empty */
        bool release;         /* goes when it ends */

        uint64_t completed, total;
        unsigned percent, percent_told;
        bool outside;         /* it waits for a client's descriptor, and has no place among those that run */
        bool watched;         /* it works on what may hang it: a client's descriptor, another disk */
        unsigned moves;       /* the worker's, when last looked at */
        int64_t moved_at;     /* monotonic */
        Error error;
        WorkResult result;

        /* Progress that is still to be told, and when the last ones were. */
        bool begun;
        GQueue restricted_signals; /* of GPtrArray * */
        int64_t told[10];
        unsigned n_told;
        sd_event_source *tick, *patience, *expiry;
};

/*
 * job-start.c: starts a job for a caller, whose message is answered with its path or an error once it is known
 * whether the job may be. plan and its contents are taken over, also on failure. Returns 0 or a code:
 * ERROR_BACKUP_BUSY, ERROR_LIMIT_EXCEEDED and others that need no look at a disk.
 */
int job_new_backup(Manager *manager, Caller *caller, sd_bus_message *message, BackupPlan *plan, Error *error);
int job_new_restore(Manager *manager, Caller *caller, sd_bus_message *message, RestorePlan *plan, Error *error);
/* The same for a check of what fd, which is taken over, gives. */
int job_new_verify(Manager *manager, Caller *caller, sd_bus_message *message, int fd, Error *error);

/* Frees a job and all that refers to it. */
Job *job_free(Job *job);

/* A job by its object path, if it is there for this caller. ERROR_UNKNOWN_OBJECT. */
int job_find(Manager *manager, const Caller *caller, const char *path, Job **ret, Error *error);
bool job_is_visible(const Job *job, const Caller *caller);

/* Whether path is that of a job, whether there is one or not. */
bool job_path_is_valid(const char *path);

/* Cancels a job that has not ended. reason is for the client, static; NULL: its user wanted it. */
void job_cancel(Job *job, const char *reason);
bool job_is_cancelable(const Job *job);
const char *job_state_name(const Job *job);
const char *job_kind_name(const Job *job);
/* "backup", "restore" or "check", for a sentence. */
const char *job_noun(JobKind kind);

/* Forgets the result: now, or when the job ends. */
void job_release(Job *job);

/* Answers message when the job has ended. ERROR_LIMIT_EXCEEDED. */
int job_wait(Job *job, sd_bus_message *message, Error *error);

/* job-signal.c: appends hresult, error, message and result, as Done and Wait() have them; the result alone. */
int job_append_result(const Job *job, sd_bus_message *message);
int job_append_result_details(const Job *job, sd_bus_message *message);
/* How many bytes either is at most, beside what each message takes. */
uint64_t job_result_bytes(const Job *job);

/* The connection has gone: it is not told any more. name NULL: all have, with the bus. */
void job_forget_connection(Manager *manager, const char *name);

/* Cancels all jobs for the daemon's stop. */
void job_cancel_all(Manager *manager);
