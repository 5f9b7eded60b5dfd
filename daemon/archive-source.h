/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "archive-frame.h"
#include "archive.h"
#include "io.h"

/*
 * The bytes of a backup as they come from a descriptor, which may be a stranger's, past the guard of
 * archive-frame.h.
 */
typedef struct ArchiveSource {
        int fd;
        bool is_socket, is_pipe;
        int stall_msec;
        const Cancel *cancel;
        uint64_t bytes; /* read so far */
        ArchiveWatch watch;
        Error error;    /* what ended it, if not its end */
        ArchiveFrame frame;
        uint8_t buffer[256 * 1024];
} ArchiveSource;

void archive_source_init(ArchiveSource *source, int fd, int stall_msec, const Cancel *cancel);

/*
 * The next bytes, which live until the next call; 0 at the end, where the backup is whole; -1 with
 * source->error set. All that was good before the damage is given out first.
 */
ssize_t archive_source_read(ArchiveSource *source, const void **ret);
