/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Documents that are damaged in the store, and whole in the backup. */
#include <stdarg.h>
#include <stdio.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "restore-world.h"

#define OPAQUE "\x01 opaque document"
#define OF_OPAQUE "WHERE key = (SELECT key FROM licenses WHERE id = 'opaque')"

/* Of the same size, of another, none, and none at all. */
static const char *const damages[] = {
        "UPDATE documents SET document = zeroblob(length(document)) " OF_OPAQUE,
        "UPDATE documents SET document = CAST('short' AS BLOB) " OF_OPAQUE,
        "UPDATE documents SET document = zeroblob(0) " OF_OPAQUE,
        "DELETE FROM documents " OF_OPAQUE,
};

static void damage(RestoreWorld *world, const char *sql) {
        edit_store(&(World){ .folder = world->folder }, sql);
}

static int read_opaque(RestoreWorld *world, Error *error) {
        g_autofree void *document = NULL;
        g_auto(License) license = {};
        int r;

        license_init(&license);
        r = store_license_get(world->connection, &alice, "opaque", 1024, &license, &document, error);
        if (r == 0) {
                assert_int_equal(license.size, strlen(OPAQUE));
                assert_memory_equal(document, OPAQUE, strlen(OPAQUE));
        }
        return r;
}

static void restore_again(RestoreWorld *world, WorkResult *ret) {
        assert_int_equal(lseek(world->backup, 0, SEEK_SET), 0);
        restore_good(world, restore_plan(world, world->backup), ret);
}

/* The backup has a lower counter than the store: the rules of the merge hold as without the damage. */
static void test_damaged_document_is_repaired_and_the_low_marks_stay(void **state) {
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(damages); i++) {
                g_auto(WorkResult) result = {};
                g_autofree char *now = NULL;
                g_auto(Error) damaged = {}, error = {};

                damage(world, damages[i]);
                assert_int_equal(read_opaque(world, &damaged), ERROR_STORE_CORRUPT);
                restore_again(world, &result);
                assert_int_equal(result.restored, 2);
                assert_int_equal(result.unchanged, 0);
                assert_good(read_opaque(world, &error), &error);
                now = render(world->connection);
                assert_non_null(strstr(now, "license opaque play=5 generation 1 "));
                restore_world_renew(world);
        }
}

/* What has nothing else to merge takes a shorter way. */
static void test_damaged_document_of_a_license_that_is_otherwise_the_same_is_repaired(void **state) {
        RestoreWorld *world = *state;

        restore_again(world, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(damages); i++) {
                g_autofree char *before = render(world->connection), *now = NULL;
                g_auto(WorkResult) result = {};
                g_auto(Error) error = {};

                damage(world, damages[i]);
                restore_again(world, &result);
                assert_int_equal(result.restored, 1);
                assert_int_equal(result.unchanged, 1);
                assert_good(read_opaque(world, &error), &error);
                now = render(world->connection);
                assert_string_equal(now, before);
        }
}

/* A date decides between two documents, and what cannot be read has one, too: the backup's would be an older one. */
static void test_damaged_document_that_is_newer_than_that_of_the_backup_stays(void **state) {
        RestoreWorld *world = *state;
        g_auto(WorkResult) result = {};

        damage(world, "UPDATE licenses SET document_date = document_date * 2 WHERE id = 'lcp'");
        damage(world, "UPDATE documents SET document = zeroblob(7) "
                      "WHERE key = (SELECT key FROM licenses WHERE id = 'lcp')");
        restore_again(world, &result);
        assert_int_equal(result.newer_kept, 1);
        assert_int_equal(result.restored, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, restore_world_setup, restore_world_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_damaged_document_is_repaired_and_the_low_marks_stay),
                TEST(test_damaged_document_of_a_license_that_is_otherwise_the_same_is_repaired),
                TEST(test_damaged_document_that_is_newer_than_that_of_the_backup_stays),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
