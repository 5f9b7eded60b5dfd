/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "follow.h"

/*
 * The licenses that a job names one by one: those that a backup skipped, and a restore's conflicts.
 */

/* Asks for as many as are shown: 10, with --json 1,000. NULL where the service does not answer. */
json_t *named_list(Ctl *ctl, const JobEnd *end);

/* Says the first ones, and how many of n there are besides. licenses may be NULL. */
void named_note(const Ctl *ctl, const json_t *licenses, uint64_t n);
