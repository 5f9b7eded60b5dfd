/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus.h"
#include "terminal.h"

/* Jobs as the service tells of them, also those that somebody else started. */

typedef struct JobRow {
        char *path;
        char *kind;  /* "backup", "restore", "verify" */
        uint32_t owner;
        char *state; /* "queued", "running", "done", "failed", "canceled" */
} JobRow;

/* Those of the user, for root of all: an array of JobRow * (g_ptr_array_unref). */
Status job_list(Ctl *ctl, GPtrArray **ret);

/* Whether it has not ended. */
bool job_is_active(const JobRow *job);

/* The path of a job's object from what a user wrote, which is that or its last part (g_free). */
Status job_path_from_text(Ctl *ctl, const char *text, char **ret);

/* The last part, by which people know it; points into path. */
const char *job_id(const char *path);

/* The name of a user, or the number (g_free). */
char *job_user(uint32_t uid);

/* The color of a state. */
Tone job_tone(const char *state);

/*
 * What became of a job, in words (g_free), from the result in its Done: "12 licenses, 3.4 kB, verified". "" where it
 * has none.
 */
char *job_outcome(const json_t *result);

/* Whether the result tells of something that the job had to leave out. */
bool job_is_partial(const json_t *result);
