/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "text.h"

#define LABEL_WIDTH 15

void field_print_tone(const char *label, Tone tone, const char *value) {
        g_autofree char *safe = text_safe_for(terminal_is(STDOUT_FILENO), value);

        if (!*value)
                return;
        printf("%s%-*s%s%s%s%s\n", terminal_begin(STDOUT_FILENO, TONE_TITLE), LABEL_WIDTH, label,
                terminal_end(STDOUT_FILENO, TONE_TITLE), terminal_begin(STDOUT_FILENO, tone), safe,
                terminal_end(STDOUT_FILENO, tone));
}

void field_print(const char *label, const char *value) {
        field_print_tone(label, TONE_PLAIN, value);
}

void field_printf(const char *label, const char *format, ...) {
        g_autofree char *value = NULL;
        va_list ap;

        va_start(ap, format);
        value = g_strdup_vprintf(format, ap);
        va_end(ap);
        field_print(label, value);
}
