/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "backup-read.h"
#include "backup-world.h"

/* Licenses that are damaged in the store: no backup has them, and none is made that no restore takes. */

static void test_rotten_document_is_named_and_the_old_backup_stays(void **state) {
        World *world = *state;

        put_some(world, 5, 100);
        edit_store(world,
                "UPDATE documents SET document = zeroblob(100) WHERE key = "
                "(SELECT key FROM licenses WHERE id = 'some-3')");
        assert_fails(world, ERROR_STORE_CORRUPT, "'some-3'");
}

/* A restricted one that is rotten is rotten all the same. */
static void test_rotten_restricted_document_is_named(void **state) {
        World *world = *state;

        put_restricted(world, "secret-1");
        edit_store(world, "DELETE FROM documents");
        assert_fails(world, ERROR_STORE_CORRUPT, "'secret-1'");
}

static void test_first_of_the_rotten_documents_of_a_large_backup_is_named(void **state) {
        static const unsigned places[] = { LARGE_N - 1, LARGE_N / 2, 1, 0 };
        World *world = *state;

        put_some(world, LARGE_N, LARGE_SIZE);
        put_restricted(world, "secret-1");
        edit_store(world, "UPDATE documents SET document = CAST('rotten' AS BLOB) WHERE key = "
                          "(SELECT key FROM licenses WHERE id = 'secret-1')");
        forget(world);
        assert_fails(world, ERROR_STORE_CORRUPT, "'secret-1'");
        edit_store(world, "UPDATE documents SET document = CAST('secret' AS BLOB) "
                          "WHERE document = CAST('rotten' AS BLOB)");
        for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
                g_autofree char *sql = g_strdup_printf(
                        "UPDATE documents SET document = CAST(replace(document, 'ddd', 'ded') AS BLOB) WHERE key = "
                        "(SELECT key FROM licenses WHERE id = 'some-%u')", places[i]);
                g_autofree char *name = g_strdup_printf("The document of license 'some-%u' is damaged", places[i]);

                edit_store(world, sql);
                forget(world);
                assert_fails(world, ERROR_STORE_CORRUPT, name);
        }
}

typedef struct Rot {
        const char *set;
        bool in_state;    /* what is remembered of the id is no state of a license, there or not */
        bool sealed;      /* nothing but the seal tells */
        const char *name; /* NULL: some-1 */
        unsigned left;    /* how many are whole; 0: 2 */
} Rot;

/* Tries to back up with one license damaged. */
static void back_up_rotten(World *world, const Rot *rot) {
        g_autofree char *sql = g_strdup_printf("UPDATE licenses SET %s WHERE id = 'some-1'", rot->set);
        g_autofree char *told = g_strdup_printf("alice (1000): %s", rot->name ?: "some-1");
        g_autofree char *states = NULL, *paths = NULL;
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd);
        g_auto(Error) error = {};
        g_auto(WorkResult) result = {};

        edit_store(world, sql);
        forget(world);
        assert_fails(world, ERROR_STORE_CORRUPT, rot->in_state ? "is damaged" : "license 'some-1' is damaged");

        plan.skip_damaged = true;
        forget(world);
        assert_good(run(world, plan, &result, &error), &error);
        assert_int_equal(result.licenses, rot->left ?: 2);
        assert_string_equal(result.damaged_licenses[0], told);
        assert_proved(fd, &result);
        /* What is remembered of a damaged row would spoil what is whole elsewhere. */
        paths = backup_list(fd, "state.jsonl", &states);
        assert_true((strstr(states, "\"some-1\"") == NULL) == (rot->left == 0));
}

/* No document is rotten, but what stands beside it: what comes of it might be a backup that no restore takes. */
static void test_damaged_row_is_named_or_left_out(void **state) {
        static const Rot rots[] = {
                { "document_date = 5" },
                { "title = CAST(x'ff' AS TEXT)" },
                { "issuer = ''" },
                { "media_type = 'application/vnd.readium.lcp.license.v1.0+json'" },
                { "not_before = -7" },
                { "generation = 0", .in_state = true },
                { "title = NULL WHERE 0; INSERT INTO counters SELECT key, 'print', -1 FROM licenses", .in_state = true },
                { "id = CAST(x'fe' AS TEXT)", .in_state = true, .name = "\xef\xbf\xbd" },
                { "present = 0", .in_state = true },
                { "revoked = 0", .in_state = true },
                { "title = 'another'", .sealed = true },
                { "key_id = 'another'", .sealed = true },
                { "not_after = 5", .sealed = true },
                { "generation = 2", .sealed = true },
                { "extension = 'lcpl'", .sealed = true },
                { "allow_backup = 0", .sealed = true },
                { "digest = CAST(substr(digest, 1, 48) || x'55' AS BLOB)", .sealed = true },
                { "title = NULL WHERE 0; INSERT INTO counters SELECT key, 'print', 1 FROM licenses", .sealed = true },
        };
        World *world = *state;

        put_some(world, 3, 1000);
        edit_store(world, "CREATE TABLE sound AS SELECT * FROM licenses");
        for (unsigned sealed = 0; sealed < 2; sealed++)
                for (size_t i = 0; i < G_N_ELEMENTS(rots); i++) {
                        if (rots[i].sealed && !sealed)
                                continue;
                        /* In a store that had no seals, the documents tell what they can. */
                        if (!sealed)
                                edit_store(world, "UPDATE licenses SET digest = substr(digest, 1, 32)");
                        back_up_rotten(world, &rots[i]);
                        edit_store(world, "DELETE FROM counters; DELETE FROM licenses; "
                                          "INSERT INTO licenses SELECT * FROM sound");
                }
}

