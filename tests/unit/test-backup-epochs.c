/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "aside-world.h"

/* An old copy of the store was put back: what was backed up after it was made has what that lacks. */

/* An old copy of the store was put back: it has its id, and knows nothing of what came after. */
static void test_backup_of_a_later_time_of_the_store_is_set_aside(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        back_up_over_other(world, false);
        g_autoptr(GBytes) later = read_path(world->target);
        forget_newest_license(world);
        back_up_over_other(world, true);
        for (unsigned i = 0; i < 2; i++) {
                assert_aside(world, FORMER_STORE, later);
                back_up_over_other(world, false);
        }
}

/* Under a seal it would be damage. */
static void set_generation(World *world, const char *generation) {
        g_autofree char *sql = g_strdup_printf("UPDATE licenses SET generation = %s, digest = substr(digest, 1, 32)",
                generation);

        edit_store(world, sql);
}

/* What was stored again after the old copy was made is newer, and no more. */
static void test_backup_of_what_was_stored_again_is_set_aside(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        put_some(world, 1, 11);
        back_up_over_other(world, false);
        g_autoptr(GBytes) later = read_path(world->target);
        set_generation(world, "1");
        back_up_over_other(world, true);
        assert_aside(world, FORMER_STORE, later);
}

/* However often what the copy has is stored again, the rest is not there. */
static void test_what_is_stored_often_is_not_what_was_lost(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        back_up_over_other(world, false);
        g_autoptr(GBytes) later = read_path(world->target);
        forget_newest_license(world);
        for (unsigned i = 0; i < 5; i++)
                put_some(world, 2, 11);
        back_up_over_other(world, true);
        assert_aside(world, FORMER_STORE, later);
}

/* From a backup that was edited, or a row that has rotted: what is added up has room for it. */
static void test_largest_generation_is_counted(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        set_generation(world, "9223372036854775807");
        back_up_over_other(world, false);
        put_some(world, 3, 10);
        back_up_over_other(world, false);
        assert_nothing_left(world);
}

/* So it did on the other machine, and its last backup was set aside before. */
static void test_backup_of_a_later_time_of_another_store_stays_set_aside(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        set_store(world, ONE_STORE);
        back_up_over_other(world, false);
        g_autoptr(GBytes) later = read_path(world->target);
        set_store(world, OTHER_STORE);
        g_autofree char *aside = back_up_on(world, "machine");
        assert_has(world, aside, later);

        forget_newest_license(world);
        set_store(world, ONE_STORE);
        back_up_over_other(world, true);
        g_autoptr(GBytes) old = read_path(world->target);
        set_store(world, OTHER_STORE);
        g_autofree char *other = back_up_on(world, "machine");
        assert_has(world, aside, later);
        assert_has(world, other, old);
}

/*
 * What was lost with the old copy is made up for in numbers by what came after: the store that knows nothing of the
 * days between does not know the epoch of that backup, either.
 */
static void test_backup_of_an_epoch_that_the_store_does_not_know_is_set_aside(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        back_up_over_other(world, false);
        g_autoptr(GBytes) before = read_path(world->target);
        edit_store(world, "UPDATE epochs SET name = '0123456789abcdef.0'");
        reopen_store(world);
        put_some(world, 5, 10);
        back_up_over_other(world, true);
        for (unsigned i = 0; i < 2; i++) {
                assert_aside(world, FORMER_STORE, before);
                put_some(world, 6 + i, 10);
                back_up_over_other(world, false);
        }
}

/* The disk was taken back to a snapshot of an hour ago: the service ran all the time, and no new day has begun. */
static void test_backup_from_after_a_copy_of_the_same_day_is_set_aside(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < 2; i++) {
                g_autofree char *lost = g_strdup_printf("lost-%u", i), *new = g_strdup_printf("new-%u", i);
                g_autofree char *aside = NULL, *none = NULL;

                put_some(world, 2, 10);
                copy_store(world);
                put_named(world, lost);
                none = back_up_on(world, "machine");
                assert_null(none);
                g_autoptr(GBytes) later = read_path(world->target);
                put_store_back(world);
                put_named(world, new);
                aside = back_up_on(world, "machine");
                assert_non_null(aside);
                assert_has(world, aside, later);
        }
}

/* From before the store had epochs, it has none until something is changed. */
static void test_backup_from_after_a_copy_that_has_no_epochs_is_set_aside(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        back_up_over_other(world, false);
        g_autoptr(GBytes) later = read_path(world->target);
        edit_store(world, "DELETE FROM epochs");
        reopen_store(world);
        back_up_over_other(world, true);
        assert_aside(world, FORMER_STORE, later);
        back_up_over_other(world, false);
}

/* So many, and so many steps in the last of them. */
static void assert_epochs(World *world, unsigned n, unsigned n_steps) {
        g_autofree char *sql = g_strdup_printf("CREATE TEMP TABLE seen (n CHECK (n = %u), steps CHECK (steps = %u)); "
                "INSERT INTO seen SELECT count(*), (SELECT CAST(substr(name, 18) AS INTEGER) FROM epochs "
                "ORDER BY number DESC LIMIT 1) FROM epochs", n, n_steps);

        edit_store(world, sql);
}

/* Who calls without end makes no more of them. */
static void test_backup_is_a_step_where_anything_was_changed(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        assert_epochs(world, 1, 0);
        for (unsigned i = 1; i <= 3; i++) {
                for (unsigned k = 0; k < 3; k++)
                        back_up_over_other(world, false);
                assert_epochs(world, 1, i);
                put_some(world, 3, 10);
                assert_epochs(world, 1, i);
        }
}

