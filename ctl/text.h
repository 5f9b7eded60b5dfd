/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <glib.h>

/*
 * Text for people. Titles, ids and messages come from documents and from the bus, file names from
 * anywhere: what could steer a terminal must not reach it.
 */

/*
 * A copy that is safe to print on one line of a terminal: valid in the locale's character set, without control
 * characters, line breaks and marks that turn the direction of what follows.
 */
char *text_safe(const char *string);

/*
 * The same for a terminal or for a program. The latter gets UTF-8, without what steers a terminal: an id from a pipe is
 * still that of a license.
 */
char *text_safe_for(bool terminal, const char *string);

/* How many cells a safe string takes on a terminal. */
size_t text_width(const char *string);

/* Appends a safe string, cut with an ellipsis where it is wider than width, padded where narrower. */
void text_append_fit(GString *line, const char *string, size_t width);

/* "1 license", "2 licenses" */
char *text_licenses(uint64_t n);
/* "512 bytes", "12.3 kB" */
char *text_size(uint64_t bytes);
/* A Unix time as a date in local time; the number where it has no date. */
char *text_date(int64_t time);
/*
 * A Unix time from what people write: seconds since 1970, 2031-05-06 (its beginning in local time), or ISO 8601 such as
 * 2031-05-06T12:00:00Z. false where it is none of them, or before 1970.
 */
bool text_read_time(const char *string, uint64_t *ret);
/* As text_date(), with hours and minutes. */
char *text_time(int64_t time);
