/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/*
 * Starts a job and stays with it to its end.
 */

typedef struct JobEnd {
        char *job;       /* the path of its object */
        char *service;   /* the unique name that started it */
        json_t *result;  /* Done's result, an object */
        uint64_t copied; /* bytes that went through copy_from */
        char *origin;    /* of a restore: where the backup is from, such as "anna on laptop"; NULL if not said */
} JobEnd;

void job_end_clear(JobEnd *end);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(JobEnd, job_end_clear)

/*
 * For a command with --no-wait: makes a call that starts a job, prints the job's id, and says how to learn of its end.
 * call is freed. An administrator may be asked first. about is as for follow_job().
 */
Status follow_not(Ctl *ctl, sd_bus_message *call, const char *about);

/*
 * Makes a call that starts a job, shows its progress under label, and returns at its end: STATUS_OK
 * where it succeeded. about, where not NULL, is put before the message of an error: the file. A
 * signal that would end the program cancels the job; a second one leaves at once. What comes out of copy_from, the
 * read end of a pipe (-1 for none), is copied to stdout meanwhile. call is freed as soon as it is sent, and with it the
 * descriptors in it, so that the pipe can end.
 *
 * ret is set on success; and with STATUS_CONSENT where the job had said where the backup is from, which is not
 * put into words: the user has to agree first, and is perhaps asked.
 */
Status follow_job(Ctl *ctl, sd_bus_message *call, const char *label, const char *about, int copy_from,
        JobEnd *ret);
