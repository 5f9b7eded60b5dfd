/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
#include "store-connection.h"

/* Lists: pages of licenses, properties, and the snapshots and cursors of jobs. */

#define NOW INT64_C(1700000000)
#define ANY ((StoreFilter){ .valid_at = LICENSE_NO_TIME, .allow_backup = -1 })

static const StoreOwner alice = { 1000, "alice" };
static const StoreOwner bob = { 1001, "bob" };
static const StoreOwner next_alice = { 1000, "alina" };

typedef struct World {
        char *folder;
        Store *store;
        StoreConnection *writer, *reader;
} World;

static int setup(void **state) {
        World *world = g_new0(World, 1);
        g_autofree char *path = NULL;
        g_auto(Error) error = {};

        world->folder = temp_folder_new();
        path = g_build_filename(world->folder, "licenses.db", NULL);
        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
        assert_good(store_connection_open(path, STORE_WRITE, &world->writer, &error), &error);
        world->writer->limits = no_limits;
        assert_good(store_connect(world->store, &world->reader, &error), &error);
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        store_connection_free(world->reader);
        store_connection_free(world->writer);
        store_free(world->store);
        temp_folder_remove(world->folder);
        g_free(world);
        return 0;
}

static void put_license(World *world, const StoreOwner *owner, License *license, const char *document) {
        g_auto(Error) error = {};

        assert_good(store_license_put(world->writer, owner, license, document, &error), &error);
}

static void put_id(World *world, const StoreOwner *owner, const char *id) {
        g_auto(License) license = {};

        license_make(&license, id, id);
        put_license(world, owner, &license, id);
}

/* A page's ids, with "|" and where it goes on. */
static char *page(World *world, const StoreFilter *filter, const char *after, unsigned max,
                uint64_t bytes_max) {
        g_autoptr(GPtrArray) licenses = g_ptr_array_new();
        GString *text = g_string_new(NULL);
        g_autofree char *next = NULL;
        g_auto(Error) error = {};

        assert_good(store_license_enumerate(world->reader, &alice, filter, after, max, bytes_max, licenses,
                            &next, &error), &error);
        for (unsigned i = 0; i < licenses->len; i++)
                g_string_append_printf(text, "%s ", ((License *)licenses->pdata[i])->id);
        g_string_append_printf(text, "|%s", next);
        return g_string_free(text, false);
}

static void assert_page(World *world, const StoreFilter *filter, const char *after, unsigned max,
                uint64_t bytes_max, const char *expected) {
        g_autofree char *found = page(world, filter, after, max, bytes_max);

        assert_string_equal(found, expected);
}

static void test_pages_are_by_id_and_go_on_after_the_last(void **state) {
        static const char *const ids[] = { "c", "a", "e", "B", "d" };
        World *world = *state;

        assert_page(world, &ANY, "", 10, UINT64_MAX, "|");
        for (size_t i = 0; i < G_N_ELEMENTS(ids); i++)
                put_id(world, &alice, ids[i]);
        put_id(world, &bob, "aa");
        put_id(world, &next_alice, "ab");

        assert_page(world, &ANY, "", 10, UINT64_MAX, "B a c d e |");
        assert_page(world, &ANY, "", 2, UINT64_MAX, "B a |a");
        assert_page(world, &ANY, "a", 2, UINT64_MAX, "c d |d");
        assert_page(world, &ANY, "d", 2, UINT64_MAX, "e |");
        assert_page(world, &ANY, "", 5, UINT64_MAX, "B a c d e |");
        assert_page(world, &ANY, "e", 2, UINT64_MAX, "|");
        /* After an id that is not there. */
        assert_page(world, &ANY, "bb", 2, UINT64_MAX, "c d |d");
}

static void test_page_ends_at_its_bytes(void **state) {
        World *world = *state;
        g_auto(License) one = {};
        uint64_t size;

        put_id(world, &alice, "a");
        put_id(world, &alice, "b");
        put_id(world, &alice, "c");
        license_make(&one, "a", "a");
        size = license_wire_size(&one);

        assert_page(world, &ANY, "", 10, 3 * size, "a b c |");
        assert_page(world, &ANY, "", 10, 3 * size - 1, "a b |b");
        /* One that is larger than a page comes alone, so that who pages gets on. */
        assert_page(world, &ANY, "", 10, 1, "a |a");
        assert_page(world, &ANY, "b", 10, 1, "c |");
}

