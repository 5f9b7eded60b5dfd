/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stage-world.h"

/* What restores leave: it goes without any further call, in slices, and nothing else goes with it. */

static const Sketch here[] = {
        { .id = "changed", .document = "before", .date = 1, .counters = "x=5" },
        { .id = "dead", .document = "soon revoked", .counters = "x=5" },
        { .id = "kept", .document = "ours", .date = 5, .counters = "x=5" },
        { .id = "same", .document = "same", .counters = "x=5" },
};

static const Sketch there[] = {
        { .id = "changed", .document = "after", .date = 2, .counters = "x=4" },
        { .id = "dead", .revoked = 50, .counters = "x=4" },
        { .id = "fresh", .document = "fresh", .counters = "x=4" },
        { .id = "kept", .document = "theirs", .date = 4, .counters = "x=4" },
        { .id = "remembered", .counters = "x=4" },
        { .id = "same", .document = "same", .counters = "x=4" },
};

static const char before[] =
        "changed 'before' g1 x=5 date=1\ndead 'soon revoked' g1 x=5\nkept 'ours' g1 x=5 date=5\nsame 'same' g1 x=5\n";
static const char after[] =
        "changed 'after' g1 x=4 date=2\ndead !50 g1 x=4\nfresh 'fresh' g1 x=4\nkept 'ours' g1 x=4 date=5\n"
        "remembered - g1 x=4\nsame 'same' g1 x=4\n";

static void prepare(StageWorld *world) {
        for (size_t i = 0; i < G_N_ELEMENTS(here); i++)
                sketch_put(world->store, &alice, &here[i]);
        sketch_stage_good(world->store, &world->stage, &alice, there, G_N_ELEMENTS(there));
        assert_true(count_staged(world->reader) > 0);
}

static void assert_swept(StageWorld *world, const char *expected) {
        wait_swept(world->reader);
        assert_owner(world->reader, &alice, expected);
        assert_books(world->reader);
}

static void test_what_was_not_merged_goes_by_itself(void **state) {
        StageWorld *world = *state;

        prepare(world);
        store_restore_end(world->store, world->stage.restore);
        assert_swept(world, before);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM documents"), G_N_ELEMENTS(here));
}

static void test_what_was_merged_stays(void **state) {
        StageWorld *world = *state;

        prepare(world);
        merge_good(world->store, world->stage.restore);
        store_restore_end(world->store, world->stage.restore);
        assert_swept(world, after);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM documents"), 4);

        /* And it stays when the service starts anew, which looks for what is left. */
        stage_world_close(world);
        stage_world_open(world);
        put(world->store, &bob, "id", "document");
        assert_swept(world, after);
}

static void test_nothing_goes_before_the_restore_ends(void **state) {
        StageWorld *world = *state;
        StoreStage other = { .restore = store_restore_begin(world->store) };
        int64_t staged;

        prepare(world);
        staged = count_staged(world->reader);
        sketch_stage_good(world->store, &other, &bob, there, G_N_ELEMENTS(there));
        store_restore_end(world->store, other.restore);
        for (unsigned i = 0; i < 20; i++)
                put(world->store, &bob, "id", "document");
        assert_int_equal(count_staged(world->reader), staged);
        merge_good(world->store, world->stage.restore);
        assert_owner(world->reader, &alice, after);
}

static void test_restore_that_staged_nothing_ends(void **state) {
        StageWorld *world = *state;

        store_restore_end(world->store, world->stage.restore);
        for (unsigned i = 0; i < 3; i++) {
                put(world->store, &alice, "id", "document");
                store_restore_end(world->store, store_restore_begin(world->store));
        }
        assert_swept(world, "id 'document' g3\n");
}

#define N_MANY 40000U

static void stage_many(StageWorld *world, char (*ids)[16]) {
        g_autofree Sketch *sketches = g_new0(Sketch, N_MANY);

        for (unsigned i = 0; i < N_MANY; i++) {
                snprintf(ids[i], sizeof ids[i], "many-%05u", i);
                sketches[i] = (Sketch) { .id = ids[i], .document = "document", .counters = "print=1" };
        }
        sketch_stage_good(world->store, &world->stage, &alice, sketches, N_MANY);
}

