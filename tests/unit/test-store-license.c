/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "license-world.h"

/* What is done with licenses. */

static const StoreOwner next_alice = { 1000, "alina" }; /* who got the number of a deleted user */

static void test_all_of_a_license_comes_back(void **state) {
        static const char document[] = "byte\0for\0byte\xff";
        World *world = *state;
        g_auto(License) license = {};
        g_auto(Error) error = {};
        const License *found;

        license_init(&license);
        license_set_string(&license.id, "urn:uuid:ünï");
        license_set_string(&license.key_id, "key");
        license_set_string(&license.title, "Der Titel \xf0\x9f\x93\x96");
        license_set_string(&license.issuer, "issuer");
        license_set_string(&license.media_type, "text/plain");
        license.not_before = 0;
        license.not_after = INT64_MAX;
        license.allow_backup = false;
        license.extension = "lcpl";
        license.document_date = -5;
        license_limit_counter(&license, "copy", 0);
        license_limit_counter(&license, "print", INT64_MAX);
        license_digest_document(&license, document, sizeof document);
        assert_good(put_license(world, &alice, &license, document, &error), &error);
        assert_int_equal(license.generation, 1);

        found = get(world, &alice, "urn:uuid:ünï");
        assert_string_equal(found->id, license.id);
        assert_string_equal(found->key_id, "key");
        assert_string_equal(found->title, license.title);
        assert_string_equal(found->issuer, "issuer");
        assert_string_equal(found->media_type, "text/plain");
        assert_int_equal(found->not_before, 0);
        assert_true(found->not_after == INT64_MAX);
        assert_false(found->allow_backup);
        assert_string_equal(found->extension, "lcpl");
        assert_int_equal(found->document_date, -5);
        assert_int_equal(found->counters->len, 2);
        assert_counter(found, "copy", 0);
        assert_counter(found, "print", INT64_MAX);
        assert_int_equal(found->generation, 1);
        assert_memory_equal(found->digest, license.digest, sizeof license.digest);
        assert_int_equal(found->size, sizeof document);
        assert_memory_equal(world->document, document, sizeof document);
        assert_books_balance(world);
}

static void test_what_was_not_set_is_not_set(void **state) {
        World *world = *state;
        const License *found;

        put_one(world, &alice, "a", "", NULL, 0);
        found = get(world, &alice, "a");
        assert_null(found->key_id);
        assert_null(found->title);
        assert_null(found->issuer);
        assert_null(found->media_type);
        assert_int_equal(found->not_before, LICENSE_NO_TIME);
        assert_int_equal(found->not_after, LICENSE_NO_TIME);
        assert_true(found->document_date == LICENSE_NO_DATE);
        assert_true(found->allow_backup);
        assert_int_equal(found->counters->len, 0);
        assert_int_equal(found->size, 0);
        assert_non_null(world->document);
}

static void test_document_larger_than_asked_for_is_refused(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        g_auto(License) license = {};
        void *document = NULL;

        license_init(&license);
        put_one(world, &alice, "a", "12345", NULL, 0);
        assert_int_equal(store_license_get(world->connection, &alice, "a", 4, &license, &document, &error),
                ERROR_LIMIT_EXCEEDED);
        assert_null(document);
        error_clear(&error);
        assert_good(store_license_get(world->connection, &alice, "a", 5, &license, &document, &error),
                &error);
        g_free(document);
}

static void test_storing_again_replaces_and_raises_the_generation(void **state) {
        World *world = *state;

        assert_int_equal(put_one(world, &alice, "a", "one", NULL, 0), 1);
        assert_int_equal(put_one(world, &alice, "a", "the second", NULL, 0), 2);
        assert_int_equal(put_one(world, &alice, "b", "other", NULL, 0), 1);
        assert_int_equal(get(world, &alice, "a")->generation, 2);
        assert_document(world, "the second");
}

