/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"
#include "draft.h"

/*
 * A file that the user named for output. It gets its name only when it is complete, so that a
 * failure leaves nothing behind and an old file stays until the new one is there. Where the file
 * system has no unnamed files, it has a temporary name until then: callers block signals first.
 */

typedef struct Output {
        const char *path; /* as the user wrote it; borrowed */
        char *name;       /* its last component */
        int folder;
        bool replace;
        bool replaced; /* it is there, whatever else may have failed */
        Draft draft; /* draft.fd is what to write to */
} Output;

#define OUTPUT_NONE ((Output) { .folder = -1, .draft = DRAFT_NONE })

/* Without replace, a file that is there is STATUS_EXISTS. */
Status output_open(Ctl *ctl, const char *path, bool replace, Output *ret);

/* Another name for it, in the same folder; path is borrowed. */
void output_rename(Output *output, const char *path);

/* Syncs the file and names it. */
Status output_publish(Ctl *ctl, Output *output);

/* Closes it; what was not published is gone. */
void output_discard(Output *output);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Output, output_discard)
