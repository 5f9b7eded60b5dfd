/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "license-world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

const StoreOwner alice = { 1000, "alice" };
const StoreOwner bob = { 1001, "bob" };

int license_world_setup(void **state) {
        World *world = g_new0(World, 1);
        g_autofree char *path = NULL;
        g_auto(Error) error = {};
        Store *store;

        world->folder = temp_folder_new();
        path = g_build_filename(world->folder, "licenses.db", NULL);
        assert_good(store_open(world->folder, &no_limits, &store, &error), &error);
        store_free(store);
        assert_good(store_connection_open(path, STORE_WRITE, &world->connection, &error), &error);
        world->connection->limits = no_limits;
        *state = world;
        return 0;
}

int license_world_teardown(void **state) {
        World *world = *state;

        store_connection_free(world->connection);
        license_clear(&world->license);
        g_free(world->document);
        temp_folder_remove(world->folder);
        g_free(world);
        return 0;
}

void assert_books_balance(World *world) {
        static const char sql[] =
                "SELECT count(*) FROM owners AS o WHERE "
                "licenses != (SELECT count(*) FROM licenses AS l WHERE l.owner = o.owner AND present) OR "
                "remembered != (SELECT count(*) FROM licenses AS l WHERE l.owner = o.owner) OR "
                "bytes != (SELECT ifnull(sum(charge), 0) FROM licenses AS l WHERE l.owner = o.owner)";
        static const char orphans[] =
                "SELECT count(*) FROM documents WHERE key NOT IN (SELECT key FROM licenses WHERE present)";
        g_auto(Error) error = {};
        int64_t n;

        assert_good(store_connection_integer(world->connection, sql, &n, &error), &error);
        assert_int_equal(n, 0);
        assert_good(store_connection_integer(world->connection, orphans, &n, &error), &error);
        assert_int_equal(n, 0);
}

int put_license(World *world, const StoreOwner *owner, License *license, const char *document,
                Error *error) {
        return store_license_put(world->connection, owner, license, document, error);
}

uint64_t put_one(World *world, const StoreOwner *owner, const char *id, const char *document,
                const char *right, uint64_t uses) {
        g_auto(License) license = {};
        g_auto(Error) error = {};

        license_make(&license, id, document);
        if (right)
                assert_int_equal(license_limit_counter(&license, right, uses), 0);
        assert_good(put_license(world, owner, &license, document, &error), &error);
        assert_books_balance(world);
        return license.generation;
}

int get_code(World *world, const StoreOwner *owner, const char *id, Error *error) {
        license_clear(&world->license);
        license_init(&world->license);
        g_clear_pointer(&world->document, g_free);
        return store_license_get(world->connection, owner, id, UINT64_MAX, &world->license,
                &world->document, error);
}

const License *get(World *world, const StoreOwner *owner, const char *id) {
        g_auto(Error) error = {};

        assert_good(get_code(world, owner, id, &error), &error);
        return &world->license;
}

void assert_document(World *world, const char *document) {
        assert_int_equal(world->license.size, strlen(document));
        assert_memory_equal(world->document, document, strlen(document));
}

void assert_unavailable(World *world, const StoreOwner *owner, const char *id) {
        g_auto(Error) error = {};

        assert_int_equal(get_code(world, owner, id, &error), ERROR_LICENSE_UNAVAILABLE);
        assert_error(&error, ERROR_LICENSE_UNAVAILABLE, id);
}

void assert_counter(const License *license, const char *right, uint64_t remaining) {
        const Counter *counter = license_find_counter(license, right);

        assert_non_null(counter);
        assert_true(counter->remaining == remaining);
}

void delete_one(World *world, const char *id) {
        g_auto(Error) error = {};

        assert_good(store_license_delete(world->connection, &alice, id, &error), &error);
        assert_books_balance(world);
}

int consume(World *world, const char *id, const char *right, uint64_t amount, int64_t now,
                uint64_t *ret, Error *error) {
        return store_license_consume(world->connection, &alice, id, right, amount, now, ret, error);
}

void edit(World *world, const char *sql) {
        g_autofree char *path = g_build_filename(world->folder, "licenses.db", NULL);
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_true(sqlite3_total_changes(db) > 0);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}