/* More of them than are known: nobody can tell that it is old, so it is kept. */
static void test_backup_of_an_epoch_that_is_forgotten_is_set_aside(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        back_up_over_other(world, false);
        g_autoptr(GBytes) before = read_path(world->target);
        edit_store(world, "WITH RECURSIVE n (i) AS (VALUES (100) UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
                "INSERT INTO epochs SELECT i, printf('%016x.7', i) FROM n");
        reopen_store(world);
        put_some(world, 3, 10);
        assert_epochs(world, 1000, 0);
        back_up_over_other(world, true);
        assert_aside(world, FORMER_STORE, before);
        back_up_over_other(world, false);
}

#define ONE_EPOCH "0123456789abcdef"
#define OTHER_EPOCH "fedcba9876543210"

static void test_epochs_include_no_later_step(void **state) {
        static const struct {
                const char *these, *those;
                bool include;
        } cases[] = {
                { ONE_EPOCH ".9", ONE_EPOCH ".9", true },
                { ONE_EPOCH ".10", ONE_EPOCH ".9", true },
                { ONE_EPOCH ".9", ONE_EPOCH ".10", false },
                { ONE_EPOCH ".9 " OTHER_EPOCH ".0", ONE_EPOCH ".9", true },
                { ONE_EPOCH ".9 " OTHER_EPOCH ".99", ONE_EPOCH ".10", false },
                { OTHER_EPOCH ".99", ONE_EPOCH ".0", false },
                { OTHER_EPOCH ".1", ONE_EPOCH ".5 " OTHER_EPOCH ".1", true },
                { OTHER_EPOCH ".1", OTHER_EPOCH ".1 " ONE_EPOCH ".0", false },
                { ONE_EPOCH ".0", "", true },
                { "", ONE_EPOCH ".0", true },
        };
        static const char *const invalid[] = { "", " ", ONE_EPOCH, ONE_EPOCH ".", ONE_EPOCH "0.1", ONE_EPOCH ".1 ",
                ONE_EPOCH ".1  " OTHER_EPOCH ".1", " " ONE_EPOCH ".1", ONE_EPOCH ".1x", "0123456789ABCDEF.1",
                ONE_EPOCH ".1234567890123456", ONE_EPOCH ".1 " OTHER_EPOCH };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                assert_int_equal(store_epochs_include(cases[i].these, cases[i].those), cases[i].include);
                assert_int_equal(store_epochs_are_valid(cases[i].these), *cases[i].these != '\0');
        }
        for (size_t i = 0; i < G_N_ELEMENTS(invalid); i++)
                assert_false(store_epochs_are_valid(invalid[i]));
}

/* The service was started anew, again and again, as each day. */
static void test_backups_of_earlier_epochs_are_replaced(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < 3; i++) {
                put_some(world, 3, 10);
                back_up_over_other(world, false);
                reopen_store(world);
        }
        assert_nothing_left(world);
        assert_epochs(world, 3, 1);
}

/*
 * Two machines with one disk: on the one an old copy was put back, and its last backup from before lies set aside. How
 * much it has stored since is no reason for the other to have its newest take that place.
 */
static void test_backup_from_before_an_old_copy_on_another_machine_is_kept(void **state) {
        World *world = *state;

        set_store(world, ONE_STORE);
        put_some(world, 2, 10);
        copy_store(world);
        put_named(world, "lost");
        back_up_over_other(world, false);
        g_autoptr(GBytes) later = read_path(world->target);
        set_store(world, OTHER_STORE);
        back_up_over_other(world, true);

        put_store_back(world);
        put_some(world, 5, 10);
        for (unsigned i = 0; i < 3; i++) {
                set_store(world, ONE_STORE);
                back_up_over_other(world, true);
                set_store(world, OTHER_STORE);
                back_up_over_other(world, true);
                assert_int_equal(count_files(world, later), 1);
        }
        /* That of each, for here both have one file; their newest; and the one before of the other. No more come. */
        assert_int_equal(count_entries(world->own), 5);
}

/* A virtual machine that was copied as it was: the store's id and the machine's are the same. */
static void test_copies_of_a_machine_set_aside_each_others_and_no_more(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        for (unsigned i = 0; i < 4; i++) {
                /* The first backup is a step. */
                edit_store(world, i == 0 ? "UPDATE epochs SET name = '" ONE_EPOCH ".5'" :
                                           "UPDATE epochs SET name = '" ONE_EPOCH ".6'");
                back_up_over_other(world, i > 0);
                edit_store(world, "UPDATE epochs SET name = '" OTHER_EPOCH ".5'");
                back_up_over_other(world, true);
        }
        assert_int_equal(count_entries(world->own), 3);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_backup_of_a_later_time_of_the_store_is_set_aside),
                IN_WORLD(test_backup_of_what_was_stored_again_is_set_aside),
                IN_WORLD(test_what_is_stored_often_is_not_what_was_lost),
                IN_WORLD(test_largest_generation_is_counted),
                IN_WORLD(test_backup_of_a_later_time_of_another_store_stays_set_aside),
                IN_WORLD(test_backup_of_an_epoch_that_the_store_does_not_know_is_set_aside),
                IN_WORLD(test_backup_from_after_a_copy_of_the_same_day_is_set_aside),
                IN_WORLD(test_backup_from_after_a_copy_that_has_no_epochs_is_set_aside),
                IN_WORLD(test_backup_is_a_step_where_anything_was_changed),
                IN_WORLD(test_backup_of_an_epoch_that_is_forgotten_is_set_aside),
                cmocka_unit_test(test_epochs_include_no_later_step),
                IN_WORLD(test_backups_of_earlier_epochs_are_replaced),
                IN_WORLD(test_backup_from_before_an_old_copy_on_another_machine_is_kept),
                IN_WORLD(test_copies_of_a_machine_set_aside_each_others_and_no_more),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