static void test_storing_again_never_raises_a_counter(void **state) {
        World *world = *state;
        g_auto(License) again = {};
        g_auto(Error) error = {};
        const License *found;

        put_one(world, &alice, "a", "d", "print", 10);
        put_one(world, &alice, "a", "d", "print", 20);
        assert_counter(get(world, &alice, "a"), "print", 10);
        put_one(world, &alice, "a", "d", "print", 3);
        assert_counter(get(world, &alice, "a"), "print", 3);

        /* Unlimited is higher than any number; a right that was unlimited may become limited. */
        put_one(world, &alice, "a", "d", "copy", 7);
        found = get(world, &alice, "a");
        assert_counter(found, "print", 3);
        assert_counter(found, "copy", 7);

        license_make(&again, "a", "d");
        license_limit_counter(&again, "print", 100);
        assert_good(put_license(world, &alice, &again, "d", &error), &error);
        assert_counter(&again, "print", 3);
        assert_counter(&again, "copy", 7);
}

static void test_deleting_leaves_generation_and_counters(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        const License *found;
        uint64_t left;

        put_one(world, &alice, "a", "document", "print", 10);
        assert_good(consume(world, "a", "print", 4, NOW, &left, &error), &error);
        delete_one(world, "a");
        assert_unavailable(world, &alice, "a");
        assert_int_equal(store_license_delete(world->connection, &alice, "a", &error),
                ERROR_LICENSE_UNAVAILABLE);

        assert_int_equal(put_one(world, &alice, "a", "document", "print", 10), 2);
        found = get(world, &alice, "a");
        assert_counter(found, "print", 6);
        assert_int_equal(found->generation, 2);
}

static void test_deleting_forgets_all_else(void **state) {
        World *world = *state;
        g_auto(License) license = {};
        g_auto(Error) error = {};

        license_make(&license, "a", "d");
        license_set_string(&license.title, "Title");
        license.allow_backup = false;
        assert_good(put_license(world, &alice, &license, "d", &error), &error);
        delete_one(world, "a");
        put_one(world, &alice, "a", "d", NULL, 0);
        assert_null(get(world, &alice, "a")->title);
        assert_true(world->license.allow_backup);
}

static void test_revoked_license_cannot_be_stored_again(void **state) {
        World *world = *state;
        g_auto(License) license = {};
        g_auto(Error) error = {};

        put_one(world, &alice, "a", "d", NULL, 0);
        assert_good(store_license_revoke(world->connection, &alice, "a", NOW, &error), &error);
        assert_books_balance(world);
        assert_unavailable(world, &alice, "a");

        license_make(&license, "a", "d");
        assert_int_equal(put_license(world, &alice, &license, "d", &error), ERROR_LICENSE_REVOKED);
        assert_error(&error, ERROR_LICENSE_REVOKED, "'a'");
        error_clear(&error);

        /* Again, and of a deleted one; a stranger's id has no tombstone. */
        assert_good(store_license_revoke(world->connection, &alice, "a", NOW + 9, &error), &error);
        put_one(world, &alice, "b", "d", NULL, 0);
        delete_one(world, "b");
        assert_good(store_license_revoke(world->connection, &alice, "b", NOW, &error), &error);
        put_one(world, &bob, "a", "d", NULL, 0);
}

static void test_time_of_a_revocation_stays_the_first(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        int64_t when;

        put_one(world, &alice, "a", "d", NULL, 0);
        assert_good(store_license_revoke(world->connection, &alice, "a", NOW, &error), &error);
        assert_good(store_license_revoke(world->connection, &alice, "a", NOW + 9, &error), &error);
        assert_good(store_connection_integer(world->connection, "SELECT revoked FROM licenses", &when,
                &error), &error);
        assert_int_equal(when, NOW);
}

static void test_what_was_never_stored_cannot_be_revoked_or_deleted(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        assert_int_equal(store_license_revoke(world->connection, &alice, "never", NOW, &error),
                ERROR_LICENSE_UNAVAILABLE);
        assert_error(&error, ERROR_LICENSE_UNAVAILABLE, "never");
        assert_int_equal(store_license_delete(world->connection, &alice, "never", &error),
                ERROR_LICENSE_UNAVAILABLE);
}

