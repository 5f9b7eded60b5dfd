/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "io.h"
#include "work.h"

/* Whether a backup is whole and could be restored: reads all of it, and changes nothing. */

typedef struct Verify Verify;

/*
 * Takes over the descriptor, also on failure. document_max is the most bytes that a document may have here,
 * stall_msec how long the descriptor may give no byte. Returns 0 or a negative errno.
 */
int verify_new(int fd, uint64_t document_max, int stall_msec, Cancel *cancel, Verify **ret);
Verify *verify_free(Verify *verify);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Verify, verify_free)

/* The body of a job; work is a Verify. Codes are those of backup_read(), and of descriptor_check_source(). */
extern const WorkClass verify_class;
