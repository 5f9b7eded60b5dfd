/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ctl.h"

/*
 * The dates that license documents have of their own, by which an older one is told from the one that has
 * replaced it. Of the documents that are recognised, all have one (document.h).
 */

typedef struct Dated {
        char *id;     /* g_free; NULL for a document without a date of its own */
        int64_t date; /* Unix microseconds */
} Dated;

/*
 * What a document says of itself; title is for messages. One that is broken has no date: the service says what is
 * wrong with it.
 */
Status dated_read(Ctl *ctl, const void *document, size_t size, const char *media_type, const char *title, Dated *ret);

/*
 * Asks the service, which tells no dates, for the document that it has under an id. LICENSE_NO_DATE where there is
 * none, where it has no date, and where it is damaged, and wants to be replaced. title, of the file that it is about,
 * is for messages.
 */
Status dated_ask(Ctl *ctl, const char *id, const char *title, int64_t *ret_date);