static void test_counters_of_all_generations_stay_within_64(void **state) {
        World *world = *state;
        g_auto(License) license = {};
        g_auto(Error) error = {};
        char right[16];

        license_make(&license, "a", "d");
        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++) {
                snprintf(right, sizeof right, "right-%u", i);
                license_limit_counter(&license, right, i);
        }
        assert_good(put_license(world, &alice, &license, "d", &error), &error);
        assert_int_equal(get(world, &alice, "a")->counters->len, LICENSE_COUNTERS_MAX);

        license_clear(&license);
        license_make(&license, "a", "d");
        license_limit_counter(&license, "one-more", 1);
        assert_int_equal(put_license(world, &alice, &license, "d", &error), ERROR_LIMIT_EXCEEDED);
        assert_error(&error, ERROR_LIMIT_EXCEEDED, "64 counters");
}

static void test_consuming_takes_what_is_left_and_no_more(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        uint64_t left = 77;

        put_one(world, &alice, "a", "d", "print", 10);
        assert_good(consume(world, "a", "print", 4, NOW, &left, &error), &error);
        assert_int_equal(left, 6);
        assert_int_equal(consume(world, "a", "print", 7, NOW, &left, &error), ERROR_NO_RIGHTS);
        assert_error(&error, ERROR_NO_RIGHTS, "6 uses");
        error_clear(&error);
        assert_int_equal(consume(world, "a", "print", INT64_MAX, NOW, &left, &error), ERROR_NO_RIGHTS);
        error_clear(&error);
        assert_counter(get(world, &alice, "a"), "print", 6);
        assert_good(consume(world, "a", "print", 6, NOW, &left, &error), &error);
        assert_int_equal(left, 0);
        assert_int_equal(consume(world, "a", "print", 1, NOW, &left, &error), ERROR_NO_RIGHTS);
}

static void test_right_without_a_counter_is_unlimited(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        uint64_t left;

        put_one(world, &alice, "a", "d", "print", 1);
        assert_good(consume(world, "a", "copy", 1000, NOW, &left, &error), &error);
        assert_true(left == UINT64_MAX);
        assert_counter(get(world, &alice, "a"), "print", 1);
}

static void test_consuming_needs_a_license_that_is_valid_now(void **state) {
        World *world = *state;
        g_auto(License) license = {};
        g_auto(Error) error = {};
        uint64_t left;

        license_make(&license, "a", "d");
        license.not_before = NOW;
        license.not_after = NOW + 60;
        license_limit_counter(&license, "print", 5);
        assert_good(put_license(world, &alice, &license, "d", &error), &error);

        assert_int_equal(consume(world, "a", "print", 1, NOW - 1, &left, &error), ERROR_NO_RIGHTS);
        assert_error(&error, ERROR_NO_RIGHTS, "not valid before 2023-11-14 22:13 UTC");
        assert_int_equal(consume(world, "a", "print", 1, NOW + 61, &left, &error), ERROR_NO_RIGHTS);
        assert_error(&error, ERROR_NO_RIGHTS, "valid until 2023-11-14 22:14 UTC");
        /* A right without a counter is bound by the times, too. */
        assert_int_equal(consume(world, "a", "copy", 1, NOW + 61, &left, &error), ERROR_NO_RIGHTS);
        error_clear(&error);
        assert_good(consume(world, "a", "print", 1, NOW, &left, &error), &error);
        assert_good(consume(world, "a", "print", 1, NOW + 60, &left, &error), &error);
        assert_int_equal(left, 3);
}

