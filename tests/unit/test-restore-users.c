/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "restore-world.h"

/* A restore of a backup of all users, and one for another: to whom it goes. */

/* Two users that this machine has, and whose licenses the store takes. */
static const char *const names_here[] = { "daemon", "bin", "sys", "mail", "man", "games" };

typedef struct Account {
        char *name;
        uid_t uid;
} Account;

static void find_accounts(Account ret[2]) {
        unsigned n = 0;

        for (size_t i = 0; n < 2 && i < G_N_ELEMENTS(names_here); i++) {
                struct passwd *entry = getpwnam(names_here[i]);

                if (entry && (n == 0 || entry->pw_uid != ret[0].uid))
                        ret[n++] = (Account) { g_strdup(entry->pw_name), entry->pw_uid };
        }
        if (n < 2) {
                print_message("Skipped: this machine has not two system users.\n");
                skip();
        }
}

static void free_accounts(Account accounts[2]) {
        g_free(accounts[0].name);
        g_free(accounts[1].name);
}

/* A backup of four users: two that are here, by other numbers; one that is not; nobody; and one without a name. */
static int back_up_all(const Account accounts[2]) {
        const StoreOwner owners[] = {
                { 30001, accounts[0].name }, { 30002, accounts[1].name }, { 30003, "no-such-user" },
                { 30004, "nobody" }, { 30005, "" }, { accounts[0].uid, "stranger" },
        };
        void *from = NULL;
        World *old;
        int fd;

        assert_int_equal(world_setup(&from), 0);
        old = from;
        for (size_t i = 0; i < G_N_ELEMENTS(owners); i++) {
                g_autofree char *id = g_strdup_printf("of-%s", owners[i].name);

                put(old->store, &owners[i], id, id);
                put_spec(old->store, &owners[i], &(Spec) { "same-id", owners[i].name, .counters = "play=2" });
        }
        fd = back_up(old, true);
        assert_int_equal(world_teardown(&from), 0);
        return fd;
}

static bool has_string(char **list, const char *wanted) {
        return g_strv_contains((const char *const *)list, wanted);
}

static void test_backup_of_all_users_goes_to_them_by_name(void **state) {
        RestoreWorld *world = *state;
        g_auto(WorkResult) result = {};
        RestorePlan plan;
        Account accounts[2];
        g_autofree char *now = NULL;
        int fd;

        find_accounts(accounts);
        fd = back_up_all(accounts);
        plan = restore_plan(world, fd);
        plan.all_users = true;
        restore_good(world, plan, &result);
        assert_int_equal(result.restored, 4);
        assert_int_equal(world->total, 12);
        assert_string_equal(world->events->str,
                "begin 12\nchecking all users on host\naccepted all users on host\nsettling\n");

        now = render(world->connection);
        for (unsigned i = 0; i < 2; i++) {
                g_autofree char *head = g_strdup_printf("owner %u %s: 2, 0\nlicense of-%s generation 1",
                        (unsigned)accounts[i].uid, accounts[i].name, accounts[i].name);
                assert_non_null(strstr(now, head));
        }
        /* Not by number, and nobody else. */
        assert_null(strstr(now, "stranger"));
        assert_null(strstr(now, "no-such-user"));
        assert_null(strstr(now, "nobody"));
        assert_null(strstr(now, "of-\n"));

        assert_true(has_string(result.skipped_users, "no-such-user"));
        assert_true(has_string(result.skipped_users, "nobody"));
        assert_true(has_string(result.skipped_users, "stranger"));
        assert_int_equal(g_strv_length(result.skipped_users), 4);
        close(fd);
        free_accounts(accounts);
}

static void test_backup_of_all_users_from_elsewhere_needs_consent(void **state) {
        RestoreWorld *world = *state;
        Account accounts[2];
        RestorePlan plan;
        int fd;

        find_accounts(accounts);
        fd = back_up_all(accounts);
        for (int individualize = 0; individualize < 2; individualize++) {
                plan = restore_plan(world, fd);
                plan.all_users = true;
                plan.individualize = individualize;
                g_free(plan.machine);
                plan.machine = g_strdup("another");
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                if (individualize)
                        restore_good(world, plan, NULL);
                else
                        assert_plan_refused(world, plan, ERROR_NEEDS_INDIVIDUALIZATION, "all users on host");
        }
        close(fd);
        free_accounts(accounts);
}

static void test_backup_of_all_users_is_not_one_users(void **state) {
        RestoreWorld *world = *state;
        Account accounts[2];
        RestorePlan plan;
        int fd;

        find_accounts(accounts);
        fd = back_up_all(accounts);
        plan = restore_plan(world, fd);
        plan.individualize = true;
        assert_plan_refused(world, plan, ERROR_ACCESS_DENIED, "all users");
        close(fd);
        free_accounts(accounts);

        plan = restore_plan(world, world->backup);
        plan.all_users = true;
        plan.individualize = true;
        assert_plan_refused(world, plan, ERROR_INVALID_ARGUMENTS, "Owner, --owner");
}

/* Damage in one user's part leaves all users' licenses as they were. */
static void test_damaged_backup_of_all_users_changes_nobodys_licenses(void **state) {
        RestoreWorld *world = *state;
        Account accounts[2];
        int fd;

        find_accounts(accounts);
        fd = back_up_all(accounts);
        g_autoptr(GByteArray) tar = tarball_read_file(fd);
        for (size_t at = 7; at < tar->len; at += tar->len / 200) {
                uint8_t byte = tar->data[at] ^ 4;
                RestorePlan plan = restore_plan(world, fd);

                plan.all_users = plan.individualize = true;
                assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                assert_plan_refused(world, plan, ERROR_BACKUP_CORRUPT, "Use another copy.");
                assert_int_equal(pwrite(fd, &tar->data[at], 1, (off_t)at), 1);
        }
        close(fd);
        free_accounts(accounts);
}

/* Root restores for another: to the name that the number has here. */
static void test_restore_for_another_owner_goes_to_the_number(void **state) {
        RestoreWorld *world = *state;
        RestorePlan plan = restore_plan(world, world->backup);
        g_autofree char *now = NULL, *head = NULL;
        Account accounts[2];

        find_accounts(accounts);
        plan.owner = accounts[0].uid;
        plan.individualize = true;
        restore_good(world, plan, NULL);
        now = render(world->connection);
        head = g_strdup_printf("owner %u %s: 2, 0\nlicense lcp", (unsigned)accounts[0].uid, accounts[0].name);
        assert_non_null(strstr(now, head));
        free_accounts(accounts);
}

static void test_owner_without_an_account_gets_nothing(void **state) {
        RestoreWorld *world = *state;
        RestorePlan plan = restore_plan(world, world->backup);

        plan.owner = 4242424;
        plan.individualize = true;
        assert_plan_refused(world, plan, ERROR_INVALID_ARGUMENTS, "User 4242424 has no account here.");
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_backup_of_all_users_goes_to_them_by_name),
                IN_WORLD(test_backup_of_all_users_from_elsewhere_needs_consent),
                IN_WORLD(test_backup_of_all_users_is_not_one_users),
                IN_WORLD(test_damaged_backup_of_all_users_changes_nobodys_licenses),
                IN_WORLD(test_restore_for_another_owner_goes_to_the_number),
                IN_WORLD(test_owner_without_an_account_gets_nothing),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
