/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One user of a backup of all users, alone. */
#include <errno.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "restore-world.h"
#include "tarball.h"

/* No user can be looked up: none needs to be, not who is passed over, and the plan names who gets it. */
int __wrap_getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size, struct passwd **ret);
int __wrap_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **ret);

int __wrap_getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size, struct passwd **ret) {
        return EIO;
}

int __wrap_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **ret) {
        return EIO;
}

#define ALICE_AND_BOB (RESTORE_LICENSES + 1)

/* From the start of a backup; to alice. */
static RestorePlan plan_from(RestoreWorld *world, int fd, const char *from) {
        RestorePlan plan = restore_plan(world, fd);

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        plan.from = g_strdup(from);
        return plan;
}

static void test_one_of_all_users_is_restored_as_from_an_own_backup(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *own = NULL, *of_all = NULL;
        g_auto(WorkResult) first = {}, second = {};
        int all = back_up(world->from, true);

        restore_good(world, restore_plan(world, world->backup), &first);
        own = render(world->connection);
        restore_world_renew(world);
        restore_good(world, plan_from(world, all, "alice"), &second);
        of_all = render(world->connection);

        assert_string_equal(of_all, own);
        assert_null(strstr(of_all, "bobs-old"));
        assert_int_equal(second.restored, first.restored);
        assert_int_equal(second.unchanged, first.unchanged);
        assert_int_equal(second.newer_kept, first.newer_kept);
        assert_int_equal(second.conflicts, first.conflicts);
        assert_int_equal(second.revoked, first.revoked);
        assert_int_equal(second.skipped, 0);
        assert_int_equal(g_strv_length(second.skipped_users), 0);
        /* All of it was read; of whom it is restored is told. */
        assert_int_equal(world->total, ALICE_AND_BOB);
        assert_string_equal(world->events->str,
                "begin 3\nchecking alice on host\naccepted alice on host\nsettling\n");
        assert_int_equal(world->percent, 90);
        close(all);
}

/* Consent is to what is brought over: a name, for of all users a backup has no number. */
static void test_one_of_all_users_goes_to_another_with_consent(void **state) {
        RestoreWorld *world = *state;
        int all = back_up(world->from, true);
        g_auto(WorkResult) result = {};
        g_autofree char *now = NULL;
        RestorePlan plan;

        assert_plan_refused(world, plan_from(world, all, "bob"), ERROR_NEEDS_INDIVIDUALIZATION, "bob on host");
        assert_string_equal(world->events->str, "begin 3\nchecking bob on host\nrefused bob on host\n");

        plan = plan_from(world, all, "bob");
        plan.individualize = true;
        restore_good(world, plan, &result);
        assert_int_equal(result.restored, 1);
        assert_int_equal(result.unchanged + result.newer_kept + result.conflicts + result.revoked, 0);
        now = render(world->connection);
        assert_non_null(strstr(now, "license bobs-old "));
        close(all);
}

static void test_who_is_not_in_a_backup_of_all_users_is_named(void **state) {
        static const char *const names[] = { "carol", "alic", "alice (1000)" };
        RestoreWorld *world = *state;
        int all = back_up(world->from, true);

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                RestorePlan plan = plan_from(world, all, names[i]);
                g_autofree char *named = g_strdup_printf("'%s'", names[i]);

                plan.individualize = true;
                assert_plan_refused(world, plan, ERROR_INVALID_ARGUMENTS, named);
        }
        assert_plan_refused(world, plan_from(world, world->backup, "alice"), ERROR_INVALID_ARGUMENTS, "without naming one (From");
        close(all);
}

/* Whose part is damaged does not matter, nor whether there is the user: the backup is not what it was. */
static void test_damage_in_anybodys_part_is_told_first(void **state) {
        static const char *const names[] = { "alice", "bob", "carol" };
        RestoreWorld *world = *state;
        int all = back_up(world->from, true);
        g_autoptr(GByteArray) tar = tarball_read_file(all);

        for (size_t at = 7, i = 0; at < tar->len; at += tar->len / 150, i++) {
                RestorePlan plan = plan_from(world, all, names[i % G_N_ELEMENTS(names)]);
                uint8_t byte = tar->data[at] ^ 4;

                plan.individualize = true;
                assert_int_equal(pwrite(all, &byte, 1, (off_t)at), 1);
                assert_plan_refused(world, plan, ERROR_BACKUP_CORRUPT, "Use another copy.");
                assert_int_equal(pwrite(all, &tar->data[at], 1, (off_t)at), 1);
        }
        close(all);
}

/* At each event, those of licenses that are passed over too, until none is left. */
static void test_cancel_is_heard_at_any_time(void **state) {
        RestoreWorld *world = *state;
        int all = back_up(world->from, true);
        unsigned n = 0;

        for (;;) {
                g_auto(Error) error = {};

                world->cancel_at = n + 1;
                if (restore(world, plan_from(world, all, "alice"), NULL, &error) == 0)
                        break;
                assert_int_equal(error.code, ERROR_CANCELED);
                n++;
                restore_world_renew(world);
        }
        assert_true(n > ALICE_AND_BOB);
        /* What settles is one more. */
        assert_int_equal(n, world->n_events + 1);
        close(all);
}

#define IN_WORLD(name) cmocka_unit_test_setup_teardown(name, restore_world_setup, restore_world_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_one_of_all_users_is_restored_as_from_an_own_backup),
                IN_WORLD(test_one_of_all_users_goes_to_another_with_consent),
                IN_WORLD(test_who_is_not_in_a_backup_of_all_users_is_named),
                IN_WORLD(test_damage_in_anybodys_part_is_told_first),
                IN_WORLD(test_cancel_is_heard_at_any_time),
        };

        restore_world_prepare();
        return cmocka_run_group_tests_name("restore-from", tests, NULL, NULL);
}
