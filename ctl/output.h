/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"
#include "draft.h"

/*
 * A file that the user named for output. It gets its name only when it is complete, so that a
 * failure leaves nothing behind and an old file stays until the new one is there. Where the file
 * system has no unnamed files, it has a temporary name until then: callers block signals first.
 *
 * Where the name is a symbolic link, the file that it names is made or replaced, and the link stays: it is
 * how people keep a backup on another disk. Only links of the caller and of root are followed.
 */

typedef struct Output {
        const char *path; /* as the user wrote it; borrowed */
        char *file;       /* what path links to; NULL where it is no link */
        char *name;       /* the last component of what is written */
        int folder;       /* where that is */
        bool replace;
        bool replaced; /* it is there, whatever else may have failed */
        int old;       /* the file that is to be replaced, once it was looked at; else -1 */
        bool was_free; /* there was none then */
        Draft draft; /* draft.fd is what to write to */
} Output;

#define OUTPUT_NONE ((Output) { .folder = -1, .old = -1, .draft = DRAFT_NONE })

/* Without replace, a file that is there is STATUS_EXISTS; a link to a file that is not there is none. */
Status output_open(Ctl *ctl, const char *path, bool replace, Output *ret);

/* Another name for one that is no link, in the same folder; path is borrowed. */
void output_rename(Output *output, const char *path);

/* Syncs the file and names it. Where path is a link, says which file that was, with --json as "file". */
Status output_publish(Ctl *ctl, Output *output);

/* Closes it; what was not published is gone. */
void output_discard(Output *output);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Output, output_discard)
