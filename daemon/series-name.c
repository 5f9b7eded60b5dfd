/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "series-name.h"

#include <string.h>

#include <glib.h>

/* "0" for a digit. */
#define PATTERN "licenses-00000000T000000Z.tar"
#define FORMAT "licenses-%Y%m%dT%H%M%SZ.tar"
#define INCOMPLETE "-incomplete.tar"
#define STAMP_LENGTH (SERIES_NAME_LENGTH - strlen(".tar"))

void series_name_at(time_t when, char ret[SERIES_NAME_LENGTH + 1]) {
        struct tm utc;

        gmtime_r(&when, &utc);
        strftime(ret, SERIES_NAME_LENGTH + 1, FORMAT, &utc);
}

char *series_name_incomplete(const char *path) {
        return g_strdup_printf("%.*s" INCOMPLETE, (int)(strlen(path) - strlen(".tar")), path);
}

bool series_name_begins(const char *string) {
        for (const char *at = PATTERN; *at; at++, string++)
                if (*at == '0' ? !g_ascii_isdigit(*string) : *at != *string)
                        return false;
        return true;
}

bool series_name_is_whole(const char *name) {
        return series_name_begins(name) && name[SERIES_NAME_LENGTH] == '\0';
}

bool series_name_is_any(const char *name) {
        g_autofree char *whole = NULL;

        if (series_name_is_whole(name))
                return true;
        if (strlen(name) < STAMP_LENGTH || strcmp(name + STAMP_LENGTH, INCOMPLETE) != 0)
                return false;
        whole = g_strdup_printf("%.*s.tar", (int)STAMP_LENGTH, name);
        return series_name_is_whole(whole);
}
