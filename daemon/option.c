/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "option.h"

#include <string.h>

/* By a long name of that length, or where name is NULL, by a letter. */
static const GOptionEntry *find(const GOptionEntry *const *tables, const char *name, size_t length, char letter) {
        for (; *tables; tables++)
                for (const GOptionEntry *entry = *tables; entry->long_name; entry++)
                        if (name ? strlen(entry->long_name) == length && memcmp(name, entry->long_name, length) == 0 :
                                    letter == entry->short_name)
                                return entry;
        return NULL;
}

static bool takes_value(const GOptionEntry *entry) {
        return entry && entry->arg != G_OPTION_ARG_NONE;
}

bool option_check(const GOptionEntry *const *tables, bool strict, char *const *words, GError **error) {
        for (; *words; words++) {
                const char *word = *words;
                bool value_follows = false;

                if (word[0] != '-' || !word[1]) {
                        if (strict)
                                break;
                        continue;
                }
                if (strcmp(word, "--") == 0)
                        break;

                if (word[1] == '-') {
                        size_t length = strcspn(word + 2, "=");
                        const GOptionEntry *entry = length > 0 ? find(tables, word + 2, length, '\0') : NULL;
                        bool has_value = word[2 + length] == '=';

                        if (entry && !takes_value(entry) && has_value) {
                                g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--%s takes no value",
                                        entry->long_name);
                                return false;
                        }
                        value_follows = takes_value(entry) && !has_value;
                } else
                        for (word++; *word; word++)
                                value_follows = value_follows || takes_value(find(tables, NULL, 0, *word));

                if (value_follows && words[1])
                        words++;
        }
        return true;
}
