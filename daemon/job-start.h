/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "job.h"

/* What job-start.c, which knows what there are jobs for, has of those that know what becomes of any. */

/* So many that were given up may hang in the system at once. */
#define JOB_ABANDONED_MAX 8U

/* What a job is made of. It takes over work, and references of its own to cancel and restricted. */
typedef struct JobTask {
        JobKind kind;
        Cancel *cancel;
        RestrictedList *restricted;
        const WorkClass *class;
        void *work;
        bool in_folder;
        bool is_sure; /* it is known without a check that it may be */
} JobTask;

/*
 * Makes the job of a task, whose work is taken over, and starts it; who calls has found a place for it. Returns 0 or
 * a code. A sure one is answered first, and that there is no thread for it is told by Done.
 */
int job_start(Manager *manager, Caller *caller, sd_bus_message *message, const JobTask *task, Error *error);

/* Puts into words that a job cannot be started: r is a negative errno. Returns the code. */
int job_not_started(JobKind kind, int r, Error *error);
