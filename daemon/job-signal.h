/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "job.h"

/* What a job says on the bus, to whom, and how often (design, section 3). */

/* What a Progress carries beside the numbers that the job knows itself. */
typedef struct ProgressValue {
        GPtrArray *restricted; /* with WMT_RESTRICTED_LICENSE */
        const char *text;      /* with those that say where a backup is from */
} ProgressValue;

/*
 * Sends a signal to the connection that asked, and to the subscribed ones of its user and of root: Done
 * for WMT_BACKUPRESTORE_END, Progress for any other. value may be NULL where the status carries none.
 */
void job_tell(Job *job, WmtStatus status, const ProgressValue *value);

/* The same for a Progress, counted against what may be sent in a second. */
void job_tell_progress(Job *job, WmtStatus status, const ProgressValue *value);

/*
 * Tells the skipped licenses and the percentage that are still to be told, as far as they may be now.
 * last: this is the end, for which one place in the second was kept.
 */
void job_tell_what_is_new(Job *job, bool last);
