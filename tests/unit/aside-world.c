/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "aside-world.h"

void assert_aside(World *world, const char *prefix, GBytes *bytes) {
        g_autoptr(GDir) entries = g_dir_open(world->own, 0, NULL);
        unsigned n = 0;

        for (const char *name; (name = g_dir_read_name(entries));) {
                g_autofree char *path = g_build_filename(world->own, name, NULL);

                if (g_str_equal(name, FOLDER_BACKUP_NAME))
                        continue;
                n++;
                assert_true(g_str_has_prefix(name, prefix) && g_str_has_suffix(name, ".tar"));
                if (bytes) {
                        g_autoptr(GBytes) found = read_path(path);

                        assert_true(g_bytes_equal(found, bytes));
                }
        }
        assert_int_equal(n, 1);
}

BackupPlan plan_over(World *world, const char *name) {
        BackupPlan plan = new_plan(world);

        g_free(plan.name);
        plan.name = g_strdup(name);
        plan.overwrite = true;
        return plan;
}

void back_up_over(World *world, const char *name, uint64_t licenses) {
        g_auto(WorkResult) result = {};

        forget(world);
        run_good(world, plan_over(world, name), &result);
        assert_int_equal(result.licenses, licenses);
        assert_path_proved(world->target, &result);
}

void forget_newest_license(World *world) {
        edit_store(world, "DELETE FROM documents WHERE key = (SELECT max(key) FROM licenses);"
                "DELETE FROM licenses WHERE key = (SELECT max(key) FROM licenses)");
}

void set_store(World *world, const char *id) {
        g_autofree char *sql = g_strdup_printf("UPDATE identity SET id = '%s'", id);

        edit_store(world, sql);
}

char *back_up_on(World *world, const char *machine) {
        BackupPlan plan = plan_over(world, alice.name);
        g_auto(WorkResult) result = {};

        g_free(plan.machine);
        plan.machine = g_strdup(machine);
        forget(world);
        run_good(world, plan, &result);
        assert_true(!result.set_aside || (result.aside_is_own && g_str_has_prefix(result.set_aside, FORMER_STORE)));
        assert_path_proved(world->target, &result);
        return g_strdup(result.set_aside);
}

void back_up_over_other(World *world, bool is_set_aside) {
        g_autofree char *aside = back_up_on(world, "machine");

        assert_int_equal(aside != NULL, is_set_aside);
}

void assert_has(World *world, const char *name, GBytes *bytes) {
        g_autofree char *path = g_build_filename(world->own, name, NULL);
        g_autoptr(GBytes) found = read_path(path);

        assert_true(g_bytes_equal(found, bytes));
}

unsigned count_files(World *world, GBytes *bytes) {
        g_autoptr(GDir) entries = g_dir_open(world->own, 0, NULL);
        unsigned n = 0;

        for (const char *name; (name = g_dir_read_name(entries));) {
                g_autofree char *path = g_build_filename(world->own, name, NULL);
                g_autoptr(GBytes) found = read_path(path);

                n += g_bytes_equal(found, bytes);
        }
        return n;
}

void put_named(World *world, const char *name) {
        put(world->store, &alice, name, "a license");
}
