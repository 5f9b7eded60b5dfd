/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "terminal.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <glib.h>

#define WIDTH_DEFAULT 80U

/* What stood behind stdout and stderr before the pager. */
static bool paged, paged_stderr;
static size_t paged_width;

bool terminal_is(int fd) {
        if (paged && fd == STDOUT_FILENO)
                return true;
        if (paged && fd == STDERR_FILENO)
                return paged_stderr;
        return isatty(fd);
}

bool terminal_is_stdout(void) {
        return terminal_is(STDOUT_FILENO);
}

bool terminal_is_dumb(void) {
        const char *term = g_getenv("TERM");

        return !term || !*term || strcmp(term, "dumb") == 0;
}

size_t terminal_width(int fd) {
        struct winsize size;

        if (paged && fd == STDOUT_FILENO)
                return paged_width;
        if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return WIDTH_DEFAULT;
        return size.ws_col;
}

void terminal_page(void) {
        paged_width = terminal_width(STDOUT_FILENO);
        paged_stderr = isatty(STDERR_FILENO);
        paged = true;
}

static bool has_tone(int fd, Tone tone) {
        const char *no_color = g_getenv("NO_COLOR");

        return tone != TONE_PLAIN && terminal_is(fd) && !terminal_is_dumb() && (!no_color || !*no_color);
}

const char *terminal_begin(int fd, Tone tone) {
        static const char *const sequences[] = {
                [TONE_PLAIN] = "",
                [TONE_TITLE] = "\033[1m",
                [TONE_GOOD] = "\033[32m",
                [TONE_WARNING] = "\033[33m",
                [TONE_BAD] = "\033[1;31m",
        };

        return has_tone(fd, tone) ? sequences[tone] : "";
}

const char *terminal_end(int fd, Tone tone) {
        return has_tone(fd, tone) ? "\033[0m" : "";
}
