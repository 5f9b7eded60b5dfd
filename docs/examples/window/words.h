/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "job.h"

/* What is said of a job. All but the names of files (UTF-8) comes from the job; results are the caller's. */

/* While it runs. */
char *words_progress(const Job *job, bool backup, const char *file);

/* How a good one ended; where there are names to list, the last line leads to them. */
char *words_backup_heading(const Job *job);
char *words_backup(const Job *job, const char *file);
char *words_restore_heading(const Job *job);
char *words_restore(const Job *job);
