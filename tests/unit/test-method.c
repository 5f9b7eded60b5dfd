/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of methods is the one place that lets anybody in: it knows each member that is offered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "method.h"

static const char *const others[] = { "BackupLicensesToFile", "RestoreLicensesFromFile", NULL };
static const char *const roots[] = { "ListOwners", "ReassignLicenses", "PurgeLicenses", NULL };

static Access expected_access(const char *member) {
        return g_strv_contains(others, member) ? ACCESS_OTHERS :
               g_strv_contains(roots, member)  ? ACCESS_ROOT :
                                                 ACCESS_OWN;
}

/* Returns how many methods the interface has. */
static unsigned walk(const Interface *interface) {
        unsigned n = 0;

        assert_int_equal(interface->vtable->type, _SD_BUS_VTABLE_START);
        for (const sd_bus_vtable *entry = interface->vtable + 1; entry->type != _SD_BUS_VTABLE_END; entry++) {
                const Method *method;

                if (entry->type != _SD_BUS_VTABLE_METHOD)
                        continue;
                method = method_find(interface->name, entry->x.method.member);
                if (!method)
                        fail_msg("%s.%s is in no row", interface->name, entry->x.method.member);
                assert_non_null(method->handler);
                /* A method that another function answers, or that sd-bus looks at itself, passes the table by. */
                assert_ptr_equal(entry->x.method.handler, method_dispatch);
                assert_true(entry->flags & SD_BUS_VTABLE_UNPRIVILEGED);
                if (method->access != expected_access(method->member))
                        fail_msg("%s.%s is open to others than it was meant to", interface->name, method->member);
                n++;
        }
        return n;
}

static void test_every_offered_method_has_its_row(void **state) {
        unsigned n = walk(&job_interface);

        for (const Interface *interface = root_interfaces; interface->name; interface++)
                n += walk(interface);
        /* Had the walk met none, it would have proved nothing. */
        assert_true(n > 30);
}

static void test_what_is_not_listed_is_not_found(void **state) {
        assert_null(method_find("org.licensevault1.Manager", "BackupLicenses"));
        assert_null(method_find("org.licensevault1.LicenseStore", "Explode"));
        assert_null(method_find("org.freedesktop.DBus.Introspectable", "Introspect"));
        assert_null(method_find(NULL, "Explode"));
        assert_non_null(method_find(NULL, "BackupLicenses"));
}

#define TO_US "send_destination=\"org.licensevault1\" send_interface=\""

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The interfaces of ours that the bus policy lets through, sorted, with a space behind each. */
static char *policy_interfaces(void) {
        g_autofree char *path = g_build_filename(g_getenv("SOURCE_ROOT"), "dbus", "org.licensevault1.conf", NULL);
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *text = NULL;
        GString *list = g_string_new(NULL);

        assert_true(g_file_get_contents(path, &text, NULL, NULL));
        for (const char *at = text; (at = strstr(at, TO_US)); at++) {
                const char *name = at + strlen(TO_US);

                g_ptr_array_add(names, g_strndup(name, strcspn(name, "\"")));
        }
        g_ptr_array_sort(names, compare);
        for (unsigned i = 0; i < names->len; i++)
                g_string_append_printf(list, "%s ", (char *)names->pdata[i]);
        return g_string_free(list, FALSE);
}

static void test_bus_policy_lets_the_offered_interfaces_through_and_no_others(void **state) {
        g_autoptr(GPtrArray) names = g_ptr_array_new();
        g_autofree char *found = policy_interfaces();
        g_autoptr(GString) expected = g_string_new(NULL);

        g_ptr_array_add(names, (void *)"org.freedesktop.DBus.Introspectable");
        g_ptr_array_add(names, (void *)"org.freedesktop.DBus.Peer");
        g_ptr_array_add(names, (void *)"org.freedesktop.DBus.Properties");
        g_ptr_array_add(names, (void *)job_interface.name);
        for (const Interface *interface = root_interfaces; interface->name; interface++)
                g_ptr_array_add(names, (void *)interface->name);
        g_ptr_array_sort(names, compare);
        for (unsigned i = 0; i < names->len; i++)
                g_string_append_printf(expected, "%s ", (const char *)names->pdata[i]);

        assert_string_equal(found, expected->str);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_offered_method_has_its_row),
                cmocka_unit_test(test_what_is_not_listed_is_not_found),
                cmocka_unit_test(test_bus_policy_lets_the_offered_interfaces_through_and_no_others),
        };

        return cmocka_run_group_tests_name("method", tests, NULL, NULL);
}