static void test_deleted_and_revoked_licenses_are_not_listed(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        put_id(world, &alice, "a");
        put_id(world, &alice, "b");
        put_id(world, &alice, "c");
        assert_good(store_license_delete(world->writer, &alice, "a", &error), &error);
        assert_good(store_license_revoke(world->writer, &alice, "b", NOW, &error), &error);
        assert_page(world, &ANY, "", 10, UINT64_MAX, "c |");
}

static void test_filters_choose_what_they_say(void **state) {
        World *world = *state;
        g_auto(License) license = {};
        StoreFilter filter;

        put_id(world, &alice, "plain");
        license_make(&license, "special", "d");
        license_set_string(&license.key_id, "key");
        license_set_string(&license.issuer, "issuer");
        license_set_string(&license.media_type, "text/plain");
        license.not_before = NOW;
        license.not_after = NOW + 9;
        license.allow_backup = false;
        put_license(world, &alice, &license, "d");

        filter = ANY, filter.key_id = "key";
        assert_page(world, &filter, "", 10, UINT64_MAX, "special |");
        filter.issuer = "issuer", filter.media_type = "text/plain";
        assert_page(world, &filter, "", 10, UINT64_MAX, "special |");
        filter.issuer = "another";
        assert_page(world, &filter, "", 10, UINT64_MAX, "|");
        filter = ANY, filter.media_type = "text/html";
        assert_page(world, &filter, "", 10, UINT64_MAX, "|");

        filter = ANY, filter.allow_backup = 1;
        assert_page(world, &filter, "", 10, UINT64_MAX, "plain |");
        filter.allow_backup = 0;
        assert_page(world, &filter, "", 10, UINT64_MAX, "special |");

        filter = ANY, filter.valid_at = NOW;
        assert_page(world, &filter, "", 10, UINT64_MAX, "plain special |");
        filter.valid_at = NOW + 9;
        assert_page(world, &filter, "", 10, UINT64_MAX, "plain special |");
        filter.valid_at = NOW - 1;
        assert_page(world, &filter, "", 10, UINT64_MAX, "plain |");
        filter.valid_at = NOW + 10;
        assert_page(world, &filter, "", 10, UINT64_MAX, "plain |");
        /* What does not match takes no place on a page. */
        assert_page(world, &filter, "", 1, 64 * 1024, "plain |plain");
        assert_page(world, &filter, "plain", 1, 64 * 1024, "|");
}

static void assert_property(World *world, const StoreOwner *owner, const char *name, const char *expected) {
        g_autofree char *value = NULL;
        g_auto(Error) error = {};

        assert_good(store_property_get(world->reader, owner, name, &value, &error), &error);
        if (expected)
                assert_string_equal(value, expected);
        else
                assert_null(value);
}

static void test_properties_are_set_listed_and_removed_by_owner(void **state) {
        World *world = *state;
        g_autoptr(GPtrArray) list = g_ptr_array_new();
        g_auto(Error) error = {};

        assert_property(world, &alice, "BackupPath", NULL);
        assert_good(store_property_remove(world->writer, &alice, NULL, &error), &error);
        assert_good(store_property_set(world->writer, &alice, "RestorePath", "/r", &error), &error);
        assert_good(store_property_set(world->writer, &alice, "BackupPath", "/a", &error), &error);
        assert_good(store_property_set(world->writer, &alice, "BackupPath", "/b", &error), &error);
        assert_good(store_property_set(world->writer, &bob, "BackupPath", "/bob", &error), &error);

        assert_property(world, &alice, "BackupPath", "/b");
        assert_property(world, &next_alice, "BackupPath", NULL);
        assert_good(store_property_list(world->reader, &alice, list, &error), &error);
        assert_int_equal(list->len, 4);
        assert_string_equal(list->pdata[0], "BackupPath");
        assert_string_equal(list->pdata[1], "/b");
        assert_string_equal(list->pdata[2], "RestorePath");
        assert_string_equal(list->pdata[3], "/r");

        assert_good(store_property_remove(world->writer, &alice, "BackupPath", &error), &error);
        assert_property(world, &alice, "BackupPath", NULL);
        assert_property(world, &alice, "RestorePath", "/r");
        assert_good(store_property_remove(world->writer, &alice, NULL, &error), &error);
        assert_property(world, &alice, "RestorePath", NULL);
        assert_property(world, &bob, "BackupPath", "/bob");
}