/* Stores licenses of an owner, one after the other, until nothing is left to sweep. */
static unsigned put_while_swept(StageWorld *world, const StoreOwner *owner, unsigned *ret_between) {
        int64_t all = count_staged(world->reader);
        unsigned n = 0;

        *ret_between = 0;
        for (;;) {
                int64_t left = ask(world->reader, "SELECT count(*) FROM staged_ids");
                g_autofree char *id = g_strdup_printf("put-%05u", n);

                if (left == 0)
                        break;
                *ret_between += left < all;
                put(world->store, owner, id, "document");
                n++;
                assert_true(n < 100000);
        }
        return n;
}

static void test_others_write_while_much_is_swept(void **state) {
        StageWorld *world = *state;
        g_autofree void *ids = g_malloc0(N_MANY * 16);
        unsigned n, between;

        stage_many(world, ids);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM staged_ids"), N_MANY);
        store_restore_end(world->store, world->stage.restore);
        n = put_while_swept(world, &bob, &between);
        /* Some were served when a part had gone: it goes in slices. */
        assert_true(between > 0);
        assert_true(n >= between);
        assert_swept(world, "");
        assert_int_equal(store_count(world->store), n);
}

/* Keys that were staged are free again once they are swept: what is stored under them then must stay. */
static void test_licenses_stored_while_the_same_owner_is_swept_stay(void **state) {
        StageWorld *world = *state;
        g_autofree void *ids = g_malloc0(N_MANY * 16);
        unsigned n, between;

        stage_many(world, ids);
        store_restore_end(world->store, world->stage.restore);
        n = put_while_swept(world, &alice, &between);
        for (unsigned i = 0; i < 200; i++) {
                g_autofree char *id = g_strdup_printf("later-%05u", i);

                put(world->store, &alice, id, "document");
        }
        wait_swept(world->reader);
        assert_int_equal(store_count(world->store), n + 200);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM documents"), n + 200);
        assert_books(world->reader);
}

static void test_closing_does_not_wait_for_the_sweep_and_the_next_one_goes_on(void **state) {
        StageWorld *world = *state;
        g_autofree void *ids = g_malloc0(N_MANY * 16);

        stage_many(world, ids);
        put(world->store, &alice, "id", "document");
        store_restore_end(world->store, world->stage.restore);
        stage_world_close(world);
        stage_world_open(world);
        assert_swept(world, "id 'document' g1\n");
        assert_int_equal(store_count(world->store), 1);
}

static void test_what_a_stopped_service_left_goes_after_the_next_start(void **state) {
        StageWorld *world = *state;

        prepare(world);
        stage_world_close(world);
        stage_world_open(world);
        assert_swept(world, before);
}

