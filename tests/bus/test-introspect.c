/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The XML under dbus/ is the contract and the manual: the running daemon must say the same of itself. */
#include <stdlib.h>
#include <string.h>

#include "client.h"

/* One line for each member: "interface method Name(in s:name, out u:other)". */
typedef struct Parse {
        GPtrArray *lines;
        char *interface;
        GString *member;
        char *annotation; /* of EmitsChangedSignal */
        bool is_property;
} Parse;

static const char *attribute(const char **names, const char **values, const char *name) {
        for (unsigned i = 0; names[i]; i++)
                if (strcmp(names[i], name) == 0)
                        return values[i];
        return NULL;
}

static void start_element(GMarkupParseContext *context, const char *element, const char **names,
        const char **values, void *userdata, GError **error) {
        const char *name = attribute(names, values, "name"), *type = attribute(names, values, "type");
        Parse *parse = userdata;

        if (strcmp(element, "interface") == 0) {
                g_free(parse->interface);
                parse->interface = g_strdup(name);
                g_ptr_array_add(parse->lines, g_strdup(name));
        } else if (strcmp(element, "method") == 0 || strcmp(element, "signal") == 0) {
                parse->member = g_string_new(NULL);
                g_string_printf(parse->member, "%s %s %s", parse->interface, element, name);
        } else if (strcmp(element, "property") == 0) {
                parse->member = g_string_new(NULL);
                parse->is_property = true;
                g_string_printf(parse->member, "%s %s %s %s %s", parse->interface, element, name, type,
                        attribute(names, values, "access"));
        } else if (strcmp(element, "arg") == 0 && parse->member) {
                g_string_append_printf(parse->member, " %s %s:%s",
                        attribute(names, values, "direction") ?: "out", type, name ?: "(no name)");
        } else if (strcmp(element, "annotation") == 0 && parse->is_property &&
                g_str_has_suffix(name, ".EmitsChangedSignal")) {
                g_free(parse->annotation);
                parse->annotation = g_strdup(attribute(names, values, "value"));
        }
}

static void end_element(GMarkupParseContext *context, const char *element, void *userdata, GError **error) {
        Parse *parse = userdata;

        if (!parse->member || strcmp(element, "arg") == 0 || strcmp(element, "annotation") == 0)
                return;
        if (parse->is_property)
                g_string_append_printf(parse->member, " %s", parse->annotation ?: "true");
        g_ptr_array_add(parse->lines, g_string_free(parse->member, false));
        g_clear_pointer(&parse->annotation, g_free);
        parse->member = NULL;
        parse->is_property = false;
}

static int compare_lines(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What an introspection says of our interfaces, sorted. */
static char *describe(const char *xml) {
        const GMarkupParser parser = { .start_element = start_element, .end_element = end_element };
        Parse parse = { .lines = g_ptr_array_new_with_free_func(g_free) };
        g_autoptr(GMarkupParseContext) context = g_markup_parse_context_new(&parser, 0, &parse, NULL);
        g_autoptr(GString) text = g_string_new(NULL);
        g_autoptr(GError) error = NULL;

        if (!g_markup_parse_context_parse(context, xml, -1, &error) ||
                !g_markup_parse_context_end_parse(context, &error))
                fail_msg("The XML is broken: %s", error->message);
        qsort(parse.lines->pdata, parse.lines->len, sizeof(char *), compare_lines);
        for (unsigned i = 0; i < parse.lines->len; i++)
                if (g_str_has_prefix(parse.lines->pdata[i], "org.licensevault1."))
                        g_string_append_printf(text, "%s\n", (char *)parse.lines->pdata[i]);
        g_ptr_array_unref(parse.lines);
        g_free(parse.interface);
        return g_string_free(g_steal_pointer(&text), false);
}

static char *introspect(sd_bus *bus, const char *path) {
        return call_string(bus, path, "org.freedesktop.DBus.Introspectable.Introspect", "");
}

static void assert_described(sd_bus *bus, const char *path, const char *name) {
        const char *folder = g_getenv("LICENSEVAULT_DBUS");
        g_autofree char *file = g_build_filename(folder ?: "dbus", name, NULL);
        g_autofree char *contract = read_file(file, NULL), *live = introspect(bus, path);
        g_autofree char *expected = describe(contract), *found = describe(live);
        g_auto(GStrv) expected_lines = g_strsplit(expected, "\n", -1),
                      found_lines = g_strsplit(found, "\n", -1);
        bool same = true;

        assert_true(g_strv_length(expected_lines) > 10);
        for (char **line = expected_lines; *line; line++)
                if (!g_strv_contains((const char *const *)found_lines, *line)) {
                        print_error("The daemon lacks: %s\n", *line);
                        same = false;
                }
        for (char **line = found_lines; *line; line++)
                if (!g_strv_contains((const char *const *)expected_lines, *line)) {
                        print_error("%s lacks: %s\n", name, *line);
                        same = false;
                }
        assert_true(same);
        assert_string_equal(found, expected);
}

static void test_root_object_is_as_the_xml_says(void **state) {
        sd_bus *bus = harness_connect(*state, 0);

        assert_described(bus, "/org/licensevault1", "org.licensevault1.xml");
}

static void test_job_is_as_the_xml_says(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));

        assert_described(bus, job, "org.licensevault1.Job.xml");
}

static void test_own_jobs_can_be_found_from_the_root(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autofree char *quoted = g_strdup_printf("<node name=\"%s\"", strrchr(job, '/') + 1);
        g_hash_table_unref(assert_job_succeeds(bus, job));

        g_autofree char *root = introspect(bus, "/org/licensevault1"),
                        *jobs = introspect(bus, "/org/licensevault1/job");
        assert_non_null(strstr(root, "<node name=\"job\""));
        assert_non_null(strstr(jobs, quoted));
}

static void test_unknown_members_are_refused(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        sd_bus_error error = SD_BUS_ERROR_NULL;

        sd_bus_message *message = new_call(bus, ROOT, "Manager.Explode");
        assert_true(sd_bus_call(bus, message, 0, &error, NULL) < 0);
        assert_true(sd_bus_error_has_name(&error, SD_BUS_ERROR_UNKNOWN_METHOD));
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        message = new_call(bus, ROOT, "LicenseBackup.BackupLicenses");
        assert_true(sd_bus_message_append(message, "s", "flags") >= 0);
        assert_true(sd_bus_call(bus, message, 0, &error, NULL) < 0);
        assert_true(sd_bus_error_has_name(&error, SD_BUS_ERROR_INVALID_ARGS));
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_root_object_is_as_the_xml_says),
                TEST(test_job_is_as_the_xml_says),
                TEST(test_own_jobs_can_be_found_from_the_root),
                TEST(test_unknown_members_are_refused),
        };

        return cmocka_run_group_tests_name("introspect", tests, NULL, NULL);
}
