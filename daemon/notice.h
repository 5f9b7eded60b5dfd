/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "job.h"

/*
 * What of an error that a client is told the administrator is told, too, as an event of log.h: what is wrong with the
 * store, and with the folders that the service keeps backups in. Bus thread only.
 */

/* An error that answers a call, or ends a job: logged if the store is to blame. */
void notice_error(const Error *error);

/* A job that was refused after a look at its medium, or has ended in error: logged if the administrator must act. */
void notice_job(const Job *job, const Error *error);