static void copy_file(const char *from_folder, const char *to_folder, const char *name) {
        g_autofree char *from = g_build_filename(from_folder, name, NULL);
        g_autofree char *to = g_build_filename(to_folder, name, NULL);
        g_autoptr(GBytes) bytes = read_path(from);

        write_path(to, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
}

/* As after a kill: the files of that moment, without the service's orderly end. */
static void test_what_a_killed_service_left_goes_after_the_next_start(void **state) {
        StageWorld *world = *state;

        for (unsigned merged = 0; merged < 2; merged++) {
                StageWorld next = { .folder = temp_folder_new() };

                if (merged)
                        merge_good(world->store, world->stage.restore);
                else
                        prepare(world);
                copy_file(world->folder, next.folder, "licenses.db");
                copy_file(world->folder, next.folder, "licenses.db-wal");
                stage_world_open(&next);
                assert_swept(&next, merged ? after : before);
                stage_world_close(&next);
                temp_folder_remove(next.folder);
        }
}

static void test_restore_after_a_kill_merges_nothing_of_the_one_before(void **state) {
        StageWorld *world = *state;
        g_autofree void *ids = g_malloc0(N_MANY * 16);
        StoreMerge result;

        /* So much that some of it is still there. */
        prepare(world);
        stage_many(world, ids);
        stage_world_close(world);
        stage_world_open(world);
        sketch_stage_good(world->store, &world->stage, &alice, &there[2], 1);
        result = merge_good(world->store, world->stage.restore);
        assert_merge(&result, &(StoreMerge){ .restored = 1 });
        store_restore_end(world->store, world->stage.restore);
        wait_swept(world->reader);
        assert_int_equal(store_count(world->store), 5);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM licenses"), 5);
        assert_books(world->reader);
}

/* The tables of the first release, which kept nothing that was staged. */
static const char version_1[] =
        "PRAGMA page_size = 8192;"
        "CREATE TABLE owners (owner INTEGER PRIMARY KEY, uid INTEGER NOT NULL, name TEXT NOT NULL,"
        "  licenses INTEGER NOT NULL DEFAULT 0, remembered INTEGER NOT NULL DEFAULT 0,"
        "  bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (uid, name)) STRICT;"
        "CREATE TABLE licenses (key INTEGER PRIMARY KEY, owner INTEGER NOT NULL REFERENCES owners,"
        "  id TEXT NOT NULL, generation INTEGER NOT NULL, present INTEGER NOT NULL, revoked INTEGER,"
        "  allow_backup INTEGER NOT NULL, key_id TEXT, title TEXT, issuer TEXT, media_type TEXT,"
        "  not_before INTEGER, not_after INTEGER, extension TEXT, document_date INTEGER, digest BLOB, size INTEGER,"
        "  charge INTEGER NOT NULL, UNIQUE (owner, id)) STRICT;"
        "CREATE TABLE documents (key INTEGER PRIMARY KEY REFERENCES licenses, document BLOB NOT NULL) STRICT;"
        "CREATE TABLE counters (key INTEGER NOT NULL REFERENCES licenses, name TEXT NOT NULL,"
        "  remaining INTEGER NOT NULL, PRIMARY KEY (key, name)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE properties (owner INTEGER NOT NULL REFERENCES owners, name TEXT NOT NULL, value TEXT NOT NULL,"
        "  PRIMARY KEY (owner, name)) STRICT, WITHOUT ROWID;"
        "PRAGMA application_id = 1280724052; PRAGMA user_version = 1;"
        "INSERT INTO owners VALUES (7, 1000, 'alice', 1, 3, 0);"
        /* the digest is the BLAKE2b-256 of 'document' */
        "INSERT INTO licenses VALUES (7 << 31, 7, 'a', 3, 1, NULL, 0, 'k', 't', NULL, NULL, 5, NULL, 'bin', -6,"
        "  x'%s', 8, 64 + 1 + 8 + 1 + 1 + 64 + 5);"
        "INSERT INTO licenses VALUES ((7 << 31) + 1, 7, 'gone', 2, 0, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL,"
        "  NULL, NULL, NULL, NULL, 64 + 4);"
        "INSERT INTO licenses VALUES ((7 << 31) + 2, 7, 'dead', 1, 0, 50, 1, NULL, NULL, NULL, NULL, NULL, NULL,"
        "  NULL, NULL, NULL, NULL, 64 + 4);"
        "UPDATE owners SET bytes = (SELECT sum(charge) FROM licenses);"
        "INSERT INTO documents VALUES (7 << 31, CAST('document' AS BLOB));"
        "INSERT INTO counters VALUES (7 << 31, 'print', 4);"
        "INSERT INTO properties VALUES (7, 'BackupPath', '/backups');";

/* What the second one had more. */
static const char version_2[] =
        "CREATE TABLE staged_ids (key INTEGER PRIMARY KEY, restore INTEGER NOT NULL,"
        "  owner INTEGER NOT NULL REFERENCES owners, id TEXT NOT NULL, generation INTEGER NOT NULL, revoked INTEGER,"
        "  allow_backup INTEGER NOT NULL, charge INTEGER NOT NULL, UNIQUE (restore, owner, id)) STRICT;"
        "CREATE TABLE staged_licenses (key INTEGER PRIMARY KEY REFERENCES staged_ids, key_id TEXT, title TEXT,"
        "  issuer TEXT, media_type TEXT, not_before INTEGER, not_after INTEGER, extension TEXT, document_date INTEGER,"
        "  digest BLOB NOT NULL, size INTEGER NOT NULL, charge INTEGER NOT NULL) STRICT;"
        "PRAGMA user_version = 2;";

static const char version_1_kept[] = "a 'document' g3 print=4 date=-6 key=k title=t from=5 restricted\n"
                                     "dead !50 g1\ngone - g2\n";

static void run_sql(const char *folder, const char *sql) {
        g_autofree char *path = g_build_filename(folder, "licenses.db", NULL);
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void make_version(StageWorld *world, int version) {
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
        g_autofree char *sql = NULL;
        License license = {};

        license_digest_document(&license, "document", strlen("document"));
        license_digest_to_hex(license.digest, hex);
        sql = g_strdup_printf(version_1, hex);

        stage_world_close(world);
        temp_folder_remove(world->folder);
        world->folder = temp_folder_new();
        run_sql(world->folder, sql);
        if (version >= 2)
                run_sql(world->folder, version_2);
        /* That one knew seals, too, and had no other tables. */
        if (version >= 3)
                run_sql(world->folder, "PRAGMA user_version = 3");
        if (version >= 4)
                run_sql(world->folder, "CREATE TABLE identity (id TEXT NOT NULL) STRICT;"
                        "INSERT INTO identity VALUES ('0123456789abcdef0123456789abcdef'); PRAGMA user_version = 4");
}

static void test_older_store_is_brought_up_to_date_and_keeps_everything(void **state) {
        StageWorld *world = *state;

        for (int version = 1; version <= 4; version++) {
                g_autofree char *path = NULL;
                g_auto(Error) error = {};
                StoreMerge result;

                make_version(world, version);
                stage_world_open(world);
                assert_int_equal(ask(world->reader, "PRAGMA user_version"), 5);
                assert_int_equal(ask(world->reader, "PRAGMA application_id"), 1280724052);
                assert_int_equal(ask(world->reader, "SELECT count(*) FROM identity WHERE length(id) = 32"), 1);
                assert_owner(world->reader, &alice, version_1_kept);
                assert_int_equal(ask(world->reader, "SELECT count(*) FROM epochs"), 0);
                assert_sums(world->reader);
                assert_int_equal(count_judged(world->reader, LICENSE_UNSEALED), 1);
                assert_int_equal(store_count(world->store), 1);
                assert_good(store_property_get(world->reader, &alice, "BackupPath", &path, &error), &error);
                assert_string_equal(path, "/backups");

                sketch_stage_good(world->store, &world->stage, &alice, &there[2], 1);
                result = merge_good(world->store, world->stage.restore);
                assert_merge(&result, &(StoreMerge){ .restored = 1 });
                stage_world_close(world);
                stage_world_open(world);
                wait_swept(world->reader);
                assert_int_equal(store_count(world->store), 2);
                assert_sums(world->reader);
                assert_int_equal(count_judged(world->reader, LICENSE_UNSEALED), 1);
        }
}

/* A page that is damaged is not mended by waiting; what others staged takes from their limits, and must go. */
static void test_one_that_cannot_be_swept_keeps_no_other_from_it(void **state) {
        StageWorld *world = *state;
        StoreStage other = { .restore = store_restore_begin(world->store) };
        g_autofree char *sql = NULL;
        unsigned n = 0;

        prepare(world);
        sketch_stage_good(world->store, &other, &bob, there, G_N_ELEMENTS(there));
        assert_true(world->stage.restore < other.restore);
        stage_world_close(world);
        sql = g_strdup_printf("CREATE TRIGGER stuck BEFORE DELETE ON staged_ids WHEN old.restore = %" PRId64
                              " BEGIN SELECT RAISE(ABORT, 'stuck'); END", world->stage.restore);
        run_sql(world->folder, sql);
        stage_world_open(world);

        /* Each write is a turn for a sweep, too. */
        while (ask(world->reader, "SELECT count(*) FROM staged_ids") > (int64_t)G_N_ELEMENTS(there)) {
                put(world->store, &bob, "id", "document");
                assert_true(n++ < 1000);
        }
        assert_owner(world->reader, &alice, before);

        stage_world_close(world);
        run_sql(world->folder, "DROP TRIGGER stuck");
        stage_world_open(world);
        assert_swept(world, before);
}

static int consume_one(StoreConnection *connection, void *userdata, Error *error) {
        uint64_t remaining;

        return store_license_consume(connection, &alice, "a", "print", 1, 1700000000, &remaining, error);
}

/* What nobody has sealed is not vouched for by what changes a part of it; to store it anew is to know it. */
static void test_license_of_an_older_store_is_sealed_when_it_is_stored_again(void **state) {
        static const Sketch low = { .id = "a", .document = "document", .generation = 9, .restricted = true,
                .date = -6, .key_id = "k", .title = "t", .not_before = 5, .counters = "print=2" };
        StageWorld *world = *state;
        g_auto(Error) error = {};

        make_version(world, 2);
        stage_world_open(world);
        assert_good(do_write(world->store, consume_one, NULL, &error), &error);
        assert_sums(world->reader);
        assert_int_equal(count_judged(world->reader, LICENSE_UNSEALED), 1);
        sketch_stage_good(world->store, &world->stage, &alice, &low, 1);
        (void)merge_good(world->store, world->stage.restore);
        assert_int_equal(ask(world->reader, "SELECT remaining FROM counters"), 2);
        assert_sums(world->reader);
        assert_int_equal(count_judged(world->reader, LICENSE_UNSEALED), 1);

        sketch_put(world->store, &alice, &(Sketch){ .id = "a", .document = "document" });
        assert_int_equal(ask(world->reader, "SELECT remaining FROM counters"), 2);
        assert_books(world->reader);
}

static void test_checking_an_older_store_changes_nothing(void **state) {
        StageWorld *world = *state;

        for (int version = 1; version <= 2; version++) {
                g_autoptr(GBytes) old = NULL, new = NULL;
                g_autofree char *path = NULL;
                g_auto(Error) error = {};
                uint64_t licenses;

                make_version(world, version);
                path = g_build_filename(world->folder, "licenses.db", NULL);
                old = read_path(path);
                assert_good(store_check(world->folder, &licenses, &error), &error);
                assert_int_equal(licenses, 1);
                new = read_path(path);
                assert_true(g_bytes_equal(old, new));
        }
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, stage_world_setup, stage_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_what_was_not_merged_goes_by_itself),
                IN_WORLD(test_what_was_merged_stays),
                IN_WORLD(test_nothing_goes_before_the_restore_ends),
                IN_WORLD(test_restore_that_staged_nothing_ends),
                IN_WORLD(test_others_write_while_much_is_swept),
                IN_WORLD(test_licenses_stored_while_the_same_owner_is_swept_stay),
                IN_WORLD(test_closing_does_not_wait_for_the_sweep_and_the_next_one_goes_on),
                IN_WORLD(test_what_a_stopped_service_left_goes_after_the_next_start),
                IN_WORLD(test_what_a_killed_service_left_goes_after_the_next_start),
                IN_WORLD(test_restore_after_a_kill_merges_nothing_of_the_one_before),
                IN_WORLD(test_older_store_is_brought_up_to_date_and_keeps_everything),
                IN_WORLD(test_license_of_an_older_store_is_sealed_when_it_is_stored_again),
                IN_WORLD(test_one_that_cannot_be_swept_keeps_no_other_from_it),
                IN_WORLD(test_checking_an_older_store_changes_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
