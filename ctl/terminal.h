/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * The terminal that somebody looks at: whether there is one, how wide it is, and whether it shows colors. A pager
 * stands between stdout and the terminal, and changes none of that.
 */

/* Whether what goes to stdout or stderr ends on a terminal. */
bool terminal_is(int fd);
bool terminal_is_stdout(void);

/* Whether TERM says that the terminal can do no more than print. */
bool terminal_is_dumb(void);

/* How many cells the terminal behind fd has in a row, 80 where it does not say. */
size_t terminal_width(int fd);

/* From now on stdout goes through a pager to the terminal that it is now, and stderr, too, where that is one. */
void terminal_page(void);

typedef enum Tone {
        TONE_PLAIN,
        TONE_TITLE,
        TONE_GOOD,
        TONE_WARNING,
        TONE_BAD,
} Tone;

/*
 * What begins and ends a tone on stdout or stderr: nothing unless that is a terminal, and not a dumb one, and NO_COLOR
 * is unset or empty.
 */
const char *terminal_begin(int fd, Tone tone);
const char *terminal_end(int fd, Tone tone);
