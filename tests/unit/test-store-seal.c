/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "license-world.h"
#include "sketch.h"

/* What is known of a license beside its document is under a seal, which each change renews. */

/* What the seal of the one license that is there says. */
static LicenseSoundness judge(World *world) {
        for (LicenseSoundness soundness = LICENSE_UNSEALED; soundness <= LICENSE_ROTTEN; soundness++)
                if (count_judged(world->connection, soundness) == 1)
                        return soundness;
        fail_msg("There is not one license.");
        return LICENSE_UNSEALED;
}

static void test_each_change_of_a_license_seals_it_anew(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        uint64_t remaining;

        put_one(world, &alice, "a", "one", "print", 9);
        assert_int_equal(judge(world), LICENSE_SOUND);
        assert_good(consume(world, "a", "print", 2, NOW, &remaining, &error), &error);
        assert_int_equal(remaining, 7);
        assert_int_equal(judge(world), LICENSE_SOUND);
        /* Its generation, and the counter that stays low, are under it. */
        put_one(world, &alice, "a", "two", "print", 8);
        assert_counter(get(world, &alice, "a"), "print", 7);
        assert_int_equal(judge(world), LICENSE_SOUND);
        delete_one(world, "a");
        put_one(world, &alice, "a", "three", NULL, 0);
        assert_counter(get(world, &alice, "a"), "print", 7);
        assert_int_equal(judge(world), LICENSE_SOUND);
}

static void test_nothing_is_taken_from_a_counter_that_is_damaged(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        uint64_t remaining = 4711;

        put_one(world, &alice, "a", "one", "print", 2);
        edit(world, "UPDATE counters SET remaining = 200");
        assert_int_equal(consume(world, "a", "print", 1, NOW, &remaining, &error), ERROR_STORE_CORRUPT);
        assert_error(&error, ERROR_STORE_CORRUPT, "What is known beside the document of license 'a' is damaged");
        assert_int_equal(remaining, 4711);
        /* The document is what was stored, and its reader still gets it. */
        (void)get(world, &alice, "a");
        assert_document(world, "one");
}

/* Where nothing but the counter itself tells. */
static void test_nothing_is_taken_from_what_can_be_no_counter(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        uint64_t remaining = 4711;

        put_one(world, &alice, "a", "one", "print", 2);
        edit(world, "UPDATE licenses SET digest = substr(digest, 1, 32)");
        assert_good(consume(world, "a", "print", 1, NOW, &remaining, &error), &error);
        assert_int_equal(judge(world), LICENSE_UNSEALED);
        edit(world, "UPDATE counters SET remaining = -1");
        assert_int_equal(consume(world, "a", "print", 1, NOW, &remaining, &error), ERROR_STORE_CORRUPT);
        assert_int_equal(remaining, 1);
}

/* What can be no counter is no low mark, and must not get under a seal that is whole. */
static void test_license_that_is_stored_again_is_sound_whatever_was_damaged(void **state) {
        static const char *const rots[] = {
                "UPDATE counters SET name = 'No right'",
                "UPDATE counters SET remaining = -1",
                "UPDATE licenses SET title = 'rotten', generation = -5",
                "UPDATE licenses SET digest = CAST(substr(digest, 1, 48) || x'55' AS BLOB)",
        };
        World *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(rots); i++) {
                put_one(world, &alice, "a", "one", "print", 2);
                edit(world, rots[i]);
                assert_int_equal(judge(world), LICENSE_ROTTEN);
                put_one(world, &alice, "a", "one", "print", 2);
                assert_int_equal(judge(world), LICENSE_SOUND);
                assert_counter(get(world, &alice, "a"), "print", 2);
                assert_int_equal(world->license.counters->len, 1);
                assert_true(world->license.generation > 0 && world->license.generation <= INT64_MAX);
        }
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, license_world_setup, license_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_each_change_of_a_license_seals_it_anew),
                IN_WORLD(test_nothing_is_taken_from_a_counter_that_is_damaged),
                IN_WORLD(test_nothing_is_taken_from_what_can_be_no_counter),
                IN_WORLD(test_license_that_is_stored_again_is_sound_whatever_was_damaged),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