/* Where digest or size are what is damaged, the document seems to be. What is remembered of it is whole. */
static void test_license_whose_digest_is_damaged_is_named_or_left_out(void **state) {
        static const Rot rots[] = {
                { "size = size + 1" },
                { "digest = zeroblob(32)" },
                { "digest = NULL" },
        };
        World *world = *state;

        put_some(world, 3, 1000);
        edit_store(world, "CREATE TABLE sound AS SELECT * FROM licenses");
        for (size_t i = 0; i < G_N_ELEMENTS(rots); i++) {
                Rot rot = rots[i];

                rot.left = 2;
                back_up_rotten(world, &rot);
                edit_store(world, "DELETE FROM licenses; INSERT INTO licenses SELECT * FROM sound");
        }
}

/* What is left of a deleted license is no license, and keeps none from being backed up. */
static void test_damaged_memory_of_a_deleted_license_is_named_or_left_out(void **state) {
        g_auto(Deed) gone = { .work = deed_delete, .owner = alice, .id = "some-1" };
        World *world = *state;
        g_autofree char *states = NULL, *paths = NULL;
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd);
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};

        put_some(world, 3, 1000);
        assert_int_equal(deed_do(&gone, world->store), 0);
        edit_store(world, "UPDATE licenses SET generation = -1 WHERE id = 'some-1'");
        assert_fails(world, ERROR_STORE_CORRUPT, "'some-1' is damaged");
        plan.skip_damaged = true;
        forget(world);
        assert_good(run(world, plan, &result, &error), &error);
        assert_int_equal(result.licenses, 2);
        assert_string_equal(result.damaged_licenses[0], "alice (1000): some-1");
        assert_proved(fd, &result);
        paths = backup_list(fd, "state.jsonl", &states);
        assert_null(strstr(states, "some-1"));
}

/* A sum that is wrong keeps nobody's licenses from being backed up, and makes no backup that no restore takes. */
static void test_count_that_is_damaged_is_not_believed(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};

        put_some(world, 3, 1000);
        edit_store(world, "UPDATE owners SET licenses = 7");
        assert_good(run(world, plan_to(world, fd), &result, &error), &error);
        assert_int_equal(result.licenses, 3);
        assert_proved(fd, &result);
}

static void damage_table(World *world, const char *name) {
        g_autofree char *sql = g_strdup_printf("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = "
                "(SELECT rootpage FROM sqlite_schema WHERE type = 'index' LIMIT 1) WHERE name = '%s'; "
                "PRAGMA schema_version = 1000", name);

        edit_store(world, sql);
}

/* It serves to tell an old backup from one of another store, or time, and no license is in it. */
static void assert_table_is_no_matter(World *world, const char *name) {
        _cleanup_fd_ int fd = new_target();
        g_auto(BackupOrigin) origin = {};
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};

        damage_table(world, name);
        put_some(world, 3, 100);
        assert_good(run(world, plan_to(world, fd), &result, &error), &error);
        assert_int_equal(result.licenses, 3);
        assert_proved(fd, &result);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_good(backup_read_origin(fd, &origin, &error), &error);
        assert_int_equal(*origin.store == '\0', strcmp(name, "identity") == 0);
}

static void test_damaged_id_of_the_store_keeps_nobody_from_a_backup(void **state) {
        assert_table_is_no_matter(*state, "identity");
}

static void test_damaged_epochs_keep_nobody_from_a_change_or_a_backup(void **state) {
        assert_table_is_no_matter(*state, "epochs");
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_rotten_document_is_named_and_the_old_backup_stays),
                IN_WORLD(test_rotten_restricted_document_is_named),
                IN_WORLD(test_first_of_the_rotten_documents_of_a_large_backup_is_named),
                IN_WORLD(test_damaged_row_is_named_or_left_out),
                IN_WORLD(test_license_whose_digest_is_damaged_is_named_or_left_out),
                IN_WORLD(test_damaged_memory_of_a_deleted_license_is_named_or_left_out),
                IN_WORLD(test_count_that_is_damaged_is_not_believed),
                IN_WORLD(test_damaged_id_of_the_store_keeps_nobody_from_a_backup),
                IN_WORLD(test_damaged_epochs_keep_nobody_from_a_change_or_a_backup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
