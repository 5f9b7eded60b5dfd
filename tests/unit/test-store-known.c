/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common.h"
#include "known-properties.h"

/* What the store knows of properties without a look, and that it is never what was there before. */

#define PROPERTY "BackupPath"

static const StoreOwner alice = { 1000, "alice" }, bob = { 1001, "bob" };

typedef struct World {
        char *folder;
        Store *store;
} World;

static int setup(void **state) {
        World *world = g_new0(World, 1);
        g_auto(Error) error = {};

        world->folder = temp_folder_new();
        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        store_free(world->store);
        temp_folder_remove(world->folder);
        g_free(world);
        return 0;
}

static int work_set(Deed *deed, StoreConnection *connection, Error *error) {
        return store_property_set(connection, &deed->owner, PROPERTY, deed->document, error);
}

static int work_remove(Deed *deed, StoreConnection *connection, Error *error) {
        return store_property_remove(connection, &deed->owner, PROPERTY, error);
}

static int work_remove_all(Deed *deed, StoreConnection *connection, Error *error) {
        return store_property_remove(connection, &deed->owner, NULL, error);
}

static int work_purge(Deed *deed, StoreConnection *connection, Error *error) {
        uint64_t licenses;
        bool more;

        return store_owner_purge(connection, &deed->owner, &licenses, &more, error);
}

/* To bob, whom the store does not know: his are alice's rows then, under another name. */
static int work_reassign(Deed *deed, StoreConnection *connection, Error *error) {
        uint64_t licenses;

        return store_owner_reassign(connection, &deed->owner, &bob, 1, &licenses, error);
}

static int work_set_and_fail(Deed *deed, StoreConnection *connection, Error *error) {
        int r = store_property_set(connection, &deed->owner, PROPERTY, "/never", error);

        return r != 0 ? r : error_set(error, ERROR_STORE_FULL, "No.");
}

static int do_work(World *world, int (*work)(Deed *deed, StoreConnection *connection, Error *error),
        const char *value) {
        g_auto(Deed) deed = { .work = work, .owner = alice, .document = value };

        return deed_do(&deed, world->store);
}

static bool knows(World *world, const StoreOwner *owner, const char *expected) {
        g_autofree char *value = NULL;
        bool is_known = store_knows_property(world->store, owner, PROPERTY, &value);

        if (is_known)
                assert_int_equal(g_strcmp0(value, expected), 0);
        return is_known;
}

static void assert_found(World *world, const StoreOwner *owner, const char *expected) {
        g_autofree char *value = NULL;
        g_auto(Error) error = {};

        assert_good(store_find_property(world->store, owner, PROPERTY, &value, &error), &error);
        assert_int_equal(g_strcmp0(value, expected), 0);
}

static void test_property_is_known_once_it_was_read(void **state) {
        World *world = *state;
        g_autofree char *value = NULL;

        assert_false(knows(world, &alice, NULL));
        assert_found(world, &alice, NULL);
        assert_true(knows(world, &alice, NULL));
        assert_int_equal(do_work(world, work_set, "/a"), 0);
        assert_found(world, &alice, "/a");
        assert_true(knows(world, &alice, "/a"));

        /* Of nobody else, and nothing else. */
        assert_false(knows(world, &bob, NULL));
        assert_false(knows(world, &(StoreOwner) { alice.uid, bob.name }, NULL));
        assert_false(knows(world, &(StoreOwner) { bob.uid, alice.name }, NULL));
        assert_false(store_knows_property(world->store, &alice, "RestorePath", &value));
}

static void test_every_change_is_seen(void **state) {
        static int (*const changes[])(Deed *deed, StoreConnection *connection, Error *error) = {
                work_remove, work_remove_all, work_purge, work_reassign,
        };
        World *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
                assert_int_equal(do_work(world, work_set, "/a"), 0);
                assert_false(knows(world, &alice, NULL));
                assert_found(world, &alice, "/a");
                assert_true(knows(world, &alice, "/a"));

                assert_int_equal(do_work(world, changes[i], NULL), 0);
                assert_false(knows(world, &alice, NULL));
                assert_found(world, &alice, NULL);
                assert_true(knows(world, &alice, NULL));
        }
}

static void test_change_that_fails_changes_nothing(void **state) {
        World *world = *state;

        assert_int_equal(do_work(world, work_set, "/a"), 0);
        assert_found(world, &alice, "/a");
        assert_int_equal(do_work(world, work_set_and_fail, NULL), ERROR_STORE_FULL);
        assert_found(world, &alice, "/a");
        assert_true(knows(world, &alice, "/a"));
}

static void test_licenses_that_are_stored_change_no_property(void **state) {
        World *world = *state;

        put(world->store, &alice, "a", "document");
        assert_found(world, &alice, NULL);
        put(world->store, &alice, "b", "document");
        assert_true(knows(world, &alice, NULL));
}

static void test_what_was_read_before_a_change_is_not_kept(void **state) {
        KnownProperties *known = known_properties_new();
        uint64_t age = known_properties_age(known);
        g_autofree char *value = NULL;

        known_properties_forget(known);
        known_properties_learn(known, &alice, PROPERTY, "/old", age);
        assert_false(known_properties_get(known, &alice, PROPERTY, &value));
        known_properties_learn(known, &alice, PROPERTY, "/new", known_properties_age(known));
        assert_true(known_properties_get(known, &alice, PROPERTY, &value));
        assert_string_equal(value, "/new");
        known_properties_free(known);
}

static void test_not_everybody_is_kept(void **state) {
        KnownProperties *known = known_properties_new();
        unsigned n = 0;

        for (uid_t uid = 0; uid < 5000; uid++) {
                g_autofree char *value = NULL;
                StoreOwner owner = { uid, "somebody" };

                known_properties_learn(known, &owner, PROPERTY, "/a", 0);
                assert_true(known_properties_get(known, &owner, PROPERTY, &value));
        }
        for (uid_t uid = 0; uid < 5000; uid++) {
                g_autofree char *value = NULL;

                n += known_properties_get(known, &(StoreOwner) { uid, "somebody" }, PROPERTY, &value);
        }
        assert_in_range(n, 1, 1024);
        known_properties_free(known);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_property_is_known_once_it_was_read),
                IN_WORLD(test_every_change_is_seen),
                IN_WORLD(test_change_that_fails_changes_nothing),
                IN_WORLD(test_licenses_that_are_stored_change_no_property),
                cmocka_unit_test(test_what_was_read_before_a_change_is_not_kept),
                cmocka_unit_test(test_not_everybody_is_kept),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
