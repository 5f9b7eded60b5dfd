/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <limits.h>

#include "io.h"

/*
 * A file that has no name until it is whole. While it is written it is unnamed, so that a kill at any
 * point leaves nothing behind; where the file system has no unnamed files it is called
 * .<name>.<token of the process><random>.partial, and draft_tidy() removes what a kill left of those.
 */

typedef struct Draft {
        int folder; /* borrowed */
        int fd;     /* open for reading and writing, mode 0600; -1 when discarded */
        int replaces; /* the file alone that it may replace, which is open meanwhile; -1: whatever is there; borrowed */
        char partial[NAME_MAX + 1]; /* the temporary name, empty for an unnamed file */
} Draft;

#define DRAFT_NONE ((Draft){ .folder = -1, .fd = -1, .replaces = -1 })

/* Opens a draft of what will be name in folder. Returns 0 or a negative errno. */
int draft_open(int folder, const char *name, Draft *ret);

/*
 * Syncs the draft, gives it its name, and syncs the folder. Without replace a name that is taken is
 * -EEXIST and stays as it is; with replace the old file is there until the new one is. The draft
 * stays open. Returns 0, or a negative errno, after which nothing has changed and the caller discards
 * it, or DRAFT_NOT_DURABLE: the new file has replaced the old one, but the folder could not be synced,
 * and errno says why. DRAFT_OTHER: another file than the one that it replaces has the name, and keeps it; as after an
 * error. (Who gives it that in the moment between the look and the rename is replaced.)
 */
enum { DRAFT_NOT_DURABLE = 1, DRAFT_OTHER };
int draft_publish(Draft *draft, const char *name, bool replace);

/*
 * Whether a name in a folder is still that of a file that is open: 1, or 0 where it is another's, or a negative errno,
 * -ENOENT where it is nobody's.
 */
int draft_is_named(int folder, const char *name, int file);

/* Closes a draft; what was not published is gone. */
void draft_discard(Draft *draft);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Draft, draft_discard)

/*
 * Removes what killed publishers of name left in folder and nobody works on: partial files of other processes, and the
 * name itself where it is an empty file. Returns how many, or a negative errno.
 */
int draft_tidy(int folder, const char *name);

/* The same for one entry of the folder, for who goes through it; returns whether it was removed. */
bool draft_tidy_entry(int folder, const char *entry, const char *name);
