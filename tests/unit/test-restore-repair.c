/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Licenses that are damaged in the store, and whole in the backup. */
#include <stdarg.h>
#include <stdio.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "restore-world.h"
#include "store-connection.h"

#define OPAQUE "\x01 opaque document"
#define OF_OPAQUE "WHERE key = (SELECT key FROM licenses WHERE id = 'opaque')"

/* Of the same size, of another, none, and none at all. */
static const char *const damages[] = {
        "UPDATE documents SET document = zeroblob(length(document)) " OF_OPAQUE,
        "UPDATE documents SET document = CAST('short' AS BLOB) " OF_OPAQUE,
        "UPDATE documents SET document = zeroblob(0) " OF_OPAQUE,
        "DELETE FROM documents " OF_OPAQUE,
};

/* Of what is known beside the document; nothing of it is what the backup has. */
static const char *const rots[] = {
        "UPDATE licenses SET title = 'rotten' WHERE id = 'opaque'",
        "UPDATE licenses SET key_id = CAST(x'ff' AS TEXT) WHERE id = 'opaque'",
        "UPDATE licenses SET document_date = 77 WHERE id = 'opaque'",
        "UPDATE licenses SET not_after = 5 WHERE id = 'opaque'",
        "UPDATE licenses SET extension = 'lcpl' WHERE id = 'opaque'",
        "UPDATE licenses SET generation = -9 WHERE id = 'opaque'",
        "UPDATE licenses SET digest = CAST(substr(digest, 1, 48) || x'55' AS BLOB) WHERE id = 'opaque'",
        "UPDATE licenses SET digest = CAST(x'55' || substr(digest, 2) AS BLOB) WHERE id = 'opaque'",
        "UPDATE licenses SET digest = zeroblob(32) WHERE id = 'opaque'",
        "UPDATE licenses SET size = size + 1 WHERE id = 'opaque'",
        "UPDATE licenses SET revoked = 0 WHERE id = 'opaque'",
        "UPDATE licenses SET allow_backup = 0 WHERE id = 'opaque'",
        "INSERT INTO counters SELECT key, 'no right', 3 FROM licenses WHERE id = 'opaque'",
        "INSERT INTO counters SELECT key, 'rot', -3 FROM licenses WHERE id = 'opaque'",
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

static StoreDamage damage_of_opaque(RestoreWorld *world) {
        g_autoptr(StoreCursor) cursor = NULL;
        g_auto(Error) error = {};
        const StoreCursorRow *row;
        int64_t owner;

        assert_good(store_connection_integer(world->connection, "SELECT owner FROM owners WHERE name = 'alice'", &owner,
                            &error), &error);
        assert_good(store_cursor_new(world->connection, owner, true, &cursor, &error), &error);
        for (;;) {
                assert_good(store_cursor_next(cursor, &row, &error), &error);
                assert_non_null(row);
                if (strcmp(row->license.id, "opaque") == 0)
                        return row->damage;
        }
}

/* Without the order of the rows, of which a repaired one becomes the last. */
static const char *licenses_of(char *rendered) {
        char *end = strstr(rendered, "mark ");

        assert_non_null(end);
        *end = '\0';
        return rendered;
}

static void test_what_is_damaged_beside_a_document_is_repaired(void **state) {
        RestoreWorld *world = *state;

        restore_again(world, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(rots); i++) {
                g_autofree char *before = render(world->connection), *now = NULL;
                g_auto(WorkResult) result = {};

                damage(world, rots[i]);
                assert_int_not_equal(damage_of_opaque(world), STORE_DAMAGE_NONE);
                restore_again(world, &result);
                assert_int_equal(result.restored, 1);
                assert_int_equal(result.unchanged, 1);
                assert_int_equal(damage_of_opaque(world), STORE_DAMAGE_NONE);
                now = render(world->connection);
                assert_string_equal(licenses_of(now), licenses_of(before));
        }
}

/* Row and document are damaged, each in its way, and a counter was lower than that of the backup. */
static void test_damaged_row_and_document_are_repaired_and_the_low_marks_stay(void **state) {
        RestoreWorld *world = *state;
        g_auto(WorkResult) result = {};
        g_autofree char *now = NULL;

        damage(world, damages[0]);
        damage(world, "UPDATE licenses SET title = 'rotten' WHERE id = 'opaque'");
        damage(world, "UPDATE counters SET remaining = 2 " OF_OPAQUE);
        restore_again(world, &result);
        assert_int_equal(result.restored, 2);
        assert_int_equal(damage_of_opaque(world), STORE_DAMAGE_NONE);
        now = render(world->connection);
        assert_non_null(strstr(now, "license opaque play=2 generation 1 "));
        assert_null(strstr(now, "rotten"));
}

#define LATER "UPDATE licenses SET document_date = document_date * 2 WHERE id = 'lcp'"
#define UNREADABLE "UPDATE documents SET document = zeroblob(7) WHERE key = (SELECT key FROM licenses WHERE id = 'lcp')"

/* A date decides between two documents, and what cannot be read has one, too: the backup's would be an older one. */
static void test_damaged_document_that_is_newer_than_that_of_the_backup_stays(void **state) {
        RestoreWorld *world = *state;
        g_auto(WorkResult) result = {};

        damage(world, "UPDATE licenses SET digest = substr(digest, 1, 32)");
        damage(world, LATER);
        damage(world, UNREADABLE);
        restore_again(world, &result);
        assert_int_equal(result.newer_kept, 1);
        assert_int_equal(result.restored, 0);
}

/* Where the date is damaged nobody knows which is the newer: it is told. */
static void test_date_that_is_damaged_decides_nothing(void **state) {
        static const char *const dates[] = { LATER, "UPDATE licenses SET document_date = 0 WHERE id = 'lcp'" };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(dates); i++) {
                g_auto(WorkResult) result = {};

                damage(world, dates[i]);
                restore_again(world, &result);
                assert_int_equal(result.conflicts, 1);
                assert_int_equal(result.newer_kept, 0);
                assert_int_equal(result.restored, 0);
                restore_world_renew(world);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, restore_world_setup, restore_world_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_damaged_document_is_repaired_and_the_low_marks_stay),
                TEST(test_damaged_document_of_a_license_that_is_otherwise_the_same_is_repaired),
                TEST(test_what_is_damaged_beside_a_document_is_repaired),
                TEST(test_damaged_row_and_document_are_repaired_and_the_low_marks_stay),
                TEST(test_damaged_document_that_is_newer_than_that_of_the_backup_stays),
                TEST(test_date_that_is_damaged_decides_nothing),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
