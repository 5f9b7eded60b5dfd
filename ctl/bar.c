/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bar.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>

#include "terminal.h"

#define BAR_WIDTH_MIN 10U
#define BAR_WIDTH_MAX 50U
#define REDRAW_USEC (G_USEC_PER_SEC / 20)
#define LINE_USEC (3 * G_USEC_PER_SEC)

void bar_init(Bar *bar, const char *label, bool silent) {
        *bar = (Bar) {
                .label = label,
                .silent = silent,
                .terminal = isatty(STDERR_FILENO) && !terminal_is_dumb(),
                .shown_usec = g_get_monotonic_time(),
        };
}

/* The last column stays free: some terminals wrap as soon as it is written. */
static char *compose(const Bar *bar, unsigned percent, const char *detail, size_t columns) {
        g_autofree char *tail = g_strdup_printf("%3u %%%s%s", percent, detail ? "  " : "", detail ?: "");
        size_t room = columns > 0 ? columns - 1 : 0, taken = strlen(bar->label) + strlen(tail) + 4;
        GString *line = g_string_new(bar->label);

        if (room >= taken + BAR_WIDTH_MIN) {
                size_t width = MIN(room - taken, BAR_WIDTH_MAX), full = width * percent / 100;

                g_string_append(line, " [");
                for (size_t i = 0; i < width; i++)
                        g_string_append_c(line, i < full ? '#' : '-');
                g_string_append(line, "] ");
        } else
                g_string_append_c(line, ' ');

        g_string_append(line, tail);
        if (line->len > room)
                g_string_printf(line, "%3u %%", percent);
        if (line->len > room)
                g_string_truncate(line, room);
        return g_string_free(line, FALSE);
}

void bar_update(Bar *bar, unsigned percent, const char *detail) {
        int64_t now = g_get_monotonic_time();

        percent = MIN(percent, 100U);
        if (bar->silent)
                return;

        if (!bar->terminal) {
                if (now - bar->shown_usec < LINE_USEC)
                        return;
                fprintf(stderr, "%s: %u %%\n", bar->label, percent);
        } else {
                if (bar->drawn && percent < 100 && now - bar->shown_usec < REDRAW_USEC)
                        return;

                /* The rest of the line is cleared after the text, not before it: that would flicker. */
                g_autofree char *line = compose(bar, percent, detail, terminal_width(STDERR_FILENO));
                fprintf(stderr, "\r%s\033[K", line);
                fflush(stderr);
                bar->drawn = true;
        }

        bar->shown_usec = now;
}

void bar_erase(Bar *bar) {
        if (!bar->drawn)
                return;

        fprintf(stderr, "\r\033[K");
        fflush(stderr);
        bar->drawn = false;
}