static void test_consuming_from_what_is_not_there_is_unavailable(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        uint64_t left;

        assert_int_equal(consume(world, "a", "print", 1, NOW, &left, &error), ERROR_LICENSE_UNAVAILABLE);
        put_one(world, &bob, "a", "d", "print", 5);
        assert_int_equal(consume(world, "a", "print", 1, NOW, &left, &error), ERROR_LICENSE_UNAVAILABLE);
        put_one(world, &alice, "b", "d", "print", 5);
        delete_one(world, "b");
        assert_int_equal(consume(world, "b", "print", 1, NOW, &left, &error), ERROR_LICENSE_UNAVAILABLE);
        assert_counter(get(world, &bob, "a"), "print", 5);
}

static void test_owners_do_not_see_each_other(void **state) {
        World *world = *state;
        const StoreOwner *owners[] = { &alice, &bob, &next_alice };
        const char *documents[] = { "alice's", "bob's", "alina's" };
        g_auto(Error) error = {};

        put_one(world, &alice, "a", documents[0], NULL, 0);
        assert_unavailable(world, &bob, "a");
        assert_unavailable(world, &next_alice, "a");
        assert_int_equal(store_license_delete(world->connection, &next_alice, "a", &error),
                ERROR_LICENSE_UNAVAILABLE);
        assert_int_equal(store_license_revoke(world->connection, &bob, "a", NOW, &error),
                ERROR_LICENSE_UNAVAILABLE);

        for (size_t i = 1; i < G_N_ELEMENTS(owners); i++)
                assert_int_equal(put_one(world, owners[i], "a", documents[i], NULL, 0), 1);
        for (size_t i = 0; i < G_N_ELEMENTS(owners); i++) {
                get(world, owners[i], "a");
                assert_document(world, documents[i]);
        }
        delete_one(world, "a");
        get(world, &next_alice, "a");
        assert_document(world, "alina's");
}

static void assert_rotten(World *world, const char *id) {
        g_auto(Error) error = {};

        assert_int_equal(get_code(world, &alice, id, &error), ERROR_STORE_CORRUPT);
        assert_error(&error, ERROR_STORE_CORRUPT, id);
        assert_null(world->document);
        assert_null(strstr(error_message(&error), "precious"));
}

#define ROTTEN_KEY "(SELECT key FROM licenses WHERE id = 'rotten')"

static void test_changed_document_is_an_error_that_names_the_license(void **state) {
        World *world = *state;

        put_one(world, &alice, "sound", "precious", NULL, 0);
        for (unsigned i = 0; i < 3; i++) {
                static const char *const edits[] = {
                        "UPDATE documents SET document = x'7072656369307573' WHERE key = " ROTTEN_KEY,
                        "UPDATE documents SET document = x'' WHERE key = " ROTTEN_KEY,
                        "DELETE FROM documents WHERE key = " ROTTEN_KEY,
                };

                put_one(world, &alice, "rotten", "precious", NULL, 0);
                get(world, &alice, "rotten");
                edit(world, edits[i]);
                assert_rotten(world, "rotten");
                get(world, &alice, "sound");
        }
        put_one(world, &alice, "rotten", "precious", NULL, 0);
        get(world, &alice, "rotten");
}

static void test_books_balance_after_many_steps(void **state) {
        World *world = *state;
        uint32_t x = 7;

        for (unsigned i = 0; i < 300; i++) {
                const StoreOwner *owner = (x >> 20) % 2 ? &alice : &bob;
                char id[8], right[8];
                g_autofree char *document = NULL;
                g_auto(License) license = {};
                g_auto(Error) error = {};
                uint64_t left;

                x = x * 1664525 + 1013904223;
                snprintf(id, sizeof id, "id%u", (x >> 8) % 12);
                snprintf(right, sizeof right, "r%u", (x >> 16) % 5);
                switch ((x >> 24) % 8) {
                case 0:
                        (void)store_license_delete(world->connection, owner, id, &error);
                        break;
                case 1:
                        (void)store_license_consume(world->connection, owner, id, right, 1, NOW, &left,
                                &error);
                        break;
                case 2:
                        if (i % 5 == 0)
                                (void)store_license_revoke(world->connection, owner, id, NOW, &error);
                        break;
                default:
                        document = g_strnfill(x >> 22, 'd');
                        license_make(&license, id, document);
                        license_limit_counter(&license, right, 5);
                        if (x & 1)
                                license_set_string(&license.title, "A title");
                        (void)put_license(world, owner, &license, document, &error);
                }
                assert_books_balance(world);
        }
}