static void test_reading_connection_cannot_write(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        assert_int_equal(store_property_set(world->reader, &alice, "BackupPath", "/a", &error),
                ERROR_STORE_WRITE);
        assert_property(world, &alice, "BackupPath", NULL);
}

/* The ids of an owner as a cursor walks them, with counters, "-" for deleted and "!" for revoked ones. */
static char *walk(StoreConnection *connection, int64_t owner) {
        g_autoptr(StoreCursor) cursor = NULL;
        GString *text = g_string_new(NULL);
        g_auto(Error) error = {};
        const StoreCursorRow *row;

        assert_good(store_cursor_new(connection, owner, true, &cursor, &error), &error);
        for (;;) {
                assert_good(store_cursor_next(cursor, &row, &error), &error);
                if (!row)
                        break;
                g_string_append_printf(text, "%s%s%s", text->len > 0 ? " " : "", row->license.id,
                        row->revoked != LICENSE_NO_TIME ? "!" : row->present ? "" : "-");
                for (unsigned i = 0; i < row->license.counters->len; i++) {
                        const Counter *counter = &g_array_index(row->license.counters, Counter, i);

                        g_string_append_printf(text, ",%s=%" PRIu64, counter->right, counter->remaining);
                }
                assert_int_equal(row->document != NULL, row->present);
                if (row->present)
                        assert_memory_equal(row->document, row->license.id, row->license.size);
        }
        return g_string_free(text, false);
}

