/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"
#include "io.h"

/* A backup that the user named to be read: a file, or '-' for standard input. */

typedef struct Source {
        const char *name; /* as the user wrote it, or "standard input"; borrowed */
        int fd;
        bool is_stdin;
} Source;

#define SOURCE_NONE ((Source) { .fd = -1 })

/* A terminal, a folder and a device are STATUS_USAGE. */
Status source_open(Ctl *ctl, const char *file, Source *ret);

/*
 * Waits until standard input has something to read, or has ended; at once for a file. For the service, whose
 * patience is for a pipe that moves, not for the passphrase that a program before us asks for.
 */
void source_wait(const Source *source);

void source_close(Source *source);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Source, source_close)