static int put_again(World *world, const char *id, Error *error) {
        g_auto(License) license = {};

        license_make(&license, id, "d");
        return put_license(world, &alice, &license, "d", error);
}

/* A bit of what an owner is charged with has flipped on the disk: nobody is refused what there is room for. */
static void test_wrong_books_are_set_right_before_a_limit_refuses(void **state) {
        static const char *const rots[] = {
                "licenses = licenses | (1 << 40)", "remembered = remembered | (1 << 40)", "bytes = bytes | (1 << 40)",
                "bytes = bytes | (1 << 63)", "licenses = 77, remembered = 77, bytes = 7777777",
        };
        World *world = *state;

        world->connection->limits.licenses_per_user = 20;
        world->connection->limits.remembered_per_user = 21;
        world->connection->limits.bytes_per_user = 1000 * 1000;
        put_one(world, &bob, "b", "d", NULL, 0);
        put_one(world, &alice, "gone", "d", "print", 3);
        delete_one(world, "gone");
        for (size_t i = 0; i < G_N_ELEMENTS(rots); i++) {
                g_autofree char *sql = g_strdup_printf("UPDATE owners SET %s WHERE name = 'alice'", rots[i]);
                g_autofree char *id = g_strdup_printf("a%zu", i);
                g_auto(Error) error = {};

                edit(world, sql);
                assert_good(put_again(world, id, &error), &error);
                assert_books_balance(world);
        }
}

/* Limits hold all the same. To count a million licenses takes long: who is at a limit has that done once. */
static void test_right_books_are_counted_once(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        world->connection->limits.licenses_per_user = 2;
        put_one(world, &alice, "a", "d", NULL, 0);
        put_one(world, &alice, "b", "d", NULL, 0);
        assert_int_equal(put_again(world, "c", &error), ERROR_LIMIT_EXCEEDED);
        assert_error(&error, ERROR_LIMIT_EXCEEDED, "LicensesPerUser=");
        assert_books_balance(world);

        edit(world, "UPDATE owners SET licenses = 1000");
        world->connection->limits.licenses_per_user = 3;
        assert_int_equal(put_again(world, "c", &error), ERROR_LIMIT_EXCEEDED);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, license_world_setup, license_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_all_of_a_license_comes_back),
                IN_WORLD(test_what_was_not_set_is_not_set),
                IN_WORLD(test_document_larger_than_asked_for_is_refused),
                IN_WORLD(test_storing_again_replaces_and_raises_the_generation),
                IN_WORLD(test_storing_again_never_raises_a_counter),
                IN_WORLD(test_deleting_leaves_generation_and_counters),
                IN_WORLD(test_deleting_forgets_all_else),
                IN_WORLD(test_revoked_license_cannot_be_stored_again),
                IN_WORLD(test_time_of_a_revocation_stays_the_first),
                IN_WORLD(test_what_was_never_stored_cannot_be_revoked_or_deleted),
                IN_WORLD(test_counters_of_all_generations_stay_within_64),
                IN_WORLD(test_consuming_takes_what_is_left_and_no_more),
                IN_WORLD(test_right_without_a_counter_is_unlimited),
                IN_WORLD(test_consuming_needs_a_license_that_is_valid_now),
                IN_WORLD(test_consuming_from_what_is_not_there_is_unavailable),
                IN_WORLD(test_owners_do_not_see_each_other),
                IN_WORLD(test_changed_document_is_an_error_that_names_the_license),
                IN_WORLD(test_books_balance_after_many_steps),
                IN_WORLD(test_wrong_books_are_set_right_before_a_limit_refuses),
                IN_WORLD(test_right_books_are_counted_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
