/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Progress on stderr: a bar that redraws itself on a terminal; elsewhere, as in a log, a line now and
 * then for what takes long.
 */

typedef struct Bar {
        const char *label;
        bool silent;
        bool terminal;
        bool drawn;
        int64_t shown_usec; /* when something was shown last; the start counts */
} Bar;

void bar_init(Bar *bar, const char *label, bool silent);

/* Shows how far it is. detail is said behind the percentage, such as "3 of 10"; may be NULL. */
void bar_update(Bar *bar, unsigned percent, const char *detail);

/* Gives the line back to the terminal: before anything else is printed, and at the end. */
void bar_erase(Bar *bar);
