/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Joiners and the marks that fix the direction of a single character: languages need them. */
static bool is_harmless_format(gunichar c) {
        return c >= 0x200C && c <= 0x200F;
}

static bool is_safe(gunichar c) {
        GUnicodeType type = g_unichar_type(c);

        return is_harmless_format(c) ||
                (g_unichar_isprint(c) && type != G_UNICODE_LINE_SEPARATOR &&
                        type != G_UNICODE_PARAGRAPH_SEPARATOR && type != G_UNICODE_PRIVATE_USE);
}

/* What is read by a program stays what it is; it may end on a terminal all the same, so what steers one does not. */
static bool is_harmless(gunichar c) {
        GUnicodeType type = g_unichar_type(c);
        bool turns = (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);

        return !turns && type != G_UNICODE_CONTROL && type != G_UNICODE_LINE_SEPARATOR &&
                type != G_UNICODE_PARAGRAPH_SEPARATOR;
}

static char *replace(const char *string, bool utf8, bool (*keep)(gunichar c)) {
        const char *replacement = utf8 ? "\xEF\xBF\xBD" : "?";
        GString *safe = g_string_new(NULL);

        for (const char *p = string; *p;) {
                gunichar c = g_utf8_get_char_validated(p, -1);

                if (c == (gunichar)-1 || c == (gunichar)-2) {
                        g_string_append(safe, replacement);
                        p++;
                        continue;
                }

                if (keep(c) && (utf8 || c < 0x80))
                        g_string_append_unichar(safe, c);
                else
                        g_string_append(safe, replacement);
                p = g_utf8_next_char(p);
        }

        return g_string_free(safe, FALSE);
}

char *text_safe(const char *string) {
        return replace(string, g_get_charset(NULL), is_safe);
}

char *text_safe_for(bool terminal, const char *string) {
        return terminal ? text_safe(string) : replace(string, true, is_harmless);
}

static size_t character_width(gunichar c) {
        return g_unichar_iszerowidth(c) || is_harmless_format(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
}

size_t text_width(const char *string) {
        size_t width = 0;

        for (const char *p = string; *p; p = g_utf8_next_char(p))
                width += character_width(g_utf8_get_char(p));
        return width;
}

void text_append_fit(GString *line, const char *string, size_t width) {
        bool cut = text_width(string) > width;
        size_t room = cut && width > 0 ? width - 1 : width, used = 0;

        for (const char *p = string; *p; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);

                if (used + character_width(c) > room)
                        break;
                used += character_width(c);
                g_string_append_unichar(line, c);
        }

        if (cut && width > 0) {
                g_string_append(line, g_get_charset(NULL) ? "\xE2\x80\xA6" : "~");
                used++;
        }

        for (; used < width; used++)
                g_string_append_c(line, ' ');
}

char *text_licenses(uint64_t n) {
        return g_strdup_printf("%" PRIu64 " license%s", n, n == 1 ? "" : "s");
}

char *text_size(uint64_t bytes) {
        static const char *const units[] = { "kB", "MB", "GB", "TB" };
        double size = (double)bytes / 1000;
        unsigned i = 0;

        if (bytes < 1000)
                return g_strdup_printf("%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");

        /* What would be rounded to 1000.0 of a unit is 1.0 of the next. */
        for (; size >= 999.95 && i + 1 < G_N_ELEMENTS(units); i++)
                size /= 1000;
        return g_strdup_printf("%.1f %s", size, units[i]);
}

char *text_date(int64_t time) {
        time_t t = (time_t)time;
        char date[64];
        struct tm tm;

        if (!localtime_r(&t, &tm) || strftime(date, sizeof date, "%Y-%m-%d", &tm) == 0)
                return g_strdup_printf("%" PRIi64, time);
        return g_strdup(date);
}

bool text_read_time(const char *string, uint64_t *ret) {
        g_autoptr(GTimeZone) zone = g_time_zone_new_local();
        g_autoptr(GDateTime) time = NULL;
        int year, month, day, end = 0;

        if (g_ascii_string_to_unsigned(string, 10, 0, INT64_MAX, ret, NULL))
                return true;
        if (sscanf(string, "%4d-%2d-%2d%n", &year, &month, &day, &end) == 3 && string[end] == '\0')
                time = g_date_time_new(zone, year, month, day, 0, 0, 0);
        else
                time = g_date_time_new_from_iso8601(string, zone);
        if (!time || g_date_time_to_unix(time) < 0)
                return false;
        *ret = (uint64_t)g_date_time_to_unix(time);
        return true;
}

char *text_time(int64_t time) {
        time_t t = (time_t)time;
        char date[64];
        struct tm tm;

        if (!localtime_r(&t, &tm) || strftime(date, sizeof date, "%Y-%m-%d %H:%M", &tm) == 0)
                return g_strdup_printf("%" PRIi64, time);
        return g_strdup(date);
}
