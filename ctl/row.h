/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <jansson.h>

#include "table.h"

/* A license as a row of a table, from the object that list --json prints. */

#define ROW_COLUMNS \
        { "ID", 36, 10 }, /* a UUID, for people copy it */ \
        { "TITLE", 8, 0 }, \
        { "ISSUER", 8, 0 }, \
        { "VALID UNTIL", 11, 0 }, \
        { "COUNTERS", 8, 0 }

/* Adds these columns; what the caller has more of comes after them. */
void row_add(Table *table, const json_t *license);
