/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backup-read.h"

/* What backup_read() tells, as text. */

/* What a visitor was told, a line for each call, and how it behaves. */
typedef struct Told {
        GString *text;
        unsigned n_origins, n_states, n_licenses;
        ErrorCode refuse_origin, refuse_state, refuse_license;
        bool steal; /* takes each License */
} Told;

void told_clear(Told *told);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Told, told_clear)

/* Reads fd from its start; told may be empty, or as an earlier reading left it. The order of the calls is checked. */
#define TOLD_DOCUMENT_MAX 8192U
int told_read(Told *told, int fd, Error *error);

/* The lines that a visitor would write. */
void told_state(GString *text, const char *owner, const License *license, int64_t revoked);
void told_license(GString *text, const char *owner, const License *license, const void *document);

/* These close fd. It is taken, and the words are among what was told. */
void assert_taken(int fd, const char *words);
/* It is corrupt, and the message names the entry, and has the words. */
void assert_corrupt(int fd, const char *path, const char *words);
