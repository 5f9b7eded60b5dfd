/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"

/* What one user may try to learn of another. */

/* The path of a job that is not there, as long as those that are. */
#define NO_JOB "/org/licensevault1/job/0123456789abcdef"

/* All matches that the bus lets a client have; the bus may refuse the second one. */
void match_everything(sd_bus *bus);
/* How many messages about the service a connection has got. Ends with what is there after a round trip. */
unsigned count_received(sd_bus *bus);
/* The error of a call, as "name: message" with the argument taken out, so that two can be compared. */
char *error_text(sd_bus *bus, const char *path, const char *member, const char *without, const char *types, ...);
/* Whatever is asked of a job is answered as if there were none. */
void assert_job_is_hidden(sd_bus *bus, const char *job);
