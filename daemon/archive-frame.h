/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "error.h"
#include "pax-format.h"

/*
 * The guard before libarchive: sees to it, on the raw bytes, that a backup has the one shape that our
 * writer gives it. libarchive alone would take much more without a word: it merges global headers,
 * drops records that it does not know, lets the last of two paths win, follows old forms of sparse
 * files, and does not look at what stands between the entries or after the last one.
 */

typedef enum FrameState {
        FRAME_HEADER,
        FRAME_RECORDS, /* the content of an extended header */
        FRAME_CONTENT,
        FRAME_PADDING,
        FRAME_ZEROS,   /* after the last entry */
} FrameState;

typedef struct ArchiveFrame {
        FrameState state;
        uint64_t left;     /* bytes of this state still to come; in FRAME_ZEROS, those that were there */
        uint64_t padding;  /* that comes after this content */
        bool extended;     /* an extended header was there for the next entry */
        bool path_known;   /* from the extended header */
        size_t fill;       /* of header or records */
        PaxHeader header;
        char records[PAX_RECORDS_MAX];
        char path[PAX_PATH_MAX + 1]; /* of this entry, or of the one before; "" before the first */
} ArchiveFrame;

void archive_frame_init(ArchiveFrame *frame);

/*
 * Looks at the next bytes of a backup and returns how many of them are good. If those are not all,
 * error says why; then the frame is at its end.
 */
size_t archive_frame_feed(ArchiveFrame *frame, const uint8_t *data, size_t size, Error *error);

/* Whether a backup may end here. Returns 0 or ERROR_BACKUP_CORRUPT. */
int archive_frame_finish(const ArchiveFrame *frame, Error *error);

/*
 * Sets ERROR_BACKUP_CORRUPT with where the backup is damaged ("at", or "after", the entry path; at its
 * start where path is "") and how, and what to do next. Returns the code.
 */
int archive_damaged(Error *error, const char *preposition, const char *path, const char *format, ...)
        G_GNUC_PRINTF(4, 5);
