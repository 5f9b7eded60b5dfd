/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of settings, the file that is installed and licensevaultd.conf(5) must tell the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
/* For its tables, which nothing but this test needs to see from outside. */
#include "config.c"

static char *read_source(const char *name) {
        g_autofree char *path = g_build_filename(g_getenv("SOURCE_ROOT"), name, NULL);
        g_autoptr(GBytes) bytes = read_path(path);

        return g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
}

static char *default_of(const struct Setting *setting) {
        const uint8_t *field = (const uint8_t *)&defaults + setting->offset;
        uint64_t large;
        unsigned small;

        if (setting->max == 0)
                return g_strdup("");
        if (setting->size == sizeof large) {
                memcpy(&large, field, sizeof large);
                return g_strdup_printf("%" PRIu64, large);
        }
        assert_int_equal(setting->size, sizeof small);
        memcpy(&small, field, sizeof small);
        return g_strdup_printf("%u", small);
}

/* The table as a key file without a blank or a comment. */
static char *write_table(void) {
        GString *text = g_string_new(NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
                g_autofree char *value = default_of(&settings[i]);

                if (i == 0 || !g_str_equal(settings[i].group, settings[i - 1].group))
                        g_string_append_printf(text, "[%s]\n", settings[i].group);
                g_string_append_printf(text, "%s=%s\n", settings[i].key, value);
        }
        return g_string_free(text, false);
}

static bool is_setting(const char *line) {
        return g_regex_match_simple("^#[A-Za-z]+=", line, 0, 0);
}

/* The installed file with every setting in force, and nothing else of it. */
static char *uncomment(const char *file) {
        GString *text = g_string_new(NULL);
        g_auto(GStrv) lines = g_strsplit(file, "\n", -1);

        for (char **line = lines; *line; line++)
                if (is_setting(*line))
                        g_string_append_printf(text, "%s\n", *line + 1);
                else if (**line && !g_str_equal(*line, "#") && !g_str_has_prefix(*line, "# "))
                        g_string_append_printf(text, "%s\n", *line);
        return g_string_free(text, false);
}

static void test_file_has_every_setting_at_its_default_and_nothing_else(void **state) {
        g_autofree char *file = read_source("systemd/licensevaultd.conf");
        g_autofree char *expected = write_table(), *found = uncomment(file);

        assert_string_equal(found, expected);
}

/* As it is installed, and with all that is in it taken at its word. */
static void test_file_sets_the_defaults(void **state) {
        g_autofree char *folder = temp_folder_new();
        g_autofree char *path = g_build_filename(folder, "licensevaultd.conf", NULL);
        g_autofree char *file = read_source("systemd/licensevaultd.conf"), *all = uncomment(file);
        const char *const texts[] = { file, all };

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                unsigned problems = 77;
                Config config;

                write_path(path, texts[i], strlen(texts[i]));
                config_load(folder, &config, &problems);
                assert_int_equal(problems, 0);
                assert_non_null(config.roots);
                assert_null(config.roots[0]);
                for (size_t j = 0; j < G_N_ELEMENTS(settings); j++)
                        if (settings[j].max > 0)
                                assert_memory_equal((uint8_t *)&config + settings[j].offset,
                                        (const uint8_t *)&defaults + settings[j].offset, settings[j].size);
                config_clear(&config);
        }
        temp_folder_remove(g_steal_pointer(&folder));
}

/* The comment above a setting, which ends at an empty line. */
static char *comment_above(char **lines, unsigned i) {
        GString *text = g_string_new(NULL);

        while (i > 0 && g_str_has_prefix(lines[i - 1], "# "))
                i--;
        for (; g_str_has_prefix(lines[i], "# "); i++)
                g_string_append(text, lines[i] + 1);
        return g_string_free(text, false);
}

static void test_file_explains_each_setting_and_its_range(void **state) {
        g_autofree char *file = read_source("systemd/licensevaultd.conf");
        g_auto(GStrv) lines = g_strsplit(file, "\n", -1);
        unsigned n = 0;

        for (unsigned i = 0; lines[i]; i++) {
                g_autofree char *comment = NULL, *range = NULL;

                if (!is_setting(lines[i]))
                        continue;
                assert_true(n < G_N_ELEMENTS(settings));
                comment = comment_above(lines, i);
                range = settings[n].max > 0 ?
                        g_strdup_printf(" %" PRIu64 " to %" PRIu64, settings[n].min, settings[n].max) :
                        g_strdup("Example: Roots=/");
                /* Not a part of a longer number. */
                const char *place = strstr(comment, range);
                if (!place || g_ascii_isdigit(place[strlen(range)]))
                        fail_msg("%s: '%s' does not say '%s'", lines[i], comment, range);
                n++;
        }
        assert_int_equal(n, G_N_ELEMENTS(settings));
}

/* What the manual has to say of each setting, a line each. */
static char *write_table_with_ranges(void) {
        GString *text = g_string_new(NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
                g_autofree char *value = default_of(&settings[i]);

                if (settings[i].max == 0)
                        g_string_append_printf(text, "[%s] %s: none\n", settings[i].group, settings[i].key);
                else
                        g_string_append_printf(text, "[%s] %s: %s; from %" PRIu64 " to %" PRIu64 ".\n",
                                settings[i].group, settings[i].key, value, settings[i].min, settings[i].max);
        }
        return g_string_free(text, false);
}

/*
 * The same of the section SETTINGS: ".SS [Group]", then for each setting ".TP", ".B Key=", its meaning, and at the
 * end, after a ".br", "Default …".
 */
static char *read_manual(void) {
        g_autofree char *manual = read_source("docs/licensevaultd.conf.5");
        g_auto(GStrv) lines = g_strsplit(manual, "\n", -1);
        const char *group = "", *key = NULL;
        GString *text = g_string_new(NULL);
        unsigned meaning = 0;
        char **line = lines;

        while (*line && !g_str_equal(*line, ".SH SETTINGS"))
                line++;
        assert_non_null(*line);
        for (line++; *line && !g_str_has_prefix(*line, ".SH "); line++) {
                if (g_str_has_prefix(*line, ".SS "))
                        group = *line + strlen(".SS ");
                else if (g_str_equal(*line, ".TP")) {
                        line++;
                        if (key || !g_regex_match_simple("^\\.B [A-Za-z]+=$", *line, 0, 0))
                                fail_msg("No setting: %s", *line);
                        key = *line + strlen(".B ");
                        meaning = 0;
                } else if (g_str_has_prefix(*line, "Default ") && g_str_equal(line[-1], ".br")) {
                        g_autofree char *value = g_strndup(*line + strlen("Default "),
                                strcspn(*line + strlen("Default "), ":"));

                        if (!key || meaning < 20)
                                fail_msg("Of no setting, or of one that is not explained: %s", *line);
                        g_string_append_printf(text, "%s %.*s: %s\n", group, (int)strlen(key) - 1, key, value);
                        key = NULL;
                } else
                        meaning += (unsigned)strlen(*line);
        }
        assert_null(key);
        return g_string_free(text, false);
}

static void test_manual_has_every_setting_with_default_and_range_and_nothing_else(void **state) {
        g_autofree char *expected = write_table_with_ranges(), *found = read_manual();

        assert_string_equal(found, expected);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_file_has_every_setting_at_its_default_and_nothing_else),
                cmocka_unit_test(test_file_sets_the_defaults),
                cmocka_unit_test(test_file_explains_each_setting_and_its_range),
                cmocka_unit_test(test_manual_has_every_setting_with_default_and_range_and_nothing_else),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