static void edit(World *world, const char *sql) {
        assert_int_equal(sqlite3_exec(world->writer->db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static int64_t owner_number(World *world, const StoreOwner *owner) {
        g_auto(Error) error = {};
        int64_t number;

        assert_good(store_owner_find(world->reader, owner, &number, &error), &error);
        return number;
}

static void put_counters(World *world, const StoreOwner *owner, const char *id, const char *right,
                unsigned n) {
        g_auto(License) license = {};

        license_make(&license, id, id);
        for (unsigned i = 0; i < n; i++) {
                g_autofree char *name = g_strdup_printf("%s%u", right, n - i);

                license_limit_counter(&license, name, n - i);
        }
        put_license(world, owner, &license, id);
}

static void test_cursor_walks_in_the_order_of_storing_with_counters(void **state) {
        World *world = *state;
        g_autofree char *alices = NULL, *bobs = NULL, *nobodys = NULL;
        g_auto(Error) error = {};

        put_counters(world, &alice, "z", "r", 2);
        put_counters(world, &bob, "bobs", "x", 1);
        put_counters(world, &alice, "none", "r", 0);
        put_counters(world, &alice, "a", "q", 3);
        put_counters(world, &alice, "gone", "g", 1);
        put_counters(world, &alice, "dead", "d", 1);
        put_counters(world, &bob, "last", "y", 1);
        put_counters(world, &alice, "end", "r", 0);
        put_counters(world, &alice, "z", "s", 1);
        assert_good(store_license_delete(world->writer, &alice, "gone", &error), &error);
        assert_good(store_license_revoke(world->writer, &alice, "dead", NOW, &error), &error);

        alices = walk(world->reader, owner_number(world, &alice));
        assert_string_equal(alices, "z,r1=1,r2=2,s1=1 none a,q1=1,q2=2,q3=3 gone-,g1=1 dead!,d1=1 end");
        bobs = walk(world->reader, owner_number(world, &bob));
        assert_string_equal(bobs, "bobs,x1=1 last,y1=1");
        nobodys = walk(world->reader, 99);
        assert_string_equal(nobodys, "");
}

static void test_cursor_without_documents_reads_none(void **state) {
        World *world = *state;
        g_autoptr(StoreCursor) cursor = NULL;
        g_auto(Error) error = {};
        const StoreCursorRow *row;

        put_id(world, &alice, "a");
        edit(world, "DELETE FROM documents; UPDATE licenses SET generation = 7, allow_backup = 0, title = 'T'; "
                "INSERT INTO counters SELECT key, 'print', 3 FROM licenses");
        assert_good(store_cursor_new(world->reader, owner_number(world, &alice), false, &cursor, &error),
                &error);
        assert_good(store_cursor_next(cursor, &row, &error), &error);
        assert_string_equal(row->license.id, "a");
        assert_int_equal(row->license.generation, 7);
        assert_false(row->license.allow_backup);
        assert_int_equal(row->license.counters->len, 1);
        assert_true(row->present);
        assert_null(row->document);
        assert_null(row->license.title);
        assert_int_equal(row->damage, STORE_DAMAGE_NONE);
}

static void test_cursor_tells_a_rotten_document_and_goes_on(void **state) {
        World *world = *state;
        g_autoptr(StoreCursor) cursor = NULL;
        g_auto(Error) error = {};
        const StoreCursorRow *row;

        put_id(world, &alice, "sound");
        put_id(world, &alice, "rotten");
        put_id(world, &alice, "well");
        edit(world, "UPDATE documents SET document = x'524f5454454e' WHERE key = "
                "(SELECT key FROM licenses WHERE id = 'rotten')");
        assert_good(store_cursor_new(world->reader, owner_number(world, &alice), true, &cursor, &error),
                &error);
        assert_good(store_cursor_next(cursor, &row, &error), &error);
        assert_int_equal(row->damage, STORE_DAMAGE_NONE);
        assert_good(store_cursor_next(cursor, &row, &error), &error);
        assert_string_equal(row->license.id, "rotten");
        assert_int_equal(row->damage, STORE_DAMAGE_DOCUMENT);
        assert_null(row->document);
        assert_good(store_cursor_next(cursor, &row, &error), &error);
        assert_int_equal(row->damage, STORE_DAMAGE_NONE);
        assert_non_null(row->document);
}

static void test_snapshot_does_not_see_what_comes_after_it(void **state) {
        World *world = *state;
        g_autofree char *in = NULL, *out = NULL;
        g_auto(Error) error = {};
        int64_t number;

        put_id(world, &alice, "a");
        put_id(world, &alice, "b");
        assert_good(store_snapshot_begin(world->reader, &error), &error);
        put_id(world, &alice, "c");
        assert_good(store_license_delete(world->writer, &alice, "a", &error), &error);

        number = owner_number(world, &alice);
        in = walk(world->reader, number);
        assert_string_equal(in, "a b");
        assert_page(world, &ANY, "", 10, UINT64_MAX, "a b |");

        store_snapshot_end(world->reader);
        out = walk(world->reader, number);
        assert_string_equal(out, "a- b c");
}

static void assert_owners(World *world, uid_t uid, const char *name, const char *expected) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        g_autoptr(GString) text = g_string_new(NULL);
        g_auto(Error) error = {};

        assert_good(store_snapshot_owners(world->reader, uid, name, owners, &error), &error);
        for (unsigned i = 0; i < owners->len; i++) {
                const StoreOwnerRow *row = owners->pdata[i];

                g_string_append_printf(text, "%s(%u)=%" PRIu64 "/%" PRIu64 " ", row->name,
                        (unsigned)row->uid, row->licenses, row->restricted);
        }
        assert_string_equal(text->str, expected);
}

static void test_snapshot_lists_owners_with_what_they_have(void **state) {
        World *world = *state;
        g_auto(License) restricted = {};
        g_auto(Error) error = {};

        assert_owners(world, (uid_t)-1, NULL, "");
        put_id(world, &bob, "b");
        put_id(world, &alice, "a");
        put_id(world, &alice, "gone");
        put_id(world, &next_alice, "n");
        license_make(&restricted, "r", "r");
        restricted.allow_backup = false;
        put_license(world, &alice, &restricted, "r");
        assert_good(store_license_delete(world->writer, &alice, "gone", &error), &error);

        assert_owners(world, (uid_t)-1, NULL, "alice(1000)=2/1 alina(1000)=1/0 bob(1001)=1/0 ");
        assert_owners(world, 1000, NULL, "alice(1000)=2/1 alina(1000)=1/0 ");
        assert_owners(world, 1000, "alice", "alice(1000)=2/1 ");
        assert_owners(world, 1000, "bob", "");
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_pages_are_by_id_and_go_on_after_the_last),
                IN_WORLD(test_page_ends_at_its_bytes),
                IN_WORLD(test_deleted_and_revoked_licenses_are_not_listed),
                IN_WORLD(test_filters_choose_what_they_say),
                IN_WORLD(test_properties_are_set_listed_and_removed_by_owner),
                IN_WORLD(test_reading_connection_cannot_write),
                IN_WORLD(test_cursor_walks_in_the_order_of_storing_with_counters),
                IN_WORLD(test_cursor_without_documents_reads_none),
                IN_WORLD(test_cursor_tells_a_rotten_document_and_goes_on),
                IN_WORLD(test_snapshot_does_not_see_what_comes_after_it),
                IN_WORLD(test_snapshot_lists_owners_with_what_they_have),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
