/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"
#include "io.h"

/* A backup that is to be read: a file that the user named, '-' for standard input, or that of the service. */

typedef struct Source {
        const char *name; /* as the user wrote it, or "standard input"; borrowed, but for own_name */
        char *own_name;   /* NULL, but for the service's */
        int fd;
        bool is_stdin;
} Source;

#define SOURCE_NONE ((Source) { .fd = -1 })

/*
 * Of standard input it waits for the first byte, however long that takes: the service's patience is for a pipe that
 * moves, not for the passphrase that a program before us asks for. Where it ends without one: STATUS_CORRUPT. A
 * terminal, a folder and a device are STATUS_USAGE.
 */
Status source_open(Ctl *ctl, const char *file, Source *ret);

/* The same without the wait, and the wait by itself, which ends when stop_fd is readable; -1 for none. */
Status source_open_at_once(Ctl *ctl, const char *file, Source *ret);
Status source_expect(Ctl *ctl, const Source *source, int stop_fd);

/*
 * The same for a file that nobody named, but that was found in a folder. Whose that is may put a pipe or a link in its
 * place meanwhile: it is neither waited for nor followed.
 */
Status source_open_found(Ctl *ctl, const char *file, Source *ret);

/*
 * The backup in the folder of the service. Its name is its path. Where there is none, or a damaged one:
 * STATUS_CORRUPT.
 */
Status source_open_service(Ctl *ctl, Source *ret);

/*
 * The same without words where it cannot be opened: what the service says is in ret_error then. Returns whether it
 * went well.
 */
bool source_try_open_service(Ctl *ctl, sd_bus_error *ret_error, Source *ret);
/* Whether that error says that there is no backup; one that is damaged at its start cannot be opened either. */
bool source_is_missing(const sd_bus_error *error);

void source_close(Source *source);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Source, source_close)
